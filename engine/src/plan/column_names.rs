//! Names of columns that the query does not name, as PostgreSQL gives them: `count(*)` is called `count`, `pickup.zone` is
//! called `zone`, and what has no better name `?column?`.
//!
//! They are written into the query as aliases before it is planned, in every SELECT of it, so that an outer query can use
//! them as well.
//!
//! In PostgreSQL the columns of a SELECT may have one name, DataFusion wants different ones. So a name that is there already
//! gets a [`MARK`] behind it, which [`restored`] and [`shown_columns`] take off where the result is shown. In a subquery all
//! columns of such a name have one, and whoever asks for the name is told that it could be one of several ([`is_repeated`]).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr as Planned, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, Ident, ObjectName, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr,
    TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut, visit_expressions,
};

use crate::error::Result;

use super::fault::planning_error;

/// What PostgreSQL calls a column without a name.
const NAMELESS: &str = "?column?";

/// Behind a name that other columns of its SELECT have too. It is not seen where it is printed.
const MARK: char = '\u{2060}';

/// What the columns of a query are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// An answer: names may repeat.
    Answer,
    /// A view, a table or a sink, whose columns are known by their names: a second `sum` is `sum_2`.
    Relation,
}

/// Gives all columns of a query names. Which names `*` stands for is not known here: with `beside_wildcards` the columns
/// beside it are taken to have one of them.
pub(super) fn name_columns(query: &mut Query, naming: Naming, beside_wildcards: bool) {
    let ordered = query.order_by.as_ref().map(names_in).unwrap_or_default();
    let mut outermost = BTreeSet::new();
    name_body(&mut query.body, &Place { naming: Some(naming), beside_wildcards, ordered }, &mut outermost);
    let inner = Place { naming: None, beside_wildcards, ordered: BTreeSet::new() };
    // The visitor never breaks off.
    let _ = query.visit(&mut Namer { inner, outermost });
}

/// A name without its marks.
pub(super) fn shown(name: &str) -> &str {
    name.trim_end_matches(MARK)
}

/// Whether a name is one of several that are shown alike.
pub(super) fn is_repeated(name: &str) -> bool {
    name.ends_with(MARK)
}

/// What a column of a SELECT is called, `*` excepted.
pub(super) fn output_name(item: &SelectItem) -> Option<String> {
    Named::of(item, &BTreeSet::new()).map(|column| column.name)
}

/// A name in ORDER BY that two different columns of its query have.
pub(super) fn ambiguous_order(query: &Query) -> Option<Ident> {
    let mut finder = AmbiguousOrder(None);
    let _ = query.visit(&mut finder);
    finder.0
}

struct AmbiguousOrder(Option<Ident>);

