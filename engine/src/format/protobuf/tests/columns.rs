//! What a user may choose of a stream's columns, and what a sink takes.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type};
use arrow::util::display::array_value_to_string;
use prost::Message;
use prost_reflect::DynamicMessage;

use super::source::Source;
use crate::error::Result;
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::format::protobuf::oracle::protos::message;
use crate::format::protobuf::{ProtobufDecoder, ProtobufEncoder, Reason};
use crate::schema::{Leaves, TypeRules, schema_by};

const ALL_TYPES3: &str = "rondel.conformance.v3.AllTypes";
const ALL_TYPES2: &str = "rondel.conformance.v2.AllTypes";

/// One row of a message in protobuf's text format.
fn row(name: &str, text: &str, rules: &TypeRules) -> RecordBatch {
    let descriptor = message(name);
    let all: Vec<usize> = (0..schema_by(&descriptor, rules).unwrap().fields().len()).collect();
    let mut decoder = ProtobufDecoder::by_rules(&descriptor, &all, rules).unwrap();
    let message = DynamicMessage::parse_text_format(descriptor, text).unwrap();
    decoder.push(&message.encode_to_vec()).unwrap();
    decoder.finish().unwrap()
}

fn shown(batch: &RecordBatch, column: &str) -> String {
    let array = batch.column_by_name(column).unwrap();
    if array.is_null(0) { "NULL".to_owned() } else { array_value_to_string(array, 0).unwrap() }
}

#[test]
fn enums_by_number() {
    let rules = TypeRules { enum_numbers: true, ..TypeRules::default() };
    let batch = row(ALL_TYPES3, "optional_nested_enum: NEG repeated_nested_enum: [BAR, BAZ]", &rules);
    assert_eq!(batch.column_by_name("optional_nested_enum").unwrap().as_primitive::<Int32Type>().value(0), -1);
    assert_eq!(shown(&batch, "repeated_nested_enum"), "[1, 2]");
}

#[test]
fn defaults_as_null() {
    let rules = TypeRules { unset_is_null: true, ..TypeRules::default() };
    let batch = row(ALL_TYPES3, "optional_int64: 5 optional_string: \"\"", &rules);
    let all = ["optional_int32", "optional_string", "optional_bytes", "optional_bool", "optional_nested_enum"];
    assert!(all.iter().all(|column| shown(&batch, column) == "NULL"));
    assert_eq!(shown(&batch, "optional_int64"), "5");
    assert_eq!(shown(&batch, "repeated_int32"), "[]");
    // -0.0 is not the default; the oracle would leave it out.
    let descriptor = message(ALL_TYPES3);
    let place = schema_by(&descriptor, &rules).unwrap().index_of("optional_double").unwrap();
    let mut decoder = ProtobufDecoder::by_rules(&descriptor, &[place], &rules).unwrap();
    decoder.push(&[0x61, 0, 0, 0, 0, 0, 0, 0, 0x80]).unwrap();
    assert!(decoder.finish().unwrap().column(0).is_valid(0));
    // With presence, what was set to the default is there.
    assert_eq!(shown(&row(ALL_TYPES3, "explicit_int32: 0", &rules), "explicit_int32"), "0");
    assert_eq!(shown(&row(ALL_TYPES2, "", &rules), "default_string"), "NULL");
    assert_eq!(shown(&row(ALL_TYPES2, "", &TypeRules::default()), "default_string"), "Rosebud");
}

#[test]
fn which_field_of_a_oneof_is_set() {
    let rules = TypeRules { oneof_case: true, ..TypeRules::default() };
    assert_eq!(shown(&row(ALL_TYPES3, "oneof_bool: false", &rules), "oneof_field"), "oneof_bool");
    assert_eq!(shown(&row(ALL_TYPES3, "", &rules), "oneof_field"), "NULL");
    // Alone, without the fields that it speaks of.
    let descriptor = message(ALL_TYPES3);
    let place = schema_by(&descriptor, &rules).unwrap().index_of("oneof_field").unwrap();
    let mut decoder = ProtobufDecoder::by_rules(&descriptor, &[place], &rules).unwrap();
    // 113: a string, then 115: a bool.
    decoder.push(&[0x8a, 0x07, 1, b'x', 0x98, 0x07, 1]).unwrap();
    decoder.push(&[0x8a, 0x07, 1, b'x']).unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.column(0).as_string_view().iter().flatten().collect::<Vec<_>>(), ["oneof_bool", "oneof_string"]);
}

