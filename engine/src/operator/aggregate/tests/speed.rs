//! Rows per second of one operator on one thread. Ignored: it measures, and fails only where the order of magnitude is
//! wrong. `cargo test --workspace --lib aggregate::tests::speed -- --ignored --nocapture`

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::build;
use super::running::running_plan;
use super::windowed::window_plan;
use crate::Delta;
use crate::operator::build::Role;
use crate::operator::{EpochContext, Operator, Output, Step};
use crate::plan::flow::{Emit, FlowPlan, WindowSpec};
use crate::time::{WatermarkId, Watermarks};

const BATCH: usize = 8192;
const SECOND: i64 = 1_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("auction", DataType::Int64, true),
        Field::new("bidder", DataType::Int64, true),
        Field::new("price", DataType::Int64, true),
        Field::new("channel", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

/// Bids as Nexmark has them: half of them for the hot auction of the moment, the others for one of the last hundred or
/// so; 10,000 a second of event time.
fn bids(batches: usize) -> Vec<RecordBatch> {
    let mut random = SmallRng::seed_from_u64(1);
    (0..batches)
        .map(|number| {
            let base = number * BATCH;
            let auction = |row: usize| ((base + row) / 16) as i64;
            let auctions = Int64Array::from_iter_values((0..BATCH).map(|row| {
                let last = auction(row);
                if random.random_bool(0.5) { last / 100 * 100 } else { last - random.random_range(0..110) }
            }));
            let bidders = Int64Array::from_iter_values((0..BATCH).map(|_| random.random_range(0..100_000)));
            let prices = Int64Array::from_iter_values((0..BATCH).map(|_| random.random_range(100..10_000_000)));
            let channels = StringArray::from_iter_values(
                (0..BATCH).map(|_| format!("channel-{}", random.random_range(0..10_000))),
            );
            let times = TimestampMicrosecondArray::from_iter_values((0..BATCH).map(|row| ((base + row) * 100) as i64));
            let columns: Vec<ArrayRef> =
                vec![Arc::new(auctions), Arc::new(bidders), Arc::new(prices), Arc::new(channels), Arc::new(times)];
            RecordBatch::try_new(schema(), columns).unwrap()
        })
        .collect()
}

/// Nanoseconds that this thread has run: the machine has other things to do.
fn thread_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Runs the rows through the operator, an epoch every `per_epoch` batches, and prints nanoseconds per row.
fn measure(name: &str, plan: &FlowPlan, batches: &[RecordBatch], per_epoch: usize) {
    let mut operator = build(plan, 1, Role::Whole).unwrap();
    let mut watermarks = Watermarks::none(1);
    let mut out = Output::default();
    let mut emitted = 0;
    let mut drain = |operator: &mut dyn Operator, mut step: Step, out: &mut Output| {
        loop {
            emitted += out.take().0.iter().map(Delta::num_rows).sum::<usize>();
            if step == Step::Done {
                return;
            }
            step = operator.resume(out).unwrap();
        }
    };
    let start = thread_nanos();
    for (epoch, batches) in batches.chunks(per_epoch).enumerate() {
        for batch in batches {
            let step = operator.on_delta(0, Delta::append(batch.clone()), &mut out).unwrap();
            drain(operator.as_mut(), step, &mut out);
        }
        watermarks.advance(WatermarkId(0), ((epoch + 1) * per_epoch * BATCH * 100) as i64 - SECOND);
        let context = EpochContext { epoch: epoch as u64, now_micros: 0, watermarks: &watermarks };
        let step = operator.on_epoch_end(&context, &mut out).unwrap();
        drain(operator.as_mut(), step, &mut out);
    }
    let rows = batches.len() * BATCH;
    let nanos = (thread_nanos() - start) as f64 / rows as f64;
    let state = operator.state_size();
    println!("{name}: {nanos:.1} ns/row, {:.0} M rows/s; {emitted} rows out, {state:?}", 1000.0 / nanos);
    assert!(nanos < 5000.0, "{name}");
}

#[test]
#[ignore = "measures"]
fn rows_per_second() {
    let batches = bids(600);
    let hop = WindowSpec::Hop { slide: 2 * SECOND, size: 10 * SECOND, offset: 0 };
    let tumble = WindowSpec::Tumble { size: 10 * SECOND, offset: 0 };
    for (name, window, keys, calls, emit) in [
        ("q5: HOP 10 s/2 s, count per auction", hop, "auction", "count(*)", Emit::AfterWatermark),
        ("q5 on change", hop, "auction", "count(*)", Emit::OnChange),
        ("q7: TUMBLE 10 s, max", tumble, "", "max(price)", Emit::AfterWatermark),
        ("TUMBLE 10 s, 3 calls per bidder", tumble, "bidder", "count(*), sum(price), max(price)", Emit::AfterWatermark),
        ("TUMBLE 10 s, count per channel", tumble, "channel", "count(*)", Emit::AfterWatermark),
        ("TUMBLE 10 s, count per auction, bidder", tumble, "auction, bidder", "count(*)", Emit::AfterWatermark),
    ] {
        measure(name, &window_plan(&schema(), window, keys, calls, emit, 0).unwrap(), &batches, 8);
    }
    for (name, sql) in [
        ("running count per auction", "SELECT auction, count(*) FROM t GROUP BY auction"),
        ("running 3 calls per bidder", "SELECT bidder, count(*), sum(price), max(price) FROM t GROUP BY bidder"),
        ("running count, avg of all", "SELECT count(*), avg(price), min(price) FROM t"),
        ("running count(DISTINCT) per channel", "SELECT channel, count(DISTINCT auction) FROM t GROUP BY channel"),
        ("running stddev per auction", "SELECT auction, stddev(price) FROM t GROUP BY auction"),
        ("DISTINCT bidder", "SELECT bidder FROM t GROUP BY bidder"),
    ] {
        measure(name, &running_plan(&schema(), sql).unwrap(), &batches, 8);
    }
}