impl Visitor for AmbiguousOrder {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &query.order_by else {
            return ControlFlow::Continue(());
        };
        let Some((select, is_combined)) = first_select(&query.body) else { return ControlFlow::Continue(()) };
        let relations = relations(select);
        let named: Vec<Named> = select.projection.iter().filter_map(|item| Named::of(item, &relations)).collect();
        for by in order {
            let Expr::Identifier(name) = &by.expr else { continue };
            let mut of_name = named.iter().filter(|column| column.name == folded(name));
            let first = of_name.next();
            if first.is_some_and(|first| of_name.any(|other| is_combined || !first.is_same_as(other))) {
                self.0 = Some(name.clone());
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// The SELECT that names a query's columns, and whether others stand beside it.
fn first_select(body: &SetExpr) -> Option<(&Select, bool)> {
    match body {
        SetExpr::Select(select) => Some((select, false)),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left).map(|(select, _)| (select, true)),
        _ => None,
    }
}

/// The plan with its columns called as they are shown, as far as they stay different.
pub(super) fn restored(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let mut taken: BTreeSet<String> = columns.iter().map(|column| column.name.clone()).collect();
    let mut changed = false;
    let mut call = |column: Column| {
        let name = shown(&column.name).to_owned();
        if !is_repeated(&column.name) || !taken.insert(name.clone()) {
            return Planned::Column(column);
        }
        changed = true;
        Planned::Column(column).alias(name)
    };
    let columns: Vec<Planned> = columns.into_iter().map(&mut call).collect();
    if !changed {
        return Ok(plan);
    }
    LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(planning_error)
}

/// The columns as they are shown: without marks, and without the number that DataFusion gives a second `k` of a subquery
/// (`k:1`).
pub(super) fn shown_columns(schema: &SchemaRef) -> SchemaRef {
    let mut names: Vec<String> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = shown(field.name());
        let name = match name.rsplit_once(':') {
            Some((base, number)) if number.parse::<usize>().is_ok() && names.iter().any(|name| name == base) => base,
            _ => name,
        };
        names.push(name.to_owned());
    }
    if schema.fields().iter().zip(&names).all(|(field, name)| field.name() == name) {
        return SchemaRef::clone(schema);
    }
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    SchemaRef::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Where a SELECT stands.
struct Place {
    /// What it is for, if it is the outermost one.
    naming: Option<Naming>,
    beside_wildcards: bool,
    /// Names that ORDER BY uses.
    ordered: BTreeSet<String>,
}

/// Names the columns of the outermost SELECTs, and says which those are.
fn name_body(body: &mut SetExpr, place: &Place, outermost: &mut BTreeSet<*const Select>) {
    match body {
        SetExpr::Select(select) => {
            name_select(select, place);
            outermost.insert(std::ptr::from_ref::<Select>(select));
        }
        SetExpr::Query(query) => name_body(&mut query.body, place, outermost),
        SetExpr::SetOperation { left, right, .. } => {
            name_body(left, place, outermost);
            name_body(right, place, outermost);
        }
        _ => {}
    }
}

/// Names the columns of all other SELECTs.
struct Namer {
    inner: Place,
    outermost: BTreeSet<*const Select>,
}

impl VisitorMut for Namer {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if !self.outermost.contains(&std::ptr::from_ref::<Select>(select)) {
            name_select(select, &self.inner);
        }
        ControlFlow::Continue(())
    }
}

/// A column of a SELECT that has a name, or is given one.
struct Named {
    name: String,
    expr: Expr,
    /// The query says the name.
    written: bool,
    /// It is a column of FROM.
    plain: bool,
}

impl Named {
    fn of(item: &SelectItem, relations: &BTreeSet<String>) -> Option<Self> {
        match item {
            SelectItem::ExprWithAlias { expr, alias } => {
                Some(Self { name: folded(alias), expr: expr.clone(), written: true, plain: false })
            }
            SelectItem::UnnamedExpr(expr) if !is_unnest(expr) => {
                let plain = is_plain(expr, relations);
                let name = name(expr).map_or_else(|| NAMELESS.to_owned(), |(name, _)| name);
                Some(Self { name, expr: expr.clone(), written: plain, plain })
            }
            _ => None,
        }
    }

    /// What a plain column is qualified with.
    fn qualifier(&self) -> Option<&[Ident]> {
        match &self.expr {
            Expr::CompoundIdentifier(parts) if self.plain => parts.split_last().map(|(_, before)| before),
            _ => None,
        }
    }

    /// Whether both are the same value: `t.k` and `k`, if both can be said, are one column.
    fn is_same_as(&self, other: &Self) -> bool {
        let column = |named: &Self| match &named.expr {
            Expr::Identifier(name) => Some((folded(name), true)),
            Expr::CompoundIdentifier(parts) => parts.last().map(|name| (folded(name), false)),
            _ => None,
        };
        match (column(self), column(other)) {
            (Some((one, bare)), Some((other, also_bare))) if bare || also_bare => one == other,
            _ => self.expr == other.expr,
        }
    }

