//! The expressions of DEFINE and MEASURES.
//!
//! `a.x` is x of the newest row that the variable a took, and x of the newest row of all: in the condition of a, both are
//! of the row that is looked at. `FIRST` and `LAST` count from an end of a variable's rows, `PREV` and `NEXT` from there on
//! in the partition; an aggregate is over a variable's rows up to now.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, Volatility, cast, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};
use crate::plan::fault::{at_name, not_taken, planning_error, sql_type};
use crate::sql::parse_expression;

use super::{End, Finds, Formula, Names, Navigation, Operand, schema_of};

/// How many rows a navigation goes at most.
const MOST_ROWS: i64 = 1_000_000;

/// Reads formulas, and collects what they look at.
pub(in crate::plan) struct Formulas<'a> {
    pub(in crate::plan) context: &'a mut dyn RelationPlannerContext,
    /// The rows' columns.
    pub(in crate::plan) input: &'a DFSchema,
    /// The pattern's variables.
    pub(in crate::plan) names: &'a Names,
    /// The first of ORDER BY.
    pub(in crate::plan) time: Expr,
    /// What navigations look at: the arguments of the function.
    pub(in crate::plan) arguments: Vec<Expr>,
}

impl Formulas<'_> {
    /// Reads an expression.
    pub(in crate::plan) fn read(&mut self, mut expr: ast::Expr) -> Result<Formula> {
        let mut reading = Reading { formulas: self, navigations: Vec::new() };
        if let ControlFlow::Break(error) = expr.visit(&mut reading) {
            return Err(error);
        }
        let navigations = reading.navigations;
        let schema = schema_of(&navigations).map_err(planning_error)?;
        let expr = self.context.sql_to_expr(expr, &schema).map_err(planning_error)?;
        let expr = fitted(expr, &schema)?;
        unchanging(&expr)?;
        Ok(Formula { expr, navigations })
    }

    /// The place of an argument.
    fn argument(&mut self, argument: Expr) -> usize {
        self.arguments.iter().position(|known| *known == argument).unwrap_or_else(|| {
            self.arguments.push(argument);
            self.arguments.len() - 1
        })
    }

    fn normal(&self, name: &Ident) -> String {
        self.context.normalize_ident(name.clone())
    }

    fn variable(&self, name: &Ident) -> Option<usize> {
        self.names.number(&self.normal(name))
    }

    /// The expression over a row that a navigation looks at, and the variable that it names.
    fn of_one_row(&mut self, mut expr: ast::Expr) -> Result<(Expr, Option<usize>)> {
        let mut row = OneRow { formulas: self, variable: None };
        if let ControlFlow::Break(error) = expr.visit(&mut row) {
            return Err(error);
        }
        let variable = row.variable.flatten();
        let expr = self.context.sql_to_expr(expr, self.input).map_err(planning_error)?;
        Ok((fitted(expr, self.input)?, variable))
    }

    /// A value in the row so many away from an end, and its type.
    fn value(&mut self, expr: ast::Expr, from: End, offset: usize) -> Result<(Finds, DataType)> {
        let (expr, variable) = self.of_one_row(expr)?;
        let data_type = expr.get_type(self.input).map_err(planning_error)?;
        let argument = self.argument(expr);
        Ok((Finds::Value { argument, variable, from, offset, shift: 0 }, data_type))
    }

    /// The navigation that a call is.
    fn call(&mut self, function: &Function) -> Result<Option<(Finds, DataType)>> {
        let [name] = function.name.0.as_slice() else { return Ok(None) };
        let Some(name) = name.as_ident() else { return Ok(None) };
        let at = |error: Error| at_name(error, name);
        let known = self.normal(name);
        if function.over.is_some() {
            return Err(at(Error::invalid("a window function cannot be used in MATCH_RECOGNIZE").with_code("42P20")));
        }
        match known.as_str() {
            "first" | "last" => {
                let (expr, offset) = self.counted(function, name, 0)?;
                let from = if known == "first" { End::First } else { End::Last };
                Ok(Some(self.value(expr, from, offset)?))
            }
            "prev" | "next" => {
                let (expr, rows) = self.counted(function, name, 1)?;
                let inner = match &expr {
                    ast::Expr::Function(inner) if is_end(inner) => self.call(inner)?,
                    _ => None,
                };
                let mut found = match inner {
                    Some(found) => found,
                    None => self.value(expr, End::Last, 0)?,
                };
                if let (Finds::Value { shift, .. }, _) = &mut found {
                    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
                    *shift = if known == "prev" { -rows } else { rows };
                }
                Ok(Some(found))
            }
            "match_rowtime" => {
                let data_type = self.time.get_type(self.input).map_err(planning_error)?;
                let argument = self.argument(self.time.clone());
                let finds = Finds::Value { argument, variable: None, from: End::Last, offset: 0, shift: 0 };
                Ok(Some((finds, data_type)))
            }
            "match_proctime" | "match_number" | "classifier" => {
                Err(at(Error::not_supported(format!("{}() is not supported", known.to_uppercase()))
                    .with_hint("MATCH_ROWTIME() is the time of a match's last row")))
            }
            _ => match self.context.context_provider().get_aggregate_meta(&known) {
                Some(aggregate) => self.aggregate(function, name, aggregate).map(Some),
                None => Ok(None),
            },
        }
    }

    fn aggregate(&mut self, function: &Function, name: &Ident, called: Arc<AggregateUDF>) -> Result<(Finds, DataType)> {
        let at = |error: Error| at_name(error, name);
        let FunctionArguments::List(list) = &function.args else {
            return Err(at(Error::invalid(format!("{name} needs arguments"))));
        };
        let plain = list.clauses.is_empty() && function.filter.is_none() && function.within_group.is_empty();
        if !plain || function.null_treatment.is_some() {
            return Err(at(Error::not_supported(format!("{name} takes its arguments alone in MATCH_RECOGNIZE"))
                .with_hint("write the condition as CASE in the argument, and leave ORDER BY out: rows are in order")));
        }
        let mut variable: Option<Option<usize>> = None;
        let mut arguments = Vec::new();
        for argument in &list.args {
            let (expr, of) = match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.of_one_row(expr.clone())?,
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => (lit(1_i64), None),
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(of)) => {
                    let of = of.0.first().and_then(|part| part.as_ident()).and_then(|name| self.variable(name));
                    match of {
                        Some(variable) => (lit(1_i64), Some(variable)),
                        None => return Err(at(Error::invalid(format!("{argument} names no variable of the PATTERN")))),
                    }
                }
                _ => return Err(at(Error::invalid(format!("{name} does not take {argument}")))),
            };
            // A constant belongs to any rows.
            if expr.column_refs().is_empty() && of.is_none() && list.args.len() > 1 {
                arguments.push(expr);
                continue;
            }
            if variable.is_some_and(|variable| variable != of) {
                return Err(at(Error::invalid(format!("{name} is over the rows of one variable, and here are two"))));
            }
            variable = Some(of);
            arguments.push(expr);
        }
        // A sum of integers is added up with room enough, and must fit into its type in the end.
        if let ([argument], "sum") = (arguments.as_mut_slice(), called.name())
            && argument.get_type(self.input).map_err(planning_error)?.is_integer()
        {
            *argument = cast(argument.clone(), DataType::Decimal128(38, 0));
        }
        let fields = arguments.iter().map(|argument| Ok(argument.to_field(self.input).map_err(planning_error)?.1));
        let fields = fields.collect::<Result<Vec<FieldRef>>>()?;
        let types = || fields.iter().map(|field| sql_type(&field.data_type().to_string())).collect();
        let wanted = fields_with_udf(&fields, called.as_ref())
            .map_err(|_| at(not_taken(&name.value.to_lowercase(), types())))?;
        let arguments = arguments.into_iter().zip(&fields).zip(&wanted).map(|((argument, is), wanted)| {
            let same = is.data_type() == wanted.data_type();
            if same { argument } else { cast(argument, wanted.data_type().clone()) }
        });
        let arguments = arguments.collect::<Vec<Expr>>();
        let arguments =
            arguments.into_iter().map(|argument| fitted(argument, self.input)).collect::<Result<Vec<_>>>()?;
        let data_type = called.return_field(&wanted).map_err(planning_error)?.data_type().clone();
        let arguments = arguments.into_iter().map(|argument| match argument {
            Expr::Literal(value, _) => Operand::Constant(value),
            argument => Operand::Argument(self.argument(argument)),
        });
        let arguments = arguments.collect();
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let finds = Finds::Aggregate { function: called, distinct, arguments, variable: variable.flatten() };
        Ok((finds, data_type))
    }

    /// What a navigation looks at, and how many rows it goes.
    fn counted(&mut self, function: &Function, name: &Ident, rows: usize) -> Result<(ast::Expr, usize)> {
        let wrong = || {
            let usage = format!("{name}(value) and {name}(value, how many rows)");
            at_name(Error::invalid(format!("in MATCH_RECOGNIZE {name} is written {usage}")), name)
        };
        let FunctionArguments::List(list) = &function.args else { return Err(wrong()) };
        let values = list.args.iter().map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        });
        let (value, by) = match values.collect::<Option<Vec<_>>>().as_deref() {
            Some([value]) => return Ok(((*value).clone(), rows)),
            Some([value, by]) => ((*value).clone(), (*by).clone()),
            _ => return Err(wrong()),
        };
        match self.context.sql_to_expr(by, &DFSchema::empty()).map_err(planning_error)? {
            Expr::Literal(by, _) if by.data_type().is_integer() => {
                let by = by.cast_to(&DataType::Int64).map_err(planning_error)?;
                match by {
                    ScalarValue::Int64(Some(by)) if by > MOST_ROWS => {
                        let error = Error::not_supported(format!("{name} goes over {MOST_ROWS} rows at most"));
                        Err(at_name(error, name))
                    }
                    ScalarValue::Int64(Some(by)) => Ok((value, usize::try_from(by).map_err(|_| wrong())?)),
                    _ => Err(wrong()),
                }
            }
            _ => Err(wrong()),
        }
    }
}

