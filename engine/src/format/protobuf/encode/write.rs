//! Writing: rows of bound columns to bytes. Nothing here fails.

use arrow::array::{BinaryArray, StringViewArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::TimeUnit;

use super::super::wire;
use super::buffer::{Buffer, Tag};

/// The bound columns of a message.
pub(super) struct Fields(pub(super) Vec<Column>);

/// A column that is written under a tag.
pub(super) struct Column {
    pub(super) tag: Tag,
    pub(super) values: Values,
    pub(super) nulls: Option<NullBuffer>,
    /// Written also when it has the default value.
    pub(super) explicit: bool,
}

impl Column {
    #[inline(always)]
    pub(super) fn is_present(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }
}

/// Values, by how they are written.
pub(super) enum Values {
    /// `int32` and enums.
    Int32(ScalarBuffer<i32>),
    Sint32(ScalarBuffer<i32>),
    /// `int64`, and `uint32`, which it holds.
    Int64(ScalarBuffer<i64>),
    Sint64(ScalarBuffer<i64>),
    Uint64(ScalarBuffer<u64>),
    /// Four bytes: `fixed32`, `sfixed32`, `float`.
    Bits32(ScalarBuffer<u32>),
    /// Eight bytes.
    Bits64(ScalarBuffer<u64>),
    Bool(BooleanBuffer),
    Text(StringViewArray),
    /// `bytes`, and messages that are bytes already.
    Bytes(BinaryArray),
    Timestamp(ScalarBuffer<i64>, TimeUnit),
    Duration(ScalarBuffer<i64>, TimeUnit),
    /// A message around a scalar.
    Wrapper(Box<Column>),
    Message(Fields),
    /// A message that ends by a tag.
    Group(Fields, Tag),
    /// A group that is bytes already.
    RawGroup(BinaryArray, Tag),
    List {
        offsets: OffsetBuffer<i32>,
        item: Box<Values>,
        packed: bool,
    },
    /// Key and value.
    Map {
        offsets: OffsetBuffer<i32>,
        pair: Box<[Column; 2]>,
    },
}

/// Writes the fields of one message.
pub(super) fn write_fields(fields: &Fields, row: usize, out: &mut Buffer<'_>) {
    for column in &fields.0 {
        if column.is_present(row) {
            write_value(&column.values, row, column.tag, column.explicit, out);
        }
    }
}

/// Writes a value under `tag`; unless it is the default and not `explicit`, which absence stands for as well.
#[inline(always)]
fn write_value(values: &Values, row: usize, tag: Tag, explicit: bool, out: &mut Buffer<'_>) {
    match values {
        Values::Int64(values) => put_number(values[row] as u64, tag, explicit, out),
        Values::Int32(values) => put_number(i64::from(values[row]) as u64, tag, explicit, out),
        Values::Text(values) => put_text(values, row, tag, explicit, out),
        Values::Timestamp(ticks, unit) => {
            let (seconds, nanos) = match unit {
                TimeUnit::Microsecond => floor::<1_000_000>(ticks[row]),
                TimeUnit::Nanosecond => floor::<1_000_000_000>(ticks[row]),
                TimeUnit::Millisecond => floor::<1_000>(ticks[row]),
                TimeUnit::Second => (ticks[row], 0),
            };
            put_time(seconds, nanos, tag, out);
        }
        Values::Bits64(values) => {
            if explicit || values[row] != 0 {
                out.put_fixed(tag, values[row].into(), 8);
            }
        }
        Values::Message(fields) => out.put_delimited(tag, |out| write_message(fields, row, out)),
        Values::Bits32(values) => {
            if explicit || values[row] != 0 {
                out.put_fixed(tag, values[row].into(), 4);
            }
        }
        Values::Bool(values) => {
            if explicit || values.value(row) {
                out.put_fixed(tag, values.value(row).into(), 1);
            }
        }
        Values::Uint64(values) => put_number(values[row], tag, explicit, out),
        Values::Sint32(values) => put_number(wire::zigzag(values[row].into()), tag, explicit, out),
        Values::Sint64(values) => put_number(wire::zigzag(values[row]), tag, explicit, out),
        Values::Bytes(values) => {
            let bytes = values.value(row);
            if explicit || !bytes.is_empty() {
                out.put_varint(tag, bytes.len() as u64);
                out.put_bytes(bytes);
            }
        }
        Values::Duration(ticks, unit) => {
            let (seconds, nanos) = match unit {
                TimeUnit::Microsecond => truncate::<1_000_000>(ticks[row]),
                TimeUnit::Nanosecond => truncate::<1_000_000_000>(ticks[row]),
                TimeUnit::Millisecond => truncate::<1_000>(ticks[row]),
                TimeUnit::Second => (ticks[row], 0),
            };
            put_time(seconds, nanos, tag, out);
        }
        Values::Wrapper(column) => {
            out.put_delimited(tag, |out| write_value_slowly(&column.values, row, column.tag, false, out));
        }
        Values::Group(fields, end) => {
            out.put_tag(tag);
            write_message(fields, row, out);
            out.put_tag(*end);
        }
        Values::RawGroup(values, end) => {
            out.put_tag(tag);
            out.put_bytes(values.value(row));
            out.put_tag(*end);
        }
        Values::List { offsets, item, packed } => {
            let elements = offsets[row] as usize..offsets[row + 1] as usize;
            if !*packed {
                elements.for_each(|element| write_value_slowly(item, element, tag, true, out));
            } else if !elements.is_empty() {
                let body = |out: &mut Buffer<'_>| {
                    elements.for_each(|element| write_value_slowly(item, element, Tag::NONE, true, out));
                };
                out.put_delimited(tag, body);
            }
        }
        Values::Map { offsets, pair } => {
            for element in offsets[row] as usize..offsets[row + 1] as usize {
                let body = |out: &mut Buffer<'_>| {
                    for part in pair.iter() {
                        write_value_slowly(&part.values, element, part.tag, false, out);
                    }
                };
                out.put_delimited(tag, body);
            }
        }
    }
}

