use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::rank::rank;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, SortExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, cast, col};
use datafusion::scalar::ScalarValue;

use super::harness::{Run, spec, top};
use crate::operator::Operator;
use crate::plan::flow::{Emit, OverLimit, OverSpec, RankedBy};
use crate::time::WatermarkId;

fn running_sum() -> Expr {
    let mut call = WindowFunction::new(sum_udaf(), vec![col("x")]);
    call.params.window_frame = WindowFrame::new_bounds(
        WindowFrameUnits::Range,
        WindowFrameBound::Preceding(ScalarValue::Int64(None)),
        WindowFrameBound::CurrentRow,
    );
    Expr::from(call)
}

#[test]
fn a_row_in_the_middle_moves_those_behind_it() {
    let mut run = Run::new(spec(vec![running_sum()]), true);
    run.epoch(&[((1, 10, 1), 1), ((1, 20, 2), 1), ((1, 30, 4), 1), ((2, 10, 9), 1)]);
    let before = [((1, 10, 1), Some(1)), ((1, 20, 2), Some(3)), ((1, 30, 4), Some(7)), ((2, 10, 9), Some(9))];
    assert_eq!(run.rows(), before);
    run.restart();
    run.epoch(&[((1, 15, 8), 1)]);
    assert_eq!(run.said, 5);
    run.restart();
    run.epoch(&[((1, 15, 8), -1)]);
    assert_eq!((run.rows(), run.said), (before.to_vec(), 5));
    // A change that changes nothing is nothing.
    run.epoch(&[((1, 15, 8), -1), ((1, 15, 8), 1)]);
    assert_eq!(run.said, 0);
}

#[test]
fn peers_have_one_result_and_equal_rows_count_twice() {
    let mut run = Run::new(spec(vec![running_sum()]), true);
    run.epoch(&[((1, 10, 1), 2), ((1, 10, 3), 1)]);
    assert_eq!(run.rows(), [((1, 10, 1), Some(5)), ((1, 10, 1), Some(5)), ((1, 10, 3), Some(5))]);
    run.epoch(&[((1, 10, 1), -1)]);
    assert_eq!(run.rows(), [((1, 10, 1), Some(4)), ((1, 10, 3), Some(4))]);
}

#[test]
fn a_top_of_rows_that_only_come_keeps_only_them() {
    let mut run = Run::new(OverSpec { limit: top(2), ..spec(Vec::new()) }, false);
    for round in 0..50 {
        let rows: Vec<_> = (0..100).map(|n| ((n % 5, 10_000 - 100 * round - n, n), 1)).collect();
        run.epoch(&rows);
        assert_eq!((run.rows().len(), run.over.state_size().rows), (10, 10));
        if round % 7 == 0 {
            run.restart();
        }
    }
    // The last ones were the first in order.
    assert_eq!(run.rows()[0], ((0, 10_000 - 4_900 - 95, 95), None));
    let bytes = run.over.state_size().bytes;
    run.epoch(&[((0, 20_000, 1), 1)]);
    assert_eq!((run.said, run.over.state_size().bytes), (0, bytes));
}

#[test]
fn a_top_of_a_changelog_brings_back_what_was_behind() {
    let mut run = Run::new(OverSpec { limit: top(2), ..spec(vec![row_number()]) }, true);
    run.epoch(&[((1, 1, 1), 1), ((1, 2, 2), 1), ((1, 3, 3), 1), ((1, 4, 4), 1)]);
    assert_eq!(run.rows(), [((1, 1, 1), Some(1)), ((1, 2, 2), Some(2))]);
    run.epoch(&[((1, 1, 1), -1)]);
    assert_eq!(run.rows(), [((1, 2, 2), Some(1)), ((1, 3, 3), Some(2))]);
    run.epoch(&[((1, 0, 0), 1), ((1, 3, 3), -1)]);
    assert_eq!((run.rows(), run.said), (vec![((1, 0, 0), Some(1)), ((1, 2, 2), Some(2))], 4));
    run.epoch(&[((1, 9, 9), 1)]);
    assert_eq!(run.said, 0);
}

#[test]
fn an_offset_has_two_ends() {
    let limit = Some(OverLimit { by: RankedBy::RowNumber, skip: 1, take: Some(2) });
    let mut run = Run::new(OverSpec { limit, ..spec(Vec::new()) }, true);
    run.epoch(&[((1, 10, 0), 1), ((1, 20, 0), 1), ((1, 30, 0), 1), ((1, 40, 0), 1)]);
    assert_eq!(run.rows(), [((1, 20, 0), None), ((1, 30, 0), None)]);
    run.epoch(&[((1, 5, 0), 1)]);
    assert_eq!((run.rows(), run.said), (vec![((1, 10, 0), None), ((1, 20, 0), None)], 2));
    run.epoch(&[((1, 5, 0), -1), ((1, 10, 0), -1)]);
    assert_eq!((run.rows(), run.said), (vec![((1, 30, 0), None), ((1, 40, 0), None)], 4));
}

#[test]
fn ranks_show_peers_together() {
    let limit = Some(OverLimit { by: RankedBy::Rank, skip: 0, take: Some(2) });
    for changelog in [false, true] {
        let mut run = Run::new(OverSpec { limit, ..spec(vec![rank()]) }, changelog);
        run.epoch(&[((1, 1, 1), 1), ((1, 2, 1), 1), ((1, 2, 2), 1), ((1, 3, 1), 1)]);
        assert_eq!(run.rows(), [((1, 1, 1), Some(1)), ((1, 2, 1), Some(2)), ((1, 2, 2), Some(2))]);
        run.restart();
        run.epoch(&[((1, 1, 0), 1)]);
        assert_eq!(run.rows(), [((1, 1, 0), Some(1)), ((1, 1, 1), Some(1))]);
        assert_eq!(run.over.state_size().rows, if changelog { 5 } else { 2 });
    }
}

