//! Writing: rows of bound columns to bytes. Nothing here fails.

use arrow::array::{BinaryArray, StringViewArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::super::wire;
use super::plan::Ending;

/// The bound columns of a message.
pub(super) struct Fields(pub(super) Vec<Column>);

/// A column that is written under a tag.
pub(super) struct Column {
    pub(super) tag: u32,
    pub(super) values: Values,
    pub(super) nulls: Option<NullBuffer>,
    /// Written also when it has the default value.
    pub(super) explicit: bool,
}

impl Column {
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
    /// A group that is bytes already, and its end tag.
    RawGroup(BinaryArray, u32),
    Timestamp {
        ticks: ScalarBuffer<i64>,
        per_second: i64,
    },
    Duration {
        ticks: ScalarBuffer<i64>,
        per_second: i64,
    },
    /// A message around a scalar.
    Wrapper(Box<Column>),
    Message(Fields, Ending),
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
#[inline(always)]
pub(super) fn write_fields(fields: &Fields, row: usize, out: &mut Vec<u8>) {
    for column in &fields.0 {
        write_column(column, row, out);
    }
}

fn write_column(column: &Column, row: usize, out: &mut Vec<u8>) {
    if !column.is_present(row) {
        return;
    }
    let tag = column.tag;
    match &column.values {
        Values::List { offsets, item, packed } => {
            let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
            if *packed {
                if from < to {
                    wire::put_varint(out, tag.into());
                    delimited(out, |out| (from..to).for_each(|element| write_value(item, element, out)));
                }
            } else {
                for element in from..to {
                    wire::put_varint(out, tag.into());
                    write_value(item, element, out);
                }
            }
        }
        Values::Map { offsets, pair } => {
            for element in offsets[row] as usize..offsets[row + 1] as usize {
                wire::put_varint(out, tag.into());
                delimited(out, |out| pair.iter().for_each(|part| write_column(part, element, out)));
            }
        }
        values => {
            if column.explicit || !is_default(values, row) {
                wire::put_varint(out, tag.into());
                write_value(values, row, out);
            }
        }
    }
}

/// Whether the value is one that absence stands for as well.
#[inline(always)]
fn is_default(values: &Values, row: usize) -> bool {
    match values {
        Values::Int32(values) | Values::Sint32(values) => values[row] == 0,
        Values::Int64(values) | Values::Sint64(values) => values[row] == 0,
        Values::Uint64(values) | Values::Bits64(values) => values[row] == 0,
        Values::Bits32(values) => values[row] == 0,
        Values::Bool(values) => !values.value(row),
        Values::Text(values) => values.views()[row] as u32 == 0,
        Values::Bytes(values) => values.value_length(row) == 0,
        // A message that is there differs from one that is not.
        Values::RawGroup(..)
        | Values::Timestamp { .. }
        | Values::Duration { .. }
        | Values::Wrapper(_)
        | Values::Message(..)
        | Values::List { .. }
        | Values::Map { .. } => false,
    }
}

/// Writes one value, without its tag.
#[inline(always)]
fn write_value(values: &Values, row: usize, out: &mut Vec<u8>) {
    match values {
        Values::Int32(values) => wire::put_varint(out, i64::from(values[row]) as u64),
        Values::Sint32(values) => wire::put_varint(out, wire::zigzag(values[row].into())),
        Values::Int64(values) => wire::put_varint(out, values[row] as u64),
        Values::Sint64(values) => wire::put_varint(out, wire::zigzag(values[row])),
        Values::Uint64(values) => wire::put_varint(out, values[row]),
        Values::Bits32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::Bits64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::Bool(values) => out.push(values.value(row).into()),
        Values::Text(values) => put_bytes(out, values.value(row).as_bytes()),
        Values::Bytes(values) => put_bytes(out, values.value(row)),
        Values::RawGroup(values, end) => {
            out.extend_from_slice(values.value(row));
            wire::put_varint(out, (*end).into());
        }
        Values::Timestamp { ticks, per_second } => {
            let (ticks, per_second) = (ticks[row], *per_second);
            let nanos = ticks.rem_euclid(per_second) * (1_000_000_000 / per_second);
            delimited(out, |out| put_time(out, ticks.div_euclid(per_second), nanos));
        }
        Values::Duration { ticks, per_second } => {
            let (ticks, per_second) = (ticks[row], *per_second);
            let nanos = ticks % per_second * (1_000_000_000 / per_second);
            delimited(out, |out| put_time(out, ticks / per_second, nanos));
        }
        Values::Wrapper(column) => delimited(out, |out| write_column(column, row, out)),
        Values::Message(fields, Ending::Length) => delimited(out, |out| write_message(fields, row, out)),
        Values::Message(fields, Ending::Group(end)) => {
            write_message(fields, row, out);
            wire::put_varint(out, (*end).into());
        }
        // Only fields are lists and maps, never their elements.
        Values::List { .. } | Values::Map { .. } => {}
    }
}

#[inline(never)]
fn write_message(fields: &Fields, row: usize, out: &mut Vec<u8>) {
    write_fields(fields, row, out);
}

#[inline(always)]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    wire::put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline(always)]
fn put_time(out: &mut Vec<u8>, seconds: i64, nanos: i64) {
    if seconds != 0 {
        out.push(wire::tag(1, wire::VARINT) as u8);
        wire::put_varint(out, seconds as u64);
    }
    if nanos != 0 {
        out.push(wire::tag(2, wire::VARINT) as u8);
        wire::put_varint(out, nanos as u64);
    }
}

/// Writes a length and what `body` writes. One byte is kept for the length; a longer one pushes the body back.
#[inline(always)]
fn delimited(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    body(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
    } else {
        push_back(out, at, length);
    }
}

#[inline(never)]
fn push_back(out: &mut Vec<u8>, at: usize, length: usize) {
    let mut prefix = Vec::with_capacity(10);
    wire::put_varint(&mut prefix, length as u64);
    out.splice(at..at + 1, prefix);
}
