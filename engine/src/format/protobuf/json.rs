//! `google.protobuf.Struct`, `Value` and `ListValue` as JSON texts, both ways.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, StringViewBuilder};
use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Number};

use super::error::Reason;
use super::wire;
use crate::error::{Error, Result};
use crate::schema::types::JsonKind;

/// Whether `bytes`, which lie in so many messages, are such a message; `kind` is a [`JsonKind`] as a number, as a slot holds it.
pub(super) fn check(kind: u32, bytes: &[u8], level: u32) -> Result<(), Reason> {
    let read = match kind {
        kind if kind == JsonKind::Struct as u32 => read(bytes, level, merge_struct).map(drop),
        kind if kind == JsonKind::Value as u32 => read(bytes, level, merge_value).map(drop),
        _ => read(bytes, level, merge_list).map(drop),
    };
    read.ok_or(Reason::Json)
}

/// Adds the fields of a message's bytes, at this level, to the message.
type Merge<M> = fn(&mut M, &[u8], u32) -> Option<()>;

/// The message that the bytes are; `None` if they are none. Prost's own reading takes an entry of a map with any wire type for one with a
/// length, and refuses other fields with another wire type than theirs: all of these are unknown ones.
fn read<M: Default>(bytes: &[u8], level: u32, merge: Merge<M>) -> Option<M> {
    let mut message = M::default();
    merge(&mut message, bytes, level)?;
    Some(message)
}

/// Of a Struct its entries, of a list its values.
const ELEMENT: u32 = wire::tag(1, wire::DELIMITED);
const KEY: u32 = wire::tag(1, wire::DELIMITED);
const VALUE: u32 = wire::tag(2, wire::DELIMITED);
const NULL: u32 = wire::tag(1, wire::VARINT);
const NUMBER: u32 = wire::tag(2, wire::FIXED64);
const TEXT: u32 = wire::tag(3, wire::DELIMITED);
const BOOL: u32 = wire::tag(4, wire::VARINT);
const STRUCT: u32 = wire::tag(5, wire::DELIMITED);
const LIST: u32 = wire::tag(6, wire::DELIMITED);

/// Calls `take` with the tag of each field; what it does not take is skipped.
fn each_field<'a>(
    mut rest: &'a [u8],
    level: u32,
    mut take: impl FnMut(u32, &mut &'a [u8]) -> Option<bool>,
) -> Option<()> {
    if level > wire::MAX_DEPTH {
        return None;
    }
    while !rest.is_empty() {
        let tag = wire::read_tag(&mut rest).ok()?;
        if !take(tag, &mut rest)? {
            wire::skip(tag, &mut rest, level).ok()?;
        }
    }
    Some(())
}

fn merge_struct(message: &mut Struct, bytes: &[u8], level: u32) -> Option<()> {
    each_field(bytes, level, |tag, rest| {
        if tag != ELEMENT {
            return Some(false);
        }
        let (mut name, mut value) = (String::new(), Value::default());
        each_field(wire::delimited(rest)?, level + 1, |tag, rest| {
            match tag {
                KEY => name = text(rest)?,
                VALUE => merge_value(&mut value, wire::delimited(rest)?, level + 2)?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        message.fields.insert(name, value);
        Some(true)
    })
}

fn merge_list(message: &mut ListValue, bytes: &[u8], level: u32) -> Option<()> {
    each_field(bytes, level, |tag, rest| {
        if tag != ELEMENT {
            return Some(false);
        }
        let mut value = Value::default();
        merge_value(&mut value, wire::delimited(rest)?, level + 1)?;
        message.values.push(value);
        Some(true)
    })
}

/// The last kind counts, and messages of one kind that follow each other are one.
fn merge_value(message: &mut Value, bytes: &[u8], level: u32) -> Option<()> {
    let kind = &mut message.kind;
    each_field(bytes, level, |tag, rest| {
        match tag {
            NULL => *kind = Some(Kind::NullValue(wire::varint(rest)? as i32)),
            NUMBER => *kind = Some(Kind::NumberValue(f64::from_bits(wire::fixed64(rest)?))),
            TEXT => *kind = Some(Kind::StringValue(text(rest)?)),
            BOOL => *kind = Some(Kind::BoolValue(wire::varint(rest)? != 0)),
            STRUCT => {
                let mut inner = match kind.take() {
                    Some(Kind::StructValue(inner)) => inner,
                    _ => Struct::default(),
                };
                merge_struct(&mut inner, wire::delimited(rest)?, level + 1)?;
                *kind = Some(Kind::StructValue(inner));
            }
            LIST => {
                let mut inner = match kind.take() {
                    Some(Kind::ListValue(inner)) => inner,
                    _ => ListValue::default(),
                };
                merge_list(&mut inner, wire::delimited(rest)?, level + 1)?;
                *kind = Some(Kind::ListValue(inner));
            }
            _ => return Some(false),
        }
        Some(true)
    })
}

fn text(rest: &mut &[u8]) -> Option<String> {
    std::str::from_utf8(wire::delimited(rest)?).ok().map(str::to_owned)
}

/// The texts of messages that were checked.
pub(super) fn texts(kind: JsonKind, messages: &BinaryArray) -> Result<ArrayRef> {
    let mut texts = StringViewBuilder::with_capacity(messages.len());
    for message in messages {
        match message {
            Some(bytes) => texts.append_value(json(kind, bytes)?.to_string()),
            None => texts.append_null(),
        }
    }
    Ok(Arc::new(texts.finish()))
}

pub(super) fn json(kind: JsonKind, bytes: &[u8]) -> Result<serde_json::Value> {
    let json = match kind {
        JsonKind::Struct => read(bytes, 0, merge_struct).map(object),
        JsonKind::Value => read(bytes, 0, merge_value).map(value),
        JsonKind::List => read(bytes, 0, merge_list).map(array),
    };
    json.ok_or_else(|| Error::internal("a message that was checked can't be decoded"))
}

fn object(message: Struct) -> serde_json::Value {
    let members = message.fields.into_iter().map(|(name, member)| (name, value(member)));
    serde_json::Value::Object(members.collect::<Map<_, _>>())
}

fn array(message: ListValue) -> serde_json::Value {
    serde_json::Value::Array(message.values.into_iter().map(value).collect())
}

fn value(message: Value) -> serde_json::Value {
    match message.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => float(number),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(truth)) => truth.into(),
        Some(Kind::StructValue(inner)) => object(inner),
        Some(Kind::ListValue(inner)) => array(inner),
    }
}

/// A number as JSON has it: whole ones without a fraction, and as protobuf's JSON a text where JSON has none.
pub(super) fn float(number: f64) -> serde_json::Value {
    /// Up to here every whole number is one of its own.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    if number.fract() == 0.0 && number.abs() <= WHOLE && !(number == 0.0 && number.is_sign_negative()) {
        return (number as i64).into();
    }
    Number::from_f64(number).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

/// The bytes of a message that says what a JSON text says; the error is what is wrong with the text.
pub(super) fn message(kind: JsonKind, text: &str) -> Result<Vec<u8>, String> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    let message = from_json(json)?;
    match (kind, message.kind) {
        (JsonKind::Struct, Some(Kind::StructValue(object))) => Ok(object.encode_to_vec()),
        (JsonKind::Struct, _) => Err("is no JSON object".to_owned()),
        (JsonKind::List, Some(Kind::ListValue(array))) => Ok(array.encode_to_vec()),
        (JsonKind::List, _) => Err("is no JSON array".to_owned()),
        (JsonKind::Value, kind) => Ok(Value { kind }.encode_to_vec()),
    }
}

