//! The versions of a relation: what `FOR SYSTEM_TIME AS OF` reads of it.
//!
//! A version is a row, and holds from its time on until the next version of its key. Its time is the column that grows with
//! the relation's watermark. So a stream is a versioned relation, and so is the view of its latest rows, `row_number() OVER
//! (PARTITION BY key ORDER BY time DESC) = 1`: that view as of a moment is the latest row at that moment, which is found
//! among all rows of the stream. A relation that keeps only the present rows of its keys has no versions to go back to.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Window};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::plan::fault::planning_error;
use crate::plan::relation::RelationSource;

/// A relation's versions.
pub(super) struct Versions {
    /// All of them.
    pub(super) plan: LogicalPlan,
    /// The column of their time.
    pub(super) time: Column,
    /// If the relation is a view of the latest rows: the keys of which it has the latest, among the columns below the
    /// numbering, and by column of the plan which of those it is.
    latest: Option<(Vec<Expr>, Vec<Option<Expr>>)>,
}

impl Versions {
    /// The versions of a relation.
    pub(super) fn of(plan: LogicalPlan, name: &str) -> Result<Self> {
        let latest = keys_of_latest(&plan);
        let plan = match without_latest(&plan) {
            Some(rows) => rows.map_err(planning_error)?,
            None => plan,
        };
        let times = times(&plan);
        let mut columns = times.iter().map(|&column| Column::from(plan.schema().qualified_field(column)));
        match (columns.next(), columns.next()) {
            (Some(time), None) => Ok(Self { plan, time, latest }),
            (Some(_), Some(_)) => {
                let names: Vec<&str> = times.iter().map(|&time| plan.schema().field(time).name().as_str()).collect();
                Err(Error::not_supported(format!(
                    "FOR SYSTEM_TIME AS OF cannot tell which of {} says when a version of {name} begins",
                    names.join(" and ")
                ))
                .with_hint("write ASOF JOIN … MATCH_CONDITION (left.time >= right.time) ON …"))
            }
            _ => Err(Error::not_supported(format!(
                "FOR SYSTEM_TIME AS OF needs versions, and no column of {name} says when a row of it begins: none grows \
                 with a watermark"
            ))
            .with_hint(
                "join a stream with a WATERMARK, or a plain view of its latest rows by row_number(); or write ASOF JOIN \
                 … MATCH_CONDITION (left.time >= right.time) ON …",
            )),
        }
    }

    /// Checks that what is compared by equality are the keys of which the relation has the latest rows.
    pub(super) fn check_keys<'a>(&self, compared: impl Iterator<Item = &'a Expr>, name: &str) -> Result<()> {
        let Some((keys, origins)) = &self.latest else { return Ok(()) };
        let schema = self.plan.schema();
        let origin = |expr: &Expr| match uncast(expr) {
            Expr::Column(column) => origins.get(schema.maybe_index_of_column(column)?)?.clone(),
            _ => None,
        };
        let compared: Option<Vec<Expr>> = compared.map(origin).collect();
        let same = |compared: &Vec<Expr>| {
            compared.iter().all(|key| keys.contains(key)) && keys.iter().all(|key| compared.contains(key))
        };
        if compared.as_ref().is_some_and(same) {
            return Ok(());
        }
        let keys: Vec<String> = keys.iter().map(|key| key.human_display().to_string()).collect();
        Err(Error::not_supported(format!(
            "{name} has the latest row of each ({}), and FOR SYSTEM_TIME AS OF has to compare just these columns by equality",
            keys.join(", ")
        ))
        .with_hint("compare all of them in ON, and nothing else by equality; or join the stream below the view"))
    }
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}

/// The keys of the numbering in a view of the latest rows, and which column below it each column of the view is.
fn keys_of_latest(plan: &LogicalPlan) -> Option<(Vec<Expr>, Vec<Option<Expr>>)> {
    match plan {
        LogicalPlan::Window(window) => {
            let Expr::WindowFunction(call) = window.window_expr.first()?.clone().unalias() else { return None };
            let columns = window.input.schema().columns().into_iter().map(|column| Some(Expr::Column(column)));
            Some((call.params.partition_by.clone(), columns.chain([None]).collect()))
        }
        LogicalPlan::Projection(projection) => {
            let (keys, below) = keys_of_latest(&projection.input)?;
            let origin = |expr: &Expr| match expr.clone().unalias() {
                Expr::Column(column) => below.get(projection.input.schema().maybe_index_of_column(&column)?)?.clone(),
                _ => None,
            };
            Some((keys, projection.expr.iter().map(origin).collect()))
        }
        LogicalPlan::SubqueryAlias(alias) => keys_of_latest(&alias.input),
        LogicalPlan::Filter(filter) => keys_of_latest(&filter.input),
        _ => None,
    }
}

