//! Random scalar expressions over the columns of a relation.

use rand::Rng;
use rand::rngs::SmallRng;

/// What an expression is of, as far as the generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    /// Integers up to the greatest: compared and passed on, never added up.
    Great,
    Float,
    /// Floats with NaN, infinities and −0: as above.
    Odd,
    Decimal,
    Text,
    Bool,
    Time,
}

impl Kind {
    /// One of those that anything may be of.
    pub(crate) fn any(rng: &mut SmallRng) -> Self {
        const KINDS: [Kind; 12] = [
            Kind::Int,
            Kind::Int,
            Kind::Int,
            Kind::Text,
            Kind::Text,
            Kind::Float,
            Kind::Float,
            Kind::Bool,
            Kind::Time,
            Kind::Great,
            Kind::Odd,
            Kind::Decimal,
        ];
        KINDS[rng.random_range(0..KINDS.len())]
    }

    /// The type that the columns of several queries are brought to.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Kind::Int | Kind::Great => "BIGINT",
            Kind::Float | Kind::Odd => "DOUBLE",
            Kind::Decimal => "DECIMAL(20, 4)",
            Kind::Text => "VARCHAR",
            Kind::Bool => "BOOLEAN",
            Kind::Time => "TIMESTAMP",
        }
    }
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

impl Column {
    pub(crate) fn new(name: String, kind: Kind) -> Self {
        Self { name, kind, exact: true }
    }
}

/// Whether a text names one of the columns.
pub(crate) fn names(columns: &[Column], text: &str) -> bool {
    columns.iter().any(|column| text.contains(&column.name))
}

/// A column of `kind`, if there is one.
pub(crate) fn column(rng: &mut SmallRng, columns: &[Column], kind: Kind) -> Option<String> {
    let usable: Vec<&Column> = columns.iter().filter(|column| column.kind == kind && column.exact).collect();
    (!usable.is_empty()).then(|| usable[rng.random_range(0..usable.len())].name.clone())
}

/// An expression of `kind`, nested at most `depth` deep.
pub(crate) fn scalar(rng: &mut SmallRng, columns: &[Column], kind: Kind, depth: u32) -> String {
    if depth == 0 || rng.random_bool(0.35) {
        match column(rng, columns, kind) {
            Some(column) => return column,
            None if depth == 0 => return literal(rng, kind),
            None => {}
        }
    }
    match kind {
        Kind::Int => integer(rng, columns, depth - 1),
        Kind::Float => float(rng, columns, depth - 1),
        Kind::Text => text(rng, columns, depth - 1),
        Kind::Bool => truth(rng, columns, depth - 1),
        Kind::Time => time(rng, columns, depth - 1),
        Kind::Great | Kind::Odd | Kind::Decimal => chosen(rng, columns, kind, depth - 1),
    }
}

/// A condition that most rows satisfy: queries nest, and each would leave nothing over otherwise.
pub(crate) fn mild(rng: &mut SmallRng, columns: &[Column]) -> String {
    let depth = rng.random_range(1..3);
    let one = scalar(rng, columns, Kind::Bool, depth);
    match rng.random_range(0..6) {
        0 => one,
        1 => format!("({one} OR {})", scalar(rng, columns, Kind::Bool, 1)),
        2 => format!("coalesce({one}, true)"),
        3 => format!("({one} IS NOT TRUE)"),
        4 => {
            let kind = [Kind::Int, Kind::Text, Kind::Float][rng.random_range(0..3)];
            match column(rng, columns, kind) {
                Some(column) => format!("({column} IS NOT NULL)"),
                None => format!("({one} IS NOT FALSE)"),
            }
        }
        _ => match column(rng, columns, Kind::Int) {
            Some(column) => format!("({column} > -3 OR {one})"),
            None => format!("({one} IS NOT FALSE)"),
        },
    }
}

fn integer(rng: &mut SmallRng, columns: &[Column], depth: u32) -> String {
    let n = rng.random_range(1..9);
    let mut inner = |kind| scalar(rng, columns, kind, depth);
    let (one, other) = (inner(Kind::Int), inner(Kind::Int));
    let (text, time, float, truth) = (inner(Kind::Text), inner(Kind::Time), inner(Kind::Float), inner(Kind::Bool));
    let great = inner(Kind::Great);
    match rng.random_range(0..18) {
        0 => format!("({one} + {other})"),
        1 => format!("({one} - {other})"),
        2 => format!("({one} * {n})"),
        16 => format!("CAST(num_nulls({one}, {text}, {time}) AS BIGINT)"),
        17 => format!("CAST(width_bucket({float}, -10, 20, {n}) AS BIGINT)"),
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
        13 => format!("({great} % {})", n + 1),
        14 => format!("greatest({one}, {other})"),
        _ => format!("-({one})"),
    }
}

