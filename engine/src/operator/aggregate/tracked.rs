//! A table whose changes are shown at the end of each epoch: what a group's row was, and what it is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array, make_comparator};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, concat, take};

use super::table::{Rows, Shape, Table};
use crate::error::Result;
use crate::state::slots::Slot;

/// A [`Table`] that remembers, for the groups touched in this epoch, the results that they had before.
///
/// Old results are read when a group is touched for the first time in the epoch, many groups at a time, so that nothing
/// is kept for groups that rest.
pub(super) struct Tracked {
    table: Table,
    /// By slot: whether the group was touched in this epoch.
    touched: Vec<bool>,
    /// Groups that began in this epoch.
    fresh: Vec<Slot>,
    /// Groups that were there before, in the order of their old results.
    known: Vec<Slot>,
    old: Vec<Vec<ArrayRef>>,
    /// Whether groups stay when they have no rows left: the one group of an aggregate of everything.
    stays: bool,
    vanished: Vec<Slot>,
}

/// Rows of key and result columns, with weights.
pub(super) struct Change {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) results: Vec<ArrayRef>,
    pub(super) weights: Int64Array,
}

/// What a [`Tracked`] table has still to show of an epoch.
pub(super) struct Showing {
    old: Vec<ArrayRef>,
    known: usize,
    fresh: usize,
}

impl Tracked {
    /// `stays`: groups stay when all their rows are taken back.
    pub(super) fn new(shape: &Shape, stays: bool) -> Result<Self> {
        Ok(Self {
            stays,
            vanished: Vec::new(),
            table: Table::new(shape)?,
            touched: Vec::new(),
            fresh: Vec::new(),
            known: Vec::new(),
            old: Vec::new(),
        })
    }

    /// The table itself, to restore and to snapshot it.
    pub(super) fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Adds rows to their groups.
    pub(super) fn add(&mut self, rows: &Rows) -> Result<()> {
        let mut known = Vec::new();
        let (slots, created) = self.table.locate(rows)?;
        let bound = slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        if self.touched.len() < bound {
            self.touched.resize(bound, false);
        }
        for slot in created {
            self.touched[*slot as usize] = true;
        }
        self.fresh.extend_from_slice(created);
        for slot in slots {
            let touched = &mut self.touched[*slot as usize];
            if !*touched {
                *touched = true;
                known.push(*slot);
            }
        }
        if !known.is_empty() {
            self.old.push(self.table.results(&known)?);
            self.known.extend(known);
        }
        self.table.add_located(rows)
    }

    /// Takes note that the groups which were just added to the restored table have never been shown.
    pub(super) fn note_unshown(&mut self) {
        let created = self.table.created().to_vec();
        let bound = created.iter().max().map_or(0, |slot| *slot as usize + 1);
        if self.touched.len() < bound {
            self.touched.resize(bound, false);
        }
        for slot in created {
            self.touched[slot as usize] = true;
            self.fresh.push(slot);
        }
    }

    /// Begins to show what the epoch has changed; the pieces come from [`Tracked::show`].
    pub(super) fn begin(&mut self) -> Result<Showing> {
        let chunks = std::mem::take(&mut self.old);
        let width = chunks.first().map_or(0, Vec::len);
        let old = (0..width)
            .map(|column| {
                let parts: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk[column].as_ref()).collect();
                Ok(concat(&parts)?)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Showing { old, known: 0, fresh: 0 })
    }

