//! DataFusion's vectorised accumulators, in panes: filled, and read when the pane is complete.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_empty_array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::accumulators::Accumulators;
use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// A `GroupsAccumulator` over the slots of a pane.
///
/// It can be read only as a whole and by emptying it; so reading takes all states out, merges them back, and remembers
/// the answer until the next row.
pub(super) struct Grouped {
    aggregate: Arc<AggregateFunctionExpr>,
    types: Vec<DataType>,
    groups: Box<dyn GroupsAccumulator>,
    bound: usize,
    results: Option<ArrayRef>,
    states: Option<Vec<ArrayRef>>,
}

impl Grouped {
    pub(super) fn new(aggregate: Arc<AggregateFunctionExpr>, types: Vec<DataType>) -> Result<Self> {
        let groups = aggregate.create_groups_accumulator()?;
        Ok(Self { aggregate, types, groups, bound: 0, results: None, states: None })
    }

    /// The states of all slots; afterwards the accumulator holds what it held before.
    fn states(&mut self) -> Result<Vec<ArrayRef>> {
        if let Some(states) = &self.states {
            return Ok(states.clone());
        }
        // Slots that have seen no row yet count too. The filter matters: without one an accumulator that has seen no
        // NULL takes all groups up to the bound for seen.
        let no_rows: Vec<ArrayRef> = self.types.iter().map(new_empty_array).collect();
        let none = BooleanArray::from(Vec::<bool>::new());
        self.groups.update_batch(&no_rows, &[], Some(&none), self.bound)?;
        let states = self.groups.state(EmitTo::All)?;
        if states.iter().any(|column| column.len() != self.bound) {
            return Err(Error::internal(format!("{} gives states of other groups", self.aggregate.name())));
        }
        let all: Vec<usize> = (0..self.bound).collect();
        self.groups = self.aggregate.create_groups_accumulator()?;
        self.groups.merge_batch(&states, &all, self.bound)?;
        self.states = Some(states.clone());
        Ok(states)
    }

    fn results(&mut self) -> Result<ArrayRef> {
        if let Some(results) = &self.results {
            return Ok(Arc::clone(results));
        }
        let states = self.states()?;
        let all: Vec<usize> = (0..self.bound).collect();
        let mut copy = self.aggregate.create_groups_accumulator()?;
        copy.merge_batch(&states, &all, self.bound)?;
        let results = copy.evaluate(EmitTo::All)?;
        self.results = Some(Arc::clone(&results));
        Ok(results)
    }

    fn forget_answers(&mut self) {
        self.results = None;
        self.states = None;
    }
}

impl Accumulators for Grouped {
    fn grow(&mut self, bound: usize) {
        if self.bound < bound {
            self.bound = bound;
            self.forget_answers();
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        self.forget_answers();
        let groups: Vec<usize> = slots.iter().map(|slot| *slot as usize).collect();
        Ok(self.groups.update_batch(arguments, &groups, filter, self.bound)?)
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        self.forget_answers();
        let groups: Vec<usize> = slots.iter().map(|slot| *slot as usize).collect();
        Ok(self.groups.merge_batch(state, &groups, self.bound)?)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        Ok(take(&self.results()?, &UInt32Array::from(slots.to_vec()), None)?)
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let chosen = UInt32Array::from(slots.to_vec());
        let states = self.states()?;
        Ok(states.iter().map(|column| take(column, &chosen, None)).collect::<Result<Vec<_>, _>>()?)
    }

    /// A pane is dropped as a whole.
    fn release(&mut self, _slots: &[Slot]) {}

    fn bytes(&self) -> usize {
        let remembered = self.results.iter().chain(self.states.iter().flatten());
        self.groups.size() + remembered.map(|column| column.get_array_memory_size()).sum::<usize>()
    }
}
