//! Groups and what is known of them: keys, and the accumulators of each call.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

use super::accumulators::Accumulators;
use super::call::{Call, CallInput, Lifetime};
use crate::error::Result;
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
        Ok(Self { keys, calls, count, partial: false })
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
        Self { keys: rows.columns()[..keys].to_vec(), calls, count: rows.num_rows(), partial: true }
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
        Ok(Self { keys: columns(&self.keys)?, calls, count, partial: self.partial })
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

/// See the [module](self).
pub(super) struct Table {
    slots: Slots,
    accumulators: Vec<Box<dyn Accumulators>>,
    /// Reused: the slot of each row of the batch at hand, and those that are new.
    rows: Vec<Slot>,
    created: Vec<Slot>,
}

impl Table {
    pub(super) fn new(shape: &Shape) -> Result<Self> {
        let accumulators =
            shape.calls.iter().map(|call| call.accumulators(shape.lifetime)).collect::<Result<Vec<_>>>()?;
        Ok(Self { slots: Slots::new(&shape.keys)?, accumulators, rows: Vec::new(), created: Vec::new() })
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
                accumulators.update(&each, &input.columns, input.filter.as_ref())?;
                Ok(CallInput { columns: accumulators.state(&each)?, filter: None })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Rows { keys: rows.keys.clone(), calls, count: rows.count, partial: true })
    }

    /// Finds or makes the group of each row, without adding the rows: (slot per row, new slots).
    pub(super) fn locate(&mut self, rows: &Rows) -> Result<(&[Slot], &[Slot])> {
        self.created.clear();
        self.slots.intern(&rows.keys, rows.count, &mut self.rows, &mut self.created)?;
        if !self.created.is_empty() {
            let bound = self.slots.bound();
            self.accumulators.iter_mut().for_each(|accumulators| accumulators.grow(bound));
        }
        Ok((&self.rows, &self.created))
    }

    /// The groups that the last rows to be located began.
    pub(super) fn created(&self) -> &[Slot] {
        &self.created
    }

    /// Adds the rows that were just located.
    pub(super) fn add_located(&mut self, rows: &Rows) -> Result<()> {
        for (accumulators, input) in self.accumulators.iter_mut().zip(&rows.calls) {
            if rows.partial {
                accumulators.merge(&self.rows, &input.columns)?;
            } else {
                accumulators.update(&self.rows, &input.columns, input.filter.as_ref())?;
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
        Ok(Rows { keys: self.slots.keys(slots)?, calls, count: slots.len(), partial: true })
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
        self.accumulators.iter_mut().map(|accumulators| accumulators.evaluate(slots)).collect()
    }

    /// Forgets some groups.
    pub(super) fn release(&mut self, slots: &[Slot]) {
        self.slots.release(slots);
        self.accumulators.iter_mut().for_each(|accumulators| accumulators.release(slots));
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
        self.slots.bytes() + self.accumulators.iter().map(|accumulators| accumulators.bytes()).sum::<usize>()
    }
}
