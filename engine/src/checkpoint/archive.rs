//! Checkpoints as they lie in their place, read from outside: no server has to run, and none is disturbed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::manifest::Manifest;
use super::place::Place;
use super::store::{Choice, JobStore};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// See the [module](self).
pub struct Archive {
    place: Arc<Place>,
}

/// A checkpoint that is there.
#[derive(Debug, Clone)]
pub struct ArchivedCheckpoint {
    /// The data directory's identity.
    pub deployment: Uuid,
    /// The job's identity.
    pub job: Uuid,
    /// Whether the job goes on from it.
    pub is_chosen: bool,
    /// The savepoints that it is.
    pub savepoints: Vec<String>,
    /// Its manifest's file.
    pub file: String,
    /// What it consists of, or why that cannot be read.
    pub manifest: Result<Arc<Manifest>>,
}

impl ArchivedCheckpoint {
    /// The epoch at whose end it was taken.
    pub fn epoch(&self) -> Option<Epoch> {
        super::store::epoch_of(&self.file)
    }

    /// The job's name, if it can be read.
    pub fn name(&self) -> Option<&str> {
        self.manifest.as_ref().ok().map(|manifest| manifest.name.as_str())
    }
}

impl Archive {
    /// The checkpoints at a URL, or those of a data directory.
    pub fn open(url: Option<&str>, data_dir: &Path) -> Result<Self> {
        let place = match url {
            Some(url) => Place::open(url)?,
            None => Place::Folder(data_dir.join("checkpoints")),
        };
        Ok(Self { place: Arc::new(place) })
    }

    /// All that is there, by job and age.
    pub fn list(&self) -> Result<Vec<ArchivedCheckpoint>> {
        let mut found = Vec::new();
        for deployment in self.place.folders("")? {
            let Ok(deployment) = deployment.parse::<Uuid>() else { continue };
            for job in self.place.folders(&deployment.to_string())? {
                let Ok(job) = job.parse::<Uuid>() else { continue };
                let store = JobStore::open(&self.place, deployment, job);
                let restorable = store.restorable()?;
                let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for savepoint in store.savepoints()?.into_values() {
                    names.entry(savepoint.checkpoint.manifest).or_default().push(savepoint.name);
                }
                for file in restorable.manifests {
                    found.push(ArchivedCheckpoint {
                        deployment,
                        job,
                        is_chosen: restorable.chosen.as_ref().is_some_and(|chosen| chosen.manifest == file),
                        savepoints: names.remove(&file).unwrap_or_default(),
                        manifest: store.manifest(&file, None),
                        file,
                    });
                }
            }
        }
        found.sort_by(|one, other| {
            let key = |of: &ArchivedCheckpoint| (of.name().map(str::to_owned), of.job, of.epoch());
            key(one).cmp(&key(other))
        });
        Ok(found)
    }

    /// Reads all that a checkpoint needs; answers how many rows the job would go on from.
    pub fn verify(&self, checkpoint: &ArchivedCheckpoint) -> Result<u64> {
        let manifest = checkpoint.manifest.clone()?;
        let restored = JobStore::open(&self.place, checkpoint.deployment, checkpoint.job).restore(&manifest)?;
        let mut rows: u64 = restored.state().map(|(_, part)| part.rows.num_rows() as u64).sum();
        for (_, part) in &restored.deferred {
            part.rows.read(0..=u8::MAX, &mut |some| {
                rows += some.num_rows() as u64;
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// Copies a checkpoint into a folder, as the chosen one of its job: a server with the same data directory can be given
    /// the folder as its place. Answers how many bytes these are.
    pub fn export(&self, checkpoint: &ArchivedCheckpoint, folder: &Path) -> Result<u64> {
        let manifest = checkpoint.manifest.clone()?;
        let own = format!("{}/{}", checkpoint.deployment, checkpoint.job);
        let target = Place::Folder(folder.to_owned());
        if !target.list(&format!("{own}/manifests"))?.is_empty() {
            return Err(Error::new(
                ErrorKind::DuplicateObject,
                format!("{} has checkpoints of job '{}' already", folder.display(), manifest.name),
            )
            .with_hint("give a folder that is empty"));
        }
        // What is copied is whole.
        self.verify(checkpoint)?;
        let mut bytes = 0;
        let mut copy = |path: String| -> Result<Bytes> {
            let read = self.place.get(&path)?;
            let read = read.ok_or_else(|| {
                let gone = format!("the checkpoint file {} is gone", self.place.describe(&path));
                Error::new(ErrorKind::External, gone).with_hint("a newer checkpoint has taken its place: try again")
            })?;
            target.put(&[(path, read.clone())])?;
            bytes += read.len() as u64;
            Ok(read)
        };
        for file in &manifest.files {
            copy(format!("{own}/{}", file.path))?;
        }
        let written = copy(format!("{own}/manifests/{}", checkpoint.file))?;
        let hash = format!("{:016x}", Manifest::hash(&written));
        let choice = Choice { manifest: checkpoint.file.clone(), hash };
        let choice = serde_json::to_vec(&choice).map_err(|error| Error::internal(error.to_string()))?;
        let generation = manifest.generation;
        target.put(&[
            (format!("{own}/owner/{generation:010}"), Bytes::new()),
            (format!("{own}/chosen/{generation:010}"), choice.into()),
        ])?;
        Ok(bytes)
    }
}
