//! Random statements of the classes that run continuously, as text.
//!
//! A query is made of relations that are queries again, up to four deep. What the batch side must say in other words is
//! written twice ([`written`]).

mod free;
mod grouped;
mod joins;
mod nearest;
mod outside;
mod over;
mod patterns;
mod projected;
mod sets;
mod shown;
mod sources;
mod subqueries;
mod top;
mod windows;
mod written;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::shown::Corrections;
use super::expression::Column;
use super::said::Fold;
use super::table::{SECOND, START};
pub(crate) use windows::{WindowSource, Windows};
use written::{Reader, Twin, marker, twin, written};

/// A statement, thrice: as a stream query, as the batch query that says what its result must be, and as another database reads it.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// As it is run continuously.
    pub(crate) sql: String,
    /// The same over tables `w0`, `w1`, … in the place of window functions over streams, and without EMIT.
    pub(crate) batch_sql: String,
    /// As it is run continuously, but over tables in the place of window functions, and in words that are not ours alone.
    pub(crate) judged_sql: String,
    /// What stands in `w0`, `w1`, ….
    pub(crate) windows: Vec<WindowSource>,
    /// If it says parts of its result: how each column is made of them.
    pub(crate) folds: Vec<Fold>,
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
#[derive(Debug, Clone)]
struct Relation {
    from: String,
    columns: Vec<Column>,
    append_only: bool,
    /// Rows, roughly and at most.
    rows: usize,
}

/// A query's text, and what can be said of its result.
#[derive(Debug, Clone)]
struct Query {
    text: String,
    columns: Vec<Column>,
    append_only: bool,
    rows: usize,
}

/// Makes statements.
struct Author<'a> {
    rng: SmallRng,
    tables: &'a [Readable],
    windows: Vec<WindowSource>,
    /// Queries that the batch side must say in other words.
    twins: Vec<Twin>,
    /// `WITH name AS (query)`, the first first.
    named: Vec<(String, Query)>,
    next_name: usize,
    /// The statement ends with EMIT AFTER WATERMARK.
    after_watermark: bool,
    /// Some rows are late: only windowed aggregates and OVER by time say exactly which they don't count.
    late_rows: bool,
    /// ALLOWED LATENESS, in seconds.
    lateness: i64,
    corrections: Corrections,
    folds: Vec<Fold>,
}

/// The time of day.
const NOW: &str = "now()";

/// Pairs of rows that one join may make.
const MOST_JOINED: usize = 20_000;

impl Statement {
    /// A statement over `tables`.
    pub(crate) fn random(seed: u64, tables: &[Readable], late_rows: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        // A generator of its own, so that the others' statements don't depend on it.
        let corrections = match late_rows {
            true => Corrections::Plain,
            false => Corrections::random(&mut SmallRng::seed_from_u64(seed ^ 0x656d_6974)),
        };
        let after_watermark = rng.random_bool(0.3) && !matches!(corrections, Corrections::Replaced { .. });
        let lateness = if late_rows && after_watermark && rng.random_bool(0.4) { rng.random_range(1..12) } else { 0 };
        let mut author = Author { after_watermark, late_rows, lateness, corrections, ..Author::new(rng, tables) };
        let query = author.query_of_statement();
        let mut statement = author.statement(query);
        let early = match (late_rows, corrections, after_watermark) {
            (true, ..) => 0.0,
            (_, Corrections::Plain, false) => 0.05,
            (_, Corrections::Plain, true) => 0.1,
            _ => 0.4,
        };
        let early = !late_rows && author.chance(early);
        statement.sql.push_str(&author.emit(early));
        statement
    }

    /// A statement over `tables` that only another database judges ([`free`]).
    pub(crate) fn free(seed: u64, tables: &[Readable]) -> Self {
        let mut author = Author::new(SmallRng::seed_from_u64(seed), tables);
        let depth = author.rng.random_range(1..3);
        let query = author.free(depth, &[]);
        author.statement(query)
    }

    /// Whether it asks for the time of day.
    pub(crate) fn reads_clock(&self) -> bool {
        self.sql.contains(NOW)
    }

    /// The statement at a moment: that in the place of `now()`.
    pub(crate) fn at(&self, now: i64) -> Self {
        let seconds = (now - START) / SECOND;
        let now = format!("TIMESTAMP '2024-01-01 00:{:02}:{:02}'", seconds / 60, seconds % 60);
        let [sql, batch_sql, judged_sql] =
            [&self.sql, &self.batch_sql, &self.judged_sql].map(|sql| sql.replace(NOW, &now));
        Self { sql, batch_sql, judged_sql, ..self.clone() }
    }

    /// Whether changes may be held back until some time has passed.
    pub(crate) fn is_delayed(&self) -> bool {
        self.sql.contains("AFTER DELAY ")
    }

    /// Whether what is shown at the end of each epoch is the answer so far.
    pub(crate) fn is_current(&self) -> bool {
        !self.sql.rsplit_once(" EMIT").is_some_and(|(_, emit)| emit.contains(" AFTER "))
    }
}

impl<'a> Author<'a> {
    /// Of statements without EMIT, over tables without late rows.
    fn new(rng: SmallRng, tables: &'a [Readable]) -> Self {
        let (windows, twins, named, folds) = Default::default();
        Self {
            rng,
            tables,
            windows,
            twins,
            named,
            next_name: 0,
            after_watermark: false,
            late_rows: false,
            lateness: 0,
            corrections: Corrections::Plain,
            folds,
        }
    }

