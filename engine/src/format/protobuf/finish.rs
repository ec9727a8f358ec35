//! From the columns of a finished batch to Arrow arrays.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DurationMicrosecondArray, Float32Array, Float64Array,
    Int32Array, Int64Array, ListArray, MapArray, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef, Fields};

use prost_reflect::DescriptorPool;

use super::keys::{Kept, last_of_each_key};
use super::store::{ColumnId, Store};
use super::{any, json};
use crate::error::{Error, Result};
use crate::schema::types::JsonKind;

/// Where a value is NULL.
#[derive(Debug, Clone, Copy)]
pub(super) enum Nulls {
    /// Nowhere.
    Never,
    /// Where this bit column is not set.
    Absent(usize),
    /// Where the value is the default.
    Default,
}

/// How columns of the store become one array.
#[derive(Debug)]
pub(super) enum Output {
    /// A column.
    Column { id: ColumnId, data_type: DataType, nulls: Nulls },
    /// A message.
    Struct { fields: Fields, children: Vec<Output>, nulls: Nulls },
    /// A list.
    List { list: usize, item: FieldRef, child: Box<Output> },
    /// A map.
    Map { list: usize, entries: FieldRef, key: Box<Output>, key_column: ColumnId, value: Box<Output> },
    /// The name of the member of a oneof that is set, by what the word column says.
    Case { column: usize, names: Vec<(i32, String)> },
    /// Bytes of a message that is JSON, as text.
    Json { column: usize, kind: JsonKind, nulls: Nulls },
    /// A field that is not read: NULL.
    Unread(DataType),
    /// What is inside of the `Any` whose `type_url` and `value` are the columns before.
    AnyJson { pool: DescriptorPool },
}

impl Output {
    pub(super) fn map(list: usize, entries: FieldRef, key_and_value: Vec<Output>) -> Result<Self> {
        let mut parts = key_and_value.into_iter();
        match (parts.next(), parts.next()) {
            (Some(key @ Self::Column { id, .. }), Some(value)) => {
                Ok(Self::Map { list, entries, key_column: id, key: Box::new(key), value: Box::new(value) })
            }
            _ => Err(Error::internal("a map's entry is not a scalar key and a value")),
        }
    }

    pub(super) fn with_nulls(mut self, where_null: Nulls) -> Self {
        match &mut self {
            Self::Column { nulls, .. } | Self::Struct { nulls, .. } | Self::Json { nulls, .. } => *nulls = where_null,
            Self::List { .. } | Self::Map { .. } | Self::Case { .. } | Self::Unread(_) | Self::AnyJson { .. } => {}
        }
        self
    }

    /// The array of the first `rows` rows. What lies inside of a NULL message is NULL as well: SQL's field access gives
    /// the inner array without asking the outer one.
    pub(super) fn build(&self, store: &mut Store, rows: usize, outer: Option<&NullBuffer>) -> Result<ArrayRef> {
        match self {
            Self::Column { id, data_type, nulls } => {
                let nulls = where_null(store, rows, *nulls, Some(*id), outer);
                column(store, *id, data_type, rows, nulls)
            }
            Self::Struct { fields, children, nulls } => {
                let nulls = where_null(store, rows, *nulls, None, outer);
                let mut arrays: Vec<ArrayRef> = Vec::with_capacity(children.len());
                for child in children {
                    arrays.push(match child {
                        Self::AnyJson { pool } => any::json(pool, &arrays, nulls.as_ref())?,
                        child => child.build(store, rows, nulls.as_ref())?,
                    });
                }
                let array = StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?;
                Ok(Arc::new(array))
            }
            Self::Case { column, names } => {
                let words = &store.words[*column].values;
                let name = |row: usize| {
                    let case = outer.is_none_or(|outer| outer.is_valid(row)).then(|| words[row])?;
                    names.iter().find(|(place, _)| *place == case).map(|(_, name)| name.as_str())
                };
                Ok(Arc::new((0..rows).map(name).collect::<StringViewArray>()))
            }
            Self::Json { column, kind, nulls } => {
                let nulls = where_null(store, rows, *nulls, None, outer);
                let (offsets, bytes) = store.blobs[*column].finish(rows);
                let messages = BinaryArray::try_new(OffsetBuffer::new(offsets.into()), bytes, nulls)?;
                json::texts(*kind, &messages)
            }
            Self::Unread(data_type) => Ok(new_null_array(data_type, rows)),
            Self::AnyJson { .. } => Err(Error::internal("the contents of an Any are asked for outside of it")),
            Self::List { list, item, child } => {
                let elements = store.tables[store.lists[*list].table].rows;
                let offsets = offsets(store, *list, rows);
                let values = child.build(store, elements, None)?;
                Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, outer.cloned())?))
            }
            Self::Map { list, entries, key, key_column, value } => {
                let elements = store.tables[store.lists[*list].table].rows;
                let offsets = offsets(store, *list, rows);
                // Asked before the columns are given away.
                let last = last_of_each_key(store, *key_column, &offsets);
                let mut columns = vec![key.build(store, elements, None)?, value.build(store, elements, None)?];
                let mut offsets = offsets;
                if let Some(Kept { indices, offsets: fewer }) = last {
                    for column in &mut columns {
                        *column = take(column, &indices, None)?;
                    }
                    offsets = fewer;
                }
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(Error::internal("the entries of a map are no struct"));
                };
                let pairs = StructArray::try_new(fields.clone(), columns, None)?;
                Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, outer.cloned(), false)?))
            }
        }
    }
}

