//! Times by patterns.

use std::fmt::Write as _;

use arrow::datatypes::IntervalMonthDayNano;
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::{DataFusionError, Result, exec_err};

use super::words::{Piece, pieces};
use crate::input::{MICROS_PER_DAY, MICROS_PER_SECOND};

/// The fields, a longer one before the one that it begins with.
pub(super) const FIELDS: &[&str] = &[
    "HH24", "HH12", "HH", "MI", "MS", "US", "SSSSS", "SSSS", "SS", "A.M.", "P.M.", "a.m.", "p.m.", "AM", "PM", "am",
    "pm", "Y,YYY", "IYYY", "IYY", "IY", "YYYY", "YYY", "YY", "MONTH", "Month", "month", "MON", "Mon", "mon", "MM",
    "DAY", "Day", "day", "DY", "Dy", "dy", "IDDD", "DDD", "DD", "ID", "IW", "WW", "CC", "TZH", "TZM", "TZ", "OF", "BC",
    "AD", "D", "W", "J", "Q", "Y", "I",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What the fields of a pattern are written from.
struct Clock {
    day: Option<NaiveDate>,
    /// Of an interval: years, months, days.
    parts: (i64, i64, i64),
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

pub(crate) fn write_time(at: NaiveDateTime, pattern: &str) -> Result<String> {
    let day = at.date();
    let parts = (i64::from(day.year()), i64::from(day.month()), i64::from(day.day()));
    let number = i64::from;
    let (hour, minute, second) = (number(at.hour()), number(at.minute()), number(at.second()));
    write(&Clock { day: Some(day), parts, hour, minute, second, micros: number(at.nanosecond() / 1000) }, pattern)
}

pub(crate) fn write_interval(value: IntervalMonthDayNano, pattern: &str) -> Result<String> {
    let micros = value.nanoseconds / 1000;
    let seconds = micros / MICROS_PER_SECOND;
    let months = i64::from(value.months);
    let clock = Clock {
        day: None,
        parts: (months / 12, months % 12, i64::from(value.days)),
        hour: seconds / 3600,
        minute: seconds / 60 % 60,
        second: seconds % 60,
        micros: micros % MICROS_PER_SECOND,
    };
    write(&clock, pattern)
}

fn write(clock: &Clock, pattern: &str) -> Result<String> {
    let mut out = String::new();
    for piece in pieces(pattern) {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::Field { name, plain, ordinal } => {
                let from = out.len();
                field(clock, name, plain, &mut out)?;
                if let Some(upper) = ordinal {
                    let suffix = suffix(&out[from..]);
                    out.push_str(&if upper { suffix.to_uppercase() } else { suffix.to_owned() });
                }
            }
        }
    }
    Ok(out)
}

fn suffix(number: &str) -> &'static str {
    match number.as_bytes() {
        [.., b'1', _] => "th",
        [.., b'1'] => "st",
        [.., b'2'] => "nd",
        [.., b'3'] => "rd",
        _ => "th",
    }
}

/// A number of so many digits, or of those that it needs.
fn padded(out: &mut String, value: i64, width: usize, plain: bool) {
    let width = if plain { 0 } else { width };
    let sign = if value < 0 { "-" } else { "" };
    // Writing to memory does not fail.
    let _ = write!(out, "{sign}{:0width$}", value.abs());
}

/// A name in the case of its field's own name.
fn worded(out: &mut String, word: &str, like: &str, width: usize, plain: bool) {
    let word = match like {
        _ if like.chars().all(char::is_uppercase) => word.to_uppercase(),
        _ if like.chars().all(char::is_lowercase) => word.to_lowercase(),
        _ => word.to_owned(),
    };
    let width = if plain { 0 } else { width };
    let _ = write!(out, "{word:<width$}");
}

