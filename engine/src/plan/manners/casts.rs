//! Casts by name.
//!
//! DataFusion calls a column that is a cast as what is cast, so that `x` and `x::numeric(10, 2)` of one GROUP BY have one name,
//! which it refuses. A call has a name of its own: casts for which there is no function are calls of `arrow_cast`, where
//! its types can be named ([`arrow_type`]). What is still a cast then has a name inside aggregates and window functions, `min(x)`
//! beside `min(TRY_CAST(x AS INT))`: where a query fails for names it is planned once more, with casts that are called as they
//! are written. (In ORDER BY and PARTITION BY they are, at any rate.)

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};
use datafusion::sql::sqlparser::ast::{DataType, ExactNumberInfo};

use super::syntax::function_of;

/// How `arrow_cast` calls the type that DataFusion makes of SQL's.
pub(super) fn arrow_type(data_type: &DataType) -> Option<String> {
    if let Some(name) = function_of(data_type) {
        let arrow = match name {
            "text" => "Utf8",
            "int2" => "Int16",
            "int4" => "Int32",
            "int8" => "Int64",
            "float4" => "Float32",
            "float8" => "Float64",
            _ => return None,
        };
        return Some(arrow.to_owned());
    }
    let (DataType::Numeric(of) | DataType::Decimal(of) | DataType::Dec(of)) = data_type else { return None };
    let (precision, scale) = match *of {
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::None => return None,
    };
    // What is out of bounds is refused by who makes types of SQL's.
    let fits = (1..=38).contains(&precision) && u64::try_from(scale).is_ok_and(|scale| scale <= precision);
    fits.then(|| format!("Decimal128({precision}, {scale})"))
}

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
