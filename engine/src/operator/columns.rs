//! What operators that remember rows do to columns: copies that pin nothing, floats in canonical form, equality.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, make_array, make_comparator};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, Float16Type, Float32Type, Float64Type, StringViewType};

use crate::error::Result;

/// A copy of the column whose buffers nobody shares and that hold nothing else.
pub(crate) fn owned(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Utf8View => Ok(Arc::new(column.as_string_view().gc())),
        DataType::BinaryView => Ok(Arc::new(column.as_binary_view().gc())),
        _ => {
            let all = UInt32Array::from_iter_values(0..column.len() as u32);
            compact(&take(column, &all, None)?)
        }
    }
}

/// The column as it can be remembered: shared if its buffers hold little else, copied if they hold rows of others.
pub(crate) fn kept(column: &ArrayRef) -> Result<ArrayRef> {
    let views = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    // Nested columns may hold views, whose buffers are not looked into here.
    let own = if column.data_type().is_nested() { None } else { column.to_data().get_slice_memory_size().ok() };
    let held = column.get_array_memory_size();
    let is_own = own.is_some_and(|own| held <= (own + views) / 4 * 5 + SMALL_BUFFERS);
    if is_own { Ok(Arc::clone(column)) } else { owned(column) }
}

/// The column, copied if it is a view into buffers that are mostly of other rows.
///
/// Views (`Utf8View`) share their bytes when rows are filtered or gathered: fifty rows would pin a whole batch.
pub(crate) fn compact(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Utf8View if is_wasteful::<StringViewType>(column) => Ok(Arc::new(column.as_string_view().gc())),
        DataType::BinaryView if is_wasteful::<BinaryViewType>(column) => Ok(Arc::new(column.as_binary_view().gc())),
        nested if nested.is_nested() && holds_views(nested) => {
            let data = column.to_data();
            let children = data
                .child_data()
                .iter()
                .map(|child| Ok(compact(&make_array(child.clone()))?.to_data()))
                .collect::<Result<Vec<_>>>()?;
            Ok(make_array(data.into_builder().child_data(children).build()?))
        }
        _ => Ok(Arc::clone(column)),
    }
}

fn is_wasteful<T: ByteViewType>(column: &ArrayRef) -> bool {
    let views = column.as_byte_view::<T>();
    let held: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
    held > SMALL_BUFFERS && held > 2 * views.total_buffer_bytes_used()
}

/// Bytes that are not worth a copy.
const SMALL_BUFFERS: usize = 4096;

fn holds_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_views(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_views(field.data_type())),
        _ => false,
    }
}

/// The column with −0 as 0 and every NaN as one NaN; columns without floats as they are.
///
/// Keys are compared in this form, so that equality agrees with hashing whatever bits a float has.
pub(crate) fn canonical(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Float64 => Arc::new(
            column
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|value| if value.is_nan() { f64::NAN } else { value + 0.0 }),
        ),
        DataType::Float32 => Arc::new(
            column
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|value| if value.is_nan() { f32::NAN } else { value + 0.0 }),
        ),
        DataType::Float16 => {
            let wide = arrow::compute::cast(column, &DataType::Float32)?;
            let wide = canonical(&wide)?;
            Arc::new(arrow::compute::cast(&wide, &DataType::Float16)?.as_primitive::<Float16Type>().clone())
        }
        nested if nested.is_nested() && holds_floats(nested) => {
            let data = column.to_data();
            let children = data
                .child_data()
                .iter()
                .map(|child| Ok(canonical(&make_array(child.clone()))?.to_data()))
                .collect::<Result<Vec<_>>>()?;
            make_array(data.into_builder().child_data(children).build()?)
        }
        _ => Arc::clone(column),
    })
}

/// Whether a type has floats in it, so that [`canonical`] may change values.
pub(crate) fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_floats(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        _ => false,
    }
}

/// Row by row, whether two columns of one type hold the same value; NULL is the same as NULL.
pub(crate) fn same(left: &ArrayRef, right: &ArrayRef) -> Result<BooleanArray> {
    let simple = !left.data_type().is_nested() && !matches!(left.data_type(), DataType::RunEndEncoded(..));
    if simple {
        return Ok(not_distinct(left, right)?);
    }
    let compare = make_comparator(left, right, SortOptions::default())?;
    Ok((0..left.len()).map(|row| Some(compare(row, row).is_eq())).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, ListArray, StringViewArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn a_few_views_do_not_pin_the_batch() {
        let long: Vec<String> = (0..1000).map(|n| format!("a string that is longer than a view, number {n}")).collect();
        let all: ArrayRef = Arc::new(StringViewArray::from_iter_values(&long));
        let few = compact(&all.slice(10, 3)).unwrap();
        assert_eq!(few.as_string_view().value(2), long[12]);
        assert!(few.get_array_memory_size() < 1000, "{}", few.get_array_memory_size());
        let copy = owned(&all.slice(0, 2)).unwrap();
        assert!(copy.get_array_memory_size() < 1000);
    }

    #[test]
    fn what_is_remembered_pins_nothing_else() {
        let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..10_000));
        let all = kept(&numbers).unwrap();
        assert_eq!(all.to_data().buffers()[0].as_ptr(), numbers.to_data().buffers()[0].as_ptr(), "shared");
        let few = kept(&numbers.slice(5_000, 100)).unwrap();
        assert!(few.get_array_memory_size() < 2_000, "{}", few.get_array_memory_size());
        assert_eq!(&few, &numbers.slice(5_000, 100));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..1_000).map(|n| format!("{n:0100}"))));
        let few = kept(&texts.slice(0, 500)).unwrap();
        assert!(few.get_array_memory_size() < 70_000, "{}", few.get_array_memory_size());
    }

    #[test]
    fn floats_become_canonical() {
        let odd_nan = f64::from_bits(0x7ff8_0000_0000_0001);
        let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(odd_nan), None, Some(1.5)]));
        let plain: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), Some(f64::NAN), None, Some(1.5)]));
        let canonical = canonical(&column).unwrap();
        assert_eq!(same(&canonical, &plain).unwrap().true_count(), 4);
    }

    #[test]
    fn nested_values_are_compared() {
        let left: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![Some(3)]),
        ]));
        let right: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![Some(4)]),
        ]));
        let same = same(&left, &right).unwrap();
        assert_eq!(same.iter().collect::<Vec<_>>(), [Some(true), Some(true), Some(false)]);
    }
}
