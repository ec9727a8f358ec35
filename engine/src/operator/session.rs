//! SESSION windows: each row with the bounds of its session, which rows of one key share as long as each follows the one
//! before it by less than the gap.
//!
//! A session begins at its first row and ends a gap after its last. Rows that come may lengthen or join sessions, rows
//! that go may split them: the rows of the sessions at stake are shown anew at the end of the epoch, and nothing else.
//! With EMIT AFTER WATERMARK the rows of a session are shown once, when the watermark has passed its end.

mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::PhysicalExpr;

use super::aggregate::{Horizon, batch};
use super::columns::canonical;
use super::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::Emit;
use crate::state::marks::Marks;
use crate::state::row_numbers::{RowNumbers, UNWRITTEN};
use crate::state::slots::{Slot, Slots};
use crate::time::WatermarkId;

/// What a session operator is made of.
#[derive(Debug, Clone)]
pub struct SessionSpec {
    /// What rows have in common that share sessions, over the input.
    pub partition: Vec<Arc<dyn PhysicalExpr>>,
    /// The event-time column.
    pub time_column: usize,
    /// Rows so far apart, in microseconds, are of two sessions.
    pub gap_micros: i64,
    /// The time column's promise: (watermark, delay).
    pub watermark: Option<(WatermarkId, i64)>,
    /// When rows are shown.
    pub emit: Emit,
}

/// See the [module](self).
pub struct Session {
    spec: SessionSpec,
    unit: TimeUnit,
    /// In the time column's unit.
    gap: i64,
    horizon: Horizon,
    schema: SchemaRef,
    input: SchemaRef,
    converter: RowConverter,
    slots: Slots,
    keys: Vec<Key>,
    /// What came and went in this epoch.
    changes: BTreeMap<(Slot, Moment), i64>,
    /// Open sessions, the first to end first: (end, key, start).
    open: BTreeSet<(i64, Slot, i64)>,
    /// Where the horizon will be when the end of the epoch is over.
    ending: Option<i64>,
    shown: Vec<Shown>,
    /// Keys whose rows have changed since they were last written down; which ones, these know themselves.
    marks: Marks,
    numbers: RowNumbers,
    rows: usize,
    bytes: usize,
}

/// A row: its time, in the column's unit, and all its columns as bytes.
type Moment = (i64, Box<[u8]>);

/// What is known of one key.
#[derive(Default)]
struct Key {
    rows: BTreeMap<Moment, Count>,
    /// First row's time to last row's.
    sessions: BTreeMap<i64, i64>,
}

/// How often a row is there.
#[derive(Debug, Clone, Copy)]
struct Count {
    weight: i64,
    /// By which it was written down.
    number: u64,
    /// Whether the weight has changed since.
    changed: bool,
}

/// A row to be emitted, with its session's bounds and its weight.
struct Shown {
    row: Box<[u8]>,
    start: i64,
    end: i64,
    weight: i64,
}

/// Rows of one piece of output.
const PIECE: usize = 8192;

/// Bytes of a row beside its columns.
const BYTES: usize = size_of::<(Moment, Count)>();

