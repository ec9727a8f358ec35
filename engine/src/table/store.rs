//! The store: tables' rows and logs in an embedded database in the data directory.
//!
//! Transactions are committed one after the other, each as one atomic write under the next LSN. They are made durable together: who
//! comes first syncs for all that were committed until then. Readers are shown what is durable.

mod hold;
mod log;
mod reading;
mod stored;

pub(crate) use log::LogEntry;
pub(crate) use reading::Reading;
pub(crate) use stored::{Storage, Table};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow::datatypes::SchemaRef;
use fjall::{Database, DatabaseBuilder, Keyspace, KeyspaceCreateOptions, PersistMode};
use uuid::Uuid;

use self::log::{ADDED, REMOVED, log_key, log_value};
use self::reading::Reader;
use super::Lsn;
use super::binding::Bindings;
use super::change::{Pending, PendingRow, TableView};
use super::definition::TableDefinition;
use super::key;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// The format of the store; a store of another format is refused.
const FORMAT: u64 = 1;
/// Log entries that are removed in one write.
const TRIM_ENTRIES: usize = 10_000;
/// Transactions from one look at what the log still has to keep to the next.
const TRIM_INTERVAL: u64 = 64;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the embedded database.
pub(super) fn store_error(error: &fjall::Error) -> Error {
    Error::new(ErrorKind::External, format!("the tables' store failed: {error}"))
        .with_hint("look at the disk: space, permissions, health")
}

fn unopened(path: &Path, error: &fjall::Error) -> Error {
    Error::new(ErrorKind::External, format!("the tables in {} cannot be opened: {error}", path.display()))
}

fn temporary_path() -> PathBuf {
    std::env::temp_dir().join(format!("rondel-tables-{}", Uuid::new_v4()))
}

/// See the [module](self).
pub(crate) struct TableStore {
    database: Database,
    values: Keyspace,
    /// The last committed LSN; held while a transaction is written, so that a snapshot shows whole transactions.
    committed: Mutex<Lsn>,
    /// The last durable LSN; held while the store is synced.
    syncing: Mutex<Lsn>,
    durable: AtomicU64,
    bindings: Bindings,
    next_reader: AtomicU64,
    /// What checkpoints need of the tables' logs: by table and job, an LSN.
    holds: Keyspace,
    /// The tables that are open, by identity.
    open: Mutex<BTreeMap<Uuid, Weak<Storage>>>,
    /// One transaction at a time checks its constraints and commits.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// What durable means.
    durability: PersistMode,
    /// A folder that goes with the store: the store of an engine without a data directory.
    _temporary: Option<Arc<Temporary>>,
}

/// The right to check constraints and commit; one has it at a time.
pub(crate) struct Writer(#[expect(dead_code, reason = "held for its end")] tokio::sync::OwnedMutexGuard<()>);

/// A folder that is removed at the end.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A transaction's LSN, and the tables that it changed.
type Written<'a> = (Lsn, Vec<&'a Arc<Table>>);

impl TableStore {
    /// Opens the store in the data directory, or makes it; without one it is made for this run only.
    pub(crate) fn open(directory: Option<&Path>) -> Result<Self> {
        let (path, temporary) = match directory {
            Some(directory) => (directory.join("tables"), None),
            None => {
                let path = temporary_path();
                (path.clone(), Some(Temporary(path)))
            }
        };
        let database = Self::database(&path, |builder| builder)?;
        Self::over(database, &path, PersistMode::SyncAll, temporary.map(Arc::new))
    }

    /// The embedded database in a folder, which is made if it is not there.
    fn database(
        path: &Path,
        set: impl FnOnce(DatabaseBuilder<Database>) -> DatabaseBuilder<Database>,
    ) -> Result<Database> {
        std::fs::create_dir_all(path).map_err(|error| {
            Error::new(ErrorKind::External, format!("the folder {} cannot be made: {error}", path.display()))
        })?;
        set(Database::builder(path)).open().map_err(|error| unopened(path, &error))
    }

