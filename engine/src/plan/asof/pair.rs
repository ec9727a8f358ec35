//! Pairs of expressions over the two sides of an as-of join, and their types.

use arrow::datatypes::DataType;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::fault::planning_error;

/// An expression over the left side and one over the right side.
pub(in crate::plan) type Pair = (Expr, Expr);

/// Two expressions that are compared, of one type.
pub(in crate::plan) fn compared((left, right): Pair, sides: [&LogicalPlan; 2]) -> Result<Pair> {
    if let Some(volatile) = [&left, &right].into_iter().find(|expr| expr.is_volatile()) {
        return Err(Error::not_supported(format!(
            "{} gives another value each time, so it does not say which rows belong together",
            volatile.human_display()
        ))
        .with_hint("compute it in a subquery of one of the sides"));
    }
    let types = [
        left.get_type(sides[0].schema()).map_err(planning_error)?,
        right.get_type(sides[1].schema()).map_err(planning_error)?,
    ];
    let Some(common) = comparison_coercion(&types[0], &types[1]) else {
        return Err(Error::new(
            ErrorKind::DatatypeMismatch,
            format!(
                "{} ({}) cannot be compared with {} ({})",
                left.human_display(),
                types[0],
                right.human_display(),
                types[1]
            ),
        )
        .with_hint("cast one of them"));
    };
    let left = left.cast_to(&common, sides[0].schema()).map_err(planning_error)?;
    let right = right.cast_to(&common, sides[1].schema()).map_err(planning_error)?;
    Ok((left, right))
}

/// Two expressions by which nearness is measured: they have a place on a line.
pub(super) fn measured(times: Pair, sides: [&LogicalPlan; 2]) -> Result<Pair> {
    let (left, right) = compared(times, sides)?;
    let data_type = left.get_type(sides[0].schema()).map_err(planning_error)?;
    if is_measurable(&data_type) {
        return Ok((left, right));
    }
    Err(Error::new(
        ErrorKind::DatatypeMismatch,
        format!(
            "an as-of join finds the nearest row by a time or a number, and {} is of type {data_type}",
            left.human_display()
        ),
    )
    .with_hint("compare timestamps, dates, times of day, integers or floats"))
}

/// Whether values of a type have a place on a line of 64 bits.
fn is_measurable(data_type: &DataType) -> bool {
    use DataType::{Date32, Date64, Float32, Float64, Time32, Time64, Timestamp};
    data_type.is_integer()
        || matches!(data_type, Timestamp(..) | Date32 | Date64 | Time32(_) | Time64(_) | Float32 | Float64)
}
