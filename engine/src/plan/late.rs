//! `LATE ROWS TO name`: rows that come too late, from whatever operators drop them, as rows of one relation.
//!
//! Operators have inputs of different columns. The relation has all of them, by name; a row has NULLs for those that its
//! operator does not read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};

use crate::error::{Error, ErrorKind, Result};
use crate::time::WatermarkId;

use super::flow::{FlowOp, FlowPlan, LatePlan, LateSource, NodeIndex, OverSpec};
use super::release::join_release;

/// The columns that say why a row was late.
fn reason_fields() -> [FieldRef; 3] {
    let time = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    [
        Arc::new(Field::new("late_operator", DataType::Utf8, false)),
        Arc::new(Field::new("late_ptime", time(Some("+00:00")), false)),
        Arc::new(Field::new("late_watermark", time(None), true)),
    ]
}

/// The relation of a plan's late rows.
pub(super) fn late_rows(plan: &FlowPlan, target: &str) -> Result<LatePlan> {
    let mut sources = Vec::new();
    let mut fields: Vec<FieldRef> = Vec::new();
    for (node, of_node) in plan.nodes.iter().enumerate() {
        for (input, &below) in of_node.inputs.iter().enumerate() {
            let rows = &plan.nodes[below];
            // A row that is taken back is never late.
            let Some(watermark) = decides(plan, node, input).filter(|_| !rows.properties.changelog) else { continue };
            for field in rows.schema.fields() {
                match fields.iter().find(|known| known.name() == field.name()) {
                    None => fields.push(Arc::new(field.as_ref().clone().with_nullable(true))),
                    Some(known) if known.data_type() == field.data_type() => {}
                    Some(_) => return Err(two_types(field.name())),
                }
            }
            sources.push(LateSource { node, input, operator: name(&of_node.op), watermark, columns: Vec::new() });
        }
    }
    if sources.is_empty() {
        return Err(Error::not_supported("LATE ROWS TO wants rows that come too late, and in this query none can")
            .with_hint("windows and groups over a stream with a WATERMARK drop late rows; leave LATE ROWS out"));
    }
    for source in &mut sources {
        let columns = &plan.nodes[plan.nodes[source.node].inputs[source.input]].schema;
        let place = |field: &FieldRef| columns.fields().iter().position(|own| own.name() == field.name());
        source.columns = fields.iter().map(place).collect();
    }
    if let Some(taken) = reason_fields().iter().find(|own| fields.iter().any(|field| field.name() == own.name())) {
        return Err(Error::new(ErrorKind::InvalidDefinition, format!("two columns are named {}", taken.name()))
            .with_hint("LATE ROWS TO adds late_operator, late_ptime and late_watermark"));
    }
    fields.extend(reason_fields());
    Ok(LatePlan { target: target.to_owned(), schema: Arc::new(Schema::new(fields)), sources })
}

impl LatePlan {
    /// The relation with some of its columns, by index and ascending.
    pub fn projected(&self, columns: &[usize]) -> Result<Self> {
        let own = self.own_columns();
        let kept = |source: &LateSource| {
            let columns = columns.iter().filter(|column| **column < own).map(|column| source.columns[*column]);
            LateSource { columns: columns.collect(), ..source.clone() }
        };
        let sources = self.sources.iter().map(kept).collect();
        Ok(Self { target: self.target.clone(), schema: Arc::new(self.schema.project(columns)?), sources })
    }

    /// How many columns are the rows' own.
    fn own_columns(&self) -> usize {
        self.sources.first().map_or(0, |source| source.columns.len())
    }
}

/// The watermark by which an operator decides that a row of one of its inputs is late, if it does.
fn decides(plan: &FlowPlan, node: NodeIndex, input: usize) -> Option<WatermarkId> {
    match &plan.nodes[node].op {
        FlowOp::WindowAggregate { watermark, .. } | FlowOp::Session { watermark, .. } => watermark.map(|(id, _)| id),
        FlowOp::Aggregate { closes, .. } | FlowOp::PaneAggregate { closes, .. } | FlowOp::Set { closes, .. } => {
            closes.map(|(_, id, _)| id)
        }
        FlowOp::Over(OverSpec { closes, settles, .. }) => {
            closes.map(|(_, id, _)| id).or_else(|| settles.map(|(id, _)| id))
        }
        FlowOp::AsOf(spec) => spec.promises.get(input).copied().flatten().map(|(id, _)| id),
        FlowOp::Join { .. } => {
            let other = join_release(plan, node).into_iter().nth(1 - input.min(1)).flatten()?;
            other.promises.first().map(|(id, _)| *id)
        }
        _ => None,
    }
}

fn name(op: &FlowOp) -> String {
    match op {
        FlowOp::WindowAggregate { window, .. } => format!("WindowAggregate {window}"),
        FlowOp::Session { .. } => "Session".to_owned(),
        FlowOp::Set { kind, .. } => kind.to_string(),
        FlowOp::Over(_) => "Over".to_owned(),
        FlowOp::Join { .. } => "Join".to_owned(),
        FlowOp::AsOf(_) => "As-of join".to_owned(),
        _ => "Aggregate".to_owned(),
    }
}

fn two_types(column: &str) -> Error {
    Error::not_supported(format!(
        "LATE ROWS TO makes one relation of all late rows, and two operators read a column {column} of different types"
    ))
    .with_hint("rename one of them with AS in a subquery")
}
