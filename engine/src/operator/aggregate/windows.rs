//! The arithmetic of windows: which slice a time falls into, and which windows cover a slice.
//!
//! A *slice* is the longest stretch of time that no window's bound divides: all windows are unions of slices, so a row
//! goes into one slice however many windows cover it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};

use crate::error::{Error, Result};
use crate::plan::flow::WindowSpec;

/// A window: from its start up to, not including, its end, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    // The order of the fields is the order in which windows close.
    pub(super) end: i64,
    pub(super) start: i64,
}

/// See the [module](self).
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    spec: WindowSpec,
    slice: i64,
    offset: i64,
}

impl Windows {
    pub(super) fn new(spec: WindowSpec) -> Result<Self> {
        let (slice, offset, lengths) = match spec {
            WindowSpec::Tumble { size, offset } => (size, offset, [size, size]),
            WindowSpec::Hop { slide, size, offset } => (gcd(slide, size), offset, [slide, size]),
            WindowSpec::Cumulate { step, size, offset } => (step, offset, [step, size]),
        };
        if lengths.iter().any(|length| *length <= 0) {
            return Err(Error::invalid("a window's lengths must be positive"));
        }
        if let WindowSpec::Cumulate { step, size, .. } = spec
            && size % step != 0
        {
            return Err(Error::invalid("the size of CUMULATE must be a multiple of its step"));
        }
        Ok(Self { spec, slice, offset })
    }

    /// Whether windows and slices are the same.
    pub(super) fn is_tumble(&self) -> bool {
        matches!(self.spec, WindowSpec::Tumble { .. })
    }

    /// Whether windows of one start contain one another.
    pub(super) fn is_cumulate(&self) -> bool {
        matches!(self.spec, WindowSpec::Cumulate { .. })
    }

    /// The start of the slice that holds `time`.
    pub(super) fn slice_of(&self, time: i64) -> i64 {
        self.floor(time, self.slice)
    }

    /// The end of the slice that starts at `slice`.
    pub(super) fn slice_end(&self, slice: i64) -> i64 {
        slice.saturating_add(self.slice)
    }

    /// The start of the windows of CUMULATE that hold `time`. All windows that cover what lies before it end by then.
    pub(super) fn start_of(&self, time: i64) -> i64 {
        match self.spec {
            WindowSpec::Cumulate { size, .. } => self.floor(time, size),
            _ => self.slice_of(time),
        }
    }

    fn floor(&self, time: i64, length: i64) -> i64 {
        let past = (i128::from(time) - i128::from(self.offset)).rem_euclid(i128::from(length));
        i64::try_from(i128::from(time) - past).unwrap_or(i64::MIN)
    }

    /// The windows that cover a slice, the last to close first.
    pub(super) fn covering(&self, slice: i64) -> impl Iterator<Item = Window> + use<> {
        let (first, step, count, cumulates) = match self.spec {
            WindowSpec::Tumble { size, .. } => (Window { start: slice, end: slice.saturating_add(size) }, 0, 1, false),
            WindowSpec::Hop { slide, size, .. } => {
                let start = self.floor(slice, slide);
                // Those that start at most `size` before the slice ends.
                let behind = slice.saturating_sub(start);
                let count = if size > behind { (size - behind - 1) / slide + 1 } else { 0 };
                (Window { start, end: start.saturating_add(size) }, slide, count, false)
            }
            WindowSpec::Cumulate { step, size, .. } => {
                let start = self.floor(slice, size);
                let end = start.saturating_add(size);
                (Window { start, end }, step, end.saturating_sub(slice) / step, true)
            }
        };
        (0..count).map(move |number| {
            let back = number.saturating_mul(step);
            let start = if cumulates { first.start } else { first.start.saturating_sub(back) };
            Window { start, end: first.end.saturating_sub(back) }
        })
    }

    /// The end of the last window that covers a slice; `None` if none does (hops longer than their windows).
    pub(super) fn last_end(&self, slice: i64) -> Option<i64> {
        self.covering(slice).next().map(|window| window.end)
    }

