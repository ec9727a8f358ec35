//! DataFusion's planning errors, as our users read them.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::Ident;

use crate::error::{Error, ErrorKind, Position};

use super::column_names::{is_repeated, shown};
use super::context::nearest;

/// Keeps DataFusion's sentence and its place in the statement, if it has one.
pub(super) fn planning_error(error: DataFusionError) -> Error {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let position = span.map(|span| Position { line: span.start.line, column: span.start.column });
    let text = error.strip_backtrace();
    let own = match no_match(&text).or_else(|| no_signature(&text)).or_else(|| no_field(&text)) {
        Some(own) => own,
        None => sentence(error),
    };
    match position {
        Some(position) if position.line > 0 && own.position().is_none() => own.at(position),
        _ => own,
    }
}

/// A field that a row inside a row has not got, or of what is no row.
fn no_field(text: &str) -> Option<Error> {
    if let Some((_, rest)) = text.split_once("Cannot access field at argument ") {
        let (_, data_type) = rest.split_once("type ")?;
        let (data_type, _) = data_type.split_once(" is not Struct")?;
        let sentence = format!("a value of type {} has no fields", sql_type(data_type));
        return Some(Error::new(ErrorKind::DatatypeMismatch, sentence));
    }
    let (before, _) = text.split_once(" not found in struct")?;
    let (_, name) = before.rsplit_once("Field ")?;
    let error = Error::new(ErrorKind::UndefinedColumn, format!("there is no field {name} in this row"));
    Some(error.with_hint("DESCRIBE with the stream's or view's name shows the fields of its rows"))
}

/// Arguments that a function of ours does not take: its own sentence, without the wrapping.
fn no_match(text: &str) -> Option<Error> {
    let rest = &text[text.find("No function matches ")?..];
    let (sentence, usage) = rest.lines().next()?.split_once(": write ")?;
    let call = sentence.strip_prefix("No function matches ")?;
    let error = Error::new(ErrorKind::UndefinedFunction, format!("{NO_FUNCTION}{call}"));
    Some(error.with_hint(format!("write {}", usage.trim_end_matches('"'))))
}

/// Arguments that one of DataFusion's functions does not take.
fn no_signature(text: &str) -> Option<Error> {
    let (_, rest) = text.split_once("No function matches the given name and argument types '")?;
    let (name, types) = rest[..rest.find('\'')?].strip_suffix(')')?.split_once('(')?;
    Some(not_taken(name, separated(types).into_iter().map(sql_type).collect()))
}

/// Arguments, by their types, that a function does not take.
pub(super) fn not_taken(name: &str, types: Vec<String>) -> Error {
    let sentence = format!("the function {name} does not take ({})", types.join(", "));
    Error::new(ErrorKind::UndefinedFunction, sentence)
        .with_hint("cast the arguments to types that it takes; the manual lists the functions: docs/functions.md")
}

/// What stands between commas, those in parentheses left alone.
fn separated(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !list[start..].trim().is_empty() {
        parts.push(list[start..].trim());
    }
    parts
}

/// Before the name of a function that does not exist, whatever its arguments.
const NO_FUNCTION: &str = "there is no function ";

