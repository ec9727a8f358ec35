//! bit_and, bit_or, bit_xor, bool_and and bool_or, by counting bits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};

use super::super::accumulators::{Accumulators, counted, for_each_counted};
use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// How the bits of a group's values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Bitwise {
    And,
    Or,
    Xor,
}

impl Bitwise {
    /// A bit of the result, if it is set in `set` of `values` values.
    fn is_set(self, set: i64, values: i64) -> bool {
        match self {
            Bitwise::And => set == values,
            Bitwise::Or => set != 0,
            Bitwise::Xor => set % 2 != 0,
        }
    }
}

/// How many bits values of the type have; `None` for types without bits.
pub(super) fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean => Some(1),
        integer if integer.is_integer() => Some(integer.primitive_width()? * 8),
        _ => None,
    }
}

/// For each slot how many values there are, and in how many of them each bit is set.
pub(super) struct BitCounts {
    bitwise: Bitwise,
    data_type: DataType,
    width: usize,
    /// `1 + width` numbers for each slot: values, then bits, the lowest first.
    counts: Vec<i64>,
}

impl BitCounts {
    pub(super) fn new(bitwise: Bitwise, data_type: &DataType) -> Result<Self> {
        let width = width(data_type).ok_or_else(|| Error::internal(format!("{data_type} has no bits")))?;
        Ok(Self { bitwise, data_type: data_type.clone(), width, counts: Vec::new() })
    }

    /// What [`Accumulators::state`] gives: a slot's numbers.
    pub(super) fn state_field(data_type: &DataType) -> FieldRef {
        let numbers = width(data_type).unwrap_or(0) as i32 + 1;
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        Arc::new(Field::new("bits", DataType::FixedSizeList(item, numbers), true))
    }

    fn of(&mut self, slot: usize) -> &mut [i64] {
        let stride = self.width + 1;
        &mut self.counts[slot * stride..][..stride]
    }

    /// The bits of each value.
    fn bits(&self, column: &ArrayRef) -> Result<UInt64Array> {
        if self.data_type.is_signed_integer() {
            let wide = cast(column, &DataType::Int64)?;
            return Ok(wide.as_primitive::<Int64Type>().unary::<_, UInt64Type>(|value| value as u64));
        }
        Ok(cast(column, &DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
    }

    /// The values of these bits.
    fn values(&self, bits: &UInt64Array) -> Result<ArrayRef> {
        if !self.data_type.is_signed_integer() {
            return Ok(cast(bits, &self.data_type)?);
        }
        let unused = 64 - self.width;
        let signed = bits.unary::<_, Int64Type>(|bits| (bits << unused) as i64 >> unused);
        Ok(cast(&signed, &self.data_type)?)
    }
}

impl Accumulators for BitCounts {
    fn grow(&mut self, bound: usize) {
        let stride = self.width + 1;
        if self.counts.len() < bound * stride {
            self.counts.resize(bound * stride, 0);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        self.change(slots, arguments, filter, &Int64Array::from_value(1, slots.len()))
    }

    fn change(
        &mut self,
        slots: &[Slot],
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
        weights: &Int64Array,
    ) -> Result<()> {
        let [argument] = arguments else { return Err(Error::internal("a bitwise aggregate has one argument")) };
        let values = self.bits(argument)?;
        for_each_counted(slots, counted(values.nulls(), filter).as_ref(), |row, slot| {
            let (bits, weight) = (values.value(row), weights.value(row));
            let counts = self.of(slot);
            counts[0] += weight;
            for (bit, count) in counts[1..].iter_mut().enumerate() {
                *count += weight * (bits >> bit & 1) as i64;
            }
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let wrong = || Error::internal("the state of a bitwise aggregate is a list of counts");
        let [counts] = state else { return Err(wrong()) };
        let lists = counts.as_fixed_size_list_opt().ok_or_else(wrong)?;
        for (row, slot) in slots.iter().enumerate() {
            let other = lists.value(row);
            let other = other.as_primitive::<Int64Type>().values();
            self.of(*slot as usize).iter_mut().zip(other).for_each(|(count, other)| *count += other);
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let bitwise = self.bitwise;
        let bits = slots.iter().map(|slot| {
            let (values, counts) = self.of(*slot as usize).split_first()?;
            let set = |bits, (bit, count): (usize, &i64)| bits | u64::from(bitwise.is_set(*count, *values)) << bit;
            (*values != 0).then(|| counts.iter().enumerate().fold(0_u64, set))
        });
        let bits: UInt64Array = bits.collect();
        self.values(&bits)
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let numbers: Vec<i64> = slots.iter().flat_map(|slot| self.of(*slot as usize).to_vec()).collect();
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        Ok(vec![Arc::new(FixedSizeListArray::try_new(item, self.width as i32 + 1, numbers, None)?)])
    }

    fn release(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.of(*slot as usize).fill(0));
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}
