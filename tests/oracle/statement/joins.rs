//! Joins: of every kind, by equality and by anything else, of two and of many.

use rand::Rng;

use super::super::expression::{Column, Kind, column, mild, names, scalar};
use super::sources::own_name;
use super::{Author, MOST_JOINED, Query, Relation};

impl Author<'_> {
    /// Two relations joined in one of all ways, and a query over the pairs.
    pub(super) fn joined(&mut self, left: &Relation, right: &Relation, mut on: Vec<String>) -> Query {
        let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        if self.chance(0.3) {
            on.push(mild(&mut self.rng, &columns));
        }
        let on = on.join(" AND ");
        let append_only = left.append_only && right.append_only;
        match self.rng.random_range(0..12) {
            0 | 1 => {
                let not = if self.chance(0.5) { "NOT " } else { "" };
                let from = format!("{} WHERE {not}EXISTS (SELECT 1 FROM {} WHERE {on})", left.from, right.from);
                let append_only = append_only && not.is_empty();
                self.projection(&Relation { from, append_only, ..left.clone() }, false)
            }
            2 => {
                let (how, append_only) =
                    if self.chance(0.5) { ("LEFT SEMI JOIN", append_only) } else { ("LEFT ANTI JOIN", false) };
                let from = format!("{} {how} {} ON {on}", left.from, right.from);
                self.projection(&Relation { from, append_only, ..left.clone() }, true)
            }
            _ => {
                let relation = self.paired(left, right, &on);
                self.projection(&relation, true)
            }
        }
    }

    /// Two relations as one, by a join that has the columns of both.
    fn paired(&mut self, left: &Relation, right: &Relation, on: &str) -> Relation {
        let (how, unmatched) = match self.rng.random_range(0..8) {
            0 | 1 => ("LEFT JOIN", true),
            2 => ("RIGHT JOIN", true),
            3 | 4 => ("FULL JOIN", true),
            _ => ("JOIN", false),
        };
        Relation {
            from: format!("{} {how} {} ON {on}", left.from, right.from),
            columns: left.columns.iter().chain(&right.columns).cloned().collect(),
            append_only: left.append_only && right.append_only && !unmatched,
            rows: (left.rows * right.rows / 5).max(1).max(left.rows + right.rows),
        }
    }

    /// Two streams whose times lie near each other.
    pub(super) fn interval_join(&mut self) -> Query {
        let (left, right) = (self.growing(), self.growing());
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

    /// What binds two relations: one or two equalities of columns, if they have some of the same kind.
    fn equalities(&mut self, left: &Relation, right: &Relation) -> Vec<String> {
        let mut on = Vec::new();
        for _ in 0..self.rng.random_range(1..=2) {
            let kind = [Kind::Int, Kind::Int, Kind::Text, Kind::Time, Kind::Great][self.rng.random_range(0..5)];
            let depth = u32::from(self.chance(0.15));
            let pair =
                (scalar(&mut self.rng, &left.columns, kind, depth), scalar(&mut self.rng, &right.columns, kind, depth));
            if names(&left.columns, &pair.0) && names(&right.columns, &pair.1) {
                let equals = if self.chance(0.2) { "IS NOT DISTINCT FROM" } else { "=" };
                on.push(format!("({} {equals} {})", pair.0, pair.1));
            }
        }
        on
    }

    /// A join of two relations.
    pub(super) fn join(&mut self, depth: u32) -> Query {
        let (mut left, mut right) = (self.relation(depth), self.relation(depth));
        if left.rows * right.rows > MOST_JOINED * 4 {
            (left, right) = (self.table(), self.table());
        }
        let small = left.rows * right.rows <= MOST_JOINED / 4;
        match self.rng.random_range(0..10) {
            0 if small => {
                let by = if self.chance(0.5) { " CROSS JOIN " } else { ", " };
                let relation = Relation {
                    from: format!("{}{by}{}", left.from, right.from),
                    columns: left.columns.iter().chain(&right.columns).cloned().collect(),
                    append_only: left.append_only && right.append_only,
                    rows: left.rows * right.rows,
                };
                return self.projection(&relation, true);
            }
            1 if small => {
                let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
                let condition = match (
                    column(&mut self.rng, &left.columns, Kind::Int),
                    column(&mut self.rng, &right.columns, Kind::Int),
                ) {
                    (Some(one), Some(other)) => format!("{one} < {other}"),
                    _ => scalar(&mut self.rng, &columns, Kind::Bool, 1),
                };
                // DataFusion moves a condition without columns below an aggregate that has a row all the same.
                let condition = if names(&columns, &condition) { condition } else { "true".to_owned() };
                return self.joined(&left, &right, vec![condition]);
            }
            2 => return self.natural_join(),
            _ => {}
        }
        let mut on = self.equalities(&left, &right);
        if on.is_empty() {
            (left, right) = (self.table(), self.table());
            on = vec![format!("{} = {}", left.columns[1].name, right.columns[1].name)];
        }
        self.joined(&left, &right, on)
    }

    /// Three or four relations, each joined to those before.
    pub(super) fn joins_of_many(&mut self, depth: u32) -> Query {
        let mut all = self.relation(depth);
        for _ in 0..self.rng.random_range(2..4) {
            let next = self.table();
            if all.rows * next.rows > MOST_JOINED * 2 {
                break;
            }
            let on = self.equalities(&all, &next);
            if !on.is_empty() {
                all = self.paired(&all, &next, &on.join(" AND "));
            }
        }
        if self.chance(0.3) {
            return self.grouped(&all);
        }
        self.projection(&all, true)
    }

    /// NATURAL JOIN and USING: the columns of the same name.
    fn natural_join(&mut self) -> Query {
        let common = [self.name("j"), self.name("j")];
        let count = self.rng.random_range(1..=2);
        let sides = [0, 1].map(|_| {
            let table = self.table();
            let alias = self.name("a");
            let keys = [&table.columns[1], &table.columns[3]].into_iter().zip(&common).take(count);
            let mut items: Vec<String> = keys.map(|(column, name)| format!("{} AS {name}", column.name)).collect();
            let mut columns: Vec<Column> = [Kind::Int, Kind::Text]
                .into_iter()
                .zip(&common)
                .take(count)
                .map(|(kind, name)| Column::new(format!("{alias}.{name}"), kind))
                .collect();
            for column in &table.columns[4..7] {
                let name = self.name("c");
                items.push(format!("{} AS {name}", column.name));
                columns.push(Column { name: format!("{alias}.{name}"), ..column.clone() });
            }
            let from = format!("(SELECT {} FROM {}) AS {alias}", items.join(", "), table.from);
            Relation { from, columns, ..table }
        });
        let [left, right] = &sides;
        let how = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"][self.rng.random_range(0..4)];
        let names: Vec<&str> = left.columns[..count].iter().map(own_name).collect();
        let streamed = match self.chance(0.5) {
            true => format!("{} NATURAL {how} {}", left.from, right.from),
            false => format!("{} {how} {} USING ({})", left.from, right.from, names.join(", ")),
        };
        // DataFusion's merged column is one of the two: the batch says which value it has.
        let pairs: Vec<(&Column, &Column)> = left.columns.iter().zip(&right.columns).take(count).collect();
        let on: Vec<String> = pairs.iter().map(|(one, other)| format!("{} = {}", one.name, other.name)).collect();
        let merged: Vec<Column> = pairs
            .iter()
            .map(|(one, other)| {
                let value = match how {
                    "FULL JOIN" => format!("coalesce({}, {})", one.name, other.name),
                    "RIGHT JOIN" => other.name.clone(),
                    _ => one.name.clone(),
                };
                Column::new(self.twin(own_name(one).to_owned(), value), one.kind)
            })
            .collect();
        let batched = format!("{} {how} {} ON {}", left.from, right.from, on.join(" AND "));
        let from = self.twin(streamed, batched);
        let columns: Vec<Column> = merged.iter().chain(&left.columns).chain(&right.columns).cloned().collect();
        let append_only = left.append_only && right.append_only && how == "JOIN";
        let pairs = Relation { from, columns, append_only, rows: (left.rows * right.rows / 5).max(1) };
        let third = self.table();
        if self.chance(0.6) || pairs.rows * third.rows > MOST_JOINED * 2 {
            return self.projection(&pairs, true);
        }
        // A later condition that names a merged column.
        let on = format!("{} = {}", pairs.columns[0].name, third.columns[1].name);
        let all = self.paired(&pairs, &third, &on);
        self.projection(&all, true)
    }

    /// Two relations with windows, joined on the window and perhaps more.
    pub(super) fn window_join(&mut self) -> Query {
        let left = if self.chance(0.3) { self.growing_expanded() } else { self.windowed_relation() };
        let right = self.windowed_relation();
        let bounds = |relation: &Relation| -> Vec<String> {
            let times = match relation.columns.iter().position(|column| column.name.ends_with("window_start")) {
                Some(start) => &relation.columns[start..],
                None => &relation.columns[..2],
            };
            times.iter().map(|column| column.name.clone()).collect()
        };
        let mut on: Vec<String> =
            bounds(&left).iter().zip(bounds(&right)).map(|(left, right)| format!("{left} = {right}")).collect();
        if self.chance(0.3) {
            on.remove(0);
        }
        self.joined(&left, &right, on)
    }
}
