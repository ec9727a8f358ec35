//! Sums of integers in bounded queries: one that its type cannot hold is an error, as it is in a continuous query.
//!
//! DataFusion's own wraps around. In a decimal of 38 digits no sum of integers does, and what comes out of it is cast back.

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast};

use crate::error::Result;

use super::fault::planning_error;

/// The plan with its sums of integers checked.
pub(super) fn checked_sums(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => checked(aggregate),
        other => Ok(Transformed::no(other)),
    })
    .data()
    .map_err(planning_error)
}

fn checked(aggregate: Aggregate) -> PlanResult<Transformed<LogicalPlan>> {
    let mut wide = Vec::with_capacity(aggregate.aggr_expr.len());
    for call in &aggregate.aggr_expr {
        wide.push(widened(call, &aggregate)?);
    }
    if wide.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let keys = aggregate.schema.fields().len() - wide.len();
    let calls = aggregate.aggr_expr.iter().zip(&wide).enumerate().map(|(number, (call, wide))| match wide {
        Some(wide) => wide.clone().alias(wide_name(number)),
        None => call.clone(),
    });
    let calls: Vec<Expr> = calls.collect();
    let columns = aggregate.schema.iter().enumerate().map(|(index, (qualifier, field))| {
        let narrowed = index.checked_sub(keys).filter(|number| wide[*number].is_some());
        match narrowed {
            Some(number) => cast(Expr::Column(Column::from_name(wide_name(number))), field.data_type().clone())
                .alias_qualified(qualifier.cloned(), field.name()),
            None => Expr::Column(Column::from((qualifier, field))),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    let inner = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(inner)).project(columns)?.build()?;
    Ok(Transformed::yes(plan))
}

fn wide_name(number: usize) -> String {
    format!("__sum{number}")
}

/// The sum of integers that a call is, as a sum of decimals.
fn widened(call: &Expr, aggregate: &Aggregate) -> PlanResult<Option<Expr>> {
    let call: &AggregateFunction = match call {
        Expr::Alias(alias) => return widened(&alias.expr, aggregate),
        Expr::AggregateFunction(call) if call.func.name() == "sum" => call,
        _ => return Ok(None),
    };
    let [argument] = call.params.args.as_slice() else { return Ok(None) };
    if !argument.get_type(aggregate.input.schema()).is_ok_and(|data_type| data_type.is_integer()) {
        return Ok(None);
    }
    let mut wide = call.clone();
    wide.params.args = vec![cast(argument.clone(), DataType::Decimal128(38, 0))];
    Ok(Some(Expr::AggregateFunction(wide)))
}
