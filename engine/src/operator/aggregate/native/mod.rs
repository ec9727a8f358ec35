//! Aggregates with typed state per slot: count, sum, avg, min, max and their DISTINCT forms.

mod avg;
mod count;
mod distinct;
mod extreme;
mod sum;

use std::sync::Arc;

use arrow::datatypes::{self as types, DataType, Decimal128Type, Field, FieldRef};

use super::accumulators::Accumulators;
use crate::error::Result;
pub(super) use avg::AvgDecimals;
use avg::AvgFloats;
pub(super) use count::Counts;
pub(super) use distinct::Distinct;
use extreme::{BoolExtremes, ByteExtremes, Extremes};
use sum::{IntegerSums, Sums};
pub(super) use sum::{WideSums, narrowed};

/// Which native aggregate a call is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Native {
    function: Function,
    distinct: bool,
    /// The argument's type.
    argument: DataType,
    /// The result's type.
    result: DataType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

impl Native {
    /// Whether DataFusion's function `name` over one argument (or, for count, any number of them) has a native form.
    pub(super) fn find(name: &str, arguments: &[DataType], distinct: bool, result: &DataType) -> Option<Self> {
        let function = match name {
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            "min" => Function::Min,
            "max" => Function::Max,
            _ => return None,
        };
        // The least and the greatest value don't care how often a value comes.
        let distinct = distinct && !matches!(function, Function::Min | Function::Max);
        let argument = match arguments {
            [one] => one.clone(),
            _ if function == Function::Count && !distinct => DataType::Null,
            _ => return None,
        };
        let native = Self { function, distinct, argument, result: result.clone() };
        native.is_supported().then_some(native)
    }

    /// Whether the state holds every different value.
    pub(super) fn is_distinct(&self) -> bool {
        self.distinct
    }

    fn is_supported(&self) -> bool {
        use DataType as D;
        let summed =
            |data_type: &DataType| matches!(data_type, D::Int64 | D::UInt64 | D::Float64 | D::Decimal128(_, _));
        let function = match self.function {
            Function::Count => self.result == D::Int64,
            Function::Sum => match (&self.argument, &self.result) {
                (D::Decimal128(_, scale), D::Decimal128(_, same)) => scale == same,
                (argument, result) => summed(argument) && argument == result,
            },
            Function::Avg => matches!(
                (&self.argument, &self.result),
                (D::Float64, D::Float64) | (D::Decimal128(_, _), D::Decimal128(_, _))
            ),
            Function::Min | Function::Max => self.argument == self.result && is_ordered(&self.argument),
        };
        function && (!self.distinct || Distinct::holds(&self.argument))
    }

    /// What [`Accumulators::state`] gives.
    pub(super) fn state_fields(&self) -> Vec<FieldRef> {
        let field = |name: &str, data_type: DataType| FieldRef::new(Field::new(name, data_type, true));
        if self.distinct {
            return vec![Arc::new(Distinct::state_field(&self.argument))];
        }
        match self.function {
            Function::Count => vec![field("count", DataType::Int64)],
            Function::Sum => vec![field("sum", self.sum_state())],
            Function::Avg => vec![field("sum", self.sum_state()), field("count", DataType::Int64)],
            Function::Min | Function::Max => vec![field("value", self.argument.clone())],
        }
    }

    /// Integers are summed in 128 bits, which Arrow has as a decimal.
    fn sum_state(&self) -> DataType {
        match &self.argument {
            DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
            DataType::Float64 => DataType::Float64,
            _ => DataType::Decimal128(38, 0),
        }
    }

    /// Empty accumulators.
    pub(super) fn accumulators(&self) -> Result<Box<dyn Accumulators>> {
        let plain = self.plain()?;
        if self.distinct { Ok(Box::new(Distinct::new(&self.argument, plain)?)) } else { Ok(plain) }
    }

