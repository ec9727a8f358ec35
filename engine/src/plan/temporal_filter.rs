//! Conditions on the time of day: which ones a continuous query can keep, and from or until when each holds for a row.
//!
//! A condition can be kept if, for any one row, it becomes true at some moment and stays true, or ceases to be and stays
//! false: a comparison of which one side grows (or falls) as time passes and the other doesn't. [`Trend`] is what is
//! proved of a side. Where `now()` is only moved by an interval the moment is computed from the row; otherwise the
//! operator looks for it by halving.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, binary_expr};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};

use super::clock::{clock_name, is_clock, now_type, reads_clock, with_now};
use super::event_time::interval_micros;
use super::explain::said;
use super::fault::planning_error;
use super::flow::TimeBound;

/// How an expression's value moves as time passes, whatever the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trend {
    /// It doesn't depend on the time.
    Still,
    /// It never goes back.
    Grows,
    /// It never goes forward.
    Falls,
}

impl Trend {
    fn reversed(self) -> Self {
        match self {
            Trend::Still => Trend::Still,
            Trend::Grows => Trend::Falls,
            Trend::Falls => Trend::Grows,
        }
    }

    /// Of a sum.
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Trend::Still, trend) | (trend, Trend::Still) => Some(trend),
            (one, other) => (one == other).then_some(one),
        }
    }
}

/// Takes a conjunction apart: the conditions on the time of day, and the others.
pub(super) fn split(predicate: Expr) -> (Vec<Expr>, Vec<Expr>) {
    split_conjunction_owned(predicate).into_iter().partition(reads_clock)
}

/// From and until when rows satisfy conditions on the time of day.
pub(super) fn bounds(conditions: &[Expr], schema: &DFSchema) -> Result<Vec<TimeBound>> {
    let mut bounds = Vec::new();
    for condition in conditions {
        match of_condition(condition, schema) {
            Some(own) => bounds.extend(own),
            None => return Err(refusal(condition)),
        }
    }
    Ok(bounds)
}

fn refusal(condition: &Expr) -> Error {
    let clock = clock_name(condition).unwrap_or_else(|| "now".to_owned());
    Error::not_supported(format!(
        "a continuous query can compare {clock}() only so that a row satisfies the condition from one moment on, or until \
         one, and {} is no such comparison",
        said(condition)
    ))
    .with_hint(
        "write comparisons such as ts > now() - INTERVAL '5' MINUTE, joined by AND, with lengths in days or shorter beside \
         now(); alternatives can be written as a UNION of queries",
    )
}

/// Refuses the time of day where a stored result would have to change without any row.
pub(super) fn refuse_clock(exprs: &[Expr], place: &str) -> Result<()> {
    match exprs.iter().find_map(clock_name) {
        None => Ok(()),
        Some(clock) => Err(Error::not_supported(format!(
            "{clock}() cannot stand in {place} of a continuous query: its value would change without any row"
        ))
        .with_hint(
            "compare it with a time in WHERE or HAVING, as in ts > now() - INTERVAL '5' MINUTE, or call it when you SELECT \
             from the view",
        )),
    }
}

fn of_condition(condition: &Expr, schema: &DFSchema) -> Option<Vec<TimeBound>> {
    match condition {
        Expr::Alias(alias) => of_condition(&alias.expr, schema),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            [Operator::GtEq, Operator::LtEq].into_iter().map(|op| of_comparison(left, op, right, schema)).collect()
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => Some(vec![of_comparison(left, *op, right, schema)?]),
        _ => None,
    }
}

fn of_comparison(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<TimeBound> {
    if !matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
        return None;
    }
    // Intervals are compared by months first, whatever their days; text by its letters.
    for side in [left, right] {
        let comparable = matches!(
            side.get_type(schema).ok()?,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Duration(_)
        );
        if !comparable && !side.get_type(schema).ok()?.is_numeric() {
            return None;
        }
    }
    // Does the left side gain on the right one?
    let gains = trend(left, schema)?.and(trend(right, schema)?.reversed())?;
    let greater = matches!(op, Operator::Gt | Operator::GtEq);
    let enters = match gains {
        Trend::Still => return None,
        Trend::Grows => greater,
        Trend::Falls => !greater,
    };
    let condition = binary_expr(left.clone(), op, right.clone());
    // With now() on the left.
    let (clock, swapped, time) = if reads_clock(left) { (left, op, right) } else { (right, op.swap()?, left) };
    let at = moved_clock(clock).filter(|_| is_micros(time, schema)).and_then(|moved| {
        // now + moved > time holds from time − moved + 1 on, now + moved < time until time − moved.
        let after = i64::from(matches!(swapped, Operator::Gt | Operator::LtEq));
        Some((time.clone(), after.checked_sub(moved)?))
    });
    Some(TimeBound { condition, enters, at })
}

