//! The catalog's durable half: a small embedded database in the data directory.
//!
//! Every change is one atomic batch, and durable (fsync) when the call returns. Values are JSON, so that a person can
//! read them and an older file stays readable when a field is added; descriptors are kept as the bytes they are.

use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use uuid::Uuid;

use super::object::Object;
use crate::error::{Error, ErrorKind, Result};

/// The format of the store; a store of another format is refused.
const FORMAT: u64 = 1;

/// The database; see the [module](self).
pub(super) struct Store {
    path: PathBuf,
    database: Database,
    /// Objects by their id.
    objects: Keyspace,
    /// Descriptors (a `FileDescriptorSet`) by the object's id.
    descriptors: Keyspace,
    /// Single values by name.
    values: Keyspace,
}

impl Store {
    /// Opens the store in `directory`, or makes it.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("catalog");
        let failed = |error: fjall::Error| open_error(&path, &error);
        std::fs::create_dir_all(&path).map_err(|error| {
            Error::new(ErrorKind::External, format!("the data directory {} cannot be made: {error}", path.display()))
        })?;
        let database = Database::builder(&path).open().map_err(failed)?;
        let keyspace = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default).map_err(failed);
        let store = Self {
            objects: keyspace("objects")?,
            descriptors: keyspace("descriptors")?,
            values: keyspace("values")?,
            path: path.clone(),
            database: database.clone(),
        };
        match store.number("format")? {
            None => store.put_number("format", FORMAT)?,
            Some(FORMAT) => {}
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("the catalog in {} has format {other}; this version reads format {FORMAT}", path.display()),
                )
                .with_hint("start the version of rondel that wrote it, or name another data directory"));
            }
        }
        Ok(store)
    }

    /// All objects, in order of creation.
    pub(super) fn objects(&self) -> Result<Vec<Object>> {
        let mut objects = Vec::new();
        for entry in self.objects.iter() {
            let (_, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
            let object: Object = serde_json::from_slice(&value).map_err(|error| self.unreadable(&error.to_string()))?;
            objects.push(object);
        }
        objects.sort_by_key(|object| object.sequence);
        Ok(objects)
    }

    /// Writes an object, new or changed, and its descriptor if it has one.
    pub(super) fn put(&self, object: &Object, descriptor: Option<&[u8]>) -> Result<()> {
        let value = serde_json::to_vec(object).map_err(|error| Error::internal(error.to_string()))?;
        let mut batch = self.database.batch();
        batch.insert(&self.objects, object.id.as_bytes().as_slice(), value);
        if let Some(bytes) = descriptor {
            batch.insert(&self.descriptors, object.id.as_bytes().as_slice(), bytes);
        }
        self.commit(batch)
    }

    /// Removes objects together.
    pub(super) fn remove(&self, ids: &[Uuid]) -> Result<()> {
        let mut batch = self.database.batch();
        for id in ids {
            batch.remove(&self.objects, id.as_bytes().as_slice());
            batch.remove(&self.descriptors, id.as_bytes().as_slice());
        }
        self.commit(batch)
    }

    /// An object's descriptor.
    pub(super) fn descriptor(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        let found = self.descriptors.get(id.as_bytes()).map_err(|error| self.failed(&error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// The data directory's identity, made when it is first asked for.
    pub(super) fn deployment(&self) -> Result<Uuid> {
        const NAME: &str = "deployment";
        if let Some(value) = self.values.get(NAME).map_err(|error| self.failed(&error))? {
            return Uuid::from_slice(&value).map_err(|error| self.unreadable(&error.to_string()));
        }
        let id = Uuid::new_v4();
        let mut batch = self.database.batch();
        batch.insert(&self.values, NAME, id.as_bytes().as_slice());
        self.commit(batch)?;
        Ok(id)
    }

    /// A number by name.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.values.get(name).map_err(|error| self.failed(&error))? else { return Ok(None) };
        let bytes: [u8; 8] = value.as_ref().try_into().map_err(|_| self.unreadable(&format!("value '{name}'")))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    /// Sets a number.
    pub(super) fn put_number(&self, name: &str, number: u64) -> Result<()> {
        let mut batch = self.database.batch();
        batch.insert(&self.values, name, number.to_be_bytes().as_slice());
        self.commit(batch)
    }

    fn commit(&self, batch: fjall::OwnedWriteBatch) -> Result<()> {
        batch.commit().map_err(|error| self.failed(&error))?;
        self.database.persist(PersistMode::SyncAll).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &fjall::Error) -> Error {
        Error::new(ErrorKind::External, format!("the catalog in {} failed: {error}", self.path.display()))
            .with_hint("look at the disk: space, permissions, health")
    }

    fn unreadable(&self, what: &str) -> Error {
        Error::new(ErrorKind::External, format!("the catalog in {} is damaged: {what}", self.path.display()))
            .with_hint("restore the data directory from a backup")
    }
}

fn open_error(path: &Path, error: &fjall::Error) -> Error {
    let place = path.display();
    match error {
        fjall::Error::Locked => {
            Error::new(ErrorKind::InvalidState, format!("the data directory {place} is in use by another rondel"))
                .with_hint("stop the other server, or name another directory with --data-dir")
        }
        other => Error::new(ErrorKind::External, format!("the catalog in {place} cannot be opened: {other}")),
    }
}
