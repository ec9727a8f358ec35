//! `LATERAL (SELECT … WHERE … ORDER BY … LIMIT n)`: the first rows for each row outside.
//!
//! The rows are numbered by what ties them to the row outside, and joined to it by that:
//!
//! * if the subquery compares its own columns with the row outside by equality, and does nothing else with it, its rows are
//!   numbered by those columns;
//! * otherwise the different values that the rows outside have are joined into the subquery, in the place of the row
//!   outside, and rows are numbered by them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    Expr, ExprSchemable, FetchType, Join, Limit, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Subquery,
    WindowFrame, lit,
};

use super::is_lateral;
use crate::plan::subquery::subquery_of;

/// The number of a row among those for one row outside; there on the way only.
const NUMBER: &str = "__row";

/// What the values of the rows outside are called in the subquery.
const OUTSIDE: &str = "__outside";

/// The join with such a subquery as a join without, if it is one.
pub(super) fn resolved(join: &Join) -> PlanResult<Option<LogicalPlan>> {
    let fits = matches!(join.join_type, JoinType::Inner | JoinType::Left) && join.on.is_empty();
    if !fits || !is_lateral(&join.right) || !has_limit(&join.right)? {
        return Ok(None);
    }
    match by_equality(join)? {
        Some(plan) => Ok(Some(plan)),
        None => by_values(join),
    }
}

fn has_limit(plan: &LogicalPlan) -> PlanResult<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Limit(_))))
}

fn by_equality(join: &Join) -> PlanResult<Option<LogicalPlan>> {
    let mut lift = Lift { outside: None, equal: Vec::new() };
    let Some(Lifted { plan, keys }) = lift.lifted(&join.right)? else { return Ok(None) };
    let known = |column: &Column| join.left.schema().columns().contains(column);
    if keys.is_empty() || !lift.equal.iter().all(known) {
        return Ok(None);
    }
    let pairs = lift.equal.into_iter().zip(keys);
    let on = pairs.map(|(outer, key)| Expr::Column(outer).eq(Expr::Column(key))).chain(join.filter.clone());
    LogicalPlanBuilder::from(Arc::clone(&join.left))
        .join_on(plan, join.join_type, on)?
        .project(join.schema.columns().into_iter().map(Expr::Column))?
        .build()
        .map(Some)
}

