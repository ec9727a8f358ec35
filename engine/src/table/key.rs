//! Keys as bytes whose order is the values' order. The form is frozen: tables on disk have it.
//!
//! Columns stand one after the other. Each begins with 1 (there is no NULL in a key); then
//!
//! * boolean: one byte, 0 or 1
//! * integers, dates, times, timestamps, decimals: big-endian, the sign bit turned round where there is one
//! * floats: the bits big-endian, all turned round if negative, else the sign bit; -0 is 0, and every NaN is one
//! * text and bytes: as they are, with 0 written as 0 255, and 0 0 behind
//!
//! Rows of a table without a key are numbered: eight bytes, big-endian.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::{Error, Result};

const PRESENT: u8 = 1;

/// Whether a column of this type can be part of a key.
pub(crate) fn can_be_key(data_type: &DataType) -> bool {
    use DataType as D;
    data_type.is_integer()
        || matches!(
            data_type,
            D::Boolean
                | D::Float32
                | D::Float64
                | D::Date32
                | D::Date64
                | D::Time32(_)
                | D::Time64(_)
                | D::Timestamp(..)
                | D::Decimal128(..)
                | D::Utf8
                | D::Binary
        )
}

/// Appends the key of row `row`. No value may be NULL.
pub(crate) fn encode<'a>(columns: impl Iterator<Item = &'a dyn Array>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    columns.into_iter().try_for_each(|column| encode_value(column, row, out))
}

/// A row's number as a key.
pub(crate) fn numbered(row: u64) -> Vec<u8> {
    row.to_be_bytes().to_vec()
}

/// The number that [`numbered`] wrote.
pub(crate) fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

macro_rules! signed {
    ($array:expr, $row:expr, $out:expr, $type:ty, $unsigned:ty) => {{
        let value = $array.as_primitive::<$type>().value($row) as $unsigned;
        $out.extend_from_slice(&(value ^ (1 << (<$unsigned>::BITS - 1))).to_be_bytes());
    }};
}

fn encode_value(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    use DataType as D;
    if array.is_null(row) {
        return Err(Error::internal("a key holds NULL"));
    }
    out.push(PRESENT);
    match array.data_type() {
        D::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        D::Int8 => signed!(array, row, out, Int8Type, u8),
        D::Int16 => signed!(array, row, out, Int16Type, u16),
        D::Int32 => signed!(array, row, out, Int32Type, u32),
        D::Int64 => signed!(array, row, out, Int64Type, u64),
        D::UInt8 => out.extend_from_slice(&array.as_primitive::<UInt8Type>().value(row).to_be_bytes()),
        D::UInt16 => out.extend_from_slice(&array.as_primitive::<UInt16Type>().value(row).to_be_bytes()),
        D::UInt32 => out.extend_from_slice(&array.as_primitive::<UInt32Type>().value(row).to_be_bytes()),
        D::UInt64 => out.extend_from_slice(&array.as_primitive::<UInt64Type>().value(row).to_be_bytes()),
        D::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            let value = if value == 0.0 {
                0.0
            } else if value.is_nan() {
                f32::NAN
            } else {
                value
            };
            let bits = value.to_bits();
            let turned = if bits >> 31 == 1 { !bits } else { bits ^ (1 << 31) };
            out.extend_from_slice(&turned.to_be_bytes());
        }
        D::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let value = if value == 0.0 {
                0.0
            } else if value.is_nan() {
                f64::NAN
            } else {
                value
            };
            let bits = value.to_bits();
            let turned = if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) };
            out.extend_from_slice(&turned.to_be_bytes());
        }
        D::Date32 => signed!(array, row, out, Date32Type, u32),
        D::Date64 => signed!(array, row, out, Date64Type, u64),
        D::Time32(TimeUnit::Second) => signed!(array, row, out, Time32SecondType, u32),
        D::Time32(_) => signed!(array, row, out, Time32MillisecondType, u32),
        D::Time64(TimeUnit::Microsecond) => signed!(array, row, out, Time64MicrosecondType, u64),
        D::Time64(_) => signed!(array, row, out, Time64NanosecondType, u64),
        D::Timestamp(TimeUnit::Second, _) => signed!(array, row, out, TimestampSecondType, u64),
        D::Timestamp(TimeUnit::Millisecond, _) => signed!(array, row, out, TimestampMillisecondType, u64),
        D::Timestamp(TimeUnit::Microsecond, _) => signed!(array, row, out, TimestampMicrosecondType, u64),
        D::Timestamp(TimeUnit::Nanosecond, _) => signed!(array, row, out, TimestampNanosecondType, u64),
        D::Decimal128(..) => signed!(array, row, out, Decimal128Type, u128),
        D::Utf8 => escaped(array.as_string::<i32>().value(row).as_bytes(), out),
        D::Binary => escaped(array.as_binary::<i32>().value(row), out),
        other => return Err(Error::internal(format!("a key cannot hold {other}"))),
    }
    Ok(())
}

fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(255);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int16Array, Int64Array,
        StringArray, TimestampMicrosecondArray, UInt64Array,
    };

    use super::*;

    fn key(columns: &[ArrayRef], row: usize) -> Vec<u8> {
        let mut out = Vec::new();
        encode(columns.iter().map(|column| column.as_ref()), row, &mut out).unwrap();
        out
    }

    /// The arrays are in ascending order: so must be their keys.
    #[test]
    fn order_of_keys_is_order_of_values() {
        let ascending: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![false, true])),
            Arc::new(Int16Array::from(vec![i16::MIN, -1, 0, 1, i16::MAX])),
            Arc::new(Int64Array::from(vec![i64::MIN, -300, -1, 0, 1, 255, 256, i64::MAX])),
            Arc::new(UInt64Array::from(vec![0, 1, 256, u64::MAX])),
            Arc::new(Float64Array::from(vec![
                f64::NEG_INFINITY,
                -1.5,
                -1e-300,
                0.0,
                1e-300,
                2.0,
                f64::INFINITY,
                f64::NAN,
            ])),
            Arc::new(Date32Array::from(vec![-10, 0, 10])),
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, 1])),
            Arc::new(Decimal128Array::from(vec![-1000, -1, 0, 1, 99_999])),
            Arc::new(StringArray::from(vec!["", "\0", "\0a", "a", "a\0", "a\0b", "aa", "b", "é"])),
            Arc::new(BinaryArray::from(vec![b"".as_slice(), &[0], &[0, 255], &[1], &[255]])),
        ];
        for array in ascending {
            let keys: Vec<Vec<u8>> = (0..array.len()).map(|row| key(std::slice::from_ref(&array), row)).collect();
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{array:?}: {keys:?}");
        }
    }

    #[test]
    fn columns_do_not_run_into_each_other() {
        let first: ArrayRef = Arc::new(StringArray::from(vec!["a", "ab"]));
        let second: ArrayRef = Arc::new(StringArray::from(vec!["bc", "c"]));
        let columns = [first, second];
        assert_ne!(key(&columns, 0), key(&columns, 1));
        assert!(key(&columns, 0) < key(&columns, 1));
    }

    /// What is on disk must be found again.
    #[test]
    fn the_form_is_frozen() {
        let columns: [ArrayRef; 4] = [
            Arc::new(Int64Array::from(vec![-2])),
            Arc::new(StringArray::from(vec!["a\0é"])),
            Arc::new(Float64Array::from(vec![-0.0])),
            Arc::new(BooleanArray::from(vec![true])),
        ];
        let expected = [
            &[1, 0x7f, 255, 255, 255, 255, 255, 255, 254][..],
            &[1, b'a', 0, 255, 0xc3, 0xa9, 0, 0],
            &[1, 0x80, 0, 0, 0, 0, 0, 0, 0],
            &[1, 1],
        ];
        assert_eq!(key(&columns, 0), expected.concat());
        assert_eq!(numbered(258), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(number(&numbered(258)), Some(258));
    }
}
