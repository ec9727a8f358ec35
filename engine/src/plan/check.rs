//! The streamability check: what a continuous query may not hold, each with a sentence that names it and what to write.
//!
//! It reads the plan as SQL said it, before any rule: a rule may turn what the user wrote into something the user did not.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

use crate::error::{Error, Result};

use super::asof::AsOfNode;
use super::canonical::is_order_sensitive;
use super::fault::planning_error;
use super::node::session::SessionNode;
use super::node::window::WindowNode;
use super::relation::RelationSource;
use super::temporal_filter::refuse_clock;
use super::ties::{sees_order_of_peers, sorted};

/// Whether the plan can run continuously, as far as its nodes say on their own. What depends on whether rows may be
/// retracted is decided when the plan is lowered.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    // The ORDER BY of a LIMIT.
    let mut limited = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            limited.extend([&*limit.input].into_iter().chain(limit.input.inputs()).map(std::ptr::from_ref));
        }
        // A recursion's own parts are no tables of the user's.
        if !(matches!(node, LogicalPlan::Sort(_)) && limited.contains(&std::ptr::from_ref(node))) {
            check_node(node)?;
        }
        node.apply_expressions(|expr| {
            check_clock(node, expr)?;
            expr.apply(|inner| {
                check_expression(inner)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(planning_error)?;
    Ok(())
}

/// The time of day can stand in WHERE, HAVING and ON; whether the condition can be kept is seen when it is lowered.
fn check_clock(node: &LogicalPlan, expr: &Expr) -> Result<(), DataFusionError> {
    let place = match node {
        LogicalPlan::Filter(_) | LogicalPlan::Join(_) => return Ok(()),
        LogicalPlan::Aggregate(_) => "GROUP BY and aggregates",
        LogicalPlan::Window(_) => "OVER",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Values(_) => "VALUES",
        _ => "SELECT",
    };
    refuse_clock(std::slice::from_ref(expr), place).map_err(DataFusionError::from)
}

/// Whether all subqueries have become joins. `plan` is what the rules have left.
pub(super) fn check_subqueries(plan: &LogicalPlan) -> Result<()> {
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                check_subquery(inner)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(planning_error)?;
    Ok(())
}

fn check_subquery(expr: &Expr) -> Result<(), DataFusionError> {
    match expr {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => refuse(
            "this subquery cannot be made a join: not everywhere in it may the row outside be named",
            "write the comparison to the row outside in the subquery's own WHERE, or write a JOIN",
        ),
        Expr::ScalarSubquery(_) => refuse(
            "this subquery as a value names the row outside where it cannot be made a join",
            "compare with the row outside in the subquery's own WHERE, or write a JOIN with a query that has GROUP BY",
        ),
        Expr::OuterReferenceColumn(_, column) => Err(Error::not_supported(format!(
            "a continuous query cannot name {column} here, which belongs to the query outside"
        ))
        .with_hint("compare with it in the subquery's WHERE, by equality if the subquery has aggregates")
        .into()),
        _ => Ok(()),
    }
}

fn refuse(sentence: &str, hint: &str) -> Result<(), DataFusionError> {
    Err(Error::not_supported(sentence).with_hint(hint).into())
}

fn check_node(node: &LogicalPlan) -> Result<(), DataFusionError> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Distinct(_) => Ok(()),
        LogicalPlan::TableScan(scan) => check_scan(scan),
        LogicalPlan::Extension(extension)
            if extension.node.as_any().is::<WindowNode>()
                || extension.node.as_any().is::<SessionNode>()
                || extension.node.as_any().is::<AsOfNode>() =>
        {
            Ok(())
        }
        LogicalPlan::Sort(_) => refuse(
            "ORDER BY without LIMIT has no meaning in a part of a continuous query: rows that change have no order",
            "leave ORDER BY out here",
        ),
        LogicalPlan::Limit(limit) if sorted(limit) => Ok(()),
        LogicalPlan::Limit(_) => refuse(
            "LIMIT without ORDER BY does not say which rows, so a continuous query cannot have it",
            "write ORDER BY before it, or leave LIMIT out here, and write it when you SELECT from the view",
        ),
        LogicalPlan::RecursiveQuery(_) => refuse(
            "WITH RECURSIVE is not supported in a continuous query",
            "write the levels out as joins with UNION ALL",
        ),
        other => Err(Error::not_supported(format!("{} cannot be part of a continuous query", other.display())).into()),
    }
}

fn check_scan(scan: &TableScan) -> Result<(), DataFusionError> {
    if scan.source.downcast_ref::<RelationSource>().is_some() {
        return Ok(());
    }
    Err(Error::not_supported(format!("{} does not change: a continuous query cannot read it", scan.table_name))
        .with_hint("continuous queries read streams and views")
        .into())
}

fn check_expression(expr: &Expr) -> Result<(), DataFusionError> {
    match expr {
        Expr::Placeholder(placeholder) => {
            Err(Error::not_supported(format!("a continuous query has no parameters, and {} is one", placeholder.id))
                .with_hint("write the value itself")
                .into())
        }
        Expr::AggregateFunction(call) => check_call(call),
        Expr::WindowFunction(call) if sees_order_of_peers(call) => Err(Error::not_supported(format!(
            "{} over a {} frame depends on the order of rows that tie",
            call.fun.name(),
            call.params.window_frame.units
        ))
        .with_hint("write ROWS BETWEEN … AND …: then rows that tie are ordered by their other columns")
        .into()),
        _ => Ok(()),
    }
}

fn check_call(call: &AggregateFunction) -> Result<(), DataFusionError> {
    let name = call.func.name();
    if is_order_sensitive(name) && call.params.order_by.is_empty() {
        return Err(Error::not_supported(format!("{name} without ORDER BY depends on the order in which rows come"))
            .with_hint(format!("write {name}(column ORDER BY event_time)"))
            .into());
    }
    Ok(())
}
