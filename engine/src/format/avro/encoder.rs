//! Batches to Avro records.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_avro::schema::{AVRO_NAME_METADATA_KEY, AvroSchema, SCHEMA_METADATA_KEY};
use arrow_avro::writer::format::AvroBinaryFormat;
use arrow_avro::writer::{Encoder, WriterBuilder};

use super::columns::as_column;
use crate::error::{Error, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};

/// The name of records whose schema is made of a query's columns.
const RECORD_NAME: &str = "Row";

/// Writes each row as one datum.
pub(in crate::format) struct AvroEncoder {
    encoder: Encoder,
    /// The rows' columns in the types that Avro has.
    schema: SchemaRef,
}

impl AvroEncoder {
    /// An encoder of rows of `schema`, by an Avro schema or by one made of the columns. Answers the schema's text as well.
    pub(in crate::format) fn new(schema: &Schema, given: Option<&str>) -> Result<(Self, String)> {
        let fields = schema.fields().iter().map(written).collect::<Result<Fields>>()?;
        for field in &fields {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !field.name().chars().all(plain) || field.name().starts_with(|c: char| c.is_ascii_digit()) {
                return Err(Error::invalid(format!("the column \"{}\" can't be a field of Avro", field.name()))
                    .with_hint("its name has to be of letters, digits and '_': rename it with AS"));
            }
        }
        let mut metadata = HashMap::from([(AVRO_NAME_METADATA_KEY.to_owned(), RECORD_NAME.to_owned())]);
        let refused = |words: String| {
            Error::invalid(format!("the columns can't be written as Avro: {words}"))
                .with_hint("cast the column, or leave it out")
        };
        let text = match given {
            Some(text) => text.to_owned(),
            None => {
                let named = Schema::new_with_metadata(fields.clone(), metadata.clone());
                AvroSchema::try_from(&named).map_err(|error| refused(error.to_string()))?.json_string
            }
        };
        metadata.insert(SCHEMA_METADATA_KEY.to_owned(), text.clone());
        let encoder = WriterBuilder::new(Schema::new_with_metadata(fields, metadata))
            .build_encoder::<AvroBinaryFormat>()
            .map_err(|error| refused(error.to_string()))?;
        let schema = encoder.schema();
        Ok((Self { encoder, schema }, text))
    }
}

/// A column in the type that Avro has for it.
fn written(field: &FieldRef) -> Result<FieldRef> {
    let data_type = match field.data_type() {
        DataType::Int8 | DataType::Int16 => DataType::Int32,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        // UTC, as SQL's timestamps are.
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        DataType::Date64 => DataType::Date32,
        DataType::List(item) | DataType::LargeList(item) => DataType::List(written(item)?),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(written).collect::<Result<Fields>>()?),
        DataType::Map(entries, sorted) => DataType::Map(written(entries)?, *sorted),
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..) => field.data_type().clone(),
        other => {
            return Err(Error::not_supported(format!(
                "the column {} is {other}, which Avro has no values of",
                field.name()
            ))
            .with_hint("cast it to a number or a text"));
        }
    };
    Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
}

impl RowEncoder for AvroEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        let columns = self.schema.fields().iter().zip(rows.columns());
        let columns = columns.map(|(field, column)| as_column(column, field.data_type())).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let batch = RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?;
        self.encoder
            .encode(&batch)
            .map_err(|error| Error::new(crate::ErrorKind::Data, format!("a row can't be written as Avro: {error}")))?;
        let encoded = self.encoder.flush();
        for row in encoded.iter() {
            out.buffer().extend_from_slice(&row);
            out.end_row();
        }
        Ok(())
    }
}