    /// The store in a database.
    fn over(
        database: Database,
        path: &Path,
        durability: PersistMode,
        temporary: Option<Arc<Temporary>>,
    ) -> Result<Self> {
        let failed = |error: fjall::Error| unopened(path, &error);
        let values = database.keyspace("values", KeyspaceCreateOptions::default).map_err(failed)?;
        let holds = database.keyspace("holds", KeyspaceCreateOptions::default).map_err(failed)?;
        let number = |name: &str| -> Result<Option<u64>> {
            let Some(value) = values.get(name).map_err(failed)? else { return Ok(None) };
            let bytes: Option<[u8; 8]> = value.as_ref().try_into().ok();
            bytes.map(u64::from_be_bytes).map(Some).ok_or_else(|| {
                Error::new(ErrorKind::External, format!("the tables in {} are damaged: '{name}'", path.display()))
            })
        };
        match number("format")? {
            None => values.insert("format", FORMAT.to_be_bytes()).map_err(failed)?,
            Some(FORMAT) => {}
            Some(other) => {
                let place = path.display();
                let sentence = format!("the tables in {place} have format {other}; this version reads format {FORMAT}");
                return Err(Error::new(ErrorKind::InvalidState, sentence));
            }
        }
        let last = number("lsn")?.unwrap_or(0);
        Ok(Self {
            database,
            values,
            committed: Mutex::new(last),
            syncing: Mutex::new(last),
            durable: AtomicU64::new(last),
            bindings: Bindings::default(),
            next_reader: AtomicU64::new(0),
            holds,
            open: Mutex::default(),
            writer: Arc::default(),
            durability,
            _temporary: temporary,
        })
    }

    /// A store whose servers are killed, and never its machine: nothing is synced, since what was written outlives a process.
    #[cfg(test)]
    pub(crate) fn of_killed_servers() -> Result<Self> {
        let path = temporary_path();
        let database = Self::database(&path, |builder| builder.worker_threads(1).cache_size(1 << 20))?;
        Self::over(database, &path, PersistMode::Buffer, Some(Arc::new(Temporary(path.clone()))))
    }

    /// The store as the next server opens it when this one's was killed: what was written is there, and nothing else.
    #[cfg(test)]
    pub(crate) fn reopened(&self) -> Result<Self> {
        let temporary = self._temporary.clone();
        let path = temporary.as_ref().map(|temporary| temporary.0.clone()).unwrap_or_default();
        Self::over(self.database.clone(), &path, self.durability, temporary)
    }

    /// The right to check constraints and commit.
    pub(crate) async fn writer(&self) -> Writer {
        Writer(Arc::clone(&self.writer).lock_owned().await)
    }

    /// As [`Self::writer`], on a thread that may block.
    pub(crate) fn writer_blocking(&self) -> Writer {
        Writer(Arc::clone(&self.writer).blocking_lock_owned())
    }

    /// A table's place, new or found again. Of the log that an earlier run left stays what checkpoints need.
    pub(crate) fn table(&self, id: Uuid, name: &str, definition: TableDefinition, schema: SchemaRef) -> Result<Table> {
        let keyspace = |kind: &str| {
            let name = format!("{kind}-{id}");
            self.database.keyspace(&name, KeyspaceCreateOptions::default).map_err(|error| store_error(&error))
        };
        let storage = Storage {
            rows: keyspace("rows")?,
            log: keyspace("log")?,
            next_row: AtomicU64::new(0),
            last: AtomicU64::new(0),
            readers: Mutex::default(),
            holds: Mutex::new(self.holds_of(id)?),
            trimmed: AtomicU64::new(0),
            is_dropped: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        };
        if definition.primary_key.is_empty()
            && let Some(last) = storage.rows.last_key_value()
        {
            let last = last.key().map_err(|error| store_error(&error))?;
            storage.next_row.store(key::number(&last).map_or(0, |number| number + 1), Ordering::SeqCst);
        }
        let held = lock(&storage.holds).values().copied().min();
        storage.trimmed.store(held.unwrap_or(*lock(&self.committed)), Ordering::SeqCst);
        while self.trim_to(&storage, held.unwrap_or(Lsn::MAX))? == TRIM_ENTRIES {}
        let storage = Arc::new(storage);
        lock(&self.open).insert(id, Arc::downgrade(&storage));
        Ok(Table { id, name: name.to_owned(), definition, schema, generation: 0, storage })
    }

