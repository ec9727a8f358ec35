//! Connectors: where rows come from and where changes go. Source and sink of one system stand side by side.
//!
//! A [`Source`] is opened once per job; it gives each worker a [`SourceReader`], which the worker polls from its own
//! thread without ever blocking. Whatever blocks or waits (metadata, reconnecting) happens on the connector's own
//! threads or tasks. A [`Sink`] is opened once per job as well and gives each worker a [`SinkWriter`].

pub mod blackhole;
pub mod channel;
pub mod definition;
pub mod file;
pub mod kafka;
pub mod log;
pub mod memory;
pub mod nexmark;
pub mod options;
mod partitions;
pub mod registry;
pub mod table;
pub mod transaction;
pub mod two_phase;

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use self::two_phase::{ExactlyOnce, Writer};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::schema::Leaves;
use crate::time::{Clock, Epoch};

/// How a connector tells the job's supervisor how it is doing. Calls are cheap and may come from any thread.
pub trait Reporter: Send + Sync {
    /// What the job waits for, in words that finish the sentence "waits for …" (`broker 127.0.0.1:9092: connection
    /// refused`); `None` when it waits no longer. `who` names the source or sink.
    fn waits_for(&self, who: &str, what: Option<String>);
    /// The job cannot go on.
    fn fail(&self, error: Error);
    /// Rows that could not be read and were skipped by the stream's `on_error` policy.
    fn skipped(&self, who: &str, rows: u64, last_reason: &str);
}

/// Wakes the worker that polls a reader or writer; cheap, coalesced, callable from any thread, also from C callbacks.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Rows of one poll.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// The rows, in the schema that the source was opened with.
    pub rows: RecordBatch,
    /// The rows' weights; `None` means that each is +1. Only a table's source has them.
    pub weights: Option<Int64Array>,
    /// Which rows came from which partition: runs in row order that cover the batch, `(partition, rows)`.
    /// Partitions are numbered densely by the source (a Kafka source numbers its topic-partitions).
    pub runs: Vec<(u32, usize)>,
}

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollState {
    /// The budget ended first: more is there.
    More,
    /// Nothing more just now: the reader will call its [`Waker`].
    Idle,
    /// The input is bounded and this reader has read all of its part.
    Finished,
    /// Nothing more in this epoch, and more for a later one: of a reader that [binds epochs](SourceReader::binds_epochs).
    Later,
}

/// A partition as a worker's reader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionState {
    /// The source's number of the partition.
    pub partition: u32,
    /// At its end, by the broker's word, for the whole idle time-out: it takes no part in the watermark.
    pub idle: bool,
}

/// One worker's part of a source.
pub trait SourceReader: Send {
    /// Reads without blocking, at most about `budget_rows` rows (several batches are allowed).
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState>;

    /// The partitions that this worker reads now. Empty: it has none, and takes no part in the watermark.
    fn partitions(&self) -> Vec<PartitionState>;

    /// Whether what belongs to an epoch is fixed when the epoch begins: the reader is then told of each epoch, polled in it
    /// at least once, and read to the epoch's end, whatever the budget of an epoch is.
    fn binds_epochs(&self) -> bool {
        false
    }

    /// An epoch begins: what is polled from now on belongs to it. Only for readers that [bind epochs](Self::binds_epochs).
    fn begin_epoch(&mut self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }

    /// Sets what to call when there is something to poll after [`PollState::Idle`]. Called once, before the first poll.
    fn set_waker(&mut self, waker: Waker);

    /// Where it is: everything that was polled counts as read, and nothing else, whatever it has fetched ahead. Asked at
    /// the end of an epoch. Readers of one source may name the same partition, if they say the same of it. `None`: the
    /// source can't be opened again where it stood, so its job has no checkpoints.
    fn positions(&self) -> Option<Positions> {
        None
    }
}

/// A source, opened for one job.
pub trait Source: Send {
    /// The readers begin where readers of an earlier run of the job stood ([`SourceReader::positions`], of all of them), on
    /// any number of workers. Called once, before [`Self::readers`].
    fn start_at(&mut self, _positions: Positions) -> Result<()> {
        Err(Error::internal("a source was to begin where it stood and can't"))
    }

    /// How many bytes the readers of all workers may have fetched ahead of the job. Called at most once, before
    /// [`Self::readers`]; it is nothing to a source that fetches nothing ahead.
    fn fetch_ahead(&mut self, _bytes: usize) {}

    /// The readers, one for each of `workers` workers. Must not block on the outside world: a broker that is down is
    /// something to wait for, told to the reporter.
    fn readers(
        self: Box<Self>,
        workers: usize,
        clock: Arc<dyn Clock>,
        reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>>;
}

/// Whether a sink could take what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkState {
    /// All of it is on its way or done.
    Ready,
    /// Its queue is full: call [`SinkWriter::resume`] a little later. Nothing of what was given is lost.
    Full,
}

/// One worker's part of a sink. Calls never block.
pub trait SinkWriter: Send {
    /// Writes changes of an epoch that is complete everywhere.
    fn write(&mut self, epoch: Epoch, delta: Delta) -> Result<SinkState>;

    /// Goes on with what a [`SinkState::Full`] left.
    fn resume(&mut self) -> Result<SinkState>;

    /// Asks for delivery of what was written so far; [`SinkState::Full`] until the other system has acknowledged all.
    /// Called at the end of a bounded input and at shutdown.
    fn flush(&mut self) -> Result<SinkState>;

    /// All output up to the end of `epoch` was given; what comes now belongs to the next checkpoint.
    /// [`SinkState::Full`]: not all of it is on its way yet; ask again. Only for sinks that were opened to write
    /// [exactly once](Sink::open_exactly_once).
    fn end_interval(&mut self, _epoch: Epoch) -> Result<SinkState> {
        Ok(SinkState::Ready)
    }
}

/// A sink, opened for one job.
pub trait Sink: Send {
    /// Columns, by index, whose equal values must all reach one writer, in the order of their epochs: what a sink keeps
    /// one record of, as upserts do. `None`: any writer may have any row.
    fn meeting_columns(&self) -> Option<Vec<usize>> {
        None
    }

    /// The writers, one for each of `workers` workers. Must not block on the outside world.
    fn writers(self: Box<Self>, workers: usize, reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>>;

    /// Whether it was asked to write exactly once: then it is opened by [`Self::open_exactly_once`] instead.
    fn is_exactly_once(&self) -> bool {
        false
    }

    /// Opens it for a job whose checkpoints say when its output is seen. Must not block on the outside world.
    fn open_exactly_once(
        self: Box<Self>,
        _workers: usize,
        _writer: Writer,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<ExactlyOnce> {
        Err(Error::internal("a sink was opened to write exactly once and can't"))
    }
}

/// Where a reader of a source is: of each of its partitions the place of the next row. A source writes its own words
/// (`orders/3` → `1042`), and reads them back when it is opened again on any number of workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(pub std::collections::BTreeMap<String, String>);

/// What a job reads of a stream.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Columns to deliver, by index into the stream's schema, ascending.
    pub projection: Vec<usize>,
    /// What is read of each of them; of columns that are rows, what is not named may be NULL. Empty: all of all.
    pub leaves: Vec<Leaves>,
    /// The schema of the delivered rows: the stream's, projected.
    pub schema: SchemaRef,
    /// Stop at what is there now (a snapshot SELECT): the readers answer [`PollState::Finished`] there.
    pub bounded: bool,
}
