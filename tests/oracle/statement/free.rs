//! Statements that only another database judges: of forms that the batch side would have to say in other words.
//!
//! One block of SELECT has all of its clauses at once: joins by any condition, subqueries that name rows one or two queries
//! further out, subqueries within those, values of subqueries in expressions, aggregates over all of it.

use rand::Rng;

use super::super::aggregate::aggregate;
use super::super::expression::{Column, Kind, column, mild, names, scalar};
use super::{Author, Query, Relation};

/// How many different kinds of values a subquery compares.
const COMPARED: [Kind; 5] = [Kind::Int, Kind::Int, Kind::Text, Kind::Time, Kind::Great];

/// Pairs of rows that one FROM may make: it may be asked for each row outside.
const MOST: usize = 2_000;

impl Author<'_> {
    /// A query. `outer`: columns of the rows outside that it may name.
    pub(super) fn free(&mut self, depth: u32, outer: &[Column]) -> Query {
        let from = self.free_rows(depth, outer);
        let condition = self.free_where(&from, outer, depth);
        match self.rng.random_range(0..10) {
            0..=3 => self.free_groups(&from, &condition, depth),
            4 => self.free_union(depth, outer),
            _ => self.free_columns(&from, &condition, depth, outer),
        }
    }

    /// What stands in FROM: a few relations, joined.
    fn free_rows(&mut self, depth: u32, outer: &[Column]) -> Relation {
        let mut all = self.free_relation(depth, outer);
        for _ in 0..[0, 0, 0, 1, 1, 2][self.rng.random_range(0..6)] {
            let lateral = depth > 0 && self.chance(0.15);
            let next = match lateral {
                true => {
                    let outside: Vec<Column> = all.columns.iter().chain(outer).cloned().collect();
                    let query = self.free(depth - 1, &outside);
                    self.derived(&format!("LATERAL ({})", query.text), query)
                }
                false => self.free_relation(depth, outer),
            };
            if all.rows * next.rows > MOST {
                break;
            }
            all = self.free_pairs((&all, &next), lateral, depth, outer);
        }
        all
    }

    fn free_relation(&mut self, depth: u32, outer: &[Column]) -> Relation {
        match self.rng.random_range(0..10) {
            0 => self.values(),
            1 | 2 if depth > 0 => {
                let query = self.free(depth - 1, outer);
                self.derived(&format!("({})", query.text), query)
            }
            3 if depth > 0 => self.relation(1),
            _ => self.table(),
        }
    }

    fn free_pairs(
        &mut self,
        (left, right): (&Relation, &Relation),
        lateral: bool,
        depth: u32,
        outer: &[Column],
    ) -> Relation {
        let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let rows = (left.rows * right.rows).max(1);
        let pairs = |from: String| Relation { from, columns: columns.clone(), append_only: false, rows };
        let (how, on) = match self.rng.random_range(0..8) {
            0 => return pairs(format!("{} CROSS JOIN {}", left.from, right.from)),
            1 => return pairs(format!("{}, {}", left.from, right.from)),
            _ if lateral => ("LEFT JOIN", "true".to_owned()),
            2 | 3 => ("LEFT JOIN", self.free_on(left, right)),
            4 => ("RIGHT JOIN", self.free_on(left, right)),
            5 => ("FULL JOIN", self.free_on(left, right)),
            _ => ("JOIN", self.free_on(left, right)),
        };
        // A subquery in the condition: of an outer join it names one of the sides.
        let on = match depth > 0 && !lateral && self.chance(0.2) {
            true => {
                let of = match how {
                    "JOIN" => &columns,
                    _ if self.chance(0.5) => &left.columns,
                    _ => &right.columns,
                };
                format!("({on}) AND {}", self.free_predicate(of, outer, depth))
            }
            false => on,
        };
        let rows = (rows / 5).max(left.rows + right.rows);
        Relation { rows, ..pairs(format!("{} {how} {} ON {on}", left.from, right.from)) }
    }

    /// A condition of a join: of both sides, of one, or of none.
    fn free_on(&mut self, left: &Relation, right: &Relation) -> String {
        let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let mut on = Vec::new();
        for _ in 0..self.rng.random_range(1..=2) {
            on.push(match self.rng.random_range(0..8) {
                0 => mild(&mut self.rng, &left.columns),
                1 => mild(&mut self.rng, &right.columns),
                2 => mild(&mut self.rng, &columns),
                3 => ["true", "1 = 2", "NULL IS NULL"][self.rng.random_range(0..3)].to_owned(),
                _ => self.comparison(&left.columns, &right.columns, 0.7),
            });
        }
        on.join(if self.chance(0.2) { " OR " } else { " AND " })
    }

    /// Two values compared; most often they are to be equal.
    fn comparison(&mut self, left: &[Column], right: &[Column], equal: f64) -> String {
        let kind = COMPARED[self.rng.random_range(0..COMPARED.len())];
        let depth = u32::from(self.chance(0.15));
        let (one, other) = (scalar(&mut self.rng, left, kind, depth), scalar(&mut self.rng, right, kind, 0));
        let op = match self.chance(equal) {
            true => "=",
            false => ["<", ">=", "<>", "IS NOT DISTINCT FROM"][self.rng.random_range(0..4)],
        };
        format!("({one} {op} {other})")
    }

    /// WHERE, or nothing. A query within another one names its row most of the time.
    fn free_where(&mut self, from: &Relation, outer: &[Column], depth: u32) -> String {
        let mut conditions = Vec::new();
        if !outer.is_empty() && self.chance(0.8) {
            conditions.push(self.comparison(&from.columns, outer, 0.75));
        }
        if self.chance(0.3) {
            conditions.push(mild(&mut self.rng, &from.columns));
        }
        if depth > 0 && self.chance(0.5) {
            let one = self.free_predicate(&from.columns, outer, depth);
            conditions.push(match self.rng.random_range(0..6) {
                0 => format!("({one} OR {})", mild(&mut self.rng, &from.columns)),
                1 => format!("({one} OR {})", self.free_predicate(&from.columns, outer, depth)),
                2 => format!("({one}) IS NOT TRUE"),
                3 => format!("NOT ({one} AND {})", mild(&mut self.rng, &from.columns)),
                _ => one,
            });
        }
        match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        }
    }

    /// A condition with a subquery in it, of rows with these columns.
    fn free_predicate(&mut self, columns: &[Column], outer: &[Column], depth: u32) -> String {
        let outside: Vec<Column> = columns.iter().chain(outer).cloned().collect();
        let (not, depth) = (if self.chance(0.35) { "NOT " } else { "" }, depth - 1);
        let kind = COMPARED[self.rng.random_range(0..COMPARED.len())];
        let value = scalar(&mut self.rng, columns, kind, 0);
        match self.rng.random_range(0..9) {
            0 => {
                let query = self.free(depth, &outside);
                // How many there are counts, not which.
                let limit = ["", "", "", " LIMIT 2", " LIMIT 0", " OFFSET 1"][self.rng.random_range(0..6)];
                format!("{not}EXISTS ({}{limit})", query.text)
            }
            1 => {
                // One row, whatever it reads.
                let from = self.free_rows(depth, &outside);
                let condition = self.free_where(&from, &outside, depth);
                let having = ["", " HAVING count(*) = 0", " HAVING count(*) < 3"][self.rng.random_range(0..3)];
                format!("{not}EXISTS (SELECT count(*) FROM {}{condition}{having})", from.from)
            }
            2 | 3 => format!("{value} {not}IN ({})", self.free_list(kind, depth, &outside)),
            4 => {
                let op = ["=", "<>", "<", ">="][self.rng.random_range(0..4)];
                let quantifier = ["ANY", "ALL"][self.rng.random_range(0..2)];
                format!("{value} {op} {quantifier} ({})", self.free_list(kind, depth, &outside))
            }
            5 => format!("{} IS {not}NULL", self.free_value(depth, &outside)),
            6 => format!(
                "coalesce({}, 0) {} 1",
                self.free_value(depth, &outside),
                [">", "<", "="][self.rng.random_range(0..3)]
            ),
            _ => {
                let number = scalar(&mut self.rng, columns, Kind::Int, 0);
                let op = ["=", "<>", "<", ">="][self.rng.random_range(0..4)];
                format!("{number} {op} {}", self.free_value(depth, &outside))
            }
        }
    }

    /// A subquery with one column of a kind.
    fn free_list(&mut self, kind: Kind, depth: u32, outside: &[Column]) -> String {
        let from = self.free_rows(depth, outside);
        let condition = self.free_where(&from, outside, depth);
        let within = u32::from(self.chance(0.2));
        let value = scalar(&mut self.rng, &from.columns, kind, within);
        match self.rng.random_range(0..8) {
            0 if names(&from.columns, &value) => {
                format!("SELECT {value} FROM {}{condition} GROUP BY {value} HAVING count(*) < 3", from.from)
            }
            1 => format!("SELECT max({value}) FROM {}{condition}", from.from),
            4 if kind == Kind::Int => format!("SELECT count(*) FROM {}{condition}", from.from),
            2 => format!("SELECT DISTINCT {value} FROM {}{condition}", from.from),
            3 => {
                let other = self.table();
                let also = scalar(&mut self.rng, &other.columns, kind, 0);
                format!("SELECT {value} FROM {}{condition} UNION ALL SELECT {also} FROM {}", from.from, other.from)
            }
            _ => format!("SELECT {value} FROM {}{condition}", from.from),
        }
    }

    /// A subquery that stands for a whole number.
    fn free_value(&mut self, depth: u32, outside: &[Column]) -> String {
        let from = self.free_rows(depth, outside);
        let condition = self.free_where(&from, outside, depth);
        let number = scalar(&mut self.rng, &from.columns, Kind::Int, 0);
        let call = match self.rng.random_range(0..9) {
            0 | 1 => "count(*)".to_owned(),
            2 => format!("count({number})"),
            3 => format!("count(DISTINCT {number})"),
            4 => format!("coalesce(sum({number}), -1)"),
            5 => format!("CASE WHEN count(*) > 1 THEN max({number}) ELSE -7 END"),
            6 if names(&from.columns, &number) => {
                let order = ["ASC NULLS FIRST", "DESC NULLS LAST"][self.rng.random_range(0..2)];
                return format!("(SELECT {number} FROM {}{condition} ORDER BY {number} {order} LIMIT 1)", from.from);
            }
            7 => format!("min({number}) + count(*)"),
            _ => format!("max({number})"),
        };
        let having = if self.chance(0.1) { " HAVING count(*) > 1" } else { "" };
        format!("(SELECT {call} FROM {}{condition}{having})", from.from)
    }

    /// Columns, expressions, and values of subqueries.
    fn free_columns(&mut self, from: &Relation, condition: &str, depth: u32, outer: &[Column]) -> Query {
        let mut query = self.projection(from, false);
        let outside: Vec<Column> = from.columns.iter().chain(outer).cloned().collect();
        if depth > 0 && self.chance(0.35) {
            let name = self.name("c");
            let (value, kind) = match self.chance(0.6) {
                true => (self.free_value(depth - 1, &outside), Kind::Int),
                false => (self.free_predicate(&from.columns, outer, depth), Kind::Bool),
            };
            let truth = scalar(&mut self.rng, &from.columns, Kind::Bool, 1);
            let value = if self.chance(0.2) { format!("CASE WHEN {truth} THEN {value} END") } else { value };
            query.text = query.text.replacen("SELECT ", &format!("SELECT {value} AS {name}, "), 1);
            query.columns.insert(0, Column::new(name, kind));
        }
        query.text.push_str(condition);
        if self.chance(0.1) && query.columns.iter().all(|column| column.exact) {
            query.text = query.text.replacen("SELECT ", "SELECT DISTINCT ", 1);
        }
        Query { append_only: false, ..query }
    }

    /// Groups, or all rows as one; perhaps with an aggregate of all groups beside them.
    fn free_groups(&mut self, from: &Relation, condition: &str, depth: u32) -> Query {
        let (keys, mut items, mut columns) = self.keys(&from.columns, 2);
        for _ in 0..self.rng.random_range(1..3) {
            let (call, kind, exact) = aggregate(&mut self.rng, &from.columns);
            let name = self.name("c");
            let (text, kind) = match (kind, exact, self.rng.random_range(0..5)) {
                (Kind::Int, true, 0) => (format!("coalesce({call}, 0) + count(*)"), kind),
                (Kind::Int, true, 1) => (format!("CASE WHEN count(*) > 1 THEN {call} END"), kind),
                (_, _, 2) if !keys.is_empty() => {
                    let by = &keys[self.rng.random_range(0..keys.len())];
                    (format!("CAST(sum(count(*)) OVER (PARTITION BY {by}) AS BIGINT)"), Kind::Int)
                }
                _ => (call, kind),
            };
            items.push(format!("{text} AS {name}"));
            columns.push(Column { name, kind, exact });
        }
        let mut text = format!("SELECT {} FROM {}{condition}", items.join(", "), from.from);
        if !keys.is_empty() {
            text.push_str(&format!(" GROUP BY {}", keys.join(", ")));
        }
        let key = column(&mut self.rng, &from.columns, Kind::Int).filter(|key| keys.contains(key));
        match (self.rng.random_range(0..8), key) {
            (0, _) => text.push_str(" HAVING count(*) > 1"),
            (1, Some(key)) if depth > 0 => {
                let of_key = [Column::new(key, Kind::Int)];
                text.push_str(&format!(" HAVING {}", self.free_predicate(&of_key, &[], depth)));
            }
            (2, _) => text.push_str(&self.having(&from.columns)),
            _ => {}
        }
        Query { text, columns, append_only: false, rows: from.rows }
    }

    /// Two queries, one after the other or set against each other.
    fn free_union(&mut self, depth: u32, outer: &[Column]) -> Query {
        let kinds: Vec<Kind> = (0..self.rng.random_range(1..3)).map(|_| Kind::any(&mut self.rng)).collect();
        let names: Vec<String> = kinds.iter().map(|_| self.name("c")).collect();
        let below = depth.saturating_sub(1);
        let mut rows = 0;
        let sides = [0, 1].map(|_| {
            let from = self.free_rows(below, outer);
            let condition = self.free_where(&from, outer, below);
            rows += from.rows;
            let items: Vec<String> = kinds
                .iter()
                .zip(&names)
                .map(|(kind, name)| {
                    let value = scalar(&mut self.rng, &from.columns, *kind, 0);
                    format!("CAST({value} AS {}) AS {name}", kind.type_name())
                })
                .collect();
            format!("SELECT {} FROM {}{condition}", items.join(", "), from.from)
        });
        let word =
            ["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL"][self.rng.random_range(0..6)];
        let columns = kinds.iter().zip(names).map(|(kind, name)| Column::new(name, *kind)).collect();
        Query { text: format!("{} {word} {}", sides[0], sides[1]), columns, append_only: false, rows }
    }
}