    /// The next piece, of at most about `limit` rows: `None` when all was shown.
    pub(super) fn show(&mut self, showing: &mut Showing, limit: usize) -> Result<Option<Change>> {
        while showing.known < self.known.len() {
            let (from, to) = (showing.known, self.known.len().min(showing.known + limit / 2 + 1));
            showing.known = to;
            if let Some(change) = self.changed(showing, from, to)? {
                return Ok(Some(change));
            }
        }
        while showing.fresh < self.fresh.len() {
            let (from, to) = (showing.fresh, self.fresh.len().min(showing.fresh + limit.max(1)));
            showing.fresh = to;
            let mut slots = self.fresh[from..to].to_vec();
            if let Some(gone) = self.gone(&slots)? {
                self.vanished.extend(chosen(&slots, &gone));
                slots = chosen(&slots, &gone.iter().map(|gone| !gone).collect::<Vec<_>>());
            }
            if slots.is_empty() {
                continue;
            }
            let keys = self.table.keys(&slots)?;
            let weights = Int64Array::from_value(1, slots.len());
            return Ok(Some(Change { keys, results: self.table.results(&slots)?, weights }));
        }
        for slot in self.known.drain(..).chain(self.fresh.drain(..)) {
            self.touched[slot as usize] = false;
        }
        Ok(None)
    }

    /// The groups that lost all their rows in the epoch that was just shown: to be released from the table.
    pub(super) fn vanished(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.vanished)
    }

    /// Which of the groups have no rows left; `None`: none of them.
    fn gone(&mut self, slots: &[Slot]) -> Result<Option<Vec<bool>>> {
        let inhabited = self.table.inhabited(slots)?.filter(|inhabited| !self.stays && inhabited.contains(&false));
        Ok(inhabited.map(|inhabited| inhabited.iter().map(|inhabited| !inhabited).collect()))
    }

    /// Old and new rows of those known groups whose results differ; all the old ones first.
    fn changed(&mut self, showing: &Showing, from: usize, to: usize) -> Result<Option<Change>> {
        let slots = self.known[from..to].to_vec();
        let new = self.table.results(&slots)?;
        let old: Vec<ArrayRef> = showing.old.iter().map(|column| column.slice(from, to - from)).collect();
        let gone = self.gone(&slots)?;
        let mut differs = gone.clone().unwrap_or_else(|| vec![false; slots.len()]);
        for (old, new) in old.iter().zip(&new) {
            mark_different(old, new, &mut differs)?;
        }
        let rows: Vec<u32> = (0..slots.len() as u32).filter(|row| differs[*row as usize]).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let rows = UInt32Array::from(rows);
        let still = match &gone {
            None => rows.clone(),
            Some(gone) => {
                self.vanished.extend(chosen(&slots, gone));
                rows.values().iter().copied().filter(|row| !gone[*row as usize]).collect()
            }
        };
        let both = |(old, new): (&ArrayRef, &ArrayRef)| -> Result<ArrayRef> {
            Ok(concat(&[take(old, &rows, None)?.as_ref(), take(new, &still, None)?.as_ref()])?)
        };
        let keys = self.table.keys(&slots)?;
        let weights = std::iter::repeat_n(-1, rows.len()).chain(std::iter::repeat_n(1, still.len()));
        Ok(Some(Change {
            keys: keys.iter().map(|key| both((key, key))).collect::<Result<_>>()?,
            results: old.iter().zip(&new).map(both).collect::<Result<_>>()?,
            weights: weights.collect::<Vec<i64>>().into(),
        }))
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        let old: usize = self.old.iter().flatten().map(|column| column.get_array_memory_size()).sum();
        self.table.bytes()
            + old
            + self.touched.capacity()
            + (self.fresh.capacity() + self.known.capacity()) * size_of::<Slot>()
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

/// Those of the slots whose flag is set.
fn chosen(slots: &[Slot], flags: &[bool]) -> Vec<Slot> {
    slots.iter().zip(flags).filter(|(_, flag)| **flag).map(|(slot, _)| *slot).collect()
}

/// Sets the flag of each row in which the columns differ; NULL equals NULL, and NaN NaN.
fn mark_different(old: &ArrayRef, new: &ArrayRef, differs: &mut [bool]) -> Result<()> {
    if old.data_type().is_nested() {
        let compare = make_comparator(old.as_ref(), new.as_ref(), SortOptions::default())?;
        for (row, flag) in differs.iter_mut().enumerate() {
            *flag |= compare(row, row).is_ne();
        }
        return Ok(());
    }
    let different: BooleanArray = distinct(&Arc::clone(old), &Arc::clone(new))?;
    different.values().set_indices().for_each(|row| differs[row] = true);
    Ok(())
}
