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

/// Whether `bytes` are such a message; `kind` is a [`JsonKind`] as a number, as a slot holds it.
pub(super) fn check(kind: u32, bytes: &[u8]) -> Result<(), Reason> {
    let decoded = match kind {
        kind if kind == JsonKind::Struct as u32 => decoded::<Struct>(Part::Struct, bytes).map(drop),
        kind if kind == JsonKind::Value as u32 => decoded::<Value>(Part::Value, bytes).map(drop),
        _ => decoded::<ListValue>(Part::List, bytes).map(drop),
    };
    decoded.ok_or(Reason::Json)
}

/// The message that the bytes are. Prost refuses a field of another wire type than its definition says, which is an unknown
/// one: then it is left out.
fn decoded<M: Message + Default>(part: Part, bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok().or_else(|| M::decode(known_fields(part, bytes, 0)?.as_slice()).ok())
}

/// The messages that JSON is made of.
#[derive(Clone, Copy)]
enum Part {
    Struct,
    Entry,
    Value,
    List,
}

impl Part {
    /// The wire type of a field, and what it is if it is a message.
    fn field(self, number: u32) -> Option<(u32, Option<Part>)> {
        match (self, number) {
            (Self::Struct, 1) => Some((wire::DELIMITED, Some(Self::Entry))),
            (Self::Entry, 2) | (Self::List, 1) => Some((wire::DELIMITED, Some(Self::Value))),
            (Self::Entry, 1) | (Self::Value, 3) => Some((wire::DELIMITED, None)),
            (Self::Value, 1 | 4) => Some((wire::VARINT, None)),
            (Self::Value, 2) => Some((wire::FIXED64, None)),
            (Self::Value, 5) => Some((wire::DELIMITED, Some(Self::Struct))),
            (Self::Value, 6) => Some((wire::DELIMITED, Some(Self::List))),
            _ => None,
        }
    }
}

/// The fields that the message has, without all others.
fn known_fields(part: Part, mut rest: &[u8], depth: u32) -> Option<Vec<u8>> {
    if depth >= wire::MAX_DEPTH {
        return None;
    }
    let mut out = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let tag = wire::read_tag(&mut rest).ok()?;
        match part.field(tag >> 3).filter(|(wire_type, _)| *wire_type == tag & 7) {
            Some((_, Some(inner))) => {
                let body = known_fields(inner, wire::delimited(&mut rest)?, depth + 1)?;
                prost::encoding::bytes::encode(tag >> 3, &body, &mut out);
            }
            known => {
                wire::skip(tag, &mut rest, 0).ok()?;
                let field = start.get(..start.len() - rest.len())?;
                out.extend_from_slice(if known.is_some() { field } else { &[] });
            }
        }
    }
    Some(out)
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
        JsonKind::Struct => decoded(Part::Struct, bytes).map(object),
        JsonKind::Value => decoded(Part::Value, bytes).map(value),
        JsonKind::List => decoded(Part::List, bytes).map(array),
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
