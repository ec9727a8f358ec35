//! Persons: `id, name, email_address, credit_card, city, state, date_time, extra`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use rand::Rng;
use rand::rngs::SmallRng;

use super::events::{Events, last_person, word, word_between};
use super::table::{Table, field, timestamp};
use crate::error::Result;

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
/// Cities with their states. The states of q3 are among them.
const PLACES: [(&str, &str); 10] = [
    ("Phoenix", "AZ"),
    ("Los Angeles", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Portland", "OR"),
    ("Bend", "OR"),
    ("Redmond", "WA"),
    ("Seattle", "WA"),
    ("Kent", "WA"),
    ("Cheyenne", "WY"),
];

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("name", DataType::Utf8View),
        field("email_address", DataType::Utf8View),
        field("credit_card", DataType::Utf8View),
        field("city", DataType::Utf8View),
        field("state", DataType::Utf8View),
        field("date_time", timestamp()),
        field("extra", DataType::Utf8View),
    ]))
}

pub(super) fn rows(events: &Events, indices: &[u64]) -> Result<RecordBatch> {
    let mut texts: [Vec<String>; 4] = Default::default();
    let mut places = Vec::with_capacity(indices.len());
    let mut time = Vec::with_capacity(indices.len());
    for index in indices {
        let event = Table::Person.event(*index);
        let mut chance = events.chance(event);
        let [name, email, card, extra] = &mut texts;
        name.push(format!("{} {}", one_of(&mut chance, &FIRST_NAMES), one_of(&mut chance, &LAST_NAMES)));
        email.push(format!("{}@{}.example", word(&mut chance, 7), word(&mut chance, 5)));
        let digits: Vec<String> = (0..4).map(|_| format!("{:04}", chance.random_range(0..10_000))).collect();
        card.push(digits.join(" "));
        places.push(one_of(&mut chance, &PLACES));
        extra.push(word_between(&mut chance, 20, 120));
        time.push(events.time(event, &mut chance));
    }
    let id = indices.iter().map(|index| last_person(Table::Person.event(*index)) as i64);
    let [name, email, card, extra] = texts.map(|texts| Arc::new(StringViewArray::from_iter_values(texts)) as ArrayRef);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(id)),
        name,
        email,
        card,
        Arc::new(StringViewArray::from_iter_values(places.iter().map(|(city, _)| city))),
        Arc::new(StringViewArray::from_iter_values(places.iter().map(|(_, state)| state))),
        Arc::new(TimestampMicrosecondArray::from(time)),
        extra,
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn one_of<T: Copy>(chance: &mut SmallRng, of: &[T]) -> T {
    of[chance.random_range(0..of.len())]
}
