//! Auctions: `id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use rand::Rng;

use super::events::{AUCTIONS, Events, FIRST_AUCTION, OPEN_AUCTIONS, ROUND, last_auction, person, price, word_between};
use super::table::{Table, field, timestamp};
use crate::error::Result;

/// Categories 10 to 14.
const FIRST_CATEGORY: i64 = 10;
const CATEGORIES: i64 = 5;
/// The hot seller of each hundred persons: not the hot bidder.
const HOT_SELLER: u64 = 0;

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("item_name", DataType::Utf8View),
        field("description", DataType::Utf8View),
        field("initial_bid", DataType::Int64),
        field("reserve", DataType::Int64),
        field("date_time", timestamp()),
        field("expires", timestamp()),
        field("seller", DataType::Int64),
        field("category", DataType::Int64),
        field("extra", DataType::Utf8View),
    ]))
}

pub(super) fn rows(events: &Events, indices: &[u64]) -> Result<RecordBatch> {
    let mut texts: [Vec<String>; 3] = Default::default();
    let [mut initial, mut reserve, mut seller, mut category, mut time, mut expires]: [Vec<i64>; 6] =
        std::array::from_fn(|_| Vec::with_capacity(indices.len()));
    // On average an auction is open while so many others begin.
    let open_micros = events.micros_of(OPEN_AUCTIONS * ROUND / AUCTIONS).max(1);
    for index in indices {
        let event = Table::Auction.event(*index);
        let mut chance = events.chance(event);
        let [name, description, extra] = &mut texts;
        name.push(word_between(&mut chance, 5, 20));
        description.push(word_between(&mut chance, 20, 100));
        let first = price(&mut chance);
        initial.push(first);
        reserve.push(first + price(&mut chance));
        seller.push(person(&mut chance, event, HOT_SELLER) as i64);
        category.push(FIRST_CATEGORY + chance.random_range(0..CATEGORIES));
        extra.push(word_between(&mut chance, 20, 100));
        let length = chance.random_range(1..=open_micros.saturating_mul(2));
        let at = events.time(event, &mut chance);
        time.push(at);
        expires.push(at.saturating_add(length));
    }
    // The three of a round are numbered one after the other.
    let id = indices.iter().map(|index| (FIRST_AUCTION + index) as i64);
    debug_assert!(indices.iter().all(|index| FIRST_AUCTION + index <= last_auction(Table::Auction.event(*index))));
    let [name, description, extra] = texts.map(|texts| Arc::new(StringViewArray::from_iter_values(texts)) as ArrayRef);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(id)),
        name,
        description,
        Arc::new(Int64Array::from(initial)),
        Arc::new(Int64Array::from(reserve)),
        Arc::new(TimestampMicrosecondArray::from(time)),
        Arc::new(TimestampMicrosecondArray::from(expires)),
        Arc::new(Int64Array::from(seller)),
        Arc::new(Int64Array::from(category)),
        extra,
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
