//! The options of sinks.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::client::{Passed, client_config, native_check, pass_through, producer_config};
use super::key::{KeyFormat, key_and_format};
use super::{BROKERS, KEY_MESSAGE, PASS_THROUGH, checked};
use crate::connector::definition::Delivery;
use crate::connector::kafka::topics::check_topic_name;
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options};
use crate::error::{Error, Result};

/// What a sink does that doesn't say.
const DELIVERY: &str = "exactly_once";

/// The options of a sink with `connector = 'kafka'`.
pub const SINK: OptionTable = OptionTable {
    title: "Kafka sink",
    options: &[
        OptionSpec {
            name: "topic",
            kind: OptionKind::Text,
            default: None,
            required: true,
            doc: "The topic to write to.",
        },
        BROKERS,
        OptionSpec {
            name: "key",
            kind: OptionKind::List,
            default: None,
            required: false,
            doc: "Columns that make the record's key; records of one key go to one partition (murmur2, as Java clients do).",
        },
        OptionSpec {
            name: "key_format",
            kind: OptionKind::Choice(&["text", "json", "protobuf"]),
            default: None,
            required: false,
            doc: "How the key is written: one column as text (bytes as they are), any as a JSON object, or as the message key_message. Text for one column and JSON for several if not said.",
        },
        KEY_MESSAGE,
        OptionSpec {
            name: "changelog",
            kind: OptionKind::Choice(&["append", "upsert", "debezium"]),
            default: Some("append"),
            required: false,
            doc: "How changes are written: 'append' for results that only grow; 'upsert' writes the newest row of each key and a null value when the row is gone; 'debezium' writes each change of a key's row with the row before and after, as Debezium does in JSON, and a null value behind a deletion.",
        },
        OptionSpec {
            name: "delivery",
            kind: OptionKind::Choice(&["exactly_once", "at_least_once"]),
            default: Some(DELIVERY),
            required: false,
            doc: "'exactly_once' writes in transactions that commit with the job's checkpoints: readers of committed records see each change once, whatever fails; a server without checkpoints refuses it, and takes 'at_least_once' where nothing is said. 'at_least_once' writes at once, and writes again what came after the last checkpoint when the job restarts.",
        },
        OptionSpec {
            name: "transaction_timeout",
            kind: OptionKind::Duration,
            default: Some("10m"),
            required: false,
            doc: "How long the brokers keep a transaction open that nobody commits. Longer than a checkpoint's interval and time-out together, and no longer than the brokers' transaction.max.timeout.ms (15 minutes by default).",
        },
        OptionSpec {
            name: "progress_topic",
            kind: OptionKind::Text,
            default: Some("rondel-progress"),
            required: false,
            doc: "The compacted topic in which jobs that write exactly once keep which checkpoint was their last; made on first use.",
        },
        OptionSpec {
            name: "progress_partitions",
            kind: OptionKind::Integer { min: 1, max: 10_000 },
            default: Some("16"),
            required: false,
            doc: "How many partitions the progress topic gets when it is made.",
        },
        OptionSpec {
            name: "progress_replication",
            kind: OptionKind::Integer { min: 1, max: 32_767 },
            default: None,
            required: false,
            doc: "How many brokers keep the progress topic when it is made; as the brokers' default.replication.factor says if not given.",
        },
    ],
    prefixes: &[PASS_THROUGH],
};

/// How changes become records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changelog {
    /// Every row is a record; there are no retractions.
    Append,
    /// The newest row of each key, null when it is gone.
    Upsert,
    /// Each key's row before and after, as Debezium writes it in JSON.
    Debezium,
}

/// How a sink writes exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::connector::kafka) struct Transactions {
    pub(in crate::connector::kafka) timeout: Duration,
    pub(in crate::connector::kafka) progress_topic: String,
    pub(in crate::connector::kafka) progress_partitions: i32,
    /// `None`: as the brokers do.
    pub(in crate::connector::kafka) progress_replication: Option<i32>,
}

