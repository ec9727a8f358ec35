//! The canonical form: what makes a statement a function of the multiset of its input.
//!
//! Both the continuous plan and the batch plan that the law compares it with are in this form. An aggregate whose result
//! depends on the order of its input is given one by value:
//!
//! * `array_agg` and `string_agg` without ORDER BY sort by their values, NULLs last;
//! * an ORDER BY inside an aggregate is completed by the aggregate's own arguments, so that rows which tie are equal in
//!   all that the aggregate can see;
//! * `any_value(x)` is the least.
//!
//! GROUPING SETS, ROLLUP and CUBE are a union of aggregates ([`super::grouping`]).
//! INTERSECT and EXCEPT are nodes of their own, since `ALL` means what SQL says ([`SetNode`]).
//! A subquery as a value may be NULL ([`super::subquery::no_row`]), and one that names the row outside is an aggregate
//! ([`super::subquery::correlated_value`]).
//! LATERAL is a join ([`super::subquery::lateral`]), and so is a subquery that DataFusion's rules cannot take apart ([`super::subquery::dependent`]). EXISTS and IN that stand for a value are counts ([`super::subquery::values`]),
//! and ANY and ALL are EXISTS ([`super::subquery::quantified`]).
//! Rows that tie in OVER, ORDER BY … LIMIT and DISTINCT ON are put in order by [`super::ties`].

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::functions_aggregate::min_max::min_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use crate::error::Result;

use super::fault::planning_error;
use super::grouping::expanded;
use super::node::set::SetNode;
use super::subquery::correlated_value::said_otherwise;
use super::subquery::dependent;
use super::subquery::lateral::joined;
use super::subquery::no_row::nullable;
use super::subquery::quantified::said_by_exists;
use super::subquery::values::counted;
use super::ties::completed;

/// The plan in canonical form.
pub(super) fn canonical(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = counted(said_by_exists(nullable(plan).map_err(planning_error)?)?)?;
    let plan = said_otherwise(plan)?.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => match expanded(&aggregate)? {
            Some(sets) => Ok(Transformed::yes(canonical_aggregates(sets)?)),
            None => canonical_aggregate(aggregate),
        },
        LogicalPlan::Join(join) => match SetNode::of(&join) {
            Some(set) => Ok(Transformed::yes(set.into_plan()?)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    });
    // Grouping sets are written out before: which of them has a row where there are none can be seen.
    let plan = plan.data().and_then(joined).and_then(dependent::joined).map_err(planning_error)?;
    // Last: it drops columns that nobody reads, and the joins in the place of INTERSECT and EXCEPT are known by theirs.
    completed(plan).map_err(planning_error)
}

/// The aggregates of grouping sets in canonical form.
fn canonical_aggregates(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) => canonical_aggregate(aggregate),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn canonical_aggregate(aggregate: Aggregate) -> PlanResult<Transformed<LogicalPlan>> {
    let mut changed = false;
    let calls = aggregate
        .aggr_expr
        .iter()
        .map(|expr| {
            let name = expr.schema_name().to_string();
            let canonical = expr.clone().transform_up(|expr| match expr {
                Expr::AggregateFunction(call) => Ok(canonical_call(call)),
                other => Ok(Transformed::no(other)),
            })?;
            if !canonical.transformed {
                return Ok(canonical.data);
            }
            changed = true;
            // The nodes above know the column by its name.
            let renamed = canonical.data.schema_name().to_string() != name;
            Ok(if renamed { canonical.data.alias(name) } else { canonical.data })
        })
        .collect::<PlanResult<Vec<Expr>>>()?;
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let aggregate = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}

fn canonical_call(mut call: AggregateFunction) -> Transformed<Expr> {
    let name = call.func.name().to_owned();
    match name.as_str() {
        "any_value" => {
            call.func = min_udaf();
            Transformed::yes(Expr::AggregateFunction(call))
        }
        "array_agg" | "string_agg" => complete_order(call),
        _ if is_order_sensitive(&name) && !call.params.order_by.is_empty() => complete_order(call),
        _ => Transformed::no(Expr::AggregateFunction(call)),
    }
}

/// Whether an aggregate's result depends on the order of its input: those are refused in a continuous query if they have
/// no ORDER BY.
pub(super) fn is_order_sensitive(name: &str) -> bool {
    matches!(name, "first_value" | "last_value" | "nth_value")
}

/// Adds the arguments that the order does not name yet, and names each expression once.
fn complete_order(mut call: AggregateFunction) -> Transformed<Expr> {
    let written = std::mem::take(&mut call.params.order_by);
    let mut added = false;
    for sort in written {
        let named = call.params.order_by.iter().any(|other| other.expr == sort.expr);
        added |= named;
        if !named {
            call.params.order_by.push(sort);
        }
    }
    for argument in call.params.args.clone() {
        let named = call.params.order_by.iter().any(|sort| sort.expr == argument);
        if !named && !matches!(argument, Expr::Literal(..)) {
            call.params.order_by.push(Sort::new(argument, true, false));
            added = true;
        }
    }
    let expr = Expr::AggregateFunction(call);
    if added { Transformed::yes(expr) } else { Transformed::no(expr) }
}
