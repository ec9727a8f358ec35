//! What a change costs. Figures are printed; run with `--ignored --nocapture`, optimised.

use std::time::Instant;

use super::*;

/// Rows of each side, and of the batch of changes.
const ROWS: i64 = 1_000_000;
const CHANGES: i64 = 1_000;

fn many(range: std::ops::Range<i64>, value: i64) -> RecordBatch {
    let rows: Vec<Row> = range.map(|n| (Some(n), None, None, value)).collect();
    super::rows(&rows)
}

/// Runs an epoch; answers how many rows were said, and in how many seconds.
#[allow(clippy::disallowed_methods)] // it measures
fn epoch(join: &mut Join, deltas: Vec<(usize, Delta)>) -> (usize, f64) {
    let start = Instant::now();
    let mut said = 0;
    let mut out = Output::default();
    for (input, delta) in deltas {
        let mut step = join.on_delta(input, delta, &mut out).unwrap();
        loop {
            said += out.take().0.iter().map(Delta::num_rows).sum::<usize>();
            if step == Step::Done {
                break;
            }
            step = join.resume(&mut out).unwrap();
        }
    }
    said += end_epoch_saying(join, &Watermarks::none(0)).iter().map(Delta::num_rows).sum::<usize>();
    (said, start.elapsed().as_secs_f64())
}

/// A thousand changes of a join of a million rows with a million: the cost is that of the changes, not of the rows.
#[test]
#[ignore = "it measures"]
fn a_thousand_changes_of_a_million_rows() {
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Full, JoinKind::LeftSemi, JoinKind::LeftAnti] {
        let mut case = cases().swap_remove(2);
        case.residual = None;
        let mut join = case.join_of(kind);
        // Of every ten keys nine are on both sides.
        let mut filled = (0, 0.0);
        for from in (0..ROWS).step_by(8192) {
            let to = ROWS.min(from + 8192);
            let sides = vec![
                (0, Delta::append(many(from..to, 0))),
                (1, Delta::append(many(from + ROWS / 10..to + ROWS / 10, 0))),
            ];
            let (said, seconds) = epoch(&mut join, sides);
            filled = (filled.0 + said, filled.1 + seconds);
        }
        let mut worst: f64 = 0.0;
        let (mut rows, mut seconds) = (0, 0.0);
        for round in 0..20 {
            let at = ROWS / 2 + round * CHANGES;
            let update = |value: i64| {
                let both = arrow::compute::concat_batches(
                    &schema(),
                    &[many(at..at + CHANGES, value), many(at..at + CHANGES, value + 1)],
                );
                let weights = (0..2 * CHANGES).map(|row| if row < CHANGES { -1 } else { 1 });
                Delta::weighted(both.unwrap(), Int64Array::from_iter_values(weights))
            };
            let (said, took) = epoch(&mut join, vec![((round % 2) as usize, update(0))]);
            (rows, seconds, worst) = (rows + said, seconds + took, worst.max(took));
        }
        println!(
            "{kind:?}: filled at {:.0} rows/s ({} rows out); 1,000 updates: {:.2} ms (worst {:.2}), {} rows out each",
            2.0 * ROWS as f64 / filled.1,
            filled.0,
            seconds * 50.0,
            worst * 1000.0,
            rows / 20,
        );
    }
}
