//! Savepoints: checkpoints with a name, which stay until they are dropped.
//!
//! One is a small file beside a job's manifests that names one of them; retention keeps that manifest and its files. What the
//! job reads of views it needs as of the same epoch, so that these keep theirs as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keeper::Checkpoints;
use super::manifest::Manifest;
use super::store::{Choice, JobStore, epoch_of};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Savepoint {
    /// Its name.
    pub(crate) name: String,
    /// The checkpoint.
    pub(crate) checkpoint: Choice,
    /// When it was made, in microseconds since 1970.
    pub(crate) created_at_micros: i64,
}

impl Savepoint {
    /// The epoch of its checkpoint.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        epoch_of(&self.checkpoint.manifest)
    }

    /// Names may have any characters, files may not.
    fn file(name: &str) -> String {
        let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("savepoints/{digits}.json")
    }
}

impl JobStore {
    /// The job's savepoints, by name.
    pub(crate) fn savepoints(&self) -> Result<BTreeMap<String, Savepoint>> {
        let mut savepoints = BTreeMap::new();
        for file in self.list("savepoints")? {
            let path = format!("savepoints/{file}");
            let Some(bytes) = self.get(&path)? else { continue };
            let savepoint: Savepoint =
                serde_json::from_slice(&bytes).map_err(|error| self.damaged_file(&path, &error.to_string()))?;
            savepoints.insert(savepoint.name.clone(), savepoint);
        }
        Ok(savepoints)
    }

    fn put_savepoint(&self, savepoint: &Savepoint) -> Result<()> {
        let bytes = serde_json::to_vec(savepoint).map_err(|error| Error::internal(error.to_string()))?;
        match self.create(&Savepoint::file(&savepoint.name), Bytes::from(bytes))? {
            true => Ok(()),
            false => Err(exists(&savepoint.name)),
        }
    }
}

fn exists(name: &str) -> Error {
    Error::new(ErrorKind::DuplicateObject, format!("savepoint \"{name}\" exists already"))
        .with_hint("DROP SAVEPOINT it, or choose another name")
}

impl Checkpoints {
    /// Makes a savepoint of a job: of a checkpoint that is taken for it, or, if the job does not run, of its last one.
    pub(crate) fn create_savepoint(
        self: &Arc<Self>,
        job: Uuid,
        name: &str,
        runs: bool,
        timeout: Duration,
    ) -> Result<Epoch> {
        let store = self.store_of(job);
        if store.savepoints()?.contains_key(name) {
            return Err(exists(name));
        }
        let epoch = match runs {
            true => {
                let deadline = Instant::now() + timeout;
                // One that was made just now has an epoch first.
                self.await_begun(job, deadline);
                self.take_now(job, deadline.saturating_duration_since(Instant::now()), false)?
            }
            false => self.stands_at(job).ok_or_else(|| {
                Error::new(ErrorKind::InvalidState, "the job does not run, and has no checkpoint to make one of")
            })?,
        };
        let files = store.restorable()?.manifests;
        let file = files.iter().rev().find(|file| epoch_of(file) == Some(epoch));
        let file = file.ok_or_else(|| {
            Error::new(ErrorKind::External, format!("the checkpoint of epoch {epoch} was gone before it had a name"))
                .with_hint("try again, or keep more checkpoints: checkpoints_retained")
        })?;
        let path = format!("manifests/{file}");
        let bytes = store.get(&path)?.ok_or_else(|| store.damaged_file(&path, "it is gone"))?;
        let hash = format!("{:016x}", Manifest::hash(&bytes));
        let savepoint = Savepoint {
            name: name.to_owned(),
            checkpoint: Choice { manifest: file.clone(), hash },
            created_at_micros: self.now_micros(),
        };
        // It is held before it is written: no retention comes between.
        self.hold_savepoint(job, savepoint.clone());
        if let Err(error) = store.put_savepoint(&savepoint) {
            self.release_savepoint(job, name);
            return Err(error);
        }
        Ok(epoch)
    }

    /// Drops a savepoint; `false`: there is none of that name.
    pub(crate) fn drop_savepoint(&self, job: Uuid, name: &str) -> Result<bool> {
        let store = self.store_of(job);
        if !store.savepoints()?.contains_key(name) {
            return Ok(false);
        }
        store.delete(&Savepoint::file(name))?;
        self.release_savepoint(job, name);
        Ok(true)
    }

    /// The job, which does not run, goes on from a savepoint when it is started; later checkpoints are given up.
    pub(crate) fn go_back(&self, job: Uuid, name: &str) -> Result<Epoch> {
        let mut store = self.store_of(job);
        let savepoints = store.savepoints()?;
        let savepoint = savepoints.get(name).ok_or_else(|| {
            let error = Error::new(ErrorKind::UndefinedObject, format!("there is no savepoint \"{name}\" of the job"));
            match savepoints.is_empty() {
                true => error.with_hint("CREATE SAVEPOINT … FOR JOB … makes one"),
                false => {
                    error.with_hint(format!("there is {}", savepoints.keys().cloned().collect::<Vec<_>>().join(", ")))
                }
            }
        })?;
        let hash = u64::from_str_radix(&savepoint.checkpoint.hash, 16).ok();
        let manifest = store.manifest(&savepoint.checkpoint.manifest, hash)?;
        // All of it is read once, before anything is given up for it.
        store.restore(&manifest)?;
        store.begin()?;
        store.put_choice(&savepoint.checkpoint)?;
        let kept = |file: &str| savepoints.values().any(|other| other.checkpoint.manifest == file);
        for file in store.restorable()?.manifests {
            if file > savepoint.checkpoint.manifest && !kept(&file) {
                store.forget(&file)?;
            }
        }
        self.stand_at(job, manifest.epoch);
        Ok(manifest.epoch)
    }

    fn store_of(&self, job: Uuid) -> JobStore {
        JobStore::open(&Arc::clone(self.place()), self.deployment(), job)
    }
}
