//! Names of columns that the query does not name, as PostgreSQL gives them: `count(*)` is called `count`, `pickup.zone` is
//! called `zone`, and what has no better name `?column?`.
//!
//! They are written into the query as aliases before it is planned, in every SELECT of it, so that an outer query can use
//! them as well. DataFusion wants the columns of a SELECT to have different names: the second `sum` becomes `sum_2`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, TableFactor, Value, VisitMut,
    VisitorMut,
};

/// What PostgreSQL calls a column without a name.
const NAMELESS: &str = "?column?";

/// Gives all columns of a query names.
pub(super) fn name_columns(query: &mut Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut Namer);
}

struct Namer;

impl VisitorMut for Namer {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_select(select);
        ControlFlow::Continue(())
    }
}

fn name_select(select: &mut Select) {
    let relations = relations(select);
    let own = |item: &&SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => is_plain(expr, &relations),
        _ => true,
    };
    let mut taken: BTreeSet<String> = select.projection.iter().filter(own).filter_map(own_name).collect();
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if is_plain(expr, &relations) {
            continue;
        }
        let name = name(expr).map_or_else(|| NAMELESS.to_owned(), |(name, _)| name);
        let free = (2..).map(|n| format!("{name}_{n}"));
        let alias = std::iter::once(name.clone()).chain(free).find(|name| taken.insert(name.clone()));
        let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', alias.unwrap_or(name)) };
    }
}

/// The name that a column of a SELECT has already.
fn own_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(column)) => Some(folded(column)),
        // A name that is nobody's alias may still be one that a column goes by.
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(folded),
        _ => None,
    }
}

/// What the relations of a FROM clause are called.
fn relations(select: &Select) -> BTreeSet<String> {
    let factors = select.from.iter().flat_map(|table| {
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)).filter_map(called)
    });
    factors.collect()
}

fn called(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => Some(folded(&alias.name)),
        TableFactor::Table { name, .. } => last(name),
        _ => None,
    }
}

/// Whether DataFusion calls the column as PostgreSQL does (`zone`, `bookings.zone`, `public.bookings.zone`), or the
/// expression must stay bare: UNNEST may become several columns.
fn is_plain(expr: &Expr, relations: &BTreeSet<String>) -> bool {
    match expr {
        Expr::Identifier(_) => true,
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, _] | [_, relation, _] => relations.contains(&folded(relation)),
            _ => false,
        },
        Expr::Function(function) => last(&function.name).is_some_and(|name| name == "unnest"),
        _ => false,
    }
}

/// PostgreSQL's name for an expression, and whether it is a good one: a cast is named after what it casts, if that has a
/// good name, or else after its type.
fn name(expr: &Expr) -> Option<(String, bool)> {
    let good = |name: String| Some((name, true));
    let poor = |name: &str| Some((name.to_owned(), false));
    match expr {
        Expr::Identifier(column) => good(folded(column)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded).and_then(good),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(field)) => Some(folded(field)),
                _ => None,
            });
            field.map_or_else(|| name(root), good)
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name(inner),
        Expr::Function(function) => last(&function.name).and_then(good),
        Expr::Cast { expr, data_type, .. } => match name(expr) {
            Some((name, true)) => good(name),
            _ => poor(&type_name(data_type)),
        },
        Expr::TypedString(typed) => poor(&type_name(&typed.data_type)),
        Expr::Interval(_) => poor("interval"),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => poor("bool"),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(name) {
            Some((name, true)) => good(name),
            _ => poor("case"),
        },
        Expr::AtTimeZone { .. } => good("timezone".to_owned()),
        Expr::Extract { .. } => good("extract".to_owned()),
        Expr::Ceil { .. } => good("ceil".to_owned()),
        Expr::Floor { .. } => good("floor".to_owned()),
        Expr::Position { .. } => good("position".to_owned()),
        Expr::Substring { .. } => good("substring".to_owned()),
        Expr::Trim { .. } => good("btrim".to_owned()),
        Expr::Overlay { .. } => good("overlay".to_owned()),
        Expr::Exists { .. } => good("exists".to_owned()),
        Expr::Array(_) => good("array".to_owned()),
        Expr::Tuple(_) => good("row".to_owned()),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::ExprWithAlias { alias, .. }) => good(folded(alias)),
                Some(SelectItem::UnnamedExpr(expr)) => name(expr),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// PostgreSQL's own name for a type.
fn type_name(data_type: &DataType) -> String {
    let text = data_type.to_string().to_ascii_lowercase();
    let word = text.split(['(', ' ']).next().unwrap_or_default();
    let name = match word {
        "smallint" => "int2",
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "float" | "double" => "float8",
        "boolean" => "bool",
        "decimal" => "numeric",
        "char" | "character" if text.contains("varying") => "varchar",
        "char" | "character" => "bpchar",
        "timestamp" if text.contains("with time zone") => "timestamptz",
        other => other,
    };
    name.to_owned()
}

fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(folded)
}

/// A name as PostgreSQL folds it.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_query;

    fn named(text: &str) -> Vec<String> {
        let mut query = *parse_query(text).unwrap().body;
        name_columns(&mut query);
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("{query}") };
        select.projection.iter().map(|item| own_name(item).unwrap_or_else(|| item.to_string())).collect()
    }

    #[test]
    fn columns_are_called_as_in_postgres() {
        for (text, expected) in [
            ("count(*), SUM(fare), avg(DISTINCT x) FILTER (WHERE y)", "count sum avg"),
            (
                "zone, b.zone, public.b.zone, pickup.zone, b.pickup.zone, (pickup).\"Zone\"",
                "zone zone zone zone_2 zone_3 Zone",
            ),
            ("a + 1, 1, 'x', NULL", "?column? ?column?_2 ?column?_3 ?column?_4"),
            ("sum(a), sum(b), c AS sum_2", "sum sum_3 sum_2"),
            (
                "zone::text, (a + b)::bigint, '1'::INT, CAST(x AS double precision), DATE '2020-01-01'",
                "zone int8 int4 x date",
            ),
            ("CASE WHEN a THEN b END, CASE WHEN a THEN b ELSE c END, true, EXISTS (SELECT 1)", "case c bool exists"),
            (
                "row_number() OVER (ORDER BY a), coalesce(a, b), extract(year FROM t), tags[1]",
                "row_number coalesce extract tags",
            ),
            ("(SELECT max(x) FROM u), (SELECT y FROM u)", "max y"),
            ("unnest(tags), *", "unnest(tags) *"),
        ] {
            assert_eq!(named(&format!("SELECT {text} FROM b")).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn inner_queries_are_named_too() {
        let mut query = *parse_query("WITH w AS (SELECT count(*) FROM b) SELECT count FROM w").unwrap().body;
        name_columns(&mut query);
        assert_eq!(query.to_string(), "WITH w AS (SELECT count(*) AS \"count\" FROM b) SELECT count FROM w");
    }
}
