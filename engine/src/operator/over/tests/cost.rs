//! A changed row costs what its change reaches, not what the partition holds.

use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::lead_lag::lag;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, col};
use datafusion::scalar::ScalarValue;

use super::harness::{Run, spec};

const ROWS: i64 = 100_000;

fn framed_sum(start: u64, end: u64) -> Expr {
    let mut call = WindowFunction::new(sum_udaf(), vec![col("x")]);
    call.params.window_frame = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(start))),
        WindowFrameBound::Following(ScalarValue::UInt64(Some(end))),
    );
    Expr::from(call)
}

/// Fills a partition of 100,000 rows, then changes single rows: the rows said for each change, and how many times faster
/// a change is than filling.
fn changes(functions: Vec<Expr>, at: impl Fn(i64) -> i64) -> (usize, f64) {
    let mut run = Run::new(spec(functions), true);
    let rows: Vec<_> = (0..ROWS).map(|n| ((1, n * 10, n % 7), 1)).collect();
    let clock = stopwatch();
    run.epoch(&rows);
    let filling = clock();
    let mut said = 0;
    let clock = stopwatch();
    for n in 0..100 {
        let t = at(n);
        run.epoch(&[((1, t, t / 10 % 7), -1), ((1, t, 5 + n), 1)]);
        said = said.max(run.said);
    }
    (said, filling / (clock() / 100.0))
}

/// Seconds of the process's time, without a clock: operators have none, and their tests need only compare.
#[allow(clippy::disallowed_methods)]
fn stopwatch() -> impl Fn() -> f64 {
    let start = std::time::Instant::now();
    move || start.elapsed().as_secs_f64()
}

#[test]
fn bounded_frames_and_lag_cost_their_neighbourhood() {
    let at = |n: i64| (n * 997 % ROWS) * 10;
    let (said, faster) = changes(vec![framed_sum(3, 2), lag(col("x"), Some(2), None)], at);
    println!("bounded frame and lag: {said} rows said, a change is {faster:.0} times as fast as filling");
    assert_eq!(said, 12);
    assert!(faster > 50.0, "{faster}");
}

#[test]
fn a_running_sum_costs_what_stands_behind() {
    let mut call = WindowFunction::new(sum_udaf(), vec![col("x")]);
    call.params.window_frame = WindowFrame::new_bounds(
        WindowFrameUnits::Range,
        WindowFrameBound::Preceding(ScalarValue::Int64(None)),
        WindowFrameBound::CurrentRow,
    );
    let (said, faster) = changes(vec![Expr::from(call)], |n| (ROWS - 1 - n) * 10);
    println!("running sum near the end: {said} rows said, a change is {faster:.0} times as fast as filling");
    assert!(said <= 200, "{said}");
    assert!(faster > 50.0, "{faster}");
}
