//! Aggregates without windows: GROUP BY, GROUPING SETS, HAVING.

use rand::Rng;

use super::super::aggregate::aggregate;
use super::super::expression::{Column, Kind, names, scalar};
use super::{Author, Query, Relation};

impl Author<'_> {
    /// Group keys: their texts, and as columns of the result.
    pub(super) fn keys(&mut self, from: &[Column], most: usize) -> (Vec<String>, Vec<String>, Vec<Column>) {
        let (mut texts, mut items, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rng.random_range(0..=most) {
            let kind = Kind::any(&mut self.rng);
            let depth = u32::from(self.chance(0.2));
            let text = scalar(&mut self.rng, from, kind, depth);
            // A constant is no key: `GROUP BY 3` would mean the third column.
            if names(from, &text) && !texts.contains(&text) {
                let name = self.name("c");
                items.push(format!("{text} AS {name}"));
                texts.push(text);
                columns.push(Column::new(name, kind));
            }
        }
        (texts, items, columns)
    }

    pub(super) fn aggregates(&mut self, from: &[Column], items: &mut Vec<String>, columns: &mut Vec<Column>) {
        for _ in 0..self.rng.random_range(1..4) {
            let (text, kind, exact) = aggregate(&mut self.rng, from);
            let name = self.name("c");
            items.push(format!("{text} AS {name}"));
            columns.push(Column { name, kind, exact });
        }
    }

    /// A condition that many groups satisfy.
    pub(super) fn having(&mut self, from: &[Column]) -> String {
        match self.rng.random_range(0..10) {
            0 => format!(" HAVING count(*) > {}", self.rng.random_range(0..3)),
            1 => format!(" HAVING count(*) % 2 = {} OR count(*) > 4", self.rng.random_range(0..2)),
            2 => {
                let number = scalar(&mut self.rng, from, Kind::Int, 0);
                format!(" HAVING max({number}) > -2 OR min({number}) IS NULL")
            }
            _ => String::new(),
        }
    }

    /// The group expressions, perhaps in several sets; then `grouping` may be one more item.
    fn grouping(&mut self, keys: &[String], items: &mut Vec<String>, columns: &mut Vec<Column>) -> String {
        let all = keys.join(", ");
        let sets = match self.rng.random_range(0..9) {
            0 => format!("ROLLUP ({all})"),
            1 => format!("CUBE ({all})"),
            2 => format!("GROUPING SETS (({all}), ({}))", keys[0]),
            3 => format!("GROUPING SETS (({all}), ())"),
            _ => return all,
        };
        if self.chance(0.4) {
            let name = self.name("c");
            items.push(format!("grouping({}) AS {name}", keys[keys.len() - 1]));
            columns.push(Column::new(name, Kind::Int));
        }
        sets
    }

    /// A running aggregate, or DISTINCT.
    pub(super) fn grouped(&mut self, from: &Relation) -> Query {
        let (keys, mut items, mut columns) = self.keys(&from.columns, 3);
        let (append_only, rows) = (false, from.rows);
        if !keys.is_empty() && self.chance(0.1) {
            let text = format!("SELECT DISTINCT {} FROM {}", items.join(", "), from.from);
            return Query { text, columns, append_only, rows };
        }
        self.aggregates(&from.columns, &mut items, &mut columns);
        let condition = self.filter(&from.columns, 0.25);
        let (group, having) = match keys.is_empty() {
            true => (String::new(), String::new()),
            false => {
                let grouping = self.grouping(&keys, &mut items, &mut columns);
                let having = match self.chance(0.1) {
                    true => self.having_subquery(from),
                    false => self.having(&from.columns),
                };
                (format!(" GROUP BY {grouping}"), having)
            }
        };
        let text = format!("SELECT {} FROM {}{condition}{group}{having}", items.join(", "), from.from);
        Query { text, columns, append_only, rows }
    }

    /// HAVING with a subquery in it.
    fn having_subquery(&mut self, from: &Relation) -> String {
        let inner = self.table();
        let number = scalar(&mut self.rng, &from.columns, Kind::Int, 0);
        let value = scalar(&mut self.rng, &inner.columns, Kind::Int, 0);
        match self.rng.random_range(0..3) {
            0 => format!(" HAVING count(*) < (SELECT count(*) FROM {})", inner.from),
            1 if names(&from.columns, &number) => {
                format!(" HAVING max({number}) IN (SELECT {value} FROM {})", inner.from)
            }
            _ => format!(" HAVING EXISTS (SELECT 1 FROM {} WHERE {value} > 2)", inner.from),
        }
    }
}
