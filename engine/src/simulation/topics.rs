//! The input, the topics of results, and the jobs between them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::life::Being;
use super::prices::TABLE;
use super::world::TIMEOUT_MILLIS;
use crate::connector::Sink;
use crate::connector::definition::{Delivery, SinkDefinition, SinkInput};
use crate::connector::log::client::{MemoryLog, World as Around};
use crate::connector::log::cluster::{Cluster, Isolation, ProducerEpoch};
use crate::connector::log::partition::StoredRecord;
use crate::connector::log::sink::MemoryLogSink;
use crate::connector::log::source::{Finder, MemoryLogStream};
use crate::engine::Engine;
use crate::error::Result;
use crate::job::Live;

/// Where jobs keep which checkpoint was their last.
pub(super) const PROGRESS: &str = "progress";
/// The topics of the input, which is a stream of the first one's name.
pub(super) const INPUTS: [&str; 2] = ["input", "more_input"];
/// Where results go.
pub(super) const RESULTS: [&str; 8] =
    ["rows_out", "sums_out", "large_out", "sizes_out", "windows_out", "prices_out", "classes_out", "costs_out"];
/// Of the windows, in seconds.
pub(super) const WINDOW: i64 = 10;

/// A row of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) k: i64,
    pub(super) v: i64,
    /// Seconds after the first.
    pub(super) at: i64,
}

impl Row {
    fn json(self) -> String {
        let Self { id, k, v, at } = self;
        format!(r#"{{"id":{id},"k":{k},"v":{v},"at":"{}"}}"#, time(at))
    }
}

/// A time as JSON has it.
pub(super) fn time(seconds: i64) -> String {
    format!("2024-01-01T00:{:02}:{:02}", seconds / 60, seconds % 60)
}

fn schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let at = Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true);
    Arc::new(Schema::new(vec![number("id"), number("k"), number("v"), at]))
}