/// The same for elements and what else lies further inside, not inlined.
#[inline(never)]
fn write_value_slowly(values: &Values, row: usize, tag: Tag, explicit: bool, out: &mut Buffer<'_>) {
    write_value(values, row, tag, explicit, out);
}

#[inline(never)]
fn write_message(fields: &Fields, row: usize, out: &mut Buffer<'_>) {
    write_fields(fields, row, out);
}

#[inline(always)]
fn put_number(value: u64, tag: Tag, explicit: bool, out: &mut Buffer<'_>) {
    if explicit || value != 0 {
        out.put_varint(tag, value);
    }
}

#[inline(always)]
fn put_text(values: &StringViewArray, row: usize, tag: Tag, explicit: bool, out: &mut Buffer<'_>) {
    let view = values.views()[row];
    let length = view as u32;
    // A short text lies in its view: length and text are one word.
    if length <= 10 {
        if explicit || length != 0 {
            out.put_fixed(tag, view >> 32 << 8 | u128::from(length), length as usize + 1);
        }
        return;
    }
    let text = values.value(row);
    out.put_varint(tag, text.len() as u64);
    out.put_bytes(text.as_bytes());
}

/// Whole seconds below a time, and nanoseconds above them.
#[inline(always)]
fn floor<const PER_SECOND: i64>(ticks: i64) -> (i64, i64) {
    (ticks.div_euclid(PER_SECOND), ticks.rem_euclid(PER_SECOND) * (1_000_000_000 / PER_SECOND))
}

/// Whole seconds of a length of time, and nanoseconds of the same sign.
#[inline(always)]
fn truncate<const PER_SECOND: i64>(ticks: i64) -> (i64, i64) {
    (ticks / PER_SECOND, ticks % PER_SECOND * (1_000_000_000 / PER_SECOND))
}

#[inline(always)]
fn put_time(seconds: i64, nanos: i64, tag: Tag, out: &mut Buffer<'_>) {
    out.put_delimited(tag, |out| {
        put_number(seconds as u64, Tag::SECONDS, false, out);
        put_number(nanos as u64, Tag::NANOS, false, out);
    });
}
