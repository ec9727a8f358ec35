//! What has changed of an operator's state since it was last written down, and what the state is then.
//!
//! A checkpoint has the state of an operator as *layers*: all of it once, then what has changed since, each time. A layer
//! says which columns of a part tell its rows apart; what a younger layer has under the same values stands in place of what
//! an older one has. Nothing here knows what the rows mean, so layers can be put together from files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;

#[cfg(test)]
mod layered;

#[cfg(test)]
pub(in crate::operator) use self::layered::Layered;
use super::StatePart;
#[cfg(test)]
use super::deferred::{into_changes, into_parts};
use crate::error::{Error, Result};
use crate::state::key_group::hash_keys_seeded;

/// What has become of one part of an operator's state.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// All of it as it is now; what it was does not count any more.
    Whole {
        /// [`StatePart::name`].
        name: String,
        /// [`StatePart::rows`]; maybe none.
        rows: Vec<RecordBatch>,
    },
    /// Some rows of it.
    Rows(ChangedRows),
}

/// Rows of a part that are others than before.
#[derive(Debug, Clone, Default)]
pub struct ChangedRows {
    /// [`StatePart::name`].
    pub name: String,
    /// The columns of the part (column 0 is `_group`) that say which row a row is: earlier rows with the same values in
    /// them are gone. Empty: rows have come, and none has changed or gone but by [`Self::below`].
    pub keys: Vec<usize>,
    /// The last column is a number of times: rows that are equal in all the others are added up, and gone at zero. Then
    /// there are no keys.
    pub is_sum: bool,
    /// Rows that are new, or have changed.
    pub rows: Vec<RecordBatch>,
    /// Rows that are gone: `_group`, and the columns of [`Self::keys`] in their order. Those that are in [`Self::rows`] as
    /// well have come again.
    pub gone: Vec<RecordBatch>,
    /// A column of integers or times, and a value: rows with less in it, on whichever worker, are gone. If workers differ,
    /// the least value counts.
    pub below: Option<Below>,
}

/// Rows with less than `at` in a column are gone; times count in the ticks of their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Below {
    /// The column of the part.
    pub column: usize,
    /// The least value that stays.
    pub at: i64,
}

impl Below {
    /// The numbers that are compared.
    fn numbers(self, rows: &RecordBatch) -> Result<Int64Array> {
        let column = rows.columns().get(self.column);
        let column = column.ok_or_else(|| Error::internal("a state has no column by which its rows go"))?;
        Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    /// The greatest value of some rows; a row without one never goes.
    pub fn greatest(self, rows: &RecordBatch) -> Result<i64> {
        let numbers = self.numbers(rows)?;
        let greatest = if numbers.null_count() > 0 { None } else { arrow::compute::max(&numbers) };
        Ok(greatest.unwrap_or(i64::MAX))
    }

    /// The rows that stay.
    pub fn staying(self, rows: RecordBatch) -> Result<RecordBatch> {
        let numbers = self.numbers(&rows)?;
        if arrow::compute::min(&numbers).is_none_or(|least| least >= self.at) {
            return Ok(rows);
        }
        let stays: BooleanArray =
            numbers.iter().map(|number| Some(number.is_none_or(|number| number >= self.at))).collect();
        Ok(filter_record_batch(&rows, &stays)?)
    }
}

/// What was written of a part at one time; see the [module](self).
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// As [`ChangedRows::keys`].
    pub keys: Vec<usize>,
    /// As [`ChangedRows::is_sum`].
    pub is_sum: bool,
    /// As [`ChangedRows::rows`].
    pub rows: Vec<RecordBatch>,
    /// As [`ChangedRows::gone`].
    pub gone: Vec<RecordBatch>,
}

/// Rows that layers younger than the one at hand have replaced: 128 bits of hash of their keys, by which columns these are.
#[derive(Default)]
struct Replaced(BTreeMap<Vec<usize>, HashSet<(u64, u64)>>);

/// The seed of the second hash.
const SECOND_SEED: u64 = 0x2f0b_4c47_a36e_9d15;

