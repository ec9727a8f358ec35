//! A job as all workers and the pool's control see it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::connector::Reporter;
use crate::error::{Error, Result};
use crate::spill::SpillFolder;
use crate::time::Epoch;
use timely::scheduling::SyncActivator;

use super::figures::OperatorMeters;
use super::flow_control::{LinkMeter, Memory, Meter, lock};
use super::gate::{Gate, GateState};
use super::given::{Given, SnapshotRequest};
use super::signal::{Signal, WakeUp};
use super::spill::JobSpill;

/// A job's number within its pool; the catalog's choice, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a job may use.
#[derive(Debug, Clone)]
pub struct JobLimits {
    /// Bytes that the job's deltas on their way and its state may hold together.
    pub memory_bytes: usize,
    /// Epochs that may be open or incomplete at once.
    pub epochs_in_flight: usize,
    /// Rows that one source reads on one worker before the epoch is closed early.
    pub epoch_budget_rows: usize,
    /// Where state goes that memory has no room for; `None`: nowhere.
    pub spill: Option<SpillFolder>,
    /// Bytes that operators which can put their state there hold together; `None`: what the other limits leave them.
    pub spill_above: Option<usize>,
    /// Checkpoints take what is put there as it is.
    pub spill_is_kept: bool,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            epochs_in_flight: 8,
            epoch_budget_rows: 1 << 20,
            spill: None,
            spill_above: None,
            spill_is_kept: false,
        }
    }
}

/// Who hears how a job is doing. Calls are cheap and come from any thread.
pub trait JobObserver: Send + Sync {
    /// The job runs on all workers; its first epoch.
    fn started(&self, _first: Epoch) {}
    /// All inputs are bounded and ended, and everything has been written.
    fn finished(&self) {}
    /// The job cannot go on and is taken down. Its view keeps what was complete.
    fn failed(&self, _error: &Error) {}
    /// What source or sink `who` waits for; `None`: no longer.
    fn waits_for(&self, _who: &str, _what: Option<String>) {}
    /// Rows that could not be read and were skipped.
    fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
    /// Rows that came too late for operator `node` and were dropped.
    fn late_rows(&self, _node: &str, _rows: u64) {}
    /// An epoch is complete on all workers, and written.
    fn epoch_completed(&self, _epoch: Epoch) {}
}

/// An observer that looks away.
impl JobObserver for () {}

/// A job's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobMetrics {
    /// Rows read from sources and views.
    pub rows_in: u64,
    /// Rows of complete epochs that reached the view or sink.
    pub rows_out: u64,
    /// Rows dropped because they were late.
    pub late_rows: u64,
    /// Epochs completed everywhere.
    pub epochs_completed: u64,
    /// Epochs in which a source had news: rows, a watermark that moved, its end, or a position that moved without any.
    pub epochs_with_news: u64,
    /// All epochs before this one are complete.
    pub frontier: Epoch,
    /// Bytes of deltas on their way.
    pub bytes_in_flight: usize,
    /// Bytes that operators and the view remember.
    pub state_bytes: usize,
}

/// One source on one worker, as the control sees it.
#[derive(Debug, Default)]
pub(crate) struct SourceStatus {
    /// There is something to read.
    pub(crate) ready: AtomicBool,
    /// The input is bounded and ended.
    pub(crate) finished: AtomicBool,
    /// The reader is to be read to the end of each epoch that is open for it: no epoch is closed before.
    pub(crate) binds: AtomicBool,
    /// It has something to read and is not let, since all jobs together hold too much.
    pub(crate) starved: AtomicBool,
    /// The last epoch in which the reader was asked until it had nothing more, or the budget was used up.
    pub(crate) read_in: AtomicU64,
    /// Lets the worker look at the source and its gate.
    pub(crate) wake_up: WakeUp,
}

impl SourceStatus {
    /// Whether it would read if an epoch were open.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
            && !self.finished.load(Ordering::SeqCst)
            && !self.starved.load(Ordering::SeqCst)
    }
}

