//! Batches to records.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, IntervalMonthDayNano, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use prost::Message;
use prost_reflect::{DynamicMessage, Value};

use super::source::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::format::protobuf::oracle::protos::{ALL, message};
use crate::format::protobuf::oracle::row::check_row;
use crate::format::protobuf::{ProtobufDecoder, ProtobufEncoder};
use crate::schema::arrow_schema;

/// Encodes columns; the message of each row as the oracle reads it.
fn encode(name: &str, columns: Vec<(&str, ArrayRef)>) -> Result<Vec<DynamicMessage>> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    let mut encoder = ProtobufEncoder::new(&message(name), &batch.schema())?;
    let mut out = EncodedRows::default();
    encoder.encode(&batch, &mut out)?;
    assert_eq!(out.len(), batch.num_rows());
    Ok(out.iter().map(|record| DynamicMessage::decode(message(name), record).unwrap()).collect())
}

fn column(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn error_of(name: &str, columns: Vec<(&str, ArrayRef)>) -> Error {
    encode(name, columns).unwrap_err()
}

#[test]
fn what_was_decoded_is_encoded_again() {
    for name in ALL {
        let descriptor = message(name);
        let fields = arrow_schema(&descriptor).unwrap().fields().len();
        for seed in 0..30 {
            let mut source = Source::new(seed);
            // Any part of the columns, in any order; required ones always.
            let mut projection: Vec<usize> = (0..fields).filter(|_| source.chance(70)).collect();
            if name.starts_with("p2.") || name.contains(".v2.") || name.contains(".editions.") {
                projection = (0..fields).collect();
            }
            (1..projection.len()).for_each(|n| projection.swap(n, source.below(n + 1)));
            let mut decoder = ProtobufDecoder::new(&descriptor, &projection).unwrap();
            for _ in 0..20 {
                decoder.push(&source.message(&descriptor, 0).encode_to_vec()).unwrap();
            }
            let batch = decoder.finish().unwrap();
            let mut encoder = ProtobufEncoder::new(&descriptor, &batch.schema()).unwrap();
            // A slice, so that offsets do not begin at 0.
            for batch in [batch.clone(), batch.slice(7, 9)] {
                let mut out = EncodedRows::default();
                encoder.encode(&batch, &mut out).unwrap();
                assert_eq!(out.len(), batch.num_rows());
                for (row, record) in out.iter().enumerate() {
                    let message = DynamicMessage::decode(descriptor.clone(), record).unwrap();
                    check_row(&batch, row, &message).unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
                }
            }
        }
    }
}

#[test]
fn bytes_are_those_of_the_oracle() {
    // Without maps (no order) the oracle's bytes are ours.
    for name in ["p3.Scalars", "p3.Optionals", "p3.Lists", "p3.Unpacked", "p3.Leg", "p3.Choice"] {
        let descriptor = message(name);
        let all: Vec<usize> = (0..arrow_schema(&descriptor).unwrap().fields().len()).collect();
        for seed in 0..20 {
            let mut source = Source::new(seed);
            let message =
                DynamicMessage::decode(descriptor.clone(), source.message(&descriptor, 0).encode_to_vec().as_slice());
            let mut expected = message.unwrap();
            // Finer than microseconds is cut off.
            expected.clear_field_by_name("k");
            expected.clear_field_by_name("at");
            let mut decoder = ProtobufDecoder::new(&descriptor, &all).unwrap();
            let bytes = expected.encode_to_vec();
            decoder.push(&bytes).unwrap();
            let batch = decoder.finish().unwrap();
            let mut out = EncodedRows::default();
            ProtobufEncoder::new(&descriptor, &batch.schema()).unwrap().encode(&batch, &mut out).unwrap();
            assert_eq!(out.get(0), Some(bytes.as_slice()), "{name}, seed {seed}");
        }
    }
}

#[test]
fn other_types_whose_values_fit() {
    let rows = encode(
        "p3.Scalars",
        vec![
            ("a", column(Int64Array::from(vec![Some(-7), None]))),
            ("d", column(UInt64Array::from(vec![4_000_000_000, 1]))),
            ("f", column(Decimal128Array::from(vec![-5, 6]).with_precision_and_scale(30, 0).unwrap())),
            ("i", column(Int32Array::from(vec![8, 9]))),
            ("j", column(Decimal128Array::from(vec![u64::MAX as i128, 0]).with_precision_and_scale(30, 0).unwrap())),
            ("m", column(Int32Array::from(vec![3, 4]))),
            // Names are matched without regard to case.
            ("N", column(StringArray::from(vec!["x", "y"]))),
            ("o", column(BinaryViewArray::from(vec![b"b".as_slice(), b""]))),
            ("p", column(StringArray::from(vec!["A_COLOR_WITH_A_LONG_NAME", "77"]))),
        ],
    )
    .unwrap();
    let get = |row: usize, name: &str| rows[row].get_field_by_name(name).unwrap().into_owned();
    assert_eq!(get(0, "a"), Value::I32(-7));
    assert_eq!(get(1, "a"), Value::I32(0));
    assert_eq!(get(0, "d"), Value::U32(4_000_000_000));
    assert_eq!(get(0, "f"), Value::I64(-5));
    assert_eq!(get(1, "i"), Value::U64(9));
    assert_eq!(get(0, "j"), Value::U64(u64::MAX));
    assert_eq!(get(0, "m"), Value::F64(3.0));
    assert_eq!(get(1, "n"), Value::String("y".to_owned()));
    assert_eq!(get(0, "o"), Value::Bytes(b"b".to_vec().into()));
    assert_eq!(get(0, "p"), Value::EnumNumber(2));
    assert_eq!(get(1, "p"), Value::EnumNumber(77));
    let rows = encode("p3.Scalars", vec![("p", column(Int64Array::from(vec![-7])))]).unwrap();
    assert_eq!(rows[0].get_field_by_name("p").unwrap().as_enum_number(), Some(-7));
    let dictionary: DictionaryArray<Int32Type> = ["RED", "GREEN"].into_iter().collect();
    let rows = encode("p3.Scalars", vec![("p", column(dictionary))]).unwrap();
    assert_eq!(rows[1].get_field_by_name("p").unwrap().as_enum_number(), Some(1));
}

#[test]
fn timestamps_and_durations_of_every_unit() {
    let micros = column(TimestampMicrosecondArray::from(vec![Some(-1_500_000), Some(2_000_000), None]));
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        let array = cast(&micros, &DataType::Timestamp(unit, Some("UTC".into()))).unwrap();
        let rows = encode("p3.Times", vec![("a", array)]).unwrap();
        let part = |row: usize, number: u32| {
            let time = rows[row].get_field_by_name("a").unwrap().into_owned();
            time.as_message().unwrap().get_field_by_number(number).unwrap().into_owned()
        };
        let exact = unit != TimeUnit::Second;
        assert_eq!(part(0, 1), Value::I64(if exact { -2 } else { -1 }), "{unit:?}");
        assert_eq!(part(0, 2), Value::I32(if exact { 500_000_000 } else { 0 }));
        assert_eq!((part(1, 1), part(1, 2)), (Value::I64(2), Value::I32(0)));
        assert!(!rows[2].has_field_by_name("a"));
    }
    let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(0, 1, -1)]);
    for array in [column(interval), column(DurationNanosecondArray::from(vec![86_400_000_000_000 - 1]))] {
        let rows = encode("p3.Times", vec![("b", array)]).unwrap();
        let time = rows[0].get_field_by_name("b").unwrap().into_owned();
        let part = |number| time.as_message().unwrap().get_field_by_number(number).unwrap().into_owned();
        assert_eq!((part(1), part(2)), (Value::I64(86_399), Value::I32(999_999_999)));
    }
    let months = column(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 0, 0)]));
    assert!(error_of("p3.Times", vec![("b", months)]).message().contains("has months"));
    let far = column(TimestampSecondArray::from(vec![253_402_300_800]));
    assert!(error_of("p3.Times", vec![("a", far)]).message().contains("outside of the years 1 to 9999"));
}

