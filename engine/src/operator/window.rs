//! Window: each row once for every window that covers its event time.
//!
//! A windowed aggregate does not need it (it works on slices); this operator serves everything else that reads from
//! `TUMBLE`, `HOP` or `CUMULATE`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use super::columns::compact;
use super::expression::batch;
use super::{Operator, Output, Step};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::WindowSpec;

/// Rows of one piece of output.
const PIECE: usize = 8192;

/// Adds `window_start` and `window_end`; a row without event time is in no window. Stateless but for a delta that is
/// being expanded: output comes in pieces.
#[derive(Debug)]
pub struct Window {
    window: WindowSpec,
    time_column: usize,
    schema: SchemaRef,
    pending: Option<Expansion>,
}

/// A delta on its way.
#[derive(Debug)]
struct Expansion {
    delta: Delta,
    /// Event times in microseconds.
    times: PrimitiveArray<Int64Type>,
    /// The next row.
    row: usize,
    /// How many of its windows were emitted.
    windows: i64,
}

impl Window {
    /// Windows over column `time_column` of the input; `schema` is the input's and two timestamps.
    pub fn new(window: WindowSpec, time_column: usize, schema: SchemaRef) -> Result<Self> {
        if schema.fields().len() < 2 || time_column + 2 >= schema.fields().len() {
            return Err(Error::internal("a window's output is its input, window_start and window_end"));
        }
        Ok(Self { window, time_column, schema, pending: None })
    }

    fn expand(&mut self, out: &mut Output) -> Result<Step> {
        while let Some(mut expansion) = self.pending.take() {
            let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            while expansion.row < expansion.delta.num_rows() && rows.len() < PIECE {
                if expansion.times.is_valid(expansion.row) {
                    let covering = Covering::of(self.window, expansion.times.value(expansion.row))?;
                    while expansion.windows < covering.count && rows.len() < PIECE {
                        let (start, end) = covering.window(expansion.windows)?;
                        rows.push(expansion.row as u32);
                        starts.push(start);
                        ends.push(end);
                        expansion.windows += 1;
                    }
                    if expansion.windows < covering.count {
                        break;
                    }
                }
                expansion.row += 1;
                expansion.windows = 0;
            }
            let finished = expansion.row == expansion.delta.num_rows();
            if !rows.is_empty() {
                out.push(self.piece(&expansion.delta, rows, starts, ends)?);
            }
            if !finished {
                self.pending = Some(expansion);
                if out.exhausted() {
                    return Ok(Step::Yield);
                }
            }
        }
        Ok(Step::Done)
    }

    /// Every row is in exactly one window: the columns stay as they are.
    fn tumble(&self, delta: Delta, times: &PrimitiveArray<Int64Type>) -> Result<Delta> {
        let mut starts = Vec::with_capacity(times.len());
        let mut ends = Vec::with_capacity(times.len());
        let (mut start, mut end) = (i64::MAX, i64::MIN);
        for time in times.values() {
            // Most rows are in the window of the row before.
            if *time < start || *time >= end {
                (start, end) = Covering::of(self.window, *time)?.window(0)?;
            }
            starts.push(start);
            ends.push(end);
        }
        let count = times.len();
        let (rows, weights) = delta.into_parts();
        let mut columns = rows.columns().to_vec();
        for bounds in [starts, ends] {
            let target = self.schema.field(columns.len()).data_type();
            columns.push(from_micros(bounds, target)?);
        }
        Ok(Delta::new(batch(&self.schema, columns, count)?, weights))
    }

    fn piece(&self, delta: &Delta, rows: Vec<u32>, starts: Vec<i64>, ends: Vec<i64>) -> Result<Delta> {
        let count = rows.len();
        let rows = UInt32Array::from(rows);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for column in delta.rows().columns() {
            columns.push(compact(&take(column, &rows, None)?)?);
        }
        for bounds in [starts, ends] {
            let target = self.schema.field(columns.len()).data_type();
            columns.push(from_micros(bounds, target)?);
        }
        let weights = match delta.weights() {
            Some(weights) => Some(take(weights, &rows, None)?.as_primitive::<Int64Type>().clone()),
            None => None,
        };
        Ok(Delta::new(batch(&self.schema, columns, count)?, weights))
    }
}

impl Operator for Window {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let times = to_micros(delta.rows().column(self.time_column))?;
        if matches!(self.window, WindowSpec::Tumble { .. }) && times.null_count() == 0 {
            out.push(self.tumble(delta, &times)?);
            return Ok(Step::Done);
        }
        self.pending = Some(Expansion { delta, times, row: 0, windows: 0 });
        self.expand(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.expand(out)
    }
}

/// The windows that cover one moment: `count` of them, each `start + n·start_step .. end + n·end_step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Covering {
    start: i128,
    start_step: i128,
    end: i128,
    end_step: i128,
    count: i64,
}

