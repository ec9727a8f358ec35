//! The end of a query with `EMIT`: changes are held back until their group fires, and shown as the query says.
//!
//! It stands behind the whole query, so whatever the query is, what a group shows when it fires is the batch answer of that
//! moment: the changes since it was shown last are summed up, and what cancels is never seen. Rows that wait are interned
//! together with their group, so that a change costs what it changes, however many groups wait.
//!
//! * [`Show`]: groups whose rows are corrected, or wait
//! * [`Stamped`]: rows that only come and don't wait, as a changelog: nothing is remembered

mod output;
mod stamped;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type};

use super::aggregate::Horizon;
use super::aggregate::windows::micros;
use super::held::Held;
use super::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::plan::flow::{Corrections, ShowSpec};
use crate::state::slots::{Slot, Slots};

use output::Shown;
pub use stamped::Stamped;
use state::Noted;

/// Rows that one piece of output or of a snapshot has at most.
const PIECE: usize = 8192;

/// A row that is to be shown, so many times more or less.
struct Said {
    row: Slot,
    group: Slot,
    weight: i64,
}

/// See the [module](self).
pub struct Show {
    spec: ShowSpec,
    /// Columns whose equal values stand on one worker: where a group's state belongs.
    route: Vec<usize>,
    shown: Shown,
    /// Of snapshots: the group's columns, since when it waits, its rows, its next number.
    group_schema: SchemaRef,
    /// Of snapshots: the group's columns, the row's columns, its weight.
    row_schema: SchemaRef,
    groups: Slots,
    held: Held,
    /// By group: the number of its next row in the changelog, and its rows that wait.
    numbers: Vec<i64>,
    waiting: Vec<Vec<Slot>>,
    /// Groups of which a row has come to nothing in the current epoch.
    cancelled: BTreeSet<Slot>,
    /// Different rows, each behind its group's slot, and how much more often each is to be shown.
    rows: Slots,
    weights: Vec<i64>,
    /// By what ends it: numbered groups, to be forgotten when nothing of them changes any more.
    ends: BTreeSet<(i64, Slot)>,
    over: Horizon,
    /// What an epoch's end has still to say.
    said: VecDeque<Said>,
    ending: bool,
    /// Where changes are counted: how many rows have come to each group in the current epoch, and gone.
    changes: BTreeMap<Slot, (i64, i64)>,
    /// Rows and groups to forget when all is said.
    gone: (Vec<Slot>, Vec<Slot>),
    /// What of the groups and the rows is to be written down.
    noted_groups: Noted,
    noted_rows: Noted,
}

impl Show {
    /// An end for rows of `input`, shown as rows of `output`; with `changelog` it takes rows back. `route`: columns by which
    /// the rows of a group are brought together.
    pub fn new(spec: ShowSpec, route: Vec<usize>, input: &Schema, output: SchemaRef, changelog: bool) -> Result<Self> {
        let own = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        let field = |name: String, column: usize| Field::new(name, input.field(column).data_type().clone(), true);
        let keys =
            spec.key.iter().enumerate().map(|(number, column)| Arc::new(field(format!("_key{number}"), *column)));
        let keys: Vec<_> = keys.collect();
        let row = (0..spec.visible).map(|column| Arc::new(field(format!("_column{column}"), column)));
        let of_group = ["_since", "_rows", "_next"].map(own);
        let group_schema = Arc::new(Schema::new(keys.iter().cloned().chain(of_group).collect::<Vec<_>>()));
        let row_schema = keys.iter().cloned().chain(row).chain([own("_weight")]);
        let row_schema = Arc::new(Schema::new(row_schema.collect::<Vec<_>>()));
        let types = |schema: &SchemaRef, from: usize, count: usize| -> Vec<DataType> {
            schema.fields()[from..from + count].iter().map(|field| field.data_type().clone()).collect()
        };
        let mut of_rows = vec![DataType::UInt32];
        of_rows.extend(types(&row_schema, keys.len(), spec.visible));
        let groups = Slots::new(&types(&group_schema, 0, keys.len()))?;
        let over = Horizon::new(spec.closes.map(|(_, watermark, delay)| (watermark, delay)));
        let (numbers, waiting, cancelled, weights, ends) = Default::default();
        let (said, changes, gone) = Default::default();
        Ok(Self {
            route,
            shown: Shown::new(&spec, output, changelog),
            group_schema,
            row_schema,
            groups,
            held: Held::new(spec.firing),
            numbers,
            waiting,
            cancelled,
            rows: Slots::new(&of_rows)?,
            weights,
            ends,
            over,
            said,
            ending: false,
            changes,
            gone,
            noted_groups: Noted::default(),
            noted_rows: Noted::default(),
            spec,
        })
    }

