//! avg(x) of floats (integers come as floats) and of decimals.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::physical_expr::aggregate::utils::DecimalAverager;

use super::super::accumulators::{Accumulators, counted, for_each_counted, gather};
use super::sum::WideSums;
use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// Averages of floats.
#[derive(Debug, Default)]
pub(super) struct AvgFloats {
    sums: Vec<f64>,
    counts: Vec<i64>,
}

impl Accumulators for AvgFloats {
    fn grow(&mut self, bound: usize) {
        if self.sums.len() < bound {
            self.sums.resize(bound, 0.0);
            self.counts.resize(bound, 0);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("avg has one argument")) };
        let values = argument.as_primitive::<Float64Type>();
        let (sums, counts) = (self.sums.as_mut_slice(), self.counts.as_mut_slice());
        for_each_counted(slots, counted(values.nulls(), filter).as_ref(), |row, slot| {
            sums[slot] += values.value(row);
            counts[slot] += 1;
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let [sums, counts] = state else { return Err(Error::internal("an average has two state columns")) };
        let (sums, counts) = (sums.as_primitive::<Float64Type>(), counts.as_primitive::<Int64Type>());
        for (row, slot) in slots.iter().enumerate() {
            self.sums[*slot as usize] += sums.value(row);
            self.counts[*slot as usize] += counts.value(row);
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let averages: Float64Array = slots
            .iter()
            .map(|slot| {
                let count = self.counts[*slot as usize];
                (count > 0).then(|| self.sums[*slot as usize] / count as f64)
            })
            .collect();
        Ok(Arc::new(averages))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            Arc::new(Float64Array::from(gather(&self.sums, slots))),
            Arc::new(Int64Array::from(gather(&self.counts, slots))),
        ])
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.sums[*slot as usize] = 0.0;
            self.counts[*slot as usize] = 0;
        }
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * (size_of::<f64>() + size_of::<i64>())
    }
}

/// Averages of decimals, in DataFusion's result type and with its rounding (towards zero).
pub(in super::super) struct AvgDecimals {
    sums: WideSums,
    counts: Vec<i64>,
    scale: i8,
    result: DataType,
    averager: DecimalAverager<Decimal128Type>,
}

impl AvgDecimals {
    pub(in super::super) fn new(scale: i8, result: &DataType) -> Result<Self> {
        let DataType::Decimal128(precision, result_scale) = result else {
            return Err(Error::internal("the average of decimals is a decimal"));
        };
        let averager = DecimalAverager::try_new(scale, *precision, *result_scale)?;
        Ok(Self { sums: WideSums::default(), counts: Vec::new(), scale, result: result.clone(), averager })
    }
}

impl Accumulators for AvgDecimals {
    fn grow(&mut self, bound: usize) {
        self.sums.grow(bound);
        if self.counts.len() < bound {
            self.counts.resize(bound, 0);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("avg has one argument")) };
        let values = argument.as_primitive::<Decimal128Type>();
        for_each_counted(slots, counted(values.nulls(), filter).as_ref(), |row, slot| {
            self.sums.add(slot, values.value(row));
            self.counts[slot] += 1;
        });
        Ok(())
    }

    fn change(
        &mut self,
        slots: &[Slot],
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
        weights: &Int64Array,
    ) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("avg has one argument")) };
        let values = argument.as_primitive::<Decimal128Type>();
        for_each_counted(slots, counted(values.nulls(), filter).as_ref(), |row, slot| {
            self.sums.add_weighted(slot, values.value(row), weights.value(row));
            self.counts[slot] += weights.value(row);
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let [sums, counts] = state else { return Err(Error::internal("an average has two state columns")) };
        self.sums.merge(slots, sums.as_primitive())?;
        for (slot, count) in slots.iter().zip(counts.as_primitive::<Int64Type>().values()) {
            self.counts[*slot as usize] += count;
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let mut averages = Vec::with_capacity(slots.len());
        for slot in slots {
            let count = self.counts[*slot as usize];
            averages.push(match count {
                0 => None,
                _ => Some(self.averager.avg(self.sums.get(*slot)?, i128::from(count))?),
            });
        }
        Ok(Arc::new(Decimal128Array::from(averages).with_data_type(self.result.clone())))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.sums.state(slots, self.scale)?, Arc::new(Int64Array::from(gather(&self.counts, slots)))])
    }

    fn release(&mut self, slots: &[Slot]) {
        self.sums.release(slots);
        slots.iter().for_each(|slot| self.counts[*slot as usize] = 0);
    }

    fn bytes(&self) -> usize {
        self.sums.bytes() + self.counts.capacity() * size_of::<i64>()
    }
}
