//! Which LSNs belong to which epoch, for all jobs of the pool.
//!
//! At the end of an epoch a job has read every table up to the epoch's bound, and nothing after it. The bound is the same for all
//! jobs, tables and workers, and grows with the epochs; so views that are computed from several tables agree with each other
//! epoch by epoch, and a transaction is visible whole or not at all.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Lsn;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// Bounds that are remembered: more than the epochs that jobs can have open, by far.
const REMEMBERED: usize = 1 << 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Bindings {
    bounds: Mutex<Bounds>,
}

#[derive(Debug, Default)]
struct Bounds {
    by_epoch: BTreeMap<Epoch, Lsn>,
    /// Epochs up to this one may have been forgotten.
    forgotten: Option<Epoch>,
}

impl Bindings {
    /// The bound of `epoch`. Who asks first decides: it is `committed`, unless a later epoch has a lower bound already.
    pub(super) fn bound(&self, epoch: Epoch, committed: impl FnOnce() -> Lsn) -> Result<Lsn> {
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = bounds.by_epoch.get(&epoch) {
            return Ok(*bound);
        }
        if bounds.forgotten.is_some_and(|forgotten| epoch <= forgotten) {
            return Err(Error::internal(format!("the tables' bound of epoch {epoch} was forgotten")));
        }
        let later = bounds.by_epoch.range(epoch..).next().map(|(_, bound)| *bound);
        let committed = committed();
        let bound = later.map_or(committed, |later| later.min(committed));
        bounds.by_epoch.insert(epoch, bound);
        if bounds.by_epoch.len() > REMEMBERED
            && let Some((forgotten, _)) = bounds.by_epoch.pop_first()
        {
            bounds.forgotten = Some(forgotten);
        }
        Ok(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_fixed_and_grow_with_epochs() {
        let bindings = Bindings::default();
        assert_eq!(bindings.bound(10, || 3).unwrap(), 3);
        assert_eq!(bindings.bound(10, || 9).unwrap(), 3);
        assert_eq!(bindings.bound(20, || 5).unwrap(), 5);
        // A group of jobs that comes to its older epoch late.
        assert_eq!(bindings.bound(15, || 9).unwrap(), 5);
        assert_eq!(bindings.bound(21, || 9).unwrap(), 9);
    }

    #[test]
    fn what_was_forgotten_is_told() {
        let bindings = Bindings::default();
        for epoch in 0..=REMEMBERED as u64 {
            assert_eq!(bindings.bound(epoch, || epoch).unwrap(), epoch);
        }
        assert!(bindings.bound(0, || 1).is_err());
        assert_eq!(bindings.bound(1, || 0).unwrap(), 1);
    }
}
