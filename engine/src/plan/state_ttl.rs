//! `state_ttl`: how long an operator remembers a key that no row touches, where no watermark bounds what it remembers.
//!
//! It is sound where rows only come: what is forgotten is never taken back. A group or partition that is forgotten leaves
//! the result with it, so that a result never shows what nobody remembers; rows that were final when they were said (of
//! DISTINCT, of a join) stay, and a later row begins anew.
//!
//! A statement says it of all of its operators, or of those that read a relation directly, by its name or alias: an option
//! `state_ttl.orders`, or a hint.

use std::collections::BTreeMap;

use datafusion::logical_expr::LogicalPlan;

use crate::error::{Error, Result};

use super::flow::{FlowNode, FlowOp, FlowPlan, NodeIndex};
use super::release::join_release;

/// The option that bounds what operators remember.
pub const STATE_TTL: &str = "state_ttl";

/// Of a relation that is read.
const OF_RELATION: &str = "state_ttl.";

/// What a statement says of how long is remembered, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateTtl {
    /// By all operators.
    pub all: Option<String>,
    /// By those that read the relation of this name or alias directly.
    pub named: BTreeMap<String, String>,
}

impl StateTtl {
    /// Takes it out of a statement's options.
    pub fn taken(options: &mut BTreeMap<String, String>) -> Self {
        let all = options.remove(STATE_TTL);
        let named =
            options.iter().filter_map(|(name, ttl)| Some((name.strip_prefix(OF_RELATION)?.to_owned(), ttl.clone())));
        let named: BTreeMap<String, String> = named.collect();
        options.retain(|name, _| !name.starts_with(OF_RELATION));
        Self { all, named }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.named.is_empty()
    }
}

/// In microseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Lengths {
    pub(super) all: Option<i64>,
    pub(super) named: BTreeMap<String, i64>,
}

/// The name of the relation whose rows a plan's are, in other columns and without some of them.
pub(super) fn read_as(plan: &LogicalPlan) -> Option<&str> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan.table_name.table()),
        LogicalPlan::SubqueryAlias(alias) => Some(alias.alias.table()),
        LogicalPlan::Projection(projection) => read_as(&projection.input),
        LogicalPlan::Filter(filter) => read_as(&filter.input),
        _ => None,
    }
}

/// How long a node's keys, or the rows of those sides of a join that nothing else releases, are remembered untouched, in
/// microseconds; of any other node the first counts. `None`: as long as something else says.
pub fn state_ttl(plan: &FlowPlan, node: NodeIndex) -> [Option<i64>; 2] {
    let ttl = plan.state_ttls.get(&node).copied().unwrap_or([plan.state_ttl; 2]);
    let grows = grows(plan, node);
    [ttl[0].filter(|_| grows[0]), ttl[1].filter(|_| grows[1])]
}

/// Whether what a node remembers grows for ever: of a join by side.
fn grows(plan: &FlowPlan, node: NodeIndex) -> [bool; 2] {
    let Some(this) = plan.nodes.get(node) else { return [false; 2] };
    match &this.op {
        FlowOp::Aggregate { group, closes, .. } => [!group.is_empty() && closes.is_none(); 2],
        FlowOp::WindowAggregate { watermark, .. } | FlowOp::Session { watermark, .. } => [watermark.is_none(); 2],
        FlowOp::Set { closes, .. } => [closes.is_none(); 2],
        FlowOp::Join { .. } => join_release(plan, node).map(|release| release.is_none()),
        FlowOp::Over(spec) => [spec.closes.is_none() && !spec.forgets_settled_rows(); 2],
        _ => [false; 2],
    }
}

/// Refuses a bound that would be wrong, or that bounds nothing. `named`: by name the nodes, and sides, that it was said of.
pub(super) fn check(plan: &FlowPlan, named: &BTreeMap<String, Vec<(NodeIndex, usize)>>) -> Result<()> {
    let bounded = |node: NodeIndex| state_ttl(plan, node) != [None; 2];
    for (_, node) in plan.nodes.iter().enumerate().filter(|(index, _)| bounded(*index)) {
        if let Some(what) = unsound(plan, node) {
            return Err(Error::not_supported(format!("state_ttl cannot bound {what}")).with_hint(
                "let rows go by a condition such as WHERE ts > now() - INTERVAL '1' DAY, or by a stream's WATERMARK; or \
                 leave state_ttl out",
            ));
        }
    }
    for (name, uses) in named {
        if !uses.iter().any(|(node, side)| state_ttl(plan, *node)[*side].is_some()) {
            return Err(Error::invalid(format!(
                "state_ttl has nothing to bound of '{name}': no join, aggregate, OVER or DISTINCT reads it directly and \
                 remembers for ever what it has read"
            ))
            .with_hint("name a relation of FROM, by its alias if it has one; EXPLAIN says what each operator remembers"));
        }
    }
    if plan.state_ttl.is_none() || (0..plan.nodes.len()).any(|node| grows(plan, node).contains(&true)) {
        return Ok(());
    }
    Err(Error::invalid("state_ttl has nothing to bound: this query remembers nothing that grows for ever")
        .with_hint("EXPLAIN says what each operator remembers; leave state_ttl out"))
}

/// What cannot be bounded, in words.
fn unsound(plan: &FlowPlan, node: &FlowNode) -> Option<String> {
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
        (false, false) => None,
    }
}
