//! The pool's control: decides when jobs are stepped through epochs, and orders what all workers must do in the same
//! order. It is one thread, or one party of a simulation, and never blocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

use super::blueprint::Prepared;
use super::flow_control::{Memory, lock};
use super::job::{Gate, GateState, Given, JobId, JobShared, Signal, SnapshotRequest};
use super::pool::EpochLease;
use super::snapshot::JobSnapshot;
use super::stepping::Pace;
use super::view::View;
use super::worker::{Acknowledgement, Command, CommandQueue};

/// Where an answer goes; one slot, so that sending never blocks.
pub(crate) type Reply<T> = SyncSender<Result<T>>;

/// How often jobs that wait for memory are looked at.
const STARVED_LOOK_MICROS: u64 = 20_000;
/// Whoever waits for memory no longer than this does not say so.
const STARVED_MICROS: u64 = 500_000;
/// Who waits.
const STARVED: &str = "the job";

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

struct Building {
    prepared: Box<Prepared>,
    first: Epoch,
    reads: Vec<JobId>,
    acknowledgement: Arc<Acknowledgement>,
    reply: Reply<Epoch>,
}

struct Dropping {
    job: JobId,
    acknowledgement: Arc<Acknowledgement>,
    reply: Option<Reply<()>>,
}

struct Snapshotting {
    jobs: Vec<JobId>,
    /// Those that give what has changed since their last.
    only_changes: BTreeSet<JobId>,
    /// Whether the request stands with the jobs.
    placed: bool,
    reply: Reply<Vec<JobSnapshot>>,
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
    /// The greatest epoch of which a snapshot was restored.
    restored: Epoch,
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
            restored: 0,
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
    /// It is greater than those of all snapshots that were restored. Another server may have taken them, one whose clock is ahead
    /// or that had leased more: a job that went on in earlier epochs would say things before what it has said already, and
    /// its checkpoints would seem older than the one that it came from, and older than its views' own. The other jobs come along,
    /// since tables are bound to epochs for all jobs at once: a job far behind would not see what is new in them.
    pub(crate) fn next_epoch(&mut self, now: Epoch, last: Epoch) -> Epoch {
        let epoch = now.max(last.max(self.restored) + 1);
        self.last_epoch = self.last_epoch.max(epoch);
        if epoch > self.leased
            && let Some(lease) = &self.lease
        {
            self.leased = lease.extend(epoch);
        }
        epoch
    }

    /// Tells the workers to build the next job. The jobs that it reads stand still meanwhile, so that its first epoch
    /// is one that none of them has ended anywhere.
    fn start_build(&mut self, now: Epoch) {
        while self.building.is_none()
            && let Some((mut prepared, reply)) = self.creates.pop_front()
        {
            let reads = match self.admit(&prepared) {
                Ok(reads) => reads,
                Err(error) => {
                    answer(&reply, Err(error));
                    continue;
                }
            };
            self.restored = self.restored.max(prepared.restored.unwrap_or(0));
            let first = self.next_epoch(now, self.last_epoch);
            let acknowledgement = Acknowledgement::of(self.pool.workers.len(), &self.pool.signal);
            if let Some(view) = &prepared.maintains {
                view.start(first, prepared.restored.is_some());
            }
            prepared.job.set_gate(Gate { epoch: first, state: GateState::Idle });
            for (worker, part) in self.pool.workers.iter().zip(prepared.parts.drain(..)) {
                worker.push(Command::Build(Box::new(part), first, Arc::clone(&acknowledgement)));
            }
            self.building = Some(Building { prepared, first, reads, acknowledgement, reply });
        }
    }

