//! The oracle: random statements over random streams must say, in sum, what DataFusion says of the same text as a batch.
//!
//! `RONDEL_ORACLE_CASES` is how many cases to run, `RONDEL_ORACLE_SEED` the seed of the first one, `RONDEL_ORACLE_THREADS` on
//! how many threads. A case that fails prints its seed, its statement and the difference, and is run again alone with that
//! seed and one case: then it prints its rows as well.

mod aggregate;
mod case;
mod coverage;
mod duckdb;
mod engine;
mod expression;
mod machine;
pub(crate) mod multiset;
mod row;
mod runs;
mod said;
mod spill;
mod statement;
mod table;
mod truth;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use rondel_engine::batch::BatchContext;
use rondel_engine::plan::{ContinuousPlan, Functions};
use tokio::runtime::Runtime;

use self::case::{Case, Expected};
use self::runs::{Kind, Verdict, run_cases};
use self::truth::Batch;

/// What a thread needs for its cases.
struct World {
    runtime: Runtime,
    functions: Arc<Functions>,
    /// DataFusion as it is.
    truth: Batch,
    /// The engine's own batch side.
    snapshots: BatchContext,
}

/// Functions of ours that statements call: both sides have them.
const OURS: [&str; 7] = ["quote_literal", "initcap", "split_part", "to_hex", "to_char", "num_nulls", "width_bucket"];

fn ours() -> impl Iterator<Item = Arc<ScalarUDF>> {
    rondel_udfs::functions().into_iter().filter(|function| OURS.contains(&function.name()))
}

impl World {
    fn new() -> Self {
        let mut functions = Functions::builtin();
        ours().for_each(|function| functions.add_scalar(function));
        Self::with(functions)
    }

    /// A world whose planner knows these functions.
    fn with(functions: Functions) -> Self {
        let functions = Arc::new(functions);
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            truth: Batch::new(ours()),
            snapshots: BatchContext::new(&functions, 1),
            functions,
        }
    }

    /// What a case's statement must say, if it runs continuously and as a batch.
    fn prepared(&self, case: &Case) -> Result<(ContinuousPlan, Expected), String> {
        let plan = engine::planned(&case.statement.sql, &case.tables, &self.functions)
            .map_err(|error| format!("planner: {:?} {error}", error.kind()))?;
        let midway = match case.seed as usize % 3 {
            0 if case.statement.is_current() && case.epochs() > 1 => {
                Some((case.seed / 3) as usize % (case.epochs() - 1))
            }
            _ => None,
        };
        let then = midway.map(|epoch| case.tables_until(epoch + 1));
        let then = midway.zip(then.as_deref()).map(|(epoch, tables)| (tables, case.now(epoch)));
        let states: Vec<(&[table::Table], i64)> =
            std::iter::once((&case.tables[..], case.now(case.last_epoch()))).chain(then).collect();
        let answers = || self.runtime.block_on(self.truth.answers(&case.statement, &states));
        let answers = match catch_unwind(AssertUnwindSafe(answers)) {
            Ok(answers) => answers.map_err(|error| format!("batch: {}", error.strip_backtrace()))?,
            Err(_) => return Err("batch: a panic (see above)".to_owned()),
        };
        let mut answers = answers.into_iter();
        let end = answers.next().unwrap_or_default();
        let midway = midway.zip(answers.next());
        Ok((plan, Expected { end, midway }))
    }

    /// Whether the engine's own batch side says the same.
    fn compare_snapshot(&self, case: &Case, plan: &ContinuousPlan, expected: &Expected) -> Result<(), String> {
        let batch = self.runtime.block_on(engine::batch_answer(
            &self.snapshots,
            plan,
            &case.tables,
            case.now(case.last_epoch()),
        ));
        let batch = match batch {
            Ok(batch) => batch,
            // Of a UNION of constants DataFusion knows less than its own rules that push a sort below it: it refuses the plan.
            Err(error) if error.to_string().contains("SanityCheckPlan") => return Ok(()),
            Err(error) => return Err(format!("the snapshot query fails: {error}")),
        };
        match batch.difference(&expected.end, case.scale()) {
            Some(difference) => Err(format!("the snapshot query answers otherwise\n{difference}")),
            None => Ok(()),
        }
    }
}

fn judged(
    world: &World,
    case: &Case,
    run: impl Fn(&ContinuousPlan, &Expected) -> Result<(), String>,
) -> Result<Verdict, String> {
    let (plan, expected) = match world.prepared(case) {
        Ok(prepared) => prepared,
        Err(why) => return Ok(Verdict::Refused(why)),
    };
    run(&plan, &expected)?;
    Ok(Verdict::Equal { rows: expected.end.len(), met: coverage::met(&case.statement.sql, &plan.flow) })
}

/// Statements through the planner, their operators called one by one.
#[test]
fn operators_sum_to_the_batch_answer() {
    run_cases(&Kind { cases: 1000, random: Case::random, never: Some(&[]) }, World::new, |world, case| {
        let case = &case.by_hand();
        judged(world, case, |plan, expected| {
            case.run_by_hand(&plan.flow, expected)?;
            match !case.late_rows && case.seed % 4 == 0 {
                true => world.compare_snapshot(case, plan, expected),
                false => Ok(()),
            }
        })
    });
    assert!(runs::cases(1000) < 100 || spill::noted() > 10, "no state was on disk");
}

/// Statements through the planner, the dataflow and a pool whose workers take turns as the seed says.
#[test]
fn jobs_sum_to_the_batch_answer() {
    let kind = Kind { cases: 500, random: Case::random, never: Some(&["temporal filter", "now()"]) };
    run_cases(&kind, World::new, |world, case| {
        // Which time it is at the end of an epoch is the pool's business.
        let case = &case.at_one_moment();
        judged(world, case, |plan, expected| case.run_on_a_pool(&plan.flow, expected))
    });
    assert!(runs::cases(500) < 100 || spill::noted() > 10, "no state was on disk");
}
