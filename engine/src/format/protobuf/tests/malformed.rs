//! Records that are no records: each is refused with its place and reason, leaves no trace, and never panics.

use arrow::array::AsArray;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::DynamicMessage;

use super::source::{Source, any_rules, cases};
use crate::format::decoder::RowDecoder;
use crate::format::protobuf::check::CheckPlan;
use crate::format::protobuf::oracle::protos::{ALL, message};
use crate::format::protobuf::oracle::row::check_row_by;
use crate::format::protobuf::oracle::{Case, check_bytes, judged};
use crate::format::protobuf::{DecodeError, ProtobufDecoder, Reason};
use crate::schema::{TypeRules, arrow_schema, schema_by};

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

const REQUIRED: &str = "rondel.conformance.v2.Required";

#[test]
fn the_error_says_where_and_why() {
    let cases: [(&str, &[u8], &str, usize, Reason); 20] = [
        ("p3.Scalars", &[8], "p3.Scalars.a", 1, Reason::Truncated),
        ("p3.Scalars", &[8, 1, 0x80], "p3.Scalars", 2, Reason::Truncated),
        ("p3.Scalars", &[0x1d, 1, 2, 3], "p3.Scalars.c", 1, Reason::Truncated),
        ("p3.Scalars", &[0x72, 5, b'a'], "p3.Scalars.n", 1, Reason::Truncated),
        ("p3.Scalars", &[0x72, 1, 0xff], "p3.Scalars.n", 2, Reason::Utf8),
        ("p3.Scalars", &[0x0e, 1], "p3.Scalars.a", 0, Reason::WireType(6)),
        ("p3.Scalars", &[0x00, 1], "p3.Scalars", 0, Reason::FieldNumber),
        ("p3.Scalars", &[0x0c], "p3.Scalars.a", 0, Reason::Group),
        // The end of a group that has no number.
        ("p3.Scalars", &[0x04], "p3.Scalars", 0, Reason::FieldNumber),
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
        // An entry without its value, which is then an empty message that lacks its name.
        (REQUIRED, &[8, 1, 0x22, 3, 0x0a, 1, b'a'], "rondel.conformance.v2.Required.named.value", 7, Reason::Required),
        // Behind one that is whole.
        (
            REQUIRED,
            &[8, 1, 0x22, 8, 0x0a, 1, b'a', 0x12, 3, 0x0a, 1, b'n', 0x22, 3, 0x0a, 1, b'b'],
            "rondel.conformance.v2.Required.named.value",
            17,
            Reason::Required,
        ),
    ];
    for (name, record, path, offset, reason) in cases {
        let error = refused(name, record);
        assert_eq!((error.path.as_str(), error.offset, error.reason), (path, offset, reason), "{record:?}");
    }
    let error = refused("p3.Optionals", &[0x42, 4, 8, 1, 0x72, 9]);
    assert_eq!(error.to_string(), "not a valid p3.Optionals.h.n at byte 5: the bytes end within a value");
}

