//! Text columns: Arrow's string views, written from checked bytes.
//!
//! A view is 16 bytes: the length, then the text itself if it has at most 12 bytes, else its first four bytes, the
//! number of its buffer (here always 0) and its offset there.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};

use super::column::Fixed;

/// The longest text that lies in its view.
pub(super) const INLINE: usize = 12;

/// A column of strings.
#[derive(Debug)]
pub(super) struct Text {
    views: Fixed<u128>,
    bytes: Fixed<u8>,
    /// What `bytes` begins with in each batch: a long default.
    seed: Box<[u8]>,
}

impl Text {
    pub(super) fn new(default: &str) -> Self {
        let seed: &[u8] = if default.len() > INLINE { default.as_bytes() } else { &[] };
        Self { views: Fixed::new(view(default.as_bytes(), 0)), bytes: Fixed::new(0), seed: seed.into() }
    }

    /// Begins a batch of about `bytes` bytes of text.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.views.begin();
        self.bytes.begin();
        self.bytes.values.reserve(bytes);
        self.bytes.values.extend_from_slice(&self.seed);
    }

    pub(super) fn clear(&mut self) {
        self.views.clear();
        self.bytes.clear();
        self.bytes.values.extend_from_slice(&self.seed);
    }

    pub(super) fn extend(&mut self, rows: usize) {
        self.views.extend(rows);
    }

    /// Writes a string that has yet to be checked; false if it is not UTF-8, and then the row is as it was. `within` begins
    /// with the string: what follows it is read and not used, which is faster than not to read it.
    #[inline(always)]
    pub(super) fn write(&mut self, row: usize, value: &[u8], within: &[u8]) -> bool {
        if value.len() <= INLINE {
            let view = match within.first_chunk::<16>() {
                Some(word) => (u128::from_le_bytes(*word) & MASKS[value.len()]) << 32 | value.len() as u128,
                None => short_view(value),
            };
            // The text's bytes, without the length: the low four bytes are no text.
            if view >> 32 & SHORT_NOT_ASCII != 0 && !is_utf8(value) {
                return false;
            }
            self.views.write(row, view);
            true
        } else {
            self.write_long(row, value, within)
        }
    }

    /// Writes a string of `length` bytes, with which `within` begins, as is usual: at most 32, ASCII, with bytes behind it, and
    /// room is there. `None`: nothing was done.
    #[inline(always)]
    pub(super) fn write_usual(&mut self, row: usize, length: usize, within: &[u8]) -> Option<()> {
        if length <= INLINE {
            let chunk = within.first_chunk::<12>()?;
            let (first, second) = SHORT_MASKS[length];
            let first = u32::from_le_bytes(*chunk.first_chunk::<4>()?) & first;
            let second = u64::from_le_bytes(*chunk.last_chunk::<8>()?) & second;
            let first = length as u64 | u64::from(first) << 32;
            // A length of at most 12 looks like ASCII.
            if (first | second) & LONG_NOT_ASCII != 0 {
                return None;
            }
            return self.views.put(row, u128::from(first) | u128::from(second) << 64);
        }
        let chunk = within.first_chunk::<32>()?;
        if !is_usual_text(length, within)? {
            return None;
        }
        let bytes = &mut self.bytes.values;
        let (view, start) = (self.views.values.get_mut(row)?, bytes.len());
        if bytes.capacity() - start < 32 {
            return None;
        }
        bytes.extend_from_slice(chunk);
        bytes.truncate(start + length);
        let first = length as u64 | u64::from(u32::from_le_bytes(*chunk.first_chunk::<4>()?)) << 32;
        *view = u128::from(first) | (start as u128) << 96;
        Some(())
    }

    /// Not inlined, so that decoding keeps its registers.
    #[inline(never)]
    fn write_long(&mut self, row: usize, value: &[u8], within: &[u8]) -> bool {
        if !is_text(value, within) {
            return false;
        }
        let bytes = &mut self.bytes.values;
        let offset = bytes.len();
        append(bytes, value, within);
        self.views.write(row, view(value, offset));
        true
    }

    pub(super) fn reset(&mut self, row: usize) {
        let view = self.views.values[row];
        let (length, offset) = (view as u32 as usize, (view >> 96) as usize);
        // Gives back the text of a row that is taken back, unless something was written after it.
        if length > INLINE && offset + length == self.bytes.values.len() && offset >= self.seed.len() {
            self.bytes.values.truncate(offset);
        }
        self.views.reset(row);
    }

    pub(super) fn is_empty(&self, row: usize) -> bool {
        self.views.values[row] as u32 == 0
    }

    pub(super) fn finish(&mut self, rows: usize, nulls: Option<NullBuffer>) -> ArrayRef {
        let length = self.bytes.values.len();
        let bytes = self.bytes.finish(length);
        views(self.views.finish(rows), bytes, nulls)
    }
}

