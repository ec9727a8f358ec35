//! `t MATCH_RECOGNIZE (…)` is refused.

use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::planner::{RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::TableFactor;

use crate::error::Error;

/// Says so.
#[derive(Debug, Default)]
pub(in crate::plan) struct MatchRecognize;

impl RelationPlanner for MatchRecognize {
    fn plan_relation(&self, relation: TableFactor, _: &mut dyn RelationPlannerContext) -> PlanResult<RelationPlanning> {
        match relation {
            TableFactor::MatchRecognize { .. } => Err(Error::not_supported("MATCH_RECOGNIZE is not supported")
                .with_hint("window functions (lag, lead, row_number) and joins on intervals say many patterns")
                .into()),
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}
