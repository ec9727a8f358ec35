//! Values: from their bytes into a row of their column.

use std::ops::Range;

use super::decode::Decoding;
use super::error::Reason;
use super::json;
use super::plan::{Op, Slot};
use super::text::is_usual_text;
use super::time::{TimeKind, duration, timestamp, usual_timestamp};
use super::wire;

/// What a read gave; or leaves the function with why it gave nothing.
macro_rules! read {
    ($decoding:ident, $read:ident, $rest:ident, $slot:ident, $why:expr) => {
        match wire::$read(&mut $rest) {
            Some(value) => value,
            None => return $decoding.fail($why($rest), $rest, $slot.number),
        }
    };
    ($decoding:ident, varint, $rest:ident, $slot:ident) => {
        read!($decoding, varint, $rest, $slot, wire::varint_fault)
    };
    ($decoding:ident, delimited, $rest:ident, $slot:ident) => {
        read!($decoding, delimited, $rest, $slot, wire::delimited_fault)
    };
    ($decoding:ident, $fixed:ident, $rest:ident, $slot:ident) => {
        read!($decoding, $fixed, $rest, $slot, |_| Reason::Truncated)
    };
}

/// Values of a fixed length one after the other, each an element of a list in a column.
macro_rules! packed {
    ($decoder:ident, $slot:ident, $row:ident, $values:ident, $place:expr, $of:expr) => {{
        let (bits, over) = $values.as_chunks();
        let elements = $decoder.elements($slot, $row, bits.len(), $values)?;
        let places = &mut $place.values[elements];
        places.iter_mut().zip(bits).for_each(|(place, bits)| *place = $of(*bits));
        $decoder.whole($slot, over)?;
    }};
}

