//! Times and intervals.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, IntervalMonthDayNanoArray, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::{Result, exec_datafusion_err, exec_err};

use crate::declared::{Gives, Kind, Spec, interval, timestamp, timestamp_tz};
use crate::input::{MICROS_PER_DAY, MICROS_PER_SECOND};
use crate::rows::{floats, integers, strict, text, value};
use crate::{input, pattern};

const NANOS_PER_DAY: i64 = MICROS_PER_DAY * 1000;

const INTERVAL: Gives = Gives::Type(interval);

pub(crate) static TIMES: &[Spec] = &[
    Spec {
        name: "age",
        usage: "age(timestamp, timestamp)",
        doc: "The first time less the second, in years, months, days and time. Of one time: how long before the begin of today it was.",
        takes: &[&[Kind::Timestamp, Kind::Timestamp], &[Kind::TimestampTz, Kind::TimestampTz]],
        repeats: false,
        gives: INTERVAL,
        is_plain: None,
        run: |args| {
            intervals(args, |row| {
                let at = |place: usize| moment(value::<TimestampMicrosecondType>(args, place, row));
                Ok(age(at(0)?, at(1)?))
            })
        },
    },
    Spec {
        name: "interval_span",
        usage: "interval < interval",
        doc: "",
        takes: &[&[Kind::Interval]],
        repeats: false,
        gives: Gives::Type(span_type),
        is_plain: None,
        run: |args| {
            let spans = Decimal128Array::from_iter(
                args[0].as_primitive::<IntervalMonthDayNanoType>().iter().map(|i| i.map(span)),
            );
            Ok(Arc::new(spans.with_data_type(span_type())))
        },
    },
    Spec {
        name: "justify_days",
        usage: "justify_days(interval)",
        doc: "Thirty days are a month.",
        takes: &[&[Kind::Interval]],
        repeats: false,
        gives: INTERVAL,
        is_plain: None,
        run: |args| intervals(args, |row| Ok(justified_days(of(args, row)))),
    },
    Spec {
        name: "justify_hours",
        usage: "justify_hours(interval)",
        doc: "Twenty-four hours are a day.",
        takes: &[&[Kind::Interval]],
        repeats: false,
        gives: INTERVAL,
        is_plain: None,
        run: |args| intervals(args, |row| Ok(justified_hours(of(args, row)))),
    },
    Spec {
        name: "justify_interval",
        usage: "justify_interval(interval)",
        doc: "Both, and all parts have one sign.",
        takes: &[&[Kind::Interval]],
        repeats: false,
        gives: INTERVAL,
        is_plain: None,
        run: |args| intervals(args, |row| Ok(justified(of(args, row)))),
    },
    Spec {
        name: "make_interval",
        usage: "make_interval(years, months, weeks, days, hours, mins, secs)",
        doc: "An interval of its parts; those that are left out, or not named (`days => 10`), are 0.",
        takes: &[&[
            Kind::Integer,
            Kind::Integer,
            Kind::Integer,
            Kind::Integer,
            Kind::Integer,
            Kind::Integer,
            Kind::Float,
        ]],
        repeats: false,
        gives: INTERVAL,
        is_plain: None,
        run: make_interval,
    },
    Spec {
        name: "make_timestamp",
        usage: "make_timestamp(year, month, day, hour, min, sec)",
        doc: "A timestamp of its parts.",
        takes: &[&[Kind::Integer, Kind::Integer, Kind::Integer, Kind::Integer, Kind::Integer, Kind::Float]],
        repeats: false,
        gives: Gives::Type(timestamp),
        is_plain: None,
        run: make_timestamp,
    },
    Spec {
        name: "make_date",
        usage: "make_date(year, month, day)",
        doc: "A date of its parts.",
        takes: &[&[Kind::Integer, Kind::Integer, Kind::Integer]],
        repeats: false,
        gives: Gives::Type(|| DataType::Date32),
        is_plain: None,
        run: |args| {
            strict::<i32, Date32Array>(args, |row| {
                let at = |place: usize| integers(args, place).value(row);
                let day = calendar_day(at(0), at(1), at(2))?;
                Ok(Some(day.num_days_from_ce() - 719_163))
            })
        },
    },
    Spec {
        name: "make_time",
        usage: "make_time(hour, min, sec)",
        doc: "A time of day of its parts.",
        takes: &[&[Kind::Integer, Kind::Integer, Kind::Float]],
        repeats: false,
        gives: Gives::Type(|| DataType::Time64(TimeUnit::Microsecond)),
        is_plain: None,
        run: |args| {
            strict::<i64, Time64MicrosecondArray>(args, |row| {
                let at = |place: usize| integers(args, place).value(row);
                clock(at(0), at(1), floats(args, 2).value(row)).map(Some)
            })
        },
    },
    Spec {
        name: "to_timestamp",
        usage: "to_timestamp(seconds) or to_timestamp(text, pattern)",
        doc: "The time so many seconds after 1970, or read by a pattern: TIMESTAMP WITH TIME ZONE.",
        takes: &[&[Kind::Float], &[Kind::Text], &[Kind::TimestampTz], &[Kind::Timestamp], &[Kind::Text, Kind::Text]],
        repeats: false,
        gives: Gives::Type(timestamp_tz),
        is_plain: None,
        run: to_timestamp,
    },
    Spec {
        name: "to_date",
        usage: "to_date(text, pattern)",
        doc: "A date read by a pattern.",
        takes: &[&[Kind::Text, Kind::Text], &[Kind::Text]],
        repeats: false,
        gives: Gives::Type(|| DataType::Date32),
        is_plain: None,
        run: |args| match args.len() {
            1 => input::dates(text(args, 0)),
            _ => strict::<i32, Date32Array>(args, |row| {
                let micros = pattern::read_time(text(args, 0).value(row), text(args, 1).value(row))?;
                Ok(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok())
            }),
        },
    },
    Spec {
        name: "to_char",
        usage: "to_char(timestamp, date, interval or number, pattern)",
        doc: "A value as the pattern says, with PostgreSQL's words: `YYYY-MM-DD HH24:MI:SS`, `9,999.99`.",
        takes: &[
            &[Kind::Timestamp, Kind::Text],
            &[Kind::TimestampTz, Kind::Text],
            &[Kind::Interval, Kind::Text],
            &[Kind::Float, Kind::Text],
        ],
        repeats: false,
        gives: Gives::Type(|| DataType::Utf8),
        is_plain: None,
        run: to_char,
    },
    Spec {
        name: "to_number",
        usage: "to_number(text, pattern)",
        doc: "A number read by a pattern: DOUBLE PRECISION.",
        takes: &[&[Kind::Text, Kind::Text]],
        repeats: false,
        gives: Gives::Type(|| DataType::Float64),
        is_plain: None,
        run: |args| {
            strict::<f64, arrow::array::Float64Array>(args, |row| {
                pattern::read_number(text(args, 0).value(row), text(args, 1).value(row)).map(Some)
            })
        },
    },
    Spec {
        name: "timezone",
        usage: "timezone(zone, timestamp)",
        doc: "AT TIME ZONE: a time without a zone in that zone, or one with a zone as that zone's clocks show it. UTC is known.",
        takes: &[&[Kind::Text, Kind::TimestampTz], &[Kind::Text, Kind::Timestamp]],
        repeats: false,
        gives: Gives::Of(|given| match given.get(1) {
            Some(DataType::Timestamp(_, Some(_))) => Ok(timestamp()),
            _ => Ok(timestamp_tz()),
        }),
        is_plain: None,
        run: |args| {
            for zone in text(args, 0).iter().flatten() {
                if !["UTC", "GMT", "Z", "ETC/UTC"].iter().any(|known| zone.eq_ignore_ascii_case(known)) {
                    return exec_err!("time zone \"{zone}\" not recognized: UTC is the only one here");
                }
            }
            let times = args[1].as_primitive::<TimestampMicrosecondType>().clone();
            Ok(match args[1].data_type() {
                DataType::Timestamp(_, Some(_)) => Arc::new(times.with_timezone_opt::<Arc<str>>(None)),
                _ => Arc::new(times.with_timezone("+00:00")),
            })
        },
    },
    Spec {
        name: "interval_times",
        usage: "interval_times(interval, number)",
        doc: "",
        takes: &[&[Kind::Interval, Kind::Float]],
        repeats: false,
        gives: INTERVAL,
        is_plain: None,
        run: |args| intervals(args, |row| times(of(args, row), floats(args, 1).value(row))),
    },
    Spec {
        name: "date_and_time",
        usage: "date_and_time(date, time)",
        doc: "",
        takes: &[&[Kind::Date, Kind::Time]],
        repeats: false,
        gives: Gives::Type(timestamp),
        is_plain: None,
        run: |args| {
            strict::<i64, TimestampMicrosecondArray>(args, |row| {
                let day = i64::from(value::<Date32Type>(args, 0, row));
                Ok(Some(day * MICROS_PER_DAY + value::<Time64MicrosecondType>(args, 1, row)))
            })
        },
    },
];

