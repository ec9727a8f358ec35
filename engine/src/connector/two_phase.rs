//! Sinks that write each row exactly once: what a checkpoint asks of them.
//!
//! What is read again after a failure gives the same sums, in other batches and epochs. So a sink never recognises its
//! own rows; it hides them until the checkpoint that holds the reading position is *chosen*. A checkpoint at epoch E goes
//! like this:
//!
//! 1. Every worker's [`SinkWriter`] has been given all output up to E and hears
//!    [`end_interval`](super::SinkWriter::end_interval); what it is given afterwards belongs to the next checkpoint.
//! 2. [`Committer::prepare`] makes that output durable, and invisible; its token goes into the manifest.
//! 3. State files and manifest become durable.
//! 4. The checkpoint is chosen: by [`Committer::publish`] itself where the sink [decides](Committer::decides), else by
//!    swapping the name of the newest manifest, and `publish` afterwards.
//!
//! On start [`Committer::recover`] comes first, before anything is read or written, and then `publish` once more for the
//! token of the checkpoint from which the job goes on.
//!
//! All calls of a [`Committer`] come one after the other from a thread that may block. They wait for a system that is
//! away as long as it takes, telling the job's reporter, and end when the job is dropped ([`Committer::close`]).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::SinkWriter;
use crate::error::Result;
use crate::time::Epoch;

/// Who writes: the same after restarts, updates and on another machine, and never that of another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// The deployment (a data directory, a server).
    pub deployment: Uuid,
    /// The job; one that is dropped and created again is another.
    pub job: Uuid,
    /// The job's number in its deployment, which spreads what jobs keep in a system that they share.
    pub number: u64,
    /// Whether the catalog remembers that the job has committed: then the system that decides must know of it.
    pub has_committed: bool,
    /// How long it may be from the begin of one checkpoint to the end of the next: so long output stays hidden.
    pub interval: Duration,
}

/// A checkpoint as other systems remember it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointName {
    /// The epoch at whose end it was taken.
    pub epoch: Epoch,
    /// The run of the job that took it.
    pub generation: u64,
    /// `xxh3_64` of the manifest's bytes.
    pub manifest_hash: u64,
}

/// A sink that was opened to write exactly once.
pub struct ExactlyOnce {
    /// One for each worker.
    pub writers: Vec<Box<dyn SinkWriter>>,
    /// What they have in common.
    pub committer: Arc<dyn Committer>,
}

/// The part of an exactly-once sink that checkpoints talk to; see the [module](self).
pub trait Committer: Send + Sync {
    /// Whether this system's own commit chooses the checkpoint. A job has at most one sink that does.
    fn decides(&self) -> bool;

    /// On start, before anything is written: ends what earlier runs of the job may still be doing, and answers which
    /// checkpoint this system knows as the last that was chosen. `None`: it knows of none, or does not decide.
    fn recover(&self) -> Result<Option<CheckpointName>>;

    /// Makes all that was written up to the end of `epoch` durable and invisible. The token says where it is.
    fn prepare(&self, epoch: Epoch) -> Result<Vec<u8>>;

    /// Makes visible what a token stands for; with it, where the sink decides, the checkpoint is chosen. Idempotent: it is
    /// called again after a restart when nobody knows whether it happened. Answers only when it is known to have
    /// happened.
    fn publish(&self, token: &[u8], checkpoint: &CheckpointName) -> Result<()>;

    /// Gives up what was prepared and not published, except for what `kept` stands for.
    fn abandon(&self, kept: Option<&[u8]>) -> Result<()>;

    /// The job is dropped: calls that wait answer with an error of kind `Canceled`, and what is not published is given up.
    fn close(&self);
}
