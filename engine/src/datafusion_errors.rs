//! DataFusion's errors as ours, and back.

use datafusion::error::DataFusionError;

use crate::error::{Error, ErrorKind};

impl From<DataFusionError> for Error {
    /// Keeps DataFusion's own sentence, without its prefix, and finds the kind that a user can act on.
    fn from(error: DataFusionError) -> Self {
        use datafusion::common::SchemaError as S;
        use datafusion::error::DataFusionError as D;
        match error {
            D::ArrowError(error, _) => (*error).into(),
            D::SQL(error, _) => Error::new(ErrorKind::Syntax, sql_message(&error)),
            D::SchemaError(error, _) => {
                let kind = match *error {
                    S::FieldNotFound { .. } | S::AmbiguousReference { .. } => ErrorKind::UndefinedColumn,
                    _ => ErrorKind::InvalidDefinition,
                };
                Error::new(kind, error.to_string())
            }
            D::NotImplemented(text) => Error::not_supported(text),
            D::Plan(text) => {
                let kind = if text.contains("Invalid function") || text.contains("No function matches") {
                    ErrorKind::UndefinedFunction
                } else {
                    ErrorKind::InvalidDefinition
                };
                Error::new(kind, text)
            }
            D::Execution(text) => Error::of_value(ErrorKind::Data, text),
            D::ResourcesExhausted(text) => Error::new(ErrorKind::ResourceExhausted, text),
            D::Context(context, inner) => Error::from(*inner).context(context),
            D::Diagnostic(_, inner) => Error::from(*inner),
            D::Shared(inner) => shared(&inner),
            D::External(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Error::new(ErrorKind::External, other.to_string()),
            },
            other => Error::internal(other.strip_backtrace()),
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// An error that several readers of one stream were given: it can only be looked at.
fn shared(error: &DataFusionError) -> Error {
    use datafusion::error::DataFusionError as D;
    match error {
        D::Shared(inner) => shared(inner),
        D::Context(context, inner) => shared(inner).context(context),
        D::Diagnostic(_, inner) => shared(inner),
        D::ResourcesExhausted(text) => Error::new(ErrorKind::ResourceExhausted, text.clone()),
        D::Execution(text) => Error::of_value(ErrorKind::Data, text.clone()),
        D::ArrowError(inner, _) => Error::of_value(ErrorKind::Data, inner.to_string()),
        D::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.clone(),
            None => Error::new(ErrorKind::External, inner.to_string()),
        },
        other => Error::internal(other.strip_backtrace()),
    }
}

fn sql_message(error: &datafusion::sql::sqlparser::parser::ParserError) -> String {
    use datafusion::sql::sqlparser::parser::ParserError as P;
    match error {
        P::TokenizerError(text) | P::ParserError(text) => text.clone(),
        P::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
    }
}