/// The error with the function's name as a hint that is most like the one which does not exist, if it is about one.
pub(super) fn with_nearest_function(error: Error, names: impl FnOnce() -> Vec<String>) -> Error {
    let near = match (error.kind(), error.message().strip_prefix(NO_FUNCTION)) {
        (ErrorKind::UndefinedFunction, Some(name)) if !name.contains('(') => nearest(name, names()),
        _ => None,
    };
    match near {
        Some(near) => error.with_hint(format!("do you mean {near}?")),
        None => error,
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
            SchemaError::FieldNotFound { field, valid_fields }
                if valid_fields.iter().any(|valid| is_repeated(&valid.name) && shown(&valid.name) == field.name) =>
            {
                one_of_several(&field.flat_name()).with_hint("give each of them a name of its own with AS")
            }
            SchemaError::FieldNotFound { field, valid_fields } => {
                let error = Error::new(ErrorKind::UndefinedColumn, format!("there is no column {}", field.flat_name()));
                let near = nearest(&field.name, valid_fields.iter().map(|column| column.name.clone()).collect());
                let near = near.map(|name| format!("do you mean {name}?"));
                let shown = valid_fields.iter().filter(|column| !column.name.starts_with("__rondel_"));
                let names: Vec<String> = shown.map(|column| column.flat_name()).collect();
                let all =
                    (!names.is_empty() && names.len() <= 40).then(|| format!("columns here: {}", names.join(", ")));
                match (near, all) {
                    (Some(near), Some(all)) => error.with_hint(format!("{near} {all}")),
                    (Some(hint), None) | (None, Some(hint)) => error.with_hint(hint),
                    (None, None) => error,
                }
            }
            SchemaError::AmbiguousReference { field } => {
                one_of_several(&field.flat_name()).with_hint("write the table's name or alias before it")
            }
            SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
                specified_twice(&name)
            }
        },
        DataFusionError::Plan(text) => plan_sentence(text),
        other => other.into(),
    }
}

/// An error about a name, where the name stands; one that was made here stands nowhere.
pub(super) fn at_name(error: Error, name: &Ident) -> Error {
    let start = name.span.start;
    match start.line {
        0 => error,
        line => error.at(Position { line, column: start.column }),
    }
}

/// A name that stands for one of several columns, and nothing says for which.
pub(super) fn one_of_several(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedColumn, format!("the column {name} could be one of several")).with_code("42702")
}

/// A name that two columns have.
pub(super) fn specified_twice(name: &str) -> Error {
    Error::new(ErrorKind::InvalidDefinition, format!("column \"{}\" specified more than once", shown(name)))
        .with_code("42701")
        .with_hint("give one of them another name with AS")
}

/// In DataFusion's sentence about columns of a SELECT that have one name.
const NOT_UNIQUE: &str = " require unique expression names but the expression \"";

/// Whether an error may be gone if columns have other names.
pub(super) fn is_about_names(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => !matches!(**schema, SchemaError::FieldNotFound { .. }),
        DataFusionError::Plan(text) => text.contains(NOT_UNIQUE),
        _ => false,
    }
}

/// What DataFusion's own sentences say, for people who know SQL and not DataFusion.
fn plan_sentence(text: String) -> Error {
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or_default();
        return Error::new(ErrorKind::UndefinedFunction, format!("{NO_FUNCTION}{name}"))
            .with_hint("the manual lists the functions: docs/functions.md, and DataFusion's own");
    }
    if let Some((left, operator, right)) = operands(&text) {
        let sentence = format!("the operator {operator} does not take {left} and {right}");
        return Error::new(ErrorKind::DatatypeMismatch, sentence)
            .with_code("42883")
            .with_hint(format!("cast one of them, as in x::{}", left.to_lowercase()));
    }
    if let Some((_, rest)) = text.split_once(NOT_UNIQUE) {
        let column = rest.split('"').next().unwrap_or_default();
        let name = column.rsplit_once(" AS ").or_else(|| column.rsplit_once('.')).map_or(column, |(_, name)| name);
        return specified_twice(name);
    }
    if let Some(error) = of_clause(&text) {
        return error;
    }
    match () {
        () if text.contains("could not be coerced") || text.contains("cannot be coerced") => {
            Error::new(ErrorKind::DatatypeMismatch, text)
        }
        () => DataFusionError::Plan(text).into(),
    }
}

