//! Conditions where the rows come from.
//!
//! DataFusion's rule moves a condition that names no column below an aggregate as well. Below one without GROUP BY that is wrong:
//! it has a row whatever is below it. So such conditions stay above it; and what can't be true is answered, with no rows, at once.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct PushDownConditions(PushDownFilter);

impl OptimizerRule for PushDownConditions {
    fn name(&self) -> &str {
        "push_down_conditions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) if split_conjunction(&filter.predicate).into_iter().any(is_never_true) => {
                let schema = Arc::clone(filter.input.schema());
                Ok(Transformed::yes(LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })))
            }
            // Nothing else of such an aggregate's can be known below it.
            LogicalPlan::Filter(filter) if matches!(&*filter.input, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty()) => {
                Ok(Transformed::no(LogicalPlan::Filter(filter)))
            }
            other => self.0.rewrite(other, config),
        }
    }
}

fn is_never_true(condition: &Expr) -> bool {
    matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(false) | None) | ScalarValue::Null, _))
}
