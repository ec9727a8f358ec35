//! The bytes in front of a record.

use crate::format::decoder::DecodeError;

/// Magic byte and id.
const HEAD: usize = 5;

/// Messages nested deeper than this are no messages.
const DEPTH_MAX: usize = 100;

pub(in crate::format) fn refused(reason: impl Into<String>) -> DecodeError {
    DecodeError { field: String::new(), offset: 0, reason: reason.into(), batch_full: false, awaits: false }
}

/// A record's id, and what stands behind it.
pub(in crate::format) fn opened(record: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match record {
        [0, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        [0, ..] => Err(refused(format!("the record ends within its schema's id, after {} bytes", record.len()))),
        _ => Err(refused("the record carries no schema's id: its first byte is not 0")),
    }
}

/// The place of a protobuf message in its file: how many bytes say it, and the places.
pub(super) fn places(body: &[u8]) -> Result<(usize, Vec<usize>), DecodeError> {
    let mut at = 0;
    let count = number(body, &mut at)?;
    if count == 0 {
        // The first message, in short.
        return Ok((at, vec![0]));
    }
    if count > DEPTH_MAX {
        return Err(refused(format!("the record's message is said to be nested {count} deep")));
    }
    let places = (0..count).map(|_| number(body, &mut at)).collect::<Result<_, _>>()?;
    Ok((at, places))
}

/// A zigzag varint that is not negative.
fn number(body: &[u8], at: &mut usize) -> Result<usize, DecodeError> {
    let mut value: u64 = 0;
    for shift in (0..35).step_by(7) {
        let Some(byte) = body.get(*at) else {
            return Err(refused("the record ends within the place of its message"));
        };
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return match usize::try_from(value >> 1) {
                Ok(number) if value & 1 == 0 => Ok(number),
                _ => Err(refused("the place of the record's message is negative")),
            };
        }
    }
    Err(refused("the place of the record's message is no number"))
}

/// Magic byte and id.
pub(in crate::format) fn head(id: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD);
    bytes.push(0);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes
}

/// Appends the place of a message in its file.
pub(super) fn push_places(bytes: &mut Vec<u8>, places: &[usize]) {
    if places == [0] {
        return bytes.push(0);
    }
    push_number(bytes, places.len());
    places.iter().for_each(|place| push_number(bytes, *place));
}

fn push_number(bytes: &mut Vec<u8>, number: usize) {
    let mut value = (number as u64) << 1;
    while value >= 0x80 {
        bytes.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_there_and_back() {
        for place in [vec![0], vec![1], vec![0, 0], vec![3, 200, 0]] {
            let mut bytes = head(0x0102_0304);
            push_places(&mut bytes, &place);
            bytes.extend_from_slice(b"rest");
            let (id, body) = opened(&bytes).unwrap();
            let (length, found) = places(body).unwrap();
            assert_eq!((id, &found, &body[length..]), (0x0102_0304, &place, &b"rest"[..]));
        }
        // As the official client writes the second message, and the one inside of it.
        let (_, body) = opened(&[0, 0, 0, 0, 4, 4, 2, 0, 10]).unwrap();
        assert_eq!(places(body).unwrap(), (3, vec![1, 0]));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let reason = |record: &[u8]| {
            let outcome = opened(record).and_then(|(_, body)| places(body));
            outcome.unwrap_err().reason
        };
        assert!(reason(b"\x0aabcd").contains("first byte"));
        assert!(reason(&[0, 0, 1]).contains("after 3 bytes"));
        assert!(reason(&[0, 0, 0, 0, 1]).contains("ends within the place"));
        assert!(reason(&[0, 0, 0, 0, 1, 1]).contains("negative"));
        assert!(reason(&[0, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x80]).contains("no number"));
        assert!(reason(&[0, 0, 0, 0, 1, 0xfe, 0x01]).contains("nested 127 deep"));
    }
}
