//! The compacted topic of progress records: made on first use, checked at start, read to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::super::batch_queue::{BatchReader, OFFSET_BEGINNING, TopicHandle, Wake, WorkerQueue};
use super::super::health::{Health, ReadingContext, words};
use super::super::settings::{KafkaSinkOptions, Transactions, config_error};
use super::closing::Closing;
use crate::connector::transaction::log::Visit;
use crate::error::{Error, ErrorKind, Result};

/// How long one question to the brokers may take, and how long to wait before it is asked again.
const ASK: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(250);
/// How often a reader looks for records.
const LOOK: Duration = Duration::from_millis(5);
/// How long reading may stand still before the job says what it waits for.
const PATIENCE: Duration = Duration::from_millis(500);

/// See the [module](self).
pub(super) struct ProgressTopic {
    topic: String,
    brokers: String,
    partitions: i32,
    replication: Option<i32>,
    /// For questions, and for the end as it is.
    uncommitted: ClientConfig,
    /// For reading.
    committed: ClientConfig,
    health: Arc<Health>,
    closing: Arc<Closing>,
}

/// Why a question has no answer.
enum Refusal {
    /// Asked again, it may have one.
    Later(String),
    Final(Error),
}

impl ProgressTopic {
    pub(super) fn new(
        options: &KafkaSinkOptions,
        transactions: &Transactions,
        health: Arc<Health>,
        closing: Arc<Closing>,
    ) -> Self {
        Self {
            topic: transactions.progress_topic.clone(),
            brokers: options.brokers.clone(),
            partitions: transactions.progress_partitions,
            replication: transactions.progress_replication,
            uncommitted: options.progress_config("read_uncommitted"),
            committed: options.progress_config("read_committed"),
            health,
            closing,
        }
    }

    /// Makes the topic if it is not there, checks it, and answers how many partitions it has.
    pub(super) fn open(&self) -> Result<i32> {
        let admin = Arc::new(Admin {
            topic: self.topic.clone(),
            brokers: self.brokers.clone(),
            partitions: self.partitions,
            replication: self.replication,
            consumer: self.client(&self.uncommitted)?,
            admin: self
                .uncommitted
                .create_with_context(ReadingContext(Arc::clone(&self.health)))
                .map_err(|error| config_error(&error))?,
        });
        self.ask(move || admin.open())
    }

    /// The offset behind the last record of a partition, whether its transaction is committed or not.
    pub(super) fn end(&self, partition: i32) -> Result<i64> {
        let consumer = Arc::new(self.client(&self.uncommitted)?);
        let topic = self.topic.clone();
        self.ask(move || {
            let consumer = Arc::clone(&consumer);
            let (_, end) = consumer.fetch_watermarks(&topic, partition, ASK).map_err(|error| later(&error))?;
            Ok(end)
        })
    }

    /// Reads a partition's committed records until the position is `end` or more: the last offsets may be marks of
    /// transactions, so records alone do not say where the reader is.
    pub(super) fn read(&self, partition: i32, end: i64, visit: &mut Visit<'_>) -> Result<()> {
        if end <= 0 {
            return Ok(());
        }
        let consumer = Arc::new(self.client(&self.committed)?);
        let topic = TopicHandle::new(Arc::clone(&consumer), &self.topic)?;
        let queue = Arc::new(WorkerQueue::new(Arc::clone(&consumer), Arc::<Wake>::default())?);
        topic.start(partition, OFFSET_BEGINNING, &queue)?;
        let outcome = self.read_until(&consumer, &mut BatchReader::new(queue), (partition, end), visit);
        topic.stop(partition);
        self.health.waits_for(None);
        outcome
    }

    fn read_until(
        &self,
        consumer: &BaseConsumer<ReadingContext>,
        reader: &mut BatchReader<ReadingContext>,
        (partition, end): (i32, i64),
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let (mut position, mut moved) = (0, Instant::now());
        while position < end {
            let batch = reader.take(1_000);
            for record in batch.iter() {
                match record.event() {
                    None => {
                        visit(record.key(), record.payload());
                        position = record.offset() + 1;
                        moved = Instant::now();
                    }
                    Some(RDKafkaErrorCode::PartitionEOF) => position = position.max(record.offset()),
                    Some(
                        code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownPartition),
                    ) => return Err(self.unreadable(code)),
                    Some(code) => tracing::debug!("topic {}: {}", self.topic, words(code)),
                }
            }
            let waits = batch.len() == 0;
            drop(batch);
            if waits {
                // Callbacks, which tell of brokers that are away.
                drop(consumer.poll(Duration::ZERO));
                if moved.elapsed() > PATIENCE && !self.health.down() {
                    self.health.waits_for(Some(format!(
                        "the end of another job's transaction, which holds the records from {position} to {end} of topic {}, \
                         partition {partition}",
                        self.topic
                    )));
                }
                self.closing.wait(LOOK)?;
            }
        }
        Ok(())
    }

    fn unreadable(&self, code: RDKafkaErrorCode) -> Error {
        Error::new(
            ErrorKind::External,
            format!("the progress topic {} cannot be read on {}: {}", self.topic, self.brokers, words(code)),
        )
        .with_hint("The sink's login needs Read, Write and Describe on it.")
    }

    fn client(&self, config: &ClientConfig) -> Result<BaseConsumer<ReadingContext>> {
        config.create_with_context(ReadingContext(Arc::clone(&self.health))).map_err(|error| config_error(&error))
    }

    /// Asks until there is an answer, telling the job what it waits for.
    fn ask<T: Send + 'static>(&self, question: impl Fn() -> Result<T, Refusal> + Clone + Send + 'static) -> Result<T> {
        loop {
            match self.closing.run(question.clone())? {
                Ok(answer) => {
                    self.health.answered();
                    self.health.waits_for(None);
                    return Ok(answer);
                }
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::Later(why)) => {
                    self.health.waits_for_brokers(&why);
                    self.closing.wait(AGAIN)?;
                }
            }
        }
    }
}

