//! What PostgreSQL calls a result's columns that have no name: the function's name, or `?column?`.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The plan's columns, with PostgreSQL's names.
pub(super) fn named(plan: &LogicalPlan) -> SchemaRef {
    let schema = plan.schema().as_arrow();
    let Some(expressions) = projection(plan).filter(|expressions| expressions.len() == schema.fields().len()) else {
        return Arc::new(schema.clone());
    };
    let fields = schema.fields().iter().zip(expressions);
    let fields = fields.map(|(field, expression)| match name(expression) {
        Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
        None => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The expressions of the outermost SELECT.
fn projection(plan: &LogicalPlan) -> Option<&[Expr]> {
    match plan {
        LogicalPlan::Projection(projection) => Some(&projection.expr),
        LogicalPlan::Sort(sort) => projection(&sort.input),
        LogicalPlan::Limit(limit) => projection(&limit.input),
        _ => None,
    }
}

/// A name of PostgreSQL's; `None` if the expression has one of its own.
fn name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Alias(_) | Expr::Column(_) => None,
        Expr::ScalarFunction(function) => Some(function.name().to_owned()),
        Expr::AggregateFunction(function) => Some(function.func.name().to_owned()),
        Expr::Cast(cast) => name(&cast.expr),
        Expr::Case(_) => Some("case".to_owned()),
        _ => Some("?column?".to_owned()),
    }
}
