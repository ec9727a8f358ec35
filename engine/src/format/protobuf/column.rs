//! Columns of a batch while it is written: filled with their defaults ahead, then written by row number.
//!
//! So an absent field costs nothing, a field that comes twice is overwritten, and the parts of a message that comes
//! twice merge by themselves. Each kind of column can do three things: *extend* to more rows, all default; be written
//! at a row; and *reset* a row to its default, which takes back a record that turned out malformed.
//!
//! Rows are written in order: only the last row of a table is ever written or reset. Columns with a varying part (bytes,
//! lists) rest on that.

use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::ArrowNativeType;

use super::offsets::Ends;
use super::text::{append, is_text};

/// A column of fixed width. Floats are held as the integers of their bits.
#[derive(Debug)]
pub(super) struct Fixed<T> {
    pub(super) values: Vec<T>,
    default: T,
    spare: Spare,
}

impl<T: ArrowNativeType> Fixed<T> {
    pub(super) fn new(default: T) -> Self {
        Self { values: Vec::new(), default, spare: Spare::default() }
    }

    /// Forgets all rows and takes memory of an earlier batch if there is some.
    pub(super) fn begin(&mut self) {
        self.spare.refill(&mut self.values);
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
    }

    pub(super) fn extend(&mut self, rows: usize) {
        self.values.resize(rows, self.default);
    }

    #[inline(always)]
    pub(super) fn write(&mut self, row: usize, value: T) {
        self.values[row] = value;
    }

    /// The same; `None` if there is no such row.
    #[inline(always)]
    pub(super) fn put(&mut self, row: usize, value: T) -> Option<()> {
        self.values.get_mut(row).map(|place| *place = value)
    }

    pub(super) fn reset(&mut self, row: usize) {
        self.values[row] = self.default;
    }

    pub(super) fn is_default(&self, row: usize) -> bool {
        self.values[row] == self.default
    }

    /// The first `rows` rows; the column is empty then.
    pub(super) fn finish(&mut self, rows: usize) -> Buffer {
        self.values.truncate(rows);
        self.spare.keep(std::mem::take(&mut self.values))
    }
}

/// The buffer that was given away last: its memory is taken again if nobody holds it any more. Fresh memory for each
/// batch can cost more than the decoding.
#[derive(Debug, Default)]
struct Spare(Option<Buffer>);

/// Memory that is kept even if the last batch needed little of it, in bytes.
const KEPT_BYTES: usize = 1 << 20;

impl Spare {
    fn refill<T: ArrowNativeType>(&mut self, values: &mut Vec<T>) {
        values.clear();
        if let Some(buffer) = self.0.take() {
            let used = buffer.len();
            let spacious = |capacity: usize| capacity > values.capacity() && capacity <= KEPT_BYTES.max(used * 8);
            if spacious(buffer.capacity() / size_of::<T>())
                && let Ok(spare) = buffer.into_vec::<T>()
            {
                *values = spare;
                values.clear();
            }
        }
    }

    fn keep<T: ArrowNativeType>(&mut self, values: Vec<T>) -> Buffer {
        let buffer = Buffer::from_vec(values);
        self.0 = Some(buffer.clone());
        buffer
    }
}

/// A column of bits: booleans, and which rows are present.
#[derive(Debug)]
pub(super) struct Bits {
    bytes: Fixed<u8>,
    default: bool,
}

impl Bits {
    pub(super) fn new(default: bool) -> Self {
        Self { bytes: Fixed::new(if default { 0xff } else { 0 }), default }
    }

    pub(super) fn begin(&mut self) {
        self.bytes.begin();
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn extend(&mut self, rows: usize) {
        self.bytes.extend(rows.div_ceil(8));
    }

    #[inline(always)]
    pub(super) fn set(&mut self, row: usize) {
        self.bytes.values[row / 8] |= 1 << (row % 8);
    }

    #[inline(always)]
    pub(super) fn write(&mut self, row: usize, value: bool) {
        let byte = &mut self.bytes.values[row / 8];
        let bit = row % 8;
        *byte = *byte & !(1 << bit) | u8::from(value) << bit;
    }

    /// The same; `None` if there is no such row.
    #[inline(always)]
    pub(super) fn put(&mut self, row: usize, value: bool) -> Option<()> {
        let byte = self.bytes.values.get_mut(row / 8)?;
        let bit = row % 8;
        *byte = *byte & !(1 << bit) | u8::from(value) << bit;
        Some(())
    }

    pub(super) fn get(&self, row: usize) -> bool {
        self.bytes.values[row / 8] >> (row % 8) & 1 == 1
    }

    pub(super) fn reset(&mut self, row: usize) {
        self.write(row, self.default);
    }

    pub(super) fn finish(&mut self, rows: usize) -> BooleanBuffer {
        BooleanBuffer::new(self.bytes.finish(rows.div_ceil(8)), 0, rows)
    }
}

/// A column of bytes: the ends of rows in one run of bytes.
#[derive(Debug)]
pub(super) struct Blob {
    ends: Ends,
    bytes: Fixed<u8>,
    default: Box<[u8]>,
    /// Rows that have their bytes, be they the default's. Kept only where that has any: else a row without bytes needs nothing.
    filled: usize,
}

impl Blob {
    pub(super) fn new(default: &[u8]) -> Self {
        Self { ends: Ends::new(), bytes: Fixed::new(0), default: default.into(), filled: 0 }
    }

    /// Begins a batch of about `bytes` bytes.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.ends.begin();
        self.bytes.begin();
        self.bytes.values.reserve(bytes);
        self.filled = 0;
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
        self.filled = 0;
    }

    pub(super) fn extend(&mut self, rows: usize) {
        self.ends.extend(rows);
    }

