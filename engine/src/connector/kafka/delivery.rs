//! Writing to Kafka: one idempotent producer that a sink's workers share, and the thread that serves it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::health::{self, Health, log_line, words};
use super::settings::config_error;
use crate::error::{Error, ErrorKind, Result};

/// How long the serving thread waits for an event before it looks whether it is still wanted.
const SERVE: Duration = Duration::from_millis(500);

/// A record to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) timestamp_millis: Option<i64>,
    pub(super) headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Given back when the record is delivered; 0 for none.
    pub(super) ticket: usize,
}

/// Whether a record was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is on its way.
    Yes,
    /// The queue is full: offer it again later.
    Full,
}

/// What to do when a record with a ticket was written.
type OnDelivered = Box<dyn Fn(usize) + Send + Sync>;

struct WritingContext {
    health: Arc<Health>,
    delivered: OnDelivered,
}

impl ClientContext for WritingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(self.health.who(), level, facility, text);
    }

    fn error(&self, error: KafkaError, words: &str) {
        health::heard(&self.health, &error, words);
    }
}

impl ProducerContext for WritingContext {
    /// The record's ticket.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        match result {
            Ok(_) => {
                if ticket != 0 {
                    (self.delivered)(ticket);
                }
            }
            Err((error, record)) => self.health.fail(delivery_error(record.topic(), record.partition(), error)),
        }
    }
}

fn delivery_error(topic: &str, partition: i32, error: &KafkaError) -> Error {
    let place = if partition < 0 { String::new() } else { format!(", partition {partition}") };
    let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), words);
    Error::new(ErrorKind::External, format!("a record could not be written to topic {topic}{place}: {reason}"))
}

/// A producer and its thread; shared through an `Arc`. Records that are not delivered when it is dropped are given up.
pub(super) struct Delivery {
    producer: BaseProducer<WritingContext>,
    health: Arc<Health>,
}

impl Delivery {
    /// Opens the producer and starts its thread, which makes the topic known early: a broker that is down shows at once
    /// and not with the first record.
    pub(super) fn open(
        config: &ClientConfig,
        topic: &str,
        health: Arc<Health>,
        delivered: OnDelivered,
    ) -> Result<Arc<Self>> {
        let context = WritingContext { health: Arc::clone(&health), delivered };
        let producer = config.create_with_context(context).map_err(|error| config_error(&error))?;
        let delivery = Arc::new(Self { producer, health });
        let (served, topic) = (Arc::clone(&delivery), topic.to_owned());
        thread::Builder::new()
            .name("kafka-delivery".to_owned())
            .spawn(move || serve(served, &topic))
            .map_err(|error| Error::internal(format!("no thread for the Kafka producer: {error}")))?;
        Ok(delivery)
    }

    /// Offers a record; never blocks.
    pub(super) fn send(&self, record: Outgoing<'_>) -> Result<Taken> {
        self.check()?;
        let mut outgoing: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(record.topic, record.ticket);
        outgoing.partition = record.partition;
        outgoing.key = record.key;
        outgoing.payload = record.value;
        outgoing.timestamp = record.timestamp_millis;
        if !record.headers.is_empty() {
            let empty = OwnedHeaders::new_with_capacity(record.headers.len());
            outgoing.headers = Some(
                record
                    .headers
                    .iter()
                    .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: *value })),
            );
        }
        match self.producer.send(outgoing) {
            Ok(()) => Ok(Taken::Yes),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => Ok(Taken::Full),
            Err((error, _)) => Err(delivery_error(record.topic, record.partition.unwrap_or(-1), &error)),
        }
    }

    /// An error if a record could not be written.
    pub(super) fn check(&self) -> Result<()> {
        self.health.failed().map_or(Ok(()), Err)
    }

    /// Whether every record given so far is written. An error if one could not be.
    pub(super) fn delivered(&self) -> Result<bool> {
        let waiting = self.producer.in_flight_count();
        self.check().map(|()| waiting == 0)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // What is purged now is not a failure of the job.
        self.health.close();
    }
}

/// Serves delivery reports and errors until nobody else holds the delivery. The last holder is this thread, so that
/// closing the client, which waits for its threads, happens here.
fn serve(delivery: Arc<Delivery>, topic: &str) {
    let mut known = false;
    while Arc::strong_count(&delivery) > 1 {
        if known && !delivery.health.down() {
            delivery.producer.poll(SERVE);
            continue;
        }
        // Asking for the topic is how a producer says that it writes there, and how the broker is found again.
        let asked = delivery.producer.client().fetch_metadata(Some(topic), SERVE * 4);
        delivery.producer.poll(Duration::ZERO);
        match asked {
            Ok(metadata) => {
                delivery.health.answered();
                let missing =
                    metadata.topics().iter().any(|found| found.error().is_some() || found.partitions().is_empty());
                known = !missing;
                delivery.health.waits_for(
                    missing.then(|| format!("topic {topic}, which does not exist on {}", delivery.health.brokers())),
                );
            }
            Err(_) => delivery.health.waits_for_brokers(),
        }
        if !known {
            delivery.producer.poll(SERVE / 2);
        }
    }
}
