//! A delta on its way through the other side of a join: candidates a piece at a time.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};

use super::index::KeyIndex;
use super::side::Arrivals;
use super::store::{Address, NOWHERE};

/// Rows that came on one input, and how far they have been matched with the other.
#[derive(Debug)]
pub(super) struct Probe {
    /// The input that they came on.
    pub(super) input: usize,
    /// Their columns, computed keys included.
    pub(super) columns: Vec<ArrayRef>,
    /// Their weights; `None` means +1 each.
    pub(super) weights: Option<Int64Array>,
    /// Where each of them is stored on its own side, if it is new there and its matches are to be counted.
    pub(super) own: Vec<Address>,
    /// For each row the first candidate of the other side. That side does not change while the probe is under way.
    heads: Vec<Address>,
    row: usize,
    next: Address,
}

/// Candidates: rows of the probe, and as many addresses of the other side.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pub(super) rows: Vec<u32>,
    pub(super) addresses: Vec<Address>,
}

impl Pairs {
    /// Keeps the pairs for which the mask is true; NULL is not.
    pub(super) fn retain(&mut self, mask: &BooleanArray) {
        if mask.true_count() == self.rows.len() {
            return;
        }
        let keep = |index: usize| mask.is_valid(index) && mask.value(index);
        let mut index = 0;
        self.rows.retain(|_| {
            index += 1;
            keep(index - 1)
        });
        index = 0;
        self.addresses.retain(|_| {
            index += 1;
            keep(index - 1)
        });
    }
}

impl Probe {
    /// Looks up all rows of `arrivals`, which came on `input`, in the other side's index.
    pub(super) fn new(input: usize, arrivals: Arrivals, own: Vec<Address>, index: &KeyIndex) -> Self {
        let heads: Vec<Address> = arrivals.hashes.iter().map(|hash| index.head(*hash)).collect();
        let next = heads.first().copied().unwrap_or(NOWHERE);
        Self { input, columns: arrivals.columns, weights: arrivals.weights, own, heads, row: 0, next }
    }

    /// The next candidates, at most `limit`: pairs whose hashes are equal.
    pub(super) fn candidates(&mut self, index: &KeyIndex, limit: usize) -> Pairs {
        let mut pairs = Pairs::default();
        while pairs.rows.len() < limit && self.row < self.heads.len() {
            if self.next == NOWHERE {
                self.row += 1;
                self.next = self.heads.get(self.row).copied().unwrap_or(NOWHERE);
                continue;
            }
            pairs.rows.push(self.row as u32);
            pairs.addresses.push(self.next);
            self.next = index.next(self.next);
        }
        pairs
    }

    /// Whether all candidates were given.
    pub(super) fn is_finished(&self) -> bool {
        self.row >= self.heads.len()
    }

    /// The weight of row `row`.
    pub(super) fn weight(&self, row: u32) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row as usize))
    }
}
