//! INSERT, UPDATE, DELETE, TRUNCATE and COPY … FROM: statements that change tables.
//!
//! A statement works on a view of all tables as of one LSN and puts its changes on top. Alone it has the right to write from the
//! moment that it looks at the rows, and commits at its end. In a transaction the changes stay with the session, seen by
//! its own statements only, until COMMIT writes them under one LSN: if another transaction has changed one of the same rows since this
//! one looked, COMMIT fails (40001), and nothing was changed (snapshot isolation).
//!
//! * `rules`: what each row must keep
//! * `insert`: INSERT and its conflicts
//! * `update`: UPDATE, DELETE, TRUNCATE
//! * `returning`: RETURNING
//! * `transaction`: BEGIN, COMMIT, ROLLBACK

mod insert;
mod returning;
mod rules;
mod transaction;
mod update;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;

use self::returning::Returning;
use super::query::{LiveScans, hydrated, parameter_types};
use super::{Session, blocking};
use crate::catalog::unknown;
use crate::engine::{Engine, Outcome, Parameters, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::job::Live;
use crate::plan::{Planner, Relation};
use crate::sql::{self, Insert, Query, Statement};
use crate::table::{Lsn, Table, TableView};

pub(super) use rules::Rules;
pub(super) use transaction::Transaction;

/// The rows that a statement has put into a table, or taken out of it.
struct Affected {
    /// How many.
    count: usize,
    /// They themselves, in the table's columns.
    rows: Vec<RecordBatch>,
}

/// A table and what a statement needs to change it.
struct Target {
    table: Arc<Table>,
    relation: Arc<Relation>,
    rules: Rules,
}

impl Target {
    fn schema(&self) -> &SchemaRef {
        self.table.schema()
    }

    /// An error if rows may only be added.
    fn check_changeable(&self, statement: &str) -> Result<()> {
        if !self.table.definition().append_only {
            return Ok(());
        }
        Err(Error::not_supported(format!(
            "table \"{}\" is APPEND ONLY: {statement} would change or remove rows",
            self.table.name()
        )))
    }
}

/// One statement's surroundings.
struct Work<'a> {
    engine: &'a Arc<Engine>,
    planner: &'a Planner,
    parameters: &'a [ScalarValue],
    now_micros: i64,
}

impl<'a> Work<'a> {
    fn new(engine: &'a Arc<Engine>, parameters: &'a [ScalarValue]) -> Self {
        Self { engine, planner: &engine.planner, parameters, now_micros: engine.clock.now_micros() }
    }

    fn target(&self, name: &str) -> Result<Target> {
        match self.engine.live.get(name) {
            Some(Live::Table { table, relation, .. }) => {
                let rules = Rules::new(self.planner, name, table.definition(), table.schema())?;
                Ok(Target { table, relation, rules })
            }
            Some(Live::Broken { error, .. }) => Err(error),
            Some(_) => {
                Err(Error::new(ErrorKind::InvalidState, format!("\"{name}\" is not a table")).with_code("42809"))
            }
            None => Err(unknown(name)),
        }
    }

    /// The rows of a query whose text was put together here: places in it mean nothing to the user.
    async fn rows_of_text(&self, planner: &Planner, text: &str, view: &TableView) -> Result<Vec<RecordBatch>> {
        let plan = sql::parse_query(text).and_then(|query| planner.plan_batch(&query, Some(self.parameters)));
        self.rows(&plan.map_err(Error::without_position)?, LiveScans::new(self.engine, view.clone())).await
    }

