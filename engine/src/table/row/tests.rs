use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Fields, IntervalMonthDayNano, Schema};

use super::*;

fn sample() -> RecordBatch {
    let tags = ListArray::from_iter_primitive::<types::Int32Type, _, _>([
        Some(vec![Some(1), None, Some(3)]),
        None,
        Some(vec![]),
    ]);
    let place: Fields = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)].into();
    let place = StructArray::new(
        place,
        vec![
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
            Arc::new(StringArray::from(vec![Some("a"), None, None])),
        ],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let interval = IntervalMonthDayNano { months: 1, days: -2, nanoseconds: 3 };
    RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::new(Int64Array::from(vec![Some(-1), None, Some(7)])) as ArrayRef, true),
        ("b", Arc::new(StringArray::from(vec![Some(""), Some("é"), None])), true),
        ("c", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])), true),
        ("d", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None])), true),
        ("e", Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None, Some(-5)]).with_timezone("+00:00")), true),
        (
            "f",
            Arc::new(
                Decimal128Array::from(vec![Some(-5), None, Some(1 << 70)]).with_precision_and_scale(38, 10).unwrap(),
            ),
            true,
        ),
        ("g", Arc::new(tags), true),
        ("h", Arc::new(place), true),
        ("i", Arc::new(IntervalMonthDayNanoArray::from(vec![Some(interval), None, None])), true),
    ])
    .unwrap()
}

fn columns(schema: &Schema) -> Vec<StoredColumn> {
    let column = |(number, field): (usize, &FieldRef)| StoredColumn {
        number: number as u32,
        field: Arc::clone(field),
        missing: None,
    };
    schema.fields().iter().enumerate().map(column).collect()
}

#[test]
fn rows_come_back() {
    let rows = sample();
    // A slice has an offset, which must not matter.
    for rows in [rows.clone(), rows.slice(1, 2)] {
        let numbers: Vec<u32> = (0..rows.num_columns() as u32).collect();
        let mut decoder = Decoder::new(columns(&rows.schema()), rows.schema()).unwrap();
        for row in 0..rows.num_rows() {
            let mut bytes = Vec::new();
            encode(&numbers, &rows, row, &mut bytes).unwrap();
            decoder.push(&bytes).unwrap();
        }
        assert_eq!(decoder.rows(), rows.num_rows());
        assert_eq!(decoder.finish().unwrap(), rows);
        assert_eq!(decoder.finish().unwrap().num_rows(), 0);
    }
}

#[test]
fn columns_come_and_go() {
    let rows = sample();
    let mut bytes = Vec::new();
    encode(&(0..rows.num_columns() as u32).collect::<Vec<_>>(), &rows, 0, &mut bytes).unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("new", DataType::Int32, true),
        Field::new("b renamed", DataType::Utf8, true),
        Field::new("new and null", DataType::Utf8, true),
    ]));
    let mut wanted = columns(&schema);
    wanted[0].number = 20;
    wanted[0].missing = Some(9_i32.to_le_bytes().to_vec());
    wanted[2].number = 21;
    let mut decoder = Decoder::new(wanted, schema).unwrap();
    decoder.push(&bytes).unwrap();
    let decoded = decoder.finish().unwrap();
    assert_eq!(decoded.column(0).as_primitive::<types::Int32Type>().value(0), 9);
    assert_eq!(decoded.column(1).as_string::<i32>().value(0), "");
    assert!(decoded.column(2).is_null(0));
}

#[test]
fn the_form_is_frozen() {
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::new(Int64Array::from(vec![-2])) as ArrayRef, true),
        ("b", Arc::new(StringArray::from(vec![None::<&str>])), true),
        ("c", Arc::new(ListArray::from_iter_primitive::<types::Int32Type, _, _>([Some(vec![Some(1), None])])), true),
    ])
    .unwrap();
    let mut bytes = Vec::new();
    encode(&[1, 2, 200], &rows, 0, &mut bytes).unwrap();
    let expected =
        [&[1][..], &[2, 8, 254, 255, 255, 255, 255, 255, 255, 255], &[5], &[0x90, 3, 7, 2, 5, 1, 0, 0, 0, 0]];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn damage_is_told() {
    let rows = sample();
    let numbers: Vec<u32> = (0..rows.num_columns() as u32).collect();
    let mut bytes = Vec::new();
    encode(&numbers, &rows, 0, &mut bytes).unwrap();
    for length in 0..bytes.len() {
        let mut decoder = Decoder::new(columns(&rows.schema()), rows.schema()).unwrap();
        // Cut at the end of a column it is a row of fewer columns; nothing panics anywhere.
        if let Err(error) = decoder.push(&bytes[..length]) {
            assert!(error.message().contains("damaged"), "{error}");
        }
    }
}
