//! What has come since a group was last shown: each pane is DataFusion's answer over its own rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::harness::{Value, assert_same, batch_answer, flow_plan, lowered, taken, values};
use super::running::{random_rows, schema};
use crate::delta::Delta;
use crate::operator::aggregate::build;
use crate::operator::build::Role;
use crate::operator::change::Layered;
use crate::operator::{EpochContext, Operator, Output, Step};
use crate::plan::flow::{Firing, FlowOp, FlowPlan};
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::time::{WatermarkId, Watermarks};

fn plan(sql: &str, firing: Firing, closes: Option<(usize, WatermarkId, i64)>) -> FlowPlan {
    let aggregate = lowered(&schema(), sql).unwrap();
    let (group, aggregates) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
    let op = FlowOp::PaneAggregate { group, aggregates, closes, firing };
    flow_plan(aggregate.input.schema(), op, aggregate.schema.as_ref().clone(), false)
}

struct Workers {
    plan: FlowPlan,
    workers: Vec<Box<dyn Operator>>,
    written: Layered,
    late: u64,
}

impl Workers {
    fn new(plan: FlowPlan, count: usize) -> Self {
        let workers = (0..count).map(|_| build(&plan, 1, Role::Whole).unwrap()).collect();
        Self { plan, workers, written: Layered::default(), late: 0 }
    }

    /// Rows by the worker that has the key, which is column `k`.
    fn give(&mut self, rows: &RecordBatch) {
        let mut hashes = Vec::new();
        let keys: [ArrayRef; 1] = [rows.column(0).clone()];
        hash_keys(&keys, rows.num_rows(), &mut hashes).unwrap();
        let count = self.workers.len();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let mine = hashes.iter().enumerate().filter(|(_, hash)| worker_of(key_group(**hash), count) == index);
            let mine = UInt32Array::from_iter_values(mine.map(|(row, _)| row as u32));
            let mut out = Output::default();
            let part = Delta::append(taken(rows, &mine));
            assert_eq!(worker.on_delta(0, part, &mut out).unwrap(), Step::Done);
            self.late += out.take().1;
        }
    }

    fn end(&mut self, now: i64, watermark: i64, over: bool) -> Vec<Vec<Value>> {
        let mut watermarks = Watermarks::none(1);
        watermarks.advance(WatermarkId(0), watermark);
        if over {
            watermarks.end();
        }
        let context = EpochContext { epoch: 1, now_micros: now, watermarks: &watermarks };
        let mut said = Vec::new();
        for worker in &mut self.workers {
            let mut out = Output::with_fuel(1);
            let mut step = worker.on_epoch_end(&context, &mut out).unwrap();
            loop {
                for delta in out.take().0 {
                    assert!(delta.weights().is_none());
                    said.extend(values(delta.rows()));
                }
                if step == Step::Done {
                    break;
                }
                step = worker.resume(&mut out).unwrap();
            }
        }
        said
    }

    fn write(&mut self, only_changes: bool) -> (usize, usize) {
        let mut operators: Vec<&mut dyn Operator> = self.workers.iter_mut().map(|of| of.as_mut() as _).collect();
        self.written.write(&mut operators, only_changes);
        let told = (self.written.rows, self.written.gone);
        self.written.check(&mut operators, "panes");
        told
    }

    /// Other workers go on from what was written down.
    fn restart(&mut self, count: usize) {
        self.workers = (0..count).map(|_| build(&self.plan, 1, Role::Whole).unwrap()).collect();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            worker.restore(self.written.parts_of(index, count)).unwrap();
        }
    }
}

