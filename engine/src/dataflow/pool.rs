//! A pool: a fixed set of workers and the jobs that they run.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use timely::communication::{Allocator, Config, WorkerGuards};
use timely::worker::{Config as WorkerConfig, Worker as TimelyWorker};

use crate::error::{Error, ErrorKind, Result};
use crate::state::key_group::KEY_GROUPS;
use crate::time::{Clock, Epoch};

use super::blueprint::Blueprint;
use super::control::{Control, PoolShared, Reply, Request};
use super::figures::OperatorFigures;
use super::flow_control::{Memory, lock};
use super::job::{JobId, JobMetrics, JobShared};
use super::operators::{EngineOperators, OperatorFactory};
use super::signal::Signal;
use super::simulated::{Outside, Simulation};
use super::snapshot::JobSnapshot;
use super::worker::{CommandQueue, Worker};

/// Turns of a simulated pool after which a snapshot is given up.
const SNAPSHOT_TURNS: usize = 20_000;

/// How a pool is set up.
#[derive(Clone)]
pub struct PoolSettings {
    /// Worker threads, from 1 to [`KEY_GROUPS`].
    pub workers: usize,
    /// Where operators come from; tests inject others.
    pub operators: Arc<dyn OperatorFactory>,
    /// Epochs up to this one were given out before: those of this pool are greater.
    pub last_epoch: Epoch,
    /// Bytes that all jobs may hold together, whatever each one's limit.
    pub memory_bytes: usize,
    /// Who remembers which epochs were given out.
    pub lease: Option<Arc<dyn EpochLease>>,
}

/// Remembers durably which epochs may have been given out, so that none is given out again after a restart.
pub trait EpochLease: Send + Sync {
    /// `epoch` is about to be given out: answers up to which epoch no further question is needed. Called about once a
    /// minute.
    fn extend(&self, epoch: Epoch) -> Epoch;
}

impl PoolSettings {
    /// `workers` workers that run the engine's own operators.
    pub fn workers(workers: usize) -> Self {
        Self { workers, operators: Arc::new(EngineOperators), last_epoch: 0, memory_bytes: usize::MAX, lease: None }
    }
}

/// See the [module](self). Dropping a pool shuts it down.
pub struct Pool {
    settings: PoolSettings,
    clock: Arc<dyn Clock>,
    shared: Arc<PoolShared>,
    form: Form,
}

enum Form {
    Threads(Mutex<Option<Threads>>),
    Simulated(Box<Mutex<Simulation>>),
}

struct Threads {
    control: JoinHandle<()>,
    workers: WorkerGuards<()>,
}

impl Pool {
    /// A pool of threads: they park when nothing is to be done.
    pub fn threads(settings: PoolSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let shared = share(&settings)?;
        let workers = spawn_workers(&shared, Some(Instant::now()), Worker::run)?;
        let mut control = Control::new(Arc::clone(&shared), settings.last_epoch, settings.lease.clone());
        let (of_control, of_clock) = (Arc::clone(&shared), Arc::clone(&clock));
        let control = std::thread::Builder::new()
            .name("rondel:control".to_owned())
            .spawn(move || {
                let start = Instant::now();
                loop {
                    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let wait = control.turn(millis(of_clock.as_ref()), micros);
                    if control.is_stopped() {
                        return;
                    }
                    of_control.signal.wait(wait.map(Duration::from_micros));
                }
            })
            .map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
        Ok(Self { settings, clock, shared, form: Form::Threads(Mutex::new(Some(Threads { control, workers }))) })
    }

    /// A simulated pool: real worker threads, of which one runs at a time, a step at a time. The seed decides who, for
    /// how long, and when the clock moves; nothing happens but in calls of this pool, so that equal seeds and equal
    /// calls make equal runs.
    pub fn simulated(settings: PoolSettings, seed: u64) -> Result<Self> {
        Self::simulated_with(settings, seed, None)
    }

    /// As [`Pool::simulated`], in a world that has turns as well.
    pub fn simulated_with(settings: PoolSettings, seed: u64, outside: Option<Arc<dyn Outside>>) -> Result<Self> {
        let shared = share(&settings)?;
        let epochs = (settings.last_epoch, settings.lease.clone());
        let simulation = Simulation::start(&shared, epochs, seed, outside)?;
        let clock = simulation.clock();
        Ok(Self { settings, clock, shared, form: Form::Simulated(Box::new(Mutex::new(simulation))) })
    }

    /// How many workers.
    pub fn workers(&self) -> usize {
        self.settings.workers
    }

