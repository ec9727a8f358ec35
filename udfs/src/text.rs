//! PostgreSQL's text form of values: ISO dates, shortest floats, hexadecimal bytes, `{1,2}`.
//!
//! The server writes rows with these, and a cast to TEXT uses them, so that what is shown and what is cast are the same.

use std::fmt::Write;

use arrow::datatypes::IntervalMonthDayNano;
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A float of 64 bits, in the fewest digits that read back as the same number.
pub fn float8(out: &mut impl Write, value: f64) {
    float(out, value, &format!("{value:e}"), 15);
}

/// A float of 32 bits.
pub fn float4(out: &mut impl Write, value: f32) {
    float(out, f64::from(value), &format!("{value:e}"), 6);
}

/// Writing to memory cannot fail, and who asks for these forms writes there.
fn put(out: &mut impl Write, text: &str) {
    let _ = out.write_str(text);
}

fn zeros(out: &mut impl Write, count: usize) {
    (0..count).for_each(|_| put(out, "0"));
}

/// PostgreSQL's layout: plain between 1e-4 and 10^`plain_digits`. `scientific` is Rust's shortest form, such as `-1.25e-7`.
fn float(out: &mut impl Write, value: f64, scientific: &str, plain_digits: i32) {
    if value.is_nan() {
        return put(out, "NaN");
    }
    if value.is_infinite() {
        return put(out, if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= plain_digits {
        let _ = write!(out, "{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
        return;
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if mantissa.starts_with('-') {
        put(out, "-");
    }
    if exponent < 0 {
        put(out, "0.");
        zeros(out, (-exponent - 1) as usize);
        return put(out, &digits);
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        put(out, &digits);
        zeros(out, whole - digits.len());
    } else {
        put(out, &digits[..whole]);
        put(out, ".");
        put(out, &digits[whole..]);
    }
}

/// `\xdeadbeef`.
pub fn bytea(out: &mut impl Write, bytes: &[u8]) {
    put(out, "\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// A date, as days since 1970; one beyond the calendar's range is shown as PostgreSQL shows its own limits.
pub fn date(out: &mut impl Write, days: i32) {
    match DateTime::from_timestamp(i64::from(days) * 86_400, 0).map(|at| at.naive_utc()) {
        Some(at) => {
            calendar_day(out, at);
            era(out, at);
        }
        None => put(out, "infinity"),
    }
}

/// A time of day, in microseconds.
pub fn time(out: &mut impl Write, micros: i64) {
    clock(out, micros / MICROS_PER_SECOND, micros % MICROS_PER_SECOND);
}

/// A timestamp, in microseconds since 1970.
pub fn timestamp(out: &mut impl Write, micros: i64) {
    match DateTime::from_timestamp_micros(micros).map(|at| at.naive_utc()) {
        Some(at) => {
            day_and_clock(out, at);
            era(out, at);
        }
        None => put(out, "infinity"),
    }
}

/// A timestamp in a zone that is `offset` seconds ahead of UTC.
pub fn timestamp_tz(out: &mut impl Write, micros: i64, offset: i32) {
    let local = micros.checked_add(i64::from(offset) * MICROS_PER_SECOND);
    let Some(at) = local.and_then(DateTime::from_timestamp_micros).map(|at| at.naive_utc()) else {
        return put(out, "infinity");
    };
    day_and_clock(out, at);
    let _ = write!(out, "{}{:02}", if offset < 0 { '-' } else { '+' }, offset.abs() / 3600);
    if offset % 3600 != 0 {
        let _ = write!(out, ":{:02}", offset.abs() / 60 % 60);
    }
    if offset % 60 != 0 {
        let _ = write!(out, ":{:02}", offset.abs() % 60);
    }
    era(out, at);
}

fn calendar_day(out: &mut impl Write, at: NaiveDateTime) {
    let year = if at.year() > 0 { at.year() } else { 1 - at.year() };
    let _ = write!(out, "{year:04}-{:02}-{:02}", at.month(), at.day());
}

/// Years before the first are written as PostgreSQL does.
fn era(out: &mut impl Write, at: NaiveDateTime) {
    if at.year() <= 0 {
        put(out, " BC");
    }
}

fn clock(out: &mut impl Write, seconds: i64, micros: i64) {
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros != 0 {
        let fraction = format!("{micros:06}");
        put(out, ".");
        put(out, fraction.trim_end_matches('0'));
    }
}

fn day_and_clock(out: &mut impl Write, at: NaiveDateTime) {
    calendar_day(out, at);
    put(out, " ");
    clock(out, i64::from(at.num_seconds_from_midnight()), i64::from(at.nanosecond() / 1000));
}

/// `1 year 2 mons -3 days +04:05:06.789`: a part that follows a negative one shows its plus sign.
pub fn interval(out: &mut impl Write, value: IntervalMonthDayNano) {
    let (mut is_first, mut after_negative) = (true, false);
    for (count, unit) in [(value.months / 12, "year"), (value.months % 12, "mon"), (value.days, "day")] {
        if count == 0 {
            continue;
        }
        if !is_first {
            put(out, " ");
        }
        let plus = if after_negative && count > 0 { "+" } else { "" };
        let _ = write!(out, "{plus}{count} {unit}{}", if count == 1 { "" } else { "s" });
        (is_first, after_negative) = (false, count < 0);
    }
    let micros = value.nanoseconds / 1000;
    if micros != 0 || is_first {
        if !is_first {
            put(out, " ");
        }
        if micros < 0 {
            put(out, "-");
        } else if after_negative {
            put(out, "+");
        }
        let micros = micros.unsigned_abs();
        clock(out, (micros / MICROS_PER_SECOND as u64) as i64, (micros % MICROS_PER_SECOND as u64) as i64);
    }
}

/// A length of time in microseconds, as the interval that PostgreSQL has for a difference of timestamps: days, then time.
pub fn duration(out: &mut impl Write, micros: i64) {
    let days = i32::try_from(micros / MICROS_PER_DAY).unwrap_or_default();
    interval(out, IntervalMonthDayNano::new(0, days, (micros % MICROS_PER_DAY).saturating_mul(1000)));
}

/// An element of an array, in quotes if its text could be something else.
pub fn element(out: &mut impl Write, text: &str) {
    let quoted = text.is_empty()
        || text.eq_ignore_ascii_case("null")
        || text.chars().any(|character| "{},\"\\".contains(character) || character.is_ascii_whitespace());
    quote(out, text, quoted, "\\");
}

/// A field of a record.
pub fn field(out: &mut impl Write, text: &str) {
    let quoted = text.is_empty()
        || text.chars().any(|character| "(),\"\\".contains(character) || character.is_ascii_whitespace());
    quote(out, text, quoted, "\"");
}

/// Inside quotes a backslash is doubled and a quote is escaped: by a backslash in arrays, by a quote in records.
fn quote(out: &mut impl Write, text: &str, quoted: bool, escape: &str) {
    if !quoted {
        return put(out, text);
    }
    put(out, "\"");
    for character in text.chars() {
        match character {
            '\\' => put(out, "\\"),
            '"' => put(out, escape),
            _ => {}
        }
        let _ = out.write_char(character);
    }
    put(out, "\"");
}
