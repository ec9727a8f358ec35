//! Checks of values before they are written: an error names the column and the value.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use prost_reflect::EnumDescriptor;

use super::super::text::{INLINE, view};
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

/// An enum's numbers by name.
pub(super) struct EnumNumbers {
    by_name: HashMap<String, i32>,
    /// Those whose name lies in its string view, by the view: few, and compared one after the other.
    by_view: Vec<(u128, i32)>,
}

/// Enums with more values are looked up by hash.
const FEW: usize = 24;

impl EnumNumbers {
    pub(super) fn of(values: &EnumDescriptor) -> Self {
        let by_name: HashMap<String, i32> =
            values.values().map(|value| (value.name().to_owned(), value.number())).collect();
        let short = by_name.iter().filter(|(name, _)| name.len() <= INLINE);
        let by_view = short.take(FEW).map(|(name, number)| (view(name.as_bytes(), 0), *number)).collect();
        Self { by_name, by_view }
    }

    /// The number of a value given by name, or by number as text.
    fn find(&self, names: &StringViewArray, row: usize) -> Option<i32> {
        let view = names.views().get(row)?;
        if let Some((_, number)) = self.by_view.iter().find(|(name, _)| name == view) {
            return Some(*number);
        }
        let name = names.value(row);
        self.by_name.get(name).copied().or_else(|| name.parse().ok())
    }

    /// The numbers of all live rows of `array`, a column of text; 0 for the others.
    pub(super) fn find_all(
        &self,
        array: &ArrayRef,
        live: Option<&NullBuffer>,
        path: &str,
    ) -> Result<ScalarBuffer<i32>> {
        let names = cast(array, &DataType::Utf8View)?;
        let names = names.as_string_view();
        let number = |row: usize| {
            if !is_live(live, row) || names.is_null(row) {
                return Ok(0);
            }
            self.find(names, row).ok_or_else(|| {
                let name = names.value(row);
                let text = format!("the column {path} has the value '{name}', which the field's enum does not have");
                let mut known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
                known.sort_unstable();
                known.truncate(20);
                Error::new(ErrorKind::Data, text).with_hint(format!("it has {}", known.join(", ")))
            })
        };
        (0..names.len()).map(number).collect()
    }
}
