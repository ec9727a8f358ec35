//! PostgreSQL's text forms, read: what a cast from TEXT accepts.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use chrono::{Datelike, NaiveDate};
use datafusion::common::{DataFusionError, Result, exec_err};

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The name of a type in errors.
pub(crate) fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        _ => "numeric",
    }
}

fn invalid(name: &str, text: &str) -> DataFusionError {
    DataFusionError::Execution(format!("invalid input syntax for type {name}: \"{text}\""))
}

fn field_range(text: &str) -> DataFusionError {
    DataFusionError::Execution(format!("date/time field value out of range: \"{text}\""))
}

/// Each text that is not NULL, read.
fn each<T, A: FromIterator<Option<T>> + Array + 'static>(
    texts: &StringArray,
    read: impl Fn(&str) -> Result<T>,
) -> Result<ArrayRef> {
    let values = texts.iter().map(|text| text.map(&read).transpose());
    Ok(Arc::new(values.collect::<Result<A>>()?))
}

pub(crate) fn booleans(texts: &StringArray) -> Result<ArrayRef> {
    each::<bool, BooleanArray>(texts, boolean)
}

fn boolean(text: &str) -> Result<bool> {
    let word = text.trim().to_ascii_lowercase();
    let begins = |full: &str, least: usize| word.len() >= least && full.starts_with(word.as_str());
    match word.as_str() {
        "1" => Ok(true),
        "0" => Ok(false),
        _ if begins("true", 1) || begins("yes", 1) || word == "on" => Ok(true),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Ok(false),
        _ => Err(invalid("boolean", text)),
    }
}

pub(crate) fn numbers(texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::Int16 => each::<i16, Int16Array>(texts, |text| integer(text, to)),
        DataType::Int32 => each::<i32, Int32Array>(texts, |text| integer(text, to)),
        DataType::Int64 => each::<i64, Int64Array>(texts, |text| integer(text, to)),
        DataType::Float32 => each::<f32, Float32Array>(texts, |text| float(text, to)),
        DataType::Float64 => each::<f64, Float64Array>(texts, |text| float(text, to)),
        other => exec_err!("no number is read as {other}"),
    }
}

fn integer<T: FromStr>(text: &str, to: &DataType) -> Result<T> {
    let digits = text.trim();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    digits.parse().map_err(|_| {
        let plain = digits.strip_prefix('-').unwrap_or(digits);
        match !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit()) {
            true => DataFusionError::Execution(format!("value \"{text}\" is out of range for type {}", type_name(to))),
            false => invalid(type_name(to), text),
        }
    })
}

fn float<T: FromStr>(text: &str, to: &DataType) -> Result<T> {
    let word = text.trim();
    let known = word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        || ["nan", "infinity", "inf"].contains(&word.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str());
    word.parse().ok().filter(|_| known).ok_or_else(|| invalid(type_name(to), text))
}

pub(crate) fn bytea(texts: &StringArray) -> Result<ArrayRef> {
    let values = texts.iter().map(|text| text.map(bytes).transpose()).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>()))
}

/// `\x` and hexadecimal digits, or text with `\\` and `\ooo`.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pairs = digits.chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        return pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| invalid("bytea", text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', after @ ..]) => {
                bytes.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                after
            }
            (b'\\', _) => return Err(invalid("bytea", text)),
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    Ok(bytes)
}

