//! Key groups: which worker a key lives on.
//!
//! A key's hash depends on its *value* only: strings by content whatever their encoding, integers widened, floats
//! normalised (one zero, one NaN), decimals without trailing zeros, instants whatever their unit, NULL tagged. It is
//! frozen (`key_group_vectors.txt`), because restored state must meet new rows on the same worker: changing it is
//! changing the format of every checkpoint.
//!
//! The hash of a column's value is xxh3-64 of its canonical bytes, seeded with a tag of its kind; the hash of a key of
//! several columns folds them from left to right with xxh3-64 of the two hashes' bytes.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal256Array, GenericByteArray, OffsetSizeTrait};
use arrow::datatypes::{self as types, ArrowPrimitiveType, ByteArrayType, ByteViewType, DataType, TimeUnit, i256};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::{Error, Result};

/// How many key groups there are; a worker owns a run of them.
pub const KEY_GROUPS: usize = 256;

/// Hashes `rows` keys, given column by column, into `out` (cleared first; one hash a row).
///
/// No columns at all is one key: every row has the same hash. Fails for types that have no canonical form
/// (unions, run-end encoded).
pub fn hash_keys(columns: &[ArrayRef], rows: usize, out: &mut Vec<u64>) -> Result<()> {
    hash_keys_seeded(columns, rows, 0, out)
}

/// As [`hash_keys`], with a seed; seed 0 is the frozen hash, others make independent ones.
pub(crate) fn hash_keys_seeded(columns: &[ArrayRef], rows: usize, seed: u64, out: &mut Vec<u64>) -> Result<()> {
    out.clear();
    let Some((first, rest)) = columns.split_first() else {
        out.resize(rows, xxh3_64_with_seed(&[], Tag::Empty.seeded(seed)));
        return Ok(());
    };
    out.reserve(rows);
    hash_column(first.as_ref(), seed, out)?;
    if rest.is_empty() {
        return Ok(());
    }
    let mut column_hashes = Vec::with_capacity(rows);
    for column in rest {
        column_hashes.clear();
        hash_column(column.as_ref(), seed, &mut column_hashes)?;
        for (hash, column) in out.iter_mut().zip(&column_hashes) {
            *hash = fold(*hash, *column);
        }
    }
    Ok(())
}

/// The key group of a hash.
pub fn key_group(hash: u64) -> u8 {
    (hash % KEY_GROUPS as u64) as u8
}

/// The worker that owns a key group, of `workers` (at most [`KEY_GROUPS`] have any).
pub fn worker_of(group: u8, workers: usize) -> usize {
    usize::from(group) * workers / KEY_GROUPS
}

/// What kind of value a hash is of. The numbers are part of the frozen format.
#[derive(Clone, Copy)]
enum Tag {
    Empty = 0,
    Null = 1,
    Boolean = 2,
    Integer = 3,
    Float = 4,
    Decimal = 5,
    String = 6,
    Binary = 7,
    Date = 8,
    Time = 9,
    Timestamp = 10,
    Duration = 11,
    Interval = 12,
    List = 13,
    Struct = 14,
}

impl Tag {
    fn seeded(self, seed: u64) -> u64 {
        (self as u64) ^ seed
    }
}

fn fold(left: u64, right: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&left.to_le_bytes());
    bytes[8..].copy_from_slice(&right.to_le_bytes());
    xxh3_64(&bytes)
}

