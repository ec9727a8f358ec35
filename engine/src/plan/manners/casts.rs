//! Casts inside aggregates and window functions, by name.
//!
//! DataFusion calls a column that is a cast as what is cast, so that `min(x)` and `min(x::float8)` of one SELECT have one
//! name, which it refuses. Where a query fails for names it is planned once more, with casts that are called as they are
//! written. (In ORDER BY and PARTITION BY they are, at any rate.)

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};

/// See the [module](self).
#[derive(Debug)]
pub(in crate::plan) struct CastsByName;

impl ExprPlanner for CastsByName {
    fn plan_aggregate(&self, mut call: RawAggregateExpr) -> PlanResult<PlannerResult<RawAggregateExpr>> {
        name_casts(&mut call.args, &mut call.filter)?;
        Ok(PlannerResult::Original(call))
    }

    fn plan_window(&self, mut call: RawWindowExpr) -> PlanResult<PlannerResult<RawWindowExpr>> {
        name_casts(&mut call.args, &mut call.filter)?;
        Ok(PlannerResult::Original(call))
    }
}

/// Names the casts in a call's arguments and its FILTER.
fn name_casts(arguments: &mut Vec<Expr>, filter: &mut Option<Box<Expr>>) -> PlanResult<()> {
    *arguments = std::mem::take(arguments).into_iter().map(named).collect::<PlanResult<_>>()?;
    *filter = filter.take().map(|filter| named(*filter).map(Box::new)).transpose()?;
    Ok(())
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
