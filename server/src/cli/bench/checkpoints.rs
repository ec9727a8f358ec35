//! What checkpoints cost a job that runs, and how long one takes to come back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rondel_engine::checkpoint::CheckpointSettings;
use rondel_engine::engine::{Engine, EngineSettings};
use rondel_engine::job::JobState;
use rondel_engine::time::SystemClock;
use rondel_engine::{Error, Result};

use super::folder::Folder;
use super::measure::{Meter, Runs, Taken, close, execute, wait_for};
use super::{BenchOptions, say};

const STREAMS: &str = include_str!("../../../../sql/nexmark/streams.sql");
/// What the streams' file says, and the benchmark replaces by its own.
const STREAM_EVENTS: &str = "events = '50000', rate = '500'";

/// The queries: one whose result changes, two of windows, and a join whose state grows.
const QUERIES: [(&str, &str); 4] = [
    ("q4", include_str!("../../../../sql/nexmark/q4.sql")),
    ("q5", include_str!("../../../../sql/nexmark/q5.sql")),
    ("q7", include_str!("../../../../sql/nexmark/q7.sql")),
    ("q20", include_str!("../../../../sql/nexmark/q20.sql")),
];

/// Of 50 events one is a person, three are auctions and 46 are bids.
fn rows_of(query: &str, events: u64) -> u64 {
    let of_fifty = if query.contains("auction AS a") { 49 } else { 46 };
    // The last of the events may not make a whole fifty.
    events / 50 * of_fifty
}

/// What is brought back: a join that keeps both its sides, over streams that do not end.
const RECOVERED: &str = "CREATE SINK recovered WITH (connector = 'blackhole') AS
    SELECT b.auction, b.bidder, b.price, a.category FROM bid AS b JOIN auction AS a ON b.auction = a.id";
const ENDLESS: u64 = 1_000_000_000_000;
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn bench(options: &BenchOptions) -> Result<()> {
    if options.wants("checkpoints") {
        throughput(options).await?;
    }
    if options.wants("recovery") {
        recovery(options).await?;
    }
    Ok(())
}

/// The settings of an engine that keeps its checkpoints in a folder.
fn settings(options: &BenchOptions, folder: &Path, interval: Duration) -> EngineSettings {
    EngineSettings {
        data_dir: Some(folder.to_owned()),
        checkpoints: CheckpointSettings { interval, timeout: PATIENCE, ..CheckpointSettings::default() },
        stop_timeout: PATIENCE,
        ..options.settings()
    }
}

fn streams(options: &BenchOptions, events: u64) -> String {
    STREAMS.replace(STREAM_EVENTS, &format!("events = '{events}', rate = '{}'", options.rate))
}

/// What the checkpoints of a run were.
#[derive(Debug, Clone, Copy, Default)]
struct Checkpoints {
    taken: u64,
    /// How long the last one took.
    took: Duration,
    /// Bytes of state in the last one, and those that the one before did not have.
    bytes: u64,
    new_bytes: u64,
}

async fn throughput(options: &BenchOptions) -> Result<()> {
    say(&format!(
        "\nCheckpoints: {} events of Nexmark's generator, {} workers, median of {}; until the last row is read.",
        options.events,
        options.workers(),
        options.repeat
    ));
    let intervals = &options.intervals;
    say(&format!("{}  of {} (CPU, wall)  (all turns)   taken  last: s, MiB, new MiB", Runs::heading(), intervals[0]));
    for (name, text) in QUERIES.into_iter().filter(|(name, _)| options.wants_query(name)) {
        let mut runs: Vec<Runs> = intervals.iter().map(|_| Runs::default()).collect();
        let mut last = vec![Checkpoints::default(); intervals.len()];
        for turn in 0..options.repeat as usize {
            // Whoever comes first finds the machine as the turn before has left it: each in its turn.
            for number in (0..intervals.len()).map(|number| (number + turn) % intervals.len()) {
                let interval = intervals[number].0;
                let (taken, checkpoints) = run(options, text, interval).await.map_err(|error| error.context(name))?;
                runs[number].add(taken);
                last[number] = checkpoints;
            }
        }
        let rows = rows_of(text, options.events);
        for (number, interval) in intervals.iter().enumerate() {
            let (cpu, wall, (least, most)) = runs[number].of(&runs[0]);
            let Checkpoints { taken, took, bytes, new_bytes } = last[number];
            say(&format!(
                "{} {cpu:10.3} {wall:8.3} {least:6.3}–{most:<6.3} {taken:6} {:8.2} {:6} {:6}",
                runs[number].row(&format!("{name}, {interval}"), rows),
                took.as_secs_f64(),
                bytes >> 20,
                new_bytes >> 20
            ));
        }
    }
    Ok(())
}

