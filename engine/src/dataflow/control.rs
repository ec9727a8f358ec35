//! The pool's control: decides when jobs are stepped through epochs, and orders what all workers must do in the same
//! order. It is one thread, or one party of a simulation, and never blocks.

mod building;
mod ending;
mod snapshots;
mod starved;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

use self::building::Building;
use self::ending::Dropping;
use self::snapshots::Snapshotting;
use super::blueprint::Prepared;
use super::flow_control::{Memory, lock};
use super::gate::{Gate, GateState};
use super::job::{JobId, JobShared};
use super::pool::EpochLease;
use super::signal::Signal;
use super::snapshot::JobSnapshot;
use super::stepping::Pace;
use super::view::View;
use super::worker::{Acknowledgement, Command, CommandQueue};

/// Where an answer goes; one slot, so that sending never blocks.
pub(crate) type Reply<T> = SyncSender<Result<T>>;

/// What the pool's owner asks of the control.
pub(crate) enum Request {
    Create(Box<Prepared>, Reply<Epoch>),
    Drop(JobId, Reply<()>),
    Step(JobId, Reply<Epoch>),
    Stop(JobId, Reply<Epoch>),
    /// Of several jobs; of some of them only what has changed since the last.
    Snapshot(Vec<JobId>, BTreeSet<JobId>, Reply<Vec<JobSnapshot>>),
    /// Nobody waits for the snapshots of these jobs any more.
    GiveUpSnapshot(Vec<JobId>, Reply<()>),
    /// No job is moved on; what is created meanwhile has its first epoch afterwards, all in the same one.
    Hold(bool, Reply<()>),
    Shutdown(Reply<()>),
}

/// What the control, the workers and the pool's owner share.
pub(crate) struct PoolShared {
    pub(crate) workers: Vec<Arc<CommandQueue>>,
    pub(crate) requests: Mutex<VecDeque<Request>>,
    pub(crate) signal: Arc<Signal>,
    /// What all jobs hold.
    pub(crate) memory: Arc<Memory>,
    /// A worker's thread has ended with a panic of the pool's own.
    pub(crate) broken: AtomicBool,
}

impl PoolShared {
    pub(crate) fn ask(&self, request: Request) {
        lock(&self.requests).push_back(request);
        self.signal.notify();
    }
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is stepped through epochs.
    Running,
    /// Its inputs have ended; what was read is on its way.
    Closing,
    /// All is written.
    Finished,
    /// It failed; its dataflow is taken down.
    Failed,
    /// Its dataflow is being dropped.
    Dropping,
}

/// A job as the control sees it.
pub(crate) struct Entry {
    pub(crate) job: Arc<JobShared>,
    pub(crate) status: Status,
    /// The jobs whose views it reads.
    pub(crate) reads: Vec<JobId>,
    view: Option<Arc<View>>,
    snapshot_givers: usize,
    pub(crate) pace: Pace,
    /// Since when its sources are not let, and whether the observer knows.
    pub(crate) starved: Option<(u64, bool)>,
    /// All inputs have ended: in this epoch, or before.
    pub(crate) inputs_ended: Option<Epoch>,
    /// Waits for an epoch to be closed and completed.
    pub(crate) steps: Vec<StepWait>,
}

impl Entry {
    /// The last epoch that was opened.
    pub(crate) fn last_opened(&self) -> Epoch {
        let gate = self.job.gate();
        if gate.state == GateState::Open { gate.epoch } else { gate.epoch.saturating_sub(1) }
    }

    /// Whether the inputs have ended, and an epoch is to come in which the job says what it holds back.
    pub(crate) fn lacks_last(&self) -> bool {
        self.inputs_ended.is_some() && self.job.lacks_last()
    }

    /// Whether nothing will come any more, and what came is said, now and at any time.
    fn is_at_end(&self) -> bool {
        let frontier = self.job.frontier();
        let complete = self.inputs_ended.is_some_and(|last| last < frontier);
        complete && !self.job.lacks_last() && !self.job.has_timer_from(frontier)
    }

