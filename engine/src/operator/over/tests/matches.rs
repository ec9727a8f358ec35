//! MATCH_RECOGNIZE: after every change what is shown is what a search in all rows finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, WindowFunctionDefinition, WindowUDF, cast, col, lit};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::harness::{Row, Run, batch_of, spec};
use super::rows::by_time;
use crate::operator::Operator;
use crate::operator::over::partition::Change;
use crate::plan::flow::{Emit, OverSpec};
use crate::plan::{End, Finds, Formula, Navigation, Operand, Pattern, Recognition, Recognize, Skip, Variable};
use crate::time::WatermarkId;

const A: usize = 0;
const B: usize = 1;

/// The value of the column x.
fn value(variable: Option<usize>, from: End, offset: usize, shift: i64) -> Navigation {
    Navigation {
        finds: Finds::Value { argument: 1, variable, from, offset, shift },
        data_type: DataType::Int64,
        text: String::new(),
    }
}

fn found(number: usize) -> Expr {
    col(format!("__found{number}"))
}

fn formula(expr: Expr, mut navigations: Vec<Navigation>) -> Formula {
    for (number, navigation) in navigations.iter_mut().enumerate() {
        navigation.text = format!("__found{number}");
    }
    Formula { expr, navigations }
}

fn repeated(variable: usize, least: u32, most: Option<u32>, greedy: bool) -> Pattern {
    Pattern::Repeated { what: Box::new(Pattern::Variable(variable)), least, most, greedy }
}

/// A pattern of A and B, with their conditions.
fn recognition(pattern: Vec<Pattern>, a: Option<Formula>, b: Option<Formula>) -> Recognition {
    let sum = Finds::Aggregate {
        function: sum_udaf(),
        distinct: false,
        arguments: vec![Operand::Argument(1)],
        variable: None,
    };
    let measures = vec![
        ("first".to_owned(), formula(found(0), vec![value(None, End::First, 0, 0)])),
        ("last".to_owned(), formula(found(0), vec![value(None, End::Last, 0, 0)])),
        (
            "sum".to_owned(),
            formula(found(0), vec![Navigation { finds: sum, data_type: DataType::Int64, text: String::new() }]),
        ),
    ];
    let variable = |name: &str, condition| Variable { name: name.to_owned(), condition };
    Recognition {
        variables: vec![variable("a", a), variable("b", b)],
        pattern: Pattern::Sequence(pattern),
        skip: Skip::PastLastRow,
        within: None,
        measures,
        text: String::new(),
    }
}

/// Rows fall, each below the one before it in the match.
fn falls(variable: usize) -> Formula {
    let condition = found(0).lt(found(1)).or(found(1).is_null());
    formula(condition, vec![value(Some(variable), End::Last, 0, 0), value(Some(variable), End::Last, 1, 0)])
}

/// The sum of all rows is small.
fn is_small() -> Formula {
    let sum = Finds::Aggregate {
        function: sum_udaf(),
        distinct: false,
        arguments: vec![Operand::Argument(1)],
        variable: None,
    };
    formula(found(0).lt(lit(12_i64)), vec![Navigation { finds: sum, data_type: DataType::Int64, text: String::new() }])
}

/// A row above the one before it in the partition.
fn rises() -> Formula {
    formula(found(0).gt(found(1)), vec![value(None, End::Last, 0, 0), value(None, End::Last, 0, -1)])
}

/// A row below the next.
fn will_rise() -> Formula {
    formula(found(0).lt(found(1)), vec![value(None, End::Last, 0, 0), value(None, End::Last, 0, 1)])
}

fn recognitions() -> Vec<Recognition> {
    let any = || Pattern::Variable(A);
    let more = |greedy| repeated(B, 1, None, greedy);
    let falling = recognition(vec![any(), more(true)], None, Some(falls(B)));
    let small = recognition(vec![repeated(A, 1, None, true), Pattern::Variable(B)], Some(is_small()), Some(rises()));
    let rising = recognition(vec![any(), more(false), repeated(A, 0, Some(2), true)], None, Some(rises()));
    let will = recognition(vec![repeated(A, 2, Some(3), true), Pattern::Variable(B)], Some(will_rise()), None);
    let mut nearby = recognition(vec![any(), more(true)], None, Some(rises()));
    nearby.within = Some(8);
    let mut next = falling.clone();
    (next.skip, next.within) = (Skip::ToNextRow, Some(15));
    let mut last = recognition(vec![any(), more(true)], None, Some(falls(B)));
    last.skip = Skip::ToLast(B);
    let mut first = small.clone();
    first.skip = Skip::ToFirst(B);
    vec![falling, small, rising, will, nearby, next, last, first]
}

