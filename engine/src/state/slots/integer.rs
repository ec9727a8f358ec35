//! Keys of one column whose values fit 64 bits: an open-addressing table with the keys inside.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::{Minting, NO_SLOT, Slot};
use crate::error::{Error, Result};

/// Keys of at most 64 bits and their slots.
///
/// The table holds (key, slot) pairs side by side, so that a probe touches one cache line; collisions go to the next
/// place (linear probing), removal shifts back, so there are no tombstones.
#[derive(Debug)]
pub(super) struct IntegerKeys {
    data_type: DataType,
    table: Vec<Entry>,
    used: usize,
    /// By slot.
    values: Vec<u64>,
    null: Option<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    slot: Slot,
}

const VACANT: Entry = Entry { key: 0, slot: NO_SLOT };

impl IntegerKeys {
    pub(super) fn fits(data_type: &DataType) -> bool {
        use DataType as D;
        matches!(
            data_type,
            D::Boolean
                | D::Int8
                | D::Int16
                | D::Int32
                | D::Int64
                | D::UInt8
                | D::UInt16
                | D::UInt32
                | D::UInt64
                | D::Float32
                | D::Float64
                | D::Date32
                | D::Date64
                | D::Timestamp(_, _)
        )
    }

    pub(super) fn new(data_type: DataType) -> Self {
        Self { data_type, table: Vec::new(), used: 0, values: Vec::new(), null: None }
    }

    pub(super) fn intern(&mut self, column: &ArrayRef, out: &mut Vec<Slot>, supply: &mut Minting<'_>) -> Result<()> {
        let keys = encode(column)?;
        let Some(nulls) = column.logical_nulls().filter(|nulls| nulls.null_count() > 0) else {
            self.intern_all(&keys, out, supply);
            return Ok(());
        };
        for (row, key) in keys.iter().enumerate() {
            let slot = if nulls.is_valid(row) { self.intern_one(*key, supply) } else { self.intern_null(supply) };
            out.push(slot);
        }
        Ok(())
    }

    pub(super) fn find(&self, column: &ArrayRef, out: &mut Vec<Slot>) -> Result<()> {
        let keys = encode(column)?;
        let nulls = column.logical_nulls();
        out.extend(keys.iter().enumerate().map(|(row, key)| match &nulls {
            Some(nulls) if nulls.is_null(row) => self.null.unwrap_or(NO_SLOT),
            _ => self.find_one(*key),
        }));
        Ok(())
    }

    fn intern_null(&mut self, supply: &mut Minting<'_>) -> Slot {
        if let Some(slot) = self.null {
            return slot;
        }
        let slot = supply.mint();
        self.put(slot, 0);
        self.null = Some(slot);
        slot
    }

    /// Keys that are known, as most are, are looked up in a loop that changes nothing.
    fn intern_all(&mut self, keys: &[u64], out: &mut Vec<Slot>, supply: &mut Minting<'_>) {
        let mut rest = keys;
        loop {
            let known = self.known(rest, out);
            let Some((new, after)) = rest[known..].split_first() else { return };
            out.push(self.intern_one(*new, supply));
            rest = after;
        }
    }

    /// The slots of the first keys, up to one that has none. Answers how many.
    fn known(&self, keys: &[u64], out: &mut Vec<Slot>) -> usize {
        let table = self.table.as_slice();
        let Some(mask) = table.len().checked_sub(1) else { return 0 };
        for (row, key) in keys.iter().enumerate() {
            let mut place = mix(*key) as usize & mask;
            loop {
                let entry = table[place];
                if entry.slot == NO_SLOT {
                    return row;
                }
                if entry.key == *key {
                    out.push(entry.slot);
                    break;
                }
                place = (place + 1) & mask;
            }
        }
        keys.len()
    }