/// Whether a call is `FIRST(…)` or `LAST(…)`.
fn is_end(function: &Function) -> bool {
    let name = function.name.to_string();
    name.eq_ignore_ascii_case("first") || name.eq_ignore_ascii_case("last")
}

/// An expression with its types made to fit, simplified.
fn fitted(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.coerce(expr, schema).map_err(planning_error)?;
    simplifier.simplify(expr).map_err(planning_error)
}

/// What is found in a match must be the same whenever it is computed.
fn unchanging(expr: &Expr) -> Result<()> {
    expr.apply(|part| match part {
        Expr::ScalarFunction(function) if function.func.signature().volatility != Volatility::Immutable => {
            let text =
                format!("{}() gives another value at another time: MATCH_RECOGNIZE cannot use it", function.name());
            Err(Error::not_supported(text).into())
        }
        Expr::Placeholder(placeholder) => {
            let text = format!("MATCH_RECOGNIZE has no parameters, and {} is one", placeholder.id);
            Err(Error::not_supported(text).with_hint("write the value itself").into())
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })
    .map_err(planning_error)?;
    Ok(())
}

fn no_subquery(expr: &ast::Expr) -> Result<()> {
    match expr {
        ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => {
            Err(Error::not_supported("a subquery cannot be used in MATCH_RECOGNIZE")
                .with_hint("join what it reads to the rows before"))
        }
        _ => Ok(()),
    }
}

/// Puts a column in the place of each navigation.
struct Reading<'f, 'a> {
    formulas: &'f mut Formulas<'a>,
    navigations: Vec<Navigation>,
}

impl Reading<'_, '_> {
    fn replace(&mut self, expr: &mut ast::Expr) -> Result<()> {
        no_subquery(expr)?;
        let found = match &*expr {
            ast::Expr::Identifier(name) if name.quote_style.is_some() && self.is_found(name) => None,
            ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => {
                Some(self.formulas.value(expr.clone(), End::Last, 0)?)
            }
            ast::Expr::Function(function) => self.formulas.call(function)?,
            _ => None,
        };
        let Some((finds, data_type)) = found else { return Ok(()) };
        let sums = matches!(&finds, Finds::Aggregate { function, .. } if function.name() == "sum");
        let sums = sums && data_type == DataType::Decimal128(38, 0);
        let known = self.navigations.iter().find(|known| known.finds == finds).map(|known| known.text.clone());
        let text = known.unwrap_or_else(|| {
            let text = expr.to_string();
            self.navigations.push(Navigation { finds, data_type, text: text.clone() });
            text
        });
        let column = Ident::with_quote('"', text);
        *expr = match sums {
            // A sum of integers: see above.
            true => parse_expression(&format!("CAST({column} AS BIGINT)"))?,
            false => ast::Expr::Identifier(column),
        };
        Ok(())
    }

    /// Whether a name stands for what was found already.
    fn is_found(&self, name: &Ident) -> bool {
        self.navigations.iter().any(|known| known.text == name.value)
    }
}

impl VisitorMut for Reading<'_, '_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        match self.replace(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Takes the variables off the columns of a row.
struct OneRow<'f, 'a> {
    formulas: &'f mut Formulas<'a>,
    /// The variable that all columns have: none of them, if that is so.
    variable: Option<Option<usize>>,
}

impl OneRow<'_, '_> {
    fn strip(&mut self, expr: &mut ast::Expr) -> Result<()> {
        no_subquery(expr)?;
        let (of, name) = match &mut *expr {
            ast::Expr::Identifier(name) => (None, name.clone()),
            ast::Expr::CompoundIdentifier(parts) => {
                let Some(name) = parts.first().cloned() else { return Ok(()) };
                let of = self.formulas.variable(&name);
                if of.is_some() {
                    parts.remove(0);
                }
                if let [only] = parts.as_slice() {
                    *expr = ast::Expr::Identifier(only.clone());
                }
                (of, name)
            }
            ast::Expr::Function(function) => {
                let Some(name) = function.name.0.last().and_then(|part| part.as_ident()) else { return Ok(()) };
                let known = self.formulas.normal(name);
                let navigates = matches!(known.as_str(), "first" | "last" | "prev" | "next" | "match_rowtime");
                if navigates || self.formulas.context.context_provider().get_aggregate_meta(&known).is_some() {
                    let error = Error::invalid(format!("{name} cannot stand inside another navigation or aggregate"))
                        .with_hint("PREV and NEXT may hold FIRST or LAST: PREV(LAST(a.x, 1), 2)");
                    return Err(at_name(error, name));
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if self.variable.is_some_and(|variable| variable != of) {
            let error = Error::invalid("a navigation is to the row of one variable, and here are two");
            return Err(at_name(error, &name));
        }
        self.variable = Some(of);
        Ok(())
    }
}

impl VisitorMut for OneRow<'_, '_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        match self.strip(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}
