//! What a reader missed of a view that was restored as of a later epoch: the difference between the view's contents at
//! the two epochs, from the view's own checkpoints.
//!
//! The reader takes it in as one epoch's changes. Which rows came and went between does not matter to it: the sum does.

use std::collections::HashMap;

use arrow::array::{Int64Array, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};

use super::manifest::Manifest;
use super::store::JobStore;
use crate::dataflow::VIEW;
use crate::delta::Delta;
use crate::error::Result;

/// The contents of a view at `now` less those at `then`.
pub(crate) fn missed(store: &JobStore, schema: &SchemaRef, then: &Manifest, now: &Manifest) -> Result<Vec<Delta>> {
    let before = store.part_of(then, VIEW)?.contents(schema)?;
    let after = store.part_of(now, VIEW)?.contents(schema)?;
    difference(schema, &before, &after)
}

fn difference(schema: &SchemaRef, before: &[Delta], after: &[Delta]) -> Result<Vec<Delta>> {
    let rows = concat_batches(schema, before.iter().chain(after).map(Delta::rows))?;
    if rows.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(rows.columns())?;
    let signed = before.iter().map(|delta| (delta, -1)).chain(after.iter().map(|delta| (delta, 1)));
    let weights = signed.flat_map(|(delta, sign)| {
        (0..delta.num_rows()).map(move |row| sign * delta.weights().map_or(1, |weights| weights.value(row)))
    });
    let mut sums: HashMap<&[u8], (u32, i64)> = HashMap::new();
    let mut order = Vec::new();
    for (row, weight) in weights.enumerate() {
        let key = keys.row(row).data();
        let sum = sums.entry(key).or_insert_with(|| {
            order.push(key);
            (row as u32, 0)
        });
        sum.1 += weight;
    }
    let changed: Vec<(u32, i64)> =
        order.iter().filter_map(|key| sums.get(key).copied()).filter(|sum| sum.1 != 0).collect();
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    // Rows that only come carry no weights: an append-only reader knows none.
    let only_come = changed.iter().all(|(_, weight)| *weight > 0);
    let times = |(row, weight): &(u32, i64)| std::iter::repeat_n(*row, if only_come { *weight as usize } else { 1 });
    let places = UInt32Array::from_iter_values(changed.iter().flat_map(times));
    let weights = (!only_come).then(|| Int64Array::from_iter_values(changed.iter().map(|(_, weight)| *weight)));
    let rows = Delta::append(rows).take(&places)?.rows().clone();
    Ok(vec![Delta::new(rows, weights)])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, StringArray};
    use arrow::datatypes::Int64Type;
    use arrow::record_batch::RecordBatch;

    use super::*;

    fn delta(values: &[Option<i64>], weights: Option<Vec<i64>>) -> Delta {
        let texts: ArrayRef = Arc::new(StringArray::from_iter(values.iter().map(|value| value.map(|v| v.to_string()))));
        let numbers: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let rows = RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("t", texts, true)]).unwrap();
        Delta::new(rows, weights.map(Int64Array::from))
    }

    #[test]
    fn the_difference_has_what_came_and_what_went() {
        let before = [delta(&[Some(1), Some(2), None], None), delta(&[Some(9)], Some(vec![3]))];
        let after = [delta(&[None, Some(2), Some(5)], None), delta(&[Some(9)], Some(vec![1]))];
        let schema = before[0].rows().schema();
        let changed = difference(&schema, &before, &after).unwrap();
        let numbers = changed[0].rows().column(0).as_primitive::<Int64Type>();
        assert_eq!(numbers.iter().flatten().collect::<Vec<_>>(), [1, 9, 5]);
        assert_eq!(changed[0].weights().unwrap().values(), &[-1, -2, 1]);
        assert!(difference(&schema, &after, &after).unwrap().is_empty());
        assert!(difference(&schema, &[], &[]).unwrap().is_empty());
        let come =
            difference(&schema, &before[..1], &[delta(&[Some(1), Some(2), None, Some(7), Some(7)], None)]).unwrap();
        assert!(come[0].weights().is_none(), "rows that only come have no weights");
        assert_eq!(come[0].num_rows(), 2);
    }
}
