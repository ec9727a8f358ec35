//! TUMBLE, HOP, CUMULATE and SESSION over streams and over queries, and aggregates of windows.

use rand::Rng;

use super::super::expression::{Column, Kind, scalar};
use super::super::table::SECOND;
use super::sources::table_columns;
use super::{Author, Query, Relation, marker};

/// A window over rows, as a statement reads it. Lengths in seconds.
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
    /// No windows: the rows that were not late.
    InTime,
}

impl Windows {
    /// All windows (start, end) that cover a moment, by the definition. Times in microseconds.
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
            Windows::Session { .. } | Windows::InTime => Vec::new(),
        }
    }

    /// The call over `rows`, the time in `time`; `key` is what sessions may be partitioned by.
    fn call(self, rows: &str, time: &str, key: &str) -> String {
        let data = format!("{rows}, DESCRIPTOR({time})");
        match self {
            Windows::Tumble { size, offset: 0 } => format!("TUMBLE({data}, {})", seconds(size)),
            Windows::Tumble { size, offset } => format!("TUMBLE({data}, {}, {})", seconds(size), seconds(offset)),
            Windows::Hop { slide, size } => format!("HOP({data}, {}, {})", seconds(slide), seconds(size)),
            Windows::Cumulate { step, size } => format!("CUMULATE({data}, {}, {})", seconds(step), seconds(size)),
            Windows::Session { gap, keyed } => {
                let keys = if keyed { format!(" PARTITION BY {key}") } else { String::new() };
                format!("SESSION({rows}{keys}, DESCRIPTOR({time}), {})", seconds(gap))
            }
            Windows::InTime => rows.to_owned(),
        }
    }

    /// The same as a query, by the definition: `rows` in parentheses.
    fn query(self, rows: &str, time: &str, key: &str) -> String {
        let bounds = |start: &str, end: &str| format!("SELECT q.*, {start} AS window_start, {end} AS window_end");
        let bin = |size: i64, offset: i64| {
            format!("date_bin({}, q.{time}, TIMESTAMP '1970-01-01 00:00:{offset:02}')", seconds(size))
        };
        let lengths = |lengths: &mut dyn Iterator<Item = i64>| {
            lengths.map(|length| format!("({})", seconds(length))).collect::<Vec<_>>().join(", ")
        };
        match self {
            Windows::Tumble { size, offset } => {
                let start = bin(size, offset);
                let end = format!("{start} + {}", seconds(size));
                format!("{} FROM {rows} AS q WHERE q.{time} IS NOT NULL", bounds(&start, &end))
            }
            Windows::Hop { slide, size } => {
                let start = format!("{} - n.far", bin(slide, 0));
                let end = format!("{start} + {}", seconds(size));
                let far = lengths(&mut (0..=size / slide).map(|n| n * slide));
                format!(
                    "{} FROM {rows} AS q CROSS JOIN (VALUES {far}) AS n(far) WHERE {end} > q.{time}",
                    bounds(&start, &end)
                )
            }
            Windows::Cumulate { step, size } => {
                let start = bin(size, 0);
                let end = format!("{start} + n.far");
                let far = lengths(&mut (1..=size / step).map(|n| n * step));
                format!(
                    "{} FROM {rows} AS q CROSS JOIN (VALUES {far}) AS n(far) WHERE {end} > q.{time}",
                    bounds(&start, &end)
                )
            }
            Windows::Session { gap, keyed } => {
                let by = if keyed { format!("PARTITION BY q.{key} ") } else { String::new() };
                let whole = if keyed {
                    format!("PARTITION BY q.{key}, q.session")
                } else {
                    "PARTITION BY q.session".to_owned()
                };
                let gap = seconds(gap);
                let first = format!(
                    "SELECT q.*, CASE WHEN lag(q.{time}) OVER ({by}ORDER BY q.{time}) + {gap} > q.{time} THEN 0 ELSE 1 END AS first \
                     FROM {rows} AS q WHERE q.{time} IS NOT NULL"
                );
                let numbered =
                    format!("SELECT q.*, sum(q.first) OVER ({by}ORDER BY q.{time}) AS session FROM ({first}) AS q");
                let start = format!("min(q.{time}) OVER ({whole})");
                let end = format!("max(q.{time}) OVER ({whole}) + {gap}");
                format!("{} FROM ({numbered}) AS q", bounds(&start, &end))
            }
            Windows::InTime => rows.to_owned(),
        }
    }
}

fn seconds(seconds: i64) -> String {
    format!("INTERVAL '{seconds}' SECOND")
}

