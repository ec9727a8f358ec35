//! The column that `x IN (SELECT …)` compares with, by a name of its own.
//!
//! DataFusion calls a cast as what is cast, and casts the column of an IN to the type that it is compared in. Where the subquery
//! names the row outside, the columns of its conditions come beside that one; two of one name are refused. So the cast is
//! called as it is written.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Subquery};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Runs right before the rule that makes joins of IN: see the [module](self).
#[derive(Debug)]
pub(crate) struct NameComparedColumns;

impl OptimizerRule for NameComparedColumns {
    fn name(&self) -> &str {
        "name_compared_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        plan.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::InSubquery(mut within) => {
                    let named = named(&within.subquery)?;
                    let changed = named.is_some();
                    within.subquery = named.unwrap_or(within.subquery);
                    Ok(if changed { Transformed::yes } else { Transformed::no }(Expr::InSubquery(within)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    }
}

/// The subquery with a named column, if its column is a cast and the columns of conditions may come beside it.
fn named(subquery: &Subquery) -> PlanResult<Option<Subquery>> {
    let LogicalPlan::Projection(projection) = &*subquery.subquery else { return Ok(None) };
    let [cast @ (Expr::Cast(_) | Expr::TryCast(_))] = projection.expr.as_slice() else { return Ok(None) };
    if subquery.outer_ref_columns.is_empty() {
        return Ok(None);
    }
    let column = cast.clone().alias(cast.to_string());
    let named = Projection::try_new(vec![column], Arc::clone(&projection.input))?;
    Ok(Some(subquery.with_plan(Arc::new(LogicalPlan::Projection(named)))))
}
