//! Checks of values before they are written: an error names the column and the value.

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};

/// Rows whose values count: not NULL, nor inside of something that is.
pub(super) fn is_live(live: Option<&NullBuffer>, row: usize) -> bool {
    live.is_none_or(|live| live.is_valid(row))
}

/// An array of `target`, an integer type that holds `least ..= most`, which all live values have to lie in.
pub(super) fn integers(
    array: &ArrayRef,
    target: &DataType,
    bounds: (i128, i128),
    live: Option<&NullBuffer>,
    path: &str,
) -> Result<ArrayRef> {
    let (least, most) = bounds;
    let out_of_range = |value: i128| {
        let text = format!("the column {path} has the value {value}, the field holds {least} to {most}");
        Error::new(ErrorKind::Data, text)
    };
    let check = |row: usize, value: i128| {
        if is_live(live, row) && !(least..=most).contains(&value) { Err(out_of_range(value)) } else { Ok(()) }
    };
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>().values();
            values.iter().enumerate().try_for_each(|(row, value)| check(row, i128::from(*value)))?;
        }
        _ => {
            let wide = cast(array, &DataType::Decimal128(38, 0))?;
            let values = wide.as_primitive::<Decimal128Type>().values();
            values.iter().enumerate().try_for_each(|(row, value)| check(row, *value))?;
        }
    }
    if array.data_type() == target { Ok(array.clone()) } else { Ok(cast(array, target)?) }
}

/// The numbers of an enum's values, given by name, or by number as text.
pub(super) fn enum_numbers(
    array: &ArrayRef,
    numbers: &HashMap<String, i32>,
    live: Option<&NullBuffer>,
    path: &str,
) -> Result<Int32Array> {
    let names = cast(array, &DataType::Utf8View)?;
    let names = names.as_string_view();
    let mut found = Vec::with_capacity(names.len());
    for row in 0..names.len() {
        if !is_live(live, row) || names.is_null(row) {
            found.push(0);
            continue;
        }
        let name = names.value(row);
        match numbers.get(name).copied().or_else(|| name.parse().ok()) {
            Some(number) => found.push(number),
            None => {
                let text = format!("the column {path} has the value '{name}', which the field's enum does not have");
                let mut known: Vec<&str> = numbers.keys().map(String::as_str).take(20).collect();
                known.sort_unstable();
                return Err(Error::new(ErrorKind::Data, text).with_hint(format!("it has {}", known.join(", "))));
            }
        }
    }
    Ok(Int32Array::from(found))
}
