//! Well-formed records.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use prost::Message;
use prost_reflect::{DynamicMessage, Value};

use super::source::Source;
use crate::format::protobuf::ProtobufDecoder;
use crate::format::protobuf::oracle::protos::{ALL, message};
use crate::format::protobuf::oracle::row::check_row;
use crate::schema::arrow_schema;

/// Decodes `records` by a fresh decoder of all columns.
fn decode(name: &str, records: &[Vec<u8>]) -> arrow::record_batch::RecordBatch {
    let descriptor = message(name);
    let all: Vec<usize> = (0..arrow_schema(&descriptor).unwrap().fields().len()).collect();
    let mut decoder = ProtobufDecoder::new(&descriptor, &all).unwrap();
    decoder.begin(records.len(), 0);
    for record in records {
        decoder.push(record).unwrap();
    }
    decoder.finish().unwrap()
}

fn oracle(name: &str, record: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(message(name), record).unwrap()
}

#[test]
fn random_messages_of_all_types() {
    for name in ALL {
        for seed in 0..20 {
            let mut source = Source::new(seed);
            let messages: Vec<_> = (0..20).map(|_| source.message(&message(name), 0)).collect();
            let records: Vec<_> = messages.iter().map(Message::encode_to_vec).collect();
            let batch = decode(name, &records);
            assert_eq!(batch.num_rows(), 20);
            for array in batch.columns() {
                array.to_data().validate_full().unwrap();
            }
            for (row, message) in messages.iter().enumerate() {
                check_row(&batch, row, message).unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
            }
        }
    }
}

#[test]
fn any_projection_shows_what_all_columns_show() {
    for name in ALL {
        let descriptor = message(name);
        let fields = arrow_schema(&descriptor).unwrap().fields().len();
        for seed in 0..30 {
            let mut source = Source::new(seed);
            let projection: Vec<usize> = (0..fields).filter(|_| source.chance(30)).collect();
            let mut decoder = ProtobufDecoder::new(&descriptor, &projection).unwrap();
            // Three batches by one decoder, so that buffers are used again; the second while the first is held.
            let mut held = Vec::new();
            for batch in 0..3 {
                let messages: Vec<_> = (0..10).map(|_| source.message(&descriptor, 0)).collect();
                decoder.begin(source.below(20), 0);
                for message in &messages {
                    decoder.push(&message.encode_to_vec()).unwrap();
                }
                let rows = decoder.finish().unwrap();
                assert_eq!((rows.num_rows(), rows.num_columns()), (10, projection.len()));
                held.push((rows, messages));
                if batch == 1 {
                    held.remove(0);
                }
            }
            for (rows, messages) in &held {
                for (row, message) in messages.iter().enumerate() {
                    check_row(rows, row, message).unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
                }
            }
        }
    }
}

#[test]
fn a_record_in_two_pieces_is_merged() {
    for name in ALL {
        for seed in 0..40 {
            let mut source = Source::new(seed);
            let records: Vec<Vec<u8>> = (0..10)
                .map(|_| {
                    let pieces = [source.message(&message(name), 0), source.message(&message(name), 0)];
                    pieces.iter().flat_map(|piece| piece.encode_to_vec()).collect()
                })
                .collect();
            let batch = decode(name, &records);
            for (row, record) in records.iter().enumerate() {
                check_row(&batch, row, &oracle(name, record))
                    .unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
            }
        }
    }
}

#[test]
fn lists_are_read_packed_and_not() {
    for seed in 0..30 {
        let mut source = Source::new(seed);
        let unpacked = source.message(&message("p3.Unpacked"), 0).encode_to_vec();
        let packed = oracle("p3.Lists", &unpacked).encode_to_vec();
        let both = [unpacked.clone(), packed.clone()].concat();
        for name in ["p3.Lists", "p3.Unpacked"] {
            let batch = decode(name, &[unpacked.clone(), packed.clone(), both.clone()]);
            check_row(&batch, 0, &oracle(name, &unpacked)).unwrap();
            check_row(&batch, 1, &oracle(name, &packed)).unwrap();
            check_row(&batch, 2, &oracle(name, &both)).unwrap();
        }
    }
}

