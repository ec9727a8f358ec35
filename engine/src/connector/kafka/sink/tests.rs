use super::*;
use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use uuid::Uuid;

use crate::connector::kafka::client::{KafkaRecord, read_topic};
use crate::connector::kafka::mock::MockBroker;
use crate::connector::kafka::testing::{PATIENCE, TestReporter, TextEncoder, values};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("zone", DataType::Utf8, true), Field::new("n", DataType::Int64, false)]))
}

fn delta(rows: &[(&str, i64, i64)]) -> Delta {
    let zones = StringArray::from_iter_values(rows.iter().map(|(zone, _, _)| zone));
    let numbers = Int64Array::from_iter_values(rows.iter().map(|(_, n, _)| *n));
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(zones), Arc::new(numbers)]).unwrap();
    Delta::weighted(batch, rows.iter().map(|(_, _, weight)| *weight).collect::<Vec<_>>().into())
}

fn sink(broker: &MockBroker, options: &[(&str, &str)], changelog: bool) -> Result<KafkaSink> {
    let mut given = values(options);
    given.insert("brokers".to_owned(), broker.bootstrap().to_owned());
    given.insert("topic".to_owned(), "out".to_owned());
    // The mock broker acknowledges transactions without enforcing them.
    given.entry("delivery".to_owned()).or_insert_with(|| "at_least_once".to_owned());
    let options = KafkaSinkOptions::parse(&given, &[])?;
    KafkaSink::new("demand", options, &schema(), changelog, Arc::new(|| Ok(Box::new(TextEncoder))), None)
}

struct Writing {
    writers: Vec<Box<dyn SinkWriter>>,
    reporter: Arc<TestReporter>,
    news: Receiver<()>,
}

impl Writing {
    fn open(broker: &MockBroker, workers: usize, options: &[(&str, &str)], changelog: bool) -> Self {
        let (reporter, news) = TestReporter::new();
        let told: Arc<dyn Reporter> = Arc::<TestReporter>::clone(&reporter);
        let writers = Box::new(sink(broker, options, changelog).unwrap()).writers(workers, told).unwrap();
        Self { writers, reporter, news }
    }