impl Covering {
    /// The windows over event time `at` (microseconds), earliest first.
    fn of(window: WindowSpec, at: i64) -> Result<Self> {
        let at = i128::from(at);
        let wide = |length: i64| -> Result<i128> {
            if length > 0 { Ok(length.into()) } else { Err(Error::internal("a window's length is positive")) }
        };
        Ok(match window {
            WindowSpec::Tumble { size, offset } => {
                let (size, offset) = (wide(size)?, i128::from(offset));
                let start = offset + (at - offset).div_euclid(size) * size;
                Self { start, start_step: 0, end: start + size, end_step: 0, count: 1 }
            }
            WindowSpec::Hop { slide, size, offset } => {
                let (slide, size, offset) = (wide(slide)?, wide(size)?, i128::from(offset));
                let last = (at - offset).div_euclid(slide);
                // The first window that has not ended: its start is the first multiple above `at − size`.
                let first = (at - offset - size).div_euclid(slide) + 1;
                let start = offset + first * slide;
                let count = i64::try_from(last - first + 1).unwrap_or(i64::MAX).max(0);
                Self { start, start_step: slide, end: start + size, end_step: slide, count }
            }
            WindowSpec::Cumulate { step, size, offset } => {
                let (step, size, offset) = (wide(step)?, wide(size)?, i128::from(offset));
                let start = offset + (at - offset).div_euclid(size) * size;
                let passed = (at - start).div_euclid(step);
                let count = i64::try_from(size / step - passed).unwrap_or(i64::MAX).max(0);
                Self { start, start_step: 0, end: start + (passed + 1) * step, end_step: step, count }
            }
        })
    }

    fn window(&self, number: i64) -> Result<(i64, i64)> {
        let number = i128::from(number);
        let bound = |at: i128| i64::try_from(at).map_err(|_| out_of_range());
        Ok((bound(self.start + number * self.start_step)?, bound(self.end + number * self.end_step)?))
    }
}

fn out_of_range() -> Error {
    Error::new(ErrorKind::Data, "an event time lies outside the range of timestamps that windows can have")
        .with_hint("Filter such rows out before the window, for example with WHERE … > '1970-01-01'.")
}

/// Event times in microseconds, rounded down.
pub(crate) fn to_micros(column: &ArrayRef) -> Result<PrimitiveArray<Int64Type>> {
    let DataType::Timestamp(unit, _) = column.data_type() else {
        return Err(Error::internal(format!("an event time is a timestamp, this one is {}", column.data_type())));
    };
    let ticks = cast(column, &DataType::Int64)?;
    let ticks = ticks.as_primitive::<Int64Type>();
    let scaled =
        |factor: i64| ticks.try_unary::<_, Int64Type, Error>(|tick| tick.checked_mul(factor).ok_or_else(out_of_range));
    match unit {
        TimeUnit::Second => scaled(1_000_000),
        TimeUnit::Millisecond => scaled(1_000),
        TimeUnit::Microsecond => Ok(ticks.clone()),
        TimeUnit::Nanosecond => Ok(ticks.unary(|tick| tick.div_euclid(1_000))),
    }
}

