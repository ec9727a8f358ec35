//! What a reader of committed records must see at the end: the rows of an undisturbed run, each change once and in order.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::topics::{RESULTS, Row, WINDOW, is_written, time};
use super::world::World;
use crate::connector::log::partition::StoredRecord;

/// Rows by their text, with how often each is there.
type Rows = BTreeMap<String, i64>;

/// Judges all topics; answers a digest of what there is.
pub(super) fn judge(world: &World) -> Result<u64, String> {
    world.settle();
    let (input, prices) = (world.rows(), world.prices());
    let mut all = Vec::new();
    for topic in RESULTS {
        world.tell_topic(topic);
        let mut seen = Rows::new();
        for records in world.committed(topic) {
            all.extend(records.iter().flat_map(|record| record.value.clone().unwrap_or_default()));
            sum(&records, &mut seen).map_err(|what| format!("{topic}: {what}"))?;
        }
        let expected = if is_written(topic, world.jobs) { expected(topic, &input, &prices) } else { Rows::new() };
        if seen != expected {
            let lacks: Vec<_> = expected.iter().filter(|(row, n)| seen.get(*row) != Some(*n)).collect();
            let more: Vec<_> = seen.iter().filter(|(row, n)| expected.get(*row) != Some(*n)).collect();
            return Err(format!("{topic} has {more:?} where an undisturbed run has {lacks:?}"));
        }
    }
    Ok(xxh3_64(&all))
}

/// What is known of a record's key so far.
#[derive(Default)]
struct OfKey {
    epoch: u64,
    /// The sum of its changes.
    rows: Rows,
}

impl OfKey {
    /// At the end of an epoch each row is there or not.
    fn end_epoch(&self) -> Result<(), String> {
        match self.rows.iter().find(|(_, sum)| !(0..=1).contains(*sum)) {
            Some((row, sum)) => Err(format!("at the end of epoch {} the row {row} is there {sum} times", self.epoch)),
            None => Ok(()),
        }
    }
}

/// Adds up all changes in a partition. Those of a key stand in the order of epochs, and no row is there twice, or goes before
/// it has come. Within one epoch they stand in any order: a sink is given an epoch's changes as they reach it.
fn sum(records: &[StoredRecord], into: &mut Rows) -> Result<(), String> {
    let mut keys: BTreeMap<Option<&[u8]>, OfKey> = BTreeMap::new();
    for StoredRecord { key, value } in records {
        let mut row: Value = serde_json::from_slice(value.as_deref().unwrap_or_default()).unwrap();
        let mut own = |name: &str| row.as_object_mut().and_then(|row| row.remove(name)).and_then(|own| own.as_i64());
        let (epoch, weight) = (own("_epoch").unwrap_or_default() as u64, own("_weight").unwrap_or_default());
        // A sum's type may be one that JSON has as text.
        if let Some(total) = row.get("total").and_then(|total| total.as_str()?.parse::<i64>().ok()) {
            row["total"] = total.into();
        }
        let of_key = keys.entry(key.as_deref()).or_default();
        if epoch < of_key.epoch {
            return Err(format!("{row} of epoch {epoch} stands behind what epoch {} says of its key", of_key.epoch));
        }
        if epoch > of_key.epoch {
            of_key.end_epoch()?;
            of_key.epoch = epoch;
        }
        *of_key.rows.entry(row.to_string()).or_default() += weight;
    }
    for of_key in keys.values() {
        of_key.end_epoch()?;
        for (row, sum) in of_key.rows.iter().filter(|(_, sum)| **sum != 0) {
            *into.entry(row.clone()).or_default() += sum;
        }
    }
    Ok(())
}

fn expected(topic: &str, input: &[Row], prices: &BTreeMap<i64, i64>) -> Rows {
    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut windows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for row in input {
        let (n, total) = sums.entry(row.k).or_default();
        (*n, *total) = (*n + 1, *total + row.v);
        *windows.entry((row.at / WINDOW * WINDOW, row.k)).or_default() += 1;
    }
    let mut sizes: BTreeMap<i64, i64> = BTreeMap::new();
    sums.values().for_each(|(n, _)| *sizes.entry(*n).or_default() += 1);
    let mut classes: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for price in prices.values() {
        let (n, total) = classes.entry(price % 3).or_default();
        (*n, *total) = (*n + 1, *total + price);
    }
    let costs = || input.iter().filter_map(|row| Some(json!({"id": row.id, "price": prices.get(&row.k)?})));
    let rows: Vec<Value> = match topic {
        "prices_out" => prices.iter().map(|(k, price)| json!({"k": k, "price": price})).collect(),
        "classes_out" => {
            classes.iter().map(|(class, (n, total))| json!({"class": class, "n": n, "total": total})).collect()
        }
        "costs_out" => costs().collect(),
        "rows_out" => input.iter().filter(|row| row.v % 3 != 0).map(|row| json!({"k": row.k, "id": row.id})).collect(),
        "sums_out" => sums.iter().map(|(k, (n, total))| json!({"k": k, "n": n, "total": total})).collect(),
        "large_out" => {
            sums.iter().filter(|(_, (n, _))| *n > 2).map(|(k, (_, total))| json!({"k": k, "total": total})).collect()
        }
        "sizes_out" => sizes.iter().map(|(n, keys)| json!({"n": n, "keys": keys})).collect(),
        _ => windows.iter().map(|((at, k), n)| json!({"window_start": time(*at), "k": k, "n": n})).collect(),
    };
    rows.into_iter().map(|row| (row.to_string(), 1)).collect()
}
