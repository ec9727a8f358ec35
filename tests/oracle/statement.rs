//! Random statements of the classes that run continuously, as text.

mod joins;
mod nearest;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::expression::{Column, Kind, aggregate, scalar};
use super::table::SECOND;

/// A window over a table, as a statement reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    Tumble {
        size: i64,
        offset: i64,
    },
    Hop {
        slide: i64,
        size: i64,
    },
    Cumulate {
        step: i64,
        size: i64,
    },
    /// By the column `g`, or of all rows.
    Session {
        gap: i64,
        keyed: bool,
    },
}

impl Windows {
    /// All windows (start, end) that cover a moment, by the definition. Times in microseconds, lengths in seconds.
    pub(crate) fn covering(self, at: i64) -> Vec<(i64, i64)> {
        let contains = |start: i64, end: i64| (start <= at && at < end).then_some((start, end));
        match self {
            Windows::Tumble { size, offset } => {
                let start = (at - offset * SECOND).div_euclid(size * SECOND) * size * SECOND + offset * SECOND;
                vec![(start, start + size * SECOND)]
            }
            Windows::Hop { slide, size } => {
                let first = (at - size * SECOND).div_euclid(slide * SECOND) - 1;
                let starts = (first..).map(|n| n * slide * SECOND).take_while(|start| *start <= at);
                starts.filter_map(|start| contains(start, start + size * SECOND)).collect()
            }
            Windows::Cumulate { step, size } => {
                let start = at.div_euclid(size * SECOND) * size * SECOND;
                (1..=size / step).filter_map(|n| contains(start, start + n * step * SECOND)).collect()
            }
            // Which one covers it depends on the other rows.
            Windows::Session { .. } => Vec::new(),
        }
    }
}

/// A window table function in a statement, or a table that stands for it.
#[derive(Debug, Clone)]
pub(crate) struct WindowSource {
    pub(crate) table: String,
    pub(crate) windows: Windows,
}

/// A statement, twice: as a stream query, and as the batch query that says what its result must be.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// As it is run continuously.
    pub(crate) sql: String,
    /// The same text over tables `w0`, `w1`, … in the place of the window functions, and without EMIT.
    pub(crate) batch_sql: String,
    /// What stands in `w0`, `w1`, ….
    pub(crate) windows: Vec<WindowSource>,
}

/// A table that statements may read.
#[derive(Debug, Clone)]
pub(crate) struct Readable {
    pub(crate) name: String,
    pub(crate) rows: usize,
    /// Whether its rows may go again.
    pub(crate) changing: bool,
}

/// A relation that stands in FROM: its text, and what can be said about it.
pub(super) struct Relation {
    pub(super) from: String,
    pub(super) columns: Vec<Column>,
    pub(super) append_only: bool,
    /// Rows, roughly and at most.
    pub(super) rows: usize,
}

/// Makes statements.
pub(super) struct Author<'a> {
    pub(super) rng: SmallRng,
    tables: &'a [Readable],
    windows: Vec<WindowSource>,
    /// Queries that the batch side must say in other words: as it is run continuously, and as a batch.
    twins: Vec<(String, String)>,
    next_name: usize,
    /// The statement ends with EMIT AFTER WATERMARK.
    after_watermark: bool,
    /// Some rows are late: only windowed aggregates say exactly which they don't count.
    late_rows: bool,
}

/// Pairs of rows that one join may make.
const MOST_JOINED: usize = 20_000;

impl Statement {
    /// A statement over `tables`.
    pub(crate) fn random(seed: u64, tables: &[Readable], late_rows: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let after_watermark = rng.random_bool(0.4);
        let (windows, twins) = Default::default();
        let mut author = Author { rng, tables, windows, twins, next_name: 0, after_watermark, late_rows };
        let text = author.query();
        let (mut sql, mut batch_sql) = (text.clone(), text);
        // The outermost were made last.
        for (number, (streamed, batched)) in author.twins.iter().enumerate().rev() {
            sql = sql.replace(&twin(number), streamed);
            batch_sql = batch_sql.replace(&twin(number), batched);
        }
        let (sql, batch_sql) = (chosen(&sql, 0), chosen(&batch_sql, 1));
        let mut statement = Self { sql, batch_sql, windows: author.windows };
        for (number, source) in statement.windows.iter().enumerate() {
            let marker = marker(number);
            statement.sql = statement.sql.replace(&marker, &source.as_sql());
            statement.batch_sql = statement.batch_sql.replace(&marker, &format!("w{number}"));
        }
        if after_watermark {
            statement.sql.push_str(" EMIT AFTER WATERMARK");
        }
        statement
    }
}

