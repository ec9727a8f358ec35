//! Where operators come from: the operators' room, or a test.

use crate::error::Result;
use crate::operator::build::{self, Exchange, Role};
use crate::operator::{Operator, Output, Step};
use crate::plan::flow::{FlowPlan, NodeIndex};

/// Makes the operators of a plan.
pub trait OperatorFactory: Send + Sync {
    /// One worker's instance of a node.
    fn operator(&self, plan: &FlowPlan, node: NodeIndex, role: Role) -> Result<Box<dyn Operator>>;

    /// How rows on `input` find their worker.
    fn exchange(&self, plan: &FlowPlan, node: NodeIndex, input: usize) -> Result<Exchange>;

    /// The part of a node's state that every worker has, and each writes its share of.
    fn replicated_part(&self, _plan: &FlowPlan, _node: NodeIndex) -> Option<&'static str> {
        None
    }

    /// Whether part of the work is done before rows cross workers.
    fn has_local_half(&self, plan: &FlowPlan, node: NodeIndex) -> bool;
}

/// The engine's own operators.
#[derive(Debug, Default, Clone, Copy)]
pub struct EngineOperators;

impl OperatorFactory for EngineOperators {
    fn operator(&self, plan: &FlowPlan, node: NodeIndex, role: Role) -> Result<Box<dyn Operator>> {
        build::operator(plan, node, role)
    }

    fn exchange(&self, plan: &FlowPlan, node: NodeIndex, input: usize) -> Result<Exchange> {
        build::exchange(plan, node, input)
    }

    fn replicated_part(&self, plan: &FlowPlan, node: NodeIndex) -> Option<&'static str> {
        build::replicated_part(plan, node)
    }

    fn has_local_half(&self, plan: &FlowPlan, node: NodeIndex) -> bool {
        build::has_local_half(plan, node)
    }
}

/// Stands where an operator has nothing to do: on the workers that do not own its only key.
pub(crate) struct Nothing;

impl Operator for Nothing {
    fn on_delta(&mut self, _input: usize, _delta: crate::Delta, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }

    fn changes(&mut self) -> Result<Option<Vec<crate::operator::StateChange>>> {
        Ok(Some(Vec::new()))
    }
}
