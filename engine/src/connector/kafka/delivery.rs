//! Writing to Kafka: one idempotent producer that a sink's workers share, and the thread that serves it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::batch_queue::{Wake, Watched};
use super::health::{self, Health, log_line, words};
use super::settings::config_error;
pub(super) use crate::connector::transaction::log::Taken;
use crate::error::{Error, ErrorKind, Result};

/// How long a question to a broker that is down may take, and how long to wait before the next.
const ASK: Duration = Duration::from_secs(1);
const BACK_OFF: Duration = Duration::from_millis(250);

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

/// What to do when a record with a ticket was written.
type OnDelivered = Box<dyn Fn(usize) + Send + Sync>;

pub(super) struct WritingContext {
    health: Arc<Health>,
    delivered: OnDelivered,
    /// Of a producer with transactions: why its transaction can't commit. It is the committer who tells the job.
    transaction: Option<Mutex<Option<Error>>>,
}

impl WritingContext {
    fn fail(&self, error: Error) {
        match &self.transaction {
            Some(failed) => _ = failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error),
            None => self.health.fail(error),
        }
    }

    fn failed(&self) -> Option<Error> {
        match &self.transaction {
            Some(failed) => failed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => None,
        }
        .or_else(|| self.health.failed())
    }
}

impl ClientContext for WritingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(self.health.who(), level, facility, text);
    }

    fn error(&self, error: KafkaError, words: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) if self.transaction.is_some() => self.fail(Error::new(
                ErrorKind::External,
                format!("the Kafka client for {} gave up: {}", self.health.brokers(), health::plain(words)),
            )),
            _ => health::heard(&self.health, &error, words),
        }
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
            Err((error, record)) => self.fail(delivery_error(record.topic(), record.partition(), error)),
        }
    }
}

fn delivery_error(topic: &str, partition: i32, error: &KafkaError) -> Error {
    let place = if partition < 0 { String::new() } else { format!(", partition {partition}") };
    let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), words);
    Error::new(ErrorKind::External, format!("a record could not be written to topic {topic}{place}: {reason}"))
}

/// A producer and its thread; shared by those who write through an `Arc`. Records that are not delivered when it is
/// dropped are given up.
pub(super) struct Delivery {
    shared: Arc<Shared>,
}

/// What the writers and the serving thread share.
struct Shared {
    producer: Watched<BaseProducer<WritingContext>>,
    health: Arc<Health>,
    wake: Arc<Wake>,
    wanted: AtomicBool,
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
        let context = WritingContext { health: Arc::clone(&health), delivered, transaction: None };
        Self::serve(config, topic, health, context)
    }

    /// The same for a producer with transactions: what goes wrong with a record is told to those who ask, and not to the
    /// job.
    pub(super) fn open_transactional(config: &ClientConfig, topic: &str, health: Arc<Health>) -> Result<Arc<Self>> {
        let transaction = Some(Mutex::default());
        let context = WritingContext { health: Arc::clone(&health), delivered: Box::new(|_| {}), transaction };
        Self::serve(config, topic, health, context)
    }

    fn serve(config: &ClientConfig, topic: &str, health: Arc<Health>, context: WritingContext) -> Result<Arc<Self>> {
        let producer: BaseProducer<WritingContext> =
            config.create_with_context(context).map_err(|error| config_error(&error))?;
        let wake = Arc::new(Wake::default());
        let producer = Watched::producer(producer, Arc::clone(&wake))?;
        let shared = Arc::new(Shared { producer, health, wake, wanted: AtomicBool::new(true) });
        let (served, topic) = (Arc::clone(&shared), topic.to_owned());
        thread::Builder::new()
            .name("kafka-delivery".to_owned())
            .spawn(move || serve(served, &topic))
            .map_err(|error| Error::internal(format!("no thread for the Kafka producer: {error}")))?;
        Ok(Arc::new(Self { shared }))
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
        match self.shared.producer.send(outgoing) {
            Ok(()) => Ok(Taken::Yes),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => Ok(Taken::Full),
            Err((error, _)) => Err(delivery_error(record.topic, record.partition.unwrap_or(-1), &error)),
        }
    }

    /// An error if a record could not be written.
    pub(super) fn check(&self) -> Result<()> {
        self.shared.producer.context().failed().map_or(Ok(()), Err)
    }

    /// The producer, for calls about transactions.
    pub(super) fn producer(&self) -> &BaseProducer<WritingContext> {
        &self.shared.producer
    }

    /// Whether every record given so far is written. An error if one could not be.
    pub(super) fn delivered(&self) -> Result<bool> {
        let waiting = self.shared.producer.in_flight_count();
        self.check().map(|()| waiting == 0)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // What is purged from now on is not a failure of the job.
        self.shared.health.close();
        self.shared.wanted.store(false, Ordering::SeqCst);
        self.shared.wake.wake();
    }
}

impl Shared {
    /// Serves delivery reports and errors, and sleeps until `until` or until the writers are gone; `None`: until there
    /// is no broker any more.
    fn serve(&self, until: Option<Instant>) {
        loop {
            self.wake.arm();
            while !self.producer.quiet() {
                self.producer.poll(Duration::ZERO);
            }
            if !self.wanted.load(Ordering::SeqCst) || (until.is_none() && self.health.down()) {
                return;
            }
            match until {
                None => thread::park(),
                Some(until) => {
                    let rest = until.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        return;
                    }
                    thread::park_timeout(rest);
                }
            }
        }
    }
}

/// The serving thread. It is the last to hold the producer, so that closing the client, which waits for its threads,
/// happens here and not on a worker's.
fn serve(shared: Arc<Shared>, topic: &str) {
    let this = thread::current();
    shared.wake.set(Arc::new(move || this.unpark()));
    while shared.wanted.load(Ordering::SeqCst) {
        // Asking for the topic is how a producer says that it writes there, and how the broker is found again.
        let asked = shared.producer.client().fetch_metadata(Some(topic), ASK);
        shared.serve(Some(Instant::now()));
        match asked {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                let missing = found.is_none_or(|found| found.error().is_some() || found.partitions().is_empty());
                let what = || format!("topic {topic}, which does not exist on {}", shared.health.brokers());
                shared.health.answered();
                shared.health.waits_for(missing.then(what));
                shared.serve(missing.then(|| Instant::now() + BACK_OFF));
            }
            Err(error) => {
                let code = error.rdkafka_error_code();
                shared.health.waits_for_brokers(&code.map_or_else(|| error.to_string(), words));
                shared.serve(Some(Instant::now() + BACK_OFF));
            }
        }
    }
    while Arc::strong_count(&shared) > 1 {
        thread::park_timeout(Duration::from_millis(1));
    }
}