/// What all workers and the control share of a job.
pub(crate) struct JobShared {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) workers: usize,
    pub(crate) limits: JobLimits,
    pub(crate) observer: Arc<dyn JobObserver>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) meter: Arc<Meter>,
    /// Where its state goes that memory has no room for, if anywhere.
    pub(crate) spill: Option<Arc<JobSpill>>,
    /// Streams' readers, one per source and worker.
    pub(crate) sources: Vec<Arc<SourceStatus>>,
    /// Edges from views, on all workers.
    edges: Mutex<Vec<SyncActivator>>,
    /// A view that the job reads has ended: its edges follow the gate.
    edges_ended: AtomicBool,
    /// Of each chain on each worker: its operators' least timer in microseconds since 1970, `i64::MAX` for none.
    timers: Mutex<Vec<Arc<AtomicI64>>>,
    /// What its operators remember.
    pub(crate) operators: OperatorMeters,
    /// The timer that the control waits for; whoever sets an earlier one tells it.
    awaited_timer: AtomicI64,
    /// The job is to read no more, and to write what it has read.
    pub(crate) stopping: AtomicBool,
    /// The dataflow's end on each worker.
    terminals: Vec<WakeUp>,
    /// Something was read, or a watermark moved, in the open epoch.
    pub(crate) active: AtomicBool,
    /// A source has used up its budget for the open epoch.
    pub(crate) exhausted: AtomicBool,
    /// The control wants to hear of completed epochs.
    pub(crate) awaited: AtomicBool,
    pub(crate) snapshot: Mutex<Option<SnapshotRequest>>,
    /// It may not end before a checkpoint of its end is chosen.
    pub(crate) owes_checkpoint: AtomicBool,
    /// All inputs have ended and all is said: only that checkpoint is missing.
    pub(crate) is_at_end: AtomicBool,
    pub(crate) rows_in: AtomicU64,
    pub(crate) rows_out: AtomicU64,
    pub(crate) late_rows: AtomicU64,
    pub(crate) epochs_completed: AtomicU64,
    epochs_with_news: AtomicU64,
    /// Some operator may hold changes back until something other than a row or a watermark comes.
    pub(crate) holds_back: bool,
    /// The epoch in which all inputs have ended and what is held back is said; 0: not yet.
    last_epoch: AtomicU64,
    gate: AtomicU64,
    /// It has had an epoch.
    opened: AtomicBool,
    /// Epochs that were opened and are not known to be complete, ascending.
    epochs: Mutex<VecDeque<Epoch>>,
    /// By worker, of the result and then of late rows: all epochs before are complete there, and written.
    done: Vec<AtomicU64>,
    /// All epochs before have been told to the observer.
    completed: AtomicU64,
    error: Mutex<Option<Error>>,
    failed: AtomicBool,
    outcome: Mutex<Option<Result<()>>>,
    over: Condvar,
}

impl JobShared {
    pub(crate) fn new(
        (id, name): (JobId, String),
        workers: usize,
        (sources, ends, holds_back): (usize, usize, bool),
        limits: JobLimits,
        observer: Arc<dyn JobObserver>,
        (signal, memory): (Arc<Signal>, &Arc<Memory>),
    ) -> Self {
        let ready = || Arc::new(SourceStatus { ready: AtomicBool::new(true), ..SourceStatus::default() });
        let meter = Arc::new(Meter::new(limits.memory_bytes, memory));
        Self {
            id,
            name,
            workers,
            spill: limits.spill.as_ref().map(|folder| {
                let kept = (limits.spill_above, limits.spill_is_kept);
                Arc::new(JobSpill::new(folder.of_job(id.0), &meter, kept))
            }),
            meter,
            limits,
            observer,
            signal,
            sources: (0..sources * workers).map(|_| ready()).collect(),
            edges: Mutex::new(Vec::new()),
            edges_ended: AtomicBool::new(false),
            timers: Mutex::new(Vec::new()),
            operators: OperatorMeters::default(),
            awaited_timer: AtomicI64::new(i64::MAX),
            stopping: AtomicBool::new(false),
            terminals: (0..workers).map(|_| WakeUp::default()).collect(),
            active: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            snapshot: Mutex::new(None),
            owes_checkpoint: AtomicBool::new(false),
            is_at_end: AtomicBool::new(false),
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            epochs_completed: AtomicU64::new(0),
            epochs_with_news: AtomicU64::new(0),
            holds_back,
            last_epoch: AtomicU64::new(0),
            gate: AtomicU64::new(0),
            opened: AtomicBool::new(false),
            epochs: Mutex::new(VecDeque::new()),
            done: (0..ends * workers).map(|_| AtomicU64::new(0)).collect(),
            completed: AtomicU64::new(0),
            error: Mutex::new(None),
            failed: AtomicBool::new(false),
            outcome: Mutex::new(None),
            over: Condvar::new(),
        }
    }