#[test]
fn complete_partitions_are_shown_once_and_released() {
    for emit in [Emit::OnChange, Emit::AfterWatermark] {
        let closing = OverSpec {
            limit: top(1),
            emit,
            closes: Some((0, WatermarkId(0), 0)),
            partition: vec![cast(col("k"), DataType::Timestamp(TimeUnit::Microsecond, None))],
            ..spec(Vec::new())
        };
        let mut run = Run::new(closing, false);
        run.epoch_at(&[((10, 1, 1), 1), ((10, 2, 2), 1), ((20, 1, 3), 1)], 10);
        assert_eq!(run.rows().len(), if emit == Emit::OnChange { 2 } else { 0 });
        run.restart();
        run.epoch_at(&[((10, 0, 4), 1), ((5, 1, 1), 1)], 20);
        assert_eq!((run.late, run.over.state_size().rows), (1, 1));
        assert_eq!(run.rows().first(), Some(&((10, 0, 4), None)));
        run.epoch_at(&[((10, 0, 0), 1)], i64::MAX);
        assert_eq!((run.late, run.over.state_size().rows), (2, 0));
        assert_eq!(run.rows(), [((10, 0, 4), None), ((20, 1, 3), None)]);
    }
}

pub(super) fn by_time() -> Vec<SortExpr> {
    let time = cast(col("t"), DataType::Timestamp(TimeUnit::Microsecond, None));
    vec![SortExpr::new(time, true, false)]
}

fn sum_over(units: WindowFrameUnits, back: ScalarValue) -> Expr {
    let mut call = WindowFunction::new(sum_udaf(), vec![col("x")]);
    call.params.window_frame =
        WindowFrame::new_bounds(units, WindowFrameBound::Preceding(back), WindowFrameBound::CurrentRow);
    Expr::from(call)
}

#[test]
fn settled_rows_are_shown_once_and_forgotten_when_no_frame_reaches_them() {
    for emit in [Emit::OnChange, Emit::AfterWatermark] {
        let functions = vec![sum_over(WindowFrameUnits::Rows, ScalarValue::UInt64(Some(1)))];
        let settles = Some((WatermarkId(0), 0));
        let mut run = Run::new(OverSpec { order: by_time(), settles, emit, ..spec(functions) }, false);
        run.epoch_at(&[((1, 10, 1), 1), ((1, 30, 4), 1), ((1, 20, 2), 1), ((2, 50, 3), 1)], 25);
        let shown = if emit == Emit::OnChange { 4 } else { 2 };
        assert_eq!((run.rows().len(), run.over.state_size().rows), (shown, 3));
        run.restart();
        run.epoch_at(&[((1, 27, 8), 1), ((1, 5, 9), 1)], 40);
        assert_eq!((run.late, run.over.state_size().rows), (1, 2));
        run.restart();
        run.epoch_at(&[], 60);
        let rows = [
            ((1, 10, 1), Some(1)),
            ((1, 20, 2), Some(3)),
            ((1, 27, 8), Some(10)),
            ((1, 30, 4), Some(12)),
            ((2, 50, 3), Some(3)),
        ];
        assert_eq!(run.rows(), rows);
        run.epoch_at(&[], i64::MAX);
        let left = run.over.state_size();
        // What is noted of changes for the next checkpoint is small.
        assert!((run.rows().len(), left.rows) == (5, 0) && left.bytes < 1024, "{left:?}");
    }
}

#[test]
fn a_range_of_time_lets_go_of_whole_partitions() {
    let back = IntervalMonthDayNano::new(0, 0, 10_000);
    let functions = [sum_over(WindowFrameUnits::Range, ScalarValue::IntervalMonthDayNano(Some(back))), row_number()];
    for numbered in [false, true] {
        let functions = functions[..1 + usize::from(numbered)].to_vec();
        let settles = Some((WatermarkId(0), 0));
        let mut run = Run::new(OverSpec { order: by_time(), settles, ..spec(functions) }, false);
        run.epoch_at(&[((1, 10, 1), 1), ((1, 19, 2), 1), ((1, 20, 4), 1)], 15);
        assert_eq!(run.rows(), [((1, 10, 1), Some(1)), ((1, 19, 2), Some(3)), ((1, 20, 4), Some(7))]);
        assert_eq!(run.over.state_size().rows, 3);
        run.epoch_at(&[], 30);
        // The row at 20 is reached from 30.
        assert_eq!(run.over.state_size().rows, 1);
        run.restart();
        run.epoch_at(&[((1, 30, 8), 1)], 31);
        assert_eq!(run.rows()[3], ((1, 30, 8), Some(12)));
        run.epoch_at(&[], 100);
        // How many rows there were is known as long as one is kept.
        assert_eq!(run.over.state_size().rows, usize::from(numbered));
        run.restart();
        run.epoch_at(&[((1, 200, 16), 1)], 100);
        assert_eq!(run.rows()[4], ((1, 200, 16), Some(16)));
        let numbers: Vec<Option<i64>> = run.sum.keys().filter_map(|key| key.get(4).copied()).collect();
        let expected: Vec<Option<i64>> = (1..=5).map(Some).collect();
        assert_eq!(numbers, if numbered { expected } else { Vec::new() });
    }
}
