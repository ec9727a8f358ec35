//! A case: streams of random rows, a statement over them, and the two ways to run it.

use std::collections::BTreeMap;

use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rondel_engine::Delta;
use rondel_engine::operator::EpochContext;
use rondel_engine::plan::flow::{FlowOp, FlowPlan, NodeIndex};
use rondel_engine::time::{WatermarkId, Watermarks};

use super::engine::PooledJob;
use super::machine::Machine;
use super::multiset::Multiset;
use super::row::Pool;
use super::said::Said;
use super::statement::{Readable, Statement};
use super::table::{SECOND, START, Table};

/// What the law demands of a case.
pub(crate) struct Expected {
    /// Of all that comes.
    pub(crate) end: Multiset,
    /// Of what has come by the end of an epoch before the last one; only of statements that show their current result.
    pub(crate) midway: Option<(usize, Multiset)>,
}

impl Expected {
    /// Compares the sum at the end of an epoch, if there is something to compare it with; `last`: all is shown by then.
    fn check(&self, case: &Case, sum: &Multiset, epoch: usize, last: bool, workers: usize) -> Result<(), String> {
        if let Some(row) = sum.negative() {
            return Err(format!("after epoch {epoch} on {workers} workers a row is there less than never: {row}"));
        }
        let expected = match &self.midway {
            Some((midway, expected)) if *midway == epoch => expected,
            _ if last => &self.end,
            _ => return Ok(()),
        };
        match sum.difference(expected, case.scale()) {
            Some(difference) => Err(format!("after epoch {epoch} the sum is not the batch answer\n{difference}")),
            None => Ok(()),
        }
    }
}

/// A random world: streams, and a statement over them.
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) late_rows: bool,
    pub(crate) tables: Vec<Table>,
    pub(crate) statement: Statement,
}