/// A value that goes beyond its message is read all the same, since bytes are there; the record is refused behind it.
#[test]
fn values_that_go_beyond_their_message_leave_no_trace() {
    let whole: &[u8] = &[0x42, 2, 8, 5];
    // In the field `h`: a number, a text, eight bytes, a message in a list; each needs what follows `h`.
    let cases: [(&str, &[u8], &str, usize); 5] = [
        ("p3.Optionals", &[0x42, 2, 8, 0x80, 1, 8, 1], "p3.Optionals.h.a", 3),
        ("p3.Optionals", &[0x42, 3, 0x72, 2, b'a', b'b', 8, 1], "p3.Optionals.h.n", 3),
        ("p3.Optionals", &[0x42, 1, 8, 1, 8, 1], "p3.Optionals.h.a", 3),
        // Not UTF-8, but that is of bytes which are not its own.
        ("p3.Optionals", &[0x42, 3, 0x72, 2, b'a', 0xff, 8, 1], "p3.Optionals.h.n", 3),
        // A tag that ends beyond.
        ("p3.Optionals", &[0x42, 3, 8, 1, 0x88, 0x01, 1], "p3.Optionals.h", 4),
    ];
    for (name, record, path, offset) in cases {
        let mut decoder = decoder(name);
        decoder.push(whole).unwrap();
        let error = decoder.push(record).unwrap_err();
        assert_eq!((error.path.as_str(), error.offset, error.reason), (path, offset, Reason::Truncated), "{record:?}");
        decoder.push(whole).unwrap();
        let batch = decoder.finish().unwrap();
        assert_eq!(batch.slice(0, 1), batch.slice(1, 1));
        assert_eq!(batch.num_rows(), 2);
    }
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

/// Decodes `good` with each of `bad` in between.
fn check_neighbours(name: &str, good: &[DynamicMessage], bad: &[Vec<u8>], rules: &TypeRules) {
    let mut records = Vec::new();
    for (index, message) in good.iter().enumerate() {
        records.push(message.encode_to_vec());
        records.extend(bad.get(index).cloned());
    }
    assert!(Case::new(name, *rules).check(&records) >= good.len());
}

/// A record with a few bytes changed, left out or cut off.
fn mutated(source: &mut Source, mut record: Vec<u8>) -> Vec<u8> {
    for _ in 0..1 + source.below(3) {
        if record.is_empty() {
            continue;
        }
        let at = source.below(record.len());
        match source.below(4) {
            0 => record.truncate(at),
            1 => {
                record.remove(at);
            }
            2 => record[at] ^= 1 << source.below(8),
            _ => record[at] = source.below(256) as u8,
        }
    }
    record
}

fn check_mutated(seed: u64) {
    let mut source = Source::new(seed);
    let name = ALL[source.below(ALL.len())];
    let rules = any_rules(&mut source);
    let good: Vec<_> = (0..4).map(|_| source.message(&message(name), 0)).collect();
    let bad: Vec<_> = (0..4)
        .map(|_| {
            let record = source.message(&message(name), 0).encode_to_vec();
            mutated(&mut source, record)
        })
        .collect();
    check_neighbours(name, &good, &bad, &rules);
}

/// The oracle reads a map's entry whatever wire type it comes with; found once in some million cases.
#[test]
fn a_field_of_another_wire_type_is_unknown() {
    let descriptor = message("p3.Maps");
    // Field 1 is a map: as a varint it is skipped, and what follows is read.
    let record = [0x08, 0x02, 0x12, 0x02, 0x08, 0x05];
    let mut decoder = decoder("p3.Maps");
    decoder.push(&record).unwrap();
    let batch = decoder.finish().unwrap();
    let expected = judged(&descriptor, &record).unwrap();
    check_row_by(&batch, 0, &expected, &TypeRules::default()).unwrap();
    assert_eq!(batch.column(1).as_map().value_length(0), 1);
}

/// In JSON's messages as well, which prost decodes: it refuses such a field.
#[test]
fn a_field_of_another_wire_type_is_unknown_inside_of_json() {
    let entry = |value: &[u8]| [&[0x4a, 5 + value.len() as u8, 0x0a, 1, b'k', 0x12, value.len() as u8], value].concat();
    // The list of a value as a varint, alone and behind a number.
    let records = [entry(&[0x30, 0]), entry(&[0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x30, 0])];
    assert_eq!(Case::new("rondel.realistic.Span", TypeRules::default()).check(&records), 2);
}

#[test]
fn what_is_required_may_come_in_another_piece() {
    let pieces: [&[u8]; 2] = [&[0x1a, 0], &[0x1a, 2, 8, 7]];
    decoder("p2.Outer").push(&pieces.concat()).unwrap();
    assert_eq!(refused("p2.Outer", pieces[0]).reason, Reason::Required);
}

/// The same in a message that is kept as its bytes, and in one that lies in it.
#[test]
fn pieces_of_a_message_that_is_not_unfolded_are_one() {
    let descriptor = message("p2.Old");
    let rules = TypeRules { recursion_depth: 0, ..TypeRules::default() };
    let all: Vec<usize> = (0..schema_by(&descriptor, &rules).unwrap().fields().len()).collect();
    let push = |pieces: &[&[u8]]| {
        // The number of the record, and in the group `again` pieces of another record.
        let record = [&[8, 1, 0x8b, 1], &pieces.concat()[..], &[0x8c, 1]].concat();
        assert_eq!(judged(&descriptor, &record).is_some(), pieces.iter().any(|piece| piece[2] == 8));
        let mut decoder = ProtobufDecoder::by_rules(&descriptor, &all, &rules).unwrap();
        let pushed = decoder.push(&record);
        assert_eq!(decoder.rows(), usize::from(pushed.is_ok()));
        pushed.map_err(|error| (error.path, error.offset, error.reason))
    };
    let (word, number): (&[u8], &[u8]) = (&[0x0a, 3, 0x22, 1, b'a'], &[0x0a, 2, 8, 5]);
    push(&[number, word]).unwrap();
    push(&[word, number]).unwrap();
    assert_eq!(push(&[word, word]), Err(("p2.Old.again.old".to_owned(), 9, Reason::Required)));

    // Lower down: a group in it whose record comes in two pieces.
    let (outer, inner) = ([0x0a, 12, 8, 5], [0x8b, 1, 0x0a, 2, 0x28, 1, 0x8c, 1]);
    let lacking = [&outer[..], &inner].concat();
    let whole = [&[0x0a, 10, 8, 5][..], &[0x8b, 1, 0x0a, 2, 8, 9, 0x8c, 1]].concat();
    let lacking: Vec<u8> = [&[0x0a, 10][..], &lacking[2..]].concat();
    push(&[&lacking, &whole]).unwrap();
}

/// Were all pieces judged with each of them, a record of this size would take minutes.
#[test]
fn many_pieces_are_judged_once() {
    let descriptor = message("p2.Old");
    let rules = TypeRules { recursion_depth: 0, ..TypeRules::default() };
    let all: Vec<usize> = (0..schema_by(&descriptor, &rules).unwrap().fields().len()).collect();
    let mut decoder = ProtobufDecoder::by_rules(&descriptor, &all, &rules).unwrap();
    let pieces = [0x0a, 2, 8, 5].repeat(200_000);
    decoder.push(&[&[8, 1, 0x8b, 1], &pieces[..], &[0x8c, 1]].concat()).unwrap();
    assert_eq!(decoder.finish().unwrap().num_rows(), 1);
}

/// A time that is one in itself, and none together with what came before, in a message that is kept as its bytes.
#[test]
fn times_of_pieces_are_merged() {
    let mut checks = CheckPlan::default();
    let place = checks.message(&message("p3.Times"));
    // `b`: −1,000 ns, then 1 s.
    let micro = [&[0x12, 13, 8, 0, 0x10, 0x98, 0xf8][..], &[0xff; 7], &[1]].concat();
    let second = [0x12, 2, 8, 1];
    assert!(checks.check(place, &micro).is_ok() && checks.check(place, &second).is_ok());
    let both = [&micro[..], &second].concat();
    assert_eq!(checks.check(place, &both).map_err(|(reason, _)| reason), Err(Reason::Duration));
    // Of a oneof only the last is there.
    let place = checks.message(&message("p3.Choice"));
    let (year_zero, text) = ([0x2a, 2, 8, 1], [0x1a, 1, b'a']);
    assert!(checks.check(place, &[&year_zero[..], &text, &year_zero].concat()).is_ok());
}

/// What the fuzzer has found worth keeping: `fuzz/README.md`.
#[test]
fn the_fuzzers_corpus() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/protobuf");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check_bytes(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(seed: u64, bad in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 4)) {
        let mut source = Source::new(seed);
        let name = ALL[source.below(ALL.len())];
        let rules = any_rules(&mut source);
        let good: Vec<_> = (0..4).map(|_| source.message(&message(name), 0)).collect();
        check_neighbours(name, &good, &bad, &rules);
    }

    #[test]
    fn mutated_messages(seed: u64) {
        check_mutated(seed);
    }
}
