//! Lengths of time, and expressions that grow with the time of a column.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, ErrorKind, Result};

/// The microseconds of an interval. A month has no fixed length and is refused.
pub(super) fn interval_micros(value: &ScalarValue) -> Result<i64> {
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => (interval.months, interval.days, interval.nanoseconds),
        ScalarValue::IntervalDayTime(Some(interval)) => {
            (0, interval.days, i64::from(interval.milliseconds).saturating_mul(1_000_000))
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0, 0),
        other => {
            return Err(Error::new(ErrorKind::DatatypeMismatch, format!("an interval is wanted here, not {other}"))
                .with_hint("write INTERVAL '1' MINUTE"));
        }
    };
    if months != 0 {
        return Err(Error::not_supported("an interval of months or years has no fixed length")
            .with_hint("write it in days, for instance INTERVAL '30' DAY"));
    }
    if nanos % 1_000 != 0 {
        return Err(Error::not_supported("an interval is counted in whole microseconds here"));
    }
    i64::from(days)
        .checked_mul(86_400_000_000)
        .and_then(|micros| micros.checked_add(nanos / 1_000))
        .ok_or_else(|| Error::new(ErrorKind::Data, "the interval is too long"))
}

/// Microseconds of one step of a timestamp's unit; 0 for nanoseconds.
pub(super) fn unit_micros(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1,
        TimeUnit::Nanosecond => 0,
    }
}

/// An expression that grows with a column: if no later row has that column below t, none has the expression below
/// t − `delay_micros`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grows {
    /// The column.
    pub(super) column: usize,
    /// By how much the expression may lie behind it.
    pub(super) delay_micros: i64,
    /// By how much the expression may lie ahead of it.
    pub(super) lead_micros: i64,
}

/// Whether an expression grows with one of the columns of `schema`: the column itself, cast to another timestamp, moved by
/// an interval, or cut to a unit by `date_trunc` or `date_bin`.
pub(super) fn grows_with(expr: &Expr, schema: &DFSchema) -> Option<Grows> {
    match expr {
        Expr::Column(column) => {
            Some(Grows { column: schema.maybe_index_of_column(column)?, delay_micros: 0, lead_micros: 0 })
        }
        Expr::Alias(alias) => grows_with(&alias.expr, schema),
        Expr::Cast(cast) => {
            let DataType::Timestamp(unit, zone) = cast.field.data_type() else { return None };
            let inner = grows_with(&cast.expr, schema)?;
            // A cast that adds or takes a time zone may move the time; one that only changes the unit cuts it.
            match schema.field(inner.column).data_type() {
                DataType::Timestamp(from, from_zone) if from_zone == zone => {
                    let cut = if unit_micros(*unit) > unit_micros(*from) { unit_micros(*unit) } else { 0 };
                    cut_by(inner, cut)
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(binary) => match (&*binary.left, binary.op, &*binary.right) {
            (moved, Operator::Minus, Expr::Literal(by, _)) => {
                moved_back(grows_with(moved, schema)?, interval_micros(by).ok()?)
            }
            (moved, Operator::Plus, Expr::Literal(by, _)) | (Expr::Literal(by, _), Operator::Plus, moved) => {
                moved_back(grows_with(moved, schema)?, interval_micros(by).ok()?.checked_neg()?)
            }
            _ => None,
        },
        Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
            ("date_trunc", [Expr::Literal(unit, _), time]) => {
                let inner = grows_with(time, schema)?;
                // In another time zone a day may have 25 hours.
                let DataType::Timestamp(_, zone) = schema.field(inner.column).data_type() else { return None };
                if zone.as_deref().is_some_and(|zone| !matches!(zone, "UTC" | "+00:00")) {
                    return None;
                }
                let length = match unit.try_as_str()??.to_lowercase().as_str() {
                    "microsecond" => 1,
                    "millisecond" => 1_000,
                    "second" => 1_000_000,
                    "minute" => 60_000_000,
                    "hour" => 3_600_000_000,
                    "day" => 86_400_000_000,
                    "week" => 7 * 86_400_000_000,
                    _ => return None,
                };
                cut_by(inner, length)
            }
            ("date_bin", [Expr::Literal(stride, _), time, ..]) => {
                cut_by(grows_with(time, schema)?, interval_micros(stride).ok()?)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The expression less an interval.
fn moved_back(grows: Grows, by: i64) -> Option<Grows> {
    let delay_micros = grows.delay_micros.checked_add(by)?;
    Some(Grows { delay_micros, lead_micros: grows.lead_micros.checked_sub(by)?, ..grows })
}

/// The expression cut down by at most a length.
fn cut_by(grows: Grows, length: i64) -> Option<Grows> {
    Some(Grows { delay_micros: grows.delay_micros.checked_add(length)?, ..grows })
}
