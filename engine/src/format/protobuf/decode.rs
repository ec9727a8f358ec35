//! Decoding one record: one pass over its bytes, each value written to its column.

use super::error::{DecodeError, Reason};
use super::plan::{MessagePlan, NONE, Op, Plan, Slot};
use super::store::Store;
use super::wire;

/// A failure on its way up; the path is collected from the inside outwards. Boxed, since it is rare.
pub(super) type Fault = Box<FaultAt>;

/// See [`Fault`].
#[derive(Debug)]
pub(super) struct FaultAt {
    reason: Reason,
    /// The address at which reading stopped: all slices are parts of the record.
    address: usize,
    /// Numbers of the enclosing fields, innermost first.
    fields: Vec<u32>,
}

#[cold]
#[inline(never)]
fn fault(reason: Reason, rest: &[u8], field: u32) -> Fault {
    Box::new(FaultAt { reason, address: rest.as_ptr() as usize, fields: vec![field] })
}

/// Microseconds: what years 1 to 9999 span, in seconds.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;
const NANOS: i32 = 1_000_000_000;

/// A plan at work on a store.
pub(super) struct Decoding<'p, 's> {
    pub(super) plan: &'p Plan,
    pub(super) store: &'s mut Store,
}

impl<'p> Decoding<'p, '_> {
    /// Decodes a record into row `row` of the record's table. After an error the row holds a part of it.
    pub(super) fn record(&mut self, bytes: &[u8], row: usize) -> Result<(), DecodeError> {
        let plan = self.plan;
        let root = &plan.messages[plan.root];
        self.message(root, bytes, row, 0, 0).map(|_| ()).map_err(|fault| {
            let offset = fault.address.saturating_sub(bytes.as_ptr() as usize).min(bytes.len());
            DecodeError { path: path(plan, &fault.fields), offset, reason: fault.reason }
        })
    }

    /// Decodes the fields of a message, up to the end of `rest` or of the group `group` (0: none); gives what follows.
    fn message<'a>(
        &mut self,
        message: &'p MessagePlan,
        mut rest: &'a [u8],
        row: usize,
        group: u32,
        depth: u32,
    ) -> Result<&'a [u8], Fault> {
        while !rest.is_empty() {
            let start = rest;
            let tag = wire::read_tag(&mut rest).map_err(|reason| fault(reason, start, 0))?;
            let Some(slot) = message.slot(tag) else {
                if tag == wire::tag(group, wire::END_GROUP) {
                    self.check_required(message, row, start)?;
                    return Ok(rest);
                }
                wire::skip(tag, &mut rest, depth).map_err(|reason| fault(reason, start, tag >> 3))?;
                continue;
            };
            if slot.packed {
                rest = self.packed(slot, rest, row)?;
            } else {
                let row = if slot.prepared {
                    self.prepare(slot, row).map_err(|reason| fault(reason, start, slot.number))?
                } else {
                    row
                };
                rest = self.value(slot, rest, row, depth)?;
            }
        }
        if group != 0 {
            return Err(fault(Reason::Truncated, rest, 0));
        }
        self.check_required(message, row, rest)?;
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
    fn value<'a>(&mut self, slot: &Slot, mut rest: &'a [u8], row: usize, depth: u32) -> Result<&'a [u8], Fault> {
        let start = rest;
        let column = slot.column as usize;
        let done = match slot.op {
            Op::Int64 => wire::varint(&mut rest).map(|v| self.store.longs[column].write(row, v as i64)),
            Op::Int32 => wire::varint(&mut rest).map(|v| self.store.words[column].write(row, v as i32)),
            Op::Text => match wire::delimited(&mut rest) {
                Ok(bytes) => self.store.texts[column].write(row, bytes),
                Err(reason) => Err(reason),
            },
            Op::Bits64 => wire::fixed64(&mut rest).map(|v| self.store.longs[column].write(row, v as i64)),
            Op::Bits32 => wire::fixed32(&mut rest).map(|v| self.store.words[column].write(row, v as i32)),
            Op::Bool => wire::varint(&mut rest).map(|v| self.store.bits[column].write(row, v != 0)),
            Op::Enum => wire::varint(&mut rest).map(|v| {
                let view = self.plan.enums[slot.detail as usize].view(v as i32);
                self.store.labels[column].views.write(row, view);
            }),
            Op::Timestamp => timestamp(&mut rest, &mut self.store.longs[column].values[row]),
            Op::Duration => duration(&mut rest, &mut self.store.longs[column].values[row]),
            Op::Message => {
                let bytes = wire::delimited(&mut rest).map_err(|reason| fault(reason, start, slot.number))?;
                let message = &self.plan.messages[slot.detail as usize];
                return match self.message(message, bytes, row, 0, depth + 1) {
                    Ok(_) => Ok(rest),
                    Err(fault) => Err(inside(fault, slot.number)),
                };
            }
            Op::Group => {
                let message = &self.plan.messages[slot.detail as usize];
                let group = self.message(message, rest, row, slot.number, depth + 1);
                return group.map_err(|fault| inside(fault, slot.number));
            }
            Op::Sint32 => {
                wire::varint(&mut rest).map(|v| self.store.words[column].write(row, wire::unzigzag(v) as i32))
            }
            Op::Sint64 => wire::varint(&mut rest).map(|v| self.store.longs[column].write(row, wire::unzigzag(v))),
            Op::Uint32 => wire::varint(&mut rest).map(|v| self.store.longs[column].write(row, i64::from(v as u32))),
            Op::Fixed32 => wire::fixed32(&mut rest).map(|v| self.store.longs[column].write(row, i64::from(v))),
            Op::Uint64 => wire::varint(&mut rest).map(|v| self.store.wides[column].write(row, i128::from(v))),
            Op::Fixed64 => wire::fixed64(&mut rest).map(|v| self.store.wides[column].write(row, i128::from(v))),
            Op::Bytes => wire::delimited(&mut rest).map(|bytes| self.store.blobs[column].write(row, bytes)),
            Op::Raw => wire::delimited(&mut rest).map(|bytes| self.store.blobs[column].append(row, bytes)),
            Op::RawGroup => {
                wire::group(slot.number, &mut rest, depth).map(|bytes| self.store.blobs[column].append(row, bytes))
            }
            // The column of a skipped field is the tag that it came with.
            Op::Skip => wire::skip(slot.column, &mut rest, depth),
        };
        match done {
            Ok(()) => Ok(rest),
            Err(reason) => Err(fault(reason, start, slot.number)),
        }
    }

    /// Decodes a length and values one after the other, each an element of the field's list.
    #[inline(never)]
    fn packed<'a>(&mut self, slot: &Slot, mut rest: &'a [u8], row: usize) -> Result<&'a [u8], Fault> {
        let start = rest;
        let at = |reason| fault(reason, start, slot.number);
        let mut values = wire::delimited(&mut rest).map_err(at)?;
        while !values.is_empty() {
            let element = self.prepare(slot, row).map_err(at)?;
            values = self.value(slot, values, element, 0)?;
        }
        Ok(rest)
    }

    #[inline(always)]
    fn check_required(&self, message: &MessagePlan, row: usize, rest: &[u8]) -> Result<(), Fault> {
        for (bit, number) in &message.required {
            if !self.store.bits[*bit as usize].get(row) {
                return Err(fault(Reason::Required, rest, *number));
            }
        }
        Ok(())
    }
}

