//! Yardsticks for the benchmarks: how fast librdkafka gives records to anyone, with nothing done to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::batch_queue::{BATCH_ROWS, BatchReader, OFFSET_BEGINNING, TopicHandle, Wake, WorkerQueue};
use super::settings::KafkaSourceOptions;
use crate::error::{Error, ErrorKind, Result};

/// What a yardstick read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Reads everything that a topic holds by rust-rdkafka's `poll`, one record at a time: what others ship.
pub fn drain_by_poll(brokers: &str, topic: &str, patience: Duration) -> Result<Drained> {
    let mut config = options(brokers, topic)?.consumer_config();
    config.set("group.id", "rondel-yardstick");
    let consumer: BaseConsumer = config.create().map_err(failed)?;
    let until = Instant::now() + patience;
    let mut open = partitions(&consumer, topic, patience)?;
    let mut list = TopicPartitionList::new();
    for partition in open.partitions() {
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let mut drained = Drained::default();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                drained.count(message.payload_len());
                open.passed(message.partition(), message.offset() + 1);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => open.passed(partition, i64::MAX),
            Some(Err(error)) => return Err(failed(error)),
            None => in_time(until, topic)?,
        }
    }
    Ok(drained)
}

/// Reads everything that a topic holds by the batch call: the least that reading through librdkafka costs.
pub fn drain_by_batches(brokers: &str, topic: &str, patience: Duration) -> Result<Drained> {
    let config = options(brokers, topic)?.consumer_config();
    let consumer: Arc<BaseConsumer> = Arc::new(config.create().map_err(failed)?);
    let until = Instant::now() + patience;
    let mut open = partitions(&consumer, topic, patience)?;
    let wake = Arc::new(Wake::default());
    let reading = std::thread::current();
    wake.set(Arc::new(move || reading.unpark()));
    let queue = Arc::new(WorkerQueue::<DefaultConsumerContext>::new(Arc::clone(&consumer), Arc::clone(&wake))?);
    let handle = TopicHandle::new(Arc::clone(&consumer), topic)?;
    let all: Vec<i32> = open.partitions().collect();
    for partition in &all {
        handle.start(*partition, OFFSET_BEGINNING, &queue)?;
    }
    let mut reader = BatchReader::new(queue);
    let mut drained = Drained::default();
    while !open.is_empty() {
        wake.arm();
        let batch = reader.take(BATCH_ROWS);
        for record in batch.iter() {
            match record.event() {
                None => {
                    drained.count(record.payload().map_or(0, <[u8]>::len));
                    open.passed(record.partition(), record.offset() + 1);
                }
                Some(RDKafkaErrorCode::PartitionEOF) => open.passed(record.partition(), i64::MAX),
                Some(_) => return Err(Error::new(ErrorKind::External, record.event_text())),
            }
        }
        let taken = batch.len();
        drop(batch);
        if taken < BATCH_ROWS && !open.is_empty() {
            in_time(until, topic)?;
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
    all.iter().for_each(|partition| handle.stop(*partition));
    Ok(drained)
}

fn options(brokers: &str, topic: &str) -> Result<KafkaSourceOptions> {
    let values = [("brokers", brokers), ("topic", topic)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    KafkaSourceOptions::parse(&BTreeMap::from(values), &[])
}

impl Drained {
    #[inline]
    fn count(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

/// The partitions that were not read to their end, looked at for every record: by number, in a row.
struct Open {
    /// The offset at which each partition ends; `None`: it holds nothing, or was read.
    ends: Vec<Option<i64>>,
    left: usize,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.left == 0
    }

    fn partitions(&self) -> impl Iterator<Item = i32> {
        self.ends.iter().enumerate().filter(|(_, end)| end.is_some()).map(|(partition, _)| partition as i32)
    }

    /// A partition was read up to before `offset`.
    #[inline]
    fn passed(&mut self, partition: i32, offset: i64) {
        let end = usize::try_from(partition).ok().and_then(|partition| self.ends.get_mut(partition));
        if let Some(end) = end
            && end.is_some_and(|end| offset >= end)
        {
            *end = None;
            self.left -= 1;
        }
    }
}

/// The partitions that hold something, with the offsets at which they end now.
fn partitions(consumer: &BaseConsumer, topic: &str, patience: Duration) -> Result<Open> {
    let metadata = consumer.fetch_metadata(Some(topic), patience).map_err(failed)?;
    let mut ends = Vec::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), patience).map_err(failed)?;
        let Ok(number) = usize::try_from(partition.id()) else { continue };
        if high > low {
            ends.resize(ends.len().max(number + 1), None);
            ends[number] = Some(high);
        }
    }
    let left = ends.iter().flatten().count();
    Ok(Open { ends, left })
}

fn in_time(until: Instant, topic: &str) -> Result<()> {
    if Instant::now() < until {
        return Ok(());
    }
    Err(Error::new(ErrorKind::External, format!("topic {topic} was not read in time")))
}

fn failed(error: KafkaError) -> Error {
    Error::new(ErrorKind::External, format!("Kafka: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::kafka::client::Producer;
    use crate::connector::kafka::mock::MockBroker;
    use crate::connector::kafka::testing::PATIENCE;

    #[test]
    fn both_read_everything() {
        let broker = MockBroker::start(1).unwrap();
        broker.create_topic("t", 3).unwrap();
        let producer = Producer::new(broker.bootstrap()).unwrap();
        for n in 0..20_000 {
            producer.send_value("t", n % 2, b"twelve bytes").unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        let all = Drained { records: 20_000, bytes: 240_000 };
        assert_eq!(drain_by_poll(broker.bootstrap(), "t", PATIENCE).unwrap(), all);
        assert_eq!(drain_by_batches(broker.bootstrap(), "t", PATIENCE).unwrap(), all);
    }
}
