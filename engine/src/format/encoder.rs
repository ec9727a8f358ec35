//! Rows to bytes: what a connector asks of a format.

use arrow::record_batch::RecordBatch;

/// Turns rows into encoded records.
pub trait RowEncoder: Send {
    /// Appends one record for each row of `rows` to `out`.
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> crate::Result<()>;
}

/// Encoded records, one after the other in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl EncodedRows {
    /// The buffer, to append a record's bytes to; [`end_row`](Self::end_row) closes the record.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Everything that was appended since the last call is one record.
    pub fn end_row(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of record `index`.
    pub fn row(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// The bytes of record `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        (index < self.len()).then(|| self.row(index))
    }

    /// All records, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.row(index))
    }

    /// Bytes of all records.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
