//! OVER: window functions with every frame.
//!
//! Where rows may tie, the stream's statement may leave the ties to the canonical form, and the batch statement has that
//! form written out: `⟪stream's|batch's⟫` in the text.

use rand::Rng;

use super::super::expression::{Column, Kind, column, scalar};
use super::{Author, Query, Relation};

/// What a window function's result depends on.
pub(super) struct Window {
    pub(super) partition: Vec<String>,
    pub(super) order: Vec<String>,
    /// The order's columns, without directions.
    order_columns: Vec<String>,
    order_kind: Option<Kind>,
    /// Columns that complete the order.
    pub(super) rest: Vec<String>,
}

impl Window {
    /// `OVER (…)` for a function to which peers matter.
    pub(super) fn with_peers(&self, frame: &str) -> String {
        format!("OVER ({})", self.clauses(&self.partition, &self.order, frame))
    }

    fn clauses(&self, partition: &[String], order: &[String], frame: &str) -> String {
        let mut parts = Vec::new();
        if !partition.is_empty() {
            parts.push(format!("PARTITION BY {}", partition.join(", ")));
        }
        if !order.is_empty() {
            parts.push(format!("ORDER BY {}", order.join(", ")));
        }
        parts.push(frame.to_owned());
        parts.join(" ")
    }

    pub(super) fn full_order(&self) -> Vec<String> {
        self.order.iter().chain(&self.rest).cloned().collect()
    }

    /// `OVER (…)` for a function to which the order of all rows matters.
    pub(super) fn complete(&self, frame: &str, open: bool) -> String {
        let full = self.clauses(&self.partition, &self.full_order(), frame);
        match open {
            true => format!("OVER (⟪{}|{full}⟫)", self.clauses(&self.partition, &self.order, frame)),
            false => format!("OVER ({full})"),
        }
    }
}

