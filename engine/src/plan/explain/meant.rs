//! What the planner's own columns stand for: an expression that is computed once for several (`__common_expr_1`), a group's
//! column that the statement does not show (`_carried_2`). EXPLAIN says what they are, and not what they are called.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, SortExpr};

use super::said;
use crate::plan::flow::{FlowNode, FlowOp, FlowPlan, WindowKey};

/// The plan with expressions in the place of such columns.
pub(super) fn meant(plan: &FlowPlan) -> FlowPlan {
    let mut meanings = Meanings::default();
    let nodes = plan.nodes.iter().map(|node| meanings.node(node.clone())).collect();
    FlowPlan { nodes, ..plan.clone() }
}

fn is_own(name: &str) -> bool {
    name.starts_with("__common_expr_") || name.starts_with("_carried_")
}

/// By name what a column stands for; inputs come before those who read them.
#[derive(Default)]
struct Meanings(HashMap<String, Expr>);

impl Meanings {
    fn node(&mut self, mut node: FlowNode) -> FlowNode {
        self.in_op(&mut node.op);
        if let FlowOp::Project { expressions } = &mut node.op {
            for expression in expressions {
                if let Expr::Alias(alias) = expression
                    && is_own(&alias.name)
                {
                    let meaning = Expr::clone(&alias.expr);
                    self.0.insert(alias.name.clone(), meaning.clone());
                    *expression = meaning;
                }
            }
        }
        // Names that can't be put into a schema together stay what they are.
        if let Ok(Some(schema)) = self.schema(&node.schema) {
            node.schema = Arc::new(schema);
        }
        node
    }

    fn in_op(&self, op: &mut FlowOp) {
        match op {
            FlowOp::Filter { predicate } => self.in_expr(predicate),
            FlowOp::TemporalFilter { conditions: all, .. }
            | FlowOp::Project { expressions: all }
            | FlowOp::Session { partition: all, .. } => self.in_all(all),
            FlowOp::WindowAggregate { group, aggregates, .. } => {
                for key in group {
                    if let WindowKey::Key(key) = key {
                        self.in_expr(key);
                    }
                }
                self.in_all(aggregates);
            }
            FlowOp::Aggregate { group, aggregates, .. } | FlowOp::PaneAggregate { group, aggregates, .. } => {
                self.in_all(group);
                self.in_all(aggregates);
            }
            FlowOp::Join { on, residual, .. } => {
                self.in_pairs(on);
                residual.iter_mut().for_each(|residual| self.in_expr(residual));
            }
            FlowOp::AsOf(spec) => {
                self.in_pairs(&mut spec.on);
                self.in_expr(&mut spec.times.0);
                self.in_expr(&mut spec.times.1);
            }
            FlowOp::Over(spec) => {
                self.in_all(&mut spec.partition);
                self.in_all(&mut spec.functions);
                spec.order.iter_mut().for_each(|SortExpr { expr, .. }| self.in_expr(expr));
            }
            FlowOp::Scan { .. }
            | FlowOp::Values { .. }
            | FlowOp::Union
            | FlowOp::Window { .. }
            | FlowOp::Set { .. }
            | FlowOp::SingleRow
            | FlowOp::Unnest(_)
            | FlowOp::Show(_) => {}
        }
    }

    fn in_pairs(&self, pairs: &mut [(Expr, Expr)]) {
        for (left, right) in pairs {
            self.in_expr(left);
            self.in_expr(right);
        }
    }

    fn in_all(&self, exprs: &mut [Expr]) {
        exprs.iter_mut().for_each(|expr| self.in_expr(expr));
    }

    fn in_expr(&self, expr: &mut Expr) {
        let meaning = |expr: Expr| match &expr {
            Expr::Column(column) => Ok(match self.0.get(&column.name) {
                Some(meaning) => Transformed::yes(meaning.clone()),
                None => Transformed::no(expr),
            }),
            _ => Ok(Transformed::no(expr)),
        };
        if let Ok(meant) = expr.clone().transform_up(meaning).data() {
            *expr = meant;
        }
    }

    /// The schema with the columns called what they stand for, if there are such.
    fn schema(&self, schema: &DFSchema) -> PlanResult<Option<DFSchema>> {
        if !schema.fields().iter().any(|field| self.0.contains_key(field.name())) {
            return Ok(None);
        }
        let called = schema.iter().map(|(qualifier, field)| {
            let field = match self.0.get(field.name()) {
                Some(meaning) => Arc::new(field.as_ref().clone().with_name(said(meaning))),
                None => Arc::clone(field),
            };
            (qualifier.cloned(), field)
        });
        DFSchema::new_with_metadata(called.collect(), schema.metadata().clone()).map(Some)
    }
}
