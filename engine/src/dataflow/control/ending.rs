//! Jobs that end: stopped, dropped, failed, or because nothing comes any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind};
use crate::time::Epoch;

use super::super::gate::{Gate, GateState};
use super::super::job::JobId;
use super::super::worker::{Acknowledgement, Command};
use super::{Control, Reply, Status, StepWait, answer};

/// A job whose dataflow the workers take down.
pub(super) struct Dropping {
    pub(super) job: JobId,
    pub(super) acknowledgement: Arc<Acknowledgement>,
    pub(super) reply: Option<Reply<()>>,
}

impl Control {
    /// Lets a job write what it has read, and end.
    pub(super) fn stop_job(&mut self, id: JobId, reply: Reply<Epoch>) {
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

    pub(super) fn drop_job(&mut self, id: JobId, reply: Reply<()>) {
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

    pub(super) fn finish_drops(&mut self) {
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
    pub(super) fn note_failures(&mut self) {
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

    pub(super) fn note_finished(&mut self) {
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

    pub(super) fn shut_down(&mut self, reply: &Reply<()>) {
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