/// Timestamps of type `target` from microseconds.
fn from_micros(micros: Vec<i64>, target: &DataType) -> Result<ArrayRef> {
    fn build<T: ArrowTimestampType>(ticks: Vec<i64>, zone: Option<Arc<str>>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter_values(ticks).with_timezone_opt(zone))
    }
    let DataType::Timestamp(unit, zone) = target else {
        return Err(Error::internal(format!("a window's bounds are timestamps, not {target}")));
    };
    let zone = zone.clone();
    Ok(match unit {
        TimeUnit::Second => {
            build::<TimestampSecondType>(micros.into_iter().map(|at| at.div_euclid(1_000_000)).collect(), zone)
        }
        TimeUnit::Millisecond => {
            build::<TimestampMillisecondType>(micros.into_iter().map(|at| at.div_euclid(1_000)).collect(), zone)
        }
        TimeUnit::Microsecond => build::<TimestampMicrosecondType>(micros, zone),
        TimeUnit::Nanosecond => {
            let ticks = micros.into_iter().map(|at| at.checked_mul(1_000).ok_or_else(out_of_range));
            build::<TimestampNanosecondType>(ticks.collect::<Result<_>>()?, zone)
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, TimestampMillisecondArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn windows(window: WindowSpec, at: i64) -> Vec<(i64, i64)> {
        let covering = Covering::of(window, at).unwrap();
        (0..covering.count).map(|n| covering.window(n).unwrap()).collect()
    }

    #[test]
    fn windows_cover_their_rows() {
        let tumble = WindowSpec::Tumble { size: 10, offset: 3 };
        assert_eq!(windows(tumble, 3), [(3, 13)]);
        assert_eq!(windows(tumble, 2), [(-7, 3)]);
        let hop = WindowSpec::Hop { slide: 4, size: 10, offset: 0 };
        assert_eq!(windows(hop, 9), [(0, 10), (4, 14), (8, 18)]);
        assert_eq!(windows(hop, 10), [(4, 14), (8, 18)]);
        let gaps = WindowSpec::Hop { slide: 10, size: 4, offset: 0 };
        assert_eq!(windows(gaps, 3), [(0, 4)]);
        assert_eq!(windows(gaps, 4), []);
        assert_eq!(windows(gaps, -7), [(-10, -6)]);
        let cumulate = WindowSpec::Cumulate { step: 5, size: 15, offset: 0 };
        assert_eq!(windows(cumulate, 0), [(0, 5), (0, 10), (0, 15)]);
        assert_eq!(windows(cumulate, 14), [(0, 15)]);
        assert_eq!(windows(cumulate, -1), [(-15, 0)]);
    }

    #[test]
    fn every_window_is_the_definition() {
        for at in -40..40 {
            for slide in 1..7 {
                for size in 1..15 {
                    let expected: Vec<_> = (-100..100)
                        .map(|n| (n * slide + 1, n * slide + 1 + size))
                        .filter(|(start, end)| *start <= at && at < *end)
                        .collect();
                    assert_eq!(windows(WindowSpec::Hop { slide, size, offset: 1 }, at), expected);
                }
            }
        }
    }

    fn operator(window: WindowSpec) -> (Window, SchemaRef) {
        let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
        let input: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("at", millis.clone(), true)]));
        let mut fields: Vec<_> = input.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new("window_start", millis.clone(), true));
        fields.push(Field::new("window_end", millis, true));
        (Window::new(window, 1, Arc::new(Schema::new(fields))).unwrap(), input)
    }

    #[test]
    fn tumbling_rows_stay_as_they_are() {
        let (mut window, input) = operator(WindowSpec::Tumble { size: 1_000_000, offset: 250_000 });
        let times = [0, 249, 250, 1_249, 1_250, 700, -751, -750];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..8)),
            Arc::new(TimestampMillisecondArray::from_iter_values(times)),
        ];
        let rows = batch(&input, columns, 8).unwrap();
        let weights = Int64Array::from(vec![1, -1, 2, 1, 1, 1, 1, 1]);
        let mut out = Output::default();
        let _ = window.on_delta(0, Delta::weighted(rows.clone(), weights.clone()), &mut out).unwrap();
        let (deltas, _) = out.take();
        assert_eq!(deltas[0].weights(), Some(&weights));
        assert_eq!(deltas[0].rows().columns()[..2], rows.columns()[..]);
        let bounds = |column: usize| deltas[0].rows().column(column).as_primitive::<TimestampMillisecondType>().clone();
        assert_eq!(bounds(2).values(), &[-750, -750, 250, 250, 1_250, 250, -1_750, -750]);
        assert_eq!(bounds(3).values(), &[250, 250, 1_250, 1_250, 2_250, 1_250, -750, 250]);
    }

    #[test]
    fn a_large_expansion_comes_in_pieces_with_its_weights() {
        let (mut window, input) = operator(WindowSpec::Hop { slide: 1_000, size: 1_000_000, offset: 0 });
        let rows = batch(
            &input,
            vec![
                Arc::new(Int64Array::from_iter_values(0..500)),
                Arc::new(TimestampMillisecondArray::from_iter((0..500).map(|n| if n == 7 { None } else { Some(n) }))),
            ],
            500,
        )
        .unwrap();
        let weights = Int64Array::from_iter_values((0..500).map(|n| n + 1));
        let mut out = Output::default();
        let mut step = window.on_delta(0, Delta::weighted(rows, weights), &mut out).unwrap();
        let (mut total, mut weight, mut calls) = (0, 0, 0);
        loop {
            let (deltas, _) = out.take();
            let emitted: usize = deltas.iter().map(Delta::num_rows).sum();
            assert!(emitted <= Output::FUEL + PIECE);
            total += emitted;
            weight += deltas.iter().map(|d| d.weights().unwrap().values().iter().sum::<i64>()).sum::<i64>();
            calls += 1;
            if step == Step::Done {
                break;
            }
            step = window.resume(&mut out).unwrap();
        }
        assert_eq!(total, 499 * 1000);
        assert_eq!(weight, (500 * 501 / 2 - 8) * 1000);
        assert!(calls > 10);
    }

    #[test]
    fn an_event_time_out_of_range_is_an_error() {
        let (mut window, input) = operator(WindowSpec::Tumble { size: 60_000_000, offset: 0 });
        let rows = batch(
            &input,
            vec![Arc::new(Int64Array::from(vec![1])), Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]))],
            1,
        )
        .unwrap();
        let error = window.on_delta(0, Delta::append(rows), &mut Output::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