    #[inline]
    fn intern_one(&mut self, key: u64, supply: &mut Minting<'_>) -> Slot {
        if self.table.is_empty() {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut place = mix(key) as usize & mask;
        loop {
            let entry = self.table[place];
            if entry.key == key && entry.slot != NO_SLOT {
                return entry.slot;
            }
            if entry.slot == NO_SLOT {
                return self.insert(key, place, supply);
            }
            place = (place + 1) & mask;
        }
    }

    #[cold]
    #[inline(never)]
    fn insert(&mut self, key: u64, place: usize, supply: &mut Minting<'_>) -> Slot {
        let slot = supply.mint();
        self.put(slot, key);
        self.table[place] = Entry { key, slot };
        self.used += 1;
        // Full to at most five eighths: probes stay short.
        if self.used * 8 > self.table.len() * 5 {
            self.grow();
        }
        slot
    }

    fn find_one(&self, key: u64) -> Slot {
        if self.table.is_empty() {
            return NO_SLOT;
        }
        let mask = self.table.len() - 1;
        let mut place = mix(key) as usize & mask;
        loop {
            let entry = self.table[place];
            if entry.slot == NO_SLOT || entry.key == key {
                return entry.slot;
            }
            place = (place + 1) & mask;
        }
    }

    fn put(&mut self, slot: Slot, key: u64) {
        let slot = slot as usize;
        if self.values.len() <= slot {
            self.values.resize(slot + 1, 0);
        }
        self.values[slot] = key;
    }

    /// Makes room for about so many keys.
    pub(super) fn reserve(&mut self, keys: usize) {
        let size = (keys * 8 / 5 + 1).next_power_of_two();
        if size > self.table.len().max(64) {
            self.resize(size);
        }
    }

    fn grow(&mut self) {
        self.resize((self.table.len() * 2).max(64));
    }

    fn resize(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.table, vec![VACANT; size]);
        let mask = size - 1;
        for entry in old.into_iter().filter(|entry| entry.slot != NO_SLOT) {
            let mut place = mix(entry.key) as usize & mask;
            while self.table[place].slot != NO_SLOT {
                place = (place + 1) & mask;
            }
            self.table[place] = entry;
        }
    }

    pub(super) fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            if self.null == Some(*slot) {
                self.null = None;
            } else if let Some(key) = self.values.get(*slot as usize) {
                self.remove(*key);
            }
        }
    }

    /// Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R: entries after the hole move up to their place.
    fn remove(&mut self, key: u64) {
        if self.table.is_empty() {
            return;
        }
        let mask = self.table.len() - 1;
        let mut hole = mix(key) as usize & mask;
        while self.table[hole].key != key || self.table[hole].slot == NO_SLOT {
            if self.table[hole].slot == NO_SLOT {
                return;
            }
            hole = (hole + 1) & mask;
        }
        self.used -= 1;
        let mut place = hole;
        loop {
            self.table[hole] = VACANT;
            loop {
                place = (place + 1) & mask;
                let entry = self.table[place];
                if entry.slot == NO_SLOT {
                    return;
                }
                let home = mix(entry.key) as usize & mask;
                // The entry may move only if its home does not lie between the hole and where it is.
                if (place.wrapping_sub(home) & mask) >= (place.wrapping_sub(hole) & mask) {
                    self.table[hole] = entry;
                    hole = place;
                    break;
                }
            }
        }
    }

    pub(super) fn column(&self, slots: &[Slot]) -> Result<ArrayRef> {
        let nulls = self
            .null
            .filter(|null| slots.contains(null))
            .map(|null| NullBuffer::from_iter(slots.iter().map(|slot| *slot != null)));
        let values = slots.iter().map(|slot| self.values[*slot as usize]);
        decode(&self.data_type, values, nulls)
    }

    pub(super) fn memory(&self) -> usize {
        self.table.capacity() * size_of::<Entry>() + self.values.capacity() * size_of::<u64>()
    }
}

/// Mixes all bits of the key into the low ones: the two halves of a 128-bit product.
#[inline]
pub(super) fn mix(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xd6e8_feb8_6659_fd93_u64);
    (product >> 64) as u64 ^ product as u64
}