    /// Gives rows their default until `rows` rows have bytes.
    #[inline(never)]
    fn fill(&mut self, rows: usize) {
        for row in self.filled..rows {
            self.bytes.values.extend_from_slice(&self.default);
            self.ends.note(row, self.bytes.values.len());
        }
        self.filled = self.filled.max(rows);
    }

    /// Writes a text that has yet to be checked; false if it is not UTF-8.
    #[inline(always)]
    pub(super) fn write_text(&mut self, row: usize, value: &[u8], within: &[u8]) -> bool {
        let good = is_text(value, within);
        if good {
            self.write(row, value, within);
        }
        good
    }

    /// `value` is what `within` begins with: see [`append`].
    #[inline(always)]
    pub(super) fn write(&mut self, row: usize, value: &[u8], within: &[u8]) {
        if self.ends.is_noted(row) || !self.default.is_empty() {
            self.begin_again(row);
        }
        append(&mut self.bytes.values, value, within);
        self.ends.note(row, self.bytes.values.len());
    }

    /// Writes `length` bytes, with which `within` begins, as is usual: at most 32, with bytes behind them, and room is there.
    /// `None`: nothing was done.
    #[inline(always)]
    pub(super) fn write_usual(&mut self, row: usize, length: usize, within: &[u8]) -> Option<()> {
        let chunk = within.first_chunk::<32>()?;
        let bytes = &mut self.bytes.values;
        let end = bytes.len() + length;
        let usual = length <= 32 && self.default.is_empty() && bytes.capacity() - bytes.len() >= 32;
        if !usual {
            return None;
        }
        self.ends.note_first(row, end)?;
        bytes.extend_from_slice(chunk);
        bytes.truncate(end);
        Some(())
    }

    /// Adds to what the row has, or to nothing: pieces of a message that comes in pieces. There is no default then.
    pub(super) fn append(&mut self, row: usize, value: &[u8]) {
        self.bytes.values.extend_from_slice(value);
        self.ends.note(row, self.bytes.values.len());
    }

    /// A row that has bytes already, or whose earlier rows may lack theirs.
    #[inline(never)]
    fn begin_again(&mut self, row: usize) {
        self.reset(row);
        if !self.default.is_empty() {
            self.fill(row);
            self.filled = row + 1;
        }
    }

    /// The row's bytes.
    pub(super) fn value(&self, row: usize) -> &[u8] {
        match self.ends.range(row) {
            Some(range) => self.bytes.values.get(range).unwrap_or_default(),
            None => &self.default,
        }
    }

    pub(super) fn reset(&mut self, row: usize) {
        if let Some(start) = self.ends.reset(row) {
            self.bytes.values.truncate(start);
        }
        self.filled = self.filled.min(row);
    }

    /// Whether the row holds no bytes.
    pub(super) fn is_empty(&self, row: usize) -> bool {
        self.value(row).is_empty()
    }

    /// Gives the first `rows` rows what they lack, there are no others then; shows their offsets, and their bytes.
    pub(super) fn settle(&mut self, rows: usize) -> (&[i32], &[u8]) {
        if !self.default.is_empty() {
            self.fill(rows);
        }
        (self.ends.settle(rows), &self.bytes.values)
    }

    /// Offsets and bytes of the first `rows` rows.
    pub(super) fn finish(&mut self, rows: usize) -> (Buffer, Buffer) {
        self.settle(rows);
        let length = self.bytes.values.len();
        (self.ends.finish(rows), self.bytes.finish(length))
    }
}

/// The ends of a list or map; its elements are rows of a table of their own.
#[derive(Debug)]
pub(super) struct List {
    pub(super) ends: Ends,
    /// The elements' table.
    pub(super) table: usize,
}

impl List {
    pub(super) fn new(table: usize) -> Self {
        Self { ends: Ends::new(), table }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(blob: &mut Blob, rows: usize) -> Vec<Vec<u8>> {
        let (offsets, bytes) = blob.finish(rows);
        let offsets = offsets.typed_data::<i32>().to_vec();
        offsets.windows(2).map(|pair| bytes[pair[0] as usize..pair[1] as usize].to_vec()).collect()
    }

    #[test]
    fn rows_without_bytes_have_the_default() {
        for default in [b"".as_slice(), b"default"] {
            let mut blob = Blob::new(default);
            blob.begin(0);
            blob.extend(7);
            blob.write(0, b"", b"");
            blob.write(2, b"first", b"first");
            blob.write(2, b"again", b"again");
            blob.write(4, b"taken back", b"taken back");
            blob.reset(4);
            blob.write(5, b"last", b"last");
            let expected: [&[u8]; 7] = [b"", default, b"again", default, default, b"last", default];
            assert_eq!(rows(&mut blob, 7), expected);
            assert_eq!(rows(&mut blob, 0), Vec::<Vec<u8>>::new());
        }
    }

    #[test]
    fn usual_bytes_are_written_where_there_are_none() {
        let within: Vec<u8> = (0..100).collect();
        let mut blob = Blob::new(&[]);
        blob.begin(2_000);
        blob.extend(34);
        for length in 0..=32 {
            assert_eq!(blob.write_usual(length, length, &within), Some(()));
        }
        // There are some, too many, too few behind them, no such row.
        assert_eq!(blob.write_usual(32, 1, &within), None);
        assert_eq!(blob.write_usual(33, 33, &within), None);
        assert_eq!(blob.write_usual(33, 2, &within[..31]), None);
        assert_eq!(blob.write_usual(34, 2, &within), None);
        let expected: Vec<Vec<u8>> = (0..=32).map(|length| within[..length].to_vec()).collect();
        assert_eq!(rows(&mut blob, 33), expected);
        assert_eq!(Blob::new(b"default").write_usual(0, 2, &within), None);
    }
}
