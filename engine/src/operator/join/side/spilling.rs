//! Rows of a side that memory has no room for.
//!
//! The oldest blocks go to disk. Before rows are matched, those on disk with the same keys are brought back (of both sides,
//! where a row may be retracted), so that nothing else of a join knows that rows are ever away. They are young again then:
//! what is looked for often stays.
//!
//! Rows that never change go to files that the next checkpoint has as they are ([`pledged`](super::pledged)).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::super::super::columns::canonical;
use super::super::super::deferred::{DeferredPart, SectionRows};
use super::super::super::expression::batch;
use super::super::store::{Address, Block, block_of, row_of};
use super::{Entries, Side};
use crate::error::{Error, Result};
use crate::state::key_group::hash_keys;
use crate::state::spill::{
    Cold, Rows, SectionView, SectionWriter, Sections, SpillSpace, SpilledSize, WholeFile, WholeWriter, order,
    rows_of_a_block, together,
};

/// Blocks of a section that are gathered at one time: each time all chunks are looked at in which one of their rows may lie.
const GATHERED_BLOCKS: usize = 64;

/// Blocks with rows that no checkpoint has been told of stay in memory, if they are at most such a part of what is to go.
const UNTOLD_PART: usize = 4;

/// Bytes of sections that one call puts together.
const MERGED_PER_CALL: usize = 4 << 20;

impl Side {
    /// Whether rows can be found on disk: by a key. Those that go with a time to live are let go by their blocks.
    pub(in crate::operator::join) fn can_spill(&self) -> bool {
        !self.keys.is_empty() && self.ages.is_none()
    }

    /// Rows that memory has no room for may go there.
    pub(in crate::operator::join) fn spill_to(&mut self, space: Arc<dyn SpillSpace>) {
        if space.is_kept() {
            self.pledge();
        }
        self.cold = Some(Cold::new(space));
    }

