//! `SELECT *, e AS name` in a subquery, where `*` stands for a column of that name as well.
//!
//! DataFusion refuses columns of one name, and which names `*` stands for is not known from the text. So the columns of FROM
//! are written in its place, and the names can be told apart as those of any other SELECT ([`super::column_names`]).

use datafusion::common::{Column, TableReference};
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins,
    WildcardAdditionalOptions,
};

use crate::sql;

use super::column_names::output_name;

/// Writes columns in the place of `*` in all SELECTs but the outermost, where one of its columns has the name of another
/// item. `columns` answers the columns of a query, if it can be planned.
pub(super) fn written_out(query: &mut Query, columns: &dyn Fn(&Query) -> Option<Vec<Column>>) {
    Writer { columns, scope: Vec::new() }.query(query, true);
}

struct Writer<'a> {
    columns: &'a dyn Fn(&Query) -> Option<Vec<Column>>,
    /// The queries of WITH that can be named, the outermost first.
    scope: Vec<Cte>,
}

impl Writer<'_> {
    fn query(&mut self, query: &mut Query, is_outermost: bool) {
        let known = self.scope.len();
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                self.query(&mut cte.query, false);
                self.scope.push(cte.clone());
            }
        }
        self.body(&mut query.body, is_outermost);
        self.scope.truncate(known);
    }

    fn body(&mut self, body: &mut SetExpr, is_outermost: bool) {
        match body {
            SetExpr::Select(select) => {
                select.from.iter_mut().for_each(|table| self.relations(table));
                if !is_outermost && is_mixed(select) {
                    self.select(select);
                }
            }
            SetExpr::Query(query) => self.query(query, is_outermost),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left, is_outermost);
                self.body(right, is_outermost);
            }
            _ => {}
        }
    }

    fn relations(&mut self, table: &mut TableWithJoins) {
        self.relation(&mut table.relation);
        table.joins.iter_mut().for_each(|join| self.relation(&mut join.relation));
    }

    fn relation(&mut self, factor: &mut TableFactor) {
        match factor {
            TableFactor::Derived { subquery, .. } => self.query(subquery, false),
            TableFactor::NestedJoin { table_with_joins, .. } => self.relations(table_with_joins),
            _ => {}
        }
    }

    fn select(&self, select: &mut Select) {
        let Some(columns) = self.from(&select.from) else { return };
        let named: Vec<String> = select.projection.iter().filter_map(output_name).collect();
        let mut written = Vec::new();
        for item in &select.projection {
            match covered(item, &columns) {
                Some(covered) => written.extend(covered.into_iter().map(item_of)),
                None => written.push(item.clone()),
            }
        }
        let covers = |item: &SelectItem| {
            covered(item, &columns).is_some_and(|some| some.iter().any(|c| named.contains(&c.name)))
        };
        if select.projection.iter().any(covers) {
            select.projection = written;
        }
    }

    /// The columns that `*` stands for over a FROM clause.
    fn from(&self, from: &[TableWithJoins]) -> Option<Vec<Column>> {
        let mut probe = *sql::parse_query("WITH w AS (SELECT 1) SELECT * FROM w").ok()?.body;
        let SetExpr::Select(select) = probe.body.as_mut() else { return None };
        select.from = from.to_vec();
        match &mut probe.with {
            Some(with) if !self.scope.is_empty() => with.cte_tables = self.scope.clone(),
            _ => probe.with = None,
        }
        (self.columns)(&probe)
    }
}

/// Whether a SELECT has a `*` and other items.
fn is_mixed(select: &Select) -> bool {
    let all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    select.projection.iter().any(all) && !select.projection.iter().all(all)
}

/// The columns that an item stands for, if it is a `*` without further words.
fn covered<'a>(item: &SelectItem, columns: &'a [Column]) -> Option<Vec<&'a Column>> {
    let plain = |options: &WildcardAdditionalOptions| {
        WildcardAdditionalOptions { wildcard_token: options.wildcard_token.clone(), ..Default::default() } == *options
    };
    match item {
        SelectItem::Wildcard(options) if plain(options) => Some(columns.iter().collect()),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) if plain(options) => {
            let relation = super::column_names::last(name)?;
            let of = |column: &&Column| column.relation.as_ref().is_some_and(|of| of.table() == relation);
            Some(columns.iter().filter(of).collect())
        }
        _ => None,
    }
}

fn item_of(column: &Column) -> SelectItem {
    let quoted = |name: &str| Ident::with_quote('"', name);
    let parts: Vec<Ident> = match &column.relation {
        None => Vec::new(),
        Some(TableReference::Bare { table }) => vec![quoted(table)],
        Some(TableReference::Partial { schema, table }) => vec![quoted(schema), quoted(table)],
        Some(TableReference::Full { schema, table, .. }) => vec![quoted(schema), quoted(table)],
    };
    SelectItem::UnnamedExpr(match parts.is_empty() {
        true => Expr::Identifier(quoted(&column.name)),
        false => Expr::CompoundIdentifier(parts.into_iter().chain([quoted(&column.name)]).collect()),
    })
}