fn by_values(join: &Join) -> PlanResult<Option<LogicalPlan>> {
    let mut outer: Vec<Column> = Vec::new();
    join.right.apply(|node| {
        for expr in node.all_out_ref_exprs() {
            if let Expr::OuterReferenceColumn(_, column) = expr
                && !outer.contains(&column)
            {
                outer.push(column);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let known = join.left.schema().columns();
    if outer.is_empty() || !outer.iter().all(|column| known.contains(column)) || is_volatile(&join.left)? {
        return Ok(None);
    }
    let values = outer.iter().enumerate().map(|(number, column)| {
        Expr::Column(column.clone()).alias_qualified(Some(TableReference::bare(OUTSIDE)), format!("c{number}"))
    });
    let values = LogicalPlanBuilder::from(Arc::clone(&join.left)).project(values)?.distinct()?.build()?;
    let mut lift = Lift { outside: Some((outer.clone(), values)), equal: Vec::new() };
    let Some(Lifted { plan, keys }) = lift.lifted(&join.right)? else { return Ok(None) };
    LogicalPlanBuilder::from(Arc::clone(&join.left))
        .join_detailed(plan, join.join_type, (outer, keys), join.filter.clone(), NullEquality::NullEqualsNull)?
        .project(join.schema.columns().into_iter().map(Expr::Column))?
        .build()
        .map(Some)
}

fn is_volatile(plan: &LogicalPlan) -> PlanResult<bool> {
    plan.exists(|node| Ok(node.expressions().iter().any(Expr::is_volatile)))
}

/// A plan with the columns by which its rows are tied to the row outside, behind its own.
struct Lifted {
    plan: LogicalPlan,
    keys: Vec<Column>,
}

/// Puts a subquery into a form that does without the row outside.
struct Lift {
    /// The columns of the row outside, and the values that stand for it; `None`: it is compared by equality only.
    outside: Option<(Vec<Column>, LogicalPlan)>,
    /// By key, the column outside that it equals.
    equal: Vec<Column>,
}

impl Lift {
    /// The plan; `None` if it can't be put into that form.
    fn lifted(&mut self, plan: &LogicalPlan) -> PlanResult<Option<Lifted>> {
        if let LogicalPlan::Subquery(Subquery { subquery, .. }) = plan {
            return self.lifted(subquery);
        }
        if !plan.exists(|node| Ok(node.contains_outer_reference()))? {
            let Some((_, values)) = &self.outside else {
                return Ok(Some(Lifted { plan: plan.clone(), keys: Vec::new() }));
            };
            let keys = values.schema().columns();
            let plan = LogicalPlanBuilder::from(plan.clone()).cross_join(values.clone())?.build()?;
            return Ok(Some(Lifted { plan, keys }));
        }
        let [input] = plan.inputs().try_into().unwrap_or([plan]);
        if std::ptr::eq(input, plan) {
            return Ok(None);
        }
        match plan {
            LogicalPlan::Limit(limit) => self.first_rows(limit),
            LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(_)) => {
                let Some(below) = self.lifted(input)? else { return Ok(None) };
                self.over(plan, below)
            }
            _ => Ok(None),
        }
    }

    /// A node over an input that was put into that form.
    fn over(&mut self, plan: &LogicalPlan, below: Lifted) -> PlanResult<Option<Lifted>> {
        let Lifted { plan: input, keys } = below;
        let handed = keys.iter().cloned().map(Expr::Column).collect::<Vec<_>>();
        let builder = LogicalPlanBuilder::from(input);
        let plan = match plan {
            LogicalPlan::Projection(projection) => {
                let own = projection
                    .expr
                    .iter()
                    .cloned()
                    .map(|expr| self.inner(expr))
                    .collect::<PlanResult<Option<Vec<_>>>>()?;
                let Some(own) = own else { return Ok(None) };
                builder.project(own.into_iter().chain(handed))?.build()?
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let columns = alias.input.schema().columns().into_iter().zip(alias.schema.fields());
                let own = columns.map(|(column, field)| {
                    Expr::Column(column).alias_qualified(Some(alias.alias.clone()), field.name())
                });
                builder.project(own.chain(handed))?.build()?
            }
            LogicalPlan::Distinct(_) => builder.distinct()?.build()?,
            // Groups for each row outside. One group of all its rows is there without any row, too.
            LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => {
                let within = |exprs: &[Expr]| {
                    exprs.iter().cloned().map(|expr| self.inner(expr)).collect::<PlanResult<Option<Vec<Expr>>>>()
                };
                let (groups, calls) = (within(&aggregate.group_expr)?, within(&aggregate.aggr_expr)?);
                let (Some(groups), Some(calls)) = (groups, calls) else { return Ok(None) };
                let own = aggregate.schema.columns().into_iter().map(Expr::Column);
                let groups = groups.into_iter().chain(handed.iter().cloned());
                builder.aggregate(groups, calls)?.project(own.chain(handed))?.build()?
            }
            LogicalPlan::Filter(filter) => return self.filtered(filter.predicate.clone(), builder.build()?, keys),
            _ => return Ok(None),
        };
        Ok(Some(Lifted { plan, keys }))
    }

    /// Rows for which a condition holds that names the row outside.
    fn filtered(&mut self, predicate: Expr, input: LogicalPlan, mut keys: Vec<Column>) -> PlanResult<Option<Lifted>> {
        let (mut shown, mut rest): (Vec<Expr>, Vec<Expr>) = (Vec::new(), Vec::new());
        for condition in split_conjunction_owned(predicate) {
            match self.outside.is_none().then(|| equality(&condition, &input)).transpose()?.flatten() {
                Some((outer, inner)) => {
                    let key = Column::from_name(format!("__key{}", self.equal.len()));
                    self.equal.push(outer);
                    shown.push(inner.alias(&key.name));
                    keys.push(key);
                }
                None => match self.inner(condition)? {
                    Some(condition) => rest.push(condition),
                    None => return Ok(None),
                },
            }
        }
        let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let mut builder = LogicalPlanBuilder::from(input);
        for condition in rest {
            builder = builder.filter(condition)?;
        }
        if !shown.is_empty() {
            builder = builder.project(columns.into_iter().chain(shown))?;
        }
        Ok(Some(Lifted { plan: builder.build()?, keys }))
    }

    /// The expression with the values in the place of the row outside; `None` if it names the row outside all the same.
    fn inner(&self, expr: Expr) -> PlanResult<Option<Expr>> {
        let expr = expr.transform_up(|expr| match (&expr, &self.outside) {
            (Expr::OuterReferenceColumn(_, column), Some((outer, values))) => {
                let place = outer.iter().position(|outer| outer == column);
                let value = place.map(|place| Expr::Column(values.schema().columns()[place].clone()));
                Ok(value.map_or(Transformed::no(expr), Transformed::yes))
            }
            _ => Ok(Transformed::no(expr)),
        });
        let expr = expr.data()?;
        let names_outside =
            expr.exists(|expr| Ok(matches!(expr, Expr::OuterReferenceColumn(..)) || subquery_of(expr).is_some()))?;
        Ok((!names_outside).then_some(expr))
    }

    /// ORDER BY … LIMIT for each row outside.
    fn first_rows(&mut self, limit: &Limit) -> PlanResult<Option<Lifted>> {
        // A projection between the two goes above both.
        let (sort, above) = match &*limit.input {
            LogicalPlan::Sort(sort) => (sort, None),
            LogicalPlan::Projection(projection) => match &*projection.input {
                LogicalPlan::Sort(sort) => (sort, Some(LogicalPlan::Projection(projection.clone()))),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let (FetchType::Literal(fetch), SkipType::Literal(skip)) = (limit.get_fetch_type()?, limit.get_skip_type()?)
        else {
            return Ok(None);
        };
        let Some(Lifted { plan: input, keys }) = self.lifted(&sort.input)? else { return Ok(None) };
        let mut order = Vec::with_capacity(sort.expr.len());
        for Sort { expr, asc, nulls_first } in sort.expr.iter().cloned() {
            let Some(expr) = self.inner(expr)? else { return Ok(None) };
            order.push(Sort::new(expr, asc, nulls_first));
        }
        let mut number = WindowFunction::new(row_number_udwf(), Vec::new());
        number.params.window_frame = WindowFrame::new((!order.is_empty()).then_some(false));
        number.params.partition_by = keys.iter().cloned().map(Expr::Column).collect();
        number.params.order_by = order;
        let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let number_of = || Expr::Column(Column::from_name(NUMBER));
        let mut builder =
            LogicalPlanBuilder::from(input).window([Expr::WindowFunction(Box::new(number)).alias(NUMBER)])?;
        if skip > 0 {
            builder = builder.filter(number_of().gt(lit(skip as u64)))?;
        }
        if let Some(fetch) = fetch {
            builder = builder.filter(number_of().lt_eq(lit(skip.saturating_add(fetch) as u64)))?;
        }
        let lifted = Lifted { plan: builder.project(columns)?.build()?, keys };
        match above {
            Some(above) => self.over(&above, lifted),
            None => Ok(Some(lifted)),
        }
    }
}

/// A column of the row outside that a condition compares by equality, and what it compares it with, of the type in which
/// they are compared.
fn equality(condition: &Expr, input: &LogicalPlan) -> PlanResult<Option<(Column, Expr)>> {
    let Expr::BinaryExpr(binary) = condition else { return Ok(None) };
    let (field, outer, inner) = match (&*binary.left, binary.op, &*binary.right) {
        (Expr::OuterReferenceColumn(field, outer), Operator::Eq, inner)
        | (inner, Operator::Eq, Expr::OuterReferenceColumn(field, outer)) => (field, outer, inner),
        _ => return Ok(None),
    };
    if inner.contains_outer() || inner.is_volatile() || inner.column_refs().is_empty() {
        return Ok(None);
    }
    let Some(common) = comparison_coercion(field.data_type(), &inner.get_type(input.schema())?) else {
        return Ok(None);
    };
    Ok(Some((Column::clone(outer), inner.clone().cast_to(&common, input.schema())?)))
}
