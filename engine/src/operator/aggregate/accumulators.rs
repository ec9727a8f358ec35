//! What one aggregate call remembers of many groups.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};

use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// The state of one aggregate call for every group of a table, by the group's slot.
///
/// Rows are given as (slot, argument) columns, a batch at a time; no method is called per row. Nothing but
/// [`Accumulators::release`] empties a slot: results and states can be read at any time.
pub(super) trait Accumulators: Send {
    /// Makes room for slots below `bound`; new ones are empty.
    fn grow(&mut self, bound: usize);

    /// Adds rows: `slots[i]` gets row `i` of the argument columns, if `filter` (where given) is true there.
    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()>;

    /// Adds each row `weights[i]` times; a negative weight takes rows back. Only accumulators of `changelog` can.
    fn change(
        &mut self,
        _slots: &[Slot],
        _arguments: &[ArrayRef],
        _filter: Option<&BooleanArray>,
        _weights: &Int64Array,
    ) -> Result<()> {
        Err(Error::internal("a retraction reached an aggregate over rows that only grow"))
    }

    /// Adds partial states, as [`Accumulators::state`] of other tables gave them.
    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()>;

    /// The results of some slots.
    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef>;

    /// Says what [`Accumulators::evaluate`] answered for these slots before their state was written down and read
    /// again, for accumulators whose answer may then differ in its last digits: what was shown must be taken back as it
    /// was.
    fn remember(&mut self, _slots: &[Slot], _results: &ArrayRef) -> Result<()> {
        Ok(())
    }

    /// The states of some slots, column by column.
    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>>;

    /// Empties some slots.
    fn release(&mut self, slots: &[Slot]);

    /// Bytes of memory held.
    fn bytes(&self) -> usize;
}

/// Which rows count: those where the argument is not NULL and the filter is true. `None`: all.
pub(super) fn counted(nulls: Option<&NullBuffer>, filter: Option<&BooleanArray>) -> Option<BooleanBuffer> {
    let valid = nulls.filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
    let chosen = filter.map(|filter| match filter.nulls() {
        Some(known) => filter.values() & known.inner(),
        None => filter.values().clone(),
    });
    match (valid, chosen) {
        (Some(valid), Some(chosen)) => Some(&valid & &chosen),
        (one, other) => one.or(other),
    }
}

/// Calls `add` with (row, slot) of each row that counts.
#[inline]
pub(super) fn for_each_counted(slots: &[Slot], counted: Option<&BooleanBuffer>, mut add: impl FnMut(usize, usize)) {
    match counted {
        None => slots.iter().enumerate().for_each(|(row, slot)| add(row, *slot as usize)),
        Some(counted) => counted.set_indices().for_each(|row| add(row, slots[row] as usize)),
    }
}

/// As many values as slots, gathered.
pub(super) fn gather<T: Copy>(values: &[T], slots: &[Slot]) -> Vec<T> {
    slots.iter().map(|slot| values[*slot as usize]).collect()
}

/// Validity from a flag per slot; `None` where all are set.
pub(super) fn validity(seen: &[bool], slots: &[Slot]) -> Option<NullBuffer> {
    let nulls = NullBuffer::new(slots.iter().map(|slot| seen[*slot as usize]).collect());
    (nulls.null_count() > 0).then_some(nulls)
}

/// The column's rows that count, and their slots: for accumulators that want plain input.
pub(super) fn only_counted(
    slots: &[Slot],
    columns: &[ArrayRef],
    counted: Option<&BooleanBuffer>,
) -> Result<(Vec<Slot>, Vec<ArrayRef>)> {
    let Some(counted) = counted else { return Ok((slots.to_vec(), columns.to_vec())) };
    let predicate = BooleanArray::new(counted.clone(), None);
    let kept = counted.set_indices().map(|row| slots[row]).collect();
    let columns = columns
        .iter()
        .map(|column| Ok(arrow::compute::filter(column.as_ref() as &dyn Array, &predicate)?))
        .collect::<Result<Vec<_>>>()?;
    Ok((kept, columns))
}
