//! The decode plan: for each message a table from tag to what to do with the value that follows.
//!
//! The key is the whole tag, wire type included, so a field with a wire type that its definition doesn't allow is found
//! in no table and skipped like an unknown field, as the specification says. A scalar list has two tags, packed and not.

use std::collections::HashMap;

/// What to do with a value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
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
    /// The bytes of a message → blob; pieces are joined.
    Raw,
    /// The bytes of a group → blob.
    RawGroup,
}

/// No presence, no list, no oneof.
pub(super) const NONE: u32 = u32::MAX;

/// One tag of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) op: Op,
    /// A length and then values one after the other.
    pub(super) packed: bool,
    /// Whether anything is to be done before the value is written: any of the next three.
    pub(super) prepared: bool,
    /// The bit that says that the field is there, or [`NONE`].
    pub(super) presence: u32,
    /// The list that the value is an element of, or [`NONE`].
    pub(super) list: u32,
    /// The field's place in [`Plan::members`], or [`NONE`].
    pub(super) member: u32,
    /// The column, in the kind of the op.
    pub(super) column: u32,
    /// Of messages: the place in [`Plan::messages`]; of enums: in [`Plan::enums`].
    pub(super) detail: u32,
    /// The field's number.
    pub(super) number: u32,
}

/// Tags below this are looked up in an array: all of one and two bytes.
const DENSE_TAGS: u32 = 1 << 14;

/// A message's tags.
#[derive(Debug, Default)]
pub(super) struct MessagePlan {
    /// By tag: the slot's place plus one; 0 is an unknown tag.
    dense: Vec<u16>,
    sparse: HashMap<u32, u16>,
    slots: Vec<Slot>,
    /// Presence bits that must be set at the end of the message, with the field's number.
    pub(super) required: Vec<(u32, u32)>,
    /// Field names by number, for error messages.
    pub(super) names: HashMap<u32, Box<str>>,
}

impl MessagePlan {
    pub(super) fn insert(&mut self, tag: u32, slot: Slot) {
        self.slots.push(slot);
        let place = self.slots.len() as u16;
        if tag < DENSE_TAGS {
            let tag = tag as usize;
            if self.dense.len() <= tag {
                self.dense.resize(tag + 1, 0);
            }
            self.dense[tag] = place;
        } else {
            self.sparse.insert(tag, place);
        }
    }

    #[inline(always)]
    pub(super) fn slot(&self, tag: u32) -> Option<&Slot> {
        let place = match self.dense.get(tag as usize) {
            Some(place) => *place,
            None if self.sparse.is_empty() => 0,
            None => self.sparse.get(&tag).copied().unwrap_or(0),
        };
        self.slots.get(usize::from(place).wrapping_sub(1))
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
    /// The record's message in `messages`.
    pub(super) root: usize,
    /// Its full name.
    pub(super) name: String,
}