    /// Waits until the reporter's word is as wished.
    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&TestReporter) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(&self.reporter) {
            assert!(Instant::now() < until, "{what}: {:?}", self.reporter.told());
            let _ = self.news.recv_timeout(Duration::from_millis(200));
        }
    }

    /// As a job does at its end: resumes and flushes all writers.
    #[track_caller]
    fn flush(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        for writer in &mut self.writers {
            while writer.flush()? == SinkState::Full {
                assert!(Instant::now() < until, "not flushed in time: {:?}", self.reporter.told());
                let _ = self.news.recv_timeout(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

fn written(broker: &MockBroker) -> Vec<KafkaRecord> {
    read_topic(broker.bootstrap(), "out", PATIENCE).unwrap()
}

fn text(bytes: &Option<Vec<u8>>) -> String {
    bytes.as_ref().map_or("-".to_owned(), |bytes| String::from_utf8(bytes.clone()).unwrap())
}

fn broker(partitions: i32) -> MockBroker {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("out", partitions).unwrap();
    broker
}

#[test]
fn rows_become_records_with_keys() {
    let broker = broker(4);
    let mut writing = Writing::open(&broker, 2, &[("key", "zone")], false);
    writing.writers[0].write(1, delta(&[("north", 1, 1), ("south", 2, 2)])).unwrap();
    writing.writers[1].write(1, delta(&[("north", 3, 1), ("east", 4, 1)])).unwrap();
    writing.flush().unwrap();
    let records = written(&broker);
    let mut pairs: Vec<_> = records.iter().map(|record| (text(&record.key), text(&record.value))).collect();
    pairs.sort();
    let expected =
        [("east", "east,4"), ("north", "north,1"), ("north", "north,3"), ("south", "south,2"), ("south", "south,2")];
    assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    // Where Java's client puts them: murmur2 of the key, its sign bit dropped, modulo the partitions.
    for record in &records {
        let place = (murmur2(record.key.as_deref().unwrap()) & 0x7fff_ffff) % 4;
        assert_eq!(record.partition, Some(place as i32), "{}", text(&record.key));
    }
}

/// Austin Appleby's MurmurHash2 with Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |word: u32| {
        let word = word.wrapping_mul(M);
        (word ^ (word >> 24)).wrapping_mul(M)
    };
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        hash = hash.wrapping_mul(M) ^ mix(u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0_u32, |last, byte| (last << 8) | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[test]
fn a_changelog_becomes_upserts_and_tombstones() {
    let broker = broker(1);
    let mut writing = Writing::open(&broker, 1, &[("key", "zone"), ("changelog", "upsert")], true);
    let writer = &mut writing.writers[0];
    writer.write(1, delta(&[("a", 1, 1), ("b", 1, 1)])).unwrap();
    writer.write(2, delta(&[("a", 2, 1), ("a", 1, -1)])).unwrap();
    writer.write(3, delta(&[("b", 1, -1)])).unwrap();
    writing.flush().unwrap();
    let records: Vec<_> = written(&broker).iter().map(|record| (text(&record.key), text(&record.value))).collect();
    let expected = [("a", "a,1"), ("b", "b,1"), ("a", "a,2"), ("b", "-")];
    assert_eq!(records, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let null = StringArray::from(vec![None::<&str>]);
    let null = RecordBatch::try_new(schema(), vec![Arc::new(null), Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let error = writing.writers[0].write(4, Delta::append(null)).unwrap_err();
    assert!(error.message().starts_with("sink demand: a row has no key"), "{error}");
}

#[test]
fn a_changelog_without_a_way_to_write_it_is_refused() {
    let broker = broker(1);
    let Err(error) = sink(&broker, &[("key", "zone")], true) else { panic!("refused") };
    assert!(error.message().contains("sink demand are corrected"), "{error}");
    assert!(error.hint().unwrap().contains("changelog = 'upsert'"));
    let Err(error) = sink(&broker, &[("key", "zone,district")], false) else { panic!("refused") };
    assert!(error.message().contains("\"district\""), "{error}");
}

#[test]
fn a_transaction_that_a_checkpoint_outlasts_is_refused() {
    let broker = broker(1);
    let open = |interval| {
        let options = [("delivery", "exactly_once"), ("transaction_timeout", "30s")];
        let writer = Writer {
            deployment: Uuid::from_u128(1),
            job: Uuid::from_u128(2),
            number: 2,
            has_committed: false,
            interval,
        };
        Box::new(sink(&broker, &options, false).unwrap()).open_exactly_once(1, writer, TestReporter::new().0)
    };
    let error = open(Duration::from_secs(30)).err().unwrap();
    assert!(error.message().contains("interval and time-out, 30 s, and the option"), "{error}");
    assert!(open(Duration::from_secs(29)).is_ok());
}

#[test]
fn a_full_queue_holds_the_writer_and_loses_nothing() {
    let broker = broker(1);
    let options = [("kafka.queue.buffering.max.messages", "10"), ("kafka.linger.ms", "0")];
    let mut writing = Writing::open(&broker, 1, &options, false);
    broker.go_down().unwrap();
    let rows: Vec<(String, i64, i64)> = (0..100).map(|n| ("z".to_owned(), n, 1)).collect();
    let rows: Vec<(&str, i64, i64)> = rows.iter().map(|(zone, n, weight)| (zone.as_str(), *n, *weight)).collect();
    assert_eq!(writing.writers[0].write(1, delta(&rows)).unwrap(), SinkState::Full);
    assert_eq!(writing.writers[0].resume().unwrap(), SinkState::Full);
    // A job that does not hold back: still nothing is lost.
    assert_eq!(writing.writers[0].write(2, delta(&[("z", 100, 1)])).unwrap(), SinkState::Full);
    writing.until("a state", |reporter| reporter.waits().starts_with("broker 127.0.0.1"));
    broker.come_up().unwrap();
    writing.flush().unwrap();
    let numbers: Vec<_> = written(&broker).iter().map(|record| text(&record.value)).collect();
    assert_eq!(numbers, (0..=100).map(|n| format!("z,{n}")).collect::<Vec<_>>());
    writing.until("the state is cleared", |reporter| reporter.waits().is_empty());
}

/// The mock broker looks at the sequence numbers of transactions only, so a batch whose answer was cut off stands twice in
/// its log. That a real broker takes it once is shown against one (`tests/real_kafka/faults.rs`).
#[test]
fn a_broker_that_goes_away_while_writing_loses_nothing_and_order_is_kept() {
    let broker = broker(2);
    let mut writing = Writing::open(&broker, 1, &[("key", "zone"), ("kafka.linger.ms", "0")], false);
    let mut number = 0;
    for round in 0..3_u64 {
        for epoch in 0..50 {
            let rows = [("a", number, 1), ("b", number, 1)];
            assert_eq!(writing.writers[0].write(round * 100 + epoch, delta(&rows)).unwrap(), SinkState::Ready);
            number += 1;
            if epoch == 25 {
                broker.go_down().unwrap();
            }
        }
        writing.until("a state", |reporter| !reporter.waits().is_empty());
        broker.come_up().unwrap();
        writing.until("the state is cleared", |reporter| reporter.waits().is_empty());
    }
    writing.flush().unwrap();
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in written(&broker) {
        let (values, value) = (by_key.entry(text(&record.key)).or_default(), text(&record.value));
        if !values.contains(&value) {
            values.push(value);
        }
    }
    for key in ["a", "b"] {
        assert_eq!(by_key[key], (0..number).map(|n| format!("{key},{n}")).collect::<Vec<_>>(), "all, in order");
    }
}

#[test]
fn a_record_that_is_refused_stops_the_job() {
    let broker = broker(1);
    let mut writing = Writing::open(&broker, 1, &[], false);
    broker.refuse_writes(20).unwrap();
    writing.writers[0].write(1, delta(&[("a", 1, 1)])).unwrap();
    let error = writing.flush().unwrap_err();
    assert!(error.message().contains("could not be written to topic out, partition 0"), "{error}");
    assert_eq!(writing.reporter.told().failures.len(), 1);
    assert!(writing.writers[0].write(2, delta(&[("a", 1, 1)])).is_err());
}

#[test]
fn nothing_is_left_when_a_sink_goes() {
    let broker = broker(1);
    let mut writing = Writing::open(&broker, 3, &[], false);
    broker.go_down().unwrap();
    writing.until("a state", |reporter| !reporter.waits().is_empty());
    // What the producer has is given up with the job, and that is no failure.
    assert_eq!(writing.writers[2].write(1, delta(&[("a", 1, 1)])).unwrap(), SinkState::Ready);
    let Writing { writers, reporter, .. } = writing;
    drop(writers);
    let until = Instant::now() + PATIENCE;
    while Arc::strong_count(&reporter) > 1 {
        assert!(Instant::now() < until, "a thread or a client is left");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(reporter.told().failures.is_empty());
}
