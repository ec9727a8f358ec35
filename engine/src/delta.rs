//! Deltas: record batches whose rows carry a weight.
//!
//! A *delta* says how a multiset of rows changes: a row with weight +n appears n times more, with −n n times less.
//! A *changelog* is a sequence of deltas. An update is the old row with −1 and the new row with +1 in the same epoch.
//! Where the planner proves a plan node *append-only*, its deltas carry no weights at all: every row is +1.

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::compute::{concat, concat_batches, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::time::Epoch;

/// Rows and their weights; see the [module](self).
#[derive(Debug, Clone)]
pub struct Delta {
    rows: RecordBatch,
    weights: Option<Int64Array>,
}

/// The changes of an epoch that is complete.
#[derive(Debug, Clone)]
pub struct EpochChanges {
    /// The epoch.
    pub epoch: Epoch,
    /// Its changes.
    pub deltas: Vec<Delta>,
}

impl Delta {
    /// Every row +1.
    pub fn append(rows: RecordBatch) -> Self {
        Self { rows, weights: None }
    }

    /// Rows with a weight each. The weights are as many as the rows and hold no NULL.
    pub fn weighted(rows: RecordBatch, weights: Int64Array) -> Self {
        debug_assert_eq!(rows.num_rows(), weights.len());
        debug_assert_eq!(weights.null_count(), 0);
        Self { rows, weights: Some(weights) }
    }

    /// Rows with weights, or none.
    pub fn new(rows: RecordBatch, weights: Option<Int64Array>) -> Self {
        match weights {
            Some(weights) => Self::weighted(rows, weights),
            None => Self::append(rows),
        }
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The weights; `None` means every row +1.
    pub fn weights(&self) -> Option<&Int64Array> {
        self.weights.as_ref()
    }

    /// The weight of row `row`.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }

    /// How many rows, whatever their weights.
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0
    }

    /// The rows' schema.
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// Both parts.
    pub fn into_parts(self) -> (RecordBatch, Option<Int64Array>) {
        (self.rows, self.weights)
    }

    /// The same weights on other columns (a projection): as many rows as before.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self::new(rows, self.weights.clone())
    }

    /// Rows `offset .. offset + length`, sharing memory.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self::new(self.rows.slice(offset, length), self.weights.as_ref().map(|w| w.slice(offset, length)))
    }

    /// The rows at `indices` (an unsigned integer array), copied.
    pub fn take(&self, indices: &dyn Array) -> Result<Self> {
        let columns =
            self.rows.columns().iter().map(|column| take(column, indices, None)).collect::<Result<Vec<_>, _>>()?;
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(indices.len()));
        let rows = RecordBatch::try_new_with_options(self.rows.schema(), columns, &options)?;
        let weights = match &self.weights {
            Some(weights) => Some(as_weights(take(weights, indices, None)?)),
            None => None,
        };
        Ok(Self::new(rows, weights))
    }

    /// One delta from several of one schema, in order.
    pub fn concat(schema: &SchemaRef, deltas: &[Delta]) -> Result<Self> {
        if let [one] = deltas {
            return Ok(one.clone());
        }
        let rows = concat_batches(schema, deltas.iter().map(Delta::rows))?;
        if deltas.iter().all(|delta| delta.weights.is_none()) {
            return Ok(Self::append(rows));
        }
        let weights: Vec<Int64Array> = deltas
            .iter()
            .map(|delta| delta.weights.clone().unwrap_or_else(|| Int64Array::from_value(1, delta.num_rows())))
            .collect();
        let weights: Vec<&dyn Array> = weights.iter().map(|array| array as &dyn Array).collect();
        Ok(Self::weighted(rows, as_weights(concat(&weights)?)))
    }

    /// Bytes of memory that the delta's buffers hold (shared buffers counted in full).
    pub fn memory_size(&self) -> usize {
        self.rows.get_array_memory_size() + self.weights.as_ref().map_or(0, Array::get_array_memory_size)
    }
}

fn as_weights(array: ArrayRef) -> Int64Array {
    use arrow::array::AsArray;
    array.as_primitive::<arrow::datatypes::Int64Type>().clone()
}
