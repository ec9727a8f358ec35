use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::harness::{Pool, assert_same, batch_answer, flow_plan, lowered, taken};
use super::running::{random_rows, schema};
use crate::plan::flow::{Emit, FlowOp, FlowPlan, WindowKey, WindowSpec};
use crate::time::WatermarkId;

/// The rows once for each window that covers them, by trying all windows: the slow and obvious way.
pub(super) fn expanded(rows: &RecordBatch, window: WindowSpec) -> RecordBatch {
    let times = rows.column_by_name("ts").unwrap();
    let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
    let (mut indices, mut starts, mut ends) = (vec![], vec![], vec![]);
    for (row, time) in times.iter().enumerate() {
        for (start, end) in time.iter().flat_map(|time| windows_of(*time, window)) {
            indices.push(row as u32);
            starts.push(start);
            ends.push(end);
        }
    }
    let mut columns = taken(rows, &UInt32Array::from(indices)).columns().to_vec();
    let mut fields: Vec<_> = rows.schema().fields().to_vec();
    for (name, bounds) in [("window_start", starts), ("window_end", ends)] {
        fields.push(Arc::new(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), false)));
        columns.push(Arc::new(TimestampMicrosecondArray::from(bounds)) as ArrayRef);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn windows_of(time: i64, window: WindowSpec) -> Vec<(i64, i64)> {
    let (step, size, offset) = match window {
        WindowSpec::Tumble { size, offset } => (size, size, offset),
        WindowSpec::Hop { slide, size, offset } => (slide, size, offset),
        WindowSpec::Cumulate { step, size, offset } => (step, size, offset),
    };
    let near = (time - offset) / step;
    let starts = (near - size / step - 3..near + 3).map(|number| number * step + offset);
    let mut all = vec![];
    for start in starts {
        match window {
            WindowSpec::Cumulate { step, size, offset } => {
                if (start - offset).rem_euclid(size) == 0 {
                    all.extend((1..=size / step).map(|times| (start, start + times * step)));
                }
            }
            _ => all.push((start, start + size)),
        }
    }
    all.retain(|(start, end)| *start <= time && time < *end);
    all
}

pub(super) fn window_plan(
    schema: &SchemaRef,
    window: WindowSpec,
    keys: &str,
    calls: &str,
    emit: Emit,
    delay: i64,
) -> Result<FlowPlan, String> {
    // The output's schema, from the expanded rows; the keys and calls, from the plain ones.
    let wide = expanded(&RecordBatch::new_empty(Arc::clone(schema)), window).schema();
    let output = lowered(&wide, &window_sql(keys, calls))?.schema;
    let group = if keys.is_empty() { "1" } else { keys };
    let shown = if calls.is_empty() { group.to_owned() } else { format!("{group}, {calls}") };
    let plain = lowered(schema, &format!("SELECT {shown} FROM t GROUP BY {group}"))?;
    let mut group = vec![WindowKey::Start, WindowKey::End];
    if !keys.is_empty() {
        group.extend(plain.group_expr.iter().cloned().map(WindowKey::Key));
    }
    let op = FlowOp::WindowAggregate {
        window,
        time_column: schema.index_of("ts").unwrap(),
        watermark: Some((WatermarkId(0), delay)),
        shown_from: None,
        group,
        aggregates: plain.aggr_expr.clone(),
        emit,
    };
    let changelog = emit == Emit::OnChange && !calls.is_empty();
    Ok(flow_plan(plain.input.schema(), op, output.as_ref().clone(), changelog))
}

pub(super) fn window_sql(keys: &str, calls: &str) -> String {
    let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
    let calls = if calls.is_empty() { String::new() } else { format!(", {calls}") };
    format!("SELECT window_start, window_end{keys}{calls} FROM t GROUP BY window_start, window_end{keys}")
}

pub(super) const SECOND: i64 = 1_000_000;

pub(super) fn specs(random: &mut StdRng) -> WindowSpec {
    let offset = random.random_range(-20..20) * SECOND / 2;
    match random.random_range(0..3) {
        0 => WindowSpec::Tumble { size: random.random_range(1..40) * SECOND, offset },
        1 => WindowSpec::Hop {
            slide: random.random_range(1..12) * SECOND,
            size: random.random_range(1..30) * SECOND,
            offset,
        },
        _ => {
            let step = random.random_range(1..10) * SECOND;
            WindowSpec::Cumulate { step, size: step * random.random_range(1..7), offset }
        }
    }
}

