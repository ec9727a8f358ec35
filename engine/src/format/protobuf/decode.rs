//! Decoding one record: one pass over its bytes, each value written to its column.

use std::ops::Range;

use super::error::{DecodeError, Reason};
use super::json;
use super::plan::{MessagePlan, NONE, Op, Plan, Slot};
use super::store::Store;
use super::time::{duration, timestamp};
use super::wire;

/// A failure on its way up; the path is collected from the inside outwards. Boxed, since it is rare.
type Fault = Box<FaultAt>;

/// See [`Fault`].
struct FaultAt {
    reason: Reason,
    /// The address at which reading stopped: all slices are parts of the record.
    address: usize,
    /// Numbers of the enclosing fields, innermost first; 0 is none.
    fields: Vec<u32>,
}

#[cold]
#[inline(never)]
fn fault(reason: Reason, rest: &[u8], field: u32) -> Fault {
    Box::new(FaultAt { reason, address: rest.as_ptr() as usize, fields: vec![field] })
}

#[cold]
#[inline(never)]
fn inside(mut fault: Fault, field: u32) -> Fault {
    fault.fields.push(field);
    fault
}

/// What a read gave; or leaves the function with why it gave nothing.
macro_rules! read {
    ($read:ident, $rest:ident, $slot:ident, $why:expr) => {
        match wire::$read(&mut $rest) {
            Some(value) => value,
            None => return Err(fault($why($rest), $rest, $slot.number)),
        }
    };
    (varint, $rest:ident, $slot:ident) => {
        read!(varint, $rest, $slot, wire::varint_fault)
    };
    (delimited, $rest:ident, $slot:ident) => {
        read!(delimited, $rest, $slot, wire::delimited_fault)
    };
    ($fixed:ident, $rest:ident, $slot:ident) => {
        read!($fixed, $rest, $slot, |_| Reason::Truncated)
    };
}

/// A plan at work on a store.
pub(super) struct Decoding<'p, 's> {
    plan: &'p Plan,
    store: &'s mut Store,
    /// Messages that lacked something required when they ended: another piece of them may bring it.
    lacking: Vec<Lacking>,
}

/// A message that was not whole when it ended.
struct Lacking {
    message: u32,
    row: usize,
    /// The bit that says whether it is still there, or [`NONE`].
    presence: u32,
    fault: Fault,
}

impl<'p, 's> Decoding<'p, 's> {
    pub(super) fn new(plan: &'p Plan, store: &'s mut Store) -> Self {
        Self { plan, store, lacking: Vec::new() }
    }

    /// Decodes a record into row `row` of the record's table. After an error the row holds a part of it.
    pub(super) fn record(&mut self, bytes: &[u8], row: usize) -> Result<(), DecodeError> {
        let plan = self.plan;
        let root = &plan.messages[plan.root];
        let decoded = self.message(root, bytes, row, 0).and_then(|rest| {
            self.missing(root, row, rest).map_or(Ok(()), Err)?;
            self.still_lacking().map_or(Ok(()), Err)
        });
        match decoded {
            Ok(()) => Ok(()),
            Err(fault) => {
                let offset = fault.address.saturating_sub(bytes.as_ptr() as usize).min(bytes.len());
                Err(DecodeError { path: path(plan, &fault.fields), offset, reason: fault.reason })
            }
        }
    }

