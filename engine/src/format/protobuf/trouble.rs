//! What is not as usual with a record, and what becomes of it when the record has ended.

use super::decode::Decoding;
use super::error::Fault;
use super::plan::{MessagePlan, NONE, Slot};
use super::time::{Parts, TimeKind, note_mark, noted};

/// What was found of a record, nothing between two. Kept from record to record, so that there is nothing to make or drop.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Why a function gave `None`.
    pub(super) fault: Option<Fault>,
    /// Whether the record is not done with when it has ended.
    pub(super) unusual: bool,
    /// Something is wrong that may be put right by what follows: the record's bytes tell.
    suspect: bool,
    times: Vec<NotedTime>,
}

/// A time that is none so far, or has nanoseconds that its column does not show. The column has the note's mark as long as it is there.
#[derive(Debug)]
struct NotedTime {
    column: u32,
    row: usize,
    kind: TimeKind,
    parts: Parts,
}

impl<'p> Decoding<'p, '_> {
    /// A message has ended: whether it lacks something that it requires.
    #[inline(never)]
    pub(super) fn note_missing(&mut self, message: &MessagePlan, row: usize) {
        if message.required.iter().any(|bit| !self.store.bits[*bit as usize].get(row)) {
            self.trouble.suspect();
        }
    }

    /// A piece of a time that is not as usual: joined with what came before of it, and written or noted.
    #[cold]
    #[inline(never)]
    pub(super) fn unusual_time(&mut self, kind: TimeKind, slot: &'p Slot, fields: &[u8], row: usize) -> Option<()> {
        let place = self.store.longs[slot.column as usize].values.get_mut(row)?;
        let note = noted(*place).and_then(|note| self.trouble.times.get_mut(note));
        let mut parts = note.as_ref().map_or_else(|| Parts::of(kind, *place), |note| note.parts);
        if let Err(reason) = parts.merge(fields) {
            return self.fail(reason, fields, slot.number);
        }
        if let Some(note) = note {
            note.parts = parts;
        } else if slot.list == NONE {
            *place = note_mark(self.trouble.times.len());
            self.trouble.times.push(NotedTime { column: slot.column, row, kind, parts });
            self.trouble.unusual = true;
        } else {
            // An element of a list has no other piece.
            *place = self.trouble.micros(kind, parts);
        }
        Some(())
    }

    /// At the end of a record of which there is something to say.
    #[inline(never)]
    pub(super) fn judge(&mut self, record: &[u8]) -> Result<(), Fault> {
        let mut times = std::mem::take(&mut self.trouble.times);
        for (number, NotedTime { column, row, kind, parts }) in times.drain(..).enumerate() {
            if let Some(place) = self.store.longs[column as usize].values.get_mut(row)
                && *place == note_mark(number)
            {
                *place = self.trouble.micros(kind, parts);
            }
        }
        self.trouble.times = times;
        self.trouble.unusual = false;
        if std::mem::take(&mut self.trouble.suspect) {
            self.plan.checks.check(self.plan.check, record, 0)
        } else {
            Ok(())
        }
    }
}

impl Trouble {
    /// Notes that the record's bytes have to be looked at.
    #[cold]
    pub(super) fn suspect(&mut self) {
        (self.suspect, self.unusual) = (true, true);
    }

    /// What the column has to show; of what is out of range and may be taken away, nothing.
    fn micros(&mut self, kind: TimeKind, parts: Parts) -> i64 {
        parts.micros(kind).unwrap_or_else(|_| {
            self.suspect();
            0
        })
    }
}