/// A column of an enum's values: views of the names, which are written down once for all batches.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) views: Fixed<u128>,
    names: Buffer,
}

impl Labels {
    pub(super) fn new(default: u128, names: Buffer) -> Self {
        Self { views: Fixed::new(default), names }
    }

    pub(super) fn finish(&mut self, rows: usize, nulls: Option<NullBuffer>) -> ArrayRef {
        views(self.views.finish(rows), self.names.clone(), nulls)
    }
}

#[allow(unsafe_code)]
fn views(views: Buffer, bytes: Buffer, nulls: Option<NullBuffer>) -> ArrayRef {
    let buffers: Vec<Buffer> = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
    // SAFETY: every view was made by `view` or `short_view` above from bytes that are UTF-8 (`write` checks them,
    // defaults and names are `str`), and a long one with the offset at which these bytes stand in the one buffer.
    // The safe constructor would look at each string a second time, a quarter of the time of decoding.
    Arc::new(unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), buffers, nulls) })
}

/// The view of `value`, which stands at `offset` of the buffer if it is longer than 12 bytes.
#[inline(always)]
pub(super) fn view(value: &[u8], offset: usize) -> u128 {
    match value.first_chunk::<4>() {
        Some(prefix) if value.len() > INLINE => {
            let prefix = u32::from_le_bytes(*prefix);
            value.len() as u128 | u128::from(prefix) << 32 | (offset as u128) << 96
        }
        _ => short_view(value),
    }
}

/// Appends `value`, with which `within` begins. Copies of a fixed size need no call.
#[inline(always)]
pub(super) fn append(bytes: &mut Vec<u8>, value: &[u8], within: &[u8]) {
    let end = bytes.len() + value.len();
    if let (true, Some(chunk)) = (value.len() <= 32, within.first_chunk::<32>()) {
        bytes.extend_from_slice(chunk);
        bytes.truncate(end);
    } else if let (true, Some(chunk)) = (value.len() <= 64, within.first_chunk::<64>()) {
        bytes.extend_from_slice(chunk);
        bytes.truncate(end);
    } else {
        bytes.extend_from_slice(value);
    }
}

/// The bytes of a text of so many bytes in a word.
const MASKS: [u128; 16] = {
    let mut masks = [0; 16];
    let mut length = 0;
    while length < 16 {
        masks[length] = !(u128::MAX << (8 * length));
        length += 1;
    }
    masks
};

/// What of the first four bytes, and of the next eight, is of a text of so many bytes.
const SHORT_MASKS: [(u32, u64); INLINE + 1] = {
    let mut masks = [(u32::MAX, u64::MAX); INLINE + 1];
    let mut length = 0;
    while length < INLINE {
        if length < 4 {
            masks[length].0 = !(u32::MAX << (8 * length));
        }
        masks[length].1 = !(u64::MAX << (8 * length.saturating_sub(4)));
        length += 1;
    }
    masks
};

