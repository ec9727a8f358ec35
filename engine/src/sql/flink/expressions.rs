//! Types and functions that Flink calls something else than PostgreSQL does.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, CeilFloorKind, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, Value,
};

use crate::error::{Error, Result};

use super::super::dialect::call;
use super::super::parser::parse_expression;
use super::{at, called, named};

/// Rewrites one expression, whose parts are rewritten already.
pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    match expr {
        Expr::Cast { data_type, .. } => {
            *data_type = postgres_type(data_type);
            Ok(())
        }
        Expr::Floor { expr: time, field: CeilFloorKind::DateTimeField(unit) } if *unit != DateTimeField::NoDateTime => {
            *expr = truncated(unit, time);
            Ok(())
        }
        Expr::Function(function) => {
            if let Some(replacement) = replacement(function)? {
                *expr = replacement;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Flink's FLOAT has 32 bits, PostgreSQL's 64.
fn postgres_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float(_) => DataType::Real,
        DataType::Bytes(_) | DataType::Varbinary(_) | DataType::Binary(_) => DataType::Bytea,
        DataType::String(_) => DataType::Text,
        other => other.clone(),
    }
}

/// `FLOOR(time TO HOUR)`.
fn truncated(unit: &DateTimeField, time: &Expr) -> Expr {
    let unit = Expr::Value(Value::SingleQuotedString(unit.to_string().to_lowercase()).into());
    call(named(Ident::new("date_trunc")), vec![unit, time.clone()])
}

fn replacement(function: &Function) -> Result<Option<Expr>> {
    let Some((name, arguments)) = called(function) else { return Ok(None) };
    let renamed = |to: &str, arguments: Vec<Expr>| {
        let mut renamed = function.clone();
        renamed.name = named(Ident { value: to.to_owned(), quote_style: None, span: name.span });
        // DISTINCT and ORDER BY stay.
        if let FunctionArguments::List(list) = &mut renamed.args {
            list.args = arguments.into_iter().map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value))).collect();
        }
        Some(Expr::Function(renamed))
    };
    Ok(match (name.value.to_ascii_lowercase().as_str(), arguments.as_slice()) {
        ("if", [condition, then, otherwise]) => Some(Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition: (*condition).clone(), result: (*then).clone() }],
            else_result: Some(Box::new((*otherwise).clone())),
        }),
        ("listagg", [value]) => {
            let comma = Expr::Value(Value::SingleQuotedString(",".to_owned()).into());
            renamed("string_agg", vec![(*value).clone(), comma])
        }
        ("listagg", [value, separator]) => renamed("string_agg", vec![(*value).clone(), (*separator).clone()]),
        ("timestampdiff", [unit, from, to]) => Some(difference(name, unit, from, to)?),
        ("proctime", []) => {
            let error = Error::not_supported("there is no processing time: results depend on the rows alone")
                .with_hint("use the event-time column");
            return Err(at(name, error));
        }
        _ => None,
    })
}

/// `TIMESTAMPDIFF(MINUTE, from, to)`: whole units, towards zero.
fn difference(name: &Ident, unit: &Expr, from: &Expr, to: &Expr) -> Result<Expr> {
    let seconds = match unit.to_string().to_ascii_uppercase().as_str() {
        "SECOND" => 1,
        "MINUTE" => 60,
        "HOUR" => 3_600,
        "DAY" => 86_400,
        other => {
            let error = Error::not_supported(format!("TIMESTAMPDIFF does not count in {other}"))
                .with_hint("write SECOND, MINUTE, HOUR or DAY");
            return Err(at(name, error));
        }
    };
    parse_expression(&format!(
        "CAST(trunc((extract(epoch FROM ({to})) - extract(epoch FROM ({from}))) / {seconds}) AS INTEGER)"
    ))
}
