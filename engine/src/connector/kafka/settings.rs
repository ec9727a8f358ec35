//! The options of the Kafka source and sink, and librdkafka's configuration made from them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::metadata::MetadataColumn;
use super::topics::{Start, Topics, check_topic_name};
use crate::connector::definition::Delivery;
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options, PrefixSpec, check_known};
use crate::error::{Error, Result};

const PASS_THROUGH: PrefixSpec = PrefixSpec {
    prefix: "kafka.",
    doc: "Any property of librdkafka, by its own name; librdkafka says when it does not know one.",
};

const BROKERS: OptionSpec = OptionSpec {
    name: "brokers",
    kind: OptionKind::List,
    default: None,
    required: true,
    doc: "The brokers to begin with, as host:port; the others are found through them.",
};

/// The options of a stream with `connector = 'kafka'`.
pub const SOURCE: OptionTable = OptionTable {
    title: "Kafka source",
    options: &[
        OptionSpec {
            name: "topic",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "A topic, several separated by commas, or a regular expression between slashes: '/rides-.*/'.",
        },
        OptionSpec {
            name: "topic_pattern",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "A regular expression for whole topic names, instead of topic.",
        },
        BROKERS,
        OptionSpec {
            name: "group",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "The consumer group whose positions start = 'committed' takes up. Rondel keeps its own positions and commits none.",
        },
        OptionSpec {
            name: "start",
            kind: OptionKind::Text,
            default: Some("earliest"),
            required: false,
            doc: "Where reading starts: 'earliest', 'latest', 'committed', 'timestamp:2026-01-31T12:00:00Z' or 'offsets:0=12,1=40'. Partitions that appear later are read from their beginning, and so is everything by a bounded SELECT when it says 'latest'.",
        },
        OptionSpec {
            name: "idle_timeout",
            kind: OptionKind::Duration,
            default: Some("30s"),
            required: false,
            doc: "A partition that stands at its end for so long, by the broker's word, no longer holds the watermark back.",
        },
        OptionSpec {
            name: "discovery_interval",
            kind: OptionKind::Duration,
            default: Some("30s"),
            required: false,
            doc: "How often new topics and partitions are looked for.",
        },
        OptionSpec {
            name: "on_error",
            kind: OptionKind::Choice(&["fail", "skip", "dead_letter"]),
            default: Some("fail"),
            required: false,
            doc: "What a record that cannot be decoded does: stop the job, be skipped and counted, or go to the dead_letter_topic and be counted.",
        },
        OptionSpec {
            name: "dead_letter_topic",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "Where on_error = 'dead_letter' writes such records: key and value as they were, the reason in headers.",
        },
        OptionSpec {
            name: "metadata",
            kind: OptionKind::List,
            default: None,
            required: false,
            doc: "Columns added after those of the value, from _key, _topic, _partition, _offset, _timestamp, _headers.",
        },
        OptionSpec {
            name: "changelog",
            kind: OptionKind::Choice(&["append", "upsert", "debezium"]),
            default: Some("append"),
            required: false,
            doc: "What records are: rows that stay; with 'upsert' the newest row of their key, which one without a value deletes; or with 'debezium' the changes of a database's table. The last two make the topic a table, whose rows are updated and deleted.",
        },
        OptionSpec {
            name: "key",
            kind: OptionKind::List,
            default: None,
            required: false,
            doc: "The columns that are the key of a table.",
        },
        OptionSpec {
            name: "key_format",
            kind: OptionKind::Choice(&["text", "json", "protobuf"]),
            default: None,
            required: false,
            doc: "How the record's key is written with changelog = 'upsert': one column as text, any as a JSON object, or as the message key_message. Text for one column and JSON for several if not said. With 'debezium' the key is taken from the row.",
        },
        OptionSpec {
            name: "key_message",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "The protobuf message of the key, for key_format = 'protobuf'.",
        },
    ],
    prefixes: &[PASS_THROUGH],
};

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
        OptionSpec {
            name: "key_message",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "The protobuf message of the key, for key_format = 'protobuf'.",
        },
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

/// What happens to a record that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnError {
    /// The job stops.
    Fail,
    /// It is counted.
    Skip,
    /// It is written to this topic, and counted when it is there.
    DeadLetter(String),
}

