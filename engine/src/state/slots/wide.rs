//! Keys of several columns whose values fit 64 bits each: compared as a few numbers side by side.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

use super::integer::{IntegerKeys, decode, encode, mix};
use super::{Minting, NO_SLOT, Slot};
use crate::error::Result;

/// Keys of 2 to [`WideKeys::COLUMNS_MAX`] columns and their slots.
#[derive(Debug)]
pub(super) struct WideKeys {
    types: Vec<DataType>,
    table: Vec<Entry>,
    used: usize,
    /// By slot: the value of each column, then which of them are NULL (a bit each; their values are 0).
    values: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    slot: Slot,
}

const VACANT: Entry = Entry { hash: 0, slot: NO_SLOT };

impl WideKeys {
    /// More columns go through Arrow's row format.
    const COLUMNS_MAX: usize = 7;

    pub(super) fn fits(types: &[DataType]) -> bool {
        (2..=Self::COLUMNS_MAX).contains(&types.len()) && types.iter().all(IntegerKeys::fits)
    }

    pub(super) fn new(types: &[DataType]) -> Self {
        Self { types: types.to_vec(), table: Vec::new(), used: 0, values: Vec::new() }
    }

    fn width(&self) -> usize {
        self.types.len() + 1
    }

    pub(super) fn intern(&mut self, columns: &[ArrayRef], out: &mut Vec<Slot>, supply: &mut Minting<'_>) -> Result<()> {
        let width = self.width();
        // Rows of one key often come together: of one window, of one customer.
        let mut last = ([0; Self::COLUMNS_MAX + 1], NO_SLOT);
        for_each_key(columns, |key| {
            if last.1 != NO_SLOT && is_same(&last.0[..width], key) {
                out.push(last.1);
                return;
            }
            if self.used * 8 >= self.table.len() * 5 {
                self.grow();
            }
            let (hash, place) = self.probe(key);
            let found = self.table[place].slot;
            let slot = if found == NO_SLOT { self.insert(key, hash, place, supply) } else { found };
            last.0[..width].copy_from_slice(key);
            last.1 = slot;
            out.push(slot);
        })
    }

    pub(super) fn find(&self, columns: &[ArrayRef], out: &mut Vec<Slot>) -> Result<()> {
        for_each_key(columns, |key| {
            out.push(if self.table.is_empty() { NO_SLOT } else { self.table[self.probe(key).1].slot });
        })
    }

    /// The key's hash, and the place where it stands or, if that is vacant, would stand.
    #[inline]
    fn probe(&self, key: &[u64]) -> (u32, usize) {
        let hash = hash(key);
        let mask = self.table.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let entry = self.table[place];
            if entry.slot == NO_SLOT || (entry.hash == hash && is_same(self.key(entry.slot), key)) {
                return (hash, place);
            }
            place = (place + 1) & mask;
        }
    }

    fn key(&self, slot: Slot) -> &[u64] {
        let start = slot as usize * self.width();
        &self.values[start..start + self.width()]
    }

    fn insert(&mut self, key: &[u64], hash: u32, place: usize, supply: &mut Minting<'_>) -> Slot {
        let slot = supply.mint();
        let start = slot as usize * self.width();
        let end = start + self.width();
        if self.values.len() < end {
            self.values.resize(end, 0);
        }
        self.values[start..end].copy_from_slice(key);
        self.table[place] = Entry { hash, slot };
        self.used += 1;
        slot
    }

    fn grow(&mut self) {
        let size = (self.table.len() * 2).max(64);
        let old = std::mem::replace(&mut self.table, vec![VACANT; size]);
        for entry in old.into_iter().filter(|entry| entry.slot != NO_SLOT) {
            let mut place = entry.hash as usize & (size - 1);
            while self.table[place].slot != NO_SLOT {
                place = (place + 1) & (size - 1);
            }
            self.table[place] = entry;
        }
    }

    pub(super) fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            let (_, place) = self.probe(self.key(*slot));
            if self.table[place].slot == *slot {
                self.close_gap(place);
            }
        }
    }

    /// Vacates a place, as in the table of one column.
    fn close_gap(&mut self, mut hole: usize) {
        let mask = self.table.len() - 1;
        self.used -= 1;
        let mut place = hole;
        self.table[hole] = VACANT;
        loop {
            place = (place + 1) & mask;
            let entry = self.table[place];
            if entry.slot == NO_SLOT {
                return;
            }
            let home = entry.hash as usize & mask;
            if (place.wrapping_sub(home) & mask) >= (place.wrapping_sub(hole) & mask) {
                self.table[hole] = entry;
                self.table[place] = VACANT;
                hole = place;
            }
        }
    }

    pub(super) fn columns(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let nulls_at = self.types.len();
        let columns = self.types.iter().enumerate().map(|(column, data_type)| {
            let valid = slots.iter().map(|slot| self.key(*slot)[nulls_at] >> column & 1 == 0);
            let nulls = Some(NullBuffer::from_iter(valid)).filter(|nulls| nulls.null_count() > 0);
            decode(data_type, slots.iter().map(|slot| self.key(*slot)[column]), nulls)
        });
        columns.collect()
    }

    pub(super) fn memory(&self) -> usize {
        self.table.capacity() * size_of::<Entry>() + self.values.capacity() * size_of::<u64>()
    }
}

/// Calls `use_key` with each row's values and the mask of those that are NULL.
fn for_each_key(columns: &[ArrayRef], mut use_key: impl FnMut(&[u64])) -> Result<()> {
    let values = columns.iter().map(encode).collect::<Result<Vec<ScalarBuffer<u64>>>>()?;
    let nulls: Vec<Option<NullBuffer>> =
        columns.iter().map(|column| column.logical_nulls().filter(|nulls| nulls.null_count() > 0)).collect();
    let any_null = nulls.iter().any(Option::is_some);
    let rows = columns.first().map_or(0, |column| column.len());
    let width = columns.len() + 1;
    let mut key = [0; WideKeys::COLUMNS_MAX + 1];
    for row in 0..rows {
        for (place, column) in key.iter_mut().zip(&values) {
            *place = column[row];
        }
        if any_null {
            let mut mask = 0;
            for (column, nulls) in nulls.iter().enumerate() {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    key[column] = 0;
                    mask |= 1 << column;
                }
            }
            key[width - 1] = mask;
        }
        use_key(&key[..width]);
    }
    Ok(())
}

/// Whether two keys are one: a few numbers, too few for a call to compare memory.
#[inline]
fn is_same(one: &[u64], other: &[u64]) -> bool {
    one.iter().zip(other).all(|(one, other)| one == other)
}

#[inline]
fn hash(key: &[u64]) -> u32 {
    let folded = key.iter().fold(0_u64, |hash, value| mix(hash.rotate_left(29) ^ value));
    (folded >> 32) as u32 ^ folded as u32
}
