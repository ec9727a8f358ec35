//! `EXISTS` and `IN` as values: in SELECT, where DataFusion makes no joins of them.
//!
//! They are said by subqueries that count, which have their joins: `EXISTS (q)` is that q has more than 0 rows. `x IN (q)` is
//! true if a row of q equals x; otherwise unknown if q has a NULL, or any row where x is NULL; otherwise false.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, lit, when};
use datafusion::scalar::ScalarValue;

use crate::error::Result;

use super::fault::planning_error;

/// The plan with the subqueries of its SELECT lists counted.
pub(super) fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Projection(projection) => counted_projection(projection),
        other => Ok(Transformed::no(other)),
    })
    .data()
    .map_err(planning_error)
}

fn counted_projection(projection: Projection) -> PlanResult<Transformed<LogicalPlan>> {
    let there = |expr: &Expr| expr.exists(|inner| Ok(matches!(inner, Expr::Exists(_) | Expr::InSubquery(_))));
    let mut any = false;
    for expr in &projection.expr {
        any |= there(expr)?;
    }
    if !any {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let mut expressions = Vec::with_capacity(projection.expr.len());
    for expr in projection.expr {
        // The nodes above know the column by its name.
        let name = expr.schema_name().to_string();
        let counted = expr.transform_up(|expr| counted_expression(expr, projection.input.schema()))?;
        let named = !counted.transformed || matches!(counted.data, Expr::Alias(_));
        expressions.push(if named { counted.data } else { counted.data.alias(name) });
    }
    let plan = Projection::try_new(expressions, projection.input)?;
    Ok(Transformed::yes(LogicalPlan::Projection(plan)))
}

fn counted_expression(expr: Expr, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    match expr {
        Expr::Exists(Exists { subquery, negated }) => {
            let there = has_rows(&subquery, None)?;
            Ok(Transformed::yes(if negated { Expr::Not(Box::new(there)) } else { there }))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let y = Expr::Column(subquery.subquery.schema().columns().remove(0));
            let x = outer(*expr.clone(), schema)?;
            let equal = has_rows(&subquery, Some(y.clone().eq(x)))?;
            let null = has_rows(&subquery, Some(y.is_null()))?;
            let unknown = null.or(expr.is_null().and(has_rows(&subquery, None)?));
            let is_in = when(equal, lit(true)).when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(false))?;
            Ok(Transformed::yes(if negated { Expr::Not(Box::new(is_in)) } else { is_in }))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether the subquery has rows that satisfy a condition.
fn has_rows(subquery: &Subquery, condition: Option<Expr>) -> PlanResult<Expr> {
    let mut outer_ref_columns = subquery.outer_ref_columns.clone();
    let mut rows = LogicalPlanBuilder::from(LogicalPlan::clone(&subquery.subquery));
    if let Some(condition) = condition {
        condition.apply(|inner| {
            if matches!(inner, Expr::OuterReferenceColumn(..)) && !outer_ref_columns.contains(inner) {
                outer_ref_columns.push(inner.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        rows = rows.filter(condition)?;
    }
    let count = count_udaf().call(vec![lit(1_i64)]).alias("count");
    let counted = rows.aggregate(Vec::<Expr>::new(), vec![count])?.build()?;
    let counted = Subquery { subquery: counted.into(), outer_ref_columns, spans: subquery.spans.clone() };
    Ok(Expr::ScalarSubquery(counted).gt(lit(0_i64)))
}

/// An expression over the row outside, as the subquery names it.
fn outer(expr: Expr, schema: &DFSchema) -> PlanResult<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let field = Arc::clone(schema.field_from_column(&column)?);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}