    /// The job has ended; only the first word counts.
    pub(crate) fn end(&self, outcome: Result<()>) {
        lock(&self.outcome).get_or_insert(outcome);
        self.over.notify_all();
    }

    /// How it ended.
    pub(crate) fn outcome(&self) -> Option<Result<()>> {
        lock(&self.outcome).clone()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&self, patience: Duration) -> Option<Result<()>> {
        let outcome = lock(&self.outcome);
        let waited = self.over.wait_timeout_while(outcome, patience, |outcome| outcome.is_none());
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    }

    /// Where sources stand.
    pub(crate) fn gate(&self) -> Gate {
        Gate::unpack(self.gate.load(Ordering::SeqCst))
    }

    /// Moves the sources; for the control only. An opened epoch is known before any source is in it.
    pub(crate) fn set_gate(&self, gate: Gate) {
        if gate.state == GateState::Open {
            lock(&self.epochs).push_back(gate.epoch);
            self.opened.store(true, Ordering::SeqCst);
        }
        self.gate.store(gate.pack(), Ordering::SeqCst);
        for source in &self.sources {
            source.wake_up.activate();
        }
        if self.edges_ended.load(Ordering::SeqCst) {
            self.wake_edges();
        }
    }

    /// An edge from a view, to be woken when the job is stopped.
    pub(crate) fn add_edge(&self, activator: SyncActivator) {
        lock(&self.edges).push(activator);
    }

    /// The epoch that is about to be opened is the one after all inputs; for the control only.
    pub(crate) fn make_last(&self, epoch: Epoch) {
        self.last_epoch.store(epoch, Ordering::SeqCst);
    }

    /// Whether all inputs have ended before this epoch.
    pub(crate) fn is_last(&self, epoch: Epoch) -> bool {
        self.last_epoch.load(Ordering::SeqCst) == epoch
    }

    /// Whether the inputs have ended and what is held back was not told of it.
    pub(crate) fn lacks_last(&self) -> bool {
        self.holds_back && self.last_epoch.load(Ordering::SeqCst) == 0
    }

    /// The last epoch that was opened, unless it is known to be complete.
    pub(crate) fn last_opened(&self) -> Option<Epoch> {
        lock(&self.epochs).back().copied()
    }

    /// Whether it has not had its first epoch.
    pub(crate) fn is_unopened(&self) -> bool {
        !self.opened.load(Ordering::SeqCst)
    }

    /// Takes no more from views; for the control only.
    pub(crate) fn cut_edges(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_edges();
    }

    fn wake_edges(&self) {
        for edge in lock(&self.edges).iter() {
            // The worker is gone only when the pool is.
            let _ = edge.activate();
        }
    }

    /// Where the gate stands, for an edge whose view has ended: it is woken when the gate moves on.
    pub(crate) fn follow_gate(&self) -> Gate {
        // In this order: the control moves the gate, then looks whether edges follow it.
        self.edges_ended.store(true, Ordering::SeqCst);
        self.gate()
    }

