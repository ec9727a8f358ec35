//! Snapshots: asked of jobs that read each other's views, all at the end of one epoch.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind};
use crate::time::Epoch;

use super::super::flow_control::lock;
use super::super::given::{Given, SnapshotRequest};
use super::super::job::JobId;
use super::super::snapshot::JobSnapshot;
use super::{Control, Reply, Status, answer};

/// A snapshot that someone waits for.
pub(super) struct Snapshotting {
    pub(super) jobs: Vec<JobId>,
    /// Those that give what has changed since their last.
    pub(super) only_changes: BTreeSet<JobId>,
    /// Whether the request stands with the jobs.
    pub(super) placed: bool,
    pub(super) reply: Reply<Vec<JobSnapshot>>,
}

impl Control {
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

    pub(super) fn finish_snapshots(&mut self) {
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
    pub(super) fn give_up_snapshot(&mut self, jobs: &[JobId]) {
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
}
