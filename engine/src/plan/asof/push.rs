//! Conditions on the left rows of an as-of join, below it: rows that are filtered out need not wait for their nearest row.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::node::{AsOfNode, belongs_to};

/// Runs right after the rule that pushes conditions down, as far as the join.
#[derive(Debug)]
pub(in crate::plan) struct PushFiltersBelowAsOf;

impl OptimizerRule for PushFiltersBelowAsOf {
    fn name(&self) -> &str {
        "push_filters_below_as_of"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let Some(node) = AsOfNode::of(&filter.input) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
        let [left, _] = node.sides();
        let is_left = |condition: &Expr| !condition.is_volatile() && belongs_to(condition, left.schema());
        let (below, above): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(is_left);
        let Some(below) = conjunction(below) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
        let left = LogicalPlanBuilder::from(left.clone()).filter(below)?.build()?;
        let plan = node.over_left(left)?;
        Ok(Transformed::yes(match conjunction(above) {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(plan))?),
            None => plan,
        }))
    }
}