fn from_json(json: serde_json::Value) -> Result<Value, String> {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(truth) => Kind::BoolValue(truth),
        serde_json::Value::Number(number) => {
            Kind::NumberValue(number.as_f64().ok_or_else(|| format!("has the number {number}, which is no double"))?)
        }
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(values) => {
            let values = values.into_iter().map(from_json).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        serde_json::Value::Object(members) => {
            let fields = members.into_iter().map(|(name, member)| Ok((name, from_json(member)?)));
            Kind::StructValue(Struct { fields: fields.collect::<Result<_, String>>()? })
        }
    };
    Ok(Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(kind: JsonKind, bytes: &[u8]) -> Option<String> {
        check(kind as u32, bytes, 0).ok()?;
        Some(json(kind, bytes).unwrap().to_string())
    }

    #[test]
    fn fields_of_another_wire_type_are_unknown() {
        // An entry, by its tag: {"a": true}.
        let entry = [0x0a, 7, 0x0a, 1, b'a', 0x12, 2, 0x20, 1];
        assert_eq!(text_of(JsonKind::Struct, &entry).as_deref(), Some(r#"{"a":true}"#));
        // A group of the entries' number, which is no entry, and one that does not end.
        assert_eq!(text_of(JsonKind::Struct, &[0x0b, 0x0c]).as_deref(), Some("{}"));
        assert_eq!(text_of(JsonKind::Struct, &[0x0b, 2, 0x0a, 0]), None);
        let group: Vec<u8> = [0x0b].into_iter().chain(entry).chain([0x0c]).collect();
        assert_eq!(text_of(JsonKind::Struct, &group).as_deref(), Some("{}"));
        // Numbers where messages are wanted.
        assert_eq!(text_of(JsonKind::Struct, &[0x08, 5]).as_deref(), Some("{}"));
        assert_eq!(text_of(JsonKind::List, &[0x08, 5, 0x0a, 0]).as_deref(), Some("[null]"));
        assert_eq!(text_of(JsonKind::Value, &[0x0a, 1, 0, 0x20, 1, 0x18, 3]).as_deref(), Some("true"));
    }

    #[test]
    fn the_last_kind_counts_and_messages_of_one_kind_are_one() {
        let list = |number: u8| vec![0x32, 4, 0x0a, 2, 0x20, number];
        assert_eq!(text_of(JsonKind::Value, &[list(1), list(0)].concat()).as_deref(), Some("[true,false]"));
        assert_eq!(text_of(JsonKind::Value, &[list(1), vec![0x20, 1], list(0)].concat()).as_deref(), Some("[false]"));
        assert_eq!(text_of(JsonKind::Value, &[list(1), vec![0x08, 0]].concat()).as_deref(), Some("null"));
    }

    #[test]
    fn what_is_cut_off_or_too_deep_is_refused() {
        let mut bytes = Vec::new();
        for _ in 0..wire::MAX_DEPTH {
            let length = Vec::from_iter([bytes.len() as u8 & 0x7f | 0x80, (bytes.len() >> 7) as u8]);
            bytes = [vec![0x0a], length, bytes].concat();
            bytes = [vec![0x32], vec![bytes.len() as u8 & 0x7f | 0x80, (bytes.len() >> 7) as u8], bytes].concat();
        }
        assert_eq!(text_of(JsonKind::Value, &bytes), None);
        for bytes in [&[0x32, 4, 0x0a][..], &[0x11, 1], &[0x1a, 1, 0xff], &[0x08], &[0x0f]] {
            assert_eq!(text_of(JsonKind::Value, bytes), None, "{bytes:?}");
        }
    }
}