fn float(rng: &mut SmallRng, columns: &[Column], depth: u32) -> String {
    let mut inner = |kind| scalar(rng, columns, kind, depth);
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

fn text(rng: &mut SmallRng, columns: &[Column], depth: u32) -> String {
    let mut inner = |kind| scalar(rng, columns, kind, depth);
    let (one, other) = (inner(Kind::Text), inner(Kind::Text));
    let (integer, truth, great) = (inner(Kind::Int), inner(Kind::Bool), inner(Kind::Great));
    let time = inner(Kind::Time);
    match rng.random_range(0..16) {
        0 => format!("upper({one})"),
        1 => format!("lower({one})"),
        2 => format!("({one} || {other})"),
        3 => format!("substr({one}, {})", rng.random_range(1..4)),
        4 => format!("CAST({integer} AS VARCHAR)"),
        5 => format!("replace({one}, 'a', {other})"),
        6 => format!("coalesce({one}, {other})"),
        7 => format!("trim({one})"),
        8 => format!("concat({one}, {integer})"),
        9 => format!("CAST({great} AS VARCHAR)"),
        10 => format!("quote_literal({one})"),
        11 => format!("initcap({one})"),
        12 => format!("split_part({one}, ' ', {})", rng.random_range(1..3)),
        13 => format!("to_hex({great})"),
        14 => format!("to_char({time}, 'YYYY-MM-DD HH24:MI:SS')"),
        _ => format!("CASE WHEN {truth} THEN {one} ELSE {other} END"),
    }
}

fn truth(rng: &mut SmallRng, columns: &[Column], depth: u32) -> String {
    // −0 is 0 as a key; a comparison of values tells them apart, as DataFusion's does.
    let any = if rng.random_bool(0.05) { Kind::Odd } else { Kind::any(rng) };
    let comparable = any != Kind::Odd;
    let mut inner = |kind| scalar(rng, columns, kind, depth);
    let (one, other) = (inner(any), inner(any));
    let (truth, also, text, integer) = (inner(Kind::Bool), inner(Kind::Bool), inner(Kind::Text), inner(Kind::Int));
    match rng.random_range(0..13) {
        0 | 1 | 2 | 3 | 10 if !comparable => format!("({one} IS NULL)"),
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
        10 => format!("({one} IS DISTINCT FROM {other})"),
        11 => format!("({one} IS NOT NULL)"),
        _ => format!("({integer} BETWEEN -50 AND 3)"),
    }
}

fn time(rng: &mut SmallRng, columns: &[Column], depth: u32) -> String {
    let (one, other) = (scalar(rng, columns, Kind::Time, depth), scalar(rng, columns, Kind::Time, depth));
    match rng.random_range(0..4) {
        // Never of NULL: the function also truncates the number that stands behind one, which may overflow.
        0 => format!("date_trunc('minute', coalesce({one}, TIMESTAMP '2024-01-01 00:00:00'))"),
        1 => format!("({one} + INTERVAL '90' SECOND)"),
        2 => format!("({one} - INTERVAL '7' SECOND)"),
        _ => format!("coalesce({one}, {other})"),
    }
}

/// Values that are chosen and never computed.
fn chosen(rng: &mut SmallRng, columns: &[Column], kind: Kind, depth: u32) -> String {
    let (one, other) = (scalar(rng, columns, kind, depth), scalar(rng, columns, kind, depth));
    match rng.random_range(0..4) {
        0 => format!("coalesce({one}, {other})"),
        1 => format!("CASE WHEN {} THEN {one} ELSE {other} END", scalar(rng, columns, Kind::Bool, depth)),
        2 if kind == Kind::Decimal => format!("CAST({one} + {other} AS DECIMAL(10, 2))"),
        2 if kind != Kind::Odd => format!("nullif({one}, {})", literal(rng, kind)),
        _ => one,
    }
}

pub(crate) fn literal(rng: &mut SmallRng, kind: Kind) -> String {
    match kind {
        Kind::Int => rng.random_range(-3..20).to_string(),
        Kind::Great => {
            ["9223372036854775807", "9007199254740993", "-9223372036854775807", "0"][rng.random_range(0..4)].to_owned()
        }
        Kind::Float => format!("CAST({} AS DOUBLE)", f64::from(rng.random_range(-20..20)) / 4.0),
        Kind::Odd => {
            ["CAST('NaN' AS DOUBLE)", "CAST(0 AS DOUBLE)", "CAST(0.5 AS DOUBLE)"][rng.random_range(0..3)].to_owned()
        }
        Kind::Decimal => format!("CAST({}.25 AS DECIMAL(10, 2))", rng.random_range(-2..3)),
        Kind::Text => {
            ["'a'", "'b'", "''", "'zone 7'", "'a text that does not fit a view'"][rng.random_range(0..5)].to_owned()
        }
        Kind::Bool => ["true", "false"][rng.random_range(0..2)].to_owned(),
        Kind::Time => format!("TIMESTAMP '2024-01-01 00:0{}:{:02}'", rng.random_range(0..5), rng.random_range(0..60)),
    }
}