#[test]
fn the_last_member_of_a_oneof_wins_also_over_columns_that_are_not_read() {
    let descriptor = message("p3.Choice");
    let set = |name: &str, value: Value| {
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name(name, value);
        message.encode_to_vec()
    };
    let mut leg = DynamicMessage::new(message("p3.Leg"));
    leg.set_field_by_name("name", Value::String("a name of many letters".to_owned()));
    leg.set_field_by_name("notes", Value::List(vec![Value::String("n".to_owned())]));
    let leg = Value::Message(leg);
    let mut bare = DynamicMessage::new(message("p3.Leg"));
    bare.set_field_by_name("lat", Value::F64(1.5));
    let records = [
        [set("leg", leg.clone()), set("number", Value::I32(7))].concat(),
        [set("number", Value::I32(7)), set("leg", leg.clone())].concat(),
        // Set, unset, set again: nothing of the first is left.
        [set("leg", leg), set("text", Value::String(String::new())), set("leg", Value::Message(bare))].concat(),
        [set("number", Value::I32(0)), set("flag", Value::Bool(false))].concat(),
    ];
    let all = decode("p3.Choice", &records);
    for (row, record) in records.iter().enumerate() {
        check_row(&all, row, &oracle("p3.Choice", record)).unwrap();
    }
    // Only `number` and `leg` are read; `text` and `flag` unset them all the same.
    let mut decoder = ProtobufDecoder::new(&descriptor, &[1, 3]).unwrap();
    for record in &records {
        decoder.push(record).unwrap();
    }
    let two = decoder.finish().unwrap();
    let nulls = |column: usize| (0..records.len()).map(|row| two.column(column).is_null(row)).collect::<Vec<_>>();
    assert_eq!(nulls(0), [false, true, true, true]);
    assert_eq!(nulls(1), [true, false, false, true]);
}

#[test]
fn a_key_that_comes_again_has_its_last_value() {
    let descriptor = message("p3.Maps");
    let entry = |key: &str, value: i32| {
        let mut message = DynamicMessage::new(descriptor.clone());
        let entries = [(prost_reflect::MapKey::String(key.to_owned()), Value::I32(value))];
        message.set_field_by_name("a", Value::Map(entries.into_iter().collect()));
        message.encode_to_vec()
    };
    let few = [entry("a", 1), entry("b", 2), entry("a", 3)].concat();
    let many: Vec<u8> = (0..100).flat_map(|n| entry(&format!("a key of many letters {}", n % 60), n)).collect();
    let unique = entry("z", 9);
    let batch = decode("p3.Maps", &[few, many, unique]);
    let maps = batch.column(0).as_map();
    let row = |row: usize| {
        let entries = maps.value(row);
        let keys = entries.column(0).as_string::<i32>().iter().map(|key| key.unwrap().to_owned()).collect::<Vec<_>>();
        let values = entries.column(1).as_primitive::<Int32Type>().values().to_vec();
        keys.into_iter().zip(values).collect::<Vec<_>>()
    };
    assert_eq!(row(0), [("b".to_owned(), 2), ("a".to_owned(), 3)]);
    assert_eq!(row(1).len(), 60);
    assert_eq!(row(1)[0], ("a key of many letters 40".to_owned(), 40));
    assert_eq!(row(1)[59], ("a key of many letters 39".to_owned(), 99));
    assert_eq!(row(2), [("z".to_owned(), 9)]);
}

