//! The column that `x IN (SELECT …)` compares with, by a name of its own.
//!
//! Where the subquery names the row outside, the columns of its conditions come beside the one that is compared. A cast is called as
//! what is cast, and IN casts its column to the type that it compares in: two columns of one name are refused. And a
//! condition of the subquery that is the comparison itself is taken for it, and left out: what NOT IN makes of NULLs is then made of
//! rows that the subquery does not have. So the column that is compared has a name that nothing else has.

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
                    let named = named(&within.subquery, within.negated)?;
                    let changed = named.is_some();
                    within.subquery = named.unwrap_or(within.subquery);
                    Ok(if changed { Transformed::yes } else { Transformed::no }(Expr::InSubquery(within)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    }
}

/// What the column is called.
const COMPARED: &str = "__compared";

/// The subquery with a named column, if the columns of conditions may come beside it.
fn named(subquery: &Subquery, negated: bool) -> PlanResult<Option<Subquery>> {
    let LogicalPlan::Projection(projection) = &*subquery.subquery else { return Ok(None) };
    let [column] = projection.expr.as_slice() else { return Ok(None) };
    let is_cast = matches!(column, Expr::Cast(_) | Expr::TryCast(_));
    let is_named = column.qualified_name() == (None, COMPARED.to_owned());
    if subquery.outer_ref_columns.is_empty() || is_named || !(is_cast || negated) {
        return Ok(None);
    }
    let column = column.clone().unalias().alias(COMPARED);
    let named = Projection::try_new(vec![column], Arc::clone(&projection.input))?;
    Ok(Some(subquery.with_plan(Arc::new(LogicalPlan::Projection(named)))))
}
