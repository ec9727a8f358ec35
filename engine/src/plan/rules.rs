//! The analyzer and the optimizer rules that a continuous plan may meet.
//!
//! An allow list: a rule of a new DataFusion version does nothing here until it was read and is named below. Left out with
//! reasons of their own: `SingleDistinctToGroupBy` (nests two aggregates, the outer without a window),
//! `UnionsToFilter` (reads a source once instead of twice, but assumes that it can be read again),
//! `EliminateJoin` (drops joins by keys that DataFusion believes in, and the state with them: the keys would have to be ours),
//! `PushDownLimit`/`EliminateLimit` (no limits here),
//! `EliminateGroupByConstant` (state would change its key), `ExtractLeafExpressions`/`PushDownLeafProjections`
//! (rename columns next to scans, gain nothing without nested pruning).

pub(super) mod null_keys;
pub(super) mod prune;
pub(super) mod push_down;

use std::sync::Arc;

use datafusion::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::filter_null_join_keys::FilterNullJoinKeys;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};

use crate::error::Result;

use self::null_keys::{ExtractKeys, FlattenJoins};
use self::prune::PruneColumns;
use self::push_down::PushDownConditions;
use super::asof::PushFiltersBelowAsOf;
use super::check::check_subqueries;
use super::clock::ClocksHidden;
use super::fault::planning_error;
use super::subquery::compared::NameComparedColumns;
use super::subquery::not_in::TakeNotInApart;
use super::subquery::single_row::guarded;

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The allow list, in DataFusion's own order.
fn rules() -> Vec<Rule> {
    vec![
        // UNION ALL of UNION ALL is one union: fewer operators.
        Arc::new(OptimizeUnions::new()),
        // Constants are computed once. It is given no start time, so that now() would stay what it is.
        Arc::new(SimplifyExpressions::new()),
        // DISTINCT is an aggregate without aggregates, which we have.
        Arc::new(ReplaceDistinctWithAggregate::new()),
        // What IN compares with has a name of its own.
        Arc::new(NameComparedColumns),
        // EXISTS and IN are semi joins, NOT EXISTS and NOT IN anti joins, and under OR mark joins.
        Arc::new(DecorrelatePredicateSubquery::new()),
        // NOT IN's NULLs said by ordinary anti joins.
        Arc::new(TakeNotInApart),
        // A subquery that stands for a value is a left join; that it has one row at most is guarded (`single_row`).
        Arc::new(ScalarSubqueryToJoin::new()),
        // ON a.x = b.x AND … : the equalities become keys, the rest the residual condition.
        Arc::new(ExtractKeys::default()),
        // GROUP BY a, a is GROUP BY a.
        Arc::new(EliminateDuplicatedExpr::new()),
        // WHERE true and WHERE false.
        Arc::new(EliminateFilter::new()),
        // FROM a, b WHERE a.x = b.x is an equality join.
        Arc::new(FlattenJoins::default()),
        // What reads no rows has none.
        Arc::new(PropagateEmptyRelation::new()),
        // A NULL key meets nothing: such rows need not become state.
        Arc::new(FilterNullJoinKeys::default()),
        // An outer join whose unmatched rows are filtered out again is none: it need not count matches.
        Arc::new(EliminateOuterJoin::new()),
        // Fewer rows reach state. It keeps off the window's own columns, and off volatile functions.
        Arc::new(PushDownConditions::default()),
        // A left row of an as-of join that is filtered out need not wait for its nearest row.
        Arc::new(PushFiltersBelowAsOf),
        // An expression that stands twice is computed once. Volatile functions are left alone; so is the time of day, which
        // is to stand in the conditions that are made of it.
        Arc::new(ClocksHidden(true)),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(ClocksHidden(false)),
        // Only the columns that are needed are decoded. Our window node says which it needs itself.
        Arc::new(PruneColumns::default()),
    ]
}

/// DataFusion's settings for planning. Time zone and the like are at their defaults.
pub(super) fn options() -> ConfigOptions {
    let mut options = ConfigOptions::new();
    options.optimizer.filter_null_join_keys = true;
    options.optimizer.skip_failed_rules = false;
    // A value that is computed once would not change with its rows.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options
}

/// The plan with its types made to fit: only then its columns' types are those of its rows.
pub(super) fn typed(plan: LogicalPlan, options: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    Analyzer::new().execute_and_check(plan, options, |_, _| {}).map_err(planning_error)
}

/// The allowed rules, over a plan whose types fit. `whole_rows`: columns that nobody reads are kept.
pub(super) fn optimized(plan: LogicalPlan, options: &Arc<ConfigOptions>, whole_rows: bool) -> Result<LogicalPlan> {
    let context = OptimizerContext::new_with_config_options(Arc::clone(options)).without_query_execution_start_time();
    let mut rules = rules();
    if whole_rows {
        rules.retain(|rule| rule.name() != PruneColumns::default().name());
    }
    let plan = Optimizer::with_rules(rules).optimize(guarded(plan)?, &context, |_, _| {}).map_err(planning_error)?;
    check_subqueries(&plan)?;
    Ok(plan)
}
