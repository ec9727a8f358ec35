//! Values made to fit a column's type, as PostgreSQL does it on assignment, with its errors.
//!
//! Text becomes any type, by the type's text form; numbers become other numbers if they fit; times become other times; everything
//! becomes text. Anything else is an error of types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Float32Array, Float64Array, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit};

use crate::error::{Error, ErrorKind, Result};

/// Casts that leave NULL where a value does not fit; [`checked`] finds it.
const CAST: CastOptions<'static> =
    CastOptions { safe: true, format_options: arrow::util::display::FormatOptions::new() };

/// What PostgreSQL calls a type.
pub fn type_name(data_type: &DataType) -> String {
    use DataType as D;
    match data_type {
        D::Boolean => "boolean".into(),
        D::Int8 | D::Int16 | D::UInt8 => "smallint".into(),
        D::Int32 | D::UInt16 => "integer".into(),
        D::Int64 | D::UInt32 => "bigint".into(),
        D::UInt64 | D::Decimal128(..) | D::Decimal256(..) => "numeric".into(),
        D::Float16 | D::Float32 => "real".into(),
        D::Float64 => "double precision".into(),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => "text".into(),
        D::Binary | D::LargeBinary | D::BinaryView => "bytea".into(),
        D::Date32 | D::Date64 => "date".into(),
        D::Time32(_) | D::Time64(_) => "time".into(),
        D::Timestamp(_, None) => "timestamp without time zone".into(),
        D::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        D::Interval(_) | D::Duration(_) => "interval".into(),
        D::List(item) | D::LargeList(item) => format!("{}[]", type_name(item.data_type())),
        D::Struct(_) => "record".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// The type as SQL text that a column can be declared with; `None` if there is none.
pub fn sql_type(data_type: &DataType) -> Option<String> {
    use DataType as D;
    Some(match data_type {
        D::Null => "TEXT".into(),
        D::UInt8 | D::Int8 => "SMALLINT".into(),
        D::Decimal128(precision, scale) if *scale >= 0 => format!("NUMERIC({precision}, {scale})"),
        D::UInt64 => "NUMERIC(20, 0)".into(),
        D::Decimal256(..) | D::Decimal128(..) | D::Struct(_) | D::Map(..) | D::Union(..) => return None,
        D::List(item) => format!("{}[]", sql_type(item.data_type())?),
        D::Timestamp(_, None) => "TIMESTAMP".into(),
        D::Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        other => type_name(other).to_uppercase(),
    })
}

/// The values of `array`, as values of a column of type `to`.
pub fn assign(array: &ArrayRef, to: &DataType, column: &str) -> Result<ArrayRef> {
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    match from {
        DataType::Null => return Ok(arrow::array::new_null_array(to, array.len())),
        DataType::Dictionary(_, values) => {
            let plain = cast_with_options(array, values, &CAST)?;
            return assign(&plain, to, column);
        }
        DataType::Utf8 => return text_input(array.as_string(), to),
        DataType::LargeUtf8 | DataType::Utf8View => {
            let text = cast_with_options(array, &DataType::Utf8, &CAST)?;
            return text_input(text.as_string(), to);
        }
        _ if !assigns(from, to) => {
            return Err(Error::new(
                ErrorKind::DatatypeMismatch,
                format!(
                    "column \"{column}\" is of type {} but expression is of type {}",
                    type_name(to),
                    type_name(from)
                ),
            )
            .with_hint("You will need to rewrite or cast the expression."));
        }
        _ => {}
    }
    let rounded = if to.is_integer() { rounded(array) } else { None };
    let array = rounded.as_ref().unwrap_or(array);
    let cast = cast_with_options(array, to, &CAST)?;
    match unfit(array.as_ref(), cast.as_ref()) {
        None => Ok(cast),
        Some(_) => Err(Error::new(ErrorKind::Data, format!("{} out of range", type_name(to))).with_code("22003")),
    }
}

/// Whether values of one type become another's on assignment.
fn assigns(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let is_time = |of: &DataType| matches!(of, D::Date32 | D::Date64 | D::Timestamp(..));
    match (from, to) {
        (_, D::Utf8) => arrow::compute::can_cast_types(from, to),
        (from, to) if from.is_numeric() && to.is_numeric() => true,
        (from, to) if is_time(from) && is_time(to) => true,
        (D::Time32(_) | D::Time64(_), D::Time32(_) | D::Time64(_)) => true,
        (D::Interval(_) | D::Duration(_), D::Interval(_)) => arrow::compute::can_cast_types(from, to),
        (D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_), D::Binary) => true,
        (D::List(a) | D::LargeList(a) | D::FixedSizeList(a, _), D::List(b)) => {
            a.data_type() == b.data_type() || a.data_type().is_null() || assigns(a.data_type(), b.data_type())
        }
        (D::Struct(a), D::Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.data_type() == b.data_type() || assigns(a.data_type(), b.data_type()))
        }
        _ => false,
    }
}

