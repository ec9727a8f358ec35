//! Nexmark's queries over bids that are in memory as Arrow batches.

use std::sync::Arc;

use rondel_engine::connector::memory::PrebuiltStream;
use rondel_engine::connector::nexmark::{BidGenerator, bid_schema};
use rondel_engine::engine::Engine;
use rondel_engine::job::JobState;
use rondel_engine::time::SystemClock;
use rondel_engine::{Error, Result};

use super::measure::{Meter, Runs, Taken, close, execute, wait_for};
use super::{BenchOptions, say};

/// The queries, each a statement of a job.
const QUERIES: [(&str, &str); 5] = [
    ("q0", include_str!("../../../../sql/nexmark/q0.sql")),
    ("q1", include_str!("../../../../sql/nexmark/q1.sql")),
    ("q2", include_str!("../../../../sql/nexmark/q2.sql")),
    ("q5", include_str!("../../../../sql/nexmark/q5.sql")),
    ("q7", include_str!("../../../../sql/nexmark/q7.sql")),
];

/// Rows of a batch: what a source from Kafka delivers.
const BATCH_ROWS: u64 = 8192;
const SEED: u64 = 0x0A0C_7104;

pub(super) async fn bench(options: &BenchOptions) -> Result<()> {
    let queries: Vec<_> = QUERIES.iter().filter(|(name, _)| options.wants(name)).collect();
    if queries.is_empty() {
        return Ok(());
    }
    let workers = options.workers();
    say(&format!(
        "Nexmark from memory: {} bids in batches of {BATCH_ROWS}, {} events a second of event time, {workers} workers, median of {}.",
        options.events, options.rate, options.repeat
    ));
    let stream = Arc::new(bids(options.events, options.rate, workers)?);
    say(&format!("{}  rows out", Runs::heading()));
    for (name, text) in queries {
        let mut runs = Runs::default();
        let mut rows_out = None;
        for _ in 0..options.repeat {
            let (taken, rows) = run(options, &stream, text).await.map_err(|error| error.context(name))?;
            if *rows_out.get_or_insert(rows) != rows {
                return Err(Error::internal(format!("{name} does not answer the same twice")));
            }
            runs.add(taken);
        }
        say(&format!("{}  {}", runs.row(name, options.events), rows_out.unwrap_or_default()));
    }
    Ok(())
}

/// Bids, a partition for each worker; the partitions are at the same event time throughout.
fn bids(events: u64, rate: u64, partitions: usize) -> Result<PrebuiltStream> {
    let mut generator = BidGenerator::new(SEED, rate);
    let mut batches: Vec<Vec<_>> = vec![Vec::new(); partitions];
    let (mut left, mut next) = (events, 0);
    while left > 0 {
        let batch = generator.next_batch(left.min(BATCH_ROWS) as usize)?;
        left -= batch.num_rows() as u64;
        batches[next % partitions].push(batch);
        next += 1;
    }
    Ok(PrebuiltStream::new(bid_schema(), batches))
}

/// One run of a query, on an engine of its own: what it took, and how many rows came out.
async fn run(options: &BenchOptions, stream: &Arc<PrebuiltStream>, text: &str) -> Result<(Taken, u64)> {
    let engine = Engine::open(options.settings(), crate::functions(), Arc::new(SystemClock))?;
    let promise = Some(("date_time", "date_time - INTERVAL '4' SECOND"));
    engine.lend_stream("bid", Arc::clone(stream) as _, promise)?;
    let session = engine.session();
    let meter = Meter::start()?;
    execute(&session, text).await?;
    let job = wait_for(&engine, |job| job.state == JobState::Finished).await?;
    let taken = meter.stop()?;
    if (job.rows_in, job.late_rows) != (options.events, 0) {
        return Err(Error::internal(format!("{} rows were read, {} of them late", job.rows_in, job.late_rows)));
    }
    close(engine).await?;
    Ok((taken, job.rows_out))
}