    /// Decodes the fields of a message, up to the end of `rest` or of the group `group` (0: none); gives what follows.
    fn message<'a>(
        &mut self,
        message: &'p MessagePlan,
        mut rest: &'a [u8],
        row: usize,
        group: u32,
    ) -> Result<&'a [u8], Fault> {
        while let Some((&first, tail)) = rest.split_first() {
            let mut values = tail;
            let mut tag = u32::from(first);
            if first >= 0x80 {
                values = rest;
                tag = wire::read_tag(&mut values).map_err(|reason| fault(reason, rest, 0))?;
            }
            let slot = message.slot(tag);
            rest = match slot.first {
                Op::Unknown if group != 0 && tag == wire::tag(group, wire::END_GROUP) => return Ok(values),
                Op::Unknown => unknown(tag, values, rest)?,
                Op::Prepared => {
                    let row = self.prepare(slot, row).map_err(|reason| fault(reason, rest, slot.number))?;
                    self.value(slot.op, slot, values, row)?
                }
                Op::Packed => self.packed(slot, values, row)?,
                op => self.value(op, slot, values, row)?,
            };
        }
        if group != 0 {
            return Err(fault(Reason::Truncated, rest, 0));
        }
        Ok(rest)
    }

    /// Presence, oneof and list: what a value's arrival means, before it is written. Gives the row to write to.
    #[inline(always)]
    fn prepare(&mut self, slot: &Slot, row: usize) -> Result<usize, Reason> {
        if slot.list != NONE {
            return self.store.append(slot.list as usize, row);
        }
        if slot.member != NONE {
            self.set_member(slot.member, row);
        }
        if slot.presence != NONE {
            self.store.bits[slot.presence as usize].set(row);
        }
        Ok(row)
    }

    /// Unsets the member of the oneof that was set before in this row, if it is another one.
    fn set_member(&mut self, number: u32, row: usize) {
        let member = self.plan.members[number as usize];
        let case = &mut self.store.words[member.case as usize].values[row];
        let before = std::mem::replace(case, number as i32 + 1);
        if before == 0 || before == number as i32 + 1 {
            return;
        }
        let before = self.plan.members[before as usize - 1];
        for index in (before.from..before.to).rev() {
            let column = self.store.tables[before.table].columns[index];
            self.store.reset(column, row);
        }
    }

    /// Decodes one value into `row`; gives what follows.
    #[inline(always)]
    fn value<'a>(&mut self, op: Op, slot: &'p Slot, mut rest: &'a [u8], row: usize) -> Result<&'a [u8], Fault> {
        let column = slot.column as usize;
        match op {
            Op::Int64 => self.store.longs[column].write(row, read!(varint, rest, slot) as i64),
            Op::Int32 => self.store.words[column].write(row, read!(varint, rest, slot) as i32),
            Op::Text => {
                let (bytes, within) = read!(delimited_within, rest, slot, wire::delimited_fault);
                if !self.store.texts[column].write(row, bytes, within) {
                    return Err(fault(Reason::Utf8, bytes, slot.number));
                }
            }
            Op::Bits64 => self.store.longs[column].write(row, read!(fixed64, rest, slot) as i64),
            Op::Bits32 => self.store.words[column].write(row, read!(fixed32, rest, slot) as i32),
            Op::Bool => self.store.bits[column].write(row, read!(varint, rest, slot) != 0),
            Op::Enum => {
                let number = read!(varint, rest, slot) as i32;
                self.store.labels[column].views.write(row, self.plan.enums[slot.detail as usize].view(number));
            }
            Op::Timestamp => {
                let (fields, within) = read!(delimited_within, rest, slot, wire::delimited_fault);
                if let Err(reason) = timestamp(fields, within, &mut self.store.longs[column].values[row]) {
                    return Err(fault(reason, fields, slot.number));
                }
            }
            Op::Duration => {
                let fields = read!(delimited, rest, slot);
                if let Err(reason) = duration(fields, &mut self.store.longs[column].values[row]) {
                    return Err(fault(reason, fields, slot.number));
                }
            }
            Op::Message => {
                let bytes = read!(delimited, rest, slot);
                let message = &self.plan.messages[slot.detail as usize];
                let before = self.lacking.len();
                match self.message(message, bytes, row, 0) {
                    Ok(end) if !message.required.is_empty() || self.lacking.len() > before => {
                        self.note_missing(slot, row, end, before);
                    }
                    Ok(_) => {}
                    Err(fault) => return Err(inside(fault, slot.number)),
                }
            }
            Op::Group => {
                let before = self.lacking.len();
                let group = self.message(&self.plan.messages[slot.detail as usize], rest, row, slot.number);
                rest = group.map_err(|fault| inside(fault, slot.number))?;
                self.note_missing(slot, row, rest, before);
            }
            Op::Sint32 => {
                // A longer varint is cut to 32 bits first, as everywhere else.
                let bits = read!(varint, rest, slot) as u32;
                self.store.words[column].write(row, wire::unzigzag(bits.into()) as i32);
            }
            Op::Sint64 => self.store.longs[column].write(row, wire::unzigzag(read!(varint, rest, slot))),
            Op::Uint32 => self.store.longs[column].write(row, i64::from(read!(varint, rest, slot) as u32)),
            Op::Fixed32 => self.store.longs[column].write(row, i64::from(read!(fixed32, rest, slot))),
            Op::Uint64 => self.store.wides[column].write(row, i128::from(read!(varint, rest, slot))),
            Op::Fixed64 => self.store.wides[column].write(row, i128::from(read!(fixed64, rest, slot))),
            Op::Bytes => {
                let (bytes, within) = read!(delimited_within, rest, slot, wire::delimited_fault);
                self.store.blobs[column].write(row, bytes, within);
            }
            Op::BlobText => {
                let (bytes, within) = read!(delimited_within, rest, slot, wire::delimited_fault);
                if !self.store.blobs[column].write_text(row, bytes, within) {
                    return Err(fault(Reason::Utf8, bytes, slot.number));
                }
            }
            Op::Json => {
                let bytes = read!(delimited, rest, slot);
                json::check(slot.detail, bytes).map_err(|reason| fault(reason, bytes, slot.number))?;
                self.store.blobs[column].append(row, bytes);
            }
            Op::Raw => {
                let bytes = read!(delimited, rest, slot);
                self.raw(slot, bytes, row)?;
            }
            Op::RawGroup => {
                let start = rest;
                match wire::group(slot.number, &mut rest, 0) {
                    Ok(bytes) => self.raw(slot, bytes, row)?,
                    Err(reason) => return Err(fault(reason, start, slot.number)),
                }
            }
            // The column of a skipped field is the tag that it came with.
            Op::Skip | Op::Unknown | Op::Prepared | Op::Packed => {
                let start = rest;
                wire::skip(slot.column, &mut rest, 0).map_err(|reason| fault(reason, start, slot.number))?;
            }
        }
        Ok(rest)
    }

    /// Keeps the bytes of a message that is not unfolded.
    #[inline(never)]
    fn raw(&mut self, slot: &'p Slot, bytes: &[u8], row: usize) -> Result<(), Fault> {
        let checked = self.plan.checks.check(slot.detail as usize, bytes);
        checked.map_err(|(reason, rest)| fault(reason, rest, slot.number))?;
        self.store.blobs[slot.column as usize].append(row, bytes);
        Ok(())
    }

    /// Decodes a length and values one after the other, each an element of the field's list.
    #[inline(never)]
    fn packed<'a>(&mut self, slot: &'p Slot, mut rest: &'a [u8], row: usize) -> Result<&'a [u8], Fault> {
        let values = read!(delimited, rest, slot);
        let column = slot.column as usize;
        match slot.op {
            Op::Bits32 => {
                let (bits, over) = values.as_chunks::<4>();
                let elements = self.elements(slot, row, bits.len(), values)?;
                let places = &mut self.store.words[column].values[elements];
                places.iter_mut().zip(bits).for_each(|(place, bits)| *place = i32::from_le_bytes(*bits));
                whole(slot, over)?;
            }
            Op::Fixed32 => {
                let (bits, over) = values.as_chunks::<4>();
                let elements = self.elements(slot, row, bits.len(), values)?;
                let places = &mut self.store.longs[column].values[elements];
                places.iter_mut().zip(bits).for_each(|(place, bits)| *place = u32::from_le_bytes(*bits).into());
                whole(slot, over)?;
            }
            Op::Bits64 => {
                let (bits, over) = values.as_chunks::<8>();
                let elements = self.elements(slot, row, bits.len(), values)?;
                let places = &mut self.store.longs[column].values[elements];
                places.iter_mut().zip(bits).for_each(|(place, bits)| *place = i64::from_le_bytes(*bits));
                whole(slot, over)?;
            }
            Op::Fixed64 => {
                let (bits, over) = values.as_chunks::<8>();
                let elements = self.elements(slot, row, bits.len(), values)?;
                let places = &mut self.store.wides[column].values[elements];
                places.iter_mut().zip(bits).for_each(|(place, bits)| *place = u64::from_le_bytes(*bits).into());
                whole(slot, over)?;
            }
            _ => self.packed_varints(slot, values, row)?,
        }
        Ok(rest)
    }

    /// Values of varints: each ends with a byte below 128, so how many there are is known ahead.
    #[inline(always)]
    fn packed_varints(&mut self, slot: &'p Slot, values: &[u8], row: usize) -> Result<(), Fault> {
        let count = values.iter().filter(|byte| **byte < 0x80).count();
        let elements = self.elements(slot, row, count, values)?;
        let column = slot.column as usize;
        let store = &mut *self.store;
        match slot.op {
            Op::Int32 => varints(slot, values, &mut store.words[column].values[elements], |bits| bits as i32),
            Op::Sint32 => varints(slot, values, &mut store.words[column].values[elements], |bits| {
                wire::unzigzag(u64::from(bits as u32)) as i32
            }),
            Op::Int64 => varints(slot, values, &mut store.longs[column].values[elements], |bits| bits as i64),
            Op::Sint64 => varints(slot, values, &mut store.longs[column].values[elements], wire::unzigzag),
            Op::Uint32 => {
                varints(slot, values, &mut store.longs[column].values[elements], |bits| i64::from(bits as u32))
            }
            Op::Uint64 => varints(slot, values, &mut store.wides[column].values[elements], i128::from),
            Op::Enum => {
                let labels = &self.plan.enums[slot.detail as usize];
                let places = &mut store.labels[column].views.values[elements];
                varints(slot, values, places, |bits| labels.view(bits as i32))
            }
            _ => {
                let mut rest = values;
                for element in elements {
                    rest = self.value(slot.op, slot, rest, element)?;
                }
                if rest.is_empty() { Ok(()) } else { Err(fault(wire::varint_fault(rest), rest, slot.number)) }
            }
        }
    }

    /// The rows of so many new elements of the slot's list.
    #[inline(always)]
    fn elements(&mut self, slot: &Slot, row: usize, count: usize, values: &[u8]) -> Result<Range<usize>, Fault> {
        if count == 0 {
            return Ok(0..0);
        }
        let first = self.store.append_many(slot.list as usize, row, count);
        let first = first.map_err(|reason| fault(reason, values, slot.number))?;
        Ok(first..first + count)
    }

    /// What a message lacks that is required.
    #[inline(always)]
    fn missing(&self, message: &MessagePlan, row: usize, rest: &[u8]) -> Option<Fault> {
        let missing = message.required.iter().find(|(bit, _)| !self.store.bits[*bit as usize].get(row));
        missing.map(|(_, number)| fault(Reason::Required, rest, *number))
    }

    /// A message has ended; those inside of it that lack something are in `lacking` from `before` on.
    #[inline(never)]
    fn note_missing(&mut self, slot: &'p Slot, row: usize, rest: &[u8], before: usize) {
        for lacking in &mut self.lacking[before..] {
            lacking.fault.fields.push(slot.number);
        }
        if let Some(fault) = self.missing(&self.plan.messages[slot.detail as usize], row, rest) {
            let fault = inside(fault, slot.number);
            self.lacking.push(Lacking { message: slot.detail, row, presence: slot.presence, fault });
        }
    }

    /// At the end of the record: a message that is still there and still not whole.
    #[inline(always)]
    fn still_lacking(&mut self) -> Option<Fault> {
        if self.lacking.is_empty() {
            return None;
        }
        let lacking = std::mem::take(&mut self.lacking).into_iter().find(|lacking| {
            let message = &self.plan.messages[lacking.message as usize];
            let unset = lacking.presence != NONE && !self.store.bits[lacking.presence as usize].get(lacking.row);
            let taken_back = lacking.row >= self.store.tables[message.table].rows;
            !unset && !taken_back && self.missing(message, lacking.row, &[]).is_some()
        });
        lacking.map(|lacking| lacking.fault)
    }
}