    /// The rows of a plan, all of them.
    async fn rows(&self, plan: &LogicalPlan, scans: LiveScans) -> Result<Vec<RecordBatch>> {
        hydrated(self.engine, plan).await?;
        let memory = self.engine.settings.job_memory_bytes;
        let mut stream = self.engine.batch.execute(plan, Arc::new(scans), self.now_micros, memory).await?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            bytes += batch.get_array_memory_size();
            self.check_memory(bytes)?;
            rows.push(batch);
        }
        Ok(rows)
    }

    fn check_memory(&self, bytes: usize) -> Result<()> {
        let most = self.engine.settings.job_memory_bytes;
        if bytes <= most {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("the statement's rows take more than {} MB of memory", most >> 20),
        )
        .with_hint("change fewer rows with one statement"))
    }

    /// Puts a row into the view, by a key that is free.
    fn put(&self, view: &mut TableView, target: &Target, rows: &RecordBatch, row: usize, key: Vec<u8>) -> Result<()> {
        let mut bytes = Vec::new();
        target.table.encode(rows, row, &mut bytes)?;
        view.set(&target.table, key, Some(bytes))?;
        self.check_memory(view.pending().bytes())
    }

    /// Does what can be done before there is the right to write.
    async fn prepare(&self, change: &Change<'_>, view: &TableView) -> Result<Prepared> {
        match change {
            Change::Copy { insert, rows } => {
                let target = self.target(&insert.target)?;
                let rows = self.assigned(&target, insert, rows, &[])?;
                Ok(Prepared::Insert { target: Box::new(target), rows })
            }
            Change::Statement(Statement::Insert(insert)) => {
                let target = self.target(&insert.target)?;
                let rows = self.source(&target, insert, view).await?;
                Ok(Prepared::Insert { target: Box::new(target), rows })
            }
            Change::Statement(_) => Ok(Prepared::Nothing),
        }
    }

    /// Puts the changes into a view, and answers what RETURNING says of them: if that fails, nothing is changed.
    async fn apply(
        &self,
        (change, returning): (&Change<'_>, Option<&Returning>),
        prepared: Prepared,
        view: &mut TableView,
    ) -> Result<Applied> {
        let mut affected = self.applied(change, prepared, view).await?;
        let returned = match returning {
            Some(returning) => Some(self.returned(returning, std::mem::take(&mut affected.rows)).await?),
            None => None,
        };
        Ok((affected, returned))
    }

    async fn applied(&self, change: &Change<'_>, prepared: Prepared, view: &mut TableView) -> Result<Affected> {
        match (change, prepared) {
            (Change::Copy { insert, .. }, Prepared::Insert { target, rows }) => {
                self.insert(&target, insert, rows, view)
            }
            (Change::Statement(Statement::Insert(insert)), Prepared::Insert { target, rows }) => {
                self.insert(&target, insert, rows, view)
            }
            (Change::Statement(Statement::Update(update)), _) => self.update(update, view).await,
            (Change::Statement(Statement::Delete(delete)), _) => self.delete(delete, view).await,
            (Change::Statement(Statement::Truncate(names)), _) => self.truncate(names, view),
            _ => Err(Error::internal("a statement that changes no rows was to change some")),
        }
    }
}

/// How many rows were changed, and what RETURNING says of them.
type Applied = (Affected, Option<(SchemaRef, Vec<RecordBatch>)>);

/// What changes tables.
enum Change<'a> {
    Statement(&'a Statement),
    /// COPY … FROM STDIN: rows of text.
    Copy {
        insert: &'a Insert,
        rows: &'a [RecordBatch],
    },
}

/// What can be done of a statement before it has the right to write.
enum Prepared {
    Nothing,
    /// The rows of an INSERT, as columns of its table.
    Insert {
        target: Box<Target>,
        rows: Vec<RecordBatch>,
    },
}

/// The plan of a statement's query, if it has one, and the types of parameters that stand alone for a column's value, by
/// their numbers.
type PlanAndTypes = (Option<LogicalPlan>, Vec<(usize, DataType)>);

/// Runs a statement that changes tables.
pub(super) async fn run(session: &Session, statement: &Statement, parameters: &Parameters) -> Result<Outcome> {
    let work = Work::new(&session.engine, parameters);
    let returning = returning::of(statement)?;
    let (affected, returned) = session.change(&work, &Change::Statement(statement), returning.as_ref()).await?;
    let Some((schema, rows)) = returned else {
        let tag = match statement {
            Statement::Insert(_) => format!("INSERT 0 {}", affected.count),
            Statement::Truncate(_) => "TRUNCATE TABLE".to_owned(),
            other => format!("{} {}", other.tag(), affected.count),
        };
        return Ok(Outcome::Done { tag, notices: Vec::new() });
    };
    let rows = futures::stream::iter(rows.into_iter().map(Ok));
    Ok(Outcome::Rows(Box::pin(RecordBatchStreamAdapter::new(schema, rows))))
}

/// COPY … FROM STDIN: rows of text, in the order of `columns`.
pub(super) async fn copy(session: &Session, table: &str, columns: &[String], rows: Vec<RecordBatch>) -> Result<usize> {
    let work = Work::new(&session.engine, &[]);
    let insert = Insert {
        target: table.to_owned(),
        alias: None,
        columns: columns.to_vec(),
        query: None,
        on_conflict: None,
        returning: Vec::new(),
    };
    let (affected, _) = session.change(&work, &Change::Copy { insert: &insert, rows: &rows }, None).await?;
    Ok(affected.count)
}

