//! As-of joins and temporal joins: each left row with the nearest right row of its key.
//!
//! Rows of both sides are kept by key, in the order of their times ([`key`]). The end of an epoch puts in what came and went,
//! and looks at the left rows that changed and at those whose nearest right row is another one now: at no others.
//!
//! A left row is *settled* when the right side's watermark says that no nearer row can come: then it is let go, and shown, if
//! only final rows are to be shown (a temporal join always waits for that). A right row is released when the left side's
//! watermark says that no left row will reach it any more: looking back in time that is every one but the latest before the
//! watermark. Rows of an append-only input below what it has promised are late: they are dropped and counted.
//!
//! A row without a key or a time has no nearest row; a left one is kept with NULLs, at once, if such rows are kept.

mod key;
mod line;
mod side;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use self::key::{Changes, Key, Left, Moment, Row, Shown};
use self::line::{Limit, Line};
use self::side::{Arrivals, Side};
use super::aggregate::{Horizon, batch};
use super::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::flow::{AsOfSpec, Emit, FlowNode};
use crate::state::marks::Marks;
use crate::state::row_numbers::RowNumbers;
use crate::state::slots::{Slot, Slots};
use crate::time::Watermarks;

/// Rows of one piece of output.
const PIECE: usize = 8192;

/// Keys that one call looks at.
const KEYS_PER_CALL: usize = 16 * 1024;

/// See the [module](self).
pub struct AsOf {
    keeps_unmatched: bool,
    emit: Emit,
    /// Whether left rows are settled, and right rows released, one day; and whether the other side has a say in it.
    settles: Option<bool>,
    releases: Option<bool>,
    schema: SchemaRef,
    sides: [Side; 2],
    slots: Slots,
    keys: Vec<Key>,
    /// What came and went in this epoch, by side.
    changes: [BTreeMap<(Slot, Moment), i64>; 2],
    /// Keys to be looked at when time has passed a moment: their left rows may be settled, their right rows released.
    due: BTreeSet<(i64, Slot)>,
    ageing: BTreeSet<(i64, Slot)>,
    ending: Option<Ending>,
    shown: Vec<Shown>,
    /// In the place of the right row that there isn't.
    nothing: Row,
    /// Keys whose rows have changed since they were last written down; which ones, these know themselves.
    marks: Marks,
    /// By side.
    numbers: [RowNumbers; 2],
    size: StateSize,
}

/// The end of an epoch that is being worked off.
#[derive(Debug, Clone, Copy)]
struct Ending {
    horizons: [i64; 2],
    settled: Option<Limit>,
    released: Option<Limit>,
    /// The next key to be looked at, if all are, once, at the end of an input.
    next: Option<Slot>,
}

impl AsOf {
    /// The as-of join that `node` is, of the outputs of two other nodes.
    pub fn new(spec: &AsOfSpec, inputs: [&FlowNode; 2], schema: SchemaRef) -> Result<Self> {
        let line = |times: &arrow::datatypes::DataType| Line::new(spec.side, times);
        let (left_keys, right_keys) = spec.on.iter().map(|(left, right)| (left, right)).unzip();
        let left_order = (0..inputs[0].schema.fields().len()).collect();
        let horizon = |side: usize| (Horizon::new(spec.promises[side]), spec.drops_late(side));
        let left = Side::new(inputs[0], left_keys, &spec.times.0, left_order, line, horizon(0))?;
        let right = Side::new(inputs[1], right_keys, &spec.times.1, spec.ties.clone(), line, horizon(1))?;
        if left.key_types != right.key_types {
            return Err(Error::internal("an as-of join compares keys without a common type"));
        }
        Ok(Self {
            keeps_unmatched: spec.keeps_unmatched,
            emit: spec.emit,
            settles: spec.settles().map(|promises| promises.len() > 1),
            releases: spec.releases().map(|promises| promises.len() > 1),
            schema,
            slots: Slots::new(&left.key_types)?,
            nothing: right.nulls()?,
            sides: [left, right],
            keys: Vec::new(),
            changes: Default::default(),
            due: BTreeSet::new(),
            ageing: BTreeSet::new(),
            ending: None,
            shown: Vec::new(),
            marks: Marks::default(),
            numbers: Default::default(),
            size: StateSize::default(),
        })
    }

    fn line(&self) -> Line {
        self.sides[0].line
    }

