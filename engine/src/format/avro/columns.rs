//! Avro's types as columns: those of Arrow's library, narrowed to the ones that SQL has.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};

use crate::error::{Error, Result};

/// Rows that a decoder holds at most; more than a connector's batch has.
pub(super) const BATCH_ROWS: usize = 16_384;

/// A decoder of frames with this id: written by `writer`, read by `reader`, of which these columns are wanted.
pub(super) fn library_decoder(id: u32, writer: &str, reader: &str, projection: &[usize]) -> Result<Decoder> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(id), AvroSchema::new(writer.to_owned()))?;
    let decoder = ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_active_fingerprint(Fingerprint::Id(id))
        .with_reader_schema(AvroSchema::new(reader.to_owned()))
        .with_projection(projection.to_vec())
        .with_batch_size(BATCH_ROWS)
        .build_decoder()?;
    Ok(decoder)
}

/// The columns of records of this schema.
pub(in crate::format) fn columns(text: &str, origin: &str) -> Result<SchemaRef> {
    let wrong = |words: String| Error::invalid(format!("{origin} is no Avro schema of records: {words}"));
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let fields = json.get("fields").and_then(serde_json::Value::as_array);
    let Some(fields) = fields.filter(|_| json.get("type").and_then(|t| t.as_str()) == Some("record")) else {
        return Err(wrong("its type is not 'record'".to_owned()));
    };
    let all: Vec<usize> = (0..fields.len()).collect();
    let decoder = library_decoder(0, text, text, &all).map_err(|error| wrong(error.message().to_owned()))?;
    let read = decoder.schema();
    let columns = read.fields().iter().map(|field| {
        let data_type = column_type(field.data_type(), field.name())?;
        Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
    });
    Ok(Arc::new(Schema::new(columns.collect::<Result<Vec<FieldRef>>>()?)))
}

/// The full name of a record, if the text is one's.
pub(in crate::format) fn record_name(text: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let name = json.get("name")?.as_str()?;
    match json.get("namespace").and_then(|namespace| namespace.as_str()) {
        Some(namespace) if !namespace.is_empty() && !name.contains('.') => Some(format!("{namespace}.{name}")),
        _ => Some(name.to_owned()),
    }
}

/// The column's type for one of the library's.
fn column_type(data_type: &DataType, name: &str) -> Result<DataType> {
    let inner = |field: &FieldRef| -> Result<FieldRef> {
        let data_type = column_type(field.data_type(), &format!("{name}.{}", field.name()))?;
        Ok(Arc::new(Field::new(field.name(), data_type, true)))
    };
    Ok(match data_type {
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..) => data_type.clone(),
        DataType::FixedSizeBinary(_) => DataType::Binary,
        // An enum.
        DataType::Dictionary(..) => DataType::Utf8,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::List(item) => DataType::List(Arc::new(Field::new_list_field(
            column_type(item.data_type(), &format!("{name}.items"))?,
            true,
        ))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Result<Fields>>()?),
        DataType::Map(entries, _) => {
            let DataType::Struct(parts) = entries.data_type() else {
                return Err(Error::internal("the entries of a map are no rows"));
            };
            let value = column_type(parts[1].data_type(), &format!("{name}.values"))?;
            let parts = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(parts), false)), false)
        }
        other => {
            let what = match other {
                DataType::Union(..) => "of several types".to_owned(),
                DataType::Null => "nothing but null".to_owned(),
                DataType::Time32(_) | DataType::Time64(_) => "a time of day".to_owned(),
                DataType::Interval(_) => "a duration".to_owned(),
                other => other.to_string(),
            };
            return Err(Error::not_supported(format!("the Avro field {name} is {what}, which can't be a column"))
                .with_hint("give a reader's schema without the field by descriptor = 'file:…'"));
        }
    })
}

/// An array of the library's as a column.
pub(super) fn as_column(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type { Ok(Arc::clone(array)) } else { Ok(cast(array, data_type)?) }
}
