//! Which slots have changed since the state was last written down.

use super::slots::Slot;

/// See the [module](self). Nothing is noted before [`Marks::begin`]: a state that is never written down costs nothing.
#[derive(Debug, Default)]
pub struct Marks {
    on: bool,
    is_marked: Bits,
    /// Marked slots; one that was unmarked and marked again stands there more than once.
    marked: Vec<Slot>,
    /// Slots of which nothing was written down yet.
    is_new: Bits,
}

/// A bit for each slot.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn make_room(&mut self, slots: &[Slot]) {
        let words = slots.iter().max().map_or(0, |slot| *slot as usize / 64 + 1);
        if self.0.len() < words {
            self.0.resize(words, 0);
        }
    }

    /// Sets the bit of a slot for which there is room; answers what it was.
    fn set(&mut self, slot: Slot) -> bool {
        let (word, bit) = (&mut self.0[slot as usize / 64], 1 << (slot % 64));
        let was = *word & bit != 0;
        *word |= bit;
        was
    }

    /// Answers what the bit was.
    fn clear(&mut self, slot: Slot) -> bool {
        let Some(word) = self.0.get_mut(slot as usize / 64) else { return false };
        let was = *word & (1 << (slot % 64)) != 0;
        *word &= !(1 << (slot % 64));
        was
    }

    fn is_set(&self, slot: Slot) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }
}

impl Marks {
    /// The state was written down, or read back: from now on changes are noted.
    pub fn begin(&mut self) {
        self.on = true;
        self.is_marked.0.fill(0);
        self.marked.clear();
        self.is_new.0.clear();
    }

    /// Whether changes are noted.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Slots have changed.
    pub fn mark(&mut self, slots: &[Slot]) {
        if !self.on {
            return;
        }
        self.is_marked.make_room(slots);
        for slot in slots {
            if !self.is_marked.set(*slot) {
                self.marked.push(*slot);
            }
        }
        // Slots come and go, and it may be long until the state is written down. Twice: half of it has come since the
        // last time that it was looked through.
        if self.marked.len() > 2 * 64 * self.is_marked.0.len() {
            self.marked = self.listed_once();
            for slot in &self.marked {
                self.is_marked.set(*slot);
            }
        }
    }

    /// Whether a slot has changed.
    pub fn is_marked(&self, slot: Slot) -> bool {
        self.is_marked.is_set(slot)
    }

    /// Slots are no more.
    pub fn unmark(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.is_marked.clear(*slot);
        }
    }

    /// Slots were given to what was not there before.
    pub fn note_new(&mut self, slots: &[Slot]) {
        if !self.on {
            return;
        }
        self.is_new.make_room(slots);
        for slot in slots {
            self.is_new.set(*slot);
        }
    }

    /// What slots stand for may have been written down, though the slots are new.
    pub fn note_known(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.is_new.clear(*slot);
        }
    }

    /// Whether a slot may have been written down: if not, nothing has to be said when it is no more.
    pub fn is_known(&self, slot: Slot) -> bool {
        self.on && !self.is_new.is_set(slot)
    }

    /// Takes the marked slots, each once; `None`: nothing was noted, so every slot counts as changed. From now on changes
    /// are noted.
    pub fn take(&mut self) -> Option<Vec<Slot>> {
        self.is_new.0.clear();
        if !std::mem::replace(&mut self.on, true) {
            return None;
        }
        Some(self.listed_once())
    }

    /// The marked slots, each once; none is marked any more.
    fn listed_once(&mut self) -> Vec<Slot> {
        let mut marked = std::mem::take(&mut self.marked);
        marked.retain(|slot| self.is_marked.clear(*slot));
        marked
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let bits = self.is_marked.0.capacity() + self.is_new.0.capacity();
        bits * size_of::<u64>() + self.marked.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_taken_once() {
        let mut marks = Marks::default();
        marks.mark(&[1]);
        assert_eq!(marks.take(), None, "nothing was noted before");
        marks.mark(&[1, 70, 1]);
        marks.unmark(&[1]);
        marks.mark(&[1, 5]);
        marks.unmark(&[5]);
        assert_eq!(marks.take().unwrap(), [1, 70]);
        assert_eq!(marks.take().unwrap(), [] as [Slot; 0]);
        marks.mark(&[9]);
        marks.begin();
        assert_eq!(marks.take().unwrap(), [] as [Slot; 0]);
    }

    #[test]
    fn what_comes_and_goes_takes_no_more_and_more_room() {
        let mut marks = Marks::default();
        marks.begin();
        marks.mark(&[3]);
        for _ in 0..100_000 {
            marks.mark(&[70, 5]);
            marks.unmark(&[70, 5]);
        }
        assert!(marks.bytes() < 10_000, "{} bytes", marks.bytes());
        assert!(marks.is_marked(3) && !marks.is_marked(70));
        marks.mark(&[70]);
        assert_eq!(marks.take().unwrap(), [3, 70]);
        assert!(!marks.is_marked(3));
    }

    #[test]
    fn what_is_new_is_known_when_it_was_written() {
        let mut marks = Marks::default();
        marks.note_new(&[1]);
        assert!(!marks.is_known(1), "nothing was written");
        marks.begin();
        marks.note_new(&[2, 70, 100]);
        marks.note_known(&[100, 1000]);
        assert_eq!([1, 2, 70, 100, 1000].map(|slot| marks.is_known(slot)), [true, false, false, true, true]);
        marks.mark(&[2]);
        assert_eq!(marks.take().unwrap(), [2]);
        assert!(marks.is_known(2) && marks.is_known(70));
    }
}