fn is_micros(expr: &Expr, schema: &DFSchema) -> bool {
    let data_type = expr.get_type(schema);
    !reads_clock(expr)
        && matches!(data_type, Ok(DataType::Timestamp(TimeUnit::Microsecond, zone)) if is_utc(zone.as_deref()))
}

/// By how many microseconds `now()` is moved, if that is all that is done to it.
fn moved_clock(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Alias(alias) => moved_clock(&alias.expr),
        Expr::ScalarFunction(call) if matches!(call.name(), "now" | "localtimestamp") => Some(0),
        // Between a time with UTC and one without a zone nothing moves.
        Expr::Cast(cast) => match cast.field.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, zone) if is_utc(zone.as_deref()) => moved_clock(&cast.expr),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (op, &**left, &**right) {
            (Operator::Plus, clock, Expr::Literal(by, _)) | (Operator::Plus, Expr::Literal(by, _), clock) => {
                moved_clock(clock)?.checked_add(length(by)?)
            }
            (Operator::Minus, clock, Expr::Literal(by, _)) => moved_clock(clock)?.checked_sub(length(by)?),
            _ => None,
        },
        _ => None,
    }
}

fn is_utc(zone: Option<&str>) -> bool {
    zone.is_none_or(|zone| matches!(zone, "UTC" | "+00:00" | "Z"))
}

/// Microseconds of a fixed length of time.
fn length(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::DurationMicrosecond(Some(micros)) => Some(*micros),
        ScalarValue::DurationMillisecond(Some(millis)) => millis.checked_mul(1_000),
        ScalarValue::DurationSecond(Some(seconds)) => seconds.checked_mul(1_000_000),
        other => interval_micros(other).ok(),
    }
}

fn trend(expr: &Expr, schema: &DFSchema) -> Option<Trend> {
    if !reads_clock(expr) {
        return Some(Trend::Still);
    }
    match expr {
        Expr::Alias(alias) => trend(&alias.expr, schema),
        // The time of day without the day comes round.
        Expr::ScalarFunction(call) if is_clock(call.name()) => (call.name() != "current_time").then_some(Trend::Grows),
        Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
            ("date_trunc", [Expr::Literal(..), time]) | ("date_bin", [Expr::Literal(..), time, ..]) => {
                let rest_is_still = call.args.iter().skip(2).all(|argument| !reads_clock(argument));
                (rest_is_still && in_utc(time, schema)).then(|| trend(time, schema))?
            }
            ("date_part", [Expr::Literal(part, _), time]) => {
                let part = part.try_as_str()??.to_lowercase();
                let grows = matches!(part.as_str(), "epoch" | "year") && in_utc(time, schema);
                grows.then(|| trend(time, schema))?
            }
            ("to_unixtime", [time]) => in_utc(time, schema).then(|| trend(time, schema))?,
            _ => None,
        },
        Expr::Cast(cast) => {
            let keeps = keeps_order(&cast.expr.get_type(schema).ok()?, cast.field.data_type());
            keeps.then(|| trend(&cast.expr, schema))?
        }
        Expr::Negative(inner) => Some(trend(inner, schema)?.reversed()),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let by = |factor: &Expr, side: &Expr| {
                let Expr::Literal(factor, _) = factor else { return None };
                let trend = trend(side, schema)?;
                let zero = ScalarValue::new_zero(&factor.data_type()).ok()?;
                match factor.partial_cmp(&zero)? {
                    std::cmp::Ordering::Greater => Some(trend),
                    std::cmp::Ordering::Less => Some(trend.reversed()),
                    std::cmp::Ordering::Equal => None,
                }
            };
            match op {
                Operator::Plus | Operator::Minus => {
                    // A month is not always as long: later days may come to stand on the same one, or before it.
                    if ![left, right].into_iter().all(|side| is_fixed(side, schema)) {
                        return None;
                    }
                    let (left, right) = (trend(left, schema)?, trend(right, schema)?);
                    left.and(if *op == Operator::Plus { right } else { right.reversed() })
                }
                Operator::Multiply => by(right, left).or_else(|| by(left, right)),
                Operator::Divide => by(right, left),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether an operand beside the time of day is a time, a number, or an interval that is always as long.
fn is_fixed(expr: &Expr, schema: &DFSchema) -> bool {
    match expr.get_type(schema) {
        Ok(DataType::Interval(_)) => matches!(expr, Expr::Literal(by, _) if interval_micros(by).is_ok()),
        Ok(DataType::Timestamp(_, zone)) => is_utc(zone.as_deref()),
        Ok(DataType::Date32 | DataType::Date64 | DataType::Duration(_)) => true,
        Ok(other) => other.is_numeric(),
        Err(_) => false,
    }
}

fn in_utc(expr: &Expr, schema: &DFSchema) -> bool {
    match expr.get_type(schema) {
        Ok(DataType::Timestamp(_, zone)) => is_utc(zone.as_deref()),
        Ok(DataType::Date32 | DataType::Date64) => true,
        _ => false,
    }
}

/// Whether a cast keeps which of two values is the greater, or makes them equal.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    let is_time = |data_type: &DataType| match data_type {
        DataType::Timestamp(_, zone) => is_utc(zone.as_deref()),
        other => matches!(other, DataType::Date32 | DataType::Date64),
    };
    (is_time(from) && (is_time(to) || *to == DataType::Int64))
        || (from.is_numeric() && to.is_numeric())
        || matches!((from, to), (DataType::Duration(_), DataType::Duration(_) | DataType::Int64))
}

