//! Casts, under the names that PostgreSQL's own cast functions have: `x::int4` is `int4(x)`.
//!
//! Where Arrow's cast does what PostgreSQL does, the function is that cast.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, Float32Type, Float64Type, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result, exec_err};

use crate::declared::{Gives, Kind, Spec, interval, timestamp, timestamp_tz};
use crate::{input, text};

/// A value that doesn't fit is an error, not NULL.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

const ANY: &[&[Kind]] = &[&[Kind::Any]];

/// A cast of anything to a type.
const fn cast(
    name: &'static str,
    usage: &'static str,
    to: fn() -> DataType,
    is_plain: fn(&DataType) -> bool,
    run: fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> Spec {
    Spec { name, usage, doc: "", takes: ANY, repeats: false, gives: Gives::Type(to), is_plain: Some(is_plain), run }
}

pub(crate) static CASTS: &[Spec] = &[
    cast("text", "text(any)", || DataType::Utf8, has_plain_text, |args| Ok(Arc::new(to_text(&args[0])?))),
    cast("bool", "bool(any)", || DataType::Boolean, |from| !is_text(from), |args| to_boolean(&args[0])),
    cast("int2", "int2(any)", || DataType::Int16, is_whole, |args| to_number(&args[0], &DataType::Int16)),
    cast("int4", "int4(any)", || DataType::Int32, is_whole, |args| to_number(&args[0], &DataType::Int32)),
    cast("int8", "int8(any)", || DataType::Int64, is_whole, |args| to_number(&args[0], &DataType::Int64)),
    cast(
        "float4",
        "float4(any)",
        || DataType::Float32,
        DataType::is_numeric,
        |args| to_number(&args[0], &DataType::Float32),
    ),
    cast(
        "float8",
        "float8(any)",
        || DataType::Float64,
        DataType::is_numeric,
        |args| to_number(&args[0], &DataType::Float64),
    ),
    cast(
        "bytea",
        "bytea(any)",
        || DataType::Binary,
        |from| !is_text(from),
        |args| read(&args[0], &DataType::Binary, input::bytea),
    ),
    cast(
        "date",
        "date(any)",
        || DataType::Date32,
        |from| !is_text(from),
        |args| read(&args[0], &DataType::Date32, input::dates),
    ),
    cast("time", "time(any)", time, |from| !is_text(from), |args| read(&args[0], &time(), input::times)),
    cast(
        "timestamp",
        "timestamp(any)",
        timestamp,
        |from| !is_text(from),
        |args| read(&args[0], &timestamp(), input::timestamps),
    ),
    cast(
        "timestamptz",
        "timestamptz(any)",
        timestamp_tz,
        |from| !is_text(from),
        |args| read(&args[0], &timestamp_tz(), input::timestamps_tz),
    ),
    cast(
        "interval",
        "interval(any)",
        interval,
        |from| !is_text(from),
        |args| read(&args[0], &interval(), input::intervals),
    ),
    cast("_text", "_text(any)", || list(DataType::Utf8), |_| false, |args| to_list(&args[0], &DataType::Utf8)),
    cast("_int4", "_int4(any)", || list(DataType::Int32), |_| false, |args| to_list(&args[0], &DataType::Int32)),
    cast("_int8", "_int8(any)", || list(DataType::Int64), |_| false, |args| to_list(&args[0], &DataType::Int64)),
    cast(
        "_float8",
        "_float8(any)",
        || list(DataType::Float64),
        |_| false,
        |args| to_list(&args[0], &DataType::Float64),
    ),
    cast("_bool", "_bool(any)", || list(DataType::Boolean), |_| false, |args| to_list(&args[0], &DataType::Boolean)),
    cast("uuid", "uuid(text)", || DataType::Utf8, |_| false, |args| input::uuids(&as_text(&args[0])?)),
    Spec {
        name: "varchar",
        usage: "varchar(any, length)",
        doc: "",
        takes: &[&[Kind::Any, Kind::Integer]],
        repeats: false,
        gives: Gives::Type(|| DataType::Utf8),
        is_plain: None,
        run: |args| sized(&args[0], &args[1], false),
    },
    Spec {
        name: "bpchar",
        usage: "bpchar(any, length)",
        doc: "",
        takes: &[&[Kind::Any, Kind::Integer]],
        repeats: false,
        gives: Gives::Type(|| DataType::Utf8),
        is_plain: None,
        run: |args| sized(&args[0], &args[1], true),
    },
];

/// Types whose text Arrow writes as PostgreSQL does.
fn has_plain_text(from: &DataType) -> bool {
    is_text(from) || from.is_integer() || from.is_decimal() || matches!(from, DataType::Boolean | DataType::Null)
}

/// Types from which no fraction is lost.
fn is_whole(from: &DataType) -> bool {
    from.is_integer() || matches!(from, DataType::Boolean | DataType::Null)
}

fn time() -> DataType {
    DataType::Time64(TimeUnit::Microsecond)
}

fn list(item: DataType) -> DataType {
    DataType::new_list(item, true)
}

/// Arrow's cast, in which what does not fit is an error.
pub(crate) fn strict(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    cast_with_options(array, to, &STRICT).map_err(Into::into)
}

/// The array as texts, if it is one of them; NULLs are.
pub(crate) fn as_text(array: &ArrayRef) -> Result<StringArray> {
    Ok(strict(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Each value that is not NULL, written by `write`.
fn texts<A: Array>(array: &A, write: impl Fn(&A, usize, &mut String)) -> StringArray {
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 16);
    let mut scratch = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        scratch.clear();
        write(array, row, &mut scratch);
        texts.append_value(&scratch);
    }
    texts.finish()
}

/// A value's text form, as psql shows it; only BOOLEAN's is longer (`true`).
pub(crate) fn to_text(array: &ArrayRef) -> Result<StringArray> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Float64 => texts(array.as_primitive::<Float64Type>(), |array, row, out| text::float8(out, array.value(row))),
        T::Float32 => texts(array.as_primitive::<Float32Type>(), |array, row, out| text::float4(out, array.value(row))),
        T::Date32 => texts(array.as_primitive::<Date32Type>(), |array, row, out| text::date(out, array.value(row))),
        T::Binary => texts(array.as_binary::<i32>(), |array, row, out| text::bytea(out, array.value(row))),
        T::Time64(TimeUnit::Microsecond) => {
            texts(array.as_primitive::<Time64MicrosecondType>(), |array, row, out| text::time(out, array.value(row)))
        }
        T::Timestamp(TimeUnit::Microsecond, None) => {
            texts(array.as_primitive::<TimestampMicrosecondType>(), |array, row, out| {
                text::timestamp(out, array.value(row))
            })
        }
        T::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            texts(array.as_primitive::<TimestampMicrosecondType>(), |array, row, out| {
                text::timestamp_tz(out, array.value(row), 0)
            })
        }
        T::Interval(_) => {
            texts(strict(array, &interval())?.as_primitive::<IntervalMonthDayNanoType>(), |array, row, out| {
                text::interval(out, array.value(row))
            })
        }
        T::Duration(TimeUnit::Microsecond) => {
            texts(array.as_primitive::<DurationMicrosecondType>(), |array, row, out| {
                text::duration(out, array.value(row))
            })
        }
        T::Duration(_) => return to_text(&strict(array, &T::Duration(TimeUnit::Microsecond))?),
        T::Time32(_) | T::Time64(_) => return to_text(&strict(array, &time())?),
        T::Timestamp(_, zone) => return to_text(&strict(array, &T::Timestamp(TimeUnit::Microsecond, zone.clone()))?),
        T::Date64 => return to_text(&strict(array, &T::Date32)?),
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => return to_text(&strict(array, &T::Binary)?),
        T::LargeList(item) | T::FixedSizeList(item, _) => return to_text(&strict(array, &T::List(item.clone()))?),
        T::List(_) => {
            let lists = array.as_list::<i32>();
            let elements = shown(lists.values())?;
            texts(lists, |lists, row, out| {
                let (from, to) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                list_text(&elements, from..to, out);
            })
        }
        T::Struct(_) => {
            let rows = array.as_struct();
            let columns = rows.columns().iter().map(shown).collect::<Result<Vec<_>>>()?;
            texts(rows, |_, row, out| record_text(&columns, row, out))
        }
        T::Dictionary(_, value) => return to_text(&strict(array, value)?),
        T::Map(..) | T::Union(..) => {
            let options = FormatOptions::new();
            let formatter = ArrayFormatter::try_new(array, &options)?;
            texts(array, |_, row, out| {
                let _ = write!(out, "{}", formatter.value(row));
            })
        }
        _ => as_text(array)?,
    })
}

