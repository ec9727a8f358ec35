//! What is known of a node's rows from what is known of its inputs' rows.

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use crate::time::WatermarkId;

use super::event_time::grows_with;
use super::flow::{FlowProperties, JoinKind, TimeColumn};

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

/// Of the rows of a join, whose left side has `left_width` columns. `pairs` are columns that are equal in matching rows,
/// `times` the columns of both sides that grow, and with which watermark.
pub(super) fn joined(
    kind: JoinKind,
    [left, right]: [&FlowProperties; 2],
    left_width: usize,
    pairs: &[(usize, usize)],
    mut times: Vec<TimeColumn>,
) -> FlowProperties {
    let shows_unmatched = kind.shows_unmatched(0) || kind.shows_unmatched(1);
    let changelog = left.changelog || right.changelog || shows_unmatched;
    if !kind.has_pairs() {
        times.retain(|time| time.column < left_width);
        return FlowProperties { changelog, keys: left.keys.clone(), time_columns: times };
    }
    let shifted = |key: &Vec<usize>| key.iter().map(|column| column + left_width).collect::<Vec<_>>();
    let mut keys = Vec::new();
    // A row of one side meets at most one row of the other if the condition names a whole key of the other. Rows of the
    // other side without a match would have NULLs for the key.
    let named = |key: &Vec<usize>, right: bool| {
        key.iter().all(|column| pairs.iter().any(|pair| *column == if right { pair.1 } else { pair.0 }))
    };
    if !kind.shows_unmatched(1) && right.keys.iter().any(|key| named(key, true)) {
        keys.extend(left.keys.iter().cloned());
    }
    if !kind.shows_unmatched(0) && left.keys.iter().any(|key| named(key, false)) {
        keys.extend(right.keys.iter().map(shifted));
    }
    if keys.is_empty() && kind != JoinKind::Full {
        for left_key in &left.keys {
            keys.extend(right.keys.iter().map(|key| {
                let mut both = left_key.clone();
                both.extend(shifted(key));
                both
            }));
        }
    }
    FlowProperties { changelog, keys, time_columns: times }
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
