//! MATCH_RECOGNIZE, and what it must find by regular expressions.
//!
//! The batch side makes a text of each partition: for each row a letter, which says which conditions it satisfies, and a
//! token of its own. In that text a pattern is a regular expression, whose matches are found by a library that knows nothing
//! of ours.

use rand::Rng;

use super::super::expression::{Column, Kind, scalar};
use super::over::Window;
use super::{Author, Query, Relation};

/// What stands in a row's token.
const TOKEN: &str = "[-0-9N]*;";

/// A pattern, as it is written in PATTERN and as a regular expression.
struct Pattern {
    clause: String,
    regular: String,
    /// Whether it may have no row.
    empty: bool,
    /// Whether a quantifier may stand behind it.
    whole: bool,
}

impl Author<'_> {
    /// A pattern over rows in any order.
    pub(super) fn matches(&mut self, from: &Relation) -> Query {
        let from = &self.readable(from);
        let read = self.read(from);
        self.matches_in(from, read, None)
    }

    /// A pattern over a stream in the order of its event time.
    pub(super) fn matches_by_time(&mut self) -> Query {
        let (from, time, mut read) = self.read_in_time();
        read.insert(0, time);
        self.matches_in(&from, read, Some(0))
    }

    /// `time`: which column is the event time, by which rows are in order then.
    fn matches_in(&mut self, from: &Relation, read: Vec<Column>, time: Option<usize>) -> Query {
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        self.shown(&read, &mut items, &mut columns);
        let token = columns.iter().find(|column| matches!(column.kind, Kind::Int));
        let token =
            token.map_or("'1;'".to_owned(), |column| format!("coalesce(CAST({} AS TEXT), 'N') || ';'", column.name));
        let mut window = self.window(&columns, 2);
        let plain = |name: &String| {
            let column = columns.iter().find(|column| column.name == *name);
            column.is_some_and(|column| matches!(column.kind, Kind::Int | Kind::Text | Kind::Bool))
        };
        window.partition.retain(plain);
        if let Some(time) = time {
            window.order = vec![columns[time].name.clone()];
        }
        let ordered = |column: &&Column| {
            let name = |part: &String| part.split(' ').next() == Some(column.name.as_str());
            !window.order.iter().any(name) && !window.partition.contains(&column.name)
        };
        window.rest = columns.iter().filter(ordered).map(|column| format!("{} ASC NULLS LAST", column.name)).collect();
        if window.full_order().is_empty() {
            window.order = vec![columns[0].name.clone()];
        }
        self.found(from, &items, &columns, &window, &token)
    }

    fn found(&mut self, from: &Relation, items: &[String], columns: &[Column], window: &Window, token: &str) -> Query {
        let variables = self.rng.random_range(1..=3_u32);
        let order = window.full_order().join(", ");
        let (mut definitions, mut letters) = (Vec::new(), Vec::new());
        for (number, variable) in ["A", "B", "C"].iter().enumerate().take(variables as usize) {
            if self.chance(0.2) {
                continue;
            }
            let (defined, said) = self.condition(columns, window, &order);
            definitions.push(format!("{variable} AS {defined}"));
            letters.push(format!("CASE WHEN {said} THEN {} ELSE 0 END", 1 << number));
        }
        if definitions.is_empty() {
            definitions.push("A AS true".to_owned());
            letters.push("1".to_owned());
        }
        let defined = |variable: usize| {
            let name = ["A AS ", "B AS ", "C AS "][variable];
            definitions.iter().any(|definition| definition.starts_with(name))
        };
        let classes: Vec<String> = (0..variables as usize)
            .map(|variable| {
                let takes = |letter: &u8| !defined(variable) || (letter - b'a') & (1 << variable) != 0;
                let letters: String = (b'a'..b'a' + 8).filter(takes).map(char::from).collect();
                format!("[{letters}]{TOKEN}")
            })
            .collect();
        let mut pattern = self.pattern(&classes, 3);
        if pattern.empty {
            let first = of_variable(&classes, 0);
            pattern.clause = format!("{} {}", first.clause, pattern.clause);
            pattern.regular = format!("{}{}", first.regular, pattern.regular);
        }
        // What the pattern does not name cannot be defined.
        definitions.retain(|definition| pattern.clause.contains(&definition[..1]));
        if definitions.is_empty() {
            definitions.push(format!(
                "{} AS true",
                pattern.clause.trim_start_matches(['(', ' ']).split(|c: char| !c.is_alphabetic()).next().unwrap_or("A")
            ));
        }
        let keys: Vec<String> = window.partition.clone();
        let partition = if keys.is_empty() { String::new() } else { format!("PARTITION BY {} ", keys.join(", ")) };
        let alias = self.name("r");
        let rows = format!("SELECT *, {token} AS token FROM (SELECT {} FROM {}) AS r0", items.join(", "), from.from);
        let clause = &pattern.clause;
        let streamed = format!(
            "({rows}) AS {alias} MATCH_RECOGNIZE ({partition}ORDER BY {order} \
             MEASURES string_agg(token, '') AS found, count(*) AS taken PATTERN ({clause}) DEFINE {})",
            definitions.join(", ")
        );
        let listed = |more: &str| keys.iter().cloned().chain([more.to_owned()]).collect::<Vec<_>>().join(", ");
        let letter = format!("chr(97 + {})", letters.join(" + "));
        let text = format!("string_agg(letter || token, '' ORDER BY {order})");
        let pieces = format!("regexp_replace({text}, '({})|[a-h]{TOKEN}', '\\1,', 'g')", pattern.regular);
        let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
        let batched = format!(
            "(SELECT {} FROM (SELECT {} FROM (SELECT *, {letter} AS letter FROM ({rows}) AS r1) AS r2{group}) AS r3 \
             WHERE piece <> '')",
            listed(
                "regexp_replace(piece, '[a-h]', '', 'g') AS found, CAST(length(piece) - length(replace(piece, ';', '')) AS BIGINT) AS taken"
            ),
            listed(&format!("unnest(string_to_array({pieces}, ',')) AS piece")),
        );
        let twin = self.twin_of_ours(streamed, batched);
        let alias = self.name("m");
        let (mut shown, mut result) = (Vec::new(), Vec::new());
        let found = [("found", Kind::Text), ("taken", Kind::Int)];
        let found = found.map(|(name, kind)| Column { name: name.to_owned(), kind, exact: true });
        let of_keys = columns.iter().filter(|column| keys.contains(&column.name)).cloned();
        for column in of_keys.chain(found) {
            let name = self.name("c");
            shown.push(format!("{alias}.{} AS {name}", column.name));
            result.push(Column { name, ..column });
        }
        let text = format!("SELECT {} FROM {twin} AS {alias}", shown.join(", "));
        Query { text, columns: result, append_only: false, rows: from.rows }
    }

    /// A condition, as it is written in DEFINE and as one of a row for the batch.
    fn condition(&mut self, columns: &[Column], window: &Window, order: &str) -> (String, String) {
        let numbers: Vec<&Column> = columns.iter().filter(|column| column.kind == Kind::Int).collect();
        if !numbers.is_empty() && self.chance(0.4) {
            let name = &numbers[self.rng.random_range(0..numbers.len())].name;
            let sign = ["<", ">", "=", "<>"][self.rng.random_range(0..4)];
            let (go, by) = [("PREV", 1), ("PREV", 2), ("NEXT", 1)][self.rng.random_range(0..3)];
            let lag = if go == "PREV" { "lag" } else { "lead" };
            let partition = match window.partition.as_slice() {
                [] => String::new(),
                keys => format!("PARTITION BY {} ", keys.join(", ")),
            };
            let defined = format!("{name} {sign} {go}({name}, {by})");
            return (defined, format!("{name} {sign} {lag}({name}, {by}) OVER ({partition}ORDER BY {order})"));
        }
        let condition = scalar(&mut self.rng, columns, Kind::Bool, 1);
        (condition.clone(), condition)
    }

    fn pattern(&mut self, classes: &[String], depth: u32) -> Pattern {
        if depth == 0 || self.chance(0.2) {
            let variable = self.rng.random_range(0..classes.len());
            return of_variable(classes, variable);
        }
        match self.rng.random_range(0..6) {
            0..=2 => {
                let parts: Vec<Pattern> =
                    (0..self.rng.random_range(2..4)).map(|_| self.pattern(classes, depth - 1)).collect();
                let joined =
                    |of: fn(&Pattern) -> &String, by: &str| parts.iter().map(of).cloned().collect::<Vec<_>>().join(by);
                Pattern {
                    clause: joined(|part| &part.clause, " "),
                    regular: joined(|part| &part.regular, ""),
                    empty: parts.iter().all(|part| part.empty),
                    whole: false,
                }
            }
            3 => {
                let (one, other) = (self.pattern(classes, depth - 1), self.pattern(classes, depth - 1));
                Pattern {
                    clause: format!("({} | {})", one.clause, other.clause),
                    regular: format!("(?:{}|{})", one.regular, other.regular),
                    empty: one.empty || other.empty,
                    whole: true,
                }
            }
            _ => {
                let what = self.pattern(classes, depth - 1);
                if what.empty {
                    return what;
                }
                let (sign, none) =
                    [("+", false), ("*", true), ("?", true), ("{2}", false), ("{1,2}", false), ("{2,}", false)]
                        [self.rng.random_range(0..6)];
                let reluctant = if sign != "{2}" && self.chance(0.4) { "?" } else { "" };
                let clause = if what.whole { what.clause } else { format!("({})", what.clause) };
                Pattern {
                    clause: format!("{clause}{sign}{reluctant}"),
                    regular: format!("(?:{}){sign}{reluctant}", what.regular),
                    empty: none,
                    whole: false,
                }
            }
        }
    }
}

fn of_variable(classes: &[String], variable: usize) -> Pattern {
    let clause = ["A", "B", "C"][variable].to_owned();
    Pattern { clause, regular: classes[variable].clone(), empty: false, whole: true }
}
