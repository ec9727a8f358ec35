//! Next to no memory: what operators can put to disk goes there at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;
use rand::rngs::SmallRng;
use rondel_engine::Result;
use rondel_engine::spill::{JobFolder, SpillFolder};
use rondel_engine::state::spill::{SpillFile, SpillSpace};

/// Epochs of cases at whose end some state was on disk.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

/// State was on disk at the end of an epoch.
pub(crate) fn note(is_spilled: bool) {
    EPOCHS.fetch_add(u64::from(is_spilled), Ordering::Relaxed);
}

/// In how many epochs that was so.
pub(crate) fn noted() -> u64 {
    EPOCHS.load(Ordering::Relaxed)
}

/// What a case's operators may hold in memory, if there is little; drawn anew for each start.
pub(crate) fn allowed(rng: &mut SmallRng) -> Option<usize> {
    rng.random_bool(0.4).then(|| [0, 1_000, 4_000, 20_000][rng.random_range(0..4)])
}

/// Room for an operator.
#[derive(Debug)]
pub(crate) struct LittleSpace {
    allowed: usize,
    portion: usize,
    is_kept: bool,
    folder: Arc<JobFolder>,
}

impl LittleSpace {
    pub(crate) fn new(allowed: usize, rng: &mut SmallRng) -> Arc<Self> {
        let portion = if rng.random_bool(0.5) { 0 } else { 10_000 };
        Arc::new(Self { allowed, portion, is_kept: rng.random_bool(0.5), folder: SpillFolder::temporary().of_job(1) })
    }
}

impl SpillSpace for LittleSpace {
    fn allowance(&self, _held: usize) -> usize {
        self.allowed
    }

    fn portion(&self) -> usize {
        self.portion
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn is_kept(&self) -> bool {
        self.is_kept
    }

    fn create(&self) -> Result<Arc<dyn SpillFile>> {
        JobFolder::create(&self.folder)
    }
}