fn field(clock: &Clock, name: &str, plain: bool, out: &mut String) -> Result<()> {
    let (year, month, day) = clock.parts;
    let twelve = if clock.hour % 12 == 0 { 12 } else { clock.hour % 12 };
    let seconds = (clock.hour * 60 + clock.minute) * 60 + clock.second;
    match name {
        "HH24" => padded(out, clock.hour, 2, plain),
        "HH12" | "HH" => padded(out, twelve, 2, plain),
        "MI" => padded(out, clock.minute, 2, plain),
        "SS" => padded(out, clock.second, 2, plain),
        "SSSSS" | "SSSS" => padded(out, seconds, 1, plain),
        "MS" => padded(out, clock.micros / 1000, 3, plain),
        "US" => padded(out, clock.micros, 6, plain),
        "AM" | "PM" => out.push_str(if clock.hour % 24 < 12 { "AM" } else { "PM" }),
        "am" | "pm" => out.push_str(if clock.hour % 24 < 12 { "am" } else { "pm" }),
        "A.M." | "P.M." => out.push_str(if clock.hour % 24 < 12 { "A.M." } else { "P.M." }),
        "a.m." | "p.m." => out.push_str(if clock.hour % 24 < 12 { "a.m." } else { "p.m." }),
        "YYYY" => padded(out, if clock.day.is_some() { era_year(year) } else { year }, 4, plain),
        "Y,YYY" => {
            let _ = write!(out, "{},{:03}", era_year(year) / 1000, era_year(year) % 1000);
        }
        "YYY" => padded(out, era_year(year) % 1000, 3, plain),
        "YY" => padded(out, era_year(year) % 100, 2, plain),
        "Y" => padded(out, era_year(year) % 10, 1, plain),
        "MM" => padded(out, month, 2, plain),
        "DD" => padded(out, day, 2, plain),
        "CC" => padded(out, if year > 0 { (year + 99) / 100 } else { year / 100 - 1 }, 2, plain),
        "TZ" => out.push_str("UTC"),
        "TZH" | "OF" => out.push_str("+00"),
        "TZM" => out.push_str("00"),
        _ => {
            let Some(day) = clock.day else {
                return exec_err!("an interval has no {name}: leave it out of the pattern");
            };
            calendar(day, name, plain, out);
        }
    }
    Ok(())
}

/// Years before the first count from it.
fn era_year(year: i64) -> i64 {
    if year > 0 { year } else { 1 - year }
}

fn calendar(day: NaiveDate, name: &str, plain: bool, out: &mut String) {
    let week = day.iso_week();
    let iso_year = i64::from(week.year());
    let of_year = i64::from(day.ordinal());
    match name {
        "MONTH" | "Month" | "month" => worded(out, MONTHS[day.month0() as usize], name, 9, plain),
        "MON" | "Mon" | "mon" => worded(out, &MONTHS[day.month0() as usize][..3], name, 3, plain),
        "DAY" | "Day" | "day" => worded(out, DAYS[day.weekday().num_days_from_sunday() as usize], name, 9, plain),
        "DY" | "Dy" | "dy" => worded(out, &DAYS[day.weekday().num_days_from_sunday() as usize][..3], name, 3, plain),
        "DDD" => padded(out, of_year, 3, plain),
        "IDDD" => {
            let days = i64::from(week.week() - 1) * 7 + i64::from(day.weekday().number_from_monday());
            padded(out, days, 3, plain);
        }
        "D" => padded(out, i64::from(day.weekday().number_from_sunday()), 1, plain),
        "ID" => padded(out, i64::from(day.weekday().number_from_monday()), 1, plain),
        "W" => padded(out, (i64::from(day.day()) - 1) / 7 + 1, 1, plain),
        "WW" => padded(out, (of_year - 1) / 7 + 1, 2, plain),
        "IW" => padded(out, i64::from(week.week()), 2, plain),
        "IYYY" => padded(out, iso_year, 4, plain),
        "IYY" => padded(out, iso_year % 1000, 3, plain),
        "IY" => padded(out, iso_year % 100, 2, plain),
        "I" => padded(out, iso_year % 10, 1, plain),
        "J" => padded(out, i64::from(day.num_days_from_ce()) + 1_721_425, 1, plain),
        "Q" => padded(out, i64::from(day.month0()) / 3 + 1, 1, plain),
        "BC" | "AD" => out.push_str(if day.year() > 0 { "AD" } else { "BC" }),
        _ => {}
    }
}

/// What a text has said of a time.
#[derive(Default)]
struct Read {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    of_year: Option<i64>,
    hour: i64,
    is_afternoon: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    zone: i64,
}

/// Microseconds since 1970 of a text that has the form of the pattern.
pub(crate) fn read_time(text: &str, pattern: &str) -> Result<i64> {
    let pieces = pieces(pattern);
    let mut read = Read::default();
    let mut rest = text.trim_start();
    for (place, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(separator) => {
                // Any separator stands for any other; letters are skipped one for one.
                for wanted in separator.chars() {
                    let next = rest.chars().next();
                    let skip = match next {
                        Some(next) if wanted.is_alphanumeric() => Some(next),
                        Some(next) if !next.is_alphanumeric() && !matches!(next, '+' | '-') => Some(next),
                        Some(next) if next == wanted => Some(next),
                        _ => None,
                    };
                    rest = &rest[skip.map_or(0, char::len_utf8)..];
                }
            }
            Piece::Field { name, .. } => {
                rest = rest.trim_start();
                // A number ends where its field does, if another number follows at once.
                let exact = matches!(pieces.get(place + 1), Some(Piece::Field { .. }));
                rest = read.field(name, rest, exact).ok_or_else(|| {
                    let found: String = rest.chars().take(name.len()).collect();
                    DataFusionError::Execution(format!("invalid value \"{found}\" for \"{name}\""))
                })?;
            }
        }
    }
    read.micros_since_epoch()
        .ok_or_else(|| DataFusionError::Execution(format!("date/time field value out of range: \"{text}\"")))
}

