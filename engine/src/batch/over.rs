//! OVER, where DataFusion 55 answers it wrongly.
//!
//! * A frame `RANGE … n PRECEDING` of a row whose key is NULL ends with the last row whose key is NULL. DataFusion takes rows
//!   for complete as they come, before it has seen those. So such rows are asked for their peers by another frame, which ends
//!   with the current row's.
//! * Where rows stand in the opposite order, DataFusion goes through them from the end and turns the frame round. A list that
//!   is collected that way is in the wrong order. So lists are collected by aggregates that can't be turned round.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
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
    let mut calls: Vec<(String, Expr)> = Vec::new();
    let mut peers = Vec::new();
    for (number, expr) in window.window_expr.iter().enumerate() {
        let name = expr.schema_name().to_string();
        let Expr::WindowFunction(call) = expr.clone().unalias() else {
            calls.push((name, expr.clone()));
            continue;
        };
        if let Some(of_nulls) = over_peers(&call) {
            peers.push((number, call.params.order_by[0].expr.clone(), of_nulls));
        }
        let straight = straight(*call);
        turned |= Expr::WindowFunction(Box::new(straight.clone())) != expr.clone().unalias();
        calls.push((name, Expr::WindowFunction(Box::new(straight))));
    }
    if !turned && peers.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let from_input = window.input.schema().columns().into_iter().map(Expr::Column);
    let mut columns: Vec<Expr> = from_input.collect();
    let named = |name: &str| Expr::Column(datafusion::common::Column::from_name(name));
    for (number, (name, _)) in calls.iter().enumerate() {
        let value = match peers.iter().find(|(of, ..)| *of == number) {
            Some((_, key, _)) => {
                when(key.clone().is_null(), named(&format!("{PEERS}{number}"))).otherwise(named(name))?.alias(name)
            }
            None => named(name),
        };
        columns.push(value);
    }
    let calls = calls.into_iter().map(|(name, call)| call.alias(name));
    let of_nulls = peers.into_iter().map(|(number, _, call)| call.alias(format!("{PEERS}{number}")));
    let exprs: Vec<Expr> = calls.chain(of_nulls).collect();
    let plan = LogicalPlan::Window(Window::try_new(exprs, window.input)?);
    Ok(Transformed::yes(LogicalPlanBuilder::from(plan).project(columns)?.build()?))
}

/// The call for rows whose key is NULL, if its frame ends a distance before the current row.
fn over_peers(call: &WindowFunction) -> Option<Expr> {
    let frame = &call.params.window_frame;
    let is_distance = |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::Preceding(by) if !by.is_null());
    if frame.units != WindowFrameUnits::Range || !is_distance(&frame.end_bound) || call.params.order_by.len() != 1 {
        return None;
    }
    let start = match is_distance(&frame.start_bound) {
        true => WindowFrameBound::CurrentRow,
        false => frame.start_bound.clone(),
    };
    let mut call = straight(call.clone());
    call.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Range, start, WindowFrameBound::CurrentRow);
    Some(Expr::WindowFunction(Box::new(call)))
}

/// The call of an aggregate that can't be turned round, if it collects a list.
fn straight(mut call: WindowFunction) -> WindowFunction {
    if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun
        && LISTS.contains(&function.name())
        && function.inner().downcast_ref::<Straight>().is_none()
    {
        call.fun = WindowFunctionDefinition::AggregateUDF(Arc::new(Straight(Arc::clone(function)).into()));
    }
    call
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
