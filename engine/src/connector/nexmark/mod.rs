//! Nexmark: the auction benchmark's events, made from a seed.
//!
//! Persons, auctions and bids come in the proportions of the published generator (1 : 3 : 46), with its skew: half of the
//! bids go to the newest "hot" auction of each hundred, three quarters come from the newest hot bidder of each hundred,
//! prices are log-uniform. Only bids are made so far: they are all that q0, q1, q2, q5 and q7 read.

mod bid;

pub use bid::{BidGenerator, bid_schema};