impl Author<'_> {
    /// Columns that a query reads, in the order of the relation: the ties' order.
    pub(super) fn read(&mut self, from: &Relation) -> Vec<Column> {
        let exact: Vec<&Column> = from.columns.iter().filter(|column| column.exact).collect();
        let count = self.rng.random_range(1..=5.min(exact.len().max(1)));
        let mut chosen: Vec<usize> = (0..exact.len()).collect();
        while chosen.len() > count {
            chosen.remove(self.rng.random_range(0..chosen.len()));
        }
        chosen.into_iter().map(|index| exact[index].clone()).collect()
    }

    pub(super) fn window(&mut self, read: &[Column], most_keys: usize) -> Window {
        let (mut partition, mut order, mut order_columns) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rng.random_range(0..=most_keys) {
            let column = read[self.rng.random_range(0..read.len())].name.clone();
            if !partition.contains(&column) {
                partition.push(column);
            }
        }
        let mut order_kind = None;
        for _ in 0..[0, 1, 1, 1, 2][self.rng.random_range(0..5)] {
            let column = &read[self.rng.random_range(0..read.len())];
            if order_columns.contains(&column.name) || partition.contains(&column.name) {
                continue;
            }
            let direction = ["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"][self.rng.random_range(0..5)];
            order.push(format!("{}{direction}", column.name));
            order_columns.push(column.name.clone());
            order_kind = Some(column.kind);
        }
        let given = |column: &&Column| !partition.contains(&column.name) && !order_columns.contains(&column.name);
        // The batch engine's own defaults: ascending, NULLs last.
        let rest = read.iter().filter(given).map(|column| format!("{} ASC NULLS LAST", column.name)).collect();
        Window { partition, order_kind: order_kind.filter(|_| order.len() == 1), order, order_columns, rest }
    }

    fn rows_frame(&mut self) -> String {
        let bounds = [
            "BETWEEN 2 PRECEDING AND CURRENT ROW",
            "BETWEEN 1 PRECEDING AND 1 FOLLOWING",
            "BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            "BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
            "BETWEEN 4 PRECEDING AND 2 PRECEDING",
            "BETWEEN 1 FOLLOWING AND 3 FOLLOWING",
            "BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
        ];
        format!("ROWS {}", bounds[self.rng.random_range(0..bounds.len())])
    }

    /// A frame in which peers stand together; RANGE with a distance if the order has one column that can be added to.
    fn peers_frame(&mut self, window: &Window) -> String {
        let plain = [
            "",
            "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            "RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            "RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
            "RANGE BETWEEN CURRENT ROW AND CURRENT ROW",
        ];
        let (one, other) = match window.order_kind {
            Some(Kind::Int) => ("2", "1"),
            Some(Kind::Float) => ("1.5", "0.5"),
            Some(Kind::Time) => ("INTERVAL '5' SECOND", "INTERVAL '2' SECOND"),
            _ if !window.order.is_empty() && self.chance(0.4) => {
                let groups = [
                    "GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
                    "GROUPS BETWEEN 2 PRECEDING AND 1 PRECEDING",
                    "GROUPS BETWEEN CURRENT ROW AND 2 FOLLOWING",
                    "GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
                ];
                return groups[self.rng.random_range(0..groups.len())].to_owned();
            }
            _ => return plain[self.rng.random_range(0..plain.len())].to_owned(),
        };
        match self.rng.random_range(0..6) {
            0 => format!("RANGE BETWEEN {one} PRECEDING AND CURRENT ROW"),
            1 => format!("RANGE BETWEEN {one} PRECEDING AND {other} FOLLOWING"),
            2 => format!("RANGE BETWEEN {other} FOLLOWING AND {one} FOLLOWING"),
            3 => format!("RANGE BETWEEN UNBOUNDED PRECEDING AND {other} PRECEDING"),
            _ => plain[self.rng.random_range(0..plain.len())].to_owned(),
        }
    }

    /// A call of a window function, what it is of, and whether it is exact. `open`: ties may be left to the canonical form.
    fn call(&mut self, read: &[Column], window: &Window, open: bool) -> (String, Kind, bool) {
        let kind = Kind::any(&mut self.rng);
        let argument = scalar(&mut self.rng, read, kind, 0);
        let nulls = if self.chance(0.25) { " IGNORE NULLS" } else { "" };
        let n = self.rng.random_range(1..4);
        let whole = |call: String| format!("CAST({call} AS BIGINT)");
        match self.rng.random_range(0..18) {
            0 | 1 => (whole(format!("row_number() {}", window.complete("", open))), Kind::Int, true),
            2 => (whole(format!("rank() {}", window.with_peers(""))), Kind::Int, true),
            3 => (whole(format!("dense_rank() {}", window.with_peers(""))), Kind::Int, true),
            4 => (format!("percent_rank() {}", window.with_peers("")), Kind::Float, true),
            5 => (format!("cume_dist() {}", window.with_peers("")), Kind::Float, true),
            6 => (whole(format!("ntile({n}) {}", window.complete("", open))), Kind::Int, true),
            7 => (format!("lag({argument}, {n}){nulls} {}", window.complete("", open)), kind, true),
            8 => {
                let default = scalar(&mut self.rng, &[], kind, 0);
                let lead = format!("lead({argument}, {n}, {default}){nulls}");
                if nulls.is_empty() {
                    return (format!("{lead} {}", window.complete("", open)), kind, true);
                }
                // DataFusion's does not count the NULLs at the end of a piece of the partition.
                let frame = "ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING";
                let full = window.clauses(&window.partition, &window.full_order(), frame);
                let order = if open { window.order.clone() } else { window.full_order() };
                let streamed = window.clauses(&window.partition, &order, "");
                let batched = format!("coalesce(nth_value({argument}, {n}){nulls} OVER ({full}), {default})");
                let judged = window.clauses(&window.partition, &window.full_order(), "");
                (format!("⟪{lead} OVER ({streamed})|{batched}|{lead} OVER ({judged})⟫"), kind, true)
            }
            9 => {
                let name = ["first_value", "last_value"][self.rng.random_range(0..2)];
                let frame = self.rows_frame();
                (format!("{name}({argument}){nulls} {}", window.complete(&frame, open)), kind, true)
            }
            10 => {
                let frame = self.rows_frame();
                (format!("nth_value({argument}, {n}){nulls} {}", window.complete(&frame, open)), kind, true)
            }
            11 if open && !self.after_watermark && !window.order.is_empty() => {
                self.settled_by_peers(&argument, kind, window)
            }
            12 => {
                // DataFusion takes no row out of a list again.
                let frame = [
                    "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
                    "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
                ][self.rng.random_range(0..2)];
                let (call, kind, exact) = match self.list_call(read) {
                    Some(call) => (call, Kind::Text, false),
                    None => self.aggregate_call(read),
                };
                (format!("{call} {}", window.complete(frame, open)), kind, exact)
            }
            13 | 14 => {
                let frame = self.rows_frame();
                let (call, kind, exact) = self.aggregate_call(read);
                (format!("{call} {}", window.complete(&frame, open)), kind, exact)
            }
            _ => {
                let frame = self.peers_frame(window);
                let (call, kind, exact) = self.aggregate_call(read);
                (format!("{call} {}", window.with_peers(&frame)), kind, exact)
            }
        }
    }

    /// `first_value` and `last_value` over the frame that an ORDER BY has by default: which of the peers is meant?
    fn settled_by_peers(&mut self, argument: &str, kind: Kind, window: &Window) -> (String, Kind, bool) {
        let open = window.clauses(&window.partition, &window.order, "");
        if self.chance(0.5) {
            let frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW";
            let full = window.clauses(&window.partition, &window.full_order(), frame);
            return (format!("first_value({argument}) OVER (⟪{open}|{full}⟫)"), kind, true);
        }
        let frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING";
        let partition: Vec<String> = window.partition.iter().chain(&window.order_columns).cloned().collect();
        let full = window.clauses(&partition, &window.rest, frame);
        (format!("last_value({argument}) OVER (⟪{open}|{full}⟫)"), kind, true)
    }

    /// A call whose result is the same for all rows that are equal.
    fn call_of_peers(&mut self, read: &[Column], window: &Window) -> (String, Kind, bool) {
        let peers = window.with_peers("");
        match self.rng.random_range(0..6) {
            0 => (format!("CAST(rank() {peers} AS BIGINT)"), Kind::Int, true),
            1 => (format!("CAST(dense_rank() {peers} AS BIGINT)"), Kind::Int, true),
            2 => (format!("percent_rank() {peers}"), Kind::Float, true),
            3 => (format!("cume_dist() {peers}"), Kind::Float, true),
            _ => {
                let frame = self.peers_frame(window);
                let (call, kind, exact) = self.aggregate_call(read);
                (format!("{call} {}", window.with_peers(&frame)), kind, exact)
            }
        }
    }

    fn aggregate_call(&mut self, read: &[Column]) -> (String, Kind, bool) {
        let kind = Kind::any(&mut self.rng);
        let argument = scalar(&mut self.rng, read, kind, 0);
        let (call, kind, exact) = match (kind, self.rng.random_range(0..9)) {
            (_, 0) => ("count(*)".to_owned(), Kind::Int, true),
            (_, 1) => (format!("count({argument})"), Kind::Int, true),
            (Kind::Odd, _) => (format!("count({argument})"), Kind::Int, true),
            (kind, 2) => (format!("min({argument})"), kind, true),
            (kind, 3) => (format!("max({argument})"), kind, true),
            (Kind::Bool, _) => (format!("count({argument})"), Kind::Int, true),
            (Kind::Text | Kind::Time | Kind::Great, _) => (format!("count({argument})"), Kind::Int, true),
            (kind, 4 | 5) => (format!("sum({argument})"), kind, true),
            (Kind::Decimal, _) => (format!("avg({argument})"), kind, false),
            // (DataFusion's deviation of equal values that were different before is NaN: the root of what is left over.)
            (_, 6) => (format!("var_pop({argument})"), Kind::Float, false),
            (_, _) => (format!("avg({argument})"), Kind::Float, false),
        };
        if self.chance(0.15) {
            let condition = scalar(&mut self.rng, read, Kind::Bool, 1);
            return (format!("{call} FILTER (WHERE {condition})"), kind, exact);
        }
        (call, kind, exact)
    }

    /// A call that collects its rows in order.
    fn list_call(&mut self, read: &[Column]) -> Option<String> {
        let kind = [Kind::Int, Kind::Text][self.rng.random_range(0..2)];
        let argument = column(&mut self.rng, read, kind)?;
        Some(match kind {
            Kind::Text => format!("string_agg({argument}, '-')"),
            _ => format!("array_agg({argument})"),
        })
    }

    pub(super) fn shown(&mut self, read: &[Column], items: &mut Vec<String>, columns: &mut Vec<Column>) {
        for column in read {
            let name = self.name("c");
            items.push(format!("{} AS {name}", column.name));
            columns.push(Column { name, ..column.clone() });
        }
    }

    /// `open`: the query is the whole statement, so that all that it reads is its result.
    pub(super) fn over_functions(&mut self, from: &Relation, open: bool) -> Query {
        let from = &self.readable(from);
        let read = self.read(from);
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        self.shown(&read, &mut items, &mut columns);
        // Equal rows may be put in order in two ways by two windows: only one may number them.
        let windows = if self.chance(0.3) { 2 } else { 1 };
        let mut named = None;
        for number in 0..windows {
            let window = self.window(&read, 2);
            named = Some(window.clauses(&window.partition, &window.order, ""));
            for _ in 0..self.rng.random_range(1..3) {
                let (call, kind, exact) = match number {
                    0 => self.call(&read, &window, open && windows == 1),
                    _ => self.call_of_peers(&read, &window),
                };
                let name = self.name("c");
                items.push(format!("{call} AS {name}"));
                columns.push(Column { name, kind, exact });
            }
        }
        let mut text = format!("SELECT {} FROM {}", items.join(", "), from.from);
        if let Some(clauses) = named
            && text.contains(&format!("OVER ({clauses})"))
            && self.chance(0.3)
        {
            let name = self.name("w");
            text = text.replace(&format!("OVER ({clauses})"), &format!("OVER {name}"));
            text.push_str(&format!(" WINDOW {name} AS ({clauses})"));
        }
        Query { text, columns, append_only: false, rows: from.rows }
    }

    /// The relation, if a column of it can be read to the last bit; or a table.
    pub(super) fn readable(&mut self, from: &Relation) -> Relation {
        match from.columns.iter().any(|column| column.exact) {
            true => from.clone(),
            false => self.table(),
        }
    }

    /// A relation in the order of its event time, that column, and some of the others.
    pub(super) fn read_in_time(&mut self) -> (Relation, Column, Vec<Column>) {
        let from = self.in_time();
        let mut read = self.read(&from);
        let time = from.columns[0].clone();
        read.retain(|column| column.name != time.name);
        if read.is_empty() {
            read.push(from.columns[1].clone());
        }
        (from, time, read)
    }

    /// Window functions over a stream in the order of its event time: rows are final when the watermark says so.
    pub(super) fn over_by_time(&mut self) -> Query {
        let (from, time, mut read) = self.read_in_time();
        let mut window = self.window(&read, 2);
        let others = read.iter().filter(|column| !window.partition.contains(&column.name));
        window.rest = others.map(|column| format!("{} ASC NULLS LAST", column.name)).collect();
        (window.order, window.order_columns) = (vec![time.name.clone()], vec![time.name.clone()]);
        window.order_kind = Some(Kind::Time);
        read.insert(0, time);
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        self.shown(&read, &mut items, &mut columns);
        for _ in 0..self.rng.random_range(1..3) {
            let (call, kind, exact) = self.call(&read, &window, true);
            let name = self.name("c");
            items.push(format!("{call} AS {name}"));
            columns.push(Column { name, kind, exact });
        }
        let text = format!("SELECT {} FROM {}", items.join(", "), from.from);
        Query { text, columns, append_only: from.append_only, rows: from.rows }
    }
}
