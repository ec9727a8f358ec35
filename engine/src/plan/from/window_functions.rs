//! `TUMBLE`, `HOP`, `CUMULATE` and `SESSION` in FROM, with or without `TABLE(…)` around them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join, JoinConstraint, JoinOperator,
    ObjectName, TableAlias, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::error::{Error, Position, Result};
use crate::sql::{GROUP_WINDOW, partition_function, table_factor};

use crate::plan::event_time::{interval_micros, unit_micros};
use crate::plan::fault::planning_error;
use crate::plan::flow::WindowSpec;
use crate::plan::node::session::SessionNode;
use crate::plan::node::window::{Bounds, Length, WindowNode};

/// A row may be in this many windows, not more: each copy costs.
const MOST_WINDOWS_PER_ROW: i64 = 100_000;

/// Plans the window functions; everything else is left to DataFusion.
#[derive(Debug, Default)]
pub(in crate::plan) struct WindowFunctions;

/// The window functions and their arguments, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl Shape {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Shape::Tumble => &["data", "timecol", "size", "offset"],
            Shape::Hop => &["data", "timecol", "slide", "size", "offset"],
            Shape::Cumulate => &["data", "timecol", "step", "size", "offset"],
            Shape::Session => &["data", "timecol", "gap"],
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Shape::Tumble => "TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE [, offset])",
            Shape::Hop => {
                "HOP(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE [, offset]): slide, then size"
            }
            Shape::Cumulate => {
                "CUMULATE(TABLE t, DESCRIPTOR(time), INTERVAL '1' HOUR, INTERVAL '1' DAY [, offset]): step, then size"
            }
            Shape::Session => "SESSION(TABLE t [PARTITION BY key, …], DESCRIPTOR(time), INTERVAL '10' MINUTE): the gap",
        }
    }
}

impl RelationPlanner for WindowFunctions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let Some(call) = Call::of(&relation)? else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let position = call.position;
        let plan = call.plan(context).map_err(|error| match position {
            Some(position) if error.position().is_none() => error.at(position),
            _ => error,
        })?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

/// A call of a window function.
struct Call {
    shape: Shape,
    /// Whether it stands for the window of a GROUP BY, around a FROM clause.
    groups: bool,
    arguments: Vec<FunctionArg>,
    alias: Option<TableAlias>,
    position: Option<Position>,
}

impl Call {
    /// The call, if the relation is one.
    fn of(relation: &TableFactor) -> Result<Option<Self>> {
        let (name, arguments, alias) = match relation {
            TableFactor::Table { name, args: Some(arguments), alias, .. } => (name, arguments.args.clone(), alias),
            TableFactor::TableFunction {
                expr: ast::Expr::Function(Function { name, args: FunctionArguments::List(list), .. }),
                alias,
            } => (name, list.args.clone(), alias),
            TableFactor::Function { name, args, alias, .. } => (name, args.clone(), alias),
            _ => return Ok(None),
        };
        let [ast::ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return Ok(None) };
        let (groups, function) = match ident.value.strip_prefix(GROUP_WINDOW).filter(|_| ident.quote_style.is_some()) {
            Some(function) => (true, function),
            None => (false, ident.value.as_str()),
        };
        let shape = match function.to_lowercase().as_str() {
            "tumble" => Shape::Tumble,
            "hop" => Shape::Hop,
            "cumulate" => Shape::Cumulate,
            "session" => Shape::Session,
            _ => return Ok(None),
        };
        let position = position(ident.span.start);
        Ok(Some(Self { shape, groups, arguments, alias: alias.clone(), position }))
    }

    fn plan(&self, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
        let arguments = self.named()?;
        let wrong = || Error::invalid(format!("the arguments do not fit {}", self.shape.usage()));
        let argument = |name: &str| {
            let place = self.shape.arguments().iter().position(|argument| *argument == name);
            place.and_then(|place| arguments[place].clone())
        };
        let (data, keys) = partitioned(argument("data").ok_or_else(wrong)?);
        let input = if self.groups { from_clause(data, context)? } else { rows(data, context)? };
        let bounds = if self.groups { Bounds::Group } else { Bounds::Columns };
        let time = event_time(argument("timecol").ok_or_else(wrong)?, &input, context)?;
        if self.shape == Shape::Session {
            let gap = interval(argument("gap").ok_or_else(wrong)?, context)?;
            return session(input, time, keys, gap, bounds, context);
        }
        if !keys.is_empty() {
            return Err(Error::invalid("PARTITION BY belongs to SESSION: other windows are the same for all rows")
                .with_hint("write the columns in GROUP BY"));
        }
        let mut length = |name: &str| argument(name).map(|expr| interval(expr, context)).transpose();
        let size = length("size")?.ok_or_else(wrong)?;
        let offset = length("offset")?.unwrap_or(0);
        let window = match self.shape {
            Shape::Tumble => WindowSpec::Tumble { size, offset },
            Shape::Hop => WindowSpec::Hop { slide: length("slide")?.ok_or_else(wrong)?, size, offset },
            _ => WindowSpec::Cumulate { step: length("step")?.ok_or_else(wrong)?, size, offset },
        };
        let window = checked(window)?;
        let node = WindowNode::new(input, time, window, bounds)?;
        fits_unit(&node)?;
        Ok(node.into_plan())
    }

