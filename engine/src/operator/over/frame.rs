//! Frames: which rows of its partition a window function sees from each row, and which rows see a change.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::scalar::ScalarValue;

use super::codec::{RowCodec, bytes_of};
use super::partition::{Changed, Partition};
use crate::error::{Error, Result};

/// A frame: `ROWS | RANGE | GROUPS BETWEEN start AND end`.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    units: WindowFrameUnits,
    start: Bound,
    end: Bound,
}

/// A bound of a frame.
#[derive(Debug, Clone)]
enum Bound {
    Unbounded,
    Current,
    Preceding(Distance),
    Following(Distance),
}

/// How far a bound is from the current row.
#[derive(Debug, Clone)]
enum Distance {
    /// In rows, or in groups of peers.
    Count(usize),
    /// In values of the ORDER BY.
    Value(ScalarValue),
}

/// On which side of the current row a bound is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    Behind,
}

impl Frame {
    pub(super) fn new(frame: &WindowFrame) -> Result<Self> {
        let bound = |bound: &WindowFrameBound| {
            let distance = |value: &ScalarValue| match (frame.units, value) {
                (WindowFrameUnits::Range, value) => Ok(Distance::Value(value.clone())),
                (_, ScalarValue::UInt64(Some(count))) => {
                    Ok(Distance::Count(usize::try_from(*count).unwrap_or(usize::MAX)))
                }
                (_, other) => Err(Error::internal(format!("a frame ends {other} rows away"))),
            };
            Ok::<_, Error>(match bound {
                bound if bound.is_unbounded() => Bound::Unbounded,
                WindowFrameBound::CurrentRow => Bound::Current,
                WindowFrameBound::Preceding(value) => Bound::Preceding(distance(value)?),
                WindowFrameBound::Following(value) => Bound::Following(distance(value)?),
            })
        };
        Ok(Self { units: frame.units, start: bound(&frame.start_bound)?, end: bound(&frame.end_bound)? })
    }

    /// Whether it begins at the partition's first row.
    pub(super) fn is_from_first(&self) -> bool {
        matches!(self.start, Bound::Unbounded)
    }

    /// Whether it ends at the partition's last row.
    pub(super) fn is_to_last(&self) -> bool {
        matches!(self.end, Bound::Unbounded)
    }

    /// Whether the current row is in it.
    pub(super) fn has_current(&self) -> bool {
        !matches!((&self.start, &self.end), (Bound::Following(_), _) | (_, Bound::Preceding(_)))
    }

    /// Whether it ends at the current row or before it, however many peers that has.
    pub(super) fn looks_back(&self) -> bool {
        self.units == WindowFrameUnits::Rows && matches!(self.end, Bound::Current | Bound::Preceding(_))
    }

    /// The frames of the rows of a span.
    pub(super) fn of(&self, partition: &Partition, span: Range<usize>, codec: &RowCodec) -> Result<Vec<Range<usize>>> {
        if self.is_from_first() && self.is_to_last() {
            return Ok(vec![0..partition.len(); span.len()]);
        }
        let frames: Vec<Range<usize>> = match self.units {
            WindowFrameUnits::Rows => span.map(|at| self.rows(partition.len(), at)).collect(),
            WindowFrameUnits::Groups => by_peers(partition, span, |peers| self.groups(partition, peers)),
            WindowFrameUnits::Range if self.has_distance() => self.distant(partition, span, codec)?,
            WindowFrameUnits::Range => by_peers(partition, span, |peers| {
                let start = if self.is_from_first() { 0 } else { peers.start };
                let end = if self.is_to_last() { partition.len() } else { peers.end };
                start..end
            }),
        };
        Ok(frames.into_iter().map(|frame| frame.start.min(frame.end)..frame.end).collect())
    }

    fn has_distance(&self) -> bool {
        [&self.start, &self.end].iter().any(|bound| matches!(bound, Bound::Preceding(_) | Bound::Following(_)))
    }

    fn rows(&self, len: usize, at: usize) -> Range<usize> {
        let start = match &self.start {
            Bound::Unbounded => 0,
            Bound::Current => at,
            Bound::Preceding(by) => at.saturating_sub(by.count()),
            Bound::Following(by) => at.saturating_add(by.count()).min(len),
        };
        let end = match &self.end {
            Bound::Unbounded => len,
            Bound::Current => at + 1,
            Bound::Preceding(by) => (at + 1).saturating_sub(by.count()),
            Bound::Following(by) => at.saturating_add(by.count()).saturating_add(1).min(len),
        };
        start..end
    }

