//! Rows as the end of a query shows them: as a delta of the result, or as rows of a changelog.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;

use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::EpochContext;
use crate::operator::aggregate::batch;
use crate::plan::flow::ShowSpec;

/// See the [module](self).
pub(super) struct Shown {
    schema: SchemaRef,
    stream: bool,
    changelog: bool,
    now_micros: i64,
}

impl Shown {
    pub(super) fn new(spec: &ShowSpec, schema: SchemaRef, changelog: bool) -> Self {
        Self { schema, stream: spec.stream, changelog, now_micros: 0 }
    }

    /// An epoch's end begins: its time is the changes' time.
    pub(super) fn begin(&mut self, epoch: &EpochContext<'_>) {
        self.now_micros = epoch.now_micros;
    }

    /// Whether a row says by its weight how often it comes or goes; otherwise it is said so many times.
    pub(super) fn has_weights(&self) -> bool {
        self.changelog
    }

    /// Rows with these columns and weights, and their numbers within their groups if they are rows of a changelog.
    pub(super) fn delta(&self, mut columns: Vec<ArrayRef>, weights: Vec<i64>, numbers: Vec<i64>) -> Result<Delta> {
        let count = weights.len();
        if self.stream {
            let undo = weights.iter().map(|weight| if *weight < 0 { "undo" } else { "" });
            let undo: ArrayRef = Arc::new(StringArray::from_iter_values(undo));
            let time = TimestampMicrosecondArray::from_value(self.now_micros, count).with_timezone("+00:00");
            let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
            columns.extend([undo, Arc::new(time), numbers]);
        } else if !self.changelog && weights.iter().any(|weight| *weight < 0) {
            return Err(Error::internal("a result that only grows would take a row back"));
        }
        let rows = batch(&self.schema, columns, count)?;
        Ok(if self.changelog { Delta::weighted(rows, Int64Array::from(weights)) } else { Delta::append(rows) })
    }
}