/// Floats are rounded to integers, halves to the even one.
fn rounded(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Float32 => {
            let rounded: Float32Array = array.as_primitive::<Float32Type>().unary(f32::round_ties_even);
            Some(Arc::new(rounded))
        }
        DataType::Float64 => {
            let rounded: Float64Array = array.as_primitive::<Float64Type>().unary(f64::round_ties_even);
            Some(Arc::new(rounded))
        }
        _ => None,
    }
}

/// The first value that became NULL.
fn unfit(from: &dyn Array, to: &dyn Array) -> Option<usize> {
    if from.null_count() == to.null_count() {
        return None;
    }
    (0..from.len()).find(|row| to.is_null(*row) && !from.is_null(*row))
}

/// Reads values from their text form.
pub fn text_input(text: &StringArray, to: &DataType) -> Result<ArrayRef> {
    use DataType as D;
    match to {
        D::Utf8 => return Ok(Arc::new(text.clone())),
        D::Boolean => return booleans(text),
        D::Binary => return bytes(text),
        D::List(_) => return lists(text, to),
        D::Struct(_) => {
            return Err(Error::not_supported("a value of type record cannot be read from text"));
        }
        _ => {}
    }
    let trimmed: StringArray = text.iter().map(|value| value.map(str::trim)).collect();
    let trimmed: ArrayRef = Arc::new(trimmed);
    let cast = cast_with_options(&trimmed, to, &CAST).map_err(Error::from)?;
    match unfit(text, cast.as_ref()) {
        None => Ok(cast),
        Some(row) => Err(bad_text(to, text.value(row))),
    }
}

fn bad_text(to: &DataType, value: &str) -> Error {
    let name = type_name(to);
    let is_number = value.trim().parse::<f64>().is_ok();
    if (to.is_integer() && value.trim().parse::<i128>().is_ok())
        || (matches!(to, DataType::Decimal128(..)) && is_number)
    {
        return Error::new(ErrorKind::Data, format!("value \"{value}\" is out of range for type {name}"))
            .with_code("22003");
    }
    let is_time = matches!(
        to,
        DataType::Date32
            | DataType::Date64
            | DataType::Timestamp(..)
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Interval(_)
    );
    let code = if is_time { "22007" } else { "22P02" };
    let name = match to {
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp".to_owned(),
        _ => name,
    };
    Error::new(ErrorKind::Data, format!("invalid input syntax for type {name}: \"{value}\"")).with_code(code)
}