fn hash_column(column: &dyn Array, seed: u64, out: &mut Vec<u64>) -> Result<()> {
    use DataType as D;
    match column.data_type() {
        D::Null => out.resize(out.len() + column.len(), null_hash(seed)),
        D::Boolean => booleans(column.as_boolean(), seed, out),
        D::Int8 => integers::<types::Int8Type>(column, seed, out),
        D::Int16 => integers::<types::Int16Type>(column, seed, out),
        D::Int32 => integers::<types::Int32Type>(column, seed, out),
        D::Int64 => integers::<types::Int64Type>(column, seed, out),
        D::UInt8 => integers::<types::UInt8Type>(column, seed, out),
        D::UInt16 => integers::<types::UInt16Type>(column, seed, out),
        D::UInt32 => integers::<types::UInt32Type>(column, seed, out),
        D::UInt64 => integers::<types::UInt64Type>(column, seed, out),
        D::Float16 => floats::<types::Float16Type>(column, |value| value.to_f64(), seed, out),
        D::Float32 => floats::<types::Float32Type>(column, f64::from, seed, out),
        D::Float64 => floats::<types::Float64Type>(column, |value| value, seed, out),
        D::Decimal32(_, scale) => decimals::<types::Decimal32Type>(column, i128::from, *scale, seed, out),
        D::Decimal64(_, scale) => decimals::<types::Decimal64Type>(column, i128::from, *scale, seed, out),
        D::Decimal128(_, scale) => decimals::<types::Decimal128Type>(column, |value| value, *scale, seed, out),
        D::Decimal256(_, scale) => wide_decimals(column.as_primitive(), *scale, seed, out),
        D::Utf8 => bytes::<types::GenericStringType<i32>>(column.as_bytes(), Tag::String, seed, out),
        D::LargeUtf8 => bytes::<types::GenericStringType<i64>>(column.as_bytes(), Tag::String, seed, out),
        D::Utf8View => views::<types::StringViewType>(column, Tag::String, seed, out),
        D::Binary => bytes::<types::GenericBinaryType<i32>>(column.as_bytes(), Tag::Binary, seed, out),
        D::LargeBinary => bytes::<types::GenericBinaryType<i64>>(column.as_bytes(), Tag::Binary, seed, out),
        D::BinaryView => views::<types::BinaryViewType>(column, Tag::Binary, seed, out),
        D::FixedSizeBinary(_) => {
            let array = column.as_fixed_size_binary();
            let tag = Tag::Binary.seeded(seed);
            each(column, seed, out, |row| xxh3_64_with_seed(array.value(row), tag));
        }
        D::Date32 => {
            const DAY_MILLIS: i128 = 86_400_000;
            instants::<types::Date32Type>(column, Tag::Date, |days| i128::from(days) * DAY_MILLIS, seed, out);
        }
        D::Date64 => instants::<types::Date64Type>(column, Tag::Date, i128::from, seed, out),
        D::Time32(_) | D::Time64(_) | D::Timestamp(..) | D::Duration(_) => temporal(column, seed, out)?,
        D::Interval(unit) => intervals(column, *unit, seed, out),
        D::List(_) => lists::<i32>(column, seed, out)?,
        D::LargeList(_) => lists::<i64>(column, seed, out)?,
        D::FixedSizeList(_, size) => {
            let array = column.as_fixed_size_list();
            let size = usize::try_from(*size).unwrap_or(0);
            let mut elements = Vec::new();
            hash_column(array.values().as_ref(), seed, &mut elements)?;
            each(column, seed, out, |row| {
                let start = array.value_offset(row) as usize;
                list_hash(&elements[start..start + size], seed)
            });
        }
        D::Map(..) => {
            let array = column.as_map();
            let mut elements = Vec::new();
            hash_column(array.entries(), seed, &mut elements)?;
            let offsets = array.offsets();
            each(column, seed, out, |row| list_hash(&elements[offsets[row] as usize..offsets[row + 1] as usize], seed));
        }
        D::Struct(_) => {
            let array = column.as_struct();
            let start = xxh3_64_with_seed(&[], Tag::Struct.seeded(seed));
            let mut hashes = vec![start; array.len()];
            let mut field = Vec::new();
            for child in array.columns() {
                field.clear();
                hash_column(child.as_ref(), seed, &mut field)?;
                hashes.iter_mut().zip(&field).for_each(|(hash, field)| *hash = fold(*hash, *field));
            }
            each(column, seed, out, |row| hashes[row]);
        }
        D::Dictionary(..) => {
            let array = column.as_any_dictionary();
            let mut values = Vec::new();
            hash_column(array.values().as_ref(), seed, &mut values)?;
            let keys = array.normalized_keys();
            each(column, seed, out, |row| values[keys[row]]);
        }
        other => {
            return Err(Error::not_supported(format!("values of type {other} can't be used as a key"))
                .with_hint("cast the column to another type first"));
        }
    }
    Ok(())
}

fn null_hash(seed: u64) -> u64 {
    xxh3_64_with_seed(&[], Tag::Null.seeded(seed))
}

/// One hash a row: `hash(row)` where there is a value, else NULL's.
fn each(column: &dyn Array, seed: u64, out: &mut Vec<u64>, mut hash: impl FnMut(usize) -> u64) {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.extend((0..column.len()).map(hash)),
        Some(nulls) => {
            let null = null_hash(seed);
            out.extend((0..column.len()).map(|row| if nulls.is_valid(row) { hash(row) } else { null }));
        }
    }
}

