//! A batch's columns as arrays of exactly the types that are written, all values checked.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanBufferBuilder, StructArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use prost_reflect::Kind;

use super::super::{json, wire};
use super::plan::{Content, Ending, FieldShape, MessageShape, ValueShape};
use super::range::{all_within, integers, is_live};
use super::word::Tag;
use super::write::{Column, Fields, Values};
use crate::error::{Error, ErrorKind, Result};

/// The columns of a message, bound. `live` are the rows in which the message is there.
pub(super) fn bind_message(
    shape: &MessageShape,
    arrays: &[ArrayRef],
    rows: usize,
    live: Option<&NullBuffer>,
) -> Result<Fields> {
    let mut columns = Vec::with_capacity(shape.fields.len());
    for field in &shape.fields {
        if let Content::Gathered(inner, ending) = &field.content {
            columns.push(gather(field, inner, *ending, arrays, rows, live)?);
            continue;
        }
        let array = arrays
            .get(field.column)
            .ok_or_else(|| Error::internal(format!("the batch has no column for {}", field.path)))?;
        columns.push(bind_field(field, array, live)?);
    }
    for members in shape.oneofs.iter().filter(|members| overlap(members, &columns, rows)) {
        for row in (0..rows).filter(|row| is_live(live, *row)) {
            let mut set = members.iter().filter(|place| columns[**place].is_present(row));
            if let (Some(one), Some(other)) = (set.next(), set.next()) {
                let (one, other) = (&shape.fields[*one].path, &shape.fields[*other].path);
                let text = format!("the columns {one} and {other} are of one oneof, and a row has values for both");
                let hint = format!("make one of them NULL: CASE WHEN {one} IS NULL THEN {other} END AS {other}");
                return Err(Error::new(ErrorKind::Data, text).with_hint(hint));
            }
        }
    }
    Ok(Fields(columns))
}

/// Whether any two of these columns have values in one row, also in one that does not count.
fn overlap(members: &[usize], columns: &[Column], rows: usize) -> bool {
    let mut seen = BooleanBuffer::new_unset(rows);
    members.iter().any(|place| {
        let nulls = columns[*place].nulls.as_ref();
        let present = nulls.map_or_else(|| BooleanBuffer::new_set(rows), |nulls| nulls.inner().clone());
        let both = &seen & &present;
        seen = &seen | &present;
        both.has_true()
    })
}

/// A message of columns of their own: there where any of them has a value.
fn gather(
    field: &FieldShape,
    inner: &MessageShape,
    ending: Ending,
    arrays: &[ArrayRef],
    rows: usize,
    outer: Option<&NullBuffer>,
) -> Result<Column> {
    let nulls = absent(inner, arrays, rows).filter(|nulls| nulls.null_count() > 0);
    let missing = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) && is_live(outer, row);
    if field.required && (0..rows).any(missing) {
        let text = format!("all columns of {} are NULL, but its field is required", field.path);
        return Err(Error::new(ErrorKind::Data, text).with_hint("write COALESCE(…), or leave such rows out"));
    }
    let live = NullBuffer::union(nulls.as_ref(), outer);
    let fields = bind_message(inner, arrays, rows, live.as_ref())?;
    let values = match ending {
        Ending::Length => Values::Message(fields),
        Ending::Group(end) => Values::Group(fields, Tag::new(end)),
    };
    Ok(Column::new(Tag::new(field.tag), values, nulls, true))
}

/// Rows in which every column of a gathered message is NULL. `None`: there are none.
fn absent(shape: &MessageShape, arrays: &[ArrayRef], rows: usize) -> Option<NullBuffer> {
    let mut present = BooleanBuffer::new_unset(rows);
    for field in &shape.fields {
        let nulls = match &field.content {
            Content::Gathered(inner, _) => absent(inner, arrays, rows)?,
            _ => arrays.get(field.column)?.logical_nulls()?,
        };
        present = &present | nulls.inner();
    }
    Some(NullBuffer::new(present))
}

