//! New jobs: all workers build their dataflow, while those that it reads stand still.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

use super::super::blueprint::Prepared;
use super::super::gate::{Gate, GateState};
use super::super::job::JobId;
use super::super::stepping::Pace;
use super::super::worker::{Acknowledgement, Command};
use super::{Control, Entry, Reply, Status, answer};

/// A job that the workers are building.
pub(super) struct Building {
    pub(super) prepared: Box<Prepared>,
    pub(super) first: Epoch,
    pub(super) reads: Vec<JobId>,
    pub(super) acknowledgement: Arc<Acknowledgement>,
    pub(super) reply: Reply<Epoch>,
}

impl Control {
    /// Tells the workers to build the next job. The jobs that it reads stand still meanwhile, so that its first epoch
    /// is one that none of them has ended anywhere.
    pub(super) fn start_build(&mut self, now: Epoch) {
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
            self.taken = self.taken.max(prepared.after);
            let first = self.next_epoch(now, self.last_epoch);
            let acknowledgement = Acknowledgement::of(self.pool.workers.len(), &self.pool.signal);
            if let Some(view) = &prepared.maintains {
                view.start(first, prepared.is_restored);
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

    pub(super) fn finish_build(&mut self, micros: u64) {
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
}
