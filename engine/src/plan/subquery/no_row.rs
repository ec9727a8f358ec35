//! A subquery that stands for a value has none where it has no row: NULL, also of a column that is never NULL.
//!
//! DataFusion takes the value for one that is never NULL as well: `(SELECT id FROM t WHERE …) IS NULL` was false, and
//! `coalesce((SELECT id …), 0)` was the subquery alone. So it is the argument of a function of which nothing is known. Where the
//! subquery names the row outside, it becomes a join that knows better.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Subquery, Volatility,
};

static MAYBE_NULL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(MaybeNull::default())));

/// The plan, in which such values may be NULL.
pub(in crate::plan) fn nullable(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let mut changed = false;
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let said = expr.transform_up(|expr| match expr {
                Expr::ScalarSubquery(of) if may_have_none(&of) => {
                    Ok(Transformed::yes(MAYBE_NULL.call(vec![Expr::ScalarSubquery(of)])))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(said.update_data(|expr| name.restore(expr)))
        })?;
        changed |= node.transformed;
        // What the nodes above know of their columns is made of what these are.
        if changed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    })?;
    Ok(plan.data)
}

/// Whether the value is of a column that is never NULL, and may be missing.
fn may_have_none(subquery: &Subquery) -> bool {
    let never_null = subquery.subquery.schema().fields().iter().any(|field| !field.is_nullable());
    never_null && subquery.outer_ref_columns.is_empty() && !has_one_row(&subquery.subquery)
}

fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(of) => of.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(of) => of.produce_one_row,
        LogicalPlan::Projection(of) => has_one_row(&of.input),
        LogicalPlan::SubqueryAlias(of) => has_one_row(&of.input),
        _ => false,
    }
}

/// A value that may be NULL, whatever it is made of.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MaybeNull {
    signature: Signature,
}

impl Default for MaybeNull {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MaybeNull {
    fn name(&self) -> &str {
        "rondel_maybe_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        arguments.first().cloned().ok_or_else(missing)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> PlanResult<FieldRef> {
        let field = arguments.arg_fields.first().ok_or_else(missing)?;
        Ok(Arc::new(field.as_ref().clone().with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        args.args.into_iter().next().ok_or_else(missing)
    }
}

fn missing() -> DataFusionError {
    DataFusionError::Internal("a value that may be NULL".to_owned())
}