#[test]
fn values_that_do_not_fit_are_named() {
    let error = error_of("p3.Scalars", vec![("a", column(Int64Array::from(vec![1, 1 << 31])))]);
    assert_eq!(error.message(), "the column a has the value 2147483648, the field holds -2147483648 to 2147483647");
    assert_eq!(error.kind(), ErrorKind::Data);
    let error = error_of("p3.Scalars", vec![("d", column(Int64Array::from(vec![-1])))]);
    assert_eq!(error.message(), "the column d has the value -1, the field holds 0 to 4294967295");
    let error = error_of("p3.Scalars", vec![("i", column(Int64Array::from(vec![-1])))]);
    assert!(error.message().contains("the value -1"), "{error}");
    let error = error_of("p3.Scalars", vec![("p", column(StringArray::from(vec!["BLUE"])))]);
    assert!(error.message().contains("has the value 'BLUE'"), "{error}");
    assert!(error.hint().unwrap().contains("GREEN"));
    // What is NULL is not looked at.
    let hidden = Int64Array::new(vec![1 << 40].into(), Some(NullBuffer::new_null(1)));
    assert!(encode("p3.Scalars", vec![("a", column(hidden))]).is_ok());
}

#[test]
fn columns_that_do_not_fit_are_refused_with_the_cast() {
    let refused = |name: &str, column: &str, data_type: DataType| {
        let schema = Schema::new(vec![Field::new(column, data_type, true)]);
        let Err(error) = ProtobufEncoder::new(&message(name), &schema) else { panic!("{column} is accepted") };
        (error.message().to_owned(), error.hint().unwrap().to_owned())
    };
    let (text, hint) = refused("p3.Scalars", "a", DataType::Utf8View);
    assert_eq!(text, "the column a is TEXT, but the field p3.Scalars.a is int32");
    assert_eq!(hint, "write CAST(a AS INTEGER)");
    assert_eq!(refused("p3.Scalars", "n", DataType::Int64).1, "write CAST(n AS TEXT)");
    assert_eq!(refused("p3.Scalars", "m", DataType::Int64).1, "write CAST(m AS DOUBLE PRECISION)");
    assert_eq!(refused("p3.Scalars", "l", DataType::Float64).1, "write CAST(l AS REAL)");
    assert_eq!(refused("p3.Scalars", "f", DataType::Decimal128(10, 2)).1, "write CAST(f AS BIGINT)");
    assert_eq!(refused("p3.Times", "a", DataType::Int64).1, "write CAST(a AS TIMESTAMP)");
    assert_eq!(refused("p3.Times", "f", DataType::Utf8).1, "write CAST(f AS NUMERIC(20))");
    assert!(refused("p3.Optionals", "h", DataType::Int64).1.starts_with("write named_struct("));
    assert!(refused("p3.Lists", "a", DataType::Int32).0.contains("is INTEGER, but the field p3.Lists.a is repeated"));
    assert!(refused("p3.Maps", "a", DataType::Int32).0.contains("is a map"));
    let (text, hint) = refused("p3.Leg", "latt", DataType::Float64);
    assert_eq!(text, "the column latt has no field in the message p3.Leg");
    assert_eq!(hint, "rename the column with AS: did you mean lat?");
    assert!(
        refused("p3.Leg", "elsewhere", DataType::Float64).1.starts_with("its fields are lat, lon, name, notes, more")
    );
    let inner = DataType::Struct(Fields::from(vec![Field::new("lat", DataType::Utf8, true)]));
    assert_eq!(refused("p3.Choice", "leg", inner).0, "the column leg.lat is TEXT, but the field p3.Leg.lat is double");
    let twice = Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("A", DataType::Int32, true)]);
    let Err(error) = ProtobufEncoder::new(&message("p3.Scalars"), &twice) else { panic!() };
    assert!(error.message().contains("two columns go to the field p3.Scalars.a"), "{error}");
}

