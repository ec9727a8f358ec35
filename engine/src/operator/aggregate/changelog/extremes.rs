//! min(x) and max(x): the values of each group in order, so that the next one is there when the best is taken back.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeTypeOp, DataType, UInt8Type};

use super::super::accumulators::{Accumulators, counted, for_each_counted};
use super::listed;
use super::multiset::Multiset;
use crate::error::{Error, Result};
use crate::state::slots::{Slot, bytes_column, for_each_bytes, one_zero_one_nan};

/// How values of a type are kept in order.
pub(super) trait Ordered: Send {
    type Key: Ord + Send;

    /// A column's values; `None` for NULL.
    fn keys(&self, column: &ArrayRef) -> Result<Vec<Option<Self::Key>>>;

    /// A column of values.
    fn column<'a>(&self, keys: impl Iterator<Item = Option<&'a Self::Key>>) -> Result<ArrayRef>
    where
        Self::Key: 'a;

    /// Bytes that a value has on the heap.
    fn heap(_key: &Self::Key) -> usize {
        0
    }
}

/// A number in the order of its type: floats by their total order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<N>(N);

impl<N: ArrowNativeTypeOp> PartialEq for Number<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_eq(other.0)
    }
}

impl<N: ArrowNativeTypeOp> Eq for Number<N> {}

impl<N: ArrowNativeTypeOp> PartialOrd for Number<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<N: ArrowNativeTypeOp> Ord for Number<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(other.0)
    }
}

/// Values of a primitive type.
pub(super) struct Numbers<T> {
    data_type: DataType,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T> Numbers<T> {
    pub(super) fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), kind: std::marker::PhantomData }
    }
}

impl<T: ArrowPrimitiveType> Ordered for Numbers<T> {
    type Key = Number<T::Native>;

    fn keys(&self, column: &ArrayRef) -> Result<Vec<Option<Self::Key>>> {
        Ok(one_zero_one_nan(column).as_primitive::<T>().iter().map(|value| value.map(Number)).collect())
    }

    fn column<'a>(&self, keys: impl Iterator<Item = Option<&'a Self::Key>>) -> Result<ArrayRef> {
        let values: PrimitiveArray<T> = keys.map(|key| key.map(|key| key.0)).collect();
        Ok(Arc::new(values.with_data_type(self.data_type.clone())))
    }
}

/// Booleans: false before true.
pub(super) struct Truths;

impl Ordered for Truths {
    type Key = bool;

    fn keys(&self, column: &ArrayRef) -> Result<Vec<Option<bool>>> {
        Ok(column.as_boolean().iter().collect())
    }

    fn column<'a>(&self, keys: impl Iterator<Item = Option<&'a bool>>) -> Result<ArrayRef> {
        let numbers: PrimitiveArray<UInt8Type> = keys.map(|key| key.map(|key| u8::from(*key))).collect();
        Ok(cast(&numbers, &DataType::Boolean)?)
    }
}

/// Text and binary, in byte order.
pub(super) struct Texts(pub(super) DataType);

impl Ordered for Texts {
    type Key = Box<[u8]>;

    fn keys(&self, column: &ArrayRef) -> Result<Vec<Option<Box<[u8]>>>> {
        let mut keys = Vec::with_capacity(column.len());
        for_each_bytes(column, |value| keys.push(value.map(Box::from)))?;
        Ok(keys)
    }

    fn column<'a>(&self, keys: impl Iterator<Item = Option<&'a Box<[u8]>>>) -> Result<ArrayRef> {
        bytes_column(&self.0, keys.map(|key| key.map(AsRef::as_ref)))
    }

    fn heap(key: &Box<[u8]>) -> usize {
        key.len()
    }
}

/// The least values of the groups, or the greatest.
pub(super) struct Extremes<O: Ordered> {
    order: O,
    greatest: bool,
    data_type: DataType,
    groups: Vec<Multiset<O::Key>>,
    /// How many (different) values there are, and what they have on the heap.
    values: usize,
    heap: usize,
}

impl<O: Ordered> Extremes<O> {
    pub(super) fn new(order: O, data_type: &DataType, greatest: bool) -> Self {
        Self { order, greatest, data_type: data_type.clone(), groups: Vec::new(), values: 0, heap: 0 }
    }
}

impl<O: Ordered> Accumulators for Extremes<O> {
    fn grow(&mut self, bound: usize) {
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
        let [argument] = arguments else { return Err(Error::internal("min and max have one argument")) };
        let mut keys = self.order.keys(argument)?;
        for_each_counted(slots, counted(argument.logical_nulls().as_ref(), filter).as_ref(), |row, slot| {
            let Some(key) = keys[row].take() else { return };
            let heap = O::heap(&key);
            match self.groups[slot].add(key, weights.value(row)) {
                (0, now) if now != 0 => {
                    self.values += 1;
                    self.heap += heap;
                }
                (before, 0) if before != 0 => {
                    self.values -= 1;
                    self.heap -= heap;
                }
                _ => {}
            }
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let (owners, values, weights) = listed::flattened(slots, state)?;
        self.change(&owners, &values, None, &weights)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        self.order.column(slots.iter().map(|slot| self.groups[*slot as usize].extreme(self.greatest)))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let groups = || slots.iter().map(|slot| &self.groups[*slot as usize]);
        let values = self.order.column(groups().flat_map(Multiset::iter).map(|(key, _)| Some(key)))?;
        let weights = groups().flat_map(Multiset::iter).map(|(_, weight)| weight).collect();
        let types = std::slice::from_ref(&self.data_type);
        Ok(vec![listed::column(types, groups().map(Multiset::len), vec![values], weights)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            let group = std::mem::take(&mut self.groups[*slot as usize]);
            self.values -= group.len();
            self.heap -= group.iter().map(|(key, _)| O::heap(key)).sum::<usize>();
        }
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Multiset<O::Key>>() + self.values * size_of::<(O::Key, i64)>() + self.heap
    }
}
