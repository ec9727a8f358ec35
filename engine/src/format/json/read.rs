//! JSON values as values of a column's type.

use arrow::compute::kernels::cast_utils::{Parser, parse_decimal, string_to_datetime};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Fields};
use chrono::Utc;
use serde_json::{Map, Value as Json};

use crate::format::cells::Cell;

/// What a number in a column of time counts, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeNumbers {
    Seconds,
    Millis,
    Micros,
}

impl TimeNumbers {
    fn micros(self, number: i64) -> Option<i64> {
        number.checked_mul(match self {
            Self::Seconds => 1_000_000,
            Self::Millis => 1_000,
            Self::Micros => 1,
        })
    }
}

/// Why a value does not fit, and where.
#[derive(Debug, PartialEq)]
pub(crate) struct Misfit {
    /// Names and places from the outside, joined by dots.
    pub(crate) path: String,
    pub(crate) reason: String,
}

fn misfit(reason: impl Into<String>) -> Misfit {
    Misfit { path: String::new(), reason: reason.into() }
}

impl Misfit {
    fn inside(mut self, name: &str) -> Self {
        self.path = if self.path.is_empty() { name.to_owned() } else { format!("{name}.{}", self.path) };
        self
    }
}

/// The members of an object that are columns, in the columns' order. A member that no column takes is left out.
pub(crate) fn row(object: &Map<String, Json>, fields: &Fields, times: TimeNumbers) -> Result<Vec<Cell>, Misfit> {
    fields
        .iter()
        .map(|field| {
            let value = cell(member(object, field.name()), field.data_type(), times);
            match value.map_err(|misfit| misfit.inside(field.name()))? {
                Cell::Null if !field.is_nullable() => Err(misfit("is NULL or missing").inside(field.name())),
                value => Ok(value),
            }
        })
        .collect()
}

/// The member of that name, or else one that differs in case alone: SQL folds names.
fn member<'a>(object: &'a Map<String, Json>, name: &str) -> &'a Json {
    let alike = || object.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(alike).unwrap_or(&Json::Null)
}

/// One value.
pub(crate) fn cell(value: &Json, data_type: &DataType, times: TimeNumbers) -> Result<Cell, Misfit> {
    if value.is_null() {
        return Ok(Cell::Null);
    }
    match data_type {
        DataType::Boolean => match value {
            Json::Bool(value) => Ok(Cell::Bool(*value)),
            Json::String(text) if text.eq_ignore_ascii_case("true") => Ok(Cell::Bool(true)),
            Json::String(text) if text.eq_ignore_ascii_case("false") => Ok(Cell::Bool(false)),
            other => Err(wrong(other, "a BOOLEAN")),
        },
        DataType::Int16 => integer(value, i16::MIN.into(), i16::MAX.into(), "a SMALLINT"),
        DataType::Int32 => integer(value, i32::MIN.into(), i32::MAX.into(), "an INTEGER"),
        DataType::Int64 => integer(value, i64::MIN, i64::MAX, "a BIGINT"),
        DataType::Float32 | DataType::Float64 => match value {
            Json::Number(number) => number.as_f64().map(Cell::Float).ok_or_else(|| wrong(value, "a number")),
            Json::String(text) => text.trim().parse().map(Cell::Float).map_err(|_| wrong(value, "a number")),
            other => Err(wrong(other, "a number")),
        },
        DataType::Decimal128(precision, scale) => {
            let text = match value {
                Json::Number(number) => number.to_string(),
                Json::String(text) => text.trim().to_owned(),
                other => return Err(wrong(other, "a NUMERIC")),
            };
            let digits = parse_decimal::<Decimal128Type>(&text, *precision, *scale);
            digits.map(Cell::Wide).map_err(|_| wrong(value, &format!("a NUMERIC({precision}, {scale})")))
        }
        DataType::Utf8 | DataType::Utf8View => Ok(Cell::Text(match value {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        })),
        DataType::Date32 => match value {
            Json::Number(_) => integer(value, i32::MIN.into(), i32::MAX.into(), "a DATE"),
            Json::String(text) => {
                let days = Date32Type::parse(text.trim());
                days.map(|days| Cell::Int(days.into())).ok_or_else(|| wrong(value, "a DATE"))
            }
            other => Err(wrong(other, "a DATE")),
        },
        DataType::Timestamp(..) => timestamp(value, times),
        DataType::List(item) => {
            let Json::Array(values) = value else { return Err(wrong(value, "an array")) };
            let cells = values.iter().enumerate().map(|(place, value)| {
                cell(value, item.data_type(), times).map_err(|misfit| misfit.inside(&(place + 1).to_string()))
            });
            cells.collect::<Result<_, _>>().map(Cell::List)
        }
        DataType::Struct(fields) => match value {
            Json::Object(object) => row(object, fields, times).map(Cell::Row),
            other => Err(wrong(other, "an object")),
        },
        DataType::Map(entries, _) => match (value, entries.data_type()) {
            (Json::Object(object), DataType::Struct(parts)) => {
                let pairs = object.iter().map(|(key, value)| {
                    let value = cell(value, parts[1].data_type(), times).map_err(|misfit| misfit.inside(key))?;
                    Ok((Cell::Text(key.clone()), value))
                });
                pairs.collect::<Result<_, _>>().map(Cell::Map)
            }
            (other, _) => Err(wrong(other, "an object")),
        },
        other => Err(misfit(format!("has the type {other}, which JSON has no values of"))),
    }
}

fn integer(value: &Json, least: i64, most: i64, wanted: &str) -> Result<Cell, Misfit> {
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9.2e18).then_some(number as i64);
    let number = match value {
        Json::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(Cell::Int(number)),
        _ => Err(wrong(value, wanted)),
    }
}

fn timestamp(value: &Json, times: TimeNumbers) -> Result<Cell, Misfit> {
    let micros = match value {
        Json::Number(number) => number.as_i64().and_then(|number| times.micros(number)),
        Json::String(text) => string_to_datetime(&Utc, text.trim()).ok().map(|time| time.timestamp_micros()),
        _ => None,
    };
    micros.map(Cell::Int).ok_or_else(|| wrong(value, "a TIMESTAMP"))
}

fn wrong(value: &Json, wanted: &str) -> Misfit {
    let mut shown = value.to_string();
    if shown.len() > 60 {
        let end = (0..=57).rev().find(|end| shown.is_char_boundary(*end)).unwrap_or(0);
        shown.truncate(end);
        shown.push_str("...");
    }
    misfit(format!("{shown} is not {wanted}"))
}
