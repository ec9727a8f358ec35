//! `x > ANY (SELECT …)` and `ALL`: said by EXISTS, with SQL's rules for NULL, before any subquery is looked at. All that is known
//! of EXISTS then holds for them.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};

use crate::error::Result;

use super::values::lifted;
use crate::plan::fault::planning_error;

/// The plan, in which such comparisons are said by EXISTS.
pub(in crate::plan) fn said_by_exists(plan: LogicalPlan) -> Result<LogicalPlan> {
    let context = OptimizerContext::new().without_query_execution_start_time();
    // What an aggregate's columns are called is made of what they are.
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) if compares(&aggregate)? => lifted(aggregate),
        other => Ok(Transformed::no(other)),
    });
    plan.data()
        .and_then(|plan| RewriteSetComparison::new().rewrite(plan, &context))
        .map(|rewritten| rewritten.data)
        .map_err(planning_error)
}

fn compares(aggregate: &Aggregate) -> PlanResult<bool> {
    let mut found = false;
    for expr in aggregate.group_expr.iter().chain(&aggregate.aggr_expr) {
        found |= expr.exists(|expr| Ok(matches!(expr, Expr::SetComparison(_))))?;
    }
    Ok(found)
}