    /// A place for the timer of a chain on one worker.
    pub(crate) fn add_timer(&self) -> Arc<AtomicI64> {
        let timer = Arc::new(AtomicI64::new(i64::MAX));
        lock(&self.timers).push(Arc::clone(&timer));
        timer
    }

    /// Sets a chain's timer, and tells the control when it does not wait for one as early.
    pub(crate) fn set_timer(&self, timer: &AtomicI64, at: Option<i64>) {
        let at = at.unwrap_or(i64::MAX);
        if timer.swap(at, Ordering::SeqCst) != at && at < self.awaited_timer.load(Ordering::SeqCst) {
            self.signal.notify();
        }
    }

    /// The first epoch after `last` at which a timer of the job is due. Timers up to `last` have had their say, or have
    /// it when that epoch ends.
    pub(crate) fn await_timer(&self, last: Epoch) -> Option<Epoch> {
        // A timer that is set while the others are looked at tells the control again.
        self.awaited_timer.store(i64::MAX, Ordering::SeqCst);
        let least = self.timers().filter(|at| epoch_at(*at) > last).min()?;
        self.awaited_timer.store(least, Ordering::SeqCst);
        Some(epoch_at(least))
    }

    /// Whether a timer is due in `epoch` or later.
    pub(crate) fn has_timer_from(&self, epoch: Epoch) -> bool {
        self.timers().any(|at| epoch_at(at) >= epoch)
    }

    fn timers(&self) -> impl Iterator<Item = i64> {
        let timers: Vec<i64> = lock(&self.timers).iter().map(|timer| timer.load(Ordering::SeqCst)).collect();
        timers.into_iter().filter(|at| *at != i64::MAX)
    }

    /// How to wake the dataflow's end on a worker.
    pub(crate) fn terminal(&self, worker: usize) -> &WakeUp {
        &self.terminals[worker]
    }

    /// Lets the dataflow's end look again, on all workers.
    pub(crate) fn wake_terminals(&self) {
        self.terminals.iter().for_each(WakeUp::activate);
    }

    /// The first opened epoch after `epoch`.
    pub(crate) fn epoch_after(&self, epoch: Epoch) -> Option<Epoch> {
        lock(&self.epochs).iter().copied().find(|opened| *opened > epoch)
    }

    /// How many epochs are opened and incomplete; forgets those that are complete.
    pub(crate) fn epochs_in_flight(&self) -> usize {
        let frontier = self.frontier();
        let mut epochs = lock(&self.epochs);
        while epochs.front().is_some_and(|epoch| *epoch < frontier) {
            epochs.pop_front();
        }
        epochs.len()
    }

    /// All epochs before this one are complete on every worker, and written.
    pub(crate) fn frontier(&self) -> Epoch {
        self.done.iter().map(|done| done.load(Ordering::SeqCst)).min().unwrap_or(0)
    }

    /// A worker's view or sink has all epochs before `frontier`; its end of late rows has a number behind all workers.
    pub(crate) fn set_done(&self, worker: usize, frontier: Epoch) {
        self.done[worker].store(frontier, Ordering::SeqCst);
        let everywhere = self.frontier();
        let before = self.completed.fetch_max(everywhere, Ordering::SeqCst);
        if everywhere <= before {
            return;
        }
        let epochs = lock(&self.epochs);
        for epoch in epochs.iter().filter(|epoch| (before..everywhere).contains(epoch)) {
            self.epochs_completed.fetch_add(1, Ordering::Relaxed);
            self.observer.epoch_completed(*epoch);
        }
        drop(epochs);
        if everywhere == Epoch::MAX || self.awaited.load(Ordering::SeqCst) {
            self.signal.notify();
        }
    }