    /// Sorts rows by slice. Rows without a time are in none.
    pub(super) fn split(&self, times: &Int64Array) -> Vec<(i64, Part)> {
        let rows = times.len();
        if rows == 0 {
            return Vec::new();
        }
        if times.null_count() == 0 {
            let (least, greatest) =
                times.values().iter().fold((i64::MAX, i64::MIN), |(low, high), time| (low.min(*time), high.max(*time)));
            let slice = self.slice_of(least);
            if greatest < self.slice_end(slice) {
                return vec![(slice, Part::Run(0..rows))];
            }
        }
        let runs = self.runs(times);
        if runs.len() <= 4 + rows / 64 {
            return runs.into_iter().map(|(slice, run)| (slice, Part::Run(run))).collect();
        }
        let mut order: Vec<(i64, u32)> = Vec::with_capacity(rows);
        for (slice, run) in runs {
            order.extend(run.map(|row| (slice, row as u32)));
        }
        order.sort_by_key(|(slice, _)| *slice);
        order
            .chunk_by(|one, other| one.0 == other.0)
            .map(|chunk| (chunk[0].0, Part::Rows(chunk.iter().map(|(_, row)| *row).collect())))
            .collect()
    }

    /// Stretches of rows of one slice.
    fn runs(&self, times: &Int64Array) -> Vec<(i64, Range<usize>)> {
        let mut runs: Vec<(i64, Range<usize>)> = Vec::new();
        let (mut from, mut to) = (0, 0);
        for row in 0..times.len() {
            if times.is_null(row) {
                continue;
            }
            let time = times.value(row);
            if time < from || time >= to {
                from = self.slice_of(time);
                to = self.slice_end(from);
            }
            match runs.last_mut() {
                Some((slice, run)) if *slice == from && run.end == row => run.end += 1,
                _ => runs.push((from, row..row + 1)),
            }
        }
        runs
    }
}

/// Some rows of a batch.
#[derive(Debug)]
pub(super) enum Part {
    Run(Range<usize>),
    Rows(UInt32Array),
}

impl Part {
    pub(super) fn len(&self) -> usize {
        match self {
            Part::Run(run) => run.len(),
            Part::Rows(rows) => rows.len(),
        }
    }
}

fn gcd(one: i64, other: i64) -> i64 {
    let (mut one, mut other) = (one, other);
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one.abs()
}

/// A column of times as microseconds since 1970, rounded down; NULL where it is NULL.
pub(in crate::operator) fn micros(column: &ArrayRef) -> Result<Int64Array> {
    fn scaled<T: ArrowPrimitiveType<Native = i64>>(column: &ArrayRef, scale: impl Fn(i64) -> i64) -> Int64Array {
        column.as_primitive::<T>().unary::<_, Int64Type>(scale)
    }
    Ok(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().clone(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            scaled::<TimestampNanosecondType>(column, |time| time.div_euclid(1000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled::<TimestampMillisecondType>(column, |time| time.saturating_mul(1000))
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            scaled::<TimestampSecondType>(column, |time| time.saturating_mul(1_000_000))
        }
        DataType::Date32 | DataType::Date64 => {
            return micros(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?);
        }
        other => return Err(Error::internal(format!("a column of type {other} is not an event time"))),
    })
}

/// `count` times the instant `micros`, as a column of a timestamp's type.
pub(super) fn instant(micros: i64, count: usize, data_type: &DataType) -> Result<ArrayRef> {
    let (scaled, unit): (i64, _) = match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = micros.checked_mul(1000).ok_or_else(|| {
                Error::new(crate::ErrorKind::Data, "a window's bound does not fit a timestamp of nanoseconds")
            })?;
            (nanos, TimeUnit::Nanosecond)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => (micros.div_euclid(1000), TimeUnit::Millisecond),
        DataType::Timestamp(TimeUnit::Second, _) => (micros.div_euclid(1_000_000), TimeUnit::Second),
        _ => (micros, TimeUnit::Microsecond),
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from_value(scaled, count));
    let times = cast(&numbers, &DataType::Timestamp(unit, None))?;
    let DataType::Timestamp(_, Some(zone)) = data_type else {
        return Ok(if times.data_type() == data_type { times } else { cast(&times, data_type)? });
    };
    // Only the zone's name is put on: the instant stays.
    let data = times.to_data().into_builder().data_type(DataType::Timestamp(unit, Some(Arc::clone(zone)))).build()?;
    Ok(arrow::array::make_array(data))
}
