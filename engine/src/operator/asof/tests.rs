//! As-of joins by hand, against a model that looks at all pairs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use datafusion::common::ToDFSchema;
use datafusion::logical_expr::col;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::operator::change::Layered;
use crate::plan::flow::{AsOfSide, FlowOp, FlowProperties};
use crate::time::WatermarkId;

/// A row: key, time, value.
type Row3 = (Option<i64>, Option<i64>, i64);

/// Rows and how often each is there.
type Sum<T> = BTreeMap<T, i64>;

/// A joined row: the left one, and the right one if there is one.
type Pair = (Row3, Option<Row3>);

fn input(side: &str, changelog: bool) -> FlowNode {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = [("k", DataType::Int64), ("t", time), ("x", DataType::Int64)];
    let fields = fields.map(|(name, data_type)| Field::new(format!("{side}{name}"), data_type, true));
    FlowNode {
        id: side.to_owned(),
        op: FlowOp::Union,
        inputs: Vec::new(),
        schema: Arc::new(Schema::new(fields.to_vec()).to_dfschema().unwrap()),
        properties: FlowProperties { changelog, ..FlowProperties::default() },
    }
}

fn spec(side: AsOfSide, keeps_unmatched: bool, changelogs: [bool; 2], watermarks: [bool; 2], emit: Emit) -> AsOfSpec {
    AsOfSpec {
        keeps_unmatched,
        on: vec![(col("lk"), col("rk"))],
        times: (col("lt"), col("rt")),
        side,
        ties: vec![0, 1, 2],
        changelogs,
        promises: [0, 1].map(|side: u32| watermarks[side as usize].then_some((WatermarkId(side), 0))),
        emit,
    }
}

fn operator(spec: &AsOfSpec) -> AsOf {
    let inputs = [input("l", spec.changelogs[0]), input("r", spec.changelogs[1])];
    let fields: Vec<_> = inputs.iter().flat_map(|input| input.schema.fields().iter().cloned()).collect();
    AsOf::new(spec, [&inputs[0], &inputs[1]], Arc::new(Schema::new(fields))).unwrap()
}

fn delta(schema: SchemaRef, rows: &[(Row3, i64)], changelog: bool) -> Delta {
    let column = |of: fn(&Row3) -> Option<i64>| -> ArrayRef {
        Arc::new(Int64Array::from_iter(rows.iter().map(|(row, _)| of(row))))
    };
    let times = TimestampMicrosecondArray::from_iter(rows.iter().map(|(row, _)| row.1));
    let columns = vec![column(|row| row.0), Arc::new(times) as ArrayRef, column(|row| Some(row.2))];
    let rows_ = RecordBatch::try_new(schema, columns).unwrap();
    match changelog {
        true => Delta::weighted(rows_, Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight))),
        false => Delta::append(rows_),
    }
}

fn pairs(rows: &RecordBatch) -> Vec<Pair> {
    let columns: Vec<Int64Array> = rows
        .columns()
        .iter()
        .map(|column| arrow::compute::cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().clone())
        .collect();
    let value = |column: usize, row: usize| columns[column].is_valid(row).then(|| columns[column].value(row));
    let row3 = |first: usize, row: usize| Some((value(first, row), value(first + 1, row), value(first + 2, row)?));
    (0..rows.num_rows()).map(|row| (row3(0, row).unwrap(), row3(3, row))).collect()
}

/// An operator under test and what it has said.
struct Run {
    join: AsOf,
    spec: AsOfSpec,
    sum: Sum<Pair>,
    said: usize,
    late: u64,
    rng: SmallRng,
}

impl Run {
    fn new(spec: AsOfSpec, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { join: operator(&spec), spec, sum: Sum::new(), said: 0, late: 0, rng }
    }

    fn epoch(&mut self, changes: [&[(Row3, i64)]; 2], at: [i64; 2]) {
        self.said = 0;
        let mut watermarks = Watermarks::none(2);
        for (side, at) in at.into_iter().enumerate() {
            watermarks.advance(WatermarkId(side as u32), at);
        }
        for (side, changes) in changes.into_iter().enumerate() {
            for piece in changes.chunks(self.rng.random_range(1..6)) {
                let schema = Arc::clone(&self.join.sides[side].schema);
                let mut out = Output::with_fuel(1);
                let changelog = self.spec.changelogs[side];
                let _ = self.join.on_delta(side, delta(schema, piece, changelog), &mut out).unwrap();
                self.hear(&mut out);
            }
        }
        let mut out = Output::with_fuel(self.rng.random_range(1..20));
        let context = EpochContext { epoch: 1, now_micros: 0, watermarks: &watermarks };
        let mut step = self.join.on_epoch_end(&context, &mut out).unwrap();
        self.hear(&mut out);
        while step == Step::Yield {
            step = self.join.resume(&mut out).unwrap();
            self.hear(&mut out);
        }
        self.sum.retain(|_, weight| *weight != 0);
        assert!(self.sum.values().all(|weight| *weight > 0), "a row is there less than never: {:?}", self.sum);
    }

