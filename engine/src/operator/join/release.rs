//! What lets rows of a join's side go: a time below which the other side has promised that nothing will meet them.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};

use crate::error::{Error, Result};
use crate::plan::SideRelease;
use crate::time::Watermarks;

/// How rows of one side are let go, and how far that has come.
#[derive(Debug)]
pub(super) struct Release {
    /// This side's time column.
    pub(super) column: usize,
    unit: TimeUnit,
    /// The other side's.
    other_column: usize,
    other_unit: TimeUnit,
    spec: SideRelease,
    /// Rows of this side whose time, in ticks of its column, lies below can't meet any other any more.
    pub(super) released_below: i64,
    /// Rows of the *other* side whose time, in ticks of their column, lies below come too late.
    pub(super) late_below: i64,
}

impl Release {
    /// The release of a side with columns `schema`, whose other side has columns `other`.
    pub(super) fn new(spec: SideRelease, schema: &Schema, other: &Schema) -> Option<Self> {
        let unit = time_unit(schema.field(spec.column).data_type())?;
        let other_unit = time_unit(other.field(spec.other_column).data_type())?;
        Some(Self {
            column: spec.column,
            unit,
            other_column: spec.other_column,
            other_unit,
            spec,
            released_below: i64::MIN,
            late_below: i64::MIN,
        })
    }

    /// Moves on to where the watermarks stand. Answers whether there may be rows to let go.
    pub(super) fn advance(&mut self, watermarks: &Watermarks) -> bool {
        let reached =
            self.spec.promises.iter().filter_map(|(id, delay)| watermarks.get(*id).map(|at| less(at, *delay)));
        let Some(promised) = reached.max() else { return false };
        self.late_below = self.late_below.max(first_tick_at(promised, self.other_unit));
        let below = first_tick_at(less(promised, self.spec.reach_micros), self.unit);
        let moved = below > self.released_below;
        self.released_below = self.released_below.max(below);
        moved
    }

    /// Which of this side's rows may still meet another; `None`: all.
    pub(super) fn useful(&self, columns: &[ArrayRef]) -> Result<Option<BooleanArray>> {
        not_below(&columns[self.column], self.released_below)
    }

    /// Which of the *other* side's rows are not late: rows of this side that they could meet may be gone. `None`: all.
    pub(super) fn on_time(&self, others: &[ArrayRef]) -> Result<Option<BooleanArray>> {
        not_below(&others[self.other_column], self.late_below)
    }
}

/// A watermark less a length; the end of an input stays the end.
pub(in crate::operator) fn less(at: i64, by: i64) -> i64 {
    if at == i64::MAX { at } else { at.saturating_sub(by) }
}

fn not_below(times: &ArrayRef, below: i64) -> Result<Option<BooleanArray>> {
    if below == i64::MIN {
        return Ok(None);
    }
    let times = ticks(times)?;
    if arrow::compute::min(&times).is_none_or(|least| least >= below) {
        return Ok(None);
    }
    Ok(Some(times.iter().map(|time| Some(time.is_none_or(|time| time >= below))).collect()))
}

/// A time column's numbers, in its own unit.
pub(in crate::operator) fn ticks(column: &ArrayRef) -> Result<Int64Array> {
    let ticks = cast(column, &DataType::Int64)?;
    ticks
        .as_primitive_opt::<Int64Type>()
        .cloned()
        .ok_or_else(|| Error::internal(format!("a time column is a timestamp, not {}", column.data_type())))
}

/// The first tick of `unit` that does not lie below `micros`.
pub(in crate::operator) fn first_tick_at(micros: i64, unit: TimeUnit) -> i64 {
    let up = |length: i64| micros.div_euclid(length) + i64::from(micros.rem_euclid(length) > 0);
    match unit {
        _ if micros == i64::MAX => i64::MAX,
        TimeUnit::Second => up(1_000_000),
        TimeUnit::Millisecond => up(1_000),
        TimeUnit::Microsecond => micros,
        TimeUnit::Nanosecond => micros.saturating_mul(1_000),
    }
}

/// The unit of a time column, if it is one.
pub(in crate::operator) fn time_unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Timestamp(unit, _) => Some(*unit),
        _ => None,
    }
}
