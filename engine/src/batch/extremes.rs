//! `min` and `max` of floats, which DataFusion 55 answers wrongly in groups.
//!
//! It compares by `<` there, to which a NaN is neither less nor greater: what comes out depends on where among the values it stands.
//! So they are the first value in an order, in which NaN is the greatest, as it is everywhere else.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::functions::math::expr_fn::nanvl;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, lit};
use datafusion::scalar::ScalarValue;

use crate::error::Result;

/// The plan with such aggregates said otherwise.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => said_otherwise(aggregate),
        other => Ok(Transformed::no(other)),
    });
    Ok(lowered.data()?)
}

fn said_otherwise(aggregate: Aggregate) -> PlanResult<Transformed<LogicalPlan>> {
    let mut changed = false;
    let calls = aggregate.aggr_expr.iter().map(|expr| {
        let name = expr.schema_name().to_string();
        let said = expr.clone().transform_up(|expr| match expr {
            Expr::AggregateFunction(call) => first(call, &aggregate),
            other => Ok(Transformed::no(other)),
        })?;
        changed |= said.transformed;
        // The nodes above know the column by its name.
        Ok(if said.transformed { said.data.unalias().alias(name) } else { said.data })
    });
    let calls = calls.collect::<PlanResult<Vec<Expr>>>()?;
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let plan = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(plan)))
}

/// The first value in place of the least or the greatest, if it is a float's.
fn first(mut call: AggregateFunction, aggregate: &Aggregate) -> PlanResult<Transformed<Expr>> {
    let ascending = match call.func.name() {
        "min" => true,
        "max" => false,
        _ => return Ok(Transformed::no(Expr::AggregateFunction(call))),
    };
    let [value] = call.params.args.as_slice() else { return Ok(Transformed::no(Expr::AggregateFunction(call))) };
    let (zero, nan) = match value.get_type(aggregate.input.schema())? {
        DataType::Float64 => (ScalarValue::Float64(Some(0.0)), ScalarValue::Float64(Some(f64::NAN))),
        DataType::Float32 => (ScalarValue::Float32(Some(0.0)), ScalarValue::Float32(Some(f32::NAN))),
        _ => return Ok(Transformed::no(Expr::AggregateFunction(call))),
    };
    // One NaN is as great as another, also one with a sign, and so is one zero.
    let value = nanvl(value.clone() + lit(zero), lit(nan));
    call.func = first_value_udaf();
    call.params.order_by = vec![Sort::new(value.clone(), ascending, false)];
    call.params.args = vec![value];
    call.params.distinct = false;
    Ok(Transformed::yes(Expr::AggregateFunction(call)))
}