impl Case {
    /// The case of a seed.
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let epochs = rng.random_range(1..7);
        let late_rows = rng.random_bool(0.15);
        let tables = Self::tables(&mut rng, epochs, late_rows);
        let readable: Vec<Readable> = tables.iter().map(Table::readable).collect();
        let statement = Statement::random(rng.random(), &readable, late_rows);
        Self { seed, late_rows, tables, statement }
    }

    /// The case of a seed that only another database judges.
    pub(crate) fn free(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let epochs = rng.random_range(1..4);
        let tables = Self::tables(&mut rng, epochs, false);
        let readable: Vec<Readable> = tables.iter().map(Table::readable).collect();
        let statement = Statement::free(rng.random(), &readable);
        Self { seed, late_rows: false, tables, statement }
    }

    fn tables(rng: &mut SmallRng, epochs: usize, late_rows: bool) -> Vec<Table> {
        let mut pool = Pool::new();
        (0..rng.random_range(1..=3))
            .map(|n| Table::random(rng, &format!("t{n}"), epochs, late_rows, &mut pool))
            .collect()
    }

    /// How many epochs have rows; in one more the inputs end.
    pub(crate) fn epochs(&self) -> usize {
        self.tables.iter().map(|table| table.epochs.len()).max().unwrap_or(0)
    }

    /// The last epoch that is run by hand: what is held back is shown when its time has come, after the inputs have ended.
    pub(crate) fn last_epoch(&self) -> usize {
        self.epochs() + usize::from(self.statement.is_delayed())
    }

    /// The time of day of an epoch that is run by hand.
    pub(crate) fn now(&self, epoch: usize) -> i64 {
        START + epoch as i64 * 2 * SECOND + if epoch > self.epochs() { 60 * SECOND } else { 0 }
    }

    /// The case with a time of day that does not pass.
    pub(crate) fn at_one_moment(&self) -> Self {
        let statement = self.statement.at(self.now(self.last_epoch()));
        Self { statement, tables: self.tables.clone(), ..*self }
    }

    /// The case as operators run it that are called by hand. Where changes are held back the time of day stands still for all
    /// else: what changes because time has passed would be held back as well, until it has passed again.
    pub(crate) fn by_hand(&self) -> Self {
        match self.statement.is_delayed() && self.statement.reads_clock() {
            true => self.at_one_moment(),
            false => Self { statement: self.statement.clone(), tables: self.tables.clone(), ..*self },
        }
    }

    /// The streams as they are after some epochs.
    pub(crate) fn tables_until(&self, epochs: usize) -> Vec<Table> {
        let until = |table: &Table| Table { epochs: table.epochs[..epochs].to_vec(), ..table.clone() };
        self.tables.iter().map(until).collect()
    }

    pub(crate) fn scale(&self) -> f64 {
        self.tables.iter().map(Table::scale).sum()
    }

    /// A failure, with all that is needed to look into it.
    pub(crate) fn failure(&self, what: &str) -> String {
        format!(
            "seed {}: {what}\n  {}\n  again: RONDEL_ORACLE_SEED={} RONDEL_ORACLE_CASES=1",
            self.seed, self.statement.sql, self.seed
        )
    }

    /// The batch's statement and all rows, for a case that is looked into.
    pub(crate) fn in_full(&self) -> String {
        let Statement { batch_sql, judged_sql, .. } = &self.statement;
        let mut text = format!("\n  as a batch: {batch_sql}\n  as it is judged: {judged_sql}");
        for table in &self.tables {
            text.push_str(&format!("\n{} (delay {} s):", table.name, table.delay_seconds));
            for (epoch, arrival) in
                table.epochs.iter().enumerate().flat_map(|(at, all)| all.iter().map(move |one| (at, one)))
            {
                let options = FormatOptions::default().with_null("NULL");
                let rows = pretty_format_batches_with_options(std::slice::from_ref(&arrival.rows), &options).unwrap();
                let weights = arrival.weights.as_ref().map(|weights| weights.values().to_vec());
                text.push_str(&format!(
                    "\nepoch {epoch}, partition {}, weights {weights:?}\n{rows}",
                    arrival.partition
                ));
            }
        }
        text
    }

    /// Runs a plan by calling its operators, and compares.
    pub(crate) fn run_by_hand(&self, plan: &FlowPlan, expected: &Expected) -> Result<(), String> {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ 0x6d61_6368);
        let mut said = Said::new(plan, &self.statement.folds);
        let failed = |error: rondel_engine::Error| format!("{error}");
        let mut workers = rng.random_range(1..=4);
        let mut machine = Machine::new(plan, workers, &mut rng).map_err(failed)?;
        let mut watermarks = Watermarks::none(plan.watermark_count());
        let last = self.last_epoch();
        for epoch in 0..=last {
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
            let now_micros = self.now(epoch);
            let context = EpochContext { epoch: epoch as u64 + 1, now_micros, watermarks: &watermarks };
            for delta in machine.epoch(&arrivals, &context, &mut rng).map_err(failed)? {
                said.add(&delta)?;
            }
            expected.check(self, &said.sum(), epoch, epoch == last, workers)?;
            if rng.random_bool(0.25) {
                machine.write_down(rng.random_bool(0.8)).map_err(failed)?;
                workers = rng.random_range(1..=4);
                let before = std::mem::replace(&mut machine, Machine::new(plan, workers, &mut rng).map_err(failed)?);
                machine.restore(before).map_err(failed)?;
            } else if rng.random_bool(0.4) {
                machine.write_down(rng.random_bool(0.8)).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Runs a plan as a job of a simulated pool, sometimes stopped and restored on another number of workers.
    pub(crate) fn run_on_a_pool(&self, plan: &FlowPlan, expected: &Expected) -> Result<(), String> {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ 0x706f_6f6c);
        let failed = |error: rondel_engine::Error| format!("{error}");
        let mut said = Said::new(plan, &self.statement.folds);
        let mut workers = rng.random_range(1..=4);
        let mut job = PooledJob::start(plan, &self.tables, workers, None, &mut rng).map_err(failed)?;
        for epoch in 0..=self.epochs() {
            for delta in job.epoch(&self.tables, epoch).map_err(failed)? {
                said.add(&delta)?;
            }
            expected.check(self, &said.sum(), epoch, epoch == self.epochs(), workers)?;
            if epoch < self.epochs() && !job.has_ended() && rng.random_bool(0.25) {
                let snapshot = job.stop().map_err(failed)?;
                workers = rng.random_range(1..=4);
                job = PooledJob::start(plan, &self.tables, workers, Some(snapshot), &mut rng).map_err(failed)?;
            } else if epoch < self.epochs() && !job.has_ended() && rng.random_bool(0.4) {
                job.write_down(rng.random_bool(0.8)).map_err(failed)?;
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
