//! The oracle: random statements over random streams must say, in sum, what DataFusion says of the same text as a batch.
//!
//! `RONDEL_ORACLE_CASES` is how many cases to run, `RONDEL_ORACLE_SEED` the seed of the first one. A case that fails
//! prints its seed, its statement and the difference, and is run again alone with that seed and one case.

mod engine;
mod expression;
mod machine;
pub(crate) mod multiset;
mod over;
mod statement;
mod table;
mod truth;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rondel_engine::Delta;
use rondel_engine::operator::EpochContext;
use rondel_engine::plan::flow::{Emit, FlowOp, FlowPlan, NodeIndex};
use rondel_engine::plan::{ContinuousPlan, Functions};
use rondel_engine::time::{WatermarkId, Watermarks};

use self::engine::PooledJob;
use self::machine::Machine;
use self::multiset::Multiset;
use self::statement::{Readable, Statement};
use self::table::{START, Table};

/// What became of a case.
enum Verdict {
    /// The sums were equal; how many rows the answer had.
    Equal(usize),
    /// The statement is not one that runs continuously, or fails as a batch as well: why.
    Refused(String),
}

/// What the law demands of a case.
struct Expected {
    /// Of all that comes.
    end: Multiset,
    /// Of what has come by the end of an epoch before the last one; only of statements that show their current result.
    midway: Option<(usize, Multiset)>,
}

impl Expected {
    /// Compares the sum at the end of an epoch, if there is something to compare it with.
    fn check(&self, case: &Case, sum: &Multiset, epoch: usize, workers: usize) -> Result<(), String> {
        if let Some(row) = sum.negative() {
            return Err(format!("after epoch {epoch} on {workers} workers a row is there less than never: {row}"));
        }
        let expected = match &self.midway {
            Some((midway, expected)) if *midway == epoch => expected,
            _ if epoch == case.epochs() => &self.end,
            _ => return Ok(()),
        };
        match sum.difference(expected, case.scale()) {
            Some(difference) => Err(format!("after epoch {epoch} the sum is not the batch answer\n{difference}")),
            None => Ok(()),
        }
    }
}

/// Makes a table of a name for so many epochs, with late rows or without.
type MakeTable = fn(&mut SmallRng, &str, usize, bool) -> Table;

/// A random world: streams, and a statement over them.
struct Case {
    seed: u64,
    late_rows: bool,
    tables: Vec<Table>,
    statement: Statement,
}

