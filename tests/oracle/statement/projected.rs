//! Projections, filters, and DISTINCT.

use rand::Rng;

use super::super::expression::{Column, Kind, column, mild, scalar};
use super::{Author, Query, Relation};

impl Author<'_> {
    pub(super) fn projection(&mut self, from: &Relation, filtered: bool) -> Query {
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for _ in 0..self.rng.random_range(1..6) {
            let name = self.name("c");
            if self.chance(0.6) {
                let column = from.columns[self.rng.random_range(0..from.columns.len())].clone();
                items.push(format!("{} AS {name}", column.name));
                columns.push(Column { name, ..column });
            } else {
                let kind = Kind::any(&mut self.rng);
                let depth = self.rng.random_range(0..3);
                items.push(format!("{} AS {name}", scalar(&mut self.rng, &from.columns, kind, depth)));
                columns.push(Column::new(name, kind));
            }
        }
        let condition = if filtered { self.filter(&from.columns, 0.4) } else { String::new() };
        let text = format!("SELECT {} FROM {}{condition}", items.join(", "), from.from);
        Query { text, columns, append_only: from.append_only, rows: from.rows }
    }

    /// Rows that come, or go, as time passes.
    pub(super) fn passing(&mut self, from: &Relation) -> Query {
        let Some(time) = column(&mut self.rng, &from.columns, Kind::Time) else { return self.projection(from, true) };
        let mut far = || format!("INTERVAL '{}' SECOND", self.rng.random_range(0..40));
        let (one, other) = (far(), far());
        let condition = match self.rng.random_range(0..5) {
            0 => format!("{time} > now() - {one}"),
            1 => format!("{time} <= now() + {one}"),
            2 => format!("{time} - {one} < now()"),
            3 => format!("now() < {time} + {one}"),
            _ => format!("{time} >= now() - {one} AND {time} < now() + {other}"),
        };
        let mut query = self.projection(from, false);
        query.text.push_str(&format!(" WHERE {condition}{}", if self.chance(0.2) { " AND true" } else { "" }));
        Query { append_only: false, ..query }
    }

    /// WHERE, or nothing.
    pub(super) fn filter(&mut self, columns: &[Column], probability: f64) -> String {
        match self.chance(probability) {
            true => format!(" WHERE {}", mild(&mut self.rng, columns)),
            false => String::new(),
        }
    }

    /// DISTINCT.
    pub(super) fn distinct(&mut self, from: &Relation) -> Query {
        let exact: Vec<Column> = from.columns.iter().filter(|column| column.exact).cloned().collect();
        let from = Relation { columns: exact, ..from.clone() };
        if from.columns.is_empty() {
            let table = self.table();
            return self.projection(&table, true);
        }
        let query = self.projection(&from, true);
        Query { text: query.text.replacen("SELECT", "SELECT DISTINCT", 1), ..query }
    }
}