#[cold]
fn inside(mut fault: Fault, field: u32) -> Fault {
    fault.fields.push(field);
    fault
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
            let nested = |wire_type| message.slot(wire::tag(*number, wire_type));
            let slot = nested(wire::DELIMITED).or_else(|| nested(wire::START_GROUP))?;
            matches!(slot.op, Op::Message | Op::Group).then(|| plan.messages.get(slot.detail as usize)).flatten()
        });
    }
    path
}

/// `seconds` and `nanos` of a Timestamp or Duration, added to what came before of the same field.
#[inline(always)]
fn seconds_and_nanos(rest: &mut &[u8], mut seconds: i64, mut nanos: i32) -> Result<(i64, i32), Reason> {
    const SECONDS: u32 = wire::tag(1, wire::VARINT);
    const NANOS: u32 = wire::tag(2, wire::VARINT);
    let mut fields = wire::delimited(rest)?;
    while !fields.is_empty() {
        match wire::read_tag(&mut fields)? {
            SECONDS => seconds = wire::varint(&mut fields)? as i64,
            NANOS => nanos = wire::varint(&mut fields)? as i32,
            other => wire::skip(other, &mut fields, 0)?,
        }
    }
    Ok((seconds, nanos))
}

#[inline(always)]
fn timestamp(rest: &mut &[u8], micros: &mut i64) -> Result<(), Reason> {
    let before = *micros;
    let (seconds, nanos) =
        seconds_and_nanos(rest, before.div_euclid(1_000_000), before.rem_euclid(1_000_000) as i32 * 1000)?;
    if !TIMESTAMP_SECONDS.contains(&seconds) || !(0..NANOS).contains(&nanos) {
        return Err(Reason::Timestamp);
    }
    *micros = seconds * 1_000_000 + i64::from(nanos / 1000);
    Ok(())
}

#[inline(always)]
fn duration(rest: &mut &[u8], micros: &mut i64) -> Result<(), Reason> {
    let (seconds, nanos) = seconds_and_nanos(rest, *micros / 1_000_000, (*micros % 1_000_000) as i32 * 1000)?;
    let same_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    if !DURATION_SECONDS.contains(&seconds) || !(-NANOS + 1..NANOS).contains(&nanos) || !same_sign {
        return Err(Reason::Duration);
    }
    *micros = seconds * 1_000_000 + i64::from(nanos / 1000);
    Ok(())
}
