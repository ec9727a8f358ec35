//! sum(x).

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Float64Array, PrimitiveArray,
};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float64Type, i256};

use super::super::accumulators::{Accumulators, counted, for_each_counted, gather, validity};
use crate::error::{Error, ErrorKind, Result};
use crate::state::slots::Slot;

/// Sums of floats. Their last digits depend on the order of the rows, as they do in a batch.
#[derive(Debug, Default)]
pub(super) struct Sums {
    sums: Vec<f64>,
    seen: Vec<bool>,
}

impl Accumulators for Sums {
    fn grow(&mut self, bound: usize) {
        if self.sums.len() < bound {
            self.sums.resize(bound, 0.0);
            self.seen.resize(bound, false);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("sum has one argument")) };
        let values = argument.as_primitive::<Float64Type>();
        let (sums, seen) = (self.sums.as_mut_slice(), self.seen.as_mut_slice());
        for_each_counted(slots, counted(values.nulls(), filter).as_ref(), |row, slot| {
            sums[slot] += values.value(row);
            seen[slot] = true;
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, None)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        Ok(Arc::new(Float64Array::new(gather(&self.sums, slots).into(), validity(&self.seen, slots))))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.sums[*slot as usize] = 0.0;
            self.seen[*slot as usize] = false;
        }
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * (size_of::<f64>() + 1)
    }
}

/// Sums of integers and decimals, in 128 bits, so that neither the order of the rows nor a sum that leaves the result's
/// range for a while changes the answer; the range is checked when the sum is read.
#[derive(Debug)]
pub(super) struct IntegerSums<T> {
    sums: WideSums,
    result: DataType,
    argument: PhantomData<T>,
}

impl<T: ArrowPrimitiveType> IntegerSums<T> {
    pub(super) fn new(result: &DataType) -> Self {
        Self { sums: WideSums::default(), result: result.clone(), argument: PhantomData }
    }
}

impl<T> Accumulators for IntegerSums<T>
where
    T: ArrowPrimitiveType + Send,
    T::Native: Into<i128> + TryFrom<i128>,
{
    fn grow(&mut self, bound: usize) {
        self.sums.grow(bound);
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("sum has one argument")) };
        let values = argument.as_primitive::<T>();
        for_each_counted(slots, counted(values.nulls(), filter).as_ref(), |row, slot| {
            self.sums.add(slot, values.value(row).into());
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let [partial] = state else { return Err(Error::internal("a sum has one state column")) };
        self.sums.merge(slots, partial.as_primitive())
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(slots.len());
        for slot in slots {
            values.push(narrowed::<T>(self.sums.get(*slot)?, &self.result)?);
        }
        let array = PrimitiveArray::<T>::new(values.into(), self.sums.validity(slots));
        Ok(Arc::new(array.with_data_type(self.result.clone())))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let scale = if let DataType::Decimal128(_, scale) = &self.result { *scale } else { 0 };
        Ok(vec![self.sums.state(slots, scale)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        self.sums.release(slots);
    }

    fn bytes(&self) -> usize {
        self.sums.bytes()
    }
}

/// 128-bit sums by slot; what goes beyond 128 bits is remembered apart.
#[derive(Debug, Default)]
pub(in super::super) struct WideSums {
    sums: Vec<i128>,
    seen: Vec<bool>,
    /// How often a slot's sum wrapped, upwards minus downwards; nothing for almost every slot.
    wrapped: HashMap<usize, i64>,
}

impl WideSums {
    pub(in super::super) fn grow(&mut self, bound: usize) {
        if self.sums.len() < bound {
            self.sums.resize(bound, 0);
            self.seen.resize(bound, false);
        }
    }

    #[inline]
    pub(in super::super) fn add(&mut self, slot: usize, value: i128) {
        let (sum, wrapped) = self.sums[slot].overflowing_add(value);
        self.sums[slot] = sum;
        self.seen[slot] = true;
        if wrapped {
            self.note_wrap(slot, value > 0);
        }
    }

    /// Adds a value `weight` times.
    pub(in super::super) fn add_weighted(&mut self, slot: usize, value: i128, weight: i64) {
        match value.checked_mul(i128::from(weight)) {
            Some(product) => self.add(slot, product),
            None => {
                let (low, high) = (i256::from_i128(value).wrapping_mul(i256::from(weight))).to_parts();
                self.add(slot, low as i128);
                // The low half was added as a signed number.
                let wraps = high as i64 + i64::from((low as i128) < 0);
                *self.wrapped.entry(slot).or_default() += wraps;
            }
        }
    }

    #[cold]
    fn note_wrap(&mut self, slot: usize, upwards: bool) {
        *self.wrapped.entry(slot).or_default() += if upwards { 1 } else { -1 };
    }

    pub(in super::super) fn merge(&mut self, slots: &[Slot], partial: &Decimal128Array) -> Result<()> {
        for_each_counted(slots, counted(partial.nulls(), None).as_ref(), |row, slot| {
            self.add(slot, partial.value(row))
        });
        Ok(())
    }

    pub(in super::super) fn get(&self, slot: Slot) -> Result<i128> {
        if !self.wrapped.is_empty() && self.wrapped.get(&(slot as usize)).is_some_and(|times| *times != 0) {
            return Err(overflow());
        }
        Ok(self.sums[slot as usize])
    }

    pub(in super::super) fn validity(&self, slots: &[Slot]) -> Option<arrow::buffer::NullBuffer> {
        validity(&self.seen, slots)
    }

    pub(in super::super) fn state(&self, slots: &[Slot], scale: i8) -> Result<ArrayRef> {
        let sums = slots.iter().map(|slot| self.get(*slot)).collect::<Result<Vec<_>>>()?;
        let state = Decimal128Array::new(sums.into(), self.validity(slots));
        Ok(Arc::new(state.with_data_type(DataType::Decimal128(38, scale))))
    }

    pub(in super::super) fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.sums[*slot as usize] = 0;
            self.seen[*slot as usize] = false;
            if !self.wrapped.is_empty() {
                self.wrapped.remove(&(*slot as usize));
            }
        }
    }

    pub(in super::super) fn bytes(&self) -> usize {
        self.sums.capacity() * (size_of::<i128>() + 1)
    }
}

/// A sum as a value of its result's type, if it is in that type's range.
pub(in super::super) fn narrowed<T>(sum: i128, result: &DataType) -> Result<T::Native>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128>,
{
    if let DataType::Decimal128(precision, scale) = result {
        Decimal128Type::validate_decimal_precision(sum, *precision, *scale).map_err(|_| overflow())?;
    }
    T::Native::try_from(sum).map_err(|_| overflow())
}

fn overflow() -> Error {
    Error::new(ErrorKind::Data, "a sum is out of its type's range")
        .with_hint("cast the argument to a wider type, such as DECIMAL(38, 0) or DOUBLE")
}
