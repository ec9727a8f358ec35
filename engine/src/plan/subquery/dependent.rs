//! Subqueries that name the row outside in ways that DataFusion's rules cannot make joins of: by another comparison than an
//! equality below an aggregate, from two queries further in, below UNION or a window.
//!
//! Such a subquery is computed for all rows outside at once ([`pushed`]): for each of the different values of the columns that it
//! names ([`domain`]). The rows outside meet its rows by these columns, a NULL among them equal to a NULL. Where the rules are
//! enough, they are left to it: what they make does without the different values, which are state. They are not where `x NOT IN (…)`
//! stands beside an OR: it may be unknown, and what they make of it is true or false. Nor are they where the subquery has a row
//! that it makes of none ([`made_up`]).

mod domain;
mod made_up;
mod namesakes;
mod pushed;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, EmptyRelation, Expr, FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Operator,
    Projection, SkipType, Subquery, SubqueryAlias,
};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};

pub(in crate::plan) use self::domain::Names;
pub(crate) use self::domain::is_volatile;
use self::domain::{Domain, inputs_of, visit};
use self::made_up::has_made_up_rows;
pub(in crate::plan) use self::made_up::{below_value, makes_up_rows, refused};
pub(in crate::plan) use self::namesakes::has_namesakes;
use self::pushed::pushed;
use super::subquery_of;
use super::values::said_by_counts;

/// The plan with such subqueries as joins. What can't be one stays, and is refused later.
pub(in crate::plan) fn joined(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let names = Names::with("__outer_");
    plan.transform_down_with_subqueries(|node| {
        let joined = match &node {
            LogicalPlan::Filter(filter) => filtered(filter, &names)?,
            LogicalPlan::Projection(projection) => projected(projection, &names)?,
            _ => None,
        };
        Ok(joined.map_or_else(|| Transformed::no(node), Transformed::yes))
    })
    .data()
}

/// A join with a lateral subquery on its right, as one without.
pub(in crate::plan) fn lateral(join: &Join, names: &Names) -> PlanResult<Option<LogicalPlan>> {
    let within = freed(&join.right)?;
    let Some(domain) = Domain::of(&within, &join.left, names)? else { return Ok(None) };
    let Some(rows) = pushed(&within, &domain)? else { return Ok(None) };
    if !join.on.is_empty() || !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Ok(None);
    }
    let columns = join.schema.columns().into_iter().map(Expr::Column);
    LogicalPlanBuilder::from(LogicalPlan::clone(&join.left))
        .join_detailed(
            rows.plan,
            join.join_type,
            (domain.columns.clone(), rows.keys),
            join.filter.clone(),
            NullEquality::NullEqualsNull,
        )?
        .project(columns)?
        .build()
        .map(Some)
}

/// The rows of a lateral subquery, without the node that says that it is one.
fn freed(plan: &LogicalPlan) -> PlanResult<LogicalPlan> {
    match plan {
        LogicalPlan::Subquery(Subquery { subquery, .. }) => Ok(LogicalPlan::clone(subquery)),
        LogicalPlan::SubqueryAlias(alias) => {
            let input = Arc::new(freed(&alias.input)?);
            SubqueryAlias::try_new(input, alias.alias.clone()).map(LogicalPlan::SubqueryAlias)
        }
        other => Ok(other.clone()),
    }
}

fn filtered(filter: &Filter, names: &Names) -> PlanResult<Option<LogicalPlan>> {
    let (mut before, mut hard, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let mut mistaken = false;
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        if !has_subquery(&condition)? {
            // Rows of which some are left out by chance would not be the same twice.
            let part = if condition.is_volatile() { &mut after } else { &mut before };
            part.push(condition);
            continue;
        }
        let how = if minds_unknown(&condition, true)? { ByRules::Wrong } else { by_rules(&condition, &filter.input)? };
        mistaken |= how == ByRules::Wrong;
        if how == ByRules::Right { after.push(condition) } else { hard.push(condition) }
    }
    if hard.is_empty() {
        return Ok(None);
    }
    let mut rows = LogicalPlan::clone(&filter.input);
    if let Some(before) = conjunction(before) {
        rows = LogicalPlan::Filter(Filter::try_new(before, Arc::new(rows))?);
    }
    let outside = rows.clone();
    for condition in hard {
        rows = match satisfying(rows, condition, &outside, names)? {
            Some(kept) => kept,
            None if mistaken => return Err(refused().into()),
            None => return Ok(None),
        };
    }
    if let Some(after) = conjunction(after) {
        rows = LogicalPlan::Filter(Filter::try_new(after, Arc::new(rows))?);
    }
    let columns = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
    Projection::try_new(columns, Arc::new(rows)).map(|plan| Some(LogicalPlan::Projection(plan)))
}

