//! Which slots have changed since the state was last written down.

use super::slots::Slot;

/// See the [module](self). Nothing is noted before [`Marks::begin`]: a state that is never written down costs nothing.
#[derive(Debug, Default)]
pub struct Marks {
    on: bool,
    is_marked: Vec<u64>,
    /// Marked slots; one that was unmarked and marked again stands there more than once.
    marked: Vec<Slot>,
}

impl Marks {
    /// The state was written down, or read back: from now on changes are noted.
    pub fn begin(&mut self) {
        self.on = true;
        self.is_marked.iter_mut().for_each(|word| *word = 0);
        self.marked.clear();
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
        let bound = slots.iter().max().map_or(0, |slot| *slot as usize / 64 + 1);
        if self.is_marked.len() < bound {
            self.is_marked.resize(bound, 0);
        }
        for slot in slots {
            let (word, bit) = (&mut self.is_marked[*slot as usize / 64], 1 << (slot % 64));
            if *word & bit == 0 {
                *word |= bit;
                self.marked.push(*slot);
            }
        }
        // Slots come and go, and it may be long until the state is written down. Twice: half of it has come since the
        // last time that it was looked through.
        if self.marked.len() > 2 * 64 * self.is_marked.len() {
            self.marked = self.listed_once();
            for slot in &self.marked {
                let bit: u64 = 1 << (slot % 64);
                self.is_marked[*slot as usize / 64] |= bit;
            }
        }
    }

    /// Whether a slot has changed.
    pub fn is_marked(&self, slot: Slot) -> bool {
        self.is_marked.get(slot as usize / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// Slots are no more.
    pub fn unmark(&mut self, slots: &[Slot]) {
        for slot in slots {
            if let Some(word) = self.is_marked.get_mut(*slot as usize / 64) {
                *word &= !(1 << (slot % 64));
            }
        }
    }

    /// Takes the marked slots, each once; `None`: nothing was noted, so every slot counts as changed. From now on changes
    /// are noted.
    pub fn take(&mut self) -> Option<Vec<Slot>> {
        if !std::mem::replace(&mut self.on, true) {
            return None;
        }
        Some(self.listed_once())
    }

    /// The marked slots, each once; none is marked any more.
    fn listed_once(&mut self) -> Vec<Slot> {
        let mut marked = std::mem::take(&mut self.marked);
        marked.retain(|slot| {
            let (word, bit) = (&mut self.is_marked[*slot as usize / 64], 1 << (slot % 64));
            let was = *word & bit != 0;
            *word &= !bit;
            was
        });
        marked
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.is_marked.capacity() * size_of::<u64>() + self.marked.capacity() * size_of::<Slot>()
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
}