/// Rows that are never late: times above the watermark that went before, for all windows.
pub(super) fn punctual(random: &mut StdRng, count: usize, since: i64, spread: i64) -> RecordBatch {
    let rows = random_rows(random, count);
    let place = rows.schema().index_of("ts").unwrap();
    let times: TimestampMicrosecondArray =
        (0..count).map(|_| (!random.random_bool(0.1)).then(|| since + random.random_range(0..spread))).collect();
    let mut columns = rows.columns().to_vec();
    columns[place] = Arc::new(times);
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

fn check_windowed(keys: &str, calls: &str, emit: Emit, seed: u64) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let window = specs(&mut random);
    let delay = random.random_range(0..3) * SECOND;
    let plan = window_plan(&schema(), window, keys, calls, emit, delay)?;
    let halves = random.random_bool(0.5);
    let count = random.random_range(1..4);
    let mut pool = Pool::new(plan, count, halves).with_fuel(random.random_range(1..60));
    let sql = window_sql(keys, calls);
    let what = format!("{window:?} delay {delay} {sql} (seed {seed}, halves {halves}, {emit:?})");
    let mut all = vec![];
    let mut watermark = -60 * SECOND;
    let epochs = random.random_range(1..8);
    let restart = random.random_range(0..epochs);
    for epoch in 0..epochs {
        let batches: Vec<RecordBatch> = (0..random.random_range(0..4))
            .map(|_| {
                let size = random.random_range(0..30);
                let spread = random.random_range(1..60) * SECOND;
                punctual(&mut random, size, watermark - delay, spread)
            })
            .collect();
        watermark += random.random_range(0..20) * SECOND / 2;
        if epoch == epochs - 1 && random.random_bool(0.5) {
            watermark = i64::MAX;
        }
        pool.epoch(&mut random, &batches, Some(watermark));
        assert_eq!(pool.late, 0, "{what}");
        all.extend(batches);
        let rows = arrow::compute::concat_batches(&schema(), &all).unwrap();
        let over = if watermark == i64::MAX { i64::MAX } else { watermark - delay };
        let mut rows = expanded(&rows, window);
        if emit == Emit::AfterWatermark {
            let ends = rows.column_by_name("window_end").unwrap();
            let ends = ends.as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
            let closed: UInt32Array =
                (0..rows.num_rows() as u32).filter(|row| ends.value(*row as usize) <= over).collect();
            rows = taken(&rows, &closed);
        }
        let expected = batch_answer(&rows, &sql)?;
        assert_same(&pool.answer(), &expected, &format!("{what}, epoch {epoch}"));
        if over == i64::MAX {
            assert_eq!(pool.state_rows(), 0, "{what}: state is released");
        }
        if epoch == restart {
            pool.restart(random.random_range(1..4));
        }
    }
    Ok(())
}

const CALLS: [&str; 4] = [
    "count(*), sum(i), min(f), max(s)",
    "avg(d), max(d), count(DISTINCT j), sum(f) FILTER (WHERE b)",
    "stddev(f), bool_and(b), median(i), array_agg(i ORDER BY i)",
    "first_value(i ORDER BY f, i), approx_distinct(i), string_agg(s, ',' ORDER BY s), corr(f, g)",
];

#[test]
fn windows_shown_at_the_watermark_agree_with_batch() {
    for seed in 0..150 {
        let keys = ["", "k", "s", "k, s"][seed as usize % 4];
        check_windowed(keys, CALLS[seed as usize / 4 % 4], Emit::AfterWatermark, seed).unwrap();
    }
}

#[test]
fn windows_shown_as_they_change_agree_with_batch() {
    for seed in 0..150 {
        let keys = ["", "k", "s", "k, s"][seed as usize % 4];
        check_windowed(keys, CALLS[seed as usize / 4 % 4], Emit::OnChange, seed).unwrap();
    }
}

#[test]
fn distinct_rows_per_window_agree_with_batch() {
    for seed in 0..40 {
        check_windowed(["k", "k, b", ""][seed as usize % 3], "", Emit::OnChange, seed).unwrap();
    }
}

/// Keys that hardly repeat: the local half gives combining up after 100,000 rows, and takes it up again later.
#[test]
fn a_local_half_that_combines_in_vain_passes_rows_on() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    let window = WindowSpec::Tumble { size: 10 * SECOND, offset: 0 };
    let plan = window_plan(&schema, window, "k", "count(*), sum(k)", Emit::AfterWatermark, 0).unwrap();
    let random = &mut StdRng::seed_from_u64(1);
    let mut pool = Pool::new(plan, 1, true);
    let rows = |epoch: i64| {
        let keys = Int64Array::from_iter_values((0..40_000).map(|row| row / 2 * 7 + epoch % 2));
        let times = TimestampMicrosecondArray::from_iter_values((0..40_000).map(|row| epoch * 3 * SECOND + row));
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keys), Arc::new(times)]).unwrap()
    };
    let unique = |epoch: i64| {
        let keys = Int64Array::from_iter_values((0..40_000).map(|row| epoch * 40_000 + row));
        let times = TimestampMicrosecondArray::from_iter_values((0..40_000).map(|row| epoch * 3 * SECOND + row));
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keys), Arc::new(times)]).unwrap()
    };
    let mut all = vec![];
    for epoch in 0..6 {
        let batch = if epoch < 4 { unique(epoch) } else { rows(epoch) };
        let passed_on = pool.state_rows();
        pool.epoch(random, std::slice::from_ref(&batch), Some(0));
        // Nothing is over: what has reached the keyed half was passed on because combining did not pay.
        assert_eq!(pool.state_rows() > passed_on, epoch >= 2, "epoch {epoch}");
        all.push(batch);
    }
    pool.restart(2);
    pool.epoch(random, &[], Some(i64::MAX));
    let rows = expanded(&arrow::compute::concat_batches(&schema, &all).unwrap(), window);
    let expected = batch_answer(&rows, &window_sql("k", "count(*), sum(k)")).unwrap();
    assert_same(&pool.answer(), &expected, "unique keys");
}
