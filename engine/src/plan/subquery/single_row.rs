//! Subqueries that stand for a value: the node that guards them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};

use crate::error::{Error, Result};

use crate::plan::fault::planning_error;

/// The rows of a query of which there may be one at most: a second one is an error when it comes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::plan) struct SingleRowNode {
    input: LogicalPlan,
}

impl SingleRowNode {
    /// The rows.
    pub(in crate::plan) fn input(&self) -> &LogicalPlan {
        &self.input
    }
}

/// The plan with a guard in each subquery that stands for a value, depends on nothing outside, and may have two rows.
/// (What does depend on the row outside is an aggregate, which has one, or has been made one: [`super::one_value`].)
pub(in crate::plan) fn guarded(plan: LogicalPlan) -> Result<LogicalPlan> {
    let guard = |expr: Expr| match expr {
        Expr::ScalarSubquery(mut subquery)
            if subquery.outer_ref_columns.is_empty() && subquery.subquery.max_rows().is_none_or(|rows| rows > 1) =>
        {
            let input = LogicalPlan::clone(&subquery.subquery);
            let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
            let guard = LogicalPlan::Extension(Extension { node: Arc::new(SingleRowNode { input }) });
            // DataFusion looks for the value's expression in the topmost node, and not in nodes of ours.
            subquery.subquery = Arc::new(LogicalPlanBuilder::from(guard).project(columns)?.build()?);
            Ok(Transformed::yes(Expr::ScalarSubquery(subquery)))
        }
        other => Ok(Transformed::no(other)),
    };
    plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| expr.transform_up(guard)))
        .data()
        .map_err(planning_error)
}

impl PartialOrd for SingleRowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for SingleRowNode {
    fn name(&self) -> &str {
        "SingleRow"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleRow")
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let Ok([input]) = <[LogicalPlan; 1]>::try_from(inputs) else {
            return Err(Error::internal("a guard has one input").into());
        };
        Ok(Self { input })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