impl Transactions {
    fn parse(options: &Options<'_>) -> Result<Self> {
        let timeout = options.duration("transaction_timeout")?.unwrap_or(Duration::from_secs(600));
        if timeout < Duration::from_secs(1) || timeout.as_millis() > i32::MAX as u128 {
            return Err(Error::invalid("the option \"transaction_timeout\" is from one second to 24 days"));
        }
        let progress_topic = options.required("progress_topic")?;
        check_topic_name("progress_topic", progress_topic)?;
        let number = |name| Ok::<_, Error>(options.integer(name)?.and_then(|number| i32::try_from(number).ok()));
        Ok(Self {
            timeout,
            progress_topic: progress_topic.to_owned(),
            progress_partitions: number("progress_partitions")?.unwrap_or(1),
            progress_replication: number("progress_replication")?,
        })
    }
}

/// The options of a Kafka sink, checked.
#[derive(Debug, Clone)]
pub struct KafkaSinkOptions {
    pub(in crate::connector::kafka) topic: String,
    pub(in crate::connector::kafka) brokers: String,
    /// The key's columns, by name; empty: records have no key.
    pub key: Vec<String>,
    /// How the key is written.
    pub key_format: KeyFormat,
    /// How changes become records.
    pub changelog: Changelog,
    /// What the statement says.
    pub(in crate::connector::kafka) delivery: Delivery,
    /// `None`: it writes at least once.
    pub(in crate::connector::kafka) transactions: Option<Transactions>,
    passed: Passed,
}

impl KafkaSinkOptions {
    /// Reads and checks the values of `WITH`, also librdkafka's own; `others` as for a source. Speaks to no broker.
    pub fn parse(values: &BTreeMap<String, String>, others: &[&OptionTable]) -> Result<Self> {
        let options = checked(&SINK, values, others)?;
        let topic = options.required("topic")?;
        check_topic_name("topic", topic)?;
        let (key, key_format) = key_and_format(&options)?;
        let changelog = match options.choice("changelog")? {
            Some("upsert") => Changelog::Upsert,
            Some("debezium") => Changelog::Debezium,
            _ => Changelog::Append,
        };
        // Debezium's keys are objects, whatever they hold.
        let key_format = match (changelog, options.choice("key_format")?, key_format) {
            (Changelog::Debezium, None, KeyFormat::Text) => KeyFormat::Json,
            (_, _, said) => said,
        };
        if changelog != Changelog::Append && key.is_empty() {
            let word = if changelog == Changelog::Upsert { "upsert" } else { "debezium" };
            return Err(Error::invalid(format!("changelog = '{word}' needs the option \"key\""))
                .with_hint("Name the columns that identify a row of the result."));
        }
        let (delivery, transactions) = match options.choice("delivery")? {
            Some("exactly_once") if options.is_given("delivery") => {
                (Delivery::ExactlyOnce, Some(Transactions::parse(&options)?))
            }
            Some("exactly_once") => (Delivery::ExactlyOnceWithCheckpoints, Some(Transactions::parse(&options)?)),
            _ => (Delivery::AtLeastOnce, None),
        };
        let parsed = Self {
            topic: topic.to_owned(),
            brokers: options.list("brokers")?.join(","),
            key,
            key_format,
            changelog,
            delivery,
            transactions,
            passed: pass_through(&options)?,
        };
        match &parsed.transactions {
            Some(transactions) if transactions.progress_topic == parsed.topic => {
                return Err(Error::invalid("the sink's topic can't be the progress topic as well"));
            }
            Some(transactions) => native_check(&parsed.transactional_config(transactions, "rondel"))?,
            None => {}
        }
        if parsed.delivery != Delivery::ExactlyOnce {
            native_check(&parsed.producer_config())?;
        }
        Ok(parsed)
    }

    /// The configuration of a producer with this transactional id.
    pub(in crate::connector::kafka) fn transactional_config(
        &self,
        transactions: &Transactions,
        id: &str,
    ) -> ClientConfig {
        let mut config = self.producer_config();
        config.set("transactional.id", id);
        config.set("transaction.timeout.ms", transactions.timeout.as_millis().to_string());
        config
    }

    /// The configuration of a client that reads progress records at this level of isolation.
    pub(in crate::connector::kafka) fn progress_config(&self, isolation: &str) -> ClientConfig {
        let ours = [
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", isolation),
            // The oldest record may be compacted away while reading begins.
            ("auto.offset.reset", "earliest"),
            ("fetch.wait.max.ms", "50"),
            ("fetch.error.backoff.ms", "100"),
        ];
        client_config(&self.brokers, &ours, &self.passed.of_connection())
    }

    pub(in crate::connector::kafka) fn producer_config(&self) -> ClientConfig {
        producer_config(&self.brokers, &self.passed)
    }
}
