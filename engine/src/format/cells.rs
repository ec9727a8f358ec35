//! Values on their way from a text format to columns: checked one by one, gathered, and made arrays at the end of a batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, MapArray, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use crate::error::{Error, Result};

/// A value that fits its column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    /// Integers, days and microseconds.
    Int(i64),
    /// The digits of a decimal.
    Wide(i128),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Cell>),
    Row(Vec<Cell>),
    Map(Vec<(Cell, Cell)>),
}

/// Refuses a column whose type texts can't say; `format` is what it is called.
pub(crate) fn check_type(field: &Field, format: &str) -> Result<()> {
    let fits = match field.data_type() {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::Utf8View
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, _) => true,
        DataType::List(item) => return check_type(item, format),
        DataType::Struct(fields) => return fields.iter().try_for_each(|field| check_type(field, format)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(parts) if matches!(parts.first().map(|key| key.data_type()), Some(DataType::Utf8)) => {
                return parts.iter().try_for_each(|part| check_type(part, format));
            }
            _ => false,
        },
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::not_supported(format!("the column {} of type {} can't be read from {format}", field.name(), field.data_type()))
        .with_hint("BOOLEAN, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE PRECISION, NUMERIC, TEXT, DATE, TIMESTAMP, and arrays and rows of them can"))
}

/// The array of a column.
pub(crate) fn array(cells: &[&Cell], data_type: &DataType) -> Result<ArrayRef> {
    let int = |cell: &&Cell| match cell {
        Cell::Int(value) => Some(*value),
        _ => None,
    };
    let float = |cell: &&Cell| match cell {
        Cell::Float(value) => Some(*value),
        _ => None,
    };
    let text = |cell: &&'_ Cell| -> Option<String> {
        match cell {
            Cell::Text(value) => Some(value.clone()),
            _ => None,
        }
    };
    Ok(match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from_iter(cells.iter().map(|cell| match cell {
            Cell::Bool(value) => Some(*value),
            _ => None,
        }))),
        DataType::Int16 => Arc::new(Int16Array::from_iter(cells.iter().map(|cell| int(cell).map(|v| v as i16)))),
        DataType::Int32 => Arc::new(Int32Array::from_iter(cells.iter().map(|cell| int(cell).map(|v| v as i32)))),
        DataType::Int64 => Arc::new(Int64Array::from_iter(cells.iter().map(int))),
        DataType::Date32 => Arc::new(Date32Array::from_iter(cells.iter().map(|cell| int(cell).map(|v| v as i32)))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let times = TimestampMicrosecondArray::from_iter(cells.iter().map(int));
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        DataType::Float32 => Arc::new(Float32Array::from_iter(cells.iter().map(|cell| float(cell).map(|v| v as f32)))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(cells.iter().map(float))),
        DataType::Decimal128(precision, scale) => {
            let digits = cells.iter().map(|cell| match cell {
                Cell::Wide(value) => Some(*value),
                _ => None,
            });
            Arc::new(Decimal128Array::from_iter(digits).with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter(cells.iter().map(text))),
        DataType::Utf8View => Arc::new(StringViewArray::from_iter(cells.iter().map(text))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(cells.iter().map(|cell| match cell {
            Cell::Bytes(value) => Some(value.as_slice()),
            _ => None,
        }))),
        DataType::List(item) => {
            let lists: Vec<&[Cell]> = cells.iter().map(elements).collect();
            let values: Vec<&Cell> = lists.iter().flat_map(|list| list.iter()).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, array(&values, item.data_type())?, nulls(cells))?)
        }
        DataType::Struct(fields) => Arc::new(rows(cells, fields)?),
        DataType::Map(entries, _) => {
            let DataType::Struct(parts) = entries.data_type() else {
                return Err(Error::internal("the entries of a map are no rows"));
            };
            let maps: Vec<&[(Cell, Cell)]> = cells.iter().map(pairs).collect();
            let offsets = OffsetBuffer::from_lengths(maps.iter().map(|map| map.len()));
            let keys: Vec<&Cell> = maps.iter().flat_map(|map| map.iter().map(|(key, _)| key)).collect();
            let values: Vec<&Cell> = maps.iter().flat_map(|map| map.iter().map(|(_, value)| value)).collect();
            let columns = vec![array(&keys, parts[0].data_type())?, array(&values, parts[1].data_type())?];
            let entry = StructArray::try_new(parts.clone(), columns, None)?;
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, entry, nulls(cells), false)?)
        }
        other => return Err(Error::internal(format!("a value of type {other} can't be read from a text"))),
    })
}

fn rows(cells: &[&Cell], fields: &Fields) -> Result<StructArray> {
    let columns = fields.iter().enumerate().map(|(place, field)| {
        let column: Vec<&Cell> = cells
            .iter()
            .map(|cell| match cell {
                Cell::Row(row) => row.get(place).unwrap_or(&Cell::Null),
                _ => &Cell::Null,
            })
            .collect();
        array(&column, field.data_type())
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(StructArray::try_new_with_length(fields.clone(), columns, nulls(cells), cells.len())?)
}

fn nulls(cells: &[&Cell]) -> Option<NullBuffer> {
    let valid: NullBuffer = cells.iter().map(|cell| **cell != Cell::Null).collect();
    (valid.null_count() > 0).then_some(valid)
}

fn elements<'a>(cell: &&'a Cell) -> &'a [Cell] {
    match cell {
        Cell::List(values) => values,
        _ => &[],
    }
}

fn pairs<'a>(cell: &&'a Cell) -> &'a [(Cell, Cell)] {
    match cell {
        Cell::Map(entries) => entries,
        _ => &[],
    }
}

/// Rows of a batch, cell by cell.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The columns of all rows since the last call.
    pub(crate) fn finish(&mut self, fields: &Fields) -> Result<(Vec<ArrayRef>, usize)> {
        let rows = std::mem::take(&mut self.rows);
        let columns = fields.iter().enumerate().map(|(place, field)| {
            let column: Vec<&Cell> = rows.iter().map(|row| row.get(place).unwrap_or(&Cell::Null)).collect();
            array(&column, field.data_type())
        });
        Ok((columns.collect::<Result<_>>()?, rows.len()))
    }
}