    fn groups(&self, partition: &Partition, peers: Range<usize>) -> Range<usize> {
        let start = match &self.start {
            Bound::Unbounded => 0,
            Bound::Current => peers.start,
            Bound::Preceding(by) => groups_back(partition, peers.start, by.count()).0,
            Bound::Following(by) => groups_on(partition, peers.start, by.count()),
        };
        let end = match &self.end {
            Bound::Unbounded => partition.len(),
            Bound::Current => peers.end,
            Bound::Preceding(by) => match groups_back(partition, peers.start, by.count()) {
                (start, 0) => partition.peers_end(start),
                _ => 0,
            },
            Bound::Following(by) => groups_on(partition, peers.end, by.count()),
        };
        start..end
    }

    /// RANGE with a distance: the ORDER BY value moved, and looked up.
    fn distant(&self, partition: &Partition, span: Range<usize>, codec: &RowCodec) -> Result<Vec<Range<usize>>> {
        let orders = partition.range(span.clone()).map(|entry| entry.order());
        let values = codec.order_values(orders)?;
        let starts = match &self.start {
            Bound::Unbounded => vec![0; span.len()],
            Bound::Current => span.clone().map(|at| partition.peers_start(at)).collect(),
            Bound::Preceding(by) => by.edges(partition, codec, &values, Side::Before, false)?,
            Bound::Following(by) => by.edges(partition, codec, &values, Side::Behind, false)?,
        };
        let ends = match &self.end {
            Bound::Unbounded => vec![partition.len(); span.len()],
            Bound::Current => span.map(|at| partition.peers_end(at)).collect(),
            Bound::Preceding(by) => by.edges(partition, codec, &values, Side::Before, true)?,
            Bound::Following(by) => by.edges(partition, codec, &values, Side::Behind, true)?,
        };
        Ok(starts.into_iter().zip(ends).map(|(start, end)| start..end).collect())
    }

    /// The rows before this one are final: of the rows before `come` none is missing, and `time` is the first moment of
    /// which some may be.
    pub(super) fn final_until(
        &self,
        partition: &Partition,
        come: usize,
        time: &ArrayRef,
        codec: &RowCodec,
    ) -> Result<usize> {
        Ok(match (&self.end, self.units) {
            (Bound::Unbounded, _) => 0,
            (Bound::Current | Bound::Preceding(_), _) => come,
            (Bound::Following(by), WindowFrameUnits::Rows) => come.saturating_sub(by.count()),
            (Bound::Following(by), WindowFrameUnits::Groups) => groups_back(partition, come, by.count()).0,
            (Bound::Following(by), WindowFrameUnits::Range) => {
                first(by.edges(partition, codec, time, Side::Before, false)?)
            }
        })
    }

    /// The first row that the frames of rows from `at` on reach; these have a time not before `time`.
    pub(super) fn needed_from(
        &self,
        partition: &Partition,
        at: usize,
        time: &ArrayRef,
        codec: &RowCodec,
    ) -> Result<usize> {
        Ok(match (&self.start, self.units) {
            (Bound::Unbounded, _) => 0,
            (Bound::Current | Bound::Following(_), WindowFrameUnits::Rows) => at,
            (Bound::Current | Bound::Following(_), _) => partition.peers_start(at),
            (Bound::Preceding(by), WindowFrameUnits::Rows) => at.saturating_sub(by.count()),
            (Bound::Preceding(by), WindowFrameUnits::Groups) => {
                groups_back(partition, partition.peers_start(at), by.count()).0
            }
            (Bound::Preceding(by), WindowFrameUnits::Range) => {
                first(by.edges(partition, codec, time, Side::Before, false)?)
            }
        })
    }

    /// How far it reaches behind the current row's time, in microseconds.
    pub(super) fn micros_ahead(&self) -> Option<i64> {
        match &self.end {
            Bound::Following(by) => by.micros(),
            _ => None,
        }
    }

    /// How far it reaches before the current row's time, in microseconds.
    pub(super) fn micros_back(&self) -> Option<i64> {
        match &self.start {
            Bound::Preceding(by) => by.micros(),
            _ => None,
        }
    }

