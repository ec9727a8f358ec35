//! An aggregate over a window, as one operator that has slices instead of a copy of each row for each window.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use super::flow::{WindowKey, WindowSpec};
use super::node::window::WindowNode;

/// The parts of a windowed aggregate.
pub(super) struct Windowed<'a> {
    /// The rows below the windows.
    pub(super) input: &'a LogicalPlan,
    /// Conditions on them that stood between the window and the aggregate.
    pub(super) filters: Vec<Expr>,
    /// Their event time.
    pub(super) time: &'a Column,
    /// The windows.
    pub(super) window: WindowSpec,
    /// The group expressions, in the aggregate's order.
    pub(super) group: Vec<WindowKey>,
    /// The aggregate calls.
    pub(super) aggregates: Vec<Expr>,
}

/// The windowed aggregate that this aggregate is, if only projections, filters and aliases stand between it and a window,
/// its groups name the window, and nothing else in it does.
pub(super) fn windowed(aggregate: &Aggregate) -> PlanResult<Option<Windowed<'_>>> {
    let mut group: Vec<Expr> = aggregate.group_expr.iter().cloned().map(Expr::unalias).collect();
    let mut aggregates: Vec<Expr> = aggregate.aggr_expr.iter().cloned().map(Expr::unalias).collect();
    let mut filters: Vec<Expr> = Vec::new();
    let mut below: &LogicalPlan = &aggregate.input;
    let node = loop {
        let (schema, replacements, input): (&DFSchema, Vec<Expr>, &Arc<LogicalPlan>) = match below {
            LogicalPlan::Filter(filter) => {
                filters.push(filter.predicate.clone());
                below = &filter.input;
                continue;
            }
            LogicalPlan::Projection(projection) => {
                if projection.expr.iter().any(Expr::is_volatile) {
                    return Ok(None);
                }
                let exprs = projection.expr.iter().cloned().map(Expr::unalias).collect();
                (&projection.schema, exprs, &projection.input)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let columns = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
                (&alias.schema, columns, &alias.input)
            }
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowNode>() {
                Some(node) => break node,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        for expr in group.iter_mut().chain(&mut aggregates).chain(&mut filters) {
            *expr = replaced(expr.clone(), schema, &replacements)?.unalias();
        }
        below = input;
    };

    let width = node.input().schema().fields().len();
    let place = |expr: &Expr| match expr {
        Expr::Column(column) => node.output().maybe_index_of_column(column),
        _ => None,
    };
    let names_window = |expr: &Expr| {
        expr.column_refs()
            .into_iter()
            .any(|column| node.output().maybe_index_of_column(column).is_none_or(|at| at >= width))
    };
    let keys: Vec<WindowKey> = group
        .into_iter()
        .map(|expr| match place(&expr) {
            Some(at) if at == width => WindowKey::Start,
            Some(at) if at == width + 1 => WindowKey::End,
            _ => WindowKey::Key(expr),
        })
        .collect();
    let named = |wanted: fn(&WindowKey) -> bool| keys.iter().any(wanted);
    let start = named(|key| matches!(key, WindowKey::Start));
    let end = named(|key| matches!(key, WindowKey::End));
    // Windows of CUMULATE share their start: only the end tells them apart.
    let one_window_a_group = match node.window() {
        WindowSpec::Tumble { .. } | WindowSpec::Hop { .. } => start || end,
        WindowSpec::Cumulate { .. } => end,
    };
    let elsewhere = keys.iter().any(|key| matches!(key, WindowKey::Key(expr) if names_window(expr)))
        || aggregates.iter().chain(&filters).any(names_window);
    if !one_window_a_group || elsewhere {
        return Ok(None);
    }
    Ok(Some(Windowed {
        input: node.input(),
        filters,
        time: node.time(),
        window: node.window(),
        group: keys,
        aggregates,
    }))
}

/// The expression with the columns of `schema` replaced.
fn replaced(expr: Expr, schema: &DFSchema, replacements: &[Expr]) -> PlanResult<Expr> {
    expr.transform_up(|expr| {
        let at = match &expr {
            Expr::Column(column) => schema.maybe_index_of_column(column),
            _ => None,
        };
        Ok(match at.and_then(|at| replacements.get(at)) {
            Some(replacement) => Transformed::yes(replacement.clone()),
            None => Transformed::no(expr),
        })
    })
    .data()
}
