//! The batch form of as-of joins: each right row says from which time to which it is the nearest, which is up to the next
//! row of its key, and a left row meets the one whose stretch of time it lies in.

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, JoinType};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::functions_window::lead_lag::{lag_udwf, lead_udwf};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFunctionDefinition, lit};

use crate::error::Result;
use crate::plan::AsOfNode;

/// Columns that are there on the way only.
const FIRST: &str = "__first";
const LIMIT: &str = "__limit";

/// The plan with its as-of joins lowered.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| match AsOfNode::of(&node) {
        Some(as_of) => Ok(Transformed::yes(joined(as_of)?)),
        None => Ok(Transformed::no(node)),
    });
    Ok(lowered.data()?)
}

fn joined(node: &AsOfNode) -> PlanResult<LogicalPlan> {
    let [left, right] = node.sides();
    let Some((left_time, time)) = node.times().cloned() else {
        return Err(DataFusionError::Internal("an as-of join has times".to_owned()));
    };
    let own = |name: &str| Expr::Column(Column::from_name(name));
    let keys: Vec<Expr> = node.on().iter().map(|(_, right)| right.clone()).collect();
    let columns: Vec<Expr> = right.schema().columns().into_iter().map(Expr::Column).collect();
    let ties = node.ties().iter().map(|tie| Sort::new(tie.clone(), true, false)).collect();
    let of_time = keys.iter().cloned().chain([time.clone()]).collect();
    let by_time = vec![Sort::new(time.clone(), true, false)];
    let side = node.rule().side;
    // What lies back in time is the nearest up to the next row, and what lies ahead from the last one on.
    let next = if side.is_back() { lead_udwf() } else { lag_udwf() };
    let right = LogicalPlanBuilder::from(right.clone())
        .filter(time.clone().is_not_null())?
        .window([over(row_number_udwf().into(), Vec::new(), of_time, ties).alias(FIRST)])?
        .filter(own(FIRST).eq(lit(1_u64)))?
        .window([over(next.into(), vec![time.clone()], keys, by_time).alias(LIMIT)])?
        .project(columns.into_iter().chain([own(LIMIT)]))?
        .build()?;
    let within = match (side.is_back(), side.is_strict()) {
        (true, false) => left_time.clone().gt_eq(time).and(left_time.lt(own(LIMIT)).or(own(LIMIT).is_null())),
        (true, true) => left_time.clone().gt(time).and(left_time.lt_eq(own(LIMIT)).or(own(LIMIT).is_null())),
        (false, false) => left_time.clone().lt_eq(time).and(left_time.gt(own(LIMIT)).or(own(LIMIT).is_null())),
        (false, true) => left_time.clone().lt(time).and(left_time.gt_eq(own(LIMIT)).or(own(LIMIT).is_null())),
    };
    let equal = node.on().iter().map(|(left, right)| left.clone().eq(right.clone()));
    let join_type = if node.rule().keeps_unmatched { JoinType::Left } else { JoinType::Inner };
    let shown = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(node).columns().into_iter();
    LogicalPlanBuilder::from(left.clone())
        .join_on(right, join_type, equal.chain([within]))?
        .project(shown.map(Expr::Column))?
        .build()
}

fn over(function: WindowFunctionDefinition, arguments: Vec<Expr>, partition: Vec<Expr>, order: Vec<Sort>) -> Expr {
    let mut call = WindowFunction::new(function, arguments);
    call.params.window_frame = WindowFrame::new((!order.is_empty()).then_some(false));
    call.params.partition_by = partition;
    call.params.order_by = order;
    Expr::WindowFunction(Box::new(call))
}
