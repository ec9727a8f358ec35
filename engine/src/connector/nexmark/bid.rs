//! Bids: `auction, bidder, price, channel, url, date_time, extra`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::error::Result;

/// Events of one round: 1 person, 3 auctions, then the bids.
const ROUND: u64 = 50;
const PERSONS: u64 = 1;
const AUCTIONS: u64 = 3;
const BIDS: u64 = ROUND - PERSONS - AUCTIONS;
/// Numbers that persons and auctions start at.
const FIRST_PERSON: u64 = 1_000;
const FIRST_AUCTION: u64 = 1_000;
/// One of so many ids is hot.
const HOT_EVERY: u64 = 100;
/// Cold bids go to auctions and come from persons of this many newest.
const RECENT_AUCTIONS: u64 = 100;
const RECENT_PERSONS: u64 = 1_000;
/// The event time of the first event: 2015-07-15 00:00:00 UTC.
const BASE_MICROS: i64 = 1_436_918_400_000_000;
/// Strings are made once for this many rows and used again: they carry bytes, not meaning.
const STRING_ROWS: usize = 64 * 1024;

/// The columns of a bid.
pub fn bid_schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![
        field("auction", DataType::Int64),
        field("bidder", DataType::Int64),
        field("price", DataType::Int64),
        field("channel", DataType::Utf8View),
        field("url", DataType::Utf8View),
        field("date_time", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("extra", DataType::Utf8View),
    ]))
}

/// Makes bids; the same seed and rate make the same bids.
pub struct BidGenerator {
    random: SmallRng,
    /// How many bids were made.
    made: u64,
    /// Distance of two events (of any kind), in microseconds, times the generator's 50 events per round.
    micros_per_round: i64,
    schema: SchemaRef,
    strings: [StringViewArray; 3],
}

impl BidGenerator {
    /// Bids of `events_per_second` events (persons and auctions counted) of event time.
    pub fn new(seed: u64, events_per_second: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let strings = strings(&mut random);
        let micros_per_round = (ROUND * 1_000_000 / events_per_second.max(1)).max(1) as i64;
        Self { random, made: 0, micros_per_round, schema: bid_schema(), strings }
    }

    /// The next `rows` bids; at most 65,536.
    pub fn next_batch(&mut self, rows: usize) -> Result<RecordBatch> {
        let rows = rows.min(STRING_ROWS);
        let mut auction = Vec::with_capacity(rows);
        let mut bidder = Vec::with_capacity(rows);
        let mut price = Vec::with_capacity(rows);
        let mut time = Vec::with_capacity(rows);
        for _ in 0..rows {
            let (round, place) = (self.made / BIDS, self.made % BIDS);
            let last_auction = FIRST_AUCTION + round * AUCTIONS + AUCTIONS - 1;
            let last_person = FIRST_PERSON + round * PERSONS;
            auction.push(self.auction(last_auction) as i64);
            bidder.push(self.bidder(last_person) as i64);
            price.push((10f64.powf(self.random.random::<f64>() * 6.0) * 100.0) as i64);
            let event = (PERSONS + AUCTIONS + place) as i64;
            time.push(
                BASE_MICROS + round as i64 * self.micros_per_round + event * self.micros_per_round / ROUND as i64,
            );
            self.made += 1;
        }
        let start = self.random.random_range(0..=STRING_ROWS - rows);
        let [channel, url, extra] = &self.strings;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(auction)),
            Arc::new(Int64Array::from(bidder)),
            Arc::new(Int64Array::from(price)),
            Arc::new(channel.slice(start, rows)),
            Arc::new(url.slice(start, rows)),
            Arc::new(TimestampMicrosecondArray::from(time)),
            Arc::new(extra.slice(start, rows)),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Every second bid goes to a hot auction.
    fn auction(&mut self, last: u64) -> u64 {
        if self.random.random_bool(0.5) {
            last / HOT_EVERY * HOT_EVERY
        } else {
            last - self.random.random_range(0..RECENT_AUCTIONS.min(last - FIRST_AUCTION + 1))
        }
    }

    /// Three of four bids come from a hot bidder.
    fn bidder(&mut self, last: u64) -> u64 {
        if self.random.random_bool(0.75) {
            last / HOT_EVERY * HOT_EVERY + 1
        } else {
            last - self.random.random_range(0..RECENT_PERSONS.min(last - FIRST_PERSON + 1))
        }
    }
}

fn strings(random: &mut SmallRng) -> [StringViewArray; 3] {
    const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
    let word = |random: &mut SmallRng, length: usize| -> String {
        (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
    };
    let (mut channels, mut urls, mut extras) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STRING_ROWS {
        let number = random.random_range(0..10_000u32);
        channels.push(if random.random_bool(0.5) {
            HOT_CHANNELS[random.random_range(0..HOT_CHANNELS.len())].to_owned()
        } else {
            format!("channel-{number}")
        });
        let (a, b, c) = (word(random, 5), word(random, 5), word(random, 5));
        urls.push(format!("https://auctions.example/{a}/{b}/{c}/item.htm?query=1&channel_id={number}"));
        let length = random.random_range(10..50);
        extras.push(word(random, length));
    }
    [channels, urls, extras].map(StringViewArray::from_iter_values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    #[test]
    fn the_same_seed_makes_the_same_bids() {
        let (mut a, mut b) = (BidGenerator::new(7, 10_000), BidGenerator::new(7, 10_000));
        assert_eq!(a.next_batch(1_000).unwrap(), b.next_batch(1_000).unwrap());
        assert_ne!(a.next_batch(1_000).unwrap(), BidGenerator::new(8, 10_000).next_batch(1_000).unwrap());
    }

    #[test]
    fn time_never_goes_back_and_passes_at_the_rate() {
        let mut generator = BidGenerator::new(1, 10_000);
        let mut times = Vec::new();
        for _ in 0..46 {
            let batch = generator.next_batch(1_000).unwrap();
            times.extend_from_slice(batch.column(5).as_primitive::<TimestampMicrosecondType>().values());
        }
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        // 46,000 bids are 50,000 events: 5 seconds at 10,000 a second.
        let seconds = (times[times.len() - 1] - times[0]) as f64 / 1e6;
        assert!((seconds - 5.0).abs() < 0.01, "{seconds}");
    }

    #[test]
    fn half_of_the_bids_go_to_hot_auctions() {
        let mut generator = BidGenerator::new(1, 10_000);
        let batch = generator.next_batch(60_000).unwrap();
        let hot = batch.column(0).as_primitive::<Int64Type>().values().iter().filter(|id| *id % 100 == 0).count();
        assert!((28_000..33_000).contains(&hot), "{hot}");
    }
}
