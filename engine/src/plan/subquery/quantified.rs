//! `x > ANY (SELECT …)` and `ALL` of a subquery that names the row outside: said by EXISTS, with SQL's rules for NULL, before any
//! subquery is looked at. All that is known of EXISTS then holds for them.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};

use crate::error::Result;

use super::dependent::names_outside;
use crate::plan::fault::planning_error;

/// The plan, in which such comparisons are said by EXISTS.
pub(in crate::plan) fn said_by_exists(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_dependent(&plan).map_err(planning_error)? {
        return Ok(plan);
    }
    let context = OptimizerContext::new().without_query_execution_start_time();
    RewriteSetComparison::new().rewrite(plan, &context).map(|rewritten| rewritten.data).map_err(planning_error)
}

fn has_dependent(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| match expr {
                Expr::SetComparison(of) => names_outside(&of.subquery.subquery),
                _ => Ok(false),
            })?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}