#[test]
fn required_fields() {
    let plain = Schema::new(vec![Field::new("plain", DataType::Int32, true)]);
    let Err(error) = ProtobufEncoder::new(&message("p2.Old"), &plain) else { panic!() };
    assert_eq!(error.message(), "the field p2.Old.id is required and has no column");
    assert_eq!(error.hint(), Some("select a column AS id"));
    let error = error_of("p2.Old", vec![("id", column(Int32Array::from(vec![Some(1), None])))]);
    assert_eq!(error.message(), "the column id is NULL, but its field is required");
}

#[test]
fn null_is_absent_and_presence_is_written() {
    let rows = encode("p3.Optionals", vec![("a", column(Int32Array::from(vec![Some(0), None])))]).unwrap();
    assert!(rows[0].has_field_by_name("a"));
    assert!(!rows[1].has_field_by_name("a"));
    let rows = encode("p3.Times", vec![("c", column(Int64Array::from(vec![Some(0), None])))]).unwrap();
    assert!(rows[0].has_field_by_name("c"));
    assert!(!rows[1].has_field_by_name("c"));
    let rows = encode("p3.Optionals", vec![("a", column(NullArray::new(2)))]).unwrap();
    assert!(!rows[0].has_field_by_name("a"));
}

#[test]
fn lists_hold_no_null() {
    let list = |values: Vec<Option<i32>>| {
        column(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), Some(values)]))
    };
    let error = error_of("p3.Lists", vec![("a", list(vec![Some(1), None]))]);
    assert!(error.message().contains("a NULL among its elements"), "{error}");
    // A slice that leaves the NULL out is fine; so is a list that is NULL itself.
    let rows = encode("p3.Lists", vec![("a", list(vec![None]).slice(0, 1))]).unwrap();
    assert_eq!(rows[0].get_field_by_name("a").unwrap().as_list().unwrap(), [Value::I32(1)]);
    let values = column(Int32Array::from(vec![None, Some(2)]));
    let item = Arc::new(Field::new_list_field(DataType::Int32, true));
    let nulls = Some(NullBuffer::from(vec![false, true]));
    let hidden = ListArray::new(item, OffsetBuffer::from_lengths([1, 1]), values, nulls);
    let rows = encode("p3.Lists", vec![("a", column(hidden))]).unwrap();
    assert!(!rows[0].has_field_by_name("a"));
    assert!(rows[1].has_field_by_name("a"));
}