impl Case {
    /// The case of a seed; `table` makes its tables.
    fn random(seed: u64, table: MakeTable) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let epochs = rng.random_range(1..8);
        let late_rows = rng.random_bool(0.2);
        let tables: Vec<Table> =
            (0..rng.random_range(1..=3)).map(|n| table(&mut rng, &format!("t{n}"), epochs, late_rows)).collect();
        let readable: Vec<Readable> = tables.iter().map(Table::readable).collect();
        let statement = Statement::random(rng.random(), &readable, late_rows);
        Self { seed, late_rows, tables, statement }
    }

    /// How many epochs have rows; in one more the inputs end.
    fn epochs(&self) -> usize {
        self.tables.iter().map(|table| table.epochs.len()).max().unwrap_or(0)
    }

    /// The streams as they are after some epochs.
    fn tables_until(&self, epochs: usize) -> Vec<Table> {
        let until = |table: &Table| Table { epochs: table.epochs[..epochs].to_vec(), ..table.clone() };
        self.tables.iter().map(until).collect()
    }

    fn scale(&self) -> f64 {
        self.tables.iter().map(Table::scale).sum()
    }

    /// A failure, with all that is needed to look into it.
    fn failure(&self, what: &str) -> String {
        format!(
            "seed {}: {what}\n  {}\n  again: RONDEL_ORACLE_SEED={} RONDEL_ORACLE_CASES=1",
            self.seed, self.statement.sql, self.seed
        )
    }

    /// Runs a plan by calling its operators, and compares.
    fn run_by_hand(&self, plan: &FlowPlan, expected: &Expected) -> Result<(), String> {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ 0x6d61_6368);
        let mut sum = Multiset::default();
        let failed = |error: rondel_engine::Error| format!("{error}");
        let mut workers = rng.random_range(1..=4);
        let mut machine = Machine::new(plan, workers, &mut rng).map_err(failed)?;
        let mut watermarks = Watermarks::none(plan.watermark_count());
        for epoch in 0..=self.epochs() {
            let mut arrivals = BTreeMap::new();
            for (index, node) in plan.nodes.iter().enumerate() {
                if let FlowOp::Scan { relation, projection, watermark, .. } = &node.op {
                    let table = self.table(relation)?;
                    arrivals.insert(index, scanned(plan, index, table, epoch, projection, workers));
                    let id = watermark.as_ref().map(|watermark| watermark.id);
                    advance(&mut watermarks, id, table, epoch);
                }
            }
            plan.derive_watermarks(&mut watermarks);
            let now_micros = START + epoch as i64;
            let context = EpochContext { epoch: epoch as u64 + 1, now_micros, watermarks: &watermarks };
            for delta in machine.epoch(&arrivals, &context, &mut rng).map_err(failed)? {
                sum.add(delta.rows(), |row| delta.weight(row));
            }
            expected.check(self, &sum, epoch, workers)?;
            if rng.random_bool(0.25) {
                let snapshot = machine.snapshot().map_err(failed)?;
                workers = rng.random_range(1..=4);
                machine = Machine::new(plan, workers, &mut rng).map_err(failed)?;
                machine.restore(&snapshot).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Runs a plan as a job of a simulated pool, sometimes stopped and restored on another number of workers.
    fn run_on_a_pool(&self, plan: &FlowPlan, expected: &Expected) -> Result<(), String> {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ 0x706f_6f6c);
        let failed = |error: rondel_engine::Error| format!("{error}");
        let mut sum = Multiset::default();
        let mut workers = rng.random_range(1..=4);
        let mut job = PooledJob::start(plan, &self.tables, workers, None, &mut rng).map_err(failed)?;
        for epoch in 0..=self.epochs() {
            for delta in job.epoch(&self.tables, epoch).map_err(failed)? {
                sum.add(delta.rows(), |row| delta.weight(row));
            }
            expected.check(self, &sum, epoch, workers)?;
            if epoch < self.epochs() && !job.has_ended() && rng.random_bool(0.25) {
                let snapshot = job.stop().map_err(failed)?;
                workers = rng.random_range(1..=4);
                job = PooledJob::start(plan, &self.tables, workers, Some(snapshot), &mut rng).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn table(&self, name: &str) -> Result<&Table, String> {
        self.tables.iter().find(|table| table.name == name).ok_or_else(|| format!("the plan reads an unknown {name}"))
    }
}

/// What a scan delivers in an epoch, by worker: a partition belongs to one.
fn scanned(
    plan: &FlowPlan,
    scan: NodeIndex,
    table: &Table,
    epoch: usize,
    projection: &[usize],
    workers: usize,
) -> Vec<Vec<Delta>> {
    let mut deltas = vec![Vec::new(); workers];
    for arrival in table.epochs.get(epoch).into_iter().flatten() {
        let rows = arrival.rows.project(projection).unwrap().with_schema(plan.arrow_schema(scan)).unwrap();
        deltas[arrival.partition as usize % workers].push(arrival.delta().with_rows(rows));
    }
    deltas
}

/// A scan's watermark at the end of an epoch; after the last one the input has ended.
fn advance(watermarks: &mut Watermarks, id: Option<WatermarkId>, table: &Table, epoch: usize) {
    let Some(id) = id else { return };
    let at = match table.watermarks().get(epoch) {
        Some(at) => *at,
        None => Some(i64::MAX),
    };
    if let Some(at) = at {
        watermarks.advance(id, at);
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs `RONDEL_ORACLE_CASES` cases and reports all that failed.
fn run_cases(default: u64, table: MakeTable, verdict: impl Fn(&Case) -> Result<Verdict, String>) {
    let (cases, seed) = (setting("RONDEL_ORACLE_CASES", default), setting("RONDEL_ORACLE_SEED", 1));
    let (mut equal, mut empty, mut failures) = (0, 0, Vec::new());
    let mut refused: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for seed in seed..seed + cases {
        let case = Case::random(seed, table);
        let verdict = catch_unwind(AssertUnwindSafe(|| verdict(&case)));
        match verdict.unwrap_or_else(|_| Err("a panic (see above)".to_owned())) {
            Ok(Verdict::Equal(rows)) => {
                equal += 1;
                empty += u64::from(rows == 0);
            }
            Ok(Verdict::Refused(why)) => refused.entry(why).or_default().push(seed),
            Err(what) => failures.push(case.failure(&what)),
        }
        if failures.len() >= 5 {
            break;
        }
    }
    println!("oracle: {cases} cases from seed {seed}: {equal} equal ({empty} of them empty)");
    for (why, seeds) in &refused {
        let first = Case::random(seeds[0], table).statement.sql;
        println!("  {} refused, seed {} first: {why}\n    {first}", seeds.len(), seeds[0]);
    }
    assert!(failures.is_empty(), "{} cases failed\n{}", failures.len(), failures.join("\n\n"));
    if cases >= 100 {
        assert!(equal * 10 >= cases * 6, "only {equal} of {cases} statements could be run");
        assert!(empty * 2 <= equal, "{empty} of {equal} answers are empty: they show little");
    }
}

/// What a case's statement must say, if it runs continuously and as a batch.
async fn prepared(case: &Case, functions: &Arc<Functions>) -> Result<(ContinuousPlan, Expected), String> {
    let shortened = |text: String| text.chars().take(90).collect::<String>();
    let plan = engine::planned(&case.statement.sql, &case.tables, functions)
        .map_err(|error| shortened(format!("planner: {:?} {error}", error.kind())))?;
    let answer = async |tables: &[Table]| {
        let context = truth::session(&case.statement, tables).map_err(|error| shortened(error.strip_backtrace()))?;
        truth::answer(&context, &case.statement).await.map_err(|error| shortened(error.strip_backtrace()))
    };
    let end = answer(&case.tables).await?;
    let midway = match case.seed as usize % 3 {
        0 if plan.emit == Emit::OnChange && case.epochs() > 1 => {
            let epoch = (case.seed / 3) as usize % (case.epochs() - 1);
            Some((epoch, answer(&case.tables_until(epoch + 1)).await?))
        }
        _ => None,
    };
    Ok((plan, Expected { end, midway }))
}

/// Statements through the planner, their operators called one by one.
#[test]
fn operators_sum_to_the_batch_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let functions = Arc::new(rondel_server::functions());
    run_cases(200, Table::random, |case| {
        let (plan, expected) = match runtime.block_on(prepared(case, &functions)) {
            Ok(prepared) => prepared,
            Err(why) => return Ok(Verdict::Refused(why)),
        };
        case.run_by_hand(&plan.flow, &expected)?;
        if !case.late_rows && case.seed % 4 == 0 {
            let batch = runtime.block_on(engine::batch_answer(&plan, &case.tables, &functions));
            let batch = batch.map_err(|error| format!("the snapshot query fails: {error}"))?;
            if let Some(difference) = batch.difference(&expected.end, case.scale()) {
                return Err(format!("the snapshot query answers otherwise\n{difference}"));
            }
        }
        Ok(Verdict::Equal(expected.end.len()))
    });
}

/// Statements through the planner, the dataflow and a pool whose workers take turns as the seed says.
#[test]
fn jobs_sum_to_the_batch_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let functions = Arc::new(rondel_server::functions());
    // A pool's sources in memory have no rows that go.
    run_cases(100, Table::growing, |case| {
        let (plan, expected) = match runtime.block_on(prepared(case, &functions)) {
            Ok(prepared) => prepared,
            Err(why) => return Ok(Verdict::Refused(why)),
        };
        case.run_on_a_pool(&plan.flow, &expected)?;
        Ok(Verdict::Equal(expected.end.len()))
    });
}
