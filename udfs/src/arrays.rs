//! Arrays: bounds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use crate::declared::{Gives, Kind, Spec};
use crate::rows::integers;

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
];

fn bound(args: &[ArrayRef], of: fn(i32) -> i32) -> Result<ArrayRef> {
    let lists = args[0].as_list::<i32>();
    let bounds = (0..lists.len()).map(|row| {
        let first = integers(args, 1).is_valid(row) && integers(args, 1).value(row) == 1;
        let length = if lists.is_valid(row) { lists.value_length(row) } else { 0 };
        (first && length > 0).then(|| of(length))
    });
    Ok(Arc::new(bounds.collect::<Int32Array>()))
}
