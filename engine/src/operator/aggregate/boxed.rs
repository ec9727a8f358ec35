//! Any DataFusion aggregate as one accumulator per group: for what has no native form and must be read while rows come.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_empty_array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::scalar::ScalarValue;

use super::accumulators::{Accumulators, counted, only_counted};
use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// DataFusion's accumulators by slot.
///
/// `Accumulator::evaluate` leaves the state as it is (its contract); `Accumulator::state` does not (median, string_agg
/// and others give their values away), so a state that was read is put into a fresh accumulator again.
pub(super) struct Boxed {
    aggregate: Arc<AggregateFunctionExpr>,
    /// How many of the argument columns are arguments; the others are what rows are ordered by.
    arguments: usize,
    /// The order in which the accumulator must be given its rows, if it doesn't sort by itself.
    sort: Option<Vec<SortOptions>>,
    groups: Vec<Group>,
    bytes: usize,
}

/// What is known of one slot.
#[derive(Default)]
struct Group {
    accumulator: Option<Box<dyn Accumulator>>,
    /// The answer since the last row. The same state, written and read again, may answer otherwise (t-digests do).
    answer: Option<ScalarValue>,
    rows: usize,
    /// When to measure the accumulator again. Measuring may walk all that it holds, so it is done ever more rarely.
    measure_at: usize,
    bytes: usize,
}

impl Group {
    /// Takes note of more rows; answers by how much the group has grown and shrunk.
    fn grew(&mut self, rows: usize) -> (usize, usize) {
        self.rows += rows;
        let before = self.bytes;
        if self.rows >= self.measure_at {
            self.bytes = self.accumulator.as_ref().map_or(0, |accumulator| accumulator.size());
            self.measure_at = self.rows + self.rows / 2 + 1;
        }
        (self.bytes, before)
    }
}

impl Boxed {
    pub(super) fn new(aggregate: Arc<AggregateFunctionExpr>, arguments: usize, sort: Option<Vec<SortOptions>>) -> Self {
        Self { aggregate, arguments, sort, groups: Vec::new(), bytes: 0 }
    }

    /// Calls `add` once per slot with the slot's rows, in the accumulator's order if it wants one.
    fn by_slot(
        &mut self,
        slots: &[Slot],
        columns: &[ArrayRef],
        sort: Option<&[SortOptions]>,
        mut add: impl FnMut(&AggregateFunctionExpr, &mut Box<dyn Accumulator>, &[ArrayRef]) -> Result<()>,
    ) -> Result<()> {
        let (slots, columns) = self.arranged(slots, columns, sort)?;
        let mut start = 0;
        while start < slots.len() {
            let slot = slots[start];
            let length = slots[start..].partition_point(|other| *other == slot);
            let rows: Vec<ArrayRef> = columns.iter().map(|column| column.slice(start, length)).collect();
            let group = &mut self.groups[slot as usize];
            group.answer = None;
            let accumulator = match &mut group.accumulator {
                Some(accumulator) => accumulator,
                none => none.insert(self.aggregate.create_accumulator()?),
            };
            add(&self.aggregate, accumulator, &rows)?;
            let (now, before) = group.grew(length);
            self.bytes = (self.bytes + now).saturating_sub(before);
            start += length;
        }
        Ok(())
    }

    /// The rows with those of one slot together.
    fn arranged(
        &self,
        slots: &[Slot],
        columns: &[ArrayRef],
        sort: Option<&[SortOptions]>,
    ) -> Result<(Vec<Slot>, Vec<ArrayRef>)> {
        let one_slot = slots.windows(2).all(|pair| pair[0] == pair[1]);
        let order = match sort {
            Some(sort) => {
                let by_slot: ArrayRef = Arc::new(UInt32Array::from(slots.to_vec()));
                let mut keys = vec![SortColumn { values: by_slot, options: None }];
                keys.extend(
                    columns[self.arguments..]
                        .iter()
                        .zip(sort)
                        .map(|(values, options)| SortColumn { values: Arc::clone(values), options: Some(*options) }),
                );
                lexsort_to_indices(&keys, None)?
            }
            None if one_slot => return Ok((slots.to_vec(), columns.to_vec())),
            None => {
                let mut order: Vec<u32> = (0..slots.len() as u32).collect();
                order.sort_by_key(|row| slots[*row as usize]);
                UInt32Array::from(order)
            }
        };
        let columns = columns.iter().map(|column| take(column, &order, None)).collect::<Result<Vec<_>, _>>()?;
        Ok((order.values().iter().map(|row| slots[*row as usize]).collect(), columns))
    }
}

