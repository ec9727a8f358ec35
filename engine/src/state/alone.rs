//! Rows that share bytes with no others.
//!
//! Views (`Utf8View`) point to bytes that they share with the rows from which they were taken: a few of them keep all of
//! those in memory, and are written to a file with all of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::error::Result;

/// The rows with the bytes that they show, and no others.
pub(crate) fn alone(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(shown).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

/// As [`alone`], for rows that are only written: columns stay as they are if almost all that they hold is shown.
pub(crate) fn mostly_alone(rows: &RecordBatch) -> Result<RecordBatch> {
    let own = |column: &ArrayRef| if shows_most(column) { Ok(Arc::clone(column)) } else { shown(column) };
    let columns = rows.columns().iter().map(own).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

/// Whether a column of views holds hardly more than its rows show.
fn shows_most(column: &ArrayRef) -> bool {
    let held = |buffers: &[Buffer]| buffers.iter().map(Buffer::len).sum::<usize>();
    let (held, shown) = match column.data_type() {
        DataType::Utf8View => {
            let views = column.as_string_view();
            (held(views.data_buffers()), views.total_buffer_bytes_used())
        }
        DataType::BinaryView => {
            let views = column.as_binary_view();
            (held(views.data_buffers()), views.total_buffer_bytes_used())
        }
        _ => return false,
    };
    held <= shown / 16 * 17
}

fn shown(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        nested if nested.is_nested() => {
            let data = column.to_data();
            let children = data.child_data().iter().map(|child| Ok(shown(&make_array(child.clone()))?.to_data()));
            let children = children.collect::<Result<Vec<_>>>()?;
            make_array(data.into_builder().child_data(children).build()?)
        }
        _ => Arc::clone(column),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListArray, StringViewArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn a_row_takes_its_own_bytes() {
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..1000).map(|n| format!("{n:0100}"))));
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let lists = ListArray::new(item, OffsetBuffer::from_lengths([1; 1000]), Arc::clone(&texts), None);
        let all = RecordBatch::try_from_iter([("t", texts), ("l", Arc::new(lists) as ArrayRef)]).unwrap();
        let one = take(&all, 7);
        assert!(one.column(0).get_array_memory_size() > 100_000, "views share");
        let own = alone(&one).unwrap();
        assert_eq!(own, one);
        assert!(own.get_array_memory_size() < 2_000, "{}", own.get_array_memory_size());
        assert_eq!(mostly_alone(&one).unwrap(), one);
        assert!(mostly_alone(&one).unwrap().get_array_memory_size() < 2_000);
        let buffer = |rows: &RecordBatch| rows.column(0).as_string_view().data_buffers()[0].as_ptr();
        assert_eq!(buffer(&mostly_alone(&own).unwrap()), buffer(&own), "nothing is gained by a copy");
    }

    fn take(rows: &RecordBatch, row: u32) -> RecordBatch {
        arrow::compute::take_record_batch(rows, &arrow::array::UInt32Array::from(vec![row])).unwrap()
    }
}