    fn hear(&mut self, out: &mut Output) {
        let (deltas, late) = out.take();
        self.late += late;
        for delta in deltas {
            assert_eq!(delta.weights().is_some(), self.spec.emit == Emit::OnChange);
            self.said += delta.num_rows();
            for (row, pair) in pairs(delta.rows()).into_iter().enumerate() {
                *self.sum.entry(pair).or_default() += delta.weight(row);
            }
        }
    }

    /// Another operator goes on from what was written down just now.
    fn restart(&mut self, written: &Layered) {
        let size = self.join.state_size().rows;
        self.join = operator(&self.spec);
        self.join.restore(written.parts_of(0, 1)).unwrap();
        assert_eq!(self.join.state_size().rows, size);
    }
}

/// By the definition: of all right rows on the right side of the left row the nearest, of those the first by value.
fn model(spec: &AsOfSpec, rows: &[Sum<Row3>; 2]) -> Sum<Pair> {
    let mut sum = Sum::new();
    for (left, weight) in &rows[0] {
        let fits = |right: &&Row3| {
            let (Some(key), Some(time), Some(right_time)) = (left.0, left.1, right.1) else { return false };
            right.0 == Some(key)
                && match spec.side {
                    AsOfSide::AtOrBefore => time >= right_time,
                    AsOfSide::Before => time > right_time,
                    AsOfSide::AtOrAfter => time <= right_time,
                    AsOfSide::After => time < right_time,
                }
        };
        let found = rows[1].keys().filter(fits);
        let distance = |right: &&Row3| (left.1.unwrap_or(0) - right.1.unwrap_or(0)).abs();
        let nearest = found.min_by_key(|right| (distance(right), right.2)).copied();
        if nearest.is_some() || spec.keeps_unmatched {
            *sum.entry((*left, nearest)).or_default() += weight;
        }
    }
    sum.retain(|_, weight| *weight != 0);
    sum
}

const SIDES: [AsOfSide; 4] = [AsOfSide::AtOrBefore, AsOfSide::Before, AsOfSide::AtOrAfter, AsOfSide::After];

/// Random rows of an epoch: some come at or above `from`, and of a changelog some go that lie there.
fn random_changes(rng: &mut SmallRng, present: &Sum<Row3>, changelog: bool, from: i64) -> Vec<(Row3, i64)> {
    let mut changes = Vec::new();
    if changelog {
        for (row, weight) in present {
            if row.1.is_none_or(|time| time >= from) && rng.random_bool(0.3) {
                changes.push((*row, -rng.random_range(1..=*weight)));
            }
        }
    }
    for _ in 0..rng.random_range(0..8) {
        let key = (!rng.random_bool(0.05)).then(|| rng.random_range(0..3));
        let time = (!rng.random_bool(0.05)).then(|| from + rng.random_range(0..12));
        let row = (key, time, rng.random_range(0..4));
        let weight = if changelog { rng.random_range(1..3) } else { 1 };
        changes.push((row, weight));
        if changelog && rng.random_bool(0.2) {
            changes.push((row, -weight));
        }
    }
    changes
}

