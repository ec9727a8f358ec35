//! A delta on its way through the other side of a join: candidates a piece at a time.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};

use super::index::{Cursor, KeyIndex};
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
    /// The hash of each row's key.
    hashes: Vec<u64>,
    /// For each row the first linked candidate of the other side, once they were looked up. That side does not change
    /// afterwards while the probe is under way.
    heads: Option<Vec<Address>>,
    row: usize,
    next: Address,
    /// How far the other side's rows that are not linked were scanned for this row.
    cursor: Cursor,
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
    /// Rows that came on `input`.
    pub(super) fn new(input: usize, arrivals: Arrivals, own: Vec<Address>) -> Self {
        let Arrivals { columns, weights, hashes, .. } = arrivals;
        Self { input, columns, weights, own, hashes, heads: None, row: 0, next: NOWHERE, cursor: Cursor::default() }
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.hashes.len()
    }

    /// Whether the rows were looked up.
    pub(super) fn is_looked_up(&self) -> bool {
        self.heads.is_some()
    }

    /// Looks up all rows in the other side's index, which is prepared for so many.
    pub(super) fn look_up(&mut self, index: &KeyIndex) {
        self.heads = Some(self.hashes.iter().map(|hash| index.head(*hash)).collect());
        self.next = self.head();
    }

    fn head(&self) -> Address {
        self.heads.as_ref().and_then(|heads| heads.get(self.row)).copied().unwrap_or(NOWHERE)
    }

    /// The next candidates, at most `limit`: pairs whose hashes are equal.
    pub(super) fn candidates(&mut self, index: &KeyIndex, limit: usize) -> Pairs {
        let mut pairs = Pairs::default();
        while pairs.rows.len() < limit && self.row < self.hashes.len() {
            let found = if self.next == NOWHERE {
                index.scan(self.hashes[self.row], &mut self.cursor)
            } else {
                let linked = self.next;
                self.next = index.next(linked);
                Some(linked)
            };
            match found {
                Some(address) => {
                    pairs.rows.push(self.row as u32);
                    pairs.addresses.push(address);
                }
                None => {
                    self.row += 1;
                    self.next = self.head();
                    self.cursor = Cursor::default();
                }
            }
        }
        pairs
    }

    /// Whether all candidates were given.
    pub(super) fn is_finished(&self) -> bool {
        self.row >= self.hashes.len()
    }

    /// The weight of row `row`.
    pub(super) fn weight(&self, row: u32) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row as usize))
    }
}