fn later(error: &KafkaError) -> Refusal {
    Refusal::Later(error.rdkafka_error_code().map_or_else(|| error.to_string(), words))
}

/// Makes and checks the topic.
struct Admin {
    topic: String,
    brokers: String,
    partitions: i32,
    replication: Option<i32>,
    consumer: BaseConsumer<ReadingContext>,
    admin: AdminClient<ReadingContext>,
}

impl Admin {
    fn open(&self) -> Result<i32, Refusal> {
        let partitions = match self.partitions_there()? {
            Some(partitions) => partitions,
            None => {
                self.create()?;
                // The brokers tell each other; until then it is asked again.
                self.partitions_there()?.ok_or_else(|| Refusal::Later(format!("topic {} is being made", self.topic)))?
            }
        };
        self.check_policy()?;
        Ok(partitions)
    }

    /// How many partitions the topic has; `None`: there is no such topic.
    fn partitions_there(&self) -> Result<Option<i32>, Refusal> {
        drop(self.consumer.poll(Duration::ZERO));
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), ASK).map_err(|error| later(&error))?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == self.topic) else { return Ok(None) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(i32::try_from(topic.partitions().len()).ok().filter(|partitions| *partitions > 0)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => Err(self.refused("may not be looked at", code)),
            Some(code) => Err(Refusal::Later(words(code))),
        }
    }

    fn create(&self) -> Result<(), Refusal> {
        let replication = TopicReplication::Fixed(self.replication.unwrap_or(-1));
        let topic = NewTopic::new(&self.topic, self.partitions, replication).set("cleanup.policy", "compact");
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let outcomes = block_on(self.admin.create_topics([&topic], &options)).map_err(|error| later(&error))?;
        match outcomes.into_iter().next() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => match code {
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::InvalidReplicationFactor
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::InvalidPartitions
                | RDKafkaErrorCode::InvalidConfig
                | RDKafkaErrorCode::InvalidTopic => Err(self.refused("cannot be made", code)),
                code => Err(Refusal::Later(words(code))),
            },
        }
    }

    /// A topic that forgets records after a while would make a job forget what it has committed.
    fn check_policy(&self) -> Result<(), Refusal> {
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let topic = ResourceSpecifier::Topic(&self.topic);
        let asked = self.admin.describe_configs([&topic], &options);
        let answer = block_on(asked).map_err(|error| later(&error))?;
        let config = match answer.into_iter().next() {
            Some(Ok(config)) => config,
            Some(Err(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed),
            )) => return Err(self.refused("may not be asked for its configuration (DescribeConfigs)", code)),
            Some(Err(code)) => return Err(Refusal::Later(words(code))),
            None => return Err(Refusal::Later("no answer".to_owned())),
        };
        let policy = config.get("cleanup.policy").and_then(|entry| entry.value.clone()).unwrap_or_default();
        if policy == "compact" {
            return Ok(());
        }
        Err(Refusal::Final(
            Error::new(
                ErrorKind::InvalidState,
                format!(
                    "topic {} on {} can't keep progress: its cleanup.policy is '{policy}' and must be 'compact'",
                    self.topic, self.brokers
                ),
            )
            .with_hint(format!(
                "kafka-configs.sh --alter --topic {} --add-config cleanup.policy=compact, or name another with the option \
                 \"progress_topic\".",
                self.topic
            )),
        ))
    }

    fn refused(&self, what: &str, code: RDKafkaErrorCode) -> Refusal {
        Refusal::Final(
            Error::new(
                ErrorKind::External,
                format!("the progress topic {} {what} on {}: {}", self.topic, self.brokers, words(code)),
            )
            .with_hint(format!(
                "Make it yourself (kafka-topics.sh --create --topic {} --partitions {} --config cleanup.policy=compact) and \
                 allow the sink's login Read, Write, Describe and DescribeConfigs on it; or write delivery = 'at_least_once'.",
                self.topic, self.partitions
            )),
        )
    }
}
