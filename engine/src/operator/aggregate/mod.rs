//! Aggregates: running (per key) and windowed (per window and key).
//!
//! A table of groups is [`Slots`](crate::state::slots::Slots), which turn keys into slot numbers, and typed columns of
//! accumulator state indexed by slot. Rows are added a batch at a time: evaluate keys and arguments, find the slots,
//! then one loop per aggregate call. Results can be read without emptying the state.
//!
//! * `running`: `GROUP BY` without windows, DISTINCT; old and new row of touched groups at each epoch's end
//! * `spilling`: groups of a running aggregate that memory has no room for
//! * `windowed`: windows shown once, when the watermark passes them, from slices that they share
//! * `bases`: what windows of CUMULATE have taken up
//! * `changing`: windows shown as they change
//! * `panes`: what has come since a group was last shown
//! * `local`: the half before the exchange
//! * `native`: count, sum, avg, min, max; `boxed` and `grouped`: every other function of DataFusion
//! * `changelog`: all of them over rows that may be taken back

mod accumulators;
mod bases;
mod boxed;
mod call;
mod changelog;
mod changing;
pub(super) mod closing;
mod grouped;
mod local;
mod native;
mod output;
mod panes;
mod plan;
mod running;
mod spilling;
mod table;
mod tracked;
mod windowed;
pub(super) mod windows;

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::operator::Operator;
use crate::operator::build::Role;
use crate::plan::flow::{Emit, FlowOp, FlowPlan, NodeIndex};
use changing::Changing;
pub(super) use closing::Horizon;
use local::Local;
pub(super) use output::{batch, restored};
use panes::Panes;
use plan::AggregatePlan;
use running::Running;
use windowed::Windowed;

/// The operator of an aggregate node.
pub fn build(plan: &FlowPlan, node: NodeIndex, role: Role) -> Result<Box<dyn Operator>> {
    let aggregate = AggregatePlan::new(plan, node)?;
    if let Some(FlowOp::PaneAggregate { firing, .. }) = plan.nodes.get(node).map(|node| &node.op) {
        return Ok(Box::new(Panes::new(&aggregate, *firing)?));
    }
    Ok(match (role, aggregate.is_windowed(), aggregate.emit) {
        (Role::Local, _, _) => Box::new(Local::new(&aggregate)?),
        (_, false, _) => Box::new(Running::new(&aggregate, role)?),
        (_, true, Emit::AfterWatermark) => Box::new(Windowed::new(&aggregate, role)?),
        (_, true, Emit::OnChange) => Box::new(Changing::new(&aggregate, role)?),
    })
}

/// What the local half emits and the final half takes: the keys (without a window's bounds), with windows the start of
/// the slice, the states of the calls, and, where rows can be late, the number of rows.
pub fn partial_schema(plan: &FlowPlan, node: NodeIndex) -> Result<SchemaRef> {
    Ok(AggregatePlan::new(plan, node)?.partial_schema())
}

/// How many leading columns of [`partial_schema`] are the key by which partial rows are brought together. None of them:
/// all rows go to one worker.
pub fn exchange_keys(plan: &FlowPlan, node: NodeIndex) -> Result<usize> {
    Ok(AggregatePlan::new(plan, node)?.keys.len())
}

/// Whether the aggregate has a local half on a pool of several workers: where it makes fewer or smaller rows, and for
/// aggregates of everything, whose one row the local halves announce.
pub fn has_local_half(plan: &FlowPlan, node: NodeIndex) -> bool {
    AggregatePlan::new(plan, node).is_ok_and(|aggregate| aggregate.gains_by_halves())
}

#[cfg(test)]
mod tests;
