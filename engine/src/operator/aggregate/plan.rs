//! What an aggregate node of the plan says, lowered for its operators.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_expr::PhysicalExpr;

use super::call::{Call, Lifetime, bound};
use super::table::{Rows, Shape};
use super::windows::{Windows, micros};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::flow::{Emit, FlowNode, FlowOp, FlowPlan, NodeIndex, WindowKey};
use crate::plan::state_ttl;
use crate::time::WatermarkId;

/// An aggregate node.
pub(super) struct AggregatePlan {
    /// The group expressions other than a window's bounds.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) key_fields: Vec<FieldRef>,
    pub(super) calls: Vec<Call>,
    /// The output's schema.
    pub(super) schema: SchemaRef,
    pub(super) emit: Emit,
    /// Whether the input's rows may be taken back. Then the last of the calls counts the rows of each group.
    pub(super) retracts: bool,
    pub(super) changelog: bool,
    /// How long a group is remembered that no row touches, in microseconds; `None`: for ever, or until it closes.
    pub(super) state_ttl: Option<i64>,
    pub(super) kind: Kind,
}

/// Running or windowed.
pub(super) enum Kind {
    Running {
        /// (key, watermark, delay)
        closes: Option<(usize, WatermarkId, i64)>,
    },
    Windowed {
        windows: Windows,
        time_column: usize,
        watermark: Option<(WatermarkId, i64)>,
        /// What must have passed a window before it is shown, if not `Emit::AfterWatermark`.
        shown_from: Option<(WatermarkId, i64)>,
        /// The output's group columns.
        layout: Vec<Place>,
    },
}

/// What a group column of a windowed aggregate's output shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    End,
    /// The key of that number.
    Key(usize),
}

/// Column names of the local half's output.
const SLICE: &str = "_slice";
const ROWS: &str = "_rows";

impl AggregatePlan {
    pub(super) fn new(plan: &FlowPlan, node: NodeIndex) -> Result<Self> {
        let this = get(plan, node)?;
        let input = get(plan, *this.inputs.first().ok_or_else(|| Error::internal("an aggregate has no input"))?)?;
        let retracts = input.properties.changelog;
        let (group, aggregates, emit, kind): (Vec<&Expr>, _, _, _) = match &this.op {
            FlowOp::Aggregate { group, aggregates, closes, emit } => {
                (group.iter().collect(), aggregates, *emit, Kind::Running { closes: *closes })
            }
            FlowOp::PaneAggregate { group, aggregates, closes, .. } => {
                (group.iter().collect(), aggregates, Emit::OnChange, Kind::Running { closes: *closes })
            }
            FlowOp::WindowAggregate { window, time_column, watermark, shown_from, group, aggregates, emit } => {
                let mut keys = Vec::new();
                let mut layout = Vec::new();
                for key in group {
                    layout.push(match key {
                        WindowKey::Start => Place::Start,
                        WindowKey::End => Place::End,
                        WindowKey::Key(expression) => {
                            keys.push(expression);
                            Place::Key(keys.len() - 1)
                        }
                    });
                }
                let windows = Windows::new(*window)?;
                let kind = Kind::Windowed {
                    windows,
                    time_column: *time_column,
                    watermark: *watermark,
                    shown_from: *shown_from,
                    layout,
                };
                (keys, aggregates, *emit, kind)
            }
            _ => return Err(Error::internal(format!("node {node} of the plan is not an aggregate"))),
        };
        let schema = &input.schema;
        let keys = bound(group.into_iter(), schema)?;
        let key_fields = keys
            .iter()
            .enumerate()
            .map(|(number, key)| {
                let data_type = key.data_type(schema.as_arrow())?;
                Ok(Arc::new(Field::new(format!("_key{number}"), data_type, true)))
            })
            .collect::<Result<Vec<_>>>()?;
        let call = |call: &Expr| if retracts { Call::over_changelog(call, schema) } else { Call::new(call, schema) };
        let mut calls = aggregates.iter().map(call).collect::<Result<Vec<_>>>()?;
        if retracts {
            // A group is there as long as it has rows.
            calls.push(Call::over_changelog(&count_udaf().call(vec![lit(1_i64)]), schema)?);
        }
        let changelog = this.properties.changelog;
        let (schema, state_ttl) = (plan.arrow_schema(node), state_ttl(plan, node)[0]);
        Ok(Self { keys, key_fields, calls, schema, emit, retracts, changelog, state_ttl, kind })
    }

    /// The tables' shape: the same for both halves, since DataFusion's accumulators for many groups and those for one
    /// don't always understand each other's states.
    pub(super) fn shape(&self) -> Shape {
        let waits = self.is_windowed() && self.emit == Emit::AfterWatermark;
        let lifetime = match (self.retracts, waits) {
            (true, _) => Lifetime::Changelog,
            (false, true) => Lifetime::Pane,
            (false, false) => Lifetime::Long,
        };
        let keys = self.key_fields.iter().map(|field| field.data_type().clone()).collect();
        Shape { keys, calls: self.calls.clone(), lifetime }
    }

    /// Keys and states, with what stands between them.
    pub(super) fn state_schema(&self, between: &[&str]) -> SchemaRef {
        let mut fields = self.key_fields.clone();
        fields.extend(between.iter().map(|name| Arc::new(Field::new(*name, DataType::Int64, false))));
        fields.extend(self.calls.iter().enumerate().flat_map(|(number, call)| call.state_fields(number)));
        Arc::new(Schema::new(fields))
    }

