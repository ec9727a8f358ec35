//! Groups of a running aggregate that memory has no room for.
//!
//! When an epoch has ended, groups that no row has touched of late go to disk, until half of what may be held is left. Before rows are
//! added, those of their groups that are on disk are brought back, as a snapshot's are taken up.

use std::sync::Arc;

use super::output::{batch, group_columns, with_group};
use super::table::{Rows, Shape, Table};
use super::tracked::Tracked;
use crate::error::Result;
use crate::operator::Step;
use crate::operator::deferred::{DeferredPart, SectionRows};
use crate::state::key_group::hash_keys;
use crate::state::slots::Slot;
use crate::state::spill::{
    Cold, Rows as ColdRows, Section, SectionView, SectionWriter, SpillSpace, SpilledSize, order, rows_of_a_block,
    together,
};
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

/// Bytes of sections that one call puts together.
const MERGED_PER_CALL: usize = 4 << 20;

/// Groups whose keys are looked at together.
const PIECE: usize = 16 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Away {
    cold: Cold,
    /// By slot: a row has touched the group since groups went to disk the last time.
    used: Vec<bool>,
}

fn orders(keys: &[ArrayRef], count: usize) -> Result<Vec<u64>> {
    let mut hashes = Vec::new();
    hash_keys(keys, count, &mut hashes)?;
    Ok(hashes.into_iter().map(order).collect())
}

/// What a table holds: of one that has many groups fewer than it had, what is in use; the rest is used before it grows.
fn held(groups: &mut Tracked) -> (usize, usize) {
    let bytes = groups.bytes();
    let table = groups.table();
    let (live, bound) = (table.len(), table.bound());
    let in_use = bytes / bound.max(1) * live;
    (if live < bound / 8 * 7 { in_use } else { bytes }, in_use / live.max(1))
}

impl Away {
    pub(super) fn new(space: Arc<dyn SpillSpace>) -> Self {
        Self { cold: Cold::new(space), used: Vec::new() }
    }

    /// How much is on disk.
    pub(super) fn size(&self) -> SpilledSize {
        self.cold.size()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.cold.memory_size() + self.used.capacity()
    }

    /// Rows have touched groups. Before the first ones go to disk nobody asks which.
    pub(super) fn note_used(&mut self, slots: &[Slot]) {
        if self.cold.is_empty() {
            return;
        }
        let bound = slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        if self.used.len() < bound {
            self.used.resize(bound, false);
        }
        slots.iter().for_each(|slot| self.used[*slot as usize] = true);
    }

    /// Brings back those groups of the rows that are on disk.
    pub(super) fn bring_back(&mut self, rows: &Rows, table: &mut Table, shape: &Shape) -> Result<()> {
        if self.cold.is_empty() || rows.count == 0 {
            return Ok(());
        }
        let mut wanted = orders(&rows.keys, rows.count)?;
        wanted.sort_unstable();
        wanted.dedup();
        let portion = self.cold.space().portion();
        let (keys, calls) = (shape.keys.len(), &shape.calls);
        let mut from = 0;
        while from < wanted.len() {
            let (taken, done) = self.cold.take(&wanted[from..], portion)?;
            from += done;
            if let Some(groups) = together(&taken)? {
                table.add(&Rows::partial(&groups.rows, keys, keys, calls))?;
                table.remember(&groups.rows.columns()[keys + Rows::width(calls)..], calls)?;
                table.brought_back(&groups.changed);
            }
        }
        Ok(())
    }

    /// Makes room at the end of an epoch, where more is held than may be, and puts what is on disk in order.
    pub(super) fn make_room(&mut self, groups: &mut Tracked, shape: &Shape, schema: &SchemaRef) -> Result<Step> {
        let (held, each) = held(groups);
        let index = self.cold.memory_size();
        let allowed = self.cold.space().allowance(held + index);
        if held + index > allowed && held > 0 {
            let target = (allowed.saturating_sub(index).max(allowed / 8) / 2) / each.max(1);
            let leaving = self.leaving(groups.table(), target);
            let sections = self.sections(groups.table(), shape, schema, each, &leaving)?;
            self.cold.add(sections);
            groups.table().evict(&leaving);
            self.used.clear();
            self.cold.space().allowance(held.saturating_sub(each * leaving.len()) + self.cold.memory_size());
        }
        Ok(if self.cold.tidy(MERGED_PER_CALL, |_| Ok(None))? { Step::Done } else { Step::Yield })
    }

    /// Which groups go, so that `staying` are left: first those that no row has touched.
    fn leaving(&self, table: &Table, staying: usize) -> Vec<Slot> {
        let is_used = |slot: &Slot| self.used.get(*slot as usize).copied().unwrap_or(false);
        let (used, mut leaving): (Vec<Slot>, Vec<Slot>) = table.live().into_iter().partition(is_used);
        leaving.extend(used);
        leaving.truncate(leaving.len().saturating_sub(staying));
        leaving
    }

    /// Writes groups.
    fn sections(
        &self,
        table: &mut Table,
        shape: &Shape,
        schema: &SchemaRef,
        bytes_of_a_group: usize,
        groups: &[Slot],
    ) -> Result<Vec<(u8, Section)>> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let mut sorted: Vec<(u64, Slot)> = Vec::with_capacity(groups.len());
        for some in groups.chunks(PIECE) {
            sorted.extend(orders(&table.keys(some)?, some.len())?.into_iter().zip(some.iter().copied()));
        }
        sorted.sort_unstable();
        let file = self.cold.space().create()?;
        let mut writer = SectionWriter::new(Arc::clone(&file), i64::MAX);
        for block in sorted.chunks(rows_of_a_block(bytes_of_a_group)) {
            let slots: Vec<Slot> = block.iter().map(|(_, slot)| *slot).collect();
            let (columns, _) = group_columns(table, &slots, &[], &shape.calls)?;
            writer.push(&ColdRows {
                rows: batch(schema, columns, slots.len())?,
                orders: block.iter().map(|(order, _)| *order).collect(),
                changed: slots.iter().map(|slot| table.has_changed(*slot)).collect(),
            })?;
        }
        file.seal()?;
        Ok(writer.finish())
    }

    /// Whether a copy of so many groups in memory has room there, and stands for all of them.
    pub(super) fn has_room_for(&self, table: &Table, groups: usize) -> bool {
        self.cold.is_empty() && table.bytes() / table.bound().max(1) * groups <= self.cold.space().portion()
    }

    /// All groups, or those that have changed, for a checkpoint that reads them later; `hot` are those of them in memory, of
    /// which a copy is written. What has changed is told by that.
    pub(super) fn told(
        &mut self,
        name: &str,
        (table, shape, schema): (&mut Table, &Shape, &SchemaRef),
        hot: Vec<Slot>,
        only_changed: bool,
    ) -> Result<Option<DeferredPart>> {
        let each = table.bytes() / table.bound().max(1);
        let copied = self.sections(table, shape, schema, each, &hot)?;
        let copied = copied.into_iter().map(|(group, section)| (group, SectionView::all(section)));
        let mut sections: Vec<_> = copied.chain(self.cold.told(only_changed)).collect();
        if sections.is_empty() {
            return Ok(None);
        }
        sections.sort_by_key(|(group, _)| *group);
        let columns = (0..schema.fields().len()).collect();
        let rows = Arc::new(SectionRows { sections, columns, schema: with_group(schema) });
        Ok(Some(DeferredPart { name: name.to_owned(), rows }))
    }
}
