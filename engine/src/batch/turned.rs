//! Aggregates that DataFusion 55 may not turn round.
//!
//! Where the input has an order, or another aggregate asks for one, DataFusion computes an aggregate with the opposite ORDER BY
//! from its end. Two of them are wrong then: `array_agg` and `string_agg` of DISTINCT values are in the order that was turned
//! round, and halves of `nth_value` are merged as if only one of them had been. So the DISTINCT values are sorted behind the
//! aggregate, and `nth_value` is an element of a list.

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_nested::extract::array_element_udf;
use datafusion::functions_nested::sort::array_sort_udf;
use datafusion::functions_nested::string::array_to_string_udf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::scalar::ScalarValue;

use crate::error::Result;

/// A list in the place of an aggregate, by its number.
const LIST: &str = "__list";

/// The plan with such aggregates said otherwise.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => said_otherwise(aggregate),
        other => Ok(Transformed::no(other)),
    });
    Ok(lowered.data()?)
}

fn said_otherwise(aggregate: Aggregate) -> PlanResult<Transformed<LogicalPlan>> {
    let mut turned = false;
    let (mut calls, mut values) = (Vec::new(), Vec::new());
    for (number, expr) in aggregate.aggr_expr.iter().enumerate() {
        let name = expr.schema_name().to_string();
        let list = format!("{LIST}{number}");
        match value_of_list(expr, Expr::Column(Column::from_name(&list)), &aggregate)? {
            Some((call, value)) => {
                turned = true;
                calls.push(call.alias(list));
                values.push(value.alias(name));
            }
            None => {
                calls.push(expr.clone());
                values.push(Expr::Column(Column::from_name(name)));
            }
        }
    }
    if !turned {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let keys = aggregate.schema.columns().into_iter().take(aggregate.group_expr_len()?).map(Expr::Column);
    let columns: Vec<Expr> = keys.chain(values).collect();
    let lists = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(lists)).project(columns)?.build()?;
    Ok(Transformed::yes(plan))
}

/// The aggregate that collects a list, and the value that is made of it, if `expr` is one that may not be turned round.
fn value_of_list(expr: &Expr, list: Expr, aggregate: &Aggregate) -> PlanResult<Option<(Expr, Expr)>> {
    let Expr::AggregateFunction(call) = expr.clone().unalias() else { return Ok(None) };
    let rows = aggregate.input.schema();
    let Some(order) = call.params.order_by.first().cloned() else { return Ok(None) };
    let sorted = |list: Expr| {
        let Sort { asc, nulls_first, .. } = order;
        let direction = lit(if asc { "ASC" } else { "DESC" });
        let nulls = lit(if nulls_first { "NULLS FIRST" } else { "NULLS LAST" });
        array_sort_udf().call(vec![list, direction, nulls])
    };
    Ok(match (call.func.name(), call.params.distinct, call.params.args.as_slice()) {
        // What can't be sorted so is left to DataFusion.
        ("array_agg", true, [value]) if !value.get_type(rows)?.is_nested() => Some((list_of(call, None), sorted(list))),
        ("string_agg", true, [value, separator @ Expr::Literal(text, _)]) if !text.is_null() => {
            let (value, separator) = (value.clone(), separator.clone());
            let text = array_to_string_udf().call(vec![sorted(list), separator]);
            // The list of no values at all is NULL, as the text is.
            Some((list_of(call, Some(value.is_not_null())), cast(text, DataType::LargeUtf8)))
        }
        ("nth_value", false, [_, Expr::Literal(ScalarValue::Int64(Some(n)), _)]) if *n != 0 => {
            let element = array_element_udf().call(vec![list, lit(*n)]);
            Some((list_of(call, None), element))
        }
        _ => None,
    })
}

/// `array_agg` of what a call is of: in its order, or the different values in any.
fn list_of(mut call: AggregateFunction, condition: Option<Expr>) -> Expr {
    call.func = array_agg_udaf();
    call.params.args.truncate(1);
    if call.params.distinct {
        call.params.order_by.clear();
    }
    if let Some(condition) = condition {
        let filter = call.params.filter.take();
        call.params.filter = Some(Box::new(match filter {
            Some(filter) => filter.and(condition),
            None => condition,
        }));
    }
    Expr::AggregateFunction(call)
}