/// A window function over a stream in a statement, or a table that stands for it.
#[derive(Debug, Clone)]
pub(crate) struct WindowSource {
    pub(crate) table: String,
    pub(crate) windows: Windows,
    /// How long after its end a window still takes late rows, in seconds.
    pub(crate) lateness: i64,
}

impl WindowSource {
    pub(super) fn as_sql(&self) -> String {
        match self.windows {
            Windows::InTime => self.table.clone(),
            windows => windows.call(&format!("TABLE {}", self.table), "ts", "g"),
        }
    }
}

impl Author<'_> {
    fn windows(&mut self) -> Windows {
        // Sessions do not say when they began, and few queries over them are final.
        let kinds: &[i64] = if self.after_watermark { &[0, 0, 1, 1, 2, 2, 3] } else { &[0, 0, 1, 2, 3] };
        let mut one = |lengths: &[i64]| lengths[self.rng.random_range(0..lengths.len())];
        match one(kinds) {
            0 => Windows::Tumble { size: one(&[5, 10, 30, 60]), offset: one(&[0, 0, 0, 3]) },
            1 => Windows::Hop { slide: one(&[5, 10]), size: one(&[10, 20, 30, 12, 3]) },
            2 => {
                let step = one(&[5, 10]);
                Windows::Cumulate { step, size: step * one(&[1, 2, 3, 4]) }
            }
            _ => Windows::Session { gap: one(&[1, 3, 10]), keyed: one(&[0, 1, 1]) == 1 },
        }
    }

    /// A window function as it stands, each row once for every window.
    pub(super) fn expanded(&mut self) -> Relation {
        let mut windows = self.windows();
        if self.lateness > 0 && matches!(windows, Windows::Session { .. }) {
            windows = Windows::Tumble { size: 10, offset: 0 };
        }
        self.expanded_by(windows)
    }

    /// As [`Self::expanded`], of a table whose rows only come, if there is one.
    pub(super) fn growing_expanded(&mut self) -> Relation {
        let growing: Vec<usize> = (0..self.tables.len()).filter(|table| !self.tables[*table].changing).collect();
        let windows = Windows::Tumble { size: 10, offset: 0 };
        match growing.is_empty() {
            true => self.expanded(),
            false => {
                let table = growing[self.rng.random_range(0..growing.len())];
                self.expanded_of(table, windows)
            }
        }
    }

    fn expanded_by(&mut self, windows: Windows) -> Relation {
        let table = self.rng.random_range(0..self.tables.len());
        self.expanded_of(table, windows)
    }

    fn expanded_of(&mut self, table: usize, windows: Windows) -> Relation {
        let table = &self.tables[table];
        let (name, rows, append_only) = (table.name.clone(), table.rows, !table.changing);
        // The bounds of a session change until it is over.
        let append_only = append_only && (self.after_watermark || !matches!(windows, Windows::Session { .. }));
        let source = marker(self.windows.len());
        self.windows.push(WindowSource { table: name, windows, lateness: self.lateness });
        let alias = self.name("a");
        let mut columns = table_columns(&alias);
        if windows != Windows::InTime {
            for bound in ["window_start", "window_end"] {
                columns.push(Column::new(format!("{alias}.{bound}"), Kind::Time));
            }
        }
        Relation { from: format!("{source} AS {alias}"), columns, append_only, rows: rows * 4 }
    }

    /// A stream's rows that are not late.
    pub(super) fn in_time(&mut self) -> Relation {
        if !self.late_rows {
            return self.growing();
        }
        self.expanded_by(Windows::InTime)
    }

    /// An aggregate of windows over a query.
    pub(super) fn windows_over(&mut self, depth: u32) -> Query {
        let inner = self.relation(depth);
        let mut columns: Vec<Column> = inner.columns.iter().filter(|column| column.exact).cloned().collect();
        columns.truncate(12);
        let Some(time) = columns.iter().position(|column| column.kind == Kind::Time) else {
            return self.windowed_aggregate(false);
        };
        // What the first window calls its bounds, the second must not.
        let named: Vec<(String, Column)> = columns.iter().map(|column| (self.name("i"), column.clone())).collect();
        let items: Vec<String> = named.iter().map(|(name, column)| format!("{} AS {name}", column.name)).collect();
        let query = format!("SELECT {} FROM {}", items.join(", "), inner.from);
        let key = named.iter().position(|(_, column)| matches!(column.kind, Kind::Int | Kind::Text));
        let mut windows = self.windows();
        if let (Windows::Session { keyed, .. }, None) = (&mut windows, key) {
            *keyed = false;
        }
        let (time, key) = (named[time].0.as_str(), named[key.unwrap_or(0)].0.as_str());
        let (mut rows, mut all) = (format!("({query})"), format!("({query})"));
        if matches!(windows, Windows::Session { keyed: true, .. }) {
            // PARTITION BY stands behind a relation with a name.
            let name = self.name("q");
            let columns = named.iter().map(|(name, column)| Column::new(name.clone(), column.kind)).collect();
            let query = Query { text: query, columns, append_only: inner.append_only, rows: inner.rows };
            self.named.push((name.clone(), query));
            (rows, all) = (format!("TABLE {name}"), name);
        }
        let source = self.twin_of_ours(windows.call(&rows, time, key), format!("({})", windows.query(&all, time, key)));
        let alias = self.name("a");
        let mut columns: Vec<Column> =
            named.iter().map(|(name, column)| Column::new(format!("{alias}.{name}"), column.kind)).collect();
        for bound in ["window_start", "window_end"] {
            columns.push(Column::new(format!("{alias}.{bound}"), Kind::Time));
        }
        let from = Relation { from: format!("{source} AS {alias}"), columns, append_only: false, rows: inner.rows * 4 };
        match self.chance(0.8) {
            true => self.windowed_aggregate_of(&from, false),
            false => self.projection(&from, true),
        }
    }

    pub(super) fn windowed_relation(&mut self) -> Relation {
        let query = self.windowed_aggregate(true);
        self.derived(&format!("({})", query.text), query)
    }

    /// An aggregate per window and key; `bounds`: with the window's bounds as the first columns.
    pub(super) fn windowed_aggregate(&mut self, bounds: bool) -> Query {
        let from = self.expanded();
        self.windowed_aggregate_of(&from, bounds)
    }

    fn windowed_aggregate_of(&mut self, from: &Relation, bounds: bool) -> Query {
        let own = &from.columns[..from.columns.len() - 2];
        let bound = |at: usize| from.columns[from.columns.len() - 2 + at].name.clone();
        let (keys, key_items, key_columns) = self.keys(own, 2);
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for (number, part) in ["ws", "we"].into_iter().enumerate() {
            if bounds || self.chance(0.7) {
                let name = self.name(part);
                items.push(format!("{} AS {name}", bound(number)));
                columns.push(Column::new(name, Kind::Time));
            }
        }
        items.extend(key_items);
        columns.extend(key_columns);
        let mut own_aggregates = Vec::new();
        self.aggregates(own, &mut items, &mut own_aggregates);
        columns.extend(own_aggregates);
        let condition = self.filter(own, 0.25);
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
        let having = self.having(own);
        let text =
            format!("SELECT {} FROM {}{condition} GROUP BY {}{having}", items.join(", "), from.from, group.join(", "));
        Query { text, columns, append_only: self.after_watermark, rows: from.rows }
    }

    /// An aggregate of a window's aggregates: per window again, or of longer windows.
    pub(super) fn over_windows(&mut self) -> Query {
        let from = if self.chance(0.4) { self.window_union() } else { self.windowed_relation() };
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        let mut bounds: Vec<String> = from.columns[..2].iter().map(|column| column.name.clone()).collect();
        let mut source = from.from.clone();
        let mut own = from.columns[2..].to_vec();
        if self.chance(0.4) {
            // The end of a window is its last moment's: rows of windows are windowed by their start.
            let names: Vec<String> = own.iter().map(|_| self.name("i")).collect();
            let start = self.name("i");
            let inner: Vec<String> =
                own.iter().zip(&names).map(|(column, name)| format!("{} AS {name}", column.name)).collect();
            let rows = format!("(SELECT {} AS {start}, {} FROM {})", bounds[0], inner.join(", "), from.from);
            let windows = Windows::Tumble { size: [30, 60][self.rng.random_range(0..2)], offset: 0 };
            let (streamed, batched) = (windows.call(&rows, &start, &start), windows.query(&rows, &start, &start));
            let twin = self.twin_of_ours(streamed, format!("({batched})"));
            let alias = self.name("a");
            source = format!("{twin} AS {alias}");
            for (column, name) in own.iter_mut().zip(names) {
                column.name = format!("{alias}.{name}");
            }
            bounds = vec![format!("{alias}.window_start"), format!("{alias}.window_end")];
        }
        for bound in &bounds {
            let name = self.name("c");
            items.push(format!("{bound} AS {name}"));
            columns.push(Column::new(name, Kind::Time));
        }
        self.aggregates(&own, &mut items, &mut columns);
        let text = format!("SELECT {} FROM {source} GROUP BY {}", items.join(", "), bounds.join(", "));
        Query { text, columns, append_only: self.after_watermark, rows: from.rows }
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
        let columns = names.into_iter().zip(kinds).map(|(name, kind)| Column::new(name, kind)).collect();
        self.derived(&format!("({text})"), Query { text: String::new(), columns, append_only: true, rows })
    }
}
