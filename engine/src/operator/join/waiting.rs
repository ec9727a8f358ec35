//! Rows that wait until those that they may meet are in memory again.

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;

use super::side::Arrivals;
use crate::error::Result;

/// Arrivals on one input, sorted by where their keys are looked for on disk.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The input that they came on.
    pub(super) input: usize,
    arrivals: Arrivals,
    orders: Vec<u64>,
    /// Those before are on their way.
    next: usize,
}

impl Waiting {
    pub(super) fn new(input: usize, arrivals: Arrivals, orders: &[u64]) -> Result<Self> {
        let mut rows: Vec<u32> = (0..orders.len() as u32).collect();
        rows.sort_unstable_by_key(|row| (orders[*row as usize], *row));
        let orders = rows.iter().map(|row| orders[*row as usize]).collect();
        Ok(Self { input, arrivals: arrivals.take(&UInt32Array::from(rows))?, orders, next: 0 })
    }

    /// The keys of those that wait: each once.
    pub(super) fn keys(&self) -> Vec<u64> {
        let mut keys = self.orders[self.next..].to_vec();
        keys.dedup();
        keys
    }

    /// The rows that have one of the first `keys` keys go on. Answers them, and whether none are left.
    pub(super) fn go_on(&mut self, keys: usize) -> (Arrivals, bool) {
        let mut end = self.next;
        for _ in 0..keys {
            let Some(order) = self.orders.get(end) else { break };
            end += self.orders[end..].partition_point(|other| other == order);
        }
        let arrivals = self.arrivals.slice(self.next, end - self.next);
        self.next = end;
        (arrivals, end == self.orders.len())
    }
}

impl Arrivals {
    fn take(&self, rows: &UInt32Array) -> Result<Self> {
        let weights = match &self.weights {
            Some(weights) => Some(take(weights, rows, None)?.as_primitive::<Int64Type>().clone()),
            None => None,
        };
        Ok(Self {
            columns: self.columns.iter().map(|column| Ok(take(column, rows, None)?)).collect::<Result<_>>()?,
            weights,
            hashes: rows.values().iter().map(|row| self.hashes[*row as usize]).collect(),
            keyless: None,
        })
    }

    fn slice(&self, from: usize, rows: usize) -> Self {
        Self {
            columns: self.columns.iter().map(|column| column.slice(from, rows)).collect(),
            weights: self.weights.as_ref().map(|weights| weights.slice(from, rows)),
            hashes: self.hashes[from..from + rows].to_vec(),
            keyless: None,
        }
    }
}
