//! Writing: rows of bound columns to bytes. Nothing here fails.

use std::ops::Range;

use arrow::array::{BinaryArray, StringViewArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::TimeUnit;

use super::super::text::INLINE;
use super::super::wire;
use super::buffer::{Buffer, ROOM};
use super::word::{Tag, UsualTime, Word};

/// The bound columns of a message.
pub(super) struct Fields(pub(super) Vec<Column>);

/// Writes a column's value of a row, if it is there.
type Write = for<'v> fn(&Column, usize, Buffer<'v>) -> Buffer<'v>;

/// A column that is written under a tag.
pub(super) struct Column {
    tag: Tag,
    pub(super) values: Values,
    pub(super) nulls: Option<NullBuffer>,
    /// Written also when it has the default value.
    explicit: bool,
    /// By the kind of the values: a small function has all it works on in registers, and is called without asking what they are.
    write: Write,
}

impl Column {
    /// Values under `tag`; of those that are `explicit`, the default is written as well.
    pub(super) fn new(tag: Tag, values: Values, nulls: Option<NullBuffer>, explicit: bool) -> Self {
        let write = writer(&values);
        Self { tag, values, nulls, explicit, write }
    }

    #[inline(always)]
    pub(super) fn is_present(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    #[inline(always)]
    fn write<'v>(&self, row: usize, out: Buffer<'v>) -> Buffer<'v> {
        (self.write)(self, row, out)
    }
}

/// Makes room before writing. Asked for once, so that the functions have no calls that they come back from.
#[cold]
#[inline(never)]
fn write_grown<'v>(column: &Column, row: usize, out: Buffer<'v>) -> Buffer<'v> {
    column.write(row, out.grown(ROOM))
}

/// The function for values of a kind.
fn writer(values: &Values) -> Write {
    macro_rules! by_kind {
        ($($kind:pat => $named:ident,)*) => {
            match values {
                $($kind => {
                    fn $named<'v>(column: &Column, row: usize, out: Buffer<'v>) -> Buffer<'v> {
                        if !column.is_present(row) {
                            return out;
                        }
                        if !out.has_room() {
                            return write_grown(column, row, out);
                        }
                        // Of the kinds that values have, this is the only one here: all but one of the arms below fall away.
                        match &column.values {
                            values @ $kind => write_value(values, row, column.tag, column.explicit, out),
                            _ => out,
                        }
                    }
                    $named
                })*
            }
        };
    }
    by_kind! {
        Values::Int32(_) => int32,
        Values::Sint32(_) => sint32,
        Values::Int64(_) => int64,
        Values::Sint64(_) => sint64,
        Values::Uint64(_) => uint64,
        Values::Wide(_) => wide,
        Values::Bits32(_) => bits32,
        Values::Low32(_) => low32,
        Values::Bits64(_) => bits64,
        Values::Low64(_) => low64,
        Values::Bool(_) => bool,
        Values::Text(_) => text,
        Values::Bytes(_) => bytes,
        Values::Timestamp(_, TimeUnit::Microsecond) => timestamp_of_micros,
        Values::Timestamp(..) => timestamp,
        Values::Duration(_, TimeUnit::Microsecond) => duration_of_micros,
        Values::Duration(..) => duration,
        Values::Wrapper(_) => wrapper,
        Values::Message(_) => message,
        Values::Group(..) => group,
        Values::RawGroup(..) => raw_group,
        Values::List { .. } => list,
        Values::Map { .. } => map,
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
    /// `uint64` in the low half of decimals.
    Wide(ScalarBuffer<i128>),
    /// Four bytes: `sfixed32`, `float`.
    Bits32(ScalarBuffer<u32>),
    /// `fixed32` in the low half.
    Low32(ScalarBuffer<i64>),
    /// Eight bytes.
    Bits64(ScalarBuffer<u64>),
    /// `fixed64` in the low half of decimals.
    Low64(ScalarBuffer<i128>),
    Bool(BooleanBuffer),
    Text(StringViewArray),
    /// `bytes`, texts that lie one after the other, and messages that are bytes already.
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
    /// An element has the list's tag, and a packed one none.
    List {
        offsets: OffsetBuffer<i32>,
        item: Box<Column>,
        packed: bool,
    },
    /// Key and value.
    Map {
        offsets: OffsetBuffer<i32>,
        pair: Box<[Column; 2]>,
    },
}

