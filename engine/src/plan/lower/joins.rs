//! Joins.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Join, build_join_schema, lit};

use crate::error::{Error, Result};
use crate::plan::event_time::unit_micros;
use crate::plan::fault::planning_error;
use crate::plan::flow::{Emit, FlowOp, FlowProperties, JoinKind, NodeIndex, TimeColumn};
use crate::plan::properties::{joined, projected};
use crate::plan::release::{bounds, side_releases};
use crate::plan::temporal_filter::{self, refuse_clock};

use super::Lowering;
use super::asof::never_settled;

/// A join as we have it: right semi, anti and mark joins are left ones of the exchanged inputs.
fn kind(join_type: JoinType) -> (JoinKind, bool) {
    match join_type {
        JoinType::Inner => (JoinKind::Inner, false),
        JoinType::Left => (JoinKind::Left, false),
        JoinType::Right => (JoinKind::Right, false),
        JoinType::Full => (JoinKind::Full, false),
        JoinType::LeftSemi => (JoinKind::LeftSemi, false),
        JoinType::RightSemi => (JoinKind::LeftSemi, true),
        JoinType::LeftAnti => (JoinKind::LeftAnti, false),
        JoinType::RightAnti => (JoinKind::LeftAnti, true),
        JoinType::LeftMark => (JoinKind::LeftMark, false),
        JoinType::RightMark => (JoinKind::LeftMark, true),
    }
}

