//! Whether a record is well, judged by its bytes alone.
//!
//! Messages that are kept as their bytes are checked when they come: what would be refused if they were decoded is refused as well.
//! And a record is checked as a whole if something in it is suspect: a message that ends without all that it requires, a time out of
//! range. Such a thing may still be put right, which columns don't show: a field that is no list may come more than once, and its
//! messages are merged; another field of its oneof, or an entry of the same key, takes away what was there.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{Kind, MessageDescriptor};

use super::compile::{is_incomplete_by_default, wire_type};
use super::error::{Fault, Reason};
use super::time::{Parts, TimeKind};
use super::wire;
use crate::schema::{MessageField, fields_of};

/// What is looked at of messages, and of all that lie in them.
#[derive(Debug, Default)]
pub(super) struct CheckPlan {
    messages: Vec<MessageCheck>,
    places: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct MessageCheck {
    /// By tag; what has no entry only has to be there in full.
    fields: HashMap<u32, FieldCheck>,
    /// Names of all fields by number, for error messages.
    names: HashMap<u32, Box<str>>,
    /// Tags.
    required: Vec<u32>,
}

#[derive(Debug)]
struct FieldCheck {
    value: Value,
    /// Tags of the other fields of its oneof.
    rivals: Vec<u32>,
}

/// What a value has to be.
#[derive(Debug)]
enum Value {
    /// Anything.
    Any,
    Utf8,
    Varints,
    /// Values of so many bytes.
    Fixed(usize),
    /// Merged with what came before of the field.
    Single(Inner),
    /// One of a list's.
    Element(Inner),
    /// A map's entry.
    Entry(usize, Kind),
}

#[derive(Debug, Clone, Copy)]
enum Inner {
    Time(TimeKind),
    /// The place of its check.
    Message(usize),
    Group(usize),
}

/// What came before of a message.
#[derive(Debug, Default)]
struct Before<'a> {
    /// Tags of what is still missing; `None`: nothing of the message came.
    missing: Option<Vec<u32>>,
    time: Option<(TimeKind, Parts)>,
    /// Address of its last piece: where it ends, or where a time begins.
    address: usize,
    /// By tag, of its fields that are no lists.
    fields: Vec<(u32, Before<'a>)>,
    /// What is wrong with entries, by the map's tag, of which no other of the same key came.
    entries: BTreeMap<(u32, Key<'a>), Fault>,
    /// What is wrong with an element of a list.
    element: Option<Fault>,
}

/// The key of a map's entry.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Number(u64),
    Text(&'a [u8]),
}

impl<'a> Key<'a> {
    /// The key of a well-formed entry.
    pub(super) fn of(kind: &Kind, mut entry: &'a [u8]) -> Self {
        const VARINT: u32 = wire::tag(1, wire::VARINT);
        const FIXED32: u32 = wire::tag(1, wire::FIXED32);
        const FIXED64: u32 = wire::tag(1, wire::FIXED64);
        const TEXT: u32 = wire::tag(1, wire::DELIMITED);
        let mut key = if *kind == Kind::String { Self::Text(&[]) } else { Self::Number(0) };
        while let Ok(tag) = wire::read_tag(&mut entry) {
            let mut behind = entry;
            let read = match (tag, kind) {
                (TEXT, Kind::String) => wire::delimited(&mut behind).map(Self::Text),
                (FIXED64, Kind::Fixed64 | Kind::Sfixed64) => wire::fixed64(&mut behind).map(Self::Number),
                (FIXED32, Kind::Fixed32 | Kind::Sfixed32) => wire::fixed32(&mut behind).map(|n| Self::Number(n.into())),
                (VARINT, Kind::Bool) => wire::varint(&mut behind).map(|n| Self::Number((n != 0).into())),
                (VARINT, Kind::Int64 | Kind::Uint64 | Kind::Sint64) => wire::varint(&mut behind).map(Self::Number),
                // Longer ones are cut to 32 bits.
                (VARINT, Kind::Int32 | Kind::Uint32 | Kind::Sint32) => {
                    wire::varint(&mut behind).map(|n| Self::Number((n as u32).into()))
                }
                _ => None,
            };
            if let Some(read) = read {
                (key, entry) = (read, behind);
            } else if wire::skip(tag, &mut entry, 0).is_err() {
                break;
            }
        }
        key
    }
}

impl<'a> Before<'a> {
    fn of(&mut self, tag: u32) -> &mut Self {
        let place = self.fields.iter().position(|(of, _)| *of == tag).unwrap_or_else(|| {
            self.fields.push((tag, Self::default()));
            self.fields.len() - 1
        });
        &mut self.fields[place].1
    }

    /// Whether all that is required is there, and times are in range.
    fn judge(&self) -> Result<(), Fault> {
        if let Some(tag) = self.missing.as_ref().and_then(|missing| missing.first()) {
            return Err(Fault::at(Reason::Required, self.address, tag >> 3));
        }
        if let Some((kind, parts)) = self.time {
            parts.micros(kind).map_err(|reason| Fault::at(reason, self.address, 0))?;
        }
        let entries = self.entries.values().min_by_key(|fault| fault.address);
        if let Some(fault) = self.element.as_ref().or(entries) {
            return Err(fault.clone());
        }
        self.fields.iter().try_for_each(|(tag, before)| before.judge().map_err(|fault| fault.inside(tag >> 3)))
    }
}

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
            let (value, packed) = match field.kind() {
                Kind::String => (Value::Utf8, None),
                Kind::Bytes => (Value::Any, None),
                Kind::Message(entry) if field.is_map() => {
                    (Value::Entry(self.message(&entry), entry.map_entry_key_field().kind()), None)
                }
                Kind::Message(inner) if field.is_list() => (Value::Element(self.inner(&inner, field.is_group())), None),
                Kind::Message(inner) => (Value::Single(self.inner(&inner, field.is_group())), None),
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => (Value::Any, Some(Value::Fixed(8))),
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => (Value::Any, Some(Value::Fixed(4))),
                _ => (Value::Any, Some(Value::Varints)),
            };
            let others = field.oneof().into_iter().flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
            let others = others.filter(|other| other.number() != field.number());
            let rivals: Vec<u32> =
                others.map(|other| wire::tag(other.number(), wire_type(&MessageField::Own(other)))).collect();
            if !matches!(value, Value::Any) || !rivals.is_empty() {
                check.fields.insert(tag, FieldCheck { value, rivals });
            }
            if let (true, Some(value)) = (field.is_list(), packed) {
                let tag = wire::tag(field.number(), wire::DELIMITED);
                check.fields.insert(tag, FieldCheck { value, rivals: Vec::new() });
            }
            let is_value = message.is_map_entry() && field.number() == 2;
            if field.is_required() || (is_value && is_incomplete_by_default(&field.kind())) {
                check.required.push(tag);
            }
            check.names.insert(field.number(), field.name().into());
        }
        self.messages[place] = check;
        place
    }

    fn inner(&mut self, message: &MessageDescriptor, group: bool) -> Inner {
        match message.full_name() {
            "google.protobuf.Timestamp" if !group => Inner::Time(TimeKind::Timestamp),
            "google.protobuf.Duration" if !group => Inner::Time(TimeKind::Duration),
            _ if group => Inner::Group(self.message(message)),
            _ => Inner::Message(self.message(message)),
        }
    }

    /// Checks the bytes of the message at `place`, which lies in so many others. A fault that
    /// [may be put right](Fault::may_be_put_right) by another piece of the message is given only if there is no other.
    pub(super) fn check(&self, place: usize, bytes: &[u8], level: u32) -> Result<(), Fault> {
        let mut before = Before::default();
        self.fields(place, bytes, 0, level, &mut before)?;
        before.judge()
    }

    /// The name of the message at `place` and of the fields on the way to a fault in it, joined by dots.
    pub(super) fn path(&self, place: usize, name: &str, fault: &Fault) -> String {
        let mut path = name.to_owned();
        let mut message = self.messages.get(place);
        for number in fault.fields.iter().rev().filter(|number| **number != 0) {
            path.push('.');
            match message.and_then(|message| message.names.get(number)) {
                Some(name) => path.push_str(name),
                None => path.push_str(&number.to_string()),
            }
            message = message.and_then(|message| {
                let mut tags = [wire::DELIMITED, wire::START_GROUP].into_iter().map(|kind| wire::tag(*number, kind));
                let inner = tags.find_map(|tag| match message.fields.get(&tag)?.value {
                    Value::Single(inner) | Value::Element(inner) => inner.place(),
                    Value::Entry(place, _) => Some(place),
                    _ => None,
                });
                self.messages.get(inner?)
            });
        }
        path
    }

    /// Up to the end of `rest` or of the group `group` (0: none); gives what follows.
    fn fields<'a>(
        &self,
        place: usize,
        mut rest: &'a [u8],
        group: u32,
        level: u32,
        before: &mut Before<'a>,
    ) -> Result<&'a [u8], Fault> {
        let check = &self.messages[place];
        if level > wire::MAX_DEPTH {
            return Err(Fault::at(Reason::TooDeep, rest.as_ptr() as usize, 0));
        }
        before.missing.get_or_insert_with(|| check.required.clone());
        while !rest.is_empty() {
            let start = rest.as_ptr() as usize;
            let tag = wire::read_tag(&mut rest).map_err(|reason| Fault::at(reason, start, 0))?;
            if group != 0 && tag == wire::tag(group, wire::END_GROUP) {
                before.address = rest.as_ptr() as usize;
                return Ok(rest);
            }
            if let Some(missing) = &mut before.missing {
                missing.retain(|required| *required != tag);
            }
            let field = check.fields.get(&tag);
            if let Some(FieldCheck { rivals, .. }) = field
                && !rivals.is_empty()
            {
                before.fields.retain(|(other, _)| !rivals.contains(other));
            }
            match field.map(|field| &field.value) {
                None | Some(Value::Any) => {
                    wire::skip(tag, &mut rest, level).map_err(|reason| Fault::at(reason, start, tag >> 3))?;
                }
                Some(value) => {
                    rest = self.value(value, tag, rest, level, before).map_err(|fault| fault.inside(tag >> 3))?;
                }
            }
        }
        before.address = rest.as_ptr() as usize;
        if group == 0 { Ok(rest) } else { Err(Fault::at(Reason::Truncated, before.address, 0)) }
    }

    /// Checks what follows `tag` in a message, and gives what follows that.
    fn value<'a>(
        &self,
        value: &Value,
        tag: u32,
        mut rest: &'a [u8],
        level: u32,
        before: &mut Before<'a>,
    ) -> Result<&'a [u8], Fault> {
        match value {
            Value::Any => {}
            Value::Utf8 => {
                let bytes = delimited(&mut rest)?;
                std::str::from_utf8(bytes).map_err(|_| Fault::at(Reason::Utf8, bytes.as_ptr() as usize, 0))?;
            }
            Value::Varints => {
                let mut values = delimited(&mut rest)?;
                while !values.is_empty() {
                    let start = values.as_ptr() as usize;
                    let fault = |values| Fault::at(wire::varint_fault(values), start, 0);
                    wire::varint(&mut values).ok_or_else(|| fault(values))?;
                }
            }
            Value::Fixed(width) => {
                let (bytes, over) = delimited(&mut rest).map(|bytes| bytes.split_at(bytes.len() / width * width))?;
                if !over.is_empty() {
                    return Err(Fault::at(Reason::Truncated, bytes.as_ptr_range().end as usize, 0));
                }
            }
            Value::Single(inner) => return self.inside(*inner, tag, rest, level, before.of(tag)),
            Value::Element(inner) => {
                let mut element = Before::default();
                rest = self.inside(*inner, tag, rest, level, &mut element)?;
                if let Err(fault) = element.judge() {
                    before.element.get_or_insert(fault.inside(tag >> 3));
                }
            }
            Value::Entry(place, kind) => {
                let mut entry = Before::default();
                let bytes = delimited(&mut rest)?;
                self.fields(*place, bytes, 0, level + 1, &mut entry)?;
                // As a rule nobody asks for the key.
                match entry.judge() {
                    Ok(()) if before.entries.is_empty() => {}
                    Ok(()) => drop(before.entries.remove(&(tag, Key::of(kind, bytes)))),
                    Err(fault) => {
                        drop(before.entries.insert((tag, Key::of(kind, bytes)), fault.inside(tag >> 3)));
                    }
                }
            }
        }
        Ok(rest)
    }

    fn inside<'a>(
        &self,
        inner: Inner,
        tag: u32,
        mut rest: &'a [u8],
        level: u32,
        before: &mut Before<'a>,
    ) -> Result<&'a [u8], Fault> {
        match inner {
            Inner::Group(place) => return self.fields(place, rest, tag >> 3, level + 1, before),
            Inner::Message(place) => {
                self.fields(place, delimited(&mut rest)?, 0, level + 1, before)?;
            }
            Inner::Time(kind) => {
                let fields = delimited(&mut rest)?;
                before.address = fields.as_ptr() as usize;
                let (_, parts) = before.time.get_or_insert((kind, Parts::default()));
                parts.merge(fields).map_err(|reason| Fault::at(reason, before.address, 0))?;
            }
        }
        Ok(rest)
    }
}

impl Inner {
    fn place(self) -> Option<usize> {
        match self {
            Self::Message(place) | Self::Group(place) => Some(place),
            Self::Time(_) => None,
        }
    }
}

fn delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let start = *rest;
    wire::delimited(rest).ok_or_else(|| Fault::at(wire::delimited_fault(start), start.as_ptr() as usize, 0))
}
