//! Values against what PostgreSQL 15 prints and sends for the same ones.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, IntervalMonthDayNano, TimeUnit, i256};
use bytes::BytesMut;
use pgwire::api::Type;

use super::{Column, pg_type, type_modifier};

fn column(array: impl Array + 'static) -> (Column, Field) {
    let array: ArrayRef = Arc::new(array);
    let field = Field::new("c", array.data_type().clone(), true);
    (Column::new(&array, &field).unwrap(), field)
}

fn texts(array: impl Array + 'static) -> Vec<String> {
    let rows = array.len();
    let (column, _) = column(array);
    (0..rows)
        .map(|row| {
            if column.is_null(row) {
                return "∅".to_owned();
            }
            let mut out = BytesMut::new();
            column.write_text(row, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        })
        .collect()
}

fn binary(array: impl Array + 'static) -> Vec<u8> {
    let (column, _) = column(array);
    let mut out = BytesMut::new();
    column.write_binary(0, &mut out);
    out.to_vec()
}

#[test]
fn floats_are_the_shortest_in_postgres_layout() {
    let values = vec![1.0, 0.1, -2.5, 1e15, 123456789012345.0, 1.5e-5, 0.0001, 1e300, f64::NAN, f64::INFINITY, -0.0];
    assert_eq!(
        texts(Float64Array::from(values)),
        ["1", "0.1", "-2.5", "1e+15", "123456789012345", "1.5e-05", "0.0001", "1e+300", "NaN", "Infinity", "-0"]
    );
    assert_eq!(
        texts(Float32Array::from(vec![0.1, 1e6, 123456.0, 16777216.0])),
        ["0.1", "1e+06", "123456", "1.6777216e+07"]
    );
}

#[test]
fn times_have_no_more_digits_than_they_need() {
    let micros = vec![0, 1_700_000_000_123_400, -62_167_219_200_000_000 - 86_400_000_000];
    assert_eq!(
        texts(TimestampMicrosecondArray::from(micros.clone())),
        ["1970-01-01 00:00:00", "2023-11-14 22:13:20.1234", "0002-12-31 00:00:00 BC"]
    );
    assert_eq!(texts(TimestampMicrosecondArray::from(vec![0]).with_timezone("+05:30")), ["1970-01-01 05:30:00+05:30"]);
    assert_eq!(
        texts(TimestampNanosecondArray::from(vec![1_500]).with_timezone("UTC")),
        ["1970-01-01 00:00:00.000001+00"]
    );
    assert_eq!(texts(Date32Array::from(vec![Some(0), None, Some(19_675)])), ["1970-01-01", "∅", "2023-11-14"]);
    assert_eq!(texts(Time32MillisecondArray::from(vec![3_661_001])), ["01:01:01.001"]);
    assert_eq!(texts(DurationSecondArray::from(vec![-90, 360_000])), ["-00:01:30", "4 days 04:00:00"]);
}

#[test]
fn intervals_show_signs_like_postgres() {
    let values = vec![
        IntervalMonthDayNano::new(14, 3, 14_706_789_000_000),
        IntervalMonthDayNano::new(0, -1, 7_380_000_000_000),
        IntervalMonthDayNano::new(0, 0, 0),
        IntervalMonthDayNano::new(1, 0, 0),
        IntervalMonthDayNano::new(-1, 2, -1_000_000_000),
    ];
    assert_eq!(
        texts(IntervalMonthDayNanoArray::from(values)),
        ["1 year 2 mons 3 days 04:05:06.789", "-1 days +02:03:00", "00:00:00", "1 mon", "-1 mons +2 days -00:00:01"]
    );
}

#[test]
fn unsigned_and_decimals_are_numeric() {
    assert_eq!(texts(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
    let decimal = Decimal128Array::from(vec![Some(-1_234_500), Some(7), None]).with_precision_and_scale(10, 4).unwrap();
    assert_eq!(texts(decimal), ["-123.4500", "0.0007", "∅"]);
    let large = Decimal256Array::from(vec![i256::from_parts(1, 1)]).with_precision_and_scale(76, 0).unwrap();
    assert_eq!(texts(large), ["340282366920938463463374607431768211457"]);
    assert_eq!(type_modifier(&DataType::Decimal128(10, 4)), ((10 << 16) | 4) + 4);
    assert_eq!(pg_type(&Field::new("c", DataType::UInt64, true)), Type::NUMERIC);
    assert_eq!(pg_type(&Field::new("c", DataType::Int8, true)), Type::INT2);
}

#[test]
fn lists_and_records_are_quoted_where_needed() {
    let mut list = ListBuilder::new(StringBuilder::new());
    for item in [Some("plain"), Some(""), Some("null"), None, Some("a \"b\" \\ {c}")] {
        list.values().append_option(item);
    }
    list.append(true);
    list.append(true);
    list.append(false);
    assert_eq!(texts(list.finish()), [r#"{plain,"","null",NULL,"a \"b\" \\ {c}"}"#, "{}", "∅"]);

    let fields = Fields::from(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int32, true)]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("x, \"y\""), None])),
        Arc::new(Int32Array::from(vec![Some(1), None])),
    ];
    assert_eq!(texts(StructArray::new(fields, columns, None)), [r#"("x, ""y""",1)"#, "(,)"]);
    assert_eq!(texts(BinaryArray::from(vec![b"\x00\xffA".as_slice()])), ["\\x00ff41"]);
}

#[test]
fn maps_and_lists_of_lists_are_json() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    map.keys().append_value("a\"");
    map.values().append_value(1.0);
    map.keys().append_value("b");
    map.values().append_null();
    map.append(true).unwrap();
    let map = map.finish();
    assert_eq!(pg_type(&Field::new("c", map.data_type().clone(), true)), Type::JSON);
    assert_eq!(texts(map), [r#"{"a\"":1,"b":null}"#]);

    let inner = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let item = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
    let outer = ListArray::new(item, OffsetBuffer::from_lengths([2]), Arc::new(inner), None);
    assert_eq!(pg_type(&Field::new("c", outer.data_type().clone(), true)), Type::JSON);
    assert_eq!(texts(outer), ["[[1,null],null]"]);
}

#[test]
fn dictionaries_and_views_are_their_values() {
    let words: DictionaryArray<Int32Type> = [Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    assert_eq!(texts(words), ["a", "∅", "b", "a"]);
    assert_eq!(
        texts(StringViewArray::from(vec![Some("a long text, not inlined"), None])),
        ["a long text, not inlined", "∅"]
    );
    assert_eq!(texts(NullArray::new(1)), ["∅"]);
}

#[test]
fn binary_forms_are_those_of_postgres() {
    assert_eq!(binary(Int8Array::from(vec![-1])), [0xff, 0xff]);
    assert_eq!(binary(TimestampMillisecondArray::from(vec![946_684_800_001])), 1000i64.to_be_bytes());
    assert_eq!(binary(Date32Array::from(vec![10_958])), 1i32.to_be_bytes());
    // 12345.678 is 1 2345 . 6780: two groups before the point, weight 1, three digits after it.
    let decimal = Decimal128Array::from(vec![12_345_678]).with_precision_and_scale(10, 3).unwrap();
    let shorts: Vec<u8> = [3i16, 1, 0, 3, 1, 2345, 6780].iter().flat_map(|short| short.to_be_bytes()).collect();
    assert_eq!(binary(decimal), shorts);
    let small = Decimal128Array::from(vec![-5]).with_precision_and_scale(10, 6).unwrap();
    let shorts: Vec<u8> = [1i16, -2, 0x4000, 6, 500].iter().flat_map(|short| short.to_be_bytes()).collect();
    assert_eq!(binary(small), shorts);
    let zero = Decimal128Array::from(vec![0]).with_precision_and_scale(10, 2).unwrap();
    let shorts: Vec<u8> = [0i16, 0, 0, 2].iter().flat_map(|short| short.to_be_bytes()).collect();
    assert_eq!(binary(zero), shorts);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(7), None])]);
    let mut expected = Vec::new();
    for word in [1i32, 1, 23, 2, 1, 4, 7, -1] {
        expected.extend(word.to_be_bytes());
    }
    assert_eq!(binary(list), expected);
}

#[test]
fn a_time_that_does_not_fit_is_an_error_and_no_panic() {
    let array: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    assert!(Column::new(&array, &Field::new("c", DataType::Timestamp(TimeUnit::Second, None), true)).is_err());
    // Within the type's range, beyond the calendar's.
    assert_eq!(texts(TimestampMicrosecondArray::from(vec![i64::MAX])), ["infinity"]);
}
