//! Set operations, DISTINCT over rows that may be retracted, and the guard of subqueries.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Aggregate, Expr, cast};

use crate::error::{Error, Result};
use crate::plan::fault::planning_error;
use crate::plan::flow::{FlowOp, FlowProperties, NodeIndex, SetKind, TimeColumn};
use crate::plan::node::set::SetNode;
use crate::plan::properties::projected;
use crate::plan::subquery::single_row::SingleRowNode;
use crate::time::WatermarkId;

use super::Lowering;

impl Lowering<'_> {
    pub(super) fn set(&mut self, set: &SetNode) -> Result<NodeIndex> {
        let mut inputs = Vec::new();
        for side in set.sides() {
            let node = self.node(side)?;
            inputs.push(self.fitted(node, side.schema())?);
        }
        let wanted = Arc::clone(self.schema(inputs[0]));
        let types = common_types(self.schema(inputs[0]), self.schema(inputs[1]))?;
        for input in &mut inputs {
            *input = self.cast(*input, &types)?;
        }
        let [left, right] = [inputs[0], inputs[1]].map(|input| self.properties(input).clone());
        let mut time_columns = Vec::new();
        for column in 0..types.len() {
            let promise = |properties: &FlowProperties| {
                let times = &properties.time_columns;
                times.iter().find(|time| time.column == column).map(|time| (time.watermark, time.delay_micros))
            };
            // A row's part in the result can change as long as it can come on either side.
            if let (Some(left), Some(right)) = (promise(&left), promise(&right))
                && let Some((watermark, delay_micros)) = self.least(vec![left, right])
            {
                time_columns.push(TimeColumn { column, watermark, delay_micros });
            }
        }
        let mut keys = left.keys;
        let (monotone, all) = match set.kind() {
            SetKind::Distinct => (true, false),
            SetKind::Intersect { all } => (true, all),
            SetKind::Except { all } => (false, all),
        };
        if !all && keys.is_empty() {
            keys.push((0..types.len()).collect());
        }
        let changelog = !monotone || left.changelog || right.changelog;
        let closes = closes(&time_columns);
        let properties = FlowProperties { changelog, keys, time_columns };
        let schema = Arc::clone(self.schema(inputs[0]));
        let node = self.push(FlowOp::Set { kind: set.kind(), closes }, inputs, schema, properties)?;
        let types: Vec<DataType> = wanted.fields().iter().map(|field| field.data_type().clone()).collect();
        self.cast(node, &types)
    }

    /// DISTINCT, an aggregate without aggregates, over rows that may be retracted.
    pub(super) fn distinct(&mut self, aggregate: &Aggregate, input: NodeIndex) -> Result<NodeIndex> {
        self.stable(&aggregate.group_expr, input)?;
        let group: Vec<Expr> = aggregate.group_expr.iter().cloned().map(Expr::unalias).collect();
        let rows = projected(&group, self.schema(input), self.properties(input));
        let project = FlowOp::Project { expressions: group };
        let projected = self.push(project, vec![input], Arc::clone(&aggregate.schema), rows)?;
        self.different(projected)
    }

    /// The node's different rows.
    pub(super) fn different(&mut self, input: NodeIndex) -> Result<NodeIndex> {
        let schema = Arc::clone(self.schema(input));
        let FlowProperties { changelog, time_columns, .. } = self.properties(input).clone();
        let closes = closes(&time_columns);
        let properties = FlowProperties { changelog, keys: vec![(0..schema.fields().len()).collect()], time_columns };
        self.push(FlowOp::Set { kind: SetKind::Distinct, closes }, vec![input], schema, properties)
    }

    pub(super) fn single_row(&mut self, guard: &SingleRowNode) -> Result<NodeIndex> {
        let input = self.node(guard.input())?;
        let input = self.fitted(input, guard.input().schema())?;
        let properties = FlowProperties { keys: vec![Vec::new()], ..self.properties(input).clone() };
        if self.properties(input).keys.iter().any(Vec::is_empty) {
            return Ok(input);
        }
        let schema = Arc::clone(self.schema(input));
        self.push(FlowOp::SingleRow, vec![input], schema, properties)
    }

    /// The rows with their columns cast, where they are of another type.
    fn cast(&mut self, input: NodeIndex, types: &[DataType]) -> Result<NodeIndex> {
        let schema = Arc::clone(self.schema(input));
        if schema.fields().iter().zip(types).all(|(field, wanted)| field.data_type() == wanted) {
            return Ok(input);
        }
        let mut fields = Vec::new();
        let mut expressions = Vec::new();
        for ((qualifier, field), wanted) in schema.iter().zip(types) {
            let column = Expr::Column(Column::from((qualifier, field)));
            let same = field.data_type() == wanted;
            expressions.push(if same { column } else { cast(column, wanted.clone()) });
            fields.push((qualifier.cloned(), Arc::new(field.as_ref().clone().with_data_type(wanted.clone()))));
        }
        let output = DFSchema::new_with_metadata(fields, Default::default()).map_err(planning_error)?;
        let properties = projected(&expressions, &schema, self.properties(input));
        self.push(FlowOp::Project { expressions }, vec![input], Arc::new(output), properties)
    }
}

/// The column that lets rows go first.
fn closes(times: &[TimeColumn]) -> Option<(usize, WatermarkId, i64)> {
    let first = times.iter().min_by_key(|time| time.delay_micros)?;
    Some((first.column, first.watermark, first.delay_micros))
}

/// For each column the type in which both sides are compared.
fn common_types(left: &DFSchema, right: &DFSchema) -> Result<Vec<DataType>> {
    let pairs = left.fields().iter().zip(right.fields());
    pairs
        .map(|(left, right)| {
            let (of_left, of_right) = (left.data_type(), right.data_type());
            if of_left == of_right {
                return Ok(of_left.clone());
            }
            comparison_coercion(of_left, of_right).ok_or_else(|| {
                Error::new(
                    crate::error::ErrorKind::DatatypeMismatch,
                    format!("{} ({of_left}) and {} ({of_right}) cannot be compared", left.name(), right.name()),
                )
                .with_hint("CAST one of them")
            })
        })
        .collect()
}
