//! Which event comes when, and what chance makes of its number.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Events of one round: 1 person, 3 auctions, then the bids.
pub(super) const ROUND: u64 = 50;
pub(super) const PERSONS: u64 = 1;
pub(super) const AUCTIONS: u64 = 3;
pub(super) const BIDS: u64 = ROUND - PERSONS - AUCTIONS;
/// Numbers that persons and auctions start at.
pub(super) const FIRST_PERSON: u64 = 1_000;
pub(super) const FIRST_AUCTION: u64 = 1_000;
/// One of so many ids is hot.
pub(super) const HOT_EVERY: u64 = 100;
/// Who is not hot is one of this many newest.
const RECENT_PERSONS: u64 = 1_000;
/// Auctions that are open at a time, on average.
pub(super) const OPEN_AUCTIONS: u64 = 100;
/// The event time of the first event: 2015-07-15 00:00:00 UTC.
pub(super) const BASE_MICROS: i64 = 1_436_918_400_000_000;

/// All events of a seed, numbered from 0.
#[derive(Debug, Clone)]
pub(super) struct Events {
    seed: u64,
    /// Events of a second of event time.
    pub(super) rate: u64,
    /// The event time of the first.
    pub(super) start_micros: i64,
    /// An event may be so much earlier than its place in the order says.
    pub(super) disorder_micros: i64,
}

impl Events {
    pub(super) fn new(seed: u64, rate: u64) -> Self {
        Self { seed, rate: rate.max(1), start_micros: BASE_MICROS, disorder_micros: 0 }
    }

    /// A number that spreads what is chosen by position.
    pub(super) fn offset(&self) -> u64 {
        self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16
    }

    /// An event's own chance: the same whoever asks, in whatever order.
    pub(super) fn chance(&self, event: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.rotate_left(32) ^ event.wrapping_mul(0xD129_0E5D_71B5_4A69))
    }

    /// How much event time so many events take.
    pub(super) fn micros_of(&self, events: u64) -> i64 {
        i64::try_from(u128::from(events) * 1_000_000 / u128::from(self.rate)).unwrap_or(i64::MAX)
    }

    /// How many events come in so much time.
    pub(super) fn events_in(&self, micros: i64) -> u64 {
        let micros = u128::from(micros.max(0).unsigned_abs());
        u64::try_from(micros * u128::from(self.rate) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// An event's time. The last thing that is asked of its chance, so that disorder changes nothing else.
    pub(super) fn time(&self, event: u64, chance: &mut SmallRng) -> i64 {
        let early = if self.disorder_micros > 0 { chance.random_range(0..=self.disorder_micros) } else { 0 };
        self.start_micros.saturating_add(self.micros_of(event)).saturating_sub(early)
    }
}

/// The newest person when an event comes.
pub(super) fn last_person(event: u64) -> u64 {
    FIRST_PERSON + event / ROUND * PERSONS
}

/// The newest auction of an event's round.
pub(super) fn last_auction(event: u64) -> u64 {
    FIRST_AUCTION + event / ROUND * AUCTIONS + AUCTIONS - 1
}

/// A person: three of four times the hot one, whose number ends as `hot` says.
pub(super) fn person(chance: &mut SmallRng, event: u64, hot: u64) -> u64 {
    let last = last_person(event);
    if chance.random_bool(0.75) {
        last / HOT_EVERY * HOT_EVERY + hot
    } else {
        last - chance.random_range(0..RECENT_PERSONS.min(last - FIRST_PERSON + 1))
    }
}

/// A price, log-uniform between 1 and a million, in hundredths.
pub(super) fn price(chance: &mut SmallRng) -> i64 {
    (10f64.powf(chance.random::<f64>() * 6.0) * 100.0) as i64
}

/// A word of small letters.
pub(super) fn word(chance: &mut SmallRng, length: usize) -> String {
    (0..length).map(|_| char::from(chance.random_range(b'a'..=b'z'))).collect()
}

/// A word of a length between two, both included.
pub(super) fn word_between(chance: &mut SmallRng, least: usize, most: usize) -> String {
    let length = chance.random_range(least..=most);
    word(chance, length)
}