/// What a clause of a query does not allow, with PostgreSQL's SQLSTATE for it.
fn of_clause(text: &str) -> Option<Error> {
    let of = |code, sentence: String| Error::new(ErrorKind::InvalidDefinition, sentence).with_code(code);
    if let Some(name) = text.strip_prefix("Invalid qualifier ") {
        return Some(
            of("42P01", format!("there is no relation {name} in FROM")).with_hint("write its alias, if it has one"),
        );
    }
    if let Some(rest) = text.strip_prefix("Cannot create filter with non-boolean predicate '") {
        let (predicate, data_type) = rest.split_once("' returning ")?;
        let sentence = format!("a condition is BOOLEAN, and {predicate} is {}", sql_type(data_type));
        return Some(of("42804", sentence).with_hint("compare it with a value"));
    }
    if text.contains(" must be in GROUP BY or an aggregate function") {
        let (_, rest) = text.split_once("column \"")?;
        let name = &rest[..rest.find('"')?];
        return Some(not_grouped(name));
    }
    if text.starts_with("Aggregate functions are not allowed in the WHERE clause") {
        return Some(aggregate_in_where());
    }
    if let Some((kind, _)) = text.split_once(" queries have different number of columns") {
        return Some(of("42601", format!("each {kind} query must have the same number of columns")));
    }
    text.starts_with("Too many columns! The subquery should only return one column").then(|| {
        of("42601", "a subquery in the place of a value must return only one column".to_owned())
            .with_hint("leave the others out, or put the subquery into FROM")
    })
}

/// The error of a column that is neither a key nor in an aggregate.
pub(super) fn not_grouped(name: &str) -> Error {
    let sentence = format!("column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function");
    Error::new(ErrorKind::InvalidDefinition, sentence)
        .with_code("42803")
        .with_hint(format!("write GROUP BY …, {name}, or max({name})"))
}

/// The error of an aggregate in WHERE.
pub(super) fn aggregate_in_where() -> Error {
    Error::new(ErrorKind::InvalidDefinition, "aggregate functions are not allowed in WHERE")
        .with_code("42803")
        .with_hint("write HAVING, which is about groups")
}

/// The operator and the types of a sentence about types that do not fit.
fn operands(text: &str) -> Option<(String, &str, String)> {
    const SENTENCES: [(&str, &str); 3] = [
        ("Cannot coerce arithmetic expression ", " to valid types"),
        ("Cannot infer common argument type for comparison operation ", ""),
        ("Cannot infer common argument type for logical boolean operation ", ""),
    ];
    let types = SENTENCES.iter().find_map(|(before, behind)| {
        let rest = &text[text.find(before)? + before.len()..];
        Some(if behind.is_empty() { rest.lines().next()? } else { &rest[..rest.find(behind)?] })
    })?;
    // A type's name may hold spaces, an operator stands alone.
    let is_operator =
        |word: &&str| word.chars().all(|character| "+-*/%<>=!".contains(character)) || ["AND", "OR"].contains(word);
    let operator = types.split(' ').find(is_operator)?;
    let (left, right) = types.split_once(&format!(" {operator} "))?;
    Some((sql_type(left), operator, sql_type(right)))
}

/// SQL's name for an Arrow type, as Arrow writes that.
pub(super) fn sql_type(arrow: &str) -> String {
    let name = match arrow.trim() {
        "Utf8" | "Utf8View" | "LargeUtf8" => "TEXT",
        "Int8" | "Int16" | "UInt8" => "SMALLINT",
        "Int32" | "UInt16" => "INTEGER",
        "Int64" | "UInt32" => "BIGINT",
        "Float32" => "REAL",
        "Float64" => "DOUBLE PRECISION",
        "Boolean" => "BOOLEAN",
        "Date32" | "Date64" => "DATE",
        "Binary" | "LargeBinary" | "BinaryView" => "BYTEA",
        other if other.starts_with("Decimal") => "NUMERIC",
        other if other.starts_with("Timestamp") && !other.contains(['+', '"']) => "TIMESTAMP",
        other if other.starts_with("Timestamp") => "TIMESTAMPTZ",
        other if other.starts_with("Interval") || other.starts_with("Duration") => "INTERVAL",
        other if other.starts_with("Time") => "TIME",
        other => match other.strip_prefix("List(").and_then(|item| item.strip_suffix(')')) {
            Some(item) => return format!("{}[]", sql_type(item)),
            None => other,
        },
    };
    name.to_owned()
}
