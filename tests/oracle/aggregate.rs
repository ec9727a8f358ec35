//! Random calls of aggregate functions.

use rand::Rng;
use rand::rngs::SmallRng;

use super::expression::{Column, Kind, column, names, scalar};

/// An aggregate call: its text, what it is of, and whether it is exact.
pub(crate) fn aggregate(rng: &mut SmallRng, columns: &[Column]) -> (String, Kind, bool) {
    let kind = Kind::any(rng);
    let depth = rng.random_range(0..2);
    let argument = scalar(rng, columns, kind, depth);
    let (call, kind, exact) = match rng.random_range(0..10) {
        0..=2 => of_rows(rng, columns, kind, &argument),
        3 => statistic(rng, columns),
        4 if depth == 0 => distinct(rng, columns, kind, &argument),
        _ => plain(rng, kind, &argument),
    };
    if rng.random_bool(0.2) {
        let condition = scalar(rng, columns, Kind::Bool, 1);
        let filter = format!(" FILTER (WHERE {condition})");
        return match call.contains(FILTER) {
            true => (call.replace(FILTER, &filter), kind, exact),
            false => (format!("{call}{filter}"), kind, exact),
        };
    }
    (call.replace(FILTER, ""), kind, exact)
}

/// Where a FILTER goes in a call that is written in two ways.
const FILTER: &str = "⟨filter⟩";

/// DataFusion computes some aggregates with the opposite order from their end, these wrongly: the batch says them otherwise.
fn turned(call: &str, list: &str, otherwise: impl Fn(&str) -> String) -> String {
    format!("⟪{call}{FILTER}|{}⟫", otherwise(&format!("{list}{FILTER}")))
}

/// What can be added up row by row, or is the least or greatest.
fn plain(rng: &mut SmallRng, kind: Kind, argument: &str) -> (String, Kind, bool) {
    match (kind, rng.random_range(0..12)) {
        (_, 0) => ("count(*)".to_owned(), Kind::Int, true),
        (_, 1) => (format!("count({argument})"), Kind::Int, true),
        (Kind::Bool, n) if n % 2 == 0 => (format!("bool_and({argument})"), Kind::Bool, true),
        (Kind::Bool, _) => (format!("bool_or({argument})"), Kind::Bool, true),
        // DataFusion's min and max of floats depend on where among them a NaN stands.
        (Kind::Odd, _) => (format!("count({argument})"), Kind::Int, true),
        (kind, 3 | 4) => (format!("min({argument})"), kind, true),
        (kind, 5 | 6) => (format!("max({argument})"), kind, true),
        (Kind::Text | Kind::Time, _) => (format!("count({argument})"), Kind::Int, true),
        (Kind::Int | Kind::Great, 7) => (format!("bit_and({argument})"), kind, true),
        (Kind::Int | Kind::Great, 8) => (format!("bit_or({argument})"), kind, true),
        (Kind::Int | Kind::Great, 9) => (format!("bit_xor({argument})"), kind, true),
        (Kind::Great, _) => (format!("count({argument})"), Kind::Int, true),
        (Kind::Int | Kind::Float, 10) => (format!("avg({argument})"), Kind::Float, true),
        // Of an average of decimals only the value is compared: its type has more digits than a key needs.
        (Kind::Decimal, 10) => (format!("avg({argument})"), kind, false),
        (_, _) => (format!("sum({argument})"), kind, true),
    }
}

/// Statistics of floats: equal up to the last digits.
fn statistic(rng: &mut SmallRng, columns: &[Column]) -> (String, Kind, bool) {
    let kind = [Kind::Int, Kind::Float][rng.random_range(0..2)];
    let (one, other) = (scalar(rng, columns, kind, 0), scalar(rng, columns, Kind::Float, 0));
    let call = match rng.random_range(0..10) {
        0 => format!("stddev_pop({one})"),
        1 => format!("stddev({one})"),
        2 => format!("var_pop({one})"),
        3 => format!("var_samp({one})"),
        4 => format!("covar_pop({one}, {other})"),
        5 => format!("covar_samp({one}, {other})"),
        6 => format!("regr_count({one}, {other})"),
        7 => format!("regr_avgx({one}, {other})"),
        8 => format!("regr_sxx({one}, {other})"),
        _ => format!("regr_sxy({one}, {other})"),
    };
    (call, Kind::Float, false)
}

