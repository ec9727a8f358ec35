//! What is told of checkpoints: figures of running jobs, and what is kept of all.

use std::sync::Arc;

use super::super::manifest::Manifest;
use super::super::store::JobStore;
use super::{Checkpoints, lock};
use crate::error::{Error, Result};
use crate::time::Epoch;

/// A job's checkpoints at one moment, for figures.
#[derive(Debug, Clone)]
pub struct CheckpointView {
    /// The job's name.
    pub job: String,
    /// The epoch of the last that was chosen.
    pub epoch: Option<Epoch>,
    /// When it was taken, in microseconds since 1970.
    pub taken_at_micros: Option<i64>,
    /// How long ago that was, in seconds.
    pub age_seconds: u64,
    /// Its state, in bytes.
    pub bytes: u64,
    /// Bytes of it that the one before did not have.
    pub new_bytes: u64,
    /// How long it took, in microseconds.
    pub took_micros: u64,
    /// How many were taken since the job was started.
    pub taken: u64,
    /// How many failed.
    pub failed: u64,
    /// Why the last one failed, if it did.
    pub error: Option<Error>,
}

/// A checkpoint that is kept.
pub(crate) struct KeptCheckpoint {
    /// The job's name.
    pub(crate) job: String,
    /// What it consists of.
    pub(crate) manifest: Arc<Manifest>,
    /// Whether the job goes on from it.
    pub(crate) is_chosen: bool,
    /// The savepoints that it is.
    pub(crate) savepoints: Vec<String>,
}

impl Checkpoints {
    /// How the checkpoints of running jobs are going, by name.
    pub(crate) fn views(&self) -> Vec<CheckpointView> {
        let running: Vec<_> = lock(&self.running).values().cloned().collect();
        let now = self.clock.now_micros();
        let age = |at: i64| u64::try_from(now.saturating_sub(at) / 1_000_000).unwrap_or(0);
        let mut views: Vec<CheckpointView> = running
            .iter()
            .map(|job| {
                let progress = job.progress();
                let last = progress.last.as_ref();
                CheckpointView {
                    job: job.name.clone(),
                    epoch: last.map(|manifest| manifest.epoch),
                    taken_at_micros: last.map(|manifest| manifest.taken_at_micros),
                    age_seconds: last.map_or(0, |manifest| age(manifest.taken_at_micros)),
                    bytes: last.map_or(0, |manifest| manifest.files.iter().map(|file| file.bytes).sum()),
                    new_bytes: progress.new_bytes,
                    took_micros: u64::try_from(progress.took.as_micros()).unwrap_or(u64::MAX),
                    taken: progress.taken,
                    failed: progress.failed,
                    error: progress.error.clone(),
                }
            })
            .collect();
        views.sort_by(|one, other| one.job.cmp(&other.job));
        views
    }

    /// All checkpoints that are kept, of all jobs, by name and age.
    pub(crate) fn kept(&self) -> Result<Vec<KeptCheckpoint>> {
        let known = lock(&self.known).clone();
        let mut kept = Vec::new();
        for (id, known) in known {
            let store = JobStore::open(&self.place, self.deployment, id);
            let restorable = store.restorable()?;
            let chosen = restorable.chosen.as_ref().map(|chosen| chosen.manifest.as_str());
            let savepoints = self.savepoints_of(id)?;
            for file in &restorable.manifests {
                let named = savepoints.iter().filter(|savepoint| savepoint.checkpoint.manifest == *file);
                let savepoints: Vec<String> = named.map(|savepoint| savepoint.name.clone()).collect();
                if Some(file.as_str()) > chosen && savepoints.is_empty() {
                    continue;
                }
                // It may have been deleted just now, since a newer one is there.
                if let Ok(manifest) = store.manifest(file, None) {
                    let (job, is_chosen) = (known.name.clone(), chosen == Some(file));
                    kept.push(KeptCheckpoint { job, manifest, is_chosen, savepoints });
                }
            }
        }
        kept.sort_by(|one, other| (&one.job, one.manifest.epoch).cmp(&(&other.job, other.manifest.epoch)));
        Ok(kept)
    }
}
