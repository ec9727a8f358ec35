//! EXISTS and IN with a subquery that stand for a value, as in `SELECT id, EXISTS (…)`: said by subqueries that count, which
//! DataFusion can take apart wherever a value may stand. In WHERE and HAVING they stay what they are: joins.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{
    Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, col, lit, not, when,
};

use crate::error::Result;

use super::subquery_of;
use crate::plan::fault::planning_error;

/// A subquery's value as a column.
const VALUE: &str = "__value";

/// The plan with such values said by counts.
pub(in crate::plan) fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Projection(projection) => projected(projection),
        LogicalPlan::Aggregate(aggregate) => lifted(aggregate),
        other => Ok(Transformed::no(other)),
    })
    .data()
    .map_err(planning_error)
}

/// An expression over rows of a schema, whose EXISTS and IN are said by counts.
pub(in crate::plan) fn said_by_counts(expr: Expr, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::Exists(exists) => exists_by_count(exists).map(Transformed::yes),
        Expr::InSubquery(within) => match in_by_counts(&within, schema)? {
            Some(said) => Ok(Transformed::yes(said)),
            None => Ok(Transformed::no(Expr::InSubquery(within))),
        },
        other => Ok(Transformed::no(other)),
    })
}

fn projected(projection: Projection) -> PlanResult<Transformed<LogicalPlan>> {
    let mut changed = false;
    let schema = projection.input.schema();
    let said = projection.expr.iter().map(|expr| {
        let said = said_by_counts(expr.clone(), schema)?;
        changed |= said.transformed;
        // The nodes above know the column by its name.
        let name = expr.schema_name().to_string();
        let is_renamed = said.data.schema_name().to_string() != name;
        Ok(if is_renamed { said.data.alias(name) } else { said.data })
    });
    let said = said.collect::<PlanResult<Vec<Expr>>>()?;
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    Projection::try_new(said, projection.input).map(|plan| Transformed::yes(LogicalPlan::Projection(plan)))
}

/// Subqueries in what an aggregate groups by or adds up are values of its rows.
pub(super) fn lifted(aggregate: Aggregate) -> PlanResult<Transformed<LogicalPlan>> {
    let mut values: Vec<Expr> = Vec::new();
    let mut lift = |expr: &Expr| {
        let lifted = expr.clone().transform_down(|expr| match expr {
            expr if subquery_of(&expr).is_some() => {
                let number = values.iter().position(|value| *value == expr).unwrap_or(values.len());
                if number == values.len() {
                    values.push(expr);
                }
                Ok(Transformed::new(col(format!("{VALUE}{number}")), true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(if lifted.transformed { lifted.data.alias(expr.schema_name().to_string()) } else { lifted.data })
    };
    let groups = aggregate.group_expr.iter().map(&mut lift).collect::<PlanResult<Vec<Expr>>>()?;
    let calls = aggregate.aggr_expr.iter().map(&mut lift).collect::<PlanResult<Vec<Expr>>>()?;
    if values.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let own = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let values = values.into_iter().enumerate().map(|(number, value)| value.alias(format!("{VALUE}{number}")));
    let rows = Projection::try_new(own.chain(values).collect(), Arc::clone(&aggregate.input))?;
    let rows = projected(rows)?.data;
    Aggregate::try_new(Arc::new(rows), groups, calls).map(|plan| Transformed::yes(LogicalPlan::Aggregate(plan)))
}

/// How many rows a subquery has.
fn count_of(subquery: &Subquery, rows: LogicalPlan, outer: Vec<Expr>) -> PlanResult<Expr> {
    let count = count_all();
    let name = Column::from_name(count.schema_name().to_string());
    let counted = LogicalPlanBuilder::from(rows)
        .aggregate(Vec::<Expr>::new(), vec![count])?
        .project(vec![Expr::Column(name)])?
        .build()?;
    Ok(Expr::ScalarSubquery(Subquery {
        subquery: Arc::new(counted),
        outer_ref_columns: outer,
        spans: subquery.spans.clone(),
    }))
}

fn exists_by_count(exists: Exists) -> PlanResult<Expr> {
    let Exists { subquery, negated } = exists;
    let count = count_of(&subquery, LogicalPlan::clone(&subquery.subquery), subquery.outer_ref_columns.clone())?;
    Ok(if negated { count.eq(lit(0_i64)) } else { count.gt(lit(0_i64)) })
}

/// True if a row is equal; else false if there are none; else NULL if either side has a NULL; else false.
fn in_by_counts(within: &InSubquery, schema: &DFSchema) -> PlanResult<Option<Expr>> {
    let InSubquery { expr, subquery, negated } = within;
    if expr.contains_outer() {
        return Ok(None);
    }
    let rows = LogicalPlan::clone(&subquery.subquery);
    let Some(column) = rows.schema().columns().into_iter().next().map(Expr::Column) else { return Ok(None) };
    let mut outer = Vec::new();
    let outside = expr.as_ref().clone().transform_up(|expr| match expr {
        Expr::Column(column) => {
            let field = schema.field_from_column(&column)?;
            let named = Expr::OuterReferenceColumn(Arc::clone(field), column);
            outer.push(named.clone());
            Ok(Transformed::yes(named))
        }
        other => Ok(Transformed::no(other)),
    });
    let outside = outside.data()?;
    let of = subquery.outer_ref_columns.clone();
    let equal = LogicalPlanBuilder::from(rows.clone()).filter(column.clone().eq(outside))?.build()?;
    let equal = count_of(subquery, equal, of.iter().cloned().chain(outer).collect())?;
    let unknown = LogicalPlanBuilder::from(rows.clone()).filter(column.is_null())?.build()?;
    let unknown = count_of(subquery, unknown, of.clone())?;
    let all = count_of(subquery, rows, of)?;
    let none = lit(0_i64);
    let value = when(equal.gt(none.clone()), lit(true))
        .when(all.eq(none.clone()), lit(false))
        .when(expr.as_ref().clone().is_null().or(unknown.gt(none)), lit(ScalarValue::Boolean(None)))
        .otherwise(lit(false))?;
    Ok(Some(if *negated { not(value) } else { value }))
}
