//! `WATERMARK FOR column AS expression`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, ErrorKind, Result};

use super::context::Context;
use super::event_time::grows_with;
use super::fault::planning_error;
use super::relation::WatermarkDefinition;

/// Checks a watermark's definition against a stream's columns.
pub(super) fn validated(
    context: &Context<'_>,
    schema: &Schema,
    column: &str,
    expression: &ast::Expr,
) -> Result<WatermarkDefinition> {
    let Some((index, field)) = schema.column_with_name(column) else {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::new(ErrorKind::UndefinedColumn, format!("WATERMARK FOR {column}: there is no such column"))
            .with_hint(format!("columns here: {}", names.join(", "))));
    };
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        return Err(Error::new(
            ErrorKind::DatatypeMismatch,
            format!("WATERMARK FOR {column}: the column is no timestamp but {}", field.data_type()),
        )
        .with_hint("name a column of type TIMESTAMP"));
    }
    let planned = planned(context, schema, expression)?;
    let columns = DFSchema::try_from(schema.clone()).map_err(planning_error)?;
    let data_type = planned.get_type(&columns).map_err(planning_error)?;
    if !matches!(data_type, DataType::Timestamp(..)) {
        return Err(Error::new(
            ErrorKind::DatatypeMismatch,
            format!("WATERMARK FOR {column}: {expression} is no timestamp but {data_type}"),
        )
        .with_hint(format!("write {column} - INTERVAL '10' SECOND")));
    }
    let grows = grows_with(&planned, &columns).filter(|grows| grows.column == index);
    match grows {
        Some(grows) if grows.delay_micros >= 0 => {
            Ok(WatermarkDefinition { column: index, expression: expression.to_string() })
        }
        _ => Err(Error::invalid(format!(
            "WATERMARK FOR {column}: {expression} does not follow {column} at a fixed distance"
        ))
        .with_hint(format!("write {column}, or {column} - INTERVAL '10' SECOND"))),
    }
}

/// The expression over a stream's columns, with its types made to fit.
pub(super) fn planned(context: &Context<'_>, schema: &Schema, expression: &ast::Expr) -> Result<Expr> {
    let columns = Arc::new(DFSchema::try_from(schema.clone()).map_err(planning_error)?);
    let expr = context.expression(expression, &columns)?;
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&columns)).build());
    let expr = simplifier.coerce(expr, &columns).map_err(planning_error)?;
    simplifier.simplify(expr).map_err(planning_error)
}
