//! How a job is doing: what SHOW JOBS shows, kept up to date by the dataflow and the connectors from any thread.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::catalog::{DesiredState, ObjectKind};
use crate::connector::Reporter;
use crate::dataflow::{JobHandle, OperatorFigures};
use crate::error::Error;
use crate::time::Epoch;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Its dataflow is being built.
    Starting,
    /// It runs, and has not yet read its inputs as of one epoch: nothing of its result can be read, and nothing is written.
    Hydrating,
    /// It runs, and waits for something outside: [`JobView::waits_for`] says what.
    Waiting,
    /// It runs.
    Running,
    /// It is being taken down.
    Stopping,
    /// It stands still because the user wants it.
    Stopped,
    /// Its input was bounded and has been read to the end.
    Finished,
    /// It cannot go on: [`JobView::error`] says why.
    Failed,
}

impl JobState {
    /// Its name, as SHOW JOBS and metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Starting => "STARTING",
            JobState::Hydrating => "HYDRATING",
            JobState::Waiting => "WAITING",
            JobState::Running => "RUNNING",
            JobState::Stopping => "STOPPING",
            JobState::Stopped => "STOPPED",
            JobState::Finished => "FINISHED",
            JobState::Failed => "FAILED",
        }
    }
}

/// A job's status, shared by everyone who runs a part of it.
pub struct JobStatus {
    /// The job's number.
    pub id: u64,
    /// The name of the object that it maintains.
    pub name: String,
    /// What that object is.
    pub kind: ObjectKind,
    lifecycle: Mutex<Lifecycle>,
    skipped_rows: AtomicU64,
    /// Its first epoch is not complete.
    hydrating: AtomicBool,
    /// The job in the pool, once it was built: its figures.
    handle: Mutex<Option<JobHandle>>,
    /// Whether the pool has its dataflow.
    built: AtomicBool,
    /// It goes on from a checkpoint: its result is there from the beginning.
    restored: AtomicBool,
}

struct Lifecycle {
    state: JobState,
    desired: DesiredState,
    /// Who waits for what.
    waits_for: BTreeMap<String, String>,
    error: Option<Error>,
    started_at_micros: i64,
}

/// A status at one moment.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The job's number.
    pub id: u64,
    /// The name of the object that it maintains.
    pub name: String,
    /// What that object is.
    pub kind: ObjectKind,
    /// What it does.
    pub state: JobState,
    /// What the user wants.
    pub desired: DesiredState,
    /// What it waits for.
    pub waits_for: Option<String>,
    /// Why it failed.
    pub error: Option<Error>,
    /// When it was started, in microseconds since 1970.
    pub started_at_micros: i64,
    /// Rows read from its sources.
    pub rows_in: u64,
    /// Rows (changes) written to its view or sink.
    pub rows_out: u64,
    /// Rows dropped because they came too late.
    pub late_rows: u64,
    /// Rows that could not be read and were skipped by `on_error`.
    pub skipped_rows: u64,
    /// Bytes that its operators remember.
    pub state_bytes: u64,
    /// Bytes under way between its operators.
    pub in_flight_bytes: u64,
    /// The last epoch that is complete everywhere.
    pub epoch: Epoch,
    /// What each of its operators remembers.
    pub operators: Vec<OperatorFigures>,
}

impl JobStatus {
    /// A job that is about to start.
    pub fn new(id: u64, name: &str, kind: ObjectKind, desired: DesiredState, now_micros: i64) -> Self {
        let state = match desired {
            DesiredState::Running => JobState::Starting,
            DesiredState::Stopped => JobState::Stopped,
        };
        Self {
            id,
            name: name.to_owned(),
            kind,
            lifecycle: Mutex::new(Lifecycle {
                state,
                desired,
                waits_for: BTreeMap::new(),
                error: None,
                started_at_micros: now_micros,
            }),
            skipped_rows: AtomicU64::new(0),
            hydrating: AtomicBool::new(false),
            handle: Mutex::new(None),
            built: AtomicBool::new(false),
            restored: AtomicBool::new(false),
        }
    }

    fn lifecycle(&self) -> std::sync::MutexGuard<'_, Lifecycle> {
        self.lifecycle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The status now.
    pub fn view(&self) -> JobView {
        let lifecycle = self.lifecycle();
        let waits_for: Vec<String> =
            lifecycle.waits_for.iter().map(|(who, what)| format!("{who} waits for {what}")).collect();
        let state = match lifecycle.state {
            JobState::Running if !waits_for.is_empty() => JobState::Waiting,
            JobState::Running if self.hydrating.load(Ordering::Acquire) => JobState::Hydrating,
            state => state,
        };
        let (metrics, operators) = match self.handle().as_ref() {
            Some(handle) => (handle.metrics(), handle.operators()),
            None => Default::default(),
        };
        JobView {
            id: self.id,
            name: self.name.clone(),
            kind: self.kind,
            state,
            desired: lifecycle.desired,
            waits_for: (!waits_for.is_empty()).then(|| waits_for.join("; ")),
            error: lifecycle.error.clone(),
            started_at_micros: lifecycle.started_at_micros,
            rows_in: metrics.rows_in,
            rows_out: metrics.rows_out,
            late_rows: metrics.late_rows,
            skipped_rows: self.skipped_rows.load(Ordering::Relaxed),
            state_bytes: metrics.state_bytes as u64,
            in_flight_bytes: metrics.bytes_in_flight as u64,
            epoch: metrics.frontier.saturating_sub(1),
            operators,
        }
    }