/// Texts of `{1,2,NULL}`, each element read as a list's item.
pub(crate) fn lists(texts: &StringArray, item: &DataType) -> Result<ArrayRef> {
    let mut elements: Vec<Option<String>> = Vec::new();
    let mut lengths = Vec::with_capacity(texts.len());
    for text in texts {
        let before = elements.len();
        if let Some(text) = text {
            list(text, &mut elements)?;
        }
        lengths.push(elements.len() - before);
    }
    let elements: StringArray = elements.into_iter().collect();
    let values: ArrayRef = match item {
        DataType::Utf8 => Arc::new(elements),
        DataType::Boolean => booleans(&elements)?,
        number => numbers(&elements, number)?,
    };
    let field = Arc::new(Field::new_list_field(item.clone(), true));
    let nulls: Option<NullBuffer> = texts.nulls().cloned();
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

fn list(text: &str, elements: &mut Vec<Option<String>>) -> Result<()> {
    let wrong = || DataFusionError::Execution(format!("malformed array literal: \"{text}\""));
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(wrong)?;
    if inner.trim().is_empty() {
        return Ok(());
    }
    let mut characters = inner.chars().peekable();
    loop {
        let mut element = String::new();
        let (mut quoted, mut open) = (false, false);
        loop {
            match characters.next() {
                None if open => return Err(wrong()),
                None => {
                    elements.push(finished(element, quoted).ok_or_else(wrong)?);
                    return Ok(());
                }
                Some('\\') => element.push(characters.next().ok_or_else(wrong)?),
                Some('"') => {
                    open = !open;
                    quoted = true;
                }
                Some(',') if !open => break,
                Some('{' | '}') if !open => return Err(wrong()),
                Some(character) if quoted && !open && character.is_whitespace() => {}
                Some(character) => element.push(character),
            }
        }
        elements.push(finished(element, quoted).ok_or_else(wrong)?);
    }
}

/// An element; `None` inside is NULL, `None` outside a mistake.
fn finished(element: String, quoted: bool) -> Option<Option<String>> {
    if quoted {
        return Some(Some(element));
    }
    let plain = element.trim();
    match plain {
        "" => None,
        _ if plain.eq_ignore_ascii_case("null") => Some(None),
        _ => Some(Some(plain.to_owned())),
    }
}

pub(crate) fn uuids(texts: &StringArray) -> Result<ArrayRef> {
    each::<String, StringArray>(texts, |text| {
        let digits: String = text.chars().filter(|character| !"{}-".contains(*character)).collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid("uuid", text));
        }
        let digits = digits.to_ascii_lowercase();
        Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
    })
}

pub(crate) fn dates(texts: &StringArray) -> Result<ArrayRef> {
    each::<i32, Date32Array>(texts, |text| {
        let moment = moment(text, "date")?;
        i32::try_from(moment.micros.div_euclid(MICROS_PER_DAY)).map_err(|_| field_range(text))
    })
}

pub(crate) fn timestamps(texts: &StringArray) -> Result<ArrayRef> {
    each::<i64, TimestampMicrosecondArray>(texts, |text| Ok(moment(text, "timestamp")?.micros))
}

pub(crate) fn timestamps_tz(texts: &StringArray) -> Result<ArrayRef> {
    let read = texts.iter().map(|text| {
        let moment = text.map(|text| moment(text, "timestamp with time zone")).transpose()?;
        Ok(moment.map(|moment| moment.micros - moment.offset.unwrap_or(0) * MICROS_PER_SECOND))
    });
    Ok(Arc::new(read.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone("+00:00")))
}

pub(crate) fn times(texts: &StringArray) -> Result<ArrayRef> {
    each::<i64, Time64MicrosecondArray>(texts, |text| {
        let (micros, rest) = clock(text.trim(), text)?.ok_or_else(|| invalid("time", text))?;
        if rest.trim().is_empty() { Ok(micros) } else { Err(invalid("time", text)) }
    })
}

/// A moment as it was written, and how many seconds ahead of UTC its zone is.
struct Moment {
    micros: i64,
    offset: Option<i64>,
}

/// Digits at the beginning, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// `2024-01-15`, `20240115`, `epoch`, with a time of day and a zone behind it, `BC` at the end.
fn moment(text: &str, name: &str) -> Result<Moment> {
    let wrong = || invalid(name, text);
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("epoch") {
        return Ok(Moment { micros: 0, offset: None });
    }
    let (trimmed, before_christ) = match trimmed.strip_suffix("BC") {
        Some(rest) => (rest.trim_end(), true),
        None => (trimmed, false),
    };
    let (first, rest) = digits(trimmed);
    let number = |digits: &str| digits.parse::<u32>().map_err(|_| wrong());
    let (year, month, day, rest) = match (first.len(), rest.as_bytes().first()) {
        (8, _) if !rest.starts_with('-') => (number(&first[..4])?, number(&first[4..6])?, number(&first[6..])?, rest),
        (1.., Some(separator @ (b'-' | b'/'))) => {
            let (month, rest) = digits(&rest[1..]);
            let rest = rest.strip_prefix(*separator as char).ok_or_else(wrong)?;
            let (day, rest) = digits(rest);
            match separator {
                // MDY, as datestyle says.
                b'/' if first.len() <= 2 => {
                    let (month, day, year) = (number(first)?, number(month)?, number(day)?);
                    (year, month, day, rest)
                }
                _ => (number(first)?, number(month)?, number(day)?, rest),
            }
        }
        _ => return Err(wrong()),
    };
    let year = i32::try_from(year).map_err(|_| field_range(text))?;
    let year = if before_christ { 1 - year } else { year };
    let days = NaiveDate::from_ymd_opt(year, month, day).ok_or_else(|| field_range(text))?.num_days_from_ce();
    let (time, rest) = match rest.strip_prefix(['T', 't', ' ']).map(str::trim_start) {
        Some(rest) => clock(rest, text)?.unwrap_or((0, rest)),
        None => (0, rest),
    };
    let offset = zone(rest.trim(), text, name)?;
    // Days of the common era, from 1970 on.
    let micros = (i64::from(days) - 719_163) * MICROS_PER_DAY + time;
    Ok(Moment { micros, offset })
}

