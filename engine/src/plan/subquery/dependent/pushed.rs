//! A subquery for all rows outside at once.
//!
//! Its rows for each row of the domain, beside that row: the domain goes down the subquery to where nothing names it, and
//! meets the rows there (Neumann and Kemper, "Unnesting Arbitrary Queries", BTW 2015). What is done for all rows of the
//! subquery is then done for those of one row of the domain: groups, windows, limits.

use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef, JoinConstraint, JoinType, NullEquality, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{Sort as Order, WindowFunction};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprSchemable, FetchType, Filter, Join, Limit, LogicalPlan,
    LogicalPlanBuilder, Operator, Projection, SkipType, SubqueryAlias, Union, Window, WindowFrame, binary_expr, lit,
    when,
};

use super::domain::{Domain, inputs_of};
use crate::plan::ties::limit_of_sort;

/// A plan whose columns are those of the subquery, by their names, and those of the domain.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) plan: LogicalPlan,
    /// What the domain's columns are called in it.
    pub(super) keys: Vec<Column>,
}

/// The subquery with the domain in it. `None`: it can't be there.
pub(super) fn pushed(plan: &LogicalPlan, domain: &Domain<'_>) -> PlanResult<Option<Pushed>> {
    if !domain.is_named_in(plan)? {
        let (rows, keys) = domain.rows()?;
        let plan = LogicalPlanBuilder::from(rows).cross_join(plan.clone())?.build()?;
        return Ok(Some(Pushed { plan, keys }));
    }
    let inputs = inputs_of(plan);
    match plan {
        LogicalPlan::Filter(filter) => {
            let Some(below) = pushed(&filter.input, domain)? else { return Ok(None) };
            let predicate = domain.bound(filter.predicate.clone(), &inputs, &below.keys)?;
            let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(below.plan))?);
            Ok(Some(Pushed { plan, keys: below.keys }))
        }
        LogicalPlan::Projection(projection) => {
            let Some(below) = pushed(&projection.input, domain)? else { return Ok(None) };
            let own = projection.expr.iter().map(|expr| domain.bound_by_name(expr, &inputs, &below.keys));
            let all = below.keys.iter().cloned().map(Expr::Column).map(Ok).chain(own).collect::<PlanResult<_>>()?;
            let plan = LogicalPlan::Projection(Projection::try_new(all, Arc::new(below.plan))?);
            Ok(Some(Pushed { plan, keys: below.keys }))
        }
        LogicalPlan::SubqueryAlias(alias) => aliased(alias, domain),
        LogicalPlan::Aggregate(aggregate) => aggregated(aggregate, domain, &inputs),
        LogicalPlan::Join(join) => joined(join, domain, &inputs),
        LogicalPlan::Window(window) => {
            let Some(below) = pushed(&window.input, domain)? else { return Ok(None) };
            let calls = window.window_expr.iter().map(|call| windowed(call, domain, &inputs, &below.keys));
            let Some(calls) = calls.collect::<PlanResult<Option<Vec<_>>>>()? else { return Ok(None) };
            let plan = LogicalPlan::Window(Window::try_new(calls, Arc::new(below.plan))?);
            Ok(Some(Pushed { plan, keys: below.keys }))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let Some(below) = pushed(input, domain)? else { return Ok(None) };
            let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(below.plan)));
            Ok(Some(Pushed { plan, keys: below.keys }))
        }
        LogicalPlan::Distinct(Distinct::On(of)) => {
            let Some(below) = pushed(&of.input, domain)? else { return Ok(None) };
            let keys = || columns(&below.keys);
            let bound = |expr: &Expr| domain.bound(expr.clone(), &inputs, &below.keys);
            let shown = of.select_expr.iter().map(|expr| domain.bound_by_name(expr, &inputs, &below.keys));
            let on = keys().map(Ok).chain(of.on_expr.iter().map(bound)).collect::<PlanResult<_>>()?;
            let shown = keys().map(Ok).chain(shown).collect::<PlanResult<_>>()?;
            let order = of.sort_expr.iter().flatten().map(|order| {
                let expr = bound(&order.expr)?;
                Ok(Order::new(expr, order.asc, order.nulls_first))
            });
            let order = keys().map(|key| Ok(key.sort(true, false))).chain(order).collect::<PlanResult<_>>()?;
            let plan = Distinct::On(DistinctOn::try_new(on, shown, Some(order), Arc::new(below.plan))?);
            Ok(Some(Pushed { plan: LogicalPlan::Distinct(plan), keys: below.keys }))
        }
        LogicalPlan::Unnest(unnest) => {
            let Some(below) = pushed(&unnest.input, domain)? else { return Ok(None) };
            let plan = LogicalPlanBuilder::from(below.plan)
                .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?;
            Ok(Some(Pushed { plan: plan.build()?, keys: below.keys }))
        }
        LogicalPlan::Union(union) => united(union, domain),
        LogicalPlan::Limit(limit) => limited(limit, domain),
        // An order that no limit asks for says nothing.
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => pushed(&sort.input, domain),
        _ => Ok(None),
    }
}

