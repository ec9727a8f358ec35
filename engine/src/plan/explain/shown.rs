//! EXPLAIN of the end of a query: what is held back, and until when.

use std::fmt::Write as _;

use datafusion::logical_expr::Expr;

use super::{column, list};
use crate::plan::flow::{Corrections, Firing, FlowNode, ShowSpec};
use crate::plan::node::window::Length;

/// What the operator does.
pub(super) fn operator(spec: &ShowSpec, node: &FlowNode, input: Option<&FlowNode>) -> String {
    let mut line = "Show".to_owned();
    if spec.firing.holds_back() {
        let of = match group(spec, input) {
            Some(group) => format!("({group})"),
            None => "the result".to_owned(),
        };
        let _ = write!(line, " {of} {}", triggers(spec.firing, "change"));
    }
    match (spec.stream, spec.corrections) {
        (true, Corrections::Retracted) => line.push_str(", each change as a row"),
        (true, Corrections::Replaced) => line.push_str(", each new row, and those that nothing replaces as undone"),
        (false, Corrections::Replaced) => line.push_str(", new rows beside the old ones"),
        (false, Corrections::Retracted) if node.properties.changelog => line.push_str(", in place of what was shown"),
        (false, Corrections::Retracted) => {}
    }
    line.replacen("Show,", "Show", 1)
}

/// The group's columns, or none.
fn group(spec: &ShowSpec, input: Option<&FlowNode>) -> Option<String> {
    let names: Vec<String> = spec.key.iter().filter_map(|key| Some(column(input?, *key))).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn triggers(firing: Firing, what: &str) -> String {
    let delay = firing.delay_micros.map(|delay| format!("{} after its first {what}", Length(delay)));
    let rows = firing.rows.map(|rows| format!("after {rows} rows"));
    let complete = firing.complete.map(|_| "at the watermark and with each late row".to_owned());
    delay.into_iter().chain(rows).chain(complete).collect::<Vec<_>>().join(" or ")
}

/// What the end remembers. `released`: by which watermark.
pub(super) fn state(spec: &ShowSpec, input: Option<&FlowNode>, released: Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    if spec.firing.holds_back() {
        lines.push("the changes that wait".to_owned());
    }
    if spec.firing.rows.is_some() {
        lines.push("how many rows have come to each group since it was shown".to_owned());
    }
    if spec.numbered {
        let groups = match group(spec, input) {
            Some(group) => format!("the last version of each ({group})"),
            None => "the last version".to_owned(),
        };
        lines.push(match (released, spec.key.is_empty()) {
            (_, true) => groups,
            (Some(promise), _) => format!("{groups}, released by {promise}"),
            (None, _) => format!("{groups}: not bounded"),
        });
    }
    lines
}

/// By what its input is exchanged, where rows of a group may stand on several workers.
pub(super) fn exchange(spec: &ShowSpec, input: Option<&FlowNode>) -> Option<String> {
    let one_row = input.is_some_and(|input| input.properties.keys.iter().any(Vec::is_empty));
    let needs_group = spec.firing.holds_back() || spec.numbered || spec.corrections == Corrections::Replaced;
    (spec.key.is_empty() && needs_group && !one_row).then(|| "nothing: one worker".to_owned())
}

/// An aggregate of what has come since a group was last shown.
pub(super) fn panes(group: &[Expr], aggregates: &[Expr], firing: Firing) -> String {
    let by = if group.is_empty() { String::new() } else { format!(" by {}", list(group)) };
    let when = if firing.holds_back() { triggers(firing, "row") } else { "at each epoch's end".to_owned() };
    format!("PaneAggregate{by}: {}, shown {when}, then empty again", list(aggregates))
}
