//! UNION, INTERSECT and EXCEPT, each ALL and DISTINCT.

use rand::Rng;

use super::super::expression::{Column, Kind, scalar};
use super::{Author, Query, Relation};

impl Author<'_> {
    /// Columns of some kinds, one query for each side. In half of the cases both sides read the same, under different
    /// conditions, so that rows are equal.
    fn sides(&mut self, depth: u32) -> ([String; 2], Vec<Column>, [Relation; 2]) {
        let left = self.relation(depth);
        let right = if self.chance(0.5) { left.clone() } else { self.relation(depth) };
        let alike = left.from == right.from;
        let relations = [left, right];
        let kinds: Vec<Kind> = (0..self.rng.random_range(1..4)).map(|_| Kind::any(&mut self.rng)).collect();
        let names: Vec<String> = kinds.iter().map(|_| self.name("c")).collect();
        let mut values: Vec<String> = Vec::new();
        let texts = [0, 1].map(|side| {
            let from: &Relation = &relations[side];
            if side == 0 || !alike {
                values = kinds
                    .iter()
                    .map(|kind| {
                        let depth = u32::from(self.chance(0.2));
                        scalar(&mut self.rng, &from.columns, *kind, depth)
                    })
                    .collect();
            }
            let cast = |(value, kind): (&String, &Kind)| format!("CAST({value} AS {})", kind.type_name());
            let items: Vec<String> = values
                .iter()
                .zip(&kinds)
                .map(cast)
                .zip(&names)
                .map(|(value, name)| format!("{value} AS {name}"))
                .collect();
            let condition = self.filter(&from.columns, if alike { 0.8 } else { 0.2 });
            format!("SELECT {} FROM {}{condition}", items.join(", "), from.from)
        });
        let columns = kinds.iter().zip(names).map(|(kind, name)| Column::new(name, *kind)).collect();
        (texts, columns, relations)
    }

    /// DataFusion's INTERSECT ALL and EXCEPT ALL do not count copies: the batch says it with numbered rows.
    pub(super) fn set_operation(&mut self, depth: u32) -> Query {
        let ([left, right], columns, relations) = self.sides(depth);
        let appended = relations.iter().all(|relation| relation.append_only);
        let rows = relations[0].rows;
        let (word, append_only) = match self.rng.random_range(0..6) {
            0 | 1 => {
                let rows = rows + relations[1].rows;
                return Query { text: format!("{left} UNION ALL {right}"), columns, append_only: appended, rows };
            }
            2 => {
                let rows = rows + relations[1].rows;
                return Query { text: format!("{left} UNION {right}"), columns, append_only: appended, rows };
            }
            3 => ("INTERSECT", appended),
            _ => ("EXCEPT", false),
        };
        if self.chance(0.5) {
            return Query { text: format!("{left} {word} {right}"), columns, append_only, rows };
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
        let text = self.twin(format!("{left} {word} ALL {right}"), batch);
        Query { text, columns, append_only, rows }
    }
}