/// The texts of values inside of others, and of those that are shown: BOOLEAN is `t` or `f`.
pub(crate) fn shown(array: &ArrayRef) -> Result<StringArray> {
    match array.data_type() {
        DataType::Boolean => Ok(texts(array.as_boolean(), |array, row, out| {
            out.push(if array.value(row) { 't' } else { 'f' });
        })),
        _ => to_text(array),
    }
}

fn list_text(elements: &StringArray, rows: std::ops::Range<usize>, out: &mut String) {
    out.push('{');
    for row in rows.clone() {
        if row > rows.start {
            out.push(',');
        }
        match elements.is_null(row) {
            true => out.push_str("NULL"),
            false => text::element(out, elements.value(row)),
        }
    }
    out.push('}');
}

fn record_text(columns: &[StringArray], row: usize, out: &mut String) {
    out.push('(');
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        if column.is_valid(row) {
            text::field(out, column.value(row));
        }
    }
    out.push(')');
}

fn to_boolean(array: &ArrayRef) -> Result<ArrayRef> {
    match is_text(array.data_type()) {
        true => input::booleans(&as_text(array)?),
        false => strict(array, &DataType::Boolean),
    }
}

/// A number from another is rounded: a float to the even neighbour when it is half-way, a decimal away from zero.
fn to_number(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let from = array.data_type();
    if is_text(from) {
        return input::numbers(&as_text(array)?, to);
    }
    if to.is_floating() || !(from.is_floating() || from.is_decimal()) {
        return strict(array, to).map_err(|error| out_of_range(error, to));
    }
    let rounded: ArrayRef = match from.is_floating() {
        true => {
            let floats = strict(array, &DataType::Float64)?;
            let rounded = floats.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even);
            Arc::new(rounded) as ArrayRef
        }
        // Arrow rounds a decimal that loses digits.
        false => strict(array, &DataType::Decimal256(76, 0))?,
    };
    check_range(&rounded, to)?;
    strict(&rounded, to).map_err(|error| out_of_range(error, to))
}

