//! Columns of one name in a subquery that names the row outside.
//!
//! DataFusion's rules carry the columns that are compared with the row outside up through the subquery, and know them there by
//! their names alone: of `p.k` and `q.k` it takes one for the other.

use std::collections::HashSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Whether a column that a subquery compares with the row outside has the name of another column of the subquery's.
pub(in crate::plan) fn has_namesakes(subquery: &LogicalPlan) -> PlanResult<bool> {
    let mut compared: HashSet<&str> = HashSet::new();
    subquery.apply(|node| {
        let conditions: Vec<&Expr> = match node {
            LogicalPlan::Filter(filter) => vec![&filter.predicate],
            LogicalPlan::Join(join) => join.filter.iter().collect(),
            _ => Vec::new(),
        };
        for condition in conditions.into_iter().flat_map(split_conjunction) {
            if condition.contains_outer() {
                compared.extend(condition.column_refs().into_iter().map(|column| column.name.as_str()));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // Where columns of these names come from: relations, and what is computed.
    let mut origins: HashSet<&str> = HashSet::new();
    let mut twice = false;
    subquery.apply(|node| {
        match node {
            LogicalPlan::Projection(projection) => {
                let fields = projection.schema.fields().iter();
                for (expr, field) in projection.expr.iter().zip(fields) {
                    let handed = matches!(expr, Expr::Column(column) if column.name == *field.name());
                    if !handed && compared.contains(field.name().as_str()) {
                        twice |= !origins.insert(field.name());
                    }
                }
            }
            node if node.inputs().is_empty() => {
                for field in node.schema().fields() {
                    if compared.contains(field.name().as_str()) {
                        twice |= !origins.insert(field.name());
                    }
                }
            }
            _ => {}
        }
        Ok(if twice { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(twice)
}
