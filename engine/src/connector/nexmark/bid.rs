//! Bids: `auction, bidder, price, channel, url, date_time, extra`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::events::{Events, FIRST_AUCTION, HOT_EVERY, OPEN_AUCTIONS, last_auction, person, price, word, word_between};
use super::table::{Table, field, timestamp};
use crate::error::Result;

/// Strings are made once for this many rows and used again: they carry bytes, not meaning.
const STRING_ROWS: usize = 64 * 1024;
/// The hot bidder of each hundred persons.
const HOT_BIDDER: u64 = 1;

/// `channel`, `url` and `extra` of [`STRING_ROWS`] rows, twice: so that as many in a row begin anywhere in the first half.
static STRINGS: LazyLock<[StringViewArray; 3]> = LazyLock::new(strings);

/// The columns of a bid.
pub fn bid_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("auction", DataType::Int64),
        field("bidder", DataType::Int64),
        field("price", DataType::Int64),
        field("channel", DataType::Utf8View),
        field("url", DataType::Utf8View),
        field("date_time", timestamp()),
        field("extra", DataType::Utf8View),
    ]))
}

/// Makes bids; the same seed and rate make the same bids.
pub struct BidGenerator {
    events: Events,
    /// How many bids were made.
    made: u64,
}

impl BidGenerator {
    /// Bids of `events_per_second` events (persons and auctions counted) of event time.
    pub fn new(seed: u64, events_per_second: u64) -> Self {
        Self { events: Events::new(seed, events_per_second), made: 0 }
    }

    /// The next `rows` bids; at most 65,536.
    pub fn next_batch(&mut self, rows: usize) -> Result<RecordBatch> {
        let indices: Vec<u64> = (self.made..).take(rows.min(STRING_ROWS)).collect();
        self.made += indices.len() as u64;
        self::rows(&self.events, &indices)
    }
}

pub(super) fn rows(events: &Events, indices: &[u64]) -> Result<RecordBatch> {
    let rows = indices.len();
    let [mut auction, mut bidder, mut prices, mut time]: [Vec<i64>; 4] =
        std::array::from_fn(|_| Vec::with_capacity(rows));
    for index in indices {
        let event = Table::Bid.event(*index);
        let mut chance = events.chance(event);
        auction.push(hot_or_open(&mut chance, last_auction(event)) as i64);
        bidder.push(person(&mut chance, event, HOT_BIDDER) as i64);
        prices.push(price(&mut chance));
        time.push(events.time(event, &mut chance));
    }
    let [channel, url, extra] = strings_of(events, indices)?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(auction)),
        Arc::new(Int64Array::from(bidder)),
        Arc::new(Int64Array::from(prices)),
        channel,
        url,
        Arc::new(TimestampMicrosecondArray::from(time)),
        extra,
    ];
    Ok(RecordBatch::try_new(bid_schema(), columns)?)
}

/// Every second bid goes to a hot auction.
fn hot_or_open(chance: &mut SmallRng, last: u64) -> u64 {
    if chance.random_bool(0.5) {
        last / HOT_EVERY * HOT_EVERY
    } else {
        last - chance.random_range(0..OPEN_AUCTIONS.min(last - FIRST_AUCTION + 1))
    }
}

/// The strings of bids; of bids that follow each other they are there without a copy.
fn strings_of(events: &Events, indices: &[u64]) -> Result<[ArrayRef; 3]> {
    let place = |index: &u64| (index.wrapping_add(events.offset()) % STRING_ROWS as u64) as usize;
    let in_a_row = indices.len() <= STRING_ROWS && indices.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let [channel, url, extra] = &*STRINGS;
    if let (true, Some(first)) = (in_a_row, indices.first()) {
        return Ok([channel, url, extra].map(|all| Arc::new(all.slice(place(first), indices.len())) as ArrayRef));
    }
    let places = UInt32Array::from_iter_values(indices.iter().map(|index| place(index) as u32));
    Ok([take(channel, &places, None)?, take(url, &places, None)?, take(extra, &places, None)?])
}

fn strings() -> [StringViewArray; 3] {
    const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
    let mut chance = SmallRng::seed_from_u64(0x0005_7712_6575);
    let (mut channels, mut urls, mut extras) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STRING_ROWS {
        let number = chance.random_range(0..10_000u32);
        let [a, b, c] = std::array::from_fn(|_| word(&mut chance, 5));
        let mut url = format!("https://auctions.example/{a}/{b}/{c}/item.htm?query=1");
        if chance.random_bool(0.5) {
            channels.push(HOT_CHANNELS[chance.random_range(0..HOT_CHANNELS.len())].to_owned());
        } else {
            channels.push(format!("channel-{number}"));
            // Some pages do not say from where one comes.
            if chance.random_bool(0.9) {
                url.push_str(&format!("&channel_id={number}"));
            }
        }
        urls.push(url);
        extras.push(word_between(&mut chance, 18, 59));
    }
    [channels, urls, extras].map(|texts| StringViewArray::from_iter_values(texts.iter().chain(&texts)))
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
    fn bids_are_the_same_in_whatever_order_they_are_made() {
        let events = Events::new(3, 10_000);
        let all = rows(&events, &(65_000..67_000).collect::<Vec<_>>()).unwrap();
        let odd: Vec<u64> = (65_001..67_000).step_by(2).collect();
        let some = rows(&events, &odd).unwrap();
        let places = UInt32Array::from_iter_values((1..2_000).step_by(2));
        for (column, of_some) in some.columns().iter().enumerate() {
            assert_eq!(&take(all.column(column), &places, None).unwrap(), of_some);
        }
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