/// A number of at most so many digits at the beginning.
fn number(text: &str, digits: usize) -> Option<(i64, &str)> {
    let end = text.bytes().take(digits).take_while(u8::is_ascii_digit).count();
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The name at the beginning of the text, in any case.
fn name_of<'a>(text: &'a str, names: &[&str], letters: Option<usize>) -> Option<(i64, &'a str)> {
    let found = names.iter().position(|name| {
        let name = letters.map_or(*name, |letters| &name[..letters]);
        text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    })?;
    Some((found as i64 + 1, &text[letters.unwrap_or(names[found].len())..]))
}

impl Read {
    /// Reads a field; what follows it.
    fn field<'a>(&mut self, name: &str, text: &'a str, exact: bool) -> Option<&'a str> {
        let digits = |count: usize| number(text, if exact { count } else { count.max(10) });
        let upper = name.to_ascii_uppercase();
        match upper.as_str() {
            "YYYY" | "IYYY" => {
                let (year, rest) = digits(4)?;
                self.year = Some(year);
                return Some(rest);
            }
            "YYY" | "YY" | "Y" => {
                let (year, rest) = digits(name.len())?;
                // The nearest to 2020.
                self.year = Some(if year < 70 {
                    year + 2000
                } else if year < 1000 {
                    year + 1900
                } else {
                    year
                });
                return Some(rest);
            }
            "MONTH" => {
                let (month, rest) = name_of(text, &MONTHS, None)?;
                self.month = Some(month);
                return Some(rest);
            }
            "MON" => {
                let (month, rest) = name_of(text, &MONTHS, Some(3))?;
                self.month = Some(month);
                return Some(rest);
            }
            "DAY" => return name_of(text, &DAYS, None).map(|(_, rest)| rest),
            "DY" => return name_of(text, &DAYS, Some(3)).map(|(_, rest)| rest),
            "AM" | "PM" | "A.M." | "P.M." => {
                let half = text.get(..name.len())?.to_ascii_uppercase();
                self.is_afternoon = Some(half.starts_with('P'));
                return (half.starts_with('P') || half.starts_with('A')).then(|| &text[name.len()..]);
            }
            "MS" | "US" => {
                // Digits behind the point: `5` is half a second.
                let most = if upper == "MS" { 3 } else { 6 };
                let (value, rest) = number(text, most)?;
                let given = text.len() - rest.len();
                self.micros = value * 10_i64.pow(6 - given as u32);
                return Some(rest);
            }
            "TZH" => {
                let sign = if text.starts_with('-') { -1 } else { 1 };
                let (hours, rest) = number(text.trim_start_matches(['+', '-']), 2)?;
                self.zone += sign * hours * 3600;
                return Some(rest);
            }
            "J" | "Q" | "W" | "WW" | "IW" | "D" | "ID" | "IDDD" | "CC" | "I" | "IY" | "IYY" | "Y,YYY" | "TZ" | "OF" => {
                return None;
            }
            _ => {}
        }
        let width = if upper == "DDD" {
            3
        } else if upper.starts_with("SSSS") {
            5
        } else {
            2
        };
        let (value, rest) = match upper.as_str() {
            "BC" | "AD" => (0, text.get(2..)?),
            _ => number(text, width)?,
        };
        match upper.as_str() {
            "MM" => self.month = Some(value),
            "DD" => self.day = Some(value),
            "DDD" => self.of_year = Some(value),
            "HH24" | "HH12" | "HH" => self.hour = value,
            "MI" => self.minute = value,
            "SS" => self.second = value,
            "SSSS" | "SSSSS" => (self.hour, self.minute, self.second) = (value / 3600, value / 60 % 60, value % 60),
            "TZM" => self.zone += value * 60,
            _ => {}
        }
        Some(rest)
    }

    fn micros_since_epoch(&self) -> Option<i64> {
        let year = i32::try_from(self.year.unwrap_or(1)).ok()?;
        let part = |value: Option<i64>| u32::try_from(value.unwrap_or(1)).ok();
        let day = match self.of_year {
            Some(_) if self.month.is_none() => NaiveDate::from_yo_opt(year, part(self.of_year)?)?,
            _ => NaiveDate::from_ymd_opt(year, part(self.month)?, part(self.day)?)?,
        };
        let hour = match self.is_afternoon {
            Some(afternoon) => self.hour % 12 + if afternoon { 12 } else { 0 },
            None => self.hour,
        };
        if hour > 24 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let seconds = (hour * 60 + self.minute) * 60 + self.second - self.zone;
        Some(i64::from(day.num_days_from_ce() - 719_163) * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + self.micros)
    }
}
