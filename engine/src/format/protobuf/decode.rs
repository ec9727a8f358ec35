//! Decoding one record: one pass over its bytes, each value written to its column.
//!
//! What is left of a record is one slice, also inside of a nested message: bytes behind a value make reading it faster. Whether
//! a message's last value goes beyond its end is asked once, behind it. Such a record is malformed, and so is one whose
//! value can't be read: it is decoded once more with slices that end where messages end, to find where and why.

use super::error::{DecodeError, Fault, Reason};
use super::plan::{MessagePlan, Op, Plan, Slot};
use super::store::Store;
use super::trouble::Trouble;
use super::wire;

/// A plan at work on a store.
pub(super) struct Decoding<'p, 's> {
    pub(super) plan: &'p Plan,
    pub(super) store: &'s mut Store,
    /// Bytes behind the message that is read, up to the end of the record.
    behind: usize,
    /// Whether slices end where messages end.
    strict: bool,
    pub(super) trouble: &'s mut Trouble,
}

impl<'p, 's> Decoding<'p, 's> {
    /// `strict` finds where and why a record is malformed, which must have been decoded without before.
    #[inline(always)]
    pub(super) fn new(plan: &'p Plan, store: &'s mut Store, trouble: &'s mut Trouble, strict: bool) -> Self {
        Self { plan, store, behind: 0, strict, trouble }
    }

    /// Decodes a record into row `row` of the record's table. After a failure the row holds a part of it.
    #[inline(always)]
    pub(super) fn record(&mut self, bytes: &[u8], row: usize) -> Result<(), Failed> {
        let plan = self.plan;
        let root = &plan.messages[plan.root];
        match self.message(root, bytes, row) {
            Some(_) if root.required.is_empty() && !self.trouble.unusual => Ok(()),
            Some(_) if self.is_well(root, bytes, row) => Ok(()),
            _ => Err(Failed),
        }
    }

    #[inline(never)]
    fn is_well(&mut self, root: &MessagePlan, bytes: &[u8], row: usize) -> bool {
        self.note_missing(root, row);
        if !self.trouble.unusual {
            return true;
        }
        self.trouble.fault = self.judge(bytes).err();
        self.trouble.fault.is_none()
    }

    /// Decodes a record strictly, into a new row `row`, and says what is wrong with it.
    #[cold]
    pub(super) fn again(&mut self, bytes: &[u8], row: usize) -> Result<(), DecodeError> {
        let added = self.store.add_row(0);
        debug_assert_eq!(added, Ok(row));
        if self.record(bytes, row).is_ok() {
            return Ok(());
        }
        // A failure without a fault is none that a record can bring about.
        let fault =
            self.trouble.fault.take().unwrap_or_else(|| Fault::at(Reason::Truncated, bytes.as_ptr() as usize, 0));
        let offset = fault.address.saturating_sub(bytes.as_ptr() as usize).min(bytes.len());
        let path = self.plan.checks.path(self.plan.check, &self.plan.name, &fault);
        Err(DecodeError { path, offset, reason: fault.reason })
    }

    /// Notes why there is no value at `rest`.
    #[cold]
    #[inline(never)]
    pub(super) fn fail<T>(&mut self, reason: Reason, rest: &[u8], field: u32) -> Option<T> {
        self.trouble.fault = Some(Fault::at(reason, rest.as_ptr() as usize, field));
        None
    }

