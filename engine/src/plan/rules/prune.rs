//! Columns that nobody reads are not computed, and not read.
//!
//! DataFusion's rule for it also drops keys of a GROUP BY which others determine, by what it believes of the input's columns
//! (DataFusion 55). It believes too much: a group's key that has met several rows in a join is taken to determine them behind
//! the next GROUP BY again, and groups that are different become one. So the rule is told nothing of the kind.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{DFSchemaRef, FunctionalDependencies};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct PruneColumns(OptimizeProjections);

impl OptimizerRule for PruneColumns {
    fn name(&self) -> &str {
        "prune_columns"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        let plan = plan.transform_up_with_subqueries(|node| forgotten(node).map(Transformed::no)).data()?;
        self.0.rewrite(plan, config)
    }
}

/// The node, whose columns determine none of each other as far as it says.
pub(in crate::plan) fn forgotten(mut node: LogicalPlan) -> PlanResult<LogicalPlan> {
    let schema = match &mut node {
        LogicalPlan::Projection(of) => &mut of.schema,
        LogicalPlan::Join(of) => &mut of.schema,
        LogicalPlan::SubqueryAlias(of) => &mut of.schema,
        LogicalPlan::Aggregate(of) => &mut of.schema,
        LogicalPlan::Window(of) => &mut of.schema,
        LogicalPlan::Unnest(of) => &mut of.schema,
        LogicalPlan::Union(of) => &mut of.schema,
        LogicalPlan::TableScan(of) => &mut of.projected_schema,
        _ => return Ok(node),
    };
    *schema = bare(schema)?;
    Ok(node)
}

fn bare(schema: &DFSchemaRef) -> PlanResult<DFSchemaRef> {
    if schema.functional_dependencies().is_empty() {
        return Ok(Arc::clone(schema));
    }
    schema.as_ref().clone().with_functional_dependencies(FunctionalDependencies::empty()).map(Arc::new)
}