/// `HH:MM[:SS[.ffffff]] [AM|PM]` at the beginning; nothing if no time stands there.
fn clock<'a>(text: &'a str, whole: &str) -> Result<Option<(i64, &'a str)>> {
    let (hours, rest) = digits(text);
    let Some(rest) = rest.strip_prefix(':').filter(|_| !hours.is_empty()) else { return Ok(None) };
    let (minutes, rest) = digits(rest);
    let (seconds, rest) = rest.strip_prefix(':').map_or(("0", rest), digits);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    let number = |digits: &str| digits.parse::<i64>().map_err(|_| field_range(whole));
    let (mut hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
    let trimmed = rest.trim_start();
    let half = trimmed.get(..2).map(str::to_ascii_uppercase);
    let rest = match half.as_deref() {
        Some("AM" | "PM") => {
            if hours > 12 {
                return Err(field_range(whole));
            }
            hours = hours % 12 + if half.as_deref() == Some("PM") { 12 } else { 0 };
            &trimmed[2..]
        }
        _ => rest,
    };
    if hours > 24 || minutes > 59 || seconds > 60 || (hours == 24 && minutes + seconds > 0) {
        return Err(field_range(whole));
    }
    let micros = format!("{:0<6}", &fraction[..fraction.len().min(6)]);
    let micros = if fraction.is_empty() { 0 } else { number(&micros)? };
    // A seventh digit rounds.
    let more = i64::from(fraction.as_bytes().get(6).is_some_and(|digit| *digit >= b'5'));
    Ok(Some((((hours * 60 + minutes) * 60 + seconds) * MICROS_PER_SECOND + micros + more, rest)))
}

/// `Z`, `UTC`, `+02`, `+02:30`, `-0800`.
fn zone(text: &str, whole: &str, name: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    if ["Z", "UTC", "GMT"].iter().any(|zone| text.eq_ignore_ascii_case(zone)) {
        return Ok(Some(0));
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(invalid(name, whole)),
    };
    let (hours, rest) = digits(rest);
    let (minutes, rest) = rest.strip_prefix(':').map_or(("", rest), digits);
    let (hours, minutes) = if hours.len() == 4 { hours.split_at(2) } else { (hours, minutes) };
    let number = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<i64>() };
    match (number(hours), number(minutes)) {
        (Ok(hours @ 0..=15), Ok(minutes @ 0..=59)) if rest.is_empty() => Ok(Some(sign * (hours * 60 + minutes) * 60)),
        _ => Err(invalid(name, whole)),
    }
}

pub(crate) fn intervals(texts: &StringArray) -> Result<ArrayRef> {
    each::<IntervalMonthDayNano, IntervalMonthDayNanoArray>(texts, interval)
}

/// An interval being read.
#[derive(Default)]
struct Parts {
    months: f64,
    days: f64,
    micros: f64,
}

impl Parts {
    /// A number of a unit; what is left of a month is days, and of a day time.
    fn add(&mut self, count: f64, unit: &str) -> Option<()> {
        let whole_months = |months: f64| (months.trunc(), months.fract() * 30.0);
        let seconds = |count: f64, seconds: f64| count * seconds * MICROS_PER_SECOND as f64;
        let unit = unit.to_ascii_lowercase();
        match unit.as_str() {
            "y" | "yr" | "yrs" | "year" | "years" => self.months += (count * 12.0).round(),
            "mon" | "mons" | "month" | "months" => {
                let (months, days) = whole_months(count);
                self.months += months;
                self.days += days;
            }
            "decade" | "decades" => self.months += count * 120.0,
            "century" | "centuries" => self.months += count * 1200.0,
            "w" | "week" | "weeks" => self.days += count * 7.0,
            "d" | "day" | "days" => self.days += count,
            "h" | "hr" | "hrs" | "hour" | "hours" => self.micros += seconds(count, 3600.0),
            "m" | "min" | "mins" | "minute" | "minutes" => self.micros += seconds(count, 60.0),
            "s" | "sec" | "secs" | "second" | "seconds" | "" => self.micros += seconds(count, 1.0),
            "ms" | "msec" | "millisecond" | "milliseconds" => self.micros += count * 1000.0,
            "us" | "usec" | "microsecond" | "microseconds" => self.micros += count,
            _ => return None,
        }
        Some(())
    }

