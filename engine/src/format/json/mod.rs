//! JSON: a record is one object, a column the member of its name.
//!
//! * [`read`]: a JSON value → a value of a column's type, or why it is none
//! * [`decoder`], [`encoder`]: records ↔ batches
//! * [`schema`]: JSON Schema ↔ columns

pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod read;
pub(crate) mod schema;

use arrow::datatypes::SchemaRef;

use super::cells::check_type;
use super::decoder::RowDecoder;
use crate::error::Result;

/// Refuses columns that JSON can't say.
pub(crate) fn check_json_columns(columns: &SchemaRef) -> Result<()> {
    columns.fields().iter().try_for_each(|field| check_type(field, "JSON"))
}

/// A decoder of objects with these columns.
pub(crate) fn json_lines_decoder(columns: &SchemaRef) -> Box<dyn RowDecoder> {
    Box::new(decoder::JsonDecoder::new(SchemaRef::clone(columns), read::TimeNumbers::Millis, decoder::Envelope::None))
}

#[cfg(test)]
mod tests;