/// The columns of a plan that are a relation's time, unchanged.
fn times(plan: &LogicalPlan) -> BTreeSet<usize> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(source) = scan.source.downcast_ref::<RelationSource>() else { return BTreeSet::new() };
            let relation = source.relation();
            let watermark = relation.watermark.iter().map(|watermark| watermark.column);
            let all = watermark.chain(relation.time_columns.iter().map(|(column, _)| *column));
            match &scan.projection {
                None => all.collect(),
                Some(read) => all.filter_map(|column| read.iter().position(|&place| place == column)).collect(),
            }
        }
        LogicalPlan::SubqueryAlias(alias) => times(&alias.input),
        LogicalPlan::Filter(filter) => times(&filter.input),
        LogicalPlan::Projection(projection) => {
            let below = times(&projection.input);
            let passes = |expr: &Expr| match expr.clone().unalias() {
                Expr::Column(column) => {
                    projection.input.schema().maybe_index_of_column(&column).is_some_and(|at| below.contains(&at))
                }
                _ => false,
            };
            projection.expr.iter().enumerate().filter(|(_, expr)| passes(expr)).map(|(place, _)| place).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// A view of the latest rows of each key as the view of all rows, if it is one. The number of a row, which is 1, stays.
fn without_latest(plan: &LogicalPlan) -> Option<datafusion::error::Result<LogicalPlan>> {
    match plan {
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) => {
            let input = match without_latest(plan.inputs().first()?)? {
                Ok(input) => input,
                error => return Some(error),
            };
            Some(plan.with_new_exprs(plan.expressions(), vec![input]))
        }
        LogicalPlan::Filter(filter) => {
            let number = first_of(filter)?;
            numbered_one(&filter.input, &number)
        }
        _ => None,
    }
}

/// The column of which a filter says that it is 1, and nothing else.
fn first_of(filter: &Filter) -> Option<Column> {
    let Expr::BinaryExpr(binary) = &filter.predicate else { return None };
    let is_one = |expr: &Expr| {
        let Expr::Literal(value, _) = expr else { return false };
        matches!(value.cast_to(&arrow::datatypes::DataType::Int64), Ok(ScalarValue::Int64(Some(1))))
    };
    match (&*binary.left, binary.op, &*binary.right) {
        (Expr::Column(number), Operator::Eq | Operator::LtEq, one) if is_one(one) => Some(number.clone()),
        (one, Operator::Eq | Operator::GtEq, Expr::Column(number)) if is_one(one) => Some(number.clone()),
        _ => None,
    }
}

/// The rows below a numbering by time, the latest first, each with the number 1 in the column `number`.
fn numbered_one(plan: &LogicalPlan, number: &Column) -> Option<datafusion::error::Result<LogicalPlan>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let place = alias.schema.maybe_index_of_column(number)?;
            let inner = Column::from(alias.input.schema().qualified_field(place));
            Some(numbered_one(&alias.input, &inner)?.and_then(|input| plan.with_new_exprs(Vec::new(), vec![input])))
        }
        LogicalPlan::Projection(projection) => {
            let place = projection.schema.maybe_index_of_column(number)?;
            let Expr::Column(inner) = projection.expr.get(place)?.clone().unalias() else { return None };
            Some(
                numbered_one(&projection.input, &inner)?
                    .and_then(|input| plan.with_new_exprs(projection.expr.clone(), vec![input])),
            )
        }
        LogicalPlan::Window(window) => numbers_latest(window, number).then(|| {
            let (qualifier, field) = (number.relation.clone(), &number.name);
            let one = datafusion::logical_expr::lit(1_u64).alias_qualified(qualifier, field);
            let columns = window.input.schema().columns().into_iter().map(Expr::Column).chain([one]);
            LogicalPlanBuilder::from(Arc::clone(&window.input)).project(columns)?.build()
        }),
        _ => None,
    }
}

/// Whether a window numbers the rows of each key by their time, the latest first, in this column and does nothing else.
fn numbers_latest(window: &Window, number: &Column) -> bool {
    let [expr] = window.window_expr.as_slice() else { return false };
    let input = window.input.schema();
    let Expr::WindowFunction(call) = expr.clone().unalias() else { return false };
    let by_time = |sort: &Sort| match &sort.expr {
        Expr::Column(column) => {
            input.maybe_index_of_column(column).is_some_and(|at| times(&window.input).contains(&at))
        }
        _ => false,
    };
    window.schema.maybe_index_of_column(number) == Some(input.fields().len())
        && call.fun.name() == "row_number"
        && !call.params.partition_by.is_empty()
        && matches!(call.params.order_by.as_slice(), [sort] if !sort.asc && by_time(sort))
}
