//! Memory of rows that a side has put to disk or let go, while a checkpoint still writes them from where they lie: it counts as
//! the side's until they are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all that is gone from a store and still in memory.
#[derive(Debug, Default, Clone)]
pub(super) struct Kept(Arc<AtomicUsize>);

impl Kept {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// To be held by whoever keeps rows of the store, and by the store until they are gone.
    pub(super) fn keeper(&self, bytes: usize) -> Arc<Keeper> {
        Arc::new(Keeper { bytes, counted: AtomicUsize::new(0), all: self.clone() })
    }
}

/// Some rows of a store; the last who has it has let their memory go.
#[derive(Debug)]
pub(super) struct Keeper {
    bytes: usize,
    /// What of it is counted: all, once they are gone from the store.
    counted: AtomicUsize,
    all: Kept,
}

impl Keeper {
    /// The store has no longer anything to do with the rows.
    pub(super) fn leave(&self) {
        self.counted.store(self.bytes, Ordering::Relaxed);
        self.all.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.all.0.fetch_sub(*self.counted.get_mut(), Ordering::Relaxed);
    }
}
