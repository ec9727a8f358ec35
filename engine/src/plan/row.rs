//! Expressions over one row of a table: defaults, generated columns, CHECK, what ON CONFLICT sets.

use std::sync::Arc;

use chrono::DateTime;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};

use super::fault::planning_error;
use super::planner::Planner;
use super::relation::{Relation, Relations};

/// What an expression over a row may use.
#[derive(Debug, Clone, Copy)]
pub enum RowValues<'a> {
    /// Nothing but the row: it is the same whenever it is computed.
    RowOnly,
    /// The time, in microseconds since 1970, and parameters too.
    Statement {
        /// What `now()` is.
        now_micros: i64,
        /// The values of `$1`, `$2`, …
        parameters: &'a [ScalarValue],
    },
}

impl Planner {
    /// The expression over the columns of `schema`, with its types made to fit.
    pub fn row_expression(&self, schema: &DFSchema, expression: &ast::Expr, values: RowValues<'_>) -> Result<Expr> {
        let context = self.context();
        let expr = context.expression(expression, schema)?;
        self.fitted_row_expression(schema, expr, values)
    }

    fn fitted_row_expression(&self, schema: &DFSchema, expr: Expr, values: RowValues<'_>) -> Result<Expr> {
        expr.apply(|part| match refusal(part, values) {
            Some(error) => Err(error.into()),
            None => Ok(TreeNodeRecursion::Continue),
        })
        .map_err(planning_error)?;
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone()));
        let (expr, context) = match values {
            RowValues::RowOnly => (expr, context),
            RowValues::Statement { now_micros, parameters } => (
                with_parameters(expr, parameters)?,
                context.with_query_execution_start_time(DateTime::from_timestamp_micros(now_micros)),
            ),
        };
        let simplifier = ExprSimplifier::new(context.build());
        let expr = simplifier.coerce(expr, schema).map_err(planning_error)?;
        simplifier.simplify(expr).map_err(planning_error)
    }

    /// A planner that knows one relation more, or by its name another one.
    pub fn with_relation(&self, relation: Relation) -> Self {
        self.over(|base| Arc::new(WithRelation { base, relation: Arc::new(relation) }))
    }
}

/// Why an expression cannot be computed from a row alone.
fn refusal(expr: &Expr, values: RowValues<'_>) -> Option<Error> {
    match expr {
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
            Some(Error::not_supported("a subquery cannot be used here"))
        }
        Expr::AggregateFunction(function) => Some(
            Error::invalid(format!("the aggregate {} cannot be used here", function.func.name())).with_code("42803"),
        ),
        Expr::WindowFunction(_) => Some(Error::invalid("a window function cannot be used here").with_code("42P20")),
        Expr::ScalarFunction(function)
            if matches!(values, RowValues::RowOnly)
                && function.func.signature().volatility != Volatility::Immutable =>
        {
            Some(Error::invalid(format!("{expr} gives another value at another time: it is not immutable")))
        }
        _ => None,
    }
}

fn with_parameters(expr: Expr, parameters: &[ScalarValue]) -> Result<Expr> {
    expr.transform_up(|part| {
        let Expr::Placeholder(placeholder) = &part else { return Ok(Transformed::no(part)) };
        let number = placeholder.id.trim_start_matches('$').parse::<usize>().ok();
        match number.and_then(|number| parameters.get(number.checked_sub(1)?)) {
            Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
            None => Err(Error::invalid(format!("the parameter {} has no value", placeholder.id)).into()),
        }
    })
    .data()
    .map_err(planning_error)
}

/// A catalog and one relation more.
struct WithRelation {
    base: Arc<dyn Relations>,
    relation: Arc<Relation>,
}

impl Relations for WithRelation {
    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        if name == self.relation.name { Some(Arc::clone(&self.relation)) } else { self.base.relation(name) }
    }

    fn why_unreadable(&self, name: &str) -> Option<Error> {
        self.base.why_unreadable(name)
    }

    fn names(&self) -> Vec<String> {
        self.base.names()
    }
}