#[test]
fn two_members_of_a_oneof_in_one_row() {
    let number = |values: Vec<Option<i32>>| ("number", column(Int32Array::from(values)));
    let text = |values: Vec<Option<&str>>| ("text", column(StringArray::from(values)));
    let rows = encode("p3.Choice", vec![number(vec![Some(1), None]), text(vec![None, Some("x")])]).unwrap();
    assert!(rows[0].has_field_by_name("number") && rows[1].has_field_by_name("text"));
    let error = error_of("p3.Choice", vec![number(vec![Some(1)]), text(vec![Some("x")])]);
    assert_eq!(error.message(), "the columns number and text are of one oneof, and a row has values for both");
}

#[test]
fn a_message_given_as_its_bytes() {
    let rows = encode("p3.Node", vec![("next", column(BinaryArray::from(vec![Some([8u8, 5].as_slice()), None])))]);
    let rows = rows.unwrap();
    let next = rows[0].get_field_by_name("next").unwrap().into_owned();
    assert_eq!(next.as_message().unwrap().get_field_by_name("value").unwrap().as_i32(), Some(5));
    assert!(!rows[1].has_field_by_name("next"));
    let error = error_of("p3.Node", vec![("next", column(BinaryArray::from(vec![[8u8].as_slice()])))]);
    assert!(error.message().contains("bytes that are no message"), "{error}");
}

#[test]
fn long_messages_have_long_lengths() {
    let long = "x".repeat(20_000);
    let leg = StructArray::from(vec![(
        Arc::new(Field::new("name", DataType::Utf8, true)),
        column(StringArray::from(vec![long.as_str(), "short", ""])),
    )]);
    let rows = encode("p3.Choice", vec![("leg", column(leg))]).unwrap();
    let name = |row: usize| {
        let leg = rows[row].get_field_by_name("leg").unwrap().into_owned();
        leg.as_message().unwrap().get_field_by_name("name").unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!((name(0), name(1), name(2)), (long, "short".to_owned(), String::new()));
}
