//! Subqueries in conditions of joins and in ORDER BY, which DataFusion's planner takes in WHERE, SELECT and what is aggregated only.
//!
//! In the condition of an inner join they are a WHERE above it. Of an outer join, what names one side only is a WHERE of that side if
//! the join shows no row of it for having no match; else the subquery's value is a column of the side that it names. A value that
//! rows are ordered by is a column as well.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection, Sort, col, lit};

use crate::error::Error;

use super::dependent::{has_subquery, named_outside, names_outside};
use super::subquery_of;

/// What columns are called that rows are ordered by.
const ORDER: &str = "__order";

/// The plan with such subqueries where they can be planned, as far as there is such a place.
pub(in crate::plan) fn moved(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Sort(sort) => sorted(sort),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// The columns that an expression names, also in its subqueries.
fn named(expr: &Expr) -> PlanResult<Vec<Column>> {
    let mut names: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
    expr.apply(|expr| {
        if let Some(of) = subquery_of(expr) {
            names.extend(named_outside(&of.subquery)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// The columns of a join's sides among them. The others are of rows further out, which can be named on either side.
fn named_of(expr: &Expr, sides: &[LogicalPlan; 2]) -> PlanResult<Vec<Column>> {
    let mut names = named(expr)?;
    names.retain(|name| sides.iter().any(|side| side.schema().has_column(name)));
    Ok(names)
}

/// Whether a side of a join names the rows of the other: it is known by its place, and nothing may stand above it.
fn is_lateral(sides: &[LogicalPlan; 2], side: usize) -> PlanResult<bool> {
    let other = sides[1 - side].schema();
    Ok(named_outside(&sides[side])?.iter().any(|name| other.has_column(name)))
}

fn is_over(names: &[Column], schema: &DFSchema) -> bool {
    names.iter().all(|name| schema.has_column(name))
}

fn joined(mut join: Join) -> PlanResult<Transformed<LogicalPlan>> {
    let conditions = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
    let (mut hard, mut rest) = (Vec::new(), Vec::new());
    for condition in conditions {
        if has_subquery(&condition)? { hard.push(condition) } else { rest.push(condition) }
    }
    if hard.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    if join.join_type == JoinType::Inner {
        join.filter = conjunction(rest);
        let above = conjunction(hard).unwrap_or_else(|| lit(true));
        let rows = LogicalPlanBuilder::from(LogicalPlan::Join(join)).filter(above)?.build()?;
        return Ok(Transformed::yes(rows));
    }
    let shown = join.schema.columns();
    let mut sides = [LogicalPlan::clone(&join.left), LogicalPlan::clone(&join.right)];
    let hidden = match join.join_type {
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => Some(1),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => Some(0),
        _ => None,
    };
    let mut lifted = false;
    for condition in hard {
        let names = named_of(&condition, &sides)?;
        if let Some(side) = hidden.filter(|side| is_over(&names, sides[*side].schema()))
            && !is_lateral(&sides, side)?
        {
            sides[side] = LogicalPlanBuilder::from(sides[side].clone()).filter(condition)?.build()?;
            continue;
        }
        rest.push(condition.transform_down(|expr| lift(expr, &mut sides, &mut lifted)).data()?);
    }
    let [left, right] = sides;
    let filter = conjunction(rest);
    let plan = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on,
        filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    let plan = LogicalPlan::Join(plan);
    if !lifted {
        return Ok(Transformed::yes(plan));
    }
    LogicalPlanBuilder::from(plan).project(shown.into_iter().map(Expr::Column))?.build().map(Transformed::yes)
}

/// A subquery that names one side only as a column of that side.
fn lift(expr: Expr, sides: &mut [LogicalPlan; 2], lifted: &mut bool) -> PlanResult<Transformed<Expr>> {
    if subquery_of(&expr).is_none() {
        return Ok(Transformed::no(expr));
    }
    let names = named_of(&expr, sides)?;
    let (mut found, mut is_of_one) = (None, false);
    for side in 0..sides.len() {
        let of_side = is_over(&names, sides[side].schema());
        is_of_one |= of_side;
        if of_side && found.is_none() && !is_lateral(sides, side)? {
            found = Some(side);
        }
    }
    let Some(side) = found else {
        let error = match &expr {
            _ if !is_of_one => {
                Error::not_supported("a subquery in the condition of an outer join names one of its sides at most")
                    .with_hint("join the side that it names with the subquery first")
            }
            Expr::ScalarSubquery(of) if names_outside(&of.subquery)? => {
                Error::not_supported("a subquery in the condition of an outer join cannot name the rows of LATERAL")
                    .with_hint("put the comparison into the LATERAL query's own WHERE")
            }
            _ => return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump)),
        };
        return Err(error.into());
    };
    let name = with_value(&mut sides[side], ["__left", "__right"][side], expr)?;
    *lifted = true;
    Ok(Transformed::new(col(name), true, TreeNodeRecursion::Jump))
}

/// Adds a column to a plan's; answers its name.
fn with_value(plan: &mut LogicalPlan, prefix: &str, value: Expr) -> PlanResult<String> {
    let name = format!("{prefix}_{}", plan.schema().fields().len());
    let all = plan.schema().columns().into_iter().map(Expr::Column).chain([value.alias(&name)]).collect();
    *plan = LogicalPlan::Projection(Projection::try_new(all, Arc::new(plan.clone()))?);
    Ok(name)
}

fn sorted(mut sort: Sort) -> PlanResult<Transformed<LogicalPlan>> {
    let mut hard = false;
    for by in &sort.expr {
        // A value that names no row outside can stay.
        hard |= by.expr.exists(|expr| match expr {
            Expr::ScalarSubquery(of) => names_outside(&of.subquery),
            expr => Ok(subquery_of(expr).is_some()),
        })?;
    }
    if !hard {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let shown = sort.input.schema().columns();
    let mut rows = LogicalPlan::clone(&sort.input);
    let mut lifted = false;
    for by in &mut sort.expr {
        let value = by.expr.clone().transform_down(|expr| {
            if subquery_of(&expr).is_none() {
                return Ok(Transformed::no(expr));
            }
            let names = named(&expr)?;
            let name = if is_over(&names, rows.schema()) {
                with_value(&mut rows, ORDER, expr)?
            } else {
                match &mut rows {
                    // It names what SELECT does not show.
                    LogicalPlan::Projection(of) if is_over(&names, of.input.schema()) => {
                        let name = format!("{ORDER}_{}", of.expr.len());
                        let all = of.expr.iter().cloned().chain([expr.alias(&name)]).collect();
                        rows = LogicalPlan::Projection(Projection::try_new(all, Arc::clone(&of.input))?);
                        name
                    }
                    _ => return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump)),
                }
            };
            lifted = true;
            Ok(Transformed::new(col(name), true, TreeNodeRecursion::Jump))
        })?;
        by.expr = value.data;
    }
    if !lifted {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let sort = LogicalPlan::Sort(Sort { input: Arc::new(rows), ..sort });
    LogicalPlanBuilder::from(sort).project(shown.into_iter().map(Expr::Column))?.build().map(Transformed::yes)
}
