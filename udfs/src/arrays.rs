//! Arrays: bounds, and arrays that are made of others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err};

use crate::declared::{Gives, Kind, Spec};
use crate::rows::{integers, is_null};

const BOUNDS: &[&[Kind]] = &[&[Kind::Array, Kind::Integer]];

pub(crate) static ARRAYS: &[Spec] = &[
    Spec {
        name: "array_lower",
        usage: "array_lower(array, dimension)",
        doc: "The number of the first element: 1. NULL for an empty array.",
        takes: BOUNDS,
        repeats: false,
        gives: Gives::Type(|| DataType::Int32),
        is_plain: None,
        run: |args| bound(args, |_| 1),
    },
    Spec {
        name: "array_upper",
        usage: "array_upper(array, dimension)",
        doc: "The number of the last element. NULL for an empty array.",
        takes: BOUNDS,
        repeats: false,
        gives: Gives::Type(|| DataType::Int32),
        is_plain: None,
        run: |args| bound(args, |length| length),
    },
    Spec {
        name: "trim_array",
        usage: "trim_array(array, n)",
        doc: "The array without its last n elements.",
        takes: BOUNDS,
        repeats: false,
        gives: Gives::Of(|given| Ok(given[0].clone())),
        is_plain: None,
        run: trimmed,
    },
    Spec {
        name: "array_fill",
        usage: "array_fill(value, ARRAY[n])",
        doc: "An array of n times the value.",
        takes: &[&[Kind::Any, Kind::Array]],
        repeats: false,
        gives: Gives::Of(|given| Ok(DataType::new_list(given[0].clone(), true))),
        is_plain: None,
        run: filled,
    },
];

fn trimmed(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (lists, counts) = (args[0].as_list::<i32>(), integers(args, 1));
    let (mut kept, mut lengths) = (Vec::new(), Vec::with_capacity(lists.len()));
    let known: Vec<bool> = (0..lists.len()).map(|row| lists.is_valid(row) && counts.is_valid(row)).collect();
    for (row, known) in known.iter().enumerate() {
        let length = if *known { lists.value_length(row) } else { 0 };
        let cut = if *known { counts.value(row) } else { 0 };
        let Some(rest) = i32::try_from(cut).ok().filter(|cut| (0..=length).contains(cut)).map(|cut| length - cut)
        else {
            return exec_err!("number of elements to trim must be between 0 and {length}");
        };
        kept.extend((lists.value_offsets()[row] as u32..).take(rest as usize));
        lengths.push(rest as usize);
    }
    let values = take(lists.values(), &UInt32Array::from(kept), None)?;
    list_like(args[0].data_type(), lengths, values, known)
}

fn filled(args: &[ArrayRef]) -> Result<ArrayRef> {
    let dimensions = args[1].as_list::<i32>();
    let (mut taken, mut lengths) = (Vec::new(), Vec::with_capacity(dimensions.len()));
    let known: Vec<bool> = (0..dimensions.len()).map(|row| !is_null(&args[1], row)).collect();
    for (row, known) in known.iter().enumerate() {
        let length = match *known {
            true => filled_length(&dimensions.value(row))?,
            false => 0,
        };
        taken.extend(std::iter::repeat_n(row as u32, length));
        lengths.push(length);
    }
    let values = take(&args[0], &UInt32Array::from(taken), None)?;
    list_like(&DataType::new_list(args[0].data_type().clone(), true), lengths, values, known)
}

/// The most elements that `array_fill` makes: a length may come from a row.
const MOST_FILLED: i64 = 1 << 20;

fn filled_length(dimensions: &ArrayRef) -> Result<usize> {
    let lengths = cast(dimensions, &DataType::Int64)?;
    let lengths = lengths.as_primitive::<Int64Type>();
    match (lengths.len(), lengths.iter().next().flatten()) {
        (0, _) => Ok(0),
        (1, Some(length @ 0..=MOST_FILLED)) => Ok(length as usize),
        (1, Some(_)) => exec_err!("array size must be between 0 and {MOST_FILLED}: it is out of range"),
        (1, None) => exec_err!("dimension values cannot be null"),
        _ => exec_err!("array_fill makes arrays of one dimension only"),
    }
}

fn list_like(data_type: &DataType, lengths: Vec<usize>, values: ArrayRef, known: Vec<bool>) -> Result<ArrayRef> {
    let DataType::List(item) = data_type else { return exec_err!("{data_type} is no array") };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, Some(NullBuffer::from(known)))?))
}

fn bound(args: &[ArrayRef], of: fn(i32) -> i32) -> Result<ArrayRef> {
    let lists = args[0].as_list::<i32>();
    let bounds = (0..lists.len()).map(|row| {
        let first = integers(args, 1).is_valid(row) && integers(args, 1).value(row) == 1;
        let length = if lists.is_valid(row) { lists.value_length(row) } else { 0 };
        (first && length > 0).then(|| of(length))
    });
    Ok(Arc::new(bounds.collect::<Int32Array>()))
}
