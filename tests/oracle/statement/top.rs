//! Top-N, deduplication, DISTINCT ON and ORDER BY … LIMIT.

use rand::Rng;

use super::super::expression::{Column, Kind};
use super::{Author, Query, Relation};

impl Author<'_> {
    /// The first rows of each partition; `partition` by these columns of the relation at least.
    pub(super) fn top(&mut self, from: &Relation, open: bool, partition: &[usize]) -> Query {
        let from = &self.readable(from);
        let mut read = self.read(from);
        for (place, column) in partition.iter().enumerate() {
            let column = &from.columns[*column];
            read.retain(|other| other.name != column.name);
            read.insert(place, column.clone());
        }
        let mut window = self.window(&read, 2);
        for column in partition.iter().map(|column| &from.columns[*column].name) {
            let mentions = |other: &String| other == column || other.starts_with(&format!("{column} "));
            if !window.partition.contains(column) {
                window.partition.push(column.clone());
            }
            window.order.retain(|other| !mentions(other));
            window.rest.retain(|other| !mentions(other));
        }
        let number = match self.rng.random_range(0..5) {
            0 => format!("rank() {}", window.with_peers("")),
            1 => format!("dense_rank() {}", window.with_peers("")),
            _ => format!("row_number() {}", window.complete("", open)),
        };
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        self.shown(&read, &mut items, &mut columns);
        let (rank, alias) = (self.name("n"), self.name("a"));
        let inner = format!("SELECT {}, {number} AS {rank} FROM {}", items.join(", "), from.from);
        let mut outer: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        if self.chance(0.4) {
            let name = self.name("c");
            outer.push(format!("CAST({rank} AS BIGINT) AS {name}"));
            columns.push(Column::new(name, Kind::Int));
        }
        let n = self.rng.random_range(2..6);
        let condition = |number: &str, which: u32| match which {
            0 => format!("{number} = {}", n - 1),
            1 => format!("{number} < {n}"),
            2 => format!("{number} BETWEEN 2 AND {n}"),
            _ => format!("{number} <= {n}"),
        };
        let which = self.rng.random_range(0..6);
        let text = match outer.len() == items.len() && self.chance(0.2) {
            true => format!("SELECT {} FROM {} QUALIFY {}", items.join(", "), from.from, condition(&number, which)),
            false => {
                format!("SELECT {} FROM ({inner}) AS {alias} WHERE {}", outer.join(", "), condition(&rank, which))
            }
        };
        Query { text, columns, append_only: false, rows: from.rows }
    }

    pub(super) fn distinct_on(&mut self, from: &Relation, open: bool) -> Query {
        let from = &self.readable(from);
        let read = self.read(from);
        let mut window = self.window(&read, 2);
        if window.partition.is_empty() {
            let column = read[0].name.clone();
            let mentions = |other: &String| *other == column || other.starts_with(&format!("{column} "));
            window.order.retain(|other| !mentions(other));
            window.rest.retain(|other| !mentions(other));
            window.partition.push(column);
        }
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        self.shown(&read, &mut items, &mut columns);
        let on = window.partition.join(", ");
        let sorted = |order: &[String]| {
            let all: Vec<String> = window.partition.iter().chain(order).cloned().collect();
            all.join(", ")
        };
        let full = sorted(&window.full_order());
        let order = match open {
            true => format!("⟪{}|{full}⟫", sorted(&window.order)),
            false => full,
        };
        let text = format!("SELECT DISTINCT ON ({on}) {} FROM {} ORDER BY {order}", items.join(", "), from.from);
        Query { text, columns, append_only: false, rows: from.rows }
    }

    pub(super) fn limit(&mut self, from: &Relation, open: bool) -> Query {
        let from = &self.readable(from);
        let read = self.read(from);
        let window = self.window(&read, 0);
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        self.shown(&read, &mut items, &mut columns);
        let full = window.full_order().join(", ");
        let order = match open && !window.order.is_empty() {
            true => format!("⟪{}|{full}⟫", window.order.join(", ")),
            false => full,
        };
        let offset = if self.chance(0.3) { format!(" OFFSET {}", self.rng.random_range(0..4)) } else { String::new() };
        let limit = self.rng.random_range(1..12);
        let text = format!("SELECT {} FROM {} ORDER BY {order} LIMIT {limit}{offset}", items.join(", "), from.from);
        Query { text, columns, append_only: false, rows: limit }
    }
}
