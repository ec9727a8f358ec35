//! `(SELECT x FROM o WHERE o.k = outside.k ORDER BY t DESC LIMIT 1)` as a value: `first_value(x ORDER BY t DESC)` of the same
//! rows, which DataFusion can take apart. One that nothing says has one row at most becomes an aggregate as well
//! ([`super::one_value`]).

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, Projection, SkipType, Sort,
};

use crate::error::Result;

use super::dependent::names_outside;
use super::one_value::aggregated;
use crate::plan::fault::planning_error;
use crate::plan::ties::limit_of_sort;

/// The plan with such values said otherwise. What is in neither form stays, and is refused later.
pub(in crate::plan) fn said_otherwise(plan: LogicalPlan) -> Result<LogicalPlan> {
    let value = |expr: Expr| {
        let Expr::ScalarSubquery(mut subquery) = expr else { return Ok(Transformed::no(expr)) };
        if !names_outside(&subquery.subquery)? {
            return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
        }
        let said = match first_value(&subquery.subquery)? {
            None => aggregated(&subquery.subquery)?,
            first => first,
        };
        let changed = said.is_some();
        if let Some(plan) = said {
            subquery.subquery = Arc::new(plan);
        }
        Ok(Transformed::new(Expr::ScalarSubquery(subquery), changed, TreeNodeRecursion::Continue))
    };
    plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| expr.transform_up(value)))
        .data()
        .map_err(planning_error)
}

/// A LIMIT over an ORDER BY: the projection above both, how many rows are left out and taken, the order and what is
/// ordered.
struct Ordered {
    above: Option<Projection>,
    skip: usize,
    fetch: usize,
    order: Vec<SortExpr>,
    input: Arc<LogicalPlan>,
}

impl Ordered {
    fn of(limit: Limit) -> PlanResult<Option<Self>> {
        let (above, limit) = match limit_of_sort(limit).data {
            LogicalPlan::Limit(limit) => (None, limit),
            LogicalPlan::Projection(above) => match &*above.input {
                LogicalPlan::Limit(limit) => {
                    let limit = limit.clone();
                    (Some(above), limit)
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let LogicalPlan::Sort(Sort { expr, input, fetch: None }) = &*limit.input else { return Ok(None) };
        let (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Ok(None);
        };
        Ok(Some(Self { above, skip, fetch, order: expr.clone(), input: Arc::clone(input) }))
    }
}

/// The value of the first row, of a subquery that stands for a value.
fn first_value(plan: &LogicalPlan) -> PlanResult<Option<LogicalPlan>> {
    let limit = match plan {
        LogicalPlan::Limit(limit) => limit.clone(),
        LogicalPlan::Projection(above) => match &*above.input {
            LogicalPlan::Limit(limit) => {
                let below = LogicalPlan::Projection(Projection::try_new(above.expr.clone(), Arc::clone(&limit.input))?);
                Limit { input: Arc::new(below), ..limit.clone() }
            }
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let name = Expr::Column(plan.schema().columns().into_iter().next().unwrap_or_else(|| Column::from_name("?")));
    let Some(ordered) = Ordered::of(limit)? else { return Ok(None) };
    if (ordered.skip, ordered.fetch) != (0, 1) {
        return Ok(None);
    }
    let value = match &ordered.above {
        Some(above) => above.expr.first().cloned().map(Expr::unalias),
        None => ordered.input.schema().columns().into_iter().next().map(Expr::Column),
    };
    let Some(value) = value else { return Ok(None) };
    let first = first_value_udaf().call(vec![value]).order_by(ordered.order).build()?;
    let known = Expr::Column(Column::from_name(first.schema_name().to_string()));
    let Expr::Column(Column { relation, name, .. }) = name else { return Ok(None) };
    LogicalPlanBuilder::from(Arc::unwrap_or_clone(ordered.input))
        .aggregate(Vec::<Expr>::new(), vec![first])?
        .project(vec![known.alias_qualified(relation, name)])?
        .build()
        .map(Some)
}
