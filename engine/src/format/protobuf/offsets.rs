//! Where each row of a column ends that has a varying part: bytes, or elements of a list.
//!
//! An end is noted by row number and nothing else is done: rows that are never written have none, and get the one before them
//! when all are there.

use std::ops::Range;

use arrow::buffer::Buffer;

use super::column::Fixed;

/// The ends of rows, one behind each row's number: the first is that of no row. Negative: not noted.
#[derive(Debug)]
pub(super) struct Ends(Fixed<i32>);

impl Ends {
    pub(super) fn new() -> Self {
        Self(Fixed::new(-1))
    }

    /// Forgets all rows and takes memory of an earlier batch if there is some.
    pub(super) fn begin(&mut self) {
        self.0.begin();
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn extend(&mut self, rows: usize) {
        self.0.extend(rows + 1);
        self.0.write(0, 0);
    }

    /// Notes where a row ends.
    #[inline(always)]
    pub(super) fn note(&mut self, row: usize, end: usize) {
        self.0.write(row + 1, end as i32);
    }

    /// The same; `None` if there is no such row.
    #[inline(always)]
    pub(super) fn put(&mut self, row: usize, end: usize) -> Option<()> {
        self.0.put(row + 1, end as i32)
    }

    /// The same of a row that has no end yet; `None`: it has one.
    #[inline(always)]
    pub(super) fn note_first(&mut self, row: usize, end: usize) -> Option<()> {
        let place = self.0.values.get_mut(row + 1).filter(|place| **place < 0)?;
        *place = end as i32;
        Some(())
    }

    #[inline(always)]
    pub(super) fn is_noted(&self, row: usize) -> bool {
        self.0.values[row + 1] >= 0
    }

    /// Where the row begins.
    fn start(&self, row: usize) -> usize {
        let before = self.0.values.get(..=row).unwrap_or_default();
        before.iter().rfind(|end| **end >= 0).map_or(0, |end| *end as usize)
    }

    /// Where the row begins and ends; `None` if it has no end.
    pub(super) fn range(&self, row: usize) -> Option<Range<usize>> {
        let end = usize::try_from(*self.0.values.get(row + 1)?).ok()?;
        Some(self.start(row)..end)
    }

    /// Forgets the row's end; gives its start if it had an end.
    pub(super) fn reset(&mut self, row: usize) -> Option<usize> {
        let start = self.range(row)?.start;
        // Noted, so that it is not looked for again if the row comes again and again.
        self.0.write(row, start as i32);
        self.0.reset(row + 1);
        Some(start)
    }

    /// Gives the first `rows` rows the ends they lack, there are no others then; shows their offsets.
    pub(super) fn settle(&mut self, rows: usize) -> &[i32] {
        self.extend(rows);
        let mut last = 0;
        for end in &mut self.0.values {
            last = last.max(*end);
            *end = last;
        }
        &self.0.values
    }

    /// The offsets of the first `rows` rows, one more than there are rows; no row has an end then.
    pub(super) fn finish(&mut self, rows: usize) -> Buffer {
        self.settle(rows);
        self.0.finish(rows + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_an_end_are_empty() {
        let mut ends = Ends::new();
        ends.begin();
        ends.extend(8);
        ends.note(1, 3);
        ends.note(4, 5);
        assert_eq!([0, 1, 2, 4, 5].map(|row| ends.start(row)), [0, 0, 3, 3, 5]);
        assert_eq!([0, 1, 4].map(|row| ends.range(row)), [None, Some(0..3), Some(3..5)]);
        ends.note(6, 9);
        assert_eq!(ends.reset(6), Some(5));
        assert_eq!(ends.reset(6), None);
        assert!(!ends.is_noted(6) && ends.is_noted(5));
        assert_eq!(ends.finish(6).typed_data::<i32>(), [0, 0, 3, 3, 3, 5, 5]);
        assert_eq!(ends.finish(0).typed_data::<i32>(), [0]);
    }

    #[test]
    fn nothing_is_an_end_as_well() {
        let mut ends = Ends::new();
        ends.extend(3);
        ends.note(1, 0);
        assert_eq!((ends.range(0), ends.range(1)), (None, Some(0..0)));
        assert_eq!(ends.reset(1), Some(0));
        ends.settle(3);
        assert_eq!([0, 1, 2].map(|row| ends.range(row)), [Some(0..0), Some(0..0), Some(0..0)]);
    }
}
