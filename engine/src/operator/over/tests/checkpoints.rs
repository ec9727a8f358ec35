//! A checkpoint has the rows that have changed, and what goes on from its layers is what was there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::lead_lag::lag;
use datafusion::functions_window::rank::rank;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, SortExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, cast, col};
use datafusion::scalar::ScalarValue;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::harness::{Row, Run, spec, top};
use crate::operator::Operator;
use crate::operator::change::Layered;
use crate::plan::flow::{Emit, OverSpec};
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::time::WatermarkId;

fn sum_of_last(rows: u64) -> Expr {
    let mut call = WindowFunction::new(sum_udaf(), vec![col("x")]);
    call.params.window_frame = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(rows))),
        WindowFrameBound::CurrentRow,
    );
    Expr::from(call)
}

/// Without partitions, and by a partition that no column of the rows shows.
#[test]
fn a_small_change_is_written_as_the_rows_that_it_reaches() {
    let computed = vec![col("k") + col("k")];
    for partition in [Vec::new(), vec![col("k")], computed] {
        let mut run = Run::new(OverSpec { partition, ..spec(vec![sum_of_last(2)]) }, true);
        run.epoch(&(0..10_000).map(|n| ((1, n, n), 1)).collect::<Vec<_>>());
        let mut written = Layered::default();
        written.write(&mut [&mut run.over], false);
        run.epoch(&[((1, 500, 500), -1), ((1, 700, 3), 1), ((1, 9_000, 9_000), 1)]);
        written.write(&mut [&mut run.over], true);
        // Two that came, three that see them (to the fourth one of two equal rows is as good as the other), and two that
        // saw the one that went.
        assert_eq!((written.rows, written.gone), (7, 1));
        run.epoch(&[]);
        written.write(&mut [&mut run.over], true);
        assert_eq!((written.rows, written.gone), (0, 0), "nothing has changed");
        let expected = run.rows();
        run.take_over(written.parts_of(0, 1));
        run.epoch(&[((1, 500, 500), 1)]);
        run.epoch(&[((1, 500, 500), -1)]);
        assert_eq!(run.rows(), expected);
        assert_eq!(run.over.state_size().rows, 10_001);
    }
}

/// A row that is never seen by a checkpoint leaves nothing in it, and one that is not shown any more is changed.
#[test]
fn what_came_and_went_between_two_is_in_neither() {
    let mut run = Run::new(OverSpec { limit: top(2), ..spec(vec![row_number()]) }, true);
    run.epoch(&(0..100).map(|n| ((1, n, 0), 1)).collect::<Vec<_>>());
    let mut written = Layered::default();
    written.write(&mut [&mut run.over], false);
    run.epoch(&[((1, 50, 7), 3)]);
    run.epoch(&[((1, 50, 7), -3)]);
    written.write(&mut [&mut run.over], true);
    assert_eq!((written.rows, written.gone), (0, 0));
    run.epoch(&[((1, -1, 0), 1)]);
    written.write(&mut [&mut run.over], true);
    assert_eq!((written.rows, written.gone), (3, 0), "the new one, one with another number, one that is hidden");
}

/// A job on some workers, and what all of them have said since its begin.
struct Job {
    spec: OverSpec,
    changelog: bool,
    workers: Vec<Run>,
    before: BTreeMap<Vec<Option<i64>>, i64>,
    late: u64,
}

impl Job {
    fn new(spec: &OverSpec, changelog: bool, workers: usize) -> Self {
        let runs = (0..workers).map(|_| Run::new(spec.clone(), changelog)).collect();
        Self { spec: spec.clone(), changelog, workers: runs, before: BTreeMap::new(), late: 0 }
    }