    /// The statement that is a query, without EMIT.
    fn statement(&self, query: Query) -> Statement {
        let named = self.named.iter().map(|(name, query)| format!("{name} AS ({})", query.text));
        let text = match named.collect::<Vec<_>>().join(", ") {
            named if named.is_empty() => query.text,
            named => format!("WITH {named} {}", query.text),
        };
        let [sql, batch_sql, judged_sql] = [Reader::Stream, Reader::Batch, Reader::Judge]
            .map(|reader| written(&text, &self.twins, &self.windows, reader));
        Statement { sql, batch_sql, judged_sql, windows: self.windows.clone(), folds: self.folds.clone() }
    }

    fn query_of_statement(&mut self) -> Query {
        let shown = match self.corrections {
            Corrections::Replaced { .. } => Some(self.keyed_aggregate()),
            Corrections::Parts { .. } => self.partial_aggregate(),
            Corrections::Plain | Corrections::Stream => None,
        };
        if shown.is_none() && matches!(self.corrections, Corrections::Parts { .. }) {
            self.corrections = Corrections::Stream;
            self.folds.clear();
        }
        match (shown, self.late_rows, self.after_watermark) {
            (Some(query), ..) => query,
            (_, true, true) if self.lateness == 0 && self.chance(0.25) => match self.chance(0.3) {
                true => self.matches_by_time(),
                false => self.over_by_time(),
            },
            (_, true, _) => self.windowed_aggregate(false),
            (_, false, true) => self.final_query(),
            (_, false, false) => {
                let depth = [1, 2, 2, 3, 3, 4][self.rng.random_range(0..6)];
                self.query(depth, true)
            }
        }
    }

    /// A query whose rows are final.
    fn final_query(&mut self) -> Query {
        match self.rng.random_range(0..12) {
            11 => self.matches_by_time(),
            10 => self.nearest(true),
            0 | 1 => self.windowed_aggregate(false),
            2 | 3 => self.over_windows(),
            4 | 5 => self.window_join(),
            6 => self.over_by_time(),
            7 => self.interval_join(),
            8 => {
                let relation = self.windowed_relation();
                let bounds = [[0].as_slice(), &[1], &[0, 1]][self.rng.random_range(0..3)];
                self.top(&relation, true, bounds)
            }
            _ => {
                let relation = self.windowed_relation();
                self.projection(&relation, true)
            }
        }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.next_name += 1;
        format!("{prefix}{}", self.next_name)
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A query over relations that are nested at most `depth - 1` deep. `whole`: it is the statement, so that ties may be
    /// left to the canonical form.
    fn query(&mut self, depth: u32, whole: bool) -> Query {
        let below = depth.saturating_sub(1);
        match self.rng.random_range(0..40) {
            // Ties are broken by the columns that are read, which a query around it decides: it stands alone.
            34 | 35 if whole => self.nearest(false),
            39 => {
                let from = self.relation(below);
                self.matches(&from)
            }
            36 => self.first_of_each(),
            38 => self.summed_of_each(),
            37 => {
                let from = self.relation(below);
                self.passing(&from)
            }
            0..=4 => {
                let from = self.relation(below);
                self.projection(&from, true)
            }
            5..=8 => {
                let from = self.relation(below);
                self.grouped(&from)
            }
            9 | 10 => self.windowed_aggregate(false),
            11 => self.windows_over(below),
            12..=14 => self.join(below),
            15 => self.joins_of_many(below),
            16 => self.interval_join(),
            17..=19 => self.set_operation(below),
            20..=22 => {
                let from = self.relation(below);
                self.with_subqueries(&from, below)
            }
            23 => {
                let from = self.relation(below);
                self.distinct(&from)
            }
            24..=26 => {
                let from = self.relation(below);
                self.over_functions(&from, whole)
            }
            27 | 28 => {
                let from = self.relation(below);
                self.top(&from, whole, &[])
            }
            29 => {
                let from = self.relation(below);
                self.distinct_on(&from, whole)
            }
            30 => {
                let from = self.relation(below);
                self.limit(&from, whole)
            }
            31 => {
                let from = self.relation(below);
                self.unnested(&from)
            }
            _ => self.lateral(below),
        }
    }

    /// A relation nested at most `depth` deep.
    fn relation(&mut self, depth: u32) -> Relation {
        if depth == 0 || self.chance(0.2) {
            return match self.rng.random_range(0..16) {
                0 => self.values(),
                1 | 2 => self.expanded(),
                _ => self.table(),
            };
        }
        if let Some((name, query)) = self.named_before() {
            return self.derived(&name, query);
        }
        let query = self.query(depth, false);
        if self.chance(0.1) {
            let name = self.name("q");
            self.named.push((name.clone(), query.clone()));
            return self.derived(&name, query);
        }
        self.derived(&format!("({})", query.text), query)
    }

    /// A query of WITH once more.
    fn named_before(&mut self) -> Option<(String, Query)> {
        (!self.named.is_empty() && self.chance(0.3)).then(|| {
            let number = self.rng.random_range(0..self.named.len());
            self.named[number].clone()
        })
    }

    /// A query as a relation; `text` is how it stands in FROM.
    fn derived(&mut self, text: &str, query: Query) -> Relation {
        let alias = self.name("a");
        let qualified = |column: Column| Column { name: format!("{alias}.{}", column.name), ..column };
        let columns = query.columns.into_iter().map(qualified).collect();
        Relation { from: format!("{text} AS {alias}"), columns, append_only: query.append_only, rows: query.rows }
    }

    /// Puts a text as the stream's, and another as the batch's.
    fn twin(&mut self, streamed: String, batched: String) -> String {
        self.put(Twin { streamed, batched, ours: false })
    }

    /// As [`Self::twin`], of words for the stream that no other database knows.
    fn twin_of_ours(&mut self, streamed: String, batched: String) -> String {
        self.put(Twin { streamed, batched, ours: true })
    }

    fn put(&mut self, of: Twin) -> String {
        self.twins.push(of);
        twin(self.twins.len() - 1)
    }
}
