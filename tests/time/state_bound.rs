//! What a watermark bounds stays flat: event time passes, and rows are let go as fast as others come.
//!
//! `RONDEL_LIMITS=full cargo test --test integration state_bound -- --nocapture` runs ten minutes of event time at 100,000
//! events a second; without, it is a thousandth of that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rondel_engine::connector::memory::MemoryHandle;
use rondel_engine::connector::{Reporter, Sink, SinkState, SinkWriter, Source};
use rondel_engine::dataflow::{Blueprint, JobId, JobLimits, Pool, PoolSettings, Target};
use rondel_engine::plan::WatermarkDefinition;
use rondel_engine::plan::flow::FlowOp;
use rondel_engine::time::SystemClock;
use rondel_engine::{Delta, Result};

use super::{START, planned_over, relation, schema};

#[test]
fn interval_joins_stay_flat() {
    stays_flat(
        "SELECT a.k, a.ts, b.ms FROM s a JOIN s b
           ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5' SECOND AND a.ms <> b.ms",
    );
}

#[test]
fn session_windows_stay_flat() {
    stays_flat(
        "SELECT window_start, window_end, k, count(*) FROM SESSION(TABLE s PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND)
           GROUP BY window_start, window_end, k EMIT AFTER WATERMARK",
    );
}

#[test]
fn deduplication_stays_flat() {
    stays_flat(
        "SELECT k, ts, ms FROM (
           SELECT k, ts, ms, row_number() OVER (PARTITION BY k, date_trunc('minute', ts) ORDER BY ts) AS n FROM s
         ) WHERE n = 1",
    );
}

#[test]
fn over_stays_flat() {
    stays_flat(
        "SELECT k, ts, sum(ms) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW)
           FROM s EMIT AFTER WATERMARK",
    );
}

/// Takes what it is given, and forgets it.
struct Nowhere;

impl Sink for Nowhere {
    fn writers(self: Box<Self>, workers: usize, _reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        Ok((0..workers).map(|_| Box::new(Nowhere) as Box<dyn SinkWriter>).collect())
    }
}

impl SinkWriter for Nowhere {
    fn write(&mut self, _epoch: u64, _delta: Delta) -> Result<SinkState> {
        Ok(SinkState::Ready)
    }

    fn resume(&mut self) -> Result<SinkState> {
        Ok(SinkState::Ready)
    }

    fn flush(&mut self) -> Result<SinkState> {
        Ok(SinkState::Ready)
    }
}

/// A second of events, out of order by up to a second, of as many keys as there are events in ten seconds.
fn second(rng: &mut SmallRng, second: i64, events: usize) -> RecordBatch {
    let time = |rng: &mut SmallRng| START + second * 1_000_000 + rng.random_range(0..1_000_000);
    let times: Vec<i64> = (0..events).map(|_| time(rng)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times.clone())),
        Arc::new(TimestampMicrosecondArray::from(times)),
        Arc::new(Int64Array::from_iter_values((0..events).map(|_| rng.random_range(0..10 * events as i64)))),
        Arc::new(Int64Array::from_iter_values((0..events).map(|_| rng.random_range(0..1_000)))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The state of a query is no larger at the end than it was after its first windows.
fn stays_flat(sql: &str) {
    let full = std::env::var_os("RONDEL_LIMITS").is_some_and(|value| value == "full");
    let (seconds, events) = if full { (600, 100_000) } else { (240, 300) };
    let watermark = WatermarkDefinition { column: 0, expression: "ts - INTERVAL '1' SECOND".to_owned() };
    let plan = planned_over(relation(Some(watermark)), sql, None).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let pool = Pool::threads(PoolSettings::workers(2), Arc::new(SystemClock)).unwrap();
    let mut sources: HashMap<usize, Box<dyn Source>> = HashMap::new();
    let mut feeds = Vec::new();
    for (index, node) in plan.flow.nodes.iter().enumerate() {
        if let FlowOp::Scan { projection, .. } = &node.op {
            let handle = MemoryHandle::new(2);
            sources.insert(index, handle.source());
            feeds.push((projection.clone(), handle));
        }
    }
    let job = pool
        .create_job(Blueprint {
            job: JobId(1),
            name: "flat".to_owned(),
            plan: plan.flow.clone(),
            sources,
            views: HashMap::new(),
            target: Target::Sink(Box::new(Nowhere)),
            limits: JobLimits { memory_bytes: 4 << 30, ..JobLimits::default() },
            observer: Arc::new(()),
            restore: None,
            after: 0,
            ends_with_checkpoint: false,
        })
        .unwrap();
    let mut rng = SmallRng::seed_from_u64(7);
    let start = Instant::now();
    let (mut early, mut late) = (0, 0);
    for at in 0..seconds {
        let rows = second(&mut rng, at, events);
        let half = rows.num_rows() / 2;
        for (projection, feed) in &feeds {
            let rows = rows.project(projection).unwrap();
            feed.push(0, rows.slice(0, half)).unwrap();
            feed.push(1, rows.slice(half, rows.num_rows() - half)).unwrap();
        }
        pool.step(job.id()).unwrap();
        let bytes = job.metrics().state_bytes;
        // The first windows: the longest is a minute.
        if at >= 120 {
            if at < (120 + seconds) / 2 { early = bytes.max(early) } else { late = bytes.max(late) }
        }
    }
    let metrics = job.metrics();
    println!(
        "{sql}: {} events in {:.1} s, {} rows out; at most {:.1} MB, then {:.1} MB",
        seconds as usize * events,
        start.elapsed().as_secs_f64(),
        metrics.rows_out,
        early as f64 / 1e6,
        late as f64 / 1e6
    );
    assert_eq!(metrics.late_rows, 0);
    assert!(metrics.rows_out > 0 && early > 0);
    assert!(late <= early + early / 8, "{sql}: {early} bytes, then {late}");
}
