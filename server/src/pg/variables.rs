//! Session variables that a client is told of, at its start and whenever they change.
//!
//! The variables themselves are the session's, set and shown by statements; the protocol only reports some of them, under
//! the names in which drivers look for them.

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::ParameterStatus;

use crate::frontend::Session;

/// The reported variables; the value of those that a session doesn't know. psql and the common drivers read these.
const REPORTED: [(&str, &str); 13] = [
    ("server_version", "15.0"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("application_name", ""),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("is_superuser", "on"),
    ("session_authorization", ""),
];

/// What the client was told last.
#[derive(Debug)]
pub(super) struct Reported {
    user: String,
    told: [Option<String>; REPORTED.len()],
}

impl Reported {
    /// Nothing was told yet to a connection of `user`.
    pub(super) fn new(user: &str) -> Self {
        Self { user: user.to_owned(), told: Default::default() }
    }

    /// The messages about what has changed since the last time.
    pub(super) fn changes(&mut self, session: &impl Session) -> Vec<PgWireBackendMessage> {
        let mut messages = Vec::new();
        for ((name, default), told) in REPORTED.iter().zip(&mut self.told) {
            let value = match *name {
                "session_authorization" => self.user.clone(),
                name => session.get(&name.to_lowercase()).unwrap_or_else(|| (*default).to_owned()),
            };
            if told.as_ref() != Some(&value) {
                messages.push(status(name, &value));
                *told = Some(value);
            }
        }
        messages
    }
}

/// Tells the client a variable's value.
pub(super) fn status(name: &str, value: &str) -> PgWireBackendMessage {
    PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.to_owned(), value.to_owned()))
}