    /// Decodes the fields of a message, up to `self.behind` bytes before the end of `rest`; gives what follows.
    fn message<'a>(&mut self, message: &'p MessagePlan, mut rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let behind = self.behind;
        while rest.len() > behind
            && let Some((&first, values)) = rest.split_first()
        {
            rest = match message.short().get(usize::from(first)) {
                Some(slot) => slot.step.take(self, slot, values, row)?,
                None => self.long_tag(message, rest, row)?,
            };
        }
        if rest.len() < behind {
            return self.fail(Reason::Truncated, rest, 0);
        }
        Some(rest)
    }

    /// A field whose tag has more than one byte: two, as is usual.
    #[inline(never)]
    fn long_tag<'a>(&mut self, message: &'p MessagePlan, rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        if let Some(([first, second], values)) = rest.split_first_chunk()
            && let Some(slot) = message.usual_long(*first, *second)
        {
            return slot.step.take(self, slot, values, row);
        }
        self.any_tag(message, rest, row)
    }

    #[inline(never)]
    fn any_tag<'a>(&mut self, message: &'p MessagePlan, mut rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let start = rest;
        match wire::read_tag(&mut rest) {
            Ok(tag) => self.tagged(message, tag, start, rest, row),
            Err(reason) => self.fail(reason, start, 0),
        }
    }

    /// A field whose tag is read already; it began at `start`.
    #[inline(always)]
    fn tagged<'a>(
        &mut self,
        message: &'p MessagePlan,
        tag: u32,
        start: &'a [u8],
        rest: &'a [u8],
        row: usize,
    ) -> Option<&'a [u8]> {
        match message.slot(tag) {
            Slot { op: Op::Unknown, .. } => self.skip(tag, start, rest, message.level),
            slot => slot.step.take(self, slot, rest, row),
        }
    }

    /// Decodes the fields of a group, up to its end; gives what follows.
    #[inline(never)]
    fn group<'a>(&mut self, message: &'p MessagePlan, mut rest: &'a [u8], row: usize, number: u32) -> Option<&'a [u8]> {
        while rest.len() > self.behind {
            let start = rest;
            let tag = match wire::read_tag(&mut rest) {
                Ok(tag) if tag == wire::tag(number, wire::END_GROUP) => return Some(rest),
                Ok(tag) => tag,
                Err(reason) => return self.fail(reason, start, 0),
            };
            rest = self.tagged(message, tag, start, rest, row)?;
        }
        self.fail(Reason::Truncated, rest, 0)
    }

    /// Skips the value behind a tag of one byte that no field has.
    #[inline(never)]
    pub(super) fn unknown<'a>(&mut self, slot: &Slot, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        let tag = slot.column;
        // The tag was not looked at before it was looked up.
        let skipped = if tag < 8 { Err(Reason::FieldNumber) } else { wire::skip(tag, &mut rest, slot.level) };
        match skipped {
            Ok(()) => Some(rest),
            Err(reason) => {
                let start = rest.as_ptr().wrapping_sub(1);
                self.trouble.fault = Some(Fault::at(reason, start as usize, tag >> 3));
                None
            }
        }
    }

    /// Skips the value of a field that the plan does not know; `start` is where its tag begins.
    #[inline(never)]
    fn skip<'a>(&mut self, tag: u32, start: &[u8], mut rest: &'a [u8], level: u32) -> Option<&'a [u8]> {
        match wire::skip(tag, &mut rest, level) {
            Ok(()) => Some(rest),
            Err(reason) => self.fail(reason, start, tag >> 3),
        }
    }

    /// Says that the slot's field is there.
    #[inline(always)]
    pub(super) fn set_present(&mut self, slot: &Slot, row: usize) {
        self.store.bits[slot.presence as usize].set(row);
    }

    /// The row of one more element of the slot's list.
    #[inline(always)]
    pub(super) fn element(&mut self, slot: &Slot, rest: &[u8], row: usize) -> Option<usize> {
        if let Some(element) = self.store.usual_append(slot.list as usize, row) {
            return Some(element);
        }
        match self.store.append(slot.list as usize, row) {
            Ok(element) => Some(element),
            Err(reason) => self.fail(reason, rest, slot.number),
        }
    }

    /// Unsets the member of the oneof that was set before in this row, if it is another one.
    #[inline(always)]
    pub(super) fn set_member(&mut self, number: u32, row: usize) {
        let member = self.plan.members[number as usize];
        let case = &mut self.store.words[member.case as usize].values[row];
        let before = std::mem::replace(case, number as i32 + 1);
        if before != 0 && before != number as i32 + 1 {
            self.unset_member(before as usize - 1, row);
        }
    }

    #[inline(never)]
    fn unset_member(&mut self, number: usize, row: usize) {
        let before = self.plan.members[number];
        for index in (before.from..before.to).rev() {
            let column = self.store.tables[before.table].columns[index];
            self.store.reset(column, row);
        }
    }

    /// A nested message behind its length.
    #[inline(always)]
    pub(super) fn nested<'a>(&mut self, slot: &'p Slot, rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let mut behind = rest;
        let (length, within) = match wire::usual_length(rest) {
            Some(usual) => usual,
            None => match wire::delimited_within(&mut behind) {
                Some((bytes, within)) => (bytes.len(), within),
                None => return self.fail(wire::delimited_fault(rest), rest, slot.number),
            },
        };
        if self.strict {
            let (inner, behind) = within.split_at_checked(length)?;
            self.nested_within(slot, inner, 0, row)?;
            return Some(behind);
        }
        self.nested_within(slot, within, within.len() - length, row)
    }

    /// The fields of a nested message, up to `behind` bytes before the end of `within`.
    #[inline(always)]
    fn nested_within<'a>(&mut self, slot: &'p Slot, within: &'a [u8], behind: usize, row: usize) -> Option<&'a [u8]> {
        let message = &self.plan.messages[slot.detail as usize];
        let outer = std::mem::replace(&mut self.behind, behind);
        let Some(end) = self.message(message, within, row) else { return self.inside(slot.number) };
        self.behind = outer;
        if !message.required.is_empty() {
            self.note_missing(message, row);
        }
        Some(end)
    }

    /// A nested group.
    #[inline(always)]
    pub(super) fn nested_group<'a>(&mut self, slot: &'p Slot, rest: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let message = &self.plan.messages[slot.detail as usize];
        let Some(rest) = self.group(message, rest, row, slot.number) else { return self.inside(slot.number) };
        self.note_missing(message, row);
        Some(rest)
    }

    /// Notes that the fault lies inside of a field.
    #[cold]
    #[inline(never)]
    fn inside<T>(&mut self, field: u32) -> Option<T> {
        if let Some(fault) = &mut self.trouble.fault {
            fault.fields.push(field);
        }
        None
    }
}

/// A record could not be decoded.
pub(super) struct Failed;
