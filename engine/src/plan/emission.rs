//! What `EMIT` says, checked: against itself, and against where the result goes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::Column;
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan, Projection, SubqueryAlias, lit};
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{EmitClause, EmitMode, Trigger};

use super::flow::{Emission, Emit};

/// Where a result goes: what a correction can look like depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A view, which holds the current rows.
    View,
    /// A subscriber, who hears of every change.
    Subscriber,
    /// A sink that only adds rows.
    Appends,
    /// A sink that keeps one record of a key.
    Upserts,
}

/// When the results of a query are shown. `micros` evaluates an interval.
pub(super) fn emission(emit: Option<&EmitClause>, micros: impl Fn(&ast::Expr) -> Result<i64>) -> Result<Emission> {
    let Some(clause) = emit else { return Ok(Emission::default()) };
    let mut emission = Emission { stream: clause.stream, mode: clause.mode, ..Emission::default() };
    for trigger in &clause.triggers {
        let twice = match trigger {
            Trigger::AfterWatermark => std::mem::replace(&mut emission.on_time, true),
            Trigger::AfterDelay(interval) => {
                let delay = micros(interval)?;
                if delay <= 0 {
                    return Err(Error::invalid("the interval of AFTER DELAY must be greater than zero"));
                }
                emission.delay_micros.replace(delay).is_some()
            }
            Trigger::AfterRows(0) => return Err(Error::invalid("AFTER 0 ROWS: a result shows after one row at least")),
            Trigger::AfterRows(rows) => emission.rows.replace(*rows).is_some(),
        };
        if twice {
            return Err(Error::invalid(format!("{clause} says {trigger} beside another trigger of its kind"))
                .with_hint("say each of AFTER WATERMARK, AFTER DELAY and AFTER … ROWS once"));
        }
    }
    let lateness = clause.allowed_lateness.as_ref().map(micros).transpose()?;
    if lateness.is_some_and(|lateness| lateness < 0) {
        return Err(Error::invalid("ALLOWED LATENESS is not below zero"));
    }
    // Without lateness what was shown at the watermark is final.
    emission.lateness = lateness.filter(|lateness| *lateness > 0);
    if emission.on_time && !emission.is_early() && emission.lateness.is_none() {
        emission.emit = Emit::AfterWatermark;
    }
    Ok(emission)
}

/// What `EMIT` means at a destination, if it means something there.
pub(super) fn fitted(mut emission: Emission, destination: Destination) -> Result<Emission> {
    match (emission.stream, emission.mode, destination) {
        (true, _, Destination::Upserts) => {
            return Err(Error::not_supported(
                "EMIT STREAM makes a row of every change, and this sink keeps the last record of a key only",
            )
            .with_hint("write into a sink with changelog = 'append', or leave EMIT STREAM out: the sink upserts"));
        }
        (false, Some(mode @ (EmitMode::Accumulating | EmitMode::Discarding)), Destination::View) => {
            let shows = match mode {
                EmitMode::Discarding => "DISCARDING shows parts of results",
                _ => "ACCUMULATING shows new rows beside the old ones",
            };
            return Err(Error::not_supported(format!("{shows}, and a view holds the current result"))
                .with_hint("write EMIT STREAM for a view of the changelog, or leave the mode out"));
        }
        (false, Some(EmitMode::Discarding), Destination::Upserts) => {
            return Err(Error::not_supported(
                "DISCARDING writes what has come since the last time, and this sink keeps the last record of a key only",
            )
            .with_hint("write into a sink with changelog = 'append', or leave DISCARDING out: the sink upserts totals"));
        }
        // A sink that upserts writes the new row of a key in place of the old one, and knows rows that go.
        (false, Some(EmitMode::Accumulating), Destination::Upserts) => emission.mode = None,
        _ => {}
    }
    Ok(emission)
}

/// In a query that is answered once.
pub(super) fn answered_once(emission: Emission) -> Result<()> {
    let what = match (emission.stream, emission.mode) {
        (true, _) => "EMIT STREAM shows changes",
        (_, Some(EmitMode::Discarding)) => "DISCARDING says how a correction looks",
        (_, Some(EmitMode::Accumulating)) => "ACCUMULATING says how a correction looks",
        _ => return Ok(()),
    };
    Err(Error::not_supported(format!("{what}, and a SELECT is answered once")).with_hint("write SUBSCRIBE (SELECT …)"))
}

/// The columns that a result has as a changelog, behind its own.
pub(super) fn changelog_fields() -> [FieldRef; 3] {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    [("undo", DataType::Utf8), ("ptime", time), ("ver", DataType::Int64)]
        .map(|(name, data_type)| Arc::new(Field::new(name, data_type, false)))
}

/// Whether the names of those columns are free.
pub(super) fn check_changelog_names<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    let fields = changelog_fields();
    match names.find(|name| fields.iter().any(|field| field.name() == *name)) {
        None => Ok(()),
        Some(name) => Err(Error::new(ErrorKind::InvalidDefinition, format!("two columns are named {name}")).with_hint(
            "EMIT STREAM adds the columns undo, ptime and ver: give the query's column another name with AS",
        )),
    }
}

