//! Apache Flink's dialect, rewritten into PostgreSQL's as it is read.
//!
//! * `words`: back-ticks, and names that keep their case, while a text is still a row of tokens
//! * `group_windows`: `GROUP BY TUMBLE(rowtime, …)` and `TUMBLE_START`, `TUMBLE_END`, `TUMBLE_ROWTIME`
//! * `relations`: `LATERAL TABLE(f(x))`, `TABLE(f(x))`, the `window_time` of a window function
//! * `expressions`: types and functions that PostgreSQL calls something else
//!
//! Everything keeps its place in the text, so errors point where the user wrote.

mod expressions;
mod group_windows;
mod relations;
mod words;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, OrderBy, Query, Select,
    SetExpr, TableFactor, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};

use super::text::position_of;

pub use group_windows::{GROUP_BOUNDS, GROUP_WINDOW};
pub(super) use words::translated;

/// Rewrites a query of Flink's into one of PostgreSQL's. Answers whether it has windows: without EMIT, Flink shows those
/// when the watermark says that they are complete.
pub(super) fn rewrite(query: &mut Query) -> Result<bool> {
    let mut rewriting = Rewriting { has_windows: false };
    match query.visit(&mut rewriting) {
        ControlFlow::Continue(()) => Ok(rewriting.has_windows),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriting {
    has_windows: bool,
}

impl Rewriting {
    fn select(&mut self, select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<()> {
        self.has_windows |= group_windows::rewrite(select, order_by)?;
        relations::window_time(select);
        Ok(())
    }

    fn body(&mut self, body: &mut SetExpr, order_by: Option<&mut OrderBy>) -> Result<()> {
        match body {
            SetExpr::Select(select) => self.select(select, order_by),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left, None)?;
                self.body(right, None)
            }
            // A query in parentheses is visited by itself.
            _ => Ok(()),
        }
    }
}

impl VisitorMut for Rewriting {
    type Break = Error;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let Query { body, order_by, .. } = query;
        stopped(self.body(body, order_by.as_mut()))
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        self.has_windows |= relations::is_window(factor) || matches!(factor, TableFactor::MatchRecognize { .. });
        stopped(relations::rewrite(factor))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        stopped(expressions::rewrite(expr))
    }
}

fn stopped(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

/// The name of a call and its arguments, if all of them are plain values.
fn called(function: &Function) -> Option<(&Ident, Vec<&Expr>)> {
    let [name] = function.name.0.as_slice() else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    Some((name.as_ident()?, plain(&list.args)?))
}

fn plain(arguments: &[FunctionArg]) -> Option<Vec<&Expr>> {
    let value = |argument: &'_ FunctionArg| matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
    if !arguments.iter().all(value) {
        return None;
    }
    let values = arguments.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    });
    Some(values.collect())
}

/// The error at the place of a name.
fn at(name: &Ident, error: Error) -> Error {
    match position_of(name.span.start) {
        Some(position) => error.at(position),
        None => error,
    }
}

/// A name of one word.
fn named(name: Ident) -> ObjectName {
    ObjectName::from(vec![name])
}
