use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};

use super::columns::{columns, record_name};
use super::decoder::{AvroDecoder, Writers};
use super::encoder::AvroEncoder;
use crate::format::decoder::RowDecoder;
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::format::json::decoder::{Envelope, JsonDecoder};
use crate::format::json::read::TimeNumbers;
use crate::format::testing::{schema, shown};

const ROWS: [&str; 3] = [
    r#"{"id":7,"name":"a","price":1.50,"at":"2026-01-02T03:04:05.500Z","day":"2026-01-02","parts":["x",null],"leg":{"lat":-0.5},"live":true}"#,
    r#"{"id":8,"name":null,"price":null,"at":null,"day":null,"parts":null,"leg":null,"live":null}"#,
    r#"{"id":9,"name":"","price":-0.01,"at":"1969-12-31T23:59:59Z","day":"1969-12-31","parts":[],"leg":{"lat":null},"live":false}"#,
];

/// The rows as Avro, and their schema.
fn encoded() -> (EncodedRows, String) {
    let schema = schema(DataType::Utf8);
    let mut rows = JsonDecoder::new(Arc::clone(&schema), TimeNumbers::Millis, Envelope::None);
    ROWS.iter().for_each(|row| rows.push(row.as_bytes()).unwrap());
    let (mut encoder, text) = AvroEncoder::new(&schema, None).unwrap();
    let mut out = EncodedRows::default();
    encoder.encode(&rows.finish().unwrap(), &mut out).unwrap();
    (out, text)
}

#[test]
fn there_and_back() {
    let (records, text) = encoded();
    assert_eq!(record_name(&text).as_deref(), Some("Row"));
    let schema = columns(&text, "x").unwrap();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let mut decoder = AvroDecoder::new(Arc::clone(&schema), &text, &all, Writers::Own).unwrap();
    records.iter().for_each(|record| decoder.push(record).unwrap());
    assert_eq!(shown(&decoder.finish().unwrap()), ROWS);
    // Columns alone, and none.
    let two = Arc::new(schema.project(&[4, 0]).unwrap());
    let mut decoder = AvroDecoder::new(two, &text, &[4, 0], Writers::Own).unwrap();
    records.iter().for_each(|record| decoder.push(record).unwrap());
    assert_eq!(shown(&decoder.finish().unwrap())[1], r#"{"day":null,"id":8}"#);
    let mut decoder = AvroDecoder::new(Arc::new(Schema::empty()), &text, &[], Writers::Own).unwrap();
    records.iter().for_each(|record| decoder.push(record).unwrap());
    assert_eq!(decoder.finish().unwrap().num_rows(), 3);
}

#[test]
fn bad_records_leave_no_trace() {
    let (records, text) = encoded();
    let schema = Arc::new(columns(&text, "x").unwrap().project(&[0, 5]).unwrap());
    let mut decoder = AvroDecoder::new(schema, &text, &[0, 5], Writers::Own).unwrap();
    for round in 0..2 {
        decoder.begin(8, 0);
        let mut expected = Vec::new();
        for (number, record) in records.iter().enumerate() {
            for cut in 0..record.len() {
                assert!(decoder.push(&record[..cut]).is_err(), "round {round}, record {number} cut at {cut}");
            }
            let longer = [record, b"\0"].concat();
            assert!(decoder.push(&longer).unwrap_err().reason.contains("goes on behind"));
            decoder.push(record).unwrap();
            expected.push(7 + number as i64);
        }
        let batch = decoder.finish().unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), expected.as_slice());
    }
}

#[test]
fn rows_that_are_gone_stand_where_they_came() {
    let (records, text) = encoded();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let mut decoder = AvroDecoder::new(schema, &text, &[0], Writers::Own).unwrap();
    decoder.push_absent().unwrap();
    decoder.push(records.row(0)).unwrap();
    decoder.push_absent().unwrap();
    decoder.push_absent().unwrap();
    decoder.push(records.row(1)).unwrap();
    let batch = decoder.finish().unwrap();
    let ids: Vec<Option<i64>> = batch.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(ids, [None, Some(7), None, None, Some(8)]);
}

#[test]
fn types_of_avro_are_columns_or_refused() {
    let of = |field: &str| {
        columns(&format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {field}}}]}}"#), "x")
    };
    for (field, data_type) in [
        (r#""int""#, DataType::Int32),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, DataType::Utf8),
        (r#"{"type": "fixed", "name": "F", "size": 4}"#, DataType::Binary),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, DataType::Timestamp(TimeUnit::Microsecond, None)),
        (r#"["null", "string"]"#, DataType::Utf8),
    ] {
        assert_eq!(of(field).unwrap().field(0).data_type(), &data_type, "{field}");
    }
    assert!(of(r#"["null", "string"]"#).unwrap().field(0).is_nullable());
    assert!(of(r#"["int", "string"]"#).unwrap_err().message().contains("field f is of several types"));
    assert!(columns("\"long\"", "x").unwrap_err().message().contains("its type is not 'record'"));
    assert!(columns("{", "x").unwrap_err().message().contains("x is no Avro schema"));
    let odd = Schema::new(vec![Field::new("a-b", DataType::Int64, true)]);
    assert!(AvroEncoder::new(&odd, None).err().unwrap().message().contains("can't be a field of Avro"));
}
