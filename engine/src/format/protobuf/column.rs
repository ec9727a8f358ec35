//! Columns of a batch while it is written: filled with their defaults ahead, then written by row number.
//!
//! So an absent field costs nothing, a field that comes twice is overwritten, and the parts of a message that comes
//! twice merge by themselves. Each kind of column can do three things: *extend* to more rows, all default; be written
//! at a row; and *reset* a row to its default, which takes back a record that turned out malformed.
//!
//! Rows are written in order: only the last row of a table is ever written or reset. Columns with offsets (bytes,
//! lists) rest on that.

use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::ArrowNativeType;

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

/// A column of bytes: offsets into one run of bytes. A row is opened when it is first written; the rows between are
/// filled then.
#[derive(Debug)]
pub(super) struct Blob {
    /// Where each row begins, up to the last opened one.
    offsets: Fixed<i32>,
    bytes: Fixed<u8>,
    default: Box<[u8]>,
}

impl Blob {
    pub(super) fn new(default: &[u8]) -> Self {
        Self { offsets: Fixed::new(0), bytes: Fixed::new(0), default: default.into() }
    }

    /// Begins a batch of about `bytes` bytes.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.offsets.begin();
        self.bytes.begin();
        self.bytes.values.reserve(bytes);
    }

    pub(super) fn clear(&mut self) {
        self.offsets.clear();
        self.bytes.clear();
    }

    /// Gives rows their default until `rows` rows are there.
    #[inline(never)]
    fn fill(&mut self, rows: usize) {
        while self.offsets.values.len() < rows {
            self.offsets.values.push(self.bytes.values.len() as i32);
            self.bytes.values.extend_from_slice(&self.default);
        }
    }

    /// Writes a text that has yet to be checked; false if it is not UTF-8.
    #[inline(never)]
    pub(super) fn write_text(&mut self, row: usize, value: &[u8], within: &[u8]) -> bool {
        let good = is_text(value, within);
        if good {
            self.write(row, value, within);
        }
        good
    }

    /// `value` is what `within` begins with: see [`append`]. Not inlined, so that decoding keeps its registers.
    #[inline(never)]
    pub(super) fn write(&mut self, row: usize, value: &[u8], within: &[u8]) {
        if self.offsets.values.len() != row {
            self.fill(row);
            self.reset(row);
        }
        self.offsets.values.push(self.bytes.values.len() as i32);
        append(&mut self.bytes.values, value, within);
    }

    /// Adds to what the row has, or to nothing: pieces of a message that comes in pieces.
    pub(super) fn append(&mut self, row: usize, value: &[u8]) {
        self.open(row);
        self.bytes.values.extend_from_slice(value);
    }

    /// Opens the row if it is not.
    #[inline(never)]
    fn open(&mut self, row: usize) {
        self.fill(row);
        if self.offsets.values.len() == row {
            self.offsets.values.push(self.bytes.values.len() as i32);
        }
    }

    /// The row's bytes.
    pub(super) fn value(&self, row: usize) -> &[u8] {
        let offsets = &self.offsets.values;
        let Some(start) = offsets.get(row) else { return &self.default };
        let end = offsets.get(row + 1).map_or(self.bytes.values.len(), |end| *end as usize);
        self.bytes.values.get(*start as usize..end).unwrap_or_default()
    }

    pub(super) fn reset(&mut self, row: usize) {
        if let Some(&start) = self.offsets.values.get(row) {
            self.bytes.values.truncate(start as usize);
            self.offsets.values.truncate(row);
        }
    }

    /// Whether the row holds no bytes.
    pub(super) fn is_empty(&self, row: usize) -> bool {
        self.offsets.values.get(row).is_none_or(|_| self.value(row).is_empty())
    }

    /// Offsets and bytes of the first `rows` rows.
    pub(super) fn finish(&mut self, rows: usize) -> (Buffer, Buffer) {
        self.fill(rows);
        self.offsets.values.push(self.bytes.values.len() as i32);
        let length = self.bytes.values.len();
        (self.offsets.finish(rows + 1), self.bytes.finish(length))
    }
}

/// The offsets of a list or map; its elements are rows of a table of their own.
#[derive(Debug)]
pub(super) struct List {
    offsets: Fixed<i32>,
    /// The elements' table.
    pub(super) table: usize,
}

impl List {
    pub(super) fn new(table: usize) -> Self {
        Self { offsets: Fixed::new(0), table }
    }

    pub(super) fn begin(&mut self) {
        self.offsets.begin();
    }

    pub(super) fn clear(&mut self) {
        self.offsets.clear();
    }

    /// Opens the row if it is not: its elements begin at `elements`, how many there are now.
    #[inline(always)]
    pub(super) fn open(&mut self, row: usize, elements: usize) {
        while self.offsets.values.len() <= row {
            self.offsets.values.push(elements as i32);
        }
    }

    /// Closes the row; gives how many elements came before it, if it had been opened.
    pub(super) fn reset(&mut self, row: usize) -> Option<usize> {
        let start = *self.offsets.values.get(row)?;
        self.offsets.values.truncate(row);
        Some(start as usize)
    }

    /// Offsets of the first `rows` rows.
    pub(super) fn finish(&mut self, rows: usize, elements: usize) -> Buffer {
        self.open(rows, elements);
        self.offsets.finish(rows + 1)
    }
}