/// Whoever writes the input: in transactions that may come to nothing, and are then written again, or without.
pub(super) struct Input {
    rows: Vec<Row>,
    /// Where they go, in turns.
    places: Vec<(&'static str, i32)>,
    /// The first row that is not written.
    next: usize,
    /// A transaction, and the first of its rows.
    open: Option<(ProducerEpoch, usize)>,
}

impl Input {
    pub(super) fn new(cluster: &Cluster, random: &mut StdRng) -> Self {
        let topics = random.random_range(1..=INPUTS.len());
        let mut places = Vec::new();
        for topic in &INPUTS[..topics] {
            let partitions = random.random_range(1..4);
            cluster.create_topic(topic, partitions as usize);
            places.extend((0..partitions).map(|partition| (*topic, partition)));
        }
        RESULTS.iter().for_each(|topic| cluster.create_topic(topic, 2));
        let keys = random.random_range(1..6);
        let mut at = 0;
        let rows = (0..random.random_range(20..80))
            .map(|id| {
                at += random.random_range(0..4);
                Row { id, k: random.random_range(0..keys), v: random.random_range(0..10), at }
            })
            .collect();
        Self { rows, places, next: 0, open: None }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether all is written, and committed.
    pub(super) fn is_over(&self) -> bool {
        self.next == self.rows.len() && self.open.is_none()
    }

    /// How many rows are written.
    pub(super) fn written(&self) -> usize {
        self.next
    }

    /// How much can be seen.
    pub(super) fn end(&self, cluster: &Cluster) -> i64 {
        self.offsets(cluster, Isolation::Committed)
    }

    /// Whether all that is written can be seen.
    pub(super) fn is_seen(&self, cluster: &Cluster) -> bool {
        self.end(cluster) == self.offsets(cluster, Isolation::Uncommitted)
    }

    fn offsets(&self, cluster: &Cluster, isolation: Isolation) -> i64 {
        let offset = |(topic, partition): &(&str, i32)| cluster.end_offset(topic, *partition, isolation).unwrap();
        self.places.iter().map(offset).sum()
    }

    fn record(row: Row) -> StoredRecord {
        StoredRecord { key: None, value: Some(row.json().into_bytes()) }
    }

    /// Writes some rows, or ends a transaction.
    pub(super) fn write(&mut self, cluster: &Cluster, random: &mut StdRng, calm: bool) {
        if let Some((producer, first)) = self.open.take() {
            let commits = calm || random.random_ratio(2, 3);
            // One that has taken too long was aborted.
            if cluster.end(producer, commits).is_err() || !commits {
                self.next = first;
            }
            return;
        }
        let last = (self.next + random.random_range(1..5)).min(self.rows.len());
        let rows: Vec<Row> = self.rows[self.next..last].to_vec();
        let turn = |row: &Row| row.id as usize % self.places.len();
        if rows.is_empty() {
            return;
        }
        if calm || random.random_ratio(1, 2) {
            for row in rows {
                cluster.append(self.places[turn(&row)], Self::record(row)).unwrap();
            }
            self.next = last;
            return;
        }
        // The last one's marks may not be written yet.
        let Ok(producer) = cluster.init("writer of the input", TIMEOUT_MILLIS) else { return };
        let mut written = vec![0; self.places.len()];
        for row in rows {
            let turn = turn(&row);
            cluster.produce(producer, self.places[turn], written[turn], Self::record(row)).unwrap();
            written[turn] += 1;
        }
        self.open = Some((producer, self.next));
        self.next = last;
    }
}

/// Whether there is a table in a history.
pub(super) fn has_table(jobs: u32) -> bool {
    jobs & 64 > 0
}

/// Whether a job goes on as long as the table is there.
pub(super) fn reads_table(job: &str) -> bool {
    ["prices", "classes", "costs"].iter().any(|name| job.starts_with(name))
}

/// Whether a topic has a job in a history.
pub(super) fn is_written(topic: &str, jobs: u32) -> bool {
    match topic {
        "rows_out" => jobs & 1 > 0,
        "large_out" => jobs & 2 > 0,
        "sizes_out" => jobs & 4 > 0,
        "windows_out" => jobs & 8 > 0,
        "prices_out" => has_table(jobs),
        "classes_out" => has_table(jobs) && jobs & 16 > 0,
        "costs_out" => has_table(jobs) && jobs & 32 > 0,
        _ => true,
    }
}

/// The table and the jobs, by name, in order of creation.
pub(super) fn statements(jobs: u32) -> Vec<(&'static str, &'static str)> {
    let sums = "CREATE MATERIALIZED VIEW sums AS
        SELECT k, count(*) AS n, sum(v) AS total FROM input GROUP BY k";
    let sizes = "CREATE MATERIALIZED VIEW sizes AS SELECT n, count(*) AS keys FROM sums GROUP BY n";
    let windows = "INSERT INTO windows_out SELECT window_start, k, count(*) AS n
        FROM TUMBLE(TABLE input, DESCRIPTOR(at), INTERVAL '10' SECOND)
        GROUP BY window_start, window_end, k EMIT AFTER WATERMARK";
    let prices = "CREATE TABLE prices (k BIGINT PRIMARY KEY, price BIGINT)";
    let classes = "CREATE MATERIALIZED VIEW classes AS
        SELECT price % 3 AS class, count(*) AS n, sum(price) AS total FROM prices GROUP BY price % 3";
    let costs = "CREATE MATERIALIZED VIEW costs AS
        SELECT id, price FROM input JOIN prices ON input.k = prices.k";
    let all = [
        ("prices_out", TABLE, prices),
        ("prices_out", "prices_out_insert_1", "INSERT INTO prices_out SELECT k, price FROM prices"),
        ("classes_out", "classes", classes),
        ("classes_out", "classes_out_insert_1", "INSERT INTO classes_out SELECT class, n, total FROM classes"),
        ("costs_out", "costs", costs),
        ("costs_out", "costs_out_insert_1", "INSERT INTO costs_out SELECT id, price FROM costs"),
        ("rows_out", "rows_out_insert_1", "INSERT INTO rows_out SELECT k, id FROM input WHERE v % 3 <> 0"),
        ("sums_out", "sums", sums),
        ("sums_out", "sums_out_insert_1", "INSERT INTO sums_out SELECT k, n, total FROM sums"),
        ("large_out", "large_out_insert_1", "INSERT INTO large_out SELECT k, total FROM sums WHERE n > 2"),
        ("sizes_out", "sizes", sizes),
        ("sizes_out", "sizes_out_insert_1", "INSERT INTO sizes_out SELECT n, keys FROM sizes"),
        ("windows_out", "windows_out_insert_1", windows),
    ];
    all.into_iter().filter(|(topic, ..)| is_written(topic, jobs)).map(|(_, name, text)| (name, text)).collect()
}

/// Gives the engine of a life its stream and its sinks.
pub(super) fn lend(engine: &Arc<Engine>, being: &Arc<Being>) -> Result<()> {
    let finder: Arc<dyn Finder> = Arc::<Being>::clone(being);
    let stream = MemoryLogStream::new(being.world.cluster.clone(), &INPUTS, schema(), Arc::clone(&being.feed), finder);
    engine.lend_stream(INPUTS[0], Arc::new(stream), Some(("at", "at")))?;
    for topic in RESULTS {
        let definition = Arc::new(Topic { being: Arc::clone(being), topic });
        engine.live.insert(topic, Live::Sink { definition, own: None });
    }
    Ok(())
}

/// A topic of results; each job that writes to it is a client of its own.
struct Topic {
    being: Arc<Being>,
    topic: &'static str,
}

impl SinkDefinition for Topic {
    fn columns(&self) -> Option<SchemaRef> {
        None
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        None
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn open(&self, _input: &SinkInput) -> Result<Box<dyn Sink>> {
        let around: Arc<dyn Around> = Arc::<Being>::clone(&self.being);
        let world = &self.being.world;
        let log = MemoryLog::new(self.topic, world.cluster.clone(), PROGRESS, TIMEOUT_MILLIS, around);
        world.add_log(self.being.number, &log);
        Ok(Box::new(MemoryLogSink::new(log, self.topic, 0)))
    }
}
