//! The time of day in queries: `now()`, `current_timestamp`, `current_date`, `localtimestamp`.
//!
//! DataFusion's own `now()` counts nanoseconds, so that comparing it with a day far away overflows; ours counts
//! microseconds and has a time zone, as PostgreSQL's. In a snapshot it is one value for the statement. In a continuous
//! query it is the time of the epoch, and stays what it is until [`super::temporal_filter`] takes it out of a condition.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast, lit,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

use crate::error::Error;

/// PostgreSQL's `timestamptz` of [`now`].
pub(super) fn now_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

/// What a function says of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Says {
    /// `now()`
    Moment,
    /// `localtimestamp`
    Local,
    /// `current_date`
    Day,
}

/// A function of the time of day.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Clock {
    says: Says,
    aliases: Vec<String>,
    signature: Signature,
}

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let of = |says, aliases: &[&str]| {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let signature = Signature::nullary(Volatility::Stable);
        Arc::new(ScalarUDF::from(Clock { says, aliases, signature }))
    };
    vec![
        of(Says::Moment, &["current_timestamp", "transaction_timestamp", "statement_timestamp"]),
        of(Says::Local, &[]),
        of(Says::Day, &["today"]),
    ]
}

impl ScalarUDFImpl for Clock {
    fn name(&self) -> &str {
        match self.says {
            Says::Moment => "now",
            Says::Local => "localtimestamp",
            Says::Day => "current_date",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(match self.says {
            Says::Moment => now_type(),
            Says::Local => DataType::Timestamp(TimeUnit::Microsecond, None),
            Says::Day => DataType::Date32,
        })
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        Err(Error::internal(format!("nobody has said what {}() is", self.name())).into())
    }

    fn simplify(&self, arguments: Vec<Expr>, context: &SimplifyContext) -> PlanResult<ExprSimplifyResult> {
        let Some(now) = context.query_execution_start_time() else {
            return Ok(ExprSimplifyResult::Original(arguments));
        };
        let zone = match now_type() {
            DataType::Timestamp(_, zone) => zone,
            _ => None,
        };
        let now = lit(ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), zone));
        Ok(ExprSimplifyResult::Simplified(self.value(now)))
    }
}

impl Clock {
    /// What the function says when it is `now`.
    fn value(&self, now: Expr) -> Expr {
        match self.says {
            Says::Moment => now,
            Says::Local => cast(now, DataType::Timestamp(TimeUnit::Microsecond, None)),
            Says::Day => cast(now, DataType::Date32),
        }
    }
}

/// Functions whose value is the time of day, DataFusion's own among them.
pub(super) fn is_clock(name: &str) -> bool {
    matches!(name, "now" | "localtimestamp" | "current_date" | "current_time")
}

/// Whether an expression depends on the time of day.
pub(super) fn reads_clock(expr: &Expr) -> bool {
    clock_name(expr).is_some()
}

/// The first function of the time of day in an expression.
pub(super) fn clock_name(expr: &Expr) -> Option<String> {
    let mut name = None;
    // Looking cannot fail.
    let _ = expr.apply(|part| {
        match part {
            Expr::ScalarFunction(call) if is_clock(call.name()) => name = Some(call.name().to_owned()),
            _ => return Ok(TreeNodeRecursion::Continue),
        }
        Ok(TreeNodeRecursion::Stop)
    });
    name
}

/// The expression with `now` in the place of the time of day. Fails where DataFusion's `current_time` stands.
pub(super) fn with_now(expr: Expr, now: &Expr) -> PlanResult<Expr> {
    let replaced = expr.transform_up(|part| match &part {
        Expr::ScalarFunction(call) => match call.func.inner().downcast_ref::<Clock>() {
            Some(clock) => Ok(Transformed::yes(clock.value(now.clone()))),
            None => Ok(Transformed::no(part)),
        },
        _ => Ok(Transformed::no(part)),
    });
    Ok(replaced?.data)
}

/// Keeps the rule between a hiding and a showing one from computing `now()` apart from the condition that it stands in.
#[derive(Debug)]
pub(super) struct ClocksHidden(pub(super) bool);

impl OptimizerRule for ClocksHidden {
    fn name(&self) -> &str {
        if self.0 { "hide_clocks" } else { "show_clocks" }
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        let volatility = if self.0 { Volatility::Volatile } else { Volatility::Stable };
        plan.map_expressions(|expr| {
            if !reads_clock(&expr) {
                return Ok(Transformed::no(expr));
            }
            expr.transform_up(|part| {
                let clock = match &part {
                    Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<Clock>(),
                    _ => None,
                };
                Ok(match clock.filter(|clock| clock.signature.volatility != volatility) {
                    Some(clock) => {
                        let other = Clock { signature: Signature::nullary(volatility), ..clock.clone() };
                        Transformed::yes(ScalarUDF::from(other).call(Vec::new()))
                    }
                    None => Transformed::no(part),
                })
            })
        })
    }
}
