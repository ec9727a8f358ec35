//! Checkpoints: what a job remembers, where its sources stood, and how a job goes on from there.
//!
//! A checkpoint of a job at epoch E is a *manifest* and the *state files* that it names, in a [place]: a folder of
//! the data directory, or a bucket. It counts when it is *chosen*: by a swap of one small file, or by the commit of a sink
//! that decides ([`two_phase`](crate::connector::two_phase)). Jobs that read each other's views are checkpointed at one
//! epoch, and a reader's checkpoint is chosen only when those of all views that it reads are; so a reader is never ahead of
//! what it reads. One that is restored behind it first takes in the difference between the view's contents then and now
//! ([`missed`]).
//!
//! * [`place`]: folder or bucket, with durable writes
//! * [`state_file`]: an operator's rows as a file, by key group
//! * [`manifest`]: what a checkpoint consists of, as JSON
//! * [`layers`]: what of a checkpoint is written anew, and upon which files
//! * [`compaction`]: layers that have become many or large are put together
//! * [`store`]: one job's checkpoints; generations, choosing, reading back, retention
//! * [`savepoint`]: checkpoints with a name, which stay
//! * [`job_options`]: what a job says about its own checkpoints
//! * [`archive`]: what is there, for who reads it from outside
//! * [`keeper`]: takes checkpoints of running jobs, and knows those of all

mod archive;
mod compaction;
mod deferred;
mod job_options;
mod keeper;
mod layers;
mod manifest;
mod missed;
mod pages;
mod place;
mod savepoint;
mod state_file;
mod store;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use archive::{Archive, ArchivedCheckpoint};
pub use job_options::JOB_OPTIONS;
pub(crate) use job_options::is_job_option;
pub use keeper::CheckpointView;
pub(crate) use keeper::{Beginning, Checkpoints, KeptCheckpoint};
pub use manifest::{Expired, FORMAT, Manifest, StateFile};
pub(crate) use place::Place;

/// How checkpoints are taken and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Where they are: `file://`, `s3://`, `gs://` or `az://`; `None`: the folder `checkpoints` of the data directory.
    pub url: Option<String>,
    /// From the begin of one to the begin of the next.
    pub interval: Duration,
    /// At least so long from the end of one to the begin of the next.
    pub minimum_pause: Duration,
    /// What takes longer is given up.
    pub timeout: Duration,
    /// So many are kept of each job,
    pub retained: usize,
    /// and those that are younger, if that is longer than zero.
    pub retained_for: Duration,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            url: None,
            interval: Duration::from_secs(10),
            minimum_pause: Duration::from_millis(500),
            timeout: Duration::from_secs(60),
            retained: 3,
            retained_for: Duration::ZERO,
        }
    }
}
