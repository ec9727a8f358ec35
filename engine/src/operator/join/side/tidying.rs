//! Letting rows go that nothing can meet any more, and compacting what remains.

use super::super::release::ticks;
use super::super::store::{Address, address, row_of};
use super::ages::BlockAges;
use super::{Entries, Side};
use crate::error::Result;
use crate::time::Watermarks;

/// A block that is still being filled is only compacted when it has this many rows.
const SMALLEST_COMPACTION: usize = 1024;

impl Side {
    /// An epoch begins.
    pub(in crate::operator::join) fn begin_epoch(&mut self, now_micros: i64) {
        if let Some(ages) = &mut self.ages
            && ages.begin_epoch(now_micros)
        {
            // The rows of a block are of one age.
            self.store.seal();
        }
    }

    /// An epoch ends: [`Side::tidy`] lets rows go whose time is over.
    pub(in crate::operator::join) fn grow_old(&mut self) {
        if let Some(ages) = &mut self.ages
            && ages.advance()
        {
            self.untidy = true;
        }
    }

    /// When rows are over without anything else happening.
    pub(in crate::operator::join) fn next_timer(&self) -> Option<i64> {
        self.ages.as_ref().and_then(BlockAges::next)
    }

    /// Moves the time below which rows are let go; [`Side::tidy`] does it.
    pub(in crate::operator::join) fn advance(&mut self, watermarks: &Watermarks) {
        if let Some(release) = &mut self.release
            && release.advance(watermarks)
        {
            self.untidy = true;
            if let Some(cold) = &mut self.cold {
                cold.drop_below(release.released_below);
            }
        }
    }

    /// Lets rows of a block go that can't match any more, and moves the others when most of it is dead. Answers how
    /// many rows that touched.
    pub(in crate::operator::join) fn tidy(&mut self, number: usize) -> Result<usize> {
        let Some(block) = self.store.block(number) else { return Ok(0) };
        let mut touched = 0;
        if self.ages.as_ref().is_some_and(|ages| ages.is_over(number)) {
            let live = block.live;
            let goes_whole = !self.memory.changelog && self.index.is_unlinked(number);
            // Which rows a block has that goes as a whole is asked for a checkpoint alone.
            let leaving = if goes_whole && !self.notes_changes() { Vec::new() } else { self.live_rows(number) };
            self.note_over(&leaving)?;
            if goes_whole {
                self.live -= live;
            } else {
                touched += leaving.len();
                self.forget(&leaving)?;
            }
            self.drop_block(number)?;
            return Ok(touched + 1);
        }
        let below = self.release.as_ref().map_or(i64::MIN, |release| release.released_below);
        if block.latest < below && !self.memory.changelog && self.index.is_unlinked(number) {
            self.live -= block.live;
            self.drop_block(number)?;
            return Ok(1);
        }
        if block.earliest < below {
            touched += block.rows();
            self.let_go(number)?;
        }
        let Some(block) = self.store.block(number) else { return Ok(touched) };
        let (live, rows) = (block.live, block.rows());
        if live == 0 {
            self.drop_block(number)?;
        } else if live * 2 <= rows && (!self.store.is_tail(number) || rows >= SMALLEST_COMPACTION) {
            touched += live;
            self.compact(number)?;
        }
        Ok(touched)
    }

    /// To be called when all blocks were tidied.
    pub(in crate::operator::join) fn finish_tidying(&mut self) {
        self.untidy = false;
        self.index.shrink();
        if self.identities.capacity() > 1024 && self.identities.len() * 4 < self.identities.capacity() {
            let store = &self.store;
            self.identities.shrink_to(self.identities.len() * 2, |at| store.identity(*at));
        }
    }

    /// The rows of a block that are to be let go, and the earliest time of the others.
    pub(in crate::operator::join) fn leaving(&self, number: usize) -> Result<(Vec<Address>, i64)> {
        let mut leaving: Vec<Address> = Vec::new();
        let mut earliest = i64::MAX;
        let (Some(release), Some(block)) = (&self.release, self.store.block(number)) else {
            return Ok((leaving, earliest));
        };
        if block.earliest >= release.released_below {
            return Ok((leaving, block.earliest));
        }
        for (start, piece) in block.pieces(release.column) {
            for (row, time) in ticks(piece)?.iter().enumerate() {
                let at = address(number, start + row);
                let Some(time) = time else { continue };
                if self.index.is_live(at) {
                    if time < release.released_below {
                        leaving.push(at);
                    } else {
                        earliest = earliest.min(time);
                    }
                }
            }
        }
        Ok((leaving, earliest))
    }

    fn let_go(&mut self, number: usize) -> Result<()> {
        let (leaving, earliest) = self.leaving(number)?;
        self.forget(&leaving)?;
        if let Some(block) = self.store.block_mut(number) {
            block.earliest = earliest;
        }
        Ok(())
    }

    fn drop_block(&mut self, number: usize) -> Result<()> {
        self.keep_gone(number)?;
        self.free_block(number);
        Ok(())
    }

    pub(super) fn free_block(&mut self, number: usize) {
        self.index.free(number);
        self.store.release(number);
    }

    fn compact(&mut self, number: usize) -> Result<()> {
        if self.store.is_tail(number) {
            self.store.seal();
        }
        let live = self.live_rows(number);
        let gather = self.store.gather(&live);
        let columns = (0..self.width()).map(|column| gather.column(column)).collect::<Result<Vec<_>>>()?;
        let hashes = self.hashes(&columns, live.len())?;
        let (mut weights, mut identities, mut matches) = (Vec::new(), Vec::new(), Vec::new());
        if let (true, Some(block)) = (self.memory.changelog, self.store.block(number)) {
            weights.extend(live.iter().map(|at| block.weights[row_of(*at)]));
            identities.extend(live.iter().map(|at| block.identities[row_of(*at)]));
        }
        if let (true, Some(block)) = (self.memory.counted, self.store.block(number)) {
            matches.extend(live.iter().map(|at| block.matches[row_of(*at)]));
        }
        let is_numbered = self.is_numbered();
        let numbers = live.iter().filter(|_| is_numbered).map(|at| self.store.number(*at));
        let numbers: Vec<u64> = numbers.collect();
        let changed = self.changed_flags(&live);
        self.keep_gone(number)?;
        for (address, hash) in live.into_iter().zip(&hashes) {
            self.remove(address, *hash);
        }
        self.free_block(number);
        let entries = Entries {
            hashes: &hashes,
            weights: &weights,
            identities: &identities,
            matches: &matches,
            numbers: &numbers,
            changed: &changed,
        };
        self.insert(&columns, entries)?;
        Ok(())
    }
}
