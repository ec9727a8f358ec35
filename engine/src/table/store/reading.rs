//! Jobs that read a table: as long as one does, the log keeps what it has not read.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::log::{LogEntry, log_key, read_log_value};
use super::stored::Table;
use super::{TableStore, lock, store_error};
use crate::connector::Waker;
use crate::error::{Error, ErrorKind, Result};
use crate::table::Lsn;
use crate::time::Epoch;

/// A job that reads the table.
pub(super) struct Reader {
    /// By worker: all LSNs up to this were read.
    pub(super) positions: Vec<Lsn>,
    pub(super) wakers: Vec<Option<Waker>>,
}

/// A job reads a table, as long as this lives.
pub(crate) struct Reading {
    pub(super) store: Arc<TableStore>,
    pub(super) table: Arc<Table>,
    pub(super) id: u64,
}

impl Reading {
    /// The table's identity.
    pub(crate) fn table(&self) -> Uuid {
        self.table.id
    }

    /// The last LSN that belongs to `epoch`.
    pub(crate) fn bound(&self, epoch: Epoch) -> Result<Lsn> {
        self.store.bound(epoch)
    }

    /// An error once the table was dropped.
    pub(crate) fn check_there(&self) -> Result<()> {
        if self.table.storage.is_dropped.load(Ordering::SeqCst) { Err(self.table.is_gone()) } else { Ok(()) }
    }

    /// Whether the table has durable changes after `lsn`.
    pub(crate) fn has_more(&self, lsn: Lsn) -> bool {
        let last = self.table.storage.last.load(Ordering::SeqCst);
        last > lsn && self.store.durable() > lsn
    }

    /// What to call when there are.
    pub(crate) fn set_waker(&self, worker: usize, waker: Waker) {
        if let Some(slot) =
            lock(&self.table.storage.readers).get_mut(&self.id).and_then(|reader| reader.wakers.get_mut(worker))
        {
            *slot = Some(waker);
        }
    }

    /// A worker has read everything up to `lsn`.
    pub(crate) fn advance(&self, worker: usize, lsn: Lsn) {
        if let Some(slot) =
            lock(&self.table.storage.readers).get_mut(&self.id).and_then(|reader| reader.positions.get_mut(worker))
        {
            *slot = lsn;
        }
    }

    /// The table's changes of these LSNs, in order.
    pub(crate) fn log(&self, lsns: RangeInclusive<Lsn>) -> impl Iterator<Item = Result<LogEntry>> + Send + use<> {
        let (first, last) = (log_key(*lsns.start(), 0), log_key(*lsns.end(), u32::MAX));
        let entries = self.table.storage.log.range(first..=last);
        entries.map(|entry| {
            let value = entry.value().map_err(|error| store_error(&error))?;
            read_log_value(&value).ok_or_else(|| {
                Error::new(ErrorKind::External, "a table's log cannot be read: the data directory is damaged")
            })
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        lock(&self.table.storage.readers).remove(&self.id);
    }
}