fn bind_field(field: &FieldShape, array: &ArrayRef, outer: Option<&NullBuffer>) -> Result<Column> {
    let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    if let (true, Some(nulls)) = (field.required, &nulls)
        && (0..array.len()).any(|row| nulls.is_null(row) && is_live(outer, row))
    {
        let text = format!("the column {} is NULL, but its field is required", field.path);
        return Err(Error::new(ErrorKind::Data, text).with_hint("write COALESCE(…), or leave such rows out"));
    }
    let live = NullBuffer::union(nulls.as_ref(), outer);
    let live = live.as_ref();
    let values = match &field.content {
        _ if array.data_type().is_null() => Values::Bool(BooleanBuffer::new_unset(array.len())),
        Content::Gathered(..) => return Err(Error::internal(format!("{} is gathered elsewhere", field.path))),
        Content::One(value) => bind_value(value, array, live, &field.path)?,
        Content::List { item, packed } => {
            let array = match array.data_type() {
                DataType::List(_) => array.clone(),
                DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                    cast(array, &DataType::List(item.clone()))?
                }
                other => return Err(Error::internal(format!("{} changed its type to {other}", field.path))),
            };
            let list = array.as_list::<i32>();
            let used = elements(list.offsets(), list.values().len(), live);
            no_null(list.values(), used.as_ref(), &field.path)?;
            let item = bind_value(item, list.values(), used.as_ref(), &field.path)?;
            let tag = if *packed { Tag::NONE } else { Tag::new(field.tag) };
            let item = Column::new(tag, item, None, true);
            Values::List { offsets: list.offsets().clone(), item: Box::new(item), packed: *packed }
        }
        Content::Map { key, key_tag, value, value_tag } => {
            let map = array.as_map();
            let used = elements(map.offsets(), map.keys().len(), live);
            no_null(map.values(), used.as_ref(), &field.path)?;
            let part = |tag: u32, values: Values| Column::new(Tag::new(tag), values, None, false);
            let key = bind_value(key, map.keys(), used.as_ref(), &field.path)?;
            let value = bind_value(value, map.values(), used.as_ref(), &field.path)?;
            let pair = [part(*key_tag, key), part(*value_tag, value)];
            Values::Map { offsets: map.offsets().clone(), pair: Box::new(pair) }
        }
    };
    Ok(Column::new(Tag::new(field.tag), values, nulls, field.explicit))
}

/// Which elements belong to live rows: a slice of a longer array leaves some out, and so does a NULL list. `None`: all.
fn elements(offsets: &OffsetBuffer<i32>, count: usize, live: Option<&NullBuffer>) -> Option<NullBuffer> {
    let whole = offsets.first() == Some(&0) && offsets.last().is_some_and(|last| *last as usize == count);
    if whole && live.is_none() {
        return None;
    }
    let mut used = BooleanBufferBuilder::new(count);
    used.append_n(count, false);
    for (row, pair) in offsets.windows(2).enumerate() {
        if is_live(live, row) {
            (pair[0]..pair[1]).for_each(|element| used.set_bit(element as usize, true));
        }
    }
    Some(NullBuffer::new(used.finish()))
}

fn no_null(values: &ArrayRef, used: Option<&NullBuffer>, path: &str) -> Result<()> {
    let Some(nulls) = values.logical_nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(()) };
    if (0..values.len()).any(|element| nulls.is_null(element) && is_live(used, element)) {
        let text = format!("the column {path} has a NULL among its elements, which protobuf cannot hold");
        return Err(
            Error::new(ErrorKind::Data, text).with_hint("write array_remove_all(…, NULL), or leave such rows out")
        );
    }
    Ok(())
}

