//! Subqueries in WHERE and in SELECT, with and without the row outside.

use rand::Rng;

use super::super::expression::{Column, Kind, mild, names, scalar};
use super::{Author, MOST_JOINED, Query, Relation};

impl Author<'_> {
    /// A query with subqueries in WHERE, and perhaps as a value.
    pub(super) fn with_subqueries(&mut self, outer: &Relation, depth: u32) -> Query {
        let mut outer = outer.clone();
        if outer.rows * outer.rows > MOST_JOINED * 4 {
            outer = self.table();
        }
        let mut conditions = vec![self.subquery_condition(&outer, depth)];
        if self.chance(0.3) {
            let other = self.subquery_condition(&outer, depth);
            conditions = match self.rng.random_range(0..3) {
                0 | 1 => vec![format!("({} OR {other})", conditions[0])],
                _ => vec![conditions.remove(0), other],
            };
        }
        if self.chance(0.2) {
            conditions.push(mild(&mut self.rng, &outer.columns));
        }
        let mut query = self.projection(&outer, false);
        if self.chance(0.4) {
            let name = self.name("c");
            let value = self.value(&outer);
            query.text = query.text.replacen("SELECT ", &format!("SELECT {value} AS {name}, "), 1);
            query.columns.insert(0, Column::new(name, Kind::Int));
            if self.chance(0.5) {
                conditions.clear();
            }
        }
        if self.chance(0.2) {
            let name = self.name("c");
            let truth = self.truth_value(&outer);
            query.text = query.text.replacen("SELECT ", &format!("SELECT {truth} AS {name}, "), 1);
            query.columns.insert(0, Column::new(name, Kind::Bool));
            if self.chance(0.5) {
                conditions.clear();
            }
        }
        if !conditions.is_empty() {
            query.text.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        Query { append_only: false, ..query }
    }

    /// What a subquery reads.
    fn inner(&mut self, outer: &Relation, depth: u32) -> Relation {
        if self.chance(0.7) {
            return self.table();
        }
        let relation = self.relation(depth);
        let usable = |kind| relation.columns.iter().any(|column| column.kind == kind && column.exact);
        match usable(Kind::Int) && relation.rows * outer.rows <= MOST_JOINED {
            true => relation,
            false => self.table(),
        }
    }

    /// The outer row's column of a kind, if it has one, and the inner's.
    pub(super) fn pair(&mut self, outer: &Relation, inner: &Relation, kind: Kind) -> (String, String) {
        (scalar(&mut self.rng, &outer.columns, kind, 0), scalar(&mut self.rng, &inner.columns, kind, 0))
    }

    fn subquery_condition(&mut self, outer: &Relation, depth: u32) -> String {
        let inner = self.inner(outer, depth);
        let kind = [Kind::Int, Kind::Text][self.rng.random_range(0..2)];
        let (of_outer, of_inner) = self.pair(outer, &inner, kind);
        let (key, inner_key) = self.pair(outer, &inner, Kind::Int);
        let own = mild(&mut self.rng, &inner.columns);
        let from = &inner.from;
        let not = if self.chance(0.3) { "NOT " } else { "" };
        match self.rng.random_range(0..11) {
            0 => format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {key} = {inner_key} AND {own})"),
            1 => format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {key} < {inner_key} AND {own})"),
            2 | 3 if not.is_empty() => format!("{of_outer} IN (SELECT {of_inner} FROM {from} WHERE {own})"),
            // DataFusion forgets NULLs of the subquery: where a constant is NOT IN it, and beside OR.
            2 | 3 => {
                let inner = self.table();
                let (x, y) = self.pair(outer, &inner, kind);
                let own = mild(&mut self.rng, &inner.columns);
                self.not_in(&x, &y, &inner.from, &own)
            }
            2..=4 => format!("{of_outer} IN (SELECT {of_inner} FROM {from} WHERE {key} = {inner_key})"),
            5 | 6 => {
                let (op, quantifier) =
                    (["=", "<", ">=", "<>"][self.rng.random_range(0..4)], ["ANY", "ALL"][self.rng.random_range(0..2)]);
                format!("{key} {op} {quantifier} (SELECT {inner_key} FROM {from} WHERE {own})")
            }
            7 => format!("{key} < {}", self.value(outer)),
            8 => {
                let inner = self.table();
                let (x, y) = self.pair(outer, &inner, Kind::Int);
                let (key, inner_key) = self.pair(outer, &inner, Kind::Int);
                self.not_in(&x, &y, &inner.from, &format!("{key} = {inner_key}"))
            }
            9 => format!("({} IS NULL OR {key} > -2)", self.value(outer)),
            _ => self.further_out(outer),
        }
    }

    /// EXISTS or IN as a value, which the batch says by counting.
    fn truth_value(&mut self, outer: &Relation) -> String {
        let inner = self.table();
        let (key, inner_key) = self.pair(outer, &inner, Kind::Int);
        let (x, y) = self.pair(outer, &inner, Kind::Int);
        let from = &inner.from;
        let by = if self.chance(0.5) { format!("{key} = {inner_key}") } else { "true".to_owned() };
        let not = if self.chance(0.3) { "NOT " } else { "" };
        let count = |condition: &str| format!("(SELECT count(*) FROM {from} WHERE {by} AND {condition})");
        if !names(&outer.columns, &x) || self.chance(0.4) {
            let own = mild(&mut self.rng, &inner.columns);
            let streamed = format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {by} AND {own})");
            let batched = format!("({not}({} > 0))", count(&own));
            return self.twin(streamed, batched);
        }
        let streamed = format!("{x} {not}IN (SELECT {y} FROM {from} WHERE {by})");
        self.twin(streamed, format!("({not}{})", counted_in(&x, &y, from, &by)))
    }

    /// NOT IN of a subquery with a condition on the row outside: DataFusion's join for it has one key.
    fn not_in(&mut self, x: &str, y: &str, from: &str, by: &str) -> String {
        let streamed = format!("{x} NOT IN (SELECT {y} FROM {from} WHERE {by})");
        self.twin(streamed, format!("(NOT {})", counted_in(x, y, from, by)))
    }

    /// A subquery that stands for a value, with and without the row outside.
    fn value(&mut self, outer: &Relation) -> String {
        let inner = self.table();
        let (key, inner_key) = self.pair(outer, &inner, Kind::Int);
        let number = scalar(&mut self.rng, &inner.columns, Kind::Int, 0);
        let call = match self.rng.random_range(0..4) {
            0 => "count(*)".to_owned(),
            1 => format!("max({number})"),
            2 => format!("count(DISTINCT {number})"),
            _ => format!("sum({number})"),
        };
        if self.chance(0.1) {
            // Nobody says that there is one group only. (Nor does DataFusion know that there may be none: no counts.)
            let one = self.rng.random_range(-3..6);
            return format!(
                "(SELECT max({number}) FROM {} WHERE {inner_key} = {one} GROUP BY {inner_key})",
                inner.from
            );
        }
        let correlated = if self.chance(0.6) { format!(" WHERE {key} = {inner_key}") } else { String::new() };
        format!("(SELECT {call} FROM {}{correlated})", inner.from)
    }
}

/// IN, as the batch says it by counting.
fn counted_in(x: &str, y: &str, from: &str, by: &str) -> String {
    let count = |condition: &str| format!("(SELECT count(*) FROM {from} WHERE {by} AND {condition})");
    format!(
        "CASE WHEN {} > 0 THEN true WHEN {} > 0 OR ({x} IS NULL AND {} > 0) THEN NULL ELSE false END",
        count(&format!("{x} = {y}")),
        count(&format!("{y} IS NULL")),
        count("true"),
    )
}