/// Writes the fields of one message.
#[inline(always)]
pub(super) fn write_fields<'v>(fields: &Fields, row: usize, mut out: Buffer<'v>) -> Buffer<'v> {
    for column in &fields.0 {
        out = column.write(row, out);
    }
    out
}

/// Writes a value under `tag`; unless it is the default and not `explicit`, which absence stands for as well.
#[inline(always)]
fn write_value<'v>(values: &Values, row: usize, tag: Tag, explicit: bool, out: Buffer<'v>) -> Buffer<'v> {
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
            put_time(seconds, nanos, tag, out)
        }
        Values::Bits64(values) => put_bits(values[row], 8, tag, explicit, out),
        Values::Low64(values) => put_bits(values[row] as u64, 8, tag, explicit, out),
        Values::Message(fields) => out.put_delimited(tag, |out| write_fields(fields, row, out)),
        Values::Bits32(values) => put_bits(values[row].into(), 4, tag, explicit, out),
        Values::Low32(values) => put_bits((values[row] as u32).into(), 4, tag, explicit, out),
        Values::Bool(values) => put_bits(values.value(row).into(), 1, tag, explicit, out),
        Values::Uint64(values) => put_number(values[row], tag, explicit, out),
        Values::Wide(values) => put_number(values[row] as u64, tag, explicit, out),
        Values::Sint32(values) => put_number(wire::zigzag(values[row].into()), tag, explicit, out),
        Values::Sint64(values) => put_number(wire::zigzag(values[row]), tag, explicit, out),
        Values::Bytes(values) => put_bytes(values.value(row), tag, explicit, out),
        Values::Duration(ticks, unit) => {
            let (seconds, nanos) = match unit {
                TimeUnit::Microsecond => truncate::<1_000_000>(ticks[row]),
                TimeUnit::Nanosecond => truncate::<1_000_000_000>(ticks[row]),
                TimeUnit::Millisecond => truncate::<1_000>(ticks[row]),
                TimeUnit::Second => (ticks[row], 0),
            };
            put_time(seconds, nanos, tag, out)
        }
        Values::Wrapper(column) => out.put_delimited(tag, |out| column.write(row, out)),
        Values::Group(fields, end) => write_fields(fields, row, out.put_tag(tag)).put_tag(*end),
        Values::RawGroup(values, end) => out.put_tag(tag).put_bytes(values.value(row)).put_tag(*end),
        Values::List { offsets, item, packed } => {
            let elements = offsets[row] as usize..offsets[row + 1] as usize;
            match *packed {
                _ if elements.is_empty() => out,
                true => write_packed(item, elements, tag, out),
                false => write_elements(item, elements, out),
            }
        }
        Values::Map { offsets, pair } => {
            write_entries(pair, offsets[row] as usize..offsets[row + 1] as usize, tag, out)
        }
    }
}

/// Each element under the tag.
#[inline(always)]
fn write_elements<'v>(item: &Column, elements: Range<usize>, out: Buffer<'v>) -> Buffer<'v> {
    match &item.values {
        Values::Text(values) => elements.fold(out, |out, element| put_text(values, element, item.tag, true, out)),
        _ => elements.fold(out, |out, element| item.write(element, out)),
    }
}

