//! A small producer and consumer of Kafka records: for the demo, tests and benchmarks. Streams and sinks of a job go
//! through [`source`](super::source) and [`sink`](super::sink).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::settings::{Passed, producer_config};
use crate::error::{Error, ErrorKind, Result};

/// A record, written or read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaRecord {
    /// The partition; to write: `None` lets the key decide.
    pub partition: Option<i32>,
    /// The offset; set by reading.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970; to write: `None` is now.
    pub timestamp_millis: Option<i64>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Writes records.
pub struct Producer {
    producer: BaseProducer,
}

impl Producer {
    /// A producer for these brokers.
    pub fn new(brokers: &str) -> Result<Self> {
        Self::with(brokers, &[])
    }

    /// A producer for these brokers, with properties of librdkafka.
    pub fn with(brokers: &str, properties: &[(&str, &str)]) -> Result<Self> {
        let mut config = producer_config(brokers, &Passed::default());
        config.set("queue.buffering.max.kbytes", "262144");
        properties.iter().for_each(|(name, value)| _ = config.set(*name, *value));
        Ok(Self { producer: config.create().map_err(|error| failed(&error))? })
    }

    /// Gives a record to the producer; waits while its queue is full.
    pub fn send(&self, topic: &str, record: &KafkaRecord) -> Result<()> {
        let mut headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        loop {
            let outgoing = BaseRecord::<[u8], [u8]> {
                topic,
                partition: record.partition,
                payload: record.value.as_deref(),
                key: record.key.as_deref(),
                timestamp: record.timestamp_millis,
                headers: (!record.headers.is_empty()).then_some(headers),
                delivery_opaque: (),
            };
            match self.producer.send(outgoing) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    self.producer.poll(Duration::from_millis(5));
                    headers = back.headers.unwrap_or_default();
                }
                Err((error, _)) => return Err(failed(&error)),
            }
        }
    }

    /// Gives the producer a value with a partition and no key.
    pub fn send_value(&self, topic: &str, partition: i32, value: &[u8]) -> Result<()> {
        let record = KafkaRecord { partition: Some(partition), value: Some(value.to_vec()), ..KafkaRecord::default() };
        self.send(topic, &record)
    }

    /// Waits until everything is written.
    pub fn flush(&self, patience: Duration) -> Result<()> {
        self.producer.flush(patience).map_err(|error| failed(&error))
    }
}

/// All records that a topic holds now, by partition and offset. Waits at most `patience`.
pub fn read_topic(brokers: &str, topic: &str, patience: Duration) -> Result<Vec<KafkaRecord>> {
    let until = Instant::now() + patience;
    let consumer = consumer(brokers, "rondel-client")?;
    let metadata = consumer.fetch_metadata(Some(topic), patience).map_err(|error| failed(&error))?;
    let mut open = BTreeMap::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), patience).map_err(|error| failed(&error))?;
        if high > low {
            open.insert(partition.id(), high);
        }
    }
    let mut list = TopicPartitionList::new();
    for partition in open.keys() {
        list.add_partition_offset(topic, *partition, Offset::Beginning).map_err(|error| failed(&error))?;
    }
    consumer.assign(&list).map_err(|error| failed(&error))?;
    let mut records = Vec::new();
    while !open.is_empty() {
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(Error::new(ErrorKind::External, format!("topic {topic} was not read in {patience:?}")));
        }
        match consumer.poll(rest.min(Duration::from_millis(100))) {
            Some(Ok(message)) => {
                if open.get(&message.partition()).is_some_and(|high| message.offset() + 1 >= *high) {
                    open.remove(&message.partition());
                }
                records.push(owned(&message));
            }
            // By position, not by record: the last offsets may be marks of transactions.
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => return Err(failed(&error)),
            None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Commits positions of a consumer group, as a consumer of that group would.
pub fn commit_offsets(brokers: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(|error| failed(&error))?;
    }
    consumer(brokers, group)?.commit(&list, CommitMode::Sync).map_err(|error| failed(&error))
}

fn consumer(brokers: &str, group: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", brokers),
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
    ] {
        config.set(name, value);
    }
    config.create().map_err(|error| failed(&error))
}

fn owned(message: &BorrowedMessage<'_>) -> KafkaRecord {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    KafkaRecord {
        partition: Some(message.partition()),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        timestamp_millis: message.timestamp().to_millis(),
        headers: headers.unwrap_or_default(),
    }
}

fn failed(error: &KafkaError) -> Error {
    Error::new(ErrorKind::External, format!("Kafka: {error}"))
}
