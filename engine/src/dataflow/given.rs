//! What a job's operators give to a snapshot that is being taken.

use std::collections::{BTreeMap, BTreeSet};

use crate::connector::Positions;
use crate::operator::{DeferredPart, StateChange, StatePart};
use crate::time::Epoch;

/// A snapshot that is being taken: at the end of `epoch`, by every operator on every worker.
pub(crate) struct SnapshotRequest {
    pub(crate) epoch: Epoch,
    /// How many timely operators have yet to give theirs.
    pub(crate) missing: usize,
    /// Operators give what has changed since the last snapshot, where they can tell.
    pub(crate) only_changes: bool,
    pub(crate) given: Given,
}

/// What timely operators give to a snapshot.
#[derive(Default)]
pub(crate) struct Given {
    /// State, by the identity of the plan's node.
    pub(crate) parts: Vec<(String, StatePart)>,
    /// What has changed of the state of operators that can tell.
    pub(crate) changes: BTreeMap<String, Vec<StateChange>>,
    /// Operators that gave all that they remember.
    pub(crate) whole: BTreeSet<String>,
    /// What operators left on disk of what they gave.
    pub(crate) deferred: Vec<(String, DeferredPart)>,
    /// Where sources stand, by the scan's identity.
    pub(crate) positions: BTreeMap<String, Option<Positions>>,
}

impl Given {
    /// State alone.
    pub(crate) fn state(parts: Vec<(String, StatePart)>) -> Self {
        Self { parts, ..Self::default() }
    }

    /// What another one gave as well.
    pub(super) fn add(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.whole.extend(other.whole);
        self.deferred.extend(other.deferred);
        for (operator, changes) in other.changes {
            self.changes.entry(operator).or_default().extend(changes);
        }
        for (scan, positions) in other.positions {
            match (self.positions.entry(scan).or_insert_with(|| Some(Positions::default())), positions) {
                (Some(all), Some(positions)) => all.0.extend(positions.0),
                // One reader that can't say is enough.
                (all, _) => *all = None,
            }
        }
    }
}
