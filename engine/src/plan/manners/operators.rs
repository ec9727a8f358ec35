//! Operators whose meaning depends on the types beside them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, ScalarUDF, cast, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans operators by functions of the registry.
pub(in crate::plan) struct Operators {
    functions: HashMap<String, Arc<ScalarUDF>>,
}

impl Operators {
    /// By these functions.
    pub(in crate::plan) fn new(functions: &[Arc<ScalarUDF>]) -> Self {
        Self { functions: functions.iter().map(|one| (one.name().to_owned(), Arc::clone(one))).collect() }
    }

    fn call(&self, name: &str, left: &Expr, right: &Expr) -> Option<Expr> {
        Some(self.functions.get(name)?.call(vec![left.clone(), right.clone()]))
    }

    fn planned(&self, op: &BinaryOperator, left: &Expr, right: &Expr, types: (&DataType, &DataType)) -> Option<Expr> {
        use BinaryOperator as B;
        use DataType as T;
        let is_text = |data_type: &T| matches!(data_type, T::Utf8 | T::LargeUtf8 | T::Utf8View);
        let number = |expr: &Expr| cast(expr.clone(), T::Int32);
        match (op, types.0, types.1) {
            (B::Plus, left_type, right_type) if left_type.is_integer() && right_type.is_integer() => {
                self.call("int_plus", left, right)
            }
            (B::Minus, left_type, right_type) if left_type.is_integer() && right_type.is_integer() => {
                self.call("int_minus", left, right)
            }
            (B::Multiply, left_type, right_type) if left_type.is_integer() && right_type.is_integer() => {
                self.call("int_times", left, right)
            }
            // Days.
            (B::Plus, T::Date32, days) if days.is_integer() => {
                Some(cast(added(number(left), Operator::Plus, number(right)), T::Date32))
            }
            (B::Plus, days, T::Date32) if days.is_integer() => {
                Some(cast(added(number(left), Operator::Plus, number(right)), T::Date32))
            }
            (B::Minus, T::Date32, days) if days.is_integer() => {
                Some(cast(added(number(left), Operator::Minus, number(right)), T::Date32))
            }
            (B::Minus, T::Date32, T::Date32) => Some(added(number(left), Operator::Minus, number(right))),
            // A day with an interval is a time.
            (B::Plus | B::Minus, T::Date32, T::Interval(_)) => {
                let op = if *op == B::Plus { Operator::Plus } else { Operator::Minus };
                Some(added(cast(left.clone(), time()), op, right.clone()))
            }
            (B::Plus, T::Interval(_), T::Date32) => {
                Some(added(cast(right.clone(), time()), Operator::Plus, left.clone()))
            }
            (B::Plus, T::Date32, T::Time64(_) | T::Time32(_)) => self.call("date_and_time", left, right),
            (B::Plus, T::Time64(_) | T::Time32(_), T::Date32) => self.call("date_and_time", right, left),
            (B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq, T::Interval(_), T::Interval(_)) => {
                let op = match op {
                    B::Eq => Operator::Eq,
                    B::NotEq => Operator::NotEq,
                    B::Lt => Operator::Lt,
                    B::LtEq => Operator::LtEq,
                    B::Gt => Operator::Gt,
                    _ => Operator::GtEq,
                };
                let span = self.functions.get("interval_span")?;
                Some(added(span.call(vec![left.clone()]), op, span.call(vec![right.clone()])))
            }
            (B::Multiply, T::Interval(_), factor) if factor.is_numeric() => self.call("interval_times", left, right),
            (B::Multiply, factor, T::Interval(_)) if factor.is_numeric() => self.call("interval_times", right, left),
            (B::Divide, T::Interval(_), divisor) if divisor.is_numeric() => {
                let share = added(lit(1.0), Operator::Divide, cast(right.clone(), T::Float64));
                self.call("interval_times", left, &share)
            }
            (B::AtArrow, json, of) if is_text(json) && is_text(of) => self.call("json_contains", left, right),
            (B::ArrowAt, json, of) if is_text(json) && is_text(of) => self.call("json_contains", right, left),
            _ => None,
        }
    }
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn added(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operators").finish_non_exhaustive()
    }
}

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> PlanResult<PlannerResult<RawBinaryExpr>> {
        // A column of an outer query or a parameter may have no type yet: it is left to DataFusion.
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        Ok(match self.planned(&expr.op, &expr.left, &expr.right, (&left, &right)) {
            Some(planned) => PlannerResult::Planned(planned),
            None => PlannerResult::Original(expr),
        })
    }

    /// Left to the planners behind.
    fn plan_compound_identifier(
        &self,
        _field: &arrow::datatypes::Field,
        _qualifier: Option<&datafusion::common::TableReference>,
        _nested_names: &[String],
    ) -> PlanResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Original(Vec::new()))
    }
}