    fn epoch(&mut self, rows: &[(Row, i64)], watermark: i64) {
        let workers = self.workers.len();
        let keys: Vec<ArrayRef> = match self.spec.partition.len() {
            0 => Vec::new(),
            _ => vec![Arc::new(Int64Array::from_iter_values(rows.iter().map(|((k, ..), _)| *k)))],
        };
        let keys = match self.spec.closes {
            // The key is a time.
            Some(_) => vec![arrow::compute::cast(&keys[0], &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap()],
            None => keys,
        };
        let mut hashes = Vec::new();
        hash_keys(&keys, rows.len(), &mut hashes).unwrap();
        for (worker, run) in self.workers.iter_mut().enumerate() {
            let mine = rows.iter().zip(&hashes);
            let mine = mine.filter(|(_, hash)| worker_of(key_group(**hash), workers) == worker);
            run.epoch_at(&mine.map(|(row, _)| *row).collect::<Vec<_>>(), watermark);
        }
    }

    fn write(&mut self, written: &mut Layered, only_changes: bool, context: &str) {
        let mut operators: Vec<&mut dyn Operator> =
            self.workers.iter_mut().map(|run| &mut run.over as &mut dyn Operator).collect();
        written.write(&mut operators, only_changes);
        written.check(&mut operators, context);
    }

    /// Other workers go on from what was written down.
    fn restart(&mut self, written: &Layered, workers: usize) {
        (self.before, self.late) = (self.sum(), self.late());
        self.workers = (0..workers)
            .map(|worker| {
                let mut run = Run::new(self.spec.clone(), self.changelog);
                run.take_over(written.parts_of(worker, workers));
                run
            })
            .collect();
    }

    fn late(&self) -> u64 {
        self.late + self.workers.iter().map(|run| run.late).sum::<u64>()
    }

    fn rows(&self) -> usize {
        self.workers.iter().map(|run| run.over.state_size().rows).sum()
    }

    fn sum(&self) -> BTreeMap<Vec<Option<i64>>, i64> {
        let mut sum = self.before.clone();
        for (row, count) in self.workers.iter().flat_map(|run| &run.sum) {
            *sum.entry(row.clone()).or_default() += count;
        }
        sum.retain(|_, count| *count != 0);
        sum
    }
}

/// What an OVER can be, and whether its rows may go.
fn kinds() -> Vec<(OverSpec, bool)> {
    let functions = || vec![row_number(), rank(), sum_of_last(2), lag(col("x"), Some(1), None)];
    let time = cast(col("t"), DataType::Timestamp(TimeUnit::Microsecond, None));
    let by_time = || vec![SortExpr::new(time.clone(), true, false)];
    let settles = Some((WatermarkId(0), 0));
    let closing = OverSpec {
        closes: Some((0, WatermarkId(0), 0)),
        partition: vec![cast(col("k"), DataType::Timestamp(TimeUnit::Microsecond, None))],
        ..spec(functions())
    };
    vec![
        (spec(functions()), true),
        (OverSpec { partition: Vec::new(), ..spec(functions()) }, true),
        (OverSpec { limit: top(3), ..spec(functions()) }, true),
        (OverSpec { limit: top(3), ..spec(vec![row_number()]) }, false),
        (OverSpec { order: by_time(), settles, ..spec(functions()) }, false),
        (OverSpec { order: by_time(), settles, emit: Emit::AfterWatermark, ..spec(functions()) }, false),
        (OverSpec { limit: top(2), emit: Emit::AfterWatermark, ..closing.clone() }, false),
        (closing, false),
    ]
}

/// Base and layers, put together or not, on one worker or four: with many equal rows, in chunks and across them.
#[test]
fn what_goes_on_from_layers_shows_what_an_undisturbed_run_does() {
    for (number, (spec, changelog)) in kinds().into_iter().enumerate() {
        for seed in 0..12 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut run, mut job) = (Job::new(&spec, changelog, 1), Job::new(&spec, changelog, 2));
            // How many rows stood before is said by the row that was written last.
            let mut written = Layered::with_column_of_its_time("_before");
            let mut there: BTreeMap<Row, i64> = BTreeMap::new();
            let mut watermark = 0;
            for round in 0..14 {
                let many = if rng.random_bool(0.1) { 1500 } else { 12 };
                let rows: Vec<(Row, i64)> = (0..rng.random_range(0..many))
                    .map(|_| {
                        let row = (
                            watermark / 4 * 4 + rng.random_range(0..6),
                            watermark + rng.random_range(0..4),
                            rng.random_range(0..2),
                        );
                        let row = if changelog { (row.0 % 6, row.1 % 4, row.2) } else { row };
                        let count = there.entry(row).or_default();
                        let weight = if changelog { rng.random_range(-*count..3).max(-2) } else { 1 };
                        *count += weight;
                        (row, weight)
                    })
                    .collect();
                watermark += if changelog { 0 } else { rng.random_range(0..3) };
                let at = if round == 13 { i64::MAX } else { watermark };
                run.epoch(&rows, at);
                job.epoch(&rows, at);
                let context = format!("kind {number}, seed {seed}, round {round}");
                assert_eq!(job.sum(), run.sum(), "{context}");
                assert_eq!((job.late(), job.rows()), (run.late(), run.rows()), "{context}");
                if rng.random_bool(0.7) {
                    job.write(&mut written, rng.random_bool(0.9), &context);
                    if rng.random_bool(0.3) {
                        written.compact(rng.random_range(0..3));
                    }
                    if rng.random_bool(0.4) {
                        job.restart(&written, [1, 2, 4][rng.random_range(0..3)]);
                    }
                }
            }
        }
    }
}
