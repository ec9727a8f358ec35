//! The column that `x IN (SELECT …)` compares with, by a name of its own.
//!
//! Where the subquery names the row outside, the columns of its conditions come beside the one that is compared. A cast is called as
//! what is cast, and IN casts its column to the type that it compares in: two columns of one name are refused. And a
//! condition of the subquery that is the comparison itself is taken for it, and left out: what NOT IN makes of NULLs is then made of
//! rows that the subquery does not have. So the column that is compared has a name that nothing else has.
//!
//! Beside OR, a column that is no table's, as DISTINCT and UNION have them of expressions, is found twice: by its own name, and
//! as the subquery's. So it has such a name as well.

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

/// The subquery with a named column, if its own name may be another's as well.
fn named(subquery: &Subquery, negated: bool) -> PlanResult<Option<Subquery>> {
    let (column, input) = match &*subquery.subquery {
        LogicalPlan::Projection(projection) => {
            let [column] = projection.expr.as_slice() else { return Ok(None) };
            let is_cast = matches!(column, Expr::Cast(_) | Expr::TryCast(_));
            let is_named = column.qualified_name() == (None, COMPARED.to_owned());
            if subquery.outer_ref_columns.is_empty() || is_named || !(is_cast || negated) {
                return Ok(None);
            }
            (column.clone().unalias(), &projection.input)
        }
        other => match other.schema().columns().as_slice() {
            [column] if column.relation.is_none() => (Expr::Column(column.clone()), &subquery.subquery),
            _ => return Ok(None),
        },
    };
    let named = Projection::try_new(vec![column.alias(COMPARED)], Arc::clone(input))?;
    Ok(Some(subquery.with_plan(Arc::new(LogicalPlan::Projection(named)))))
}
