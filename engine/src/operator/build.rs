//! From a node of the flow plan to the operator that runs it, and to the keys by which its input is exchanged.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::Operator;
use super::aggregate;
use super::asof::AsOf;
use super::expression::physical;
use super::filter::Filter;
use super::join::Join;
use super::over::Over;
use super::project::Project;
use super::session::{Session, SessionSpec};
use super::set::SetOperation;
use super::show::{Show, Stamped};
use super::single_row::SingleRow;
use super::temporal_filter::TemporalFilter;
use super::union::Union;
use super::unnest::Unnest;
use super::values::Values;
use super::window::Window;
use crate::error::{Error, Result};
use crate::plan::flow::{FlowNode, FlowOp, FlowPlan, NodeIndex, OverSpec, ShowSpec, WindowKey};
use crate::plan::state_ttl;

/// Which part of a node's work an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// All of it, on rows that came by [`exchange`].
    Whole,
    /// The disposable half before the exchange ([`has_local_half`]): what it emits has the schema [`flowing_schema`].
    Local,
    /// The keyed half after the exchange, which takes what the local halves emit.
    Final,
}

/// The operator of a node. Only aggregates have halves; for everything else `role` is [`Role::Whole`].
///
/// A scan has no operator: it is a source, and its plan node says what it reads.
pub fn operator(plan: &FlowPlan, node: NodeIndex, role: Role) -> Result<Box<dyn Operator>> {
    let this = get(plan, node)?;
    let schema = plan.arrow_schema(node);
    Ok(match &this.op {
        FlowOp::Scan { relation, .. } => {
            return Err(Error::internal(format!("the scan of {relation} is a source, not an operator")));
        }
        FlowOp::Values { rows } => Box::new(Values::new(rows, &schema)?),
        FlowOp::Filter { predicate } => Box::new(Filter::new(predicate, &input(plan, node, 0)?.schema, schema)?),
        FlowOp::TemporalFilter { bounds, .. } => {
            Box::new(TemporalFilter::new(bounds, &input(plan, node, 0)?.schema, schema, this.properties.changelog)?)
        }
        FlowOp::Project { expressions } => Box::new(Project::new(expressions, &input(plan, node, 0)?.schema, schema)?),
        FlowOp::Union => Box::new(Union::new(schema)),
        FlowOp::Window { window, time_column } => Box::new(Window::new(*window, *time_column, schema)?),
        FlowOp::Session { time_column, gap_micros, partition, watermark, emit } => {
            let input = input(plan, node, 0)?;
            let spec = SessionSpec {
                partition: partition.iter().map(|key| physical(key, &input.schema)).collect::<Result<_>>()?,
                time_column: *time_column,
                gap_micros: *gap_micros,
                watermark: *watermark,
                emit: *emit,
            };
            Box::new(Session::new(spec, input.schema.inner(), schema)?)
        }
        FlowOp::WindowAggregate { .. } | FlowOp::Aggregate { .. } | FlowOp::PaneAggregate { .. } => {
            aggregate::build(plan, node, role)?
        }
        FlowOp::Show(spec) if only_stamps(plan, node, spec) => Box::new(Stamped::new(spec, schema)),
        FlowOp::Show(spec) => {
            let (_, route) = show_route(plan, node, spec);
            let input = input(plan, node, 0)?.schema.as_arrow();
            Box::new(Show::new(spec.clone(), route, input, schema, this.properties.changelog)?)
        }
        FlowOp::AsOf(spec) => Box::new(AsOf::new(spec, [input(plan, node, 0)?, input(plan, node, 1)?], schema)?),
        FlowOp::Set { kind, closes } => {
            let inputs = this.inputs.iter().map(|&input| get(plan, input)).collect::<Result<Vec<_>>>()?;
            let append_only: Vec<bool> = inputs.iter().map(|input| !input.properties.changelog).collect();
            let set = SetOperation::new(*kind, schema, this.properties.changelog)?;
            Box::new(set.closing(*closes, append_only))
        }
        FlowOp::SingleRow => Box::new(SingleRow::new(schema)),
        FlowOp::Join { .. } => {
            let join = Join::new(input(plan, node, 0)?, input(plan, node, 1)?, this)?;
            Box::new(join.replicating(plan.replicated_input(node)).forgetting(state_ttl(plan, node)))
        }
        FlowOp::Unnest(spec) => Box::new(Unnest::new(spec, schema)),
        FlowOp::Over(spec) => {
            let over = Over::new(spec, input(plan, node, 0)?, &this.schema)?;
            Box::new(over.forgetting(state_ttl(plan, node)[0]))
        }
    })
}

