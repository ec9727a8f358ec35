//! librdkafka's own properties: those that Rondel sets, and those that the user passes on.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::connector::options::{Options, is_secret};
use crate::error::{Error, Result};

/// The `"kafka.…"` options of a statement, by librdkafka's names.
#[derive(Clone, Default)]
pub(in crate::connector::kafka) struct Passed(BTreeMap<String, String>);

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str, value: &str| if is_secret(name) { "…".to_owned() } else { value.to_owned() };
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, shown(name, value)))).finish()
    }
}

impl Passed {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Those that concern the connection, and so also the other clients of a source or sink.
    pub(super) fn of_connection(&self) -> Self {
        const SHARED: &[&str] = &[
            "ssl.",
            "sasl.",
            "security.",
            "socket.",
            "broker.",
            "client.",
            "reconnect.",
            "metadata.",
            "debug",
            "message.max.",
        ];
        let shared = self.0.iter().filter(|(name, _)| SHARED.iter().any(|prefix| name.starts_with(prefix)));
        Self(shared.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

/// The `"kafka.…"` options. Those on which Rondel's own promises rest cannot be set.
pub(super) fn pass_through(options: &Options<'_>) -> Result<Passed> {
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
    Ok(Passed(passed))
}

pub(super) fn client_config(brokers: &str, ours: &[(&str, &str)], passed: &Passed) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config.set("client.id", "rondel");
    // A broker that comes back is found within a second.
    config.set("reconnect.backoff.ms", "50");
    config.set("reconnect.backoff.max.ms", "1000");
    for (name, value) in ours {
        config.set(*name, *value);
    }
    for (name, value) in &passed.0 {
        config.set(name, value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

pub(in crate::connector::kafka) fn producer_config(brokers: &str, passed: &Passed) -> ClientConfig {
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

/// Asks librdkafka whether it knows each property and takes its value.
pub(in crate::connector::kafka) fn native_check(config: &ClientConfig) -> Result<()> {
    config.create_native_config().map(drop).map_err(|error| config_error(&error))
}

/// librdkafka's own words about a configuration that it refuses.
pub(in crate::connector::kafka) fn config_error(error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(why, words, name, value) => {
            let said = match is_secret(name) {
                // Of a name that it does not know it says no more than that.
                _ if *why == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => {
                    format!("the option \"kafka.{name}\" cannot be set: {}", words.trim())
                }
                // Its words may hold the value.
                true => format!("the option \"kafka.{name}\" cannot have this value"),
                false => format!("the option \"kafka.{name}\" cannot be '{value}': {}", words.trim()),
            };
            Error::invalid(said)
                .with_hint("Options that begin with \"kafka.\" are librdkafka's; its CONFIGURATION.md lists them.")
        }
        KafkaError::ClientCreation(words) => {
            Error::invalid(format!("the Kafka client cannot be configured so: {}", words.trim()))
        }
        other => Error::invalid(format!("the Kafka client cannot be configured so: {other}")),
    }
}