/// The rows that satisfy a condition, maybe with more columns. Domains are those of `outside`, of which `rows` are some: what was
/// joined to these for other subqueries is not made once more for each.
fn satisfying(
    rows: LogicalPlan,
    condition: Expr,
    outside: &LogicalPlan,
    names: &Names,
) -> PlanResult<Option<LogicalPlan>> {
    match condition {
        Expr::Not(inner) if matches!(*inner, Expr::Exists(_)) => {
            let Expr::Exists(Exists { subquery, negated }) = *inner else { return Ok(None) };
            satisfying(rows, Expr::Exists(Exists { subquery, negated: !negated }), outside, names)
        }
        Expr::Exists(Exists { subquery, negated }) => {
            // One row is as good as another.
            let within = match &*subquery.subquery {
                LogicalPlan::Limit(limit) if leaves_one(limit)? => LogicalPlan::clone(&limit.input),
                LogicalPlan::Limit(limit) => in_order(limit)?,
                other => other.clone(),
            };
            matching(rows, &within, negated, |_| None, outside, names)
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) if !has_subquery(&expr)? => {
            let compared = |column: Expr| {
                let equal = (*expr).clone().eq(column.clone());
                Some(match negated {
                    // A comparison that is unknown is reason enough.
                    true => equal.or((*expr).clone().is_null()).or(column.is_null()),
                    false => equal,
                })
            };
            matching(rows, &subquery.subquery, negated, compared, outside, names)
        }
        condition => {
            let condition = said_by_counts(condition, rows.schema())?.data;
            let Some((rows, mut conditions)) = with_values(rows, vec![condition], outside, names)? else {
                return Ok(None);
            };
            let Some(condition) = conditions.pop() else { return Ok(None) };
            Filter::try_new(condition, Arc::new(rows)).map(|filter| Some(LogicalPlan::Filter(filter)))
        }
    }
}

/// The rows for which the subquery has a row that meets them, or has none.
fn matching(
    rows: LogicalPlan,
    subquery: &LogicalPlan,
    negated: bool,
    compared: impl FnOnce(Expr) -> Option<Expr>,
    outside: &LogicalPlan,
    names: &Names,
) -> PlanResult<Option<LogicalPlan>> {
    let Some(domain) = Domain::of(subquery, outside, names)? else { return Ok(None) };
    let Some(within) = pushed(subquery, &domain)? else { return Ok(None) };
    let Some(column) = subquery.schema().columns().into_iter().next() else { return Ok(None) };
    // The rows outside may have columns of the same name.
    let relation = names.next();
    let value = Expr::Column(column).alias_qualified(Some(relation.as_str()), "value");
    let keys = within.keys.iter().cloned().map(Expr::Column);
    let within_columns = keys.chain([value]).collect();
    let within_rows = LogicalPlan::Projection(Projection::try_new(within_columns, Arc::new(within.plan))?);
    let kind = if negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
    let condition = compared(Expr::Column(Column::new(Some(relation), "value")));
    let columns = domain.columns.clone();
    LogicalPlanBuilder::from(rows.clone())
        .join_detailed(within_rows, kind, (columns, within.keys), condition, NullEquality::NullEqualsNull)?
        .build()
        .map(Some)
}

