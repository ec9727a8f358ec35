//! What is known of a node's rows from what is known of its inputs' rows.

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use crate::time::WatermarkId;

use super::event_time::grows_with;
use super::flow::{FlowOp, FlowPlan, FlowProperties, NodeIndex, TimeColumn};

/// The promise for a value that grows with a watermark: none below watermark − delay will follow.
pub(super) type Promise = (WatermarkId, i64);

/// The promise for an expression over a node's rows.
pub(super) fn promise(expr: &Expr, schema: &DFSchema, properties: &FlowProperties) -> Option<Promise> {
    let grows = grows_with(expr, schema)?;
    let time = properties.time_columns.iter().find(|time| time.column == grows.column)?;
    Some((time.watermark, time.delay_micros.checked_add(grows.delay_micros)?))
}

/// Of a projection's rows.
pub(super) fn projected(expressions: &[Expr], schema: &DFSchema, input: &FlowProperties) -> FlowProperties {
    let place = |column: usize| {
        expressions.iter().position(|expr| match expr.clone().unalias() {
            Expr::Column(name) => schema.maybe_index_of_column(&name) == Some(column),
            _ => false,
        })
    };
    let keys = input.keys.iter().filter_map(|key| key.iter().map(|&column| place(column)).collect()).collect();
    let time_columns = expressions
        .iter()
        .enumerate()
        .filter_map(|(column, expr)| {
            let (watermark, delay_micros) = promise(expr, schema, input)?;
            Some(TimeColumn { column, watermark, delay_micros })
        })
        .collect();
    FlowProperties { changelog: input.changelog, keys, time_columns }
}

/// Of the rows of an inner join, whose left side has `left_width` columns. `times` are the pairs of equal columns that
/// both grow, with the watermark of both.
pub(super) fn joined(
    left: &FlowProperties,
    right: &FlowProperties,
    left_width: usize,
    pairs: &[(usize, usize)],
    times: Vec<TimeColumn>,
) -> FlowProperties {
    let shifted = |key: &Vec<usize>| key.iter().map(|column| column + left_width).collect::<Vec<_>>();
    let mut keys = Vec::new();
    // A row of one side meets at most one row of the other if the condition names a whole key of the other.
    if right.keys.iter().any(|key| key.iter().all(|column| pairs.iter().any(|(_, right)| right == column))) {
        keys.extend(left.keys.iter().cloned());
    }
    if left.keys.iter().any(|key| key.iter().all(|column| pairs.iter().any(|(left, _)| left == column))) {
        keys.extend(right.keys.iter().map(shifted));
    }
    if keys.is_empty() {
        for left_key in &left.keys {
            keys.extend(right.keys.iter().map(|key| {
                let mut both = left_key.clone();
                both.extend(shifted(key));
                both
            }));
        }
    }
    FlowProperties { changelog: left.changelog || right.changelog, keys, time_columns: times }
}

/// Whether an aggregate call over a changelog is computed from all rows of a group whenever the group changes: it has no
/// state that rows can be taken out of. (Calls over unusual types may be computed so, too.)
pub(crate) fn is_computed_from_rows(call: &Expr) -> bool {
    const WITH_STATE: [&str; 30] = [
        "approx_distinct",
        "avg",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bool_and",
        "bool_or",
        "corr",
        "count",
        "covar_pop",
        "covar_samp",
        // The first and the last row of a group are found without reading the others.
        "first_value",
        "last_value",
        "max",
        "min",
        "regr_avgx",
        "regr_avgy",
        "regr_count",
        "regr_intercept",
        "regr_r2",
        "regr_slope",
        "regr_sxx",
        "regr_sxy",
        "regr_syy",
        "stddev",
        "stddev_pop",
        "sum",
        "var",
        "var_pop",
        "any_value",
    ];
    match call {
        Expr::Alias(alias) => is_computed_from_rows(&alias.expr),
        Expr::AggregateFunction(call) => !WITH_STATE.contains(&call.func.name()),
        _ => false,
    }
}

/// When the rows that a join remembers can no longer meet another: the pair of `on` whose value grows, and the promises
/// for it. A row of one side whose value lies below the *other* side's promise meets no new row any more. (If its own side
/// is a changelog it may still be retracted, while the rows that it met are remembered.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinRelease {
    /// Which pair of `on`.
    pub pair: usize,
    /// Releases left rows: (watermark, delay) of the right side's value.
    pub left_rows: Option<(WatermarkId, i64)>,
    /// Releases right rows: (watermark, delay) of the left side's value.
    pub right_rows: Option<(WatermarkId, i64)>,
}

/// When the state of a join is released; `None` if it grows with its inputs.
pub fn join_release(plan: &FlowPlan, node: NodeIndex) -> Option<JoinRelease> {
    let join = plan.nodes.get(node)?;
    let FlowOp::Join { on, .. } = &join.op else { return None };
    let [left, right] = join.inputs.as_slice() else { return None };
    let (left, right) = (plan.nodes.get(*left)?, plan.nodes.get(*right)?);
    let releases = on.iter().enumerate().map(|(pair, (left_key, right_key))| JoinRelease {
        pair,
        left_rows: promise(right_key, &right.schema, &right.properties),
        right_rows: promise(left_key, &left.schema, &left.properties),
    });
    releases
        .filter(|release| release.left_rows.is_some() || release.right_rows.is_some())
        .max_by_key(|release| u8::from(release.left_rows.is_some()) + u8::from(release.right_rows.is_some()))
}
