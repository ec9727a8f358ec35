//! `GROUP BY TUMBLE(rowtime, INTERVAL '1' MINUTE)`: the windows of Flink's older syntax.
//!
//! The FROM clause becomes a window function over itself, the group its two bounds, and `TUMBLE_END(…)` one of them:
//!
//! ```text
//! SELECT k, TUMBLE_END(t, i) FROM a JOIN b … WHERE w GROUP BY TUMBLE(t, i), k
//! SELECT k, "window end" FROM "GROUP BY TUMBLE"((SELECT * FROM a JOIN b …), DESCRIPTOR(t), i) WHERE w
//! GROUP BY "window start", "window end", k
//! ```
//!
//! The planner takes the FROM clause out of that subquery, so that `a.x` and `b.x` go on meaning what they meant. The bounds
//! have names that no column has: a query may select `TUMBLE_START(…) AS window_start` and be windowed again.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, Interval, OrderBy,
    Query, Select, SelectItem, SetExpr, TableFactor, TableFunctionArgs, TableWithJoins, Value, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};

use super::super::dialect::{call, partition_function};
use super::super::parser::parse_query;
use super::super::table_factor::table_factor;
use super::{at, called, named};

/// What the names of the window functions begin with that stand for a group's windows.
pub const GROUP_WINDOW: &str = "GROUP BY ";

/// The names of such a window's bounds.
pub const GROUP_BOUNDS: [&str; 2] = ["window start", "window end"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Session,
}

/// What a function like `TUMBLE_END` says of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    End,
    /// The last moment of the window, which is a time attribute again.
    Rowtime,
    Proctime,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Tumble, Self::Hop, Self::Session];

    fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Session => "SESSION",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE(rowtime, INTERVAL '1' MINUTE)",
            Self::Hop => "HOP(rowtime, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE): slide, then size",
            Self::Session => "SESSION(rowtime, INTERVAL '10' MINUTE): the gap",
        }
    }

    fn arguments(self) -> usize {
        if self == Self::Hop { 3 } else { 2 }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| name.eq_ignore_ascii_case(kind.name()))
    }

    /// The window and the part of it that `TUMBLE_END` and its like name.
    fn and_part(name: &str) -> Option<(Self, Part)> {
        let (kind, part) = name.split_once('_')?;
        let part = match part.to_ascii_lowercase().as_str() {
            "start" => Part::Start,
            "end" => Part::End,
            "rowtime" => Part::Rowtime,
            "proctime" => Part::Proctime,
            _ => return None,
        };
        Some((Self::of(kind)?, part))
    }
}

/// The window of a GROUP BY.
struct GroupWindow {
    kind: Kind,
    name: Ident,
    time: Expr,
    lengths: Vec<Expr>,
}

impl GroupWindow {
    /// The window that an expression of GROUP BY is.
    fn of(expr: &Expr) -> Result<Option<Self>> {
        let Expr::Function(function) = expr else { return Ok(None) };
        let Some((name, kind)) = single_name(function).and_then(|name| Some((name, Kind::of(&name.value)?))) else {
            return Ok(None);
        };
        let wrong = || at(name, Error::invalid(format!("the arguments do not fit {}", kind.usage())));
        let (_, arguments) = called(function).ok_or_else(wrong)?;
        let [time, lengths @ ..] = arguments.as_slice() else { return Err(wrong()) };
        if lengths.len() + 1 != kind.arguments() {
            return Err(wrong());
        }
        let lengths = lengths.iter().map(|length| (*length).clone()).collect();
        Ok(Some(Self { kind, name: name.clone(), time: (*time).clone(), lengths }))
    }

    /// Whether a part is asked of this window: by its kind, its time column (the relation's name may be left out) and
    /// its lengths.
    fn is_meant(&self, kind: Kind, arguments: &[&Expr]) -> bool {
        let [time, lengths @ ..] = arguments else { return false };
        let column = |expr: &Expr| match expr {
            Expr::CompoundIdentifier(parts) => parts.last().map(|name| name.value.clone()),
            Expr::Identifier(name) => Some(name.value.clone()),
            _ => None,
        };
        kind == self.kind
            && (column(time).is_some() && column(time) == column(&self.time))
            && lengths.len() == self.lengths.len()
            && lengths.iter().zip(&self.lengths).all(|(asked, given)| *asked == given)
    }

    /// The rows with the window's bounds, as a relation.
    fn relation(&self, rows: Query, keys: Vec<Expr>) -> TableFactor {
        let rows = Expr::Subquery(Box::new(rows));
        let rows = match keys.is_empty() {
            true => rows,
            false => call(partition_function(), std::iter::once(rows).chain(keys).collect()),
        };
        let descriptor = call(named(Ident::new("DESCRIPTOR")), vec![self.time.clone()]);
        let arguments = [rows, descriptor].into_iter().chain(self.lengths.iter().cloned());
        let arguments = arguments.map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
        let function = Ident {
            value: format!("{GROUP_WINDOW}{}", self.kind.name()),
            quote_style: Some('"'),
            span: self.name.span,
        };
        table_factor(named(function), Some(TableFunctionArgs { args: arguments, settings: None }))
    }
}

