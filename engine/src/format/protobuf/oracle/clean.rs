//! A record as the specification has it.

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::format::protobuf::compile::wire_type;
use crate::format::protobuf::time::{Parts, TimeKind};
use crate::format::protobuf::wire;
use crate::schema::{MessageField, fields_of};

/// Why a record is refused.
#[derive(Debug)]
pub(crate) struct Malformed;

/// A record as the specification has it, for an oracle that is less exact: fields that come with another wire type than
/// theirs are unknown, and unknown ones are left out. Fails where the bytes are no fields.
pub(crate) fn cleaned(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    clean(descriptor, bytes, 0)
}

fn clean(descriptor: &MessageDescriptor, mut rest: &[u8], depth: u32) -> Result<Vec<u8>, Malformed> {
    if depth > 100 {
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
                true => wire::group(tag >> 3, &mut rest, depth).map_err(|_| Malformed)?,
                false => wire::delimited(&mut rest).ok_or(Malformed)?,
            };
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
        wire::skip(tag, &mut rest, depth).map_err(|_| Malformed)?;
        if fits.is_some() {
            out.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Ok(out)
}

/// Whether all that is required is there, and every time is in range.
pub(crate) fn is_well(message: &DynamicMessage) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::Message(inner) => is_well(inner),
            Value::List(values) => values.iter().all(inside),
            Value::Map(entries) => entries.values().all(inside),
            _ => true,
        }
    }
    let kind = match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => Some(TimeKind::Timestamp),
        "google.protobuf.Duration" => Some(TimeKind::Duration),
        _ => None,
    };
    kind.is_none_or(|kind| time(message).micros(kind).is_ok())
        && message.descriptor().fields().all(|field| !field.is_required() || message.has_field(&field))
        && message.fields().all(|(_, value)| inside(value))
        && message.extensions().all(|(_, value)| inside(value))
}

/// What a Timestamp or Duration says.
pub(super) fn time(message: &DynamicMessage) -> Parts {
    let number = |field| message.get_field_by_number(field);
    let seconds = number(1).and_then(|seconds| seconds.as_i64()).unwrap_or_default();
    Parts { seconds, nanos: number(2).and_then(|nanos| nanos.as_i32()).unwrap_or_default() }
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
        // −1 ns, and out of range.
        let nano = [&[0x12, 13, 8, 0, 0x10][..], &nine, &[1]].concat();
        let beyond = [0x12, 8, 8, 0, 0x10, 0x80, 0x80, 0x80, 0x80, 4].to_vec();
        assert!(judged(&times, &nano).is_some() && judged(&times, &beyond).is_none());
        assert!(judged(&times, &[&nano[..], &positive].concat()).is_none());
        assert!(judged(&times, &[&beyond[..], &nano].concat()).is_some());
        // In the field of another message that comes twice.
        let holder = message("p3.Everything");
        let field = holder.get_field_by_name("times").unwrap().number() as u8;
        let within = |bytes: &[u8]| [&[field << 3 | 2, bytes.len() as u8][..], bytes].concat();
        assert!(judged(&holder, &[within(&nano), within(&positive)].concat()).is_none());
        assert!(judged(&holder, &[within(&positive), within(&positive)].concat()).is_some());
    }
}
