//! The one error type that leaves the engine.
//!
//! An error is for its reader: [`Error::message`] is one sentence that says what is wrong and where, and [`Error::hint`]
//! what to do about it. [`ErrorKind`] tells a program what the caller can do; the server maps it to a SQLSTATE.

use std::fmt;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The text is not SQL that Rondel reads: correct the text.
    Syntax,
    /// A table, stream, view, sink or job of that name does not exist.
    UndefinedObject,
    /// A column of that name does not exist, or the name is ambiguous.
    UndefinedColumn,
    /// A function of that name and those argument types does not exist.
    UndefinedFunction,
    /// The name is taken.
    DuplicateObject,
    /// Other objects read from this one: drop them first, or use CASCADE.
    DependentObjects,
    /// The types do not fit.
    DatatypeMismatch,
    /// A definition is wrong: an option, a schema, a descriptor.
    InvalidDefinition,
    /// Correct SQL that Rondel cannot run continuously (or at all): write what the hint says.
    NotSupported,
    /// The object is not in a state that allows this.
    InvalidState,
    /// A row or record cannot be used: bad bytes, overflow, division by zero.
    Data,
    /// A row would break a constraint of its table.
    Constraint,
    /// Something outside answers with an error or not at all (broker, disk): look there, then retry.
    External,
    /// A limit was reached: memory, rows, queue.
    ResourceExhausted,
    /// The user asked for it to stop.
    Canceled,
    /// A fault of Rondel itself: report it.
    Internal,
}

/// A place in a statement's text: 1-based line and column, counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// An error of the engine; see the [module](self).
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    detail: Option<String>,
    position: Option<Position>,
    code: Option<&'static str>,
}

impl Error {
    /// An error with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, detail: None, position: None, code: None }
    }

    /// A fault of Rondel itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Correct SQL that Rondel does not run.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotSupported, message)
    }

    /// A definition that is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidDefinition, message)
    }

    /// An error of a value, with PostgreSQL's SQLSTATE for it: libraries say in words alone what was wrong.
    pub(crate) fn of_value(kind: ErrorKind, message: impl Into<String>) -> Self {
        let error = Self::new(kind, message);
        match value_code(&error.message) {
            Some(code) if kind == ErrorKind::Data => error.with_code(code),
            _ => error,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds longer material: a backtrace, the other system's own words.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the place in the statement.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// Adds the SQLSTATE that PostgreSQL has for it, where the kind says less.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same without its place: the text was put together by the engine, and the user does not know it.
    #[must_use]
    pub fn without_position(mut self) -> Self {
        self.position = None;
        self
    }

    /// Puts words before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Puts words behind the message.
    #[must_use]
    pub fn followed_by(mut self, words: impl fmt::Display) -> Self {
        self.message = format!("{}{words}", self.message);
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// One sentence: what is wrong, and where.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Longer material.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The SQLSTATE, if it is a closer one than the kind's.
    pub fn code(&self) -> Option<&'static str> {
        self.code
    }

    /// The place in the statement.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError as A;
        let kind = match &error {
            A::DivideByZero
            | A::ArithmeticOverflow(_)
            | A::ComputeError(_)
            | A::CastError(_)
            | A::ParseError(_)
            | A::OffsetOverflowError(_) => ErrorKind::Data,
            A::InvalidArgumentError(text) if text.contains("too large to store") => ErrorKind::Data,
            _ => ErrorKind::Internal,
        };
        let message = match &error {
            A::DivideByZero => "division by zero".to_owned(),
            A::ArithmeticOverflow(text) | A::ComputeError(text) | A::CastError(text) | A::ParseError(text) => {
                text.clone()
            }
            other => other.to_string(),
        };
        Error::of_value(kind, message)
    }
}

/// The SQLSTATE of a value's fault, by the words for it; PostgreSQL's appendix A lists them.
fn value_code(text: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let of_time =
        says(&["date/time", "date field", "time field", "timestamp", "type date", "type time", "type interval"]);
    Some(match () {
        () if says(&["division by zero", "Divide by zero"]) => "22012",
        () if says(&["interval field value out of range"]) => "22015",
        () if says(&["out of range"]) && of_time => "22008",
        () if says(&["out of range", "verflow", "Can't cast value", "too large to store", "Numeric overflow"]) => {
            "22003"
        }
        () if says(&["invalid input syntax", "Error parsing timestamp", "invalid value"]) && of_time => "22007",
        () if says(&["Error parsing", "invalid value \""]) => "22007",
        () if says(&["invalid input syntax", "malformed array literal", "Cannot cast string", "Cannot parse"]) => {
            "22P02"
        }
        () if says(&["negative substring"]) => "22011",
        () if says(&["must not be zero", "must be greater than zero", "cannot get array length", "not recognized"]) => {
            "22023"
        }
        () if says(&["invalid regular expression", "regex parse error"]) => "2201B",
        () => return None,
    })
}
