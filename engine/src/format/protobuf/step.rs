//! Steps: for each tag one function that reads the value behind it and writes it to its column.
//!
//! A small function has all it works on in registers; one large one, that jumps by what to do, keeps most of it on the stack.

use super::decode::Decoding;
use super::plan::{NONE, Op, Slot};

/// Reads a value, which `rest` begins with, into a row; gives what follows. `None`: it could not, and the decoding knows why.
type Read = for<'p, 's, 'a> fn(&mut Decoding<'p, 's>, &'p Slot, &'a [u8], usize) -> Option<&'a [u8]>;

/// What is done with a tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step(Read);

impl Step {
    /// Walks over a value that belongs to no field.
    pub(super) const UNKNOWN: Self = Self(|decoding, slot, rest, _| decoding.unknown(slot, rest));

    /// What the slot's other parts ask for.
    pub(super) fn of(slot: &Slot) -> Self {
        if slot.packed { packed(slot.op) } else { single(slot) }
    }

    #[inline(always)]
    pub(super) fn take<'p, 'a>(
        self,
        decoding: &mut Decoding<'p, '_>,
        slot: &'p Slot,
        rest: &'a [u8],
        row: usize,
    ) -> Option<&'a [u8]> {
        (self.0)(decoding, slot, rest, row)
    }
}

/// What a value's arrival means beside its writing. Gives the row to write to; `None` as in [`Read`].
trait Arrival {
    fn row(decoding: &mut Decoding<'_, '_>, slot: &Slot, rest: &[u8], row: usize) -> Option<usize>;
}

/// Nothing.
struct Plain;
/// A bit says that it is there.
struct Present;
/// It is one more element of a list.
struct Element;
/// It unsets the other members of its oneof, and a bit may say that it is there.
struct Member;

impl Arrival for Plain {
    #[inline(always)]
    fn row(_: &mut Decoding<'_, '_>, _: &Slot, _: &[u8], row: usize) -> Option<usize> {
        Some(row)
    }
}

impl Arrival for Present {
    #[inline(always)]
    fn row(decoding: &mut Decoding<'_, '_>, slot: &Slot, _: &[u8], row: usize) -> Option<usize> {
        decoding.set_present(slot, row);
        Some(row)
    }
}

impl Arrival for Element {
    #[inline(always)]
    fn row(decoding: &mut Decoding<'_, '_>, slot: &Slot, rest: &[u8], row: usize) -> Option<usize> {
        decoding.element(slot, rest, row)
    }
}

impl Arrival for Member {
    #[inline(always)]
    fn row(decoding: &mut Decoding<'_, '_>, slot: &Slot, _: &[u8], row: usize) -> Option<usize> {
        decoding.set_member(slot.member, row);
        if slot.presence != NONE {
            decoding.set_present(slot, row);
        }
        Some(row)
    }
}

/// The steps of an op that is known where they are compiled: what it does not need falls away.
macro_rules! single {
    ($slot:ident: $($op:ident)*) => {
        match $slot.op {
            $(Op::$op => {
                fn read<'p, 'a, A: Arrival>(
                    decoding: &mut Decoding<'p, '_>,
                    slot: &'p Slot,
                    rest: &'a [u8],
                    row: usize,
                ) -> Option<&'a [u8]> {
                    let row = A::row(decoding, slot, rest, row)?;
                    if Op::$op == Op::Message {
                        return decoding.nested(slot, rest, row);
                    }
                    match decoding.usual_value(Op::$op, slot, rest, row) {
                        Some(rest) => Some(rest),
                        None => unusual(decoding, slot, rest, row),
                    }
                }
                #[inline(never)]
                fn unusual<'p, 'a>(
                    decoding: &mut Decoding<'p, '_>,
                    slot: &'p Slot,
                    rest: &'a [u8],
                    row: usize,
                ) -> Option<&'a [u8]> {
                    decoding.value(Op::$op, slot, rest, row)
                }
                match $slot {
                    Slot { list: NONE, member: NONE, presence: NONE, .. } => Step(read::<Plain>),
                    Slot { list: NONE, member: NONE, .. } => Step(read::<Present>),
                    Slot { list: NONE, .. } => Step(read::<Member>),
                    _ => Step(read::<Element>),
                }
            })*
        }
    };
}

fn single(slot: &Slot) -> Step {
    single!(slot: Unknown Skip Int32 Sint32 Bits32 Int64 Sint64 Uint32 Fixed32 Bits64 Uint64 Fixed64 Bool Text Bytes BlobText
        Enum Timestamp Duration Message Group Json Raw RawGroup)
}

/// The same of values one after the other behind a length.
macro_rules! packed {
    ($named:ident: $($op:ident)*) => {
        match $named {
            $(Op::$op => Step(|decoding, slot, rest, row| decoding.packed(Op::$op, slot, rest, row)),)*
            // Nothing else can be packed; a length that stands before is not in the way of skipping.
            _ => Step::UNKNOWN,
        }
    };
}

fn packed(op: Op) -> Step {
    packed!(op: Int32 Sint32 Bits32 Int64 Sint64 Uint32 Fixed32 Bits64 Uint64 Fixed64 Bool Enum)
}