fn time() -> Expr {
    cast(col("t"), DataType::Timestamp(TimeUnit::Microsecond, None))
}

fn call(recognition: &Recognition) -> Expr {
    let function = WindowUDF::from(Recognize::new(recognition.clone()).unwrap());
    let function = WindowFunctionDefinition::WindowUDF(Arc::new(function));
    Expr::WindowFunction(Box::new(WindowFunction::new(function, vec![time(), col("x")])))
}

fn over(recognition: &Recognition) -> OverSpec {
    OverSpec { order: by_time(), ..spec(vec![call(recognition)]) }
}

/// What is found in all rows.
fn answer(recognition: &Recognition, rows: &BTreeMap<Row, i64>) -> BTreeMap<Vec<Option<i64>>, i64> {
    let mut whole = Run::new(over(recognition), true);
    whole.epoch(&rows.iter().map(|(row, count)| (*row, *count)).collect::<Vec<_>>());
    whole.sum
}

#[test]
fn changes_lead_to_what_is_found_in_all_rows() {
    for (number, recognition) in recognitions().iter().enumerate() {
        for seed in 0..40 {
            let mut rng = SmallRng::seed_from_u64(1000 * number as u64 + seed);
            let mut run = Run::new(over(recognition), true);
            let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
            for _ in 0..12 {
                let mut changes = Vec::new();
                for _ in 0..rng.random_range(0..6) {
                    let row = (rng.random_range(0..2), rng.random_range(0..40), rng.random_range(0..7));
                    let there = rows.get(&row).copied().unwrap_or(0);
                    let weight = if there > 0 && rng.random_bool(0.6) { -1 } else { 1 };
                    *rows.entry(row).or_default() += weight;
                    changes.push((row, weight));
                }
                rows.retain(|_, count| *count != 0);
                run.epoch(&changes);
                assert_eq!(run.sum, answer(recognition, &rows), "pattern {number}, seed {seed}");
                if rng.random_bool(0.2) {
                    run.restart();
                }
            }
        }
    }
}

