//! min(x) and max(x).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, UInt8Array};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeTypeOp, DataType, UInt8Type};

use super::super::accumulators::{Accumulators, counted, for_each_counted, gather, validity};
use crate::error::{Error, Result};
use crate::state::slots::{Slot, bytes_column, for_each_bytes, one_zero_one_nan};

/// The least (or, `MAX`, greatest) value of a primitive type. Floats in total order, with one NaN above all.
#[derive(Debug)]
pub(super) struct Extremes<T: ArrowPrimitiveType, const MAX: bool> {
    values: Vec<T::Native>,
    seen: Vec<bool>,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType, const MAX: bool> Extremes<T, MAX> {
    pub(super) fn new(data_type: &DataType) -> Self {
        Self { values: Vec::new(), seen: Vec::new(), data_type: data_type.clone() }
    }

    /// What every value replaces.
    fn nothing() -> T::Native {
        if MAX { T::Native::MIN_TOTAL_ORDER } else { T::Native::MAX_TOTAL_ORDER }
    }
}

impl<T: ArrowPrimitiveType, const MAX: bool> Accumulators for Extremes<T, MAX> {
    fn grow(&mut self, bound: usize) {
        if self.values.len() < bound {
            self.values.resize(bound, Self::nothing());
            self.seen.resize(bound, false);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("min and max have one argument")) };
        let argument = one_zero_one_nan(argument);
        let column = argument.as_primitive::<T>();
        let (values, seen) = (self.values.as_mut_slice(), self.seen.as_mut_slice());
        for_each_counted(slots, counted(column.nulls(), filter).as_ref(), |row, slot| {
            let value = column.value(row);
            let best = values[slot];
            let better = if MAX { value.is_gt(best) } else { value.is_lt(best) };
            values[slot] = if better { value } else { best };
            seen[slot] = true;
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, None)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let array = PrimitiveArray::<T>::new(gather(&self.values, slots).into(), validity(&self.seen, slots));
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.values[*slot as usize] = Self::nothing();
            self.seen[*slot as usize] = false;
        }
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * (size_of::<T::Native>() + 1)
    }
}

/// The least (or greatest) boolean, as a number: false is 0, true is 1.
#[derive(Debug)]
pub(super) struct BoolExtremes<const MAX: bool>(Extremes<UInt8Type, MAX>);

impl<const MAX: bool> Default for BoolExtremes<MAX> {
    fn default() -> Self {
        Self(Extremes::new(&DataType::UInt8))
    }
}

impl<const MAX: bool> Accumulators for BoolExtremes<MAX> {
    fn grow(&mut self, bound: usize) {
        self.0.grow(bound);
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("min and max have one argument")) };
        let numbers: UInt8Array = argument.as_boolean().iter().map(|value| value.map(u8::from)).collect();
        self.0.update(slots, &[Arc::new(numbers)], filter)
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, None)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        Ok(cast(&self.0.evaluate(slots)?, &DataType::Boolean)?)
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        self.0.release(slots);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The least (or greatest) text or binary, in byte order. Copies a value only when it is better than the one it has.
#[derive(Debug)]
pub(super) struct ByteExtremes<const MAX: bool> {
    values: Vec<Option<Box<[u8]>>>,
    value_bytes: usize,
    data_type: DataType,
}

impl<const MAX: bool> ByteExtremes<MAX> {
    pub(super) fn new(data_type: &DataType) -> Self {
        Self { values: Vec::new(), value_bytes: 0, data_type: data_type.clone() }
    }
}

impl<const MAX: bool> Accumulators for ByteExtremes<MAX> {
    fn grow(&mut self, bound: usize) {
        if self.values.len() < bound {
            self.values.resize_with(bound, || None);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("min and max have one argument")) };
        let chosen = counted(None, filter);
        let mut row = 0;
        for_each_bytes(argument, |value| {
            let at = row;
            row += 1;
            let Some(value) = value.filter(|_| chosen.as_ref().is_none_or(|chosen| chosen.value(at))) else { return };
            let best = &mut self.values[slots[at] as usize];
            let better = best.as_deref().is_none_or(|best| if MAX { value > best } else { value < best });
            if better {
                self.value_bytes -= best.as_ref().map_or(0, |best| best.len());
                self.value_bytes += value.len();
                *best = Some(value.into());
            }
        })
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, None)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        bytes_column(&self.data_type, slots.iter().map(|slot| self.values[*slot as usize].as_deref()))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            if let Some(value) = self.values[*slot as usize].take() {
                self.value_bytes -= value.len();
            }
        }
    }

    fn bytes(&self) -> usize {
        self.value_bytes + self.values.capacity() * size_of::<Option<Box<[u8]>>>()
    }
}
