//! JSON records to batches.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde_json::Value as Json;

use super::read::{Misfit, TimeNumbers, row};
use crate::error::Result;
use crate::format::cells::{Cell, Rows};
use crate::format::decoder::{DecodeError, RowDecoder};

/// Decodes objects into rows of a schema. The changes of a database, as Debezium writes them, are objects that hold the
/// row before and after.
pub(crate) struct JsonDecoder {
    schema: SchemaRef,
    times: TimeNumbers,
    envelope: Envelope,
    rows: Rows,
    deleted: Vec<bool>,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// The row.
    None,
    /// Debezium's `before`, `after` and `op`.
    Debezium,
}

impl JsonDecoder {
    pub(crate) fn new(schema: SchemaRef, times: TimeNumbers, envelope: Envelope) -> Self {
        Self { schema, times, envelope, rows: Rows::default(), deleted: Vec::new() }
    }
}

fn refused(field: &str, offset: usize, reason: impl Into<String>) -> DecodeError {
    DecodeError { field: field.to_owned(), offset, reason: reason.into(), batch_full: false, awaits: false }
}

impl From<Misfit> for DecodeError {
    fn from(misfit: Misfit) -> Self {
        refused(&misfit.path, 0, misfit.reason)
    }
}

/// The row that Debezium says, and whether it is gone.
fn changed(json: &Json) -> Result<(&Json, bool), DecodeError> {
    // With schemas on, the envelope is the payload.
    let envelope = json.get("payload").filter(|_| json.get("op").is_none()).unwrap_or(json);
    let operation = envelope.get("op").and_then(Json::as_str);
    let (member, deleted) = match operation {
        Some("c" | "r" | "u") => ("after", false),
        Some("d") => ("before", true),
        Some("t") => return Err(refused("op", 0, "the table was truncated, which names no rows")),
        Some(other) => return Err(refused("op", 0, format!("'{other}' is no operation of Debezium's"))),
        None => return Err(refused("op", 0, "is missing: the record is no change of Debezium's")),
    };
    match envelope.get(member) {
        Some(row) if row.is_object() => Ok((row, deleted)),
        _ => Err(refused(member, 0, "is missing: a deleted row is known by what it was, with its key at least")),
    }
}

impl RowDecoder for JsonDecoder {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn begin(&mut self, _rows: usize, _bytes: usize) {
        self.rows.clear();
        self.deleted.clear();
    }

    fn push(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let json: Json = serde_json::from_slice(record).map_err(|error| {
            // Columns are counted from 1, and nearly every record is one line.
            let offset = if error.line() <= 1 { error.column().saturating_sub(1) } else { 0 };
            refused("", offset, format!("no JSON: {error}"))
        })?;
        let (value, deleted) = match self.envelope {
            Envelope::None => (&json, false),
            Envelope::Debezium => changed(&json)?,
        };
        let Json::Object(object) = value else { return Err(refused("", 0, "the record is no JSON object")) };
        self.rows.push(row(object, self.schema.fields(), self.times)?);
        self.deleted.push(deleted);
        Ok(())
    }

    fn push_absent(&mut self) -> Result<(), DecodeError> {
        self.rows.push(vec![Cell::Null; self.schema.fields().len()]);
        self.deleted.push(true);
        Ok(())
    }

    fn deleted(&self) -> &[bool] {
        &self.deleted
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let (columns, rows) = self.rows.finish(self.schema.fields())?;
        self.deleted.clear();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}
