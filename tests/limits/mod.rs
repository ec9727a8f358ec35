//! The real server under more than it can hold: many jobs, hot keys, sinks that stand still.
//!
//! Sizes are those of a run of all tests; `RONDEL_LIMITS=full` makes them those of the promise.

mod hot_key;
mod jobs;
mod memory;
mod sink;
mod spill;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rondel_tests::Result;
use rondel_tests::rondel::{RondelServer, rows};
use tokio_postgres::Client;

use crate::server::doors;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the sizes are those of the promise.
pub(crate) fn is_full() -> bool {
    std::env::var_os("RONDEL_LIMITS").is_some_and(|value| value == "full")
}

/// A Row's bytes.
fn row(k: u64, v: u64, text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 16);
    let varint = |bytes: &mut Vec<u8>, mut value: u64| {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    };
    for (tag, value) in [(0x08, k), (0x10, v)] {
        bytes.push(tag);
        varint(&mut bytes, value);
    }
    if !text.is_empty() {
        bytes.push(0x1a);
        varint(&mut bytes, text.len() as u64);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// `CREATE STREAM name` over a topic of rows.
pub(crate) async fn create_stream(client: &Client, name: &str, bootstrap: &str, topic: &str) -> Result<()> {
    let statement = format!("CREATE STREAM {name} WITH ({})", options(bootstrap, topic));
    Ok(client.batch_execute(&statement).await?)
}

/// What a stream or sink of rows is made with.
pub(crate) fn options(bootstrap: &str, topic: &str) -> String {
    format!(
        "connector = 'kafka', brokers = '{bootstrap}', topic = '{topic}', format = 'protobuf',
         message = 'rondel.tests.Row', descriptor = 'file:tests/limits/row.proto'"
    )
}

/// A figure of `/metrics`.
async fn metric(server: &RondelServer, name: &str) -> f64 {
    let (_, page) = doors::get((Ipv4Addr::LOCALHOST, server.http_port()).into(), "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// Bytes that a job holds.
async fn held(server: &RondelServer, job: &str) -> usize {
    let state = metric(server, &format!("rondel_job_state_bytes{{job=\"{job}\"}}")).await;
    (state + metric(server, &format!("rondel_job_in_flight_bytes{{job=\"{job}\"}}")).await) as usize
}

/// Writes rows `(v % 100, v)` to a topic of two partitions, so many a second, until it is stopped.
struct Load {
    going: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(bootstrap: &str, topic: &str, per_second: usize) -> Self {
        let (going, written) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicUsize>::default());
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
        let (go_on, count, topic) = (Arc::clone(&going), Arc::clone(&written), topic.to_owned());
        let thread = std::thread::spawn(move || {
            while go_on.load(Ordering::SeqCst) {
                for _ in 0..per_second / 100 {
                    let v = count.fetch_add(1, Ordering::SeqCst) as u64;
                    let value = row(v % 100, v, "");
                    let record: BaseRecord<'_, (), _> =
                        BaseRecord::to(&topic).partition((v % 2) as i32).payload(&value);
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                }
                producer.poll(Duration::ZERO);
                std::thread::sleep(Duration::from_millis(10));
            }
            producer.flush(PATIENCE).unwrap();
        });
        Self { going, written, thread }
    }

    /// Stops; answers how many rows there are.
    fn stop(self) -> usize {
        self.going.store(false, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.written.load(Ordering::SeqCst)
    }
}

/// A neighbour: how long a record takes from its producer to whoever asks its view.
struct Neighbour {
    client: Client,
    bootstrap: String,
    topic: String,
    sent: usize,
}

impl Neighbour {
    async fn start(server: &RondelServer, broker: &rondel_tests::kafka::KafkaBroker, topic: &str) -> Result<Self> {
        broker.create_topic(topic, 1).await?;
        let (client, bootstrap) = (server.connect().await?, broker.bootstrap());
        create_stream(&client, "pings", &bootstrap, topic).await?;
        client.batch_execute("CREATE MATERIALIZED VIEW pinged AS SELECT count(*) AS n FROM pings").await?;
        Ok(Self { client, bootstrap, topic: topic.to_owned(), sent: 0 })
    }

    /// Times of `count` records, sorted.
    async fn ask(&mut self, count: usize) -> Result<Vec<Duration>> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("linger.ms", "0");
        let producer: BaseProducer = config.create()?;
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            self.sent += 1;
            let value = row(1, 1, "");
            let record: BaseRecord<'_, (), _> = BaseRecord::to(&self.topic).partition(0).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
            let wanted = [[Some(self.sent.to_string())]];
            while rows(&self.client, "SELECT n FROM pinged").await? != wanted {
                producer.poll(Duration::ZERO);
                assert!(start.elapsed() < PATIENCE, "a neighbour stands still");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(start.elapsed());
        }
        // The first makes the connection.
        times.remove(0);
        times.sort_unstable();
        Ok(times)
    }
}

/// The median and the worst.
fn shape(times: &[Duration]) -> (Duration, Duration) {
    (times[times.len() / 2], times[times.len() - 1])
}

#[test]
fn rows_are_what_the_descriptor_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("limits");
    let pool = protox::compile(["row.proto"], [folder]).unwrap();
    let pool = prost_reflect::DescriptorPool::from_file_descriptor_set(pool).unwrap();
    let class = pool.get_message_by_name("rondel.tests.Row").unwrap();
    let message = prost_reflect::DynamicMessage::decode(class, row(300, 7, "text").as_slice()).unwrap();
    assert_eq!(message.get_field_by_name("k").unwrap().as_i64(), Some(300));
    assert_eq!(message.get_field_by_name("v").unwrap().as_i64(), Some(7));
    assert_eq!(message.get_field_by_name("text").unwrap().as_str(), Some("text"));
}