fn identities(columns: &[ArrayRef], rows: usize) -> Result<impl Iterator<Item = (u64, u64)>> {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    hash_keys_seeded(columns, rows, 0, &mut one)?;
    hash_keys_seeded(columns, rows, SECOND_SEED, &mut two)?;
    Ok(one.into_iter().zip(two))
}

/// The columns of a part that are its keys.
fn key_columns(rows: &RecordBatch, keys: &[usize]) -> Result<Vec<ArrayRef>> {
    let column = |key: &usize| rows.columns().get(*key).cloned();
    let columns: Option<Vec<ArrayRef>> = keys.iter().map(column).collect();
    columns.ok_or_else(|| Error::internal("a state has fewer columns than its changes say"))
}

impl Replaced {
    /// Those of the rows that were not replaced; `place`: where a key stands in them.
    fn without(&self, rows: &RecordBatch, place: impl Fn(&[usize]) -> Vec<usize>) -> Result<RecordBatch> {
        let mut rows = rows.clone();
        for (keys, replaced) in self.0.iter().filter(|(_, replaced)| !replaced.is_empty()) {
            let columns = key_columns(&rows, &place(keys))?;
            let stays: BooleanArray =
                identities(&columns, rows.num_rows())?.map(|identity| Some(!replaced.contains(&identity))).collect();
            if stays.true_count() < rows.num_rows() {
                rows = filter_record_batch(&rows, &stays)?;
            }
        }
        Ok(rows)
    }

    fn add(&mut self, layer: &Layer) -> Result<()> {
        if layer.keys.is_empty() {
            return Ok(());
        }
        let replaced = self.0.entry(layer.keys.clone()).or_default();
        for rows in &layer.rows {
            replaced.extend(identities(&key_columns(rows, &layer.keys)?, rows.num_rows())?);
        }
        for gone in &layer.gone {
            replaced.extend(identities(&gone.columns()[1..], gone.num_rows())?);
        }
        Ok(())
    }
}

/// The rows that are there, by all layers, the oldest first.
pub fn merged(layers: &[Layer], below: Option<Below>) -> Result<Vec<RecordBatch>> {
    Ok(merged_changes(layers, below)?.rows)
}

/// Several layers, the oldest first, as one that says the same about those before them.
pub fn merged_changes(layers: &[Layer], below: Option<Below>) -> Result<Layer> {
    let is_sum = layers.iter().any(|layer| layer.is_sum);
    if is_sum {
        let rows: Vec<RecordBatch> = layers.iter().flat_map(|layer| layer.rows.iter().cloned()).collect();
        return Ok(Layer { is_sum, rows: added_up(&rows)?, ..Layer::default() });
    }
    let mut replaced = Replaced::default();
    let mut rows = Vec::new();
    let mut gone = Vec::new();
    for layer in layers.iter().rev() {
        for batch in layer.rows.iter().rev() {
            let mut batch = replaced.without(batch, <[usize]>::to_vec)?;
            if let Some(below) = below {
                batch = below.staying(batch)?;
            }
            if batch.num_rows() > 0 {
                rows.push(batch);
            }
        }
        for batch in &layer.gone {
            let batch = replaced.without(batch, |keys| (1..=keys.len()).collect())?;
            if batch.num_rows() > 0 {
                gone.push(batch);
            }
        }
        replaced.add(layer)?;
    }
    rows.reverse();
    let keys = layers.iter().map(|layer| &layer.keys).find(|keys| !keys.is_empty()).cloned().unwrap_or_default();
    Ok(Layer { keys, is_sum, rows, gone })
}

