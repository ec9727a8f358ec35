//! What a join has to say in an epoch, held back until it is known not to cancel out.
//!
//! Where rows may be retracted, two changes of one epoch can make the same joined row come and go (both sides of a pair
//! were updated). What is said is consolidated at the end of the epoch, or when it becomes too much to hold.

use super::super::Output;
use super::super::consolidate::consolidate_all;
use crate::delta::Delta;
use crate::error::Result;

/// Rows that are held at most.
const MOST_HELD: usize = 32 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Outbox {
    held: Vec<Delta>,
    rows: usize,
    /// Something was retracted: rows may cancel out.
    retracts: bool,
}

impl Outbox {
    /// Says a delta; what can't be cancelled by anything (`is_final`) goes out at once.
    pub(super) fn say(&mut self, delta: Delta, is_final: bool, out: &mut Output) -> Result<()> {
        if is_final {
            out.push(delta);
            return Ok(());
        }
        if delta.is_empty() {
            return Ok(());
        }
        self.rows += delta.num_rows();
        self.retracts |= delta.weights().is_some_and(|weights| weights.values().iter().any(|weight| *weight < 0));
        self.held.push(delta);
        if self.rows >= MOST_HELD { self.flush(out) } else { Ok(()) }
    }

    /// Says all that is held.
    pub(super) fn flush(&mut self, out: &mut Output) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        let consolidated = self.retracts && held.len() > 1;
        (self.rows, self.retracts) = (0, false);
        match held.first().map(Delta::schema) {
            Some(schema) if consolidated => out.push(consolidate_all(&schema, &held)?),
            _ => held.into_iter().for_each(|delta| out.push(delta)),
        }
        Ok(())
    }
}