    /// The rows whose frames may have changed.
    pub(super) fn reach(&self, partition: &Partition, change: &Changed, codec: &RowCodec) -> Result<Range<usize>> {
        let (first, last) = match self.units {
            WindowFrameUnits::Rows => (change.at, change.at + change.came),
            _ => (partition.lower(&change.order), partition.upper(&change.order)),
        };
        let value = |by: &Distance, side| {
            let values = codec.order_values(std::iter::once(&*change.order))?;
            let edges = by.edges(partition, codec, &values, side, side == Side::Behind)?;
            Ok::<_, Error>(edges.first().copied().unwrap_or(0))
        };
        let from = match (&self.end, self.units) {
            (Bound::Unbounded, _) => 0,
            (Bound::Current | Bound::Preceding(_), _) => first,
            (Bound::Following(by), WindowFrameUnits::Rows) => first.saturating_sub(by.count()),
            (Bound::Following(by), WindowFrameUnits::Groups) => groups_back(partition, first, by.count()).0,
            (Bound::Following(by), WindowFrameUnits::Range) => value(by, Side::Before)?,
        };
        let to = match (&self.start, self.units) {
            (Bound::Unbounded, _) => partition.len(),
            (Bound::Current | Bound::Following(_), _) => last,
            (Bound::Preceding(by), WindowFrameUnits::Rows) => last.saturating_add(by.count()).min(partition.len()),
            (Bound::Preceding(by), WindowFrameUnits::Groups) => groups_on(partition, last, by.count()),
            (Bound::Preceding(by), WindowFrameUnits::Range) => value(by, Side::Behind)?,
        };
        Ok(from.min(first)..to.max(last))
    }
}

fn first(edges: Vec<usize>) -> usize {
    edges.first().copied().unwrap_or(0)
}

impl Distance {
    /// A length of time in microseconds, a month as its longest.
    fn micros(&self) -> Option<i64> {
        let Distance::Value(value) = self else { return None };
        let days = |days: i64| days.saturating_mul(86_400_000_000);
        Some(match value {
            ScalarValue::IntervalMonthDayNano(Some(by)) => {
                days(i64::from(by.months) * 31 + i64::from(by.days)).saturating_add(by.nanoseconds / 1_000 + 1)
            }
            ScalarValue::IntervalDayTime(Some(by)) => {
                days(i64::from(by.days)).saturating_add(i64::from(by.milliseconds) * 1_000)
            }
            ScalarValue::IntervalYearMonth(Some(months)) => days(i64::from(*months) * 31),
            _ => return None,
        })
    }

    fn count(&self) -> usize {
        match self {
            Distance::Count(count) => *count,
            Distance::Value(_) => 0,
        }
    }

    /// Where the values, moved by this distance to one side, stand in the partition: before the rows equal to them, or
    /// behind them. What lies beyond the type's values is the partition's end.
    fn edges(
        &self,
        partition: &Partition,
        codec: &RowCodec,
        values: &ArrayRef,
        side: Side,
        behind: bool,
    ) -> Result<Vec<usize>> {
        let Distance::Value(by) = self else { return Err(Error::internal("a RANGE frame counts rows")) };
        let later = (side == Side::Behind) != codec.is_descending();
        let mut moved = Vec::with_capacity(values.len());
        let mut beyond = Vec::with_capacity(values.len());
        for row in 0..values.len() {
            let value = ScalarValue::try_from_array(values, row)?;
            let target = match later {
                _ if value.is_null() => Ok(value.clone()),
                true => value.add_checked(by),
                // The types agree, so that this is zero.
                false if value.is_unsigned() && value < *by => value.sub(&value),
                false => value.sub_checked(by),
            };
            beyond.push(target.is_err());
            moved.push(target.unwrap_or(value));
        }
        if moved.is_empty() {
            return Ok(Vec::new());
        }
        let rows = codec.encode_order(&ScalarValue::iter_to_array(moved)?)?;
        let edge = |(row, beyond): (usize, bool)| {
            let order = bytes_of(rows.as_ref(), row);
            match (beyond, side) {
                (true, Side::Before) => 0,
                (true, Side::Behind) => partition.len(),
                _ if behind => partition.upper(order),
                _ => partition.lower(order),
            }
        };
        Ok(beyond.into_iter().enumerate().map(edge).collect())
    }
}

/// Per row of a span what is the same for all its peers.
fn by_peers(
    partition: &Partition,
    span: Range<usize>,
    frame: impl Fn(Range<usize>) -> Range<usize>,
) -> Vec<Range<usize>> {
    let mut frames: Vec<Range<usize>> = Vec::with_capacity(span.len());
    let mut peers = 0..0;
    for at in span {
        if frames.is_empty() || at >= peers.end {
            peers = partition.peers_start(at)..partition.peers_end(at);
            frames.push(frame(peers.clone()));
        } else if let Some(same) = frames.last().cloned() {
            frames.push(same);
        }
    }
    frames
}

/// The first row of the group `count` groups before the one that begins at `at`; and how many groups are missing.
fn groups_back(partition: &Partition, mut at: usize, count: usize) -> (usize, usize) {
    for left in (0..count).rev() {
        if at == 0 {
            return (0, left + 1);
        }
        at = partition.peers_start(at - 1);
    }
    (at, 0)
}

/// The first row behind `count` groups from `at` on.
fn groups_on(partition: &Partition, mut at: usize, count: usize) -> usize {
    for _ in 0..count {
        if at >= partition.len() {
            break;
        }
        at = partition.peers_end(at);
    }
    at
}
