//! A record as the specification has it.

use std::collections::HashMap;

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
    clean(descriptor, bytes, 0, &mut Before::default())
}

/// What came before of a message's fields that are no lists: another occurrence is merged into it, and may be a time in itself and none
/// with what was there.
#[derive(Default)]
struct Before {
    micros: HashMap<u32, i64>,
    messages: HashMap<u32, Before>,
}

fn clean(
    descriptor: &MessageDescriptor,
    mut rest: &[u8],
    depth: u32,
    before: &mut Before,
) -> Result<Vec<u8>, Malformed> {
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
        // Another field of a oneof ends what was there.
        if let Some(oneof) = fits.and_then(MessageField::oneof) {
            let others =
                fields.iter().filter(|field| field.number() != tag >> 3 && field.oneof().as_ref() == Some(&oneof));
            for other in others {
                before.micros.remove(&other.number());
                before.messages.remove(&other.number());
            }
        }
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
            if fits.is_some_and(|field| field.is_list() || field.is_map()) {
                before.micros.remove(&(tag >> 3));
                before.messages.remove(&(tag >> 3));
            }
            let micros = before.micros.entry(tag >> 3).or_default();
            match message.full_name() {
                "google.protobuf.Timestamp" => timestamp(body, body, micros).map_err(|_| Malformed)?,
                "google.protobuf.Duration" => duration(body, micros).map_err(|_| Malformed)?,
                _ => {}
            }
            let body = clean(&message, body, depth + 1, before.messages.entry(tag >> 3).or_default())?;
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

#[cfg(test)]
mod tests {
    use crate::format::protobuf::oracle::judged;
    use crate::format::protobuf::oracle::protos::message;

    #[test]
    fn times_are_merged() {
        let times = message("p3.Times");
        // `b`: −1 s and −1 ns; 1 s.
        let nine = [0xff; 9];
        let negative = [&[0x12, 22, 8][..], &nine, &[1, 0x10], &nine, &[1]].concat();
        let positive = [0x12, 2, 8, 1];
        assert!(judged(&times, &negative).is_some());
        assert!(judged(&times, &[&positive[..], &positive].concat()).is_some());
        // A nanosecond is less than what a column holds: a thousand of them are one.
        let micro = [&[0x12, 13, 8, 0, 0x10, 0x98, 0xf8][..], &[0xff; 7], &[1]].concat();
        assert!(judged(&times, &micro).is_some());
        assert!(judged(&times, &[&micro[..], &positive].concat()).is_none());
        // In the field of another message that comes twice.
        let holder = message("p3.Everything");
        let field = holder.get_field_by_name("times").unwrap().number() as u8;
        let within = |bytes: &[u8]| [&[field << 3 | 2, bytes.len() as u8][..], bytes].concat();
        assert!(judged(&holder, &[within(&micro), within(&positive)].concat()).is_none());
        assert!(judged(&holder, &[within(&positive), within(&positive)].concat()).is_some());
    }
}
