//! Temporal filter: rows that satisfy conditions on the time of day, and so come and go as time passes.
//!
//! Each row has a moment from which all conditions hold and one until which they do, computed when the row comes. A row
//! whose time has passed is dropped, one that will always be there is handed on and forgotten. The others are kept, each
//! different row once with how often it is there, and a heap says which of them is due next: what an epoch costs are the
//! rows that came and those that were due in it. A row that is taken back before its moment leaves nothing behind.

mod state;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;

use super::columns::{canonical, compact};
use super::counted::{shown, stored};
use super::expression::{Expression, batch};
use super::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::plan::flow::TimeBound;
use crate::state::marks::Marks;
use crate::state::slots::{Slot, Slots};
use state::Told;

/// Rows that one piece of output or of a snapshot has at most.
const PIECE: usize = 8192;

/// A moment that doesn't come.
const NEVER: i64 = i64::MAX;
/// A moment that has always been.
const EVER: i64 = i64::MIN;

/// Between these times of day a moment is looked for: 1970 and the year 2200. Nanoseconds reach a little farther.
const SEARCHED: (i64, i64) = (0, 7_258_118_400_000_000);

/// From or until when a condition holds.
#[derive(Debug)]
struct Bound {
    enters: bool,
    moment: Moment,
}

#[derive(Debug)]
enum Moment {
    /// A timestamp in microseconds, and so many more.
    Computed(Expression, i64),
    /// Where the condition changes, which is over rows and the time of day.
    Searched(Expression, SchemaRef),
}

impl Bound {
    fn new(bound: &TimeBound, schema: &DFSchema) -> Result<Self> {
        let moment = match &bound.at {
            Some((time, later)) => Moment::Computed(Expression::new(time, schema)?, *later),
            None => {
                let (condition, schema) = bound.over_time(schema)?;
                Moment::Searched(Expression::new(&condition, &schema)?, Arc::clone(schema.inner()))
            }
        };
        Ok(Self { enters: bound.enters, moment })
    }