    fn finished(self) -> Option<IntervalMonthDayNano> {
        let days = self.days.trunc();
        let micros = (self.micros + (self.days - days) * MICROS_PER_DAY as f64).round();
        let fits = |value: f64, limit: f64| value.abs() < limit;
        (fits(self.months, 2_147_483_647.0) && fits(days, 2_147_483_647.0) && fits(micros, 9.2e15))
            .then(|| IntervalMonthDayNano::new(self.months as i32, days as i32, micros as i64 * 1000))
    }
}

/// PostgreSQL's, ISO 8601's and SQL's forms of an interval.
pub(crate) fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let wrong = || invalid("interval", text);
    let parts = match text.trim().strip_prefix('P') {
        Some(iso) => iso_interval(iso),
        None => verbose_interval(text.trim()),
    };
    parts
        .ok_or_else(wrong)?
        .finished()
        .ok_or_else(|| DataFusionError::Execution(format!("interval field value out of range: \"{text}\"")))
}

/// A number with sign and fraction at the beginning, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text
        .char_indices()
        .find(|(at, character)| {
            !(character.is_ascii_digit() || *character == '.' || (*at == 0 && "+-".contains(*character)))
        })
        .map_or(text.len(), |(at, _)| at);
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn iso_interval(mut text: &str) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut in_time = false;
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix('T') {
            (in_time, text) = (true, rest);
            continue;
        }
        let (count, rest) = number(text)?;
        let unit = rest.chars().next()?;
        match (unit, in_time) {
            ('Y', false) => parts.add(count, "year")?,
            ('M', false) => parts.add(count, "month")?,
            ('W', false) => parts.add(count, "week")?,
            ('D', false) => parts.add(count, "day")?,
            ('H', true) => parts.add(count, "hour")?,
            ('M', true) => parts.add(count, "minute")?,
            ('S', true) => parts.add(count, "second")?,
            _ => return None,
        }
        text = &rest[1..];
    }
    Some(parts)
}

fn verbose_interval(text: &str) -> Option<Parts> {
    let mut parts = Parts::default();
    let (text, ago) = match text.strip_suffix("ago") {
        Some(rest) => (rest.trim_end(), true),
        None => (text, false),
    };
    let mut rest = text.trim_start_matches('@').trim_start();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let word_end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let word = &rest[..word_end];
        if word.contains(':') {
            let (negative, clock_text) = match word.strip_prefix('-') {
                Some(after) => (true, after),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let mut fields = clock_text.split(':');
            let hours: f64 = fields.next()?.parse().ok()?;
            let minutes: f64 = fields.next()?.parse().ok()?;
            let seconds: f64 = fields.next().map_or(Some(0.0), |seconds| seconds.parse().ok())?;
            let micros = ((hours * 60.0 + minutes) * 60.0 + seconds) * MICROS_PER_SECOND as f64;
            parts.micros += if negative { -micros } else { micros };
            rest = rest[word_end..].trim_start();
            continue;
        }
        // Years and months of SQL: `1-2`.
        if let Some((years, months)) = word.split_once('-').filter(|(years, _)| !years.is_empty()) {
            let (years, months): (f64, f64) = (years.parse().ok()?, months.parse().ok()?);
            parts.months += years * 12.0 + if years < 0.0 { -months } else { months };
            rest = rest[word_end..].trim_start();
            continue;
        }
        let (count, after) = number(rest)?;
        let after = after.trim_start();
        let unit_end = after.find(|character: char| !character.is_alphabetic()).unwrap_or(after.len());
        parts.add(count, &after[..unit_end])?;
        rest = after[unit_end..].trim_start();
    }
    if ago {
        parts = Parts { months: -parts.months, days: -parts.days, micros: -parts.micros };
    }
    Some(parts)
}
