//! MATCH_RECOGNIZE as a window function.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowFunctionDefinition,
    WindowUDFImpl,
};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::Error;

use super::Recognition;

/// The function's name.
const MATCH: &str = "match_recognize";

/// Of a row at which a match begins the MEASURES, of all others NULL; see the [module](super). Its arguments are what the
/// navigations look at, and before these the time, if there is a WITHIN.
///
/// It stands in plans only: the operator of OVER knows it, and the batch engine puts one in its place that can be executed.
#[derive(Debug)]
pub struct Recognize {
    recognition: Arc<Recognition>,
    fields: Fields,
    signature: Signature,
}

impl Recognize {
    /// The function that looks for it; fails if the type of a measure is not known.
    pub fn new(recognition: Recognition) -> PlanResult<Self> {
        let fields = recognition.measures.iter().map(|(name, measure)| {
            let data_type = measure.expr.get_type(&measure.schema()?)?;
            Ok(Field::new(name, data_type, true))
        });
        let fields = fields.collect::<PlanResult<Fields>>()?;
        Ok(Self {
            recognition: Arc::new(recognition),
            fields,
            signature: Signature::variadic_any(Volatility::Immutable),
        })
    }

    /// What is looked for.
    pub fn recognition(&self) -> &Arc<Recognition> {
        &self.recognition
    }

    /// The measures' columns.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The function that a window expression calls, if it is this one.
    pub fn of(expr: &Expr) -> Option<&Self> {
        match expr {
            Expr::Alias(alias) => Self::of(&alias.expr),
            Expr::WindowFunction(call) => match &call.fun {
                WindowFunctionDefinition::WindowUDF(function) => function.inner().downcast_ref::<Self>(),
                WindowFunctionDefinition::AggregateUDF(_) => None,
            },
            _ => None,
        }
    }
}

impl PartialEq for Recognize {
    fn eq(&self, other: &Self) -> bool {
        self.recognition == other.recognition
    }
}

impl Eq for Recognize {}

impl Hash for Recognize {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.recognition.hash(state);
    }
}

impl WindowUDFImpl for Recognize {
    fn name(&self) -> &str {
        MATCH
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs<'_>) -> PlanResult<Box<dyn PartitionEvaluator>> {
        Err(Error::internal("MATCH_RECOGNIZE reached the batch engine as it stands in a plan").into())
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> PlanResult<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Struct(self.fields.clone()), true)))
    }

    fn limit_effect(&self, _: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}
