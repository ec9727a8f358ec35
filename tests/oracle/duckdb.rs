//! The third judge: DuckDB, which shares no code with us.
//!
//! The other kinds compare with DataFusion. What its logical rules answer wrong is right to them, since the same rules run in our
//! planner. Here what a job has said, and what a SELECT answers, is compared with what DuckDB answers to the streamed text
//! over the same rows; `tests/components/python/judge_sql.py` says it in DuckDB's words. Window functions over streams are
//! tables for it, as they are for DataFusion.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rondel_engine::plan::{ContinuousPlan, Functions};
use rondel_tests::python::Conversation;
use serde_json::{Value, json};

use super::case::{Case, Expected};
use super::engine;
use super::multiset::Multiset;
use super::runs::{Kind, Verdict, run_cases};
use super::truth::known;
use super::{World, coverage};

/// What asks it.
const PROGRAM: &str = "judge_sql.py";

/// DuckDB, in a process of its own.
struct Judge(RefCell<Conversation>);

impl Judge {
    fn new() -> Self {
        Self(RefCell::new(Conversation::start(PROGRAM).unwrap()))
    }

    /// What DuckDB answers to a case's statement, in columns of these types; or why it can't run it. Whatever else comes
    /// between is an error: an answer that does not fit, files that can't be written or read, the end of its process.
    fn answer(&self, case: &Case, columns: &SchemaRef) -> rondel_tests::Result<Result<Multiset, String>> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(format!("{name}.parquet"));
        let mut tables = serde_json::Map::new();
        for (name, schema, rows) in known(&case.statement, &case.tables) {
            written(&path(&name), &schema, &rows)?;
            tables.insert(name.clone(), json!(path(&name)));
        }
        written(&path("columns"), columns, &[])?;
        let answer = path("answer");
        let sql = &case.statement.judged_sql;
        let question = json!({ "sql": sql, "tables": tables, "result": path("columns"), "answer": answer });
        let judged = self.ask(&question.to_string())?;
        let why = |what: &str| judged.get(what).and_then(Value::as_str);
        match (why("refused"), why("wrong")) {
            (Some(why), _) => Ok(Err(why.to_owned())),
            (None, Some(why)) => Err(why.into()),
            (None, None) => Ok(Ok(read(&answer)?)),
        }
    }

    /// A process that has ended is followed by another one.
    fn ask(&self, question: &str) -> rondel_tests::Result<Value> {
        let answer = self.0.borrow_mut().ask(question);
        if answer.is_err() {
            self.0.replace(Conversation::start(PROGRAM)?);
        }
        let answer = answer.map_err(|error| format!("its process: {error}"))?;
        Ok(serde_json::from_str(&answer)?)
    }
}

fn written(path: &Path, schema: &SchemaRef, rows: &[RecordBatch]) -> rondel_tests::Result<()> {
    let mut file = ArrowWriter::try_new(File::create(path)?, Arc::clone(schema), None)?;
    rows.iter().try_for_each(|rows| file.write(rows))?;
    file.close()?;
    Ok(())
}

fn read(path: &Path) -> rondel_tests::Result<Multiset> {
    let mut answer = Multiset::default();
    for rows in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
        answer.add(&rows?, |_| 1);
    }
    Ok(answer)
}

impl World {
    /// A world with all of our functions, as a server has them.
    fn of_a_server() -> Self {
        Self::with(Functions::builtin().with_scalars(rondel_udfs::functions()))
    }

    /// Whether a job's result and a snapshot are what DuckDB answers. If one is not, whether the others are says whose fault
    /// it is.
    fn compare_with(&self, case: &Case, plan: &ContinuousPlan, expected: &Expected) -> Result<(), String> {
        let job = case.run_by_hand(&plan.flow, expected);
        // A snapshot knows no late rows.
        let snapshot = (!case.late_rows).then(|| self.compare_snapshot(case, plan, expected));
        if job.is_ok() && !matches!(snapshot, Some(Err(_))) {
            return Ok(());
        }
        let now = case.now(case.last_epoch());
        let datafusion = self.runtime.block_on(self.truth.answers(&case.statement, &[(&case.tables, now)]));
        let datafusion = match datafusion.map(|answers| answers[0].difference(&expected.end, case.scale())) {
            Ok(Some(_)) => "answers otherwise as well".to_owned(),
            Ok(None) => "answers as DuckDB does".to_owned(),
            Err(error) => format!("fails: {}", error.strip_backtrace()),
        };
        let said = |outcome: Result<(), String>| outcome.err().unwrap_or_else(|| "as DuckDB answers".to_owned());
        Err(format!(
            "not what DuckDB answers to\n  {}\n job: {}\n snapshot: {}\n DataFusion {datafusion}\n",
            case.statement.judged_sql,
            said(job),
            snapshot.map_or_else(|| "not asked".to_owned(), said),
        ))
    }
}

fn judged((world, judge): &(World, Judge), case: &Case) -> Result<Verdict, String> {
    // DuckDB's now() is its own.
    let case = &case.at_one_moment();
    let plan = match engine::planned(&case.statement.sql, &case.tables, &world.functions) {
        Ok(plan) => plan,
        Err(error) => return Ok(Verdict::Refused(format!("planner: {:?} {error}", error.kind()))),
    };
    let end = match judge.answer(case, plan.batch.schema().inner()) {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => return Ok(Verdict::Refused(format!("DuckDB: {why}"))),
        Err(error) => return Err(format!("DuckDB does not answer to\n  {}\n {error}\n", case.statement.judged_sql)),
    };
    let expected = Expected { end, midway: None };
    world.compare_with(case, &plan, &expected)?;
    Ok(Verdict::Equal { rows: expected.end.len(), met: coverage::met(&case.statement.sql, &plan.flow) })
}

fn world() -> (World, Judge) {
    (World::of_a_server(), Judge::new())
}

/// Statements through the planner, their operators called one by one, and as a SELECT.
#[test]
fn results_are_duckdbs() {
    let kind = Kind { cases: 300, random: Case::random, never: Some(&["temporal filter", "now()"]) };
    run_cases(&kind, world, judged);
}

/// The same of statements that are written for DuckDB alone.
#[test]
fn results_of_free_statements_are_duckdbs() {
    run_cases(&Kind { cases: 100, random: Case::free, never: None }, world, judged);
}
