//! Nexmark: the auction benchmark's events, made from a seed.
//!
//! Persons, auctions and bids come in the proportions of the published generator (1 : 3 : 46), with its skew: half of the
//! bids go to the newest "hot" auction of each hundred, three quarters of bids and auctions come from the newest hot
//! person of each hundred, prices are log-uniform, and about a hundred auctions are open at a time. What an event holds
//! depends on the seed and its number alone: so the three streams of one seed belong together, and as many workers as one
//! likes make the same rows.
//!
//! [`BidGenerator`] makes batches for benchmarks; the rest is `connector = 'nexmark'`.

mod auction;
mod bid;
pub(super) mod definition;
mod events;
mod person;
mod source;
mod table;

pub use bid::{BidGenerator, bid_schema};
pub use definition::OPTIONS;