impl<'p> Decoding<'p, '_> {
    /// Decodes one value into `row`, as is usual; gives what follows. `None`: nothing was done, and [`value`](Self::value) does
    /// it. Calls nothing, so that a step has its work in registers.
    #[inline(always)]
    pub(super) fn usual_value<'a>(&mut self, op: Op, slot: &Slot, rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let column = slot.column as usize;
        let store = &mut *self.store;
        macro_rules! varint {
            ($columns:ident, $value:expr) => {{
                let (bits, rest) = wire::usual_varint(rest)?;
                store.$columns.get_mut(column)?.put(row, $value(bits))?;
                Some(rest)
            }};
        }
        macro_rules! fixed {
            ($columns:ident, $bits:ty as $value:ty) => {{
                let (bytes, rest) = rest.split_first_chunk()?;
                store.$columns.get_mut(column)?.put(row, <$bits>::from_le_bytes(*bytes) as $value)?;
                Some(rest)
            }};
        }
        match op {
            Op::Int64 => varint!(longs, |bits| bits as i64),
            Op::Int32 => varint!(words, |bits| bits as i32),
            Op::Sint32 => varint!(words, |bits| wire::unzigzag(u64::from(bits as u32)) as i32),
            Op::Sint64 => varint!(longs, wire::unzigzag),
            Op::Uint32 => varint!(longs, |bits| i64::from(bits as u32)),
            Op::Uint64 => varint!(wides, i128::from),
            Op::Bool => varint!(bits, |bits| bits != 0),
            Op::Bits32 => fixed!(words, i32 as i32),
            Op::Fixed32 => fixed!(longs, u32 as i64),
            Op::Bits64 => fixed!(longs, i64 as i64),
            Op::Fixed64 => fixed!(wides, u64 as i128),
            Op::Text => {
                let (length, within) = wire::usual_length(rest)?;
                store.texts.get_mut(column)?.write_usual(row, length, within)?;
                within.get(length..)
            }
            Op::Enum => {
                // A number of more than one byte is a larger one.
                let (&number, rest) = rest.split_first().filter(|(number, _)| **number < 0x80)?;
                let view = self.plan.enums.get(slot.detail as usize)?.usual_view(number)?;
                store.labels.get_mut(column)?.views.put(row, view)?;
                Some(rest)
            }
            Op::Timestamp => {
                let (length, within) = wire::usual_length(rest)?;
                store.longs.get_mut(column)?.put(row, usual_timestamp(length, within)?)?;
                within.get(length..)
            }
            Op::Bytes => {
                let (length, within) = wire::usual_length(rest)?;
                store.blobs.get_mut(column)?.write_usual(row, length, within)?;
                within.get(length..)
            }
            Op::BlobText => {
                let (length, within) = wire::usual_length(rest)?;
                if !is_usual_text(length, within)? {
                    return None;
                }
                store.blobs.get_mut(column)?.write_usual(row, length, within)?;
                within.get(length..)
            }
            _ => None,
        }
    }

    /// Decodes one value into `row`; gives what follows.
    #[inline(always)]
    pub(super) fn value<'a>(&mut self, op: Op, slot: &'p Slot, mut rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let column = slot.column as usize;
        match op {
            Op::Int64 => self.store.longs[column].write(row, read!(self, varint, rest, slot) as i64),
            Op::Int32 => self.store.words[column].write(row, read!(self, varint, rest, slot) as i32),
            Op::Text => {
                let (bytes, within) = read!(self, delimited_within, rest, slot, wire::delimited_fault);
                if !self.store.texts[column].write(row, bytes, within) {
                    return self.fail(Reason::Utf8, bytes, slot.number);
                }
            }
            Op::Bits64 => self.store.longs[column].write(row, read!(self, fixed64, rest, slot) as i64),
            Op::Bits32 => self.store.words[column].write(row, read!(self, fixed32, rest, slot) as i32),
            Op::Bool => self.store.bits[column].write(row, read!(self, varint, rest, slot) != 0),
            Op::Enum => {
                let number = read!(self, varint, rest, slot) as i32;
                self.store.labels[column].views.write(row, self.plan.enums[slot.detail as usize].view(number));
            }
            Op::Timestamp => {
                let (fields, within) = read!(self, delimited_within, rest, slot, wire::delimited_fault);
                if timestamp(fields, within, &mut self.store.longs[column].values[row]).is_none() {
                    self.unusual_time(TimeKind::Timestamp, slot, fields, row)?;
                }
            }
            Op::Duration => {
                let fields = read!(self, delimited, rest, slot);
                if duration(fields, &mut self.store.longs[column].values[row]).is_none() {
                    self.unusual_time(TimeKind::Duration, slot, fields, row)?;
                }
            }
            Op::Message => return self.nested(slot, rest, row),
            Op::Group => return self.nested_group(slot, rest, row),
            Op::Sint32 => {
                // A longer varint is cut to 32 bits first, as everywhere else.
                let bits = read!(self, varint, rest, slot) as u32;
                self.store.words[column].write(row, wire::unzigzag(bits.into()) as i32);
            }
            Op::Sint64 => self.store.longs[column].write(row, wire::unzigzag(read!(self, varint, rest, slot))),
            Op::Uint32 => self.store.longs[column].write(row, i64::from(read!(self, varint, rest, slot) as u32)),
            Op::Fixed32 => self.store.longs[column].write(row, i64::from(read!(self, fixed32, rest, slot))),
            Op::Uint64 => self.store.wides[column].write(row, i128::from(read!(self, varint, rest, slot))),
            Op::Fixed64 => self.store.wides[column].write(row, i128::from(read!(self, fixed64, rest, slot))),
            Op::Bytes => {
                let (bytes, within) = read!(self, delimited_within, rest, slot, wire::delimited_fault);
                self.store.blobs[column].write(row, bytes, within);
            }
            Op::BlobText => {
                let (bytes, within) = read!(self, delimited_within, rest, slot, wire::delimited_fault);
                if !self.store.blobs[column].write_text(row, bytes, within) {
                    return self.fail(Reason::Utf8, bytes, slot.number);
                }
            }
            Op::Json => {
                let bytes = read!(self, delimited, rest, slot);
                if let Err(reason) = json::check(slot.detail, bytes, slot.level + 1) {
                    return self.fail(reason, bytes, slot.number);
                }
                self.store.blobs[column].append(row, bytes);
            }
            Op::Raw => {
                let bytes = read!(self, delimited, rest, slot);
                self.raw(slot, bytes, row)?;
            }
            Op::RawGroup => {
                let start = rest;
                match wire::group(slot.number, &mut rest, slot.level) {
                    Ok(bytes) => self.raw(slot, bytes, row)?,
                    Err(reason) => return self.fail(reason, start, slot.number),
                }
            }
            // The column of a skipped field is the tag that it came with.
            Op::Skip | Op::Unknown => {
                let start = rest;
                if let Err(reason) = wire::skip(slot.column, &mut rest, slot.level) {
                    return self.fail(reason, start, slot.number);
                }
            }
        }
        Some(rest)
    }

    /// Keeps the bytes of a message that is not unfolded. Pieces are joined; one that is well may be none together with what was there.
    #[inline(never)]
    fn raw(&mut self, slot: &'p Slot, bytes: &[u8], row: usize) -> Option<()> {
        let blob = &mut self.store.blobs[slot.column as usize];
        let is_piece = !blob.is_empty(row);
        blob.append(row, bytes);
        match self.plan.checks.check(slot.detail as usize, bytes, slot.level + 1) {
            Err(fault) if !fault.may_be_put_right() => {
                self.trouble.fault = Some(fault.inside(slot.number));
                None
            }
            checked => {
                if is_piece || checked.is_err() {
                    self.trouble.suspect();
                }
                Some(())
            }
        }
    }

    /// Decodes a length and values of this op one after the other, each an element of the field's list.
    #[inline(always)]
    pub(super) fn packed<'a>(&mut self, op: Op, slot: &'p Slot, mut rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let (values, within) = read!(self, delimited_within, rest, slot, wire::delimited_fault);
        let column = slot.column as usize;
        match op {
            Op::Bits32 => packed!(self, slot, row, values, self.store.words[column], i32::from_le_bytes),
            Op::Fixed32 => packed!(self, slot, row, values, self.store.longs[column], |b| u32::from_le_bytes(b).into()),
            Op::Bits64 => packed!(self, slot, row, values, self.store.longs[column], i64::from_le_bytes),
            Op::Fixed64 => packed!(self, slot, row, values, self.store.wides[column], |b| u64::from_le_bytes(b).into()),
            _ => self.packed_varints(op, slot, (values, within), row)?,
        }
        Some(rest)
    }

    /// Values of varints: each ends with a byte below 128, so how many there are is known ahead. `values` is what `within`
    /// begins with.
    #[inline(always)]
    fn packed_varints(&mut self, op: Op, slot: &'p Slot, (values, within): (&[u8], &[u8]), row: usize) -> Option<()> {
        if values.last().is_some_and(|last| *last >= 0x80) {
            return self.cut_off(slot, values);
        }
        let count = values.iter().filter(|byte| **byte < 0x80).count();
        let elements = self.elements(slot, row, count, values)?;
        let column = slot.column as usize;
        let store = &mut *self.store;
        // The last of them ends where the bytes do: those behind are not read as values.
        let read = match op {
            Op::Int32 => varints(within, &mut store.words[column].values[elements], |bits| bits as i32),
            Op::Sint32 => varints(within, &mut store.words[column].values[elements], |bits| {
                wire::unzigzag(u64::from(bits as u32)) as i32
            }),
            Op::Int64 => varints(within, &mut store.longs[column].values[elements], |bits| bits as i64),
            Op::Sint64 => varints(within, &mut store.longs[column].values[elements], wire::unzigzag),
            Op::Uint32 => varints(within, &mut store.longs[column].values[elements], |bits| i64::from(bits as u32)),
            Op::Uint64 => varints(within, &mut store.wides[column].values[elements], i128::from),
            Op::Enum => {
                let labels = &self.plan.enums[slot.detail as usize];
                let places = &mut store.labels[column].views.values[elements];
                varints(within, places, |bits| labels.view(bits as i32))
            }
            _ => {
                let mut rest = within;
                for element in elements {
                    rest = self.value(op, slot, rest, element)?;
                }
                Ok(())
            }
        };
        match read {
            Ok(()) => Some(()),
            Err(rest) => self.fail(wire::varint_fault(rest), rest, slot.number),
        }
    }

    /// Notes that the last of these varints does not end, or one of them is too long.
    #[cold]
    #[inline(never)]
    fn cut_off(&mut self, slot: &Slot, mut values: &[u8]) -> Option<()> {
        while wire::varint(&mut values).is_some() {}
        self.fail(wire::varint_fault(values), values, slot.number)
    }

    /// The rows of so many new elements of the slot's list.
    #[inline(always)]
    fn elements(&mut self, slot: &Slot, row: usize, count: usize, values: &[u8]) -> Option<Range<usize>> {
        if count == 0 {
            return Some(0..0);
        }
        match self.store.append_many(slot.list as usize, row, count) {
            Ok(first) => Some(first..first + count),
            Err(reason) => self.fail(reason, values, slot.number),
        }
    }

    /// Values of a fixed width fill their bytes.
    #[inline(always)]
    fn whole(&mut self, slot: &Slot, over: &[u8]) -> Option<()> {
        if over.is_empty() { Some(()) } else { self.fail(Reason::Truncated, over, slot.number) }
    }
}

/// Reads a varint for each place. An error is where there is none.
#[inline(always)]
fn varints<'a, T>(mut rest: &'a [u8], places: &mut [T], value: impl Fn(u64) -> T) -> Result<(), &'a [u8]> {
    for place in places {
        *place = value(wire::varint(&mut rest).ok_or(rest)?);
    }
    Ok(())
}
