//! A growing buffer that numbers are written to a word at a time.

use std::mem::MaybeUninit;

use super::super::wire;

/// Bytes at the end of a growing vector. Handed on by value, so that the place that is written next stays in a register.
///
/// What is written lies in the vector's spare capacity, and is part of the vector when it is [settled](Self::settle).
#[derive(Debug)]
#[must_use]
pub(super) struct Buffer<'v> {
    bytes: &'v mut Vec<u8>,
    /// Where to write next, from the vector's start. All bytes before it were written.
    at: usize,
}

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

    /// Whether the tag, a length of one byte and twelve bytes more are one word.
    #[inline(always)]
    pub(super) fn is_short(self) -> bool {
        self.length <= WORD - 1 - 12
    }
}

/// Bytes that are written at once.
const WORD: usize = 16;

impl<'v> Buffer<'v> {
    /// Writes behind what `bytes` holds.
    pub(super) fn new(bytes: &'v mut Vec<u8>) -> Self {
        let at = bytes.len();
        Self { bytes, at }
    }

    /// Makes what was written part of the vector.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn settle(&mut self) {
        debug_assert!((self.bytes.len()..=self.bytes.capacity()).contains(&self.at));
        // SAFETY: `at` begins at the vector's length and is moved by `put` and `put_bytes` only: each by as many bytes as it
        // has just written there, or by fewer, in the vector's spare capacity. Writing into the vector itself instead costs
        // a tenth of encoding: its length would go through memory with each number.
        unsafe { self.bytes.set_len(self.at) };
    }

    /// The place of so many bytes, if there is room.
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        let from = self.at - self.bytes.len();
        self.bytes.spare_capacity_mut().get_mut(from..)?.get_mut(..bytes)
    }

    #[cold]
    #[inline(never)]
    fn grown(mut self, bytes: usize) -> Self {
        self.settle();
        self.bytes.reserve(bytes.max(WORD));
        self
    }

    /// Writes the low `length` bytes of `word`, at most 16. All 16 are written and the others written over: that is one
    /// store, and does not ask how many.
    #[inline(always)]
    fn put(mut self, word: u128, length: usize) -> Self {
        debug_assert!(length <= WORD);
        match self.room(WORD) {
            Some(place) => {
                place.write_copy_of_slice(&word.to_le_bytes());
                self.at += length;
                self
            }
            None => self.grown(WORD).put_grown(word, length),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_grown(self, word: u128, length: usize) -> Self {
        self.put_bytes(word.to_le_bytes().get(..length).unwrap_or_default())
    }

    /// Writes a tag and a varint.
    #[inline(always)]
    pub(super) fn put_varint(self, tag: Tag, value: u64) -> Self {
        if value >> 56 == 0 {
            let (bytes, length) = spread(value);
            self.put(u128::from(tag.bytes) | u128::from(bytes) << (8 * tag.length), tag.length + length)
        } else {
            self.put_long_varint(tag, value)
        }
    }

    /// Nine and ten bytes: eight hold 56 bits, one or two the rest.
    #[inline(never)]
    fn put_long_varint(self, tag: Tag, value: u64) -> Self {
        let (low, _) = spread(value & (u64::MAX >> 8));
        let rest = value >> 56;
        let (high, length) = if rest < 0x80 { (rest, 9) } else { (rest | 0x180, 10) };
        let bytes = u128::from(low | MARKS) | u128::from(high) << 64;
        self.put(u128::from(tag.bytes) | bytes << (8 * tag.length), tag.length + length)
    }

    /// Writes a tag and the low `length` bytes of `value`: at most 11, or 13 behind a tag that [is short](Tag::is_short).
    #[inline(always)]
    pub(super) fn put_fixed(self, tag: Tag, value: u128, length: usize) -> Self {
        self.put(u128::from(tag.bytes) | value << (8 * tag.length), tag.length + length)
    }

    /// Writes a tag alone.
    #[inline(always)]
    pub(super) fn put_tag(self, tag: Tag) -> Self {
        self.put(tag.bytes.into(), tag.length)
    }

    /// Writes a tag, that is short, and a message of two numbers under the tags 1 and 2; of such that are 0 nothing. The first
    /// has at most 35 bits, the second 30.
    #[inline(always)]
    pub(super) fn put_pair(self, tag: Tag, first: u64, second: u64) -> Self {
        let field = |number: u32, value: u64| {
            let (bytes, length) = spread(value);
            let present = usize::from(value != 0);
            let bytes = bytes << 8 | u64::from(wire::tag(number, wire::VARINT));
            (u128::from(bytes * present as u64), (length + 1) * present)
        };
        let ((first, length), (second, more)) = (field(1, first), field(2, second));
        let body = (first | second << (8 * length)) << 8 | (length + more) as u128;
        self.put_fixed(tag, body, 1 + length + more)
    }

    /// Writes bytes as they are.
    #[inline(always)]
    pub(super) fn put_bytes(mut self, bytes: &[u8]) -> Self {
        match self.room(bytes.len()) {
            Some(place) => {
                copy(place, bytes);
                self.at += bytes.len();
                self
            }
            None => self.grown(bytes.len()).put_bytes_grown(bytes),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_bytes_grown(mut self, bytes: &[u8]) -> Self {
        self.settle();
        self.bytes.extend_from_slice(bytes);
        Self::new(self.bytes)
    }

    /// Writes a tag, a length, and what `body` writes. One byte is kept for the length; a longer one pushes the body
    /// back.
    #[inline(always)]
    pub(super) fn put_delimited(self, tag: Tag, body: impl FnOnce(Self) -> Self) -> Self {
        let out = self.put(tag.bytes.into(), tag.length + 1);
        let start = out.at;
        let mut out = body(out);
        let length = out.at - start;
        out.settle();
        match out.bytes.get_mut(start - 1) {
            Some(place) if length < 0x80 => *place = length as u8,
            _ => return out.push_back(start, length),
        }
        out
    }

    #[inline(never)]
    fn push_back(self, start: usize, length: usize) -> Self {
        let (bytes, width) = spread(length as u64);
        let bytes = bytes.to_le_bytes();
        self.bytes.splice(start - 1..start, bytes.into_iter().take(width));
        Self::new(self.bytes)
    }
}

/// Copies to a place of the same length. Short ones by two words that may overlap.
#[inline(always)]
fn copy(place: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    if bytes.len() <= 2 * WORD
        && let (Some(head), Some(tail)) = (bytes.first_chunk::<WORD>(), bytes.last_chunk::<WORD>())
        && let Some((first, _)) = place.split_first_chunk_mut::<WORD>()
    {
        first.write_copy_of_slice(head);
        if let Some((_, last)) = place.split_last_chunk_mut::<WORD>() {
            last.write_copy_of_slice(tail);
        }
    } else {
        place.write_copy_of_slice(bytes);
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
            values.iter().for_each(|value| Buffer::new(&mut bytes).put_varint(tag, *value).settle());
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
    fn pairs_are_messages_of_what_is_not_zero() {
        let numbers = [0, 1, 0x7f, 0x80, (1 << 30) - 1, (1 << 35) - 1];
        for (first, second) in numbers.iter().flat_map(|first| numbers.map(|second| (*first, second % (1 << 30)))) {
            let mut bytes = Vec::new();
            Buffer::new(&mut bytes).put_pair(Tag::new(1 << 14), first, second).put_bytes(&[7]).settle();
            let mut expected = Vec::new();
            let out = Buffer::new(&mut expected).put_delimited(Tag::new(1 << 14), |mut out| {
                for (number, value) in [(1, first), (2, second)].into_iter().filter(|(_, value)| *value != 0) {
                    out = out.put_varint(Tag::new(wire::tag(number, wire::VARINT)), value);
                }
                out
            });
            out.put_bytes(&[7]).settle();
            assert_eq!(bytes, expected, "{first} {second}");
        }
    }

    #[test]
    fn bytes_of_every_length() {
        let all: Vec<u8> = (0..100).collect();
        for length in 0..=all.len() {
            let mut bytes = vec![9];
            Buffer::new(&mut bytes).put_bytes(&all[..length]).put_bytes(&[1]).settle();
            assert_eq!(bytes, [&[9], &all[..length], &[1]].concat());
        }
    }

    #[test]
    fn lengths_of_every_width() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let body = vec![7; length];
            let mut bytes = Vec::new();
            let buffer = Buffer::new(&mut bytes).put_delimited(Tag::new(10), |buffer| buffer.put_bytes(&body));
            buffer.put_bytes(&[1]).settle();
            let mut rest = bytes.as_slice();
            assert_eq!(wire::read_tag(&mut rest), Ok(10));
            assert_eq!(wire::delimited(&mut rest), Some(body.as_slice()));
            assert_eq!(rest, [1]);
        }
    }
}
