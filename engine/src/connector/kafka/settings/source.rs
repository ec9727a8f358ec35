//! The options of streams.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::client::{Passed, client_config, native_check, pass_through, producer_config};
use super::key::{KeyFormat, key_and_format};
use super::{BROKERS, KEY_MESSAGE, PASS_THROUGH, checked};
use crate::connector::kafka::metadata::MetadataColumn;
use crate::connector::kafka::topics::{Start, Topics, check_topic_name};
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options};
use crate::error::{Error, Result};

/// What may wait for one worker, in kilobytes.
const LEAST_QUEUED_KBYTES: usize = 1 << 10;
const MOST_QUEUED_KBYTES: usize = 64 << 10;

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
        KEY_MESSAGE,
    ],
    prefixes: &[PASS_THROUGH],
};

/// What happens to a record that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::connector::kafka) enum OnError {
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
    pub(in crate::connector::kafka) topics: Topics,
    pub(in crate::connector::kafka) brokers: String,
    pub(in crate::connector::kafka) group: Option<String>,
    pub(in crate::connector::kafka) start: Start,
    pub(in crate::connector::kafka) idle_timeout: Duration,
    pub(in crate::connector::kafka) discovery_interval: Duration,
    pub(in crate::connector::kafka) on_error: OnError,
    pub(in crate::connector::kafka) metadata: Vec<MetadataColumn>,
    /// The key, if the topic is a table.
    pub(in crate::connector::kafka) table: Option<TableOptions>,
    passed: Passed,
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
    pub(in crate::connector::kafka) fn read_offsets(&mut self) -> String {
        if !self.metadata.contains(&MetadataColumn::Offset) {
            self.metadata.push(MetadataColumn::Offset);
        }
        MetadataColumn::Offset.name().to_owned()
    }

    /// librdkafka's configuration of the reading client. Positions are the engine's, so it has no group.
    pub(in crate::connector::kafka) fn consumer_config(&self) -> ClientConfig {
        self.reading_config(usize::MAX, 1)
    }

    /// As [`Self::consumer_config`], of a client that fetches so many bytes ahead for so many workers: what waits for each
    /// of them, and an answer of the broker, which librdkafka keeps as small as that.
    pub(in crate::connector::kafka) fn reading_config(&self, bytes: usize, workers: usize) -> ClientConfig {
        let queued = (bytes / (workers + 1) / 1024).clamp(LEAST_QUEUED_KBYTES, MOST_QUEUED_KBYTES).to_string();
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
                ("queued.max.messages.kbytes", &queued),
                ("fetch.message.max.bytes", "4194304"),
                ("fetch.error.backoff.ms", "100"),
            ],
            &self.passed,
        )
    }

    /// Whether the user wants to go on with a gap where a position is gone.
    pub(in crate::connector::kafka) fn resets_to_earliest(&self) -> bool {
        matches!(self.passed.get("auto.offset.reset"), Some("earliest" | "smallest" | "beginning"))
    }

    /// The configuration for asking where the group stands.
    pub(in crate::connector::kafka) fn group_config(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer_config();
        config.set("group.id", group);
        config
    }

    /// The configuration of the dead letters' producer. Properties that only a consumer knows are left out by librdkafka.
    pub(in crate::connector::kafka) fn dead_letter_config(&self) -> ClientConfig {
        producer_config(&self.brokers, &self.passed.of_connection())
    }
}

/// A topic that is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::connector::kafka) struct TableOptions {
    /// The key's columns, at least one.
    pub(in crate::connector::kafka) key: Vec<String>,
    /// How they are read from the record's key; `None`: they are in the value, which is a change of Debezium's.
    pub(in crate::connector::kafka) key_format: Option<KeyFormat>,
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