    /// When the condition changes for each row. A condition that is NULL never holds.
    fn moments(&self, rows: &RecordBatch) -> Result<Vec<i64>> {
        let unknown = if self.enters { NEVER } else { EVER };
        match &self.moment {
            Moment::Computed(time, later) => {
                let times =
                    cast(&time.evaluate(rows)?, &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None))?;
                let times = times.as_primitive::<TimestampMicrosecondType>();
                Ok(times.iter().map(|time| time.map_or(unknown, |time| time.saturating_add(*later))).collect())
            }
            Moment::Searched(condition, schema) => self.searched(rows, condition, schema),
        }
    }

    /// By halving, all rows at once.
    fn searched(&self, rows: &RecordBatch, condition: &Expression, schema: &SchemaRef) -> Result<Vec<i64>> {
        let (first, last) = SEARCHED;
        let count = rows.num_rows();
        // Whether the condition has changed at the time `at` of each row.
        let changed = |at: Vec<i64>| -> Result<BooleanArray> {
            let mut columns = rows.columns().to_vec();
            columns.push(Arc::new(TimestampMicrosecondArray::from(at).with_timezone("+00:00")));
            let holds = condition.evaluate_predicate(&batch(schema, columns, count)?)?;
            Ok(holds.iter().map(|holds| Some((holds == Some(true)) == self.enters)).collect())
        };
        let (at_first, at_last) = (changed(vec![first; count])?, changed(vec![last; count])?);
        // Not changed at `low`, changed at `high`.
        let (mut low, mut high) = (vec![first; count], vec![last; count]);
        while low.iter().zip(&high).any(|(low, high)| high - low > 1) {
            let middle: Vec<i64> = low.iter().zip(&high).map(|(low, high)| low + (high - low) / 2).collect();
            let at_middle = changed(middle.clone())?;
            for (row, middle) in middle.into_iter().enumerate() {
                if at_middle.value(row) {
                    high[row] = middle;
                } else {
                    low[row] = middle;
                }
            }
        }
        Ok((0..count)
            .map(|row| match (at_first.value(row), at_last.value(row)) {
                (true, _) => EVER,
                (false, false) => NEVER,
                (false, true) => high[row],
            })
            .collect())
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct TemporalFilter {
    bounds: Vec<Bound>,
    schema: SchemaRef,
    /// Whether the output may take rows back.
    changelog: bool,
    rows: Slots,
    /// By slot: how often the row is there.
    counts: Vec<i64>,
    /// By slot: whether the row was said.
    shown: Vec<bool>,
    /// By slot: when the row is due next; `EVER` where there is none.
    next: Vec<i64>,
    /// By slot: until when it is shown.
    leaves: Vec<i64>,
    /// When which row is due, the next first. An entry that is not the row's `next` is of one that is gone.
    due: BinaryHeap<Reverse<(i64, Slot)>>,
    /// Slots whose rows are there no more, unless some came again.
    emptied: Vec<Slot>,
    /// Rows that have changed since they were last written down.
    marks: Marks,
    /// By slot: what was written down.
    told: Vec<Told>,
    /// What is to be written of rows that are gone.
    gone: Vec<RecordBatch>,
    /// The time of day in this epoch.
    now: i64,
    ending: bool,
}

impl TemporalFilter {
    /// A filter of rows of `input` that emits rows of `schema` (the same types); with `changelog` it may take rows back.
    pub fn new(bounds: &[TimeBound], input: &DFSchema, schema: SchemaRef, changelog: bool) -> Result<Self> {
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let bounds = bounds.iter().map(|bound| Bound::new(bound, input)).collect::<Result<_>>()?;
        let rows = Slots::new(&types)?;
        let (counts, shown, next, leaves, emptied) = Default::default();
        let due = BinaryHeap::new();
        Ok(Self {
            bounds,
            schema,
            changelog,
            rows,
            counts,
            shown,
            next,
            leaves,
            due,
            emptied,
            marks: Marks::default(),
            told: Vec::new(),
            gone: Vec::new(),
            now: EVER,
            ending: false,
        })
    }

    /// From when and until when each row is to be shown.
    fn moments(&self, rows: &RecordBatch) -> Result<(Vec<i64>, Vec<i64>)> {
        let (mut enters, mut leaves) = (vec![EVER; rows.num_rows()], vec![NEVER; rows.num_rows()]);
        for bound in &self.bounds {
            let moments = bound.moments(rows)?;
            if bound.enters {
                enters.iter_mut().zip(moments).for_each(|(known, moment)| *known = moment.max(*known));
            } else {
                leaves.iter_mut().zip(moments).for_each(|(known, moment)| *known = moment.min(*known));
            }
        }
        Ok((enters, leaves))
    }

    /// The slots of rows, with room for what is known of them; new ones are due at their moments.
    fn locate(&mut self, rows: &RecordBatch, enters: &[i64], leaves: &[i64]) -> Result<Vec<Slot>> {
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        self.rows.intern(rows.columns(), rows.num_rows(), &mut slots, &mut created)?;
        let bound = self.rows.bound();
        self.counts.resize(bound, 0);
        self.shown.resize(bound, false);
        self.next.resize(bound, EVER);
        self.leaves.resize(bound, NEVER);
        self.told.resize(bound, Told::default());
        for slot in &created {
            self.next[*slot as usize] = EVER;
            self.counts[*slot as usize] = 0;
            self.told[*slot as usize] = Told::default();
        }
        for (row, slot) in slots.iter().enumerate() {
            let place = *slot as usize;
            if self.counts[place] == 0 && self.next[place] == EVER {
                self.shown[place] = enters[row] <= self.now;
                self.leaves[place] = leaves[row];
                self.await_moment(*slot, if self.shown[place] { leaves[row] } else { enters[row] });
            }
        }
        Ok(slots)
    }

    fn await_moment(&mut self, slot: Slot, at: i64) {
        self.next[slot as usize] = at;
        self.due.push(Reverse((at, slot)));
        // Rows that were taken back have left their entries behind.
        if self.due.len() > 4096 + 2 * self.rows.len() {
            let next = &self.next;
            self.due.retain(|Reverse((at, slot))| next[*slot as usize] == *at);
        }
    }

    /// Takes entries off the top that no row waits for: the first that is left says when something is due.
    fn drop_stale(&mut self) {
        while let Some(Reverse((at, slot))) = self.due.peek()
            && self.next[*slot as usize] != *at
        {
            self.due.pop();
        }
    }

    /// Forgets rows.
    fn release(&mut self, slots: &[Slot]) -> Result<()> {
        self.note_gone(slots)?;
        for slot in slots {
            self.next[*slot as usize] = EVER;
            self.counts[*slot as usize] = 0;
        }
        self.rows.release(slots);
        Ok(())
    }

    /// Says of rows that are due that they have come or gone.
    fn show(&mut self, out: &mut Output) -> Result<Step> {
        loop {
            let (mut slots, mut weights, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            while slots.len() < PIECE
                && let Some(Reverse((at, slot))) = self.due.peek().copied()
                && (at <= self.now || self.next[slot as usize] != at)
            {
                self.due.pop();
                let place = slot as usize;
                if self.next[place] != at {
                    continue;
                }
                let count = self.counts[place];
                let stays = !self.shown[place] && self.leaves[place] > self.now;
                if self.shown[place] || stays {
                    slots.push(slot);
                    weights.push(if stays { count } else { -count });
                }
                if stays && self.leaves[place] != NEVER {
                    self.shown[place] = true;
                    self.marks.mark(&[slot]);
                    self.await_moment(slot, self.leaves[place]);
                } else {
                    self.next[place] = EVER;
                    gone.push(slot);
                }
            }
            let is_last = slots.len() < PIECE;
            if !slots.is_empty() {
                let rows = batch(&self.schema, stored(&self.rows, &slots, &self.schema)?, slots.len())?;
                out.push(shown("a temporal filter", self.changelog, rows, weights)?);
            }
            self.release(&gone)?;
            if is_last {
                self.ending = false;
                return Ok(Step::Done);
            }
            if out.exhausted() {
                return Ok(Step::Yield);
            }
        }
    }
}

impl Operator for TemporalFilter {
    fn begin_epoch(&mut self, now_micros: i64) {
        self.now = now_micros;
    }

    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let count = delta.num_rows();
        let columns = delta.rows().columns().iter().map(canonical).collect::<Result<Vec<_>>>()?;
        let delta = Delta::new(batch(&self.schema, columns, count)?, delta.weights().cloned());
        let (enters, leaves) = self.moments(delta.rows())?;
        let mut shown = vec![false; count];
        let mut kept = Vec::new();
        for row in 0..count {
            // What has passed, or holds at no time, is dropped.
            if leaves[row] <= self.now.max(enters[row]) || enters[row] == NEVER {
                continue;
            }
            shown[row] = enters[row] <= self.now;
            if !shown[row] || leaves[row] != NEVER {
                kept.push(row as u32);
            }
        }
        if !kept.is_empty() {
            let rows = delta.take(&UInt32Array::from(kept.clone()))?;
            let of_kept = |moments: &[i64]| kept.iter().map(|row| moments[*row as usize]).collect::<Vec<_>>();
            let slots = self.locate(rows.rows(), &of_kept(&enters), &of_kept(&leaves))?;
            self.marks.mark(&slots);
            for ((row, slot), place) in kept.iter().zip(&slots).zip(0..) {
                let slot = *slot as usize;
                self.counts[slot] = self.counts[slot].wrapping_add(rows.weight(place));
                if self.counts[slot] == 0 {
                    self.emptied.push(slot as Slot);
                }
                // One that is due in this epoch is said at its end, however often it is there then.
                shown[*row as usize] &= self.shown[slot];
            }
        }
        let visible = shown.iter().filter(|shown| **shown).count();
        if visible == count {
            out.push(delta);
        } else if visible > 0 {
            let places = shown.iter().enumerate().filter(|(_, shown)| **shown).map(|(row, _)| row as u32);
            let visible = delta.take(&UInt32Array::from_iter_values(places))?;
            let columns = visible.rows().columns().iter().map(compact).collect::<Result<Vec<_>>>()?;
            out.push(visible.with_rows(batch(&self.schema, columns, visible.num_rows())?));
        }
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        self.now = epoch.now_micros;
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.sort_unstable();
        emptied.dedup();
        emptied.retain(|slot| self.counts[*slot as usize] == 0);
        self.release(&emptied)?;
        self.ending = true;
        self.show(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        if self.ending { self.show(out) } else { Ok(Step::Done) }
    }

    fn next_timer(&self) -> Option<i64> {
        // What is gone was taken off the top when the epoch ended.
        self.due.peek().map(|Reverse((at, _))| *at)
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
        let by_slot = 3 * size_of::<i64>() + 1 + size_of::<Told>();
        let gone: usize = self.gone.iter().map(RecordBatch::get_array_memory_size).sum();
        let noted = self.marks.bytes() + gone;
        let bytes =
            self.rows.bytes() + self.counts.capacity() * by_slot + self.due.capacity() * size_of::<(i64, Slot)>();
        StateSize { rows: self.rows.len(), bytes: bytes + noted }
    }
}
