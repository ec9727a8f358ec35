//! The join against DataFusion's batch join, and what it promises about memory.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Float64Array, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DFSchema, JoinType, TableReference};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, build_join_schema, col, lit};
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::operator::change::Written;
use crate::plan::flow::{FlowOp, FlowProperties, TimeColumn};
use crate::time::{WatermarkId, Watermarks};

mod checkpoints;
mod kinds;
mod shared;
mod speed;
mod spilling;

/// A row of either side: a key with NULLs and few values, a text, a float, a number.
type Row = (Option<i64>, Option<String>, Option<f64>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("s", DataType::Utf8View, true),
        Field::new("f", DataType::Float64, true),
        Field::new("v", DataType::Int64, false),
    ]))
}

fn rows(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))),
        Arc::new(StringViewArray::from_iter(rows.iter().map(|row| row.1.as_deref()))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.2))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
    ];
    batch(&schema(), columns, rows.len()).unwrap()
}

fn node(name: &str, schema: &SchemaRef, changelog: bool, time_columns: Vec<TimeColumn>) -> FlowNode {
    FlowNode {
        id: name.to_owned(),
        op: FlowOp::Values { rows: Vec::new() },
        inputs: Vec::new(),
        schema: Arc::new(DFSchema::try_from_qualified_schema(TableReference::bare(name), schema).unwrap()),
        properties: FlowProperties { changelog, keys: Vec::new(), time_columns },
    }
}

/// A join node over two others.
fn join_node(left: &FlowNode, right: &FlowNode, op: FlowOp) -> FlowNode {
    let FlowOp::Join { kind, emit, .. } = &op else { panic!("a join") };
    let join_type = match kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::Left => JoinType::Left,
        JoinKind::Right => JoinType::Right,
        JoinKind::Full => JoinType::Full,
        JoinKind::LeftSemi => JoinType::LeftSemi,
        JoinKind::LeftAnti => JoinType::LeftAnti,
        JoinKind::LeftMark => JoinType::LeftMark,
    };
    let corrected = (kind.shows_unmatched(0) || kind.shows_unmatched(1)) && *emit == Emit::OnChange;
    let changelog = left.properties.changelog || right.properties.changelog || corrected;
    FlowNode {
        id: "join".to_owned(),
        inputs: vec![0, 1],
        schema: Arc::new(build_join_schema(&left.schema, &right.schema, &join_type).unwrap()),
        op,
        properties: FlowProperties { changelog, keys: Vec::new(), time_columns: Vec::new() },
    }
}

/// An inner join that shows its rows at once.
fn inner(on: Vec<(Expr, Expr)>) -> FlowOp {
    FlowOp::Join { kind: JoinKind::Inner, on, residual: None, null_equals_null: false, emit: Emit::OnChange }
}

struct Case {
    changelog: [bool; 2],
    on: Vec<(Expr, Expr)>,
    residual: Option<Expr>,
    null_equals_null: bool,
    sql: &'static str,
}

impl Case {
    fn join(&self) -> Join {
        self.join_of(JoinKind::Inner)
    }

    fn join_of(&self, kind: JoinKind) -> Join {
        let left = node("l", &schema(), self.changelog[0], Vec::new());
        let right = node("r", &schema(), self.changelog[1], Vec::new());
        let (on, residual) = (self.on.clone(), self.residual.clone());
        let op = FlowOp::Join { kind, on, residual, null_equals_null: self.null_equals_null, emit: Emit::OnChange };
        Join::new(&left, &right, &join_node(&left, &right, op)).unwrap()
    }
}

