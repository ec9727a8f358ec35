//! One checkpoint, from the jobs' snapshots to what is deleted for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::compaction::{paths, plans};
use super::super::manifest::{FORMAT, Manifest};
use super::super::savepoint::Savepoint;
use super::super::store::Written;
use super::{CheckpointedJob, Checkpoints, lock};
use crate::connector::Positions;
use crate::connector::table::lsns;
use crate::connector::two_phase::CheckpointName;
use crate::dataflow::{JobId, JobSnapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::safeguard::Safeguard;
use crate::time::Epoch;

/// So long at least a sink may take to show a checkpoint's output.
const LEAST_SINK_PATIENCE: Duration = Duration::from_secs(1);

impl Checkpoints {
    /// A checkpoint of jobs that are connected, views first.
    pub(super) fn take(
        self: &Arc<Self>,
        group: &[Arc<CheckpointedJob>],
        timeout: Duration,
    ) -> Vec<(Uuid, Result<Epoch>)> {
        let begun = Instant::now();
        let ids: Vec<JobId> = group.iter().map(|job| job.handle.id()).collect();
        let done: Vec<_> = group.iter().map(|job| job.done()).collect();
        // Asked before: what comes after it is in none of the snapshots.
        let ended: Vec<bool> = group.iter().map(|job| job.handle.is_at_end()).collect();
        // If this one is not kept, the next has all again.
        let only_changes = group.iter().filter(|job| std::mem::take(&mut job.progress().is_upon_last));
        let only_changes: BTreeSet<JobId> = only_changes.map(|job| job.handle.id()).collect();
        let snapshots = self.pool.snapshots_within(&ids, only_changes, timeout);
        let mut outcomes: Vec<(Uuid, Result<Epoch>)> = Vec::with_capacity(group.len());
        match snapshots {
            Err(error) => outcomes.extend(group.iter().map(|job| (job.id, Err(error.clone())))),
            Ok(snapshots) => {
                for ((job, ended), snapshot) in group.iter().zip(ended).zip(snapshots) {
                    let outcome = match self.unchosen(job, &outcomes) {
                        // A view that was restored from its end: that checkpoint holds at every later epoch, and readers stand
                        // behind it. A sink has ended an interval, which has to be committed, or it never begins another.
                        _ if job.committer.is_none() && self.end_of(job.id).is_some() => {
                            if ended {
                                job.handle.let_end();
                            }
                            Ok(self.end_of(job.id).unwrap_or(snapshot.epoch))
                        }
                        None if job.committer.is_some() => self.keep_within(job, snapshot, ended, begun + timeout),
                        None => self.keep(job, snapshot, ended, Some(begun + timeout)),
                        Some(error) => Err(error),
                    };
                    if ended && job.committer.is_none() && outcome.as_ref().is_err_and(is_for_good) {
                        // It has no checkpoints at all, so none of its end.
                        job.handle.let_end();
                    }
                    outcomes.push((job.id, outcome));
                }
            }
        }
        for ((job, done), (_, outcome)) in group.iter().zip(done).zip(&outcomes) {
            let mut progress = job.progress();
            (progress.begun, progress.ended, progress.took) = (begun, Instant::now(), begun.elapsed());
            match outcome {
                Ok(epoch) => {
                    tracing::debug!(job = %job.name, epoch, took = ?progress.took, "checkpoint");
                    progress.taken += 1;
                    progress.error = None;
                    progress.is_upon_last = true;
                    progress.done = Some(done);
                }
                Err(error) => {
                    // Said once, not every few seconds.
                    let is_new = progress.error.as_ref().is_none_or(|last| last.message() != error.message());
                    if is_new && !self.is_dropped(job.id) {
                        tracing::warn!(job = %job.name, "no checkpoint: {error}");
                    }
                    progress.failed += 1;
                    progress.error = Some(error.clone());
                }
            }
        }
        outcomes
    }

    /// The epoch of the job's last checkpoint, if that is the one of its end.
    fn end_of(&self, job: Uuid) -> Option<Epoch> {
        lock(&self.known).get(&job).filter(|known| known.ended)?.chosen
    }

    /// Why a job's checkpoint can't be chosen: one of a view that it reads is not, and the view has not ended either.
    fn unchosen(&self, job: &CheckpointedJob, outcomes: &[(Uuid, Result<Epoch>)]) -> Option<Error> {
        if !Safeguard::ViewsFirst.holds() {
            return None;
        }
        let outcome = |view: &Uuid| outcomes.iter().find(|(id, _)| id == view).map(|(_, outcome)| outcome);
        let view = job
            .reads
            .values()
            .find(|view| !outcome(view).is_some_and(Result::is_ok) && self.end_of(**view).is_none())?;
        let kind = match outcome(view) {
            Some(Err(error)) if is_for_good(error) => ErrorKind::NotSupported,
            _ => ErrorKind::InvalidState,
        };
        Some(Error::new(kind, "a view that it reads has no checkpoint of this epoch"))
    }

    /// As [`Self::keep`], of a job whose sink may wait for a system that is away: from `deadline` on it is left alone with that,
    /// and has no other checkpoint before it is done with this one. Its views and their other readers go on.
    fn keep_within(
        self: &Arc<Self>,
        job: &Arc<CheckpointedJob>,
        snapshot: JobSnapshot,
        ended: bool,
        deadline: Instant,
    ) -> Result<Epoch> {
        let (told, outcome) = sync_channel(1);
        let (this, of) = (Arc::clone(self), Arc::clone(job));
        let spawned = std::thread::Builder::new().name("rondel:sink".to_owned()).spawn(move || {
            // The sink has its own patience.
            let kept = this.keep(&of, snapshot, ended, None);
            let mut work = lock(&this.work);
            if work.left_alone.remove(&of.id) {
                work.under_way.remove(&of.id);
                let mut progress = of.progress();
                progress.ended = Instant::now();
                progress.error = kept.as_ref().err().cloned();
                progress.taken += u64::from(kept.is_ok());
                progress.is_upon_last = kept.is_ok();
                drop(progress);
                this.bell.notify_all();
            }
            let _ = told.try_send(kept);
        });
        let thread = spawned
            .map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
        let rest = deadline.saturating_duration_since(Instant::now()).max(LEAST_SINK_PATIENCE);
        if let Ok(kept) = outcome.recv_timeout(rest) {
            return kept;
        }
        let mut work = lock(&self.work);
        if let Ok(kept) = outcome.try_recv() {
            return kept;
        }
        work.left_alone.insert(job.id);
        work.threads.push(thread);
        Err(Error::new(
            ErrorKind::External,
            "its sink has not confirmed a checkpoint in time; it goes on trying, and what the job shares views with goes on \
             without it",
        ))
    }

    /// Writes a job's checkpoint, and chooses it; one that has `ended` may go then.
    fn keep(
        &self,
        job: &CheckpointedJob,
        snapshot: JobSnapshot,
        ended: bool,
        deadline: Option<Instant>,
    ) -> Result<Epoch> {
        let epoch = snapshot.epoch;
        if let Some(known) = lock(&self.known).get_mut(&job.id) {
            known.undecided.push(epoch);
        }
        let kept = self.write_and_choose(job, snapshot, ended, deadline);
        if let Err(error) = &kept
            && job.committer.is_some()
        {
            // What the sink has been given since the last checkpoint can be neither shown nor taken back: the job goes
            // back to where it was shown.
            job.handle.fail(error.clone().context("its output could not be committed"));
        }
        kept?;
        if let Some(known) = lock(&self.known).get_mut(&job.id) {
            (known.chosen, known.ended) = (Some(epoch), ended);
            known.undecided.clear();
        }
        if ended {
            job.handle.let_end();
        }
        if let Err(error) = self.retain(job) {
            tracing::warn!(job = %job.name, "old checkpoints could not be deleted: {error}");
        }
        Ok(epoch)
    }

    fn write_and_choose(
        &self,
        job: &CheckpointedJob,
        snapshot: JobSnapshot,
        ended: bool,
        deadline: Option<Instant>,
    ) -> Result<()> {
        let mut manifest = self.manifest(job, &snapshot)?;
        manifest.ended = ended;
        if let Some(committer) = &job.committer {
            manifest.sink_token = Some(Manifest::written_token(&committer.prepare(snapshot.epoch)?));
        }
        let (last, mut compacted) = {
            let mut progress = job.progress();
            (progress.last.clone(), std::mem::take(&mut progress.compacted))
        };
        let early = paths(&compacted);
        if snapshot.changes.is_empty() {
            // All is written anew.
            compacted.clear();
        }
        let is_over = || self.is_dropped(job.id);
        let written = job.store.write(snapshot, manifest, last.as_deref(), compacted, (deadline, &is_over));
        job.store.let_go(early.iter().map(String::as_str));
        let written = written?;
        let Written { manifest, file, hash, new_bytes } = written;
        // An error doesn't say that it was not chosen: only the answer may be lost. So it stays until retention lets it go.
        self.choose(job, &manifest, &file, hash)?;
        let mut progress = job.progress();
        progress.new_bytes = new_bytes;
        progress.last = Some(manifest);
        Ok(())
    }

    /// Puts files of the job's last checkpoint together where that is worth it.
    pub(super) fn compact(&self, job: &CheckpointedJob) {
        let last = {
            let progress = job.progress();
            progress.last.clone().filter(|_| progress.is_upon_last && progress.compacted.is_empty())
        };
        let Some(last) = last else { return };
        let plans = plans(&last);
        if plans.is_empty() || !lock(&self.work).compacting.insert(job.id) {
            return;
        }
        let is_over = || lock(&self.work).stopped || !lock(&self.running).contains_key(&job.id);
        for plan in plans {
            match job.store.compact(&last, &plan, &is_over) {
                Ok(Some(compacted)) => job.progress().compacted.push(compacted),
                Ok(None) => break,
                Err(error) => {
                    if !is_over() {
                        tracing::warn!(job = %job.name, "checkpoints could not be compacted: {error}");
                        // A file may be damaged: the next checkpoint stands for itself.
                        job.progress().is_upon_last = false;
                    }
                    break;
                }
            }
        }
        lock(&self.work).compacting.remove(&job.id);
        self.bell.notify_all();
    }

    fn choose(&self, job: &CheckpointedJob, manifest: &Manifest, file: &str, hash: u64) -> Result<()> {
        let Some(committer) = &job.committer else { return job.store.choose(file, hash) };
        let name = CheckpointName { epoch: manifest.epoch, generation: manifest.generation, manifest_hash: hash };
        let token = manifest.token()?.unwrap_or_default();
        if committer.decides() {
            committer.publish(&token, &name)?;
            self.catalog.note_committed(job.id)?;
            // For whoever looks at the place; the sink's word is what counts.
            return job.store.choose(file, hash);
        }
        job.store.choose(file, hash)?;
        self.catalog.note_committed(job.id)?;
        committer.publish(&token, &name)
    }

    fn manifest(&self, job: &CheckpointedJob, snapshot: &JobSnapshot) -> Result<Manifest> {
        let mut positions = BTreeMap::new();
        for (scan, at) in &snapshot.positions {
            let Some(Positions(at)) = at else {
                return Err(Error::not_supported(format!("{scan} cannot be opened again where it stands")));
            };
            positions.insert(scan.clone(), at.clone());
        }
        Ok(Manifest {
            format: FORMAT,
            rondel: env!("CARGO_PKG_VERSION").to_owned(),
            deployment: self.deployment,
            job: job.id,
            name: job.name.clone(),
            generation: job.store.generation(),
            epoch: snapshot.epoch,
            now_micros: i64::try_from(snapshot.epoch).unwrap_or(i64::MAX).saturating_mul(1_000),
            taken_at_micros: self.clock.now_micros(),
            workers: self.pool.workers(),
            sql: job.sql.clone(),
            plan: job.plan.clone(),
            reads: job.reads.clone(),
            watermarks: snapshot.promised(),
            positions,
            files: Vec::new(),
            expired: Vec::new(),
            ended: false,
            sink_token: None,
        })
    }

    /// Deletes checkpoints that nobody needs, and lets the tables' logs go that they needed.
    fn retain(&self, job: &CheckpointedJob) -> Result<()> {
        let now = self.clock.now_micros();
        // A reader that stands still, or failed, goes on from a checkpoint of the view at its own epoch.
        let (mut pinned, unasked): (BTreeSet<Epoch>, bool) = {
            let known = lock(&self.known);
            let readers = known.values().filter(|reader| reader.reads.contains(&job.id));
            if readers.clone().any(|reader| reader.unread) {
                return Ok(());
            }
            let unasked = readers.clone().any(|reader| reader.unasked);
            (readers.flat_map(|reader| reader.chosen.iter().chain(&reader.undecided)).copied().collect(), unasked)
        };
        let readers: Vec<Uuid> = lock(&self.known)
            .iter()
            .filter(|(id, known)| **id == job.id || known.reads.contains(&job.id))
            .map(|(id, _)| *id)
            .collect();
        for reader in readers {
            pinned.extend(self.savepoints_of(reader)?.iter().filter_map(Savepoint::epoch));
        }
        let settings = job.settings();
        let young = i64::try_from(settings.retained_for.as_micros()).unwrap_or(i64::MAX);
        let kept = job.store.retain(|manifest, age| {
            age < settings.retained
                || pinned.contains(&manifest.epoch)
                || unasked && manifest.generation != job.store.generation()
                || now.saturating_sub(manifest.taken_at_micros) < young
        })?;
        let mut least: BTreeMap<Uuid, u64> = BTreeMap::new();
        for at in kept.iter().flat_map(|manifest| manifest.positions.values()) {
            for (table, lsn) in lsns(&Positions(at.clone())) {
                least.entry(table).and_modify(|least| *least = lsn.min(*least)).or_insert(lsn);
            }
        }
        least.into_iter().try_for_each(|(table, lsn)| self.tables.hold(job.id, table, lsn))
    }
}

/// Whether a checkpoint will fail for the same reason whenever it is tried.
fn is_for_good(error: &Error) -> bool {
    error.kind() == ErrorKind::NotSupported
}
