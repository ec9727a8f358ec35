//! Random messages of every construct: bytes → columns → bytes, equal by field to what they were.
//!
//! `RONDEL_PROTOBUF_CASES=1000000 cargo test --release … protobuf::tests` runs as many as one likes.

use prost::Message;
use prost_reflect::DynamicMessage;

use super::source::{Source, cases};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::format::protobuf::oracle::protos::{ALL, message};
use crate::format::protobuf::oracle::same::same;
use crate::format::protobuf::{ProtobufDecoder, ProtobufEncoder};
use crate::schema::{TypeRules, schema_by};

#[test]
fn there_and_back() {
    const ROWS: usize = 20;
    let batches = cases(600).div_ceil(ROWS as u32).max(ALL.len() as u32);
    for seed in 0..u64::from(batches) {
        let name = ALL[seed as usize % ALL.len()];
        let mut source = Source::of_whole_micros(seed);
        // A proto2 default that is shown can't be told from one that was set.
        let rules = TypeRules {
            enum_numbers: source.chance(50),
            unset_is_null: true,
            oneof_case: false,
            recursion_depth: source.below(3),
        };
        let descriptor = message(name);
        let all: Vec<usize> = (0..schema_by(&descriptor, &rules).unwrap().fields().len()).collect();
        let mut decoder = ProtobufDecoder::by_rules(&descriptor, &all, &rules).unwrap();
        let messages: Vec<_> = (0..ROWS).map(|_| source.message(&descriptor, 0)).collect();
        for message in &messages {
            decoder.push(&message.encode_to_vec()).unwrap();
        }
        let batch = decoder.finish().unwrap();
        let mut encoder = ProtobufEncoder::new(&descriptor, &batch.schema()).unwrap();
        let mut out = EncodedRows::default();
        encoder.encode(&batch, &mut out).unwrap();
        for (row, (message, record)) in messages.iter().zip(out.iter()).enumerate() {
            let again = DynamicMessage::decode(descriptor.clone(), record).unwrap();
            same(message, &again).unwrap_or_else(|error| panic!("{name}, seed {seed}, row {row}: {error}"));
        }
    }
}
