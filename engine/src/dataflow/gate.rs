//! Which epoch a job's sources are in, as one number that all workers read.

use crate::time::Epoch;

/// Where a job's sources stand: all of them, on all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The epoch that sources are in, or wait for.
    pub(crate) epoch: Epoch,
    /// Whether they may read.
    pub(crate) state: GateState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateState {
    /// Nothing to do: no epoch is open, the next will be `epoch` or later.
    Idle,
    /// Rows read now belong to `epoch`.
    Open,
    /// Nothing will ever be read again.
    Closed,
}

impl Gate {
    /// As one number.
    pub(super) fn pack(self) -> u64 {
        let state = match self.state {
            GateState::Idle => 0,
            GateState::Open => 1,
            GateState::Closed => 2,
        };
        (self.epoch << 2) | state
    }

    /// Of such a number.
    pub(super) fn unpack(bits: u64) -> Self {
        let state = match bits & 3 {
            0 => GateState::Idle,
            1 => GateState::Open,
            _ => GateState::Closed,
        };
        Self { epoch: bits >> 2, state }
    }
}