/// PostgreSQL takes every beginning of these words that says which one it is.
fn booleans(text: &StringArray) -> Result<ArrayRef> {
    let mut builder = BooleanBuilder::with_capacity(text.len());
    for value in text {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        let word = value.trim().to_ascii_lowercase();
        let begins = |of: &str, least: usize| word.len() >= least && of.starts_with(&word);
        if word == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
            builder.append_value(true);
        } else if word == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
            builder.append_value(false);
        } else {
            return Err(bad_text(&DataType::Boolean, value));
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// `\x` and hexadecimal digits, or the characters with `\\` for a backslash and `\ooo` for any byte.
fn bytes(text: &StringArray) -> Result<ArrayRef> {
    let mut builder = BinaryBuilder::new();
    for value in text {
        match value {
            None => builder.append_null(),
            Some(value) => builder.append_value(bytea(value).ok_or_else(|| bad_text(&DataType::Binary, value))?),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn bytea(value: &str) -> Option<Vec<u8>> {
    if let Some(digits) = value.strip_prefix("\\x") {
        let digits: Vec<u32> =
            digits.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        return Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect());
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
        } else if rest.first() == Some(&b'\\') {
            out.push(b'\\');
            rest = &rest[1..];
        } else {
            let (digits, after) = rest.split_at_checked(3)?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()?);
            rest = after;
        }
    }
    Some(out)
}

/// `{a,"b c",NULL}`, nested ones for lists of lists.
fn lists(text: &StringArray, to: &DataType) -> Result<ArrayRef> {
    let DataType::List(field) = to else { return Err(Error::internal("a list is wanted")) };
    let (mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for value in text {
        valid.push(value.is_some());
        let before = items.len();
        if let Some(value) = value {
            let bad =
                || Error::new(ErrorKind::Data, format!("malformed array literal: \"{value}\"")).with_code("22P02");
            items.extend(list_items(value.trim()).ok_or_else(bad)?);
        }
        lengths.push(items.len() - before);
    }
    let items = text_input(&StringArray::from(items), field.data_type())?;
    let nulls = arrow::buffer::NullBuffer::from(valid);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(arrow::array::ListArray::try_new(Arc::clone(field), offsets, items, Some(nulls))?))
}

fn list_items(value: &str) -> Option<Vec<Option<String>>> {
    let inside = value.strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inside.trim().is_empty() {
        return Some(items);
    }
    let (mut item, mut quoted, mut in_quotes, mut depth) = (String::new(), false, false, 0_u32);
    let mut characters = inside.chars();
    loop {
        let next = characters.next();
        match next {
            Some('\\') if depth == 0 => item.push(characters.next()?),
            Some('"') if depth == 0 => {
                if !quoted {
                    // Blanks before the quote are none of the item's.
                    item.clear();
                }
                in_quotes = !in_quotes;
                quoted = true;
            }
            Some(',') | None if !in_quotes && depth == 0 => {
                let word = if quoted { item.clone() } else { item.trim().to_owned() };
                if word.is_empty() && !quoted {
                    return None;
                }
                items.push((quoted || !word.eq_ignore_ascii_case("null")).then_some(word));
                item.clear();
                quoted = false;
                if next.is_none() {
                    return Some(items);
                }
            }
            None => return None,
            Some(other) => {
                if !in_quotes && other == '{' {
                    depth += 1;
                } else if !in_quotes && other == '}' {
                    depth = depth.checked_sub(1)?;
                }
                if !(quoted && !in_quotes && other.is_whitespace()) {
                    item.push(other);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int32Array, Int64Array};
    use arrow::datatypes::Field;

    use super::*;

    fn input(value: &str, to: &DataType) -> Result<String> {
        let array = text_input(&StringArray::from(vec![Some(value), None]), to)?;
        assert!(array.is_null(1) && array.data_type() == to);
        Ok(arrow::util::display::array_value_to_string(&array, 0)?)
    }

    #[test]
    fn text_is_read_as_postgres_reads_it() {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        let good = [
            (" 42 ", DataType::Int32, "42"),
            ("-1.50", DataType::Decimal128(10, 2), "-1.50"),
            ("yes", DataType::Boolean, "true"),
            ("OFF", DataType::Boolean, "false"),
            ("f", DataType::Boolean, "false"),
            ("2024-02-29", DataType::Date32, "2024-02-29"),
            ("2024-02-29 12:30:00", DataType::Timestamp(TimeUnit::Microsecond, None), "2024-02-29T12:30:00"),
            ("\\x00Ff", DataType::Binary, "00ff"),
            ("a\\\\\\001", DataType::Binary, "615c01"),
            ("{a, \"b,\\\" c\" ,NULL,\"null\",d}", list.clone(), "[a, b,\" c, , null, d]"),
            ("{}", list.clone(), "[]"),
        ];
        for (text, to, expected) in good {
            assert_eq!(input(text, &to).unwrap(), expected, "{text}");
        }
        let bad = [
            ("abc", DataType::Int64, "22P02", "invalid input syntax for type bigint: \"abc\""),
            ("", DataType::Int32, "22P02", "invalid input syntax for type integer: \"\""),
            ("99999999999", DataType::Int32, "22003", "value \"99999999999\" is out of range for type integer"),
            ("o", DataType::Boolean, "22P02", "invalid input syntax for type boolean: \"o\""),
            (
                "soon",
                DataType::Timestamp(TimeUnit::Microsecond, None),
                "22007",
                "invalid input syntax for type timestamp: \"soon\"",
            ),
            ("\\x0", DataType::Binary, "22P02", "invalid input syntax for type bytea: \"\\x0\""),
            ("{a", list, "22P02", "malformed array literal: \"{a\""),
        ];
        for (text, to, code, message) in bad {
            let error = input(text, &to).unwrap_err();
            assert_eq!((error.code(), error.message()), (Some(code), message));
        }
    }

    #[test]
    fn numbers_fit_or_are_refused() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![2.5, 3.5, -0.4]));
        let expected: ArrayRef = Arc::new(Int32Array::from(vec![2, 4, 0]));
        assert_eq!(&assign(&floats, &DataType::Int32, "a").unwrap(), &expected);
        let big: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 40)]));
        let error = assign(&big, &DataType::Int32, "a").unwrap_err();
        assert_eq!((error.code(), error.message()), (Some("22003"), "integer out of range"));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let error = assign(&flags, &DataType::Int32, "a").unwrap_err();
        assert_eq!(error.message(), "column \"a\" is of type integer but expression is of type boolean");
    }
}