    /// The pool's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Creates a job. Whatever can fail is found here, before any worker hears of it; returns when all workers have it.
    pub fn create_job(&self, blueprint: Blueprint) -> Result<JobHandle> {
        let workers = self.settings.workers;
        let shared = (&self.shared.signal, &self.shared.memory);
        let prepared = blueprint.prepare(workers, &self.clock, self.settings.operators.as_ref(), shared)?;
        let job = Arc::clone(&prepared.job);
        self.ask(|reply| Request::Create(Box::new(prepared), reply))?;
        Ok(JobHandle { job })
    }

    /// Drops a job; returns when every worker has dropped it. Those that read its view are to be dropped before.
    pub fn drop_job(&self, job: JobId) -> Result<()> {
        self.ask(|reply| Request::Drop(job, reply))
    }

    /// Ends a job in order: it reads no more, what it has read reaches its view or sink, which is flushed, and it is
    /// dropped. What takes longer than `patience` is lost; answers whether nothing was. Those that read its view are to
    /// be stopped before.
    pub fn stop_job(&self, job: JobId, patience: Duration) -> Result<bool> {
        match self.stopped(&self.ask_to_stop(job), patience) {
            Some(Err(error)) if error.kind() == ErrorKind::DependentObjects => Err(error),
            outcome => {
                self.drop_job(job)?;
                Ok(outcome.is_some_and(|outcome| outcome.is_ok()))
            }
        }
    }

    /// Ends jobs in order, as [`Pool::stop_job`] does: together where none reads the other's view, readers first
    /// otherwise. Answers those that took longer than `patience`, and still run.
    pub fn stop_jobs(&self, jobs: &[JobId], patience: Duration) -> Vec<JobId> {
        let start = Instant::now();
        let mut left = jobs.to_vec();
        while !left.is_empty() {
            let asked: Vec<_> = left.iter().map(|job| (*job, self.ask_to_stop(*job))).collect();
            let before = left.len();
            left.clear();
            for (job, answer) in asked {
                match self.stopped(&answer, patience.saturating_sub(start.elapsed())) {
                    // It is read: its readers are among those that are asked to stop before it is asked again.
                    Some(Err(error)) if error.kind() == ErrorKind::DependentObjects => left.push(job),
                    None => left.push(job),
                    // One that failed has nothing to write, one that is gone needs no end.
                    Some(_) => drop(self.drop_job(job)),
                }
            }
            if left.len() == before {
                break;
            }
        }
        left
    }

    fn ask_to_stop(&self, job: JobId) -> Receiver<Result<Epoch>> {
        let (reply, answer) = sync_channel(1);
        self.shared.ask(Request::Stop(job, reply));
        answer
    }

    /// How stopping ended; `None`: not within `patience`.
    fn stopped(&self, answer: &Receiver<Result<Epoch>>, patience: Duration) -> Option<Result<Epoch>> {
        let mut outcome = None;
        self.wait_until(patience, || {
            outcome = match answer.try_recv() {
                Ok(result) => Some(result),
                Err(TryRecvError::Disconnected) => Some(Err(stopped())),
                Err(TryRecvError::Empty) => None,
            };
            outcome.is_some()
        });
        outcome
    }

    /// Bytes that all jobs may hold together.
    pub fn memory_limit(&self) -> usize {
        self.shared.memory.limit()
    }

    /// Bytes that all jobs hold together.
    pub fn memory_used(&self) -> usize {
        self.shared.memory.used()
    }

    /// Closes the job's epoch with all that its sources have to read now, and returns when it is complete and written.
    pub fn step(&self, job: JobId) -> Result<Epoch> {
        self.ask(|reply| Request::Step(job, reply))
    }

    /// All that a job remembers at the end of an epoch that is closed for it.
    pub fn snapshot(&self, job: JobId) -> Result<JobSnapshot> {
        let mut snapshots = self.snapshots(&[job])?;
        snapshots.pop().ok_or_else(|| Error::internal("a snapshot without a job"))
    }

    /// Snapshots of several jobs that read each other's views, at the end of one and the same epoch.
    pub fn snapshots(&self, jobs: &[JobId]) -> Result<Vec<JobSnapshot>> {
        self.ask(|reply| Request::Snapshot(jobs.to_vec(), BTreeSet::new(), reply))
    }

    /// As [`Pool::snapshot`], with no more than what has changed since the last one where operators can tell.
    pub fn changes(&self, job: JobId) -> Result<JobSnapshot> {
        let mut snapshots = self.ask(|reply| Request::Snapshot(vec![job], BTreeSet::from([job]), reply))?;
        snapshots.pop().ok_or_else(|| Error::internal("a snapshot without a job"))
    }

