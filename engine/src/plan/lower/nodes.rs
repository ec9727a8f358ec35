//! Nodes of the flow plan, each once.

use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::Result;
use crate::plan::fault::planning_error;
use crate::plan::flow::{FlowNode, FlowOp, FlowProperties, NodeIndex};
use crate::plan::identity::operator_id;
use crate::plan::properties::projected;
use crate::plan::state_ttl::read_as;

use super::Lowering;

impl Lowering<'_> {
    /// Adds a node; or answers with one that is there already and does the same on the same inputs (a common table
    /// expression that is named twice, a stream joined with itself): it runs once, and has one state.
    pub(super) fn push(
        &mut self,
        op: FlowOp,
        inputs: Vec<NodeIndex>,
        schema: DFSchemaRef,
        properties: FlowProperties,
    ) -> Result<NodeIndex> {
        let text = if is_shareable(&op) { format!("{inputs:?} {}", share_text(&op)) } else { String::new() };
        let same = |(index, known): &(usize, &String)| {
            !text.is_empty() && **known == text && same_fields(self.schema(*index), &schema)
        };
        if let Some((index, _)) = self.texts.iter().enumerate().find(same) {
            self.shared.insert(index);
            return self.called(index, schema);
        }
        Ok(self.added(op, inputs, schema, properties, text))
    }

    /// How long a node is to remember what it reads of inputs, if the statement says something of one of them.
    pub(super) fn ttl_of(&self, inputs: [&LogicalPlan; 2]) -> [Option<i64>; 2] {
        inputs.map(|input| {
            let said = read_as(input).and_then(|name| self.ttls.get(name));
            said.map(|(ttl, _)| *ttl).or(self.plan.state_ttl)
        })
    }

    /// Takes note of how long a node remembers what it reads of inputs. What two parts of the statement share is remembered
    /// as long as the longer of them says.
    pub(super) fn remember(&mut self, node: NodeIndex, inputs: [&LogicalPlan; 2]) {
        if self.ttls.is_empty() {
            return;
        }
        // One that was there already may be called otherwise here, by a projection.
        let node = match (&self.plan.nodes[node].op, self.plan.nodes[node].inputs.as_slice()) {
            (FlowOp::Project { .. }, [below]) => *below,
            _ => node,
        };
        let mut ttl = self.ttl_of(inputs);
        if let Some(before) = self.plan.state_ttls.get(&node) {
            ttl = [0, 1].map(|side| before[side].zip(ttl[side]).map(|(one, other)| one.max(other)));
        }
        self.plan.state_ttls.insert(node, ttl);
        for (side, input) in inputs.into_iter().enumerate() {
            if let Some((_, uses)) = read_as(input).and_then(|name| self.ttls.get_mut(name)) {
                uses.push((node, side));
            }
        }
    }

    pub(super) fn added(
        &mut self,
        op: FlowOp,
        inputs: Vec<NodeIndex>,
        schema: DFSchemaRef,
        properties: FlowProperties,
        text: String,
    ) -> NodeIndex {
        let of: Vec<&str> = inputs.iter().map(|&input| self.plan.nodes[input].id.as_str()).collect();
        let taken: Vec<&str> = self.plan.nodes.iter().map(|node| node.id.as_str()).collect();
        let id = operator_id(&op, &of, &taken);
        self.plan.nodes.push(FlowNode { id, op, inputs, schema, properties });
        self.texts.push(text);
        self.plan.nodes.len() - 1
    }

    /// The node with its columns called as `schema` calls them.
    pub(super) fn called(&mut self, node: NodeIndex, schema: DFSchemaRef) -> Result<NodeIndex> {
        if self.schema(node).columns() == schema.columns() {
            return Ok(node);
        }
        let used = self.plan.nodes.iter().any(|other| other.inputs.contains(&node));
        if !used && !self.shared.contains(&node) {
            self.plan.nodes[node].schema = schema;
            return Ok(node);
        }
        let expressions: Vec<Expr> = self.schema(node).columns().into_iter().map(Expr::Column).collect();
        let properties = self.properties(node).clone();
        Ok(self.added(FlowOp::Project { expressions }, vec![node], schema, properties, String::new()))
    }

    pub(super) fn schema(&self, node: NodeIndex) -> &DFSchemaRef {
        &self.plan.nodes[node].schema
    }

    pub(super) fn properties(&self, node: NodeIndex) -> &FlowProperties {
        &self.plan.nodes[node].properties
    }

    /// The node, or a projection of it to exactly the columns of `wanted`, in order.
    pub(super) fn fitted(&mut self, node: NodeIndex, wanted: &DFSchemaRef) -> Result<NodeIndex> {
        let have = self.schema(node);
        if have.columns() == wanted.columns() {
            return Ok(node);
        }
        let expressions: Vec<Expr> = wanted.columns().into_iter().map(Expr::Column).collect();
        for column in wanted.columns() {
            have.index_of_column(&column).map_err(planning_error)?;
        }
        let properties = projected(&expressions, have, self.properties(node));
        self.push(FlowOp::Project { expressions }, vec![node], Arc::clone(wanted), properties)
    }
}

/// Whether two nodes that do this may be one.
fn is_shareable(op: &FlowOp) -> bool {
    match op {
        FlowOp::Values { .. } => false,
        FlowOp::Filter { predicate } => !predicate.is_volatile(),
        FlowOp::Project { expressions } => !expressions.iter().any(Expr::is_volatile),
        _ => true,
    }
}

/// What a node does, as text. The number of a scan's watermark is its own, not what it does.
fn share_text(op: &FlowOp) -> String {
    match op {
        FlowOp::Scan { relation, kind, projection, watermark } => {
            format!("scan {relation} {kind:?} {projection:?} {}", watermark.is_some())
        }
        other => format!("{other:?}"),
    }
}

fn same_fields(one: &DFSchema, other: &DFSchema) -> bool {
    one.fields() == other.fields()
}
