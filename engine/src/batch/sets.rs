//! INTERSECT and EXCEPT as joins: the batch form of the set operations.
//!
//! `ALL` counts: the copies of a row are numbered on both sides, and the numbers compared along with the row.

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result as PlanResult;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder};

use crate::error::Result;
use crate::plan::SetNode;
use crate::plan::flow::SetKind;

/// The numbers of a row's copies, by side.
const COPIES: [&str; 2] = ["__left_copy", "__right_copy"];

/// The plan with its set operations lowered.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|node| {
        let set = match &node {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<SetNode>(),
            _ => None,
        };
        match set {
            Some(set) => Ok(Transformed::yes(joined(set)?)),
            None => Ok(Transformed::no(node)),
        }
    });
    Ok(lowered.data()?)
}

fn joined(set: &SetNode) -> PlanResult<LogicalPlan> {
    let (join_type, all) = match set.kind() {
        SetKind::Intersect { all } => (JoinType::LeftSemi, all),
        SetKind::Except { all } => (JoinType::LeftAnti, all),
        SetKind::Distinct => return LogicalPlanBuilder::from(set.sides()[0].clone()).distinct()?.build(),
    };
    let columns = set.sides().map(|side| side.schema().columns());
    let [left, right] = set.sides().map(|side| LogicalPlanBuilder::from(side.clone()));
    let [mut of_left, mut of_right] = columns.clone();
    let (left, right) = if all {
        of_left.push(Column::from_name(COPIES[0]));
        of_right.push(Column::from_name(COPIES[1]));
        (numbered(left, COPIES[0])?, numbered(right, COPIES[1])?)
    } else {
        (left.distinct()?, right)
    };
    left.join_detailed(right.build()?, join_type, (of_left, of_right), None, NullEquality::NullEqualsNull)?
        .project(columns[0].iter().cloned().map(Expr::Column))?
        .build()
}

/// The rows, each with the number of its copy.
fn numbered(rows: LogicalPlanBuilder, name: &str) -> PlanResult<LogicalPlanBuilder> {
    let columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let number = row_number().partition_by(columns).build()?.alias(name);
    rows.window([number])
}
