//! Waking the worker that polls a reader.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::connector::Waker;

/// Wakes a worker, once for each time that it was armed.
#[derive(Default)]
pub(in crate::connector) struct Wake {
    waker: OnceLock<Waker>,
    armed: AtomicBool,
}

impl Wake {
    /// The next [`wake`](Self::wake) counts. Called before the last look into the queue, not after it: what arrives
    /// between the look and the arming would be forgotten.
    pub(in crate::connector) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Wakes the worker, if it was armed since the last time.
    pub(in crate::connector) fn wake(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.waker.get().inspect(|waker| waker());
        }
    }

    /// Sets what to call; only the first counts.
    pub(in crate::connector) fn set(&self, waker: Waker) {
        let _ = self.waker.set(waker);
        self.arm();
    }
}