/// The time at `micros` since 1970.
pub(crate) fn moment(micros: i64) -> Result<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros)
        .map(|at| at.naive_utc())
        .ok_or_else(|| exec_datafusion_err!("timestamp out of range"))
}

fn intervals(args: &[ArrayRef], of: impl Fn(usize) -> Result<IntervalMonthDayNano>) -> Result<ArrayRef> {
    strict::<IntervalMonthDayNano, IntervalMonthDayNanoArray>(args, |row| of(row).map(Some))
}

fn of(args: &[ArrayRef], row: usize) -> IntervalMonthDayNano {
    value::<IntervalMonthDayNanoType>(args, 0, row)
}

/// Nanoseconds, more than 64 bits hold.
fn span_type() -> DataType {
    DataType::Decimal128(38, 0)
}

/// How long an interval is, for comparing: a month has thirty days, and a day twenty-four hours.
fn span(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * 30 + i128::from(interval.days);
    days * i128::from(NANOS_PER_DAY) + i128::from(interval.nanoseconds)
}

fn days_of_month(year: i32, month: u32) -> i64 {
    let next =
        if month == 12 { NaiveDate::from_ymd_opt(year + 1, 1, 1) } else { NaiveDate::from_ymd_opt(year, month + 1, 1) };
    next.and_then(|next| next.pred_opt()).map_or(30, |last| i64::from(last.day()))
}

