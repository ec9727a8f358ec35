//! Rows that tie in an ORDER BY: the canonical form of OVER, ORDER BY … LIMIT and DISTINCT ON.
//!
//! Where the order of rows decides a result, rows that tie are ordered by all other columns that the query reads, in the
//! order of the relation's columns, NULLs last: then only equal rows tie, and they are interchangeable. Where peers matter
//! (`rank`, RANGE and GROUPS frames) the ORDER BY stays what it is; a function that sees the order of peers in such a frame
//! is put into an equal form that doesn't, or refused ([`sees_order_of_peers`]).
//!
//! DISTINCT ON is `row_number() = 1`. Of the rows that are nearest in an as-of join the first one in this order is met.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as PlanResult;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::expr::{NullTreatment, Sort, WindowFunction};
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, ExprFunctionExt, Filter, Limit, LogicalPlan, Projection, Window, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, col, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};
use datafusion::scalar::ScalarValue;

use super::asof::AsOfNode;
use super::rules::prune::PruneColumns;

/// The plan with its orders completed.
pub(super) fn completed(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    if !has_order(&plan)? {
        return Ok(plan);
    }
    let plan = plan
        .transform_up_with_subqueries(|node| match node {
            LogicalPlan::Distinct(Distinct::On(distinct)) => first_rows(distinct),
            LogicalPlan::Limit(limit) => Ok(limit_of_sort(limit)),
            other => Ok(Transformed::no(other)),
        })
        .data()?;
    // Only columns that the query reads are kept, and so only they are compared.
    let options = Arc::new(ConfigOptions::new());
    let context = OptimizerContext::new_with_config_options(Arc::clone(&options)).without_query_execution_start_time();
    let plan = laterals_joined(plan, &context)?;
    let plan = PruneColumns::default().rewrite(coerced(plan, &options)?, &context).data()?;
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) => completed_window(window),
        LogicalPlan::Limit(limit) => Ok(completed_limit(limit)),
        other => match AsOfNode::of(&other) {
            Some(node) => Ok(Transformed::yes(node.tied()?)),
            None => Ok(Transformed::no(other)),
        },
    })
    .data()
}

/// The plan with inputs of UNION of one type, as the rule that drops columns wants them. Where types do not fit, that is said
/// later, and better.
fn coerced(plan: LogicalPlan, options: &ConfigOptions) -> PlanResult<LogicalPlan> {
    match plan.exists(|node| Ok(matches!(node, LogicalPlan::Union(_))))? {
        true => Ok(TypeCoercion::new().analyze(plan.clone(), options).unwrap_or(plan)),
        false => Ok(plan),
    }
}