/// Columns by the names that they have in another schema.
fn named(columns: impl Iterator<Item = Column>, schema: &DFSchemaRef) -> Vec<Expr> {
    let wanted = schema.columns().into_iter();
    let called = |(column, wanted): (Column, Column)| match column == wanted {
        true => Expr::Column(column),
        false => Expr::Column(column).alias_qualified(wanted.relation, wanted.name),
    };
    columns.zip(wanted).map(called).collect()
}

fn columns(keys: &[Column]) -> impl Iterator<Item = Expr> + '_ {
    keys.iter().cloned().map(Expr::Column)
}

fn aliased(alias: &SubqueryAlias, domain: &Domain<'_>) -> PlanResult<Option<Pushed>> {
    let Some(below) = pushed(&alias.input, domain)? else { return Ok(None) };
    // The domain's columns keep their names.
    let own = named(alias.input.schema().columns().into_iter(), &alias.schema);
    let plan = Projection::try_new(columns(&below.keys).chain(own).collect(), Arc::new(below.plan))?;
    Ok(Some(Pushed { plan: LogicalPlan::Projection(plan), keys: below.keys }))
}

fn aggregated(aggregate: &Aggregate, domain: &Domain<'_>, inputs: &[DFSchemaRef]) -> PlanResult<Option<Pushed>> {
    if matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return Ok(None);
    }
    let Some(below) = pushed(&aggregate.input, domain)? else { return Ok(None) };
    let bound = |expr: &Expr| domain.bound_by_name(expr, inputs, &below.keys);
    let own = aggregate.group_expr.iter().map(bound);
    let groups = columns(&below.keys).map(Ok).chain(own).collect::<PlanResult<Vec<_>>>()?;
    let calls = aggregate.aggr_expr.iter().map(bound).collect::<PlanResult<Vec<_>>>()?;
    let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(below.plan), groups, calls)?);
    if !aggregate.group_expr.is_empty() {
        return Ok(Some(Pushed { plan, keys: below.keys }));
    }
    // An aggregate of no rows has a row, too: one for each row of the domain.
    let (rows, keys) = domain.rows()?;
    let mut values: Vec<Expr> = columns(&keys).collect();
    for (call, column) in aggregate.aggr_expr.iter().zip(aggregate.schema.columns()) {
        let Expr::AggregateFunction(function) = call.clone().unalias() else { return Ok(None) };
        let of_none = function.func.default_value(&call.get_type(aggregate.input.schema())?)?;
        let value = Expr::Column(column.clone());
        values.push(match of_none.is_null() {
            true => value,
            false => when(value.clone().is_null(), lit(of_none))
                .otherwise(value)?
                .alias_qualified(column.relation, column.name),
        });
    }
    let plan = LogicalPlanBuilder::from(rows)
        .join_detailed(plan, JoinType::Left, (keys.clone(), below.keys), None, NullEquality::NullEqualsNull)?
        .project(values)?
        .build()?;
    Ok(Some(Pushed { plan, keys }))
}

fn joined(join: &Join, domain: &Domain<'_>, inputs: &[DFSchemaRef]) -> PlanResult<Option<Pushed>> {
    let (of_left, of_right) = (domain.is_named_in(&join.left)?, domain.is_named_in(&join.right)?);
    // Where rows without a match are shown, the domain is on their side.
    let (left, right) = match join.join_type {
        JoinType::Inner => (of_left || !of_right, of_right),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, of_right),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (of_left, true),
        JoinType::Full => return Ok(None),
    };
    let side = |within: bool, input: &Arc<LogicalPlan>| -> PlanResult<Option<(LogicalPlan, Vec<Column>)>> {
        Ok(match within {
            true => pushed(input, domain)?.map(|below| (below.plan, below.keys)),
            false => Some((LogicalPlan::clone(input), Vec::new())),
        })
    };
    let Some((left, left_keys)) = side(left, &join.left)? else { return Ok(None) };
    let Some((right, right_keys)) = side(right, &join.right)? else { return Ok(None) };
    // Of two, those of the side that shows all its rows: the other side's are NULL beside a row without a match.
    let of_right =
        matches!(join.join_type, JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
    let keys = if left_keys.is_empty() || of_right { right_keys.clone() } else { left_keys.clone() };
    let equal = match join.null_equality {
        NullEquality::NullEqualsNothing => Operator::Eq,
        NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
    };
    let mut conditions: Vec<Expr> = Vec::new();
    for (one, other) in &join.on {
        conditions.push(binary_expr(one.clone(), equal, other.clone()));
    }
    conditions.extend(join.filter.clone());
    let mut conditions =
        conditions.into_iter().map(|expr| domain.bound(expr, inputs, &keys)).collect::<PlanResult<Vec<_>>>()?;
    if !left_keys.is_empty() && !right_keys.is_empty() {
        let same = columns(&left_keys).zip(columns(&right_keys));
        conditions.extend(same.map(|(one, other)| binary_expr(one, Operator::IsNotDistinctFrom, other)));
    }
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        Vec::new(),
        conjunction(conditions),
        join.join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        join.null_aware,
    )?;
    Ok(Some(Pushed { plan: LogicalPlan::Join(join), keys }))
}