/// One run of a query, on an engine of its own, until its last row is read.
async fn run(options: &BenchOptions, text: &str, interval: Option<Duration>) -> Result<(Taken, Checkpoints)> {
    let folder = Folder::new()?;
    let settings = match interval {
        Some(interval) => settings(options, folder.path(), interval),
        None => options.settings(),
    };
    let engine = Engine::open(settings, crate::functions(), Arc::new(SystemClock))?;
    let session = engine.session();
    execute(&session, &streams(options, options.events)).await?;
    let rows = rows_of(text, options.events);
    let meter = Meter::start()?;
    execute(&session, text).await?;
    let job = wait_for(&engine, |job| job.rows_in >= rows || job.state == JobState::Finished).await?;
    let taken = meter.stop()?;
    if job.rows_in < rows || job.late_rows > 0 {
        return Err(Error::internal(format!("{} rows were read, {} of them late", job.rows_in, job.late_rows)));
    }
    let checkpoints = engine.checkpoint_views().first().map_or_else(Checkpoints::default, |view| Checkpoints {
        taken: view.taken,
        took: Duration::from_micros(view.took_micros),
        bytes: view.bytes,
        new_bytes: view.new_bytes,
    });
    // Nobody wants the checkpoint that closing would take.
    execute(&session, &format!("DROP SINK {}", job.name)).await?;
    close(engine).await?;
    Ok((taken, checkpoints))
}

/// Lets a join grow to so much state, closes the engine, and opens it again on the same folder.
async fn recovery(options: &BenchOptions) -> Result<()> {
    let (folder, goal) = (Folder::new()?, options.recovered_state as u64);
    let place: PathBuf = folder.path().to_owned();
    let open =
        || Engine::open(settings(options, &place, Duration::from_secs(10)), crate::functions(), Arc::new(SystemClock));
    let engine = open()?;
    let session = engine.session();
    execute(&session, &streams(options, ENDLESS)).await?;
    execute(&session, RECOVERED).await?;
    wait_for(&engine, |job| job.state_bytes >= goal).await?;
    // A session holds the engine open.
    drop(session);
    let closing = Instant::now();
    close(engine).await?;
    let closed = closing.elapsed();

    let meter = Meter::start()?;
    let opening = Instant::now();
    let engine = open()?;
    let opened = opening.elapsed();
    let job = wait_for(&engine, |job| job.rows_out > 0).await?;
    let taken = meter.stop()?;
    say(&format!(
        "\nRecovery: {} MiB of a join's state, {} workers: {:.1} s ({:.1} s of CPU) from the start to the first new row, {:.1} s of them \
         until the engine was open; closing, with its last checkpoint, took {:.1} s; at most {:.0} MiB of memory.",
        job.state_bytes >> 20,
        options.workers(),
        taken.wall,
        taken.cpu,
        opened.as_secs_f64(),
        closed.as_secs_f64(),
        taken.peak / f64::from(1 << 20)
    ));
    execute(&engine.session(), "DROP SINK recovered").await?;
    close(engine).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_say_what_is_replaced() {
        assert_eq!(STREAMS.matches(STREAM_EVENTS).count(), 3);
        assert_eq!(QUERIES.map(|(_, text)| rows_of(text, 100)), [98, 92, 92, 98]);
    }
}
