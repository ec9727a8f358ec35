//! Top-N: only the first rows of each partition are shown.

use std::ops::Range;

use super::partition::{Changed, Partition};
use crate::plan::flow::{OverLimit, RankedBy};

/// Which rows of a partition are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    by: RankedBy,
    skip: usize,
    take: usize,
}

impl Limit {
    pub(super) fn new(limit: &OverLimit) -> Self {
        let rows = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Self { by: limit.by, skip: rows(limit.skip), take: limit.take.map_or(usize::MAX, rows) }
    }

    /// Whether there is a last row, behind which nothing is shown.
    pub(super) fn is_bounded(&self) -> bool {
        self.take < usize::MAX
    }

    /// The rows that are shown.
    pub(super) fn visible(&self, partition: &Partition) -> Range<usize> {
        let len = partition.len();
        let last = match self.by {
            RankedBy::RowNumber => self.skip.saturating_add(self.take).min(len),
            // The peers of the last row that is shown are shown.
            RankedBy::Rank if self.take == 0 => 0,
            RankedBy::Rank => match self.take - 1 < len {
                true => partition.peers_end(self.take - 1),
                false => len,
            },
            RankedBy::DenseRank => {
                let mut at = 0;
                for _ in 0..self.take {
                    if at >= len {
                        break;
                    }
                    at = partition.peers_end(at);
                }
                at
            }
        };
        self.skip.min(last)..last
    }

    /// Whether a row that comes to a partition of which nothing behind the shown rows is kept can be forgotten at once.
    pub(super) fn is_beyond(&self, partition: &Partition, key: &[u8], order: &[u8]) -> bool {
        let count = self.skip.saturating_add(self.take);
        if partition.len() < count || count == 0 {
            return count == 0;
        }
        let Some(last) = partition.entry(partition.len() - 1) else { return false };
        match self.by {
            RankedBy::RowNumber => key >= last.key(),
            RankedBy::Rank => order > last.order(),
            RankedBy::DenseRank => false,
        }
    }
}

/// Where rows that stood in `before` stand now that the partition has changed.
pub(super) fn moved(before: &Range<usize>, changed: &[Changed]) -> Range<usize> {
    let moved = |position: usize| {
        let mut shift = 0_i64;
        for change in changed {
            let was = (change.at as i64 - shift) as usize;
            if was >= position {
                break;
            }
            shift += change.came as i64 - change.went.min(position - was) as i64;
        }
        (position as i64 + shift).max(0) as usize
    };
    moved(before.start)..moved(before.end)
}