    /// Removes a table's rows. Statements and jobs that still have it in hand fail.
    pub(crate) fn remove(&self, table: &Table) -> Result<()> {
        let committed = lock(&self.committed);
        table.storage.is_dropped.store(true, Ordering::SeqCst);
        drop(committed);
        table.storage.wake();
        lock(&self.open).remove(&table.id);
        for keyspace in [&table.storage.rows, &table.storage.log] {
            self.database.delete_keyspace(keyspace.clone()).map_err(|error| store_error(&error))?;
        }
        self.database.persist(self.durability).map_err(|error| store_error(&error))
    }

    /// Removes the places of tables that do not exist any more: what a crash in the middle of DROP has left.
    pub(crate) fn keep_only(&self, tables: &[Uuid]) -> Result<()> {
        for name in self.database.list_keyspace_names() {
            let id = name.strip_prefix("rows-").or_else(|| name.strip_prefix("log-")).map(Uuid::parse_str);
            if let Some(Ok(id)) = id
                && !tables.contains(&id)
            {
                let keyspace = self.database.keyspace(&name, KeyspaceCreateOptions::default);
                let gone = keyspace.and_then(|keyspace| self.database.delete_keyspace(keyspace));
                gone.map_err(|error| store_error(&error))?;
            }
        }
        Ok(())
    }

    /// The last LSN that is durable.
    pub(crate) fn durable(&self) -> Lsn {
        self.durable.load(Ordering::SeqCst)
    }

    /// Everything committed up to now, and durable.
    pub(crate) fn view(&self) -> Result<TableView> {
        let (lsn, snapshot) = {
            let committed = lock(&self.committed);
            (*committed, self.database.snapshot())
        };
        self.sync(lsn)?;
        Ok(TableView::new(lsn, snapshot))
    }

    /// Commits a transaction; durable on return. Answers its LSN, `None` if it changed nothing. `is_stale`: others may
    /// have committed since the transaction's view was taken. The right to write ends when the changes are written, so
    /// that others write while these become durable.
    pub(crate) fn commit(&self, writer: Writer, pending: &Pending, is_stale: bool) -> Result<Option<Lsn>> {
        let Some((lsn, changed)) = self.write(pending, is_stale)? else { return Ok(None) };
        drop(writer);
        self.sync(lsn)?;
        for table in changed {
            table.storage.wake();
            if lsn.is_multiple_of(TRIM_INTERVAL) {
                self.trim(&table.storage)?;
            }
        }
        Ok(Some(lsn))
    }