    /// Lets the job rest, or end, after the epochs that were opened so far.
    ///
    /// The worker that completes the last of them wakes the others, so that they take it into the view, unless it sees
    /// the gate still open: a reader's gate may be the last of its group to move, when all have ended the epoch already.
    /// So whoever comes second looks at what the first has written.
    pub(crate) fn rest(&self, gate: Gate) {
        let last = self.job.last_opened();
        self.job.set_gate(gate);
        if self.view.as_ref().is_some_and(|view| last <= Some(view.frontier())) {
            self.job.wake_terminals();
        }
    }
}

/// Someone who asked for a step.
pub(crate) struct StepWait {
    reply: Reply<Epoch>,
    /// The epoch that must complete; `None` until it is closed.
    pub(crate) target: Option<Epoch>,
}

/// See the [module](self).
pub(crate) struct Control {
    pool: Arc<PoolShared>,
    pub(crate) jobs: BTreeMap<JobId, Entry>,
    creates: VecDeque<(Box<Prepared>, Reply<Epoch>)>,
    building: Option<Building>,
    drops: Vec<Dropping>,
    snapshots: Vec<Snapshotting>,
    /// The greatest epoch given out.
    last_epoch: Epoch,
    /// The greatest epoch of which a job has a snapshot from an earlier run.
    taken: Epoch,
    /// Epochs up to this one may be given out without asking.
    leased: Epoch,
    lease: Option<Arc<dyn EpochLease>>,
    /// No job is moved on.
    held: bool,
    /// Microseconds that one worker needs to step all open jobs once.
    pub(crate) open_cost: u64,
    stopped: bool,
}

impl Control {
    /// A control that gives out epochs after `last_epoch`.
    pub(crate) fn new(pool: Arc<PoolShared>, last_epoch: Epoch, lease: Option<Arc<dyn EpochLease>>) -> Self {
        Self {
            pool,
            jobs: BTreeMap::new(),
            creates: VecDeque::new(),
            building: None,
            drops: Vec::new(),
            snapshots: Vec::new(),
            last_epoch,
            taken: 0,
            leased: 0,
            lease,
            held: false,
            open_cost: 0,
            stopped: false,
        }
    }

    /// Whether the pool was shut down.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Does what is due. `now` is the clock's time in milliseconds, the next epoch's number if it is free; `micros` a
    /// time that only ever grows. Answers in how many microseconds to look again; `None`: when notified.
    pub(crate) fn turn(&mut self, now: Epoch, micros: u64) -> Option<u64> {
        self.take_requests();
        self.note_failures();
        self.note_finished();
        self.finish_build(micros);
        self.start_build(now);
        self.finish_drops();
        self.note_cost();
        let mut wait = self.feed_starved(micros);
        for group in self.groups() {
            let again = self.step_group(&group, now, micros);
            wait = match (wait, again) {
                (Some(wait), Some(again)) => Some(u64::min(wait, again)),
                (wait, again) => wait.or(again),
            };
        }
        self.answer_steps();
        self.finish_snapshots();
        wait
    }

    fn take_requests(&mut self) {
        let requests = std::mem::take(&mut *lock(&self.pool.requests));
        for request in requests {
            if self.pool.broken.load(Ordering::SeqCst) {
                refuse(request, &Error::internal("a worker of the pool has died: restart the server"));
                continue;
            }
            match request {
                Request::Create(prepared, reply) => self.creates.push_back((prepared, reply)),
                Request::Drop(job, reply) => self.drop_job(job, reply),
                Request::Step(job, reply) => match self.running(job) {
                    Ok(entry) => entry.steps.push(StepWait { reply, target: None }),
                    Err(error) => answer(&reply, Err(error)),
                },
                Request::Stop(job, reply) => self.stop_job(job, reply),
                Request::Snapshot(jobs, only_changes, reply) => {
                    match jobs.iter().try_for_each(|job| self.running(*job).map(|_| ())) {
                        Ok(()) => self.snapshots.push(Snapshotting { jobs, only_changes, placed: false, reply }),
                        Err(error) => answer(&reply, Err(error)),
                    }
                }
                Request::GiveUpSnapshot(jobs, reply) => {
                    self.give_up_snapshot(&jobs);
                    answer(&reply, Ok(()));
                }
                Request::Hold(held, reply) => {
                    self.held = held;
                    answer(&reply, Ok(()));
                }
                Request::Shutdown(reply) => self.shut_down(&reply),
            }
        }
    }

