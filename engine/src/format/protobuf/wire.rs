//! The protobuf wire format: tags, varints, lengths. Nothing here panics on any input.
//!
//! A reader is a byte slice that shrinks: each function takes what it reads off the front.

use super::error::Reason;

/// A varint number.
pub(super) const VARINT: u32 = 0;
/// Eight bytes, little endian.
pub(super) const FIXED64: u32 = 1;
/// A varint length and that many bytes.
pub(super) const DELIMITED: u32 = 2;
/// A group begins.
pub(super) const START_GROUP: u32 = 3;
/// A group ends.
pub(super) const END_GROUP: u32 = 4;
/// Four bytes, little endian.
pub(super) const FIXED32: u32 = 5;

/// How deep groups and messages may be nested; what the official libraries allow.
pub(super) const MAX_DEPTH: u32 = 100;

const CONTINUES: u64 = 0x8080_8080_8080_8080;

/// A field's tag.
pub(super) const fn tag(number: u32, wire_type: u32) -> u32 {
    number << 3 | wire_type
}

/// Reads a varint. `None`: there is none, and `rest` is as it was; [`varint_fault`] says why.
#[inline(always)]
pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (value, behind) = match usual_varint(rest) {
        Some(usual) => usual,
        None => unusual_varint(rest)?,
    };
    *rest = behind;
    Some(value)
}

/// Near the end of the message, or a number of nine or ten bytes.
#[inline(never)]
fn unusual_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    if bytes.len() < 8
        && let Some((value, length)) = varint_of(last_bytes(bytes))
    {
        return Some((value, bytes.get(length..)?));
    }
    let (value, length) = varint_slow(bytes).ok()?;
    Some((value, bytes.get(length..)?))
}

/// A varint and what follows it, as is usual: it is one byte, or at most eight with bytes behind it. `None` says nothing.
#[inline(always)]
pub(super) fn usual_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, tail) = bytes.split_first()?;
    if first < 0x80 {
        return Some((u64::from(first), tail));
    }
    let (value, length) = varint_of(u64::from_le_bytes(*bytes.first_chunk::<8>()?))?;
    Some((value, bytes.get(length..)?))
}

/// The varint that a word begins with, and its length, if it ends there.
#[inline(always)]
pub(super) fn varint_of(word: u64) -> Option<(u64, usize)> {
    let ends = !word & CONTINUES;
    if ends == 0 {
        return None;
    }
    // Eight bytes at once: find the byte that ends the number, mask what follows it (all bits up to the first end are its own),
    // squeeze out the marks.
    let own = word & (ends ^ (ends - 1));
    Some((squeeze(own), ends.trailing_zeros() as usize / 8 + 1))
}

/// Why there is no varint.
#[cold]
pub(super) fn varint_fault(rest: &[u8]) -> Reason {
    varint_slow(rest).err().unwrap_or(Reason::Truncated)
}

/// At most seven bytes as a word, filled up with bytes that end nothing.
#[inline(always)]
fn last_bytes(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let word = if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // The two overlap and read the same where they do.
        u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << (8 * (length - 4))
    } else {
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    word | CONTINUES.checked_shl(8 * length as u32).unwrap_or(0)
}

/// Joins the low seven bits of each byte.
#[inline(always)]
pub(super) fn squeeze(word: u64) -> u64 {
    let word = word & 0x7f7f_7f7f_7f7f_7f7f;
    let word = (word & 0x007f_007f_007f_007f) | ((word & 0x7f00_7f00_7f00_7f00) >> 1);
    let word = (word & 0x0000_3fff_0000_3fff) | ((word & 0x3fff_0000_3fff_0000) >> 2);
    (word & 0x0fff_ffff) | ((word & 0x0fff_ffff_0000_0000) >> 4)
}

/// Byte by byte: near the end of the message, and for numbers of nine and ten bytes.
#[inline(never)]
fn varint_slow(bytes: &[u8]) -> Result<(u64, usize), Reason> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            // The tenth byte holds one bit.
            if index == 9 && byte > 1 {
                return Err(Reason::VarintTooLong);
            }
            return Ok((value, index + 1));
        }
    }
    Err(if bytes.len() < 10 { Reason::Truncated } else { Reason::VarintTooLong })
}

/// Reads a tag: `number << 3 | wire type`. The number is checked, the wire type is not.
#[inline(always)]
pub(super) fn read_tag(rest: &mut &[u8]) -> Result<u32, Reason> {
    let tag = varint(rest).ok_or_else(|| varint_fault(rest))?;
    match u32::try_from(tag) {
        Ok(tag) if tag >= 8 => Ok(tag),
        _ => Err(Reason::FieldNumber),
    }
}

/// Reads a length and that many bytes. `None` leaves `rest` as it was; [`delimited_fault`] says why.
#[inline(always)]
pub(super) fn delimited<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    delimited_within(rest).map(|(bytes, _)| bytes)
}

/// The same, with what they are the beginning of: all that is left of the message. Short bytes are read faster with bytes
/// behind them.
#[inline(always)]
pub(super) fn delimited_within<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut tail = *rest;
    let length = usize::try_from(varint(&mut tail)?).ok()?;
    let (bytes, behind) = tail.split_at_checked(length)?;
    *rest = behind;
    Some((bytes, tail))
}

