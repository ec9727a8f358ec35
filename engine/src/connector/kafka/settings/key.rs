//! How records' keys are written.

use crate::connector::options::Options;
use crate::error::{Error, Result};

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

/// The key's columns and how they are written.
pub(super) fn key_and_format(options: &Options<'_>) -> Result<(Vec<String>, KeyFormat)> {
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