fn booleans(array: &BooleanArray, seed: u64, out: &mut Vec<u64>) {
    let tag = Tag::Boolean.seeded(seed);
    let hashes = [xxh3_64_with_seed(&[0], tag), xxh3_64_with_seed(&[1], tag)];
    each(array, seed, out, |row| hashes[usize::from(array.value(row))]);
}

/// Eight bytes where the number fits, else sixteen: so that all integer types agree.
fn number_hash(value: i128, tag: u64) -> u64 {
    match i64::try_from(value) {
        Ok(narrow) => xxh3_64_with_seed(&narrow.to_le_bytes(), tag),
        Err(_) => xxh3_64_with_seed(&value.to_le_bytes(), tag),
    }
}

fn integers<T: ArrowPrimitiveType>(column: &dyn Array, seed: u64, out: &mut Vec<u64>)
where
    T::Native: Into<i128>,
{
    let tag = Tag::Integer.seeded(seed);
    let values = column.as_primitive::<T>().values();
    each(column, seed, out, |row| number_hash(values[row].into(), tag));
}

fn floats<T: ArrowPrimitiveType>(column: &dyn Array, widen: impl Fn(T::Native) -> f64, seed: u64, out: &mut Vec<u64>) {
    let tag = Tag::Float.seeded(seed);
    let values = column.as_primitive::<T>().values();
    each(column, seed, out, |row| {
        let value = widen(values[row]);
        let canonical = if value.is_nan() {
            f64::NAN.to_bits() & !(1 << 63)
        } else if value == 0.0 {
            0
        } else {
            value.to_bits()
        };
        xxh3_64_with_seed(&canonical.to_le_bytes(), tag)
    });
}

fn decimals<T: ArrowPrimitiveType>(
    column: &dyn Array,
    widen: impl Fn(T::Native) -> i128,
    scale: i8,
    seed: u64,
    out: &mut Vec<u64>,
) {
    let values = column.as_primitive::<T>().values();
    each(column, seed, out, |row| decimal_hash(widen(values[row]), scale, seed));
}

/// A decimal without trailing zeros: mantissa (sixteen bytes), scale (one).
fn decimal_hash(mut mantissa: i128, scale: i8, seed: u64) -> u64 {
    let mut scale = i16::from(scale);
    if mantissa == 0 {
        scale = 0;
    }
    while mantissa != 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&mantissa.to_le_bytes());
    bytes[16..].copy_from_slice(&scale.to_le_bytes());
    xxh3_64_with_seed(&bytes, Tag::Decimal.seeded(seed))
}

fn wide_decimals(array: &Decimal256Array, scale: i8, seed: u64, out: &mut Vec<u64>) {
    let ten = i256::from_i128(10);
    each(array, seed, out, |row| {
        let mut mantissa = array.value(row);
        let mut scale = scale;
        while mantissa != i256::ZERO && mantissa % ten == i256::ZERO && scale > i8::MIN {
            mantissa /= ten;
            scale -= 1;
        }
        match mantissa.to_i128() {
            Some(narrow) => decimal_hash(narrow, scale, seed),
            None => {
                let mut bytes = [0; 34];
                bytes[..32].copy_from_slice(&mantissa.to_le_bytes());
                bytes[32..].copy_from_slice(&i16::from(scale).to_le_bytes());
                xxh3_64_with_seed(&bytes, Tag::Decimal.seeded(seed))
            }
        }
    });
}

fn bytes<T: ByteArrayType>(array: &GenericByteArray<T>, tag: Tag, seed: u64, out: &mut Vec<u64>) {
    let tag = tag.seeded(seed);
    each(array, seed, out, |row| {
        let value: &[u8] = array.value(row).as_ref();
        xxh3_64_with_seed(value, tag)
    });
}

fn views<T: ByteViewType>(column: &dyn Array, tag: Tag, seed: u64, out: &mut Vec<u64>) {
    let array = column.as_byte_view::<T>();
    let tag = tag.seeded(seed);
    each(column, seed, out, |row| {
        let value: &[u8] = array.value(row).as_ref();
        xxh3_64_with_seed(value, tag)
    });
}

