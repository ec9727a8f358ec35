//! What a sink promises on this server, by its statement and by whether there are checkpoints.

use crate::connector::definition::{Delivery, SinkDefinition};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

use super::define::Parts;

impl Engine {
    /// Whether a sink is written exactly once here. An error if it has to be and can't.
    pub(super) fn writes_exactly_once(&self, name: &str, sink: &dyn SinkDefinition) -> Result<bool> {
        let has_checkpoints = self.checkpoints.is_some();
        match sink.delivery() {
            Delivery::AtLeastOnce => Ok(false),
            Delivery::ExactlyOnceWithCheckpoints => Ok(has_checkpoints),
            Delivery::ExactlyOnce if has_checkpoints => Ok(true),
            Delivery::ExactlyOnce => Err(Error::new(
                ErrorKind::InvalidState,
                format!("'{name}' is to write exactly once, and this server keeps no checkpoints"),
            )
            .with_hint("give the server a data directory, or write delivery = 'at_least_once'")),
        }
    }

    /// What the user should know of a new sink that promises less than it would elsewhere.
    pub(super) fn delivery_notice(&self, name: &str, parts: &Parts) -> Option<String> {
        let Parts::Sink { definition, .. } = parts else { return None };
        let less = definition.delivery() == Delivery::ExactlyOnceWithCheckpoints && self.checkpoints.is_none();
        less.then(|| {
            format!(
                "sink '{name}' writes at least once: exactly once takes checkpoints, and this server has no data directory"
            )
        })
    }
}
