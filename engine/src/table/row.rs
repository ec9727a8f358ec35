//! Rows as bytes. The form is frozen: tables on disk have it.
//!
//! A row is a format byte (1) and its columns, each as
//!
//! * its number, shifted left by one, plus 1 if the value is NULL (LEB128)
//! * unless NULL: the value's length in bytes (LEB128), and the value
//!
//! A column's number belongs to it for ever, whatever happens to its name and place, so that rows outlive
//! `ALTER TABLE`: numbers that the table does not have any more are passed over, and a column that a row does not have
//! was added later and has its value of that time. Numbers, dates and times are little-endian, in as many bytes as Arrow gives them;
//! intervals are months, days, nanoseconds; text and bytes are as they are; a list is its items' count and its items, a struct its
//! fields, each NULL (0) or a length plus one and a value.

mod column;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{self as types, DataType, FieldRef, IntervalUnit};
use arrow::record_batch::RecordBatch;

use self::column::{Appender, appender};
use crate::error::{Error, Result};
use crate::operator::expression::batch;

const FORMAT: u8 = 1;

/// Whether a table can hold columns of this type.
pub(crate) fn can_be_stored(data_type: &DataType) -> bool {
    use DataType as D;
    match data_type {
        D::List(item) => can_be_stored(item.data_type()),
        D::Struct(fields) => fields.iter().all(|field| can_be_stored(field.data_type())),
        D::Utf8 | D::Binary | D::Boolean | D::Interval(IntervalUnit::MonthDayNano) => true,
        D::Interval(_) | D::Float16 | D::Decimal32(..) | D::Decimal64(..) | D::Duration(_) => false,
        other => other.is_primitive(),
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_bytes<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn damaged() -> Error {
    Error::new(crate::error::ErrorKind::External, "a stored row cannot be read: the data directory is damaged")
        .with_hint("restore the data directory from a backup")
}

/// Appends row `row`, whose columns have these numbers.
pub(crate) fn encode(numbers: &[u32], rows: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut scratch = Vec::new();
    out.push(FORMAT);
    for (number, column) in numbers.iter().zip(rows.columns()) {
        let tag = u64::from(*number) << 1;
        if column.is_null(row) {
            put_varint(tag | 1, out);
            continue;
        }
        put_varint(tag, out);
        scratch.clear();
        encode_value(column.as_ref(), row, &mut scratch)?;
        put_varint(scratch.len() as u64, out);
        out.extend_from_slice(&scratch);
    }
    Ok(())
}

/// Appends a value that is not NULL.
pub(crate) fn encode_value(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    use DataType as D;
    match array.data_type() {
        D::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        D::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
        D::Binary => out.extend_from_slice(array.as_binary::<i32>().value(row)),
        D::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<types::IntervalMonthDayNanoType>().value(row);
            out.extend_from_slice(&value.months.to_le_bytes());
            out.extend_from_slice(&value.days.to_le_bytes());
            out.extend_from_slice(&value.nanoseconds.to_le_bytes());
        }
        D::List(_) => {
            let items = array.as_list::<i32>().value(row);
            put_varint(items.len() as u64, out);
            (0..items.len()).try_for_each(|item| encode_part(items.as_ref(), item, out))?;
        }
        D::Struct(_) => {
            let columns = array.as_struct().columns();
            columns.iter().try_for_each(|column| encode_part(column.as_ref(), row, out))?;
        }
        other => match other.primitive_width() {
            Some(width) => {
                let data = array.to_data();
                let from = (data.offset() + row) * width;
                let bytes = data.buffers().first().and_then(|buffer| buffer.as_slice().get(from..from + width));
                out.extend_from_slice(bytes.ok_or_else(|| Error::internal("a value outside of its array"))?);
            }
            None => return Err(Error::internal(format!("a table cannot hold {other}"))),
        },
    }
    Ok(())
}

fn encode_part(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if array.is_null(row) {
        put_varint(0, out);
        return Ok(());
    }
    let mut value = Vec::new();
    encode_value(array, row, &mut value)?;
    put_varint(value.len() as u64 + 1, out);
    out.extend_from_slice(&value);
    Ok(())
}

/// One column of what is decoded.
#[derive(Debug, Clone)]
pub(crate) struct StoredColumn {
    /// Its number.
    pub(crate) number: u32,
    /// Its field.
    pub(crate) field: FieldRef,
    /// What rows have that were written before it was added; `None` is NULL.
    pub(crate) missing: Option<Vec<u8>>,
}

/// Turns stored rows into columns.
pub(crate) struct Decoder {
    columns: Vec<(StoredColumn, Box<dyn Appender>)>,
    schema: types::SchemaRef,
    rows: usize,
    /// For each column, whether the row at hand had it.
    found: Vec<bool>,
}

impl Decoder {
    /// A decoder of these columns, in this order. The schema is theirs, under any names.
    pub(crate) fn new(columns: Vec<StoredColumn>, schema: types::SchemaRef) -> Result<Self> {
        let found = vec![false; columns.len()];
        let columns = columns
            .into_iter()
            .map(|column| appender(column.field.data_type()).map(|appender| (column, appender)))
            .collect::<Result<_>>()?;
        Ok(Self { columns, schema, rows: 0, found })
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a stored row.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        let (&format, rest) = bytes.split_first().ok_or_else(damaged)?;
        if format != FORMAT {
            return Err(damaged());
        }
        bytes = rest;
        self.found.fill(false);
        let mut expected = 0;
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes).ok_or_else(damaged)?;
            let value = match tag & 1 {
                1 => None,
                _ => {
                    let length = take_varint(&mut bytes).ok_or_else(damaged)?;
                    Some(take_bytes(&mut bytes, length).ok_or_else(damaged)?)
                }
            };
            // Rows mostly have their columns in the table's order.
            let number = tag >> 1;
            let is = |column: &(StoredColumn, Box<dyn Appender>)| u64::from(column.0.number) == number;
            let place = match self.columns.get(expected) {
                Some(column) if is(column) => Some(expected),
                _ => self.columns.iter().position(is),
            };
            let Some(place) = place else { continue };
            if std::mem::replace(&mut self.found[place], true) {
                return Err(damaged());
            }
            self.columns[place].1.append(value)?;
            expected = place + 1;
        }
        for (found, (column, appender)) in self.found.iter().zip(&mut self.columns) {
            if !found {
                appender.append(column.missing.as_deref())?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// The rows; the decoder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let columns = self.columns.iter_mut().map(|(_, appender)| appender.finish()).collect::<Result<Vec<_>>>()?;
        batch(&self.schema, columns, std::mem::take(&mut self.rows))
    }
}

#[cfg(test)]
mod tests;
