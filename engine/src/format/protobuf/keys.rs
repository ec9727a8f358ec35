//! Maps whose keys come again: of entries with one key the last stays.

use std::collections::HashSet;
use std::hash::Hash;

use arrow::array::UInt32Array;
use arrow::buffer::OffsetBuffer;

use super::store::{ColumnId, Store};

/// The entries that stay when keys come again in a map.
pub(super) struct Kept {
    pub(super) indices: UInt32Array,
    pub(super) offsets: OffsetBuffer<i32>,
}

/// Of entries with one key in one map the last stays; `None` if no map has such, as nearly always. `offsets` are those of the maps.
pub(super) fn last_of_each_key(store: &mut Store, column: ColumnId, offsets: &OffsetBuffer<i32>) -> Option<Kept> {
    match column {
        ColumnId::Word(n) => {
            let keys = &store.words[n].values;
            last_by(offsets, |row| keys[row] as u64, |row| keys[row])
        }
        ColumnId::Long(n) => {
            let keys = &store.longs[n].values;
            last_by(offsets, |row| keys[row] as u64, |row| keys[row])
        }
        ColumnId::Wide(n) => {
            let keys = &store.wides[n].values;
            last_by(offsets, |row| keys[row] as u64, |row| keys[row])
        }
        ColumnId::Bits(n) => {
            let keys = &store.bits[n];
            last_by(offsets, |row| keys.get(row).into(), |row| keys.get(row))
        }
        ColumnId::Blob(n) => {
            let elements = offsets.last().map_or(0, |elements| *elements as usize);
            let (ends, bytes) = store.blobs[n].settle(elements);
            let range = |row: usize| ends[row] as usize..ends[row + 1] as usize;
            let text = |row: usize| bytes.get(range(row)).unwrap_or_default();
            let mark = |row: usize| text_mark(bytes.get(..range(row).end).unwrap_or_default(), range(row).len());
            last_by(offsets, mark, text)
        }
        // No keys of maps.
        ColumnId::Labels(_) | ColumnId::Text(_) | ColumnId::List(_) => None,
    }
}

/// A number that differs for most texts that differ: what they end with counts. The text is the last `length` bytes.
#[inline(always)]
fn text_mark(bytes: &[u8], length: usize) -> u64 {
    let end = match bytes.last_chunk::<8>() {
        Some(end) => u64::from_le_bytes(*end),
        None => bytes.iter().fold(0, |end, byte| end >> 8 | u64::from(*byte) << 56),
    };
    // The text's own bytes are the upper ones.
    let others = 64 - 8 * length.min(8) as u32;
    end.checked_shr(others).unwrap_or(0).wrapping_add(length as u64)
}

/// Up to this many entries, each key is compared with all others.
const FEW: usize = 16;

/// The same for keys of any kind: equal ones have equal marks.
#[inline(always)]
fn last_by<K: Eq + Hash>(
    offsets: &OffsetBuffer<i32>,
    mark: impl Fn(usize) -> u64,
    key: impl Fn(usize) -> K,
) -> Option<Kept> {
    let maps = || offsets.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize));
    let mut marks = [0; FEW];
    let mut unique = |(from, to): (usize, usize)| {
        let count = to - from;
        if count < 2 {
            return true;
        }
        let Some(marks) = marks.get_mut(..count) else {
            return (from..to).map(&key).collect::<HashSet<_>>().len() == count;
        };
        marks.iter_mut().zip(from..to).for_each(|(place, row)| *place = mark(row));
        // Whether two marks are equal is asked of all at once: there is no branch to guess wrongly.
        let mut again = false;
        for (place, mark) in marks.iter().enumerate() {
            again = marks[place + 1..].iter().fold(again, |again, other| again | (mark == other));
        }
        !again || (from..to).map(&key).collect::<HashSet<_>>().len() == count
    };
    if maps().all(&mut unique) {
        return None;
    }
    let mut indices = Vec::new();
    let mut lengths = Vec::new();
    for (from, to) in maps() {
        let mut seen = HashSet::new();
        let start = indices.len();
        indices.extend((from..to).rev().filter(|row| seen.insert(key(*row))).map(|row| row as u32));
        indices[start..].reverse();
        lengths.push(indices.len() - start);
    }
    Some(Kept { indices: UInt32Array::from(indices), offsets: OffsetBuffer::from_lengths(lengths) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_equal_marks() {
        for text in ["", "a", "ab", "1234567", "12345678", "123456789"] {
            let marks = ["", "x", "something before"]
                .map(|before| text_mark([before.as_bytes(), text.as_bytes()].concat().as_slice(), text.len()));
            assert!(marks.iter().all(|mark| *mark == marks[0]), "{text} {marks:?}");
        }
        assert_ne!(text_mark(b"gauge_1", 7), text_mark(b"gauge_2", 7));
    }

    #[test]
    fn the_last_entry_stays() {
        // Three maps: of two keys that differ, of one that comes twice, and of more than are compared with each other.
        let many: Vec<u64> = (0..40).map(|n| n % 30).collect();
        let keys = [&[1, 2, 7, 7], many.as_slice()].concat();
        let offsets = OffsetBuffer::from_lengths([2, 2, many.len()]);
        let kept = last_by(&offsets, |row| keys[row], |row| keys[row]).unwrap();
        assert_eq!(kept.offsets.to_vec(), [0, 2, 3, 33]);
        let expected: Vec<u32> = [0, 1, 3].into_iter().chain(14..44).collect();
        assert_eq!(kept.indices.values(), expected.as_slice());
        // Equal marks alone take nothing away.
        assert!(last_by(&OffsetBuffer::from_lengths([3]), |_| 5, |row| row).is_none());
    }
}