/// Puts rows whose columns go by their names into a table, as a statement of its own; durable on return. Blocks.
pub(super) fn insert_rows(engine: &Arc<Engine>, table: &str, rows: &RecordBatch) -> Result<()> {
    let work = Work::new(engine, &[]);
    let target = work.target(table)?;
    let insert = Insert {
        target: table.to_owned(),
        alias: None,
        columns: rows.schema().fields().iter().map(|field| field.name().clone()).collect(),
        query: None,
        on_conflict: None,
        returning: Vec::new(),
    };
    let rows = work.assigned(&target, &insert, std::slice::from_ref(rows), &[])?;
    let writer = engine.tables.writer_blocking();
    let mut view = engine.tables.view()?;
    work.insert(&target, &insert, rows, &mut view)?;
    engine.tables.commit(writer, view.pending(), false).map(|_| ())
}

/// The columns that COPY … FROM fills, by name.
pub(super) fn copy_columns(engine: &Arc<Engine>, table: &str, columns: &[String]) -> Result<SchemaRef> {
    let work = Work::new(engine, &[]);
    let target = work.target(table)?;
    let places = work.places(&target, columns)?;
    Ok(Arc::new(target.schema().project(&places)?))
}

/// A statement's parameters, and the columns of its RETURNING.
pub(super) fn describe(engine: &Arc<Engine>, statement: &Statement) -> Result<Shape> {
    let work = Work::new(engine, &[]);
    let (plan, direct) = match statement {
        Statement::Insert(insert) => work.insert_parameters(insert)?,
        Statement::Update(update) => work.update_parameters(update)?,
        Statement::Delete(delete) => (Some(work.delete_plan(delete)?), Vec::new()),
        _ => (None, Vec::new()),
    };
    let mut parameters = match plan {
        Some(plan) => parameter_types(&plan)?,
        None => Vec::new(),
    };
    for (number, data_type) in direct {
        if parameters.len() < number {
            parameters.resize(number, DataType::Utf8);
        }
        parameters[number - 1] = data_type;
    }
    let columns = match returning::of(statement)? {
        Some(returning) => Some(work.returned_schema(&returning)?),
        None => None,
    };
    Ok(Shape { parameters, columns })
}

/// Each batch's columns, and how many rows it has.
fn columns_of(batches: &[RecordBatch]) -> impl Iterator<Item = (&[ArrayRef], usize)> {
    batches.iter().map(|batch| (batch.columns(), batch.num_rows()))
}

/// Whether an expression is the word DEFAULT.
fn is_default(expression: &datafusion::sql::sqlparser::ast::Expr) -> bool {
    use datafusion::sql::sqlparser::ast::Expr;
    matches!(expression, Expr::Identifier(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

/// The number of a parameter that stands alone.
fn parameter(expression: &datafusion::sql::sqlparser::ast::Expr) -> Option<usize> {
    use datafusion::sql::sqlparser::ast::{Expr, Value};
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok().filter(|number| *number > 0),
            _ => None,
        },
        Expr::Nested(inner) => parameter(inner),
        _ => None,
    }
}

impl Session {
    /// Changes tables, with the right to write if the statement stands alone. Answers when the changes are durable, or
    /// are the transaction's.
    async fn change(&self, work: &Work<'_>, change: &Change<'_>, returning: Option<&Returning>) -> Result<Applied> {
        let mut transaction = self.transaction.lock().await;
        if let Some(open) = &mut *transaction {
            let view = open.view(&self.engine).await?;
            let done = match work.prepare(change, view).await {
                Ok(prepared) => work.apply((change, returning), prepared, view).await,
                Err(error) => Err(error),
            };
            open.has_failed |= done.is_err();
            return done;
        }
        let tables = Arc::clone(&self.engine.tables);
        let before = Arc::clone(&tables);
        let before = blocking(move || before.view()).await?;
        let prepared = work.prepare(change, &before).await?;
        let writer = tables.writer().await;
        let now = Arc::clone(&tables);
        let mut view = blocking(move || now.view()).await?;
        let done = work.apply((change, returning), prepared, &mut view).await?;
        let lsn = blocking(move || tables.commit(writer, view.pending(), false)).await?;
        drop(transaction);
        self.show(lsn).await?;
        Ok(done)
    }

    /// Waits until a transaction is visible everywhere, if the session wants that.
    async fn show(&self, lsn: Option<Lsn>) -> Result<()> {
        if lsn.is_none() || self.get("implicit_flush")? != "on" {
            return Ok(());
        }
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.flush()).await
    }
}

/// The rows that `query` gives to a table.
fn plan_of(planner: &Planner, query: &Query, parameters: Option<&[ScalarValue]>) -> Result<LogicalPlan> {
    planner.plan_batch(query, parameters)
}
