//! Projection down to leaves: what of a stream's columns a plan reads, where they are rows in rows.
//!
//! DataFusion's rules leave whole columns to a scan. Which fields of them are read stands in the expressions above it: up to the
//! operators behind which a column is gone or is a value of its own. Operators that are not named here read all of their
//! inputs.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;

use super::flow::{FlowNode, FlowOp, FlowPlan, WindowKey};
use crate::error::Result;
use crate::schema::Leaves;

impl FlowPlan {
    /// What is read of each node's columns. Of a scan that is what its source need deliver.
    pub fn leaves(&self) -> Result<Vec<Vec<Leaves>>> {
        let nothing = |node: &FlowNode| vec![Leaves::none(); node.schema.fields().len()];
        let mut read: Vec<Vec<Leaves>> = self.nodes.iter().map(nothing).collect();
        // The result shows its rows, and so does what takes late ones.
        let shown = if self.late.is_some() { 0 } else { self.nodes.len().saturating_sub(1) };
        read.iter_mut().skip(shown).for_each(|columns| columns.fill(Leaves::Whole));
        // Users stand behind what they use: what is read of a node is known before it is asked what it reads.
        for (above, node) in self.nodes.iter().enumerate().rev() {
            let passed = std::mem::take(&mut read[above]);
            for (place, &input) in node.inputs.iter().enumerate() {
                self.add_user(node, place, &passed, &mut read[input])?;
            }
            read[above] = passed;
            if let FlowOp::Scan { watermark: Some(watermark), .. } = &node.op {
                read[above][watermark.column] = Leaves::Whole;
                add_expr(&watermark.expression, &node.schema, &mut read[above])?;
            }
        }
        Ok(read)
    }

    /// Adds what a node reads of its input at `place`, if `passed` is what is read of its own columns.
    fn add_user(&self, node: &FlowNode, place: usize, passed: &[Leaves], read: &mut [Leaves]) -> Result<()> {
        let schema = &self.nodes[node.inputs[place]].schema;
        match &node.op {
            FlowOp::Filter { predicate } => {
                merge(read, passed);
                add_expr(predicate, schema, read)
            }
            FlowOp::TemporalFilter { conditions, bounds } => {
                merge(read, passed);
                let times = bounds.iter().filter_map(|bound| bound.at.as_ref().map(|(expr, _)| expr));
                let mut exprs = conditions.iter().chain(bounds.iter().map(|bound| &bound.condition)).chain(times);
                exprs.try_for_each(|expr| add_expr(expr, schema, read))
            }
            FlowOp::Project { expressions } => {
                for (expr, passed) in expressions.iter().zip(passed) {
                    match expr.clone().unalias() {
                        // It is passed on under a name.
                        Expr::Column(column) => read[schema.index_of_column(&column)?].merge(passed),
                        expr => add_expr(&expr, schema, read)?,
                    }
                }
                Ok(())
            }
            FlowOp::Window { time_column, .. } => {
                merge(read, passed);
                read[*time_column] = Leaves::Whole;
                Ok(())
            }
            FlowOp::Session { time_column, partition, .. } => {
                merge(read, passed);
                read[*time_column] = Leaves::Whole;
                partition.iter().try_for_each(|expr| add_expr(expr, schema, read))
            }
            FlowOp::WindowAggregate { time_column, group, aggregates, .. } => {
                read[*time_column] = Leaves::Whole;
                let keys = group.iter().filter_map(|key| match key {
                    WindowKey::Key(expr) => Some(expr),
                    WindowKey::Start | WindowKey::End => None,
                });
                keys.chain(aggregates).try_for_each(|expr| add_expr(expr, schema, read))
            }
            FlowOp::Aggregate { group, aggregates, .. } | FlowOp::PaneAggregate { group, aggregates, .. } => {
                group.iter().chain(aggregates).try_for_each(|expr| add_expr(expr, schema, read))
            }
            FlowOp::Join { kind, on, residual, .. } if kind.has_pairs() => {
                let mut both = passed.to_vec();
                if let Some(residual) = residual {
                    // Over the columns of both sides, as they come out.
                    add_expr(residual, &node.schema, &mut both)?;
                }
                let left = self.nodes[node.inputs[0]].schema.fields().len();
                merge(read, if place == 0 { &both } else { both.get(left..).unwrap_or_default() });
                on.iter().try_for_each(|(left, right)| add_expr(if place == 0 { left } else { right }, schema, read))
            }
            _ => {
                read.fill(Leaves::Whole);
                Ok(())
            }
        }
    }
}

/// Of columns that are passed on, in their order.
fn merge(read: &mut [Leaves], passed: &[Leaves]) {
    read.iter_mut().zip(passed).for_each(|(read, passed)| read.merge(passed));
}

/// Adds what an expression reads.
fn add_expr(expr: &Expr, schema: &DFSchema, read: &mut [Leaves]) -> Result<()> {
    expr.apply(|expr| {
        let mut path = Vec::new();
        let Some(column) = column_below(expr, &mut path) else { return Ok(TreeNodeRecursion::Continue) };
        path.reverse();
        read[schema.index_of_column(column)?].add(&path);
        Ok(TreeNodeRecursion::Jump)
    })?;
    Ok(())
}

/// The column that fields are taken of, if the expression is that or the column itself; their names, the innermost first.
fn column_below<'a>(expr: &'a Expr, path: &mut Vec<String>) -> Option<&'a datafusion::common::Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::ScalarFunction(call) if call.func.name() == "get_field" => {
            let (of, names) = call.args.split_first()?;
            for name in names.iter().rev() {
                match name {
                    Expr::Literal(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)), _) => {
                        path.push(name.clone());
                    }
                    _ => return None,
                }
            }
            column_below(of, path)
        }
        _ => None,
    }
}