/// The options of a Kafka source, checked.
#[derive(Debug, Clone)]
pub struct KafkaSourceOptions {
    pub(super) topics: Topics,
    pub(super) brokers: String,
    pub(super) group: Option<String>,
    pub(super) start: Start,
    pub(super) idle_timeout: Duration,
    pub(super) discovery_interval: Duration,
    pub(super) on_error: OnError,
    pub(super) metadata: Vec<MetadataColumn>,
    /// The key, if the topic is a table.
    pub(super) table: Option<TableOptions>,
    passed: BTreeMap<String, String>,
}

impl KafkaSourceOptions {
    /// Reads and checks the values of `WITH`, also librdkafka's own; `others` are the tables of options that the
    /// statement may use beside these (the format's). Speaks to no broker.
    pub fn parse(values: &BTreeMap<String, String>, others: &[&OptionTable]) -> Result<Self> {
        let options = checked(&SOURCE, values, others)?;
        let topics = Topics::parse(&options)?;
        let start = Start::parse(&options, &topics)?;
        let group = options.text("group")?.map(str::to_owned);
        if start == Start::Committed && group.is_none() {
            return Err(Error::invalid("start = 'committed' needs the option \"group\"")
                .with_hint("Name the consumer group whose committed positions reading starts from."));
        }
        let dead_letters = options.text("dead_letter_topic")?;
        let on_error = match (options.choice("on_error")?, dead_letters) {
            (Some("dead_letter"), Some(topic)) => {
                check_topic_name("dead_letter_topic", topic)?;
                OnError::DeadLetter(topic.to_owned())
            }
            (Some("dead_letter"), None) => {
                return Err(Error::invalid("on_error = 'dead_letter' needs the option \"dead_letter_topic\""));
            }
            (_, Some(_)) => {
                return Err(Error::invalid(
                    "the option \"dead_letter_topic\" is given, but on_error is not 'dead_letter'",
                ));
            }
            (Some("skip"), None) => OnError::Skip,
            _ => OnError::Fail,
        };
        let mut metadata = Vec::new();
        for name in options.list("metadata")? {
            let column = MetadataColumn::by_name(name).ok_or_else(|| {
                Error::invalid(format!("the option \"metadata\" cannot hold '{name}'"))
                    .with_hint(format!("The metadata columns are {}.", MetadataColumn::names().join(", ")))
            })?;
            if !metadata.contains(&column) {
                metadata.push(column);
            }
        }
        let parsed = Self {
            topics,
            brokers: options.list("brokers")?.join(","),
            group,
            start,
            idle_timeout: options.duration("idle_timeout")?.unwrap_or(Duration::from_secs(30)),
            discovery_interval: options
                .duration("discovery_interval")?
                .unwrap_or(Duration::from_secs(30))
                .max(Duration::from_millis(10)),
            on_error,
            metadata,
            table: TableOptions::parse(&options)?,
            passed: pass_through(&options)?,
        };
        native_check(&parsed.consumer_config())?;
        if parsed.table.is_some() && !parsed.topics.is_one() {
            return Err(Error::not_supported(
                "a table is one topic: which of two records came last is not known otherwise",
            )
            .with_hint("create a stream for each topic, and UNION ALL them"));
        }
        Ok(parsed)
    }

    /// The metadata columns that the stream has after those of its value.
    pub fn metadata_fields(&self) -> Vec<arrow::datatypes::Field> {
        self.metadata.iter().map(|column| column.field()).collect()
    }

    /// Adds the column of offsets to what is read, if it is not among the metadata; gives its name.
    pub(super) fn read_offsets(&mut self) -> String {
        if !self.metadata.contains(&MetadataColumn::Offset) {
            self.metadata.push(MetadataColumn::Offset);
        }
        MetadataColumn::Offset.name().to_owned()
    }

    /// librdkafka's configuration of the reading client. Positions are the engine's, so it has no group.
    pub(super) fn consumer_config(&self) -> ClientConfig {
        client_config(
            &self.brokers,
            &[
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                ("isolation.level", "read_committed"),
                // A position that is gone is an error: going on elsewhere would lose or repeat rows silently.
                ("auto.offset.reset", "error"),
                // With the stock second of back-off the fetcher sleeps whenever its queue is full: a third of the rate.
                ("fetch.queue.backoff.ms", "5"),
                ("queued.min.messages", "200000"),
                // The bound of what waits for one worker: its partitions share a queue.
                ("queued.max.messages.kbytes", "65536"),
                ("fetch.message.max.bytes", "4194304"),
                ("fetch.error.backoff.ms", "100"),
            ],
            &self.passed,
        )
    }

