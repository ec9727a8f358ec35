//! Stable identities of operators: state is found by them.
//!
//! An identity is a hash of the operator's kind, of what its state is keyed by, and of its inputs' identities. It does not
//! change when a column is added to a projection or an aggregate to a list: then the state's schema says what fits.

use datafusion::logical_expr::Expr;
use xxhash_rust::xxh3::xxh3_64;

use super::flow::{FlowOp, JoinKind, WindowKey};
use super::recognize::Recognize;

/// The identity of an operator over inputs with these identities. `taken` are those given before in the same plan: a second
/// operator of the same identity (a stream joined with itself) gets a number.
pub(super) fn operator_id(op: &FlowOp, inputs: &[&str], taken: &[&str]) -> String {
    let (kind, keys) = kind_and_keys(op);
    let mut text = format!("{kind}\u{1f}{}", keys.join("\u{1e}"));
    for input in inputs {
        text.push('\u{1f}');
        text.push_str(input);
    }
    let id = format!("{kind}-{:016x}", xxh3_64(text.as_bytes()));
    if !taken.contains(&id.as_str()) {
        return id;
    }
    let numbered = (2_u64..).map(|number| format!("{id}-{number}")).find(|id| !taken.contains(&id.as_str()));
    numbered.unwrap_or(id)
}

fn kind_and_keys(op: &FlowOp) -> (&'static str, Vec<String>) {
    let texts = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>();
    match op {
        FlowOp::Scan { relation, .. } => ("scan", vec![relation.clone()]),
        FlowOp::Values { .. } => ("values", Vec::new()),
        FlowOp::Filter { .. } => ("filter", Vec::new()),
        FlowOp::TemporalFilter { conditions, .. } => ("temporal-filter", texts(conditions)),
        FlowOp::Project { .. } => ("project", Vec::new()),
        FlowOp::Union => ("union", Vec::new()),
        FlowOp::Window { window, time_column } => ("window", vec![window.to_string(), time_column.to_string()]),
        FlowOp::Session { time_column, gap_micros, partition, .. } => {
            let mut keys = vec![time_column.to_string(), gap_micros.to_string()];
            keys.extend(texts(partition));
            ("session", keys)
        }
        FlowOp::WindowAggregate { window, group, .. } => {
            let mut keys = vec![window.to_string()];
            keys.extend(group.iter().map(|key| match key {
                WindowKey::Start => "window_start".to_owned(),
                WindowKey::End => "window_end".to_owned(),
                WindowKey::Key(expr) => expr.to_string(),
            }));
            ("window-aggregate", keys)
        }
        FlowOp::Aggregate { group, .. } => ("aggregate", texts(group)),
        FlowOp::PaneAggregate { group, .. } => ("pane-aggregate", texts(group)),
        FlowOp::Show(spec) => ("show", spec.key.iter().map(ToString::to_string).collect()),
        FlowOp::AsOf(spec) => {
            let on = spec.on.iter().map(|(left, right)| format!("{left} = {right}"));
            let (left, right) = &spec.times;
            ("as-of-join", on.chain([format!("{left} {} {right}", spec.side.sign())]).collect())
        }
        FlowOp::Set { kind, .. } => ("set", vec![kind.to_string()]),
        FlowOp::SingleRow => ("single-row", Vec::new()),
        FlowOp::Join { kind, on, .. } => {
            let kind = match kind {
                JoinKind::Inner => "join",
                JoinKind::Left => "left-join",
                JoinKind::Right => "right-join",
                JoinKind::Full => "full-join",
                JoinKind::LeftSemi => "semi-join",
                JoinKind::LeftAnti => "anti-join",
                JoinKind::LeftMark => "mark-join",
            };
            (kind, on.iter().map(|(left, right)| format!("{left} = {right}")).collect())
        }
        FlowOp::Unnest(spec) => ("unnest", spec.lists.iter().chain(&spec.structs).map(ToString::to_string).collect()),
        FlowOp::Over(spec) => {
            let order = spec.order.iter().map(ToString::to_string);
            let mut keys: Vec<String> =
                texts(&spec.partition).into_iter().chain(["/".to_owned()]).chain(order).collect();
            // Rows are forgotten by what the pattern still needs.
            keys.extend(spec.functions.iter().filter_map(Recognize::of).map(|found| found.recognition().to_string()));
            ("over", keys)
        }
    }
}
