//! Rows that are remembered once, with how often they are there: as they come back out of their slots, and as they are shown.

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::state::slots::{Slot, Slots};

/// The columns of remembered rows, with the types that `schema` gives them.
pub(super) fn stored(rows: &Slots, slots: &[Slot], schema: &SchemaRef) -> Result<Vec<ArrayRef>> {
    let columns = rows.keys(slots)?.into_iter().zip(schema.fields());
    columns
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(column),
            false => Ok(cast(&column, field.data_type())?),
        })
        .collect()
}

/// Rows that come or go as often as their weights say. Of a result that is no changelog, `operator`'s, none goes.
pub(super) fn shown(operator: &str, changelog: bool, rows: RecordBatch, weights: Vec<i64>) -> Result<Delta> {
    if changelog {
        return Ok(Delta::weighted(rows, Int64Array::from(weights)));
    }
    if weights.iter().all(|weight| *weight == 1) {
        return Ok(Delta::append(rows));
    }
    if weights.iter().any(|weight| *weight < 0) {
        return Err(Error::internal(format!("{operator} that only adds rows would take one back")));
    }
    // Without weights a row that is there three times stands there three times.
    let repeated =
        weights.iter().enumerate().flat_map(|(row, weight)| std::iter::repeat_n(row as u32, *weight as usize));
    Delta::append(rows).take(&UInt32Array::from_iter_values(repeated))
}
