//! A table, and its place in the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use fjall::Keyspace;
use uuid::Uuid;

use super::lock;
use super::reading::Reader;
use crate::connector::Waker;
use crate::error::{Error, ErrorKind, Result};
use crate::table::Lsn;
use crate::table::change::Bytes;
use crate::table::definition::TableDefinition;
use crate::table::key;
use crate::table::row::{self, StoredColumn};

/// A table's place in the store. It stays the same when the table is altered.
pub(crate) struct Storage {
    pub(in crate::table) rows: Keyspace,
    pub(super) log: Keyspace,
    /// The number of the next row, for tables without a key.
    pub(super) next_row: AtomicU64,
    /// The last LSN that changed the table.
    pub(super) last: AtomicU64,
    pub(super) readers: Mutex<BTreeMap<u64, Reader>>,
    /// By job: the log keeps what comes after this LSN, whether the job runs or not, since a checkpoint begins there.
    pub(super) holds: Mutex<BTreeMap<Uuid, Lsn>>,
    /// Changes up to this LSN may be missing from the log.
    pub(super) trimmed: AtomicU64,
    pub(super) is_dropped: AtomicBool,
    /// How often the table was altered.
    pub(super) generation: AtomicU64,
}

/// A table.
pub(crate) struct Table {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) definition: TableDefinition,
    pub(super) schema: SchemaRef,
    pub(super) generation: u64,
    pub(in crate::table) storage: Arc<Storage>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Table {
    /// The name of the column that holds a row's key where statements change rows.
    pub(crate) const KEY_COLUMN: &'static str = "__rondel_row";

    /// That column.
    pub(crate) fn key_field() -> FieldRef {
        Arc::new(Field::new(Self::KEY_COLUMN, DataType::Binary, false))
    }

    /// Its identity in the catalog.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its definition.
    pub(crate) fn definition(&self) -> &TableDefinition {
        &self.definition
    }

    /// Its columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The same rows under another name and definition: after `ALTER TABLE`.
    pub(crate) fn altered(&self, name: &str, definition: TableDefinition, schema: SchemaRef) -> Self {
        let generation = self.generation + 1;
        Self { id: self.id, name: name.to_owned(), definition, schema, generation, storage: Arc::clone(&self.storage) }
    }

    /// This is the table from now on: what was begun with an earlier form of it cannot be committed.
    pub(crate) fn take_over(&self) {
        self.storage.generation.store(self.generation, Ordering::SeqCst);
    }

    /// Appends the stored form of row `row`.
    pub(crate) fn encode(&self, rows: &RecordBatch, row: usize, out: &mut Bytes) -> Result<()> {
        row::encode(&self.definition.numbers(), rows, row, out)
    }

    /// Stored rows as a batch.
    pub(crate) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<RecordBatch> {
        let all: Vec<usize> = (0..self.definition.columns.len()).collect();
        let mut decoder = row::Decoder::new(self.stored_columns(&all), Arc::clone(&self.schema))?;
        for row in rows {
            decoder.push(row)?;
        }
        decoder.finish()
    }

    /// How the columns `projection` stand in stored rows.
    pub(crate) fn stored_columns(&self, projection: &[usize]) -> Vec<StoredColumn> {
        let column = |place: &usize| {
            let column = &self.definition.columns[*place];
            let field = Arc::clone(&self.schema.fields()[*place]);
            StoredColumn { number: column.number, field, missing: column.missing.clone() }
        };
        projection.iter().map(column).collect()
    }

    /// The key of a new row of a table without a key.
    pub(crate) fn next_row(&self) -> Bytes {
        key::numbered(self.storage.next_row.fetch_add(1, Ordering::SeqCst))
    }

    pub(super) fn is_gone(&self) -> Error {
        Error::new(ErrorKind::UndefinedObject, format!("table '{}' was dropped", self.name))
    }
}

impl Storage {
    /// Tells all readers that there is more.
    pub(super) fn wake(&self) {
        let wakers: Vec<Waker> =
            lock(&self.readers).values().flat_map(|reader| reader.wakers.iter().flatten().cloned()).collect();
        wakers.iter().for_each(|waker| waker());
    }
}
