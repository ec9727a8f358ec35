//! The line on which an as-of join measures nearness.
//!
//! Every time and number becomes a place, so that the nearest right row is the *first* at or behind the left row's place:
//! ahead in time places run as times do, back in time against them.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};

use crate::error::Result;
use crate::operator::columns::canonical;
use crate::plan::flow::AsOfSide;

/// How times become places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    back: bool,
    strict: bool,
    /// Of the times, if they are timestamps.
    unit: Option<TimeUnit>,
}

/// Up to where time is over: all times below `time`, and at the end of the input all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) time: i64,
    pub(super) is_end: bool,
}

impl Limit {
    /// Whether a time lies below it.
    pub(super) fn has_passed(self, time: i64) -> bool {
        self.is_end || time < self.time
    }
}

impl Line {
    pub(super) fn new(side: AsOfSide, times: &DataType) -> Self {
        let unit = match times {
            DataType::Timestamp(unit, _) => Some(*unit),
            _ => None,
        };
        Self { back: side.is_back(), strict: side.is_strict(), unit }
    }

    pub(super) fn is_back(self) -> bool {
        self.back
    }

    /// The place of a time; and the time of a place.
    pub(super) fn place(self, time: i64) -> i64 {
        if self.back { !time } else { time }
    }

    /// The first place at which a right row may lie for a left row at `place`.
    pub(super) fn reach(self, place: i64) -> Option<i64> {
        if self.strict { place.checked_add(1) } else { Some(place) }
    }

    /// The last left place that reaches `place`.
    pub(super) fn reached_from(self, place: i64) -> Option<i64> {
        if self.strict { place.checked_sub(1) } else { Some(place) }
    }

    /// A watermark, in microseconds, as a limit of times.
    pub(super) fn limit(self, micros: i64) -> Limit {
        let up = |length: i64| micros.div_euclid(length) + i64::from(micros.rem_euclid(length) != 0);
        let time = match self.unit {
            Some(TimeUnit::Second) => up(1_000_000),
            Some(TimeUnit::Millisecond) => up(1_000),
            Some(TimeUnit::Nanosecond) => micros.saturating_mul(1_000),
            Some(TimeUnit::Microsecond) | None => micros,
        };
        Limit { time, is_end: micros == i64::MAX }
    }
}

/// The times of a column as numbers in the same order.
pub(super) fn times(column: &ArrayRef) -> Result<Int64Array> {
    let numbers = match column.data_type() {
        DataType::UInt64 => {
            let numbers = column.as_primitive::<UInt64Type>();
            return Ok(numbers.unary(|number| (number ^ (1 << 63)) as i64));
        }
        DataType::Float32 | DataType::Float64 => {
            let numbers = canonical(&cast(column, &DataType::Float64)?)?;
            return Ok(numbers.as_primitive::<Float64Type>().unary(|number| {
                let bits = number.to_bits() as i64;
                // Below zero the bits count the other way.
                bits ^ (((bits >> 63) as u64) >> 1) as i64
            }));
        }
        DataType::Date32 | DataType::Time32(_) => cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(column, &DataType::Int64)?,
    };
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Float32Array, Time32SecondArray, UInt64Array};

    use super::*;

    #[test]
    fn numbers_keep_their_order() {
        let columns: [ArrayRef; 4] = [
            Arc::new(UInt64Array::from(vec![0, 5, 1 << 63, u64::MAX])),
            Arc::new(Float32Array::from(vec![f32::NEG_INFINITY, -2.5, -0.0, 0.5, f32::INFINITY, f32::NAN])),
            Arc::new(Date32Array::from(vec![-3, 0, 40])),
            Arc::new(Time32SecondArray::from(vec![0, 1, 86_399])),
        ];
        for column in &columns {
            let times = times(column).unwrap();
            assert!(times.values().windows(2).all(|pair| pair[0] < pair[1]), "{column:?}");
        }
        let zeros: ArrayRef = Arc::new(Float32Array::from(vec![Some(0.0), Some(-0.0), None]));
        let zeros = times(&zeros).unwrap();
        assert_eq!((zeros.value(0), zeros.is_null(2)), (zeros.value(1), true));
    }

    #[test]
    fn a_limit_is_said_in_the_unit_of_the_times() {
        let limit = |unit, micros| {
            let line = Line::new(AsOfSide::Before, &DataType::Timestamp(unit, None));
            line.limit(micros).time
        };
        assert_eq!(limit(TimeUnit::Second, 1_500_000), 2);
        assert_eq!(limit(TimeUnit::Millisecond, -1_500), -1);
        assert_eq!(limit(TimeUnit::Microsecond, 7), 7);
        assert_eq!(limit(TimeUnit::Nanosecond, 7), 7_000);
        assert_eq!(limit(TimeUnit::Nanosecond, i64::MIN), i64::MIN);
    }
}