/// The text with one side of each `⟪stream's|batch's⟫`.
fn chosen(text: &str, side: usize) -> String {
    let mut parts = text.split(['⟪', '⟫']);
    let mut chosen = parts.next().unwrap_or_default().to_owned();
    while let Some(choice) = parts.next() {
        chosen.push_str(choice.split('|').nth(side).unwrap_or_default());
        chosen.push_str(parts.next().unwrap_or_default());
    }
    chosen
}

fn marker(number: usize) -> String {
    format!("⟨{number}⟩")
}

fn twin(number: usize) -> String {
    format!("⟦{number}⟧")
}

impl WindowSource {
    fn as_sql(&self) -> String {
        let seconds = |seconds: i64| format!("INTERVAL '{seconds}' SECOND");
        let table = format!("TABLE {}, DESCRIPTOR(ts)", self.table);
        match self.windows {
            Windows::Tumble { size, offset: 0 } => format!("TUMBLE({table}, {})", seconds(size)),
            Windows::Tumble { size, offset } => format!("TUMBLE({table}, {}, {})", seconds(size), seconds(offset)),
            Windows::Hop { slide, size } => format!("HOP({table}, {}, {})", seconds(slide), seconds(size)),
            Windows::Cumulate { step, size } => format!("CUMULATE({table}, {}, {})", seconds(step), seconds(size)),
            Windows::Session { gap, keyed } => {
                let keys = if keyed { " PARTITION BY g" } else { "" };
                format!("SESSION(TABLE {}{keys}, DESCRIPTOR(ts), {})", self.table, seconds(gap))
            }
        }
    }
}