fn bind_value(shape: &ValueShape, array: &ArrayRef, live: Option<&NullBuffer>, path: &str) -> Result<Values> {
    Ok(match shape {
        ValueShape::Scalar(kind) => bind_scalar(kind, array, live, path)?,
        ValueShape::Enum(numbers) => {
            if array.data_type().is_integer() || matches!(array.data_type(), DataType::Decimal128(..)) {
                bind_scalar(&Kind::Int32, array, live, path)?
            } else {
                Values::Int32(numbers.find_all(array, live, path)?)
            }
        }
        ValueShape::Timestamp => {
            let DataType::Timestamp(unit, _) = array.data_type() else {
                return Err(Error::internal(format!("{path} is no timestamp")));
            };
            let ticks = cast(array, &DataType::Timestamp(*unit, None))?;
            let ticks = as_longs(&ticks)?;
            let per_second = per_second(unit);
            let least = -62_135_596_800i64.saturating_mul(per_second);
            let most = 253_402_300_800i64.saturating_mul(per_second);
            let outside = |(row, value): (usize, &i64)| is_live(live, row) && !(least..most).contains(value);
            if !all_within(&ticks, least, most - 1) && ticks.iter().enumerate().any(outside) {
                let text = format!("the column {path} has a timestamp outside of the years 1 to 9999");
                return Err(Error::new(ErrorKind::Data, text));
            }
            Values::Timestamp(ticks, *unit)
        }
        ValueShape::Duration => match array.data_type() {
            DataType::Duration(unit) => Values::Duration(as_longs(array)?, *unit),
            _ => interval(array, live, path)?,
        },
        ValueShape::Json(kind) => {
            let texts = cast(array, &DataType::Utf8View)?;
            let texts = texts.as_string_view();
            let mut messages = BinaryBuilder::with_capacity(texts.len(), 0);
            for row in 0..texts.len() {
                if texts.is_null(row) || !is_live(live, row) {
                    messages.append_value([]);
                    continue;
                }
                let message = json::message(*kind, texts.value(row));
                messages.append_value(
                    message.map_err(|why| {
                        Error::new(ErrorKind::Data, format!("the column {path} has a text that {why}"))
                    })?,
                );
            }
            Values::Bytes(messages.finish())
        }
        ValueShape::Wrapper(kind) => {
            let values = bind_scalar(kind, array, live, path)?;
            let tag = wire::tag(1, scalar_wire_type(kind));
            Values::Wrapper(Box::new(Column::new(Tag::new(tag), values, None, false)))
        }
        ValueShape::Message(message, ending) => {
            let array: &StructArray = array.as_struct();
            let fields = bind_message(message, array.columns(), array.len(), live)?;
            match ending {
                Ending::Length => Values::Message(fields),
                Ending::Group(end) => Values::Group(fields, Tag::new(*end)),
            }
        }
        ValueShape::Raw(ending) => {
            let bytes = cast(array, &DataType::Binary)?;
            let bytes = bytes.as_binary::<i32>().clone();
            for row in (0..bytes.len()).filter(|row| is_live(live, *row)) {
                if let Err(reason) = wire::check_fields(bytes.value(row)) {
                    let text = format!("the column {path} holds bytes that are no message: {reason}");
                    return Err(Error::new(ErrorKind::Data, text));
                }
            }
            match ending {
                Ending::Length => Values::Bytes(bytes),
                Ending::Group(end) => Values::RawGroup(bytes, Tag::new(*end)),
            }
        }
    })
}