/// Rows with a number in their last column, each different one once.
fn added_up(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let rows = concat_batches(&first.schema(), batches)?;
    let Some((weights, columns)) = rows.columns().split_last() else { return Ok(batches.to_vec()) };
    let weights = weights.as_primitive_opt::<Int64Type>();
    let weights = weights.ok_or_else(|| Error::internal("a state that is added up has no numbers"))?;
    let mut sums: HashMap<(u64, u64), (u32, i64)> = HashMap::with_capacity(rows.num_rows());
    for (row, identity) in identities(columns, rows.num_rows())?.enumerate() {
        sums.entry(identity).or_insert((row as u32, 0)).1 += weights.value(row);
    }
    let mut there: Vec<(u32, i64)> = sums.into_values().filter(|(_, sum)| *sum != 0).collect();
    there.sort_unstable();
    let (places, sums): (Vec<u32>, Vec<i64>) = there.into_iter().unzip();
    let taken = take_record_batch(&rows, &UInt32Array::from(places))?;
    let mut columns = taken.columns().to_vec();
    columns.pop();
    columns.push(Arc::new(Int64Array::from(sums)));
    Ok(vec![RecordBatch::try_new(rows.schema(), columns)?])
}

/// The state of an operator: what it was, and what has changed.
pub fn changed(before: Vec<StatePart>, changes: Vec<StateChange>) -> Result<Vec<StatePart>> {
    let mut parts: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    let replaced: BTreeSet<&String> = changes
        .iter()
        .filter_map(|change| match change {
            StateChange::Whole { name, .. } => Some(name),
            StateChange::Rows(_) => None,
        })
        .collect();
    for part in before.into_iter().filter(|part| !replaced.contains(&part.name)) {
        parts.entry(part.name).or_default().push(part.rows);
    }
    let mut layers: BTreeMap<String, (Layer, Option<Below>)> = BTreeMap::new();
    for change in changes {
        match change {
            StateChange::Whole { name, rows } => parts.entry(name).or_default().extend(rows),
            StateChange::Rows(rows) => {
                let (layer, below) = layers.entry(rows.name).or_default();
                layer.keys = rows.keys;
                layer.is_sum = rows.is_sum;
                layer.rows.extend(rows.rows);
                layer.gone.extend(rows.gone);
                *below = least(*below, rows.below);
            }
        }
    }
    for (name, (layer, below)) in layers {
        let base = Layer { rows: parts.remove(&name).unwrap_or_default(), ..Layer::default() };
        parts.insert(name, merged(&[base, layer], below)?);
    }
    Ok(parts
        .into_iter()
        .flat_map(|(name, rows)| rows.into_iter().map(move |rows| StatePart { name: name.clone(), rows }))
        .collect())
}