    /// The arguments in the order of [`Shape::arguments`].
    fn named(&self) -> Result<Vec<Option<ast::Expr>>> {
        let names = self.shape.arguments();
        let mut found = vec![None; names.len()];
        for (index, argument) in self.arguments.iter().enumerate() {
            let (place, value) = match argument {
                FunctionArg::Unnamed(value) => (Some(index).filter(|index| *index < names.len()), value),
                FunctionArg::Named { name, arg, .. } => {
                    let name = name.value.to_lowercase();
                    (names.iter().position(|known| *known == name), arg)
                }
                FunctionArg::ExprNamed { .. } => (None, &FunctionArgExpr::Wildcard),
            };
            let (Some(place), FunctionArgExpr::Expr(value)) = (place, value) else {
                return Err(Error::invalid(format!("{argument} is no argument of {}", self.shape.usage())));
            };
            if found[place].replace(value.clone()).is_some() {
                return Err(Error::invalid(format!("the argument {} is given twice", names[place])));
            }
        }
        Ok(found)
    }
}

/// Rows and the keys of `PARTITION BY` behind them.
fn partitioned(argument: ast::Expr) -> (ast::Expr, Vec<ast::Expr>) {
    match argument {
        ast::Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
            if name == partition_function() =>
        {
            let mut values = list.args.into_iter().filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
                _ => None,
            });
            let rows = values.next().unwrap_or(ast::Expr::Tuple(Vec::new()));
            (rows, values.collect())
        }
        rows => (rows, Vec::new()),
    }
}

fn session(
    input: LogicalPlan,
    time: Column,
    keys: Vec<ast::Expr>,
    gap: i64,
    bounds: Bounds,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    if gap <= 0 {
        return Err(Error::invalid("the gap between sessions must be greater than zero"));
    }
    let key = |key| context.sql_to_expr(key, input.schema()).map_err(planning_error);
    let keys = keys.into_iter().map(key).collect::<Result<Vec<_>>>()?;
    let node = SessionNode::new(input, time, keys, gap, bounds)?;
    said_in_unit(node.output(), node.time(), &[gap])?;
    Ok(node.into_plan())
}

/// The rows: `TABLE t`, `(SELECT …)` or the name alone.
fn rows(argument: ast::Expr, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let factor = match argument {
        ast::Expr::Subquery(subquery) => TableFactor::Derived { lateral: false, subquery, alias: None, sample: None },
        ast::Expr::Identifier(name) => table(vec![name]),
        ast::Expr::CompoundIdentifier(names) => table(names),
        other => {
            return Err(Error::invalid(format!("{other} is no table to be windowed"))
                .with_hint("write TABLE and its name, or a query in parentheses"));
        }
    };
    context.plan(factor).map_err(planning_error)
}

/// The rows of a FROM clause, and of its WHERE, with the names that they have there: `(SELECT * FROM a JOIN b …)`.
fn from_clause(argument: ast::Expr, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let wrong = || Error::internal("a window of GROUP BY is around a FROM clause");
    let ast::Expr::Subquery(query) = argument else { return Err(wrong()) };
    let ast::SetExpr::Select(select) = *query.body else { return Err(wrong()) };
    let mut tables = select.from.into_iter();
    let mut all =
        tables.next().ok_or_else(|| Error::invalid("GROUP BY windows rows, and there are none without FROM"))?;
    for table in tables {
        let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
        let relation = match table.joins.is_empty() {
            true => table.relation,
            false => TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None },
        };
        all.joins.push(Join { relation, global: false, join_operator });
    }
    let all = TableFactor::NestedJoin { table_with_joins: Box::new(all), alias: None };
    let plan = context.plan(all).map_err(planning_error)?;
    let Some(condition) = select.selection else { return Ok(plan) };
    let condition = context.sql_to_expr(condition, plan.schema()).map_err(planning_error)?;
    LogicalPlanBuilder::from(plan).filter(condition).and_then(LogicalPlanBuilder::build).map_err(planning_error)
}