fn random_case(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let changelogs = [rng.random_bool(0.4), rng.random_bool(0.5)];
    let watermarks = [rng.random_bool(0.7), rng.random_bool(0.7)];
    let spec_of = |emit| spec(SIDES[seed as usize % 4], seed % 8 < 4, changelogs, watermarks, emit);
    let can_wait = !changelogs[0] && spec_of(Emit::OnChange).settles().is_some();
    let emit = if can_wait && rng.random_bool(0.5) { Emit::AfterWatermark } else { Emit::OnChange };
    let spec = spec_of(emit);
    let mut run = Run::new(spec.clone(), seed);
    let mut rows = [Sum::new(), Sum::new()];
    let mut at = [0, 0];
    let mut written = Layered::default();
    let epochs = rng.random_range(2..10);
    for epoch in 0..epochs {
        let from = [0, 1].map(|side: usize| if watermarks[side] { at[side] } else { 0 });
        let changes = [0, 1].map(|side| random_changes(&mut rng, &rows[side], changelogs[side], from[side]));
        for (rows, changes) in rows.iter_mut().zip(&changes) {
            changes.iter().for_each(|(row, weight)| *rows.entry(*row).or_default() += weight);
            rows.retain(|_, weight| *weight != 0);
        }
        for at in &mut at {
            *at = if epoch + 1 == epochs { i64::MAX } else { *at + rng.random_range(0..8) };
        }
        run.epoch([&changes[0], &changes[1]], at);
        let expected = model(&spec, &rows);
        if emit == Emit::OnChange || epoch + 1 == epochs {
            assert_eq!(run.sum, expected, "seed {seed}, epoch {epoch}, {spec:?}");
        } else {
            // What is shown is final, so it is what will be shown: checked at the end.
            assert!(run.sum.values().sum::<i64>() <= rows[0].values().sum::<i64>());
        }
        if rng.random_bool(0.6) && epoch + 1 < epochs {
            written.write(&mut [&mut run.join], rng.random_bool(0.9));
            written.check(&mut [&mut run.join], &format!("seed {seed}, epoch {epoch}, {spec:?}"));
            if rng.random_bool(0.3) {
                written.compact(rng.random_range(0..3));
            }
            if rng.random_bool(0.5) {
                run.restart(&written);
            }
        }
    }
    assert_eq!(run.late, 0);
    if emit == Emit::AfterWatermark {
        let left = run.join.keys.iter().map(|key| key.to_write(0, true).count()).sum::<usize>();
        assert_eq!(left, 0, "seed {seed}: left rows wait after the end");
    }
}

#[test]
fn random_changes_give_what_the_definition_says() {
    (0..2_000).for_each(random_case);
}

fn row(key: i64, time: i64, value: i64) -> Row3 {
    (Some(key), Some(time), value)
}

#[test]
fn a_change_on_the_right_concerns_one_stretch() {
    let spec = spec(AsOfSide::AtOrBefore, true, [false, true], [false, false], Emit::OnChange);
    let mut run = Run::new(spec, 1);
    let left: Vec<(Row3, i64)> = (0..1_000).map(|time| (row(1, time, 0), 1)).collect();
    let right: Vec<(Row3, i64)> = (0..100).map(|n| (row(1, n * 10, 7), 1)).collect();
    run.epoch([&left, &right], [0, 0]);
    assert_eq!(run.said, 1_000);
    run.epoch([&[], &[(row(1, 505, 8), 1)]], [0, 0]);
    assert_eq!(run.said, 10, "five rows have another right row");
    // A row of the same time that is not the first one is met by nobody; a copy of the first is no news either.
    run.epoch([&[], &[(row(1, 505, 9), 1), (row(1, 505, 8), 1)]], [0, 0]);
    assert_eq!(run.said, 0);
    run.epoch([&[], &[(row(1, 505, 8), -2)]], [0, 0]);
    assert_eq!(run.said, 10, "the second one takes its place");
    run.epoch([&[], &[(row(1, 505, 9), -1), (row(1, 505, 6), 1), (row(1, 505, 6), -1)]], [0, 0]);
    assert_eq!(run.said, 10);
    run.epoch([&[(row(2, 3, 0), 1)], &[]], [0, 0]);
    assert_eq!(run.sum[&(row(2, 3, 0), None)], 1);
}

#[test]
fn a_small_change_is_written_as_rows() {
    let spec = spec(AsOfSide::AtOrBefore, true, [false, true], [true, true], Emit::OnChange);
    let mut run = Run::new(spec, 1);
    let rows: Vec<(Row3, i64)> = (0..2_000).map(|n| (row(n % 7, n, 0), 1)).collect();
    run.epoch([&rows, &rows], [0, 0]);
    let mut written = Layered::default();
    written.write(&mut [&mut run.join], false);
    run.epoch([&[(row(3, 500, 1), 1)], &[(row(3, 3, 0), -1), (row(3, 10, 0), 1), (row(3, 11, 5), 1)]], [0, 0]);
    run.epoch([&[], &[(row(3, 11, 5), -1)]], [0, 0]);
    written.write(&mut [&mut run.join], true);
    assert_eq!((written.rows, written.gone), (2, 1), "one that came, one that is there twice, one that went");
    written.write(&mut [&mut run.join], true);
    assert_eq!((written.rows, written.gone), (0, 0), "nothing has changed");
    // Left rows are settled and right ones are released.
    run.epoch([&[], &[]], [5, 5]);
    written.write(&mut [&mut run.join], true);
    assert_eq!(written.rows, 0);
    written.check(&mut [&mut run.join], "some were let go");
    assert!(written.gone > 4, "{}", written.gone);
    run.restart(&written);
}

