//! MATCH_RECOGNIZE in the batch engine: the window function of the plan, by one that can be executed.
//!
//! The search is the operator's ([`crate::operator::recognize`]), once over each whole partition: there is nothing to remember,
//! to take back or to forget here, which is what the law is about. That the search itself is right is shown by its own tests.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    Expr, LimitEffect, LogicalPlan, PartitionEvaluator, Signature, Window, WindowFunctionDefinition, WindowUDF,
    WindowUDFImpl,
};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::operator::recognize::{Goes, Recognizer, Rows};
use crate::plan::Recognize;

/// The plan with functions that can be executed.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) if window.window_expr.iter().any(|expr| Recognize::of(expr).is_some()) => {
            let calls = window.window_expr.iter().map(|expr| executed(expr).alias(expr.schema_name().to_string()));
            let window = Window::try_new(calls.collect(), window.input)?;
            Ok(Transformed::yes(LogicalPlan::Window(window)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(lowered.data()?)
}

fn executed(expr: &Expr) -> Expr {
    let mut expr = expr.clone().unalias();
    if Recognize::of(&expr).is_some()
        && let Expr::WindowFunction(call) = &mut expr
        && let WindowFunctionDefinition::WindowUDF(planned) = &call.fun
    {
        let executed = Executed { planned: Arc::clone(planned) };
        call.fun = WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::from(executed)));
    }
    expr
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Executed {
    planned: Arc<WindowUDF>,
}

impl WindowUDFImpl for Executed {
    fn name(&self) -> &str {
        self.planned.name()
    }

    fn signature(&self) -> &Signature {
        self.planned.signature()
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs<'_>) -> PlanResult<Box<dyn PartitionEvaluator>> {
        let planned = self.planned.inner().downcast_ref::<Recognize>();
        let planned = planned.ok_or_else(|| Error::internal("another function stands for MATCH_RECOGNIZE"))?;
        let types: Vec<DataType> = args.input_fields().iter().map(|field| field.data_type().clone()).collect();
        Ok(Box::new(Evaluator { recognizer: Recognizer::new(planned, &types)?, types }))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> PlanResult<FieldRef> {
        self.planned.inner().field(args)
    }

    fn limit_effect(&self, _: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

#[derive(Debug)]
struct Evaluator {
    recognizer: Recognizer,
    types: Vec<DataType>,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> PlanResult<ArrayRef> {
        let load = |range: std::ops::Range<usize>| {
            Ok(values.iter().map(|column| column.slice(range.start, range.len())).collect())
        };
        let mut all = Rows::new(0..rows, &self.types, Box::new(load));
        let search = self.recognizer.search(&mut all, 0, |_| false, |_| Goes::On)?;
        let mut matches = search.matches.iter().enumerate().peekable();
        let places = (0..rows).map(|row| matches.next_if(|(_, at)| **at == row).map(|(place, _)| place as u32));
        let places: UInt32Array = places.collect();
        Ok(take(&search.measures, &places, None)?)
    }
}