fn projected(projection: &Projection, names: &Names) -> PlanResult<Option<LogicalPlan>> {
    let mut hard: Vec<(usize, Expr)> = Vec::new();
    let mut mistaken = false;
    for (place, expr) in projection.expr.iter().enumerate() {
        let how = if has_subquery(expr)? { by_rules(expr, &projection.input)? } else { ByRules::Right };
        mistaken |= how == ByRules::Wrong;
        if how != ByRules::Right {
            hard.push((place, expr.clone()));
        }
    }
    if hard.is_empty() {
        return Ok(None);
    }
    let rows = LogicalPlan::clone(&projection.input);
    let (places, hard): (Vec<usize>, Vec<Expr>) = hard.into_iter().unzip();
    let Some((rows, said)) = with_values(rows, hard, &projection.input, names)? else {
        return if mistaken { Err(refused().into()) } else { Ok(None) };
    };
    let mut exprs = projection.expr.clone();
    for (place, expr) in places.into_iter().zip(said) {
        exprs[place] = expr;
    }
    // The nodes above know the columns by their names.
    let named = exprs.into_iter().zip(&projection.expr).map(|(expr, before)| {
        let (relation, name) = before.qualified_name();
        match expr.qualified_name() == (relation.clone(), name.clone()) {
            true => expr,
            false => expr.unalias().alias_qualified(relation, name),
        }
    });
    Projection::try_new(named.collect(), Arc::new(rows)).map(|plan| Some(LogicalPlan::Projection(plan)))
}

/// The rows beside the values of the subqueries in some expressions, and the expressions over them.
fn with_values(
    mut rows: LogicalPlan,
    exprs: Vec<Expr>,
    outside: &LogicalPlan,
    names: &Names,
) -> PlanResult<Option<(LogicalPlan, Vec<Expr>)>> {
    let mut possible = true;
    let mut said = Vec::new();
    for expr in exprs {
        let expr = expr.transform_up(|expr| match expr {
            Expr::ScalarSubquery(of) if possible && names_outside(&of.subquery)? => {
                match beside(&rows, &of.subquery, outside, names)? {
                    Some((joined, value)) => {
                        rows = joined;
                        Ok(Transformed::yes(value))
                    }
                    None => {
                        possible = false;
                        Ok(Transformed::no(Expr::ScalarSubquery(of)))
                    }
                }
            }
            other => Ok(Transformed::no(other)),
        })?;
        said.push(expr.data);
    }
    Ok(possible.then_some((rows, said)))
}

/// The rows beside the value of a subquery, of which there is one at most.
fn beside(
    rows: &LogicalPlan,
    subquery: &LogicalPlan,
    outside: &LogicalPlan,
    names: &Names,
) -> PlanResult<Option<(LogicalPlan, Expr)>> {
    let Some(domain) = Domain::of(subquery, outside, names)? else { return Ok(None) };
    let Some(within) = pushed(subquery, &domain)? else { return Ok(None) };
    let Some(column) = subquery.schema().columns().into_iter().next() else { return Ok(None) };
    let relation = names.next();
    let keys = within.keys.iter().cloned().map(Expr::Column);
    let value = Expr::Column(column).alias_qualified(Some(relation.as_str()), "value");
    let values = Projection::try_new(keys.chain([value]).collect(), Arc::new(within.plan))?;
    let plan = LogicalPlanBuilder::from(rows.clone())
        .join_detailed(
            LogicalPlan::Projection(values),
            JoinType::Left,
            (domain.columns.clone(), within.keys),
            None,
            NullEquality::NullEqualsNull,
        )?
        .build()?;
    Ok(Some((plan, Expr::Column(Column::new(Some(relation), "value")))))
}

/// Whether a subquery names rows outside, be it in a subquery within it.
pub(in crate::plan) fn names_outside(subquery: &LogicalPlan) -> PlanResult<bool> {
    let mut named = false;
    visit(subquery, &mut Vec::new(), &mut |_, _| named = true)?;
    Ok(named)
}

/// The columns of rows outside that a subquery names, also in a subquery within it.
pub(in crate::plan) fn named_outside(subquery: &LogicalPlan) -> PlanResult<Vec<Column>> {
    let mut named = Vec::new();
    visit(subquery, &mut Vec::new(), &mut |column, _| named.push(column.clone()))?;
    Ok(named)
}

pub(in crate::plan) fn has_subquery(expr: &Expr) -> PlanResult<bool> {
    expr.exists(|expr| Ok(subquery_of(expr).is_some()))
}

/// Whether it matters that IN with a subquery is unknown: where it is negated beside something else. DataFusion's rule has a
/// column there that is true or false. NOT IN by itself, `alone`, is an anti join.
fn minds_unknown(condition: &Expr, alone: bool) -> PlanResult<bool> {
    match condition {
        Expr::InSubquery(of) => Ok(of.negated && !alone),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(of) => Ok(!of.negated && !alone),
            other => other.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_)))),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            Ok(minds_unknown(left, false)? || minds_unknown(right, false)?)
        }
        other => other.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_)))),
    }
}

