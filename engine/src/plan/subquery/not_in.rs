//! `NOT IN (subquery)` without NULL-aware joins.
//!
//! `x NOT IN (SELECT y …)` holds if for no y the comparison `x = y` is true *or unknown*. DataFusion says it as an anti join
//! with a flag. Taken apart, it is ordinary anti joins:
//!
//! * of a subquery that depends on the row outside: the condition is `x = y OR x IS NULL OR y IS NULL` beside the rest;
//! * otherwise first those rows go for which `x = y`, by its key; then, if the subquery has rows, those whose x is NULL, and
//!   if it has a NULL, all. For that it is enough to know whether there are NULLs and others: two rows at most.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::error::Error;

/// Runs right after the rule that makes the joins, when the comparison is still the condition's first part.
#[derive(Debug)]
pub(crate) struct TakeNotInApart;

impl OptimizerRule for TakeNotInApart {
    fn name(&self) -> &str {
        "take_not_in_apart"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(join) if join.null_aware => {
                let alias = config.alias_generator().next("__not_in");
                Ok(Transformed::yes(taken_apart(join, &alias)?))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn taken_apart(join: Join, alias: &str) -> PlanResult<LogicalPlan> {
    let unknown = || Error::internal("a NULL-aware join is not what NOT IN makes");
    let mut conditions = join.filter.map(split_conjunction_owned).unwrap_or_default().into_iter();
    let (JoinType::LeftAnti, true, Some(comparison)) = (join.join_type, join.on.is_empty(), conditions.next()) else {
        return Err(unknown().into());
    };
    let (x, y) = match &comparison {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => ((*binary.left).clone(), (*binary.right).clone()),
        _ => return Err(unknown().into()),
    };
    let left = LogicalPlanBuilder::from(Arc::unwrap_or_clone(join.left));
    if let Some(rest) = conjunction(conditions) {
        let condition = rest.and(comparison.or(x.is_null()).or(y.is_null()));
        return left.join_on(Arc::unwrap_or_clone(join.right), JoinType::LeftAnti, [condition])?.build();
    }
    let kinds = LogicalPlanBuilder::from(LogicalPlan::clone(&join.right))
        .project([y.is_null().alias("is_null")])?
        .distinct()?
        .alias(alias)?
        .build()?;
    let is_null = Expr::Column(kinds.schema().columns().remove(0));
    left.join_on(Arc::unwrap_or_clone(join.right), JoinType::LeftAnti, [comparison])?
        .join_on(kinds, JoinType::LeftAnti, [x.is_null().or(is_null)])?
        .build()
}