/// The same in DataFusion's words.
fn join_type(kind: JoinKind) -> JoinType {
    match kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::Left => JoinType::Left,
        JoinKind::Right => JoinType::Right,
        JoinKind::Full => JoinType::Full,
        JoinKind::LeftSemi => JoinType::LeftSemi,
        JoinKind::LeftAnti => JoinType::LeftAnti,
        JoinKind::LeftMark => JoinType::LeftMark,
    }
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<NodeIndex> {
        if join.null_aware {
            return Err(Error::internal("a NULL-aware join was not taken apart"));
        }
        let (kind, exchanged) = kind(join.join_type);
        let left = self.node(&join.left)?;
        let left = self.fitted(left, join.left.schema())?;
        let right = self.node(&join.right)?;
        let right = self.fitted(right, join.right.schema())?;
        let on = join.on.iter().cloned();
        let ((left, right), on) = match exchanged {
            false => ((left, right), on.collect::<Vec<_>>()),
            true => ((right, left), on.map(|(left, right)| (right, left)).collect()),
        };
        for (keys, input) in [
            (on.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), left),
            (on.iter().map(|(_, key)| key.clone()).collect(), right),
        ] {
            self.stable(&keys, input)?;
        }
        let keys: Vec<Expr> = on.iter().flat_map(|(left, right)| [left.clone(), right.clone()]).collect();
        refuse_clock(&keys, "an equality of both sides of a join")?;
        let residual = join.filter.clone().filter(|condition| *condition != lit(true));
        let (conditions, residual) = match residual {
            // Pairs come and go as time passes.
            Some(residual) if kind == JoinKind::Inner => {
                let (conditions, rest) = temporal_filter::split(residual);
                (conditions, conjunction(rest))
            }
            residual => {
                refuse_clock(residual.as_slice(), "the ON of an outer join, if it compares both sides,")?;
                (Vec::new(), residual)
            }
        };
        if let Some(residual) = &residual {
            self.stable(std::slice::from_ref(residual), left)?;
            self.stable(std::slice::from_ref(residual), right)?;
            if residual.is_volatile() {
                return Err(Error::not_supported(format!(
                    "{residual} gives another value each time, so it does not say which rows belong together"
                ))
                .with_hint("compute it in a subquery of one of the inputs"));
            }
        }
        let (left_schema, right_schema) = (Arc::clone(self.schema(left)), Arc::clone(self.schema(right)));
        let (right, on) = match kind.has_pairs() || residual.is_some() || on.is_empty() {
            true => (right, on),
            false => self.different_keys(right, on)?,
        };
        let null_equals_null = join.null_equality == NullEquality::NullEqualsNull;
        let mut op = FlowOp::Join { kind, on, residual, null_equals_null, emit: Emit::OnChange };
        let shown_late = self.emit == Emit::AfterWatermark && self.can_wait(left, right, &op);
        let mut properties = self.join_properties(left, right, &op);
        if let (FlowOp::Join { emit, .. }, true) = (&mut op, shown_late) {
            *emit = Emit::AfterWatermark;
            properties.changelog = false;
        }
        let schema = build_join_schema(&left_schema, &right_schema, &join_type(kind)).map_err(planning_error)?;
        let mut node = self.push(op, vec![left, right], Arc::new(schema), properties)?;
        self.remember(node, if exchanged { [&join.right, &join.left] } else { [&join.left, &join.right] });
        if !conditions.is_empty() {
            node = self.temporal_filter(node, conditions)?;
        }
        self.fitted(node, &join.schema)
    }

    /// Where only it matters whether a key is there: the right side's different keys in the place of its rows. One copy more
    /// of a key that many left rows have is then no news to them.
    fn different_keys(&mut self, right: NodeIndex, on: Vec<(Expr, Expr)>) -> Result<(NodeIndex, Vec<(Expr, Expr)>)> {
        let (schema, properties) = (Arc::clone(self.schema(right)), self.properties(right).clone());
        let is_key = |column: &usize| on.iter().any(|(_, key)| same_as(key, &schema) == Some(*column));
        if properties.keys.iter().any(|key| key.iter().all(is_key)) {
            return Ok((right, on));
        }
        let (left_keys, keys): (Vec<Expr>, Vec<Expr>) = on.into_iter().unzip();
        let mut fields = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let name = key.schema_name().to_string();
            // A cast is called as what is cast.
            let taken = keys[..number].iter().any(|key| key.schema_name().to_string() == name);
            let name = if taken { format!("{name} ({number})") } else { name };
            let data_type = key.get_type(&schema).map_err(planning_error)?;
            fields.push((None, Arc::new(Field::new(name, data_type, true))));
        }
        let columns = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new()).map_err(planning_error)?);
        let properties = projected(&keys, &schema, &properties);
        let project = FlowOp::Project { expressions: keys };
        let keys = self.push(project, vec![right], Arc::clone(&columns), properties)?;
        let keys = self.different(keys)?;
        let on = left_keys.into_iter().zip(columns.columns()).map(|(left, right)| (left, Expr::Column(right)));
        Ok((keys, on.collect()))
    }

    /// Whether the join can show each row without a match once, when no match can come any more.
    fn can_wait(&self, left: NodeIndex, right: NodeIndex, join: &FlowOp) -> bool {
        let FlowOp::Join { kind, null_equals_null, .. } = join else { return false };
        let inputs = [left, right].map(|input| &self.plan.nodes[input]);
        let released = side_releases(inputs[0], inputs[1], join).map(|release| release.is_some());
        let unmatched = [0, 1].map(|side| kind.shows_unmatched(side));
        unmatched.contains(&true)
            && !null_equals_null
            && inputs.iter().all(|input| !input.properties.changelog)
            && (0..2).all(|side| !unmatched[side] || released[side])
    }

    /// Refuses joins whose rows without a match are never final.
    pub(super) fn refuse_open_joins(&self) -> Result<()> {
        let open = |op: &FlowOp| match op {
            FlowOp::Join { kind, emit, .. } => {
                *emit == Emit::OnChange && (kind.shows_unmatched(0) || kind.shows_unmatched(1))
            }
            FlowOp::AsOf(spec) => spec.emit == Emit::OnChange,
            _ => false,
        };
        if let Some(open) = self.plan.nodes.iter().find(|node| open(&node.op))
            && let FlowOp::AsOf(spec) = &open.op
        {
            return Err(never_settled(spec));
        }
        if !self.plan.nodes.iter().any(|node| open(&node.op)) {
            return Ok(());
        }
        Err(Error::not_supported(
            "EMIT AFTER WATERMARK shows final rows only, and a row without a match in this query's join may still get one",
        )
        .with_hint(
            "bind the times of both sides to each other, by equality or with BETWEEN, over streams with a WATERMARK; or leave EMIT out",
        ))
    }

    fn join_properties(&mut self, left: NodeIndex, right: NodeIndex, join: &FlowOp) -> FlowProperties {
        let FlowOp::Join { kind, on, residual, .. } = join else { return FlowProperties::default() };
        let (left_schema, right_schema) = (Arc::clone(self.schema(left)), Arc::clone(self.schema(right)));
        let width = left_schema.fields().len();
        let pairs: Vec<(usize, usize)> = on
            .iter()
            .filter_map(|(left, right)| Some((same_as(left, &left_schema)?, same_as(right, &right_schema)?)))
            .collect();
        let mut times: Vec<TimeColumn> = Vec::new();
        for bound in bounds(&left_schema, &right_schema, on, residual.as_ref()) {
            let promise = |input: NodeIndex, column: usize| {
                let times = &self.properties(input).time_columns;
                times.iter().find(|time| time.column == column).map(|time| (time.watermark, time.delay_micros))
            };
            let (Some(of_left), Some(of_right)) = (promise(left, bound.left), promise(right, bound.right)) else {
                continue;
            };
            // A pair can come as long as either of its rows can: then the other row may be older by the bound.
            let ends = [
                (bound.left, of_left, of_right, bound.right_ahead),
                (width + bound.right, of_right, of_left, bound.left_ahead),
            ];
            for (column, own, (watermark, delay), ahead) in ends {
                let Some(other) = ahead.map(|ahead| (watermark, delay.saturating_add(ahead))) else { continue };
                if !times.iter().any(|time| time.column == column)
                    && let Some((watermark, delay_micros)) = self.least(vec![own, other])
                {
                    times.push(TimeColumn { column, watermark, delay_micros });
                }
            }
        }
        joined(*kind, [self.properties(left), self.properties(right)], width, &pairs, times)
    }
}

/// The column whose values are told apart as the expression's: itself, or cast to a type that holds all of them.
pub(super) fn same_as(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    use DataType::{Int8, Int16, Int32, Int64, Timestamp};
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Cast(cast) => {
            let column = same_as(&cast.expr, schema)?;
            let lossless = match (schema.field(column).data_type(), cast.field.data_type()) {
                (Timestamp(from, _), Timestamp(to, _)) => unit_micros(*from) >= unit_micros(*to),
                (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
                (from, to) => from.is_string() && to.is_string(),
            };
            lossless.then_some(column)
        }
        _ => None,
    }
}
