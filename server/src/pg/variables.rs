//! Session variables that belong to the protocol: what psql and drivers set and ask for.
//!
//! A variable that the engine also cares about (time zone, search path) is handed on by the connection.

use std::collections::BTreeMap;

use rondel_engine::{Error, ErrorKind, Result};

/// The version of PostgreSQL whose dialect and system tables are followed.
pub(super) const SERVER_VERSION: &str = concat!("15.0 (Rondel ", env!("CARGO_PKG_VERSION"), ")");

/// What a client may do to a variable.
enum Rule {
    /// Any value.
    Free,
    /// Never changes.
    Fixed,
    /// One of these, in any case; the first characters decide.
    OneOf(&'static [&'static str]),
}

/// A variable: its name as it is reported, its default, whether the client is told of changes, what it may be set to.
struct Declaration(&'static str, &'static str, bool, Rule);

const DECLARATIONS: &[Declaration] = &[
    Declaration("server_version", SERVER_VERSION, true, Rule::Fixed),
    Declaration("server_encoding", "UTF8", true, Rule::Fixed),
    Declaration("client_encoding", "UTF8", true, Rule::OneOf(&["utf8", "utf-8", "unicode"])),
    Declaration("application_name", "", true, Rule::Free),
    Declaration("DateStyle", "ISO, MDY", true, Rule::OneOf(&["iso"])),
    Declaration("IntervalStyle", "postgres", true, Rule::OneOf(&["postgres"])),
    Declaration("TimeZone", "UTC", true, Rule::Free),
    Declaration("integer_datetimes", "on", true, Rule::Fixed),
    Declaration("standard_conforming_strings", "on", true, Rule::OneOf(&["on", "true"])),
    Declaration("default_transaction_read_only", "off", true, Rule::Free),
    Declaration("in_hot_standby", "off", true, Rule::Fixed),
    Declaration("is_superuser", "on", true, Rule::Fixed),
    Declaration("session_authorization", "", true, Rule::Fixed),
    Declaration("search_path", "public", false, Rule::Free),
    Declaration("server_version_num", "150000", false, Rule::Fixed),
    Declaration("max_identifier_length", "63", false, Rule::Fixed),
    Declaration("lc_collate", "C", false, Rule::Fixed),
    Declaration("lc_ctype", "C", false, Rule::Fixed),
    Declaration("lc_messages", "C", false, Rule::Free),
    Declaration("lc_monetary", "C", false, Rule::Free),
    Declaration("bytea_output", "hex", false, Rule::OneOf(&["hex"])),
    Declaration("extra_float_digits", "1", false, Rule::Free),
    Declaration("client_min_messages", "notice", false, Rule::Free),
    Declaration("statement_timeout", "0", false, Rule::OneOf(&["0"])),
    Declaration("lock_timeout", "0", false, Rule::Free),
    Declaration("idle_in_transaction_session_timeout", "0", false, Rule::Free),
    Declaration("idle_session_timeout", "0", false, Rule::Free),
    Declaration("transaction_isolation", "serializable", false, Rule::Free),
    Declaration("default_transaction_isolation", "serializable", false, Rule::Free),
    Declaration("transaction_read_only", "off", false, Rule::Free),
    Declaration("synchronous_commit", "on", false, Rule::Free),
    Declaration("row_security", "on", false, Rule::Free),
];

/// A session's values; names in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    /// What the connection's start asked for: RESET goes back to it.
    initial: BTreeMap<String, String>,
    set: BTreeMap<String, String>,
}

impl Variables {
    /// The variables of a connection of `user`.
    pub(super) fn new(user: &str) -> Self {
        let initial = BTreeMap::from([("session_authorization".to_owned(), user.to_owned())]);
        Self { initial, set: BTreeMap::new() }
    }

    /// Whether the protocol knows the variable.
    pub(super) fn knows(&self, name: &str) -> bool {
        declaration(name).is_some()
    }