    /// Moves to another state. A failure stands until the job is started again.
    pub fn enter(&self, state: JobState) {
        let mut lifecycle = self.lifecycle();
        if lifecycle.state == JobState::Failed && state != JobState::Starting {
            return;
        }
        if state == JobState::Starting {
            lifecycle.error = None;
        }
        if matches!(state, JobState::Stopped | JobState::Finished | JobState::Starting) {
            lifecycle.waits_for.clear();
        }
        lifecycle.state = state;
    }

    /// Its dataflow runs from its first epoch on, which is not complete: that is the inputs as of one moment.
    pub fn hydrate(&self) {
        self.hydrating.store(!self.restored.load(Ordering::Acquire), Ordering::Release);
        self.enter(JobState::Running);
    }

    /// Why it failed, if it has and the user wants it to run. Cheaper than [`Self::view`].
    pub(crate) fn failure(&self) -> Option<Error> {
        let lifecycle = self.lifecycle();
        let failed = lifecycle.state == JobState::Failed && lifecycle.desired == DesiredState::Running;
        failed.then(|| lifecycle.error.clone()).flatten()
    }

    /// Whether it goes on from a checkpoint.
    pub(crate) fn set_restored(&self, restored: bool) {
        self.restored.store(restored, Ordering::Release);
    }

    /// The job cannot go on, and neither does its dataflow, if there is one.
    pub(crate) fn fail_job(&self, error: Error) {
        let handle = self.handle().clone();
        match handle {
            Some(handle) => handle.fail(error),
            None => Reporter::fail(self, error),
        }
    }

    /// An epoch is complete.
    pub fn hydrated(&self) {
        // Said of every epoch: it must cost next to nothing.
        if self.hydrating.load(Ordering::Relaxed) {
            self.hydrating.store(false, Ordering::Release);
        }
    }

    /// Notes what the user wants.
    pub fn want(&self, desired: DesiredState) {
        self.lifecycle().desired = desired;
    }

    /// Notes the job in the pool, from whose figures the status is shown.
    pub fn attach(&self, handle: JobHandle) {
        *self.handle() = Some(handle);
        self.built.store(true, Ordering::Release);
    }

    /// Whether its dataflow is in the pool.
    pub fn is_built(&self) -> bool {
        self.built.load(Ordering::Acquire)
    }

    /// As [`Self::is_built`], and it is no longer: the caller takes the dataflow out.
    pub fn take_built(&self) -> bool {
        self.built.swap(false, Ordering::AcqRel)
    }

    fn handle(&self) -> std::sync::MutexGuard<'_, Option<JobHandle>> {
        self.handle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Reporter for JobStatus {
    fn waits_for(&self, who: &str, what: Option<String>) {
        let mut lifecycle = self.lifecycle();
        match what {
            Some(what) => {
                tracing::warn!(job = %self.name, "{who} waits for {what}");
                lifecycle.waits_for.insert(who.to_owned(), what);
            }
            None => {
                if lifecycle.waits_for.remove(who).is_some() {
                    tracing::info!(job = %self.name, "{who} waits no longer");
                }
            }
        }
    }

    fn fail(&self, error: Error) {
        let mut lifecycle = self.lifecycle();
        if lifecycle.state == JobState::Failed {
            return; // The first reason is the one that explains.
        }
        tracing::error!(job = %self.name, detail = error.detail(), "job failed: {error}");
        lifecycle.state = JobState::Failed;
        lifecycle.waits_for.clear();
        lifecycle.error = Some(error);
    }

    fn skipped(&self, who: &str, rows: u64, last_reason: &str) {
        self.skipped_rows.fetch_add(rows, Ordering::Relaxed);
        tracing::warn!(job = %self.name, "{who} skipped {rows} record(s): {last_reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn waiting_is_running_with_a_reason() {
        let status = JobStatus::new(1, "v", ObjectKind::MaterializedView, DesiredState::Running, 0);
        assert_eq!(status.view().state, JobState::Starting);
        status.enter(JobState::Running);
        status.waits_for("stream 's'", Some("broker 127.0.0.1:1: refused".into()));
        let view = status.view();
        assert_eq!(view.state, JobState::Waiting);
        assert_eq!(view.waits_for.as_deref(), Some("stream 's' waits for broker 127.0.0.1:1: refused"));
        status.waits_for("stream 's'", None);
        assert_eq!(status.view().state, JobState::Running);
    }

    #[test]
    fn a_job_hydrates_until_its_first_epoch_is_complete() {
        let status = JobStatus::new(1, "v", ObjectKind::MaterializedView, DesiredState::Running, 0);
        status.hydrate();
        assert_eq!(status.view().state.name(), "HYDRATING");
        status.waits_for("the job", Some("memory".into()));
        assert_eq!(status.view().state, JobState::Waiting);
        status.waits_for("the job", None);
        status.hydrated();
        assert_eq!(status.view().state, JobState::Running);
        status.hydrate();
        status.fail(Error::new(ErrorKind::Data, "first"));
        status.hydrated();
        assert_eq!(status.view().state, JobState::Failed);
    }

    #[test]
    fn the_first_failure_stands_until_a_new_start() {
        let status = JobStatus::new(1, "v", ObjectKind::Sink, DesiredState::Running, 0);
        status.fail(Error::new(ErrorKind::Data, "first"));
        status.fail(Error::new(ErrorKind::Data, "second"));
        status.enter(JobState::Stopped);
        let view = status.view();
        assert_eq!(view.state, JobState::Failed);
        assert_eq!(view.error.unwrap().message(), "first");
        status.enter(JobState::Starting);
        assert!(status.view().error.is_none());
    }
}