    /// Takes note of rows. Answers those that meet no others, and which were late.
    fn take_in(
        &mut self,
        side: usize,
        rows: RecordBatch,
        weights: Option<Int64Array>,
    ) -> Result<(Option<Delta>, BooleanArray)> {
        let arrivals = self.sides[side].arrivals(rows, weights, false)?;
        for (row, at) in self.moments(side, &arrivals)?.into_iter().enumerate() {
            let weight = arrivals.weights.as_ref().map_or(1, |weights| weights.value(row));
            *self.changes[side].entry(at).or_default() += weight;
        }
        let apart = match arrivals.apart {
            Some((rows, weights)) if side == 0 && self.keeps_unmatched => Some(self.alone(&rows, weights)?),
            _ => None,
        };
        Ok((apart, arrivals.late))
    }

    /// The keys of rows, and their places.
    fn moments(&mut self, side: usize, arrivals: &Arrivals) -> Result<Vec<(Slot, Moment)>> {
        let bytes = self.sides[side].bytes(&arrivals.rows)?;
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        self.slots.intern(&arrivals.keys, bytes.len(), &mut slots, &mut created)?;
        self.keys.resize_with(self.slots.bound(), Key::default);
        slots.iter().for_each(|slot| self.keys[*slot as usize].is_known = true);
        let line = self.line();
        let places = arrivals.times.values().iter().map(|time| line.place(*time));
        Ok(slots.into_iter().zip(places.zip(bytes)).collect())
    }

    /// Left rows with NULLs.
    fn alone(&self, rows: &RecordBatch, weights: Option<Int64Array>) -> Result<Delta> {
        let count = rows.num_rows();
        let fields = self.schema.fields().iter().skip(rows.num_columns());
        let nulls = fields.map(|field| new_null_array(field.data_type(), count));
        let columns: Vec<ArrayRef> = rows.columns().iter().cloned().chain(nulls).collect();
        let weights = match self.emit {
            Emit::OnChange => Some(weights.unwrap_or_else(|| Int64Array::from_value(1, count))),
            Emit::AfterWatermark => weights,
        };
        Ok(Delta::new(batch(&self.schema, columns, count)?, weights))
    }

    /// Where settling and releasing stand with these watermarks.
    fn ending(&self, watermarks: &Watermarks) -> Ending {
        let horizons = [0, 1].map(|side: usize| self.sides[side].horizon.with(watermarks));
        let least = horizons[0].min(horizons[1]);
        let limit = |both: Option<bool>, own: i64| both.map(|both| self.line().limit(if both { least } else { own }));
        let (settled, released) = (limit(self.settles, horizons[1]), limit(self.releases, horizons[0]));
        let ends = horizons.iter().zip(&self.sides).any(|(at, side)| *at == i64::MAX && side.horizon.at() != i64::MAX);
        Ending { horizons, settled, released, next: ends.then_some(0) }
    }

    /// Puts in what came and went for one key, and emits what follows if that is wanted.
    fn change(&mut self, slot: Slot, changes: [Changes; 2], show: bool) -> Result<()> {
        let line = self.line();
        let key = &mut self.keys[slot as usize];
        for (side, changes) in changes.iter().enumerate() {
            for (moment, weight) in changes.iter().filter(|(_, weight)| *weight != 0) {
                key.apply(side, moment, *weight, &mut self.size)?;
            }
        }
        let [left, right] = changes.map(|changes| {
            let changed = changes.into_iter().filter(|(_, weight)| *weight != 0);
            changed.map(|(moment, _)| moment).collect::<Vec<Moment>>()
        });
        let changed = [left.as_slice(), right.as_slice()];
        if show && self.emit == Emit::OnChange {
            key.changes(changed, line, self.keeps_unmatched, &mut self.shown);
        }
        key.settle(changed, &mut Left { size: &mut self.size, numbers: &mut self.numbers });
        self.marks.mark(&[slot]);
        if self.settles.is_some() {
            self.due.extend(left.iter().filter_map(|(place, _)| Some((key.due(*place, line)?, slot))));
            if !line.is_back() {
                self.due.extend(right.iter().map(|(place, _)| (line.place(*place), slot)));
            }
        }
        if self.releases.is_some() {
            self.ageing.extend(right.iter().map(|(place, _)| (line.place(*place), slot)));
        }
        self.forget_if_empty(slot);
        Ok(())
    }

    /// Lets go what time has passed of one key.
    fn tidy(&mut self, slot: Slot, ending: Ending) {
        let line = self.line();
        let key = &mut self.keys[slot as usize];
        let mut left = Left { size: &mut self.size, numbers: &mut self.numbers };
        if let Some(limit) = ending.settled {
            let shown = (self.emit == Emit::AfterWatermark).then_some(&mut self.shown);
            key.resolve((limit, line), self.keeps_unmatched, shown, &mut left);
        }
        if let Some(limit) = ending.released {
            key.release((limit, line), &mut left);
        }
        self.forget_if_empty(slot);
    }

