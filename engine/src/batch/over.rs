//! OVER, where DataFusion 55 answers it wrongly.
//!
//! * A frame `RANGE … n PRECEDING` of a row whose key is NULL ends with the last row whose key is NULL. DataFusion takes rows
//!   for complete as they come, before it has seen those. So such rows are asked for their peers by another frame, which ends
//!   with the current row's.
//! * Where rows stand in the opposite order, DataFusion goes through them from the end and turns the frame round. A list that
//!   is collected that way is in the wrong order. So lists are collected by aggregates that can't be turned round.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, LogicalPlanBuilder, ReversedUDAF, Signature,
    Window, WindowFrame, WindowFrameBound, WindowFrameUnits, when,
};

use crate::error::Result;

/// The aggregates that collect lists.
const LISTS: [&str; 2] = ["array_agg", "string_agg"];

/// A value over the peers of a row without a key, by its number.
const PEERS: &str = "__peers";

/// The plan with such calls said otherwise.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) => said_otherwise(window),
        other => Ok(Transformed::no(other)),
    });
    Ok(lowered.data()?)
}

fn said_otherwise(window: Window) -> PlanResult<Transformed<LogicalPlan>> {
    let mut turned = false;
    // The calls, by name, those for rows without a key behind them; and what is shown.
    let (mut calls, mut of_nulls) = (Vec::new(), Vec::new());
    let mut shown: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::Column).collect();
    let named = |name: &str| Expr::Column(Column::from_name(name));
    for (number, expr) in window.window_expr.iter().enumerate() {
        let name = expr.schema_name().to_string();
        let mut value = named(&name);
        let call = match expr.clone().unalias() {
            Expr::WindowFunction(call) => {
                let (call, collects) = straight(*call);
                turned |= collects;
                if let Some((key, over_peers)) = over_peers(&call) {
                    let peers = format!("{PEERS}{number}");
                    value = when(key.is_null(), named(&peers)).otherwise(value)?.alias(&name);
                    of_nulls.push(over_peers.alias(peers));
                }
                Expr::WindowFunction(Box::new(call))
            }
            other => other,
        };
        calls.push(call.alias(name));
        shown.push(value);
    }
    if !turned && of_nulls.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    calls.extend(of_nulls);
    let plan = LogicalPlan::Window(Window::try_new(calls, window.input)?);
    Ok(Transformed::yes(LogicalPlanBuilder::from(plan).project(shown)?.build()?))
}

/// The key, and the call for rows where it is NULL, if the frame ends a distance before the current row.
fn over_peers(call: &WindowFunction) -> Option<(Expr, Expr)> {
    let frame = &call.params.window_frame;
    let is_distance = |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::Preceding(by) if !by.is_null());
    let [key] = &call.params.order_by[..] else { return None };
    if frame.units != WindowFrameUnits::Range || !is_distance(&frame.end_bound) {
        return None;
    }
    let start = match is_distance(&frame.start_bound) {
        true => WindowFrameBound::CurrentRow,
        false => frame.start_bound.clone(),
    };
    let mut of_nulls = call.clone();
    of_nulls.params.window_frame =
        WindowFrame::new_bounds(WindowFrameUnits::Range, start, WindowFrameBound::CurrentRow);
    Some((key.expr.clone(), Expr::WindowFunction(Box::new(of_nulls))))
}

/// The call, and whether it collects a list: then it is one of an aggregate that can't be turned round.
fn straight(mut call: WindowFunction) -> (WindowFunction, bool) {
    let straight = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(function) if LISTS.contains(&function.name()) => {
            Some(Arc::new(Straight(Arc::clone(function)).into()))
        }
        _ => None,
    };
    let collects = straight.is_some();
    if let Some(straight) = straight {
        call.fun = WindowFunctionDefinition::AggregateUDF(straight);
    }
    (call, collects)
}

/// An aggregate that can't be turned round.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Straight(Arc<AggregateUDF>);

impl AggregateUDFImpl for Straight {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> PlanResult<DataType> {
        self.0.return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> PlanResult<FieldRef> {
        self.0.return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        self.0.accumulator(arguments)
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        self.0.create_sliding_accumulator(arguments)
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> PlanResult<Vec<FieldRef>> {
        self.0.state_fields(arguments)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.0.supports_null_handling_clause()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }
}
