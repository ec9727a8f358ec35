//! An engine's error, as the protocol shows it: SQLSTATE, sentence, detail, hint and place.

use pgwire::error::ErrorInfo;
use pgwire::messages::PgWireBackendMessage;
use rondel_engine::{Error, ErrorKind};

use crate::script::Piece;

/// The SQLSTATE of a kind of error; PostgreSQL's appendix A lists them.
pub fn sqlstate(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Syntax => "42601",
        ErrorKind::UndefinedObject => "42P01",
        ErrorKind::UndefinedColumn => "42703",
        ErrorKind::UndefinedFunction => "42883",
        ErrorKind::DuplicateObject => "42P07",
        ErrorKind::DependentObjects => "2BP01",
        ErrorKind::DatatypeMismatch => "42804",
        ErrorKind::InvalidDefinition => "42P17",
        ErrorKind::NotSupported => "0A000",
        ErrorKind::InvalidState => "55000",
        ErrorKind::Data => "22000",
        ErrorKind::Constraint => "23000",
        ErrorKind::External => "58000",
        ErrorKind::ResourceExhausted => "53000",
        ErrorKind::Canceled => "57014",
        ErrorKind::Internal => "XX000",
    }
}

/// What goes wrong in the protocol itself, or in a statement that the server answers.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The SQLSTATE.
    pub(crate) state: &'static str,
    /// The sentence, its hint and detail.
    pub(crate) error: Box<Error>,
    /// The place, as the number of a character in the text that the client sent.
    pub(crate) character: Option<usize>,
    /// Whether the connection ends.
    pub(crate) is_fatal: bool,
}

impl Fault {
    /// A fault with a SQLSTATE that no [`ErrorKind`] stands for.
    pub(crate) fn new(state: &'static str, message: impl Into<String>) -> Self {
        Self { state, error: Box::new(Error::new(ErrorKind::InvalidState, message)), character: None, is_fatal: false }
    }

    /// The connection ends with it.
    pub(crate) fn fatal(state: &'static str, message: impl Into<String>) -> Self {
        Self { is_fatal: true, ..Self::new(state, message) }
    }

    /// Adds what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        *self.error = self.error.as_ref().clone().with_hint(hint);
        self
    }

    /// The user's own wish.
    pub(crate) fn canceled() -> Self {
        Error::new(ErrorKind::Canceled, "canceling statement due to user request").into()
    }

    /// The server goes down.
    pub(crate) fn shutdown() -> Self {
        Self::fatal("57P01", "terminating connection due to administrator command")
    }

    /// The error's place was in `piece`: tells it in the client's text.
    pub(crate) fn of(error: Error, piece: &Piece) -> Self {
        let character = error.position().map(|at| piece.character(at));
        Self { character, ..error.into() }
    }

    /// The message to the client.
    pub(crate) fn message(&self) -> PgWireBackendMessage {
        PgWireBackendMessage::ErrorResponse(self.report(if self.is_fatal { "FATAL" } else { "ERROR" }).into())
    }

    fn report(&self, severity: &str) -> ErrorInfo {
        let mut report = ErrorInfo::new(severity.to_owned(), self.state.to_owned(), self.error.message().to_owned());
        report.severity_nonlocalized = Some(severity.to_owned());
        report.detail = self.error.detail().map(str::to_owned);
        report.hint = self.error.hint().map(str::to_owned);
        report.position = self.character.map(|at| at.to_string());
        report
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self {
            state: error.code().unwrap_or(sqlstate(error.kind())),
            error: Box::new(error),
            character: None,
            is_fatal: false,
        }
    }
}

/// A notice or warning: what the user should know though nothing failed.
pub(crate) fn notice(severity: &str, text: &str) -> PgWireBackendMessage {
    let state = if severity == "WARNING" { "01000" } else { "00000" };
    let mut report = ErrorInfo::new(severity.to_owned(), state.to_owned(), text.to_owned());
    report.severity_nonlocalized = Some(severity.to_owned());
    PgWireBackendMessage::NoticeResponse(report.into())
}