impl Session {
    /// Sessions over rows of `input`; `schema` is the input's and two timestamps.
    pub fn new(spec: SessionSpec, input: &SchemaRef, schema: SchemaRef) -> Result<Self> {
        let time = input.fields().get(spec.time_column).map(|field| field.data_type());
        let Some(DataType::Timestamp(unit, _)) = time else {
            return Err(Error::internal("sessions are over a column of timestamps"));
        };
        let gap = match unit {
            TimeUnit::Second => spec.gap_micros / 1_000_000,
            TimeUnit::Millisecond => spec.gap_micros / 1_000,
            TimeUnit::Microsecond => spec.gap_micros,
            TimeUnit::Nanosecond => spec.gap_micros.checked_mul(1_000).ok_or_else(out_of_range)?,
        };
        let fields: Vec<SortField> =
            input.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::not_supported("SESSION remembers rows, and some of these columns cannot be compared")
                .with_hint("name the columns that you need in a subquery: SESSION((SELECT …), …)"));
        }
        let types = spec.partition.iter().map(|key| Ok(key.data_type(input)?)).collect::<Result<Vec<DataType>>>()?;
        Ok(Self {
            unit: *unit,
            gap,
            horizon: Horizon::new(spec.watermark),
            schema,
            input: Arc::clone(input),
            converter: RowConverter::new(fields)?,
            slots: Slots::new(&types)?,
            keys: Vec::new(),
            changes: BTreeMap::new(),
            open: BTreeSet::new(),
            ending: None,
            shown: Vec::new(),
            marks: Marks::default(),
            numbers: RowNumbers::default(),
            rows: 0,
            bytes: 0,
            spec,
        })
    }

    /// A time in microseconds, rounded down.
    fn micros(&self, time: i64) -> i64 {
        match self.unit {
            TimeUnit::Second => time.saturating_mul(1_000_000),
            TimeUnit::Millisecond => time.saturating_mul(1_000),
            TimeUnit::Microsecond => time,
            TimeUnit::Nanosecond => time.div_euclid(1_000),
        }
    }

    /// Whether the horizon has passed a moment: no row before it may still come.
    fn has_passed(&self, horizon: i64, time: i64) -> bool {
        let rounded_up = match self.unit {
            TimeUnit::Nanosecond => time.saturating_add(999).div_euclid(1_000),
            _ => self.micros(time),
        };
        rounded_up <= horizon
    }

    fn end(&self, last: i64) -> Result<i64> {
        last.checked_add(self.gap).ok_or_else(out_of_range)
    }

    /// Takes note of rows. Answers which came too late.
    fn take_in(&mut self, rows: &RecordBatch, weights: &Int64Array) -> Result<Vec<usize>> {
        let mut created = Vec::new();
        let moments = self.moments(rows, &mut created)?;
        let (mut dropped, mut touched) = (Vec::new(), BTreeSet::from_iter(created));
        for (row, (slot, moment)) in moments.into_iter().enumerate() {
            let Some(moment) = moment else { continue };
            if self.micros(moment.0) < self.horizon.at() {
                dropped.push(row);
                continue;
            }
            touched.remove(&slot);
            *self.changes.entry((slot, moment)).or_default() += weights.value(row);
        }
        let idle: Vec<Slot> = touched.into_iter().collect();
        self.slots.release(&idle);
        Ok(dropped)
    }

    /// The key of each row, and the row; one without a time is in no session. New keys are added to `created`.
    fn moments(&mut self, rows: &RecordBatch, created: &mut Vec<Slot>) -> Result<Vec<(Slot, Option<Moment>)>> {
        let count = rows.num_rows();
        let key = |key: &Arc<dyn PhysicalExpr>| Ok(key.evaluate(rows)?.into_array(count)?);
        let keys = self.spec.partition.iter().map(key).collect::<Result<Vec<ArrayRef>>>()?;
        let times = cast(rows.column(self.spec.time_column), &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let columns = rows.columns().iter().map(canonical).collect::<Result<Vec<_>>>()?;
        let bytes = self.converter.convert_columns(&columns)?;
        let mut slots = Vec::new();
        self.slots.intern(&keys, count, &mut slots, created)?;
        self.keys.resize_with(self.slots.bound(), Key::default);
        let moments = slots.into_iter().enumerate().map(|(row, slot)| {
            let moment = times.is_valid(row).then(|| (times.value(row), Box::from(bytes.row(row).data())));
            (slot, moment)
        });
        Ok(moments.collect())
    }

    /// Applies what changed for one key.
    fn change(&mut self, slot: Slot, changes: Vec<(Moment, i64)>) -> Result<()> {
        let gap = self.gap;
        let key = &mut self.keys[slot as usize];
        // The sessions at stake: those that a changed row is in or near.
        let mut old: BTreeMap<i64, i64> = BTreeMap::new();
        for ((time, _), _) in &changes {
            let near = key.sessions.range(..time.saturating_add(gap)).rev();
            old.extend(
                near.take_while(|(_, last)| last.saturating_add(gap) > *time).map(|(start, last)| (*start, *last)),
            );
        }
        // Their rows, and those that changed: how often each was there, and is.
        let mut rows: BTreeMap<Moment, (i64, i64)> = BTreeMap::new();
        for (start, last) in &old {
            let from = (*start, Box::<[u8]>::default());
            for (moment, count) in key.rows.range(from..).take_while(|((time, _), _)| time <= last) {
                rows.insert(moment.clone(), (count.weight, count.weight));
            }
        }
        for (moment, weight) in changes {
            let counts = rows.entry(moment).or_default();
            counts.1 += weight;
        }
        if rows.values().any(|(_, now)| *now < 0) {
            return Err(Error::internal("more rows of a session were taken back than had come"));
        }
        let new = sessions(rows.iter().filter(|(_, (_, now))| *now > 0).map(|((time, _), _)| *time), gap);
        for (moment, (before, now)) in rows.iter().filter(|(_, (before, now))| before != now) {
            let size = moment.1.len() + BYTES;
            match (*before, *now) {
                (_, 0) => {
                    let gone = key.rows.remove(moment);
                    self.numbers.leave(gone.map_or(UNWRITTEN, |count| count.number));
                    self.rows -= 1;
                    self.bytes -= size;
                }
                (0, weight) => {
                    key.rows.insert(moment.clone(), Count { weight, number: UNWRITTEN, changed: true });
                    self.rows += 1;
                    self.bytes += size;
                }
                (_, weight) => {
                    if let Some(count) = key.rows.get_mut(moment) {
                        (count.weight, count.changed) = (weight, true);
                    }
                }
            }
        }
        self.marks.mark(&[slot]);
        for (start, last) in &old {
            key.sessions.remove(start);
            self.open.remove(&(last.saturating_add(gap), slot, *start));
        }
        for (start, last) in &new {
            key.sessions.insert(*start, *last);
            self.open.insert((last.checked_add(gap).ok_or_else(out_of_range)?, slot, *start));
        }
        if key.rows.is_empty() {
            *key = Key::default();
            self.marks.unmark(&[slot]);
            self.slots.release(&[slot]);
        }
        if self.spec.emit == Emit::OnChange {
            self.show_changes(rows, &old, &new)?;
        }
        Ok(())
    }

    /// Emits what is otherwise about rows: how often they are there, and in which session.
    fn show_changes(
        &mut self,
        rows: BTreeMap<Moment, (i64, i64)>,
        old: &BTreeMap<i64, i64>,
        new: &BTreeMap<i64, i64>,
    ) -> Result<()> {
        let session = |sessions: &BTreeMap<i64, i64>, time: i64| {
            let found = sessions.range(..=time).next_back().filter(|(_, last)| **last >= time);
            found.map(|(start, last)| (*start, *last))
        };
        for ((time, row), (before, now)) in rows {
            let (was, is) = (session(old, time), session(new, time));
            let mut parts = if was == is { vec![(is, now - before)] } else { vec![(was, -before), (is, now)] };
            parts.retain(|(_, weight)| *weight != 0);
            for (bounds, weight) in parts {
                let (start, last) = bounds.ok_or_else(|| Error::internal("a row is in no session"))?;
                self.shown.push(Shown { row: row.clone(), start, end: self.end(last)?, weight });
            }
        }
        Ok(())
    }

    /// Forgets a session that is over, and emits its rows if they wait for that.
    fn close(&mut self, (end, slot, start): (i64, Slot, i64)) {
        let key = &mut self.keys[slot as usize];
        let Some(last) = key.sessions.remove(&start) else { return };
        let mut later = key.rows.split_off(&(start, Box::<[u8]>::default()));
        let rest = later.split_off(&(last.saturating_add(1), Box::<[u8]>::default()));
        key.rows.extend(rest);
        self.rows -= later.len();
        for ((_, row), Count { weight, number, .. }) in later {
            self.numbers.leave(number);
            self.bytes -= row.len() + BYTES;
            if self.spec.emit == Emit::AfterWatermark {
                self.shown.push(Shown { row, start, end, weight });
            }
        }
        if key.rows.is_empty() {
            *key = Key::default();
            self.marks.unmark(&[slot]);
            self.slots.release(&[slot]);
        }
    }

    /// Emits what waits to be emitted, in pieces.
    fn emit(&mut self, out: &mut Output) -> Result<()> {
        while !self.shown.is_empty() && !out.exhausted() {
            let rest = self.shown.split_off(self.shown.len().min(PIECE));
            let piece = std::mem::replace(&mut self.shown, rest);
            let mut columns = self.columns(piece.iter().map(|shown| shown.row.as_ref()))?;
            let bounds: [fn(&Shown) -> i64; 2] = [|shown| shown.start, |shown| shown.end];
            let fields = self.schema.fields().iter().skip(columns.len());
            let times = fields.zip(bounds).map(|(field, bound)| {
                Ok(cast(&Int64Array::from_iter_values(piece.iter().map(bound)), field.data_type())?)
            });
            let times = times.collect::<Result<Vec<_>>>()?;
            columns.extend(times);
            let rows = batch(&self.schema, columns, piece.len())?;
            out.push(match self.spec.emit {
                Emit::OnChange => {
                    Delta::weighted(rows, piece.iter().map(|shown| shown.weight).collect::<Vec<_>>().into())
                }
                Emit::AfterWatermark => Delta::append(repeated(rows, &piece)?),
            });
        }
        Ok(())
    }

    /// Rows as columns of the input.
    fn columns<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(rows.map(|row| parser.parse(row)))?)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        while let Some(horizon) = self.ending {
            self.emit(out)?;
            if out.exhausted() {
                return Ok(Step::Yield);
            }
            if let Some(((slot, _), _)) = self.changes.first_key_value() {
                let slot = *slot;
                let rest = match slot.checked_add(1) {
                    Some(next) => self.changes.split_off(&(next, (i64::MIN, Box::<[u8]>::default()))),
                    None => BTreeMap::new(),
                };
                let changes = std::mem::replace(&mut self.changes, rest).into_iter();
                self.change(slot, changes.map(|((_, moment), weight)| (moment, weight)).collect())?;
                continue;
            }
            match self.open.first().copied() {
                Some(session) if self.has_passed(horizon, session.0) => {
                    self.open.remove(&session);
                    self.close(session);
                }
                _ if self.shown.is_empty() => {
                    self.horizon.advance(horizon);
                    self.ending = None;
                }
                _ => {}
            }
        }
        Ok(Step::Done)
    }
}