/// Field by field, borrowing from the next greater one.
fn age(first: NaiveDateTime, second: NaiveDateTime) -> IntervalMonthDayNano {
    let (later, earlier, sign) = if first >= second { (first, second, 1) } else { (second, first, -1) };
    let micros = |at: NaiveDateTime| {
        i64::from(at.num_seconds_from_midnight()) * MICROS_PER_SECOND + i64::from(at.nanosecond() / 1000)
    };
    let mut time = micros(later) - micros(earlier);
    let mut days = i64::from(later.day()) - i64::from(earlier.day());
    let mut months =
        i64::from(later.year() - earlier.year()) * 12 + i64::from(later.month()) - i64::from(earlier.month());
    if time < 0 {
        time += MICROS_PER_DAY;
        days -= 1;
    }
    while days < 0 {
        // The earlier time's month lends its days.
        days += days_of_month(earlier.year(), earlier.month());
        months -= 1;
    }
    IntervalMonthDayNano::new(sign * months as i32, sign * days as i32, i64::from(sign) * time * 1000)
}

fn justified_days(value: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let (mut months, mut days) = (value.months + value.days / 30, value.days % 30);
    if months > 0 && days < 0 {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && days > 0 {
        (months, days) = (months + 1, days - 30);
    }
    IntervalMonthDayNano::new(months, days, value.nanoseconds)
}

fn justified_hours(value: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let (mut days, mut nanos) =
        (i64::from(value.days) + value.nanoseconds / NANOS_PER_DAY, value.nanoseconds % NANOS_PER_DAY);
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + NANOS_PER_DAY);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - NANOS_PER_DAY);
    }
    IntervalMonthDayNano::new(value.months, days as i32, nanos)
}

fn justified(value: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let mut value = justified_days(justified_hours(value));
    if value.months > 0 && (value.days < 0 || (value.days == 0 && value.nanoseconds < 0)) {
        value = IntervalMonthDayNano::new(value.months - 1, value.days + 30, value.nanoseconds);
    } else if value.months < 0 && (value.days > 0 || (value.days == 0 && value.nanoseconds > 0)) {
        value = IntervalMonthDayNano::new(value.months + 1, value.days - 30, value.nanoseconds);
    }
    justified_hours(value)
}

