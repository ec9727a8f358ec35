//! Joins whose keys are equal where both are NULL (`IS NOT DISTINCT FROM`), among others.
//!
//! A join has one answer to whether NULL equals NULL, for all its keys. Two of DataFusion's rules forget to ask for it: the one
//! that finds equalities among the conditions of a join makes keys of them whatever it says; and the one that takes joins apart
//! that stand upon each other, to put them together by all the equalities that there are, asks the topmost only. So the former
//! leaves such joins alone here, and they are kept apart from their neighbours while the latter is at work, by projections that
//! change nothing.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Equalities among a join's conditions become keys: see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct ExtractKeys(ExtractEquijoinPredicate);

impl OptimizerRule for ExtractKeys {
    fn name(&self) -> &str {
        "extract_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(join) if has_null_keys(&join) => Ok(Transformed::no(LogicalPlan::Join(join))),
            other => self.0.rewrite(other, config),
        }
    }
}

/// Joins that were written side by side are without their cross products: see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct FlattenJoins(EliminateCrossJoin);

impl OptimizerRule for FlattenJoins {
    fn name(&self) -> &str {
        "flatten_joins"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        if !has_null_keys_within(&plan)? {
            return self.0.rewrite(plan, config);
        }
        let apart = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) if has_null_keys(&join) && join.join_type == JoinType::Inner => {
                Ok(Transformed::yes(kept_apart(join)?))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let flat = self.0.rewrite(apart.data, config)?.data;
        flat.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Projection(projection) if changes_nothing(&projection) => {
                Ok(Transformed::yes(Arc::unwrap_or_clone(projection.input)))
            }
            other => Ok(Transformed::no(other)),
        })
        .map(|plan| Transformed::yes(plan.data))
    }
}

fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner)
}

fn has_null_keys(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty()
}

fn has_null_keys_within(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Join(join) if has_null_keys(join)) && is_inner(node);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The join between projections: joins are only taken apart where they touch.
fn kept_apart(mut join: Join) -> PlanResult<LogicalPlan> {
    for side in [&mut join.left, &mut join.right] {
        if is_inner(side) {
            *side = Arc::new(all_columns(Arc::clone(side))?);
        }
    }
    all_columns(Arc::new(LogicalPlan::Join(join)))
}

fn all_columns(plan: Arc<LogicalPlan>) -> PlanResult<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, plan)?))
}

fn changes_nothing(projection: &Projection) -> bool {
    let columns = projection.input.schema().columns();
    let same = |(expr, column): (&Expr, _)| matches!(expr, Expr::Column(of) if *of == column);
    projection.expr.len() == columns.len() && projection.expr.iter().zip(columns).all(same)
}