fn cases() -> Vec<Case> {
    let by_key = || vec![(col("l.k"), col("r.k"))];
    let case = |changelog, on, residual, null_equals_null, sql| Case { changelog, on, residual, null_equals_null, sql };
    vec![
        case([false, false], by_key(), None, false, "l.k = r.k"),
        case([true, false], by_key(), None, false, "l.k = r.k"),
        case([true, true], by_key(), Some(col("l.v").lt(col("r.v"))), false, "l.k = r.k AND l.v < r.v"),
        case(
            [false, true],
            vec![(col("l.k"), col("r.k")), (col("l.s"), col("r.s"))],
            None,
            true,
            "(l.k IS NOT DISTINCT FROM r.k) AND (l.s IS NOT DISTINCT FROM r.s)",
        ),
        case([true, true], vec![(col("l.f"), col("r.f"))], None, false, "l.f = r.f"),
        case(
            [true, true],
            vec![(col("l.v") % lit(3_i64), col("r.k"))],
            Some(col("l.s").eq(col("r.s")).or(col("l.s").is_null())),
            false,
            "l.v % 3 = r.k AND (l.s = r.s OR l.s IS NULL)",
        ),
        case([false, true], Vec::new(), Some(col("l.v").lt(col("r.k"))), false, "l.v < r.k"),
        case([true, false], Vec::new(), None, false, "true"),
        case([false, false], by_key(), Some(col("l.v").not_eq(col("r.v"))), false, "l.k = r.k AND l.v <> r.v"),
    ]
}

fn random_row(rng: &mut SmallRng) -> Row {
    let key = (!rng.random_bool(0.1)).then(|| rng.random_range(0..6));
    let text = (!rng.random_bool(0.2)).then(|| {
        let tail = if rng.random_bool(0.3) { " and a tail that does not fit a view" } else { "" };
        format!("t{}{tail}", rng.random_range(0..3))
    });
    let float = match rng.random_range(0..5) {
        0 => None,
        1 => Some(f64::NAN),
        n => Some(f64::from(n) / 2.0),
    };
    (key, text, float, rng.random_range(0..8))
}

/// A random change of `contents`, applied to it: inserts, and of a changelog deletes, also of rows inserted just now. That
/// of a changelog may also have rows only that come, some of them more than once.
fn random_delta(rng: &mut SmallRng, contents: &mut Vec<Row>, changelog: bool) -> Delta {
    let (mut changed, mut weights) = (Vec::new(), Vec::new());
    let changelog = changelog && rng.random_bool(0.7);
    for _ in 0..rng.random_range(0..40) {
        if changelog && !contents.is_empty() && rng.random_bool(0.45) {
            let row = contents.swap_remove(rng.random_range(0..contents.len()));
            changed.push(row);
            weights.push(-1);
        } else {
            let row = match changed.last() {
                Some(last) if rng.random_bool(0.1) => Row::clone(last),
                _ => random_row(rng),
            };
            let times = if changelog && rng.random_bool(0.1) { 3 } else { 1 };
            contents.extend(std::iter::repeat_n(row.clone(), times));
            changed.push(row);
            weights.push(times as i64);
        }
    }
    let batch = rows(&changed);
    if changelog { Delta::weighted(batch, Int64Array::from(weights)) } else { Delta::append(batch) }
}

/// Rows as text, with how often each is there.
fn add(counts: &mut BTreeMap<String, i64>, delta: &Delta) {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = delta
        .rows()
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    for row in 0..delta.num_rows() {
        let text = columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
        *counts.entry(text).or_default() += delta.weight(row);
    }
    counts.retain(|_, count| *count != 0);
}

/// Gives the join a delta with little fuel, and sums what it says.
fn feed(join: &mut Join, input: usize, delta: Delta, counts: &mut BTreeMap<String, i64>) {
    let mut out = Output::with_fuel(16);
    let mut step = join.on_delta(input, delta, &mut out).unwrap();
    loop {
        let (deltas, _) = out.take();
        deltas.iter().for_each(|delta| add(counts, delta));
        if step == Step::Done {
            return;
        }
        step = join.resume(&mut out).unwrap();
    }
}

