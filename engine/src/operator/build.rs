//! From a plan's node to the operator that runs it.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;

use super::{Operator, Output, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::flow::{FlowOp, FlowPlan, NodeIndex};

/// Which part of a node's work an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// All of it.
    Whole,
    /// The disposable half before the exchange.
    Local,
    /// The keyed half after the exchange.
    Final,
}

struct Pass;

impl Operator for Pass {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        out.push(delta);
        Ok(Step::Done)
    }
}

/// The operator of a node.
pub fn operator(plan: &FlowPlan, node: NodeIndex, _role: Role) -> Result<Box<dyn Operator>> {
    match &plan.nodes[node].op {
        FlowOp::Union => Ok(Box::new(Pass)),
        _ => Err(Error::not_supported("this operator")),
    }
}

/// By which keys rows find their worker.
pub fn exchange_keys(_plan: &FlowPlan, _node: NodeIndex, _input: usize) -> Result<Option<Vec<Arc<dyn PhysicalExpr>>>> {
    Ok(None)
}

/// Whether part of the work is done before rows cross workers.
pub fn has_local_half(_plan: &FlowPlan, _node: NodeIndex) -> bool {
    false
}
