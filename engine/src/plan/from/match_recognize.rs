//! `t MATCH_RECOGNIZE (…)`: a window function over the rows of `t`, of which the rows are shown at which a match begins
//! ([`crate::plan::recognize`]).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::error::Result as PlanResult;
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Window, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, WindowUDF,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    AfterMatchSkip, Ident, MatchRecognizePattern, Measure, OrderByExpr, RowsPerMatch, SymbolDefinition, TableFactor,
};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::event_time::interval_micros;
use crate::plan::fault::{at_name, planning_error, sql_type};
use crate::plan::recognize::{Formula, Formulas, Names, Pattern, Recognition, Recognize, Skip, Variable, read_pattern};
use crate::sql::WITHIN;

/// The column that the function gives.
const FOUND: &str = "__match";

/// Plans it.
#[derive(Debug, Default)]
pub(in crate::plan) struct MatchRecognize;

impl RelationPlanner for MatchRecognize {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip,
            pattern,
            symbols,
            alias,
        } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(*table)?;
        if let Some(RowsPerMatch::AllRows(_)) = rows_per_match {
            return Err(Error::not_supported("ALL ROWS PER MATCH is not supported")
                .with_hint("write ONE ROW PER MATCH, with MEASURES for what is to be shown of the rows")
                .into());
        }
        let mut partition = Vec::new();
        for key in partition_by {
            partition.push(context.sql_to_expr(key, input.schema())?);
        }
        let order = order_of(order_by, &input, context)?;
        let clause = Clause { measures, after_match_skip, pattern, symbols };
        let (recognition, arguments) = clause.read(&input, &order, context)?;
        let plan = planned(input, partition, order, recognition, arguments)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn order_of(
    order_by: Vec<OrderByExpr>,
    input: &LogicalPlan,
    context: &mut dyn RelationPlannerContext,
) -> PlanResult<Vec<Sort>> {
    let mut order = Vec::new();
    for OrderByExpr { expr, options, .. } in order_by {
        let asc = options.asc.unwrap_or(true);
        let expr = context.sql_to_expr(expr, input.schema())?;
        order.push(Sort::new(expr, asc, options.nulls_first.unwrap_or(!asc)));
    }
    if order.is_empty() {
        return Err(Error::invalid("MATCH_RECOGNIZE needs an ORDER BY: which row follows which")
            .with_hint("write ORDER BY and the event time behind PARTITION BY")
            .into());
    }
    Ok(order)
}

/// The window function, the rows where it finds something, and of these the columns: the keys and the measures.
fn planned(
    input: LogicalPlan,
    partition: Vec<Expr>,
    order: Vec<Sort>,
    recognition: Recognition,
    arguments: Vec<Expr>,
) -> PlanResult<LogicalPlan> {
    let mut shown = Vec::new();
    for key in &partition {
        let Expr::Column(column) = key else {
            return Err(Error::not_supported(format!("PARTITION BY {key} in MATCH_RECOGNIZE is no column"))
                .with_hint("compute it in a subquery: FROM (SELECT …) MATCH_RECOGNIZE (…)")
                .into());
        };
        shown.push(key.clone().alias(&column.name));
    }
    let found = || Expr::Column(Column::from_name(FOUND));
    shown.extend(recognition.measures.iter().map(|(name, _)| found().field(name).alias(name)));
    let mut names = HashSet::new();
    for column in &shown {
        let name = column.schema_name().to_string();
        if !names.insert(name.clone()) {
            return Err(Error::invalid(format!("MATCH_RECOGNIZE has two columns {name}"))
                .with_hint("give the measure another name")
                .with_code("42701")
                .into());
        }
    }
    let function = WindowUDF::from(Recognize::new(recognition)?);
    let mut call = WindowFunction::new(WindowFunctionDefinition::WindowUDF(Arc::new(function)), arguments);
    call.params.partition_by = partition;
    call.params.order_by = order;
    let (first, last) = (ScalarValue::UInt64(None), ScalarValue::UInt64(None));
    let (first, last) = (WindowFrameBound::Preceding(first), WindowFrameBound::Following(last));
    call.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Rows, first, last);
    let call = Expr::WindowFunction(Box::new(call)).alias(FOUND);
    let window = LogicalPlan::Window(Window::try_new(vec![call], Arc::new(input))?);
    LogicalPlanBuilder::from(window).filter(found().is_not_null())?.project(shown)?.build()
}

/// What is looked for, as it is written.
struct Clause {
    measures: Vec<Measure>,
    after_match_skip: Option<AfterMatchSkip>,
    pattern: MatchRecognizePattern,
    symbols: Vec<SymbolDefinition>,
}