    /// Whether rows are on disk.
    pub(in crate::operator::join) fn is_spilled(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.is_empty())
    }

    /// About how many bytes so many of the rows in memory take.
    pub(in crate::operator::join) fn bytes_of(&self, rows: usize) -> usize {
        self.rows_bytes() / self.live.max(1) * rows
    }

    /// Whether a copy of so many rows in memory has room there, and stands for all rows.
    pub(in crate::operator::join) fn has_room_for(&self, rows: usize) -> bool {
        let Some(cold) = &self.cold else { return true };
        cold.is_empty() && self.bytes_of(rows) <= cold.space().portion()
    }

    /// Bytes of memory for what is on disk.
    pub(in crate::operator::join) fn spilled_index(&self) -> usize {
        self.cold.as_ref().map_or(0, Cold::memory_size)
    }

    /// How much is on disk.
    pub(in crate::operator::join) fn spilled(&self) -> SpilledSize {
        self.cold.as_ref().map(Cold::size).unwrap_or_default()
    }

    /// Where rows of these columns are to be looked for.
    pub(in crate::operator::join) fn orders(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let keys = self.keys.iter().map(|key| canonical(&columns[*key])).collect::<Result<Vec<_>>>()?;
        let mut hashes = Vec::new();
        hash_keys(&keys, rows, &mut hashes)?;
        Ok(hashes.into_iter().map(order).collect())
    }

    /// Brings back all rows with these keys, as far as they have room for the moment. Answers for how many of them.
    pub(in crate::operator::join) fn bring_back(&mut self, orders: &[u64]) -> Result<usize> {
        let Some(cold) = &mut self.cold else { return Ok(orders.len()) };
        let portion = cold.space().portion();
        let (taken, done) = cold.take(orders, portion)?;
        if let Some(rows) = together(&taken)? {
            drop(taken);
            self.take_in(rows)?;
        }
        Ok(done)
    }

    fn take_in(&mut self, rows: Rows) -> Result<()> {
        let width = self.width();
        let Rows { mut rows, mut changed, .. } = rows;
        if let Some(useful) = self.useful(&rows)? {
            changed =
                changed.into_iter().zip(useful.values()).filter(|(_, useful)| *useful).map(|(it, _)| it).collect();
            rows = filter_record_batch(&rows, &useful)?;
        }
        let columns = rows.columns()[..width].to_vec();
        let hashes = self.hashes(&columns, rows.num_rows())?;
        let mut others = rows.columns()[width..].iter();
        let mut next = || others.next().ok_or_else(|| Error::internal("spilled rows of a join lack a column"));
        let (mut weights, mut identities, mut matches) = (Vec::new(), Vec::new(), Vec::new());
        if self.memory.changelog {
            weights = next()?.as_primitive::<Int64Type>().values().to_vec();
            identities = next()?.as_primitive::<UInt64Type>().values().to_vec();
        }
        if self.memory.counted {
            matches = next()?.as_primitive::<Int64Type>().values().to_vec();
        }
        let mut numbers = Vec::new();
        if self.is_numbered() {
            numbers = next()?.as_primitive::<UInt64Type>().values().to_vec();
        }
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

    /// Which rows were not let go yet; `None`: all.
    fn useful(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        match &self.release {
            Some(release) => release.useful(rows.columns()),
            None => Ok(None),
        }
    }

    /// Puts the oldest rows to disk until about `target` bytes are left in memory. No row may be touched that was not
    /// settled.
    pub(in crate::operator::join) fn spill(&mut self, target: usize) -> Result<()> {
        debug_assert!(self.touched.is_empty());
        if self.cold.is_none() {
            return Ok(());
        }
        let mut leaving = self.oldest(target);
        let (bytes, untold) = (self.bytes_of_blocks(&leaving), self.bytes_of_blocks(&self.with_changes(&leaving)));
        // The next checkpoint would read all that goes with them back: few of them stay until it has been told.
        if untold <= bytes / UNTOLD_PART {
            leaving.retain(|number| self.store.block(*number).is_some_and(|block| !block.has_changes()));
        }
        self.put_away(&leaving)
    }

    /// As [`Self::spill`], of those rows alone of which no checkpoint has been told; not if they are fewer than `least` bytes.
    pub(in crate::operator::join) fn spill_untold(&mut self, target: usize, least: usize) -> Result<()> {
        let leaving = self.with_changes(&self.oldest(target));
        if leaving.is_empty() || self.bytes_of_blocks(&leaving) < least { Ok(()) } else { self.put_away(&leaving) }
    }

    /// The oldest blocks, without which about `target` bytes are left.
    fn oldest(&self, target: usize) -> Vec<usize> {
        let mut blocks: Vec<(u64, usize)> =
            (0..self.store.block_count()).filter_map(|number| Some((self.store.block(number)?.born, number))).collect();
        blocks.sort_unstable();
        let index_of_a_row = self.index_bytes() / self.live.max(1);
        let mut held = self.store.memory_size() + self.index_bytes();
        let mut oldest = Vec::new();
        for (_, number) in blocks {
            let Some(block) = self.store.block(number).filter(|_| held > target) else { break };
            held = held.saturating_sub(block.bytes() + block.live * index_of_a_row);
            oldest.push(number);
        }
        oldest
    }

    /// Those blocks of some that have rows of which no checkpoint has been told.
    fn with_changes(&self, blocks: &[usize]) -> Vec<usize> {
        let has_changes = |number: &usize| self.store.block(*number).is_some_and(Block::has_changes);
        blocks.iter().copied().filter(has_changes).collect()
    }

    fn bytes_of_blocks(&self, blocks: &[usize]) -> usize {
        blocks.iter().filter_map(|number| Some(self.store.block(*number)?.bytes())).sum()
    }

    /// Puts blocks to disk.
    fn put_away(&mut self, leaving: &[usize]) -> Result<()> {
        let bytes = self.bytes_of_blocks(leaving);
        let latest = leaving.iter().filter_map(|number| Some(self.store.block(*number)?.latest)).max();
        let mut rows: Vec<Address> = Vec::new();
        for number in leaving {
            rows.extend(self.live_rows(*number));
        }
        let (latest, bytes_of_a_row) = (latest.unwrap_or(i64::MIN), bytes / rows.len().max(1));
        let (untold, told) = self.untold(rows);
        let mut sections = self.sections(told, bytes_of_a_row, latest)?;
        let (more, files) = self.whole_files(untold, bytes_of_a_row, latest)?;
        sections.extend(more);
        if let Some(cold) = &mut self.cold {
            cold.add(sections);
        }
        self.pledge_files(files);
        let untidy = self.untidy;
        leaving.iter().try_for_each(|number| self.forget_block(*number))?;
        self.untidy = untidy;
        self.index.shrink_to_fit();
        if self.identities.len() * 2 < self.identities.capacity() {
            let store = &self.store;
            self.identities.shrink_to(self.identities.len(), |at| store.identity(*at));
        }
        Ok(())
    }

    /// Forgets a block whose rows are elsewhere.
    fn forget_block(&mut self, number: usize) -> Result<()> {
        if self.store.is_tail(number) {
            self.store.seal();
        }
        if !self.memory.changelog && self.index.is_unlinked(number) {
            self.live -= self.store.block(number).map_or(0, |block| block.live);
        } else {
            self.keep_gone(number)?;
            let live = self.live_rows(number);
            self.forget(&live)?;
        }
        self.free_block(number);
        Ok(())
    }

    /// Writes rows, with all that is known of each, in their order.
    fn sections(&self, rows: Vec<Address>, bytes_of_a_row: usize, latest: i64) -> Result<Sections> {
        let (Some(cold), false) = (&self.cold, rows.is_empty()) else { return Ok(Vec::new()) };
        let file = cold.space().create()?;
        let mut writer = SectionWriter::new(Arc::clone(&file), latest);
        self.in_order(rows, bytes_of_a_row, |rows, of_a_block| writer.push_blocks(rows, of_a_block))?;
        file.seal()?;
        Ok(writer.finish())
    }

    /// Writes rows to files that checkpoints are to have: they count as told.
    fn whole_files(
        &self,
        rows: Vec<Address>,
        bytes_of_a_row: usize,
        latest: i64,
    ) -> Result<(Sections, Vec<WholeFile>)> {
        let (Some(cold), false) = (&self.cold, rows.is_empty()) else { return Ok(Default::default()) };
        let mut writer = WholeWriter::new(Arc::clone(cold.space()), latest);
        self.in_order(rows, bytes_of_a_row, |rows, of_a_block| {
            rows.changed.fill(false);
            writer.push_blocks(rows, of_a_block)
        })?;
        writer.finish()
    }

    /// Hands over rows in their order, and how many of them make a block.
    fn in_order(
        &self,
        rows: Vec<Address>,
        bytes_of_a_row: usize,
        mut push: impl FnMut(&mut Rows, usize) -> Result<()>,
    ) -> Result<()> {
        let rows_of_a_block = rows_of_a_block(bytes_of_a_row);
        for some in self.sorted(rows)?.chunks(rows_of_a_block * GATHERED_BLOCKS) {
            let addresses: Vec<Address> = some.iter().map(|(_, address)| *address).collect();
            let changed = match self.notes_changes() {
                true => {
                    addresses.iter().map(|at| self.of(*at).is_some_and(|block| block.changed[row_of(*at)])).collect()
                }
                false => vec![false; addresses.len()],
            };
            let orders = some.iter().map(|(order, _)| *order).collect();
            push(&mut Rows { rows: self.whole(&addresses)?, orders, changed }, rows_of_a_block)?;
        }
        Ok(())
    }

    /// Rows by where they are looked for.
    fn sorted(&self, rows: Vec<Address>) -> Result<Vec<(u64, Address)>> {
        let mut sorted = Vec::with_capacity(rows.len());
        for some in rows.chunks(super::super::store::BLOCK_ROWS) {
            let gather = self.store.gather(some);
            let keys = self.keys.iter().map(|key| canonical(&gather.column(*key)?)).collect::<Result<Vec<_>>>()?;
            let mut hashes = Vec::new();
            hash_keys(&keys, some.len(), &mut hashes)?;
            sorted.extend(hashes.into_iter().map(order).zip(some.iter().copied()));
        }
        sorted.sort_unstable();
        Ok(sorted)
    }

    pub(super) fn of(&self, address: Address) -> Option<&Block> {
        self.store.block(block_of(address))
    }

    /// Rows with all that is known of each but whether it has changed.
    fn whole(&self, rows: &[Address]) -> Result<RecordBatch> {
        let gather = self.store.gather(rows);
        let mut columns = (0..self.width()).map(|column| gather.column(column)).collect::<Result<Vec<_>>>()?;
        if self.memory.changelog {
            columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|at| self.store.weight(*at)))));
            columns.push(Arc::new(UInt64Array::from_iter_values(rows.iter().map(|at| self.store.identity(*at)))));
        }
        if self.memory.counted {
            columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|at| self.store.matches(*at)))));
        }
        if self.is_numbered() {
            columns.push(Arc::new(UInt64Array::from_iter_values(rows.iter().map(|at| self.store.number(*at)))));
        }
        // A part's columns, where checkpoints have the file.
        let own = self.schema.fields();
        let mut fields: Vec<_> = own.iter().cloned().collect();
        let more = columns.iter().enumerate().skip(own.len());
        fields
            .extend(more.map(|(at, column)| Arc::new(Field::new(format!("c{at}"), column.data_type().clone(), true))));
        batch(&Arc::new(Schema::new(fields)), columns, rows.len())
    }

    /// Goes on putting what is on disk in order. Answers whether nothing is left to do.
    pub(in crate::operator::join) fn tidy_spilled(&mut self) -> Result<bool> {
        let Some(cold) = &mut self.cold else { return Ok(true) };
        let release = &self.release;
        cold.tidy(MERGED_PER_CALL, |rows| match release {
            Some(release) => release.useful(rows.columns()),
            None => Ok(None),
        })
    }

    /// The rows of the side, or those that have changed, for a checkpoint that reads them later: rows in memory are written
    /// to disk for it, since there is no room for a second copy. What has changed is told by that.
    pub(in crate::operator::join) fn told(
        &mut self,
        (name, schema): (&str, SchemaRef),
        hot: Vec<Address>,
        only_changed: bool,
    ) -> Result<Vec<DeferredPart>> {
        let copied = self.sections(hot, self.store.memory_size() / self.live.max(1), i64::MAX)?;
        let cold = self.cold.as_mut().map(|cold| cold.told(only_changed)).unwrap_or_default();
        let mut sections: Vec<_> =
            copied.into_iter().map(|(group, section)| (group, SectionView::all(section))).chain(cold).collect();
        sections.sort_by_key(|(group, _)| *group);
        let width = self.schema.fields().len();
        let mut columns: Vec<usize> = (0..width).collect();
        let mut next = self.width();
        if self.memory.changelog {
            columns.push(next);
            // The identity is made anew.
            next += 2;
        }
        if self.memory.counted {
            columns.push(next);
            next += 1;
        }
        if self.is_numbered() {
            columns.push(next);
        }
        if sections.is_empty() {
            return Ok(Vec::new());
        }
        let rows = Arc::new(SectionRows { sections, columns, schema });
        Ok(vec![DeferredPart { name: name.to_owned(), rows }])
    }
}
