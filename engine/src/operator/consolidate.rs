//! Consolidation: equal rows of a delta summed, rows of weight zero dropped.

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::columns::canonical;
use super::expression::batch;
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};

/// Each row of a weighted delta once, with the sum of its weights, in the order of their first appearance; rows whose
/// weights cancel are gone. −0 equals 0 and every NaN equals every NaN. A delta without weights is returned as it is.
pub fn consolidate(delta: Delta) -> Result<Delta> {
    let Some(weights) = delta.weights() else { return Ok(delta) };
    if weights.values().iter().all(|weight| *weight != 0) && delta.num_rows() <= 1 {
        return Ok(delta);
    }
    if delta.rows().num_columns() == 0 {
        return consolidate_empty_rows(&delta, weights);
    }
    let rows = RowIdentity::new(delta.rows().columns())?;
    let mut seen: HashTable<(u64, u32)> = HashTable::with_capacity(delta.num_rows());
    let mut firsts: Vec<u32> = Vec::with_capacity(delta.num_rows());
    let mut sums: Vec<i64> = Vec::with_capacity(delta.num_rows());
    for row in 0..delta.num_rows() {
        let hash = rows.hash(row);
        let weight = weights.value(row);
        let same =
            |(other_hash, place): &(u64, u32)| *other_hash == hash && rows.equal(row, firsts[*place as usize] as usize);
        match seen.find(hash, same) {
            Some((_, place)) => {
                let sum = &mut sums[*place as usize];
                *sum = sum.checked_add(weight).ok_or_else(overflow)?;
            }
            None => {
                seen.insert_unique(hash, (hash, firsts.len() as u32), |(hash, _)| *hash);
                firsts.push(row as u32);
                sums.push(weight);
            }
        }
    }
    if firsts.len() == delta.num_rows() && sums.iter().all(|sum| *sum != 0) {
        return Ok(delta);
    }
    let (kept, sums): (Vec<u32>, Vec<i64>) = firsts.into_iter().zip(sums).filter(|(_, sum)| *sum != 0).unzip();
    let (rows, _) = delta.take(&UInt32Array::from(kept))?.into_parts();
    Ok(Delta::weighted(rows, Int64Array::from(sums)))
}

/// One delta of `schema` that says what all of `deltas` say together.
pub fn consolidate_all(schema: &SchemaRef, deltas: &[Delta]) -> Result<Delta> {
    consolidate(Delta::concat(schema, deltas)?)
}

/// Rows without columns are all equal.
fn consolidate_empty_rows(delta: &Delta, weights: &Int64Array) -> Result<Delta> {
    let sum = weights.values().iter().try_fold(0_i64, |sum, weight| sum.checked_add(*weight)).ok_or_else(overflow)?;
    let count = usize::from(sum != 0);
    let rows = batch(&delta.schema(), Vec::new(), count)?;
    Ok(Delta::weighted(rows, Int64Array::from_iter_values(std::iter::repeat_n(sum, count))))
}

fn overflow() -> Error {
    Error::new(ErrorKind::ResourceExhausted, "a row appears more often than 2^63 times")
}

/// Whole rows as bytes that are equal when the rows are the same. For the life of a process only: the bytes may change
/// with the library.
pub(crate) struct RowIdentity(Rows);

impl RowIdentity {
    /// Identities of the rows of `columns` (at least one column).
    pub(crate) fn new(columns: &[ArrayRef]) -> Result<Self> {
        let columns = columns.iter().map(canonical).collect::<Result<Vec<_>>>()?;
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        Ok(Self(RowConverter::new(fields)?.convert_columns(&columns)?))
    }

    /// A hash of the row.
    pub(crate) fn hash(&self, row: usize) -> u64 {
        xxh3_64(self.0.row(row).data())
    }

    /// Whether two rows are the same.
    pub(crate) fn equal(&self, one: usize, other: usize) -> bool {
        self.0.row(one) == self.0.row(other)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Float64Type, Schema};

    use super::*;

    fn delta(rows: &[(Option<f64>, &str, i64)]) -> Delta {
        let schema = Arc::new(Schema::new(vec![
            Field::new("x", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
        ]));
        let numbers: ArrayRef = Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.0)));
        let strings: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
        let rows_ = batch(&schema, vec![numbers, strings], rows.len()).unwrap();
        Delta::weighted(rows_, Int64Array::from_iter_values(rows.iter().map(|row| row.2)))
    }

    fn contents(delta: &Delta) -> Vec<(Option<f64>, String, i64)> {
        let x = delta.rows().column(0).as_primitive::<Float64Type>();
        let s = delta.rows().column(1).as_string::<i32>();
        (0..delta.num_rows())
            .map(|row| (x.iter().nth(row).unwrap(), s.value(row).to_owned(), delta.weight(row)))
            .collect()
    }

    #[test]
    fn equal_rows_are_summed_in_order_and_zero_is_dropped() {
        let sum = consolidate(delta(&[
            (Some(1.0), "a", 1),
            (None, "b", 2),
            (Some(1.0), "a", -1),
            (None, "b", 3),
            (Some(2.0), "a", -4),
        ]))
        .unwrap();
        assert_eq!(contents(&sum), [(None, "b".to_owned(), 5), (Some(2.0), "a".to_owned(), -4)]);
    }

    #[test]
    fn zeros_and_nans_are_one_value_each() {
        let odd_nan = f64::from_bits(0xfff8_0000_0000_0001);
        let sum = consolidate(delta(&[
            (Some(0.0), "a", 1),
            (Some(-0.0), "a", -1),
            (Some(f64::NAN), "a", 1),
            (Some(odd_nan), "a", -1),
        ]))
        .unwrap();
        assert_eq!(sum.num_rows(), 0);
    }

    #[test]
    fn a_delta_that_says_nothing_twice_stays() {
        let before = delta(&[(Some(1.0), "a", 1), (Some(1.0), "b", -1)]);
        let after = consolidate(before.clone()).unwrap();
        assert!(Arc::ptr_eq(before.rows().column(0), after.rows().column(0)));
        assert_eq!(consolidate(delta(&[(Some(1.0), "a", 0)])).unwrap().num_rows(), 0);
    }

    #[test]
    fn rows_without_columns_are_equal() {
        let rows = batch(&Arc::new(Schema::empty()), Vec::new(), 3).unwrap();
        let sum = consolidate(Delta::weighted(rows, Int64Array::from(vec![2, -3, 4]))).unwrap();
        assert_eq!((sum.num_rows(), sum.weight(0)), (1, 3));
    }

    #[test]
    fn several_deltas_become_one() {
        let one = delta(&[(Some(1.0), "a", 1)]);
        let schema = one.schema();
        let appended = Delta::append(one.rows().clone());
        let sum = consolidate_all(&schema, &[one, appended, delta(&[(Some(1.0), "a", -2)])]).unwrap();
        assert_eq!(sum.num_rows(), 0);
    }
}
