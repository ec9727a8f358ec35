//! Numbers by which checkpoints tell remembered rows apart that may be equal.
//!
//! A row gets its number when it is first written down: the key group that it belongs to, in the highest eight bits, and
//! a count. A key group has one owner at a time, who counts on behind all that it has read back, so no two rows that
//! are there at one time have the same number, on however many workers they were numbered. A number may be given again
//! when its row is gone: what is younger stands in place of what is older.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt8Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// The column that holds numbers.
pub const ROW: &str = "_row";

/// A row that was never written down.
pub const UNWRITTEN: u64 = 0;

/// Bits of a number's count.
const COUNT_BITS: u32 = 56;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct RowNumbers {
    /// The greatest count that was given or read back.
    last: u64,
    /// Numbers of rows that were written down and are gone since.
    gone: Vec<u64>,
}

impl RowNumbers {
    /// The number of a row that has none.
    pub fn give(&mut self, group: u8) -> u64 {
        self.last += 1;
        (u64::from(group) << COUNT_BITS) | self.last
    }

    /// A row has come back with its number.
    pub fn note(&mut self, number: u64) {
        self.last = self.last.max(number & ((1 << COUNT_BITS) - 1));
    }

    /// A row is gone; one that was never written down leaves nothing behind.
    pub fn leave(&mut self, number: u64) {
        if number != UNWRITTEN {
            self.gone.push(number);
        }
    }

    /// All was written down: what is gone is not among it.
    pub fn begin(&mut self) {
        self.gone = Vec::new();
    }

    /// Takes the rows that are gone, as [`ChangedRows::gone`](crate::operator::change::ChangedRows::gone) has them.
    pub fn take_gone(&mut self) -> Result<Vec<RecordBatch>> {
        let gone = std::mem::take(&mut self.gone);
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let columns: [(&str, ArrayRef); 2] =
            [("_group", Arc::new(groups(gone.iter().copied()))), (ROW, Arc::new(UInt64Array::from(gone)))];
        Ok(vec![RecordBatch::try_from_iter(columns)?])
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.gone.capacity() * size_of::<u64>()
    }
}

/// The column that holds numbers.
pub fn row_field() -> Arc<Field> {
    Arc::new(Field::new(ROW, DataType::UInt64, false))
}

/// The key groups of numbers.
pub fn groups(numbers: impl Iterator<Item = u64>) -> UInt8Array {
    UInt8Array::from_iter_values(numbers.map(|number| (number >> COUNT_BITS) as u8))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{UInt8Type, UInt64Type};

    use super::*;

    #[test]
    fn numbers_go_on_behind_those_that_were_read_back() {
        let mut numbers = RowNumbers::default();
        let (one, other) = (numbers.give(255), numbers.give(0));
        assert_eq!((one, other), ((255 << 56) | 1, 2));
        let mut later = RowNumbers::default();
        later.note(one);
        later.note((7 << 56) | 41);
        later.note(other);
        assert_eq!(later.give(255), (255 << 56) | 42);
        later.leave(UNWRITTEN);
        assert!(later.take_gone().unwrap().is_empty());
        later.leave(one);
        later.leave(other);
        let gone = later.take_gone().unwrap();
        assert_eq!(gone[0].column(0).as_primitive::<UInt8Type>().values(), &[255, 0]);
        assert_eq!(gone[0].column(1).as_primitive::<UInt64Type>().values(), &[one, other]);
        later.leave(one);
        later.begin();
        assert!(later.take_gone().unwrap().is_empty());
    }
}
