//! `FROM t, unnest(t.items)`: a lateral subquery that reads no relation is a function of each row.
//!
//! It is put on top of the rows that it refers to: what stood in it, with their columns handed through. One that asks for
//! the first rows is numbered ([`first_rows`]); any other is left to DataFusion's rules.

mod first_rows;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullHandling, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{
    EmptyRelation, Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, Unnest,
};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};

use crate::error::Result;

use super::dependent::{Names, below_value, has_namesakes, lateral, makes_up_rows, names_outside, refused};
use crate::plan::fault::planning_error;

/// The plan with such joins resolved.
pub(in crate::plan) fn resolved(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => {
            let plan = match of_rows(&join)? {
                Some(plan) => Some(plan),
                None => first_rows::resolved(&join)?,
            };
            Ok(plan.map_or_else(|| Transformed::no(LogicalPlan::Join(join)), Transformed::yes))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
    .map_err(planning_error)
}

/// The plan with lateral subqueries as joins, as far as DataFusion knows how; each has the columns that it had. (Its own rule
/// adds those that are compared.)
pub(in crate::plan) fn joined(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let context = OptimizerContext::new().without_query_execution_start_time();
    let names = Names::with("__lateral_");
    plan.transform_down_with_subqueries(|node| match &node {
        // One that names the rows beside it further in only is not marked as lateral.
        LogicalPlan::Join(join) if !is_lateral(&join.right) && names_outside(&join.right)? => {
            Ok(lateral(join, &names)?.map_or_else(|| Transformed::no(node), Transformed::yes))
        }
        LogicalPlan::Join(join) if is_lateral(&join.right) => {
            let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
            let mistaken = has_namesakes(within(&join.right))? || makes_up_rows(below_value(within(&join.right)))?;
            let by_rule = match mistaken {
                true => None,
                false => DecorrelateLateralJoin::new().rewrite(node.clone(), &context).ok(),
            };
            let joined = match by_rule {
                Some(joined) if joined.transformed && !names_outside(&joined.data)? => joined.data,
                // Not by its rule.
                _ => match lateral(join, &names)? {
                    Some(joined) => return Ok(Transformed::yes(joined)),
                    None if mistaken => return Err(refused().into()),
                    None => return Ok(Transformed::no(node)),
                },
            };
            LogicalPlanBuilder::from(joined).project(columns)?.build().map(Transformed::yes)
        }
        _ => Ok(Transformed::no(node)),
    })
    .data()
}

fn of_rows(join: &Join) -> PlanResult<Option<LogicalPlan>> {
    let always = |filter: &Expr| matches!(filter, Expr::Literal(value, _) if *value == true.into());
    let filter = join.filter.as_ref().filter(|filter| !always(filter));
    // A row without elements stays, with NULLs: only if nothing else decides.
    let keep = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left if filter.is_none() => true,
        _ => return Ok(None),
    };
    if !join.on.is_empty() || !is_lateral(&join.right) || !reads_nothing(&join.right) {
        return Ok(None);
    }
    let plan = over(&join.left, &join.right, keep)?;
    let called = plan.schema().columns().into_iter().zip(join.schema.columns());
    let called = called.map(|(column, wanted)| match column == wanted {
        true => Expr::Column(column),
        false => Expr::Column(column).alias_qualified(wanted.relation, wanted.name),
    });
    let called: Vec<Expr> = called.collect();
    let builder = LogicalPlanBuilder::from(plan).project(called)?;
    match filter {
        Some(filter) => builder.filter(filter.clone())?.build().map(Some),
        None => builder.build().map(Some),
    }
}

fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        _ => false,
    }
}

/// The query of a lateral subquery.
fn within(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Subquery(Subquery { subquery, .. }) => subquery,
        LogicalPlan::SubqueryAlias(alias) => within(&alias.input),
        other => other,
    }
}

/// Whether the plan makes rows of one row, each by itself.
fn reads_nothing(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row, .. }) => *produce_one_row,
        LogicalPlan::Subquery(Subquery { subquery, .. }) => reads_nothing(subquery),
        LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Unnest(_) => plan.inputs().into_iter().all(reads_nothing),
        _ => false,
    }
}

/// The plan over the rows of `outer`, whose columns come first.
fn over(outer: &Arc<LogicalPlan>, plan: &LogicalPlan, keep: bool) -> PlanResult<LogicalPlan> {
    let handed = || outer.schema().columns().into_iter().map(Expr::Column);
    match plan {
        LogicalPlan::Subquery(Subquery { subquery, .. }) => over(outer, subquery, keep),
        LogicalPlan::Projection(projection) => {
            let input = over(outer, &projection.input, keep)?;
            let own = projection.expr.iter().cloned().zip(projection.schema.fields()).map(|(expr, field)| {
                // Nothing else is called so: a column of the outer rows may have the same name.
                Ok(inner(expr, input.schema())?.unalias().alias_qualified(Some(OWN), field.name()))
            });
            let own = own.collect::<PlanResult<Vec<_>>>()?;
            Projection::try_new(handed().chain(own).collect(), Arc::new(input)).map(LogicalPlan::Projection)
        }
        LogicalPlan::Filter(filter) => {
            let input = over(outer, &filter.input, keep)?;
            let predicate = inner(filter.predicate.clone(), input.schema())?;
            LogicalPlanBuilder::from(input).filter(predicate)?.build()
        }
        LogicalPlan::Unnest(unnest) => {
            let input = over(outer, &unnest.input, keep)?;
            let mut options = unnest.options.clone();
            if keep {
                options.null_handling = NullHandling::PreserveAndExpandEmpty;
            }
            for recursion in &mut options.recursions {
                recursion.input_column = own_column(&recursion.input_column, input.schema());
            }
            let lists = unnest.exec_columns.iter().map(|column| own_column(column, input.schema())).collect();
            Unnest::try_new(Arc::new(input), lists, options).map(LogicalPlan::Unnest)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = over(outer, &alias.input, keep)?;
            let width = outer.schema().fields().len();
            let below = input.schema().columns().into_iter().skip(width);
            let renamed = below.zip(alias.schema.fields()).map(|(column, field)| {
                let qualifier: TableReference = alias.alias.clone();
                Expr::Column(column).alias_qualified(Some(qualifier), field.name())
            });
            let renamed: Vec<Expr> = handed().chain(renamed).collect();
            Projection::try_new(renamed, Arc::new(input)).map(LogicalPlan::Projection)
        }
        // The one row that everything is made of is now each row of the outer plan.
        _ => Ok(outer.as_ref().clone()),
    }
}

/// What the columns belong to that a lateral subquery makes, as long as they stand beside the outer query's.
const OWN: &str = "lateral row";

/// The expression over `rows`, with the outer query's columns as columns.
fn inner(expr: Expr, rows: &DFSchema) -> PlanResult<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(Column::clone(&column)))),
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(own_column(&column, rows)))),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// A column of the subquery's own, as `rows` has it.
fn own_column(column: &Column, rows: &DFSchema) -> Column {
    let own = Column::new(Some(OWN), &column.name);
    if column.relation.is_none() && rows.has_column(&own) { own } else { column.clone() }
}
