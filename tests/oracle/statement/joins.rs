//! Random joins, set operations and subqueries.

use rand::Rng;

use super::super::expression::{Column, Kind, scalar};
use super::{Author, MOST_JOINED, Query, Relation, twin};

impl Author<'_> {
    /// Two relations joined in one of all ways.
    pub(super) fn joined(&mut self, left: &Relation, right: &Relation, mut on: Vec<String>) -> Query {
        let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        if self.chance(0.4) {
            on.push(scalar(&mut self.rng, &columns, Kind::Bool, 1));
        }
        let on = on.join(" AND ");
        let rows = (left.rows * right.rows / 5).max(1).max(left.rows + right.rows);
        let append_only = left.append_only && right.append_only;
        let (how, unmatched) = match self.rng.random_range(0..10) {
            0 | 1 => ("LEFT JOIN", true),
            2 => ("RIGHT JOIN", true),
            3 => ("FULL JOIN", true),
            4 | 5 => {
                let not = if self.chance(0.5) { "NOT " } else { "" };
                let from = format!("{} WHERE {not}EXISTS (SELECT 1 FROM {} WHERE {on})", left.from, right.from);
                let (columns, rows) = (left.columns.clone(), left.rows);
                let append_only = append_only && not.is_empty();
                return self.projection(&Relation { from, columns, append_only, rows }, false);
            }
            _ => ("JOIN", false),
        };
        let from = format!("{} {how} {} ON {on}", left.from, right.from);
        self.projection(&Relation { from, columns, append_only: append_only && !unmatched, rows }, true)
    }

    /// Two streams whose times lie near each other.
    pub(super) fn interval_join(&mut self) -> Query {
        let (left, right) = (self.table(), self.table());
        let (l, r) = (left.columns[0].name.clone(), right.columns[0].name.clone());
        let mut seconds = || self.rng.random_range(-3..30);
        let (before, after) = (seconds(), seconds());
        let near = match self.rng.random_range(0..3) {
            0 => format!("{l} BETWEEN {r} - INTERVAL '{before}' SECOND AND {r} + INTERVAL '{after}' SECOND"),
            1 => format!("{r} >= {l} - INTERVAL '{before}' SECOND AND {r} < {l} + INTERVAL '{after}' SECOND"),
            _ => format!("{l} - INTERVAL '{before}' SECOND <= {r} AND {l} + INTERVAL '{after}' SECOND > {r}"),
        };
        let key = format!("{} = {}", left.columns[1].name, right.columns[1].name);
        self.joined(&left, &right, vec![key, near])
    }

    /// Columns of some kinds, one query for each side.
    fn sides(&mut self, depth: u32) -> ([String; 2], Vec<Column>, [Relation; 2]) {
        let relations = [self.relation(depth), self.relation(depth)];
        let kinds: Vec<Kind> = (0..self.rng.random_range(1..4))
            .map(|_| [Kind::Int, Kind::Text, Kind::Bool, Kind::Int][self.rng.random_range(0..4)])
            .collect();
        let names: Vec<String> = kinds.iter().map(|_| self.name("c")).collect();
        let texts = [0, 1].map(|side| {
            let from: &Relation = &relations[side];
            let items: Vec<String> = kinds
                .iter()
                .zip(&names)
                .map(|(kind, name)| {
                    let text = scalar(&mut self.rng, &from.columns, *kind, 0);
                    let text = if *kind == Kind::Int { format!("CAST({text} AS BIGINT)") } else { text };
                    format!("{text} AS {name}")
                })
                .collect();
            format!("SELECT {} FROM {}", items.join(", "), from.from)
        });
        let columns = kinds.iter().zip(names).map(|(kind, name)| Column { name, kind: *kind, exact: true }).collect();
        (texts, columns, relations)
    }

    /// INTERSECT or EXCEPT. DataFusion's `ALL` does not count copies: the batch says it with numbered rows.
    pub(super) fn set_operation(&mut self, depth: u32) -> Query {
        let ([left, right], columns, relations) = self.sides(depth);
        let (word, append_only) = if self.chance(0.5) { ("INTERSECT", true) } else { ("EXCEPT", false) };
        let append_only = append_only && relations.iter().all(|relation| relation.append_only);
        let rows = relations[0].rows;
        if self.chance(0.5) {
            return (format!("{left} {word} {right}"), columns, append_only, rows);
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let names = names.join(", ");
        let (copies, of_left, of_right, both) = (self.name("c"), self.name("a"), self.name("a"), self.name("a"));
        let numbered = |query: &str, alias: &str| {
            format!("SELECT {names}, row_number() OVER (PARTITION BY {names}) AS {copies} FROM ({query}) AS {alias}")
        };
        let batch = format!(
            "SELECT {names} FROM ({} {word} {}) AS {both}",
            numbered(&left, &of_left),
            numbered(&right, &of_right)
        );
        let text = twin(self.twins.len());
        self.twins.push((format!("{left} {word} ALL {right}"), batch));
        (text, columns, append_only, rows)
    }

    /// DISTINCT.
    pub(super) fn distinct(&mut self, from: &Relation) -> Query {
        let exact: Vec<Column> = from.columns.iter().filter(|column| column.exact).cloned().collect();
        let from = Relation { from: from.from.clone(), columns: exact, ..*from };
        if from.columns.is_empty() {
            let table = self.table();
            return self.projection(&table, true);
        }
        let (query, columns, append_only, rows) = self.projection(&from, true);
        (query.replacen("SELECT", "SELECT DISTINCT", 1), columns, append_only, rows)
    }

    /// A query with subqueries in WHERE, and perhaps as a value.
    pub(super) fn with_subqueries(&mut self, outer: &Relation) -> Query {
        let mut outer = Relation { from: outer.from.clone(), columns: outer.columns.clone(), ..*outer };
        if outer.rows * outer.rows > MOST_JOINED * 4 {
            outer = self.table();
        }
        let mut conditions = vec![self.subquery_condition(&outer)];
        if self.chance(0.3) {
            let other = self.subquery_condition(&outer);
            conditions = match self.rng.random_range(0..3) {
                0 => vec![format!("({} OR {other})", conditions[0])],
                _ => vec![conditions.remove(0), other],
            };
        }
        if self.chance(0.3) {
            conditions.push(scalar(&mut self.rng, &outer.columns, Kind::Bool, 1));
        }
        let (mut query, mut columns, _, rows) = self.projection(&outer, false);
        if self.chance(0.3) {
            let name = self.name("c");
            let value = self.value(&outer);
            query = query.replacen("SELECT ", &format!("SELECT {value} AS {name}, "), 1);
            columns.insert(0, Column { name, kind: Kind::Int, exact: true });
        }
        (format!("{query} WHERE {}", conditions.join(" AND ")), columns, false, rows)
    }

    /// The outer row's column of a kind, if it has one, and the inner's.
    fn pair(&mut self, outer: &Relation, inner: &Relation, kind: Kind) -> (String, String) {
        (scalar(&mut self.rng, &outer.columns, kind, 0), scalar(&mut self.rng, &inner.columns, kind, 0))
    }

    fn subquery_condition(&mut self, outer: &Relation) -> String {
        let inner = self.table();
        let kind = [Kind::Int, Kind::Text][self.rng.random_range(0..2)];
        let (of_outer, of_inner) = self.pair(outer, &inner, kind);
        let (key, inner_key) = self.pair(outer, &inner, Kind::Int);
        let own = scalar(&mut self.rng, &inner.columns, Kind::Bool, 1);
        let from = &inner.from;
        let not = if self.chance(0.4) { "NOT " } else { "" };
        match self.rng.random_range(0..8) {
            0 => format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {key} = {inner_key} AND {own})"),
            1 => format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {key} < {inner_key} AND {own})"),
            // DataFusion forgets the NULLs of the subquery where a constant is NOT IN it.
            2 | 3 if not.is_empty() || outer.columns.iter().any(|column| column.name == of_outer) => {
                format!("{of_outer} {not}IN (SELECT {of_inner} FROM {from} WHERE {own})")
            }
            2..=4 => format!("{of_outer} IN (SELECT {of_inner} FROM {from} WHERE {key} = {inner_key})"),
            5 => {
                let (op, quantifier) =
                    (["=", "<", ">=", "<>"][self.rng.random_range(0..4)], ["ANY", "ALL"][self.rng.random_range(0..2)]);
                format!("{key} {op} {quantifier} (SELECT {inner_key} FROM {from} WHERE {own})")
            }
            6 => format!("{key} < {}", self.value(outer)),
            _ => format!("{} IS NULL", self.value(outer)),
        }
    }

    /// A subquery that stands for a value, with and without the row outside.
    fn value(&mut self, outer: &Relation) -> String {
        let inner = self.table();
        let (key, inner_key) = self.pair(outer, &inner, Kind::Int);
        let number = scalar(&mut self.rng, &inner.columns, Kind::Int, 0);
        let call = match self.rng.random_range(0..3) {
            0 => "count(*)".to_owned(),
            1 => format!("max({number})"),
            _ => format!("sum({number})"),
        };
        let correlated = if self.chance(0.6) { format!(" WHERE {key} = {inner_key}") } else { String::new() };
        format!("(SELECT {call} FROM {}{correlated})", inner.from)
    }
}
