//! Making room in memory: what both sides hold beyond what they may goes to disk ([`side`](super::side)).

use std::sync::Arc;

use super::side::Side;
use super::state::SHARED_FROM;
use super::{Join, Output, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::state::spill::SpillSpace;

/// Rows that come before it is looked whether they have found room; a large row counts as several.
const ROWS_BETWEEN_LOOKS: usize = 4096;
/// Bytes that count as a row.
const BYTES_OF_A_ROW: usize = 512;

/// Bytes of rows that go to disk at one time: nothing else happens on the worker meanwhile, and an epoch does not end.
const SPILLED_AT_ONCE: usize = 64 << 20;

/// The same before a checkpoint.
const SPILLED_FOR_A_CHECKPOINT: usize = 2 * SPILLED_AT_ONCE;

/// How much room there is.
#[derive(Debug)]
pub(super) struct Room {
    space: Arc<dyn SpillSpace>,
    /// Rows that have come since it was looked.
    come: usize,
    /// What rows in memory may take, once it is known that some have to go.
    allowed: Option<usize>,
}

impl Room {
    fn is_looked_after(&self) -> bool {
        self.come < ROWS_BETWEEN_LOOKS && self.allowed.is_none()
    }
}

impl Join {
    /// Both sides can do without memory.
    pub(super) fn find_room_in(&mut self, space: Arc<dyn SpillSpace>) {
        // What is shown when it is let go has to be found by its time.
        if self.shows_unmatched_late || !self.sides.iter().all(Side::can_spill) {
            return;
        }
        self.sides.iter_mut().for_each(|side| side.spill_to(Arc::clone(&space)));
        self.room = Some(Room { space, come: 0, allowed: None });
    }

    /// Whether rows are on disk.
    pub(super) fn is_spilled(&self) -> bool {
        self.sides.iter().any(Side::is_spilled)
    }

    /// Rows have come.
    pub(super) fn note_arrivals(&mut self, delta: &Delta) {
        if let Some(room) = &mut self.room {
            room.come += delta.num_rows() + delta.rows().get_array_memory_size() / BYTES_OF_A_ROW;
        }
    }

    /// It is to be looked at the next moment whether there is room.
    pub(super) fn look_for_room(&mut self) {
        if let Some(room) = &mut self.room {
            room.come = ROWS_BETWEEN_LOOKS;
        }
    }

    /// Makes room, where more is held than may be. To be called between two pieces of work.
    pub(super) fn make_room(&mut self, out: &mut Output) -> Result<Step> {
        let Some(room) = &mut self.room else { return Ok(Step::Done) };
        if room.is_looked_after() {
            return Ok(Step::Done);
        }
        let space = Arc::clone(&room.space);
        if self.room_is_wanted(&space) {
            // Before it is known what has become of a row that was touched it can't go.
            if self.settle(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
            self.spill()?;
        }
        for side in &mut self.sides {
            if !side.tidy_spilled()? {
                return Ok(Step::Yield);
            }
        }
        if let Some(room) = &mut self.room {
            room.come = 0;
        }
        Ok(Step::Done)
    }

    fn room_is_wanted(&mut self, space: &Arc<dyn SpillSpace>) -> bool {
        let (held, rows) = (self.held(), self.rows_bytes());
        let Some(room) = &mut self.room else { return false };
        if room.allowed.is_none() {
            let allowed = space.allowance(held);
            // What is known of rows on disk stays, and what a checkpoint has yet to write; rows in memory have the rest.
            let of_rows = allowed.saturating_sub(held - rows).max(allowed / 8);
            room.allowed = (rows > of_rows).then_some(of_rows);
        }
        room.allowed.is_some()
    }

    fn held(&self) -> usize {
        self.sides.iter().map(|side| side.size().bytes).sum()
    }

    fn rows_bytes(&self) -> usize {
        self.sides.iter().map(Side::rows_bytes).sum()
    }

    /// Puts rows to disk until half of what they may take is left, or as many as may go at one time: the larger side's first.
    fn spill(&mut self) -> Result<()> {
        let allowed = self.room.as_mut().and_then(|room| room.allowed.take()).unwrap_or_default();
        let larger = usize::from(self.sides[1].rows_bytes() > self.sides[0].rows_bytes());
        let before = self.rows_bytes();
        for side in [larger, 1 - larger] {
            let may_go = SPILLED_AT_ONCE.saturating_sub(before.saturating_sub(self.rows_bytes()));
            if self.rows_bytes() > allowed / 2 && may_go > 0 {
                let side = &mut self.sides[side];
                side.spill((allowed / 4).max(side.rows_bytes().saturating_sub(may_go)))?;
            }
        }
        let held = self.held();
        if let Some(room) = &self.room {
            // It is told what is held now.
            room.space.allowance(held);
        }
        Ok(())
    }

    /// Before a checkpoint: where rows go to disk anyway, those go now of which it is to be told and that would be the next, as
    /// files that it keeps. Written from memory they would be written twice, and count until that is done: the other side's
    /// rows would have to go.
    pub(super) fn spill_for_checkpoint(&mut self) -> Result<()> {
        let Some(space) = self.room.as_ref().map(|room| Arc::clone(&room.space)) else { return Ok(()) };
        let larger = usize::from(self.sides[1].rows_bytes() > self.sides[0].rows_bytes());
        let side = &mut self.sides[larger];
        if side.pledges() && side.is_spilled() {
            let portion = space.portion();
            // What came last stays, about as much as after any other spill.
            let target = (2 * portion).max(side.rows_bytes().saturating_sub(SPILLED_FOR_A_CHECKPOINT));
            side.spill_untold(target, SHARED_FROM.min(portion))?;
            space.allowance(self.held());
        }
        Ok(())
    }

    /// The next rows whose matches are in memory begin to be matched. Answers whether there were any.
    pub(super) fn go_on(&mut self) -> Result<bool> {
        let Some(mut waiting) = self.waiting.take() else { return Ok(false) };
        let input = waiting.input;
        let mut keys = waiting.keys();
        let mut found = keys.len();
        if self.sides[input].memory.changelog {
            found = self.sides[input].bring_back(&keys)?;
            keys.truncate(found);
        }
        found = found.min(self.sides[1 - input].bring_back(&keys)?);
        let (arrivals, is_last) = waiting.go_on(found);
        if !is_last {
            self.waiting = Some(waiting);
        }
        self.look_for_room();
        self.begin_probe(input, arrivals)?;
        Ok(true)
    }
}
