//! Windows as a list: the batch form of `TUMBLE`, `HOP` and `CUMULATE`.
//!
//! A window over rows becomes `UNNEST` of a function that lists, for a time, the windows which cover it. The function is
//! written for plainness and does its arithmetic in `i128`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, UnnestOptions};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::WindowSpec;
use crate::plan::{SessionNode, WindowNode};

use super::sessions::sessions;

const LIST: &str = "__windows";
const START: &str = "window_start";
const END: &str = "window_end";

/// The plan with its windows lowered.
pub fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| {
        let window = match &node {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowNode>(),
            _ => None,
        };
        let session = match &node {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<SessionNode>(),
            _ => None,
        };
        if let Some(session) = session {
            return Ok(Transformed::yes(sessions(session)?));
        }
        match window {
            Some(window) => Ok(Transformed::yes(listed(window)?)),
            // What the rows may be NULL in has changed below.
            None => Ok(Transformed::yes(node.recompute_schema()?)),
        }
    });
    Ok(lowered.data()?)
}

fn listed(node: &WindowNode) -> PlanResult<LogicalPlan> {
    let columns: Vec<Expr> = node.input().schema().columns().into_iter().map(Expr::Column).collect();
    let list = ScalarUDF::new_from_impl(WindowsOf::new(node.window()))
        .call(vec![Expr::Column(node.time().clone())])
        .alias(LIST);
    let window = Expr::Column(Column::from_name(LIST));
    let names = [START, END].into_iter().zip(node.bounds().names());
    let bounds = names.map(|(bound, name)| window.clone().field(bound).alias(name));
    LogicalPlanBuilder::from(node.input().clone())
        .project(columns.iter().cloned().chain([list]))?
        .unnest_column_with_options(Column::from_name(LIST), UnnestOptions::new().with_preserve_nulls(false))?
        .project(columns.into_iter().chain(bounds))?
        .build()
}

/// The windows that cover a time, both in the same unit per second; starts and ends, in order.
pub fn windows_of(time: i64, unit: TimeUnit, window: WindowSpec) -> impl Iterator<Item = (i128, i128)> {
    // All in nanoseconds.
    let per_unit: i128 = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let micros = |length: i64| i128::from(length) * 1_000;
    let time = i128::from(time) * per_unit;
    let floor = |step: i128, offset: i128| (time - offset).div_euclid(step) * step + offset;
    // The first bound, the step from one window to the next, how many, and whether starts move (or ends).
    let (first, step, count, size) = match window {
        WindowSpec::Tumble { size, offset } => {
            (floor(micros(size), micros(offset)), micros(size), 1, Some(micros(size)))
        }
        WindowSpec::Hop { slide, size, offset } => {
            let (slide, size) = (micros(slide), micros(size));
            let last = floor(slide, micros(offset));
            // Starts after time − size, up to the last one at or before the time.
            let first = (time - size - micros(offset)).div_euclid(slide) * slide + micros(offset) + slide;
            let count = if first > last { 0 } else { (last - first) / slide + 1 };
            (first, slide, count, Some(size))
        }
        WindowSpec::Cumulate { step, size, offset } => {
            let start = floor(micros(size), micros(offset));
            let first_end = (time - start) / micros(step) + 1;
            (start, micros(step), micros(size) / micros(step) - first_end + 1, None)
        }
    };
    let first_end = (time - first) / step + 1;
    (0..count).map(move |index| {
        let (start, end) = match size {
            Some(size) => (first + index * step, first + index * step + size),
            None => (first, first + (first_end + index) * step),
        };
        (start / per_unit, end / per_unit)
    })
}

/// Lists the windows of a time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowsOf {
    window: WindowSpec,
    signature: Signature,
}

impl WindowsOf {
    fn new(window: WindowSpec) -> Self {
        Self { window, signature: Signature::any(1, Volatility::Immutable) }
    }
}

fn bounds(data_type: &DataType) -> Fields {
    Fields::from(vec![Field::new(START, data_type.clone(), false), Field::new(END, data_type.clone(), false)])
}

fn item(data_type: &DataType) -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(bounds(data_type)), true))
}

impl ScalarUDFImpl for WindowsOf {
    fn name(&self) -> &str {
        "rondel_windows"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        match arguments {
            [time @ DataType::Timestamp(..)] => Ok(DataType::List(item(time))),
            _ => Err(DataFusionError::Internal("windows are over a timestamp".to_owned())),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let rows = args.number_rows;
        let [time] = <[ColumnarValue; 1]>::try_from(args.args)
            .map_err(|_| DataFusionError::Internal("windows are of one time".to_owned()))?;
        Ok(ColumnarValue::Array(self.list(&time.into_array(rows)?)?))
    }
}

impl WindowsOf {
    fn list(&self, times: &ArrayRef) -> Result<ArrayRef> {
        let data_type = times.data_type().clone();
        let DataType::Timestamp(unit, _) = data_type else {
            return Err(Error::internal("windows are over a timestamp"));
        };
        let numbers = cast(times, &DataType::Int64)?;
        let numbers: &Int64Array = datafusion::common::cast::as_int64_array(&numbers)?;
        let (mut starts, mut ends, mut lengths) = (Vec::new(), Vec::new(), Vec::with_capacity(numbers.len()));
        for time in numbers {
            let before = starts.len();
            for (start, end) in time.into_iter().flat_map(|time| windows_of(time, unit, self.window)) {
                let (Ok(start), Ok(end)) = (i64::try_from(start), i64::try_from(end)) else {
                    return Err(Error::new(ErrorKind::Data, "a window's bound lies beyond what a timestamp can say"));
                };
                starts.push(start);
                ends.push(end);
            }
            lengths.push(starts.len() - before);
        }
        let bound = |numbers: Vec<i64>| cast(&Int64Array::from(numbers), &data_type);
        let windows = StructArray::try_new(bounds(&data_type), vec![bound(starts)?, bound(ends)?], None)?;
        let nulls = numbers.nulls().map(|nulls| NullBuffer::new(nulls.inner().clone()));
        let list = ListArray::try_new(item(&data_type), OffsetBuffer::from_lengths(lengths), Arc::new(windows), nulls)?;
        Ok(Arc::new(list))
    }
}
