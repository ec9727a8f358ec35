//! Subqueries that show a row where they read none, or none where they read some.
//!
//! DataFusion's rules move a condition that names the row outside up the subquery, until it is the condition of a join. What it
//! passes by sees the rows of all rows outside then: an aggregate without GROUP BY has a row for each key that there is, and
//! none for the others; an outer join finds a match where the row outside has none; and OFFSET and LIMIT 0 leave as many rows as any
//! limit. (A value that is an aggregate is
//! given back to the others, if nothing is asked of it by HAVING.)

use datafusion::common::JoinType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, GroupingSet, Join, LogicalPlan};

use crate::error::Error;

use super::{leaves_one, names_outside};

/// Whether an expression has a subquery of which the rules would lose such rows, or make some.
pub(super) fn has_made_up_rows(expr: &Expr) -> PlanResult<bool> {
    expr.exists(|expr| match expr {
        Expr::Exists(of) => makes_up_rows(&of.subquery.subquery),
        Expr::InSubquery(of) => makes_up_rows(&of.subquery.subquery),
        Expr::SetComparison(of) => makes_up_rows(&of.subquery.subquery),
        Expr::ScalarSubquery(of) => makes_up_rows(below_value(&of.subquery)),
        _ => Ok(false),
    })
}

/// What is said of a subquery that the rules get wrong, and that can't be joined otherwise either.
pub(in crate::plan) fn refused() -> Error {
    Error::not_supported("this subquery names the row outside, and cannot be made a join").with_hint(
        "name it in the subquery's own WHERE, not below FULL JOIN, INTERSECT, EXCEPT or a LIMIT without ORDER BY; and leave \
         random() out of the rows outside",
    )
}

/// The rows of an aggregate whose value a subquery stands for.
pub(in crate::plan) fn below_value(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Projection(of) => below_value(&of.input),
        LogicalPlan::SubqueryAlias(of) => below_value(&of.input),
        LogicalPlan::Aggregate(of) if of.group_expr.is_empty() => &of.input,
        other => other,
    }
}

/// Whether it has a row where there are none: without keys, or with a grouping set without keys.
fn is_of_all_rows(aggregate: &Aggregate) -> bool {
    match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().any(Vec::is_empty),
        [Expr::GroupingSet(_)] => true,
        keys => keys.is_empty(),
    }
}

pub(in crate::plan) fn makes_up_rows(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= match node {
            LogicalPlan::Aggregate(of) => is_of_all_rows(of) && names_outside(&of.input)?,
            LogicalPlan::Window(of) => names_outside(&of.input)?,
            LogicalPlan::Distinct(Distinct::On(of)) => names_outside(&of.input)?,
            LogicalPlan::Join(of) => made_up_side(of)?,
            LogicalPlan::Limit(of) => !leaves_one(of)? && names_outside(&of.input)?,
            _ => false,
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether the row outside is named on a side of a join whose rows only say what becomes of the other side's.
fn made_up_side(join: &Join) -> PlanResult<bool> {
    let (left, right) = match join.join_type {
        JoinType::Inner => (false, false),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (false, true),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (true, false),
        JoinType::Full => (true, true),
    };
    Ok((left && names_outside(&join.left)?) || (right && names_outside(&join.right)?))
}
