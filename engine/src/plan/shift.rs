//! `lag` and `lead` for the batch engine.
//!
//! DataFusion's, except that IGNORE NULLS looks at the whole partition: `lead` that reads it a piece at a time does not count
//! NULLs at the end of a piece, and finds a row too near (DataFusion 55).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result as PlanResult;
use datafusion::functions_window::lead_lag::{lag_udwf, lead_udwf};
use datafusion::logical_expr::function::{ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    Documentation, LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_plan::PhysicalExpr;

/// Both functions.
pub(super) fn functions() -> [Arc<WindowUDF>; 2] {
    [lag_udwf(), lead_udwf()].map(ours)
}

fn ours(theirs: Arc<WindowUDF>) -> Arc<WindowUDF> {
    Arc::new(WindowUDF::from(Shift { theirs }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shift {
    theirs: Arc<WindowUDF>,
}

impl WindowUDFImpl for Shift {
    fn name(&self) -> &str {
        self.theirs.name()
    }

    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }

    fn expressions(&self, args: ExpressionArgs<'_>) -> Vec<Arc<dyn PhysicalExpr>> {
        self.theirs.inner().expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs<'_>) -> PlanResult<Box<dyn PartitionEvaluator>> {
        let ignores_nulls = args.ignore_nulls();
        let theirs = self.theirs.inner().partition_evaluator(args)?;
        Ok(if ignores_nulls { Box::new(Whole(theirs)) } else { theirs })
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> PlanResult<FieldRef> {
        self.theirs.inner().field(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> PlanResult<Vec<DataType>> {
        self.theirs.inner().coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        match self.theirs.inner().reverse_expr() {
            ReversedUDWF::Reversed(theirs) => ReversedUDWF::Reversed(ours(theirs)),
            other => other,
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.theirs.inner().documentation()
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.theirs.inner().limit_effect(args)
    }
}

/// Evaluates a partition at once.
#[derive(Debug)]
struct Whole(Box<dyn PartitionEvaluator>);

impl PartitionEvaluator for Whole {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> PlanResult<ArrayRef> {
        self.0.evaluate_all(values, rows)
    }
}