/// From the place 32 − n on: the bits that are not ASCII of n bytes, and then of none.
const MARKS: [u8; 64] = {
    let mut marks = [0; 64];
    let mut place = 0;
    while place < 32 {
        marks[place] = 0x80;
        place += 1;
    }
    marks
};

const SHORT_NOT_ASCII: u128 = 0x8080_8080_8080_8080_8080_8080;
const LONG_NOT_ASCII: u64 = 0x8080_8080_8080_8080;
const NOT_ASCII: u128 = 0x8080_8080_8080_8080_8080_8080_8080_8080;

/// At most 12 bytes, loaded by two reads that may overlap: where they do, they read the same.
#[inline(always)]
fn short_view(value: &[u8]) -> u128 {
    let length = value.len();
    let text = if let (Some(head), Some(tail)) = (value.first_chunk::<8>(), value.last_chunk::<4>()) {
        u128::from(u64::from_le_bytes(*head)) | u128::from(u32::from_le_bytes(*tail)) << (8 * (length - 4))
    } else if let (Some(head), Some(tail)) = (value.first_chunk::<4>(), value.last_chunk::<4>()) {
        u128::from(u32::from_le_bytes(*head)) | u128::from(u32::from_le_bytes(*tail)) << (8 * (length - 4))
    } else {
        value.iter().rev().fold(0, |text, byte| text << 8 | u128::from(*byte))
    };
    length as u128 | text << 32
}

/// Whether the `length` bytes that `within` begins with are ASCII. `None`: there are more than 32, or too few behind them.
#[inline(always)]
pub(super) fn is_usual_text(length: usize, within: &[u8]) -> Option<bool> {
    let (words, _) = within.first_chunk::<32>()?.as_chunks::<8>();
    let (marks, _) = MARKS.get(32usize.checked_sub(length)?..)?.first_chunk::<32>()?.as_chunks::<8>();
    let mark = |(word, mark): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*word) & u64::from_le_bytes(*mark);
    Some(words.iter().zip(marks).map(mark).fold(0, |all, mark| all | mark) == 0)
}

/// Whether `value`, with which `within` begins, is UTF-8.
#[inline(always)]
pub(super) fn is_text(value: &[u8], within: &[u8]) -> bool {
    let is_short_ascii = || {
        let mask = MASKS.get(value.len())?;
        Some(u128::from_le_bytes(*within.first_chunk::<16>()?) & mask & NOT_ASCII == 0)
    };
    is_short_ascii().unwrap_or_else(|| is_ascii(value)) || is_utf8(value)
}

/// Whether bytes are all ASCII; of less than eight it does not say.
#[inline(always)]
fn is_ascii(value: &[u8]) -> bool {
    // Of up to 32 bytes two words that may overlap, of up to 64 four: nothing that is to be guessed.
    if let (true, Some(head), Some(tail)) = (value.len() <= 32, value.first_chunk::<16>(), value.last_chunk::<16>()) {
        return (u128::from_le_bytes(*head) | u128::from_le_bytes(*tail)) & NOT_ASCII == 0;
    }
    if let (true, Some(head), Some(tail)) = (value.len() <= 64, value.first_chunk::<32>(), value.last_chunk::<32>()) {
        let (words, _) = head.as_chunks::<16>();
        let (more, _) = tail.as_chunks::<16>();
        let marks = words.iter().chain(more).fold(0, |marks, word| marks | u128::from_le_bytes(*word));
        return marks & NOT_ASCII == 0;
    }
    if value.len() < 8 {
        return false;
    }
    let mut marks = 0;
    let (words, _) = value.as_chunks::<8>();
    for word in words {
        marks |= u64::from_le_bytes(*word);
    }
    if let Some(tail) = value.last_chunk::<8>() {
        marks |= u64::from_le_bytes(*tail);
    }
    marks & LONG_NOT_ASCII == 0
}