    /// A value at the connection's start, which RESET goes back to. What isn't known or allowed is left out.
    pub(super) fn begin_with(&mut self, name: &str, value: &str) {
        if self.set(name, Some(value)).is_ok()
            && let Some(value) = self.set.remove(&name.to_lowercase())
        {
            self.initial.insert(name.to_lowercase(), value);
        }
    }

    /// Sets a variable that the protocol knows; `None` is its default.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let key = name.to_lowercase();
        let Some(Declaration(shown, default, _, rule)) = declaration(name) else {
            return Err(unknown(name));
        };
        let Some(value) = value else {
            self.set.remove(&key);
            return Ok(());
        };
        let value = match rule {
            Rule::Free => value,
            // A client that asks for what is so anyway isn't refused.
            Rule::Fixed if self.get(name).as_deref() == Some(value) => return Ok(()),
            Rule::Fixed => {
                return Err(Error::new(ErrorKind::InvalidState, format!("parameter \"{shown}\" cannot be changed")));
            }
            Rule::OneOf(choices) => {
                let wanted = value.to_lowercase();
                if !choices.iter().any(|choice| wanted == *choice || wanted.starts_with(&format!("{choice},"))) {
                    let sentence = format!("\"{value}\" is not supported for parameter \"{shown}\"");
                    return Err(Error::not_supported(sentence).with_hint(format!("it is always \"{default}\"")));
                }
                default
            }
        };
        self.set.insert(key, value.to_owned());
        Ok(())
    }

    /// A variable's value, if the protocol knows it.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let Declaration(_, default, ..) = declaration(name)?;
        let key = name.to_lowercase();
        Some(self.set.get(&key).or_else(|| self.initial.get(&key)).cloned().unwrap_or_else(|| (*default).to_owned()))
    }

    /// Back to the connection's start.
    pub(super) fn reset(&mut self) {
        self.set.clear();
    }

    /// What the client is told at its start, and after changes.
    pub(super) fn reported(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let reported = DECLARATIONS.iter().filter(|Declaration(_, _, reported, _)| *reported);
        reported.map(|Declaration(name, ..)| (*name, self.get(name).unwrap_or_default()))
    }

    /// Everything, by name, for SHOW ALL.
    pub(super) fn all(&self) -> Vec<(&'static str, String)> {
        let mut all: Vec<_> =
            DECLARATIONS.iter().map(|Declaration(name, ..)| (*name, self.get(name).unwrap_or_default())).collect();
        all.sort_by_key(|(name, _)| name.to_lowercase());
        all
    }
}

/// A name that neither the protocol nor the engine knows.
pub(super) fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedObject, format!("there is no session variable \"{name}\""))
        .with_hint("SHOW ALL lists them")
}

fn declaration(name: &str) -> Option<&'static Declaration> {
    DECLARATIONS.iter().find(|Declaration(known, ..)| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_goes_back_to_what_the_connection_began_with() {
        let mut variables = Variables::new("ann");
        variables.begin_with("application_name", "psql");
        variables.begin_with("no_such_thing", "x");
        variables.set("APPLICATION_NAME", Some("other")).unwrap();
        assert_eq!(variables.get("application_name").as_deref(), Some("other"));
        variables.set("application_name", None).unwrap();
        assert_eq!(variables.get("application_name").as_deref(), Some("psql"));
        assert_eq!(variables.get("session_authorization").as_deref(), Some("ann"));
        assert_eq!(variables.get("no_such_thing"), None);
    }

    #[test]
    fn what_is_always_so_may_be_asked_for_and_nothing_else() {
        let mut variables = Variables::new("ann");
        variables.set("datestyle", Some("ISO, DMY")).unwrap();
        assert_eq!(variables.get("DateStyle").as_deref(), Some("ISO, MDY"));
        variables.set("client_encoding", Some("utf-8")).unwrap();
        assert_eq!(variables.set("client_encoding", Some("latin1")).unwrap_err().kind(), ErrorKind::NotSupported);
        assert_eq!(variables.set("server_version", Some("9")).unwrap_err().kind(), ErrorKind::InvalidState);
        variables.set("is_superuser", Some("on")).unwrap();
    }
}