/// Values of a fixed width fill their bytes.
#[inline(always)]
fn whole(slot: &Slot, over: &[u8]) -> Result<(), Fault> {
    if over.is_empty() { Ok(()) } else { Err(fault(Reason::Truncated, over, slot.number)) }
}

/// Reads a varint for each place; nothing may be left.
#[inline(always)]
fn varints<T>(slot: &Slot, mut rest: &[u8], places: &mut [T], value: impl Fn(u64) -> T) -> Result<(), Fault> {
    for place in places {
        *place = value(read!(varint, rest, slot));
    }
    if rest.is_empty() { Ok(()) } else { Err(fault(wire::varint_fault(rest), rest, slot.number)) }
}

/// Skips the value of a field that the plan does not know; `start` is where its tag begins.
#[inline(always)]
fn unknown<'a>(tag: u32, mut rest: &'a [u8], start: &[u8]) -> Result<&'a [u8], Fault> {
    // A tag of one byte was not looked at before it was looked up.
    let skipped = if tag < 8 { Err(Reason::FieldNumber) } else { wire::skip(tag, &mut rest, 0) };
    match skipped {
        Ok(()) => Ok(rest),
        Err(reason) => Err(fault(reason, start, tag >> 3)),
    }
}

/// Names of the fields on the way to the fault, from the message's own name on.
fn path(plan: &Plan, fields: &[u32]) -> String {
    let mut path = plan.name.clone();
    let mut message = Some(&plan.messages[plan.root]);
    for number in fields.iter().rev().filter(|number| **number != 0) {
        path.push('.');
        match message.and_then(|message| message.names.get(number)) {
            Some(name) => path.push_str(name),
            None => path.push_str(&number.to_string()),
        }
        message = message.and_then(|message| {
            let slots =
                [wire::DELIMITED, wire::START_GROUP].map(|wire_type| message.slot(wire::tag(*number, wire_type)));
            let nested = slots.into_iter().find(|slot| matches!(slot.op, Op::Message | Op::Group))?;
            plan.messages.get(nested.detail as usize)
        });
    }
    path
}
