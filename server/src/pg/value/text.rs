//! PostgreSQL's text form of values, as `psql` shows them: ISO dates, shortest floats, hexadecimal bytes.

use std::fmt::Write as _;

use arrow::array::timezone::Tz;
use arrow::datatypes::{Decimal128Type, Decimal256Type, DecimalType, IntervalMonthDayNano};
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeZone, Timelike};

use super::{Column, Values, is_json};

const MICROS_PER_SECOND: i64 = 1_000_000;

impl Column {
    /// Appends the text of a value that is not NULL.
    pub(crate) fn write_text(&self, row: usize, out: &mut BytesMut) {
        if is_json(&self.pg_type) {
            return self.write_json(row, out);
        }
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.put_u8(if array.value(row) { b't' } else { b'f' }),
            Values::Int16(array) => display(out, array.value(row)),
            // Object ids are unsigned, and so is what an Int32 column of them holds.
            Values::Int32(array) if self.pg_type == pgwire::api::Type::OID => display(out, array.value(row) as u32),
            Values::Int32(array) => display(out, array.value(row)),
            Values::Int64(array) => display(out, array.value(row)),
            Values::Float32(array) => {
                let value = array.value(row);
                float(out, f64::from(value), &format!("{value:e}"), 6);
            }
            Values::Float64(array) => {
                let value = array.value(row);
                float(out, value, &format!("{value:e}"), 15);
            }
            Values::Decimal128(array) => {
                let text = Decimal128Type::format_decimal(array.value(row), array.precision(), array.scale());
                out.put_slice(text.as_bytes());
            }
            Values::Decimal256(array) => {
                let text = Decimal256Type::format_decimal(array.value(row), array.precision(), array.scale());
                out.put_slice(text.as_bytes());
            }
            Values::Text(array) => out.put_slice(array.value(row).as_bytes()),
            Values::Bytes(array) => hexadecimal(out, array.value(row)),
            Values::Date(array) => {
                let at = DateTime::from_timestamp(i64::from(array.value(row)) * 86_400, 0);
                out_of_range(out, at.map(|at| at.naive_utc()), |out, at| {
                    date(out, at);
                    era(out, at);
                });
            }
            Values::Time(array) => {
                let micros = array.value(row);
                time(out, micros / MICROS_PER_SECOND, micros % MICROS_PER_SECOND);
            }
            Values::Timestamp(array) => {
                let at = DateTime::from_timestamp_micros(array.value(row)).map(|at| at.naive_utc());
                out_of_range(out, at, |out, at| {
                    timestamp(out, at);
                    era(out, at);
                });
            }
            Values::TimestampTz(array, zone) => timestamp_tz(out, array.value(row), *zone),
            Values::Interval(array) => interval(out, array.value(row)),
            Values::Duration(array) => {
                let value = array.value(row);
                signed_time(out, value, value < 0);
            }
            Values::List(list, items) => {
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                write_list(out, items, from..to);
            }
            Values::Struct(_, columns) => write_record(out, columns, row),
            Values::Map(..) => self.write_json(row, out),
        }
    }
}

fn display(out: &mut BytesMut, value: impl std::fmt::Display) {
    // Writing to a growing buffer cannot fail.
    let _ = write!(out, "{value}");
}

/// The shortest digits that read back as the same number, in PostgreSQL's layout: plain between 1e-4 and 10^`plain_digits`.
/// `scientific` is Rust's shortest form, such as `-1.25e-7`.
fn float(out: &mut BytesMut, value: f64, scientific: &str, plain_digits: i32) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= plain_digits {
        let _ = write!(out, "{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
        return;
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if mantissa.starts_with('-') {
        out.put_u8(b'-');
    }
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        out.put_slice(digits.as_bytes());
        return;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.put_slice(digits.as_bytes());
        out.put_bytes(b'0', whole - digits.len());
    } else {
        out.put_slice(&digits.as_bytes()[..whole]);
        out.put_u8(b'.');
        out.put_slice(&digits.as_bytes()[whole..]);
    }
}

fn hexadecimal(out: &mut BytesMut, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + bytes.len() * 2);
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_u8(DIGITS[usize::from(byte >> 4)]);
        out.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

/// A time beyond the calendar's range is shown as PostgreSQL shows its own limits.
fn out_of_range(out: &mut BytesMut, at: Option<NaiveDateTime>, write: impl Fn(&mut BytesMut, NaiveDateTime)) {
    match at {
        Some(at) => write(out, at),
        None => out.put_slice(b"infinity"),
    }
}

fn date(out: &mut BytesMut, at: NaiveDateTime) {
    let year = if at.year() > 0 { at.year() } else { 1 - at.year() };
    let _ = write!(out, "{year:04}-{:02}-{:02}", at.month(), at.day());
}

