//! The Kafka source against what only a real broker does: transactions, offsets for times, committed positions, topics
//! that grow, records that are deleted. Below SQL: the source alone.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rondel_engine::connector::definition::Definition;
use rondel_engine::connector::registry::define_stream;
use rondel_engine::connector::{PollState, Reporter, ScanRequest, SourceReader};
use rondel_engine::time::SystemClock;
use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;

use super::booking;

const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what it is told, and wakes the test.
struct Notes {
    waits: Mutex<BTreeMap<String, String>>,
    news: SyncSender<()>,
}

impl Reporter for Notes {
    fn waits_for(&self, who: &str, what: Option<String>) {
        let mut waits = self.waits.lock().expect("no test panics while it holds this");
        match what {
            Some(what) => waits.insert(who.to_owned(), what),
            None => waits.remove(who),
        };
        let _ = self.news.try_send(());
    }

    fn fail(&self, error: rondel_engine::Error) {
        self.waits_for("error", Some(error.message().to_owned()));
    }

    fn skipped(&self, who: &str, rows: u64, last_reason: &str) {
        self.waits_for("skipped", Some(format!("{who}: {rows}, {last_reason}")));
    }
}

/// A source over `order_number`, read on this thread.
struct Reading {
    readers: Vec<Box<dyn SourceReader>>,
    notes: Arc<Notes>,
    woken: Receiver<()>,
    orders: Vec<String>,
}

impl Reading {
    fn open(broker: &KafkaBroker, topic: &str, bounded: bool, more: &[(&str, &str)]) -> Result<Reading> {
        let brokers = broker.bootstrap();
        let mut options: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in [
            ("connector", "kafka"),
            ("brokers", &brokers),
            ("topic", topic),
            ("format", "protobuf"),
            ("message", "rondel.tour.Booking"),
            ("descriptor", &rondel_tests::root().join("sql/tour/booking.proto").to_string_lossy()),
        ]
        .into_iter()
        .chain(more.iter().copied())
        {
            options.insert(name.to_owned(), value.to_owned());
        }
        let stream = define_stream(&Definition {
            name: "s",
            options: &options,
            descriptor: None,
            columns: None,
            schemas: None,
        })?;
        let schema = Arc::new(stream.schema().project(&[0])?);
        let source = stream.open(ScanRequest { projection: vec![0], leaves: Vec::new(), schema, bounded })?;
        let (news, woken) = sync_channel(1);
        let notes = Arc::new(Notes { waits: Mutex::default(), news: news.clone() });
        let told: Arc<dyn Reporter> = Arc::<Notes>::clone(&notes);
        let mut readers = source.readers(2, Arc::new(SystemClock), told)?;
        for reader in &mut readers {
            let news = news.clone();
            reader.set_waker(Arc::new(move || news.try_send(()).unwrap_or(())));
        }
        Ok(Reading { readers, notes, woken, orders: Vec::new() })
    }

    /// Polls each reader once; answers whether all are finished.
    fn poll(&mut self) -> Result<bool> {
        let mut finished = true;
        for reader in &mut self.readers {
            let mut batches = Vec::new();
            finished &= reader.poll(1_000, &mut batches)? == PollState::Finished;
            for batch in batches {
                let orders = batch.rows.column(0).as_string_view();
                self.orders.extend(orders.iter().flatten().map(str::to_owned));
            }
        }
        self.orders.sort_unstable();
        Ok(finished)
    }

    fn until(&mut self, what: &str, done: impl Fn(&[String], bool) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let finished = self.poll()?;
            if done(&self.orders, finished) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let waits = self.notes.waits.lock().map(|waits| waits.clone()).unwrap_or_default();
                return Err(format!("{what}: not in time; read {:?}, waits for {waits:?}", self.orders).into());
            }
            let _ = self.woken.recv_timeout(Duration::from_millis(20));
        }
    }
}

fn orders(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Sends in a transaction of its own.
fn send_in_transaction(broker: &KafkaBroker, topic: &str, names: &[&str], commit: bool) -> Result<BaseProducer> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", format!("{topic}-{}", names.join("-")))
        .create()?;
    producer.init_transactions(PATIENCE)?;
    producer.begin_transaction()?;
    for name in names {
        let value = booking(name, 1)?;
        let record: BaseRecord<'_, (), Vec<u8>> = BaseRecord::to(topic).partition(0).payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    if commit {
        producer.commit_transaction(PATIENCE)?;
    } else {
        producer.abort_transaction(PATIENCE)?;
    }
    Ok(producer)
}