fn instants<T: ArrowPrimitiveType>(
    column: &dyn Array,
    tag: Tag,
    canonical: impl Fn(T::Native) -> i128,
    seed: u64,
    out: &mut Vec<u64>,
) {
    let values = column.as_primitive::<T>().values();
    let tag = tag.seeded(seed);
    // Times often come in runs: the bounds of a window, a day.
    let mut last: Option<(T::Native, u64)> = None;
    each(column, seed, out, |row| match last {
        Some((value, hash)) if value == values[row] => hash,
        _ => {
            let hash = number_hash(canonical(values[row]), tag);
            last = Some((values[row], hash));
            hash
        }
    });
}

/// Times of day, instants and durations, in nanoseconds whatever their unit.
fn temporal(column: &dyn Array, seed: u64, out: &mut Vec<u64>) -> Result<()> {
    use DataType as D;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    macro_rules! nanos {
        ($array:ty, $tag:expr, $factor:expr) => {
            instants::<$array>(column, $tag, |value| i128::from(value) * $factor, seed, out)
        };
    }
    match column.data_type() {
        D::Time32(Second) => nanos!(types::Time32SecondType, Tag::Time, 1_000_000_000),
        D::Time32(_) => nanos!(types::Time32MillisecondType, Tag::Time, 1_000_000),
        D::Time64(Microsecond) => nanos!(types::Time64MicrosecondType, Tag::Time, 1_000),
        D::Time64(_) => nanos!(types::Time64NanosecondType, Tag::Time, 1),
        D::Timestamp(Second, _) => nanos!(types::TimestampSecondType, Tag::Timestamp, 1_000_000_000),
        D::Timestamp(Millisecond, _) => nanos!(types::TimestampMillisecondType, Tag::Timestamp, 1_000_000),
        D::Timestamp(Microsecond, _) => nanos!(types::TimestampMicrosecondType, Tag::Timestamp, 1_000),
        D::Timestamp(Nanosecond, _) => nanos!(types::TimestampNanosecondType, Tag::Timestamp, 1),
        D::Duration(Second) => nanos!(types::DurationSecondType, Tag::Duration, 1_000_000_000),
        D::Duration(Millisecond) => nanos!(types::DurationMillisecondType, Tag::Duration, 1_000_000),
        D::Duration(Microsecond) => nanos!(types::DurationMicrosecondType, Tag::Duration, 1_000),
        D::Duration(Nanosecond) => nanos!(types::DurationNanosecondType, Tag::Duration, 1),
        other => return Err(Error::internal(format!("{other} is not a temporal type"))),
    }
    Ok(())
}

fn intervals(column: &dyn Array, unit: types::IntervalUnit, seed: u64, out: &mut Vec<u64>) {
    let hash = |months: i32, days: i32, nanos: i64| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&months.to_le_bytes());
        bytes[4..8].copy_from_slice(&days.to_le_bytes());
        bytes[8..].copy_from_slice(&nanos.to_le_bytes());
        xxh3_64_with_seed(&bytes, Tag::Interval.seeded(seed))
    };
    match unit {
        types::IntervalUnit::YearMonth => {
            let array = column.as_primitive::<types::IntervalYearMonthType>();
            each(column, seed, out, |row| hash(array.value(row), 0, 0));
        }
        types::IntervalUnit::DayTime => {
            let array = column.as_primitive::<types::IntervalDayTimeType>();
            each(column, seed, out, |row| {
                let value = array.value(row);
                hash(0, value.days, i64::from(value.milliseconds) * 1_000_000)
            });
        }
        types::IntervalUnit::MonthDayNano => {
            let array = column.as_primitive::<types::IntervalMonthDayNanoType>();
            each(column, seed, out, |row| {
                let value = array.value(row);
                hash(value.months, value.days, value.nanoseconds)
            });
        }
    }
}

fn lists<O: OffsetSizeTrait>(column: &dyn Array, seed: u64, out: &mut Vec<u64>) -> Result<()> {
    let array = column.as_list::<O>();
    let mut elements = Vec::new();
    hash_column(array.values().as_ref(), seed, &mut elements)?;
    let offsets = array.offsets();
    each(column, seed, out, |row| list_hash(&elements[offsets[row].as_usize()..offsets[row + 1].as_usize()], seed));
    Ok(())
}

fn list_hash(elements: &[u64], seed: u64) -> u64 {
    let start = xxh3_64_with_seed(&(elements.len() as u64).to_le_bytes(), Tag::List.seeded(seed));
    elements.iter().fold(start, |hash, element| fold(hash, *element))
}

#[cfg(test)]
mod tests;