/// Says `now() - ts < INTERVAL '5' MINUTE` as `now() < ts + INTERVAL '5' MINUTE`, since intervals of days and of hours
/// cannot be compared by their parts. For conditions on the time of day only.
pub(super) fn rearranged(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) if reads_clock(&filter.predicate) => {
            let schema = DFSchemaRef::clone(filter.input.schema());
            let predicate = filter.predicate.transform_up(|part| rearranged_part(part, &schema))?;
            let changed = predicate.transformed;
            let filter = LogicalPlan::Filter(Filter::try_new(predicate.data, filter.input)?);
            Ok(if changed { Transformed::yes(filter) } else { Transformed::no(filter) })
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
    .map_err(planning_error)
}

fn rearranged_part(part: Expr, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    let Expr::BinaryExpr(comparison) = &part else { return Ok(Transformed::no(part)) };
    if !comparison.op.supports_propagation() || !reads_clock(&part) {
        return Ok(Transformed::no(part));
    }
    let (difference, op, length) = match (&*comparison.left, &*comparison.right) {
        (difference, Expr::Literal(length, _)) => (difference, comparison.op, length),
        (Expr::Literal(length, _), difference) => match comparison.op.swap() {
            Some(op) => (difference, op, length),
            None => return Ok(Transformed::no(part)),
        },
        _ => return Ok(Transformed::no(part)),
    };
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) = difference else {
        return Ok(Transformed::no(part));
    };
    let is_time = |side: &Expr| matches!(side.get_type(schema), Ok(DataType::Timestamp(..) | DataType::Date32));
    if interval_micros(length).is_err() || !is_time(left) || !is_time(right) {
        return Ok(Transformed::no(part));
    }
    let later = binary_expr((**right).clone(), Operator::Plus, Expr::Literal(length.clone(), None));
    Ok(Transformed::yes(binary_expr((**left).clone(), op, later)))
}

impl TimeBound {
    /// The condition over rows with one column more, the time of day, and the schema of such rows.
    pub fn over_time(&self, schema: &DFSchema) -> Result<(Expr, DFSchema)> {
        let mut fields: Vec<_> = schema.iter().map(|(of, field)| (of.cloned(), Arc::clone(field))).collect();
        fields.push((None, Arc::new(Field::new(NOW, now_type(), false))));
        let schema = DFSchema::new_with_metadata(fields, HashMap::new()).map_err(planning_error)?;
        let now = Expr::Column(Column::from_name(NOW));
        Ok((with_now(self.condition.clone(), &now).map_err(planning_error)?, schema))
    }
}

/// How the time of day is called beside a row's columns.
const NOW: &str = "(now)";
