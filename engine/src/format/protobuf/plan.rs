//! The decode plan: for each message a table from tag to what to do with the value that follows.
//!
//! The key is the whole tag, wire type included, so a field with a wire type that its definition doesn't allow is found
//! in no table and skipped like an unknown field, as the specification says. A scalar list has two tags, packed and not.

use std::collections::HashMap;

use super::check::CheckPlan;
use super::step::Step;

/// What to do with a value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// No field of the message has this tag, or none that is read.
    Unknown,
    /// Walk over it: of interest only because it unsets the other members of its oneof.
    Skip,
    /// `int32` → word.
    Int32,
    /// `sint32` → word.
    Sint32,
    /// Four bytes as they are (`sfixed32`, `float`) → word.
    Bits32,
    /// `int64` → long.
    Int64,
    /// `sint64` → long.
    Sint64,
    /// `uint32` → long.
    Uint32,
    /// `fixed32` → long.
    Fixed32,
    /// Eight bytes as they are (`sfixed64`, `double`) → long.
    Bits64,
    /// `uint64` → wide.
    Uint64,
    /// `fixed64` → wide.
    Fixed64,
    /// `bool` → bits.
    Bool,
    /// `string` → text.
    Text,
    /// `bytes` → blob.
    Bytes,
    /// `string` → blob: keys of maps.
    BlobText,
    /// An enum's number → labels; `detail` is the enum.
    Enum,
    /// `google.protobuf.Timestamp` → long.
    Timestamp,
    /// `google.protobuf.Duration` → long.
    Duration,
    /// A message, in the row of its parent; `detail` is the message.
    Message,
    /// A group, likewise.
    Group,
    /// The bytes of a `google.protobuf.Struct`, `Value` or `ListValue` → blob; `detail` is which.
    Json,
    /// The bytes of a message → blob; pieces are joined. `detail` is the message in [`Plan::checks`].
    Raw,
    /// The bytes of a group → blob.
    RawGroup,
}

/// No presence, no list, no oneof.
pub(super) const NONE: u32 = u32::MAX;

/// One tag of a message.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Slot {
    /// What reads the value: made of all that follows by [`MessagePlan::insert`].
    pub(super) step: Step,
    pub(super) op: Op,
    /// A length and then values one after the other.
    pub(super) packed: bool,
    /// The bit that says that the field is there, or [`NONE`].
    pub(super) presence: u32,
    /// The list that the value is an element of, or [`NONE`].
    pub(super) list: u32,
    /// The field's place in [`Plan::members`], or [`NONE`].
    pub(super) member: u32,
    /// The column, in the kind of the op; of what is skipped, the tag.
    pub(super) column: u32,
    /// Of messages: the place in [`Plan::messages`]; of enums: in [`Plan::enums`].
    pub(super) detail: u32,
    /// The field's number.
    pub(super) number: u32,
    /// How deep the message lies that has the field: [`MessagePlan::level`].
    pub(super) level: u32,
}

impl Slot {
    /// A slot of a tag that no field has.
    pub(super) const UNKNOWN: Self = Self {
        step: Step::UNKNOWN,
        op: Op::Unknown,
        packed: false,
        presence: NONE,
        list: NONE,
        member: NONE,
        column: 0,
        detail: 0,
        number: 0,
        level: 0,
    };
}

/// Tags below this have at most two bytes.
const TWO_BYTES: u32 = 1 << 14;

/// A message's tags.
#[derive(Debug)]
pub(super) struct MessagePlan {
    /// Tags of one byte: fields 1 to 15.
    short: Box<[Slot; 128]>,
    /// Slots of longer tags.
    long: Vec<Slot>,
    /// Places in `long` by tag, for tags of two bytes; [`u16::MAX`] is no place.
    places: Vec<u16>,
    /// The same for still longer ones.
    sparse: HashMap<u32, u16>,
    /// Presence bits that must be set at the end of the message.
    pub(super) required: Vec<u32>,
    /// In how many messages and entries of maps it lies.
    pub(super) level: u32,
}