fn windowed(call: &Expr, domain: &Domain<'_>, inputs: &[DFSchemaRef], keys: &[Column]) -> PlanResult<Option<Expr>> {
    let (relation, name) = call.qualified_name();
    let Expr::WindowFunction(mut call) = domain.bound(call.clone(), inputs, keys)?.unalias() else { return Ok(None) };
    call.params.partition_by.extend(columns(keys));
    Ok(Some(Expr::WindowFunction(call).alias_qualified(relation, name)))
}

/// The rows of all inputs, whose columns are put in one order.
fn united(union: &Union, domain: &Domain<'_>) -> PlanResult<Option<Pushed>> {
    let relation = domain.names().next();
    // Names that no one else gives to a column: grouping sets number theirs.
    let called = |number: usize| format!("{relation}_{number}");
    let numbered = |number: usize| Column::new(Some(relation.clone()), called(number));
    let mut all: Option<LogicalPlanBuilder> = None;
    for input in &union.inputs {
        let Some(below) = pushed(input, domain)? else { return Ok(None) };
        let columns = below.keys.into_iter().chain(input.schema().columns()).enumerate();
        let columns = columns.map(|(number, column)| Expr::Column(column).alias(called(number)));
        let rows = Projection::try_new(columns.collect(), Arc::new(below.plan))?;
        let rows = LogicalPlan::Projection(rows);
        all = Some(match all {
            None => LogicalPlanBuilder::from(rows),
            Some(all) => all.union(rows)?,
        });
    }
    let Some(all) = all else { return Ok(None) };
    let keys: Vec<Column> = (0..domain.columns.len()).map(numbered).collect();
    let width = union.schema.fields().len();
    let own = named((keys.len()..keys.len() + width).map(numbered), &union.schema);
    let plan = all.alias(TableReference::bare(relation.as_str()))?.project(columns(&keys).chain(own))?.build()?;
    Ok(Some(Pushed { plan, keys }))
}

/// The first rows for each row of the domain.
fn limited(limit: &Limit, domain: &Domain<'_>) -> PlanResult<Option<Pushed>> {
    let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?) else {
        return Ok(None);
    };
    if let LogicalPlan::Projection(above) = limit_of_sort(limit.clone()).data {
        return pushed(&LogicalPlan::Projection(above), domain);
    }
    // Which rows are the first, only an order says.
    let LogicalPlan::Sort(sort) = &*limit.input else { return Ok(None) };
    let Some(below) = pushed(&sort.input, domain)? else { return Ok(None) };
    let inputs = [Arc::clone(sort.input.schema())];
    let order = sort.expr.iter().map(|order| {
        let expr = domain.bound(order.expr.clone(), &inputs, &below.keys)?;
        Ok(Order::new(expr, order.asc, order.nulls_first))
    });
    let mut number = WindowFunction::new(row_number_udwf(), Vec::new());
    number.params.order_by = order.collect::<PlanResult<_>>()?;
    number.params.partition_by = columns(&below.keys).collect();
    number.params.window_frame = WindowFrame::new(Some(false));
    let name = domain.names().next();
    let place = Expr::Column(Column::from_name(&name));
    let mut taken = place.clone().gt(lit(skip as u64));
    if let Some(fetch) = fetch {
        taken = taken.and(place.lt_eq(lit(skip.saturating_add(fetch) as u64)));
    }
    let own = sort.input.schema().columns().into_iter().map(Expr::Column);
    let plan = LogicalPlanBuilder::from(below.plan)
        .window([Expr::WindowFunction(Box::new(number)).alias(&name)])?
        .filter(taken)?
        .project(columns(&below.keys).chain(own))?
        .build()?;
    Ok(Some(Pushed { plan, keys: below.keys }))
}
