//! Random scalar and aggregate expressions over the columns of a relation.

use rand::Rng;
use rand::rngs::SmallRng;

/// What an expression is of, as far as the generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Float,
    Text,
    Bool,
    Time,
}

/// A column that expressions may use.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// As it is written: `a1.k`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Whether its value is the same to the last bit whatever the order of rows. Others are only passed on: a condition
    /// on them, or a key, would turn a difference in the last digit into another row.
    pub(crate) exact: bool,
}

/// An expression of `kind`, nested at most `depth` deep.
pub(crate) fn scalar(rng: &mut SmallRng, columns: &[Column], kind: Kind, depth: u32) -> String {
    let usable: Vec<&Column> = columns.iter().filter(|column| column.kind == kind && column.exact).collect();
    if !usable.is_empty() && (depth == 0 || rng.random_bool(0.35)) {
        return usable[rng.random_range(0..usable.len())].name.clone();
    }
    if depth == 0 {
        return literal(rng, kind);
    }
    let mut inner = |kind| scalar(rng, columns, kind, depth - 1);
    match kind {
        Kind::Int => {
            let (one, other) = (inner(Kind::Int), inner(Kind::Int));
            let (text, time, float, truth) =
                (inner(Kind::Text), inner(Kind::Time), inner(Kind::Float), inner(Kind::Bool));
            let n = rng.random_range(1..9);
            match rng.random_range(0..14) {
                0 => format!("({one} + {other})"),
                1 => format!("({one} - {other})"),
                2 => format!("({one} * {n})"),
                3 => format!("({one} / {n})"),
                4 => format!("({one} % {n})"),
                5 => format!("abs({one})"),
                6 => format!("coalesce({one}, {other})"),
                7 => format!("nullif({one}, {n})"),
                8 => format!("CAST(length({text}) AS BIGINT)"),
                9 => format!("CAST(EXTRACT(SECOND FROM {time}) AS BIGINT)"),
                10 => format!("CAST(floor({float} / 8) AS BIGINT)"),
                11 => format!("CASE WHEN {truth} THEN {one} ELSE {other} END"),
                12 => format!("CAST(CAST({one} AS VARCHAR) AS BIGINT)"),
                _ => format!("-({one})"),
            }
        }
        Kind::Float => {
            let (one, other) = (inner(Kind::Float), inner(Kind::Float));
            let (integer, truth) = (inner(Kind::Int), inner(Kind::Bool));
            match rng.random_range(0..8) {
                0 => format!("({one} + {other})"),
                1 => format!("({one} - {other})"),
                2 => format!("({one} * 2)"),
                3 => format!("({one} / 4)"),
                4 => format!("abs({one})"),
                5 => format!("coalesce({one}, {other})"),
                6 => format!("CAST({integer} AS DOUBLE)"),
                _ => format!("CASE WHEN {truth} THEN {one} ELSE {other} END"),
            }
        }
        Kind::Text => {
            let (one, other) = (inner(Kind::Text), inner(Kind::Text));
            let (integer, truth) = (inner(Kind::Int), inner(Kind::Bool));
            match rng.random_range(0..9) {
                0 => format!("upper({one})"),
                1 => format!("lower({one})"),
                2 => format!("({one} || {other})"),
                3 => format!("substr({one}, {})", rng.random_range(1..4)),
                4 => format!("CAST({integer} AS VARCHAR)"),
                5 => format!("replace({one}, 'a', {other})"),
                6 => format!("coalesce({one}, {other})"),
                7 => format!("trim({one})"),
                _ => format!("CASE WHEN {truth} THEN {one} ELSE {other} END"),
            }
        }
        Kind::Bool => {
            let any = [Kind::Int, Kind::Float, Kind::Text, Kind::Time][rng.random_range(0..4)];
            let mut inner = |kind| scalar(rng, columns, kind, depth - 1);
            let (one, other) = (inner(any), inner(any));
            let (truth, also, text, integer) =
                (inner(Kind::Bool), inner(Kind::Bool), inner(Kind::Text), inner(Kind::Int));
            match rng.random_range(0..11) {
                0 => format!("({one} = {other})"),
                1 => format!("({one} < {other})"),
                2 => format!("({one} >= {other})"),
                3 => format!("({one} <> {other})"),
                4 => format!("({truth} AND {also})"),
                5 => format!("({truth} OR {also})"),
                6 => format!("(NOT {truth})"),
                7 => format!("({one} IS NULL)"),
                8 => format!("({text} LIKE '%a%')"),
                9 => format!("({integer} IN (0, 2, -1))"),
                _ => format!("({integer} BETWEEN -50 AND 3)"),
            }
        }
        Kind::Time => {
            let one = inner(Kind::Time);
            let other = inner(Kind::Time);
            match rng.random_range(0..4) {
                // Never of NULL: the function also truncates the number that stands behind one, which may overflow.
                0 => format!("date_trunc('minute', coalesce({one}, TIMESTAMP '2024-01-01 00:00:00'))"),
                1 => format!("({one} + INTERVAL '90' SECOND)"),
                2 => format!("({one} - INTERVAL '7' SECOND)"),
                _ => format!("coalesce({one}, {other})"),
            }
        }
    }
}