/// Arrow's cast of floats saturates or errs by its own words: what does not fit is named here.
fn check_range(rounded: &ArrayRef, to: &DataType) -> Result<()> {
    let Some(floats) = rounded.as_primitive_opt::<Float64Type>() else { return Ok(()) };
    let limit = match to {
        DataType::Int16 => f64::from(i16::MAX) + 1.0,
        DataType::Int32 => f64::from(i32::MAX) + 1.0,
        _ => i64::MAX as f64,
    };
    let fits = |floats: &Float64Array| floats.iter().flatten().all(|value| value >= -limit && value < limit);
    if fits(floats) { Ok(()) } else { exec_err!("{} out of range", input::type_name(to)) }
}

fn out_of_range(error: DataFusionError, to: &DataType) -> DataFusionError {
    let text = error.strip_backtrace();
    if text.contains("Can't cast value") || text.contains("out of range") || text.contains("verflow") {
        return DataFusionError::Execution(format!("{} out of range", input::type_name(to)));
    }
    error
}

/// From text by PostgreSQL's rules, from everything else by Arrow's.
fn read(array: &ArrayRef, to: &DataType, parse: fn(&StringArray) -> Result<ArrayRef>) -> Result<ArrayRef> {
    match is_text(array.data_type()) {
        true => parse(&as_text(array)?),
        false => strict(array, to),
    }
}

fn to_list(array: &ArrayRef, item: &DataType) -> Result<ArrayRef> {
    match array.data_type() {
        from if is_text(from) => input::lists(&as_text(array)?, item),
        DataType::List(_) if is_text(item) => {
            let lists = array.as_list::<i32>();
            let elements: ArrayRef = Arc::new(shown(lists.values())?);
            let field = Arc::new(arrow::datatypes::Field::new_list_field(DataType::Utf8, true));
            let offsets = lists.offsets().clone();
            Ok(Arc::new(arrow::array::ListArray::try_new(field, offsets, elements, lists.nulls().cloned())?))
        }
        _ => strict(array, &list(item.clone())),
    }
}

/// `x::varchar(n)` cuts what is longer; `x::char(n)` also fills up what is shorter.
fn sized(array: &ArrayRef, length: &ArrayRef, fills: bool) -> Result<ArrayRef> {
    let values = to_text(array)?;
    let lengths = length.as_primitive::<arrow::datatypes::Int64Type>();
    let cut = values.iter().zip(lengths).map(|(value, length)| {
        let (value, length) = (value?, usize::try_from(length?).unwrap_or(0));
        let mut cut: String = value.chars().take(length).collect();
        if fills {
            let missing = length.saturating_sub(cut.chars().count());
            cut.extend(std::iter::repeat_n(' ', missing));
        }
        Some(cut)
    });
    Ok(Arc::new(cut.collect::<StringArray>()))
}
