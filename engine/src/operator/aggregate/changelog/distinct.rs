//! Aggregates of the different values of a group, with how often each is there.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;

use super::super::accumulators::{Accumulators, counted, for_each_counted};
use super::listed;
use super::multiset::Multiset;
use crate::error::{Error, Result};
use crate::state::slots::{Slot, Slots};

/// The values of each slot, and what an inner aggregate makes of each once.
///
/// Values are interned once for all slots. The inner aggregate hears of a value when its count begins or ceases to be
/// positive.
pub(super) struct DistinctValues {
    argument: DataType,
    values: Slots,
    /// How many slots hold each value.
    holders: Vec<u32>,
    groups: Vec<Multiset<Slot>>,
    held: usize,
    inner: Box<dyn Accumulators>,
}

impl DistinctValues {
    pub(super) fn new(argument: &DataType, inner: Box<dyn Accumulators>) -> Result<Self> {
        Ok(Self {
            argument: argument.clone(),
            values: Slots::new(std::slice::from_ref(argument))?,
            holders: Vec::new(),
            groups: Vec::new(),
            held: 0,
            inner,
        })
    }

    /// Forgets those of the values that no slot holds any more.
    fn forget_unheld(&mut self, mut values: Vec<Slot>) {
        values.sort_unstable();
        values.dedup();
        values.retain(|value| self.holders[*value as usize] == 0);
        self.values.release(&values);
    }
}

impl Accumulators for DistinctValues {
    fn grow(&mut self, bound: usize) {
        self.inner.grow(bound);
        if self.groups.len() < bound {
            self.groups.resize_with(bound, Multiset::default);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        self.change(slots, arguments, filter, &Int64Array::from_value(1, slots.len()))
    }

    fn change(
        &mut self,
        slots: &[Slot],
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
        weights: &Int64Array,
    ) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("a DISTINCT aggregate has one argument")) };
        let (mut numbers, mut created) = (Vec::new(), Vec::new());
        self.values.intern(std::slice::from_ref(argument), slots.len(), &mut numbers, &mut created)?;
        self.holders.resize(self.values.bound(), 0);
        let (mut turned, mut rows, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        // Values that nobody may hold afterwards: new ones of rows that don't count, and those that went.
        let mut unheld = created;
        for_each_counted(slots, counted(argument.logical_nulls().as_ref(), filter).as_ref(), |row, slot| {
            let value = numbers[row];
            let (before, now) = self.groups[slot].add(value, weights.value(row));
            if before == 0 && now != 0 {
                self.holders[value as usize] += 1;
                self.held += 1;
            }
            if before != 0 && now == 0 {
                self.holders[value as usize] -= 1;
                self.held -= 1;
                unheld.push(value);
            }
            if (before > 0) != (now > 0) {
                turned.push(slot as Slot);
                rows.push(row as u32);
                turns.push(if now > 0 { 1 } else { -1 });
            }
        });
        if !turned.is_empty() {
            let values = take(argument, &UInt32Array::from(rows), None)?;
            self.inner.change(&turned, &[values], None, &Int64Array::from(turns))?;
        }
        self.forget_unheld(unheld);
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let (owners, values, weights) = listed::flattened(slots, state)?;
        self.change(&owners, &values, None, &weights)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        self.inner.evaluate(slots)
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let groups = || slots.iter().map(|slot| &self.groups[*slot as usize]);
        let numbers: Vec<Slot> = groups().flat_map(Multiset::iter).map(|(value, _)| *value).collect();
        let weights = groups().flat_map(Multiset::iter).map(|(_, weight)| weight).collect();
        let values = self.values.keys(&numbers)?;
        let types = std::slice::from_ref(&self.argument);
        Ok(vec![listed::column(types, groups().map(Multiset::len), values, weights)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        let mut unheld = Vec::new();
        for slot in slots {
            let group = std::mem::take(&mut self.groups[*slot as usize]);
            for (value, _) in group.iter() {
                self.held -= 1;
                self.holders[*value as usize] -= 1;
                unheld.push(*value);
            }
        }
        self.forget_unheld(unheld);
        self.inner.release(slots);
    }

    fn bytes(&self) -> usize {
        self.values.bytes()
            + self.holders.capacity() * size_of::<u32>()
            + self.groups.capacity() * size_of::<Multiset<Slot>>()
            + self.held * size_of::<(Slot, i64)>()
            + self.inner.bytes()
    }
}