fn bind_scalar(kind: &Kind, array: &ArrayRef, live: Option<&NullBuffer>, path: &str) -> Result<Values> {
    let word = || -> Result<ScalarBuffer<i32>> {
        if array.data_type() == &DataType::Int32 {
            return Ok(array.as_primitive::<Int32Type>().values().clone());
        }
        let bounds = (i32::MIN.into(), i32::MAX.into());
        Ok(integers(array, &DataType::Int32, bounds, live, path)?.as_primitive::<Int32Type>().values().clone())
    };
    let long = |bounds: (i128, i128)| -> Result<ScalarBuffer<i64>> {
        if array.data_type() == &DataType::Int64 && bounds.0 < 0 {
            return Ok(array.as_primitive::<Int64Type>().values().clone());
        }
        Ok(integers(array, &DataType::Int64, bounds, live, path)?.as_primitive::<Int64Type>().values().clone())
    };
    let signed = (i64::MIN.into(), i64::MAX.into());
    // What decoding gives is written as it lies there, once it is checked.
    let decimals = || -> Option<ScalarBuffer<i128>> {
        let values = array.as_primitive_opt::<Decimal128Type>()?.values();
        let high = values.iter().fold(0, |high, value| high | (value >> 64) as u64);
        (high == 0 && array.data_type() == &DataType::Decimal128(20, 0)).then(|| values.clone())
    };
    let unsigned = || -> Result<ScalarBuffer<u64>> {
        let bounds = (0, u64::MAX.into());
        Ok(integers(array, &DataType::UInt64, bounds, live, path)?.as_primitive::<UInt64Type>().values().clone())
    };
    Ok(match kind {
        Kind::Int32 => Values::Int32(word()?),
        Kind::Sint32 => Values::Sint32(word()?),
        Kind::Sfixed32 => Values::Bits32(ScalarBuffer::from(word()?.into_inner())),
        Kind::Int64 => Values::Int64(long(signed)?),
        Kind::Sint64 => Values::Sint64(long(signed)?),
        Kind::Sfixed64 => Values::Bits64(ScalarBuffer::from(long(signed)?.into_inner())),
        Kind::Uint32 => Values::Int64(long((0, u32::MAX.into()))?),
        Kind::Fixed32 => Values::Low32(long((0, u32::MAX.into()))?),
        Kind::Uint64 => match decimals() {
            Some(values) => Values::Wide(values),
            None => Values::Uint64(unsigned()?),
        },
        Kind::Fixed64 => match decimals() {
            Some(values) => Values::Low64(values),
            None => Values::Bits64(unsigned()?),
        },
        Kind::Bool => Values::Bool(array.as_boolean().values().clone()),
        Kind::Float => {
            let floats = cast(array, &DataType::Float32)?;
            // The bits of −0.0 are not 0: it is written, as it should be.
            Values::Bits32(ScalarBuffer::from(floats.as_primitive::<Float32Type>().values().inner().clone()))
        }
        Kind::Double => {
            let floats = cast(array, &DataType::Float64)?;
            Values::Bits64(ScalarBuffer::from(floats.as_primitive::<Float64Type>().values().inner().clone()))
        }
        // Offsets and bytes, as keys of maps are: written as bytes are.
        Kind::String if array.data_type() == &DataType::Utf8 => {
            Values::Bytes(BinaryArray::from(array.as_string::<i32>().clone()))
        }
        Kind::String => Values::Text(cast(array, &DataType::Utf8View)?.as_string_view().clone()),
        Kind::Bytes => Values::Bytes(cast(array, &DataType::Binary)?.as_binary::<i32>().clone()),
        Kind::Enum(_) | Kind::Message(_) => return Err(Error::internal(format!("{path} is no scalar"))),
    })
}

fn scalar_wire_type(kind: &Kind) -> u32 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => wire::FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => wire::FIXED32,
        Kind::String | Kind::Bytes | Kind::Message(_) => wire::DELIMITED,
        _ => wire::VARINT,
    }
}

/// The ticks of a timestamp or duration of any unit.
fn as_longs(array: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    let longs = match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            return Ok(array.as_primitive::<TimestampMicrosecondType>().values().clone());
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            return Ok(array.as_primitive::<DurationMicrosecondType>().values().clone());
        }
        _ => cast(array, &DataType::Int64)?,
    };
    Ok(longs.as_primitive::<Int64Type>().values().clone())
}

fn per_second(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// An interval without months is a length of time: days have 24 hours here, as everywhere in UTC.
fn interval(array: &ArrayRef, live: Option<&NullBuffer>, path: &str) -> Result<Values> {
    let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
    let mut ticks = Vec::with_capacity(intervals.len());
    for (row, value) in intervals.values().iter().enumerate() {
        let nanos =
            i64::from(value.days).checked_mul(86_400_000_000_000).and_then(|days| days.checked_add(value.nanoseconds));
        match nanos {
            _ if !is_live(live, row) => ticks.push(0),
            Some(nanos) if value.months == 0 => ticks.push(nanos),
            _ => {
                let what = if value.months == 0 { "is too long" } else { "has months, which have no fixed length" };
                let text = format!("the column {path} has an interval that {what}");
                return Err(Error::new(ErrorKind::Data, text).with_hint("write it in days, hours or smaller units"));
            }
        }
    }
    Ok(Values::Duration(ticks.into(), TimeUnit::Nanosecond))
}