    /// Whether DataFusion tells the columns apart although they have one name: `a.k` and `b.k`.
    fn is_apart_from(&self, other: &Self) -> bool {
        matches!((self.qualifier(), other.qualifier()), (Some(one), Some(two)) if one != two)
    }
}

/// UNNEST has to stay bare: it may become several columns.
fn is_unnest(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if last(&function.name).is_some_and(|name| name == "unnest"))
}

fn name_select(select: &mut Select, place: &Place) {
    let relations = relations(select);
    let named: Vec<Option<Named>> = select.projection.iter().map(|item| Named::of(item, &relations)).collect();
    let beside: Vec<bool> =
        named.iter().map(|column| column.as_ref().is_some_and(|column| is_beside(column, select, place))).collect();
    let written = named.iter().flatten().filter(|column| column.written);
    let mut taken: BTreeSet<String> = written.map(|column| column.name.clone()).collect();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let Some(column) = &named[index] else { continue };
        let name = &column.name;
        let marks = repeats(&named, index, place.naming.is_some()) + usize::from(beside[index]);
        if column.written && marks == 0 {
            continue;
        }
        let marked = |marks: usize| name.chars().chain(std::iter::repeat_n(MARK, marks)).collect::<String>();
        let alias = match place.naming {
            Some(Naming::Relation) if !column.written => {
                let free = (2..).map(|n| format!("{name}_{n}"));
                std::iter::once(name.clone()).chain(free).find(|name| taken.insert(name.clone()))
            }
            _ if marks == 0 => Some(name.clone()),
            _ => (marks..).map(marked).find(|name| taken.insert(name.clone())),
        };
        let alias = Ident::with_quote('"', alias.unwrap_or_else(|| name.clone()));
        *item = SelectItem::ExprWithAlias { expr: column.expr.clone(), alias };
    }
}

/// How many marks a column's name needs. In the outermost SELECT the first column of a name goes without: nobody asks for it
/// by name. Elsewhere that is so if all of them are the same.
fn repeats(named: &[Option<Named>], index: usize, is_outermost: bool) -> usize {
    let Some(column) = &named[index] else { return 0 };
    let earlier = named[..index].iter().flatten().filter(|other| other.name == column.name);
    let earlier = earlier.filter(|other| !(is_outermost && column.is_apart_from(other))).count();
    let differ = named.iter().flatten().any(|other| other.name == column.name && other.expr != column.expr);
    if is_outermost || !differ { earlier } else { earlier + 1 }
}

/// Whether a column may have the name of one that a `*` of its SELECT stands for. In a subquery it must be the same column
/// as well.
fn is_beside(column: &Named, select: &Select, place: &Place) -> bool {
    if !place.beside_wildcards {
        return false;
    }
    let all = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
    let mut some = select.projection.iter().filter_map(|item| match item {
        SelectItem::QualifiedWildcard(kind, _) => Some(kind.to_string()),
        _ => None,
    });
    let is_outermost = place.naming.is_some();
    match (column.plain, column.qualifier()) {
        (true, Some(qualifier)) => {
            let qualifier: Vec<String> = qualifier.iter().map(ToString::to_string).collect();
            all || some.any(|kind| kind == format!("{}.*", qualifier.join(".")))
        }
        (true, None) => {
            let single = matches!(select.from.as_slice(), [table] if table.joins.is_empty());
            all || (some.next().is_some() && (is_outermost || single))
        }
        (false, _) => {
            let is_asked_for = place.ordered.contains(&column.name) || names_of(select).contains(&column.name);
            is_outermost && (all || some.next().is_some()) && !is_asked_for
        }
    }
}

/// The names that the clauses of a SELECT behind its columns use: those of its columns may be among them.
fn names_of(select: &Select) -> BTreeSet<String> {
    let mut names = names_in(&select.group_by);
    names.extend(names_in(&select.having));
    names.extend(names_in(&select.qualify));
    names.extend(names_in(&select.distinct));
    names
}