/// A row of each of these keys.
fn of(keys: impl IntoIterator<Item = i64>) -> RecordBatch {
    let keys = Int64Array::from_iter_values(keys);
    let rows = random_rows(&mut StdRng::seed_from_u64(1), keys.len());
    let mut columns = rows.columns().to_vec();
    columns[0] = Arc::new(keys);
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn pane(key: i64, count: i64) -> Vec<Value> {
    vec![Value::Text(key.to_string()), Value::Text(count.to_string())]
}

/// The rows of a group that were not shown, and since when it waits.
#[derive(Default)]
struct Model {
    rows: Vec<RecordBatch>,
    since: Option<i64>,
    count: u64,
}

fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

fn live(sql: &str, seed: u64, firing: Firing) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut workers = Workers::new(plan(sql, firing, None), 3);
    let mut groups: BTreeMap<Option<i64>, Model> = BTreeMap::new();
    let mut now = 0;
    for epoch in 0..12 {
        let over = epoch == 11;
        let mut touched = Vec::new();
        for _ in 0..if over { 0 } else { random.random_range(0..3) } {
            let count = random.random_range(1..12);
            let rows = random_rows(random, count);
            workers.give(&rows);
            let keys = rows.column(0).as_primitive::<Int64Type>();
            for (row, key) in keys.iter().enumerate() {
                let model = groups.entry(key).or_default();
                model.rows.push(rows.slice(row, 1));
                model.since.get_or_insert(now);
                model.count += 1;
                touched.push(key);
            }
        }
        let said = workers.end(now, i64::MIN, over);
        let mut pane = Vec::new();
        for (key, model) in &mut groups {
            let enough = touched.contains(key) && firing.rows.is_some_and(|rows| model.count >= rows);
            let waited = firing.delay_micros.zip(model.since).is_some_and(|(delay, since)| now >= since + delay);
            if enough || waited || over || !firing.holds_back() {
                pane.append(&mut std::mem::take(model).rows);
            }
        }
        let pane = concat_batches(&schema(), &pane).unwrap();
        let expected = batch_answer(&pane, sql).unwrap();
        assert_same(&sorted(said), &sorted(expected), &format!("seed {seed}, epoch {epoch}, {firing:?}"));
        now += random.random_range(1..30);
        if random.random_bool(0.6) {
            workers.write(random.random_bool(0.9));
            if random.random_bool(0.3) {
                workers.written.compact(random.random_range(0..3));
            }
            if random.random_bool(0.4) {
                workers.restart([1, 2, 4][random.random_range(0..3)]);
            }
        }
    }
}

#[test]
fn each_pane_is_the_batch_answer_over_its_own_rows() {
    let none = Firing::default();
    let (delay_micros, rows) = (Some(40), Some(5));
    for sql in [
        "SELECT k, count(*), sum(i), min(i), max(s), count(DISTINCT j) FROM t GROUP BY k",
        "SELECT k, avg(j), bool_or(b), array_agg(i ORDER BY i, ts) FROM t GROUP BY k",
    ] {
        for seed in 0..12 {
            live(sql, seed, none);
            live(sql, seed, Firing { delay_micros, ..none });
            live(sql, seed, Firing { rows, ..none });
            live(sql, seed, Firing { delay_micros, rows, ..none });
        }
    }
}

#[test]
fn a_complete_group_shows_late_rows_at_once_and_a_closed_one_drops_them() {
    let watermark = WatermarkId(0);
    let firing = Firing { complete: Some((0, watermark, 0)), ..Firing::default() };
    let mut workers = Workers::new(plan("SELECT k, count(*) FROM t GROUP BY k", firing, Some((0, watermark, 2))), 3);
    workers.give(&of([5]));
    workers.give(&of([5]));
    assert!(workers.end(0, 4, false).is_empty());
    assert_eq!(workers.end(1, 5, false), [pane(5, 2)]);
    workers.give(&of([5]));
    assert_eq!(workers.end(2, 7, false), [pane(5, 1)], "a pane of what was late");
    workers.write(true);
    workers.restart(2);
    workers.give(&of([5]));
    assert_eq!(workers.end(3, 8, false), [pane(5, 1)], "the last time");
    workers.give(&of([5]));
    assert!(workers.end(4, 8, false).is_empty());
    assert_eq!(workers.late, 1);
}

#[test]
fn a_small_change_is_written_as_the_groups_that_it_reaches() {
    let firing = Firing { rows: Some(3), ..Firing::default() };
    let mut workers = Workers::new(plan("SELECT k, count(*) FROM t GROUP BY k", firing, None), 2);
    workers.give(&of(0..5_000));
    assert!(workers.end(0, 0, false).is_empty());
    workers.write(false);
    workers.give(&of([7, 10_000]));
    workers.end(1, 0, false);
    assert_eq!(workers.write(true), (2, 0));
    workers.give(&of([7, 10_000, 10_000]));
    assert_eq!(workers.end(2, 0, false).len(), 2);
    assert_eq!(workers.write(true), (0, 2), "what was shown is empty");
    workers.give(&of([20_000, 20_000, 20_000, 7]));
    assert_eq!(workers.end(3, 0, false), [pane(20_000, 3)]);
    assert_eq!(workers.write(true), (1, 0), "what came and went between two is in neither");
    workers.give(&of([7, 7]));
    assert_eq!(workers.end(4, 0, false), [pane(7, 3)]);
    workers.give(&of([7]));
    workers.end(5, 0, false);
    assert_eq!(workers.write(true), (1, 1), "it went and came again");
    workers.end(6, 0, false);
    assert_eq!(workers.write(true), (0, 0), "nothing has changed");
    workers.restart(4);
    workers.give(&of([7, 7]));
    assert_eq!(workers.end(7, 0, false), [pane(7, 3)]);
    assert_eq!(workers.write(true), (0, 1));
    let remembered: usize = workers.workers.iter().map(|worker| worker.state_size().rows).sum();
    assert_eq!(remembered, 4_999);
}