/// What goes by the word of several workers: the least counts.
pub fn least(one: Option<Below>, other: Option<Below>) -> Option<Below> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.at < one.at { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
fn snapshot(operator: &mut dyn super::Operator) -> Vec<StatePart> {
    let mut parts = operator.snapshot().unwrap();
    into_parts(operator.deferred(), &mut parts).unwrap();
    parts
}

/// What tests have written down of an operator.
#[cfg(test)]
#[derive(Default)]
pub(in crate::operator) struct Written(Option<Vec<StatePart>>);

#[cfg(test)]
impl Written {
    /// Writes down all, or what has changed since the last time.
    pub(in crate::operator) fn write(&mut self, operator: &mut dyn super::Operator, only_changes: bool) {
        self.0 = Some(match self.0.take().filter(|_| only_changes) {
            None => snapshot(operator),
            Some(before) => match operator.changes().unwrap() {
                None => snapshot(operator),
                Some(mut changes) => {
                    into_changes(operator.deferred(), &mut changes).unwrap();
                    changed(before, changes).unwrap()
                }
            },
        });
    }

    /// What the operator remembered then.
    pub(in crate::operator) fn parts(&self) -> Vec<StatePart> {
        self.0.clone().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringArray, UInt8Array};

    use super::*;

    fn rows(rows: &[(Option<&str>, i64)]) -> RecordBatch {
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("_group", Arc::new(UInt8Array::from(vec![7; rows.len()])), false),
            ("key", Arc::new(StringArray::from_iter(rows.iter().map(|(key, _)| *key))), true),
            ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n))), false),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn gone(keys: &[Option<&str>]) -> RecordBatch {
        rows(&keys.iter().map(|key| (*key, 0)).collect::<Vec<_>>()).project(&[0, 1]).unwrap()
    }

    fn said(batches: &[RecordBatch]) -> Vec<(Option<String>, i64)> {
        let mut said: Vec<_> = batches
            .iter()
            .flat_map(|rows| {
                let keys = rows.column(1).as_string::<i32>();
                let numbers = rows.column(2).as_primitive::<Int64Type>();
                (0..rows.num_rows()).map(|row| {
                    let key = keys.is_valid(row).then(|| keys.value(row).to_owned());
                    (key, numbers.value(row))
                })
            })
            .collect();
        said.sort();
        said
    }

    fn change(given: &[(Option<&str>, i64)], left: &[Option<&str>]) -> Layer {
        Layer { keys: vec![1], is_sum: false, rows: vec![rows(given)], gone: vec![gone(left)] }
    }

    #[test]
    fn what_is_younger_stands_in_place_of_what_is_older() {
        let base = Layer { rows: vec![rows(&[(Some("a"), 1), (Some("b"), 2), (None, 3)])], ..Layer::default() };
        // "b" goes and comes again in one layer, with two rows; "c" comes and goes in the next.
        let first = change(&[(Some("b"), 20), (Some("b"), 21), (Some("c"), 30)], &[Some("b")]);
        let second = change(&[(Some("a"), 10)], &[Some("c"), None]);
        let layers = [base, first, second];
        let expected = [(Some("a".to_owned()), 10), (Some("b".to_owned()), 20), (Some("b".to_owned()), 21)];
        assert_eq!(said(&merged(&layers, None).unwrap()), expected);
        // Putting the changes together first makes no difference.
        let together = merged_changes(&layers[1..], None).unwrap();
        assert_eq!(said(&merged(&[layers[0].clone(), together], None).unwrap()), expected);
        let below = Below { column: 2, at: 20 };
        assert_eq!(said(&merged(&layers, Some(below)).unwrap()), expected[1..]);
        assert_eq!(below.greatest(&rows(&[(None, 4), (None, 9)])).unwrap(), 9);
    }

    #[test]
    fn sums_are_added_up() {
        let layer = |given: &[(Option<&str>, i64)]| Layer { is_sum: true, rows: vec![rows(given)], ..Layer::default() };
        let base = Layer { rows: vec![rows(&[(Some("a"), 2), (None, 1)])], ..Layer::default() };
        let layers = [base, layer(&[(Some("a"), -1), (None, -1), (Some("b"), -1)]), layer(&[(Some("b"), 4)])];
        let expected = [(Some("a".to_owned()), 1), (Some("b".to_owned()), 3)];
        assert_eq!(said(&merged(&layers, None).unwrap()), expected);
        let together = merged_changes(&layers[1..], None).unwrap();
        assert_eq!(said(&merged(&[layers[0].clone(), together], None).unwrap()), expected);
    }

    #[test]
    fn rows_without_keys_are_added() {
        let some = Layer { rows: vec![rows(&[(Some("a"), 1)])], ..Layer::default() };
        assert_eq!(merged(&[some.clone(), some], None).unwrap().len(), 2);
    }

    #[test]
    fn a_state_is_what_it_was_with_what_has_changed() {
        let part = |name: &str, values: &[(Option<&str>, i64)]| StatePart { name: name.to_owned(), rows: rows(values) };
        let before = vec![part("groups", &[(Some("a"), 1), (Some("b"), 2)]), part("closed", &[(None, 5)])];
        let changes = vec![
            StateChange::Whole { name: "closed".to_owned(), rows: vec![rows(&[(None, 6)])] },
            StateChange::Rows(ChangedRows {
                name: "groups".to_owned(),
                keys: vec![1],
                is_sum: false,
                rows: vec![rows(&[(Some("c"), 3)])],
                gone: vec![gone(&[Some("a")])],
                below: None,
            }),
        ];
        let after = changed(before, changes).unwrap();
        let of = |name: &str| -> Vec<RecordBatch> {
            after.iter().filter(|part| part.name == name).map(|part| part.rows.clone()).collect()
        };
        assert_eq!(said(&of("groups")), [(Some("b".to_owned()), 2), (Some("c".to_owned()), 3)]);
        assert_eq!(said(&of("closed")), [(None, 6)]);
    }
}
