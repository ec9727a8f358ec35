//! From Kafka to a filter to a sink that forgets, against what reading costs anybody.
//!
//! The yardsticks read the same topic in the same run, in turn with the queries: rust-rdkafka's `poll`, one record at a
//! time, once with the system's allocator and once with ours, and librdkafka's batch call with ours.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rondel_engine::connector::kafka::yardstick::{Drained, drain_by_batches, drain_by_poll};
use rondel_engine::engine::Engine;
use rondel_engine::time::SystemClock;
use rondel_engine::{Error, ErrorKind, Result};

use super::broker::{self, Contents, TOPIC};
use super::folder::Folder;
use super::measure::{Meter, Runs, Taken, close, execute, wait_for};
use super::{BenchOptions, poll, say};

const STREAM: &str = include_str!("../../../../sql/nexmark/kafka-stream.sql");
const NARROW: &str = include_str!("../../../../sql/nexmark/kafka-narrow.sql");
const WIDE: &str = include_str!("../../../../sql/nexmark/kafka-wide.sql");
const MESSAGES: &str = include_str!("../../../../sql/nexmark/bid.proto");
/// What the stream's file says, and the benchmark replaces by its own.
const STREAM_BROKER: &str = "127.0.0.1:9092";
const STREAM_MESSAGES: &str = "file:sql/nexmark/bid.proto";

const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn bench(options: &BenchOptions) -> Result<()> {
    if !options.wants("kafka") {
        return Ok(());
    }
    let folder = Folder::new()?;
    let messages = folder.with("bid.proto", MESSAGES)?;
    let broker = Broker::start(options.partitions, &messages)?;
    let Contents { records, bytes, dear } = broker.contents;
    say(&format!(
        "\nKafka: {records} bids of {} bytes, {dear} of them dear, in {} partitions of a broker in another process, {} workers, median of {}.",
        bytes / records.max(1),
        options.partitions,
        options.workers(),
        options.repeat
    ));
    let stream = STREAM
        .replace(STREAM_BROKER, &broker.bootstrap)
        .replace(STREAM_MESSAGES, &format!("file:{}", messages.display()));
    let shipped = poll::program();
    if shipped.is_none() {
        say(
            "rondel-poll is not beside this program: cargo build --workspace --release --bin rondel-poll. Ratios are to poll with our allocator.",
        );
    }
    let [mut plain, mut polled, mut batches, mut narrow, mut wide] = [(); 5].map(|()| Runs::default());
    for _ in 0..options.repeat {
        if let Some(program) = &shipped {
            plain.add(tokio::task::block_in_place(|| poll::run(program, &broker.bootstrap, broker.contents))?);
        }
        polled.add(drain(&broker, drain_by_poll).await?);
        batches.add(drain(&broker, drain_by_batches).await?);
        narrow.add(query(options, &broker, &stream, NARROW).await?);
        wide.add(query(options, &broker, &stream, WIDE).await?);
    }
    say(&format!("{}  of batches  of poll", Runs::heading()));
    let as_shipped = if shipped.is_some() { &plain } else { &polled };
    let (of_poll, of_batches) = (as_shipped.per_cpu_second(records).0, batches.per_cpu_second(records).0);
    let rows = [
        ("poll", as_shipped),
        ("poll, ours", &polled),
        ("batches", &batches),
        ("filter narrow", &narrow),
        ("filter wide", &wide),
    ];
    for (name, runs) in rows {
        let rate = runs.per_cpu_second(records).0;
        say(&format!("{} {:11.2} {:8.2}", runs.row(name, records), rate / of_batches, rate / of_poll));
    }
    Ok(())
}

async fn drain(broker: &Broker, by: fn(&str, &str, Duration) -> Result<Drained>) -> Result<Taken> {
    let bootstrap = broker.bootstrap.clone();
    let Contents { records, bytes, .. } = broker.contents;
    let drained = tokio::task::spawn_blocking(move || {
        let meter = Meter::start()?;
        let drained = by(&bootstrap, TOPIC, PATIENCE)?;
        let taken = meter.stop()?;
        if drained == (Drained { records, bytes }) {
            return Ok(taken);
        }
        Err(Error::internal(format!("{} records of {records} were read", drained.records)))
    });
    drained.await.map_err(|error| Error::internal(format!("reading broke off: {error}")))?
}

/// One run of a query over the topic, on an engine of its own. The job has no end: it is done when all has come out.
async fn query(options: &BenchOptions, broker: &Broker, stream: &str, text: &str) -> Result<Taken> {
    let engine = Engine::open(options.settings(), crate::functions(), Arc::new(SystemClock))?;
    let session = engine.session();
    execute(&session, stream).await?;
    let Contents { records, dear, .. } = broker.contents;
    let meter = Meter::start()?;
    execute(&session, text).await?;
    wait_for(&engine, |job| job.rows_in >= records && job.rows_out >= dear).await?;
    let taken = meter.stop()?;
    close(engine).await?;
    Ok(taken)
}

/// The broker's process; it ends when its standard input does.
struct Broker {
    child: Child,
    input: Option<ChildStdin>,
    bootstrap: String,
    contents: Contents,
}

impl Broker {
    fn start(partitions: i32, messages: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::External, format!("the broker's process cannot be started: {error}"))
        };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("bench-broker").arg("--partitions").arg(partitions.to_string()).arg("--messages").arg(messages);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(failed)?;
        }
        let input = child.stdin.take();
        match broker::parse(&line) {
            Some((bootstrap, contents)) => Ok(Self { child, input, bootstrap, contents }),
            None => {
                drop(input);
                // It has said why on its standard error, which is ours.
                let _ = child.wait();
                Err(Error::new(ErrorKind::External, "the broker's process ended before it was ready"))
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.input.take());
        // Nothing is to be made of how it ends.
        let _ = self.child.wait();
    }
}
