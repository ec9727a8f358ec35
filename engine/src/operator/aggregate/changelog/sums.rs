//! sum(x) of integers and decimals, in 128 bits.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Int64Type};

use super::super::accumulators::{Accumulators, counted, for_each_counted, gather};
use super::super::native::{WideSums, narrowed};
use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// Sums of integers or decimals. NULL where no value is left, which is not where the sum is 0.
pub(super) struct WholeSums<T> {
    sums: WideSums,
    counts: Vec<i64>,
    result: DataType,
    argument: PhantomData<fn() -> T>,
}

impl<T> WholeSums<T> {
    pub(super) fn new(result: &DataType) -> Self {
        Self { sums: WideSums::default(), counts: Vec::new(), result: result.clone(), argument: PhantomData }
    }
}

impl<T> Accumulators for WholeSums<T>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128> + TryFrom<i128>,
{
    fn grow(&mut self, bound: usize) {
        self.sums.grow(bound);
        if self.counts.len() < bound {
            self.counts.resize(bound, 0);
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
        let [argument] = arguments else { return Err(Error::internal("sum has one argument")) };
        let values = argument.as_primitive::<T>();
        for_each_counted(slots, counted(values.nulls(), filter).as_ref(), |row, slot| {
            self.sums.add_weighted(slot, values.value(row).into(), weights.value(row));
            self.counts[slot] += weights.value(row);
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let [sums, counts] = state else { return Err(Error::internal("a sum has two state columns")) };
        self.sums.merge(slots, sums.as_primitive())?;
        for (slot, count) in slots.iter().zip(counts.as_primitive::<Int64Type>().values()) {
            self.counts[*slot as usize] += count;
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let sums = slots.iter().map(|slot| {
            let some = self.counts[*slot as usize] != 0;
            some.then(|| narrowed::<T>(self.sums.get(*slot)?, &self.result)).transpose()
        });
        let sums: PrimitiveArray<T> = sums.collect::<Result<_>>()?;
        Ok(Arc::new(sums.with_data_type(self.result.clone())))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let scale = if let DataType::Decimal128(_, scale) = &self.result { *scale } else { 0 };
        Ok(vec![self.sums.state(slots, scale)?, Arc::new(Int64Array::from(gather(&self.counts, slots)))])
    }

    fn release(&mut self, slots: &[Slot]) {
        self.sums.release(slots);
        slots.iter().for_each(|slot| self.counts[*slot as usize] = 0);
    }

    fn bytes(&self) -> usize {
        self.sums.bytes() + self.counts.capacity() * size_of::<i64>()
    }
}
