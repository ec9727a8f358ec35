//! Stored values gathered into columns, a kind of appender for each kind of type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, ListArray, PrimitiveBuilder, StringBuilder,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{self as types, DataType, FieldRef, Fields, IntervalMonthDayNano, IntervalUnit, TimeUnit};

use super::{damaged, take_bytes, take_varint};
use crate::error::{Error, Result};

/// Gathers one column.
pub(super) trait Appender: Send {
    /// Adds a value, or NULL.
    fn append(&mut self, value: Option<&[u8]>) -> Result<()>;
    /// The column; the appender is empty afterwards.
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

/// What gathers values of this type.
pub(super) fn appender(data_type: &DataType) -> Result<Box<dyn Appender>> {
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