/// Different values.
fn distinct(rng: &mut SmallRng, columns: &[Column], kind: Kind, argument: &str) -> (String, Kind, bool) {
    if !names(columns, argument) {
        return (format!("count({argument})"), Kind::Int, true);
    }
    match (kind, rng.random_range(0..6)) {
        (Kind::Int | Kind::Text, 0) => (format!("min(DISTINCT {argument})"), kind, true),
        (Kind::Int | Kind::Float, 1) => (format!("sum(DISTINCT {argument})"), kind, true),
        (Kind::Int | Kind::Float, 2) => (format!("avg(DISTINCT {argument})"), Kind::Float, true),
        // A sketch: of few values it is exact.
        (Kind::Bool, 3 | 4) => (format!("approx_distinct({argument})"), Kind::Int, true),
        _ => (format!("count(DISTINCT {argument})"), Kind::Int, true),
    }
}

/// A call that is computed from its rows in order, or from all of them.
fn of_rows(rng: &mut SmallRng, columns: &[Column], kind: Kind, argument: &str) -> (String, Kind, bool) {
    // DataFusion panics where an order names one column in two ways: `x, x / 1`.
    let Some(argument) = column(rng, columns, kind) else { return (format!("count({argument})"), Kind::Int, true) };
    let by = [Kind::Int, Kind::Time, Kind::Text, Kind::Great][rng.random_range(0..4)];
    let order = column(rng, columns, by).unwrap_or_else(|| argument.clone());
    let desc = ["", " DESC", " NULLS FIRST"][rng.random_range(0..3)];
    let by = if order == argument { format!("{order}{desc}") } else { format!("{order}{desc}, {argument}") };
    if kind == Kind::Odd {
        // A list shows −0 as it came.
        return (format!("count({argument})"), Kind::Int, true);
    }
    match (rng.random_range(0..9), kind) {
        (0, _) => (format!("array_agg({argument} ORDER BY {argument})"), Kind::Text, false),
        (1, _) => {
            let call = format!("array_agg(DISTINCT {argument} ORDER BY {argument}{desc})");
            let (order, nulls) = match desc {
                "" => ("ASC", "LAST"),
                " DESC" => ("DESC", "FIRST"),
                _ => ("ASC", "FIRST"),
            };
            let list = format!("array_agg(DISTINCT {argument})");
            let call = turned(&call, &list, |list| format!("array_sort({list}, '{order}', 'NULLS {nulls}')"));
            (call, Kind::Text, false)
        }
        (2, Kind::Text) => (format!("string_agg({argument}, '-' ORDER BY {by})"), kind, true),
        (3, _) => (format!("last_value({argument} ORDER BY {by})"), kind, true),
        (4, _) => {
            let (call, list) =
                (format!("nth_value({argument}, 2 ORDER BY {by})"), format!("array_agg({argument} ORDER BY {by})"));
            (turned(&call, &list, |list| format!("array_element({list}, 2)")), kind, true)
        }
        (5, Kind::Int | Kind::Float) => (format!("median({argument})"), kind, kind == Kind::Float),
        (6, Kind::Float) => (format!("percentile_cont(0.25) WITHIN GROUP (ORDER BY {argument})"), Kind::Float, false),
        (7, _) => (format!("array_agg({argument} ORDER BY {by})"), Kind::Text, false),
        _ => (format!("first_value({argument} ORDER BY {by})"), kind, true),
    }
}
