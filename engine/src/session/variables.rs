//! Session variables: what `SET` and `SHOW` know.
//!
//! Most are PostgreSQL's, which drivers set when they connect. A variable that has one possible value here accepts that
//! value and refuses any other: nothing is accepted and then ignored.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};

/// One variable, declared once.
#[derive(Debug, Clone, Copy)]
pub struct VariableSpec {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Its value when nothing was set.
    pub default: &'static str,
    /// What it may be set to.
    pub allowed: Allowed,
    /// What it does, for the documentation.
    pub doc: &'static str,
}

/// What a variable may be set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Any text.
    Any,
    /// Only these values, compared without case.
    Only(&'static [&'static str]),
    /// Nothing: it can be shown only.
    ReadOnly,
}

/// All variables, by name.
pub const VARIABLES: &[VariableSpec] = &[
    variable("application_name", "", Allowed::Any, "A name that the client gives itself; it shows in logs."),
    variable("bytea_output", "hex", Allowed::Only(&["hex"]), "How BYTEA is shown."),
    variable("client_encoding", "UTF8", Allowed::Only(&["utf8", "utf-8", "unicode"]), "The text encoding."),
    variable(
        "client_min_messages",
        "notice",
        Allowed::Only(&["notice", "warning", "error", "log", "info"]),
        "Which notices a client wants; Rondel sends few.",
    ),
    variable("datestyle", "ISO, MDY", Allowed::Only(&["iso", "iso, mdy", "iso,mdy"]), "How dates are shown."),
    variable(
        "default_transaction_isolation",
        "read committed",
        Allowed::Only(&["read committed"]),
        "PostgreSQL's; there is one level.",
    ),
    variable("default_transaction_read_only", "off", Allowed::Only(&["off", "false"]), "PostgreSQL's."),
    variable(
        DIALECT,
        "postgres",
        Allowed::Only(&["postgres", "flink"]),
        "What statements are written in; an object is read again in the dialect in which it was created.",
    ),
    variable(
        "extra_float_digits",
        "1",
        Allowed::Only(&["0", "1", "2", "3"]),
        "Floats are always shown so that they read back as the same value.",
    ),
    variable(
        "idle_in_transaction_session_timeout",
        "0",
        Allowed::Only(&["0", "0ms", "0s"]),
        "PostgreSQL's; transactions hold nothing here.",
    ),
    variable(
        "implicit_flush",
        "off",
        Allowed::Only(&["on", "off"]),
        "Whether a statement that changes tables waits until every view shows the change, as FLUSH does.",
    ),
    variable("integer_datetimes", "on", Allowed::ReadOnly, "How timestamps travel in the binary format."),
    variable("intervalstyle", "postgres", Allowed::Only(&["postgres"]), "How intervals are shown."),
    variable("is_superuser", "on", Allowed::ReadOnly, "There are no roles yet."),
    variable("lock_timeout", "0", Allowed::Only(&["0", "0ms", "0s"]), "PostgreSQL's; nothing waits for a lock here."),
    variable("max_identifier_length", "63", Allowed::ReadOnly, "PostgreSQL's."),
    variable(
        READ_FAILED_VIEWS,
        "off",
        Allowed::Only(&["on", "off", "true", "false"]),
        "Whether SELECT shows what a view last held whose job has failed; off: it is an error.",
    ),
    variable("row_security", "on", Allowed::Only(&["on", "off"]), "PostgreSQL's; there are no row policies."),
    variable(
        "search_path",
        "\"$user\", public",
        Allowed::Only(&["\"$user\", public", "$user, public", "public", "", "\"\""]),
        "There is one schema, public.",
    ),
    variable("server_encoding", "UTF8", Allowed::ReadOnly, "The text encoding."),
    variable(
        "server_version",
        SERVER_VERSION,
        Allowed::ReadOnly,
        "The PostgreSQL version whose manners are kept, and Rondel's own.",
    ),
    variable("server_version_num", "150000", Allowed::ReadOnly, "The PostgreSQL version whose manners are kept."),
    variable("standard_conforming_strings", "on", Allowed::Only(&["on"]), "Backslashes in plain strings are plain."),
    variable(
        "statement_timeout",
        "0",
        Allowed::Only(&["0", "0ms", "0s"]),
        "Statements are not timed out; the client cancels them.",
    ),
    variable(
        "timezone",
        "UTC",
        Allowed::Only(&["utc", "etc/utc", "gmt", "+00:00", "0"]),
        "Timestamps are read and shown in UTC.",
    ),
    variable(
        "transaction_isolation",
        "read committed",
        Allowed::Only(&["read committed"]),
        "PostgreSQL's; there is one level.",
    ),
    variable("transaction_read_only", "off", Allowed::Only(&["off", "false"]), "PostgreSQL's."),
];

