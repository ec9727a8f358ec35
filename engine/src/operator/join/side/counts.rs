//! How many rows of the other side each row meets, and which rows an epoch touched.

use super::super::store::{Address, block_of, row_of};
use super::Side;

/// A row whose part in the answer may be another one at the end of the epoch, as it was before.
#[derive(Debug, Clone, Copy)]
pub(in crate::operator::join) struct Touched {
    pub(in crate::operator::join) address: Address,
    pub(in crate::operator::join) weight: i64,
    pub(in crate::operator::join) matches: i64,
}

impl Side {
    /// Whether rows were touched that have not been looked at.
    pub(in crate::operator::join) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// A row meets `by` rows more than before (fewer, if negative).
    pub(in crate::operator::join) fn add_matches(&mut self, address: Address, by: i64) {
        self.touch(address);
        self.note_changed(address);
        if let Some(block) = self.store.block_mut(block_of(address)) {
            let matches = &mut block.matches[row_of(address)];
            // What overflows on the way comes back: the sum at the end of an epoch is a number of rows.
            *matches = matches.wrapping_add(by);
        }
    }

    /// Remembers what a row was before this epoch.
    pub(super) fn touch(&mut self, address: Address) {
        if !self.memory.watched {
            return;
        }
        let weight = self.weight(address);
        if let Some(block) = self.store.block_mut(block_of(address)) {
            let row = row_of(address);
            if !std::mem::replace(&mut block.touched[row], true) {
                self.touched.push(Touched { address, weight, matches: block.matches[row] });
            }
        }
    }

    /// Rows that were not there before this epoch.
    pub(super) fn touch_new(&mut self, addresses: &[Address]) {
        if !self.memory.watched {
            return;
        }
        for address in addresses {
            if let Some(block) = self.store.block_mut(block_of(*address)) {
                block.touched[row_of(*address)] = true;
            }
        }
        self.touched.extend(addresses.iter().map(|&address| Touched { address, weight: 0, matches: 0 }));
    }

    /// Some of the rows that were touched, at most `limit`; they count as untouched from now on.
    pub(in crate::operator::join) fn take_touched(&mut self, limit: usize) -> Vec<Touched> {
        let rows = self.touched.split_off(self.touched.len().saturating_sub(limit));
        for row in &rows {
            if let Some(block) = self.store.block_mut(block_of(row.address)) {
                block.touched[row_of(row.address)] = false;
            }
        }
        if self.touched.is_empty() && self.touched.capacity() > 1 << 16 {
            self.touched = Vec::new();
        }
        rows
    }
}