/// A limit of rows in an order, be it any: how many are left does not hang on it.
fn in_order(limit: &Limit) -> PlanResult<LogicalPlan> {
    if matches!(*limit.input, LogicalPlan::Sort(_)) {
        return Ok(LogicalPlan::Limit(limit.clone()));
    }
    let order = limit.input.schema().columns().into_iter().map(|column| Expr::Column(column).sort(true, false));
    let input = Arc::new(LogicalPlanBuilder::from(Arc::clone(&limit.input)).sort(order)?.build()?);
    Ok(LogicalPlan::Limit(Limit { input, ..limit.clone() }))
}

/// Whether a limit leaves a row where there is one.
fn leaves_one(limit: &Limit) -> PlanResult<bool> {
    let skips_none = matches!(limit.get_skip_type()?, SkipType::Literal(0));
    Ok(skips_none && !matches!(limit.get_fetch_type()?, FetchType::Literal(Some(0)) | FetchType::UnsupportedExpr))
}

/// Whether a condition of the subquery names the row outside beside the value of a subquery further in. It would become a join's,
/// where nothing makes a join of what is further in.
fn compares_with_value(subquery: &LogicalPlan) -> PlanResult<bool> {
    subquery.exists(|node| {
        let condition = match node {
            LogicalPlan::Filter(filter) => Some(&filter.predicate),
            LogicalPlan::Join(join) => join.filter.as_ref(),
            _ => None,
        };
        let mut found = false;
        for condition in condition.into_iter().flat_map(split_conjunction) {
            found |= condition.contains_outer() && has_subquery(condition)?;
        }
        Ok(found)
    })
}

/// What DataFusion's rules make of an expression's subqueries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByRules {
    Right,
    /// Nothing: they are left, or it is an error.
    Nothing,
    /// Something else than they are.
    Wrong,
}

/// What DataFusion's rules make of the subqueries of an expression over `rows`.
fn by_rules(expr: &Expr, rows: &LogicalPlan) -> PlanResult<ByRules> {
    let mut far = false;
    let mut correlated = false;
    expr.apply(|expr| {
        let Some(of) = subquery_of(expr) else { return Ok(TreeNodeRecursion::Continue) };
        visit(&of.subquery, &mut Vec::new(), &mut |_, within| {
            correlated = true;
            far |= within;
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !correlated {
        return Ok(ByRules::Right);
    }
    if far || has_made_up_rows(expr)? {
        return Ok(ByRules::Wrong);
    }
    let mistaken = expr.exists(|expr| subquery_of(expr).map_or(Ok(false), |of| has_namesakes(&of.subquery)))?;
    if mistaken {
        return Ok(ByRules::Wrong);
    }
    let beside_value =
        expr.exists(|expr| subquery_of(expr).map_or(Ok(false), |of| compares_with_value(&of.subquery)))?;
    if beside_value {
        return Ok(ByRules::Nothing);
    }
    // Tried out, on no rows.
    let none = Arc::new(LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: false,
        schema: Arc::clone(rows.schema()),
    }));
    let as_condition = Filter::try_new(expr.clone(), Arc::clone(&none)).map(LogicalPlan::Filter);
    let plan = match as_condition {
        Ok(filter) => filter,
        Err(_) => LogicalPlan::Projection(Projection::try_new(vec![expr.clone()], none)?),
    };
    let context = OptimizerContext::new().without_query_execution_start_time();
    let rules: [&dyn OptimizerRule; 2] = [&DecorrelatePredicateSubquery::new(), &ScalarSubqueryToJoin::new()];
    let mut plan = plan;
    for rule in rules {
        plan = match plan.transform_down(|node| rule.rewrite(node, &context)) {
            Ok(rewritten) => rewritten.data,
            Err(_) => return Ok(ByRules::Nothing),
        };
    }
    let mut left = false;
    plan.apply_with_subqueries(|node| {
        let inputs = inputs_of(node);
        let lost = |column: &Column| !inputs.is_empty() && !inputs.iter().any(|schema| schema.has_column(column));
        node.apply_expressions(|expr| {
            left |= expr.exists(|expr| {
                // Some columns are forgotten on the way up.
                Ok(matches!(expr, Expr::OuterReferenceColumn(..))
                    || matches!(expr, Expr::Column(column) if lost(column)))
            })?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(if left { ByRules::Nothing } else { ByRules::Right })
}
