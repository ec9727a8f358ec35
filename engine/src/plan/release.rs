//! When the rows that a join remembers can no longer meet another: time columns of both sides that its conditions bind.
//!
//! `a.t = b.t`, `a.t BETWEEN b.t - i AND b.t + j` and the like say how far apart two rows may lie that meet. A row of one
//! side is let go when the other side's watermark has passed all times that could meet it. (If its own side is a changelog
//! it may still be retracted, while the rows that it met are remembered.)

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};

use super::event_time::{Grows, grows_with};
use super::flow::{FlowNode, FlowOp, FlowPlan, NodeIndex};
use super::properties::Promise;

/// How the rows of one side of a join are let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideRelease {
    /// This side's time column.
    pub column: usize,
    /// The other side's time column.
    pub other_column: usize,
    /// A row of this side meets no row of the other whose time lies further ahead of its own than this, in microseconds.
    pub reach_micros: i64,
    /// What the other side promises of its column: watermarks, each with its delay in microseconds. Never empty.
    pub promises: Vec<Promise>,
}

impl SideRelease {
    /// The watermark by which this side's rows go, and how far behind it. With several, the first.
    pub fn promise(&self) -> Option<Promise> {
        let (watermark, delay) = self.promises.first()?;
        Some((*watermark, delay.saturating_add(self.reach_micros)))
    }
}

/// What a join's conditions say of a pair of time columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) left: usize,
    pub(super) right: usize,
    /// The right row's time lies at most so far ahead of the left row's, in microseconds.
    pub(super) right_ahead: Option<i64>,
    /// The left row's time lies at most so far ahead of the right row's.
    pub(super) left_ahead: Option<i64>,
}

/// What the conditions of a join say of pairs of time columns; each pair once, the tightest bounds.
pub(super) fn bounds(left: &DFSchema, right: &DFSchema, on: &[(Expr, Expr)], residual: Option<&Expr>) -> Vec<Bound> {
    let mut bounds: Vec<Bound> = Vec::new();
    for (of_left, of_right) in on {
        if let (Some(l), Some(r)) = (time(of_left, left), time(of_right, right)) {
            tighten(&mut bounds, (l, r), Some(ahead(r, l)), Some(ahead(l, r)));
        }
    }
    for condition in residual.into_iter().flat_map(split_conjunction) {
        let Expr::BinaryExpr(binary) = condition else { continue };
        let sides = (time(&binary.left, left), time(&binary.right, right));
        let crossed = (time(&binary.left, right), time(&binary.right, left));
        let (l, r, turned) = match (sides, crossed) {
            ((Some(l), Some(r)), _) => (l, r, false),
            (_, (Some(r), Some(l))) => (l, r, true),
            _ => continue,
        };
        match (binary.op, turned) {
            (Operator::Eq, _) => tighten(&mut bounds, (l, r), Some(ahead(r, l)), Some(ahead(l, r))),
            (Operator::Lt | Operator::LtEq, false) | (Operator::Gt | Operator::GtEq, true) => {
                tighten(&mut bounds, (l, r), None, Some(ahead(l, r)));
            }
            (Operator::Gt | Operator::GtEq, false) | (Operator::Lt | Operator::LtEq, true) => {
                tighten(&mut bounds, (l, r), Some(ahead(r, l)), None);
            }
            _ => {}
        }
    }
    bounds
}

/// An expression that grows with a timestamp column.
fn time(expr: &Expr, schema: &DFSchema) -> Option<Grows> {
    let grows = grows_with(expr, schema)?;
    matches!(schema.field(grows.column).data_type(), DataType::Timestamp(..)).then_some(grows)
}

/// If `one`'s expression is at most `other`'s, by how much the column of `one` may lie ahead of that of `other`:
/// `one − one.delay ≤ one's expression ≤ other's expression ≤ other + other.lead`.
fn ahead(one: Grows, other: Grows) -> i64 {
    one.delay_micros.saturating_add(other.lead_micros)
}

fn tighten(bounds: &mut Vec<Bound>, (l, r): (Grows, Grows), right_ahead: Option<i64>, left_ahead: Option<i64>) {
    let least = |one: Option<i64>, other: Option<i64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    match bounds.iter_mut().find(|bound| (bound.left, bound.right) == (l.column, r.column)) {
        Some(bound) => {
            bound.right_ahead = least(bound.right_ahead, right_ahead);
            bound.left_ahead = least(bound.left_ahead, left_ahead);
        }
        None => bounds.push(Bound { left: l.column, right: r.column, right_ahead, left_ahead }),
    }
}

/// Of several ways to let rows go the one that waits least.
fn soonest(releases: impl Iterator<Item = SideRelease>) -> Option<SideRelease> {
    releases.min_by_key(|release| release.promise().map(|(_, delay)| delay))
}

/// How the rows of both sides of a join are let go; `None` for a side that grows with its input.
pub fn side_releases(left: &FlowNode, right: &FlowNode, join: &FlowOp) -> [Option<SideRelease>; 2] {
    let FlowOp::Join { on, residual, .. } = join else { return [None, None] };
    let bounds = bounds(&left.schema, &right.schema, on, residual.as_ref());
    let release = |other: &FlowNode, column: usize, other_column: usize, reach: Option<i64>| {
        let promises: Vec<Promise> = other
            .properties
            .time_columns
            .iter()
            .filter(|time| time.column == other_column)
            .map(|time| (time.watermark, time.delay_micros))
            .collect();
        let reach_micros = reach.filter(|_| !promises.is_empty())?;
        Some(SideRelease { column, other_column, reach_micros, promises })
    };
    let of_left = bounds.iter().filter_map(|bound| release(right, bound.left, bound.right, bound.right_ahead));
    let of_right = bounds.iter().filter_map(|bound| release(left, bound.right, bound.left, bound.left_ahead));
    [soonest(of_left), soonest(of_right)]
}

/// [`side_releases`] of a node of a plan.
pub fn join_release(plan: &FlowPlan, node: NodeIndex) -> [Option<SideRelease>; 2] {
    let Some(join) = plan.nodes.get(node) else { return [None, None] };
    match join.inputs.as_slice() {
        [left, right] => match (plan.nodes.get(*left), plan.nodes.get(*right)) {
            (Some(left), Some(right)) => side_releases(left, right, &join.op),
            _ => [None, None],
        },
        _ => [None, None],
    }
}