impl Clause {
    /// What is looked for, and the arguments of the function.
    fn read(
        self,
        input: &LogicalPlan,
        order: &[Sort],
        context: &mut dyn RelationPlannerContext,
    ) -> Result<(Recognition, Vec<Expr>)> {
        let text = self.text();
        let (pattern, names) = read_pattern(&self.pattern, &|name| context.normalize_ident(name.clone()))?;
        let skip = skip_of(self.after_match_skip, &pattern, &names, context)?;
        let (length, definitions): (Vec<_>, Vec<_>) =
            self.symbols.into_iter().partition(|definition| definition.symbol.value == WITHIN);
        let within = length.into_iter().next().map(|length| within_of(length, context)).transpose()?;
        let time = order.first().map(|sort| sort.expr.clone());
        let time = time.ok_or_else(|| Error::internal("MATCH_RECOGNIZE without ORDER BY"))?;
        if within.is_some() && !is_time(&time, order, input)? {
            return Err(Error::invalid("WITHIN needs rows in the order of a timestamp, the oldest first")
                .with_hint("write ORDER BY and the event time alone"));
        }
        let arguments = within.iter().map(|_| time.clone()).collect();
        let mut formulas = Formulas { context, input: input.schema(), names: &names, time, arguments };
        let mut conditions: Vec<Option<Formula>> = vec![None; names.0.len()];
        for SymbolDefinition { symbol, definition } in definitions {
            let name = formulas.context.normalize_ident(symbol.clone());
            let at = |error: Error| at_name(error, &symbol);
            let Some(number) = names.number(&name) else {
                return Err(at(Error::invalid(format!("DEFINE defines {name}, which the PATTERN does not have"))));
            };
            if conditions[number].is_some() {
                return Err(at(Error::invalid(format!("DEFINE defines {name} twice"))));
            }
            let condition = formulas.read(definition)?;
            let schema = condition.schema().map_err(planning_error)?;
            match condition.expr.get_type(&schema).map_err(planning_error)? {
                DataType::Boolean | DataType::Null => {}
                other => {
                    let data_type = sql_type(&other.to_string());
                    let text =
                        format!("the condition of {name} in DEFINE must be boolean, and its type is {data_type}");
                    return Err(at(Error::new(ErrorKind::DatatypeMismatch, text)));
                }
            }
            conditions[number] = Some(condition);
        }
        let mut measures = Vec::with_capacity(self.measures.len());
        for Measure { expr, alias } in self.measures {
            let name = formulas.context.normalize_ident(alias);
            measures.push((name, formulas.read(expr)?));
        }
        if measures.is_empty() {
            return Err(Error::invalid("MATCH_RECOGNIZE needs MEASURES: what is shown of a match")
                .with_hint("write MEASURES FIRST(a.x) AS x, … behind ORDER BY"));
        }
        let arguments = std::mem::take(&mut formulas.arguments);
        let variables = names.0.into_iter().zip(conditions);
        let variables = variables.map(|(name, condition)| Variable { name, condition }).collect();
        Ok((Recognition { variables, pattern, skip, within, measures, text }, arguments))
    }

    fn text(&self) -> String {
        let skip = self.after_match_skip.as_ref().map(|skip| format!(" {skip}")).unwrap_or_default();
        let definitions = self.symbols.iter().map(|definition| match definition.symbol.value.as_str() {
            WITHIN => format!("within {}", definition.definition),
            _ => definition.to_string(),
        });
        let definitions = definitions.collect::<Vec<_>>().join(", ");
        format!("({}){skip} where {definitions}", self.pattern)
    }
}

/// Whether rows are in the order of a timestamp, the oldest first.
fn is_time(time: &Expr, order: &[Sort], input: &LogicalPlan) -> Result<bool> {
    let data_type = time.get_type(input.schema()).map_err(planning_error)?;
    Ok(matches!(data_type, DataType::Timestamp(..)) && order.first().is_some_and(|sort| sort.asc))
}

fn within_of(length: SymbolDefinition, context: &mut dyn RelationPlannerContext) -> Result<i64> {
    let wrong = || {
        let error = Error::invalid("WITHIN takes a constant interval, which is greater than zero");
        at_name(error, &length.symbol).with_hint("write WITHIN INTERVAL '1' HOUR")
    };
    let schema = datafusion::common::DFSchema::empty();
    match context.sql_to_expr(length.definition.clone(), &schema).map_err(planning_error)? {
        Expr::Literal(value, _) => match interval_micros(&value) {
            Ok(micros) if micros > 0 => Ok(micros),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

fn skip_of(
    skip: Option<AfterMatchSkip>,
    pattern: &Pattern,
    names: &Names,
    context: &mut dyn RelationPlannerContext,
) -> Result<Skip> {
    let variable = |name: Ident| {
        let known = context.normalize_ident(name.clone());
        let Some(number) = names.number(&known) else {
            let text = format!("AFTER MATCH SKIP goes to {known}, which the PATTERN does not have");
            return Err(at_name(Error::invalid(text), &name));
        };
        if pattern.fewest_of(number) == 0 {
            let text = format!("AFTER MATCH SKIP goes to {known}, and there are matches without a row of it");
            return Err(at_name(Error::invalid(text), &name).with_hint("write AFTER MATCH SKIP PAST LAST ROW"));
        }
        Ok((number, name, known))
    };
    Ok(match skip {
        None | Some(AfterMatchSkip::PastLastRow) => Skip::PastLastRow,
        Some(AfterMatchSkip::ToNextRow) => Skip::ToNextRow,
        Some(AfterMatchSkip::ToFirst(name)) => {
            let (number, name, known) = variable(name)?;
            if pattern.rows_before(number) == Some(0) {
                let text = format!("AFTER MATCH SKIP TO FIRST {known} goes to the row at which the match began");
                let error = at_name(Error::invalid(text), &name);
                return Err(error.with_hint("write AFTER MATCH SKIP TO NEXT ROW"));
            }
            Skip::ToFirst(number)
        }
        Some(AfterMatchSkip::ToLast(name)) => Skip::ToLast(variable(name)?.0),
    })
}
