//! A growing buffer that numbers are written to a word at a time.

use super::super::wire;

/// Bytes at the end of a growing vector.
#[derive(Debug)]
pub(super) struct Buffer<'v>(&'v mut Vec<u8>);

/// A tag as it is written: its bytes, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    bytes: u64,
    length: usize,
}

impl Tag {
    /// No tag: elements of a packed list.
    pub(super) const NONE: Self = Self { bytes: 0, length: 0 };
    /// Field 1 of a Timestamp or Duration.
    pub(super) const SECONDS: Self = Self { bytes: wire::tag(1, wire::VARINT) as u64, length: 1 };
    /// Field 2.
    pub(super) const NANOS: Self = Self { bytes: wire::tag(2, wire::VARINT) as u64, length: 1 };

    pub(super) fn new(tag: u32) -> Self {
        let (bytes, length) = spread(tag.into());
        Self { bytes, length }
    }
}

impl<'v> Buffer<'v> {
    /// Writes behind what `bytes` holds.
    pub(super) fn new(bytes: &'v mut Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Writes the low `length` bytes of `word`, at most 16. All 16 are written and the others taken back: that is one
    /// store, and does not ask how many.
    #[inline(always)]
    fn put(&mut self, word: u128, length: usize) {
        let end = self.0.len() + length;
        self.0.extend_from_slice(&word.to_le_bytes());
        self.0.truncate(end);
    }

    /// Writes a tag and a varint.
    #[inline(always)]
    pub(super) fn put_varint(&mut self, tag: Tag, value: u64) {
        if value >> 56 == 0 {
            let (bytes, length) = spread(value);
            self.put(u128::from(tag.bytes) | u128::from(bytes) << (8 * tag.length), tag.length + length);
        } else {
            self.put_long_varint(tag, value);
        }
    }

    /// Nine and ten bytes: eight hold 56 bits, one or two the rest.
    #[inline(never)]
    fn put_long_varint(&mut self, tag: Tag, value: u64) {
        let (low, _) = spread(value & (u64::MAX >> 8));
        let rest = value >> 56;
        let (high, length) = if rest < 0x80 { (rest, 9) } else { (rest | 0x180, 10) };
        let bytes = u128::from(low | MARKS) | u128::from(high) << 64;
        self.put(u128::from(tag.bytes) | bytes << (8 * tag.length), tag.length + length);
    }

    /// Writes a tag and the low `length` bytes of `value`, at most 11.
    #[inline(always)]
    pub(super) fn put_fixed(&mut self, tag: Tag, value: u128, length: usize) {
        self.put(u128::from(tag.bytes) | value << (8 * tag.length), tag.length + length);
    }

    /// Writes a tag alone.
    #[inline(always)]
    pub(super) fn put_tag(&mut self, tag: Tag) {
        self.put(tag.bytes.into(), tag.length);
    }

    /// Writes bytes as they are.
    #[inline(always)]
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Writes a tag, a length, and what `body` writes. One byte is kept for the length; a longer one pushes the body
    /// back.
    #[inline(always)]
    pub(super) fn put_delimited(&mut self, tag: Tag, body: impl FnOnce(&mut Self)) {
        self.put(tag.bytes.into(), tag.length + 1);
        let start = self.0.len();
        body(self);
        let length = self.0.len() - start;
        match self.0.get_mut(start - 1) {
            Some(place) if length < 0x80 => *place = length as u8,
            _ => self.push_back(start, length),
        }
    }

    #[inline(never)]
    fn push_back(&mut self, start: usize, length: usize) {
        let (bytes, width) = spread(length as u64);
        let bytes = bytes.to_le_bytes();
        self.0.splice(start - 1..start, bytes.into_iter().take(width));
    }
}

const MARKS: u64 = 0x8080_8080_8080_8080;

/// A varint of at most 56 bits: its bytes, and how many. The inverse of what reading does.
#[inline(always)]
fn spread(value: u64) -> (u64, usize) {
    let length = (70 - (value | 1).leading_zeros() as usize) / 7;
    let bytes = value & 0x0fff_ffff | (value << 4) & 0x0fff_ffff_0000_0000;
    let bytes = bytes & 0x0000_3fff_0000_3fff | (bytes << 2) & 0x3fff_0000_3fff_0000;
    let bytes = bytes & 0x007f_007f_007f_007f | (bytes << 1) & 0x7f00_7f00_7f00_7f00;
    // Every byte but the last is marked.
    (bytes | MARKS & !(u64::MAX << (8 * (length - 1))), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_are_read_again() {
        let mut values = vec![0, u64::MAX];
        values.extend((0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1, u64::MAX >> bit]));
        for tag in [Tag::NONE, Tag::new(8), Tag::new(1 << 14), Tag::new(u32::MAX)] {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| Buffer::new(&mut bytes).put_varint(tag, *value));
            let mut rest = bytes.as_slice();
            for value in &values {
                for _ in 0..tag.length.min(1) {
                    wire::read_tag(&mut rest).unwrap();
                }
                assert_eq!(wire::varint(&mut rest), Some(*value));
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn lengths_of_every_width() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let body = vec![7; length];
            let mut bytes = Vec::new();
            let mut buffer = Buffer::new(&mut bytes);
            buffer.put_delimited(Tag::new(10), |buffer| buffer.put_bytes(&body));
            buffer.put_bytes(&[1]);
            let mut rest = bytes.as_slice();
            assert_eq!(wire::read_tag(&mut rest), Ok(10));
            assert_eq!(wire::delimited(&mut rest), Some(body.as_slice()));
            assert_eq!(rest, [1]);
        }
    }
}
