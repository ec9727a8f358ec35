//! EMIT: when results are shown, and how corrections look; and queries whose results are shown in a way of their own.

use rand::Rng;
use rand::rngs::SmallRng;

use super::super::expression::{Column, Kind, column};
use super::super::said::Fold;
use super::sources::table_columns;
use super::{Author, Query, Relation};

/// How a statement shows its corrections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Corrections {
    /// As changes of the result.
    Plain,
    /// As a changelog: any statement.
    Stream,
    /// ACCUMULATING: an aggregate whose groups are shown.
    Replaced { stream: bool },
    /// DISCARDING: an aggregate of rows that only come, which can be made of its parts.
    Parts { stream: bool },
}

impl Corrections {
    /// One of them; most statements are plain.
    pub(super) fn random(rng: &mut SmallRng) -> Self {
        let stream = rng.random_bool(0.5);
        match rng.random_range(0..24) {
            0 | 1 => Self::Stream,
            2 => Self::Replaced { stream },
            3 => Self::Parts { stream },
            _ => Self::Plain,
        }
    }
}

impl Author<'_> {
    /// EMIT, if something is to be said. `early`: results are held back for some seconds, and then are the answer so far.
    pub(super) fn emit(&mut self, early: bool) -> String {
        let (stream, mode) = match self.corrections {
            Corrections::Plain => (false, ""),
            Corrections::Stream => (true, [" RETRACTING", ""][self.rng.random_range(0..2)]),
            Corrections::Replaced { stream } => (stream, " ACCUMULATING"),
            Corrections::Parts { stream } => (stream, " DISCARDING"),
        };
        let mut triggers = Vec::new();
        if early {
            triggers.push(format!("AFTER DELAY INTERVAL '{}' SECOND", self.rng.random_range(1..6)));
            if self.chance(0.4) {
                triggers.push(format!("AFTER {} ROWS", self.rng.random_range(1..20)));
            }
        }
        if self.after_watermark {
            triggers.push("AFTER WATERMARK".to_owned());
        }
        let mut emit = if stream { " STREAM".to_owned() } else { String::new() };
        if !triggers.is_empty() {
            emit.push_str(&format!(" {}", triggers.join(" AND ")));
        }
        if self.lateness > 0 {
            emit.push_str(&format!(" ALLOWED LATENESS INTERVAL '{}' SECOND", self.lateness));
        }
        emit.push_str(mode);
        if emit.is_empty() { emit } else { format!(" EMIT{emit}") }
    }

    /// An aggregate that shows its groups.
    pub(super) fn keyed_aggregate(&mut self) -> Query {
        let depth = self.rng.random_range(0..3);
        let from = self.relation(depth);
        let (keys, mut items, mut columns) = self.keys(&from.columns, 3);
        self.aggregates(&from.columns, &mut items, &mut columns);
        let condition = self.filter(&from.columns, 0.25);
        let group = match keys.is_empty() {
            true => String::new(),
            false => format!(" GROUP BY {}{}", keys.join(", "), self.having(&from.columns)),
        };
        let text = format!("SELECT {} FROM {}{condition}{group}", items.join(", "), from.from);
        Query { text, columns, append_only: false, rows: from.rows }
    }

    /// An aggregate that can be made of its parts, of rows that only come, if there are some.
    pub(super) fn partial_aggregate(&mut self) -> Option<Query> {
        let from: Relation = if self.after_watermark { self.growing_expanded() } else { self.growing_table()? };
        if !from.append_only {
            return None;
        }
        let own = table_columns("").len().min(from.columns.len());
        let (mut keys, mut items, mut columns) = self.keys(&from.columns[..own], 2);
        if self.after_watermark {
            for bound in &from.columns[from.columns.len() - 2..] {
                let name = self.name("c");
                items.push(format!("{} AS {name}", bound.name));
                columns.push(Column::new(name, Kind::Time));
                keys.push(bound.name.clone());
            }
        }
        if keys.is_empty() {
            let name = self.name("c");
            items.push(format!("{} AS {name}", from.columns[1].name));
            columns.push(Column::new(name, Kind::Int));
            keys.push(from.columns[1].name.clone());
        }
        self.folds = vec![Fold::Key; items.len()];
        for _ in 0..self.rng.random_range(1..4) {
            let kind = [Kind::Int, Kind::Int, Kind::Text, Kind::Time][self.rng.random_range(0..4)];
            let argument = column(&mut self.rng, &from.columns[..own], kind)?;
            let (call, kind, fold) = match (self.rng.random_range(0..5), kind) {
                (0, _) => ("count(*)".to_owned(), Kind::Int, Fold::Sum),
                (1, _) => (format!("count({argument})"), Kind::Int, Fold::Sum),
                (2, Kind::Int) => (format!("sum({argument})"), Kind::Int, Fold::Sum),
                (3, _) => (format!("min({argument})"), kind, Fold::Least),
                _ => (format!("max({argument})"), kind, Fold::Greatest),
            };
            let name = self.name("c");
            items.push(format!("{call} AS {name}"));
            columns.push(Column::new(name, kind));
            self.folds.push(fold);
        }
        let condition = self.filter(&from.columns, 0.25);
        let text = format!("SELECT {} FROM {}{condition} GROUP BY {}", items.join(", "), from.from, keys.join(", "));
        Some(Query { text, columns, append_only: true, rows: from.rows })
    }
}
