//! Kafka as a [log with transactions](crate::connector::transaction::log).
//!
//! * `producer`: one producer with a transactional id
//! * `progress`: the compacted topic of progress records
//! * `closing`: calls that block, and how they end

mod closing;
mod producer;
mod progress;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use self::closing::Closing;
use self::producer::KafkaProducer;
use self::progress::ProgressTopic;
use super::delivery::Delivery;
use super::health::Health;
use super::settings::{KafkaSinkOptions, Transactions};
use crate::connector::transaction::log::{TransactionalLog, TransactionalProducer, Visit};
use crate::error::{Error, Result};

/// How long to wait before a call is made again.
const REST: Duration = Duration::from_millis(50);

/// The cluster that one sink writes to.
pub(super) struct KafkaLog {
    /// `topic demand on 127.0.0.1:9092`.
    name: String,
    options: KafkaSinkOptions,
    transactions: Transactions,
    health: Arc<Health>,
    closing: Arc<Closing>,
    progress: ProgressTopic,
    /// Those that may have an open transaction when the job is dropped.
    producers: Mutex<Vec<Weak<KafkaProducer>>>,
}

impl KafkaLog {
    /// The cluster of these options, which say that the sink writes exactly once.
    pub(super) fn new(options: KafkaSinkOptions, health: Arc<Health>) -> Result<Arc<Self>> {
        let transactions = options
            .transactions
            .clone()
            .ok_or_else(|| Error::internal("a Kafka sink has no options of its transactions"))?;
        let closing = Arc::<Closing>::default();
        let progress = ProgressTopic::new(&options, &transactions, Arc::clone(&health), Arc::clone(&closing));
        Ok(Arc::new(Self {
            name: format!("topic {} on {}", options.topic, options.brokers),
            options,
            transactions,
            health,
            closing,
            progress,
            producers: Mutex::default(),
        }))
    }
}

impl TransactionalLog for KafkaLog {
    fn name(&self) -> &str {
        &self.name
    }

    fn producer(&self, transactional_id: &str) -> Result<Arc<dyn TransactionalProducer>> {
        let config = self.options.transactional_config(&self.transactions, transactional_id);
        let delivery = Delivery::open_transactional(&config, &self.options.topic, Arc::clone(&self.health))?;
        let timeout = self.transactions.timeout;
        let producer = Arc::new(KafkaProducer::new(delivery, &self.name, timeout, Arc::clone(&self.closing)));
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.retain(|producer| producer.strong_count() > 0);
        producers.push(Arc::downgrade(&producer));
        Ok(producer)
    }

    fn progress_topic(&self) -> &str {
        &self.transactions.progress_topic
    }

    fn open_progress(&self) -> Result<i32> {
        self.progress.open()
    }

    fn end_of_progress(&self, partition: i32) -> Result<i64> {
        self.progress.end(partition)
    }

    fn read_progress(&self, partition: i32, end: i64, visit: &mut Visit<'_>) -> Result<()> {
        self.progress.read(partition, end, visit)
    }

    fn waits_for(&self, what: Option<String>) {
        self.health.waits_for(what);
    }

    fn rest(&self) -> Result<()> {
        self.closing.wait(REST)
    }

    fn close(&self) {
        self.closing.close();
        self.health.close();
        let producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.iter().filter_map(Weak::upgrade).for_each(|producer| producer.give_up());
    }
}