/// Where a value is NULL, itself or for what encloses it. `id` is its column, if it is one.
fn where_null(
    store: &mut Store,
    rows: usize,
    nulls: Nulls,
    id: Option<ColumnId>,
    outer: Option<&NullBuffer>,
) -> Option<NullBuffer> {
    let own = match (nulls, id) {
        (Nulls::Absent(bit), _) => Some(NullBuffer::new(store.bits[bit].finish(rows))),
        (Nulls::Default, Some(id)) => Some((0..rows).map(|row| !store.is_default(id, row)).collect()),
        _ => None,
    };
    NullBuffer::union(own.as_ref(), outer).filter(|nulls| nulls.null_count() > 0)
}

fn offsets(store: &mut Store, list: usize, rows: usize) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(store.lists[list].ends.finish(rows)))
}

fn column(
    store: &mut Store,
    id: ColumnId,
    data_type: &DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    Ok(match (id, data_type) {
        (ColumnId::Word(n), DataType::Int32) => {
            Arc::new(Int32Array::try_new(store.words[n].finish(rows).into(), nulls)?)
        }
        (ColumnId::Word(n), DataType::Float32) => {
            Arc::new(Float32Array::try_new(store.words[n].finish(rows).into(), nulls)?)
        }
        (ColumnId::Long(n), DataType::Int64) => {
            Arc::new(Int64Array::try_new(store.longs[n].finish(rows).into(), nulls)?)
        }
        (ColumnId::Long(n), DataType::Float64) => {
            Arc::new(Float64Array::try_new(store.longs[n].finish(rows).into(), nulls)?)
        }
        (ColumnId::Long(n), DataType::Timestamp(..)) => {
            Arc::new(TimestampMicrosecondArray::try_new(store.longs[n].finish(rows).into(), nulls)?)
        }
        (ColumnId::Long(n), DataType::Duration(_)) => {
            Arc::new(DurationMicrosecondArray::try_new(store.longs[n].finish(rows).into(), nulls)?)
        }
        (ColumnId::Wide(n), DataType::Decimal128(precision, scale)) => {
            let numbers = Decimal128Array::try_new(store.wides[n].finish(rows).into(), nulls)?;
            Arc::new(numbers.with_precision_and_scale(*precision, *scale)?)
        }
        (ColumnId::Bits(n), DataType::Boolean) => Arc::new(BooleanArray::new(store.bits[n].finish(rows), nulls)),
        (ColumnId::Text(n), DataType::Utf8View) => store.texts[n].finish(rows, nulls),
        (ColumnId::Labels(n), DataType::Utf8View) => store.labels[n].finish(rows, nulls),
        (ColumnId::Blob(n), DataType::Binary) => {
            let (offsets, bytes) = store.blobs[n].finish(rows);
            Arc::new(BinaryArray::try_new(OffsetBuffer::new(offsets.into()), bytes, nulls)?)
        }
        (ColumnId::Blob(n), DataType::Utf8) => {
            let (offsets, bytes) = store.blobs[n].finish(rows);
            Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes, nulls)?)
        }
        (id, other) => return Err(Error::internal(format!("column {id:?} can't become {other}"))),
    })
}