    fn forget_if_empty(&mut self, slot: Slot) {
        let key = &mut self.keys[slot as usize];
        if key.is_known && key.is_empty() {
            *key = Key::default();
            self.marks.unmark(&[slot]);
            self.slots.release(&[slot]);
        }
    }

    /// The changes of the first key that has any.
    fn next_changes(&mut self) -> Option<(Slot, [Changes; 2])> {
        let firsts = self.changes.iter().filter_map(|changes| changes.first_key_value());
        let slot = firsts.map(|((slot, _), _)| *slot).min()?;
        let changes = self.changes.each_mut().map(|changes| {
            let rest = match slot.checked_add(1) {
                Some(next) => changes.split_off(&(next, (i64::MIN, Row::default()))),
                None => BTreeMap::new(),
            };
            let own = std::mem::replace(changes, rest).into_iter();
            own.map(|((_, moment), weight)| (moment, weight)).collect()
        });
        Some((slot, changes))
    }

    /// The next key that has something to let go.
    fn next_tidied(&mut self, ending: &mut Ending) -> Option<Slot> {
        for (waiting, limit) in [(&mut self.due, ending.settled), (&mut self.ageing, ending.released)] {
            let Some(limit) = limit else { continue };
            if let Some(&(time, slot)) = waiting.first()
                && limit.has_passed(time)
            {
                waiting.pop_first();
                return Some(slot);
            }
        }
        let next = ending.next.filter(|next| (*next as usize) < self.keys.len())?;
        ending.next = next.checked_add(1);
        Some(next)
    }

    /// Goes on with the end of the epoch.
    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        let mut looked_at = 0;
        while let Some(mut ending) = self.ending {
            self.say(out)?;
            if out.exhausted() || looked_at >= KEYS_PER_CALL {
                return Ok(Step::Yield);
            }
            looked_at += 1;
            if let Some((slot, changes)) = self.next_changes() {
                self.change(slot, changes, true)?;
            } else if let Some(slot) = self.next_tidied(&mut ending) {
                self.ending = Some(ending);
                self.tidy(slot, ending);
            } else if self.shown.is_empty() {
                for (side, horizon) in self.sides.iter_mut().zip(ending.horizons) {
                    side.horizon.advance(horizon);
                }
                self.ending = None;
            }
        }
        Ok(Step::Done)
    }

    /// Emits what waits to be emitted, in pieces.
    fn say(&mut self, out: &mut Output) -> Result<()> {
        while !self.shown.is_empty() && !out.exhausted() {
            let rest = self.shown.split_off(self.shown.len().min(PIECE));
            let piece = std::mem::replace(&mut self.shown, rest);
            let mut columns = self.sides[0].columns(piece.iter().map(|shown| shown.left.as_ref()))?;
            let right = piece.iter().map(|shown| shown.right.as_ref().unwrap_or(&self.nothing).as_ref());
            columns.extend(self.sides[1].columns(right)?);
            let rows = batch(&self.schema, columns, piece.len())?;
            let weights = Int64Array::from_iter_values(piece.iter().map(|shown| shown.weight));
            out.push(match self.emit {
                Emit::OnChange => Delta::weighted(rows, weights),
                Emit::AfterWatermark => Delta::append(repeated(rows, &weights)?),
            });
        }
        Ok(())
    }
}

/// Rows as often as they are there.
fn repeated(rows: RecordBatch, weights: &Int64Array) -> Result<RecordBatch> {
    if weights.values().iter().all(|weight| *weight == 1) {
        return Ok(rows);
    }
    let places = weights.values().iter().enumerate();
    let places = places.flat_map(|(row, weight)| std::iter::repeat_n(row as u64, (*weight).max(0) as usize));
    Ok(arrow::compute::take_record_batch(&rows, &arrow::array::UInt64Array::from_iter_values(places))?)
}

impl Operator for AsOf {
    fn on_delta(&mut self, input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        if input > 1 {
            return Err(Error::internal(format!("an as-of join has two inputs, a delta came on input {input}")));
        }
        let (rows, weights) = delta.into_parts();
        let (alone, late) = self.take_in(input, rows.clone(), weights)?;
        if let Some(alone) = alone {
            out.push(alone);
        }
        out.late(input, &rows, &late)?;
        out.drop_late(late.true_count() as u64);
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        self.ending = Some(self.ending(epoch.watermarks));
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        state::snapshot(self)
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        state::changes(self).map(Some)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        state::restore(self, parts)
    }

    fn state_size(&self) -> StateSize {
        let waiting = (self.due.len() + self.ageing.len()) * size_of::<(i64, Slot)>();
        let noted = self.marks.bytes() + self.numbers.iter().map(RowNumbers::bytes).sum::<usize>();
        StateSize { rows: self.size.rows, bytes: self.size.bytes + waiting + noted + self.slots.bytes() }
    }
}
