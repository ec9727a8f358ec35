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
            D::NotImplemented(text) => unsupported(text),
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

/// What DataFusion does not know, in SQL's words.
fn unsupported(text: String) -> Error {
    if let Some(name) = text.strip_prefix("Unsupported SQL type ") {
        let error = Error::not_supported(format!("the type {name} is not supported"));
        return match name.starts_with("JSON") {
            true => {
                error.with_hint("JSON is kept as TEXT: write TEXT, and the operators and functions of JSON take it")
            }
            false => error.with_hint("docs/types.md lists the types that there are"),
        };
    }
    let node =
        text.strip_prefix("Unsupported ast node").and_then(|rest| rest.split_once(": ").or(rest.split_once(' ')));
    match node.and_then(|(_, node)| node.split([' ', '(', '{']).next()) {
        Some(node) if !node.is_empty() => Error::not_supported(format!("{} is not supported", node.to_uppercase())),
        _ => Error::not_supported(text),
    }
}
