//! Checks of messages that are kept as their bytes: what would be refused if they were decoded is refused here as well.
//!
//! A field that is no list may come more than once; its messages are merged then. So what is required may come in another piece, and
//! a time that is one in itself may be none together with what was there.

use std::collections::{HashMap, HashSet};

use prost_reflect::{Kind, MessageDescriptor};

use super::compile::{is_incomplete_by_default, wire_type};
use super::error::Reason;
use super::time::{duration, timestamp};
use super::wire;
use crate::schema::{MessageField, fields_of};

/// What is looked at of the messages that a plan keeps as bytes, and of all that lie in them.
#[derive(Debug, Default)]
pub(super) struct CheckPlan {
    messages: Vec<MessageCheck>,
    places: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct MessageCheck {
    /// By tag; what has no entry only has to be there in full.
    values: HashMap<u32, Check>,
    required: Vec<u32>,
    /// Tags of messages, groups and times that are merged if they come again.
    merged: HashSet<u32>,
    /// Tags of a oneof's fields, and of those that each of them ends.
    rivals: HashMap<u32, Vec<u32>>,
}

/// What came before of a message.
#[derive(Debug, Default)]
struct Before {
    /// What is still missing; `None`: nothing of the message came.
    missing: Option<Vec<u32>>,
    /// Of a time.
    micros: i64,
    /// By tag, of its fields that are no lists.
    messages: Vec<(u32, Before)>,
}

impl Before {
    fn of(&mut self, tag: u32) -> &mut Self {
        let place = self.messages.iter().position(|(of, _)| *of == tag).unwrap_or_else(|| {
            self.messages.push((tag, Self::default()));
            self.messages.len() - 1
        });
        &mut self.messages[place].1
    }

    /// Whether all that is required is there.
    fn is_whole(&self) -> bool {
        self.missing.as_ref().is_none_or(Vec::is_empty) && self.messages.iter().all(|(_, before)| before.is_whole())
    }
}

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
enum Check {
    Utf8,
    Timestamp,
    Duration,
    Message(usize),
    Group(usize),
    Varints,
    /// Values of so many bytes.
    Fixed(usize),
}

/// A reason, and where in the record it was found.
pub(super) type Found<'a> = (Reason, &'a [u8]);

impl CheckPlan {
    /// The place of a message's check, which is made if it is new.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(place) = self.places.get(message.full_name()) {
            return *place;
        }
        let place = self.messages.len();
        self.places.insert(message.full_name().to_owned(), place);
        self.messages.push(MessageCheck::default());
        let mut check = MessageCheck::default();
        for field in fields_of(message) {
            let tag = wire::tag(field.number(), wire_type(&field));
            let (value, width) = match field.kind() {
                Kind::String => (Some(Check::Utf8), None),
                Kind::Bytes => (None, None),
                Kind::Message(inner) => (Some(self.inner(&inner, field.is_group())), None),
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => (None, Some(Check::Fixed(8))),
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => (None, Some(Check::Fixed(4))),
                _ => (None, Some(Check::Varints)),
            };
            if let Some(value) = value {
                check.values.insert(tag, value);
            }
            if matches!(field.kind(), Kind::Message(_)) && !field.is_list() && !field.is_map() {
                check.merged.insert(tag);
            }
            if let Some(oneof) = field.oneof() {
                let others = oneof.fields().filter(|other| other.number() != field.number());
                let others = others.map(|other| wire::tag(other.number(), wire_type(&MessageField::Own(other))));
                check.rivals.insert(tag, others.collect());
            }
            if let (true, Some(packed)) = (field.is_list(), width) {
                check.values.insert(wire::tag(field.number(), wire::DELIMITED), packed);
            }
            let is_value = message.is_map_entry() && field.number() == 2;
            if field.is_required() || (is_value && is_incomplete_by_default(&field.kind())) {
                check.required.push(tag);
            }
        }
        self.messages[place] = check;
        place
    }

    fn inner(&mut self, message: &MessageDescriptor, group: bool) -> Check {
        match message.full_name() {
            "google.protobuf.Timestamp" => Check::Timestamp,
            "google.protobuf.Duration" => Check::Duration,
            _ if group => Check::Group(self.message(message)),
            _ => Check::Message(self.message(message)),
        }
    }

    /// Checks the bytes of the message at `place`. [`Reason::Required`] says that all is well but that something is missing.
    pub(super) fn check<'a>(&self, place: usize, bytes: &'a [u8]) -> Result<(), Found<'a>> {
        let mut before = Before::default();
        let end = self.fields(place, bytes, 0, 0, &mut before)?;
        if before.is_whole() { Ok(()) } else { Err((Reason::Required, end)) }
    }

    /// Up to the end of `rest` or of the group `group` (0: none); gives what follows.
    fn fields<'a>(
        &self,
        place: usize,
        mut rest: &'a [u8],
        group: u32,
        depth: u32,
        before: &mut Before,
    ) -> Result<&'a [u8], Found<'a>> {
        let check = &self.messages[place];
        if depth >= wire::MAX_DEPTH {
            return Err((Reason::TooDeep, rest));
        }
        before.missing.get_or_insert_with(|| check.required.clone());
        while !rest.is_empty() {
            let start = rest;
            let tag = wire::read_tag(&mut rest).map_err(|reason| (reason, start))?;
            if group != 0 && tag == wire::tag(group, wire::END_GROUP) {
                return Ok(rest);
            }
            if let Some(missing) = &mut before.missing {
                missing.retain(|required| *required != tag);
            }
            if let Some(rivals) = check.rivals.get(&tag) {
                before.messages.retain(|(other, _)| !rivals.contains(other));
            }
            let Some(value) = check.values.get(&tag) else {
                wire::skip(tag, &mut rest, 0).map_err(|reason| (reason, start))?;
                continue;
            };
            if check.merged.contains(&tag) {
                rest = self.value(*value, tag, rest, depth, before.of(tag))?;
                continue;
            }
            let mut element = Before::default();
            rest = self.value(*value, tag, rest, depth, &mut element)?;
            if !element.is_whole() {
                return Err((Reason::Required, rest));
            }
        }
        if group == 0 { Ok(rest) } else { Err((Reason::Truncated, rest)) }
    }

    /// Checks what follows `tag`, and gives what follows that.
    fn value<'a>(
        &self,
        check: Check,
        tag: u32,
        mut rest: &'a [u8],
        depth: u32,
        before: &mut Before,
    ) -> Result<&'a [u8], Found<'a>> {
        if let Check::Group(inner) = check {
            return self.fields(inner, rest, tag >> 3, depth + 1, before);
        }
        let bytes = wire::delimited(&mut rest).ok_or_else(|| (wire::delimited_fault(rest), rest))?;
        let holds = match check {
            Check::Utf8 if std::str::from_utf8(bytes).is_err() => Err(Reason::Utf8),
            Check::Timestamp => timestamp(bytes, bytes, &mut before.micros),
            Check::Duration => duration(bytes, &mut before.micros),
            Check::Message(inner) => {
                self.fields(inner, bytes, 0, depth + 1, before)?;
                Ok(())
            }
            Check::Fixed(width) if !bytes.len().is_multiple_of(width) => Err(Reason::Truncated),
            Check::Varints => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    wire::varint(&mut rest).ok_or_else(|| (wire::varint_fault(rest), rest))?;
                }
                Ok(())
            }
            Check::Utf8 | Check::Fixed(_) | Check::Group(_) => Ok(()),
        };
        holds.map(|()| rest).map_err(|reason| (reason, bytes))
    }
}