impl Author<'_> {
    fn query(&mut self) -> String {
        if self.late_rows {
            return self.windowed_aggregate(false).0;
        }
        if self.after_watermark {
            return match self.rng.random_range(0..10) {
                9 => self.nearest(true).0,
                0..=2 => self.windowed_aggregate(false).0,
                3 => self.over_windows(),
                4 => self.window_join(),
                6 => self.over_by_time().0,
                7 => self.interval_join().0,
                5 => {
                    let relation = self.windowed_relation();
                    let bounds = [[0].as_slice(), &[1], &[0, 1]][self.rng.random_range(0..3)];
                    self.top(&relation, true, bounds).0
                }
                _ => {
                    let relation = self.windowed_relation();
                    self.projection(&relation, true).0
                }
            };
        }
        let relation = self.relation(2);
        match self.rng.random_range(0..14) {
            12 => self.nearest(false).0,
            13 => self.lateral().0,
            0 => self.projection(&relation, true).0,
            9..=11 => self.over(&relation, true).0,
            1 => self.grouped(&relation).0,
            2 => self.windowed_aggregate(false).0,
            3 => self.join(1).0,
            4 => self.set_operation(1).0,
            5 => self.with_subqueries(&relation).0,
            6 => self.interval_join().0,
            7 => self.distinct(&relation).0,
            _ => self.projection(&relation, false).0,
        }
    }

    pub(super) fn name(&mut self, prefix: &str) -> String {
        self.next_name += 1;
        format!("{prefix}{}", self.next_name)
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A relation nested at most `depth` deep.
    fn relation(&mut self, depth: u32) -> Relation {
        if depth == 0 {
            return self.table();
        }
        match self.rng.random_range(0..12) {
            9 => {
                let query = self.set_operation(depth - 1);
                self.derived(query)
            }
            10 => {
                let inner = self.relation(depth - 1);
                let query = self.with_subqueries(&inner);
                self.derived(query)
            }
            11 => {
                let inner = self.relation(depth - 1);
                let query = self.distinct(&inner);
                self.derived(query)
            }
            0 | 1 => self.table(),
            8 => {
                let inner = self.relation(depth - 1);
                let query = self.over(&inner, false);
                self.derived(query)
            }
            2 => {
                let inner = self.relation(depth - 1);
                let query = self.projection(&inner, true);
                self.derived(query)
            }
            3 => {
                let query = self.union(depth - 1);
                self.derived(query)
            }
            4 => {
                let query = self.join(depth - 1);
                self.derived(query)
            }
            5 => {
                let inner = self.relation(depth - 1);
                let query = self.grouped(&inner);
                self.derived(query)
            }
            6 => self.windowed_relation(),
            _ => self.expanded(),
        }
    }

    pub(super) fn table(&mut self) -> Relation {
        let table = &self.tables[self.rng.random_range(0..self.tables.len())];
        let (name, rows, append_only) = (table.name.clone(), table.rows, !table.changing);
        let alias = self.name("a");
        let columns = table_columns(&alias);
        Relation { from: format!("{name} AS {alias}"), columns, append_only, rows }
    }

    /// A window function as it stands, each row once for every window.
    fn expanded(&mut self) -> Relation {
        let table = &self.tables[self.rng.random_range(0..self.tables.len())];
        let (name, rows, append_only) = (table.name.clone(), table.rows, !table.changing);
        let windows = match self.rng.random_range(0..5) {
            4 => Windows::Session { gap: [1, 3, 10][self.rng.random_range(0..3)], keyed: self.chance(0.6) },
            0 | 1 => {
                let size = [5, 10, 30, 60][self.rng.random_range(0..4)];
                Windows::Tumble { size, offset: if self.chance(0.2) { 3 } else { 0 } }
            }
            2 => {
                let slide = [5, 10][self.rng.random_range(0..2)];
                Windows::Hop { slide, size: [10, 20, 30, 12, 3][self.rng.random_range(0..5)] }
            }
            _ => {
                let step = [5, 10][self.rng.random_range(0..2)];
                Windows::Cumulate { step, size: step * self.rng.random_range(1..5) }
            }
        };
        // The bounds of a session change until it is over.
        let append_only = append_only && (self.after_watermark || !matches!(windows, Windows::Session { .. }));
        let source = marker(self.windows.len());
        self.windows.push(WindowSource { table: name, windows });
        let alias = self.name("a");
        let mut columns = table_columns(&alias);
        for bound in ["window_start", "window_end"] {
            columns.push(Column { name: format!("{alias}.{bound}"), kind: Kind::Time, exact: true });
        }
        Relation { from: format!("{source} AS {alias}"), columns, append_only, rows: rows * 4 }
    }

    fn windowed_relation(&mut self) -> Relation {
        let query = self.windowed_aggregate(true);
        self.derived(query)
    }

    /// Puts a query into parentheses.
    fn derived(&mut self, (query, columns, append_only, rows): Query) -> Relation {
        let alias = self.name("a");
        let columns = columns.into_iter().map(|column| Column { name: format!("{alias}.{}", column.name), ..column });
        let columns = columns.collect();
        Relation { from: format!("({query}) AS {alias}"), columns, append_only, rows }
    }

    fn projection(&mut self, from: &Relation, filtered: bool) -> Query {
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for _ in 0..self.rng.random_range(1..5) {
            let name = self.name("c");
            if self.chance(0.4) {
                let column = from.columns[self.rng.random_range(0..from.columns.len())].clone();
                items.push(format!("{} AS {name}", column.name));
                columns.push(Column { name, ..column });
            } else {
                let kind = [Kind::Int, Kind::Float, Kind::Text, Kind::Bool, Kind::Time][self.rng.random_range(0..5)];
                let depth = self.rng.random_range(0..3);
                items.push(format!("{} AS {name}", scalar(&mut self.rng, &from.columns, kind, depth)));
                columns.push(Column { name, kind, exact: true });
            }
        }
        let condition = match filtered && self.chance(0.7) {
            true => format!(" WHERE {}", scalar(&mut self.rng, &from.columns, Kind::Bool, 2)),
            false => String::new(),
        };
        (format!("SELECT {} FROM {}{condition}", items.join(", "), from.from), columns, from.append_only, from.rows)
    }

    fn union(&mut self, depth: u32) -> Query {
        let (left, right) = (self.relation(depth), self.relation(depth));
        let kinds: Vec<Kind> = (0..self.rng.random_range(1..4))
            .map(|_| [Kind::Int, Kind::Float, Kind::Text, Kind::Bool, Kind::Time][self.rng.random_range(0..5)])
            .collect();
        let names: Vec<String> = kinds.iter().map(|_| self.name("c")).collect();
        let mut side = |from: &Relation| {
            let items: Vec<String> = kinds
                .iter()
                .zip(&names)
                .map(|(kind, name)| {
                    let depth = self.rng.random_range(0..2);
                    let text = scalar(&mut self.rng, &from.columns, *kind, depth);
                    let text = if *kind == Kind::Int { format!("CAST({text} AS BIGINT)") } else { text };
                    format!("{text} AS {name}")
                })
                .collect();
            format!("SELECT {} FROM {}", items.join(", "), from.from)
        };
        let (left_text, right_text) = (side(&left), side(&right));
        let all = self.chance(0.7);
        let text = format!("{left_text} UNION {}{right_text}", if all { "ALL " } else { "" });
        let columns = kinds.iter().zip(names).map(|(kind, name)| Column { name, kind: *kind, exact: true }).collect();
        (text, columns, left.append_only && right.append_only, left.rows + right.rows)
    }

    /// Group keys: their texts, and as columns of the result.
    fn keys(&mut self, from: &[Column], most: usize) -> (Vec<String>, Vec<String>, Vec<Column>) {
        let (mut texts, mut items, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rng.random_range(0..=most) {
            let kind =
                [Kind::Int, Kind::Int, Kind::Text, Kind::Bool, Kind::Time, Kind::Float][self.rng.random_range(0..6)];
            let depth = u32::from(self.chance(0.2));
            let text = scalar(&mut self.rng, from, kind, depth);
            // A constant is no key: `GROUP BY 3` would mean the third column.
            if from.iter().any(|column| text.contains(&column.name)) && !texts.contains(&text) {
                let name = self.name("c");
                items.push(format!("{text} AS {name}"));
                texts.push(text);
                columns.push(Column { name, kind, exact: true });
            }
        }
        (texts, items, columns)
    }

    fn aggregates(&mut self, from: &[Column], items: &mut Vec<String>, columns: &mut Vec<Column>) {
        for _ in 0..self.rng.random_range(1..4) {
            let (text, kind, exact) = aggregate(&mut self.rng, from);
            let name = self.name("c");
            items.push(format!("{text} AS {name}"));
            columns.push(Column { name, kind, exact });
        }
    }

    fn having(&mut self) -> String {
        match self.rng.random_range(0..8) {
            0 => format!(" HAVING count(*) > {}", self.rng.random_range(0..4)),
            1 => format!(" HAVING count(*) % 2 = {}", self.rng.random_range(0..2)),
            _ => String::new(),
        }
    }

    /// The group expressions, perhaps in several sets; then `grouping` may be one more item.
    fn grouping(&mut self, keys: &[String], items: &mut Vec<String>) -> String {
        let all = keys.join(", ");
        let sets = match self.rng.random_range(0..12) {
            0 => format!("ROLLUP ({all})"),
            1 => format!("CUBE ({all})"),
            2 => format!("GROUPING SETS (({all}), ({}))", keys[0]),
            3 => format!("GROUPING SETS (({}), ())", keys[keys.len() - 1]),
            _ => return all,
        };
        if self.chance(0.4) {
            let name = self.name("c");
            items.push(format!("grouping({}) AS {name}", keys[keys.len() - 1]));
        }
        sets
    }

    /// A running aggregate, or DISTINCT.
    fn grouped(&mut self, from: &Relation) -> Query {
        let (keys, mut items, mut columns) = self.keys(&from.columns, 3);
        if !keys.is_empty() && self.chance(0.15) {
            return (format!("SELECT DISTINCT {} FROM {}", items.join(", "), from.from), columns, false, from.rows);
        }
        self.aggregates(&from.columns, &mut items, &mut columns);
        let condition = match self.chance(0.3) {
            true => format!(" WHERE {}", scalar(&mut self.rng, &from.columns, Kind::Bool, 1)),
            false => String::new(),
        };
        let (group, having) = match keys.is_empty() {
            true => (String::new(), String::new()),
            false => (format!(" GROUP BY {}", self.grouping(&keys, &mut items)), self.having()),
        };
        let text = format!("SELECT {} FROM {}{condition}{group}{having}", items.join(", "), from.from);
        (text, columns, false, from.rows)
    }

    /// An aggregate per window and key; `bounds`: with the window's bounds as the first columns.
    fn windowed_aggregate(&mut self, bounds: bool) -> Query {
        let from = self.expanded();
        let own = &from.columns[..from.columns.len() - 2];
        let bound = |at: usize| from.columns[from.columns.len() - 2 + at].name.clone();
        let (keys, key_items, key_columns) = self.keys(own, 2);
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for (number, part) in ["ws", "we"].into_iter().enumerate() {
            if bounds || self.chance(0.7) {
                let name = self.name(part);
                items.push(format!("{} AS {name}", bound(number)));
                columns.push(Column { name, kind: Kind::Time, exact: true });
            }
        }
        items.extend(key_items);
        columns.extend(key_columns);
        let mut own_aggregates = Vec::new();
        self.aggregates(own, &mut items, &mut own_aggregates);
        columns.extend(own_aggregates);
        let condition = match self.chance(0.3) {
            true => format!(" WHERE {}", scalar(&mut self.rng, own, Kind::Bool, 1)),
            false => String::new(),
        };
        let mut group = vec![bound(0), bound(1)];
        if self.chance(0.3) {
            group.swap(0, 1);
        }
        let place = self.rng.random_range(0..=group.len());
        if !keys.is_empty() && self.chance(0.15) {
            group.push(format!("ROLLUP ({})", keys.join(", ")));
        } else {
            group.splice(place..place, keys);
        }
        let having = self.having();
        let text =
            format!("SELECT {} FROM {}{condition} GROUP BY {}{having}", items.join(", "), from.from, group.join(", "));
        (text, columns, self.after_watermark, from.rows)
    }

    /// An aggregate of a window's aggregates: per window again.
    fn over_windows(&mut self) -> String {
        let from = if self.chance(0.4) { self.window_union() } else { self.windowed_relation() };
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        let bounds: Vec<String> = from.columns[..2].iter().map(|column| column.name.clone()).collect();
        for bound in &bounds {
            let name = self.name("c");
            items.push(format!("{bound} AS {name}"));
        }
        self.aggregates(&from.columns[2..], &mut items, &mut columns);
        format!("SELECT {} FROM {} GROUP BY {}", items.join(", "), from.from, bounds.join(", "))
    }

    /// Two relations with windows, one after the other: their time is the slower one's.
    fn window_union(&mut self) -> Relation {
        let sides = [self.windowed_relation(), self.windowed_relation()];
        let names: Vec<String> = ["ws", "we", "c", "c"].iter().map(|prefix| self.name(prefix)).collect();
        let mut rows = 0;
        let mut side = |from: &Relation| {
            rows += from.rows;
            let number = scalar(&mut self.rng, &from.columns[2..], Kind::Int, 1);
            let text = scalar(&mut self.rng, &from.columns[2..], Kind::Text, 1);
            let values = [&from.columns[0].name, &from.columns[1].name, &format!("CAST({number} AS BIGINT)"), &text];
            let items: Vec<String> =
                values.iter().zip(&names).map(|(value, name)| format!("{value} AS {name}")).collect();
            format!("SELECT {} FROM {}", items.join(", "), from.from)
        };
        let text = format!("{} UNION ALL {}", side(&sides[0]), side(&sides[1]));
        let kinds = [Kind::Time, Kind::Time, Kind::Int, Kind::Text];
        let columns = names.into_iter().zip(kinds).map(|(name, kind)| Column { name, kind, exact: true }).collect();
        self.derived((text, columns, true, rows))
    }

    /// Two relations with windows, joined on the window and perhaps more.
    fn window_join(&mut self) -> String {
        let left = if self.chance(0.3) { self.expanded() } else { self.windowed_relation() };
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
        self.joined(&left, &right, on).0
    }

    /// A join by one or two keys, perhaps with a further condition.
    fn join(&mut self, depth: u32) -> Query {
        let (mut left, mut right) = (self.relation(depth), self.relation(depth));
        let mut on = Vec::new();
        for _ in 0..self.rng.random_range(1..=2) {
            let kind = [Kind::Int, Kind::Int, Kind::Text, Kind::Time][self.rng.random_range(0..4)];
            let depth = u32::from(self.chance(0.15));
            let pair =
                (scalar(&mut self.rng, &left.columns, kind, depth), scalar(&mut self.rng, &right.columns, kind, depth));
            let uses = |columns: &[Column], text: &str| columns.iter().any(|column| text.contains(&column.name));
            if uses(&left.columns, &pair.0) && uses(&right.columns, &pair.1) {
                on.push(format!("{} = {}", pair.0, pair.1));
            }
        }
        if on.is_empty() || left.rows * right.rows > MOST_JOINED * 4 {
            (left, right) = (self.table(), self.table());
            on = vec![
                format!("{} = {}", left.columns[1].name, right.columns[1].name),
                format!("{} = {}", left.columns[2].name, right.columns[2].name),
            ];
            if left.rows * right.rows <= MOST_JOINED / 4 && self.chance(0.5) {
                // Every row with every row, or nearly.
                let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
                on = vec![scalar(&mut self.rng, &columns, Kind::Bool, 1)];
            }
        }
        self.joined(&left, &right, on)
    }
}

/// A query's text, columns, whether it is append-only, and how many rows it may have.
pub(super) type Query = (String, Vec<Column>, bool, usize);

fn table_columns(alias: &str) -> Vec<Column> {
    let column = |name: &str, kind| Column { name: format!("{alias}.{name}"), kind, exact: true };
    vec![
        column("ts", Kind::Time),
        column("k", Kind::Int),
        column("g", Kind::Int),
        column("s", Kind::Text),
        column("x", Kind::Int),
        column("d", Kind::Float),
        column("b", Kind::Bool),
    ]
}
