//! The encoder: a record batch in, one record of bytes for each row out.
//!
//! `plan` matches columns to fields once, when a sink is made, and refuses what does not fit. For each batch `bind`
//! turns the columns into arrays of exactly the types that `write` knows, and checks all that depends on values;
//! writing cannot fail then.

mod bind;
mod buffer;
mod plan;
mod range;
mod write;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use prost_reflect::MessageDescriptor;

use self::bind::bind_message;
use self::buffer::Buffer;
use self::plan::MessageShape;
use self::write::write_fields;
use crate::error::Result;

/// Records, one after the other in one buffer.
#[derive(Debug, Default, Clone)]
pub struct EncodedRows {
    bytes: Buffer,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl EncodedRows {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The record of row `row`.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = match row.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.written().get(start..*self.ends.get(row)?)
    }

    /// The records in row order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|row| self.get(row))
    }

    /// Bytes of all records.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Encodes batches of one schema as records of one message.
///
/// Columns are matched to fields by name, exactly or else without regard to case. A column needs a field; a field without
/// a column stays absent, which a proto2 `required` one may not. NULL is absent as well. The types that a field takes
/// are those that decoding gives it (see [`crate::schema::types`]) and others whose every value fits, or is checked to
/// fit: any integer or `NUMERIC` without fraction for an integer field, any string type, any unit of timestamps and
/// durations, a number for an enum, the message's own bytes for a message.
pub struct ProtobufEncoder {
    shape: MessageShape,
    schema: Schema,
}

impl ProtobufEncoder {
    /// An encoder of batches of `schema` as `message`.
    pub fn new(message: &MessageDescriptor, schema: &Schema) -> Result<Self> {
        let shape = MessageShape::of_message(message, schema.fields(), "")?;
        Ok(Self { shape, schema: schema.clone() })
    }

    /// Encodes the rows of `batch`, in order, in place of what `out` held. An error names the column and the value;
    /// `out` holds nothing of use then.
    pub fn encode(&self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        debug_assert_eq!(batch.num_columns(), self.schema.fields().len());
        out.clear();
        let rows = batch.num_rows();
        let columns = bind_message(&self.shape, batch.columns(), rows, None)?;
        out.ends.reserve(rows);
        for row in 0..rows {
            write_fields(&columns, row, &mut out.bytes);
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}