/// Years before the first are written as PostgreSQL does.
fn era(out: &mut BytesMut, at: NaiveDateTime) {
    if at.year() <= 0 {
        out.put_slice(b" BC");
    }
}

fn time(out: &mut BytesMut, seconds: i64, micros: i64) {
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros != 0 {
        let fraction = format!("{micros:06}");
        out.put_u8(b'.');
        out.put_slice(fraction.trim_end_matches('0').as_bytes());
    }
}

fn timestamp(out: &mut BytesMut, at: NaiveDateTime) {
    date(out, at);
    out.put_u8(b' ');
    time(out, i64::from(at.num_seconds_from_midnight()), i64::from(at.nanosecond() / 1000));
}

fn timestamp_tz(out: &mut BytesMut, micros: i64, zone: Tz) {
    let Some(utc) = DateTime::from_timestamp_micros(micros) else { return out.put_slice(b"infinity") };
    let at = zone.from_utc_datetime(&utc.naive_utc());
    timestamp(out, at.naive_local());
    let offset = at.offset().fix().local_minus_utc();
    let _ = write!(out, "{}{:02}", if offset < 0 { '-' } else { '+' }, offset.abs() / 3600);
    if offset % 3600 != 0 {
        let _ = write!(out, ":{:02}", offset.abs() / 60 % 60);
    }
    if offset % 60 != 0 {
        let _ = write!(out, ":{:02}", offset.abs() % 60);
    }
    era(out, at.naive_local());
}

/// `1 year 2 mons -3 days +04:05:06.789`: a part that follows a negative one shows its plus sign.
fn interval(out: &mut BytesMut, value: IntervalMonthDayNano) {
    let start = out.len();
    let mut after_negative = false;
    for (count, unit) in [(value.months / 12, "year"), (value.months % 12, "mon"), (value.days, "day")] {
        if count == 0 {
            continue;
        }
        if out.len() > start {
            out.put_u8(b' ');
        }
        let plus = if after_negative && count > 0 { "+" } else { "" };
        let _ = write!(out, "{plus}{count} {unit}{}", if count == 1 { "" } else { "s" });
        after_negative = count < 0;
    }
    let micros = value.nanoseconds / 1000;
    if micros != 0 || out.len() == start {
        if out.len() > start {
            out.put_u8(b' ');
        }
        if after_negative && micros >= 0 {
            out.put_u8(b'+');
        }
        signed_time(out, micros, micros < 0);
    }
}

fn signed_time(out: &mut BytesMut, micros: i64, negative: bool) {
    if negative {
        out.put_u8(b'-');
    }
    let micros = micros.unsigned_abs();
    time(out, (micros / MICROS_PER_SECOND as u64) as i64, (micros % MICROS_PER_SECOND as u64) as i64);
}

fn write_list(out: &mut BytesMut, items: &Column, rows: std::ops::Range<usize>) {
    out.put_u8(b'{');
    let mut scratch = BytesMut::new();
    for row in rows.clone() {
        if row > rows.start {
            out.put_u8(b',');
        }
        if items.is_null(row) {
            out.put_slice(b"NULL");
            continue;
        }
        scratch.clear();
        items.write_text(row, &mut scratch);
        let quoted = scratch.is_empty()
            || scratch.eq_ignore_ascii_case(b"null")
            || scratch.iter().any(|byte| b"{},\"\\".contains(byte) || byte.is_ascii_whitespace());
        put_quoted(out, &scratch, quoted, b'\\');
    }
    out.put_u8(b'}');
}

fn write_record(out: &mut BytesMut, columns: &[(String, Column)], row: usize) {
    out.put_u8(b'(');
    let mut scratch = BytesMut::new();
    for (at, (_, column)) in columns.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        if column.is_null(row) {
            continue;
        }
        scratch.clear();
        column.write_text(row, &mut scratch);
        let quoted =
            scratch.is_empty() || scratch.iter().any(|byte| b"(),\"\\".contains(byte) || byte.is_ascii_whitespace());
        put_quoted(out, &scratch, quoted, b'"');
    }
    out.put_u8(b')');
}

/// Inside quotes a backslash is doubled and a quote is escaped: by a backslash in arrays, by a quote in records.
fn put_quoted(out: &mut BytesMut, text: &[u8], quoted: bool, quote_escape: u8) {
    if !quoted {
        return out.put_slice(text);
    }
    out.put_u8(b'"');
    for byte in text {
        match byte {
            b'\\' => out.put_u8(b'\\'),
            b'"' => out.put_u8(quote_escape),
            _ => {}
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}