impl MessagePlan {
    /// The plan of a message at this level, that knows no tag.
    pub(super) fn at(level: u32) -> Self {
        let unknown = |tag| Slot { column: tag as u32, level, ..Slot::UNKNOWN };
        Self {
            short: Box::new(std::array::from_fn(unknown)),
            long: Vec::new(),
            places: Vec::new(),
            sparse: HashMap::new(),
            required: Vec::new(),
            level,
        }
    }

    pub(super) fn insert(&mut self, tag: u32, mut slot: Slot) {
        slot.step = Step::of(&slot);
        slot.level = self.level;
        if let Some(place) = self.short.get_mut(tag as usize) {
            *place = slot;
            return;
        }
        let place = self.long.len() as u16;
        self.long.push(slot);
        if tag < TWO_BYTES {
            if self.places.len() <= tag as usize {
                self.places.resize(tag as usize + 1, u16::MAX);
            }
            self.places[tag as usize] = place;
        } else {
            self.sparse.insert(tag, place);
        }
    }

    /// The slots of tags of one byte, by tag.
    #[inline(always)]
    pub(super) fn short(&self) -> &[Slot; 128] {
        &self.short
    }

    /// The slot of a tag of two bytes, of which the first says that it goes on, as is usual: there is one. `None` says nothing.
    #[inline(always)]
    pub(super) fn usual_long(&self, first: u8, second: u8) -> Option<&Slot> {
        // A second byte that goes on as well is beyond all places.
        let tag = usize::from(first & 0x7f) | usize::from(second) << 7;
        self.long.get(usize::from(*self.places.get(tag)?))
    }

    /// The slot of a tag.
    #[inline(always)]
    pub(super) fn slot(&self, tag: u32) -> &Slot {
        if let Some(slot) = self.short.get(tag as usize) {
            return slot;
        }
        let place = match self.places.get(tag as usize) {
            Some(place) => *place,
            None if self.sparse.is_empty() => u16::MAX,
            None => self.sparse.get(&tag).copied().unwrap_or(u16::MAX),
        };
        self.long.get(usize::from(place)).unwrap_or(&Slot::UNKNOWN)
    }
}

/// A member of a oneof.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// The word column that holds which member is set in a row: its place in [`Plan::members`] plus one, or 0.
    pub(super) case: u32,
    /// The table that the member's columns belong to.
    pub(super) table: usize,
    /// Its columns among the table's: from here,
    pub(super) from: usize,
    /// to here. Empty if the member is not read.
    pub(super) to: usize,
}

/// The values of an enum, as views of their names.
#[derive(Debug, Default)]
pub(super) struct EnumPlan {
    dense: Vec<u128>,
    sparse: HashMap<i32, u128>,
}

impl EnumPlan {
    pub(super) fn insert(&mut self, number: i32, view: u128) {
        // Numbers are dense from 0 in nearly every enum; a view of 0 (the empty name) cannot be a value's.
        match usize::try_from(number) {
            Ok(index) if index < 1024 => {
                if self.dense.len() <= index {
                    self.dense.resize(index + 1, 0);
                }
                self.dense[index] = view;
            }
            _ => {
                self.sparse.insert(number, view);
            }
        }
    }

    /// The value's name; a number without one as its digits (at most 11, so they fit the view).
    #[inline(always)]
    pub(super) fn view(&self, number: i32) -> u128 {
        match self.dense.get(number as usize) {
            Some(view) if *view != 0 => *view,
            _ => self.view_slow(number),
        }
    }

    /// The name of a value, as is usual: it has one, and a small number. `None` says nothing.
    #[inline(always)]
    pub(super) fn usual_view(&self, number: u8) -> Option<u128> {
        self.dense.get(usize::from(number)).copied().filter(|view| *view != 0)
    }

    #[inline(never)]
    fn view_slow(&self, number: i32) -> u128 {
        self.sparse.get(&number).copied().unwrap_or_else(|| super::text::view(number.to_string().as_bytes(), 0))
    }
}

/// Everything that decoding needs to know; see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) messages: Vec<MessagePlan>,
    pub(super) enums: Vec<EnumPlan>,
    pub(super) members: Vec<Member>,
    /// How messages are checked by their bytes,
    pub(super) checks: CheckPlan,
    /// and the record's own among them.
    pub(super) check: usize,
    /// The record's message in `messages`.
    pub(super) root: usize,
    /// Its full name.
    pub(super) name: String,
}