fn table(names: Vec<Ident>) -> TableFactor {
    table_factor(ObjectName::from(names), None)
}

/// The column that `DESCRIPTOR(column)` names.
fn event_time(argument: ast::Expr, input: &LogicalPlan, context: &mut dyn RelationPlannerContext) -> Result<Column> {
    let wrong = || {
        Error::invalid("the event-time column is named by DESCRIPTOR(column)").with_hint("write DESCRIPTOR(event_time)")
    };
    let ast::Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = argument else {
        return Err(wrong());
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] = list.args.as_slice() else { return Err(wrong()) };
    if !name.to_string().eq_ignore_ascii_case("descriptor") {
        return Err(wrong());
    }
    match context.sql_to_expr(column.clone(), input.schema()).map_err(planning_error)? {
        Expr::Column(column) => Ok(column),
        _ => Err(wrong()),
    }
}

fn interval(argument: ast::Expr, context: &mut dyn RelationPlannerContext) -> Result<i64> {
    match context.sql_to_expr(argument.clone(), &DFSchema::empty()).map_err(planning_error)? {
        Expr::Literal(value, _) => interval_micros(&value),
        Expr::Negative(inner) => match *inner {
            Expr::Literal(value, _) => Ok(-interval_micros(&value)?),
            _ => Err(not_constant(&argument)),
        },
        _ => Err(not_constant(&argument)),
    }
}

fn not_constant(argument: &ast::Expr) -> Error {
    Error::invalid(format!("{argument} is not a constant interval")).with_hint("write INTERVAL '1' MINUTE")
}

fn checked(window: WindowSpec) -> Result<WindowSpec> {
    let positive = |name: &str, length: i64| {
        if length > 0 { Ok(()) } else { Err(Error::invalid(format!("the window's {name} must be greater than zero"))) }
    };
    let copies = |size: i64, step: i64| {
        let windows = size / step + i64::from(size % step != 0);
        if windows <= MOST_WINDOWS_PER_ROW {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "each row would be in {windows} windows, and {MOST_WINDOWS_PER_ROW} is the most that is allowed"
        )))
    };
    match window {
        WindowSpec::Tumble { size, offset } => {
            positive("size", size)?;
            Ok(WindowSpec::Tumble { size, offset: offset.rem_euclid(size) })
        }
        WindowSpec::Hop { slide, size, offset } => {
            positive("slide", slide)?;
            positive("size", size)?;
            copies(size, slide)?;
            Ok(WindowSpec::Hop { slide, size, offset: offset.rem_euclid(slide) })
        }
        WindowSpec::Cumulate { step, size, offset } => {
            positive("step", step)?;
            positive("size", size)?;
            if size % step != 0 {
                return Err(Error::invalid(format!(
                    "the size of CUMULATE must be a multiple of its step, and {} is none of {}",
                    Length(size),
                    Length(step)
                )));
            }
            copies(size, step)?;
            Ok(WindowSpec::Cumulate { step, size, offset: offset.rem_euclid(size) })
        }
    }
}

/// Window bounds have the event time's type: its unit must be able to say them.
fn fits_unit(node: &WindowNode) -> Result<()> {
    let lengths = match node.window() {
        WindowSpec::Tumble { size, offset } => [size, offset, 0],
        WindowSpec::Hop { slide, size, offset } => [slide, size, offset],
        WindowSpec::Cumulate { step, size, offset } => [step, size, offset],
    };
    said_in_unit(node.output(), node.time(), &lengths)
}

fn said_in_unit(output: &DFSchema, time: &Column, lengths: &[i64]) -> Result<()> {
    let Some(DataType::Timestamp(unit, _)) = output.fields().last().map(|field| field.data_type()) else {
        return Ok(());
    };
    let step = unit_micros(*unit).max(1);
    match lengths.iter().find(|length| **length % step != 0) {
        None => Ok(()),
        Some(length) => Err(Error::invalid(format!(
            "the window's {} cannot be said in the unit of the column {}, which counts in {}",
            Length(*length),
            time.name,
            Length(step)
        ))),
    }
}

fn position(location: Location) -> Option<Position> {
    (location.line > 0).then_some(Position { line: location.line, column: location.column })
}

/// The planners of relations that every planning asks.
pub(in crate::plan) fn relation_planners() -> Vec<Arc<dyn RelationPlanner>> {
    vec![
        Arc::new(WindowFunctions),
        Arc::new(super::series::Series),
        Arc::new(crate::plan::asof::AsOfJoins),
        Arc::new(super::aliases::ColumnAliases),
        Arc::new(super::match_recognize::MatchRecognize),
        Arc::new(super::merged::MergedJoins),
        Arc::new(super::elements::Elements),
    ]
}
