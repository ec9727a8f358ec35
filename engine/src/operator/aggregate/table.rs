//! Groups and what is known of them: keys, and the accumulators of each call.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

use super::accumulators::Accumulators;
use super::call::{Call, CallInput, Lifetime};
use crate::error::{Error, Result};
use crate::state::marks::Marks;
use crate::state::slots::{Slot, Slots};

/// What a table is made of; shared by all tables of an operator.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) keys: Vec<DataType>,
    pub(super) calls: Vec<Call>,
    pub(super) lifetime: Lifetime,
}

/// A batch as a table takes it: key columns, and the columns of each call.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) calls: Vec<CallInput>,
    /// How often each row is added, where rows can be taken back; not of partial states.
    pub(super) weights: Option<Int64Array>,
    pub(super) count: usize,
    /// Whether the calls' columns are partial states rather than arguments.
    pub(super) partial: bool,
}

impl Rows {
    /// Evaluates keys and arguments over raw rows.
    pub(super) fn raw(rows: &RecordBatch, keys: &[Arc<dyn PhysicalExpr>], calls: &[Call]) -> Result<Self> {
        let count = rows.num_rows();
        let keys = keys.iter().map(|key| Ok(key.evaluate(rows)?.into_array(count)?)).collect::<Result<Vec<_>>>()?;
        let calls = calls.iter().map(|call| call.evaluate(rows)).collect::<Result<Vec<_>>>()?;
        Ok(Self { keys, calls, weights: None, count, partial: false })
    }

    /// Takes a batch of partial states apart: `keys` key columns, then (from column `states` on) the states of each call.
    pub(super) fn partial(rows: &RecordBatch, keys: usize, states: usize, calls: &[Call]) -> Self {
        let mut at = states;
        let calls = calls.iter().map(|call| {
            let columns = rows.columns()[at..at + call.state_width()].to_vec();
            at += call.state_width();
            CallInput { columns, filter: None }
        });
        let calls = calls.collect();
        Self { keys: rows.columns()[..keys].to_vec(), calls, weights: None, count: rows.num_rows(), partial: true }
    }

    /// How many columns the calls have.
    pub(super) fn width(calls: &[Call]) -> usize {
        calls.iter().map(Call::state_width).sum()
    }

    fn map(&self, count: usize, column: impl Fn(&ArrayRef) -> Result<ArrayRef>) -> Result<Self> {
        let columns = |columns: &[ArrayRef]| columns.iter().map(&column).collect::<Result<Vec<_>>>();
        let calls = self
            .calls
            .iter()
            .map(|call| {
                let filter = match &call.filter {
                    Some(filter) => {
                        let filter: ArrayRef = Arc::new(filter.clone());
                        Some(column(&filter)?.as_boolean().clone())
                    }
                    None => None,
                };
                Ok(CallInput { columns: columns(&call.columns)?, filter })
            })
            .collect::<Result<Vec<_>>>()?;
        let weights = match &self.weights {
            Some(weights) => {
                let weights: ArrayRef = Arc::new(weights.clone());
                Some(column(&weights)?.as_primitive::<Int64Type>().clone())
            }
            None => None,
        };
        Ok(Self { keys: columns(&self.keys)?, calls, weights, count, partial: self.partial })
    }

    /// Rows `offset .. offset + length`, sharing memory.
    pub(super) fn slice(&self, offset: usize, length: usize) -> Result<Self> {
        self.map(length, |column| Ok(column.slice(offset, length)))
    }

    /// The rows at `indices`, copied.
    pub(super) fn take(&self, indices: &UInt32Array) -> Result<Self> {
        self.map(indices.len(), |column| Ok(take(column, indices, None)?))
    }
}

/// Adds rows to the groups of one call.
fn put(accumulators: &mut dyn Accumulators, slots: &[Slot], input: &CallInput, rows: &Rows) -> Result<()> {
    match &rows.weights {
        None => accumulators.update(slots, &input.columns, input.filter.as_ref()),
        Some(weights) => accumulators.change(slots, &input.columns, input.filter.as_ref(), weights),
    }
}

/// See the [module](self).
pub(super) struct Table {
    slots: Slots,
    accumulators: Vec<Box<dyn Accumulators>>,
    /// Whether the last of them counts the rows of each group: they may be taken back.
    counts_rows: bool,
    /// Reused: the slot of each row of the batch at hand, and those that are new.
    rows: Vec<Slot>,
    created: Vec<Slot>,
    /// Groups that have changed since they were last written down, and the keys of those that were forgotten.
    marks: Marks,
    forgotten: Vec<Forgotten>,
}