/// How the rows that reach an operator find their worker.
#[derive(Debug, Clone)]
pub enum Exchange {
    /// They may stay where they are.
    Stay,
    /// Rows of equal keys must meet. No keys at all: all rows meet on one worker.
    ByKeys(Vec<Arc<dyn PhysicalExpr>>),
    /// Every worker gets every row.
    ToAll,
}

/// How the rows that reach input `input` of a node's [`Role::Whole`] or [`Role::Final`] operator find their worker. The keys
/// are bound to [`flowing_schema`].
pub fn exchange(plan: &FlowPlan, node: NodeIndex, input: usize) -> Result<Exchange> {
    if plan.replicated_input(node) == Some(input) {
        return Ok(Exchange::ToAll);
    }
    Ok(exchange_keys(plan, node, input)?.map_or(Exchange::Stay, Exchange::ByKeys))
}

/// The part of a node's state that every worker has, and each writes its share of.
pub fn replicated_part(plan: &FlowPlan, node: NodeIndex) -> Option<&'static str> {
    plan.replicated_input(node).map(Join::part_of)
}

fn exchange_keys(plan: &FlowPlan, node: NodeIndex, input: usize) -> Result<Option<Vec<Arc<dyn PhysicalExpr>>>> {
    let this = get(plan, node)?;
    let bind = |expressions: &mut dyn Iterator<Item = &Expr>| {
        let schema = &self::input(plan, node, input)?.schema;
        expressions.map(|expr| physical(expr, schema)).collect::<Result<Vec<_>>>()
    };
    Ok(match &this.op {
        FlowOp::Scan { .. }
        | FlowOp::Values { .. }
        | FlowOp::Filter { .. }
        | FlowOp::Project { .. }
        | FlowOp::Union
        | FlowOp::Unnest(_)
        | FlowOp::Window { .. } => None,
        // A row that only comes may stay where it is; one that goes again must find itself.
        FlowOp::TemporalFilter { .. } if !self::input(plan, node, input)?.properties.changelog => None,
        FlowOp::Set { .. } | FlowOp::TemporalFilter { .. } => Some(all_columns(self::input(plan, node, input)?)),
        FlowOp::SingleRow => Some(Vec::new()),
        FlowOp::Show(spec) => {
            let (exchanged, route) = show_route(plan, node, spec);
            let schema = &self::input(plan, node, input)?.schema;
            let column = |column: &usize| Arc::new(Column::new(schema.field(*column).name(), *column)) as _;
            (exchanged && !only_stamps(plan, node, spec)).then(|| route.iter().map(column).collect())
        }
        FlowOp::Join { .. } if plan.replicated_input(node).is_some() => {
            Some(all_columns(self::input(plan, node, input)?))
        }
        FlowOp::Join { on, .. } => {
            Some(bind(&mut on.iter().map(|(left, right)| if input == 0 { left } else { right }))?)
        }
        FlowOp::AsOf(spec) => {
            Some(bind(&mut spec.on.iter().map(|(left, right)| if input == 0 { left } else { right }))?)
        }
        FlowOp::Session { partition, .. } => Some(bind(&mut partition.iter())?),
        FlowOp::Aggregate { .. } | FlowOp::WindowAggregate { .. } if has_local_half(plan, node) => {
            let schema = aggregate::partial_schema(plan, node)?;
            let keys = schema.fields().iter().enumerate().take(aggregate::exchange_keys(plan, node)?);
            Some(keys.map(|(index, field)| Arc::new(Column::new(field.name(), index)) as _).collect())
        }
        FlowOp::Aggregate { group, .. } | FlowOp::PaneAggregate { group, .. } => Some(bind(&mut group.iter())?),
        FlowOp::Over(spec) => Some(bind(&mut spec.partition.iter())?),
        FlowOp::WindowAggregate { group, .. } => Some(bind(&mut group.iter().filter_map(|key| match key {
            WindowKey::Key(expression) => Some(expression),
            WindowKey::Start | WindowKey::End => None,
        }))?),
    })
}

fn all_columns(node: &FlowNode) -> Vec<Arc<dyn PhysicalExpr>> {
    let fields = node.schema.fields().iter().enumerate();
    fields.map(|(index, field)| Arc::new(Column::new(field.name(), index)) as _).collect()
}

