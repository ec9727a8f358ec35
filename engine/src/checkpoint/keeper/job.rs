//! A running job, and how its checkpoints are going.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::CheckpointSettings;
use super::super::layers::Compacted;
use super::super::manifest::Manifest;
use super::super::store::JobStore;
use super::lock;
use crate::connector::two_phase::Committer;
use crate::dataflow::JobHandle;
use crate::error::Error;

/// A running job that has checkpoints.
pub(crate) struct CheckpointedJob {
    /// Its identity.
    pub(crate) id: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// The statement that made it.
    pub(crate) sql: String,
    /// Its plan, as EXPLAIN has it.
    pub(crate) plan: Vec<String>,
    /// The views that it reads, by scan.
    pub(crate) reads: BTreeMap<String, Uuid>,
    /// The job in the pool.
    pub(crate) handle: JobHandle,
    /// Its sink, if that writes exactly once.
    pub(crate) committer: Option<Arc<dyn Committer>>,
    /// How they are taken and kept.
    pub(super) settings: Mutex<CheckpointSettings>,
    /// Its checkpoints.
    pub(crate) store: JobStore,
    pub(super) progress: Mutex<Progress>,
}

/// How a job's checkpoints are going.
pub(super) struct Progress {
    /// When the last one was begun, and when it ended.
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// What the job had done then: rows in, rows out, epochs with news.
    pub(super) done: Option<(u64, u64, u64)>,
    pub(super) last: Option<Arc<Manifest>>,
    /// What operators tell of their changes is upon `last`: nothing was asked of them since that was not kept.
    pub(super) is_upon_last: bool,
    /// Files that the next checkpoint has in place of some of the last one's.
    pub(super) compacted: Vec<Compacted>,
    pub(super) taken: u64,
    pub(super) failed: u64,
    pub(super) took: Duration,
    pub(super) new_bytes: u64,
    /// Why the last one failed, if it did.
    pub(super) error: Option<Error>,
}

impl CheckpointedJob {
    pub(super) fn settings(&self) -> CheckpointSettings {
        lock(&self.settings).clone()
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    /// What tells whether anything has happened.
    pub(super) fn done(&self) -> (u64, u64, u64) {
        let metrics = self.handle.metrics();
        (metrics.rows_in, metrics.rows_out, metrics.epochs_with_news)
    }

    /// Whether nothing has happened since the last checkpoint: epochs without news come and go.
    pub(super) fn is_idle(&self) -> bool {
        self.progress().done == Some(self.done())
    }

    pub(super) fn is_running(&self) -> bool {
        // One that was restored has all that a checkpoint needs before its first epoch is complete.
        let has_begun = self.handle.metrics().epochs_completed > 0 || self.progress().last.is_some();
        has_begun && self.handle.outcome().is_none()
    }
}