    /// Whether no job is moved on.
    pub(crate) fn is_standing(&self) -> bool {
        self.held
    }

    fn running(&mut self, job: JobId) -> Result<&mut Entry> {
        let entry = self
            .jobs
            .get_mut(&job)
            .ok_or_else(|| Error::new(ErrorKind::UndefinedObject, format!("the pool has no job {job}")))?;
        match entry.status {
            Status::Running | Status::Closing | Status::Finished => Ok(entry),
            Status::Failed | Status::Dropping => Err(entry.job.error().unwrap_or_else(|| {
                Error::new(ErrorKind::InvalidState, format!("job {} is being dropped", entry.job.name))
            })),
        }
    }

    /// One command to all workers. Only this thread commands, so all get the same order.
    fn command(&self, command: impl Fn(&Arc<Acknowledgement>) -> Command) -> Arc<Acknowledgement> {
        let acknowledgement = Acknowledgement::of(self.pool.workers.len(), &self.pool.signal);
        for worker in &self.pool.workers {
            worker.push(command(&acknowledgement));
        }
        acknowledgement
    }

    /// Takes the next epoch's number, for jobs whose last was `last`.
    ///
    /// It is greater than those of all snapshots that jobs have from earlier runs. Another server may have taken them, one whose
    /// clock is ahead or that had leased more: a job that went on in earlier epochs would say things before what it has said
    /// already, and its checkpoints would seem older than those that it came from, or that it has begun anew beside, and older
    /// than its views' own. The other jobs come along,
    /// since tables are bound to epochs for all jobs at once: a job far behind would not see what is new in them.
    pub(crate) fn next_epoch(&mut self, now: Epoch, last: Epoch) -> Epoch {
        let epoch = now.max(last.max(self.taken) + 1);
        self.last_epoch = self.last_epoch.max(epoch);
        if epoch > self.leased
            && let Some(lease) = &self.lease
        {
            self.leased = lease.extend(epoch);
        }
        epoch
    }

    fn answer_steps(&mut self) {
        for entry in self.jobs.values_mut() {
            let frontier = entry.job.frontier();
            let over = entry.status == Status::Finished;
            let mut waiting = Vec::new();
            for step in entry.steps.drain(..) {
                match step.target {
                    Some(target) if target < frontier => answer(&step.reply, Ok(target)),
                    _ if over => answer(&step.reply, Ok(entry.job.gate().epoch)),
                    _ => waiting.push(step),
                }
            }
            entry.steps = waiting;
            // Whoever keeps checkpoints says when one may end that owes its last.
            let ends = entry.status == Status::Running
                && entry.inputs_ended.is_some()
                && !entry.job.is_at_end.load(Ordering::SeqCst);
            if ends || entry.steps.iter().any(|step| step.target.is_some()) {
                entry.job.awaited.store(true, Ordering::SeqCst);
                // It may have been completed just before: after this turn has looked, and before it was awaited.
                let frontier = entry.job.frontier();
                let is_complete = |step: &StepWait| step.target.is_some_and(|target| target < frontier);
                if (ends && entry.is_at_end()) || entry.steps.iter().any(is_complete) {
                    self.pool.signal.notify();
                }
            }
        }
    }
}

fn answer<T>(reply: &Reply<T>, result: Result<T>) {
    // Nobody waits any more: nobody needs the answer.
    let _ = reply.try_send(result);
}

fn refuse(request: Request, error: &Error) {
    match request {
        Request::Create(_, reply) | Request::Step(_, reply) | Request::Stop(_, reply) => {
            answer(&reply, Err(error.clone()))
        }
        Request::Drop(_, reply)
        | Request::Shutdown(reply)
        | Request::GiveUpSnapshot(_, reply)
        | Request::Hold(_, reply) => answer(&reply, Err(error.clone())),
        Request::Snapshot(_, _, reply) => answer(&reply, Err(error.clone())),
    }
}
