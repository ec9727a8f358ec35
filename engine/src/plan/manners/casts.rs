//! Casts inside aggregates and window functions, by name.
//!
//! DataFusion calls a column that is a cast as what is cast, so that `min(x)` and `min(x::float8)` of one SELECT have one name, which it
//! refuses. Where a query fails for names it is planned once more, with casts that are called as they are written.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};

/// See the [module](self).
#[derive(Debug)]
pub(in crate::plan) struct CastsByName;

impl ExprPlanner for CastsByName {
    fn plan_aggregate(&self, mut call: RawAggregateExpr) -> PlanResult<PlannerResult<RawAggregateExpr>> {
        call.args = call.args.into_iter().map(named).collect::<PlanResult<_>>()?;
        call.filter = call.filter.map(|filter| named(*filter).map(Box::new)).transpose()?;
        Ok(PlannerResult::Original(call))
    }

    fn plan_window(&self, mut call: RawWindowExpr) -> PlanResult<PlannerResult<RawWindowExpr>> {
        call.args = call.args.into_iter().map(named).collect::<PlanResult<_>>()?;
        call.filter = call.filter.map(|filter| named(*filter).map(Box::new)).transpose()?;
        Ok(PlannerResult::Original(call))
    }
}

/// The expression, whose casts have names.
fn named(expr: Expr) -> PlanResult<Expr> {
    expr.transform_up(|expr| match &expr {
        Expr::Cast(_) | Expr::TryCast(_) => {
            let name = expr.to_string();
            Ok(Transformed::yes(expr.alias(name)))
        }
        _ => Ok(Transformed::no(expr)),
    })
    .data()
}
