//! The beginning of a connection: encryption is refused, the protocol's version agreed on, the client greeted.

use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey, Startup};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage, SslNegotiationMetaMessage};

use super::cancel::{CancelKey, CancelRegistry};
use super::sqlstate::Fault;
use super::variables::Reported;
use super::wire::{Inbound, Outbound, ReadError};
use crate::frontend::Session;

/// What the client asked for.
pub(super) struct Greeting {
    /// Who it is; not verified.
    pub(super) user: String,
    /// The database it named; there is one.
    pub(super) database: String,
    /// Session variables that it wants.
    pub(super) variables: Vec<(String, String)>,
}

/// Reads up to the client's start; `None` if there will be no session: a cancel request, or a client that left.
pub(super) async fn greet(
    inbound: &mut Inbound,
    outbound: &mut Outbound,
    registry: &CancelRegistry,
) -> Result<Option<Greeting>, ReadError> {
    // Encryption may be asked for once in each of its two forms.
    for _ in 0..4 {
        match inbound.receive().await? {
            Some(PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::None)) => {}
            Some(PgWireFrontendMessage::SslNegotiation(request)) => outbound.refuse_encryption(&request).await?,
            Some(PgWireFrontendMessage::CancelRequest(request)) => {
                if let Some(secret) = request.secret_key.as_i32() {
                    registry.cancel(request.pid, secret);
                }
                return Ok(None);
            }
            Some(PgWireFrontendMessage::Startup(startup)) => {
                inbound.started();
                return Ok(Some(read_startup(startup, outbound)));
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn read_startup(startup: Startup, outbound: &mut Outbound) -> Greeting {
    let unknown: Vec<String> = startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if startup.protocol_number_minor > 0 || !unknown.is_empty() {
        // Version 3.0 is what is spoken, without extensions; the client decides whether it goes on.
        outbound.queue(PgWireBackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion::new(3 << 16, unknown)));
    }
    let parameter = |name: &str| startup.parameters.get(name).cloned();
    let user = parameter("user").unwrap_or_else(|| "rondel".to_owned());
    let database = parameter("database").unwrap_or_else(|| user.clone());
    let mut variables = parameter("options").as_deref().map(option_settings).unwrap_or_default();
    let is_variable = |name: &str| !matches!(name, "user" | "database" | "options" | "replication");
    variables
        .extend(startup.parameters.into_iter().filter(|(name, _)| is_variable(name) && !name.starts_with("_pq_.")));
    Greeting { user, database, variables }
}

/// `-c name=value` and `--name=value` of PGOPTIONS.
fn option_settings(options: &str) -> Vec<(String, String)> {
    let mut words = options.split_ascii_whitespace();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting,
            None => continue,
        };
        if let Some((name, value)) = setting.split_once('=') {
            settings.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    settings
}

/// Lets the client in: it learns the variables and the key that cancels its statements.
pub(super) fn welcome(outbound: &mut Outbound, session: &impl Session, reported: &mut Reported, key: &CancelKey) {
    outbound.queue(PgWireBackendMessage::Authentication(Authentication::Ok));
    for message in reported.changes(session) {
        outbound.queue(message);
    }
    let key = BackendKeyData::new(key.id, SecretKey::I32(key.secret));
    outbound.queue(PgWireBackendMessage::BackendKeyData(key));
}

/// What a client is told whose bytes can't be read.
pub(super) fn fault_of(error: &ReadError) -> Option<Fault> {
    match error {
        ReadError::Io(_) => None,
        ReadError::Malformed(_) => Some(Fault::fatal("08P01", error.to_string())),
        ReadError::TooLong { .. } => Some(
            Fault::fatal("54000", error.to_string())
                .with_hint("the server's setting pg-message-bytes-max raises the limit"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_set_variables() {
        let settings = option_settings("-c search_path=a -cTimeZone=UTC --statement-timeout=5 -x");
        let expected = [("search_path", "a"), ("TimeZone", "UTC"), ("statement_timeout", "5")];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
