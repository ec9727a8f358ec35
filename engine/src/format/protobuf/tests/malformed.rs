//! Records that are no records: each is refused with its place and reason, leaves no trace, and never panics.

use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage};

use super::oracle::{Source, check_row};
use super::protos::{ALL, message};
use crate::format::decoder::RowDecoder;
use crate::format::protobuf::{DecodeError, ProtobufDecoder, Reason};
use crate::schema::arrow_schema;

fn decoder(name: &str) -> ProtobufDecoder {
    let descriptor = message(name);
    let all: Vec<usize> = (0..arrow_schema(&descriptor).unwrap().fields().len()).collect();
    ProtobufDecoder::new(&descriptor, &all).unwrap()
}

fn refused(name: &str, record: &[u8]) -> DecodeError {
    let mut decoder = decoder(name);
    let error = decoder.push(record).unwrap_err();
    assert_eq!(decoder.rows(), 0);
    assert_eq!(decoder.finish().unwrap().num_rows(), 0);
    error
}

#[test]
fn the_error_says_where_and_why() {
    let cases: [(&str, &[u8], &str, usize, Reason); 17] = [
        ("p3.Scalars", &[8], "p3.Scalars.a", 1, Reason::Truncated),
        ("p3.Scalars", &[8, 1, 0x80], "p3.Scalars", 2, Reason::Truncated),
        ("p3.Scalars", &[0x1d, 1, 2, 3], "p3.Scalars.c", 1, Reason::Truncated),
        ("p3.Scalars", &[0x72, 5, b'a'], "p3.Scalars.n", 1, Reason::Truncated),
        ("p3.Scalars", &[0x72, 1, 0xff], "p3.Scalars.n", 2, Reason::Utf8),
        ("p3.Scalars", &[0x0e, 1], "p3.Scalars.a", 0, Reason::WireType(6)),
        ("p3.Scalars", &[0x00, 1], "p3.Scalars", 0, Reason::FieldNumber),
        ("p3.Scalars", &[0x0c], "p3.Scalars.a", 0, Reason::Group),
        (
            "p3.Scalars",
            &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            "p3.Scalars.a",
            1,
            Reason::VarintTooLong,
        ),
        ("p3.Optionals", &[0x42, 4, 8, 1, 0x72, 9], "p3.Optionals.h.n", 5, Reason::Truncated),
        // A length that goes beyond its message, though not beyond the record.
        ("p3.Optionals", &[0x42, 2, 0x72, 2, b'a', b'b'], "p3.Optionals.h.n", 3, Reason::Truncated),
        // Packed fixed32 of five bytes.
        ("p3.Lists", &[0x1a, 5, 1, 2, 3, 4, 5], "p3.Lists.c", 6, Reason::Truncated),
        // 1 s and 2,000,000,000 ns.
        ("p3.Times", &[0x0a, 8, 8, 1, 0x10, 0x80, 0xa8, 0xd6, 0xb9, 0x07], "p3.Times.a", 2, Reason::Timestamp),
        // 1 s and −1 ns.
        (
            "p3.Times",
            &[0x12, 13, 8, 1, 0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            "p3.Times.b",
            2,
            Reason::Duration,
        ),
        ("p2.Old", &[0x10, 1], "p2.Old.id", 2, Reason::Required),
        ("p2.Outer", &[0x1a, 0], "p2.Outer.must.n", 2, Reason::Required),
        ("p2.Old", &[8, 1, 0x63, 8, 1], "p2.Old.part", 5, Reason::Truncated),
    ];
    for (name, record, path, offset, reason) in cases {
        let error = refused(name, record);
        assert_eq!((error.path.as_str(), error.offset, error.reason), (path, offset, reason), "{record:?}");
    }
    let error = refused("p3.Optionals", &[0x42, 4, 8, 1, 0x72, 9]);
    assert_eq!(error.to_string(), "not a valid p3.Optionals.h.n at byte 5: the bytes end within a value");
}

#[test]
fn a_connector_is_told_the_field() {
    let refused = |record: &[u8]| RowDecoder::push(&mut decoder("p3.Optionals"), record).unwrap_err();
    assert_eq!(refused(&[0x42, 4, 8, 1, 0x72, 9]).to_string(), "field h.n, byte 5: the bytes end within a value");
    assert_eq!(refused(&[0x80]).to_string(), "byte 0: the bytes end within a value");
}

#[test]
fn deep_groups_end() {
    assert_eq!(refused("p3.Scalars", &[0x0b; 1_000_000]).reason, Reason::TooDeep);
    // Inside of a message that is kept as its bytes.
    let mut record = vec![8, 1, 0x8b, 1];
    record.extend(std::iter::repeat_n(0x0b, 10_000));
    assert_eq!(refused("p2.Old", &record).reason, Reason::TooDeep);
}

#[test]
fn a_small_record_does_not_unfold_to_all_of_memory() {
    // Ten million empty elements of 400 bytes each.
    let record: Vec<u8> = std::iter::repeat_n([0x42, 0], 10_000_000).flatten().collect();
    let mut decoder = decoder("p3.Everything");
    assert_eq!(decoder.push(&record).unwrap_err().reason, Reason::TooLarge);
    decoder.push(&[]).unwrap();
    let error = decoder.push(&record).unwrap_err();
    assert!(error.is_batch_full());
    assert_eq!(decoder.finish().unwrap().num_rows(), 1);
}

/// Decodes `good` with each of `bad` in between, and compares with the oracle.
fn check_neighbours(name: &str, good: &[DynamicMessage], bad: &[Vec<u8>]) {
    let mut decoder = decoder(name);
    decoder.begin(good.len(), 0);
    let mut expected = Vec::new();
    for (index, message) in good.iter().enumerate() {
        decoder.push(&message.encode_to_vec()).unwrap();
        expected.push(message.clone());
        if let Some(record) = bad.get(index)
            && decoder.push(record).is_ok()
        {
            // Mutated, but valid: the oracle has to agree, unless it refuses what is to be skipped.
            match DynamicMessage::decode(message_of(name), record.as_slice()) {
                Ok(message) => expected.push(message),
                Err(_) => expected.push(DynamicMessage::new(message_of("p3.Empty"))),
            }
        }
    }
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.num_rows(), expected.len());
    for array in batch.columns() {
        array.to_data().validate_full().unwrap();
    }
    for (row, message) in expected.iter().enumerate() {
        if message_name(message) != "p3.Empty" {
            check_row(&batch, row, message).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

fn message_of(name: &str) -> prost_reflect::MessageDescriptor {
    message(name)
}

fn message_name(message: &DynamicMessage) -> String {
    message.descriptor().full_name().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(seed: u64, bad in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 4)) {
        let mut source = Source::new(seed);
        let name = ALL[source.below(ALL.len())];
        let good: Vec<_> = (0..4).map(|_| source.message(&message(name), 0)).collect();
        check_neighbours(name, &good, &bad);
    }

    #[test]
    fn mutated_messages(seed: u64) {
        let mut source = Source::new(seed);
        let name = ALL[source.below(ALL.len())];
        let good: Vec<_> = (0..4).map(|_| source.message(&message(name), 0)).collect();
        let bad: Vec<_> = (0..4).map(|_| {
            let mut record = source.message(&message(name), 0).encode_to_vec();
            for _ in 0..1 + source.below(3) {
                if record.is_empty() {
                    continue;
                }
                let at = source.below(record.len());
                match source.below(4) {
                    0 => record.truncate(at),
                    1 => { record.remove(at); }
                    2 => record[at] ^= 1 << source.below(8),
                    _ => record[at] = source.below(256) as u8,
                }
            }
            record
        }).collect();
        check_neighbours(name, &good, &bad);
    }
}
