//! Checks of values before they are written: an error names the column and the value.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use prost_reflect::EnumDescriptor;

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
            let limit = |bound: i128| i64::try_from(bound).unwrap_or(if bound < 0 { i64::MIN } else { i64::MAX });
            if !all_within(values, limit(least), limit(most)) {
                values.iter().enumerate().try_for_each(|(row, value)| check(row, i128::from(*value)))?;
            }
        }
        _ => {
            let wide = cast(array, &DataType::Decimal128(38, 0))?;
            let values = wide.as_primitive::<Decimal128Type>().values();
            values.iter().enumerate().try_for_each(|(row, value)| check(row, *value))?;
        }
    }
    if array.data_type() == target { Ok(array.clone()) } else { Ok(cast(array, target)?) }
}

/// Whether all values lie between the bounds, those that don't count included: as nearly always, and known in one pass
/// without a branch.
pub(super) fn all_within(values: &[i64], least: i64, most: i64) -> bool {
    let span = most.wrapping_sub(least) as u64;
    !values.iter().fold(false, |outside, value| outside | (value.wrapping_sub(least) as u64 > span))
}

/// An enum's numbers by name.
pub(super) struct EnumNumbers {
    by_name: HashMap<String, i32>,
}

/// Numbers that were found lately, by the views of their names: equal views of one array are equal texts. Each view has two
/// places, so that two names of an enum that fall together do not drive each other out.
struct Lately([[(u128, i32); 2]; 16]);

impl Lately {
    fn new() -> Self {
        // No text is that long.
        Self([[(u128::MAX, 0); 2]; 16])
    }

    /// The number of a view, found by `find` if it was not lately.
    #[inline(always)]
    fn get<E>(&mut self, view: u128, find: impl FnOnce() -> Result<i32, E>) -> Result<i32, E> {
        let mixed = (view as u64 ^ (view >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let places = &mut self.0[(mixed >> 60) as usize];
        for (known, number) in &*places {
            if *known == view {
                return Ok(*number);
            }
        }
        let number = find()?;
        *places = [(view, number), places[0]];
        Ok(number)
    }
}

impl EnumNumbers {
    pub(super) fn of(values: &EnumDescriptor) -> Self {
        Self { by_name: values.values().map(|value| (value.name().to_owned(), value.number())).collect() }
    }

    /// The number of a value given by name, or by number as text.
    fn find(&self, name: &str) -> Option<i32> {
        self.by_name.get(name).copied().or_else(|| name.parse().ok())
    }

    fn unknown(&self, name: &str, path: &str) -> Error {
        let text = format!("the column {path} has the value '{name}', which the field's enum does not have");
        let mut known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        known.sort_unstable();
        known.truncate(20);
        Error::new(ErrorKind::Data, text).with_hint(format!("it has {}", known.join(", ")))
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
        let mut lately = Lately::new();
        let number = |row: usize| {
            if !is_live(live, row) || names.is_null(row) {
                return Ok(0);
            }
            lately.get(names.views()[row], || {
                self.find(names.value(row)).ok_or_else(|| self.unknown(names.value(row), path))
            })
        };
        (0..names.len()).map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_lately_is_right() {
        let mut lately = Lately::new();
        let mut looked = 0;
        for view in (0..100).chain(0..100).chain([7; 50]) {
            let found: Result<i32, ()> = lately.get(view, || {
                looked += 1;
                Ok(view as i32)
            });
            assert_eq!(found, Ok(view as i32));
        }
        assert!(looked <= 201, "{looked}");
        assert_eq!(lately.get(1 << 70, || Err("unknown")), Err("unknown"));
        assert_eq!(lately.get(1 << 70, || Ok::<_, ()>(3)), Ok(3));
    }
}
