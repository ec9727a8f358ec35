//! Takes checkpoints of running jobs, and knows those of all jobs.
//!
//! One thread looks who is due. The jobs of a group (those connected by views) are checkpointed together, on a thread of
//! their own: the pool gives their snapshots as of one epoch, which cost the workers a copy of the state and nothing else;
//! writing them takes as long as it takes. Views are chosen first, sinks last.

mod begin;
mod job;
mod shown;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::CheckpointSettings;
use super::manifest::Manifest;
use super::place::Place;
use super::savepoint::Savepoint;
use super::store::JobStore;
use crate::catalog::Catalog;
use crate::dataflow::{JobHandle, Pool};
use crate::error::{Error, ErrorKind, Result};
use crate::safeguard::Safeguard;
use crate::table::TableStore;
use crate::time::{Clock, Epoch};
pub(crate) use begin::{Beginning, Begun};
use job::{CheckpointedJob, Progress};
pub use shown::CheckpointView;
pub(crate) use shown::KeptCheckpoint;

/// How often an idle keeper looks whether a job became due that it does not know of.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// How often whoever waits for a job's first epoch looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a job that is dropped waits for a checkpoint that is being written.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// The least time-out of jobs that are checkpointed together: a sink may count on its own.
fn timeout_of(group: &[Arc<CheckpointedJob>]) -> Duration {
    group.iter().map(|job| job.settings().timeout).min().unwrap_or_default()
}

/// What is known of a job, whether it runs or not.
#[derive(Debug, Default, Clone)]
struct Known {
    name: String,
    reads: Vec<Uuid>,
    /// The epoch from which it goes on.
    chosen: Option<Epoch>,
    /// All its inputs had ended then: it is the same at every later epoch.
    ended: bool,
    /// Epochs of later checkpoints that may turn out to be chosen: only its sink knows.
    undecided: Vec<Epoch>,
    /// Its checkpoints could not be looked at: nobody knows what it needs.
    unread: bool,
    /// Its sink decides which one counts, and has not been asked since this run began: until then a run before it, of a server
    /// that was taken for dead, may commit at any checkpoint that the views which it reads had when theirs began.
    unasked: bool,
}

impl Known {
    fn of(name: &str, reads: Vec<Uuid>, manifest: Option<&Manifest>) -> Self {
        let chosen = manifest.map(|manifest| manifest.epoch);
        let ended = manifest.is_some_and(|manifest| manifest.ended);
        Self { name: name.to_owned(), reads, chosen, ended, undecided: Vec::new(), unread: false, unasked: false }
    }
}

/// Who is at work.
#[derive(Default)]
struct Work {
    under_way: BTreeSet<Uuid>,
    /// Jobs whose files are being compacted.
    compacting: BTreeSet<Uuid>,
    /// Of those under way: jobs whose sinks take longer than a checkpoint may. The others of their groups go on without them.
    left_alone: BTreeSet<Uuid>,
    /// Jobs that were dropped while something of theirs was written: that is given up.
    dropped: BTreeSet<Uuid>,
    threads: Vec<JoinHandle<()>>,
    stopped: bool,
}

