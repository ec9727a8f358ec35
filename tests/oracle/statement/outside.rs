//! Subqueries that name the row outside in ways that DataFusion has no join for: below an aggregate by another comparison than
//! an equality, and from a query further in. The batch says the joins.

use rand::Rng;

use super::super::expression::{Column, Kind, mild, scalar};
use super::sources::carried;
use super::{Author, Query, Relation};

impl Author<'_> {
    /// Each row of a table beside what an aggregate makes of the rows that it compares with.
    pub(super) fn summed_of_each(&mut self) -> Query {
        let (outer, inner) = (self.table(), self.table());
        let (key, inner_key) = self.pair(&outer, &inner, Kind::Int);
        let (own, value) = (mild(&mut self.rng, &inner.columns), scalar(&mut self.rng, &inner.columns, Kind::Int, 0));
        let op = ["<", ">=", "<>"][self.rng.random_range(0..3)];
        let (call, none) =
            [("count(*)".to_owned(), "0"), (format!("sum({value})"), "NULL"), (format!("max({value})"), "NULL")]
                [self.rng.random_range(0..3)]
            .clone();
        let (alias, all, hidden, number) = (self.name("a"), self.name("a"), self.name("h"), self.name("l"));
        let query = format!("SELECT {call} AS {number} FROM {} WHERE {key} {op} {inner_key} AND {own}", inner.from);
        let (carried, handed) = carried(&outer.columns);
        let of_each = format!(
            "SELECT {alias}.{hidden}, {call} AS {number} FROM (SELECT DISTINCT {key} AS {hidden} FROM {}) AS {alias} JOIN {} \
             ON {alias}.{hidden} {op} {inner_key} AND {own} GROUP BY {alias}.{hidden}",
            outer.from, inner.from
        );
        let other = self.name("a");
        let batched = format!(
            "(SELECT {carried}, CASE WHEN {other}.{hidden} IS NULL THEN {none} ELSE {other}.{number} END AS {number} \
             FROM {} LEFT JOIN ({of_each}) AS {other} ON {key} = {other}.{hidden}) AS {all}",
            outer.from
        );
        let mut columns = outer.columns.clone();
        columns.push(Column::new(number.clone(), Kind::Int));
        let streamed = format!("{}, LATERAL ({query}) AS {}", outer.from, self.name("a"));
        let rows = outer.rows;
        let query = self.over_twin(&outer, columns, handed, &all, (streamed, batched), rows);
        Query { append_only: false, ..query }
    }

    /// EXISTS with EXISTS within, where the innermost names the outermost row.
    pub(super) fn further_out(&mut self, outer: &Relation) -> String {
        let (middle, inner) = (self.table(), self.table());
        let (key, middle_key) = self.pair(outer, &middle, Kind::Int);
        let (link, inner_link) = self.pair(&middle, &inner, Kind::Int);
        let (far, inner_far) = self.pair(outer, &inner, Kind::Int);
        let op = ["=", "<", "<>"][self.rng.random_range(0..3)];
        let not = if self.chance(0.3) { "NOT " } else { "" };
        let (alias, one, other) = (self.name("a"), self.name("h"), self.name("h"));
        let (middle, inner) = (&middle.from, &inner.from);
        let streamed = format!(
            "{not}EXISTS (SELECT 1 FROM {middle} WHERE {key} = {middle_key} AND EXISTS \
             (SELECT 1 FROM {inner} WHERE {link} = {inner_link} AND {far} {op} {inner_far}))"
        );
        let batched = format!(
            "{not}EXISTS (SELECT 1 FROM (SELECT {middle_key} AS {one}, {inner_far} AS {other} FROM {middle} JOIN {inner} \
             ON {link} = {inner_link}) AS {alias} WHERE {key} = {alias}.{one} AND {far} {op} {alias}.{other})"
        );
        self.twin(streamed, batched)
    }
}
