//! Key interning: from the values of key columns to dense slot numbers, for state that lives long.
//!
//! A slot stands for one key and indexes the typed vectors in which operators keep what they know of it. Freed slots are
//! used again. NULL is a key like any other, −0 is 0 and every NaN is one NaN. A single column of integers (or of
//! anything else of at most 64 bits), a few such columns, and a single column of strings have fast paths; other keys go through Arrow's row
//! format, which never leaves memory: [`Slots::keys`] gives Arrow columns back.

mod bytes;
mod integer;
mod wide;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::key_group::{hash_keys, key_group};
use crate::error::{Error, Result};
use bytes::{RowKeys, TextKeys};
pub(crate) use bytes::{bytes_column, for_each_bytes, one_zero_one_nan};
use integer::IntegerKeys;
use wide::WideKeys;

/// The number of a key; see the [module](self).
pub type Slot = u32;

/// What [`Slots::find`] answers for a key that has no slot.
pub const NO_SLOT: Slot = Slot::MAX;

/// The keys and their slots; see the [module](self).
#[derive(Debug)]
pub struct Slots {
    keys: Keys,
    supply: Supply,
}

#[derive(Debug)]
enum Keys {
    /// No key columns: one key.
    Unit(Option<Slot>),
    Integer(IntegerKeys),
    Text(TextKeys),
    Wide(WideKeys),
    Rows(Box<RowKeys>),
}

impl Slots {
    /// No keys yet, of columns of these types. Fails for types that cannot be compared.
    pub fn new(types: &[DataType]) -> Result<Self> {
        let keys = match types {
            [] => Keys::Unit(None),
            [one] if IntegerKeys::fits(one) => Keys::Integer(IntegerKeys::new(one.clone())),
            [one] if TextKeys::fits(one) => Keys::Text(TextKeys::new(one.clone())),
            several if WideKeys::fits(several) => Keys::Wide(WideKeys::new(several)),
            several => Keys::Rows(Box::new(RowKeys::new(several)?)),
        };
        Ok(Self { keys, supply: Supply::default() })
    }

    /// The slot of each of `rows` keys into `out` (cleared first); a key seen for the first time gets one, which is also
    /// added to `created`.
    pub fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        out: &mut Vec<Slot>,
        created: &mut Vec<Slot>,
    ) -> Result<()> {
        out.clear();
        out.reserve(rows);
        if self.supply.bound() as usize + rows >= NO_SLOT as usize {
            return Err(Error::new(crate::ErrorKind::ResourceExhausted, "an operator has more than 4 billion keys"));
        }
        let mut supply = Minting { supply: &mut self.supply, created };
        match &mut self.keys {
            Keys::Unit(slot) => {
                if rows > 0 {
                    let slot = *slot.get_or_insert_with(|| supply.mint());
                    out.resize(rows, slot);
                }
                Ok(())
            }
            Keys::Integer(keys) => keys.intern(single(columns)?, out, &mut supply),
            Keys::Text(keys) => keys.intern(single(columns)?, out, &mut supply),
            Keys::Wide(keys) => keys.intern(columns, out, &mut supply),
            Keys::Rows(keys) => keys.intern(columns, out, &mut supply),
        }
    }

    /// Makes room for about so many keys, where that saves growing step by step.
    pub fn reserve(&mut self, keys: usize) {
        if let Keys::Integer(integers) = &mut self.keys {
            integers.reserve(keys);
        }
    }

    /// The slot of each of `rows` keys into `out` (cleared first), or [`NO_SLOT`].
    pub fn find(&self, columns: &[ArrayRef], rows: usize, out: &mut Vec<Slot>) -> Result<()> {
        out.clear();
        out.reserve(rows);
        match &self.keys {
            Keys::Unit(slot) => {
                out.resize(rows, slot.unwrap_or(NO_SLOT));
                Ok(())
            }
            Keys::Integer(keys) => keys.find(single(columns)?, out),
            Keys::Text(keys) => keys.find(single(columns)?, out),
            Keys::Wide(keys) => keys.find(columns, out),
            Keys::Rows(keys) => keys.find(columns, out),
        }
    }

    /// The key columns of some (live) slots.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Unit(_) => Ok(Vec::new()),
            Keys::Integer(keys) => Ok(vec![keys.column(slots)?]),
            Keys::Text(keys) => Ok(vec![keys.column(slots)?]),
            Keys::Wide(keys) => keys.columns(slots),
            Keys::Rows(keys) => keys.columns(slots),
        }
    }

    /// The key groups that some (live) slots belong to.
    pub fn key_groups(&self, slots: &[Slot]) -> Result<Vec<u8>> {
        let mut hashes = Vec::new();
        hash_keys(&self.keys(slots)?, slots.len(), &mut hashes)?;
        Ok(hashes.into_iter().map(key_group).collect())
    }

    /// Forgets some (live, different) slots; their numbers are given to other keys later.
    pub fn release(&mut self, slots: &[Slot]) {
        match &mut self.keys {
            Keys::Unit(slot) => {
                if !slots.is_empty() {
                    *slot = None;
                }
            }
            Keys::Integer(keys) => keys.release(slots),
            Keys::Text(keys) => keys.release(slots),
            Keys::Wide(keys) => keys.release(slots),
            Keys::Rows(keys) => keys.release(slots),
        }
        self.supply.free.extend_from_slice(slots);
    }

    /// How many keys have a slot.
    pub fn len(&self) -> usize {
        self.supply.next as usize - self.supply.free.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every slot's number lies below this.
    pub fn bound(&self) -> usize {
        self.supply.next as usize
    }

    /// All live slots, ascending.
    pub fn live(&self) -> Vec<Slot> {
        if self.supply.free.is_empty() {
            return (0..self.supply.next).collect();
        }
        let mut live = vec![true; self.bound()];
        for slot in &self.supply.free {
            live[*slot as usize] = false;
        }
        (0..self.supply.next).filter(|slot| live[*slot as usize]).collect()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Unit(_) => 0,
            Keys::Integer(keys) => keys.memory(),
            Keys::Text(keys) => keys.memory(),
            Keys::Wide(keys) => keys.memory(),
            Keys::Rows(keys) => keys.memory(),
        };
        keys + self.supply.free.capacity() * size_of::<Slot>()
    }
}

fn single(columns: &[ArrayRef]) -> Result<&ArrayRef> {
    match columns {
        [one] => Ok(one),
        other => Err(Error::internal(format!("one key column was expected, {} came", other.len()))),
    }
}

/// Which slot numbers are in use.
#[derive(Debug, Default)]
struct Supply {
    next: Slot,
    free: Vec<Slot>,
}

impl Supply {
    fn bound(&self) -> Slot {
        self.next
    }
}

/// A supply during one call of [`Slots::intern`].
struct Minting<'a> {
    supply: &'a mut Supply,
    created: &'a mut Vec<Slot>,
}

impl Minting<'_> {
    fn mint(&mut self) -> Slot {
        let slot = self.supply.free.pop().unwrap_or_else(|| {
            self.supply.next += 1;
            self.supply.next - 1
        });
        self.created.push(slot);
        slot
    }
}

#[cfg(test)]
mod tests;
