//! A record as the specification has it.

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::format::protobuf::compile::wire_type;
use crate::format::protobuf::time::{duration, timestamp};
use crate::format::protobuf::wire;
use crate::schema::{MessageField, fields_of};

/// Why a record is refused.
#[derive(Debug)]
pub(crate) struct Malformed;

/// A record as the specification has it, for an oracle that is less exact: fields that come with another wire type than
/// theirs are unknown, and unknown ones are left out. Fails where the bytes are no fields, or a time is out of range.
pub(crate) fn cleaned(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    clean(descriptor, bytes, 0)
}

fn clean(descriptor: &MessageDescriptor, mut rest: &[u8], depth: u32) -> Result<Vec<u8>, Malformed> {
    if depth >= 100 {
        return Err(Malformed);
    }
    let fields = fields_of(descriptor);
    let mut out = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let tag = wire::read_tag(&mut rest).map_err(|_| Malformed)?;
        let field = fields.iter().find(|field| field.number() == tag >> 3);
        let packable = |field: &MessageField| {
            field.is_list() && !matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_))
        };
        let fits = field.filter(|field| wire_type(field) == tag & 7 || packable(field) && tag & 7 == wire::DELIMITED);
        let message = fits.and_then(|field| match field.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        });
        if let Some(message) = message {
            let group = tag & 7 == wire::START_GROUP;
            let body = match group {
                true => wire::group(tag >> 3, &mut rest, 0).map_err(|_| Malformed)?,
                false => wire::delimited(&mut rest).ok_or(Malformed)?,
            };
            match message.full_name() {
                "google.protobuf.Timestamp" => timestamp(body, body, &mut 0).map_err(|_| Malformed)?,
                "google.protobuf.Duration" => duration(body, &mut 0).map_err(|_| Malformed)?,
                _ => {}
            }
            let body = clean(&message, body, depth + 1)?;
            if group {
                prost::encoding::encode_key(tag >> 3, prost::encoding::WireType::StartGroup, &mut out);
                out.extend(body);
                prost::encoding::encode_key(tag >> 3, prost::encoding::WireType::EndGroup, &mut out);
            } else {
                prost::encoding::bytes::encode(tag >> 3, &body, &mut out);
            }
            continue;
        }
        wire::skip(tag, &mut rest, 0).map_err(|_| Malformed)?;
        if fits.is_some() {
            out.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Ok(out)
}

/// Whether something that is required is missing.
pub(crate) fn lacks_required(message: &DynamicMessage) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::Message(inner) => lacks_required(inner),
            Value::List(values) => values.iter().any(inside),
            Value::Map(entries) => entries.values().any(inside),
            _ => false,
        }
    }
    message.descriptor().fields().any(|field| field.is_required() && !message.has_field(&field))
        || message.fields().any(|(_, value)| inside(value))
        || message.extensions().any(|(_, value)| inside(value))
}
