//! Random messages of every construct: bytes → columns → bytes, equal by field to what they were.
//!
//! `RONDEL_PROTOBUF_CASES=1000000 cargo test --release … protobuf::tests` runs as many as one likes.

use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::oracle::{Source, cases};
use super::protos::{ALL, message};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::format::protobuf::{ProtobufDecoder, ProtobufEncoder};
use crate::schema::{TypeRules, schema_by};

/// Whether two messages say the same, bit by bit: NaN equals itself. Fields that hold their default and have no presence
/// are as good as absent.
fn same(one: &DynamicMessage, other: &DynamicMessage) -> Result<(), String> {
    for field in one.descriptor().fields() {
        let (present, there) = (one.has_field(&field), other.has_field(&field));
        if field.supports_presence() && present != there {
            return Err(format!("{}: set: {present} and {there}", field.name()));
        }
        if field.supports_presence() && !present {
            continue;
        }
        same_value(&one.get_field(&field), &other.get_field(&field))
            .map_err(|error| format!("{}: {error}", field.name()))?;
    }
    for extension in one.descriptor().extensions() {
        if !one.has_extension(&extension) && !other.has_extension(&extension) {
            continue;
        }
        same_value(&one.get_extension(&extension), &other.get_extension(&extension))
            .map_err(|error| format!("{}: {error}", extension.full_name()))?;
    }
    Ok(())
}

/// A value in words; the debug form of a message with a recursive descriptor does not end.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Message(message) => message.to_text_format(),
        Value::List(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            format!("{:?}", entries.iter().map(|(key, value)| (key, shown(value))).collect::<Vec<_>>())
        }
        value => format!("{value:?}"),
    };
    text.chars().take(300).collect()
}

fn same_value(one: &Value, other: &Value) -> Result<(), String> {
    let differ = || Err(format!("{} and {}", shown(one), shown(other)));
    match (one, other) {
        (Value::Message(one), Value::Message(other)) => same(one, other),
        (Value::F32(one), Value::F32(other)) if one.to_bits() == other.to_bits() => Ok(()),
        (Value::F64(one), Value::F64(other)) if one.to_bits() == other.to_bits() => Ok(()),
        (Value::F32(_) | Value::F64(_), _) => differ(),
        (Value::List(ones), Value::List(others)) if ones.len() == others.len() => {
            ones.iter().zip(others).try_for_each(|(one, other)| same_value(one, other))
        }
        (Value::Map(ones), Value::Map(others)) if ones.len() == others.len() => {
            ones.iter().try_for_each(|(key, one)| match others.get(key) {
                Some(other) => same_value(one, other),
                None => Err(format!("{key:?} is missing")),
            })
        }
        _ if one == other => Ok(()),
        _ => differ(),
    }
}

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
