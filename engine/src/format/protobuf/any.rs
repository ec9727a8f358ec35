//! What is inside of a `google.protobuf.Any`, as JSON by protobuf's own mapping.
//!
//! Each row may hold another message, so the contents can't be columns. A type that the descriptor does not define, and
//! bytes that are not of the type that is named, have none: `type_url` and `value` are there in any case.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::buffer::NullBuffer;
use chrono::{DateTime, SecondsFormat};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde_json::{Map, Value as Json};

use super::json::float;
use crate::error::{Error, Result};

/// How deep an `Any` may lie in an `Any`.
const MAX_DEPTH: usize = 10;

/// The contents of Anys whose columns `type_url` and `value` are the arrays; `nulls`: where there is no Any.
pub(super) fn json(pool: &DescriptorPool, columns: &[ArrayRef], nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    let [urls, values] = columns else {
        return Err(Error::internal("an Any has other fields than type_url and value"));
    };
    let (urls, values) = (urls.as_string_view(), values.as_binary::<i32>());
    let mut texts = StringViewBuilder::with_capacity(urls.len());
    for row in 0..urls.len() {
        let there = nulls.is_none_or(|nulls| nulls.is_valid(row)) && urls.is_valid(row) && values.is_valid(row);
        let contents = there.then(|| contents(pool, urls.value(row), values.value(row), 0)).flatten();
        texts.append_option(contents.map(|json| json.to_string()));
    }
    Ok(Arc::new(texts.finish()))
}

fn contents(pool: &DescriptorPool, url: &str, value: &[u8], depth: usize) -> Option<Json> {
    let (_, name) = url.rsplit_once('/')?;
    let descriptor = pool.get_message_by_name(name)?;
    message(&DynamicMessage::decode(descriptor, value).ok()?, depth)
}

/// A message by protobuf's mapping to JSON, its fields under the names that the definition gives them.
fn message(message: &DynamicMessage, depth: usize) -> Option<Json> {
    let descriptor = message.descriptor();
    let number = |field: u32| message.get_field_by_number(field).and_then(|value| value.as_i64());
    let nanos = || message.get_field_by_number(2).and_then(|value| value.as_i32());
    let Some(known) = descriptor.full_name().strip_prefix("google.protobuf.") else { return fields(message, depth) };
    match known {
        "Any" if depth < MAX_DEPTH => {
            let (url, value) = (message.get_field_by_number(1)?, message.get_field_by_number(2)?);
            contents(descriptor.parent_pool(), url.as_str()?, value.as_bytes()?, depth + 1)
        }
        "Any" => None,
        "Timestamp" => {
            let time = DateTime::from_timestamp(number(1)?, u32::try_from(nanos()?).ok()?)?;
            Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
        }
        "Duration" => Some(length(number(1)?, nanos()?).into()),
        "FieldMask" => {
            let paths = message.get_field_by_number(1)?;
            let paths: Vec<&str> = paths.as_list()?.iter().filter_map(Value::as_str).collect();
            Some(paths.join(",").into())
        }
        "Struct" | "Value" | "ListValue" => {
            let bytes = message.encode_to_vec();
            let kind = match known {
                "Struct" => crate::schema::types::JsonKind::Struct,
                "Value" => crate::schema::types::JsonKind::Value,
                _ => crate::schema::types::JsonKind::List,
            };
            super::json::json(kind, &bytes).ok()
        }
        name if name.ends_with("Value") => {
            let field = descriptor.get_field(1)?;
            one(&message.get_field(&field), &field.kind(), depth)
        }
        _ => fields(message, depth),
    }
}

fn fields(message: &DynamicMessage, depth: usize) -> Option<Json> {
    let mut members = Map::new();
    for (field, value) in message.fields() {
        members.insert(field.name().to_owned(), field_value(&field, value, depth)?);
    }
    for (extension, value) in message.extensions() {
        let kind = extension.kind();
        let json = match value {
            Value::List(values) => values.iter().map(|value| one(value, &kind, depth)).collect(),
            value => one(value, &kind, depth),
        };
        members.insert(format!("[{}]", extension.full_name()), json?);
    }
    Some(Json::Object(members))
}

fn field_value(field: &FieldDescriptor, value: &Value, depth: usize) -> Option<Json> {
    match (value, field.kind()) {
        (Value::List(values), kind) => values.iter().map(|value| one(value, &kind, depth)).collect(),
        (Value::Map(entries), Kind::Message(entry)) => {
            let kind = entry.map_entry_value_field().kind();
            let mut members: Vec<(String, Json)> = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                members.push((name_of(key), one(value, &kind, depth)?));
            }
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Some(Json::Object(members.into_iter().collect()))
        }
        (value, kind) => one(value, &kind, depth),
    }
}

fn one(value: &Value, kind: &Kind, depth: usize) -> Option<Json> {
    Some(match value {
        Value::Bool(truth) => (*truth).into(),
        Value::I32(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        // Protobuf's JSON has 64-bit integers as texts, since JavaScript rounds them.
        Value::I64(number) => number.to_string().into(),
        Value::U64(number) => number.to_string().into(),
        Value::F32(number) => number.to_string().parse().map_or(Json::Null, float),
        Value::F64(number) => float(*number),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => base64(bytes).into(),
        Value::EnumNumber(number) => match kind.as_enum().and_then(|values| values.get_value(*number)) {
            Some(value) => value.name().into(),
            None => (*number).into(),
        },
        Value::Message(inner) => message(inner, depth)?,
        Value::List(_) | Value::Map(_) => return None,
    })
}

fn name_of(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Seconds with as many digits as are needed, in threes: `1.500s`.
fn length(seconds: i64, nanos: i32) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    match nanos {
        0 => format!("{sign}{seconds}s"),
        nanos if nanos % 1_000_000 == 0 => format!("{sign}{seconds}.{:03}s", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!("{sign}{seconds}.{:06}s", nanos / 1_000),
        nanos => format!("{sign}{seconds}.{nanos:09}s"),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let place = word >> (18 - 6 * digit) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[place as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_base64() {
        let cases: [(&[u8], &str); 5] =
            [(b"", ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (&[0xff, 0xfe, 0xfd, 0xfc], "//79/A==")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(length(1, 0), "1s");
        assert_eq!(length(0, -500_000_000), "-0.500s");
        assert_eq!(length(-3, -1), "-3.000000001s");
        assert_eq!(length(3, 1_000), "3.000001s");
    }
}