/// A topic may end in a marker, or in nothing but an aborted transaction: a bounded scan ends there all the same.
#[tokio::test]
async fn only_what_was_committed_is_read() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("source-committed", 1).await?;
    send_in_transaction(broker, "source-committed", &["a", "b"], true)?;
    send_in_transaction(broker, "source-committed", &["x", "y"], false)?;
    send_in_transaction(broker, "source-committed", &["c"], true)?;
    send_in_transaction(broker, "source-committed", &["z"], false)?;
    let mut bounded = Reading::open(broker, "source-committed", true, &[])?;
    bounded.until("a bounded scan", |_, finished| finished)?;
    assert_eq!(bounded.orders, ["a", "b", "c"]);

    let mut endless = Reading::open(broker, "source-committed", false, &[])?;
    endless.until("an endless scan", |orders, _| orders.len() >= 3)?;
    send_in_transaction(broker, "source-committed", &["d"], true)?;
    endless.until("one more", |found, _| found == orders(&["a", "b", "c", "d"]))?;
    Ok(())
}

#[tokio::test]
async fn reading_may_start_at_a_time() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("source-times", 2).await?;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create()?;
    let noon = 1_769_860_800_000_i64; // 2026-01-31T12:00:00Z
    for (name, partition, millis) in [
        ("early", 0, noon - 1),
        ("noon", 0, noon),
        ("later", 0, noon + 5_000),
        // All of partition 1 lies before: reading starts at its end.
        ("too-early", 1, noon - 60_000),
    ] {
        let value = booking(name, 1)?;
        let record: BaseRecord<'_, (), Vec<u8>> =
            BaseRecord::to("source-times").partition(partition).payload(&value).timestamp(millis);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    let start = [("start", "timestamp:2026-01-31T12:00:00Z")];
    let mut reading = Reading::open(broker, "source-times", true, &start)?;
    reading.until("a bounded scan", |_, finished| finished)?;
    assert_eq!(reading.orders, ["later", "noon"]);
    Ok(())
}

#[tokio::test]
async fn reading_may_start_where_a_group_stands() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("source-group", 2).await?;
    let values = ["a", "b", "c"].map(|name| booking(name, 1)).into_iter().collect::<Result<Vec<_>>>()?;
    broker.produce("source-group", 0, &values)?;
    broker.produce("source-group", 1, &[booking("d", 1)?])?;
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "source-group-readers")
        .create()?;
    let mut positions = TopicPartitionList::new();
    positions.add_partition_offset("source-group", 0, Offset::Offset(2))?;
    group.commit(&positions, CommitMode::Sync)?;
    let start = [("start", "committed"), ("group", "source-group-readers")];
    let mut reading = Reading::open(broker, "source-group", true, &start)?;
    reading.until("a bounded scan", |_, finished| finished)?;
    // Partition 1 has no committed position: it is read from its beginning.
    assert_eq!(reading.orders, ["c", "d"]);
    Ok(())
}

#[tokio::test]
async fn partitions_that_appear_are_read_from_their_beginning() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("source-grows", 1).await?;
    broker.produce("source-grows", 0, &[booking("a", 1)?])?;
    let mut reading = Reading::open(broker, "source-grows", false, &[("discovery_interval", "100ms")])?;
    reading.until("the first partition", |found, _| found == orders(&["a"]))?;
    broker.add_partitions("source-grows", 3).await?;
    broker.produce("source-grows", 2, &[booking("b", 1)?])?;
    reading.until("the new partition", |found, _| found == orders(&["a", "b"]))?;
    Ok(())
}

/// The broker has deleted what was to be read: an error, and no row is left out without a word.
#[tokio::test]
async fn a_position_that_is_gone_is_an_error() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("source-gone", 1).await?;
    let values = ["a", "b", "c"].map(|name| booking(name, 1)).into_iter().collect::<Result<Vec<_>>>()?;
    broker.produce("source-gone", 0, &values)?;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create()?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset("source-gone", 0, Offset::Offset(2))?;
    admin.delete_records(&before, &AdminOptions::new()).await?;
    let mut reading = Reading::open(broker, "source-gone", false, &[("start", "offsets:0=0")])?;
    let failed = |reading: &Reading| reading.notes.waits.lock().is_ok_and(|waits| waits.contains_key("error"));
    let deadline = Instant::now() + PATIENCE;
    let said = loop {
        match reading.poll() {
            Err(error) => break error.to_string(),
            Ok(_) if failed(&reading) => break reading.notes.waits.lock().map_err(|_| "poisoned")?["error"].clone(),
            Ok(_) => {}
        }
        assert!(Instant::now() < deadline, "no error; read {:?}", reading.orders);
        let _ = reading.woken.recv_timeout(Duration::from_millis(20));
    };
    assert_eq!(reading.orders, Vec::<String>::new());
    for word in ["source-gone", "0"] {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    // From the earliest that is left, it reads on.
    let mut reading = Reading::open(broker, "source-gone", true, &[])?;
    reading.until("what is left", |_, finished| finished)?;
    assert_eq!(reading.orders, ["c"]);
    Ok(())
}
