//! Bytes to rows: what a connector asks of a format.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::fmt;

use crate::schema::registry::ids::Bell;

/// Turns encoded records into record batches, a batch at a time: `begin`, `push` for each record, `finish`.
///
/// A record that [`push`](RowDecoder::push) refuses is not part of the batch: after the error the decoder stands as it
/// did before the call, and the batch goes on with the next record.
pub trait RowDecoder: Send {
    /// The columns that the batches have.
    fn schema(&self) -> SchemaRef;

    /// Starts a batch of at most about `rows` records with `bytes` bytes together. A batch that was not finished is
    /// given up.
    fn begin(&mut self, rows: usize, bytes: usize);

    /// Adds one record as one row.
    fn push(&mut self, record: &[u8]) -> Result<(), DecodeError>;

    /// Adds a row without a record: all NULL, or the defaults of its type. Only tables of a topic have such, where the value
    /// of a key is gone.
    fn push_absent(&mut self) -> Result<(), DecodeError>;

    /// Which rows of the batch say that a row is gone; empty where the format does not know such.
    fn deleted(&self) -> &[bool] {
        &[]
    }

    /// Whether a record without a value that is no row is as it should be.
    fn expects_tombstones(&self) -> bool {
        false
    }

    /// Adds a record with its key, of which the value may be absent. Answers whether it is a row: a record without a value
    /// is none, unless a key says which row is gone.
    fn push_keyed(&mut self, _key: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, DecodeError> {
        match value {
            Some(value) => self.push(value).map(|()| true),
            None => Ok(false),
        }
    }

    /// Sets what to call when a record that [awaits](DecodeError::awaits) its schema can be pushed again.
    fn ring(&mut self, _bell: &Bell) {}

    /// The rows of the records that were pushed since [`begin`](RowDecoder::begin).
    fn finish(&mut self) -> crate::Result<RecordBatch>;
}

/// Why a record cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The field, from the root, with dots (`order.items.price`); empty where the fault lies outside of any field.
    pub field: String,
    /// Where in the record, in bytes from its start.
    pub offset: usize,
    /// What is wrong, in a few words.
    pub reason: String,
    /// The record may be fine and found no room: finish the batch, begin another and push the record again.
    pub batch_full: bool,
    /// The record may be fine and its schema is not known yet: push it again when the [bell](RowDecoder::ring) has rung. The
    /// reason says what is waited for.
    pub awaits: bool,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "field {}, ", self.field)?;
        }
        write!(f, "byte {}: {}", self.offset, self.reason)
    }
}

impl std::error::Error for DecodeError {}