/// The column's values as 64-bit keys; what stands where the column is NULL has no meaning.
pub(super) fn encode(column: &ArrayRef) -> Result<ScalarBuffer<u64>> {
    use DataType as D;
    fn same_width<T: ArrowPrimitiveType>(column: &ArrayRef) -> ScalarBuffer<u64> {
        ScalarBuffer::from(column.as_primitive::<T>().values().inner().clone())
    }
    fn widened<T: ArrowPrimitiveType>(column: &ArrayRef, widen: impl Fn(T::Native) -> u64) -> ScalarBuffer<u64> {
        column.as_primitive::<T>().values().iter().map(|value| widen(*value)).collect()
    }
    Ok(match column.data_type() {
        D::Boolean => column.as_boolean().values().iter().map(u64::from).collect(),
        D::Int8 => widened::<Int8Type>(column, |value| value as u64),
        D::Int16 => widened::<Int16Type>(column, |value| value as u64),
        D::Int32 => widened::<Int32Type>(column, |value| value as u64),
        D::Date32 => widened::<Date32Type>(column, |value| value as u64),
        D::UInt8 => widened::<UInt8Type>(column, u64::from),
        D::UInt16 => widened::<UInt16Type>(column, u64::from),
        D::UInt32 => widened::<UInt32Type>(column, u64::from),
        D::Int64 => same_width::<Int64Type>(column),
        D::UInt64 => same_width::<UInt64Type>(column),
        D::Date64 => same_width::<Date64Type>(column),
        D::Timestamp(TimeUnit::Second, _) => same_width::<TimestampSecondType>(column),
        D::Timestamp(TimeUnit::Millisecond, _) => same_width::<TimestampMillisecondType>(column),
        D::Timestamp(TimeUnit::Microsecond, _) => same_width::<TimestampMicrosecondType>(column),
        D::Timestamp(TimeUnit::Nanosecond, _) => same_width::<TimestampNanosecondType>(column),
        // Adding zero turns −0 into 0.
        D::Float32 => widened::<Float32Type>(column, |value| {
            u64::from(if value.is_nan() { f32::NAN } else { value + 0.0 }.to_bits())
        }),
        D::Float64 => {
            widened::<Float64Type>(column, |value| if value.is_nan() { f64::NAN } else { value + 0.0 }.to_bits())
        }
        other => return Err(Error::internal(format!("a key of type {other} came where an integer was expected"))),
    })
}

/// The inverse of [`encode`].
pub(super) fn decode(
    data_type: &DataType,
    keys: impl Iterator<Item = u64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    use DataType as D;
    fn made<T: ArrowPrimitiveType>(
        data_type: &DataType,
        keys: impl Iterator<Item = u64>,
        nulls: Option<NullBuffer>,
        narrow: impl Fn(u64) -> T::Native,
    ) -> Result<ArrayRef> {
        let values: ScalarBuffer<T::Native> = keys.map(narrow).collect();
        Ok(Arc::new(PrimitiveArray::<T>::try_new(values, nulls)?.with_data_type(data_type.clone())))
    }
    match data_type {
        D::Boolean => Ok(Arc::new(BooleanArray::new(keys.map(|key| key != 0).collect(), nulls))),
        D::Int8 => made::<Int8Type>(data_type, keys, nulls, |key| key as i8),
        D::Int16 => made::<Int16Type>(data_type, keys, nulls, |key| key as i16),
        D::Int32 => made::<Int32Type>(data_type, keys, nulls, |key| key as i32),
        D::Date32 => made::<Date32Type>(data_type, keys, nulls, |key| key as i32),
        D::UInt8 => made::<UInt8Type>(data_type, keys, nulls, |key| key as u8),
        D::UInt16 => made::<UInt16Type>(data_type, keys, nulls, |key| key as u16),
        D::UInt32 => made::<UInt32Type>(data_type, keys, nulls, |key| key as u32),
        D::Int64 => made::<Int64Type>(data_type, keys, nulls, |key| key as i64),
        D::UInt64 => made::<UInt64Type>(data_type, keys, nulls, |key| key),
        D::Date64 => made::<Date64Type>(data_type, keys, nulls, |key| key as i64),
        D::Timestamp(TimeUnit::Second, _) => made::<TimestampSecondType>(data_type, keys, nulls, |key| key as i64),
        D::Timestamp(TimeUnit::Millisecond, _) => {
            made::<TimestampMillisecondType>(data_type, keys, nulls, |key| key as i64)
        }
        D::Timestamp(TimeUnit::Microsecond, _) => {
            made::<TimestampMicrosecondType>(data_type, keys, nulls, |key| key as i64)
        }
        D::Timestamp(TimeUnit::Nanosecond, _) => {
            made::<TimestampNanosecondType>(data_type, keys, nulls, |key| key as i64)
        }
        D::Float32 => made::<Float32Type>(data_type, keys, nulls, |key| f32::from_bits(key as u32)),
        D::Float64 => made::<Float64Type>(data_type, keys, nulls, f64::from_bits),
        other => Err(Error::internal(format!("a key of type {other} is none of the integers"))),
    }
}