/// The variable that says what statements are written in.
pub(super) const DIALECT: &str = "dialect";

/// The variable that lets views be read whose job has failed.
pub(super) const READ_FAILED_VIEWS: &str = "read_failed_views";

/// What `SHOW server_version` says.
pub const SERVER_VERSION: &str = concat!("15.0 (Rondel ", env!("CARGO_PKG_VERSION"), ")");

const fn variable(name: &'static str, default: &'static str, allowed: Allowed, doc: &'static str) -> VariableSpec {
    VariableSpec { name, default, allowed, doc }
}

/// The variables of one session.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    set: BTreeMap<&'static str, String>,
}

fn spec(name: &str) -> Result<&'static VariableSpec> {
    let folded = name.to_ascii_lowercase();
    // `SET TIME ZONE` is spelled `timezone` once it is read.
    let folded = if folded == "time zone" { "timezone" } else { folded.as_str() };
    VARIABLES.iter().find(|spec| spec.name == folded).ok_or_else(|| {
        Error::new(ErrorKind::UndefinedObject, format!("there is no setting '{name}'"))
            .with_code("42704")
            .with_hint("SHOW ALL lists the settings")
    })
}

impl Variables {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Result<&str> {
        let spec = spec(name)?;
        Ok(self.set.get(spec.name).map_or(spec.default, String::as_str))
    }

    /// Whether a variable of two values is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_ok_and(|value| ["on", "true"].iter().any(|on| on.eq_ignore_ascii_case(value.trim())))
    }

    /// Sets a variable; `None` is its default.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let spec = spec(name)?;
        let Some(value) = value else {
            self.set.remove(spec.name);
            return Ok(());
        };
        match spec.allowed {
            Allowed::Any => {}
            Allowed::ReadOnly => {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("the setting '{}' cannot be changed", spec.name),
                ));
            }
            Allowed::Only(values) => {
                if !values.iter().any(|allowed| allowed.eq_ignore_ascii_case(value.trim())) {
                    return Err(Error::invalid(format!("the setting '{}' cannot be '{value}'", spec.name))
                        .with_code("22023")
                        .with_hint(format!("it can be {}", values.join(" or "))));
                }
            }
        }
        self.set.insert(spec.name, value.to_owned());
        Ok(())
    }

    /// All variables back to their defaults.
    pub fn reset(&mut self) {
        self.set.clear();
    }

    /// All variables: name, value, documentation.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        VARIABLES.iter().map(|spec| (spec.name, self.set.get(spec.name).map_or(spec.default, String::as_str), spec.doc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_take_effect_is_refused() {
        let mut variables = Variables::default();
        variables.set("TimeZone", Some("utc")).unwrap();
        let error = variables.set("timezone", Some("Europe/Berlin")).unwrap_err();
        assert_eq!(error.message(), "the setting 'timezone' cannot be 'Europe/Berlin'");
        assert!(variables.set("server_version", Some("99")).is_err());
        assert!(variables.set("no_such", Some("1")).is_err());
        variables.set("application_name", Some("psql")).unwrap();
        assert_eq!(variables.get("APPLICATION_NAME").unwrap(), "psql");
        variables.reset();
        assert_eq!(variables.get("application_name").unwrap(), "");
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(VARIABLES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