/// Key columns of groups that are no more, and how many these are.
pub(super) type Forgotten = (Vec<ArrayRef>, usize);

/// What has changed of a table since it was last written down.
pub(super) struct TableChanges {
    pub(super) groups: Vec<Slot>,
    pub(super) forgotten: Vec<Forgotten>,
}

impl Table {
    pub(super) fn new(shape: &Shape) -> Result<Self> {
        let accumulators =
            shape.calls.iter().map(|call| call.accumulators(shape.lifetime)).collect::<Result<Vec<_>>>()?;
        let counts_rows = shape.lifetime == Lifetime::Changelog;
        let slots = Slots::new(&shape.keys)?;
        Ok(Self {
            slots,
            accumulators,
            counts_rows,
            rows: Vec::new(),
            created: Vec::new(),
            marks: Marks::default(),
            forgotten: Vec::new(),
        })
    }

    /// An empty table with room for about so many groups.
    pub(super) fn with_room(shape: &Shape, groups: usize) -> Result<Self> {
        let mut table = Self::new(shape)?;
        table.slots.reserve(groups);
        Ok(table)
    }

    /// Each row as a group of its own, as [`Table::states`] would give it: keys and states, nothing combined.
    pub(super) fn uncombined(shape: &Shape, rows: &Rows) -> Result<Rows> {
        let each: Vec<Slot> = (0..rows.count as Slot).collect();
        let calls = shape
            .calls
            .iter()
            .zip(&rows.calls)
            .map(|(call, input)| {
                let mut accumulators = call.accumulators(shape.lifetime)?;
                accumulators.grow(rows.count);
                put(accumulators.as_mut(), &each, input, rows)?;
                Ok(CallInput { columns: accumulators.state(&each)?, filter: None })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Rows { keys: rows.keys.clone(), calls, weights: None, count: rows.count, partial: true })
    }

    /// Finds or makes the group of each row, without adding the rows: (slot per row, new slots).
    pub(super) fn locate(&mut self, rows: &Rows) -> Result<(&[Slot], &[Slot])> {
        self.created.clear();
        self.slots.intern(&rows.keys, rows.count, &mut self.rows, &mut self.created)?;
        if !self.created.is_empty() {
            let bound = self.slots.bound();
            self.accumulators.iter_mut().for_each(|accumulators| accumulators.grow(bound));
            self.marks.note_new(&self.created);
        }
        Ok((&self.rows, &self.created))
    }

    /// The group of each of the last rows to be located.
    pub(super) fn located(&self) -> &[Slot] {
        &self.rows
    }

    /// The groups that the last rows to be located began.
    pub(super) fn created(&self) -> &[Slot] {
        &self.created
    }

    /// Adds the rows that were just located.
    pub(super) fn add_located(&mut self, rows: &Rows) -> Result<()> {
        self.marks.mark(&self.rows);
        for (accumulators, input) in self.accumulators.iter_mut().zip(&rows.calls) {
            if rows.partial {
                accumulators.merge(&self.rows, &input.columns)?;
            } else {
                put(accumulators.as_mut(), &self.rows, input, rows)?;
            }
        }
        Ok(())
    }

    /// Adds rows to their groups.
    pub(super) fn add(&mut self, rows: &Rows) -> Result<()> {
        self.locate(rows)?;
        self.add_located(rows)
    }

    /// The partial states of some groups, in the form in which [`Table::add`] takes them.
    pub(super) fn states(&mut self, slots: &[Slot]) -> Result<Rows> {
        let calls = self
            .accumulators
            .iter_mut()
            .map(|accumulators| Ok(CallInput { columns: accumulators.state(slots)?, filter: None }))
            .collect::<Result<Vec<_>>>()?;
        Ok(Rows { keys: self.slots.keys(slots)?, calls, weights: None, count: slots.len(), partial: true })
    }

    /// The results of some groups that a snapshot keeps beside their states.
    pub(super) fn remembered(&mut self, slots: &[Slot], calls: &[Call]) -> Result<Vec<ArrayRef>> {
        let calls = self.accumulators.iter_mut().zip(calls).enumerate();
        let remembering = calls.filter(|(number, (_, call))| call.remembered_field(*number).is_some());
        remembering.map(|(_, (accumulators, _))| accumulators.evaluate(slots)).collect()
    }

    /// Takes [`Table::remembered`] back, for the rows that were just added.
    pub(super) fn remember(&mut self, columns: &[ArrayRef], calls: &[Call]) -> Result<()> {
        let calls = self.accumulators.iter_mut().zip(calls).enumerate();
        let remembering = calls.filter(|(number, (_, call))| call.remembered_field(*number).is_some());
        for ((_, (accumulators, _)), column) in remembering.zip(columns) {
            accumulators.remember(&self.rows, column)?;
        }
        Ok(())
    }

    /// The key columns of some groups.
    pub(super) fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        self.slots.keys(slots)
    }