/// All elements behind one tag and their length in bytes.
#[inline(never)]
fn write_packed<'v>(item: &Column, elements: Range<usize>, tag: Tag, out: Buffer<'v>) -> Buffer<'v> {
    macro_rules! varints {
        ($values:ident, $number:expr) => {
            out.put_delimited(tag, |out| {
                let number = $number;
                $values[elements].iter().fold(out, |out, value| out.put_varint(Tag::NONE, number(*value)))
            })
        };
    }
    match &item.values {
        // As they lie in memory.
        Values::Bits32(values) if cfg!(target_endian = "little") => {
            let bytes = values.inner().as_slice().get(elements.start * 4..elements.end * 4).unwrap_or_default();
            out.put_varint(tag, bytes.len() as u64).put_bytes(bytes)
        }
        Values::Bits64(values) if cfg!(target_endian = "little") => {
            let bytes = values.inner().as_slice().get(elements.start * 8..elements.end * 8).unwrap_or_default();
            out.put_varint(tag, bytes.len() as u64).put_bytes(bytes)
        }
        Values::Low32(values) => {
            let out = out.put_varint(tag, elements.len() as u64 * 4);
            values[elements].iter().fold(out, |out, value| out.put(Word::of((*value as u32).into(), 4)))
        }
        Values::Int32(values) => varints!(values, |value| i64::from(value) as u64),
        Values::Int64(values) => varints!(values, |value| value as u64),
        Values::Sint32(values) => varints!(values, |value: i32| wire::zigzag(value.into())),
        Values::Sint64(values) => varints!(values, wire::zigzag),
        _ => out.put_delimited(tag, |out| elements.fold(out, |out, element| item.write(element, out))),
    }
}

/// Each key and value in a message under the tag.
#[inline(always)]
fn write_entries<'v>(pair: &[Column; 2], entries: Range<usize>, tag: Tag, mut out: Buffer<'v>) -> Buffer<'v> {
    let [key, value] = pair;
    for entry in entries {
        out = out.put_delimited(tag, |out| value.write(entry, key.write(entry, out)));
    }
    out
}

#[inline(always)]
fn put_number(value: u64, tag: Tag, explicit: bool, out: Buffer<'_>) -> Buffer<'_> {
    match Word::usual_varint(value) {
        _ if !explicit && value == 0 => out,
        Some(word) => out.put_field(tag, word),
        None => put_long_number(value, tag, out),
    }
}

#[inline(never)]
fn put_long_number(value: u64, tag: Tag, out: Buffer<'_>) -> Buffer<'_> {
    out.put_varint(tag, value)
}

/// So many bytes as they are.
#[inline(always)]
fn put_bits(bits: u64, width: usize, tag: Tag, explicit: bool, out: Buffer<'_>) -> Buffer<'_> {
    if explicit || bits != 0 { out.put_field(tag, Word::of(bits.into(), width)) } else { out }
}

#[inline(always)]
fn put_bytes<'v>(bytes: &[u8], tag: Tag, explicit: bool, out: Buffer<'v>) -> Buffer<'v> {
    if explicit || !bytes.is_empty() { out.put_length(tag, bytes.len()).put_bytes(bytes) } else { out }
}

#[inline(always)]
fn put_text<'v>(values: &StringViewArray, row: usize, tag: Tag, explicit: bool, out: Buffer<'v>) -> Buffer<'v> {
    let view = values.views()[row];
    let length = view as u32 as usize;
    // A short text lies in its view: length and text are one word.
    if length <= INLINE {
        if !explicit && length == 0 {
            return out;
        }
        return out.put_short_text(tag, view);
    }
    put_long_text(values, row, tag, out)
}

#[inline(never)]
fn put_long_text<'v>(values: &StringViewArray, row: usize, tag: Tag, out: Buffer<'v>) -> Buffer<'v> {
    let view = values.views()[row];
    // A view's upper half: the buffer's number, and the text's place in it.
    let (buffer, at) = ((view >> 64) as u32 as usize, (view >> 96) as usize);
    let within = &values.data_buffers()[buffer].as_slice()[at..];
    out.put_long_text(tag, within, view as u32 as usize)
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
fn put_time(seconds: i64, nanos: i64, tag: Tag, out: Buffer<'_>) -> Buffer<'_> {
    let (seconds, nanos) = (seconds as u64, nanos as u64);
    match UsualTime::of(seconds, nanos) {
        Some(time) => out.put_time(tag, time),
        None => put_any_time(seconds, nanos, tag, out),
    }
}

#[inline(never)]
fn put_any_time(seconds: u64, nanos: u64, tag: Tag, out: Buffer<'_>) -> Buffer<'_> {
    if let Some(word) = Word::short_time(seconds, nanos) {
        return out.put_field(tag, word);
    }
    out.put_delimited(tag, |out| {
        let out = put_number(seconds, Tag::SECONDS, false, out);
        put_number(nanos, Tag::NANOS, false, out)
    })
}
