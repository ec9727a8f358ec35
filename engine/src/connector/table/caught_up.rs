//! What a job has missed of a table's log, without what came and went meanwhile.
//!
//! A job that goes on from a checkpoint takes in all changes since then in one epoch. Of each key counts what was there first,
//! if anything was, and what is there last: a row that came after the checkpoint and is gone again is not read at all. Most of
//! all it can't fail the job a second time, if it is what the job could not compute.
//!
//! So the log is read twice: first it is noted which change of each key is its last. Keys that are too many to be noted at once are divided
//! by their hashes, and the log is read twice for each part.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use xxhash_rust::xxh3::xxh3_128;

/// Keys that are noted at one time, about: some ten megabytes.
const KEYS_AT_ONCE: usize = 1 << 18;

/// What is noted of a key.
struct Note {
    /// The place in the log of its last change.
    last: u64,
    /// A change of it was passed in the second reading.
    passed: bool,
}

/// See the [module](self). Told of each change of the log in order, again and again until it has [seen enough](Self::end_of_log).
pub(super) struct CaughtUp {
    /// Keys of this part are looked at now, of so many parts.
    part: u128,
    parts: u128,
    keys_at_once: usize,
    notes: HashMap<u128, Note>,
    /// The log is read for the second time.
    gives: bool,
    /// How many changes of the log were passed in this reading.
    passed: u64,
}

impl CaughtUp {
    pub(super) fn new() -> Self {
        Self::with_keys_at_once(KEYS_AT_ONCE)
    }

    fn with_keys_at_once(keys_at_once: usize) -> Self {
        Self { part: 0, parts: 1, keys_at_once, notes: HashMap::new(), gives: false, passed: 0 }
    }

    /// The next change of the log; answers whether it is to be read.
    pub(super) fn gives(&mut self, key: &[u8], is_added: bool) -> bool {
        let place = self.passed;
        self.passed += 1;
        let hash = xxh3_128(key);
        if hash % self.parts != self.part {
            return false;
        }
        if !self.gives {
            self.note(hash, place);
            return false;
        }
        let Some(note) = self.notes.get_mut(&hash) else { return false };
        let is_first = !std::mem::replace(&mut note.passed, true);
        if is_added { place == note.last } else { is_first }
    }

    fn note(&mut self, hash: u128, place: u64) {
        match self.notes.entry(hash) {
            Entry::Occupied(mut note) => note.get_mut().last = place,
            Entry::Vacant(note) => {
                note.insert(Note { last: place, passed: false });
                // How many parts is settled while the first is noted.
                while self.part == 0 && self.notes.len() > self.keys_at_once {
                    self.parts *= 2;
                    self.notes.retain(|hash, _| hash % self.parts == 0);
                }
            }
        }
    }

    /// The log has ended; answers whether all was read. Otherwise it is read again.
    pub(super) fn end_of_log(&mut self) -> bool {
        self.passed = 0;
        self.gives = !self.gives;
        if self.gives {
            return false;
        }
        self.notes.clear();
        self.part += 1;
        self.part == self.parts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    /// A key, a row, and whether it came.
    type Change = (u64, u64, bool);

    fn given(log: &[Change], mut caught_up: CaughtUp) -> Vec<Change> {
        let mut given = Vec::new();
        loop {
            let some = log.iter().filter(|(key, _, is_added)| caught_up.gives(&key.to_be_bytes(), *is_added));
            given.extend(some.copied());
            if caught_up.end_of_log() {
                return given;
            }
        }
    }

    #[test]
    fn what_came_and_went_is_not_read() {
        let log = [
            (1, 10, true),
            (2, 20, false),
            (2, 21, true),
            (1, 10, false),
            (2, 21, false),
            (2, 22, true),
            (3, 30, false),
            (4, 40, true),
            (4, 40, false),
            (4, 41, true),
        ];
        assert_eq!(given(&log, CaughtUp::new()), [(2, 20, false), (2, 22, true), (3, 30, false), (4, 41, true)]);
        assert_eq!(given(&[], CaughtUp::new()), []);
    }

    /// However few keys are noted at once: each row counts as often as in the log, and no key has more than two changes.
    #[test]
    fn the_sum_is_that_of_the_log() {
        for seed in 0..40 {
            let mut random = StdRng::seed_from_u64(seed);
            let (keys, mut rows, mut log) = (random.random_range(1..60), BTreeMap::new(), Vec::new());
            for key in 0..keys / 2 {
                rows.insert(key, 1_000_000 + key);
            }
            for row in 0..random.random_range(0..400) {
                let key = random.random_range(0..keys);
                log.extend(rows.remove(&key).map(|before| (key, before, false)));
                if random.random_ratio(2, 3) {
                    rows.insert(key, row);
                    log.push((key, row, true));
                }
            }
            let sum = |changes: &[Change]| {
                let mut sum: BTreeMap<(u64, u64), i64> = BTreeMap::new();
                for (key, row, is_added) in changes {
                    *sum.entry((*key, *row)).or_default() += if *is_added { 1 } else { -1 };
                }
                sum.retain(|_, sum| *sum != 0);
                sum
            };
            let given = given(&log, CaughtUp::with_keys_at_once(random.random_range(1..80)));
            assert_eq!(sum(&given), sum(&log), "seed {seed}");
            for key in 0..keys {
                let changes = given.iter().filter(|change| change.0 == key).map(|change| change.2);
                let changes: Vec<bool> = changes.collect();
                assert!(
                    [&[][..], &[true], &[false], &[false, true]].contains(&&changes[..]),
                    "seed {seed}: {changes:?}"
                );
            }
        }
    }
}
