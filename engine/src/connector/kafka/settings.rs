//! The options of the Kafka source and sink, and librdkafka's configuration made from them.
//!
//! * [`source`], [`sink`]: what each takes
//! * `key`: how records' keys are written
//! * `client`: librdkafka's own properties

mod client;
mod key;
mod sink;
mod source;

use std::collections::BTreeMap;

pub(super) use client::{Passed, config_error, producer_config};
pub use key::KeyFormat;
pub(super) use sink::Transactions;
pub use sink::{Changelog, KafkaSinkOptions, SINK};
pub(super) use source::OnError;
pub use source::{KafkaSourceOptions, SOURCE};

use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options, PrefixSpec, check_known};
use crate::error::Result;

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

const KEY_MESSAGE: OptionSpec = OptionSpec {
    name: "key_message",
    kind: OptionKind::Text,
    default: None,
    required: false,
    doc: "The protobuf message of the key, for key_format = 'protobuf'.",
};

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

#[cfg(test)]
mod tests;
