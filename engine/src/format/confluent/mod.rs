//! Records as registries with Confluent's API frame them: a zero byte, the schema's id, and of protobuf the place of the
//! message in its file; then the record.
//!
//! * [`frame`]: the bytes in front
//! * [`reading`]: records whose schemas are met for the first time wait until these are known
//! * [`writing`]: the schema of a sink's rows is registered, and its id written in front
//! * [`Subjects`]: how subjects are called

pub(in crate::format) mod frame;
pub(in crate::format) mod reading;
pub(super) mod writing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::schema::registry::ids::SchemaIds;

/// What of a record a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

/// How subjects are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    Topic,
    Record,
    TopicRecord,
}

/// See [`Strategy`]; and a name that was given is the value's.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    pub(super) given: Option<String>,
    pub(super) strategy: Strategy,
    /// The one topic, if there is one.
    pub(super) topic: Option<String>,
}

impl Subjects {
    /// The subject of a part that is this record: a message's full name, or an Avro record's.
    pub(super) fn name(&self, part: Part, record: Option<&str>) -> Result<String> {
        if let (Some(given), Part::Value) = (&self.given, part) {
            return Ok(given.clone());
        }
        let topic = || {
            self.topic.as_deref().ok_or_else(|| {
                Error::invalid("several topics have several subjects")
                    .with_hint("give the option \"subject\", or subject_strategy = 'record'")
            })
        };
        let record = || {
            record.ok_or_else(|| {
                Error::invalid("the subject is called after the message, which is not said")
                    .with_hint("give the option \"message\", or \"subject\"")
            })
        };
        Ok(match self.strategy {
            Strategy::Topic => format!("{}-{}", topic()?, if part == Part::Key { "key" } else { "value" }),
            Strategy::Record => record()?.to_owned(),
            Strategy::TopicRecord => format!("{}-{}", topic()?, record()?),
        })
    }
}

/// That records of an object are framed.
#[derive(Debug)]
pub(super) struct Framing {
    pub(super) ids: Arc<SchemaIds>,
    pub(super) subjects: Subjects,
    /// Whether a sink registers its schema.
    pub(super) register: bool,
    /// What was registered: by subject and schema.
    registered: Mutex<HashMap<(String, String), u32>>,
}

impl Framing {
    pub(super) fn new(ids: Arc<SchemaIds>, subjects: Subjects, register: bool) -> Self {
        Self { ids, subjects, register, registered: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(strategy: Strategy, part: Part, topic: Option<&str>, given: Option<&str>) -> Result<String> {
        let subjects = Subjects { given: given.map(str::to_owned), strategy, topic: topic.map(str::to_owned) };
        subjects.name(part, Some("acme.Order"))
    }

    #[test]
    fn subjects_are_called_by_their_strategy() {
        let topic = Some("orders");
        assert_eq!(name(Strategy::Topic, Part::Value, topic, None).unwrap(), "orders-value");
        assert_eq!(name(Strategy::Topic, Part::Key, topic, Some("x")).unwrap(), "orders-key");
        assert_eq!(name(Strategy::Record, Part::Value, None, None).unwrap(), "acme.Order");
        assert_eq!(name(Strategy::TopicRecord, Part::Value, topic, None).unwrap(), "orders-acme.Order");
        assert_eq!(name(Strategy::Topic, Part::Value, topic, Some("x")).unwrap(), "x");
        assert!(name(Strategy::Topic, Part::Value, None, None).unwrap_err().message().contains("several"));
    }
}