/// Rewrites a SELECT that groups by a window; answers whether it is one.
pub(super) fn rewrite(select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<bool> {
    let window = take_window(select)?;
    let keys = match &window {
        Some(window) if window.kind == Kind::Session => session_keys(select, window)?,
        _ => Vec::new(),
    };
    name_parts(select);
    let mut parts = Parts { window: window.as_ref() };
    let mut visited = select.visit(&mut parts);
    if let (Some(order_by), ControlFlow::Continue(())) = (order_by, &visited) {
        visited = order_by.visit(&mut parts);
    }
    if let ControlFlow::Break(error) = visited {
        return Err(error);
    }
    let Some(window) = window else { return Ok(false) };
    let mut rows = parse_query("SELECT * FROM t")?.body;
    if let SetExpr::Select(inner) = rows.body.as_mut() {
        inner.from = std::mem::take(&mut select.from);
        // A session is one of the rows that are left.
        inner.selection = if window.kind == Kind::Session { select.selection.take() } else { None };
    }
    select.from = vec![TableWithJoins { relation: window.relation(*rows, keys), joins: Vec::new() }];
    Ok(true)
}

/// Puts the bounds in the window's place in GROUP BY.
fn take_window(select: &mut Select) -> Result<Option<GroupWindow>> {
    let GroupByExpr::Expressions(groups, _) = &mut select.group_by else { return Ok(None) };
    let mut found: Option<(usize, GroupWindow)> = None;
    for (place, group) in groups.iter().enumerate() {
        let Some(window) = GroupWindow::of(group)? else { continue };
        if found.is_some() {
            let error = Error::invalid("a query groups by one window, and this is a second")
                .with_hint("window the rows of a subquery again, by its TUMBLE_ROWTIME");
            return Err(at(&window.name, error));
        }
        found = Some((place, window));
    }
    let Some((place, window)) = found else { return Ok(None) };
    let bounds = [Part::Start, Part::End].map(|part| bound(part, &window.name));
    groups.splice(place..=place, bounds);
    Ok(Some(window))
}

/// What keeps the sessions of a GROUP BY apart: all its other expressions.
fn session_keys(select: &Select, window: &GroupWindow) -> Result<Vec<Expr>> {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return Ok(Vec::new()) };
    let is_bound = |expr: &Expr| matches!(expr, Expr::Identifier(name) if GROUP_BOUNDS.contains(&name.value.as_str()));
    let keys = groups.iter().filter(|group| !is_bound(group)).map(|group| match group {
        Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => {
            let error = Error::not_supported("SESSION does not stand beside ROLLUP, CUBE or GROUPING SETS");
            Err(at(&window.name, error))
        }
        // GROUP BY 1 names a column of SELECT.
        Expr::Value(value) => match (&value.value, &*select.projection) {
            (Value::Number(number, _), items) => {
                let item = number.parse::<usize>().ok().and_then(|number| items.get(number.checked_sub(1)?));
                match item {
                    Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Ok(expr.clone()),
                    _ => Ok(group.clone()),
                }
            }
            _ => Ok(group.clone()),
        },
        key => Ok(key.clone()),
    });
    keys.collect()
}

/// `SELECT TUMBLE_END(…)` is a column of that name.
fn name_parts(select: &mut Select) {
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(Expr::Function(function)) = item else { continue };
        let Some(name) = single_name(function).filter(|name| Kind::and_part(&name.value).is_some()) else { continue };
        let alias = Ident { value: name.value.to_ascii_lowercase(), quote_style: Some('"'), span: name.span };
        *item = SelectItem::ExprWithAlias { expr: Expr::Function(function.clone()), alias };
    }
}

fn single_name(function: &Function) -> Option<&Ident> {
    match function.name.0.as_slice() {
        [name] => name.as_ident(),
        _ => None,
    }
}

/// Replaces `TUMBLE_START` and its like.
struct Parts<'a> {
    window: Option<&'a GroupWindow>,
}

impl VisitorMut for Parts<'_> {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = &*expr else { return ControlFlow::Continue(()) };
        let found = single_name(function).and_then(|name| Some((name, Kind::and_part(&name.value)?)));
        let Some((name, (kind, part))) = found else { return ControlFlow::Continue(()) };
        let arguments = called(function).map(|(_, arguments)| arguments).unwrap_or_default();
        let replaced = match self.window {
            _ if part == Part::Proctime => Err(Error::not_supported(format!(
                "{} is processing time, and windows are of event time here",
                name.value
            ))
            .with_hint(format!("write {}_ROWTIME", kind.name()))),
            Some(window) if window.is_meant(kind, &arguments) => Ok(bound(part, name)),
            Some(window) => Err(Error::invalid(format!("{function} is of no window in this GROUP BY"))
                .with_hint(format!("give {} the arguments that {} has there", name.value, window.name.value))),
            None => Err(Error::invalid(format!("{function} needs a window in GROUP BY"))
                .with_hint(format!("write GROUP BY {}", kind.usage()))),
        };
        match replaced {
            Ok(replacement) => {
                *expr = replacement;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(at(name, error)),
        }
    }
}

/// A part of the window, where `place` stands.
fn bound(part: Part, place: &Ident) -> Expr {
    let [start, end] = GROUP_BOUNDS;
    let column =
        |name: &str| Expr::Identifier(Ident { value: name.to_owned(), quote_style: Some('"'), span: place.span });
    match part {
        Part::Start => column(start),
        Part::End | Part::Proctime => column(end),
        Part::Rowtime => Expr::Nested(Box::new(before(column(end)))),
    }
}

/// A millisecond before: the last moment of a window that ends then.
pub(super) fn before(end: Expr) -> Expr {
    let millisecond = Expr::Interval(Interval {
        value: Box::new(Expr::Value(Value::SingleQuotedString("1".to_owned()).into())),
        leading_field: Some(DateTimeField::Millisecond),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    });
    Expr::BinaryOp { left: Box::new(end), op: BinaryOperator::Minus, right: Box::new(millisecond) }
}
