//! EXPLAIN of OVER and top-N.

use std::fmt::Write as _;

use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::{Expr, SortExpr, WindowFunctionDefinition};

use super::{list, said};
use crate::plan::Recognize;
use crate::plan::flow::{Emit, OverLimit, OverSpec, RankedBy};

/// What the operator does.
pub(super) fn operator(spec: &OverSpec) -> String {
    let found = spec.functions.iter().find_map(Recognize::of);
    let mut line = match &spec.limit {
        Some(limit) => limited(limit),
        None if found.is_some() => "Match".to_owned(),
        None => "Over".to_owned(),
    };
    if !spec.partition.is_empty() {
        let _ = write!(line, " partition by {}", list(&spec.partition));
    }
    if !spec.order.is_empty() {
        let order: Vec<String> = spec.order.iter().map(sort).collect();
        let _ = write!(line, " order by {}", order.join(", "));
    }
    if let Some(found) = found {
        let _ = write!(line, ": {}", found.recognition());
    } else if !spec.functions.is_empty() {
        let calls: Vec<String> = spec.functions.iter().map(call).collect();
        let _ = write!(line, ": {}", calls.join(", "));
    }
    if spec.emit == Emit::AfterWatermark {
        line.push_str(", shown once at the watermark");
    }
    line
}

fn limited(limit: &OverLimit) -> String {
    let by = match limit.by {
        RankedBy::RowNumber => "",
        RankedBy::Rank => " by rank",
        RankedBy::DenseRank => " by dense_rank",
    };
    match (limit.skip, limit.take) {
        (0, Some(take)) => format!("Top {take}{by}"),
        (skip, Some(take)) => format!("Rows {} to {}", skip + 1, skip.saturating_add(take)),
        (skip, None) => format!("Rows from {} on", skip.saturating_add(1)),
    }
}

/// Whether a single change may change every row of its partition, and by which function.
pub(super) fn rewrites(spec: &OverSpec) -> Option<String> {
    if spec.limit.is_some_and(|limit| limit.take.is_some()) {
        return None;
    }
    let far = spec.functions.iter().find(|function| reaches_far(function))?;
    let far = if Recognize::of(far).is_some() { "MATCH_RECOGNIZE without WITHIN".to_owned() } else { call(far) };
    Some(format!("one change may rewrite the partition: {far}"))
}

fn reaches_far(function: &Expr) -> bool {
    if let Some(found) = Recognize::of(function) {
        return found.recognition().within.is_none();
    }
    let Expr::WindowFunction(function) = function else { return false };
    let frame = &function.params.window_frame;
    let unbounded = frame.start_bound.is_unbounded() || frame.end_bound.is_unbounded();
    match &function.fun {
        WindowFunctionDefinition::AggregateUDF(_) => unbounded,
        WindowFunctionDefinition::WindowUDF(own) => match own.name() {
            "lag" | "lead" => function.params.null_treatment == Some(NullTreatment::IgnoreNulls),
            "first_value" | "last_value" | "nth_value" => unbounded,
            _ => true,
        },
    }
}

/// What the operator remembers. `append_only`: what its input is; `released`: what lets go of partitions.
/// `forgotten`: when those are that nothing lets go of.
pub(super) fn state(spec: &OverSpec, append_only: bool, released: Option<String>, forgotten: Option<String>) -> String {
    let rows = match spec.limit {
        Some(OverLimit { by, skip, take: Some(take) }) if append_only => {
            let ties = if by == RankedBy::RowNumber { "" } else { " and their peers" };
            format!("the first {} rows{ties} of each partition", skip.saturating_add(take))
        }
        _ => "all rows of each partition".to_owned(),
    };
    let rows = if spec.ends.is_some() { format!("{rows} that is not gone") } else { rows };
    let found = spec.functions.iter().find_map(Recognize::of);
    match released {
        Some(promise) if spec.settles.is_some() && found.is_some() && spec.forgets_settled_rows() => {
            let within = found.is_some_and(|found| found.recognition().within.is_some());
            let unbounded = if within { "" } else { "; one that has begun is not bounded without WITHIN" };
            format!("rows that a match may still have, released by {promise}{unbounded}")
        }
        Some(promise) if spec.forgets_settled_rows() => {
            format!("rows that a later one's frame may reach, released by {promise}")
        }
        Some(promise) if spec.settles.is_none() => format!("{rows}, released by {promise}"),
        _ => match forgotten {
            Some(when) => format!("{rows}, each partition forgotten {when}"),
            None => format!("{rows}: not bounded"),
        },
    }
}

fn sort(sort: &SortExpr) -> String {
    let direction = if sort.asc { "" } else { " desc" };
    // As PostgreSQL has it, NULLs come last, and first where the order is descending.
    let nulls = match (sort.asc, sort.nulls_first) {
        (true, true) => " nulls first",
        (false, false) => " nulls last",
        _ => "",
    };
    format!("{}{direction}{nulls}", said(&sort.expr))
}

fn call(function: &Expr) -> String {
    let Expr::WindowFunction(function) = function else { return said(function) };
    let params = &function.params;
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let star = function.fun.name() == "count" && matches!(params.args.as_slice(), [Expr::Literal(..)]);
    let arguments = if star { "*".to_owned() } else { list(&params.args) };
    let mut text = format!("{}({distinct}{arguments})", function.fun.name());
    if let Some(filter) = &params.filter {
        let _ = write!(text, " FILTER (WHERE {})", said(filter));
    }
    if params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        text.push_str(" IGNORE NULLS");
    }
    let framed = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(_) => true,
        WindowFunctionDefinition::WindowUDF(own) => {
            matches!(own.name(), "first_value" | "last_value" | "nth_value")
        }
    };
    if framed {
        let _ = write!(text, " {}", params.window_frame);
    }
    text
}