#[inline(never)]
fn is_utf8(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use proptest::prelude::*;

    use super::*;

    fn column(values: &[&[u8]], default: &str) -> (Vec<bool>, ArrayRef) {
        let mut text = Text::new(default);
        text.begin(0);
        text.extend(values.len());
        let good = values.iter().enumerate().map(|(row, value)| {
            // Alone, and with bytes behind it that are no text.
            let behind = [value, [0xff; 70].as_slice()].concat();
            let within = if row % 2 == 0 { behind.as_slice() } else { value };
            text.write(row, &within[..value.len()], within)
        });
        let good = good.collect();
        let array = text.finish(values.len(), None);
        array.to_data().validate_full().unwrap();
        (good, array)
    }

    #[test]
    fn strings_of_every_length() {
        let long = "abcdefghijklmnopqrstuvwxyz0123456789".repeat(3);
        // Each twice, see `column`.
        let values: Vec<&[u8]> = (0..2 * long.len()).map(|length| &long.as_bytes()[..length / 2]).collect();
        let (good, array) = column(&values, "");
        assert!(good.iter().all(|good| *good));
        for (row, value) in values.iter().enumerate() {
            assert_eq!(array.as_string_view().value(row).as_bytes(), *value);
        }
    }

    #[test]
    fn usual_strings_of_every_length() {
        let long = "abcdefghijklmnopqrstuvwxyz0123456789";
        let mut text = Text::new("");
        text.begin(10_000);
        text.extend(33);
        for length in 0..=32 {
            // What follows is no text.
            let within = [&long.as_bytes()[..length], [0xff; 40].as_slice()].concat();
            assert_eq!(text.write_usual(length, length, &within), Some(()), "{length}");
            assert_eq!(text.write_usual(40, length, &within), None, "no such row");
        }
        // Not ASCII, too long, too little behind it: nothing is written.
        for (length, within) in
            [(2, "ä"), (20, "abcdefghijklmnopqrä"), (33, long), (12, "short"), (13, "abcdefghijklmn")]
        {
            let within = [within.as_bytes(), if length == 33 { &[b'.'; 40] } else { b"".as_slice() }].concat();
            let within = if length <= 2 || length == 20 { [within, vec![b'.'; 40]].concat() } else { within };
            assert_eq!(text.write_usual(0, length, &within), None, "{length}");
        }
        let array = text.finish(33, None);
        array.to_data().validate_full().unwrap();
        assert!((0..33).all(|row| array.as_string_view().value(row) == &long[..row]));
    }

    #[test]
    fn a_bad_string_leaves_the_default() {
        for default in ["", "short", "a default of many bytes"] {
            let values: [&[u8]; 4] = [b"\xff", b"fine", b"a long text with a bad byte \xc3\x28", "ä".as_bytes()];
            let (good, array) = column(&values, default);
            assert_eq!(good, [false, true, false, true]);
            let read: Vec<_> = array.as_string_view().iter().flatten().collect();
            assert_eq!(read, [default, "fine", default, "ä"]);
        }
    }

    #[test]
    fn taking_back_the_last_text_gives_back_its_bytes() {
        let mut text = Text::new("a default of many bytes");
        text.begin(0);
        text.extend(2);
        assert!(text.write(0, b"something of many bytes", b"something of many bytes"));
        let before = text.bytes.values.len();
        assert!(text.write(1, b"something else of many bytes", b"something else of many bytes"));
        text.reset(1);
        assert_eq!(text.bytes.values.len(), before);
        text.reset(1);
        assert_eq!(text.bytes.values.len(), before);
    }

    proptest! {
        #[test]
        fn accepts_what_is_utf8(values in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..30),
            ".{0,30}".prop_map(String::into_bytes),
            "[a-zä]{0,20}".prop_map(String::into_bytes),
        ], 1..20)) {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let (good, array) = column(&values, "");
            for (row, value) in values.iter().enumerate() {
                let expected = std::str::from_utf8(value);
                prop_assert_eq!(good[row], expected.is_ok());
                prop_assert_eq!(array.as_string_view().value(row), expected.unwrap_or(""));
            }
        }
    }
}