    /// Whether the user wants to go on with a gap where a position is gone.
    pub(super) fn resets_to_earliest(&self) -> bool {
        let reset = self.passed.get("auto.offset.reset").map(String::as_str);
        matches!(reset, Some("earliest" | "smallest" | "beginning"))
    }

    /// The configuration for asking where the group stands.
    pub(super) fn group_config(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer_config();
        config.set("group.id", group);
        config
    }

    /// The configuration of the dead letters' producer. Properties that only a consumer knows are left out by librdkafka.
    pub(super) fn dead_letter_config(&self) -> ClientConfig {
        let passed = self.passed.iter().filter(|(name, _)| shared_property(name));
        producer_config(&self.brokers, &passed.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

/// How the key of a sink's records is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFormat {
    /// One column, as text.
    Text,
    /// The columns as a JSON object.
    Json,
    /// The columns as this protobuf message.
    Protobuf(String),
}

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
pub(super) struct Transactions {
    pub(super) timeout: Duration,
    pub(super) progress_topic: String,
    pub(super) progress_partitions: i32,
    /// `None`: as the brokers do.
    pub(super) progress_replication: Option<i32>,
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
    pub(super) topic: String,
    pub(super) brokers: String,
    /// The key's columns, by name; empty: records have no key.
    pub key: Vec<String>,
    /// How the key is written.
    pub key_format: KeyFormat,
    /// How changes become records.
    pub changelog: Changelog,
    /// What the statement says.
    pub(super) delivery: Delivery,
    /// `None`: it writes at least once.
    pub(super) transactions: Option<Transactions>,
    passed: BTreeMap<String, String>,
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
    pub(super) fn transactional_config(&self, transactions: &Transactions, id: &str) -> ClientConfig {
        let mut config = self.producer_config();
        config.set("transactional.id", id);
        config.set("transaction.timeout.ms", transactions.timeout.as_millis().to_string());
        config
    }

    /// The configuration of a client that reads progress records at this level of isolation.
    pub(super) fn progress_config(&self, isolation: &str) -> ClientConfig {
        let passed = self.passed.iter().filter(|(name, _)| shared_property(name));
        let ours = [
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", isolation),
            // The oldest record may be compacted away while reading begins.
            ("auto.offset.reset", "earliest"),
            ("fetch.wait.max.ms", "50"),
            ("fetch.error.backoff.ms", "100"),
        ];
        let passed = passed.map(|(name, value)| (name.clone(), value.clone())).collect();
        client_config(&self.brokers, &ours, &passed)
    }

    pub(super) fn producer_config(&self) -> ClientConfig {
        producer_config(&self.brokers, &self.passed)
    }
}

/// The key's columns and how they are written.
fn key_and_format(options: &Options<'_>) -> Result<(Vec<String>, KeyFormat)> {
    let key: Vec<String> = options.list("key")?.into_iter().map(str::to_owned).collect();
    let key_message = options.text("key_message")?;
    let key_format = match (options.choice("key_format")?, key_message) {
        (Some("protobuf") | None, Some(message)) => KeyFormat::Protobuf(message.to_owned()),
        (Some("protobuf"), None) => {
            return Err(Error::invalid("key_format = 'protobuf' needs the option \"key_message\""));
        }
        (Some(_), Some(_)) => {
            return Err(Error::invalid("the option \"key_message\" goes with key_format = 'protobuf' only"));
        }
        (Some("text"), None) if key.len() > 1 => {
            return Err(Error::invalid("key_format = 'text' is for one column, and the key has several")
                .with_hint("Write key_format = 'json'."));
        }
        (Some("json"), None) => KeyFormat::Json,
        (Some(_), None) => KeyFormat::Text,
        (None, None) if key.len() > 1 => KeyFormat::Json,
        (None, None) => KeyFormat::Text,
    };
    if key.is_empty() && (options.choice("key_format")?.is_some() || key_message.is_some()) {
        return Err(Error::invalid("a format of the key is given, but the option \"key\" is missing"));
    }
    Ok((key, key_format))
}

/// A topic that is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableOptions {
    /// The key's columns, at least one.
    pub(super) key: Vec<String>,
    /// How they are read from the record's key; `None`: they are in the value, which is a change of Debezium's.
    pub(super) key_format: Option<KeyFormat>,
}

impl TableOptions {
    fn parse(options: &Options<'_>) -> Result<Option<Self>> {
        let changelog = options.choice("changelog")?.unwrap_or("append");
        let (key, key_format) = key_and_format(options)?;
        match changelog {
            "append" if key.is_empty() => Ok(None),
            "append" => Err(Error::invalid("the option \"key\" goes with changelog = 'upsert' or 'debezium'")
                .with_hint("a stream of rows that stay has no key; metadata = '_key' shows the records' own")),
            _ if key.is_empty() => Err(Error::invalid(format!("changelog = '{changelog}' needs the option \"key\""))
                .with_hint("Name the columns that identify a row of the table.")),
            "debezium" if options.choice("key_format")?.is_some() || options.text("key_message")?.is_some() => {
                Err(Error::invalid("with changelog = 'debezium' the key is read from the row")
                    .with_hint("leave key_format and key_message out"))
            }
            "debezium" => Ok(Some(Self { key, key_format: None })),
            _ => Ok(Some(Self { key, key_format: Some(key_format) })),
        }
    }
}

fn checked<'a>(
    table: &'a OptionTable,
    values: &'a BTreeMap<String, String>,
    others: &[&OptionTable],
) -> Result<Options<'a>> {
    let mut tables = vec![table];
    tables.extend_from_slice(others);
    check_known(values, &tables)?;
    Ok(Options::new(table, values))
}

