//! count(*), count(x), count(x, y).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int64Type;

use super::super::accumulators::{Accumulators, counted, for_each_counted, gather};
use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// How many rows have no NULL argument.
#[derive(Debug, Default)]
pub(in super::super) struct Counts {
    counts: Vec<i64>,
}

/// The rows in which an argument is NULL.
fn nulls(arguments: &[ArrayRef]) -> Option<NullBuffer> {
    let union = |nulls: Option<NullBuffer>, argument: &ArrayRef| {
        NullBuffer::union(nulls.as_ref(), argument.logical_nulls().as_ref())
    };
    arguments.iter().fold(None, union)
}

impl Accumulators for Counts {
    fn grow(&mut self, bound: usize) {
        if self.counts.len() < bound {
            self.counts.resize(bound, 0);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let counts = self.counts.as_mut_slice();
        for_each_counted(slots, counted(nulls(arguments).as_ref(), filter).as_ref(), |_, slot| counts[slot] += 1);
        Ok(())
    }

    fn change(
        &mut self,
        slots: &[Slot],
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
        weights: &Int64Array,
    ) -> Result<()> {
        let (counts, weights) = (self.counts.as_mut_slice(), weights.values());
        for_each_counted(slots, counted(nulls(arguments).as_ref(), filter).as_ref(), |row, slot| {
            counts[slot] += weights[row];
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let [partial] = state else { return Err(Error::internal("a count has one state column")) };
        for (slot, count) in slots.iter().zip(partial.as_primitive::<Int64Type>().values()) {
            self.counts[*slot as usize] += count;
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(gather(&self.counts, slots))))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.counts[*slot as usize] = 0);
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}
