//! What has changed of the rows since they were last written down: how much more or less often each is there.
//!
//! It is said as sums, since a row that is there on one worker may be taken back on another.

use std::collections::BTreeMap;

use arrow::array::{Int64Array, UInt32Array};
use hashbrown::HashMap;

use super::{Changelog, Identity, Slot, Written, identities, place};
use crate::delta::Delta;
use crate::error::Result;

/// Deltas that were not yet taken in: what they do to rows that are there, and to others.
#[derive(Default)]
struct Later {
    known: HashMap<Slot, i64>,
    /// Each with the place of one such row: delta, and row in it.
    unknown: HashMap<Identity, (usize, u32, i64)>,
}

impl Changelog {
    fn later<'a>(&self, later: impl Iterator<Item = &'a Delta>) -> Result<Later> {
        let mut sums = Later::default();
        for (number, delta) in later.enumerate() {
            for (row, identity) in identities(delta)?.enumerate() {
                let sum = match self.find(identity) {
                    Some(slot) => sums.known.entry(slot).or_default(),
                    None => &mut sums.unknown.entry(identity).or_insert((number, row as u32, 0)).2,
                };
                // What overflows on the way comes back.
                *sum = sum.wrapping_add(delta.weight(row));
            }
        }
        Ok(sums)
    }

    fn weight(&self, slot: Slot) -> i64 {
        let (block, row) = place(slot);
        self.blocks[block].as_ref().map_or(0, |block| block.weights.get(row))
    }

    /// See [`Contents::note_changes`](super::super::Contents::note_changes).
    pub(in super::super) fn note_changes<'a>(&mut self, later: impl Iterator<Item = &'a Delta>) -> Result<()> {
        let Later { known, unknown } = self.later(later)?;
        let mut ahead: HashMap<Identity, i64> = unknown.into_iter().map(|(row, (_, _, sum))| (row, sum)).collect();
        for (slot, sum) in known {
            let (block, row) = place(slot);
            if let Some(block) = &self.blocks[block] {
                ahead.insert(block.identity(row), block.weights.get(row) + sum);
            }
        }
        self.blocks.iter_mut().flatten().for_each(|block| block.before = HashMap::new());
        self.written = Some(Written { gone: Vec::new(), ahead });
        Ok(())
    }

    /// See [`Contents::changes`](super::super::Contents::changes).
    pub(in super::super) fn changes<'a>(
        &mut self,
        later: impl Iterator<Item = &'a Delta> + Clone,
    ) -> Result<Vec<Delta>> {
        let Some(written) = &mut self.written else { return self.image(later)?.deltas() };
        let mut changes = std::mem::take(&mut written.gone);
        let Later { known, unknown } = self.later(later.clone())?;
        let Some(written) = &self.written else { return Ok(changes) };
        let mut by_block: BTreeMap<usize, BTreeMap<u32, i64>> = BTreeMap::new();
        for (number, block) in self.blocks.iter().enumerate() {
            let Some(block) = block.as_ref().filter(|block| !block.before.is_empty()) else { continue };
            let rows = block.before.iter().map(|(row, before)| (*row, block.weights.get(*row as usize) - before));
            by_block.insert(number, rows.collect());
        }
        for (slot, sum) in known {
            let (number, row) = place(slot);
            let Some(block) = &self.blocks[number] else { continue };
            let change = by_block.entry(number).or_default().entry(row as u32).or_insert_with(|| {
                let weight = self.weight(slot);
                weight - written.ahead.get(&block.identity(row)).copied().unwrap_or(weight)
            });
            *change += sum;
        }
        for (number, rows) in by_block {
            let Some(block) = &self.blocks[number] else { continue };
            let rows = rows.into_iter().filter(|(_, change)| *change != 0).collect();
            changes.extend(block.delta(rows, &self.schema)?);
        }
        let mut of_deltas: BTreeMap<usize, Vec<(u32, i64)>> = BTreeMap::new();
        for (identity, (delta, row, sum)) in unknown {
            let change = sum - written.ahead.get(&identity).copied().unwrap_or(0);
            if change != 0 {
                of_deltas.entry(delta).or_default().push((row, change));
            }
        }
        for (number, delta) in later.enumerate() {
            let Some(mut rows) = of_deltas.remove(&number) else { continue };
            rows.sort_unstable();
            let (rows, weights): (Vec<u32>, Vec<i64>) = rows.into_iter().unzip();
            let taken = Delta::append(delta.rows().clone()).take(&UInt32Array::from(rows))?;
            changes.push(Delta::weighted(taken.rows().clone(), Int64Array::from(weights)));
        }
        Ok(changes)
    }
}
