//! ORDER BY … LIMIT in a subquery that names the row outside: the first rows of each.
//!
//! `(SELECT x FROM o WHERE o.k = outside.k ORDER BY t DESC LIMIT 1)` as a value is `first_value(x ORDER BY t DESC)` of the
//! same rows. In `LATERAL` the rows are numbered within each of the keys that the outside is compared with, and the
//! comparison is made afterwards: the same rows, and a top-N that is kept current.
//!
//! DataFusion, which cannot take such a subquery apart, can take these.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, ExprFunctionExt, FetchType, Filter, Limit, LogicalPlan, LogicalPlanBuilder, Operator,
    Projection, SkipType, Sort, SubqueryAlias, Window, col, lit,
};

use crate::error::Result;

use super::fault::planning_error;
use super::one_value::aggregated;
use super::ties::limit_of_sort;

/// The number of a row among those of its key.
const PLACE: &str = "__place";
/// A value that the row outside is compared with.
const KEY: &str = "__outside";

/// The plan with such limits said otherwise. What is in none of these forms stays, and is refused later.
pub(super) fn said_otherwise(plan: LogicalPlan) -> Result<LogicalPlan> {
    let value = |expr: Expr| {
        let Expr::ScalarSubquery(mut subquery) = expr else { return Ok(Transformed::no(expr)) };
        if subquery.outer_ref_columns.is_empty() {
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
        .and_then(|plan| {
            plan.transform_up_with_subqueries(|node| match node {
                LogicalPlan::Limit(limit) => first_rows(limit),
                other => Ok(Transformed::no(other)),
            })
            .data()
        })
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

/// The first rows of each key that the outside is compared with.
fn first_rows(limit: Limit) -> PlanResult<Transformed<LogicalPlan>> {
    let unchanged = LogicalPlan::Limit(limit.clone());
    if !names_outside(&unchanged)? {
        return Ok(Transformed::no(unchanged));
    }
    let Some(ordered) = Ordered::of(limit)? else { return Ok(Transformed::no(unchanged)) };
    let shown: Vec<Expr> = ordered.input.schema().columns().into_iter().map(Expr::Column).collect();
    let Some(Pulled { plan, keys }) = pulled(&ordered.input)? else { return Ok(Transformed::no(unchanged)) };
    if keys.is_empty() || ordered.order.iter().any(|sort| sort.expr.contains_outer()) {
        return Ok(Transformed::no(unchanged));
    }
    let own = keys.iter().map(|(own, _)| own.clone()).collect();
    let number = row_number().partition_by(own).order_by(ordered.order).build()?.alias(PLACE);
    let window = Arc::new(LogicalPlan::Window(Window::try_new(vec![number], Arc::new(plan))?));
    let (skip, last) = (ordered.skip as u64, ordered.skip.saturating_add(ordered.fetch) as u64);
    let within = match skip {
        0 => col(PLACE).lt_eq(lit(last)),
        _ => col(PLACE).gt(lit(skip)).and(col(PLACE).lt_eq(lit(last))),
    };
    let first = Arc::new(LogicalPlan::Filter(Filter::try_new(within, window)?));
    // Columns first: what is taken apart later finds the comparison over columns that are there.
    let handed = shown.iter().cloned().chain(keys.iter().map(|(own, _)| own.clone()));
    let mut distinct: Vec<Expr> = Vec::new();
    for expr in handed {
        if !distinct.contains(&expr) {
            distinct.push(expr);
        }
    }
    let handed = Arc::new(LogicalPlan::Projection(Projection::try_new(distinct, first)?));
    let compared = keys.into_iter().map(|(own, outside)| own.eq(outside));
    let Some(compared) = conjunction(compared) else { return Ok(Transformed::no(unchanged)) };
    let compared = Arc::new(LogicalPlan::Filter(Filter::try_new(compared, handed)?));
    let plan = Projection::try_new(shown, compared)?;
    let plan = match ordered.above {
        None => plan,
        Some(above) => {
            Projection::try_new_with_schema(above.expr, Arc::new(LogicalPlan::Projection(plan)), above.schema)?
        }
    };
    Ok(Transformed::yes(LogicalPlan::Projection(plan)))
}

fn names_outside(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= node.contains_outer_reference();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// A plan without its comparisons to the row outside.
struct Pulled {
    plan: LogicalPlan,
    /// A column of the plan, and what of the row outside it must be equal to.
    keys: Vec<(Expr, Expr)>,
}

/// `None`: the row outside is named where this cannot be done, or compared otherwise than by equality.
fn pulled(plan: &LogicalPlan) -> PlanResult<Option<Pulled>> {
    if !names_outside(plan)? {
        return Ok(Some(Pulled { plan: plan.clone(), keys: Vec::new() }));
    }
    match plan {
        LogicalPlan::Filter(filter) => pulled_filter(filter),
        LogicalPlan::Projection(projection) => {
            let Some(Pulled { plan, keys }) = pulled(&projection.input)? else { return Ok(None) };
            if projection.expr.iter().any(Expr::contains_outer) {
                return Ok(None);
            }
            let (mut shown, mut named) = (projection.expr.clone(), Vec::new());
            for (number, (own, outside)) in keys.into_iter().enumerate() {
                let name = format!("{KEY}{number}");
                shown.push(own.alias(&name));
                named.push((col(&name), outside));
            }
            let plan = LogicalPlan::Projection(Projection::try_new(shown, Arc::new(plan))?);
            Ok(Some(Pulled { plan, keys: named }))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(Pulled { plan, keys }) = pulled(&alias.input)? else { return Ok(None) };
            let plan = SubqueryAlias::try_new(Arc::new(plan), alias.alias.clone())?;
            let renamed = keys.into_iter().map(|(own, outside)| match own {
                Expr::Column(column) => {
                    Some((Expr::Column(Column::new(Some(alias.alias.clone()), column.name)), outside))
                }
                _ => None,
            });
            let renamed: Option<Vec<(Expr, Expr)>> = renamed.collect();
            Ok(renamed.map(|keys| Pulled { plan: LogicalPlan::SubqueryAlias(plan), keys }))
        }
        // Groups of one key each; an aggregate without groups has a row of nothing, too.
        LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => {
            let Some(Pulled { plan, keys }) = pulled(&aggregate.input)? else { return Ok(None) };
            let mut groups = aggregate.group_expr.clone();
            groups.extend(keys.iter().map(|(own, _)| own.clone()).filter(|own| !aggregate.group_expr.contains(own)));
            let calls = aggregate.aggr_expr.clone();
            if groups.iter().chain(&calls).any(Expr::contains_outer) {
                return Ok(None);
            }
            let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), groups, calls)?);
            Ok(Some(Pulled { plan: grouped, keys }))
        }
        _ => Ok(None),
    }
}

fn pulled_filter(filter: &Filter) -> PlanResult<Option<Pulled>> {
    let Some(Pulled { plan, mut keys }) = pulled(&filter.input)? else { return Ok(None) };
    let mut rest = Vec::new();
    for condition in split_conjunction(&filter.predicate) {
        if !condition.contains_outer() {
            rest.push(condition.clone());
            continue;
        }
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return Ok(None) };
        let is_own = |expr: &Expr| matches!(expr, Expr::Column(_));
        let is_outside = |expr: &Expr| expr.contains_outer() && expr.column_refs().is_empty();
        match (&**left, &**right) {
            (own, outside) if is_own(own) && is_outside(outside) => keys.push((own.clone(), outside.clone())),
            (outside, own) if is_own(own) && is_outside(outside) => keys.push((own.clone(), outside.clone())),
            _ => return Ok(None),
        }
    }
    let plan = match conjunction(rest) {
        Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(plan))?),
        None => plan,
    };
    Ok(Some(Pulled { plan, keys }))
}
