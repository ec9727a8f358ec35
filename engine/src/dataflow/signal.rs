//! How threads wake each other: the pool's control, and timely's operators.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use timely::scheduling::SyncActivator;

use super::flow_control::lock;

/// Wakes the pool's control.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    condition: Condvar,
}

impl Signal {
    /// Something changed that the control should look at.
    pub(crate) fn notify(&self) {
        let mut raised = lock(&self.raised);
        if !*raised {
            *raised = true;
            self.condition.notify_one();
        }
    }

    /// Waits until notified, or for `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let mut raised = lock(&self.raised);
        while !*raised {
            match timeout {
                None => raised = self.condition.wait(raised).unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(timeout) => {
                    raised = self
                        .condition
                        .wait_timeout(raised, timeout)
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .0;
                    break;
                }
            }
        }
        *raised = false;
    }
}

/// Activates a timely operator from any thread.
#[derive(Debug, Default)]
pub(crate) struct WakeUp(Mutex<Option<SyncActivator>>);

impl WakeUp {
    /// Set on the worker's own thread, while the dataflow is built.
    pub(crate) fn set(&self, activator: SyncActivator) {
        *lock(&self.0) = Some(activator);
    }

    /// Activates it.
    pub(crate) fn activate(&self) {
        if let Some(activator) = &*lock(&self.0) {
            // The worker is gone only when the pool is.
            let _ = activator.activate();
        }
    }
}
