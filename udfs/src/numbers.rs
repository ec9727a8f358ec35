//! Numbers: arithmetic that says when its result does not fit.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::Int32Array;
use arrow::compute::kernels::numeric;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, exec_err, plan_datafusion_err};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::declared::{Gives, Kind, Spec};
use crate::input::type_name;
use crate::rows::{floats, integers, strict};

pub(crate) static NUMBERS: &[Spec] = &[Spec {
    name: "width_bucket",
    usage: "width_bucket(operand, low, high, count)",
    doc: "The number of the bucket, of `count` equal ones between low and high, in which the operand lies.",
    takes: &[&[Kind::Float, Kind::Float, Kind::Float, Kind::Integer]],
    repeats: false,
    gives: Gives::Type(|| DataType::Int32),
    is_plain: None,
    run: |args| {
        strict::<i32, Int32Array>(args, |row| {
            let at = |place: usize| floats(args, place).value(row);
            bucket(at(0), at(1), at(2), integers(args, 3).value(row)).map(Some)
        })
    },
}];

fn bucket(value: f64, low: f64, high: f64, count: i64) -> Result<i32> {
    if count <= 0 {
        return exec_err!("count must be greater than zero");
    }
    if low == high {
        return exec_err!("lower bound cannot equal upper bound");
    }
    let share = (value - low) / (high - low);
    let bucket = if share < 0.0 {
        0.0
    } else if share >= 1.0 {
        count as f64 + 1.0
    } else {
        (share * count as f64).floor() + 1.0
    };
    Ok(bucket as i32)
}

/// `+`, `-` and `*` of integers. DataFusion's operators wrap around; PostgreSQL's result that its type can't hold is an error.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    operator: Operator,
    signature: Signature,
}

/// The operators, under names that nobody writes.
pub(crate) fn checked() -> Vec<Arc<ScalarUDF>> {
    let of = |(name, operator)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Checked { name, operator, signature }))
    };
    [("int_plus", Operator::Plus), ("int_minus", Operator::Minus), ("int_times", Operator::Multiply)].map(of).into()
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = given else { return Err(plan_datafusion_err!("{} has two arguments", self.operator)) };
        let (left, right) = BinaryTypeCoercer::new(left, &self.operator, right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let [left, right] = given else { return Err(plan_datafusion_err!("{} has two arguments", self.operator)) };
        BinaryTypeCoercer::new(left, &self.operator, right).get_result_type()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.infix(args.iter().map(ToString::to_string)))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.infix(args.iter().map(|argument| argument.schema_name().to_string())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = <[ColumnarValue; 2]>::try_from(args.args)
            .map_err(|_| plan_datafusion_err!("{} has two arguments", self.operator))?;
        let apply = match self.operator {
            Operator::Plus => numeric::add,
            Operator::Minus => numeric::sub,
            _ => numeric::mul,
        };
        let result = datafusion::physical_expr_common::datum::apply(&left, &right, apply);
        result.map_err(|error| match error {
            DataFusionError::ArrowError(error, _) if matches!(*error, ArrowError::ArithmeticOverflow(_)) => {
                let data_type = args.return_field.data_type();
                let reason = error.to_string();
                let what = reason.rsplit("on: ").next().unwrap_or_default();
                DataFusionError::Execution(format!("{} out of range: {what}", type_name(data_type)))
            }
            other => other,
        })
    }
}

impl Checked {
    fn infix(&self, args: impl Iterator<Item = String>) -> String {
        let mut shown = String::new();
        for (place, argument) in args.enumerate() {
            let operator = if place > 0 { format!(" {} ", self.operator) } else { String::new() };
            // Writing to memory does not fail.
            let _ = write!(shown, "{operator}{argument}");
        }
        shown
    }
}
