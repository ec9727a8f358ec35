//! The batch form of `SESSION`: a row begins a session if it follows the one before it by the gap or more; sessions are
//! numbered by counting beginnings, and their bounds are those of the rows of one number.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Column;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::lead_lag::lag_udwf;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFunctionDefinition, cast, lit, when,
};

use crate::plan::SessionNode;

/// Columns that are there on the way only.
const BEFORE: &str = "__before";
const BEGINS: &str = "__begins";
const NUMBER: &str = "__number";
const FIRST: &str = "__first";
const LAST: &str = "__last";

/// The node as a plan of DataFusion's own nodes.
pub(super) fn sessions(node: &SessionNode) -> PlanResult<LogicalPlan> {
    let schema = node.input().schema();
    let columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let data_type = schema.field(schema.index_of_column(node.time())?).data_type().clone();
    let gap = match &data_type {
        DataType::Timestamp(TimeUnit::Second, _) => node.gap_micros() / 1_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => node.gap_micros() / 1_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => node.gap_micros(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => node.gap_micros() * 1_000,
        _ => return Err(DataFusionError::Internal("sessions are over a timestamp".to_owned())),
    };
    let time = cast(Expr::Column(node.time().clone()), DataType::Int64);
    let own = |name: &str| Expr::Column(Column::from_name(name));
    let in_order = |function: WindowFunctionDefinition, arguments: Vec<Expr>| {
        // RANGE: rows of one time are of one session, whatever their order.
        over(function, arguments, node.partition().to_vec(), vec![Sort::new(time.clone(), true, false)])
    };
    let begins = when(own(BEFORE).is_null(), lit(1_i64))
        .when((time.clone() - own(BEFORE)).gt_eq(lit(gap)), lit(1_i64))
        .otherwise(lit(0_i64))?;
    let whole = |function: WindowFunctionDefinition, name: &str| {
        let keys = node.partition().iter().cloned().chain([own(NUMBER)]).collect();
        over(function, vec![time.clone()], keys, Vec::new()).alias(name)
    };
    let [start, end] = node.bounds().names();
    let bounds = [cast(own(FIRST), data_type.clone()).alias(start), cast(own(LAST) + lit(gap), data_type).alias(end)];
    LogicalPlanBuilder::from(node.input().clone())
        .filter(Expr::Column(node.time().clone()).is_not_null())?
        .window([in_order(lag_udwf().into(), vec![time.clone()]).alias(BEFORE)])?
        .project(columns.iter().cloned().chain([begins.alias(BEGINS)]).collect::<Vec<_>>())?
        .window([in_order(sum_udaf().into(), vec![own(BEGINS)]).alias(NUMBER)])?
        .window([whole(min_udaf().into(), FIRST), whole(max_udaf().into(), LAST)])?
        .project(columns.iter().cloned().chain(bounds).collect::<Vec<_>>())?
        .build()
}

fn over(function: WindowFunctionDefinition, arguments: Vec<Expr>, partition: Vec<Expr>, order: Vec<Sort>) -> Expr {
    let mut call = WindowFunction::new(function, arguments);
    call.params.window_frame = WindowFrame::new((!order.is_empty()).then_some(false));
    call.params.partition_by = partition;
    call.params.order_by = order;
    Expr::WindowFunction(Box::new(call))
}
