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

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanBuilder, ListArray, PrimitiveBuilder,
    StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{self as types, DataType, FieldRef, Fields, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use arrow::record_batch::RecordBatch;

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

/// Gathers one column.
trait Appender: Send {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()>;
    fn finish(&mut self) -> Result<ArrayRef>;
}

struct Primitive<T: ArrowPrimitiveType> {
    builder: PrimitiveBuilder<T>,
    read: fn(&[u8]) -> Option<T::Native>,
}

impl<T: ArrowPrimitiveType> Appender for Primitive<T> {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        match value {
            None => self.builder.append_null(),
            Some(bytes) => self.builder.append_value((self.read)(bytes).ok_or_else(damaged)?),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.builder.finish()))
    }
}

struct Text(StringBuilder);

impl Appender for Text {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        let text = value.map(std::str::from_utf8).transpose().map_err(|_| damaged())?;
        self.0.append_option(text);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Bytes(BinaryBuilder);

impl Appender for Bytes {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.0.append_option(value);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Booleans(BooleanBuilder);

impl Appender for Booleans {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        match value {
            None => self.0.append_null(),
            Some([byte]) => self.0.append_value(*byte != 0),
            Some(_) => return Err(damaged()),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// A value inside of a list or struct.
fn take_part<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    match take_varint(bytes).ok_or_else(damaged)? {
        0 => Ok(None),
        length => take_bytes(bytes, length - 1).map(Some).ok_or_else(damaged),
    }
}

struct List {
    item: FieldRef,
    items: Box<dyn Appender>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Appender for List {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.valid.push(value.is_some());
        let mut length = 0;
        if let Some(mut bytes) = value {
            length = take_varint(&mut bytes).ok_or_else(damaged)?;
            for _ in 0..length {
                self.items.append(take_part(&mut bytes)?)?;
            }
        }
        self.lengths.push(usize::try_from(length).map_err(|_| damaged())?);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        Ok(Arc::new(ListArray::try_new(Arc::clone(&self.item), offsets, self.items.finish()?, Some(nulls))?))
    }
}

struct Struct {
    fields: Fields,
    columns: Vec<Box<dyn Appender>>,
    valid: Vec<bool>,
}

impl Appender for Struct {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.valid.push(value.is_some());
        let mut bytes = value.unwrap_or_default();
        for column in &mut self.columns {
            let part = if value.is_some() { take_part(&mut bytes)? } else { None };
            column.append(part)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let columns = self.columns.iter_mut().map(|column| column.finish()).collect::<Result<Vec<_>>>()?;
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        Ok(Arc::new(StructArray::try_new(self.fields.clone(), columns, Some(nulls))?))
    }
}

macro_rules! primitive {
    ($data_type:expr, $type:ty, $native:ty) => {
        Box::new(Primitive::<$type> {
            builder: PrimitiveBuilder::new().with_data_type($data_type.clone()),
            read: |bytes| bytes.try_into().ok().map(<$native>::from_le_bytes),
        })
    };
}

fn appender(data_type: &DataType) -> Result<Box<dyn Appender>> {
    use DataType as D;
    Ok(match data_type {
        D::Boolean => Box::new(Booleans(BooleanBuilder::new())),
        D::Utf8 => Box::new(Text(StringBuilder::new())),
        D::Binary => Box::new(Bytes(BinaryBuilder::new())),
        D::Int8 => primitive!(data_type, types::Int8Type, i8),
        D::Int16 => primitive!(data_type, types::Int16Type, i16),
        D::Int32 => primitive!(data_type, types::Int32Type, i32),
        D::Int64 => primitive!(data_type, types::Int64Type, i64),
        D::UInt8 => primitive!(data_type, types::UInt8Type, u8),
        D::UInt16 => primitive!(data_type, types::UInt16Type, u16),
        D::UInt32 => primitive!(data_type, types::UInt32Type, u32),
        D::UInt64 => primitive!(data_type, types::UInt64Type, u64),
        D::Float32 => primitive!(data_type, types::Float32Type, f32),
        D::Float64 => primitive!(data_type, types::Float64Type, f64),
        D::Date32 => primitive!(data_type, types::Date32Type, i32),
        D::Date64 => primitive!(data_type, types::Date64Type, i64),
        D::Time32(TimeUnit::Second) => primitive!(data_type, types::Time32SecondType, i32),
        D::Time32(_) => primitive!(data_type, types::Time32MillisecondType, i32),
        D::Time64(TimeUnit::Microsecond) => primitive!(data_type, types::Time64MicrosecondType, i64),
        D::Time64(_) => primitive!(data_type, types::Time64NanosecondType, i64),
        D::Timestamp(TimeUnit::Second, _) => primitive!(data_type, types::TimestampSecondType, i64),
        D::Timestamp(TimeUnit::Millisecond, _) => primitive!(data_type, types::TimestampMillisecondType, i64),
        D::Timestamp(TimeUnit::Microsecond, _) => primitive!(data_type, types::TimestampMicrosecondType, i64),
        D::Timestamp(TimeUnit::Nanosecond, _) => primitive!(data_type, types::TimestampNanosecondType, i64),
        D::Decimal128(..) => primitive!(data_type, types::Decimal128Type, i128),
        D::Decimal256(..) => Box::new(Primitive::<types::Decimal256Type> {
            builder: PrimitiveBuilder::new().with_data_type(data_type.clone()),
            read: |bytes| bytes.try_into().ok().map(types::i256::from_le_bytes),
        }),
        D::Interval(IntervalUnit::MonthDayNano) => Box::new(Primitive::<types::IntervalMonthDayNanoType> {
            builder: PrimitiveBuilder::new(),
            read: |bytes| {
                let (months, rest) = bytes.split_first_chunk()?;
                let (days, rest) = rest.split_first_chunk()?;
                Some(IntervalMonthDayNano {
                    months: i32::from_le_bytes(*months),
                    days: i32::from_le_bytes(*days),
                    nanoseconds: i64::from_le_bytes(rest.try_into().ok()?),
                })
            },
        }),
        D::List(item) => Box::new(List {
            item: Arc::clone(item),
            items: appender(item.data_type())?,
            lengths: Vec::new(),
            valid: Vec::new(),
        }),
        D::Struct(fields) => Box::new(Struct {
            fields: fields.clone(),
            columns: fields.iter().map(|field| appender(field.data_type())).collect::<Result<_>>()?,
            valid: Vec::new(),
        }),
        other => return Err(Error::internal(format!("a table cannot hold {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn sample() -> RecordBatch {
        let tags = ListArray::from_iter_primitive::<types::Int32Type, _, _>([
            Some(vec![Some(1), None, Some(3)]),
            None,
            Some(vec![]),
        ]);
        let place: Fields = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)].into();
        let place = StructArray::new(
            place,
            vec![
                Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
                Arc::new(StringArray::from(vec![Some("a"), None, None])),
            ],
            Some(NullBuffer::from(vec![true, false, true])),
        );
        let interval = IntervalMonthDayNano { months: 1, days: -2, nanoseconds: 3 };
        RecordBatch::try_from_iter_with_nullable([
            ("a", Arc::new(Int64Array::from(vec![Some(-1), None, Some(7)])) as ArrayRef, true),
            ("b", Arc::new(StringArray::from(vec![Some(""), Some("é"), None])), true),
            ("c", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])), true),
            ("d", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None])), true),
            (
                "e",
                Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None, Some(-5)]).with_timezone("+00:00")),
                true,
            ),
            (
                "f",
                Arc::new(
                    Decimal128Array::from(vec![Some(-5), None, Some(1 << 70)])
                        .with_precision_and_scale(38, 10)
                        .unwrap(),
                ),
                true,
            ),
            ("g", Arc::new(tags), true),
            ("h", Arc::new(place), true),
            ("i", Arc::new(IntervalMonthDayNanoArray::from(vec![Some(interval), None, None])), true),
        ])
        .unwrap()
    }

    fn columns(schema: &Schema) -> Vec<StoredColumn> {
        let column = |(number, field): (usize, &FieldRef)| StoredColumn {
            number: number as u32,
            field: Arc::clone(field),
            missing: None,
        };
        schema.fields().iter().enumerate().map(column).collect()
    }

    #[test]
    fn rows_come_back() {
        let rows = sample();
        // A slice has an offset, which must not matter.
        for rows in [rows.clone(), rows.slice(1, 2)] {
            let numbers: Vec<u32> = (0..rows.num_columns() as u32).collect();
            let mut decoder = Decoder::new(columns(&rows.schema()), rows.schema()).unwrap();
            for row in 0..rows.num_rows() {
                let mut bytes = Vec::new();
                encode(&numbers, &rows, row, &mut bytes).unwrap();
                decoder.push(&bytes).unwrap();
            }
            assert_eq!(decoder.rows(), rows.num_rows());
            assert_eq!(decoder.finish().unwrap(), rows);
            assert_eq!(decoder.finish().unwrap().num_rows(), 0);
        }
    }

    #[test]
    fn columns_come_and_go() {
        let rows = sample();
        let mut bytes = Vec::new();
        encode(&(0..rows.num_columns() as u32).collect::<Vec<_>>(), &rows, 0, &mut bytes).unwrap();
        let schema = Arc::new(Schema::new(vec![
            Field::new("new", DataType::Int32, true),
            Field::new("b renamed", DataType::Utf8, true),
            Field::new("new and null", DataType::Utf8, true),
        ]));
        let mut wanted = columns(&schema);
        wanted[0].number = 20;
        wanted[0].missing = Some(9_i32.to_le_bytes().to_vec());
        wanted[2].number = 21;
        let mut decoder = Decoder::new(wanted, schema).unwrap();
        decoder.push(&bytes).unwrap();
        let decoded = decoder.finish().unwrap();
        assert_eq!(decoded.column(0).as_primitive::<types::Int32Type>().value(0), 9);
        assert_eq!(decoded.column(1).as_string::<i32>().value(0), "");
        assert!(decoded.column(2).is_null(0));
    }

    #[test]
    fn the_form_is_frozen() {
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("a", Arc::new(Int64Array::from(vec![-2])) as ArrayRef, true),
            ("b", Arc::new(StringArray::from(vec![None::<&str>])), true),
            (
                "c",
                Arc::new(ListArray::from_iter_primitive::<types::Int32Type, _, _>([Some(vec![Some(1), None])])),
                true,
            ),
        ])
        .unwrap();
        let mut bytes = Vec::new();
        encode(&[1, 2, 200], &rows, 0, &mut bytes).unwrap();
        let expected =
            [&[1][..], &[2, 8, 254, 255, 255, 255, 255, 255, 255, 255], &[5], &[0x90, 3, 7, 2, 5, 1, 0, 0, 0, 0]];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn damage_is_told() {
        let rows = sample();
        let numbers: Vec<u32> = (0..rows.num_columns() as u32).collect();
        let mut bytes = Vec::new();
        encode(&numbers, &rows, 0, &mut bytes).unwrap();
        for length in 0..bytes.len() {
            let mut decoder = Decoder::new(columns(&rows.schema()), rows.schema()).unwrap();
            // Cut at the end of a column it is a row of fewer columns; nothing panics anywhere.
            if let Err(error) = decoder.push(&bytes[..length]) {
                assert!(error.message().contains("damaged"), "{error}");
            }
        }
    }
}
