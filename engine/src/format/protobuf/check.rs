//! Checks of messages that are kept as their bytes: what would be refused if they were decoded is refused here as well.

use std::collections::HashMap;

use prost_reflect::{Kind, MessageDescriptor};

use super::compile::{is_incomplete_by_default, wire_type};
use super::error::Reason;
use super::time::{duration, timestamp};
use super::wire;
use crate::schema::fields_of;

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

    /// Checks the bytes of the message at `place`.
    pub(super) fn check<'a>(&self, place: usize, bytes: &'a [u8]) -> Result<(), Found<'a>> {
        self.fields(place, bytes, 0, 0).map(drop)
    }

    /// Up to the end of `rest` or of the group `group` (0: none); gives what follows.
    fn fields<'a>(&self, place: usize, mut rest: &'a [u8], group: u32, depth: u32) -> Result<&'a [u8], Found<'a>> {
        let check = &self.messages[place];
        if depth >= wire::MAX_DEPTH {
            return Err((Reason::TooDeep, rest));
        }
        let mut missing = check.required.clone();
        while !rest.is_empty() {
            let start = rest;
            let tag = wire::read_tag(&mut rest).map_err(|reason| (reason, start))?;
            if group != 0 && tag == wire::tag(group, wire::END_GROUP) {
                return if missing.is_empty() { Ok(rest) } else { Err((Reason::Required, rest)) };
            }
            missing.retain(|required| *required != tag);
            match check.values.get(&tag) {
                Some(Check::Group(inner)) => rest = self.fields(*inner, rest, tag >> 3, depth + 1)?,
                Some(value) => {
                    let bytes = wire::delimited(&mut rest).ok_or_else(|| (wire::delimited_fault(rest), rest))?;
                    self.value(*value, bytes, depth)?;
                }
                None => wire::skip(tag, &mut rest, 0).map_err(|reason| (reason, start))?,
            }
        }
        match (group, missing.is_empty()) {
            (0, true) => Ok(rest),
            (0, false) => Err((Reason::Required, rest)),
            _ => Err((Reason::Truncated, rest)),
        }
    }

    fn value<'a>(&self, check: Check, bytes: &'a [u8], depth: u32) -> Result<(), Found<'a>> {
        let holds = match check {
            Check::Utf8 if std::str::from_utf8(bytes).is_err() => Err(Reason::Utf8),
            Check::Timestamp => timestamp(bytes, bytes, &mut 0),
            Check::Duration => duration(bytes, &mut 0),
            Check::Message(inner) => return self.fields(inner, bytes, 0, depth + 1).map(drop),
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
        holds.map_err(|reason| (reason, bytes))
    }
}