/// See the [module](self).
pub(crate) struct Checkpoints {
    place: Arc<Place>,
    deployment: Uuid,
    settings: CheckpointSettings,
    pool: Arc<Pool>,
    tables: Arc<TableStore>,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    running: Mutex<BTreeMap<Uuid, Arc<CheckpointedJob>>>,
    known: Mutex<BTreeMap<Uuid, Known>>,
    /// By job, of those whose savepoints were asked for.
    savepoints: Mutex<BTreeMap<Uuid, BTreeMap<String, Savepoint>>>,
    work: Mutex<Work>,
    bell: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checkpoints {
    /// Keeps checkpoints in a place, and begins to take them.
    pub(crate) fn open(
        place: Place,
        settings: CheckpointSettings,
        (pool, tables, catalog): (&Arc<Pool>, &Arc<TableStore>, &Arc<Catalog>),
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let this = Arc::new(Self::assemble(place, settings, (pool, tables, catalog), clock)?);
        let weak = Arc::downgrade(&this);
        let thread = std::thread::Builder::new().name("rondel:checkpoints".to_owned()).spawn(move || {
            while let Some(keeper) = weak.upgrade() {
                let rest = keeper.take_due();
                let work = lock(&keeper.work);
                if work.stopped {
                    return;
                }
                drop(keeper.bell.wait_timeout(work, rest));
            }
        });
        let thread = thread
            .map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
        *lock(&this.thread) = Some(thread);
        Ok(this)
    }

    /// As [`Self::open`], for whoever says himself when checkpoints are taken.
    pub(crate) fn assemble(
        place: Place,
        settings: CheckpointSettings,
        (pool, tables, catalog): (&Arc<Pool>, &Arc<TableStore>, &Arc<Catalog>),
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        Ok(Self {
            place: Arc::new(place),
            deployment: catalog.deployment()?,
            settings,
            pool: Arc::clone(pool),
            tables: Arc::clone(tables),
            catalog: Arc::clone(catalog),
            clock: Arc::clone(clock),
            running: Mutex::default(),
            known: Mutex::default(),
            savepoints: Mutex::default(),
            work: Mutex::default(),
            bell: Condvar::new(),
            thread: Mutex::default(),
        })
    }

    /// Takes no more checkpoints; those under way are finished.
    pub(crate) fn stop(&self) {
        lock(&self.work).stopped = true;
        self.bell.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        // Those that wait for their sinks would be waited for.
        let left_alone = lock(&self.work).left_alone.clone();
        let running = lock(&self.running).clone();
        let sinks =
            running.values().filter(|job| left_alone.contains(&job.id)).filter_map(|job| job.committer.as_ref());
        sinks.for_each(|committer| committer.close());
        let threads = std::mem::take(&mut lock(&self.work).threads);
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// How checkpoints are taken if a job does not say otherwise.
    pub(crate) fn settings(&self) -> &CheckpointSettings {
        &self.settings
    }

    /// A job runs: it has checkpoints from now on.
    pub(crate) fn add(&self, job: Begun, handle: JobHandle) {
        let now = Instant::now();
        let Begun { id, name, sql, plan, reads, committer, settings, store, manifest, .. } = job;
        let known = Known::of(&name, reads.values().copied().collect(), manifest.as_deref());
        lock(&self.known).insert(id, known);
        let progress = Mutex::new(Progress {
            begun: now,
            ended: now,
            done: None,
            is_upon_last: manifest.is_some(),
            last: manifest,
            compacted: Vec::new(),
            taken: 0,
            failed: 0,
            took: Duration::ZERO,
            new_bytes: 0,
            error: None,
        });
        let settings = Mutex::new(settings);
        let job = CheckpointedJob { id, name, sql, plan, reads, handle, committer, settings, store, progress };
        lock(&self.running).insert(id, Arc::new(job));
        self.bell.notify_all();
    }

    /// A job runs no longer: its sink is closed, its checkpoints stay.
    pub(crate) fn remove(&self, job: Uuid) {
        let removed = lock(&self.running).remove(&job);
        if let Some(committer) = removed.and_then(|job| job.committer.clone()) {
            committer.close();
        }
    }

    /// A job is dropped: its checkpoints go.
    pub(crate) fn drop_job(&self, job: Uuid) -> Result<()> {
        self.remove(job);
        lock(&self.known).remove(&job);
        lock(&self.savepoints).remove(&job);
        // What is being written would stay. It is given up, and its sink is closed, so it does not take long.
        let deadline = Instant::now() + DROP_PATIENCE;
        let mut work = lock(&self.work);
        work.dropped.insert(job);
        while (work.under_way.contains(&job) || work.compacting.contains(&job)) && Instant::now() < deadline {
            work = self.bell.wait_timeout(work, LONGEST_REST).unwrap_or_else(PoisonError::into_inner).0;
        }
        if !work.under_way.contains(&job) {
            work.dropped.remove(&job);
        }
        drop(work);
        self.tables.let_go(job)?;
        JobStore::open(&self.place, self.deployment, job).remove()
    }

    /// Whether nobody wants what is being written of a job any more.
    fn is_dropped(&self, job: Uuid) -> bool {
        lock(&self.work).dropped.contains(&job)
    }

    /// A running job's checkpoints are taken and kept otherwise from now on.
    pub(crate) fn alter(&self, job: Uuid, settings: CheckpointSettings) {
        if let Some(job) = lock(&self.running).get(&job) {
            *lock(&job.settings) = settings;
        }
        self.bell.notify_all();
    }

    /// Waits until a job that runs has something to take a checkpoint of.
    pub(super) fn await_begun(&self, job: Uuid, deadline: Instant) {
        let is_waited_for = || {
            let running = lock(&self.running);
            running.get(&job).is_some_and(|job| !job.is_running() && job.handle.outcome().is_none())
        };
        while is_waited_for() && Instant::now() < deadline {
            drop(self.bell.wait_timeout(lock(&self.work), LOOK_AGAIN));
        }
    }

    /// Where checkpoints lie.
    pub(super) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Whose they are.
    pub(super) fn deployment(&self) -> Uuid {
        self.deployment
    }

    /// The time.
    pub(super) fn now_micros(&self) -> i64 {
        self.clock.now_micros()
    }

    /// A job that does not run will go on from this epoch.
    pub(super) fn stand_at(&self, job: Uuid, epoch: Epoch) {
        if let Some(known) = lock(&self.known).get_mut(&job) {
            known.chosen = Some(epoch);
        }
    }

    /// A job's savepoints; read once.
    pub(super) fn savepoints_of(&self, job: Uuid) -> Result<Vec<Savepoint>> {
        if let Some(savepoints) = lock(&self.savepoints).get(&job) {
            return Ok(savepoints.values().cloned().collect());
        }
        let read = JobStore::open(&self.place, self.deployment, job).savepoints()?;
        let mut savepoints = lock(&self.savepoints);
        let of_job = savepoints.entry(job).or_default();
        // One may have been made meanwhile.
        for (name, savepoint) in read {
            of_job.entry(name).or_insert(savepoint);
        }
        Ok(of_job.values().cloned().collect())
    }

    /// From now on retention keeps what a savepoint needs.
    pub(super) fn hold_savepoint(&self, job: Uuid, savepoint: Savepoint) {
        lock(&self.savepoints).entry(job).or_default().insert(savepoint.name.clone(), savepoint);
    }

    /// And no longer.
    pub(super) fn release_savepoint(&self, job: Uuid, name: &str) {
        if let Some(savepoints) = lock(&self.savepoints).get_mut(&job) {
            savepoints.remove(name);
        }
    }

    /// Running jobs by what connects them, each group's views before their readers.
    fn groups(&self) -> Vec<Vec<Arc<CheckpointedJob>>> {
        // One that has ended, or has not come to its first epoch's end, holds nobody up.
        let mut running = lock(&self.running).clone();
        let left_alone = lock(&self.work).left_alone.clone();
        running.retain(|id, job| job.is_running() && !left_alone.contains(id));
        let mut groups: Vec<Vec<Arc<CheckpointedJob>>> = Vec::new();
        for job in running.into_values() {
            let touches = |other: &Arc<CheckpointedJob>| {
                job.reads.values().any(|view| *view == other.id) || other.reads.values().any(|view| *view == job.id)
            };
            let (connected, mut others): (Vec<_>, Vec<_>) =
                groups.into_iter().partition(|group| group.iter().any(touches));
            let mut group: Vec<_> = connected.into_iter().flatten().collect();
            group.push(job);
            others.push(group);
            groups = others;
        }
        for group in &mut groups {
            // A job reads only what was there when it was created.
            group.sort_by_key(|job| job.handle.id());
            if !Safeguard::ViewsFirst.holds() {
                group.reverse();
            }
        }
        groups
    }

    /// Begins the checkpoints that are due; answers how long nobody else will be.
    fn take_due(self: &Arc<Self>) -> Duration {
        let now = Instant::now();
        let mut rest = LONGEST_REST;
        let mut is_due: BTreeSet<Uuid> = BTreeSet::new();
        for job in lock(&self.running).values() {
            let due = {
                let settings = job.settings();
                let progress = job.progress();
                // One whose inputs have ended waits for its last; one that failed is tried again at its time.
                let interval = match job.handle.is_at_end() && progress.error.is_none() {
                    true => Duration::ZERO,
                    false => settings.interval,
                };
                (progress.begun + interval).max(progress.ended + settings.minimum_pause)
            };
            if due > now {
                rest = rest.min(due - now);
            } else if job.handle.is_at_end() || !job.is_idle() {
                is_due.insert(job.id);
            }
        }
        // Mostly nobody is, and jobs need not be sorted into groups.
        let groups = if is_due.is_empty() { Vec::new() } else { self.groups() };
        for group in groups.into_iter().filter(|group| group.iter().any(|job| is_due.contains(&job.id))) {
            if !self.claim(&group) {
                continue;
            }
            let this = Arc::clone(self);
            let spawned = std::thread::Builder::new().name("rondel:checkpoint".to_owned()).spawn({
                let group = group.clone();
                move || {
                    // Each job remembers how it went.
                    drop(this.take(&group, timeout_of(&group)));
                    this.release(&group);
                    group.iter().for_each(|job| this.compact(job));
                }
            });
            match spawned {
                Ok(thread) => {
                    let mut work = lock(&self.work);
                    work.threads.retain(|thread| !thread.is_finished());
                    work.threads.push(thread);
                }
                Err(error) => {
                    tracing::error!("a checkpoint could not be begun: {error}");
                    self.release(&group);
                }
            }
        }
        rest.max(Duration::from_millis(1))
    }

    fn claim(&self, group: &[Arc<CheckpointedJob>]) -> bool {
        let mut work = lock(&self.work);
        let free = !group.iter().any(|job| work.under_way.contains(&job.id));
        if free {
            work.under_way.extend(group.iter().map(|job| job.id));
        }
        free
    }

    fn release(&self, group: &[Arc<CheckpointedJob>]) {
        let mut work = lock(&self.work);
        let Work { under_way, left_alone, dropped, .. } = &mut *work;
        under_way.retain(|id| left_alone.contains(id) || !group.iter().any(|job| job.id == *id));
        dropped.retain(|id| under_way.contains(id) || !group.iter().any(|job| job.id == *id));
        self.bell.notify_all();
    }

    /// Takes a checkpoint of a job, and of those that are connected with it, now. `closes`: sinks that wait for longer are
    /// closed, since the jobs are to end.
    pub(crate) fn take_now(self: &Arc<Self>, job: Uuid, timeout: Duration, closes: bool) -> Result<Epoch> {
        let outcomes = self.take_of(|group| group.iter().any(|of| of.id == job), timeout, closes);
        let own = outcomes.into_iter().find(|(id, _)| *id == job);
        own.map_or_else(
            || {
                let begins = lock(&self.running).get(&job).is_some_and(|job| job.handle.outcome().is_none());
                let why = match begins {
                    true => "the job has not completed its first epoch since it was created: take one a moment later",
                    false => "the job does not run, so there is nothing to take a checkpoint of",
                };
                Err(Error::new(ErrorKind::InvalidState, why))
            },
            |(_, outcome)| outcome,
        )
    }

    /// Compacts a running job's checkpoints, as its own thread does after each.
    #[cfg(test)]
    pub(crate) fn compact_now(&self, job: Uuid) {
        let running = lock(&self.running).get(&job).cloned();
        if let Some(job) = running {
            self.compact(&job);
        }
    }

    /// Takes checkpoints of all jobs now; answers how it went, by job.
    pub(crate) fn take_all(self: &Arc<Self>, timeout: Duration, closes: bool) -> BTreeMap<Uuid, Result<Epoch>> {
        self.take_of(|_| true, timeout, closes).into_iter().collect()
    }

    fn take_of(
        self: &Arc<Self>,
        wanted: impl Fn(&[Arc<CheckpointedJob>]) -> bool,
        timeout: Duration,
        closes: bool,
    ) -> Vec<(Uuid, Result<Epoch>)> {
        let deadline = Instant::now() + timeout;
        let groups: Vec<_> = self.groups().into_iter().filter(|group| wanted(group)).collect();
        std::thread::scope(|scope| {
            let taking: Vec<_> = groups
                .iter()
                .map(|group| {
                    scope.spawn(move || {
                        while !self.claim(group) {
                            let rest = deadline.saturating_duration_since(Instant::now());
                            if rest.is_zero() {
                                let error = Error::new(ErrorKind::InvalidState, "another checkpoint is under way");
                                return group.iter().map(|job| (job.id, Err(error.clone()))).collect();
                            }
                            drop(self.bell.wait_timeout(lock(&self.work), rest.min(LONGEST_REST)));
                        }
                        let outcomes = self.take(group, deadline.saturating_duration_since(Instant::now()));
                        self.release(group);
                        outcomes
                    })
                })
                .collect();
            let (done, is_done) = std::sync::mpsc::sync_channel::<()>(1);
            let groups = &groups;
            scope.spawn(move || {
                let rest = deadline.saturating_duration_since(Instant::now());
                if closes && is_done.recv_timeout(rest) == Err(RecvTimeoutError::Timeout) {
                    let sinks = groups.iter().flatten().filter_map(|job| job.committer.as_ref());
                    sinks.for_each(|committer| committer.close());
                }
            });
            let joined = taking.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect();
            drop(done);
            joined
        })
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        lock(&self.work).stopped = true;
        self.bell.notify_all();
    }
}
