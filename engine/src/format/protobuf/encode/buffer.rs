//! A growing buffer that numbers are written to a word at a time.

use std::mem::MaybeUninit;

use super::super::text::INLINE;
use super::word::{Tag, UsualTime, WORD, Word};

/// Bytes that the longest tag and word take.
pub(super) const ROOM: usize = 8 + WORD;

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
        // SAFETY: `at` begins at the vector's length and is moved by `put`, `put_field`, `put_short_text`, `put_long_text`, `put_time` and
        // `put_bytes` only: each by as many bytes as it has just written there, or by fewer (no word is longer than its 16 bytes, no short
        // text than the 12 that are copied, no long one than the 64), in the vector's spare capacity. Writing into the vector itself instead costs a tenth of encoding: its length would
        // go through memory with each number.
        unsafe { self.bytes.set_len(self.at) };
    }

    /// The place of so many bytes, if there is room.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        if self.bytes.capacity() - self.at < bytes {
            return None;
        }
        // SAFETY: so many bytes from `at` on lie within the capacity, and bytes that may be uninitialised are always valid. The
        // vector's own spare capacity begins at its length, which is another place: asking for that costs a twentieth.
        Some(unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().add(self.at).cast(), bytes) })
    }

    /// Whether a tag and a word find room.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.bytes.capacity() - self.at >= ROOM
    }

    #[cold]
    #[inline(never)]
    pub(super) fn grown(mut self, bytes: usize) -> Self {
        self.settle();
        self.bytes.reserve(bytes.max(WORD));
        self
    }

    /// Writes a word. All of its 16 bytes are written, and those that are not its own written over: that is one store, and does
    /// not ask how many.
    #[inline(always)]
    pub(super) fn put(mut self, word: Word) -> Self {
        match self.room(WORD) {
            Some(place) => {
                place.write_copy_of_slice(&word.bytes());
                self.at += word.length();
                self
            }
            None => self.grown(WORD).put_grown(word),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_grown(self, word: Word) -> Self {
        self.put_bytes(word.bytes().get(..word.length()).unwrap_or_default())
    }

    /// Writes a tag and a word behind it. That is two stores; to join the two first costs more.
    #[inline(always)]
    pub(super) fn put_field(mut self, tag: Tag, word: Word) -> Self {
        match self.room(ROOM) {
            Some(place) => {
                if let Some(first) = place.first_chunk_mut::<8>() {
                    first.write_copy_of_slice(&tag.bytes().to_le_bytes());
                }
                let at = tag.length();
                if let Some(behind) = place.get_mut(at..at + WORD) {
                    behind.write_copy_of_slice(&word.bytes());
                }
                self.at += at + word.length();
                self
            }
            None => self.grown(ROOM).put_field_grown(tag, word),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_field_grown(self, tag: Tag, word: Word) -> Self {
        self.put_grown(tag.word()).put_grown(word)
    }

    /// Writes a tag, a length, and the text that lies in a view of that length: at most 12 bytes. Three stores, since to shift the
    /// text to its length costs more.
    #[inline(always)]
    pub(super) fn put_short_text(mut self, tag: Tag, view: u128) -> Self {
        let (length, at) = (view as u8, tag.length());
        match self.room(ROOM) {
            Some(place) => {
                if let Some(first) = place.first_chunk_mut::<8>() {
                    first.write_copy_of_slice(&tag.bytes().to_le_bytes());
                }
                if let Some([first, behind @ ..]) = place.get_mut(at..at + 1 + INLINE) {
                    first.write(length);
                    if let Some((start, end)) = behind.split_first_chunk_mut::<4>() {
                        start.write_copy_of_slice(&((view >> 32) as u32).to_le_bytes());
                        end.write_copy_of_slice(&((view >> 64) as u64).to_le_bytes());
                    }
                }
                self.at += at + 1 + usize::from(length).min(INLINE);
                self
            }
            None => self.grown(ROOM).put_short_text_grown(tag, view),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_short_text_grown(self, tag: Tag, view: u128) -> Self {
        let length = usize::from(view as u8).min(INLINE);
        self.put_field_grown(tag, Word::of(view >> 32 << 8 | length as u128, length + 1))
    }

    /// Writes a tag, a length, and the first `length` bytes of `within`. Of up to 64 it copies more where there are more: to copy a
    /// number of bytes that is known is faster than to ask how many.
    #[inline(always)]
    pub(super) fn put_long_text(mut self, tag: Tag, within: &[u8], length: usize) -> Self {
        const MOST: usize = 64;
        let at = tag.length();
        if length <= MOST
            && let Some(from) = within.first_chunk::<MOST>()
            && let Some(place) = self.room(8 + 1 + MOST)
        {
            if let Some(first) = place.first_chunk_mut::<8>() {
                first.write_copy_of_slice(&tag.bytes().to_le_bytes());
            }
            if let Some([first, behind @ ..]) = place.get_mut(at..at + 1 + MOST) {
                first.write(length as u8);
                let ((start, end), (one, two)) = (behind.split_at_mut(MOST / 2), from.split_at(MOST / 2));
                start.write_copy_of_slice(one);
                if length > MOST / 2 {
                    end.write_copy_of_slice(two);
                }
            }
            self.at += at + 1 + length;
            return self;
        }
        self.put_length(tag, length).put_bytes(&within[..length])
    }

    /// Writes a tag and a varint.
    #[inline(always)]
    pub(super) fn put_varint(self, tag: Tag, value: u64) -> Self {
        self.put_field(tag, Word::varint(value))
    }

    /// Writes a tag and a length, one byte as is usual.
    #[inline(always)]
    pub(super) fn put_length(self, tag: Tag, length: usize) -> Self {
        let word = if length < 0x80 { Word::of(length as u128, 1) } else { Word::varint(length as u64) };
        self.put_field(tag, word)
    }

    /// Writes a tag and a time.
    #[inline(always)]
    pub(super) fn put_time(mut self, tag: Tag, time: UsualTime) -> Self {
        let at = tag.length();
        match self.room(ROOM) {
            Some(place) => {
                if let Some(first) = place.first_chunk_mut::<8>() {
                    first.write_copy_of_slice(&tag.bytes().to_le_bytes());
                }
                if let Some(behind) = place.get_mut(at..at + UsualTime::FIRST + 8) {
                    if let Some(first) = behind.first_chunk_mut::<8>() {
                        first.write_copy_of_slice(&time.first.to_le_bytes());
                    }
                    if let Some(second) = behind.last_chunk_mut::<8>() {
                        second.write_copy_of_slice(&time.second.to_le_bytes());
                    }
                }
                self.at += at + time.length.min(UsualTime::FIRST + 8);
                self
            }
            None => self.grown(ROOM).put_time_grown(tag, time),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_time_grown(self, tag: Tag, time: UsualTime) -> Self {
        let bytes = u128::from(time.first) | u128::from(time.second) << (8 * UsualTime::FIRST);
        self.put_field_grown(tag, Word::of(bytes, time.length))
    }

    /// Writes a tag alone.
    #[inline(always)]
    pub(super) fn put_tag(self, tag: Tag) -> Self {
        self.put(tag.word())
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
        let out = self.put(tag.and_a_byte());
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
        let length = Word::varint(length as u64);
        self.bytes.splice(start - 1..start, length.bytes().into_iter().take(length.length()));
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

#[cfg(test)]
mod tests {
    use super::super::super::wire;
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
                for _ in 0..tag.length().min(1) {
                    wire::read_tag(&mut rest).unwrap();
                }
                assert_eq!(wire::varint(&mut rest), Some(*value));
            }
            assert!(rest.is_empty());
        }
    }

    fn put_time(out: Buffer<'_>, tag: Tag, (seconds, nanos): (u64, u64)) -> Option<Buffer<'_>> {
        match UsualTime::of(seconds, nanos) {
            Some(time) => Some(out.put_time(tag, time)),
            None => Some(out.put_field(tag, Word::short_time(seconds, nanos)?)),
        }
    }

    #[test]
    fn short_texts_lie_in_their_views() {
        let text = b"abcdefghijkl";
        for (length, tag) in (0..=12).flat_map(|length| [8, 1 << 14, u32::MAX].map(|tag| (length, Tag::new(tag)))) {
            let mut view = [0; 16];
            view[0] = length as u8;
            view[4..4 + length].copy_from_slice(&text[..length]);
            for room in 0..40 {
                let mut bytes = Vec::with_capacity(room);
                let out = Buffer::new(&mut bytes).put_short_text(tag, u128::from_le_bytes(view));
                out.put_bytes(&[7]).settle();
                let mut expected = Vec::new();
                Buffer::new(&mut expected).put_length(tag, length).put_bytes(&text[..length]).put_bytes(&[7]).settle();
                assert_eq!(bytes, expected);
            }
        }
    }

    #[test]
    fn long_texts_where_room_and_their_buffer_end() {
        let text: Vec<u8> = (0..100).collect();
        for (length, tag) in (0..=80).flat_map(|length| [8, u32::MAX].map(|tag| (length, Tag::new(tag)))) {
            let mut expected = Vec::new();
            Buffer::new(&mut expected).put_length(tag, length).put_bytes(&text[..length]).put_bytes(&[7]).settle();
            // As much behind the text as is copied at once, less, and nothing.
            for (room, within) in
                [0, 30, 80, 200].into_iter().flat_map(|room| [100, length + 10, length].map(|end| (room, end)))
            {
                let mut bytes = Vec::with_capacity(room);
                let within = &text[..within.min(text.len())];
                Buffer::new(&mut bytes).put_long_text(tag, within, length).put_bytes(&[7]).settle();
                assert_eq!(bytes, expected, "{length} bytes, room for {room}, {} there", within.len());
            }
        }
    }

    #[test]
    fn times_are_messages_of_two_numbers() {
        let seconds = [0, 1, 0x7f, 0x80, (1 << 28) - 1, 1 << 28, 1_700_000_000, (1 << 35) - 1];
        for (seconds, nanos) in
            seconds.iter().flat_map(|seconds| [0, 1, 0x7f, 0x80, (1 << 30) - 1].map(|n| (*seconds, n)))
        {
            for tag in [Tag::new(8), Tag::new(1 << 14), Tag::new(u32::MAX)] {
                let mut bytes = Vec::with_capacity(if nanos % 2 == 0 { 0 } else { 100 });
                put_time(Buffer::new(&mut bytes), tag, (seconds, nanos)).unwrap().put_bytes(&[7]).settle();
                let mut expected = Vec::new();
                let out = Buffer::new(&mut expected).put_delimited(tag, |mut out| {
                    for (number, value) in [(1, seconds), (2, nanos)].into_iter().filter(|(_, value)| *value != 0) {
                        out = out.put_varint(Tag::new(wire::tag(number, wire::VARINT)), value);
                    }
                    out
                });
                out.put_bytes(&[7]).settle();
                assert_eq!(bytes, expected, "{seconds} {nanos}");
            }
        }
        for (seconds, nanos) in [(1 << 35, 1), (u64::MAX, 1), (1 << 30, u64::MAX), (0, 1 << 30)] {
            assert!(put_time(Buffer::new(&mut Vec::new()), Tag::NONE, (seconds, nanos)).is_none(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn words_where_room_ends() {
        for room in 0..40 {
            let mut bytes = Vec::with_capacity(room);
            let word = Word::of(0x0807_0605_0403_0201, 8);
            Buffer::new(&mut bytes).put_field(Tag::new(1 << 14), word).put_field(Tag::NONE, word).settle();
            assert_eq!(bytes, [0x80, 0x80, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8], "{room}");
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
