//! The encoder: a record batch in, one record of bytes for each row out.
//!
//! `plan` matches columns to fields once, when a sink is made, and refuses what does not fit. For each batch `bind`
//! turns the columns into arrays of exactly the types that `write` knows, and checks all that depends on values;
//! writing cannot fail then.

mod bind;
mod buffer;
mod fit;
mod plan;
mod range;
mod word;
mod write;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use prost_reflect::MessageDescriptor;

use self::bind::bind_message;
use self::buffer::Buffer;
use self::plan::{MessageShape, Unknown};
use self::write::write_fields;
use crate::error::{Error, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};

/// Encodes batches of one schema as records of one message.
///
/// Columns are matched to fields by name, exactly or else without regard to case; a column `location.lat` goes to the field
/// `lat` of the message `location`, which is there where any of its columns has a value. A column needs a field; a field without
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
        let shape = MessageShape::of_message(message, schema.fields(), "", Unknown::Refused)?;
        Ok(Self { shape, schema: schema.clone() })
    }

    /// The same, that leaves columns out which have no field; at least one must have one.
    pub fn ignoring_unknown(message: &MessageDescriptor, schema: &Schema) -> Result<Self> {
        let shape = MessageShape::of_message(message, schema.fields(), "", Unknown::Ignored)?;
        if shape.fields.is_empty() {
            let text = format!("no column has a field in the message {}", message.full_name());
            return Err(Error::invalid(text).with_hint("name the columns like the message's fields, with AS"));
        }
        Ok(Self { shape, schema: schema.clone() })
    }
}

impl RowEncoder for ProtobufEncoder {
    /// An error names the column and the value; nothing is appended then.
    fn encode(&mut self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        debug_assert_eq!(batch.num_columns(), self.schema.fields().len());
        let rows = batch.num_rows();
        let columns = bind_message(&self.shape, batch.columns(), rows, None)?;
        for row in 0..rows {
            write_fields(&columns, row, Buffer::new(out.buffer())).settle();
            out.end_row();
        }
        Ok(())
    }
}