fn end_epoch_saying(join: &mut Join, watermarks: &Watermarks) -> Vec<Delta> {
    let context = EpochContext { epoch: 1, now_micros: 0, watermarks };
    let mut out = Output::with_fuel(16);
    let mut step = join.on_epoch_end(&context, &mut out).unwrap();
    let mut deltas = out.take().0;
    while step == Step::Yield {
        step = join.resume(&mut out).unwrap();
        deltas.extend(out.take().0);
    }
    deltas
}

/// Ends the epoch, and sums what the join says.
fn settle_epoch(join: &mut Join, watermarks: &Watermarks, counts: &mut BTreeMap<String, i64>) {
    end_epoch_saying(join, watermarks).iter().for_each(|delta| add(counts, delta));
}

/// A few changes of either input, and the epoch's end. They come in any order: within an epoch a row may go before it comes.
fn random_epoch(
    join: &mut Join,
    case: &Case,
    rng: &mut SmallRng,
    contents: &mut [Vec<Row>; 2],
    counts: &mut BTreeMap<String, i64>,
) {
    let mut deltas: Vec<(usize, Delta)> = Vec::new();
    for _ in 0..rng.random_range(0..5) {
        let input = rng.random_range(0..2);
        deltas.push((input, random_delta(rng, &mut contents[input], case.changelog[input])));
    }
    deltas.shuffle(rng);
    for (input, delta) in deltas {
        feed(join, input, delta, counts);
    }
    settle_epoch(join, &Watermarks::none(0), counts);
}

fn batch_join(contents: &[Vec<Row>; 2], condition: &str) -> BTreeMap<String, i64> {
    batch_answer(contents, &format!("SELECT * FROM l JOIN r ON {condition}"))
}

fn batch_answer(contents: &[Vec<Row>; 2], sql: &str) -> BTreeMap<String, i64> {
    // DataFusion spawns tasks for some joins.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        for (name, contents) in ["l", "r"].into_iter().zip(contents) {
            let table = MemTable::try_new(schema(), vec![vec![rows(contents)]]).unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        let mut counts = BTreeMap::new();
        for rows in context.sql(sql).await.unwrap().collect().await.unwrap() {
            add(&mut counts, &Delta::append(rows));
        }
        counts
    })
}

#[test]
fn random_changes_sum_to_the_batch_join() {
    for (number, case) in cases().iter().enumerate() {
        for seed in 0..12 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut join = case.join();
            let mut contents = [Vec::new(), Vec::new()];
            let mut counts = BTreeMap::new();
            let mut written = Written::default();
            for _ in 0..6 {
                for _ in 0..rng.random_range(1..5) {
                    let input = rng.random_range(0..2);
                    let delta = random_delta(&mut rng, &mut contents[input], case.changelog[input]);
                    feed(&mut join, input, delta, &mut counts);
                }
                settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
                if rng.random_bool(0.6) {
                    written.write(&mut join, rng.random_bool(0.9));
                    if rng.random_bool(0.5) {
                        join = case.join();
                        join.restore(written.parts()).unwrap();
                    }
                }
            }
            assert!(counts.values().all(|count| *count > 0));
            assert_eq!(counts, batch_join(&contents, case.sql), "case {number}, seed {seed}");
        }
    }
}

#[test]
fn rows_that_are_all_deleted_leave_nothing() {
    let case = &cases()[2];
    let mut join = case.join();
    let mut counts = BTreeMap::new();
    // One key for all: leaving a chain must not depend on its length.
    let many: Vec<Row> =
        (0..60_000).map(|n| (Some(1), Some(format!("text number {n}, with some length")), None, n)).collect();
    for part in many.chunks(5000) {
        feed(&mut join, 0, Delta::weighted(rows(part), Int64Array::from_value(1, part.len())), &mut counts);
    }
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    let full = join.state_size();
    assert_eq!(full.rows, 60_000);
    for part in many[..55_000].chunks(7000) {
        feed(&mut join, 0, Delta::weighted(rows(part), Int64Array::from_value(-1, part.len())), &mut counts);
    }
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    let few = join.state_size();
    assert_eq!(few.rows, 5000);
    assert!(few.bytes < full.bytes / 4, "{} of {}", few.bytes, full.bytes);
    feed(&mut join, 1, Delta::append(rows(&[(Some(1), None, None, 1_000_000)])), &mut counts);
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    assert_eq!(counts.len(), 5000);
    feed(&mut join, 0, Delta::weighted(rows(&many[55_000..]), Int64Array::from_value(-1, 5000)), &mut counts);
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    assert_eq!(counts.len(), 0);
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    assert_eq!(join.state_size().rows, 1);
}