    /// As [`Pool::snapshots`], of some jobs with [changes](Pool::changes) only; given up when it takes longer than `patience`
    /// (a sink may wait for a system that is away), in a simulated pool after 20,000 turns.
    pub fn snapshots_within(
        &self,
        jobs: &[JobId],
        only_changes: BTreeSet<JobId>,
        patience: Duration,
    ) -> Result<Vec<JobSnapshot>> {
        let (reply, answer) = sync_channel(1);
        self.shared.ask(Request::Snapshot(jobs.to_vec(), only_changes, reply));
        let start = Instant::now();
        let mut turns = 0;
        loop {
            let late = match &self.form {
                Form::Threads(_) => start.elapsed() > patience,
                Form::Simulated(_) => turns > SNAPSHOT_TURNS,
            };
            match self.answer(&answer) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(stopped()),
                Err(RecvTimeoutError::Timeout) if self.shared.broken.load(Ordering::SeqCst) => return Err(stopped()),
                Err(RecvTimeoutError::Timeout) if late => {
                    self.ask(|reply| Request::GiveUpSnapshot(jobs.to_vec(), reply))?;
                    return Err(Error::new(
                        ErrorKind::External,
                        format!("the end of an epoch was not reached and written within {patience:?}"),
                    ));
                }
                Err(RecvTimeoutError::Timeout) => turns += 1,
            }
        }
    }

    /// Waits a little for an answer: a while, or a turn.
    fn answer<T>(&self, answer: &Receiver<T>) -> std::result::Result<T, RecvTimeoutError> {
        let Form::Simulated(simulation) = &self.form else { return answer.recv_timeout(Duration::from_millis(200)) };
        match answer.try_recv() {
            Ok(answer) => Ok(answer),
            Err(TryRecvError::Empty) if lock(simulation).turn() => Err(RecvTimeoutError::Timeout),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// No job is moved on from now on. Jobs that are created meanwhile have their first epoch together, when they are
    /// [let go](Pool::release): so jobs that read each other's views can be restored as of one epoch.
    pub fn hold(&self) -> Result<()> {
        self.ask(|reply| Request::Hold(true, reply))
    }

    /// Ends what [`Pool::hold`] began.
    pub fn release(&self) -> Result<()> {
        self.ask(|reply| Request::Hold(false, reply))
    }

    /// Ends all jobs and workers; what is on its way is lost. Returns when the threads have ended.
    pub fn shutdown(&self) {
        match &self.form {
            Form::Threads(threads) => {
                let Some(threads) = lock(threads).take() else { return };
                let (reply, _) = sync_channel(1);
                self.shared.ask(Request::Shutdown(reply));
                // A thread that panicked has said so; there is nothing to add.
                let _ = threads.control.join();
                for worker in threads.workers.join() {
                    let _ = worker;
                }
            }
            Form::Simulated(simulation) => lock(simulation).stop(),
        }
    }

    /// Lets a simulated pool run `turns` turns. A pool of threads runs by itself.
    pub fn simulate(&self, turns: usize) {
        if let Form::Simulated(simulation) = &self.form {
            let mut simulation = lock(simulation);
            for _ in 0..turns {
                if !simulation.turn() {
                    return;
                }
            }
        }
    }

    /// Lets time pass at once on the clock of a simulated pool. A pool of threads has a clock of its own.
    pub fn pass(&self, time: Duration) {
        if let Form::Simulated(simulation) = &self.form {
            lock(simulation).pass(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        }
    }

    /// Waits until `condition` holds: at most `patience` in a pool of threads, at most 100,000 turns in a simulated one.
    /// Answers whether it does.
    pub fn wait_until(&self, patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
        match &self.form {
            Form::Threads(_) => {
                let start = Instant::now();
                while !condition() {
                    if start.elapsed() > patience {
                        return false;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                true
            }
            Form::Simulated(simulation) => {
                let mut simulation = lock(simulation);
                for _ in 0..100_000 {
                    if condition() {
                        return true;
                    }
                    if !simulation.turn() {
                        return false;
                    }
                }
                condition()
            }
        }
    }

    /// What a simulated pool has done, turn by turn; equal for equal seeds and calls.
    pub fn trace(&self) -> Vec<u64> {
        match &self.form {
            Form::Threads(_) => Vec::new(),
            Form::Simulated(simulation) => lock(simulation).trace().to_vec(),
        }
    }

    fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = sync_channel(1);
        self.shared.ask(request(reply));
        match &self.form {
            Form::Threads(_) => wait_for(&answer, &self.shared),
            Form::Simulated(simulation) => {
                let mut simulation = lock(simulation);
                for _ in 0..10_000_000_u64 {
                    match answer.try_recv() {
                        Ok(result) => return result,
                        Err(TryRecvError::Disconnected) => return Err(stopped()),
                        Err(TryRecvError::Empty) if simulation.turn() => {}
                        Err(TryRecvError::Empty) => return Err(stopped()),
                    }
                }
                Err(Error::internal("the simulation does not come to an end"))
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn wait_for<T>(answer: &Receiver<Result<T>>, shared: &PoolShared) -> Result<T> {
    // The control may have ended between the question and its reading it: look from time to time.
    loop {
        match answer.recv_timeout(Duration::from_millis(200)) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(stopped()),
            Err(RecvTimeoutError::Timeout) => {
                if shared.broken.load(Ordering::SeqCst) {
                    return Err(stopped());
                }
            }
        }
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Canceled, "the pool was shut down")
}

/// The clock's time as an epoch's number.
pub(crate) fn millis(clock: &dyn Clock) -> Epoch {
    u64::try_from(clock.now_micros() / 1_000).unwrap_or(0)
}

fn share(settings: &PoolSettings) -> Result<Arc<PoolShared>> {
    if settings.workers == 0 || settings.workers > KEY_GROUPS {
        return Err(Error::invalid(format!("a pool has from 1 to {KEY_GROUPS} workers, not {}", settings.workers)));
    }
    Ok(Arc::new(PoolShared {
        workers: (0..settings.workers).map(|_| Arc::new(CommandQueue::default())).collect(),
        requests: Mutex::new(VecDeque::new()),
        signal: Arc::new(Signal::default()),
        memory: Arc::new(Memory::new(settings.memory_bytes)),
        broken: AtomicBool::new(false),
    }))
}

/// Tells the control that a worker's thread has ended before its time.
struct Alive(Arc<PoolShared>);

impl Drop for Alive {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::SeqCst);
            self.0.signal.notify();
        }
    }
}

/// Starts the workers' threads; `now` gives them a timer, without which they never park.
pub(crate) fn spawn_workers(
    shared: &Arc<PoolShared>,
    now: Option<Instant>,
    run: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> Result<WorkerGuards<()>> {
    let of_workers = Arc::clone(shared);
    timely::communication::initialize(Config::Process(shared.workers.len()), move |allocator: Allocator| {
        let _alive = Alive(Arc::clone(&of_workers));
        let timely = TimelyWorker::new(WorkerConfig::default(), allocator, now);
        let commands = Arc::clone(&of_workers.workers[timely.index()]);
        run(&mut Worker::new(timely, commands));
    })
    .map_err(|error| Error::new(ErrorKind::External, format!("the workers could not be started: {error}")))
}

/// A job that was created.
#[derive(Clone)]
pub struct JobHandle {
    job: Arc<JobShared>,
}

impl std::fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobHandle").field("job", &self.job.id).finish_non_exhaustive()
    }
}

impl JobHandle {
    /// Its number.
    pub fn id(&self) -> JobId {
        self.job.id
    }

    /// All epochs before this one are complete, and written.
    pub fn frontier(&self) -> Epoch {
        self.job.frontier()
    }

    /// Its figures.
    pub fn metrics(&self) -> JobMetrics {
        self.job.metrics()
    }

    /// What its operators remember, each that has ever remembered anything.
    pub fn operators(&self) -> Vec<OperatorFigures> {
        self.job.operators.figures()
    }

    /// The job cannot go on; what it maintains and what reads it are taken down.
    pub(crate) fn fail(&self, error: Error) {
        self.job.fail(error);
    }

    /// Whether all its inputs have ended, and only a [last checkpoint](Blueprint::ends_with_checkpoint) is missing.
    pub(crate) fn is_at_end(&self) -> bool {
        self.job.is_at_end.load(Ordering::SeqCst) && self.job.owes_checkpoint.load(Ordering::SeqCst)
    }

    /// Its last checkpoint is chosen: it may end.
    pub(crate) fn let_end(&self) {
        self.job.owes_checkpoint.store(false, Ordering::SeqCst);
        self.job.signal.notify();
    }

    /// How it ended: `None` while it runs.
    pub fn outcome(&self) -> Option<Result<()>> {
        self.job.outcome()
    }

    /// Waits until it has ended, at most for `patience`; not for simulated pools, which stand still meanwhile.
    pub fn wait(&self, patience: Duration) -> Option<Result<()>> {
        self.job.wait(patience)
    }
}
