//! What the tests of formats that are written in columns share.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use super::encoder::{EncodedRows, RowEncoder};
use super::json::encoder::JsonEncoder;

/// A column of each kind; the list's items are of this type.
pub(super) fn schema(items: DataType) -> SchemaRef {
    let item = Arc::new(Field::new_list_field(items, true));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("day", DataType::Date32, true),
        Field::new("parts", DataType::List(item), true),
        Field::new("leg", DataType::Struct(vec![Field::new("lat", DataType::Float64, true)].into()), true),
        Field::new("live", DataType::Boolean, true),
    ]))
}

/// Rows as JSON, to compare them.
pub(super) fn shown(batch: &RecordBatch) -> Vec<String> {
    let mut out = EncodedRows::default();
    JsonEncoder::new(&batch.schema()).unwrap().encode(batch, &mut out).unwrap();
    out.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect()
}