#[test]
fn a_hot_key_comes_out_in_pieces() {
    let case = &cases()[0];
    let mut join = case.join();
    let mut counts = BTreeMap::new();
    let hot: Vec<Row> = (0..10_000).map(|n| (Some(1), Some("a text of some length".to_owned()), None, n)).collect();
    for _ in 0..20 {
        feed(&mut join, 1, Delta::append(rows(&hot)), &mut counts);
    }
    let probes: Vec<Row> = (0..64).map(|n| (Some(1), None, None, n)).collect();
    let mut out = Output::default();
    let mut step = join.on_delta(0, Delta::append(rows(&probes)), &mut out).unwrap();
    let (mut total, mut calls) = (0, 0);
    loop {
        let (deltas, _) = out.take();
        let emitted: usize = deltas.iter().map(Delta::num_rows).sum();
        let bytes: usize = deltas.iter().map(Delta::memory_size).sum();
        assert!(emitted < Output::FUEL + PIECE && bytes < 16 << 20, "{emitted} rows, {bytes} bytes in one call");
        total += emitted;
        calls += 1;
        if step == Step::Done {
            break;
        }
        step = join.resume(&mut out).unwrap();
    }
    assert_eq!(total, 64 * 200_000);
    assert!(calls >= total / (Output::FUEL + PIECE));
}

#[test]
fn a_condition_that_never_holds_yields_as_well() {
    let mut case = cases().swap_remove(0);
    case.residual = Some(col("l.v").gt(col("r.v")));
    let mut join = case.join();
    let hot: Vec<Row> = (0..10_000).map(|n| (Some(1), None, None, n)).collect();
    let mut counts = BTreeMap::new();
    for _ in 0..10 {
        feed(&mut join, 1, Delta::append(rows(&hot)), &mut counts);
    }
    let probes: Vec<Row> = (0..10).map(|_| (Some(1), None, None, -1)).collect();
    let mut out = Output::default();
    let mut step = join.on_delta(0, Delta::append(rows(&probes)), &mut out).unwrap();
    let mut calls = 1;
    while step == Step::Yield {
        step = join.resume(&mut out).unwrap();
        calls += 1;
    }
    assert!(out.take().0.is_empty());
    assert_eq!(calls, (10 * 100_000_usize).div_ceil(CANDIDATES_PER_CALL));
}

#[test]
fn small_rows_out_of_large_batches_are_copied() {
    let case = &cases()[0];
    let mut join = case.join();
    let mut counts = BTreeMap::new();
    let large: Vec<Row> = (0..8192).map(|n| (Some(n), Some(format!("a long text with number {n}")), None, n)).collect();
    for _ in 0..50 {
        let delta = Delta::append(rows(&large)).slice(100, 2);
        feed(&mut join, 0, delta, &mut counts);
    }
    let size = join.state_size();
    assert_eq!(size.rows, 100);
    assert!(size.bytes < 64 << 10, "{}", size.bytes);
}