    /// Whether work for `epoch` may go on that sends over `links`.
    pub(crate) fn may_run<'a>(&self, epoch: Epoch, mut links: impl Iterator<Item = &'a Arc<LinkMeter>>) -> bool {
        if !self.meter.is_tight() {
            return true;
        }
        let frontier = self.frontier();
        let oldest = lock(&self.epochs).iter().copied().find(|opened| *opened >= frontier);
        oldest.is_none_or(|oldest| epoch <= oldest) && links.all(|link| !link.has_unread(epoch))
    }

    /// A source may not read, since all jobs together hold too much; the control lets it when there is room.
    pub(crate) fn note_starved(&self, source: &SourceStatus) {
        if !source.starved.swap(true, Ordering::SeqCst) {
            self.meter.all().wanted.store(true, Ordering::SeqCst);
            self.signal.notify();
        }
    }

    /// Something was read, or a watermark moved.
    pub(crate) fn note_activity(&self) {
        if !self.active.swap(true, Ordering::SeqCst) {
            self.note_news();
            self.signal.notify();
        }
    }

    /// A checkpoint of the job would hold more than the last one.
    pub(crate) fn note_news(&self) {
        self.epochs_with_news.fetch_add(1, Ordering::Relaxed);
    }

    /// The budget of the open epoch is used up.
    pub(crate) fn note_exhausted(&self) {
        if !self.exhausted.swap(true, Ordering::SeqCst) {
            self.signal.notify();
        }
    }

    /// The job cannot go on. Only the first error counts.
    pub(crate) fn fail(&self, error: Error) {
        let mut slot = lock(&self.error);
        if slot.is_none() {
            *slot = Some(error);
            drop(slot);
            self.failed.store(true, Ordering::SeqCst);
            self.signal.notify();
        }
    }

    /// Whether it failed.
    pub(crate) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Why it failed.
    pub(crate) fn error(&self) -> Option<Error> {
        lock(&self.error).clone()
    }

    /// Whether a snapshot is taken at the end of one of these epochs.
    pub(crate) fn is_snapshot(&self, ended: Range<Epoch>) -> bool {
        lock(&self.snapshot).as_ref().is_some_and(|request| ended.contains(&request.epoch))
    }

    /// Gives one timely operator's parts of the snapshot, if one is taken at the end of one of the `ended` epochs.
    pub(crate) fn give_snapshot(&self, ended: Range<Epoch>, given: impl FnOnce(bool) -> Result<Given>) -> Result<()> {
        let wanted =
            lock(&self.snapshot).as_ref().filter(|request| ended.contains(&request.epoch)).map(|r| r.only_changes);
        let Some(only_changes) = wanted else { return Ok(()) };
        let given = given(only_changes)?;
        // It may have been given up meanwhile.
        if let Some(request) = lock(&self.snapshot).as_mut().filter(|request| ended.contains(&request.epoch)) {
            request.given.add(given);
            request.missing -= 1;
            if request.missing == 0 {
                self.signal.notify();
            }
        }
        Ok(())
    }

    /// The figures.
    pub(crate) fn metrics(&self) -> JobMetrics {
        JobMetrics {
            rows_in: self.rows_in.load(Ordering::Relaxed),
            rows_out: self.rows_out.load(Ordering::Relaxed),
            late_rows: self.late_rows.load(Ordering::Relaxed),
            epochs_completed: self.epochs_completed.load(Ordering::Relaxed),
            epochs_with_news: self.epochs_with_news.load(Ordering::Relaxed),
            frontier: self.frontier(),
            bytes_in_flight: self.meter.in_flight(),
            state_bytes: self.meter.state(),
        }
    }
}

/// The first epoch whose time is not before `micros`.
fn epoch_at(micros: i64) -> Epoch {
    u64::try_from(micros).map_or(0, |micros| micros.div_ceil(1_000))
}

/// What sources and sinks of a job report to.
pub(crate) struct JobReporter(pub(crate) Arc<JobShared>);

impl Reporter for JobReporter {
    fn waits_for(&self, who: &str, what: Option<String>) {
        self.0.observer.waits_for(who, what);
    }

    fn fail(&self, error: Error) {
        self.0.fail(error);
    }

    fn skipped(&self, who: &str, rows: u64, last_reason: &str) {
        self.0.observer.skipped(who, rows, last_reason);
    }
}
