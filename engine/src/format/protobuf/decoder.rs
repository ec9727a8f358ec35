//! The decoder: records in, one record batch out.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use prost_reflect::MessageDescriptor;

use super::compile::{Compiled, compile};
use super::decode::Decoding;
use super::error::{DecodeError, Reason};
use super::trouble::Trouble;
use crate::error::Result;
use crate::format::decoder::{self, RowDecoder};
use crate::schema::{Leaves, TypeRules, schema_by};

/// Bytes of records in one batch: offsets are 32 bits wide, and a column's text is at most as long as the records.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// Decodes records of one message into batches of the columns asked for.
///
/// ```text
/// decoder.begin(messages.len(), bytes);
/// for message in messages {
///     if let Err(error) = decoder.push(message) { … }      // that record is left out, the others stay
/// }
/// let batch = decoder.finish()?;
/// ```
///
/// The decoder keeps the buffers of the last batch in sight and takes their memory again once nobody else holds it, so
/// one decoder should serve a reader for all of its life.
pub struct ProtobufDecoder {
    compiled: Compiled,
    schema: SchemaRef,
    bytes: usize,
}

impl ProtobufDecoder {
    /// A decoder for the columns at `projection`, indices into [`arrow_schema`](crate::schema::arrow_schema)'s fields, in that order. No column at
    /// all is allowed: the batches count rows, and malformed records are still found.
    pub fn new(message: &MessageDescriptor, projection: &[usize]) -> Result<Self> {
        Self::by_rules(message, projection, &TypeRules::default())
    }

    /// The same for the columns that the message has by `rules`: [`schema_by`].
    pub fn by_rules(message: &MessageDescriptor, projection: &[usize], rules: &TypeRules) -> Result<Self> {
        Self::of_leaves(message, projection, &[], rules)
    }

    /// The same, of which these parts are read (none given: all): of columns that are rows, fields that are not among them
    /// are skipped, and NULL.
    pub fn of_leaves(
        message: &MessageDescriptor,
        projection: &[usize],
        leaves: &[Leaves],
        rules: &TypeRules,
    ) -> Result<Self> {
        let schema = Arc::new(schema_by(message, rules)?.project(projection)?);
        let mut compiled = compile(message, (projection, leaves), schema.fields(), rules)?;
        compiled.store.clear();
        Ok(Self { compiled, schema, bytes: 0 })
    }

    /// The batches' schema: the message's, projected.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Begins a batch that will have about `rows` rows from records of `bytes` bytes in all (more are allowed, and cost
    /// growing; fewer waste memory for as long as the batch lives). Rows that were not finished are forgotten.
    pub fn begin(&mut self, rows: usize, bytes: usize) {
        self.bytes = 0;
        self.compiled.store.begin(rows, bytes.min(MAX_BATCH_BYTES));
    }

    /// Rows of the batch so far.
    pub fn rows(&self) -> usize {
        self.compiled.store.tables.first().map_or(0, |table| table.rows)
    }

    /// Decodes a record into the next row. After an error the record has left no trace and the batch can go on; if
    /// [`DecodeError::is_batch_full`], finish it and push the record again.
    pub fn push(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let rows = self.rows();
        let Compiled { plan, store, trouble, .. } = &mut self.compiled;
        let full = |reason| {
            // Alone in its batch, the record is what is too large.
            let reason = if rows == 0 { Reason::TooLarge } else { reason };
            DecodeError { path: plan.name.clone(), offset: 0, reason }
        };
        if record.len() > MAX_BATCH_BYTES - self.bytes {
            return Err(full(Reason::BatchFull));
        }
        let Ok(row) = store.add_row(0) else { return Err(full(Reason::BatchFull)) };
        self.bytes += record.len();
        if Decoding::new(plan, store, trouble, false).record(record, row).is_err() {
            return self.push_again(record, row);
        }
        Ok(())
    }

    /// Finds where and why a record is malformed that could not be decoded into row `row`.
    #[cold]
    #[inline(never)]
    fn push_again(&mut self, record: &[u8], row: usize) -> Result<(), DecodeError> {
        let Compiled { plan, store, trouble, .. } = &mut self.compiled;
        store.truncate(0, row);
        *trouble = Trouble::default();
        let mut decoding = Decoding::new(plan, store, trouble, true);
        decoding.again(record, row).map_err(|mut error| {
            store.truncate(0, row);
            *trouble = Trouble::default();
            if error.reason == Reason::TooLarge && row > 0 {
                error.reason = Reason::BatchFull;
            }
            error
        })
    }

    /// The batch of all rows since [`begin`](Self::begin).
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let rows = self.rows();
        let Compiled { store, outputs, .. } = &mut self.compiled;
        let columns = outputs.iter().map(|output| output.build(store, rows, None)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        self.bytes = 0;
        self.compiled.store.clear();
        Ok(batch)
    }
}

impl RowDecoder for ProtobufDecoder {
    fn schema(&self) -> SchemaRef {
        ProtobufDecoder::schema(self)
    }

    fn begin(&mut self, rows: usize, bytes: usize) {
        ProtobufDecoder::begin(self, rows, bytes);
    }

    fn push(&mut self, record: &[u8]) -> Result<(), decoder::DecodeError> {
        ProtobufDecoder::push(self, record).map_err(|error| {
            // Our path begins with the message's name, the connectors' with a field.
            let field = error.path.strip_prefix(&self.compiled.plan.name).unwrap_or(&error.path);
            decoder::DecodeError {
                batch_full: error.is_batch_full(),
                awaits: false,
                field: field.trim_start_matches('.').to_owned(),
                offset: error.offset,
                reason: error.reason.to_string(),
            }
        })
    }

    fn push_absent(&mut self) -> Result<(), decoder::DecodeError> {
        let full = |reason: Reason| decoder::DecodeError {
            field: String::new(),
            offset: 0,
            reason: reason.to_string(),
            batch_full: true,
            awaits: false,
        };
        self.compiled.store.add_row(0).map(drop).map_err(full)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        ProtobufDecoder::finish(self)
    }
}
