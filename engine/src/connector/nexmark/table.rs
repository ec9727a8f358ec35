//! The three tables, and which events are whose.

use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use super::events::{AUCTIONS, BIDS, Events, PERSONS, ROUND};
use super::{auction, bid, person};
use crate::error::Result;

/// One of Nexmark's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Person,
    Auction,
    Bid,
}

impl Table {
    pub(super) fn schema(self) -> SchemaRef {
        match self {
            Self::Person => person::schema(),
            Self::Auction => auction::schema(),
            Self::Bid => bid::bid_schema(),
        }
    }

    /// How many of a round's events are its own.
    pub(super) fn share(self) -> u64 {
        match self {
            Self::Person => PERSONS,
            Self::Auction => AUCTIONS,
            Self::Bid => BIDS,
        }
    }

    /// The place in a round of the first that is its own.
    fn first(self) -> u64 {
        match self {
            Self::Person => 0,
            Self::Auction => PERSONS,
            Self::Bid => PERSONS + AUCTIONS,
        }
    }

    /// The number among all events of its row `index`, from 0.
    pub(super) fn event(self, index: u64) -> u64 {
        index / self.share() * ROUND + self.first() + index % self.share()
    }

    /// Its rows of these numbers, each from 0.
    pub(super) fn rows(self, events: &Events, indices: &[u64]) -> Result<RecordBatch> {
        match self {
            Self::Person => person::rows(events, indices),
            Self::Auction => auction::rows(events, indices),
            Self::Bid => bid::rows(events, indices),
        }
    }
}

/// A column that has no NULL.
pub(super) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// The type of `date_time`.
pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_tables() {
        let mut events: Vec<u64> = Vec::new();
        for table in [Table::Person, Table::Auction, Table::Bid] {
            events.extend((0..table.share() * 20).map(|index| table.event(index)));
        }
        events.sort_unstable();
        assert_eq!(events, (0..20 * ROUND).collect::<Vec<_>>());
    }
}