/// Columns of a node's output whose equal values stand on one worker already, if the plan says so: an aggregate's keys
/// behind whatever passes them on. `None`: nothing is known.
pub fn meeting_columns(plan: &FlowPlan, node: NodeIndex) -> Option<Vec<usize>> {
    let this = plan.nodes.get(node)?;
    match &this.op {
        FlowOp::Aggregate { group, .. } | FlowOp::PaneAggregate { group, .. } => Some((0..group.len()).collect()),
        FlowOp::WindowAggregate { group, .. } => {
            let keys = group.iter().enumerate().filter(|(_, key)| matches!(key, WindowKey::Key(_)));
            Some(keys.map(|(column, _)| column).collect())
        }
        FlowOp::Session { partition, .. } | FlowOp::Over(OverSpec { partition, .. }) => {
            let schema = &plan.nodes.get(*this.inputs.first()?)?.schema;
            let place = |key: &Expr| schema.maybe_index_of_column(key.try_as_col()?);
            partition.iter().map(place).collect()
        }
        FlowOp::AsOf(spec) => {
            let schema = &plan.nodes.get(*this.inputs.first()?)?.schema;
            spec.on.iter().map(|(left, _)| schema.maybe_index_of_column(left.try_as_col()?)).collect()
        }
        // Rows stay on the worker that they came to; when they are restored, each goes where all of its columns send it.
        FlowOp::TemporalFilter { .. } if !plan.nodes.get(*this.inputs.first()?)?.properties.changelog => None,
        FlowOp::Set { .. } | FlowOp::TemporalFilter { .. } => Some((0..this.schema.fields().len()).collect()),
        FlowOp::SingleRow => Some(Vec::new()),
        FlowOp::Show(spec) => {
            let columns = match only_stamps(plan, node, spec) {
                true => meeting_columns(plan, *this.inputs.first()?)?,
                false => show_route(plan, node, spec).1,
            };
            columns.iter().all(|column| *column < spec.visible).then_some(columns)
        }
        FlowOp::Filter { .. } | FlowOp::Window { .. } => meeting_columns(plan, *this.inputs.first()?),
        FlowOp::Project { expressions } => {
            let input = *this.inputs.first()?;
            let schema = &plan.nodes.get(input)?.schema;
            let passes = |expression: &Expr, column| match expression.clone().unalias() {
                Expr::Column(of) => schema.maybe_index_of_column(&of) == Some(column),
                _ => false,
            };
            let place = |column| expressions.iter().position(|expression| passes(expression, column));
            meeting_columns(plan, input)?.into_iter().map(place).collect()
        }
        FlowOp::Scan { .. } | FlowOp::Values { .. } | FlowOp::Unnest(_) | FlowOp::Union | FlowOp::Join { .. } => None,
    }
}

/// By which columns of its input the rows of a group of a [`FlowOp::Show`] are brought together, and whether they have to be
/// exchanged for that: the rows of an aggregate's group stand on one worker already.
fn show_route(plan: &FlowPlan, node: NodeIndex, spec: &ShowSpec) -> (bool, Vec<usize>) {
    let input = plan.nodes.get(node).and_then(|node| node.inputs.first().copied());
    match input.and_then(|input| meeting_columns(plan, input)) {
        Some(meet) if meet.iter().all(|column| spec.key.contains(column)) => (false, meet),
        _ => (true, spec.key.clone()),
    }
}

/// Whether the rows of a [`FlowOp::Show`] only get the columns of a changelog: they are neither corrected nor wait.
fn only_stamps(plan: &FlowPlan, node: NodeIndex, spec: &ShowSpec) -> bool {
    let corrected = input(plan, node, 0).is_ok_and(|input| input.properties.changelog);
    spec.stream && !spec.numbered && !spec.firing.holds_back() && !corrected
}

/// Whether a node's input is worth aggregating before it crosses workers.
pub fn has_local_half(plan: &FlowPlan, node: NodeIndex) -> bool {
    match plan.nodes.get(node).map(|node| &node.op) {
        // Sums don't say which of their rows were late.
        _ if plan.late.is_some() => false,
        Some(FlowOp::Aggregate { .. } | FlowOp::WindowAggregate { .. }) => aggregate::has_local_half(plan, node),
        _ => false,
    }
}

/// The schema of the rows that the keys of an [`exchange`] are bound to: the local half's output, or else the input's own.
pub fn flowing_schema(plan: &FlowPlan, node: NodeIndex, input: usize) -> Result<SchemaRef> {
    if has_local_half(plan, node) {
        return aggregate::partial_schema(plan, node);
    }
    Ok(Arc::clone(self::input(plan, node, input)?.schema.inner()))
}

fn get(plan: &FlowPlan, node: NodeIndex) -> Result<&FlowNode> {
    plan.nodes.get(node).ok_or_else(|| Error::internal(format!("the plan has no node {node}")))
}

fn input(plan: &FlowPlan, node: NodeIndex, input: usize) -> Result<&FlowNode> {
    let inputs = &get(plan, node)?.inputs;
    let index = inputs.get(input).ok_or_else(|| Error::internal(format!("node {node} has no input {input}")))?;
    get(plan, *index)
}