    /// Writes a transaction's changes; answers its LSN and the changed tables.
    fn write<'a>(&self, pending: &'a Pending, is_stale: bool) -> Result<Option<Written<'a>>> {
        let mut batch = self.database.batch();
        let mut changed: Vec<&Arc<Table>> = Vec::new();
        let mut committed = lock(&self.committed);
        let lsn = *committed + 1;
        for of_table in pending.tables.values() {
            let table = &of_table.table;
            if table.storage.is_dropped.load(Ordering::SeqCst) {
                return Err(table.is_gone());
            }
            if table.storage.generation.load(Ordering::SeqCst) != table.generation {
                return Err(conflict(&format!("table \"{}\" was altered meanwhile", table.name)));
            }
            let has_readers = !lock(&table.storage.readers).is_empty() || !lock(&table.storage.holds).is_empty();
            if !has_readers {
                table.storage.trimmed.store(lsn, Ordering::SeqCst);
            }
            let mut sequence = 0_u32;
            let mut log = |kind: u8, key: &[u8], row: &[u8], batch: &mut fjall::OwnedWriteBatch| {
                if has_readers {
                    batch.insert(&table.storage.log, log_key(lsn, sequence), log_value(kind, key, row));
                    sequence += 1;
                }
            };
            let before_changes = batch.len();
            for (key, PendingRow { before, after }) in &of_table.rows {
                if is_stale {
                    let now = table.storage.rows.get(key).map_err(|error| store_error(&error))?;
                    if now.as_deref() != before.as_deref() {
                        return Err(conflict(&format!(
                            "another transaction has changed the same rows of table \"{}\"",
                            table.name
                        )));
                    }
                }
                if before == after {
                    continue;
                }
                if let Some(before) = before {
                    log(REMOVED, key, before, &mut batch);
                }
                match after {
                    Some(after) => {
                        log(ADDED, key, after, &mut batch);
                        batch.insert(&table.storage.rows, key.as_slice(), after.as_slice());
                    }
                    None => batch.remove(&table.storage.rows, key.as_slice()),
                }
            }
            if batch.len() > before_changes {
                changed.push(table);
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        batch.insert(&self.values, "lsn", lsn.to_be_bytes().as_slice());
        batch.commit().map_err(|error| store_error(&error))?;
        *committed = lsn;
        for table in &changed {
            table.storage.last.store(lsn, Ordering::SeqCst);
        }
        Ok(Some((lsn, changed)))
    }

    /// Makes everything up to `lsn` durable, and what was committed meanwhile.
    fn sync(&self, lsn: Lsn) -> Result<()> {
        let mut synced = lock(&self.syncing);
        if *synced >= lsn {
            return Ok(());
        }
        let through = *lock(&self.committed);
        self.database.persist(self.durability).map_err(|error| store_error(&error))?;
        *synced = through;
        self.durable.store(through, Ordering::SeqCst);
        Ok(())
    }

    /// The last LSN that belongs to `epoch`.
    pub(crate) fn bound(&self, epoch: Epoch) -> Result<Lsn> {
        self.bindings.bound(epoch, || self.durable())
    }

    /// Begins to read a table: all rows as of one LSN, and the log after it is kept; for `holder`, a job that will have
    /// checkpoints, until it [says otherwise](Self::hold).
    pub(crate) fn begin_reading(
        self: &Arc<Self>,
        table: &Arc<Table>,
        workers: usize,
        holder: Option<Uuid>,
    ) -> Result<(TableView, Reading)> {
        if table.storage.is_dropped.load(Ordering::SeqCst) {
            return Err(table.is_gone());
        }
        let id = self.next_reader.fetch_add(1, Ordering::SeqCst);
        let (lsn, snapshot) = {
            let committed = lock(&self.committed);
            let reader = Reader { positions: vec![*committed; workers], wakers: vec![None; workers] };
            lock(&table.storage.readers).insert(id, reader);
            (*committed, self.database.snapshot())
        };
        if let Some(job) = holder {
            self.hold(job, table.id, lsn)?;
        }
        let reading = Reading { store: Arc::clone(self), table: Arc::clone(table), id };
        self.sync(lsn)?;
        Ok((TableView::new(lsn, snapshot), reading))
    }

    /// Removes what every reader has read from a table's log.
    fn trim(&self, storage: &Storage) -> Result<()> {
        let read = lock(&storage.readers).values().flat_map(|reader| reader.positions.iter().copied()).min();
        let held = lock(&storage.holds).values().copied().min();
        let through = [read, held].into_iter().flatten().min();
        storage.trimmed.fetch_max(through.unwrap_or_else(|| *lock(&self.committed)), Ordering::SeqCst);
        self.trim_to(storage, through.unwrap_or(Lsn::MAX)).map(|_| ())
    }

    fn trim_to(&self, storage: &Storage, through: Lsn) -> Result<usize> {
        let mut batch = self.database.batch();
        for entry in storage.log.range(..=log_key(through, u32::MAX)).take(TRIM_ENTRIES) {
            batch.remove(&storage.log, entry.key().map_err(|error| store_error(&error))?);
        }
        let removed = batch.len();
        batch.commit().map_err(|error| store_error(&error))?;
        Ok(removed)
    }
}

fn conflict(detail: &str) -> Error {
    Error::new(ErrorKind::InvalidState, "could not serialize access due to concurrent update")
        .with_code("40001")
        .with_detail(detail)
        .with_hint("run the transaction again")
}
