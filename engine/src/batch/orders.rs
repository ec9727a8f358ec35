//! Aggregates that want their rows in several orders.
//!
//! DataFusion 55 brings the rows of one node into one order and refuses the rest. So each order has a node of its own, and the groups
//! are put together by their keys.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};

use crate::error::Result;
use crate::plan::is_volatile;

/// The plan with such aggregates apart.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => apart(aggregate),
        other => Ok(Transformed::no(other)),
    });
    Ok(lowered.data()?)
}

fn apart(aggregate: Aggregate) -> PlanResult<Transformed<LogicalPlan>> {
    // By their orders; those that want none go with the first.
    let mut nodes: Vec<(&[Sort], Vec<Expr>)> = Vec::new();
    let mut rest: Vec<Expr> = Vec::new();
    for call in &aggregate.aggr_expr {
        let Some(order) = wanted(call) else {
            rest.push(call.clone());
            continue;
        };
        match nodes.iter_mut().find(|(of, _)| *of == order) {
            Some((_, calls)) => calls.push(call.clone()),
            None => nodes.push((order, vec![call.clone()])),
        }
    }
    let is_grouping = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]);
    if nodes.len() < 2 || is_grouping || may_differ(&aggregate.input)? {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let of = |calls: Vec<Expr>| Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), calls);
    let keys = aggregate.schema.columns();
    let keys = &keys[..aggregate.group_expr.len()];
    let mut nodes = nodes.into_iter().map(|(_, calls)| calls);
    rest.extend(nodes.next().into_iter().flatten());
    let mut plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(of(rest)?));
    for (number, calls) in nodes.enumerate() {
        let next = of(calls)?;
        let renamed: Vec<Column> =
            (0..keys.len()).map(|key| Column::new_unqualified(format!("__order{number}_{key}"))).collect();
        let columns = next.schema.columns();
        let (own, values) = columns.split_at(keys.len());
        let own = own.iter().zip(&renamed).map(|(key, name)| Expr::Column(key.clone()).alias(name.name.clone()));
        let shown: Vec<Expr> = own.chain(values.iter().cloned().map(Expr::Column)).collect();
        let next = LogicalPlanBuilder::from(LogicalPlan::Aggregate(next)).project(shown)?.build()?;
        plan = match keys {
            [] => plan.cross_join(next)?,
            keys => {
                let on = (keys.to_vec(), renamed);
                plan.join_detailed(next, JoinType::Inner, on, None, NullEquality::NullEqualsNull)?
            }
        };
    }
    plan.project(aggregate.schema.columns().into_iter().map(Expr::Column))?.build().map(Transformed::yes)
}

/// The order that a call must have.
fn wanted(call: &Expr) -> Option<&[Sort]> {
    match call {
        Expr::Alias(alias) => wanted(&alias.expr),
        Expr::AggregateFunction(call) => {
            let order = call.params.order_by.as_slice();
            (!order.is_empty() && call.func.order_sensitivity().hard_requires()).then_some(order)
        }
        _ => None,
    }
}

/// Whether other rows may come the second time.
fn may_differ(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut any_rows = false;
    plan.apply_with_subqueries(|node| {
        any_rows |= matches!(node, LogicalPlan::Limit(of) if !matches!(*of.input, LogicalPlan::Sort(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(any_rows || is_volatile(plan)?)
}