#[test]
fn a_temporal_join_waits_and_lets_go() {
    let spec = spec(AsOfSide::AtOrBefore, true, [false, false], [true, true], Emit::AfterWatermark);
    let mut run = Run::new(spec, 1);
    let rates = [(row(1, 10, 100), 1), (row(1, 20, 200), 1), (row(2, 5, 7), 1)];
    run.epoch([&[(row(1, 25, 0), 1), (row(1, 15, 1), 1)], &rates], [10, 20]);
    assert_eq!(run.sum, Sum::from([((row(1, 15, 1), Some(row(1, 10, 100))), 1)]), "25 may get a nearer one");
    // A version between comes late in order, but not below the watermark.
    run.epoch([&[], &[(row(1, 22, 220), 1)]], [23, 26]);
    assert_eq!(run.sum[&(row(1, 25, 0), Some(row(1, 22, 220)))], 1);
    assert_eq!(run.join.state_size().rows, 2, "the latest version of each key, and no others");
    // Below the watermarks as they stood before.
    run.epoch([&[(row(1, 22, 9), 1), (row(1, 23, 3), 2)], &[(row(1, 25, 1), 1), (row(1, 26, 260), 1)]], [30, 30]);
    assert_eq!(run.late, 2);
    assert_eq!(run.sum[&(row(1, 23, 3), Some(row(1, 22, 220)))], 1);
    assert_eq!(run.join.state_size().rows, 2);
    run.epoch([&[(row(3, 40, 1), 1), ((None, Some(41), 1), 1)], &[]], [40, 40]);
    assert_eq!(run.sum[&((None, Some(41), 1), None)], 1, "a row without a key waits for nothing");
    assert!(!run.sum.contains_key(&(row(3, 40, 1), None)));
    run.epoch([&[], &[]], [i64::MAX, i64::MAX]);
    assert_eq!(run.sum[&(row(3, 40, 1), None)], 1);
    assert_eq!((run.join.state_size().rows, run.join.slots.len()), (0, 0));
}

#[test]
fn looking_ahead_is_settled_by_the_row_that_is_met() {
    let spec = spec(AsOfSide::After, false, [false, false], [true, true], Emit::AfterWatermark);
    let mut run = Run::new(spec, 1);
    run.epoch([&[(row(1, 10, 0), 1), (row(1, 20, 1), 1)], &[(row(1, 20, 5), 1)]], [15, 20]);
    assert!(run.sum.is_empty());
    run.epoch([&[], &[]], [20, 21]);
    assert_eq!(run.sum, Sum::from([((row(1, 10, 0), Some(row(1, 20, 5))), 1)]));
    run.epoch([&[], &[(row(1, 30, 6), 1)]], [31, 31]);
    assert_eq!(run.sum.len(), 2);
    assert_eq!(run.join.state_size().rows, 0);
}

#[test]
fn state_stays_as_small_as_what_may_still_matter() {
    for side in SIDES {
        for emit in [Emit::OnChange, Emit::AfterWatermark] {
            let mut run = Run::new(spec(side, true, [false, false], [true, true], emit), 1);
            for second in 0..200 {
                let rows: Vec<(Row3, i64)> = (0..10).map(|n| (row(n % 4, second * 10 + n, n), 1)).collect();
                run.epoch([&rows, &rows], [second * 10 + 5, second * 10 + 5]);
                assert!(run.join.state_size().rows < 60, "{side:?} {emit:?}: {:?}", run.join.state_size());
            }
        }
    }
}

#[test]
fn a_row_that_never_came_cannot_go() {
    let mut run = Run::new(spec(AsOfSide::Before, false, [true, true], [false, false], Emit::OnChange), 1);
    let schema = Arc::clone(&run.join.sides[1].schema);
    let mut out = Output::default();
    let _ = run.join.on_delta(1, delta(schema, &[(row(1, 1, 1), -1)], true), &mut out).unwrap();
    let context = EpochContext { epoch: 1, now_micros: 0, watermarks: &Watermarks::none(2) };
    assert!(run.join.on_epoch_end(&context, &mut out).is_err());
}
