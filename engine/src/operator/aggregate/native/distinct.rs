//! count, sum and avg of the different values of a group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use hashbrown::HashTable;

use super::super::accumulators::{Accumulators, counted, only_counted};
use crate::error::{Error, ErrorKind, Result};
use crate::state::slots::{Slot, Slots};

/// The values that each slot has seen, and what an inner aggregate makes of them.
///
/// Values are interned once for all slots; a pair (slot, value) is eight bytes in a hash table and four in the slot's list.
pub(in super::super) struct Distinct {
    argument: DataType,
    values: Slots,
    /// How many slots hold each value.
    holders: Vec<u32>,
    pairs: HashTable<(Slot, Slot)>,
    lists: Vec<Vec<Slot>>,
    listed: usize,
    inner: Box<dyn Accumulators>,
}

impl Distinct {
    /// Whether values of this type can be told apart.
    pub(in super::super) fn holds(argument: &DataType) -> bool {
        !argument.is_nested() && !argument.is_null()
    }

    /// What [`Accumulators::state`] gives: the values.
    pub(in super::super) fn state_field(argument: &DataType) -> Field {
        Field::new("values", DataType::new_list(argument.clone(), true), true)
    }

    pub(in super::super) fn new(argument: &DataType, inner: Box<dyn Accumulators>) -> Result<Self> {
        Ok(Self {
            argument: argument.clone(),
            values: Slots::new(std::slice::from_ref(argument))?,
            holders: Vec::new(),
            pairs: HashTable::new(),
            lists: Vec::new(),
            listed: 0,
            inner,
        })
    }

    /// Adds (slot, value) pairs; none of the values is NULL.
    fn add(&mut self, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        let (mut numbers, mut created) = (Vec::new(), Vec::new());
        self.values.intern(std::slice::from_ref(values), slots.len(), &mut numbers, &mut created)?;
        self.holders.resize(self.values.bound(), 0);
        let (mut fresh_slots, mut fresh_rows) = (Vec::new(), Vec::new());
        for (row, (slot, value)) in slots.iter().zip(&numbers).enumerate() {
            let pair = (*slot, *value);
            let entry = self.pairs.entry(pair_hash(pair), |other| *other == pair, |other| pair_hash(*other));
            if let hashbrown::hash_table::Entry::Vacant(place) = entry {
                place.insert(pair);
                self.lists[*slot as usize].push(*value);
                self.holders[*value as usize] += 1;
                self.listed += 1;
                fresh_slots.push(*slot);
                fresh_rows.push(row as u32);
            }
        }
        if fresh_slots.is_empty() {
            return Ok(());
        }
        let fresh = take(values, &UInt32Array::from(fresh_rows), None)?;
        self.inner.update(&fresh_slots, &[fresh], None)
    }
}

fn too_many() -> Error {
    Error::new(ErrorKind::ResourceExhausted, "the groups of a DISTINCT aggregate hold more than 2 billion values")
}

fn pair_hash((slot, value): (Slot, Slot)) -> u64 {
    let product = u128::from((u64::from(slot) << 32 | u64::from(value)) ^ 0x9e37_79b9_7f4a_7c15)
        * u128::from(0xd6e8_feb8_6659_fd93_u64);
    (product >> 64) as u64 ^ product as u64
}

impl Accumulators for Distinct {
    fn grow(&mut self, bound: usize) {
        self.inner.grow(bound);
        if self.lists.len() < bound {
            self.lists.resize_with(bound, Vec::new);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("a DISTINCT aggregate has one argument")) };
        let counted = counted(argument.logical_nulls().as_ref(), filter);
        match counted {
            None => self.add(slots, argument),
            Some(counted) => {
                let (slots, columns) = only_counted(slots, arguments, Some(&counted))?;
                self.add(&slots, &columns[0])
            }
        }
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let [lists] = state else { return Err(Error::internal("a DISTINCT aggregate has one state column")) };
        let lists = lists.as_list::<i32>();
        let mut owners = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            let length = if lists.is_valid(row) { lists.value_length(row) } else { 0 };
            owners.extend(std::iter::repeat_n(*slot, length as usize));
        }
        // A sliced list array keeps all of its values: take those of its rows.
        let (first, last) = (lists.value_offsets()[0] as usize, lists.value_offsets()[lists.len()] as usize);
        let values = lists.values().slice(first, last - first);
        if values.len() != owners.len() {
            return Err(Error::internal("a list of distinct values is NULL"));
        }
        self.add(&owners, &values)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        self.inner.evaluate(slots)
    }

    fn remember(&mut self, slots: &[Slot], results: &ArrayRef) -> Result<()> {
        self.inner.remember(slots, results)
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let numbers: Vec<Slot> = slots.iter().flat_map(|slot| self.lists[*slot as usize].iter().copied()).collect();
        let mut end = 0_i32;
        let mut offsets = vec![0];
        for slot in slots {
            let length = i32::try_from(self.lists[*slot as usize].len()).ok();
            end = length.and_then(|length| end.checked_add(length)).ok_or_else(too_many)?;
            offsets.push(end);
        }
        let values = self.values.keys(&numbers)?.swap_remove(0);
        let field = Arc::new(Field::new_list_field(self.argument.clone(), true));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(vec![Arc::new(ListArray::try_new(field, offsets, values, None)?)])
    }

    fn release(&mut self, slots: &[Slot]) {
        let mut unheld = Vec::new();
        for slot in slots {
            let list = std::mem::take(&mut self.lists[*slot as usize]);
            self.listed -= list.len();
            for value in list {
                let pair = (*slot, value);
                if let Ok(entry) = self.pairs.find_entry(pair_hash(pair), |other| *other == pair) {
                    entry.remove();
                }
                let holders = &mut self.holders[value as usize];
                *holders -= 1;
                if *holders == 0 {
                    unheld.push(value);
                }
            }
        }
        self.values.release(&unheld);
        self.inner.release(slots);
    }

    fn bytes(&self) -> usize {
        self.values.bytes()
            + self.holders.capacity() * size_of::<u32>()
            + self.pairs.capacity() * (size_of::<(Slot, Slot)>() + 1)
            + self.lists.capacity() * size_of::<Vec<Slot>>()
            + self.listed * size_of::<Slot>()
            + self.inner.bytes()
    }
}