    fn plain(&self) -> Result<Box<dyn Accumulators>> {
        use DataType as D;
        Ok(match (self.function, &self.argument) {
            (Function::Count, _) => Box::new(Counts::default()),
            (Function::Sum, D::Int64) => Box::new(IntegerSums::<types::Int64Type>::new(&self.result)),
            (Function::Sum, D::UInt64) => Box::new(IntegerSums::<types::UInt64Type>::new(&self.result)),
            (Function::Sum, D::Decimal128(_, _)) => Box::new(IntegerSums::<Decimal128Type>::new(&self.result)),
            (Function::Sum, _) => Box::new(Sums::default()),
            (Function::Avg, D::Decimal128(_, scale)) => Box::new(AvgDecimals::new(*scale, &self.result)?),
            (Function::Avg, _) => Box::new(AvgFloats::default()),
            (Function::Min, argument) => extremes::<false>(argument),
            (Function::Max, argument) => extremes::<true>(argument),
        })
    }
}

/// Types whose values min and max put in order: those that [`for_ordered_type`] knows.
pub(super) fn is_ordered(data_type: &DataType) -> bool {
    use DataType as D;
    matches!(data_type, D::Boolean | D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Binary | D::LargeBinary | D::BinaryView)
        || (data_type.is_primitive() && !matches!(data_type, D::Interval(_)))
}

/// One of three expressions, by the (ordered) type: of primitive types, with `$T` for Arrow's; of booleans; of bytes.
macro_rules! for_ordered_type {
    ($data_type:expr, $T:ident => $primitive:expr, boolean => $boolean:expr, bytes => $bytes:expr) => {
        for_ordered_type! {
            @ $data_type, $T, $primitive, $boolean, $bytes;
            D::Int8 => Int8Type,
            D::Int16 => Int16Type,
            D::Int32 => Int32Type,
            D::Int64 => Int64Type,
            D::UInt8 => UInt8Type,
            D::UInt16 => UInt16Type,
            D::UInt32 => UInt32Type,
            D::UInt64 => UInt64Type,
            D::Float16 => Float16Type,
            D::Float32 => Float32Type,
            D::Float64 => Float64Type,
            D::Decimal32(_, _) => Decimal32Type,
            D::Decimal64(_, _) => Decimal64Type,
            D::Decimal128(_, _) => Decimal128Type,
            D::Decimal256(_, _) => Decimal256Type,
            D::Date32 => Date32Type,
            D::Date64 => Date64Type,
            D::Time32(TimeUnit::Second) => Time32SecondType,
            D::Time32(_) => Time32MillisecondType,
            D::Time64(TimeUnit::Microsecond) => Time64MicrosecondType,
            D::Time64(_) => Time64NanosecondType,
            D::Timestamp(TimeUnit::Second, _) => TimestampSecondType,
            D::Timestamp(TimeUnit::Millisecond, _) => TimestampMillisecondType,
            D::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType,
            D::Timestamp(TimeUnit::Nanosecond, _) => TimestampNanosecondType,
            D::Duration(TimeUnit::Second) => DurationSecondType,
            D::Duration(TimeUnit::Millisecond) => DurationMillisecondType,
            D::Duration(TimeUnit::Microsecond) => DurationMicrosecondType,
            D::Duration(TimeUnit::Nanosecond) => DurationNanosecondType,
        }
    };
    (@ $data_type:expr, $T:ident, $primitive:expr, $boolean:expr, $bytes:expr; $($pattern:pat => $name:ident,)*) => {{
        use arrow::datatypes::{DataType as D, TimeUnit};
        match $data_type {
            $($pattern => {
                type $T = arrow::datatypes::$name;
                $primitive
            })*
            D::Boolean => $boolean,
            _ => $bytes,
        }
    }};
}
pub(super) use for_ordered_type;

/// min (`MAX` false) or max of a type that [`is_ordered`].
fn extremes<const MAX: bool>(data_type: &DataType) -> Box<dyn Accumulators> {
    for_ordered_type!(
        data_type,
        T => Box::new(Extremes::<T, MAX>::new(data_type)),
        boolean => Box::new(BoolExtremes::<MAX>::default()),
        bytes => Box::new(ByteExtremes::<MAX>::new(data_type))
    )
}