/// Each part times a number; what is left of a month is days of thirty, of a day time.
fn times(value: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
    let months = f64::from(value.months) * factor;
    let days = f64::from(value.days) * factor;
    let more_days = (months - months.trunc()) * 30.0;
    let whole_days = days.trunc() + more_days.trunc();
    let part_of_day = (days - days.trunc()) + (more_days - more_days.trunc());
    let micros = (value.nanoseconds / 1000) as f64 * factor + part_of_day * MICROS_PER_DAY as f64;
    let fits = months.abs() < 2e9 && whole_days.abs() < 2e9 && micros.abs() < 9.2e15;
    if !fits {
        return exec_err!("interval out of range");
    }
    Ok(IntervalMonthDayNano::new(months.trunc() as i32, whole_days as i32, micros.round() as i64 * 1000))
}

fn make_interval(args: &[ArrayRef]) -> Result<ArrayRef> {
    intervals(args, |row| {
        let at = |place: usize| integers(args, place).value(row);
        let wrong = || exec_datafusion_err!("interval out of range");
        let months = at(0).checked_mul(12).and_then(|months| months.checked_add(at(1))).ok_or_else(wrong)?;
        let days = at(2).checked_mul(7).and_then(|days| days.checked_add(at(3))).ok_or_else(wrong)?;
        let seconds = (at(4) as f64 * 60.0 + at(5) as f64) * 60.0 + floats(args, 6).value(row);
        let nanos = (seconds * MICROS_PER_SECOND as f64).round() * 1000.0;
        match (i32::try_from(months), i32::try_from(days)) {
            (Ok(months), Ok(days)) if nanos.abs() < 9.2e18 => Ok(IntervalMonthDayNano::new(months, days, nanos as i64)),
            _ => Err(wrong()),
        }
    })
}

fn calendar_day(year: i64, month: i64, day: i64) -> Result<NaiveDate> {
    let part = |value: i64| u32::try_from(value).unwrap_or(0);
    i32::try_from(year)
        .ok()
        .and_then(|year| NaiveDate::from_ymd_opt(year, part(month), part(day)))
        .ok_or_else(|| exec_datafusion_err!("date field value out of range: {year}-{month:02}-{day:02}"))
}

fn clock(hour: i64, minute: i64, second: f64) -> Result<i64> {
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..=60.0).contains(&second) {
        return exec_err!("time field value out of range: {hour}:{minute:02}:{second}");
    }
    Ok((hour * 60 + minute) * 60 * MICROS_PER_SECOND + (second * MICROS_PER_SECOND as f64).round() as i64)
}

fn make_timestamp(args: &[ArrayRef]) -> Result<ArrayRef> {
    strict::<i64, TimestampMicrosecondArray>(args, |row| {
        let at = |place: usize| integers(args, place).value(row);
        let days = i64::from(calendar_day(at(0), at(1), at(2))?.num_days_from_ce() - 719_163);
        Ok(Some(days * MICROS_PER_DAY + clock(at(3), at(4), floats(args, 5).value(row))?))
    })
}

fn to_timestamp(args: &[ArrayRef]) -> Result<ArrayRef> {
    let utc = |array: ArrayRef| {
        let zoned = array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("+00:00");
        Arc::new(zoned) as ArrayRef
    };
    match (args.len(), args[0].data_type()) {
        (2, _) => strict::<i64, TimestampMicrosecondArray>(args, |row| {
            pattern::read_time(text(args, 0).value(row), text(args, 1).value(row)).map(Some)
        })
        .map(utc),
        (_, DataType::Utf8) => input::timestamps_tz(text(args, 0)),
        (_, DataType::Float64) => strict::<i64, TimestampMicrosecondArray>(args, |row| {
            let micros = floats(args, 0).value(row) * MICROS_PER_SECOND as f64;
            match micros.abs() < 9.2e18 {
                true => Ok(Some(micros.round() as i64)),
                false => exec_err!("timestamp out of range"),
            }
        })
        .map(utc),
        _ => Ok(utc(Arc::clone(&args[0]))),
    }
}

fn to_char(args: &[ArrayRef]) -> Result<ArrayRef> {
    let written = |row: usize| {
        let pattern = text(args, 1).value(row);
        match args[0].data_type() {
            DataType::Float64 => pattern::write_number(floats(args, 0).value(row), pattern),
            DataType::Interval(_) => pattern::write_interval(of(args, row), pattern),
            _ => pattern::write_time(moment(value::<TimestampMicrosecondType>(args, 0, row))?, pattern),
        }
    };
    strict::<String, StringArray>(args, |row| written(row).map(Some))
}
