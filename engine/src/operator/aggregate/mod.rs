//! Aggregates: the place that the planner's aggregate nodes are built in.

use arrow::datatypes::SchemaRef;

use super::Operator;
use super::build::Role;
use crate::error::{Error, Result};
use crate::plan::flow::{FlowPlan, NodeIndex};

/// The operator of an aggregate node.
pub fn build(_plan: &FlowPlan, node: NodeIndex, role: Role) -> Result<Box<dyn Operator>> {
    Err(Error::internal(format!("no aggregate is built for node {node} ({role:?})")))
}

/// What the local half emits.
pub fn partial_schema(plan: &FlowPlan, node: NodeIndex) -> Result<SchemaRef> {
    Ok(plan.arrow_schema(node))
}

/// How many leading columns of what flows into the final operator are its key.
pub fn exchange_keys(_plan: &FlowPlan, _node: NodeIndex) -> Result<usize> {
    Ok(0)
}

/// Whether there is a local half.
pub fn has_local_half(_plan: &FlowPlan, _node: NodeIndex) -> bool {
    false
}
