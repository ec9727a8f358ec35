//! Which rows have changed since the side was last written down, and by which numbers those are known that may be equal.
//!
//! Numbers count up on each worker. A key group has one owner at a time, who counts on behind all numbers that it has read
//! back: key group and number tell rows apart, on however many workers they were numbered.

use arrow::record_batch::RecordBatch;

use super::super::state::gone_rows;
use super::super::store::{Address, Block, address, block_of, row_of};
use super::Side;
use crate::error::Result;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Whether changes are noted, in the blocks.
    on: bool,
    /// Rows that are gone, of blocks that are gone too.
    gone: Vec<RecordBatch>,
    /// The greatest number of a row.
    last: u64,
    /// The greatest number of a row that was written down.
    written: u64,
}

impl Changed {
    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.gone.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    /// Numbers of rows that are put into a block: those that they have, or new ones.
    pub(super) fn number(&mut self, block: &mut Vec<u64>, rows: usize, known: Option<&[u64]>) {
        match known {
            Some(known) => {
                self.last = known.iter().copied().fold(self.last, u64::max);
                block.extend_from_slice(known);
            }
            None => {
                block.extend(self.last + 1..=self.last + rows as u64);
                self.last += rows as u64;
            }
        }
    }

    /// What rows that are put into a block count as.
    pub(super) fn of_new(&self, block: &mut Vec<bool>, rows: usize, carried: &[bool]) {
        if !self.on {
            return;
        }
        match carried {
            [] => block.resize(block.len() + rows, true),
            carried => block.extend_from_slice(carried),
        }
    }
}

impl Side {
    /// The side was written down, or read back: changes are noted from now on.
    pub(in crate::operator::join) fn note_changes(&mut self) {
        self.changed.on = true;
        self.changed.gone.clear();
        self.changed.written = self.changed.last;
        for number in 0..self.store.block_count() {
            if let Some(block) = self.store.block_mut(number) {
                block.changed.clear();
                block.changed.resize(block.rows(), false);
            }
        }
    }

    /// A row's numbers have changed, or it is about to go.
    pub(super) fn note_changed(&mut self, address: Address) {
        if self.changed.on
            && let Some(block) = self.store.block_mut(block_of(address))
        {
            block.changed[row_of(address)] = true;
        }
    }

    /// Whether changes are noted.
    pub(in crate::operator::join) fn notes_changes(&self) -> bool {
        self.changed.on
    }

    /// Whether rows count as changed, one each; for rows that move.
    pub(super) fn changed_flags(&self, rows: &[Address]) -> Vec<bool> {
        match rows.first().and_then(|first| self.store.block(block_of(*first))) {
            Some(block) if self.changed.on => rows.iter().map(|at| block.changed[row_of(*at)]).collect(),
            _ => Vec::new(),
        }
    }

    /// A block is about to go, or what is left of it to move: what has gone of it is remembered.
    pub(super) fn keep_gone(&mut self, number: usize) -> Result<()> {
        if !self.changed.on || !self.memory.changelog {
            return Ok(());
        }
        let (_, gone) = self.changed_of(number);
        if !gone.is_empty() {
            self.changed.gone.push(gone_rows(self, &gone)?);
        }
        Ok(())
    }

    /// All rows of a block are about to be let go by their age, which no column of theirs says.
    pub(super) fn note_over(&mut self, rows: &[Address]) -> Result<()> {
        if !self.changed.on {
            return Ok(());
        }
        if !self.is_numbered() {
            // They are told with their block.
            rows.iter().for_each(|at| self.note_changed(*at));
            return Ok(());
        }
        let written = rows.iter().copied().filter(|at| self.store.number(*at) <= self.changed.written);
        let written: Vec<Address> = written.collect();
        if !written.is_empty() {
            self.changed.gone.push(gone_rows(self, &written)?);
        }
        Ok(())
    }

    /// The rows of a block that have changed: those that are there, and those that are gone.
    fn changed_of(&self, number: usize) -> (Vec<Address>, Vec<Address>) {
        let Some(block) = self.store.block(number) else { return Default::default() };
        let changed = block.changed.iter().enumerate().filter(|(_, changed)| **changed);
        changed.map(|(row, _)| address(number, row)).partition(|at| self.index.is_live(*at))
    }

    /// Takes what has changed: the rows that are there, by block, and of a changelog those that are gone.
    pub(in crate::operator::join) fn take_changed(&mut self) -> Result<(Vec<Vec<Address>>, Vec<RecordBatch>)> {
        let blocks = 0..self.store.block_count();
        if !self.changed.on {
            let all = blocks.map(|number| self.live_rows(number)).filter(|rows| !rows.is_empty()).collect();
            self.note_changes();
            return Ok((all, Vec::new()));
        }
        let mut there = Vec::new();
        for number in blocks {
            // Of most blocks nothing has changed.
            if !self.store.block(number).is_some_and(Block::has_changes) {
                continue;
            }
            let (rows, gone) = self.changed_of(number);
            if self.memory.changelog && !gone.is_empty() {
                let gone = gone_rows(self, &gone)?;
                self.changed.gone.push(gone);
            }
            if !rows.is_empty() {
                there.push(rows);
            }
            if let Some(block) = self.store.block_mut(number) {
                block.changed.fill(false);
            }
        }
        self.changed.written = self.changed.last;
        Ok((there, std::mem::take(&mut self.changed.gone)))
    }
}