#[test]
fn settled_rows_are_forgotten_and_the_answer_stays_that_of_all_rows() {
    for (number, recognition) in recognitions().iter().enumerate() {
        for emit in [Emit::OnChange, Emit::AfterWatermark] {
            for seed in 0..30 {
                let mut rng = SmallRng::seed_from_u64(1000 * number as u64 + seed);
                let settles = Some((WatermarkId(0), 0));
                let mut run = Run::new(OverSpec { settles, emit, ..over(recognition) }, false);
                let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
                let mut watermark = 0;
                for _ in 0..15 {
                    let mut changes = Vec::new();
                    for _ in 0..rng.random_range(0..5) {
                        let row = (rng.random_range(0..2), watermark + rng.random_range(0..12), rng.random_range(0..7));
                        *rows.entry(row).or_default() += 1;
                        changes.push((row, 1));
                    }
                    watermark += rng.random_range(0..6);
                    run.epoch_at(&changes, watermark);
                    let answer = answer(recognition, &rows);
                    match emit {
                        Emit::OnChange => assert_eq!(run.sum, answer, "pattern {number}, seed {seed}"),
                        // What was said stays right, whatever comes.
                        Emit::AfterWatermark => {
                            let said =
                                run.sum.iter().all(|(row, count)| answer.get(row).is_some_and(|all| all >= count));
                            assert!(said, "pattern {number}, seed {seed}: {:?} of {answer:?}", run.sum);
                        }
                    }
                    if rng.random_bool(0.2) {
                        run.restart();
                    }
                }
                run.epoch_at(&[], i64::MAX);
                assert_eq!(run.sum, answer(recognition, &rows), "pattern {number}, seed {seed}, at the end");
                let forgets = recognition.forgets_settled_rows();
                assert_eq!(
                    run.over.state_size().rows == 0,
                    forgets || rows.is_empty(),
                    "pattern {number}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn partitions_that_are_complete_are_shown_and_released() {
    for recognition in recognitions() {
        for emit in [Emit::OnChange, Emit::AfterWatermark] {
            let partition = vec![cast(col("k"), DataType::Timestamp(TimeUnit::Microsecond, None))];
            let closes = Some((0, WatermarkId(0), 0));
            let mut run = Run::new(OverSpec { partition, closes, emit, ..over(&recognition) }, false);
            let mut rng = SmallRng::seed_from_u64(7);
            let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
            for step in 1..=8 {
                let rows_of = |key: i64| (key * 10, rng.random_range(0..30), rng.random_range(0..7));
                let new: Vec<Row> = [step, step, step, step + 1, step + 1].into_iter().map(rows_of).collect();
                new.iter().for_each(|row| *rows.entry(*row).or_default() += 1);
                run.epoch_at(&new.into_iter().map(|row| (row, 1)).collect::<Vec<_>>(), step * 10);
                if step == 4 {
                    run.restart();
                }
                let complete = |row: &Row| emit == Emit::OnChange || row.0 < step * 10;
                let there = rows.iter().filter(|(row, _)| complete(row)).map(|(row, count)| (*row, *count)).collect();
                assert_eq!(run.sum, answer(&recognition, &there));
            }
            run.epoch_at(&[], i64::MAX);
            assert_eq!((run.sum.clone(), run.over.state_size().rows), (answer(&recognition, &rows), 0));
        }
    }
}

#[test]
fn within_bounds_what_is_kept() {
    let mut recognition = recognition(vec![Pattern::Variable(A), repeated(B, 3, None, true)], None, Some(falls(B)));
    recognition.within = Some(10);
    for emit in [Emit::OnChange, Emit::AfterWatermark] {
        let settles = Some((WatermarkId(0), 0));
        let mut run = Run::new(OverSpec { settles, emit, ..over(&recognition) }, false);
        for time in 0..200 {
            // They fall for ever.
            run.epoch_at(&[((1, time, -time), 1)], time);
            assert!(run.over.state_size().rows <= 12, "{} at {time}", run.over.state_size().rows);
        }
        assert!(run.sum.iter().any(|(row, _)| row[3].is_some()));
    }
}

#[test]
fn ways_that_lead_nowhere_are_gone_once() {
    // From each row on all others are A, and no row is B: tried anew from each row that would be the square of them.
    let never = formula(found(0).gt(lit(100_i64)), vec![value(Some(B), End::Last, 0, 0)]);
    let recognition = recognition(vec![repeated(A, 1, None, true), Pattern::Variable(B)], None, Some(never));
    let mut run = Run::new(over(&recognition), true);
    run.epoch(&(0..150_000).map(|time| ((1, time, time % 5), 1)).collect::<Vec<_>>());
    run.epoch(&[((1, 150_000, 101), 1)]);
    let found: Vec<_> = run.sum.keys().filter(|row| row[3].is_some()).collect();
    assert_eq!(found, [&vec![Some(1), Some(0), Some(0), Some(0), Some(101), Some(300_101)]]);
}

#[test]
fn a_change_is_searched_where_it_is_seen() {
    let recognition = recognition(vec![Pattern::Variable(A), repeated(B, 1, None, true)], None, Some(rises()));
    let mut run = Run::new(over(&recognition), true);
    let rows: Vec<(Row, i64)> = (0..20_000).map(|time| ((1, time, time % 5), 1)).collect();
    run.epoch(&rows);
    let mut searched = |row: Row, weight: i64| {
        let batch = batch_of(&[row]);
        let keys = run.over.codec.encode(&batch).unwrap();
        let (key, order) = keys.key(0);
        run.over.partitions[0].pending.push(Change { key, order, weight });
        let ranges = run.over.begin(0, &mut Vec::new()).unwrap();
        ranges.iter().map(ExactSizeIterator::len).sum::<usize>()
    };
    for (row, weight) in [((1, 10_000, 0), -1), ((1, 10_000, 9), 1), ((1, 3, 3), 1), ((1, 20_000, 1), 1)] {
        let count = searched(row, weight);
        assert!((1..20).contains(&count), "{count} rows are searched for {row:?}");
    }
}
