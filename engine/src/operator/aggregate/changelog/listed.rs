//! Multisets as a column: for each group a list of values with their weights.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, LargeListArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};

use crate::error::{Error, Result};
use crate::state::slots::Slot;

fn members(types: &[DataType]) -> Fields {
    let values =
        types.iter().enumerate().map(|(number, data_type)| Field::new(number.to_string(), data_type.clone(), true));
    values.chain([Field::new("weight", DataType::Int64, false)]).map(Arc::new).collect()
}

/// The column's field: lists of structs of values of these types and a weight.
pub(super) fn field(types: &[DataType]) -> FieldRef {
    let member = Field::new("member", DataType::Struct(members(types)), false);
    Arc::new(Field::new("members", DataType::LargeList(Arc::new(member)), true))
}

/// The column: a list for each of `lengths`, made of as many of the values and weights as it says, in order.
pub(super) fn column(
    types: &[DataType],
    lengths: impl Iterator<Item = usize>,
    mut values: Vec<ArrayRef>,
    weights: Vec<i64>,
) -> Result<ArrayRef> {
    let mut end = 0;
    let offsets = std::iter::once(0).chain(lengths.map(|length| {
        end += length as i64;
        end
    }));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets.collect::<Vec<i64>>()));
    values.push(Arc::new(Int64Array::from(weights)));
    let members = StructArray::try_new(members(types), values, None)?;
    let DataType::LargeList(member) = field(types).data_type().clone() else {
        return Err(Error::internal("a column of lists is a column of lists"));
    };
    Ok(Arc::new(LargeListArray::try_new(member, offsets, Arc::new(members), None)?))
}

/// What stands in the lists, one below the other: the slot that each member belongs to, the values, and the weights.
pub(super) fn flattened(slots: &[Slot], state: &[ArrayRef]) -> Result<(Vec<Slot>, Vec<ArrayRef>, Int64Array)> {
    let wrong = || Error::internal("the state of an aggregate over a changelog is not a list of values");
    let [lists] = state else { return Err(wrong()) };
    let lists = lists.as_list_opt::<i64>().ok_or_else(wrong)?;
    let mut owners = Vec::new();
    for (row, slot) in slots.iter().enumerate() {
        let length = if lists.is_valid(row) { lists.value_length(row) } else { 0 };
        owners.extend(std::iter::repeat_n(*slot, length as usize));
    }
    // A sliced list array keeps all of its members: take those of its rows.
    let (first, last) = (lists.value_offsets()[0] as usize, lists.value_offsets()[lists.len()] as usize);
    let members = lists.values().slice(first, last - first);
    if members.len() != owners.len() {
        return Err(wrong());
    }
    let mut columns = members.as_struct_opt().ok_or_else(wrong)?.columns().to_vec();
    let weights = columns.pop().and_then(|weights| weights.as_primitive_opt::<Int64Type>().cloned());
    Ok((owners, columns, weights.ok_or_else(wrong)?))
}
