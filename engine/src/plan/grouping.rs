//! GROUPING SETS, ROLLUP and CUBE: one aggregate for each set, one below the other.
//!
//! So each set has its own state, is windowed where it names the window, and the set without columns has its row even
//! when there is nothing to aggregate, as SQL says. What is below is read once: equal parts of a plan are one operator.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::{enumerate_grouping_sets, grouping_set_to_exprlist};
use datafusion::logical_expr::{
    Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, Projection, Union, lit, when,
};
use datafusion::scalar::ScalarValue;

use crate::error::Error;

/// A column that is there on the way only.
const ROWS: &str = "__rows";

/// The aggregate as a union of aggregates, if it has several grouping sets.
pub(super) fn expanded(aggregate: &Aggregate) -> PlanResult<Option<LogicalPlan>> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(None) };
    let keys: Vec<&Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?;
    let branches = sets_of(sets)?
        .into_iter()
        .map(|set| Ok(Arc::new(branch(aggregate, &keys, &set)?)))
        .collect::<PlanResult<Vec<_>>>()?;
    let all = match <[Arc<LogicalPlan>; 1]>::try_from(branches) {
        Ok([only]) => only,
        Err(branches) => Arc::new(LogicalPlan::Union(Union::try_new(branches)?)),
    };
    // As the nodes above know the columns.
    let columns = shown(aggregate, keys.len()).enumerate().map(|(number, column)| {
        Expr::Column(Column::from_name(number.to_string())).alias_qualified(column.relation, column.name)
    });
    // A builder would refuse `a.k` beside the `"a.k"` that DataFusion calls `a.k::text`.
    Ok(Some(LogicalPlan::Projection(Projection::try_new(columns.collect(), all)?)))
}

/// The aggregate's output columns without the number of the set, which DataFusion has between keys and results.
fn shown(aggregate: &Aggregate, keys: usize) -> impl Iterator<Item = Column> {
    let columns = aggregate.schema.columns().into_iter().enumerate();
    columns.filter(move |(index, _)| *index != keys).map(|(_, column)| column)
}

fn sets_of(sets: &GroupingSet) -> PlanResult<Vec<Vec<Expr>>> {
    match sets {
        GroupingSet::GroupingSets(sets) => Ok(sets.clone()),
        GroupingSet::Rollup(exprs) => Ok((0..=exprs.len()).rev().map(|length| exprs[..length].to_vec()).collect()),
        GroupingSet::Cube(_) => {
            // Together with an empty list of keys it is written out.
            let none = Expr::GroupingSet(GroupingSet::GroupingSets(vec![Vec::new()]));
            match enumerate_grouping_sets(vec![Expr::GroupingSet(sets.clone()), none])?.as_slice() {
                [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => Ok(sets.clone()),
                _ => Err(Error::internal("CUBE was not written out").into()),
            }
        }
    }
}

/// The rows of one set: all keys (NULL for those that it leaves out) and all results, named by number.
fn branch(aggregate: &Aggregate, keys: &[&Expr], set: &[Expr]) -> PlanResult<LogicalPlan> {
    let calls = aggregate.aggr_expr.iter().filter(|call| grouping_call(call).is_none());
    let mut calls: Vec<Expr> = calls.cloned().collect();
    let results = calls.len();
    if set.is_empty() {
        calls.push(count_udaf().call(vec![lit(1_i64)]).alias(ROWS));
    }
    let mut group: Vec<Expr> = Vec::new();
    set.iter().for_each(|key| {
        if !group.contains(key) {
            group.push(key.clone());
        }
    });
    let inner = Aggregate::try_new(Arc::clone(&aggregate.input), group.clone(), calls)?;
    let schema = Arc::clone(&inner.schema);
    let column = |index: usize| Expr::Column(Column::from(schema.qualified_field(index)));

    let mut columns = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        columns.push(match group.iter().position(|other| other == *key) {
            Some(index) => column(index),
            None => {
                let null = Expr::Literal(ScalarValue::try_new_null(aggregate.schema.field(number).data_type())?, None);
                // A condition on a constant would be pushed below the aggregate; but where there are no groups, a row
                // remains whatever is filtered out below.
                if set.is_empty() { when(column(results).lt(lit(0_i64)), null).end()? } else { null }
            }
        });
    }
    let mut results = group.len()..;
    for call in &aggregate.aggr_expr {
        columns.push(match grouping_call(call) {
            Some(call) => lit(absent(call, keys, &group, aggregate.input.schema())?),
            None => column(results.next().unwrap_or_default()),
        });
    }
    let columns = columns.into_iter().enumerate().map(|(number, expr)| expr.alias(number.to_string()));
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(inner)).project(columns)?.build()
}

/// The call of `grouping` that an expression is.
fn grouping_call(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(call) if call.func.name() == "grouping" => Some(call),
        Expr::Alias(alias) => grouping_call(&alias.expr),
        _ => None,
    }
}

/// What `grouping(…)` is in the rows of a set: a bit for each argument, the last one lowest, set where it is left out.
fn absent(call: &AggregateFunction, keys: &[&Expr], group: &[Expr], schema: &DFSchema) -> PlanResult<i32> {
    let arguments = &call.params.args;
    if arguments.is_empty() || arguments.len() > 31 {
        return Err(wrong("grouping() takes 1 to 31 columns of the GROUP BY"));
    }
    arguments.iter().try_fold(0, |bits, argument| {
        let same = |key: &Expr| key == argument || same_column(key, argument, schema);
        if !keys.iter().any(|key| same(key)) {
            return Err(wrong("the arguments of grouping() are columns of the GROUP BY"));
        }
        Ok(bits << 1 | i32::from(!group.iter().any(same)))
    })
}

fn same_column(one: &Expr, other: &Expr, schema: &DFSchema) -> bool {
    match (one, other) {
        (Expr::Column(one), Expr::Column(other)) => {
            let (one, other) = (schema.maybe_index_of_column(one), schema.maybe_index_of_column(other));
            one.is_some() && one == other
        }
        _ => false,
    }
}

fn wrong(sentence: &str) -> DataFusionError {
    Error::invalid(sentence).with_hint("write grouping(a) where GROUP BY ROLLUP (a, b) names a").into()
}