    /// The results of some groups, a column per call.
    pub(super) fn results(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let calls = self.accumulators.len() - usize::from(self.counts_rows);
        self.accumulators[..calls].iter_mut().map(|accumulators| accumulators.evaluate(slots)).collect()
    }

    /// Which of some groups have rows; `None`: all, since rows are never taken back. To be asked at the end of an epoch.
    pub(super) fn inhabited(&mut self, slots: &[Slot]) -> Result<Option<Vec<bool>>> {
        if !self.counts_rows {
            return Ok(None);
        }
        let Some(counts) = self.accumulators.last_mut() else { return Ok(None) };
        let counts = counts.evaluate(slots)?;
        let counts = counts.as_primitive::<Int64Type>().values();
        if counts.iter().any(|count| *count < 0) {
            return Err(Error::internal("more rows of a group were taken back than had come"));
        }
        Ok(Some(counts.iter().map(|count| *count > 0).collect()))
    }

    /// Those of some groups that have rows.
    pub(super) fn with_rows(&mut self, slots: Vec<Slot>) -> Result<Vec<Slot>> {
        Ok(match self.inhabited(&slots)? {
            None => slots,
            Some(inhabited) => {
                slots.into_iter().zip(inhabited).filter(|(_, inhabited)| *inhabited).map(|(slot, _)| slot).collect()
            }
        })
    }

    /// Forgets some groups.
    pub(super) fn release(&mut self, slots: &[Slot]) -> Result<()> {
        self.forgotten.extend(self.written(slots)?);
        self.marks.unmark(slots);
        self.slots.release(slots);
        self.accumulators.iter_mut().for_each(|accumulators| accumulators.release(slots));
        Ok(())
    }

    /// The keys of those of some groups that were written down: if these are no more, that is to be said.
    pub(super) fn written(&self, slots: &[Slot]) -> Result<Option<Forgotten>> {
        let known: Vec<Slot> = slots.iter().copied().filter(|slot| self.marks.is_known(*slot)).collect();
        if known.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.slots.keys(&known)?, known.len())))
    }

    /// Forgets groups that are elsewhere.
    pub(super) fn evict(&mut self, slots: &[Slot]) {
        self.marks.unmark(slots);
        self.slots.release(slots);
        self.accumulators.iter_mut().for_each(|accumulators| accumulators.release(slots));
    }

    /// Whether changes are noted.
    pub(super) fn notes_changes(&self) -> bool {
        self.marks.is_on()
    }

    /// Whether a group has changed since it was last written down.
    pub(super) fn has_changed(&self, slot: Slot) -> bool {
        self.marks.is_marked(slot)
    }

    /// The groups of the rows that were just added are as they were written down, where `changed` does not say otherwise.
    pub(super) fn brought_back(&mut self, changed: &[bool]) {
        let known = self.rows.iter().zip(changed).filter(|(_, changed)| !**changed).map(|(slot, _)| *slot);
        self.marks.unmark(&known.collect::<Vec<_>>());
        // Whether those that have changed were ever written down is not known any more.
        self.marks.note_known(&self.rows);
    }

    /// Every group's number lies below this.
    pub(super) fn bound(&self) -> usize {
        self.slots.bound()
    }

    /// The table was written down, or read back: changes are noted from now on.
    pub(super) fn note_changes(&mut self) {
        self.marks.begin();
        self.forgotten.clear();
    }

    /// What has changed since the table was last written down, as it is now.
    pub(super) fn take_changes(&mut self) -> TableChanges {
        let groups = self.marks.take().unwrap_or_else(|| self.slots.live());
        TableChanges { groups, forgotten: self.take_forgotten() }
    }

    /// The keys of groups that were forgotten since the table was last written down.
    pub(super) fn take_forgotten(&mut self) -> Vec<Forgotten> {
        std::mem::take(&mut self.forgotten)
    }

    /// All groups.
    pub(super) fn live(&self) -> Vec<Slot> {
        self.slots.live()
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulators| accumulators.bytes()).sum();
        let forgotten: usize =
            self.forgotten.iter().flat_map(|(keys, _)| keys).map(|column| column.get_array_memory_size()).sum();
        self.slots.bytes() + self.marks.bytes() + accumulators + forgotten
    }
}
