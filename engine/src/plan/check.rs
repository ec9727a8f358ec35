//! The streamability check: what a continuous query may not hold, each with a sentence that names it and what to write.
//!
//! It reads the plan as SQL said it, before any rule: a rule may turn what the user wrote into something the user did not.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, TableScan};

use crate::error::{Error, Result};
use crate::sql::EmitClause;

use super::canonical::is_order_sensitive;
use super::fault::planning_error;
use super::flow::Emit;
use super::relation::RelationSource;
use super::ties::{sees_order_of_peers, sorted};
use super::window_node::WindowNode;

/// When the results of a query are shown.
pub(super) fn emission(emit: Option<&EmitClause>) -> Result<Emit> {
    match emit {
        None => Ok(Emit::OnChange),
        Some(emit) if emit.is_after_watermark() => Ok(Emit::AfterWatermark),
        Some(emit) => Err(Error::not_supported(format!("{emit} is not supported yet")).with_hint(
            "write EMIT AFTER WATERMARK for final results, or no EMIT for results that are corrected as rows come",
        )),
    }
}

/// Whether the plan can run continuously, as far as its nodes say on their own. What depends on whether rows may be
/// retracted is decided when the plan is lowered.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    // The ORDER BY of a LIMIT.
    let mut limited = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Limit(limit) = node {
            limited.extend([&*limit.input].into_iter().chain(limit.input.inputs()).map(std::ptr::from_ref));
        }
        // A recursion's own parts are no tables of the user's.
        if !(matches!(node, LogicalPlan::Sort(_)) && limited.contains(&std::ptr::from_ref(node))) {
            check_node(node)?;
        }
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                check_expression(inner)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(planning_error)?;
    Ok(())
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
        | LogicalPlan::Window(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Distinct(_) => Ok(()),
        LogicalPlan::TableScan(scan) => check_scan(scan),
        LogicalPlan::Aggregate(aggregate) => check_aggregate(aggregate),
        LogicalPlan::Join(join) => check_join(join),
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<WindowNode>() => Ok(()),
        LogicalPlan::Sort(_) => refuse(
            "ORDER BY without LIMIT has no meaning in a continuous query: its result is a set of rows that changes",
            "leave ORDER BY out here, and sort when you SELECT from the view",
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
        LogicalPlan::Subquery(_) => refuse(
            "LATERAL subqueries are not supported yet in a continuous query",
            "write a join of two queries with GROUP BY",
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

fn check_aggregate(aggregate: &Aggregate) -> Result<(), DataFusionError> {
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return refuse(
            "GROUPING SETS, ROLLUP and CUBE are not supported yet in a continuous query",
            "write one query for each grouping, joined by UNION ALL",
        );
    }
    Ok(())
}

fn check_join(join: &Join) -> Result<(), DataFusionError> {
    let set_operation = join.null_equality == NullEquality::NullEqualsNull;
    match join.join_type {
        JoinType::Inner => Ok(()),
        JoinType::Left | JoinType::Right | JoinType::Full => {
            let side = match join.join_type {
                JoinType::Left => "LEFT",
                JoinType::Right => "RIGHT",
                _ => "FULL",
            };
            Err(Error::not_supported(format!("{side} JOIN is not supported yet in a continuous query"))
                .with_hint("an inner JOIN with an equality condition is")
                .into())
        }
        JoinType::LeftSemi | JoinType::RightSemi if set_operation => refuse(
            "INTERSECT is not supported yet in a continuous query",
            "write an inner JOIN of the two DISTINCT queries",
        ),
        JoinType::LeftAnti | JoinType::RightAnti if set_operation => refuse(
            "EXCEPT is not supported yet in a continuous query",
            "write EXCEPT when you SELECT from the two views",
        ),
        JoinType::LeftSemi | JoinType::RightSemi | JoinType::LeftMark | JoinType::RightMark => refuse(
            "semi joins are not supported yet in a continuous query",
            "write an inner JOIN with the DISTINCT keys of the other side",
        ),
        JoinType::LeftAnti | JoinType::RightAnti => refuse(
            "anti joins are not supported yet in a continuous query",
            "write them when you SELECT from the two views",
        ),
    }
}

fn check_expression(expr: &Expr) -> Result<(), DataFusionError> {
    match expr {
        Expr::Exists(_) => refuse(
            "EXISTS is not supported yet in a continuous query",
            "write an inner JOIN with the DISTINCT keys of the subquery",
        ),
        Expr::InSubquery(_) | Expr::SetComparison(_) => refuse(
            "IN, ANY and ALL with a subquery are not supported yet in a continuous query",
            "write an inner JOIN with the DISTINCT values of the subquery",
        ),
        Expr::ScalarSubquery(_) => refuse(
            "a subquery as a value is not supported yet in a continuous query",
            "write a JOIN with a query that has GROUP BY",
        ),
        Expr::OuterReferenceColumn(..) => refuse(
            "correlated subqueries are not supported yet in a continuous query",
            "write a JOIN with a query that has GROUP BY",
        ),
        Expr::Placeholder(placeholder) => {
            Err(Error::not_supported(format!("a continuous query has no parameters, and {} is one", placeholder.id))
                .with_hint("write the value itself")
                .into())
        }
        Expr::ScalarFunction(call) if is_clock(call.name()) => Err(Error::not_supported(format!(
            "{}() is not supported yet in a continuous query: its value would change without any row",
            call.name()
        ))
        .with_hint("compare event times, or call it when you SELECT from the view")
        .into()),
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

/// Functions whose value is the time of day.
fn is_clock(name: &str) -> bool {
    matches!(
        name,
        "now" | "current_timestamp" | "current_date" | "current_time" | "today" | "localtimestamp" | "localtime"
    )
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
