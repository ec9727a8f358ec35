//! What a transaction has changed, and rows as it sees them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use fjall::Readable;
use uuid::Uuid;

use super::Lsn;
use super::store::{Table, store_error};
use crate::error::Result;

/// A key, or a stored row.
pub(crate) type Bytes = Vec<u8>;

/// Changes that are not committed yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    pub(super) tables: BTreeMap<Uuid, PendingTable>,
    bytes: usize,
}

/// Changes of one table: the last word on each key.
#[derive(Debug, Clone)]
pub(super) struct PendingTable {
    pub(super) table: Arc<Table>,
    pub(super) rows: BTreeMap<Bytes, PendingRow>,
}

/// A key's row before the transaction and now; `None`: there is none.
#[derive(Debug, Clone)]
pub(super) struct PendingRow {
    pub(super) before: Option<Bytes>,
    pub(super) after: Option<Bytes>,
}

impl Pending {
    /// Bytes that it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn row(&self, table: &Table, key: &[u8]) -> Option<&PendingRow> {
        self.tables.get(&table.id())?.rows.get(key)
    }

    /// The first changed key after `last`.
    fn after(&self, table: Uuid, last: Option<&Bytes>) -> Option<(&Bytes, &PendingRow)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.tables.get(&table)?.rows.range::<Bytes, _>((from, Bound::Unbounded)).next()
    }
}

/// All tables as of one LSN, with a transaction's own changes on top.
#[derive(Clone)]
pub(crate) struct TableView {
    pub(super) lsn: Lsn,
    pub(super) snapshot: fjall::Snapshot,
    pub(super) pending: Arc<Pending>,
}

impl TableView {
    pub(super) fn new(lsn: Lsn, snapshot: fjall::Snapshot) -> Self {
        Self { lsn, snapshot, pending: Arc::default() }
    }

    /// The last transaction that it shows.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The transaction's own changes.
    pub(crate) fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// The row of a key.
    pub(crate) fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>> {
        if let Some(row) = self.pending.row(table, key) {
            return Ok(row.after.clone());
        }
        let found = self.snapshot.get(&table.storage.rows, key).map_err(|error| store_error(&error))?;
        Ok(found.map(|row| row.to_vec()))
    }

    /// Sets the row of a key; `None` removes it. Answers what was there.
    pub(crate) fn set(&mut self, table: &Arc<Table>, key: Bytes, after: Option<Bytes>) -> Result<Option<Bytes>> {
        let before = self.get(table, &key)?;
        let pending = Arc::make_mut(&mut self.pending);
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Vec::len);
        pending.bytes += 2 * key.len() + size(&before) + size(&after) + 64;
        let of_table = pending
            .tables
            .entry(table.id())
            .or_insert_with(|| PendingTable { table: Arc::clone(table), rows: BTreeMap::new() });
        match of_table.rows.entry(key) {
            Entry::Occupied(mut row) => row.get_mut().after = after,
            Entry::Vacant(row) => {
                row.insert(PendingRow { before: before.clone(), after });
            }
        }
        Ok(before)
    }

    /// All rows, in the order of keys.
    pub(crate) fn rows(&self, table: &Table) -> Rows {
        Rows {
            stored: self.snapshot.iter(&table.storage.rows),
            next: None,
            table: table.id(),
            own: Arc::clone(&self.pending),
            last: None,
        }
    }
}

/// Goes through a table's rows.
pub(crate) struct Rows {
    stored: fjall::Iter,
    /// The next stored row.
    next: Option<(Bytes, Bytes)>,
    table: Uuid,
    own: Arc<Pending>,
    /// The last of the transaction's own keys that was passed.
    last: Option<Bytes>,
}

impl Iterator for Rows {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.next.is_none()
                && let Some(entry) = self.stored.next()
            {
                match entry.into_inner() {
                    Ok((key, row)) => self.next = Some((key.to_vec(), row.to_vec())),
                    Err(error) => return Some(Err(store_error(&error))),
                }
            }
            let Some((own, row)) = self.own.after(self.table, self.last.as_ref()) else {
                return self.next.take().map(Ok);
            };
            match &self.next {
                Some((stored, _)) if stored < own => return self.next.take().map(Ok),
                Some((stored, _)) if stored == own => self.next = None,
                _ => {}
            }
            let found = row.after.clone().map(|row| (own.clone(), row));
            self.last = Some(own.clone());
            if let Some(found) = found {
                return Some(Ok(found));
            }
        }
    }
}
