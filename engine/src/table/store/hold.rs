//! What checkpoints need of the tables' logs.
//!
//! A job that goes on from a checkpoint reads each table's changes after the LSN at which it stood. So the log keeps them as
//! long as a checkpoint begins there, whether the job runs, is stopped, or the server does not run at all: a *hold* is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::reading::{Reader, Reading};
use super::stored::Table;
use super::{TableStore, lock, store_error};
use crate::error::{Error, ErrorKind, Result};
use crate::table::Lsn;

fn hold_key(table: Uuid, job: Uuid) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(table.as_bytes());
    key[16..].copy_from_slice(job.as_bytes());
    key
}

impl TableStore {
    /// The holds on a table.
    pub(super) fn holds_of(&self, table: Uuid) -> Result<BTreeMap<Uuid, Lsn>> {
        let mut holds = BTreeMap::new();
        for entry in self.holds.prefix(table.as_bytes()) {
            let (key, value) = entry.into_inner().map_err(|error| store_error(&error))?;
            let job = key.get(16..).and_then(|job| Uuid::from_slice(job).ok());
            let lsn: Option<[u8; 8]> = value.as_ref().try_into().ok();
            let damaged = || Error::new(ErrorKind::External, "the tables' store is damaged: a hold cannot be read");
            let (job, lsn) = job.zip(lsn).ok_or_else(damaged)?;
            holds.insert(job, Lsn::from_be_bytes(lsn));
        }
        Ok(holds)
    }

    /// The log of a table keeps what comes after `lsn` for a job; durable on return.
    pub(crate) fn hold(&self, job: Uuid, table: Uuid, lsn: Lsn) -> Result<()> {
        let storage = lock(&self.open).get(&table).and_then(std::sync::Weak::upgrade);
        let Some(storage) = storage else { return Ok(()) };
        if lock(&storage.holds).get(&job) == Some(&lsn) {
            return Ok(());
        }
        self.holds.insert(hold_key(table, job), lsn.to_be_bytes()).map_err(|error| store_error(&error))?;
        self.database.persist(self.durability).map_err(|error| store_error(&error))?;
        lock(&storage.holds).insert(job, lsn);
        self.trim(&storage)
    }

    /// Nothing is kept for a job any more.
    pub(crate) fn let_go(&self, job: Uuid) -> Result<()> {
        let open = lock(&self.open).clone();
        for (table, storage) in open {
            let Some(storage) = storage.upgrade() else { continue };
            if lock(&storage.holds).remove(&job).is_some() {
                self.holds.remove(hold_key(table, job)).map_err(|error| store_error(&error))?;
                self.trim(&storage)?;
            }
        }
        Ok(())
    }

    /// Nothing is kept for jobs that do not exist any more.
    pub(crate) fn hold_only_for(&self, jobs: &[Uuid]) -> Result<()> {
        let mut gone = Vec::new();
        for entry in self.holds.iter() {
            let key = entry.key().map_err(|error| store_error(&error))?;
            let job = key.get(16..).and_then(|job| Uuid::from_slice(job).ok());
            if job.is_none_or(|job| !jobs.contains(&job)) {
                gone.push(key);
            }
        }
        for key in gone {
            self.holds.remove(key).map_err(|error| store_error(&error))?;
        }
        Ok(())
    }

    /// Goes on reading a table's changes after `lsn`.
    pub(crate) fn resume_reading(self: &Arc<Self>, table: &Arc<Table>, workers: usize, lsn: Lsn) -> Result<Reading> {
        if table.storage.is_dropped.load(Ordering::SeqCst) {
            return Err(table.is_gone());
        }
        let id = self.next_reader.fetch_add(1, Ordering::SeqCst);
        let reader = Reader { positions: vec![lsn; workers], wakers: vec![None; workers] };
        {
            let _committed = lock(&self.committed);
            lock(&table.storage.readers).insert(id, reader);
        }
        let reading = Reading { store: Arc::clone(self), table: Arc::clone(table), id };
        let trimmed = table.storage.trimmed.load(Ordering::SeqCst);
        if lsn < trimmed {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!(
                    "the checkpoint goes on after change {lsn} of table '{}', and its log begins after change {trimmed}",
                    table.name
                ),
            )
            .with_hint("drop and create the job: it is then built from the table's rows"));
        }
        Ok(reading)
    }
}