/// The sessions of rows at these times, which ascend: the first row's time to the last row's.
fn sessions(times: impl Iterator<Item = i64>, gap: i64) -> BTreeMap<i64, i64> {
    let mut sessions: BTreeMap<i64, i64> = BTreeMap::new();
    for time in times {
        match sessions.last_entry() {
            Some(mut session) if time < session.get().saturating_add(gap) => *session.get_mut() = time,
            _ => {
                sessions.insert(time, time);
            }
        }
    }
    sessions
}

/// Rows as often as they are there: without weights.
fn repeated(rows: RecordBatch, shown: &[Shown]) -> Result<RecordBatch> {
    if shown.iter().all(|shown| shown.weight == 1) {
        return Ok(rows);
    }
    let places = shown.iter().enumerate();
    let places = places.flat_map(|(row, shown)| std::iter::repeat_n(row as u64, shown.weight.max(0) as usize));
    Ok(arrow::compute::take_record_batch(&rows, &arrow::array::UInt64Array::from_iter_values(places))?)
}

fn out_of_range() -> Error {
    Error::new(ErrorKind::Data, "the end of a session lies beyond what a timestamp can say")
}

impl Operator for Session {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let (rows, weights) = delta.into_parts();
        let weights = weights.unwrap_or_else(|| Int64Array::from_value(1, rows.num_rows()));
        let late = self.take_in(&rows, &weights)?;
        out.drop_late(late.len() as u64);
        if out.keeps_late() && !late.is_empty() {
            let mut mask = vec![false; rows.num_rows()];
            late.into_iter().for_each(|row| mask[row] = true);
            out.late(0, &rows, &mask.into())?;
        }
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        self.ending = Some(self.horizon.with(epoch.watermarks));
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        self.snapshot_parts()
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        self.changed_parts().map(Some)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.restore_parts(&parts)
    }

    fn state_size(&self) -> StateSize {
        let sessions = self.open.len() * size_of::<(i64, Slot, i64)>();
        let noted = self.marks.bytes() + self.numbers.bytes();
        StateSize { rows: self.rows, bytes: self.bytes + sessions + noted + self.slots.bytes() }
    }
}
