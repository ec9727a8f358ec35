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

/// The official library allows a hundred messages, entries of maps and groups around each other, whichever of them are unfolded.
#[test]
fn a_hundred_levels_are_read() {
    let within = |tag: &[u8], inner: &[u8]| {
        let mut out = tag.to_vec();
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        [&out[..], inner].concat()
    };
    // What lies at the bottom, how it is wrapped, and how many levels a wrap is.
    let next = |inner: &[u8]| within(&[0x12], inner);
    let named = |inner: &[u8]| within(&[0x22], &within(&[0x12], inner));
    let again = |inner: &[u8]| [&[0x8b, 1][..], &within(&[0x0a], &[&[8, 1], inner].concat()), &[0x8c, 1]].concat();
    let list = |inner: &[u8]| within(&[0x32], &within(&[0x0a], inner));
    let json = |inner: &[u8]| within(&[0x2a], &within(&[0x1a], inner));
    let groups = |count: usize| [vec![0x7b; count], vec![0x7c; count]].concat();
    let wrapped = |times: usize, wrap: &dyn Fn(&[u8]) -> Vec<u8>, bottom: Vec<u8>| {
        (0..times).fold(bottom, |inner, _| wrap(&inner))
    };
    for (depth, unset_is_null) in [(0, false), (1, true), (3, false)] {
        let rules = TypeRules { recursion_depth: depth, unset_is_null, ..TypeRules::default() };
        let check = |name: &str, good: &[u8], bad: &[u8]| {
            let mut case = Case::new(name, rules);
            assert_eq!((case.check(&[good]), case.check(&[bad])), (1, 0), "{name}, {depth}");
        };
        check("p3.Node", &wrapped(100, &next, vec![]), &wrapped(101, &next, vec![]));
        check("p3.Node", &wrapped(50, &named, vec![]), &wrapped(50, &named, next(&[])));
        check("p3.Node", &wrapped(40, &named, groups(20)), &wrapped(40, &named, groups(21)));
        check("p3.Node", &groups(100), &groups(101));
        check("p3.Node", &wrapped(10, &next, groups(90)), &wrapped(10, &next, groups(91)));
        // Two levels lead to a JSON value, and two to a value in its list.
        let value = |times: usize, bottom: Vec<u8>| json(&wrapped(times, &list, bottom));
        check("p3.Node", &value(49, vec![]), &value(50, vec![]));
        check("p3.Node", &value(48, groups(2)), &value(48, groups(3)));
        check("p3.Node", &wrapped(30, &next, value(34, vec![])), &wrapped(31, &next, value(34, vec![])));
        let old = |times: usize, bottom: Vec<u8>| [vec![8, 1], wrapped(times, &again, bottom)].concat();
        check("p2.Old", &old(50, vec![]), &old(51, vec![]));
        check("p2.Old", &old(45, groups(10)), &old(45, groups(11)));
    }
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
            let mut record = mutated(&mut source, record);
            // What comes again is merged, and may put right what is wrong.
            if source.chance(25) {
                record.extend(source.message(&message(name), 0).encode_to_vec());
            }
            record
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
    assert_eq!(push(&[word, word]), Err(("p2.Old.again.old.id".to_owned(), 14, Reason::Required)));

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

/// A Timestamp or Duration, or a piece of one, in a field of this number.
fn time(number: u8, parts: &[(u8, i64)]) -> Vec<u8> {
    let mut fields = Vec::new();
    for (part, value) in parts {
        fields.push(part << 3);
        prost::encoding::encode_varint(*value as u64, &mut fields);
    }
    [&[number << 3 | 2, fields.len() as u8][..], &fields].concat()
}

/// Pieces of times in `p3.Times`' fields `a`, a Timestamp, and `b`, a Duration, and whether they are times together.
fn times_in_pieces() -> Vec<(Vec<Vec<u8>>, bool)> {
    let (seconds, nanos) = (1, 2);
    let a = |parts: &[(u8, i64)]| time(1, parts);
    let b = |parts: &[(u8, i64)]| time(2, parts);
    let usual = a(&[(seconds, 1_700_000_000), (nanos, 5_000)]);
    vec![
        // Out of range, and put right: all of it, half of it, in three pieces.
        (vec![a(&[(nanos, 1 << 30)]), usual.clone()], true),
        (vec![a(&[(nanos, 1 << 30)]), a(&[(nanos, 7_000)])], true),
        (vec![a(&[(nanos, -1), (seconds, i64::MAX)]), a(&[(nanos, 7)]), a(&[(seconds, 8)])], true),
        (vec![a(&[(nanos, -1), (seconds, i64::MAX)]), a(&[(nanos, 7)]), a(&[])], false),
        // The other way round.
        (vec![usual.clone(), a(&[(nanos, 1 << 30)])], false),
        (vec![usual.clone(), a(&[(nanos, 1 << 30)]), a(&[(nanos, 7)]), a(&[(nanos, -1)])], false),
        (vec![usual.clone(), a(&[(seconds, i64::MIN)]), usual.clone()], true),
        // Nanoseconds that a column of microseconds does not show have a sign all the same.
        (vec![b(&[(nanos, -1)])], true),
        (vec![b(&[(nanos, -1)]), b(&[(seconds, 1)])], false),
        (vec![b(&[(nanos, -1)]), b(&[(seconds, -1)])], true),
        (vec![b(&[(nanos, -1)]), b(&[(seconds, 1)]), b(&[(nanos, 999)])], true),
        (vec![b(&[(seconds, -3), (nanos, -999)]), b(&[(seconds, 3)])], false),
        (vec![b(&[(seconds, -3), (nanos, -1000)]), b(&[(seconds, 3)])], false),
        (vec![b(&[(seconds, -3), (nanos, -1000)]), b(&[(nanos, 0)]), b(&[(seconds, 3)])], true),
        // Two fields, of which one is put right.
        (vec![a(&[(nanos, -1)]), b(&[(nanos, i64::MAX), (seconds, 1)]), usual, b(&[(nanos, 5)])], true),
        (vec![a(&[(nanos, -1)]), b(&[(nanos, 1 << 30)]), b(&[(nanos, 5)])], false),
    ]
}

#[test]
fn times_of_pieces_are_judged_together() {
    let mut times = Case::new("p3.Times", TypeRules::default());
    let mut choice = Case::new("p3.Choice", TypeRules::default());
    let mut maps = Case::new("p3.Maps", TypeRules::default());
    for (pieces, good) in times_in_pieces() {
        let whole = pieces.concat();
        assert_eq!(times.check(&[&whole[..], &[], &whole]), 1 + 2 * usize::from(good), "{pieces:02x?}");
        // As the value of a map, that of the oneof's field `at` and that of another map's entry, which no field says to be there.
        let of_a: Vec<_> =
            pieces.iter().filter(|piece| piece[0] == 0x0a).map(|piece| [&[0x2a], &piece[1..]].concat()).collect();
        let of_b: Vec<_> = pieces.iter().filter(|piece| piece[0] == 0x12).cloned().collect();
        if of_b.is_empty() {
            assert_eq!(choice.check(&[of_a.concat()]), usize::from(good), "{pieces:02x?}");
            // Another field of the oneof takes it away.
            assert_eq!(choice.check(&[[of_a.concat(), vec![0x1a, 1, b'a']].concat()]), 1);
        }
        if of_a.is_empty() {
            let entry = [&[0x0a, 1, b'k'], &of_b.concat()[..]].concat();
            let entry = [&[0x32, entry.len() as u8], &entry[..]].concat();
            assert_eq!(maps.check(&[entry.repeat(2)]), usize::from(good), "{pieces:02x?}");
        }
    }
    // Elements of a list are no pieces of each other.
    let out_of_range = time(11, &[(2, 1 << 30)]);
    assert_eq!(Case::new("p3.Lists", TypeRules::default()).check(&[[out_of_range, time(11, &[(2, 5)])].concat()]), 0);
    let error = refused("p3.Times", &[time(1, &[(2, 1 << 30)]), time(2, &[(2, -1)])].concat());
    assert_eq!((error.path.as_str(), error.offset, error.reason), ("p3.Times.a", 2, Reason::Timestamp));
}

/// The same in a message that is kept as its bytes.
#[test]
fn times_of_pieces_that_are_not_unfolded_are_judged_together() {
    let mut checks = CheckPlan::default();
    let place = checks.message(&message("p3.Times"));
    for (pieces, good) in times_in_pieces() {
        assert_eq!(checks.check(place, &pieces.concat(), 0).is_ok(), good, "{pieces:02x?}");
    }
    // Of a oneof only the last is there.
    let place = checks.message(&message("p3.Choice"));
    let (second, nano, text) = (time(5, &[(1, 1)]), time(5, &[(2, -1)]), [0x1a, 1, b'a']);
    assert!(checks.check(place, &[&nano[..], &text, &second].concat(), 0).is_ok());
    assert!(checks.check(place, &[&nano[..], &second].concat(), 0).is_err());
    // Pieces of the message that holds the time: `p3.Choice.again`.
    let mut choice = Case::new("p3.Choice", TypeRules { recursion_depth: 0, ..TypeRules::default() });
    let again = |bytes: &[u8]| [&[0x4a, bytes.len() as u8], bytes].concat();
    assert_eq!(choice.check(&[again(&nano), [again(&nano), again(&time(5, &[(2, 1)]))].concat()]), 1);
    assert_eq!(choice.check(&[[again(&nano), again(&second)].concat()]), 0);
}

/// Entries of one key: the last is the map's, and the others are as if they had not come.
#[test]
fn an_entry_takes_away_that_of_the_same_key() {
    let entry = |tag: u8, body: &[&[u8]]| [&[tag, body.concat().len() as u8], &body.concat()[..]].concat();
    let mut maps = Case::new("p3.Maps", TypeRules::default());
    let mut check = |entries: &[Vec<u8>], good: bool| {
        assert_eq!(maps.check(&[entries.concat()]), usize::from(good), "{entries:02x?}");
    };
    // A Duration that is none, and one that is.
    let (key, other): (&[u8], &[u8]) = (&[0x0a, 1, b'k'], &[0x0a, 1, b'l']);
    let (bad, good) = (time(2, &[(2, 1 << 30)]), time(2, &[(1, 7)]));
    check(&[entry(0x32, &[key, &bad])], false);
    check(&[entry(0x32, &[key, &bad]), entry(0x32, &[key, &good])], true);
    check(&[entry(0x32, &[key, &bad]), entry(0x32, &[&good, key])], true);
    check(&[entry(0x32, &[key, &bad]), entry(0x32, &[other, &good])], false);
    check(&[entry(0x32, &[key, &good]), entry(0x32, &[key, &bad])], false);
    check(&[entry(0x32, &[key, &bad]), entry(0x32, &[key, &good]), entry(0x32, &[key, &bad])], false);
    // No key is the empty one; of two the last counts; of another wire type it is none.
    check(&[entry(0x32, &[&bad]), entry(0x32, &[&[0x0a, 0], &good])], true);
    check(&[entry(0x32, &[key, other, &bad]), entry(0x32, &[key, &good])], false);
    check(&[entry(0x32, &[key, other, &bad]), entry(0x32, &[other, &good])], true);
    check(&[entry(0x32, &[key, &[0x08, 1], &bad]), entry(0x32, &[key, &good])], true);

    let mut required = Case::new(REQUIRED, TypeRules::default());
    let id: &[u8] = &[8, 1];
    let (lacking, whole): (&[u8], &[u8]) = (&[0x12, 0], &[0x12, 3, 0x0a, 1, b'n']);
    let records = [
        [id, &entry(0x22, &[key]), &entry(0x22, &[key, whole])].concat(),
        [id, &entry(0x22, &[key, lacking]), &entry(0x22, &[other, whole]), &entry(0x22, &[key, whole])].concat(),
        [id, &entry(0x22, &[key, lacking]), &entry(0x22, &[other, whole])].concat(),
    ];
    assert_eq!(required.check(&records), 2);
}

/// Keys are what they are read as, however they are written.
#[test]
fn keys_are_compared_as_they_are_read() {
    use prost_reflect::Kind;

    use crate::format::protobuf::check::Key;
    let minus_one: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let long = |bytes: &[u8]| [&[8], bytes].concat();
    for (kind, one, other, equal) in [
        (Kind::Int32, long(minus_one), long(&[0xff, 0xff, 0xff, 0xff, 0x0f]), true),
        (Kind::Int64, long(minus_one), long(&[0xff, 0xff, 0xff, 0xff, 0x0f]), false),
        (Kind::Sint32, long(&[1]), long(&[0x81, 0x80, 0]), true),
        (Kind::Uint32, long(&[1]), long(&[0x81, 0x80, 0x80, 0x80, 0x10]), true),
        (Kind::Uint64, long(&[1]), long(&[0x81, 0x80, 0x80, 0x80, 0x10]), false),
        (Kind::Bool, long(&[1]), long(&[0x80, 2]), true),
        (Kind::Bool, long(&[0]), vec![], true),
        (Kind::Fixed32, vec![0x0d, 1, 0, 0, 0], vec![0x0d, 1, 0, 0, 1], false),
        (Kind::Sfixed64, vec![9, 0, 0, 0, 0, 0, 0, 0, 0], vec![0x0d, 1, 0, 0, 1], true),
        (Kind::String, vec![0x0a, 1, 8], vec![0x12, 1, 9, 0x0a, 1, 8], true),
        (Kind::String, vec![0x0a, 1, 8], vec![0x0a, 1, 9], false),
    ] {
        assert_eq!(Key::of(&kind, &one) == Key::of(&kind, &other), equal, "{kind:?} {one:02x?} {other:02x?}");
    }
}

/// What was wrong with a member of a oneof goes with it, however deep it lies.
#[test]
fn a_member_of_a_oneof_takes_away_another() {
    // `leg` and `again` of p3.Choice: inside of `again`, a list of `inner`; elements of a list of times.
    let (text, nested) = ([0x1a, 1, b'a'], time(9, &[]));
    let bad = time(5, &[(2, -1)]);
    let again = [&[0x4a, bad.len() as u8], &bad[..]].concat();
    let mut choice = Case::new("p3.Choice", TypeRules::default());
    assert_eq!(choice.check(&[bad.clone(), again.clone(), [&again[..], &nested].concat()]), 0);
    assert_eq!(choice.check(&[[&bad[..], &text].concat(), [&again[..], &text].concat()]), 2);
    // In a group, in a message that is not unfolded.
    let rules = TypeRules { recursion_depth: 0, ..TypeRules::default() };
    let mut choice = Case::new("p3.Choice", rules);
    assert_eq!(choice.check(&[again.clone(), [&again[..], &text].concat(), [&again[..], &text, &again].concat()]), 1);
    // A list of times in a message that comes again stays what it is.
    let k = time(11, &[(2, 1 << 30)]);
    let lists = [&[0x1a, k.len() as u8], &k[..]].concat();
    assert_eq!(Case::new("p3.Everything", TypeRules::default()).check(&[lists.repeat(2)]), 0);
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
