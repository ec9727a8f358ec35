//! `rondel bench`: events per second of processor time, from memory and from Kafka, what a change costs a large view, and
//! what checkpoints cost.
//!
//! Every query is SQL from `sql/nexmark`, planned and run as a job of a server's engine is. What is measured is the whole
//! process: all its threads, of user and kernel. Events are there before the clock starts: Arrow batches in memory, or
//! records in a broker that is another process.

mod broker;
mod changes;
mod checkpoints;
mod folder;
mod kafka;
mod measure;
mod memory;
mod poll;

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use rondel_engine::Result;
use rondel_engine::engine::EngineSettings;

use crate::settings::{at_least_one, bytes};
pub(super) use broker::{BrokerOptions, serve_broker};
pub use poll::poll_yardstick;

/// Options of `rondel bench`.
#[derive(Debug, Clone, Args)]
pub(super) struct BenchOptions {
    /// What is measured: q0, q1, q2, q5, q7 (from memory), kafka, join-changes, over-changes, running-changes, checkpoints, recovery; by default all
    #[arg(value_name = "NAME", value_parser = ["q0", "q1", "q2", "q5", "q7", "kafka", "join-changes", "over-changes", "running-changes", "checkpoints", "recovery"])]
    names: Vec<String>,

    /// Bids that each query reads from memory
    #[arg(long, value_name = "COUNT", default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: u64,

    /// Events of a second of event time
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,

    /// How often each is measured; the median counts
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,

    /// Partitions of the topic: each holds about 30,000 records
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,

    /// Queries of `checkpoints`, with commas between; by default all
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = ["q4", "q5", "q7", "q20"])]
    queries: Vec<String>,

    /// From one checkpoint of `checkpoints` to the next, with commas between: each is compared with the first
    #[arg(long, value_name = "INTERVALS", value_delimiter = ',', default_value = "off,10s,1s", value_parser = Interval::of)]
    intervals: Vec<Interval>,

    /// Worker threads; by default one for each processor
    #[arg(long, env = "RONDEL_WORKERS", value_name = "COUNT", value_parser = at_least_one)]
    workers: Option<usize>,

    /// Memory that a job's state and rows under way may hold
    #[arg(long, value_name = "BYTES", default_value = "2GB", value_parser = bytes)]
    job_memory: usize,

    /// State that the job of `recovery` comes back with; twice as much may stand in `--job-memory`
    #[arg(long, value_name = "BYTES", default_value = "1GB", value_parser = bytes)]
    recovered_state: usize,
}

/// From one checkpoint to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval(Option<Duration>);

impl Interval {
    fn of(text: &str) -> std::result::Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let seconds =
            text.strip_suffix('s').and_then(|seconds| seconds.parse::<u32>().ok()).filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or_else(|| format!("'{text}' is no interval: write off, or seconds as in 10s"))?;
        Ok(Self(Some(Duration::from_secs(seconds.into()))))
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(interval) => write!(f, "{} s", interval.as_secs()),
        }
    }
}

impl BenchOptions {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }

    fn wants_query(&self, name: &str) -> bool {
        self.queries.is_empty() || self.queries.iter().any(|wanted| wanted == name)
    }

    fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn settings(&self) -> EngineSettings {
        EngineSettings { workers: self.workers(), job_memory_bytes: self.job_memory, ..EngineSettings::default() }
    }
}

/// Measures, and prints as it goes.
pub(super) async fn bench(options: &BenchOptions) -> Result<()> {
    if cfg!(debug_assertions) {
        say("This is not a release build: the figures mean nothing.");
    }
    memory::bench(options).await?;
    kafka::bench(options).await?;
    changes::bench(options).await?;
    checkpoints::bench(options).await
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A closed terminal ends the measuring by its signal, not by this.
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_they_are_shown() {
        assert_eq!(Interval::of("off"), Ok(Interval(None)));
        assert_eq!(Interval::of("10s").map(|interval| interval.to_string()), Ok("10 s".to_owned()));
        for wrong in ["0s", "10", "10ms", "-1s", ""] {
            assert!(Interval::of(wrong).unwrap_err().contains("is no interval"), "{wrong}");
        }
    }
}