fn names_in<T: Visit>(clause: &T) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let _: ControlFlow<()> = visit_expressions(clause, |expr| {
        if let Expr::Identifier(name) = expr {
            names.insert(folded(name));
        }
        ControlFlow::Continue(())
    });
    names
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

/// Whether DataFusion calls the column as PostgreSQL does: `zone`, `bookings.zone`, `public.bookings.zone`.
fn is_plain(expr: &Expr, relations: &BTreeSet<String>) -> bool {
    match expr {
        Expr::Identifier(_) => true,
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, _] | [_, relation, _] => relations.contains(&folded(relation)),
            _ => false,
        },
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

pub(super) fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(folded)
}

/// A name as PostgreSQL folds it.
pub(super) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_query;

    fn named(text: &str, naming: Naming) -> String {
        let mut query = *parse_query(text).unwrap().body;
        name_columns(&mut query, naming, true);
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("{query}") };
        let relations = relations(select);
        let name = |item: &SelectItem| match Named::of(item, &relations) {
            Some(column) => column.name.replace(MARK, "~"),
            None => item.to_string(),
        };
        select.projection.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn columns_are_called_as_in_postgres() {
        for (text, expected) in [
            ("count(*), SUM(fare), avg(DISTINCT x) FILTER (WHERE y)", "count sum avg"),
            (
                "zone, b.zone, public.b.zone, pickup.zone, b.pickup.zone, (pickup).\"Zone\"",
                "zone zone~ zone~~ zone~~~ zone~~~~ Zone",
            ),
            ("a + 1, 1, 'x', NULL", "?column? ?column?~ ?column?~~ ?column?~~~"),
            ("sum(a), sum(b), c AS sum_2", "sum sum~ sum_2"),
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
            ("a, a, b AS a, A", "a a~ a~~ a~~~"),
            ("*, a, 1 AS b, count(*)", "* a~ b~ count~"),
            ("b.*, b.a, c.d", "b.* a~ d~"),
        ] {
            assert_eq!(named(&format!("SELECT {text} FROM b"), Naming::Answer), expected, "{text}");
        }
        assert_eq!(named("SELECT b.*, b.a, c.a, a FROM b, c", Naming::Answer), "b.* a~ a a~~~");
        // A name that ORDER BY may mean stays.
        assert_eq!(named("SELECT *, 1 AS b FROM b ORDER BY b", Naming::Answer), "* b");
    }

    #[test]
    fn what_is_known_by_its_names_has_different_ones() {
        for (text, expected) in [
            ("sum(a), sum(b), c AS sum_2", "sum sum_3 sum_2"),
            ("a + 1, 1, 'x', NULL", "?column? ?column?_2 ?column?_3 ?column?_4"),
            ("a, a", "a a~"),
        ] {
            assert_eq!(named(&format!("SELECT {text} FROM b"), Naming::Relation), expected, "{text}");
        }
    }

    #[test]
    fn inner_queries_are_named_too() {
        for (text, expected) in [
            (
                "WITH w AS (SELECT count(*) FROM b) SELECT count FROM w",
                "WITH w AS (SELECT count(*) AS \"count\" FROM b) SELECT count FROM w",
            ),
            ("SELECT * FROM (SELECT a, a FROM b) AS c", "SELECT * FROM (SELECT a, a AS \"a~\" FROM b) AS c"),
            (
                "SELECT * FROM (SELECT a, 1 AS a FROM b) AS c",
                "SELECT * FROM (SELECT a AS \"a~\", 1 AS \"a~~\" FROM b) AS c",
            ),
            (
                "SELECT * FROM (SELECT *, a, 1 AS c FROM b) AS c",
                "SELECT * FROM (SELECT *, a AS \"a~\", 1 AS c FROM b) AS c",
            ),
        ] {
            let mut query = *parse_query(text).unwrap().body;
            name_columns(&mut query, Naming::Answer, true);
            assert_eq!(query.to_string().replace(MARK, "~"), expected);
        }
    }
}