    /// The slots of groups; new ones are noted.
    fn locate(&mut self, keys: &[ArrayRef], count: usize) -> Result<Vec<Slot>> {
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        self.groups.intern(keys, count, &mut slots, &mut created)?;
        self.numbers.resize(self.groups.bound(), 0);
        self.noted_groups.make_room(self.groups.bound());
        self.waiting.resize_with(self.groups.bound(), Vec::new);
        if created.is_empty() {
            return Ok(slots);
        }
        let named = self.groups.keys(&created)?;
        let times = |place: Option<usize>| place.map(|place| micros(&named[place])).transpose();
        let complete = times(self.spec.firing.complete.map(|(place, ..)| place))?;
        let closes = times(self.spec.closes.map(|(place, ..)| place).filter(|_| self.spec.numbered))?;
        let time = |times: &Option<Int64Array>, row: usize| {
            times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row))
        };
        for (row, slot) in created.iter().enumerate() {
            self.held.note(*slot, time(&complete, row));
            self.numbers[*slot as usize] = 0;
            if let Some(ends) = time(&closes, row) {
                self.ends.insert((ends, *slot));
            }
        }
        Ok(slots)
    }

    /// Adds weights to the rows of groups.
    fn add(&mut self, groups: Vec<Slot>, columns: &[ArrayRef], weight: impl Fn(usize) -> i64) -> Result<Vec<Slot>> {
        let mut identity: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(groups.clone()))];
        identity.extend(columns.iter().cloned());
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        self.rows.intern(&identity, groups.len(), &mut slots, &mut created)?;
        self.weights.resize(self.rows.bound(), 0);
        self.noted_rows.make_room(self.rows.bound());
        if !created.is_empty() {
            let of = self.rows.keys(&created)?;
            for (row, group) in created.iter().zip(of[0].as_primitive::<UInt32Type>().values()) {
                self.weights[*row as usize] = 0;
                self.waiting[*group as usize].push(*row);
            }
        }
        self.noted_rows.mark(&slots);
        for (row, (slot, group)) in slots.iter().zip(groups).enumerate() {
            let sum = &mut self.weights[*slot as usize];
            *sum = sum.wrapping_add(weight(row));
            if *sum == 0 {
                self.cancelled.insert(group);
            }
        }
        Ok(slots)
    }

    /// Takes note of the groups that change, and by how many rows.
    fn count(&mut self, delta: &Delta, groups: &[Slot]) -> Result<()> {
        if let Some(column) = self.spec.counts {
            let counted = cast(delta.rows().column(column), &DataType::Int64)?;
            let counted = counted.as_primitive::<Int64Type>();
            for (row, group) in groups.iter().enumerate() {
                // An update takes the old number back and adds the new one: what has come is the difference.
                let rows = if counted.is_null(row) { 0 } else { counted.value(row) };
                self.held.change(*group, delta.weight(row).saturating_mul(rows));
            }
            return Ok(());
        }
        for (row, group) in groups.iter().enumerate() {
            self.held.change(*group, 0);
            if self.spec.firing.rows.is_some() {
                let (come, gone) = self.changes.entry(*group).or_default();
                let weight = delta.weight(row);
                if weight > 0 { *come += weight } else { *gone -= weight }
            }
        }
        Ok(())
    }

    /// Drops rows whose changes cancel.
    fn settle(&mut self) {
        let mut gone = Vec::new();
        for group in std::mem::take(&mut self.cancelled) {
            let weights = &self.weights;
            self.waiting[group as usize].retain(|row| {
                let differs = weights[*row as usize] != 0;
                if !differs {
                    gone.push(*row);
                }
                differs
            });
        }
        self.forget_rows(&gone);
    }

    fn forget_rows(&mut self, rows: &[Slot]) {
        self.noted_rows.leave(rows);
        self.rows.release(rows);
    }

    /// The end of an epoch: what it says, and what is forgotten afterwards.
    fn fire(&mut self, epoch: &EpochContext<'_>) {
        // A row that takes another's place is one change.
        for (group, (come, gone)) in std::mem::take(&mut self.changes) {
            self.held.change(group, come.max(gone));
        }
        self.settle();
        let touched = self.held.touched().to_vec();
        let waiting = &self.waiting;
        let fired = self.held.end_epoch(epoch, |group| !waiting[group as usize].is_empty());
        self.noted_groups.mark(&fired);
        for group in &fired {
            let mut rows = std::mem::take(&mut self.waiting[*group as usize]);
            self.gone.0.extend(&rows);
            // What goes comes before what takes its place.
            rows.sort_by_key(|row| self.weights[*row as usize] > 0);
            let replaced = self.spec.corrections == Corrections::Replaced
                && rows.last().is_some_and(|row| self.weights[*row as usize] > 0);
            let said = rows.into_iter().map(|row| Said { row, group: *group, weight: self.weights[row as usize] });
            self.said.extend(said.filter(|said| said.weight > 0 || !replaced));
        }
        let mut idle: Vec<Slot> = if self.spec.numbered {
            self.over.advance(self.over.with(epoch.watermarks));
            let over = self.ends.range(..(self.over.at(), 0)).map(|(_, group)| *group);
            over.filter(|group| !self.held.is_waiting(*group)).collect()
        } else {
            touched.into_iter().chain(fired).filter(|group| self.held.is_idle(*group)).collect()
        };
        idle.sort_unstable();
        idle.dedup();
        self.gone.1 = idle;
        self.ending = true;
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        while !self.said.is_empty() {
            if out.exhausted() {
                return Ok(Step::Yield);
            }
            let (mut rows, mut weights, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
            let has_weights = self.shown.has_weights();
            while let Some(said) = self.said.front_mut()
                && rows.len() < PIECE
            {
                if has_weights {
                    rows.push(said.row);
                    weights.push(said.weight);
                    self.said.pop_front();
                    continue;
                }
                // A changelog and rows without weights say a row as often as it is there.
                let sign = said.weight.signum();
                rows.push(said.row);
                weights.push(sign);
                if self.spec.stream {
                    let next = &mut self.numbers[said.group as usize];
                    numbers.push(*next);
                    *next += i64::from(self.spec.numbered);
                }
                said.weight -= sign;
                if said.weight == 0 {
                    self.said.pop_front();
                }
            }
            let columns = self.rows.keys(&rows)?.split_off(1);
            out.push(self.shown.delta(columns, weights, numbers)?);
        }
        if std::mem::take(&mut self.ending) {
            let (rows, groups) = std::mem::take(&mut self.gone);
            self.forget_rows(&rows);
            self.forget(&groups)?;
        }
        Ok(Step::Done)
    }

    fn forget(&mut self, groups: &[Slot]) -> Result<()> {
        if let Some((place, ..)) = self.spec.closes.filter(|_| self.spec.numbered && !groups.is_empty()) {
            let ends = micros(&self.groups.keys(groups)?[place])?;
            for (ends, group) in ends.iter().zip(groups) {
                ends.into_iter().for_each(|ends| {
                    self.ends.remove(&(ends, *group));
                });
            }
        }
        self.noted_groups.leave(groups);
        self.groups.release(groups);
        Ok(())
    }
}

impl Operator for Show {
    fn on_delta(&mut self, _input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
        let keys: Vec<ArrayRef> = self.spec.key.iter().map(|column| Arc::clone(delta.rows().column(*column))).collect();
        let groups = self.locate(&keys, delta.num_rows())?;
        self.noted_groups.mark(&groups);
        self.count(&delta, &groups)?;
        self.add(groups, &delta.rows().columns()[..self.spec.visible], |row| delta.weight(row))?;
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        self.shown.begin(epoch);
        self.fire(epoch);
        self.go_on(out)
    }

    fn next_timer(&self) -> Option<i64> {
        self.held.next_due()
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
        let rows = self.rows.bytes() + self.weights.capacity() * size_of::<i64>();
        let lists = self.waiting.capacity() * size_of::<Vec<Slot>>() + self.rows.len() * size_of::<Slot>();
        let groups = self.groups.bytes() + self.numbers.capacity() * size_of::<i64>() + self.held.bytes();
        let ends = self.ends.len() * size_of::<(i64, Slot)>();
        let noted = self.noted_groups.bytes() + self.noted_rows.bytes();
        StateSize { rows: self.rows.len() + self.groups.len(), bytes: rows + lists + groups + ends + noted }
    }
}

#[cfg(test)]
mod tests;