fn literal(rng: &mut SmallRng, kind: Kind) -> String {
    match kind {
        Kind::Int => rng.random_range(-3..20).to_string(),
        Kind::Float => format!("CAST({} AS DOUBLE)", f64::from(rng.random_range(-20..20)) / 4.0),
        Kind::Text => {
            ["'a'", "'b'", "''", "'zone 7'", "'a text that does not fit a view'"][rng.random_range(0..5)].to_owned()
        }
        Kind::Bool => ["true", "false"][rng.random_range(0..2)].to_owned(),
        Kind::Time => format!("TIMESTAMP '2024-01-01 00:0{}:{:02}'", rng.random_range(0..5), rng.random_range(0..60)),
    }
}

/// An aggregate call: its text, what it is of, and whether it is exact.
pub(crate) fn aggregate(rng: &mut SmallRng, columns: &[Column]) -> (String, Kind, bool) {
    let kind = [Kind::Int, Kind::Int, Kind::Float, Kind::Text, Kind::Bool, Kind::Time][rng.random_range(0..6)];
    let depth = rng.random_range(0..2);
    let argument = scalar(rng, columns, kind, depth);
    let (call, kind, exact) = match (kind, rng.random_range(0..12)) {
        _ if rng.random_bool(0.25) => of_rows(rng, columns, kind, &argument),
        (_, 0) => ("count(*)".to_owned(), Kind::Int, true),
        (_, 1) => (format!("count({argument})"), Kind::Int, true),
        (_, 2) => (format!("count(DISTINCT {argument})"), Kind::Int, true),
        (Kind::Bool, n) if n % 2 == 0 => (format!("bool_and({argument})"), Kind::Bool, true),
        (Kind::Bool, _) => (format!("bool_or({argument})"), Kind::Bool, true),
        (kind, 3 | 4) => (format!("min({argument})"), kind, true),
        (kind, 5 | 6) => (format!("max({argument})"), kind, true),
        (Kind::Text | Kind::Time, _) => (format!("count({argument})"), Kind::Int, true),
        (kind, 7 | 8) => (format!("sum({argument})"), kind, true),
        (_, 9) => (format!("avg({argument})"), Kind::Float, true),
        (Kind::Int, 10) => (format!("sum(DISTINCT {argument})"), Kind::Int, true),
        (Kind::Int, _) => (format!("bit_xor({argument})"), Kind::Int, true),
        (_, 10) => (format!("stddev_pop({argument})"), Kind::Float, false),
        (_, _) => (format!("var_samp({argument})"), Kind::Float, false),
    };
    if rng.random_bool(0.2) {
        let condition = scalar(rng, columns, Kind::Bool, 1);
        return (format!("{call} FILTER (WHERE {condition})"), kind, exact);
    }
    (call, kind, exact)
}

/// A call that is computed from its rows in order, or from all of them.
fn of_rows(rng: &mut SmallRng, columns: &[Column], kind: Kind, argument: &str) -> (String, Kind, bool) {
    let by = [Kind::Int, Kind::Time, Kind::Text][rng.random_range(0..3)];
    let order = scalar(rng, columns, by, 0);
    let desc = ["", " DESC", " NULLS FIRST"][rng.random_range(0..3)];
    let by = if order == argument { format!("{order}{desc}") } else { format!("{order}{desc}, {argument}") };
    if !columns.iter().any(|column| argument.contains(&column.name)) {
        // An order by constants is none.
        return (format!("count({argument})"), Kind::Int, true);
    }
    match (rng.random_range(0..10), kind) {
        (0, _) => (format!("array_agg({argument} ORDER BY {argument})"), Kind::Text, false),
        (1, _) => (format!("array_agg(DISTINCT {argument} ORDER BY {argument}{desc})"), Kind::Text, false),
        (2, Kind::Text) => (format!("string_agg({argument}, '-' ORDER BY {by})"), kind, true),
        (3, _) => (format!("last_value({argument} ORDER BY {by})"), kind, true),
        (4, _) => (format!("nth_value({argument}, 2 ORDER BY {by})"), kind, true),
        (5, Kind::Int | Kind::Float) => (format!("median({argument})"), kind, kind == Kind::Float),
        (6, Kind::Int) => (format!("bit_and({argument})"), kind, true),
        (7, Kind::Int) => (format!("bit_or({argument})"), kind, true),
        (8, Kind::Int | Kind::Float) => (format!("covar_pop({argument}, 2 + {argument})"), Kind::Float, false),
        (9, Kind::Int | Kind::Float) => (format!("avg(DISTINCT {argument})"), Kind::Float, true),
        _ => (format!("first_value({argument} ORDER BY {by})"), kind, true),
    }
}