fn windows() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("window_end", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn window_rows(rows: &[(i64, i64)]) -> RecordBatch {
    let ends: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    batch(&windows(), vec![ends, values], rows.len()).unwrap()
}

fn window_join(changelog: bool) -> Join {
    let time =
        |watermark, delay_micros| vec![TimeColumn { column: 0, watermark: WatermarkId(watermark), delay_micros }];
    let left = node("l", &windows(), changelog, time(0, 0));
    let right = node("r", &windows(), changelog, time(1, 2_000_000));
    let op = inner(vec![(col("l.window_end"), col("r.window_end"))]);
    Join::new(&left, &right, &join_node(&left, &right, op)).unwrap()
}

#[test]
fn rows_below_the_other_sides_watermark_are_let_go() {
    for changelog in [false, true] {
        let mut join = window_join(changelog);
        let mut counts = BTreeMap::new();
        let all: Vec<(i64, i64)> = (0..20_000).map(|n| (n, n)).collect();
        feed(&mut join, 0, Delta::append(window_rows(&all)), &mut counts);
        feed(&mut join, 1, Delta::append(window_rows(&all[..50])), &mut counts);
        let mut watermarks = Watermarks::none(2);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(counts.len(), 50);
        assert_eq!(join.state_size().rows, 20_050);
        // The left side promises 30 ms and on: right rows below go. The right side lags by two seconds.
        watermarks.advance(WatermarkId(0), 30_000);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(join.state_size().rows, 20_020);
        watermarks.advance(WatermarkId(1), 17_000_500 + 2_000_000);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(join.state_size().rows, 20_000 - 17_001 + 20);
        // What remains still matches; what comes too late to be matched again is not kept.
        feed(&mut join, 1, Delta::append(window_rows(&[(18_000, 1)])), &mut counts);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(counts.len(), 51);
        let before = join.state_size().rows;
        feed(&mut join, 0, Delta::append(window_rows(&[(40, 5), (16_000, 5)])), &mut counts);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(counts.len(), 52);
        assert_eq!(join.state_size().rows, before);
        // Below what its own side has promised: late, and of a changelog only without a match.
        let mut out = Output::default();
        let _ = join.on_delta(0, Delta::append(window_rows(&[(29, 5)])), &mut out).unwrap();
        assert_eq!(out.take().1, if changelog { 0 } else { 1 });
        assert_eq!(join.state_size().rows, before);
        // A restored join knows as well.
        let parts = join.snapshot().unwrap();
        let mut join = window_join(changelog);
        join.restore(parts).unwrap();
        let _ = join.on_delta(0, Delta::append(window_rows(&[(29, 5)])), &mut out).unwrap();
        assert_eq!(out.take().1, if changelog { 0 } else { 1 });
        assert_eq!(join.state_size().rows, before);
        watermarks.advance(WatermarkId(1), i64::MAX);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(join.state_size().rows, 21);
    }
}

#[test]
fn a_row_may_be_retracted_after_it_was_let_go() {
    let mut join = window_join(true);
    let mut counts = BTreeMap::new();
    feed(&mut join, 0, Delta::append(window_rows(&[(10, 1)])), &mut counts);
    feed(&mut join, 1, Delta::append(window_rows(&[(10, 2)])), &mut counts);
    let mut watermarks = Watermarks::none(2);
    watermarks.advance(WatermarkId(1), 5_000_000);
    settle_epoch(&mut join, &watermarks, &mut counts);
    assert_eq!(counts.len(), 1);
    assert_eq!(join.state_size().rows, 1);
    feed(&mut join, 0, Delta::weighted(window_rows(&[(10, 1)]), Int64Array::from(vec![-1])), &mut counts);
    settle_epoch(&mut join, &watermarks, &mut counts);
    assert!(counts.is_empty());
    assert_eq!(join.state_size().rows, 1);
}

#[test]
fn a_row_that_was_retracted_needs_no_release() {
    let mut join = window_join(true);
    let mut counts = BTreeMap::new();
    feed(&mut join, 0, Delta::append(window_rows(&[(10, 1), (9_000, 1), (9_001, 1)])), &mut counts);
    feed(&mut join, 0, Delta::weighted(window_rows(&[(10, 1)]), Int64Array::from(vec![-1])), &mut counts);
    let mut watermarks = Watermarks::none(2);
    watermarks.advance(WatermarkId(1), 5_000_000);
    settle_epoch(&mut join, &watermarks, &mut counts);
    assert_eq!(join.state_size().rows, 2);
}

#[test]
fn a_snapshot_goes_to_the_workers_of_its_key_groups() {
    use crate::state::key_group::{hash_keys, key_group, worker_of};
    let case = &cases()[3];
    let mut join = case.join();
    let mut counts = BTreeMap::new();
    let mut rng = SmallRng::seed_from_u64(3);
    let mut contents = [Vec::new(), Vec::new()];
    for _ in 0..20 {
        for (input, contents) in contents.iter_mut().enumerate() {
            let delta = random_delta(&mut rng, contents, case.changelog[input]);
            feed(&mut join, input, delta, &mut counts);
        }
        settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    }
    let parts = join.snapshot().unwrap();
    let mut workers: Vec<Join> = (0..3).map(|_| case.join()).collect();
    for (worker, join) in workers.iter_mut().enumerate() {
        for part in &parts {
            let groups = part.rows.column(0).as_primitive::<arrow::datatypes::UInt8Type>();
            let mine = groups.iter().map(|group| group.map(|group| worker_of(group, 3) == worker)).collect();
            let rows = arrow::compute::filter_record_batch(&part.rows, &mine).unwrap();
            join.restore(vec![StatePart { name: part.name.clone(), rows }]).unwrap();
        }
    }
    let sizes: Vec<usize> = workers.iter().map(|join| join.state_size().rows).collect();
    assert_eq!(sizes.iter().sum::<usize>(), join.state_size().rows);
    for _ in 0..10 {
        let delta = random_delta(&mut rng, &mut contents[1], true);
        let mut hashes = Vec::new();
        let keys = delta.rows().columns()[..2].to_vec();
        hash_keys(&keys, delta.num_rows(), &mut hashes).unwrap();
        for (worker, join) in workers.iter_mut().enumerate() {
            let mine = hashes.iter().enumerate().filter(|(_, hash)| worker_of(key_group(**hash), 3) == worker);
            let mine = UInt32Array::from_iter_values(mine.map(|(row, _)| row as u32));
            feed(join, 1, delta.take(&mine).unwrap(), &mut counts);
            settle_epoch(join, &Watermarks::none(0), &mut counts);
        }
    }
    assert_eq!(counts, batch_join(&contents, case.sql));
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = &cases()[0];
    let left = node("l", &schema(), false, Vec::new());
    let right = node("r", &schema(), false, Vec::new());
    assert!(Join::new(&left, &right, &join_node(&left, &right, inner(vec![(col("l.k"), col("r.s"))]))).is_err());

    let weighted = Delta::weighted(rows(&[(Some(1), None, None, 1)]), Int64Array::from(vec![-1]));
    assert!(case.join().on_delta(0, weighted, &mut Output::default()).is_err());

    let part = StatePart { name: "left".to_owned(), rows: window_rows(&[(1, 1)]) };
    let error = case.join().restore(vec![part]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    let part = StatePart { name: "middle".to_owned(), rows: window_rows(&[(1, 1)]) };
    assert!(case.join().restore(vec![part]).is_err());
}

#[test]
fn weights_multiply() {
    let case = &cases()[2];
    let mut join = case.join();
    let mut out = Output::default();
    let left = Delta::weighted(rows(&[(Some(1), None, None, 1)]), Int64Array::from(vec![3]));
    let right = Delta::weighted(rows(&[(Some(1), None, None, 2)]), Int64Array::from(vec![-2]));
    let _ = join.on_delta(0, left, &mut out).unwrap();
    let _ = join.on_delta(1, right, &mut out).unwrap();
    let deltas = end_epoch_saying(&mut join, &Watermarks::none(0));
    assert_eq!(deltas[0].weights().unwrap().values(), &[-6]);
    assert_eq!(deltas[0].rows().column(7).as_primitive::<Int64Type>().values(), &[2]);
}
