//! Bounded queries: DataFusion's own engine over complete data.
//!
//! It answers snapshot SELECTs, and it is the other side of the law: the batch plan of a continuous query
//! ([`crate::plan::ContinuousPlan::batch`]) run here on the sum of all input deltas is what the incremental result must be.
//! Windows are lowered to a function that lists them and `UNNEST` ([`windows`]), which shares nothing with the operators.

mod asof;
mod extremes;
mod orders;
mod over;
mod recognize;
mod scan;
mod sessions;
mod sets;
mod turned;
pub mod windows;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use chrono::DateTime;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;

use crate::error::{Error, Result};
use crate::plan::{
    ExtractKeys, FlattenJoins, Functions, NameComparedColumns, PruneColumns, PushDownConditions, Relation,
    TakeNotInApart,
};

/// Where the rows of streams and views come from.
pub trait BatchScans: Send + Sync {
    /// All rows of a relation: its columns `projection`, in that order. Called once for each time that the query names the
    /// relation; the rows are to be the same each time.
    fn scan(&self, relation: &Relation, projection: &[usize]) -> Result<SendableRecordBatchStream>;

    /// As [`Self::scan`], for a query that keeps only rows that satisfy all of `filters`: others may be left out.
    fn lookup(
        &self,
        relation: &Relation,
        projection: &[usize],
        _filters: &[Expr],
    ) -> Result<SendableRecordBatchStream> {
        self.scan(relation, projection)
    }
}

/// DataFusion's physical rules but one: `FilterPushdown` pushes a condition on one side of an outer join, whose columns it
/// looks up by name, below the other side, and rows come out that do not satisfy it (DataFusion 55).
fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let all = PhysicalOptimizer::new().rules.into_iter();
    all.filter(|rule| !rule.name().starts_with("FilterPushdown")).collect()
}

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// DataFusion's logical rules; conditions are moved, columns pruned, joins flattened, columns of IN named and NOT IN taken apart as in
/// continuous queries: DataFusion's join for NOT IN has no room for a second key. `EliminateGroupByConstant` fails where two keys
/// differ by a cast only.
fn logical_rules() -> Vec<Rule> {
    let ours = |rule: Rule| -> Rule {
        match rule.name() {
            "push_down_filter" => Arc::new(PushDownConditions::default()),
            "extract_equijoin_predicate" => Arc::new(ExtractKeys::default()),
            "eliminate_cross_join" => Arc::new(FlattenJoins::default()),
            "optimize_projections" => Arc::new(PruneColumns::default()),
            _ => rule,
        }
    };
    let all = Optimizer::new().rules.into_iter().filter(|rule| rule.name() != "eliminate_group_by_constant");
    all.flat_map(|rule| match rule.name() {
        "decorrelate_predicate_subquery" => vec![Arc::new(NameComparedColumns) as Rule, rule, Arc::new(TakeNotInApart)],
        _ => vec![ours(rule)],
    })
    .collect()
}

/// Runs bounded queries.
#[derive(Clone)]
pub struct BatchContext {
    state: SessionState,
}

impl fmt::Debug for BatchContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchContext").finish_non_exhaustive()
    }
}

impl BatchContext {
    /// A context with these functions, which runs each query on `threads` threads.
    pub fn new(functions: &Functions, threads: usize) -> Self {
        // Sorts of the parts that are merged share the bound of the first rows, each by its own idea of the order: a column that is
        // constant in one input of a UNION is no part of it there, and first rows of the others are left out (DataFusion 55).
        let config = SessionConfig::new().with_target_partitions(threads.max(1)).with_repartition_sorts(false);
        // Groups of which only the first are asked for are kept by `<`, to which NaN is neither less nor greater, and it panics
        // (DataFusion 55).
        let config = config.set_bool("datafusion.optimizer.enable_topk_aggregation", false);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_scalar_functions(functions.scalars())
            .with_aggregate_functions(functions.aggregates())
            .with_window_functions(functions.windows())
            .with_expr_planners(functions.expr_planners().to_vec())
            .with_optimizer_rules(logical_rules())
            .with_physical_optimizer_rules(rules())
            .build();
        Self { state }
    }

    /// Runs a plan of [`crate::plan::Planner::plan_batch`]. `now_micros` is what `now()` is in it, in microseconds since
    /// 1970; with more than `memory_bytes` of its own state it fails.
    pub async fn execute(
        &self,
        plan: &LogicalPlan,
        scans: Arc<dyn BatchScans>,
        now_micros: i64,
        memory_bytes: usize,
    ) -> Result<SendableRecordBatchStream> {
        let now = DateTime::from_timestamp_micros(now_micros)
            .ok_or_else(|| Error::internal(format!("{now_micros} is no time of day")))?;
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes))).build_arc()?;
        let state = SessionStateBuilder::new_from_existing(self.state.clone())
            .with_runtime_env(runtime)
            .with_execution_props(ExecutionProps::new().with_query_execution_start_time(now))
            .build();
        let plan = orders::lowered(extremes::lowered(sets::lowered(plan.clone())?)?)?;
        let plan = over::lowered(recognize::lowered(turned::lowered(plan)?)?)?;
        let plan = asof::lowered(windows::lowered(plan)?)?;
        let plan = scan::with_rows(plan, &scans)?;
        let plan = state.optimize(&plan)?;
        refuse_outer(&plan)?;
        let physical = state.query_planner().create_physical_plan(&plan, &state).await?;
        Ok(execute_stream(physical, state.task_ctx())?)
    }
}

/// Refuses what names a row outside where no rule could make a join of it.
fn refuse_outer(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| match expr {
                Expr::OuterReferenceColumn(_, column) => {
                    let error = Error::not_supported(format!("{column} of the query outside cannot be named here"));
                    Err(error.with_hint("compare with it in the subquery's WHERE").into())
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(())
}
