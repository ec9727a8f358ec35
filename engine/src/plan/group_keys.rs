//! GROUP BY has the keys that are written.
//!
//! DataFusion's SQL planner adds the columns that the keys determine, so that they may be selected, by what it believes of the
//! input's columns; and it believes too much ([`super::rules::prune`]), so that there are more groups than the keys have values. A last
//! key that nobody can have written says where those of the query end; what comes behind it is left out again, and it with
//! that. (Within one query nothing is added then: no column is determined by the others without that key.)

use std::ops::ControlFlow;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Window};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, GroupByExpr, Query, Value, VisitMut, VisitorMut};

use super::fault::not_grouped;
use super::rules::prune::forgotten;

/// The last key.
const END: &str = "\u{0}the keys that are written";

/// Writes the last key.
pub(super) fn closed(query: &mut Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut Close);
}

struct Close;

impl VisitorMut for Close {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        if let GroupByExpr::Expressions(keys, sets) = &mut select.group_by
            && !keys.is_empty()
            && sets.is_empty()
            && !keys.iter().any(is_of_sets)
        {
            keys.push(ast::Expr::Value(Value::SingleQuotedString(END.to_owned()).into()));
        }
        ControlFlow::Continue(())
    }
}

/// Grouping sets have no columns added.
fn is_of_sets(key: &ast::Expr) -> bool {
    matches!(key, ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_))
}

/// The plan, whose aggregates have the keys before the last one.
pub(super) fn as_written(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let mut added: Vec<Column> = Vec::new();
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(mut aggregate) => match aggregate.group_expr.iter().position(is_end) {
            None => forgotten(LogicalPlan::Aggregate(aggregate)).map(Transformed::no),
            Some(end) => {
                added.extend(aggregate.group_expr.drain(end..).skip(1).filter_map(|key| key.try_as_col().cloned()));
                let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
                Aggregate::try_new(input, group_expr, aggr_expr)
                    .map(|aggregate| Transformed::yes(LogicalPlan::Aggregate(aggregate)))
            }
        },
        // Its own columns come behind the aggregate's.
        LogicalPlan::Window(window) => Window::try_new(window.window_expr, window.input)
            .and_then(|window| forgotten(LogicalPlan::Window(window)))
            .map(Transformed::yes),
        // What a column determined has changed its place.
        other => forgotten(other).map(Transformed::no),
    });
    let plan = plan.data()?;
    if !added.is_empty() {
        refuse_added(&plan, &added)?;
    }
    Ok(plan)
}

fn is_end(key: &Expr) -> bool {
    matches!(key.clone().unalias(), Expr::Literal(ScalarValue::Utf8(Some(text)), _) if text == END)
}

/// Refuses what reads a column that was added.
fn refuse_added(plan: &LogicalPlan, added: &[Column]) -> PlanResult<()> {
    plan.apply_with_subqueries(|node| {
        let inputs: Vec<_> = node.inputs().into_iter().map(LogicalPlan::schema).collect();
        node.apply_expressions(|expr| {
            expr.apply(|expr| match expr {
                Expr::Column(column)
                    if added.contains(column) && !inputs.iter().any(|schema| schema.has_column(column)) =>
                {
                    Err(not_grouped(&column.flat_name()).into())
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(())
}
