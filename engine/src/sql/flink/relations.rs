//! FROM clauses: table functions, and the `window_time` of window functions.
//!
//! A table function is a function that makes a list of rows of one row, so `LATERAL TABLE(f(x)) AS t (a, b)` is
//! `UNNEST(f(x)) AS t (a, b)`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, GroupByExpr, Ident, Select, SelectItem, TableAlias, TableAliasColumnDef, TableFactor, VisitMut,
    VisitorMut,
};

use crate::error::{Error, Result};

use super::group_windows::before;
use super::{at, plain};

/// Whether a relation is a window function: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(rowtime), …))`.
pub(super) fn is_window(factor: &TableFactor) -> bool {
    let name = match factor {
        TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => name,
        TableFactor::TableFunction { expr: Expr::Function(Function { name, .. }), .. } => name,
        _ => return false,
    };
    matches!(name.to_string().to_ascii_lowercase().as_str(), "tumble" | "hop" | "cumulate" | "session")
}

/// Rewrites a table function.
pub(super) fn rewrite(factor: &mut TableFactor) -> Result<()> {
    if is_window(factor) {
        return Ok(());
    }
    let (list, alias) = match &*factor {
        TableFactor::Function { name, args, alias, .. } if name.to_string().eq_ignore_ascii_case("table") => {
            let Some([list]) = plain(args)
                .as_deref()
                .map(|values| values.to_vec())
                .and_then(|values| <[&Expr; 1]>::try_from(values).ok())
            else {
                let error = Error::invalid("TABLE takes one call of a table function")
                    .with_hint("write LATERAL TABLE(f(x)) AS t (a, b)");
                return Err(name
                    .0
                    .first()
                    .and_then(|part| part.as_ident())
                    .map_or(error.clone(), |name| at(name, error)));
            };
            (list.clone(), alias.clone())
        }
        TableFactor::TableFunction { expr: expr @ Expr::Function(_), alias } => (expr.clone(), alias.clone()),
        _ => return Ok(()),
    };
    // UNNEST may be written where a table function stands.
    let list = match &list {
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("unnest") => super::called(function)
            .and_then(|(_, arguments)| arguments.first().map(|list| (*list).clone()))
            .unwrap_or(list),
        _ => list,
    };
    *factor = TableFactor::UNNEST {
        alias: Some(alias.unwrap_or_else(nameless)),
        array_exprs: vec![list],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    };
    Ok(())
}

/// A table function without a name has a column `f0`.
fn nameless() -> TableAlias {
    let column = TableAliasColumnDef { name: Ident::new("f0"), data_type: None };
    TableAlias { explicit: true, name: Ident::new("f"), columns: vec![column], at: None }
}

/// `window_time` of a window function is a millisecond before the window's end.
pub(super) fn window_time(select: &mut Select) {
    if !select.from.iter().any(|table| is_window(&table.relation)) {
        return;
    }
    if let GroupByExpr::Expressions(groups, _) = &mut select.group_by {
        // The end of a window says as much.
        let names_end = groups.iter().any(|group| last_name(group).is_some_and(|name| name == "window_end"));
        if names_end {
            groups.retain(|group| last_name(group).is_none_or(|name| name != "window_time"));
        }
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && last_name(expr).is_some_and(|name| name == "window_time")
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new("window_time") };
        }
    }
    // The visitor never breaks off.
    let _ = select.projection.visit(&mut WindowTime);
    let _ = select.having.visit(&mut WindowTime);
    let _ = select.selection.visit(&mut WindowTime);
    let _ = select.group_by.visit(&mut WindowTime);
}

struct WindowTime;

impl VisitorMut for WindowTime {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let name = match expr {
            Expr::Identifier(name) => name,
            Expr::CompoundIdentifier(parts) => match parts.last_mut() {
                Some(name) => name,
                None => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        if name.value.eq_ignore_ascii_case("window_time") {
            "window_end".clone_into(&mut name.value);
            let end = expr.clone();
            *expr = Expr::Nested(Box::new(before(end)));
        }
        ControlFlow::Continue(())
    }
}

fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.to_ascii_lowercase()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name| name.value.to_ascii_lowercase()),
        _ => None,
    }
}