/// The `"kafka.…"` options. Those on which Rondel's own promises rest cannot be set.
fn pass_through(options: &Options<'_>) -> Result<BTreeMap<String, String>> {
    const OURS: &[(&str, &str)] = &[
        ("bootstrap.servers", "write the option \"brokers\""),
        ("metadata.broker.list", "write the option \"brokers\""),
        ("group.id", "write the option \"group\""),
        ("enable.auto.commit", "Rondel keeps positions itself"),
        ("enable.auto.offset.store", "Rondel keeps positions itself"),
        ("enable.partition.eof", "Rondel needs it"),
        ("transactional.id", "Rondel names its transactions itself"),
        ("transaction.timeout.ms", "write the option \"transaction_timeout\""),
    ];
    let mut passed = BTreeMap::new();
    for (name, value) in options.prefixed("kafka.") {
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
            return Err(Error::invalid(format!("the option \"kafka.{name}\" cannot be set: {why}")));
        }
        passed.insert(name.to_owned(), value.to_owned());
    }
    Ok(passed)
}

fn client_config(brokers: &str, ours: &[(&str, &str)], passed: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config.set("client.id", "rondel");
    // A broker that comes back is found within a second.
    config.set("reconnect.backoff.ms", "50");
    config.set("reconnect.backoff.max.ms", "1000");
    for (name, value) in ours {
        config.set(*name, *value);
    }
    for (name, value) in passed {
        config.set(name, value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

pub(super) fn producer_config(brokers: &str, passed: &BTreeMap<String, String>) -> ClientConfig {
    client_config(
        brokers,
        &[
            ("enable.idempotence", "true"),
            // A record waits for its broker as long as it takes: nothing that was given is lost.
            ("message.timeout.ms", "0"),
            ("topic.metadata.propagation.max.ms", "3600000"),
            ("partitioner", "murmur2_random"),
            ("queue.buffering.max.messages", "100000"),
            ("queue.buffering.max.kbytes", "65536"),
        ],
        passed,
    )
}

/// Whether a property concerns the connection, and so also the producer of dead letters.
fn shared_property(name: &str) -> bool {
    ["ssl.", "sasl.", "security.", "socket.", "broker.", "client.", "reconnect.", "metadata.", "debug", "message.max."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Asks librdkafka whether it knows each property and takes its value.
pub(super) fn native_check(config: &ClientConfig) -> Result<()> {
    config.create_native_config().map(drop).map_err(|error| config_error(&error))
}

/// librdkafka's own words about a configuration that it refuses.
pub(super) fn config_error(error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, words, name, value) => {
            Error::invalid(format!("the option \"kafka.{name}\" cannot be '{value}': {}", words.trim()))
                .with_hint("Options that begin with \"kafka.\" are librdkafka's; its CONFIGURATION.md lists them.")
        }
        KafkaError::ClientCreation(words) => {
            Error::invalid(format!("the Kafka client cannot be configured so: {}", words.trim()))
        }
        other => Error::invalid(format!("the Kafka client cannot be configured so: {other}")),
    }
}

#[cfg(test)]
mod tests;
