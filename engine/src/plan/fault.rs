//! DataFusion's planning errors, as our users read them.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::error::{Error, ErrorKind, Position};

/// Keeps DataFusion's sentence and its place in the statement, if it has one.
pub(super) fn planning_error(error: DataFusionError) -> Error {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let position = span.map(|span| Position { line: span.start.line, column: span.start.column });
    let own = sentence(error);
    match position {
        Some(position) if position.line > 0 && own.position().is_none() => own.at(position),
        _ => own,
    }
}

fn sentence(error: DataFusionError) -> Error {
    match error {
        DataFusionError::Diagnostic(_, inner) => sentence(*inner),
        DataFusionError::Context(_, inner) => sentence(*inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => sentence(errors.swap_remove(0)),
        DataFusionError::Shared(inner) => match inner.as_ref() {
            DataFusionError::External(boxed) => match boxed.downcast_ref::<Error>() {
                Some(own) => own.clone(),
                None => Error::internal(inner.strip_backtrace()),
            },
            _ => Error::new(ErrorKind::InvalidDefinition, inner.strip_backtrace()),
        },
        DataFusionError::SchemaError(schema, _) => match *schema {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let error = Error::new(ErrorKind::UndefinedColumn, format!("there is no column {}", field.flat_name()));
                if valid_fields.is_empty() || valid_fields.len() > 40 {
                    return error;
                }
                let names: Vec<String> = valid_fields.iter().map(|column| column.flat_name()).collect();
                error.with_hint(format!("columns here: {}", names.join(", ")))
            }
            SchemaError::AmbiguousReference { field } => Error::new(
                ErrorKind::UndefinedColumn,
                format!("the column {} could be one of several", field.flat_name()),
            )
            .with_hint("write the table's name or alias before it"),
            other => Error::new(ErrorKind::InvalidDefinition, other.to_string()),
        },
        DataFusionError::Plan(text) if text.contains("could not be coerced") || text.contains("cannot be coerced") => {
            Error::new(ErrorKind::DatatypeMismatch, text)
        }
        other => other.into(),
    }
}