#[test]
fn json_of_structs() {
    let text =
        "optional_struct { fields { key: \"b\" value { number_value: 2.5 } } fields { key: \"a\" value { list_value {
        values { bool_value: true } values { null_value: NULL_VALUE } values { number_value: 3 } } } } }
        optional_value { null_value: NULL_VALUE } repeated_list_value { values { string_value: \"\u{e4}\" } }";
    let batch = row(ALL_TYPES3, text, &TypeRules::default());
    assert_eq!(shown(&batch, "optional_struct"), r#"{"a":[true,null,3],"b":2.5}"#);
    assert_eq!(shown(&batch, "optional_value"), "null");
    assert_eq!(shown(&batch, "repeated_list_value"), "[[\"\u{e4}\"]]");
    assert_eq!(shown(&row(ALL_TYPES3, "", &TypeRules::default()), "optional_value"), "NULL");
}

#[test]
fn pieces_of_a_struct_are_merged() {
    let descriptor = message(ALL_TYPES3);
    let place = schema_by(&descriptor, &TypeRules::default()).unwrap().index_of("optional_struct").unwrap();
    let mut decoder = ProtobufDecoder::new(&descriptor, &[place]).unwrap();
    let piece = |key: u8, value: u8| [0x82, 0x13, 9, 0x0a, 7, 0x0a, 1, key, 0x12, 2, 0x20, value];
    decoder.push(&[piece(b'x', 0), piece(b'y', 1), piece(b'x', 1)].concat()).unwrap();
    let error = decoder.push(&[0x82, 0x13, 2, 0x0a, 9]).unwrap_err();
    assert_eq!(error.reason, Reason::Json);
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.column(0).as_string_view().iter().collect::<Vec<_>>(), [Some(r#"{"x":true,"y":true}"#)]);
}

#[test]
fn any_is_resolved_where_its_type_is_known() {
    let text = "optional_any { [type.googleapis.com/rondel.conformance.v3.ForeignMessage] { c: 7 name: \"n\" } }";
    let batch = row(ALL_TYPES3, text, &TypeRules::default());
    let any = batch.column_by_name("optional_any").unwrap().as_struct();
    assert_eq!(any.column(2).as_string_view().value(0), r#"{"c":7,"name":"n"}"#);
    let text = "optional_any { type_url: \"type.googleapis.com/no.such\" value: \"abc\" }";
    let any = row(ALL_TYPES3, text, &TypeRules::default());
    let any = any.column_by_name("optional_any").unwrap().as_struct();
    assert_eq!(any.column(1).as_binary::<i32>().value(0), b"abc");
    assert!(any.column(2).is_null(0));
}

#[test]
fn extensions_are_columns() {
    let text = "[rondel.conformance.v2.extension_int32]: 5 [rondel.conformance.v2.extension_numbers]: [-1, 2]";
    let batch = row(ALL_TYPES2, text, &TypeRules::default());
    assert_eq!(shown(&batch, "rondel.conformance.v2.extension_int32"), "5");
    assert_eq!(shown(&batch, "rondel.conformance.v2.extension_numbers"), "[-1, 2]");
    assert_eq!(shown(&batch, "rondel.conformance.v2.extension_string"), "NULL");
}

#[test]
fn recursion_unfolds_to_the_chosen_depth() {
    let text = "value: 1 next { value: 2 next { value: 3 next { value: 4 } } }";
    let two = TypeRules { recursion_depth: 2, ..TypeRules::default() };
    let batch = row("p3.Node", text, &two);
    let next = batch.column_by_name("next").unwrap().as_struct();
    let next = next.column_by_name("next").unwrap().as_struct();
    assert_eq!(next.column_by_name("value").unwrap().as_primitive::<Int32Type>().value(0), 3);
    assert_eq!(next.column_by_name("next").unwrap().data_type(), &DataType::Binary);
    assert_eq!(next.column_by_name("next").unwrap().as_binary::<i32>().value(0), [8, 4]);
}

#[test]
fn what_stays_bytes_is_checked() {
    let refused = |record: &[u8]| {
        let mut decoder = ProtobufDecoder::new(&message("p3.Node"), &[1]).unwrap();
        decoder.push(record).unwrap_err().reason
    };
    // next { other { name: "\xff" } }
    assert_eq!(refused(&[0x12, 5, 0x2a, 3, 0x12, 1, 0xff]), Reason::Utf8);
    // next { value: …
    assert_eq!(refused(&[0x12, 2, 8, 0x80]), Reason::Truncated);
    let mut deep = vec![];
    for _ in 0..200 {
        let mut outer = vec![0x12];
        prost::encoding::encode_varint(deep.len() as u64, &mut outer);
        outer.append(&mut deep);
        deep = outer;
    }
    assert_eq!(refused(&deep), Reason::TooDeep);
}

#[test]
fn parts_that_nobody_reads_are_skipped() {
    let descriptor = message("p3.Everything");
    let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let leaves = |paths: &[&str]| {
        let mut leaves = Leaves::none();
        paths.iter().for_each(|text| leaves.add(&path(text)));
        leaves
    };
    // optionals, choice, node
    let (places, paths) = ([1, 5, 6], [&["e", "h.n"][..], &["wrapped", "flag"], &["other.name", "children"]]);
    let read = paths.map(leaves);
    let mut whole = ProtobufDecoder::new(&descriptor, &places).unwrap();
    let mut part = ProtobufDecoder::of_leaves(&descriptor, &places, &read, &TypeRules::default()).unwrap();
    for seed in 0..200 {
        let record = Source::new(seed).message(&descriptor, 0).encode_to_vec();
        whole.push(&record).unwrap();
        part.push(&record).unwrap();
    }
    let (whole, part) = (whole.finish().unwrap(), part.finish().unwrap());
    assert_eq!(whole.schema(), part.schema());
    let at = |batch: &RecordBatch, column: usize, text: &str| {
        path(text).iter().fold(Arc::clone(batch.column(column)), |array, name| {
            Arc::clone(array.as_struct().column_by_name(name).unwrap())
        })
    };
    for (column, paths) in paths.iter().enumerate() {
        assert_eq!(whole.column(column).nulls(), part.column(column).nulls());
        for text in *paths {
            let array = at(&part, column, text);
            assert!(array.null_count() < 200, "{text}");
            assert_eq!(&at(&whole, column, text), &array, "{text}");
        }
    }
    for (column, text) in [(0, "a"), (0, "h.q"), (1, "before"), (2, "value"), (2, "other.json"), (2, "named")] {
        assert_eq!(at(&part, column, text).null_count(), 200, "{text}");
        assert!(at(&whole, column, text).null_count() < 200, "{text}");
    }
}

fn encoded(encoder: Result<ProtobufEncoder>, batch: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let mut out = EncodedRows::default();
    encoder?.encode(batch, &mut out)?;
    Ok(out.iter().map(|record| DynamicMessage::decode(message(name), record).unwrap().to_text_format()).collect())
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn refusal(name: &str, columns: Vec<(&str, ArrayRef)>) -> String {
    let batch = batch(columns);
    let error = encoded(ProtobufEncoder::new(&message(name), &batch.schema()), &batch, name).unwrap_err();
    format!("{} / {}", error.message(), error.hint().unwrap_or_default())
}

#[test]
fn dotted_columns_make_a_message() {
    let doubles = |values: [Option<f64>; 3]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    let rows = batch(vec![
        ("h.lat", doubles([Some(1.5), None, None])),
        ("h.more.a", Arc::new(Int32Array::from(vec![None, Some(3), None]))),
    ]);
    let name = "p3.Holder";
    let encoder = ProtobufEncoder::new(&message(name), &rows.schema());
    assert_eq!(encoded(encoder, &rows, name).unwrap(), ["h{lat:1.5}", "h{more{a:3}}", ""]);
    let three = || Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef;
    let text = refusal(name, vec![("h.latitude", three())]);
    assert!(text.starts_with("the column h.latitude has no field in the message p3.Leg"), "{text}");
    let text = refusal("p3.Scalars", vec![("a.b", three())]);
    assert!(text.starts_with("the column a.b goes into the field p3.Scalars.a, int32: it has no fields"), "{text}");
    let leg = StructArray::try_from(vec![("lat", doubles([Some(1.0), None, None]))]).unwrap();
    let text = refusal(name, vec![("h", Arc::new(leg)), ("h.lon", doubles([None, None, None]))]);
    assert!(text.starts_with("two columns go to the field p3.Holder.h, the second is h.lon"), "{text}");
}

#[test]
fn columns_without_a_field_are_left_out_if_asked() {
    let rows = batch(vec![
        ("a", Arc::new(Int32Array::from(vec![4])) as ArrayRef),
        ("no_such", Arc::new(Int32Array::from(vec![5]))),
    ]);
    let text = refusal("p3.Scalars", vec![("no_such", Arc::clone(rows.column(1)))]);
    assert!(text.contains("ignore_unknown = 'true'"), "{text}");
    let encoder = ProtobufEncoder::ignoring_unknown(&message("p3.Scalars"), &rows.schema());
    assert_eq!(encoded(encoder, &rows, "p3.Scalars").unwrap(), ["a:4"]);
    let none = rows.project(&[1]).unwrap();
    let error = ProtobufEncoder::ignoring_unknown(&message("p3.Scalars"), &none.schema()).err().unwrap();
    assert_eq!(error.message(), "no column has a field in the message p3.Scalars");
}

#[test]
fn json_is_written_to_structs() {
    let rows = batch(vec![
        ("optional_struct", Arc::new(StringArray::from(vec![Some(r#"{"a": [1, null, "x"]}"#), None])) as ArrayRef),
        ("optional_value", Arc::new(StringArray::from(vec![Some("null"), Some("true")]))),
    ]);
    let encoder = ProtobufEncoder::new(&message(ALL_TYPES3), &rows.schema());
    let again = encoded(encoder, &rows, ALL_TYPES3).unwrap();
    assert!(again[0].contains("string_value:\"x\"") && again[0].contains("optional_value{null_value:NULL_VALUE}"));
    assert_eq!(again[1], "optional_value{bool_value:true}");
    let text = refusal(ALL_TYPES3, vec![("optional_struct", Arc::new(StringArray::from(vec!["[1]"])))]);
    assert!(text.starts_with("the column optional_struct has a text that is no JSON object"), "{text}");
    let text = refusal(ALL_TYPES3, vec![("optional_struct", Arc::new(Int32Array::from(vec![1])))]);
    assert!(text.contains("a google.protobuf.Struct, written as JSON"), "{text}");
}
