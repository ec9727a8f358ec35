//! What a reader of committed records must see at the end: the rows of an undisturbed run, each change once and in order.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::topics::{RESULTS, Row, WINDOW, is_written, time};
use super::world::World;

/// Rows by their text, with how often each is there.
type Rows = BTreeMap<String, i64>;

/// Judges all topics; answers a digest of what there is.
pub(super) fn judge(world: &World) -> Result<u64, String> {
    world.settle();
    let input = world.rows();
    let mut all = Vec::new();
    for topic in RESULTS {
        let partitions = world.committed(topic);
        all.extend(partitions.iter().flatten().flat_map(|record| record.value.clone().unwrap_or_default()));
        let seen = sum(topic, partitions.iter().map(|records| records.iter().map(|record| &record.value)))?;
        let expected = if is_written(topic, world.jobs) { expected(topic, &input) } else { Rows::new() };
        if seen != expected {
            let lacks: Vec<_> = expected.iter().filter(|(row, n)| seen.get(*row) != Some(*n)).collect();
            let more: Vec<_> = seen.iter().filter(|(row, n)| expected.get(*row) != Some(*n)).collect();
            return Err(format!("{topic} has {more:?} where an undisturbed run has {lacks:?}"));
        }
    }
    Ok(xxh3_64(&all))
}

/// The sum of all changes. No row is there twice, and none goes before it has come.
fn sum<'a>(
    topic: &str,
    partitions: impl Iterator<Item = impl Iterator<Item = &'a Option<Vec<u8>>>>,
) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for value in partitions.flatten() {
        let mut row: Value = serde_json::from_slice(value.as_deref().unwrap_or_default()).unwrap();
        let weight = row.as_object_mut().and_then(|row| row.remove("_weight")).and_then(|weight| weight.as_i64());
        // A sum's type may be one that JSON has as text.
        if let Some(total) = row.get("total").and_then(|total| total.as_str()?.parse::<i64>().ok()) {
            row["total"] = total.into();
        }
        let text = row.to_string();
        let sum = rows.entry(text.clone()).or_default();
        *sum += weight.unwrap_or_default();
        if !(0..=1).contains(sum) {
            return Err(format!("{topic} has the row {text} {sum} times on the way"));
        }
    }
    rows.retain(|_, sum| *sum != 0);
    Ok(rows)
}

fn expected(topic: &str, input: &[Row]) -> Rows {
    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut windows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for row in input {
        let (n, total) = sums.entry(row.k).or_default();
        (*n, *total) = (*n + 1, *total + row.v);
        *windows.entry((row.at / WINDOW * WINDOW, row.k)).or_default() += 1;
    }
    let mut sizes: BTreeMap<i64, i64> = BTreeMap::new();
    sums.values().for_each(|(n, _)| *sizes.entry(*n).or_default() += 1);
    let rows: Vec<Value> = match topic {
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
