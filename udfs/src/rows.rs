//! Functions of one row at a time, over arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type};
use datafusion::common::Result;

/// Texts of an argument.
pub(crate) fn text(args: &[ArrayRef], place: usize) -> &StringArray {
    args[place].as_string::<i32>()
}

/// Whole numbers of an argument.
pub(crate) fn integers(args: &[ArrayRef], place: usize) -> &Int64Array {
    args[place].as_primitive::<Int64Type>()
}

/// Floats of an argument.
pub(crate) fn floats(args: &[ArrayRef], place: usize) -> &Float64Array {
    args[place].as_primitive::<Float64Type>()
}

/// Whether a value is NULL; an untyped NULL is.
pub(crate) fn is_null(array: &ArrayRef, row: usize) -> bool {
    array.data_type() == &DataType::Null || array.is_null(row)
}

/// The value of a row that is not NULL.
pub(crate) fn value<T: ArrowPrimitiveType>(args: &[ArrayRef], place: usize, row: usize) -> T::Native {
    args[place].as_primitive::<T>().value(row)
}

/// A strict function: NULL where an argument is NULL, otherwise what `of` makes of the row.
pub(crate) fn strict<T, A: FromIterator<Option<T>> + Array + 'static>(
    args: &[ArrayRef],
    of: impl Fn(usize) -> Result<Option<T>>,
) -> Result<ArrayRef> {
    let rows = args.first().map_or(0, Array::len);
    let known = |row: usize| !args.iter().any(|argument| is_null(argument, row));
    let values = (0..rows).map(|row| if known(row) { of(row) } else { Ok(None) });
    Ok(Arc::new(values.collect::<Result<A>>()?))
}