#[test]
fn an_entry_without_key_or_value_has_the_defaults() {
    // Field 1 (a map of string to int32) with an empty entry; field 3 (bool to Leg) likewise.
    let batch = decode("p3.Maps", &[vec![0x0a, 0, 0x1a, 0]]);
    let entries = batch.column(0).as_map().value(0);
    assert_eq!(entries.column(0).as_string::<i32>().value(0), "");
    assert_eq!(entries.column(1).as_primitive::<Int32Type>().value(0), 0);
    let entries = batch.column(2).as_map().value(0);
    assert!(!entries.column(0).as_boolean().value(0));
    assert!(entries.column(1).is_valid(0));
}

#[test]
fn unknown_fields_and_wrong_wire_types_are_skipped() {
    // 9999: varint, 8 bytes, string, group, 4 bytes; then field 1 (int32) as a string and as four bytes.
    let mut record = vec![0xf8, 0xf0, 4, 5];
    record.extend([0xf9, 0xf0, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
    record.extend([0xfa, 0xf0, 4, 2, 0xff, 0xff]);
    record.extend([0xfb, 0xf0, 4, 8, 1, 0xfc, 0xf0, 4]);
    record.extend([0xfd, 0xf0, 4, 1, 2, 3, 4]);
    record.extend([0x0a, 1, b'x', 0x0d, 1, 2, 3, 4]);
    record.extend([0x08, 42]);
    let batch = decode("p3.Scalars", &[record]);
    assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(0), 42);
}

#[test]
fn absent_fields_of_proto2_have_their_defaults() {
    // Only the required id.
    let batch = decode("p2.Old", &[vec![8, 1]]);
    check_row(&batch, 0, &oracle("p2.Old", &[8, 1])).unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap();
    assert!(column("plain").is_null(0));
    assert_eq!(column("five").as_primitive::<Int32Type>().value(0), 5);
    assert_eq!(column("word").as_string_view().value(0), "a default that is long enough");
    assert_eq!(column("level").as_string_view().value(0), "HIGH");
    assert!(column("bare").is_null(0));
    assert_eq!(column("data").as_binary::<i32>().value(0), b"a\x01b");
}

#[test]
fn what_lies_in_an_absent_message_is_null() {
    let batch = decode("p3.Optionals", &[vec![]]);
    let inner = batch.column_by_name("h").unwrap().as_struct();
    assert!(inner.is_null(0));
    assert!(inner.columns().iter().all(|column| column.is_null(0)));
}

#[test]
fn timestamps_before_1970_are_rounded_down() {
    let mut time = DynamicMessage::new(message("p3.Times"));
    let mut at = DynamicMessage::new(message("p3.Times").get_field(1).unwrap().kind().as_message().unwrap().clone());
    at.set_field_by_number(1, Value::I64(-1));
    at.set_field_by_number(2, Value::I32(999_999_999));
    time.set_field_by_number(1, Value::Message(at));
    let batch = decode("p3.Times", &[time.encode_to_vec()]);
    assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().value(0), -1);
}

#[test]
fn no_columns_still_count_rows() {
    let mut decoder = ProtobufDecoder::new(&message("p3.Scalars"), &[]).unwrap();
    decoder.push(&[8, 1]).unwrap();
    assert!(decoder.push(&[8]).is_err());
    decoder.push(&[]).unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 0));
}

#[test]
fn memory_is_taken_again_once_nobody_holds_it() {
    let mut decoder = ProtobufDecoder::new(&message("p3.Scalars"), &[0, 5]).unwrap();
    let address = |decoder: &mut ProtobufDecoder| {
        decoder.begin(1000, 0);
        (0..1000).for_each(|_| decoder.push(&[8, 1]).unwrap());
        let batch = decoder.finish().unwrap();
        (batch.column(0).as_primitive::<Int32Type>().values().as_ptr() as usize, batch)
    };
    let (first, batch) = address(&mut decoder);
    let (second, _) = address(&mut decoder);
    assert_ne!(first, second);
    assert_eq!(batch.num_rows(), 1000);
    let (third, _) = address(&mut decoder);
    assert_eq!(second, third);
}