    /// [`AggregatePlan::state_schema`], then the results that are kept beside the states.
    pub(super) fn snapshot_schema(&self, between: &[&str]) -> SchemaRef {
        let mut fields = self.state_schema(between).fields().to_vec();
        fields.extend(self.calls.iter().enumerate().filter_map(|(number, call)| call.remembered_field(number)));
        Arc::new(Schema::new(fields))
    }

    /// What the local half emits.
    pub(super) fn partial_schema(&self) -> SchemaRef {
        let between: &[&str] = if self.is_windowed() { &[SLICE] } else { &[] };
        let schema = self.state_schema(between);
        if !self.counts_rows() {
            return schema;
        }
        let mut fields = schema.fields().to_vec();
        fields.push(Arc::new(Field::new(ROWS, DataType::Int64, false)));
        Arc::new(Schema::new(fields))
    }

    pub(super) fn is_windowed(&self) -> bool {
        matches!(self.kind, Kind::Windowed { .. })
    }

    /// Whether combining rows before they cross workers is worth it.
    pub(super) fn gains_by_halves(&self) -> bool {
        let of_everything = self.keys.is_empty() && !self.is_windowed();
        of_everything || self.calls.iter().all(Call::is_combining)
    }

    /// Whether partial rows say how many rows they stand for, so that late ones can be counted.
    fn counts_rows(&self) -> bool {
        !self.retracts && !matches!(self.kind, Kind::Running { closes: None })
    }

    /// The local half's calls: the node's, and a count of rows.
    pub(super) fn local_calls(&self) -> Result<Vec<Call>> {
        let mut calls = self.calls.clone();
        if self.counts_rows() {
            calls.push(Call::new(&count_udaf().call(vec![lit(1_i64)]), &datafusion::common::DFSchema::empty())?);
        }
        Ok(calls)
    }

    /// How raw rows are read.
    pub(super) fn raw_input(&self, calls: Vec<Call>) -> Input {
        let time_column = match &self.kind {
            Kind::Windowed { time_column, .. } => Some(*time_column),
            Kind::Running { .. } => None,
        };
        Input::Raw { keys: self.keys.clone(), calls, time_column, retracts: self.retracts }
    }

    /// How the local half's rows are read.
    pub(super) fn partial_input(&self) -> Input {
        let (keys, windowed) = (self.keys.len(), self.is_windowed());
        Input::Partial { keys, windowed, calls: self.calls.clone(), counts: self.counts_rows() }
    }
}

fn get(plan: &FlowPlan, node: NodeIndex) -> Result<&FlowNode> {
    plan.nodes.get(node).ok_or_else(|| Error::internal(format!("the plan has no node {node}")))
}

/// How an operator reads its input.
pub(super) enum Input {
    /// Rows of the node's input.
    Raw { keys: Vec<Arc<dyn PhysicalExpr>>, calls: Vec<Call>, time_column: Option<usize>, retracts: bool },
    /// Rows of local halves.
    Partial { keys: usize, windowed: bool, calls: Vec<Call>, counts: bool },
}

/// A batch, read.
pub(super) struct Read {
    pub(super) rows: Rows,
    /// Event times, or starts of slices: in microseconds; `None` without windows.
    pub(super) times: Option<Int64Array>,
    /// How many rows each partial row stands for; `None` for raw rows (one each).
    pub(super) totals: Option<Int64Array>,
}

impl Input {
    /// The column with the event time, of raw rows.
    pub(super) fn time_column(&self) -> Option<usize> {
        match self {
            Input::Raw { time_column, .. } => *time_column,
            Input::Partial { .. } => None,
        }
    }

    pub(super) fn read(&self, delta: Delta) -> Result<Read> {
        let (batch, weights) = delta.into_parts();
        let batch = &batch;
        match self {
            Input::Raw { keys, calls, time_column, retracts } => {
                let times = time_column.map(|column| micros(batch.column(column))).transpose()?;
                let mut rows = Rows::raw(batch, keys, calls)?;
                rows.weights = match (weights, retracts) {
                    (weights, false) if weights.is_none() => None,
                    (Some(weights), true) => Some(weights),
                    (None, true) => Some(Int64Array::from_value(1, rows.count)),
                    _ => return Err(Error::internal("a retraction reached an aggregate over rows that only grow")),
                };
                Ok(Read { rows, times, totals: None })
            }
            Input::Partial { .. } if weights.is_some() => Err(Error::internal("partial rows have no weights")),
            Input::Partial { keys, windowed, calls, counts } => {
                let states = keys + usize::from(*windowed);
                let times = windowed.then(|| micros(batch.column(*keys))).transpose()?;
                let totals = match batch.columns().last() {
                    Some(column) if *counts => Some(rows_column(column)?),
                    _ => None,
                };
                Ok(Read { rows: Rows::partial(batch, *keys, states, calls), times, totals })
            }
        }
    }
}

fn rows_column(column: &ArrayRef) -> Result<Int64Array> {
    let totals = column.as_primitive_opt::<Int64Type>().cloned();
    totals.ok_or_else(|| Error::internal("the last column of partial rows is not their number"))
}
