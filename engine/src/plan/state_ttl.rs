//! `state_ttl`: how long an operator remembers a key that no row touches, where no watermark bounds what it remembers.
//!
//! It is sound where rows only come: what is forgotten is never taken back. A group or partition that is forgotten leaves
//! the result with it, so that a result never shows what nobody remembers; rows that were final when they were said (of
//! DISTINCT, of a join) stay, and a later row begins anew.

use crate::error::{Error, Result};

use super::flow::{FlowNode, FlowOp, FlowPlan, NodeIndex};
use super::release::join_release;

/// How long a node's keys, or the rows of those sides of a join that nothing else releases, are remembered untouched, in
/// microseconds. `None`: as long as something else says.
pub fn state_ttl(plan: &FlowPlan, node: NodeIndex) -> Option<i64> {
    let ttl = plan.state_ttl?;
    is_unbounded(plan, node).then_some(ttl)
}

/// Whether what a node remembers grows for ever.
fn is_unbounded(plan: &FlowPlan, node: NodeIndex) -> bool {
    let Some(this) = plan.nodes.get(node) else { return false };
    match &this.op {
        FlowOp::Aggregate { group, closes, .. } => !group.is_empty() && closes.is_none(),
        FlowOp::WindowAggregate { watermark, .. } | FlowOp::Session { watermark, .. } => watermark.is_none(),
        FlowOp::Set { closes, .. } => closes.is_none(),
        FlowOp::Join { .. } => join_release(plan, node).contains(&None),
        FlowOp::Over(spec) => spec.closes.is_none() && !spec.forgets_settled_rows(),
        _ => false,
    }
}

/// Refuses a bound that would be wrong, or that bounds nothing.
pub(super) fn check(plan: &FlowPlan) -> Result<()> {
    if plan.state_ttl.is_none() {
        return Ok(());
    }
    let mut any = false;
    for (index, node) in plan.nodes.iter().enumerate().filter(|(index, _)| is_unbounded(plan, *index)) {
        any = true;
        if let Some(what) = unsound(plan, index, node) {
            return Err(Error::not_supported(format!("state_ttl cannot bound {what}")).with_hint(
                "let rows go by a condition such as WHERE ts > now() - INTERVAL '1' DAY, or by a stream's WATERMARK; or \
                 leave state_ttl out",
            ));
        }
    }
    if any {
        return Ok(());
    }
    Err(Error::invalid("state_ttl has nothing to bound: this query remembers nothing that grows for ever")
        .with_hint("EXPLAIN says what each operator remembers; leave state_ttl out"))
}

/// What cannot be bounded, in words.
fn unsound(plan: &FlowPlan, index: NodeIndex, node: &FlowNode) -> Option<String> {
    let changing = node.inputs.iter().any(|&input| plan.nodes[input].properties.changelog);
    let what = match &node.op {
        FlowOp::Aggregate { .. } => "an aggregate",
        FlowOp::Join { .. } => "a join",
        FlowOp::Over(_) => "OVER or a top-N",
        FlowOp::Set { .. } => {
            return Some("set operations, DISTINCT over rows that may be corrected, EXISTS and IN".to_owned());
        }
        FlowOp::WindowAggregate { .. } => return Some("windows: their stream needs a WATERMARK".to_owned()),
        FlowOp::Session { .. } => return Some("sessions: their stream needs a WATERMARK".to_owned()),
        _ => return None,
    };
    let keyless = matches!(&node.op, FlowOp::Over(spec) if spec.partition.is_empty());
    match (changing, keyless) {
        (true, _) => {
            Some(format!("{what} over rows that may be corrected: a correction of what is forgotten would be lost"))
        }
        (false, true) => Some(format!("{what} without PARTITION BY, which has no keys")),
        (false, false) => {
            debug_assert!(state_ttl(plan, index).is_some());
            None
        }
    }
}