/// Puts a state, as `Accumulator::state` gave it, into an accumulator.
fn merge_scalars(accumulator: &mut dyn Accumulator, state: &[ScalarValue]) -> Result<()> {
    let columns = state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, _>>()?;
    Ok(accumulator.merge_batch(&columns)?)
}

impl Accumulators for Boxed {
    fn grow(&mut self, bound: usize) {
        if self.groups.len() < bound {
            self.groups.resize_with(bound, Group::default);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        let (slots, columns) = only_counted(slots, arguments, counted(None, filter).as_ref())?;
        let sort = self.sort.clone();
        let sorted = sort.is_some();
        self.by_slot(&slots, &columns, sort.as_deref(), |aggregate, accumulator, rows| {
            if !sorted {
                return Ok(accumulator.update_batch(rows)?);
            }
            // Its rows must come in order, all together: order these rows by themselves and merge the two.
            let mut batch = aggregate.create_accumulator()?;
            batch.update_batch(rows)?;
            merge_scalars(accumulator.as_mut(), &batch.state()?)
        })
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        self.by_slot(slots, state, None, |_, accumulator, rows| Ok(accumulator.merge_batch(rows)?))
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        if slots.is_empty() {
            return Ok(new_empty_array(self.aggregate.field().data_type()));
        }
        let mut results = Vec::with_capacity(slots.len());
        for slot in slots {
            let group = &mut self.groups[*slot as usize];
            let answer = match (group.answer.take(), &mut group.accumulator) {
                (Some(answer), _) => answer,
                (None, Some(accumulator)) => accumulator.evaluate()?,
                (None, None) => self.aggregate.create_accumulator()?.evaluate()?,
            };
            group.answer = Some(answer.clone());
            results.push(answer);
        }
        Ok(ScalarValue::iter_to_array(results)?)
    }

    fn remember(&mut self, slots: &[Slot], results: &ArrayRef) -> Result<()> {
        for (row, slot) in slots.iter().enumerate() {
            self.groups[*slot as usize].answer = Some(ScalarValue::try_from_array(results, row)?);
        }
        Ok(())
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let fields = self.aggregate.state_fields()?;
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(slots.len()); fields.len()];
        for slot in slots {
            let place = &mut self.groups[*slot as usize].accumulator;
            let mut accumulator = match place.take() {
                Some(accumulator) => accumulator,
                None => self.aggregate.create_accumulator()?,
            };
            let state = accumulator.state()?;
            let mut fresh = self.aggregate.create_accumulator()?;
            merge_scalars(fresh.as_mut(), &state)?;
            *place = Some(fresh);
            if state.len() != columns.len() {
                return Err(Error::internal(format!("{} gives another state than it says", self.aggregate.name())));
            }
            columns.iter_mut().zip(state).for_each(|(column, value)| column.push(value));
        }
        columns
            .into_iter()
            .zip(fields)
            .map(|(column, field)| {
                if column.is_empty() {
                    return Ok(new_empty_array(field.data_type()));
                }
                let column = ScalarValue::iter_to_array(column)?;
                let same = column.data_type() == field.data_type();
                Ok(if same { column } else { arrow::compute::cast(&column, field.data_type())? })
            })
            .collect()
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            let group = std::mem::take(&mut self.groups[*slot as usize]);
            self.bytes = self.bytes.saturating_sub(group.bytes);
        }
    }

    fn bytes(&self) -> usize {
        self.bytes + self.groups.capacity() * size_of::<Group>()
    }
}
