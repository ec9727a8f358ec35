//! An ordered multiset: values and how often each is there.

use std::collections::BTreeMap;

/// Few values stand in a sorted vector, many in a tree.
///
/// In the middle of an epoch a value may be there less than never: what takes it back came before it. At an epoch's end
/// no count is negative.
#[derive(Debug)]
pub(super) enum Multiset<K> {
    Few(Vec<(K, i64)>),
    Many(BTreeMap<K, i64>),
}

/// From how many values on a tree is used.
const MANY: usize = 64;

impl<K> Default for Multiset<K> {
    fn default() -> Self {
        Multiset::Few(Vec::new())
    }
}

impl<K: Ord> Multiset<K> {
    /// Adds a value `weight` times; answers how often it was there before, and is now.
    pub(super) fn add(&mut self, key: K, weight: i64) -> (i64, i64) {
        match self {
            Multiset::Few(values) => match values.binary_search_by(|(other, _)| other.cmp(&key)) {
                Ok(at) => {
                    let before = values[at].1;
                    values[at].1 += weight;
                    let now = values[at].1;
                    if now == 0 {
                        values.remove(at);
                    }
                    (before, now)
                }
                Err(_) if weight == 0 => (0, 0),
                Err(at) => {
                    values.insert(at, (key, weight));
                    if values.len() > MANY {
                        *self = Multiset::Many(std::mem::take(values).into_iter().collect());
                    }
                    (0, weight)
                }
            },
            Multiset::Many(values) => {
                use std::collections::btree_map::Entry;
                match values.entry(key) {
                    Entry::Vacant(_) if weight == 0 => (0, 0),
                    Entry::Vacant(entry) => {
                        entry.insert(weight);
                        (0, weight)
                    }
                    Entry::Occupied(mut entry) => {
                        let before = *entry.get();
                        *entry.get_mut() += weight;
                        let now = before + weight;
                        if now == 0 {
                            entry.remove();
                            if values.is_empty() {
                                *self = Self::default();
                            }
                        }
                        (before, now)
                    }
                }
            }
        }
    }

    /// The least value, or the greatest.
    pub(super) fn extreme(&self, greatest: bool) -> Option<&K> {
        let mut present = self.iter().filter(|(_, count)| *count > 0);
        let found = if greatest { present.next_back() } else { present.next() };
        found.map(|(key, _)| key)
    }

    /// Values and counts, ascending.
    pub(super) fn iter(&self) -> Box<dyn DoubleEndedIterator<Item = (&K, i64)> + '_> {
        match self {
            Multiset::Few(values) => Box::new(values.iter().map(|(key, count)| (key, *count))),
            Multiset::Many(values) => Box::new(values.iter().map(|(key, count)| (key, *count))),
        }
    }

    /// How many different values there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Multiset::Few(values) => values.len(),
            Multiset::Many(values) => values.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn values_come_and_go_in_any_order() {
        let mut random = StdRng::seed_from_u64(7);
        for values in [5, 40, 500] {
            let (mut set, mut model) = (Multiset::default(), BTreeMap::<i32, i64>::new());
            for _ in 0..3000 {
                let (key, weight) = (random.random_range(0..values), random.random_range(-2..3));
                let before = model.get(&key).copied().unwrap_or(0);
                assert_eq!(set.add(key, weight), (before, before + weight));
                *model.entry(key).or_default() += weight;
                model.retain(|_, count| *count != 0);
                let present = || model.iter().filter(|(_, count)| **count > 0).map(|(key, _)| key);
                assert_eq!(set.extreme(false), present().next());
                assert_eq!(set.extreme(true), present().next_back());
                assert_eq!(set.len(), model.len());
            }
            assert!(set.iter().map(|(key, count)| (*key, count)).eq(model.into_iter()));
        }
    }
}