/// A query whose rows say to which group they belong.
pub(super) struct Grouped {
    /// The query; columns that it does not show stand behind its own.
    pub(super) plan: LogicalPlan,
    /// How many columns are its own.
    pub(super) visible: usize,
    /// The columns of the group; `None` if the query's end is no aggregate.
    pub(super) group: Option<Vec<usize>>,
    /// The column that counts the group's rows, if that was asked for.
    pub(super) counts: Option<usize>,
    /// Who takes rows that come too late.
    pub(super) late_rows: Option<String>,
}

impl Grouped {
    /// The query as it is.
    pub(super) fn unasked(plan: LogicalPlan) -> Self {
        let visible = plan.schema().fields().len();
        Self { plan, visible, group: None, counts: None, late_rows: None }
    }

    /// The query with its aggregate's group, if it ends in one, carried to its end.
    pub(super) fn new(plan: LogicalPlan, emission: Emission) -> PlanResult<Self> {
        let visible = plan.schema().fields().len();
        // An aggregate that discards counts rows itself.
        let holds = emission.is_early() && emission.mode != Some(EmitMode::Discarding);
        if !(holds || emission.stream || emission.mode == Some(EmitMode::Accumulating)) {
            return Ok(Self::unasked(plan));
        }
        let Some(Carried { plan, group, counts }) = carried(&plan, holds && emission.rows.is_some())? else {
            return Ok(Self::unasked(plan));
        };
        let place = |column: &Column| plan.schema().index_of_column(column);
        let group = group.iter().map(place).collect::<PlanResult<Vec<_>>>()?;
        let counts = counts.as_ref().map(place).transpose()?;
        Ok(Self { visible, group: Some(group), counts, plan, late_rows: None })
    }
}

struct Carried {
    plan: LogicalPlan,
    group: Vec<Column>,
    counts: Option<Column>,
}

fn carried(plan: &LogicalPlan, count: bool) -> PlanResult<Option<Carried>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => carried_aggregate(aggregate, count).map(Some),
        LogicalPlan::Filter(filter) => {
            let Some(Carried { plan, group, counts }) = carried(&filter.input, count)? else { return Ok(None) };
            let plan = LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(plan))?);
            Ok(Some(Carried { plan, group, counts }))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(Carried { plan, group, counts }) = carried(&alias.input, count)? else { return Ok(None) };
            let below = Arc::clone(plan.schema());
            let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), alias.alias.clone())?);
            let called = |column: &Column| {
                let place = below.index_of_column(column)?;
                Ok(Column::from(plan.schema().qualified_field(place)))
            };
            let group = group.iter().map(called).collect::<PlanResult<Vec<_>>>()?;
            let counts = counts.as_ref().map(called).transpose()?;
            Ok(Some(Carried { plan, group, counts }))
        }
        LogicalPlan::Projection(projection) => carried_projection(projection, count),
        _ => Ok(None),
    }
}

fn carried_aggregate(aggregate: &Aggregate, count: bool) -> PlanResult<Carried> {
    let mut calls = aggregate.aggr_expr.clone();
    let width = aggregate.schema.fields().len() - calls.len();
    let group = aggregate.schema.columns()[..width].to_vec();
    if count {
        calls.push(count_udaf().call(vec![lit(1_i64)]).alias("_rows"));
    }
    let input = Arc::clone(&aggregate.input);
    let aggregate = Aggregate::try_new(input, aggregate.group_expr.clone(), calls)?;
    let counts = if count { aggregate.schema.columns().pop() } else { None };
    Ok(Carried { plan: LogicalPlan::Aggregate(aggregate), group, counts })
}

fn carried_projection(projection: &Projection, count: bool) -> PlanResult<Option<Carried>> {
    let Some(Carried { plan, group, counts }) = carried(&projection.input, count)? else { return Ok(None) };
    let mut exprs = projection.expr.clone();
    let mut place = |column: &Column| {
        let passes = |expr: &Expr| matches!(expr.clone().unalias(), Expr::Column(of) if of == *column);
        exprs.iter().position(passes).unwrap_or_else(|| {
            exprs.push(Expr::Column(column.clone()).alias(format!("_carried_{}", exprs.len())));
            exprs.len() - 1
        })
    };
    let group: Vec<usize> = group.iter().map(&mut place).collect();
    let counts = counts.as_ref().map(&mut place);
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
    let called = |place: usize| Column::from(plan.schema().qualified_field(place));
    let (group, counts) = (group.into_iter().map(called).collect(), counts.map(called));
    Ok(Some(Carried { plan, group, counts }))
}

/// The aggregate that a query ends in, if only projections, filters and aliases stand behind it.
pub(super) fn last_aggregate(plan: &LogicalPlan) -> Option<&Aggregate> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => Some(aggregate),
        LogicalPlan::Filter(filter) => last_aggregate(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => last_aggregate(&alias.input),
        LogicalPlan::Projection(projection) => last_aggregate(&projection.input),
        _ => None,
    }
}