    fn admit(&self, prepared: &Prepared) -> Result<Vec<JobId>> {
        if self.jobs.contains_key(&prepared.job.id) {
            return Err(Error::new(
                ErrorKind::DuplicateObject,
                format!("the pool has a job {} already", prepared.job.id),
            ));
        }
        let mut reads = Vec::new();
        for view in &prepared.reads {
            let maintains = |entry: &Entry| entry.view.as_ref().is_some_and(|of| of.id() == view.id());
            match self.jobs.iter().find(|(_, entry)| maintains(entry)) {
                Some((id, entry)) if !matches!(entry.status, Status::Failed | Status::Dropping) => reads.push(*id),
                _ => {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        format!("view {} can't be read: the job that maintains it does not run", view.name()),
                    )
                    .with_hint("SHOW JOBS says why; ALTER JOB … START starts it again"));
                }
            }
        }
        Ok(reads)
    }

    fn finish_build(&mut self, micros: u64) {
        if !self.building.as_ref().is_some_and(|building| building.acknowledgement.is_complete()) {
            return;
        }
        // The new job's first epoch is the next of those that it reads: their open one must have been read to its end.
        if self.groups().iter().any(|group| self.is_frozen(group) && self.is_held(group)) {
            return;
        }
        let Some(Building { prepared, first, reads, reply, .. }) = self.building.take() else { return };
        let Prepared { job, maintains, snapshot_givers, .. } = *prepared;
        let id = job.id;
        job.observer.started(first);
        let units = snapshot_givers + reads.len();
        let entry = Entry {
            job,
            status: Status::Running,
            reads,
            view: maintains,
            snapshot_givers,
            pace: Pace::new(units),
            starved: None,
            inputs_ended: None,
            steps: Vec::new(),
        };
        self.jobs.insert(id, entry);
        // The first epoch of the new job is one of all that it is connected with.
        if !self.held
            && let Some(group) = self.groups().into_iter().find(|group| group.contains(&id))
        {
            self.open(&group, first, micros);
        }
        answer(&reply, Ok(first));
    }

    /// Jobs that stand still because a new reader is being built.
    pub(crate) fn is_frozen(&self, group: &[JobId]) -> bool {
        self.building.as_ref().is_some_and(|building| building.reads.iter().any(|job| group.contains(job)))
    }

    /// Lets a job write what it has read, and end.
    fn stop_job(&mut self, id: JobId, reply: Reply<Epoch>) {
        if let Some(error) = self.why_read(id) {
            answer(&reply, Err(error));
            return;
        }
        match self.running(id) {
            Err(error) => answer(&reply, Err(error)),
            Ok(entry) => {
                if entry.status == Status::Running {
                    entry.status = Status::Closing;
                    let epoch = entry.job.gate().epoch + 1;
                    entry.job.cut_edges();
                    entry.rest(Gate { epoch, state: GateState::Closed });
                }
                entry.steps.push(StepWait { reply, target: Some(Epoch::MAX) });
            }
        }
    }

    /// Why a job must stay: others read its view.
    fn why_read(&self, id: JobId) -> Option<Error> {
        let readers: Vec<&str> = self
            .jobs
            .values()
            .filter(|entry| entry.reads.contains(&id) && entry.status != Status::Dropping)
            .filter(|entry| entry.status != Status::Failed)
            .map(|entry| entry.job.name.as_str())
            .collect();
        let being_read = self.building.as_ref().is_some_and(|building| building.reads.contains(&id));
        (!readers.is_empty() || being_read).then(|| {
            Error::new(
                ErrorKind::DependentObjects,
                format!("job {id} can't be dropped while others read its view: {}", readers.join(", ")),
            )
            .with_hint("drop those first")
        })
    }

    fn drop_job(&mut self, id: JobId, reply: Reply<()>) {
        if let Some(error) = self.why_read(id) {
            answer(&reply, Err(error));
            return;
        }
        match self.jobs.get_mut(&id) {
            None => answer(&reply, Err(Error::new(ErrorKind::UndefinedObject, format!("the pool has no job {id}")))),
            Some(entry) if entry.status == Status::Dropping => {
                answer(&reply, Err(Error::new(ErrorKind::InvalidState, format!("job {id} is being dropped already"))))
            }
            Some(entry) => {
                entry.status = Status::Dropping;
                if let Some(view) = &entry.view {
                    view.end(entry.job.error().as_ref());
                }
                let acknowledgement = self.command(|of| Command::Drop(id, Arc::clone(of)));
                self.drops.push(Dropping { job: id, acknowledgement, reply: Some(reply) });
            }
        }
    }

    fn finish_drops(&mut self) {
        let drops = std::mem::take(&mut self.drops);
        for dropping in drops {
            if !dropping.acknowledgement.is_complete() {
                self.drops.push(dropping);
                continue;
            }
            if let Some(view) = self.jobs.get(&dropping.job).and_then(|entry| entry.view.as_ref()) {
                view.outlive_job(&self.pool.memory);
            }
            if let Some(reply) = dropping.reply {
                self.jobs.remove(&dropping.job);
                answer(&reply, Ok(()));
            }
        }
    }

    /// Takes failed jobs down, and those that read their views, readers first.
    fn note_failures(&mut self) {
        // A reader that was being built when what it reads failed.
        for entry in self.jobs.values().filter(|entry| matches!(entry.status, Status::Running | Status::Closing)) {
            for read in entry.reads.iter().filter_map(|read| self.jobs.get(read)) {
                if let (Status::Failed, Some(reason)) = (read.status, read.job.error()) {
                    entry.job.fail(reason.context(format!("it reads {}, which failed", read.job.name)));
                }
            }
        }
        let mut failed: Vec<JobId> = Vec::new();
        for (id, entry) in &self.jobs {
            if entry.job.is_failed() && !matches!(entry.status, Status::Failed | Status::Dropping) {
                failed.push(*id);
            }
        }
        let mut next = 0;
        while let Some(id) = failed.get(next).copied() {
            next += 1;
            let Some(entry) = self.jobs.get(&id) else { continue };
            let reason = entry.job.error().unwrap_or_else(|| Error::internal("failed without a reason"));
            let name = entry.job.name.clone();
            for (reader, entry) in &self.jobs {
                if entry.reads.contains(&id) && !matches!(entry.status, Status::Failed | Status::Dropping) {
                    entry.job.fail(reason.clone().context(format!("it reads {name}, which failed")));
                    if !failed.contains(reader) {
                        failed.push(*reader);
                    }
                }
            }
        }
        for id in failed.into_iter().rev() {
            let Some(entry) = self.jobs.get_mut(&id) else { continue };
            entry.status = Status::Failed;
            let error = entry.job.error().unwrap_or_else(|| Error::internal("failed without a reason"));
            entry.job.observer.failed(&error);
            entry.job.end(Err(error.clone()));
            for step in entry.steps.drain(..) {
                answer(&step.reply, Err(error.clone()));
            }
            if let Some(view) = &entry.view {
                view.end(Some(&error));
            }
            let acknowledgement = self.command(|of| Command::Drop(id, Arc::clone(of)));
            self.drops.push(Dropping { job: id, acknowledgement, reply: None });
        }
    }

    /// Marks jobs whose inputs have ended.
    fn note_ended_inputs(&mut self) {
        let finished: Vec<JobId> =
            self.jobs.iter().filter(|(_, entry)| entry.status == Status::Finished).map(|(id, _)| *id).collect();
        let left: Vec<JobId> = self.jobs.keys().filter(|id| !finished.contains(id)).copied().collect();
        for entry in self.jobs.values_mut().filter(|entry| entry.status == Status::Running) {
            let ended = entry.job.sources.iter().all(|source| source.finished.load(Ordering::SeqCst))
                && entry.reads.iter().all(|read| !left.contains(read));
            if ended && entry.inputs_ended.is_none() {
                entry.inputs_ended = Some(entry.last_opened());
            }
        }
    }

    fn note_finished(&mut self) {
        self.note_ended_inputs();
        let mut ending = Vec::new();
        for (id, entry) in &self.jobs {
            if entry.status == Status::Running && entry.is_at_end() {
                if entry.job.owes_checkpoint.load(Ordering::SeqCst) {
                    entry.job.is_at_end.store(true, Ordering::SeqCst);
                } else {
                    ending.push((*id, Status::Closing));
                }
            } else if matches!(entry.status, Status::Running | Status::Closing) && entry.job.frontier() == Epoch::MAX {
                ending.push((*id, Status::Finished));
            }
        }
        for (id, status) in ending {
            let Some(entry) = self.jobs.get_mut(&id) else { continue };
            entry.status = status;
            if status == Status::Closing {
                let epoch = entry.job.gate().epoch + 1;
                entry.rest(Gate { epoch, state: GateState::Closed });
            } else {
                if let Some(view) = &entry.view {
                    view.end(None);
                }
                if !entry.job.stopping.load(Ordering::SeqCst) {
                    entry.job.observer.finished();
                }
                entry.job.end(Ok(()));
                // Readers may be able to end now.
                self.pool.signal.notify();
            }
        }
    }

    /// Lets sources go on that waited for memory, and says of jobs that wait for long that they do. Answers in how many
    /// microseconds to look again.
    fn feed_starved(&mut self, micros: u64) -> Option<u64> {
        if !self.pool.memory.wanted.load(Ordering::SeqCst) {
            return None;
        }
        let memory = Arc::clone(&self.pool.memory);
        let room = memory.has_room();
        if room {
            memory.wanted.store(false, Ordering::SeqCst);
        }
        for entry in self.jobs.values_mut() {
            let mut starved =
                entry.job.sources.iter().filter(|source| source.starved.load(Ordering::SeqCst)).peekable();
            let is_starved = starved.peek().is_some() && matches!(entry.status, Status::Running);
            if room {
                for source in starved {
                    source.starved.store(false, Ordering::SeqCst);
                    source.wake_up.activate();
                }
            }
            match entry.starved {
                None if is_starved && !room => entry.starved = Some((micros, false)),
                Some((since, false)) if !room && micros > since + STARVED_MICROS => {
                    entry.starved = Some((since, true));
                    let (used, limit) = (memory.used() >> 20, memory.limit() >> 20);
                    let what = format!("memory: all jobs together hold {used} MiB of {limit} MiB");
                    entry.job.observer.waits_for(STARVED, Some(what));
                }
                Some((_, told)) if room => {
                    entry.starved = None;
                    if told {
                        entry.job.observer.waits_for(STARVED, None);
                    }
                }
                _ => {}
            }
        }
        (!room).then_some(STARVED_LOOK_MICROS)
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

    /// Places snapshots that are asked for with jobs whose epoch `epoch` is open; none of them has ended it.
    pub(crate) fn place_snapshots(&mut self, group: &[JobId], epoch: Epoch) {
        let workers = self.pool.workers.len();
        for snapshotting in &mut self.snapshots {
            if snapshotting.placed || !snapshotting.jobs.iter().all(|job| group.contains(job)) {
                continue;
            }
            snapshotting.placed = true;
            for job in &snapshotting.jobs {
                if let Some(entry) = self.jobs.get(job) {
                    let missing = entry.snapshot_givers * workers;
                    let only_changes = snapshotting.only_changes.contains(job);
                    let request = SnapshotRequest { epoch, missing, only_changes, given: Given::default() };
                    *lock(&entry.job.snapshot) = Some(request);
                }
            }
        }
    }

    /// Whether jobs of a group are to be brought to the end of an epoch for a snapshot.
    pub(crate) fn wants_snapshot(&self, group: &[JobId]) -> bool {
        self.snapshots
            .iter()
            .any(|snapshotting| !snapshotting.placed && snapshotting.jobs.iter().any(|job| group.contains(job)))
    }

    fn finish_snapshots(&mut self) {
        let snapshots = std::mem::take(&mut self.snapshots);
        for snapshotting in snapshots {
            if let Some(error) = self.why_no_snapshot(&snapshotting) {
                answer(&snapshotting.reply, Err(error));
                continue;
            }
            let complete = snapshotting
                .jobs
                .iter()
                .filter_map(|job| self.jobs.get(job))
                .all(|entry| lock(&entry.job.snapshot).as_ref().is_some_and(|request| request.missing == 0));
            if !snapshotting.placed || !complete {
                self.snapshots.push(snapshotting);
                continue;
            }
            let taken = snapshotting.jobs.iter().filter_map(|job| self.jobs.get(job)).filter_map(|entry| {
                let request = lock(&entry.job.snapshot).take()?;
                Some(JobSnapshot::given(request.epoch, request.given))
            });
            answer(&snapshotting.reply, taken.collect());
        }
    }

    /// Nobody waits for it: what the jobs still give to it is not kept.
    fn give_up_snapshot(&mut self, jobs: &[JobId]) {
        for snapshotting in self.snapshots.extract_if(.., |snapshotting| snapshotting.jobs == jobs) {
            if snapshotting.placed {
                for entry in jobs.iter().filter_map(|job| self.jobs.get(job)) {
                    lock(&entry.job.snapshot).take();
                }
            }
        }
    }

    fn why_no_snapshot(&self, snapshotting: &Snapshotting) -> Option<Error> {
        for job in &snapshotting.jobs {
            let Some(entry) = self.jobs.get(job) else {
                return Some(Error::new(ErrorKind::UndefinedObject, format!("job {job} was dropped")));
            };
            match entry.status {
                Status::Failed => return entry.job.error(),
                Status::Running => {}
                _ => return Some(Error::new(ErrorKind::InvalidState, format!("job {} has ended", entry.job.name))),
            }
        }
        let group =
            self.groups().into_iter().find(|group| snapshotting.jobs.first().is_some_and(|job| group.contains(job)));
        let together = group.is_some_and(|group| snapshotting.jobs.iter().all(|job| group.contains(job)));
        (!together).then(|| {
            Error::new(ErrorKind::InvalidState, "a snapshot can only be taken of jobs that read each other's views")
        })
    }

    fn shut_down(&mut self, reply: &Reply<()>) {
        self.stopped = true;
        let error = Error::new(ErrorKind::Canceled, "the pool was shut down");
        for entry in self.jobs.values_mut() {
            if let Some(view) = &entry.view {
                view.end(Some(&error));
            }
            entry.job.end(Err(error.clone()));
            for step in entry.steps.drain(..) {
                answer(&step.reply, Err(error.clone()));
            }
        }
        for (_, create) in self.creates.drain(..) {
            answer(&create, Err(error.clone()));
        }
        if let Some(building) = self.building.take() {
            answer(&building.reply, Err(error.clone()));
        }
        for worker in &self.pool.workers {
            worker.push(Command::Shutdown);
        }
        answer(reply, Ok(()));
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
