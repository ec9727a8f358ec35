//! How often the rows of one block are there: nearly always once or not at all, so a byte each.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};

/// Says that the weight stands in [`Weights::large`].
const LARGE: i8 = i8::MIN;

/// One weight a row. Cheap to copy: images of a view share them until they change.
#[derive(Debug, Clone, Default)]
pub(super) struct Weights {
    small: Vec<i8>,
    large: BTreeMap<usize, i64>,
}

impl Weights {
    pub(super) fn push(&mut self, weight: i64) {
        self.small.push(0);
        self.set(self.small.len() - 1, weight);
    }

    pub(super) fn get(&self, row: usize) -> i64 {
        match self.small[row] {
            LARGE => self.large.get(&row).copied().unwrap_or_default(),
            small => i64::from(small),
        }
    }

    fn set(&mut self, row: usize, weight: i64) {
        if self.small[row] == LARGE {
            self.large.remove(&row);
        }
        self.small[row] = match i8::try_from(weight) {
            Ok(small) if small != LARGE => small,
            _ => {
                self.large.insert(row, weight);
                LARGE
            }
        };
    }

    /// Adds to a row's weight; answers by how many rows there are now more (or fewer) whose weight is 0.
    pub(super) fn add(&mut self, row: usize, weight: i64) -> Result<isize> {
        let before = self.get(row);
        let after = before.checked_add(weight).ok_or_else(|| {
            Error::new(ErrorKind::ResourceExhausted, "a row of a view appears more often than 2^63 times")
        })?;
        self.set(row, after);
        Ok(isize::from(after == 0) - isize::from(before == 0))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.small.len()).map(|row| self.get(row))
    }

    pub(super) fn has_negative(&self) -> bool {
        self.small.iter().any(|weight| *weight < 0 && *weight != LARGE) || self.large.values().any(|weight| *weight < 0)
    }

    /// Gives back what growing has reserved.
    pub(super) fn seal(&mut self) {
        self.small.shrink_to_fit();
    }

    /// Bytes of memory; an entry of the tree counts as four words.
    pub(super) fn bytes(&self) -> usize {
        self.small.capacity() + self.large.len() * 4 * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_any_size_come_and_go() {
        let mut weights = Weights::default();
        for weight in [1, 0, -3, 127, -128, i64::MAX] {
            weights.push(weight);
        }
        assert_eq!(weights.iter().collect::<Vec<_>>(), [1, 0, -3, 127, -128, i64::MAX]);
        assert_eq!(weights.add(0, -1).unwrap(), 1);
        assert_eq!(weights.add(1, 300).unwrap(), -1);
        assert_eq!(weights.add(4, 128).unwrap(), 1);
        assert_eq!(weights.add(3, 1).unwrap(), 0);
        assert_eq!(weights.iter().take(5).collect::<Vec<_>>(), [0, 300, -3, 128, 0]);
        assert!(weights.has_negative());
        assert_eq!(weights.add(2, 3).unwrap(), 1);
        assert!(!weights.has_negative());
        assert!(weights.add(5, 1).is_err(), "an overflow is an error");
        assert_eq!(weights.large.len(), 3, "small again is small");
    }
}