/// The plan with its LATERAL queries as joins: the rule that drops columns doesn't see what they read of the rows before them.
fn laterals_joined(plan: LogicalPlan, context: &OptimizerContext) -> PlanResult<LogicalPlan> {
    let rule = DecorrelateLateralJoin::new();
    plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Join(_) => rule.rewrite(node, context),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn has_order(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= match node {
            LogicalPlan::Window(_) | LogicalPlan::Distinct(Distinct::On(_)) => true,
            LogicalPlan::Limit(limit) => sorted(limit),
            other => AsOfNode::of(other).is_some(),
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether a LIMIT stands over an ORDER BY.
pub(super) fn sorted(limit: &Limit) -> bool {
    match &*limit.input {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => matches!(&*projection.input, LogicalPlan::Sort(_)),
        _ => false,
    }
}

/// DISTINCT ON: the first row of each partition.
fn first_rows(distinct: DistinctOn) -> PlanResult<Transformed<LogicalPlan>> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = distinct;
    const NUMBER: &str = "__first";
    let order = sort_expr.unwrap_or_default().into_iter().filter(|sort| !on_expr.contains(&sort.expr)).collect();
    let number = row_number().partition_by(on_expr).order_by(order).build()?.alias(NUMBER);
    let window = LogicalPlan::Window(Window::try_new(vec![number], input)?);
    let filter = LogicalPlan::Filter(Filter::try_new(col(NUMBER).eq(lit(1_u64)), Arc::new(window))?);
    let projection = Projection::try_new_with_schema(select_expr, Arc::new(filter), schema)?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

/// A projection between LIMIT and ORDER BY goes above both: it drops what was sorted by.
pub(super) fn limit_of_sort(limit: Limit) -> Transformed<LogicalPlan> {
    match &*limit.input {
        LogicalPlan::Projection(projection) if matches!(&*projection.input, LogicalPlan::Sort(_)) => {
            let below = Limit { input: Arc::clone(&projection.input), ..limit.clone() };
            let mut above = projection.clone();
            above.input = Arc::new(LogicalPlan::Limit(below));
            Transformed::yes(LogicalPlan::Projection(above))
        }
        _ => Transformed::no(LogicalPlan::Limit(limit)),
    }
}

fn completed_limit(limit: Limit) -> Transformed<LogicalPlan> {
    let limit = match limit_of_sort(limit).data {
        LogicalPlan::Limit(limit) => limit,
        // Columns that only the order needs were dropped between the two: the first rows are taken before that.
        LogicalPlan::Projection(mut above) => {
            if let LogicalPlan::Limit(below) = &*above.input {
                above.input = Arc::new(completed_limit(below.clone()).data);
            }
            return Transformed::yes(LogicalPlan::Projection(above));
        }
        other => return Transformed::no(other),
    };
    let LogicalPlan::Sort(sort) = &*limit.input else { return Transformed::no(LogicalPlan::Limit(limit)) };
    let mut sort = sort.clone();
    complete(&mut sort.expr, &[], &sort.input);
    Transformed::yes(LogicalPlan::Limit(Limit { input: Arc::new(LogicalPlan::Sort(sort)), ..limit }))
}

/// Adds the columns that an order does not have yet.
fn complete(order: &mut Vec<Sort>, partition: &[Expr], input: &LogicalPlan) {
    for column in input.schema().columns() {
        let column = Expr::Column(column);
        if !partition.contains(&column) && !order.iter().any(|sort| sort.expr == column) {
            order.push(Sort::new(column, true, false));
        }
    }
}

/// How a call depends on the order of rows that tie.
enum Ties {
    /// Not at all.
    Free,
    /// As the order has it: it is completed.
    Completed,
    /// The same, with another frame that says the same.
    Framed(WindowFrame),
    /// All that it sees are the peers of a row: they become the partition.
    Peers,
    /// The order of peers in a frame that has all of them.
    Unsettled,
}

fn ties(call: &WindowFunction) -> Ties {
    use WindowFrameBound::{CurrentRow, Following, Preceding};
    let name = call.fun.name();
    let frame = &call.params.window_frame;
    let (start, end) = (&frame.start_bound, &frame.end_bound);
    let first = || Preceding(ScalarValue::UInt64(None));
    let last = || Following(ScalarValue::UInt64(None));
    let rows = |start, end| WindowFrame::new_bounds(WindowFrameUnits::Rows, start, end);
    match (&call.fun, name) {
        (WindowFunctionDefinition::WindowUDF(_), "row_number" | "ntile" | "lag" | "lead") => {
            return Ties::Framed(rows(first(), CurrentRow));
        }
        (WindowFunctionDefinition::WindowUDF(_), "rank" | "dense_rank" | "percent_rank" | "cume_dist") => {
            return Ties::Free;
        }
        _ if frame.units == WindowFrameUnits::Rows => return Ties::Completed,
        (_, "first_value" | "last_value" | "nth_value" | "array_agg" | "string_agg") => {}
        _ => return Ties::Free,
    }
    let (from_first, to_last) = (start.is_unbounded(), end.is_unbounded());
    if from_first && to_last {
        return Ties::Framed(rows(first(), last()));
    }
    if call.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return Ties::Unsettled;
    }
    let has_current = !matches!(end, Preceding(_)) && (from_first || !matches!(start, Following(_)));
    match name {
        "first_value" if from_first && has_current => Ties::Framed(rows(first(), CurrentRow)),
        "last_value" if to_last && has_current => Ties::Framed(rows(CurrentRow, last())),
        "last_value" if *end == CurrentRow && has_current => Ties::Peers,
        "first_value" if *start == CurrentRow && has_current => Ties::Peers,
        _ => Ties::Unsettled,
    }
}

/// Whether a call's result depends on the order of peers in a frame that has all of them.
pub(super) fn sees_order_of_peers(call: &WindowFunction) -> bool {
    matches!(ties(call), Ties::Unsettled)
}

/// PARTITION BY and ORDER BY of a window.
type Keys = (Vec<Expr>, Vec<Sort>);

fn completed_window(window: Window) -> PlanResult<Transformed<LogicalPlan>> {
    // Functions of one window stand together: those whose order is completed no longer do with those whose is not.
    let mut groups: Vec<(Keys, Vec<Expr>)> = Vec::new();
    for expr in &window.window_expr {
        let Expr::WindowFunction(mut call) = expr.clone().unalias() else {
            return Ok(Transformed::no(LogicalPlan::Window(window)));
        };
        let settled = ties(&call);
        let params = &mut call.params;
        match settled {
            Ties::Free | Ties::Unsettled => {}
            Ties::Completed => complete(&mut params.order_by, &params.partition_by, &window.input),
            Ties::Framed(frame) => {
                complete(&mut params.order_by, &params.partition_by, &window.input);
                params.window_frame = frame;
            }
            Ties::Peers => {
                let order = params.order_by.iter().map(|sort| sort.expr.clone());
                let order = order.filter(|expr| !matches!(expr, Expr::Literal(..))).collect::<Vec<_>>();
                params.partition_by.extend(order);
                params.order_by.clear();
                complete(&mut params.order_by, &params.partition_by, &window.input);
                let (first, last) = (ScalarValue::UInt64(None), ScalarValue::UInt64(None));
                let (first, last) = (WindowFrameBound::Preceding(first), WindowFrameBound::Following(last));
                params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Rows, first, last);
            }
        }
        let key = (params.partition_by.clone(), params.order_by.clone());
        // The nodes above know the column by its name.
        let name = expr.schema_name().to_string();
        let call = Expr::WindowFunction(call);
        let call = if call.schema_name().to_string() == name { call } else { call.alias(name) };
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, calls)) => calls.push(call),
            None => groups.push((key, vec![call])),
        }
    }
    let mut plan = window.input;
    for (_, calls) in groups {
        plan = Arc::new(LogicalPlan::Window(Window::try_new(calls, plan)?));
    }
    Ok(Transformed::yes(Arc::unwrap_or_clone(plan)))
}
