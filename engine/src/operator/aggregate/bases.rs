//! What windows of CUMULATE have taken up: a base for each start, which grows from window to window.
//!
//! A checkpoint has bases apart from slices: a late row begins the first slice of a base anew. And slices that were taken up
//! go by their groups there, not by a time, since a late row begins any of them anew while a window that covers it is open.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;

use super::output::{forgotten_rows, no_changes, table_changes, table_parts};
use super::table::{Forgotten, Rows, Shape, Table};
use crate::error::Result;
use crate::operator::StatePart;
use crate::operator::change::ChangedRows;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Bases {
    /// By the start of the windows.
    tables: BTreeMap<i64, Table>,
    /// Groups of slices that were taken up since the state was last written down, and had been written.
    taken: Vec<(i64, Forgotten)>,
}

impl Bases {
    /// The part of a snapshot that holds them: the same columns as that of the slices.
    pub(super) const PART: &str = "bases";

    /// Takes the base of the windows of one start away, to let it grow.
    pub(super) fn take(&mut self, start: i64) -> Option<Table> {
        self.tables.remove(&start)
    }

    /// Puts it back, or the first one.
    pub(super) fn put(&mut self, start: i64, table: Table) {
        self.tables.insert(start, table);
    }

    /// A slice was taken up.
    pub(super) fn took_up(&mut self, slice: i64, table: &Table) -> Result<()> {
        if !table.notes_changes() {
            return Ok(());
        }
        let written = table.written(&table.live())?;
        self.taken.extend(written.map(|groups| (slice, groups)));
        Ok(())
    }

    /// All of them, as parts of a snapshot.
    pub(super) fn snapshot(&mut self, schema: &SchemaRef) -> Result<Vec<StatePart>> {
        self.taken.clear();
        let mut parts = Vec::new();
        for (start, table) in &mut self.tables {
            parts.extend(table_parts(Self::PART, schema, table, &[*start], &[])?);
        }
        Ok(parts)
    }

    /// What has changed of them; `slices` are told which of theirs were taken up.
    pub(super) fn changes(&mut self, schema: &SchemaRef, slices: &mut ChangedRows) -> Result<ChangedRows> {
        for (slice, groups) in self.taken.drain(..) {
            slices.gone.push(forgotten_rows(schema, groups, &[slice])?);
        }
        let mut bases = ChangedRows { below: slices.below, ..no_changes(Self::PART, slices.keys.len()) };
        for (start, table) in &mut self.tables {
            table_changes(&mut bases, schema, table, &[*start], &[])?;
        }
        Ok(bases)
    }

    /// Takes up groups of a snapshot.
    pub(super) fn restore(&mut self, start: i64, rows: &Rows, shape: &Shape) -> Result<()> {
        match self.tables.entry(start) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut().add(rows),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Table::new(shape)?).add(rows),
        }
    }

    /// All is read back: changes are noted from now on.
    pub(super) fn note_changes(&mut self) {
        self.tables.values_mut().for_each(Table::note_changes);
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// Bytes of memory held besides the tables.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.taken.iter().flat_map(|(_, (keys, _))| keys);
        columns.map(|column| column.get_array_memory_size()).sum()
    }
}
