//! Arrow columns as PostgreSQL's values: their types, and their text and binary forms.
//!
//! A batch's columns are first made [canonical](Column::new): one Arrow type for each PostgreSQL type, by Arrow's vectorised
//! casts. Then rows are written value by value, straight into the connection's buffer. What PostgreSQL has no type for
//! (maps, lists of lists, unions) is shown as JSON.
//!
//! arrow-pg's encoders are not used: they panic on nested values that don't fit, write `1.0` and six fractional digits where
//! PostgreSQL writes `1` and none, and know no map.

mod binary;
mod json;
mod text;
mod types;

#[cfg(test)]
mod tests;

use std::str::FromStr;

use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    DurationMicrosecondArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, MapArray, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use pgwire::api::Type;
use rondel_engine::Result;

pub(crate) use types::{is_json, pg_type, type_modifier, type_size};

/// One column of a batch, ready to be written.
pub(crate) struct Column {
    values: Values,
    /// The PostgreSQL type that the client was told.
    pg_type: Type,
}

/// The canonical forms.
enum Values {
    Null,
    Boolean(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal128(Decimal128Array),
    Decimal256(Decimal256Array),
    Text(StringArray),
    Bytes(BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    TimestampTz(TimestampMicrosecondArray, Tz),
    Interval(IntervalMonthDayNanoArray),
    Duration(DurationMicrosecondArray),
    List(ListArray, Box<Column>),
    Struct(StructArray, Vec<(String, Column)>),
    Map(MapArray, Box<(Column, Column)>),
}

impl Column {
    /// The column in canonical form.
    pub(crate) fn new(array: &ArrayRef, field: &Field) -> Result<Self> {
        let array = canonical(array)?;
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(array.as_boolean().clone()),
            DataType::Int16 => Values::Int16(array.as_primitive().clone()),
            DataType::Int32 => Values::Int32(array.as_primitive().clone()),
            DataType::Int64 => Values::Int64(array.as_primitive().clone()),
            DataType::Float32 => Values::Float32(array.as_primitive().clone()),
            DataType::Float64 => Values::Float64(array.as_primitive().clone()),
            DataType::Decimal128(..) => Values::Decimal128(array.as_primitive().clone()),
            DataType::Decimal256(..) => Values::Decimal256(array.as_primitive().clone()),
            DataType::Utf8 => Values::Text(array.as_string().clone()),
            DataType::Binary => Values::Bytes(array.as_binary().clone()),
            DataType::Date32 => Values::Date(array.as_primitive().clone()),
            DataType::Time64(TimeUnit::Microsecond) => Values::Time(array.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Values::Timestamp(array.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
                Values::TimestampTz(array.as_primitive().clone(), Tz::from_str(zone)?)
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => Values::Interval(array.as_primitive().clone()),
            DataType::Duration(TimeUnit::Microsecond) => Values::Duration(array.as_primitive().clone()),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                Values::List(list.clone(), Box::new(Column::new(list.values(), item)?))
            }
            DataType::Struct(fields) => {
                let rows = array.as_struct();
                let columns = rows.columns().iter().zip(fields);
                let columns = columns.map(|(column, field)| Ok((field.name().clone(), Column::new(column, field)?)));
                Values::Struct(rows.clone(), columns.collect::<Result<_>>()?)
            }
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let DataType::Struct(parts) = entries.data_type() else {
                    return Ok(Self { values: Values::Text(displayed(&array)?), pg_type: Type::TEXT });
                };
                let parts = (Column::new(map.keys(), &parts[0])?, Column::new(map.values(), &parts[1])?);
                Values::Map(map.clone(), Box::new(parts))
            }
            _ => Values::Text(displayed(&array)?),
        };
        Ok(Self { values, pg_type: pg_type(field) })
    }

    /// Whether the value of `row` is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        match &self.values {
            Values::Null => true,
            Values::Boolean(array) => array.is_null(row),
            Values::Int16(array) => array.is_null(row),
            Values::Int32(array) => array.is_null(row),
            Values::Int64(array) => array.is_null(row),
            Values::Float32(array) => array.is_null(row),
            Values::Float64(array) => array.is_null(row),
            Values::Decimal128(array) => array.is_null(row),
            Values::Decimal256(array) => array.is_null(row),
            Values::Text(array) => array.is_null(row),
            Values::Bytes(array) => array.is_null(row),
            Values::Date(array) => array.is_null(row),
            Values::Time(array) => array.is_null(row),
            Values::Timestamp(array) | Values::TimestampTz(array, _) => array.is_null(row),
            Values::Interval(array) => array.is_null(row),
            Values::Duration(array) => array.is_null(row),
            Values::List(array, _) => array.is_null(row),
            Values::Struct(array, _) => array.is_null(row),
            Values::Map(array, _) => array.is_null(row),
        }
    }
}

/// Casts to the one Arrow type that stands for the values' PostgreSQL type; nested values are cast when they are unpacked.
fn canonical(array: &ArrayRef) -> Result<ArrayRef> {
    let to = match array.data_type() {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Interval(unit) if *unit != IntervalUnit::MonthDayNano => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::Duration(unit) if *unit != TimeUnit::Microsecond => DataType::Duration(TimeUnit::Microsecond),
        DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(item.clone()),
        DataType::Dictionary(_, value) => {
            let unpacked = cast_with_options(array, value, &STRICT)?;
            return canonical(&unpacked);
        }
        _ => return Ok(ArrayRef::clone(array)),
    };
    Ok(cast_with_options(array, &to, &STRICT)?)
}

/// A value that doesn't fit is an error, not NULL.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// Values of a type that neither PostgreSQL nor JSON knows, in Arrow's own words.
fn displayed(array: &ArrayRef) -> Result<StringArray> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let texts = (0..array.len())
        .map(|row| if array.is_null(row) { Ok(None) } else { Ok(Some(formatter.value(row).try_to_string()?)) });
    Ok(texts.collect::<Result<Vec<_>>>()?.into_iter().collect())
}