/// A length, and all that follows it, as is usual: the length is one byte and not too large. `None` says nothing.
#[inline(always)]
pub(super) fn usual_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&length, tail) = bytes.split_first()?;
    (length < 0x80 && usize::from(length) <= tail.len()).then_some((usize::from(length), tail))
}

/// Why there are no length and bytes.
#[cold]
pub(super) fn delimited_fault(rest: &[u8]) -> Reason {
    varint_slow(rest).err().unwrap_or(Reason::Truncated)
}

/// Reads four bytes. `None`: they are not there.
#[inline(always)]
pub(super) fn fixed32(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*bytes))
}

/// Reads eight bytes. `None`: they are not there.
#[inline(always)]
pub(super) fn fixed64(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*bytes))
}

/// Skips the value that follows `tag`. An end of group is not a value.
#[inline(always)]
pub(super) fn skip(tag: u32, rest: &mut &[u8], depth: u32) -> Result<(), Reason> {
    match tag & 7 {
        VARINT => varint(rest).map(|_| ()).ok_or_else(|| varint_fault(rest)),
        FIXED64 => fixed64(rest).map(|_| ()).ok_or(Reason::Truncated),
        DELIMITED => delimited(rest).map(|_| ()).ok_or_else(|| delimited_fault(rest)),
        FIXED32 => fixed32(rest).map(|_| ()).ok_or(Reason::Truncated),
        START_GROUP => group(tag >> 3, rest, depth).map(|_| ()),
        END_GROUP => Err(Reason::Group),
        other => Err(Reason::WireType(other as u8)),
    }
}

/// Reads a group up to and with its end tag; gives the bytes between.
#[inline(never)]
pub(super) fn group<'a>(number: u32, rest: &mut &'a [u8], depth: u32) -> Result<&'a [u8], Reason> {
    if depth >= MAX_DEPTH {
        return Err(Reason::TooDeep);
    }
    let start = *rest;
    loop {
        let length = start.len() - rest.len();
        let inner = read_tag(rest)?;
        if inner == tag(number, END_GROUP) {
            return Ok(start.get(..length).unwrap_or_default());
        }
        skip(inner, rest, depth + 1)?;
    }
}

/// Checks that `bytes` are a sequence of fields.
pub(super) fn check_fields(mut bytes: &[u8]) -> Result<(), Reason> {
    while !bytes.is_empty() {
        let tag = read_tag(&mut bytes)?;
        skip(tag, &mut bytes, 0)?;
    }
    Ok(())
}

/// Small magnitudes of either sign to small numbers.
#[inline(always)]
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The inverse of [`zigzag`].
#[inline(always)]
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    #[test]
    fn varints_of_every_length() {
        for bits in 0..=64u32 {
            for value in [u64::MAX.checked_shr(64 - bits).unwrap_or(0), 1u64.checked_shl(bits).unwrap_or(0)] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len(), (64 - value.leading_zeros() as usize).div_ceil(7).max(1), "{value}");
                // Near the end and with bytes after it take different paths.
                for padding in [0, 1, 2, 3, 4, 8] {
                    let mut padded = bytes.clone();
                    padded.resize(bytes.len() + padding, 0xff);
                    let mut rest = padded.as_slice();
                    assert_eq!(varint(&mut rest), Some(value));
                    assert_eq!(rest.len(), padding);
                }
                for cut in 0..bytes.len() {
                    assert_eq!(varint(&mut &bytes[..cut]), None);
                    assert_eq!(varint_fault(&bytes[..cut]), Reason::Truncated);
                }
            }
        }
    }

    #[test]
    fn overlong_varints() {
        // Padding zeros are legal up to ten bytes.
        let mut padded = [0x80u8; 10];
        padded[9] = 0;
        assert_eq!(varint(&mut &padded[..]), Some(0));
        padded[9] = 2;
        assert_eq!(varint(&mut &padded[..]), None);
        assert_eq!(varint_fault(&padded), Reason::VarintTooLong);
        assert_eq!(varint(&mut &[0xffu8; 11][..]), None);
        assert_eq!(varint_fault(&[0xff; 11]), Reason::VarintTooLong);
    }

    #[test]
    fn field_number_zero_and_beyond_the_limit() {
        assert_eq!(read_tag(&mut &[0x00u8][..]), Err(Reason::FieldNumber));
        assert_eq!(read_tag(&mut &[0x07u8][..]), Err(Reason::FieldNumber));
        assert_eq!(read_tag(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), Err(Reason::FieldNumber));
        assert_eq!(read_tag(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Ok(u32::MAX));
    }

    #[test]
    fn groups_match_and_end_somewhere() {
        // 1 { 2 {} }
        assert_eq!(skip(tag(1, START_GROUP), &mut &[0x13u8, 0x14, 0x0c][..], 0), Ok(()));
        // The inner group is closed by the outer's end.
        assert_eq!(skip(tag(1, START_GROUP), &mut &[0x13u8, 0x0c, 0x14][..], 0), Err(Reason::Group));
        assert_eq!(skip(tag(1, START_GROUP), &mut &[0x13u8][..], 0), Err(Reason::Truncated));
        let deep = [0x0bu8; 100_000];
        assert_eq!(check_fields(&deep), Err(Reason::TooDeep));
    }

    proptest! {
        #[test]
        fn zigzag_there_and_back(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn reading_random_bytes_ends(bytes: Vec<u8>) {
            let _ = check_fields(&bytes);
        }
    }
}
