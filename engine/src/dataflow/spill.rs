//! How much memory the operators of a job have that can put their state to disk, and the files for the rest.
//!
//! As long as all of them together are well within the job's limit, and within the job's share of the server's, none has to
//! give up anything. Beyond, each has an equal part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::flow_control::Meter;
use crate::error::Result;
use crate::spill::JobFolder;
use crate::state::spill::{SpillFile, SpillSpace};

/// Of the limit, in eighths: what operators hold that can spill. The rest is for what they bring back, for the index of
/// what is on disk, for rows on their way and for checkpoints that are written.
const EIGHTHS: usize = 3;

/// A portion is so large a part of what an operator may hold.
const PORTIONS: usize = 8;

/// An operator may hold so much, however little there is.
const LEAST: usize = 64 << 10;

/// Where the operators of a job put what memory has no room for.
#[derive(Debug)]
pub(crate) struct JobSpill {
    folder: Arc<JobFolder>,
    meter: Arc<Meter>,
    /// Bytes that they hold in memory.
    held: AtomicUsize,
    operators: AtomicUsize,
    /// What they may hold, if that is said.
    above: Option<usize>,
    is_kept: bool,
}

impl JobSpill {
    /// `above`: what operators may hold, if that is said; `is_kept`: checkpoints take what is written there.
    pub(crate) fn new(folder: Arc<JobFolder>, meter: &Arc<Meter>, (above, is_kept): (Option<usize>, bool)) -> Self {
        let (held, operators) = Default::default();
        Self { folder, meter: Arc::clone(meter), held, operators, above, is_kept }
    }

    /// What all of them may hold together.
    fn room(&self) -> usize {
        if let Some(above) = self.above {
            return above;
        }
        // What others remember, views and operators that can't spill, takes its part.
        let held = self.held.load(Ordering::Relaxed);
        let others = self.meter.state().saturating_sub(held);
        let limit = self.meter.limit().min(self.meter.all().share());
        (limit / 8 * EIGHTHS).min((limit / 8 * 7).saturating_sub(others)).max(limit / 8)
    }

    /// What each of them may hold.
    fn part(&self) -> usize {
        let room = self.room();
        (room / self.operators.load(Ordering::Relaxed).max(1)).max(LEAST.min(room))
    }
}

/// One operator's part of it.
#[derive(Debug)]
pub(crate) struct OperatorSpace {
    job: Arc<JobSpill>,
    held: AtomicUsize,
}

impl OperatorSpace {
    /// For an operator on one worker. Those that hold nothing take no part.
    pub(crate) fn of(job: &Arc<JobSpill>) -> Arc<Self> {
        Arc::new(Self { job: Arc::clone(job), held: AtomicUsize::new(0) })
    }
}

impl Drop for OperatorSpace {
    fn drop(&mut self) {
        self.allowance(0);
    }
}

impl SpillSpace for OperatorSpace {
    fn allowance(&self, held: usize) -> usize {
        let before = self.held.swap(held, Ordering::Relaxed);
        if before == 0 && held > 0 {
            self.job.operators.fetch_add(1, Ordering::Relaxed);
        }
        if before > 0 && held == 0 {
            self.job.operators.fetch_sub(1, Ordering::Relaxed);
        }
        self.job.held.fetch_add(held, Ordering::Relaxed);
        let all = self.job.held.fetch_sub(before, Ordering::Relaxed).saturating_sub(before);
        if all <= self.job.room() { usize::MAX } else { self.job.part() }
    }

    fn portion(&self) -> usize {
        self.job.part() / PORTIONS
    }

    fn limit(&self) -> usize {
        self.job.meter.limit()
    }

    fn is_kept(&self) -> bool {
        self.job.is_kept
    }

    fn create(&self) -> Result<Arc<dyn SpillFile>> {
        JobFolder::create(&self.job.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow_control::Memory;
    use super::*;
    use crate::spill::SpillFolder;

    #[test]
    fn operators_share_what_the_job_may_hold() {
        let folder = tempfile::tempdir().unwrap();
        let all = Arc::new(Memory::new(usize::MAX));
        let meter = Arc::new(Meter::new(80 << 20, &all));
        let job = Arc::new(JobSpill::new(SpillFolder::new(folder.path()).of_job(1), &meter, (None, false)));
        let (one, other) = (OperatorSpace::of(&job), OperatorSpace::of(&job));
        assert_eq!(one.allowance(29 << 20), usize::MAX);
        assert_eq!(other.allowance(1 << 20), usize::MAX);
        assert_eq!(other.allowance(2 << 20), 15 << 20, "the larger one has to give up something");
        assert_eq!(one.allowance(29 << 20), 15 << 20);
        let mut view = 0;
        meter.set_state(&mut view, (31 + 50) << 20).unwrap_err();
        assert_eq!(one.allowance(29 << 20), 10 << 20, "what others remember takes its part");
        drop(other);
        meter.set_state(&mut view, 0).unwrap();
        assert_eq!(one.allowance(29 << 20), usize::MAX);
    }

    #[test]
    fn a_job_has_its_share_of_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let all = Arc::new(Memory::new(32 << 20));
        let meters: Vec<_> = (0..2).map(|_| Arc::new(Meter::new(1 << 30, &all))).collect();
        let job = Arc::new(JobSpill::new(SpillFolder::new(folder.path()).of_job(1), &meters[0], (None, false)));
        let one = OperatorSpace::of(&job);
        assert_eq!(one.allowance(7 << 20), 6 << 20);
        assert_eq!(one.portion(), 3 << 18);
        drop(meters);
    }
}
