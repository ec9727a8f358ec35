//! Windows in checkpoints: what has changed is written, and what goes on from base and layers shows what an undisturbed run
//! does.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::harness::{Checkpoint, Pool};
use super::running::schema;
use super::windowed::{SECOND, punctual, window_plan};
use crate::plan::flow::{Emit, WindowSpec};

const CUMULATE: WindowSpec = WindowSpec::Cumulate { step: 10, size: 60, offset: 0 };

/// Rows of (key, time).
fn rows(rows: &[(i64, i64)]) -> RecordBatch {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1));
    RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(times)]).unwrap()
}

/// A pool that is written down, beside one that is not.
struct Pair {
    run: Pool,
    job: Pool,
    written: Checkpoint,
    random: StdRng,
}

impl Pair {
    fn epoch(&mut self, given: &[(i64, i64)], watermark: i64) {
        let given = rows(given);
        for pool in [&mut self.run, &mut self.job] {
            pool.epoch(&mut self.random, std::slice::from_ref(&given), Some(watermark));
        }
        assert_eq!((&self.job.contents, self.job.late), (&self.run.contents, self.run.late));
    }

    /// Writes what has changed: rows that are there, and rows that are gone.
    fn told(&mut self, context: &str) -> (usize, usize) {
        self.job.write(&mut self.written, true);
        self.job.check(&self.written, context);
        self.written.rows()
    }
}

#[test]
fn a_small_change_of_windows_that_grow_is_written_as_the_groups_that_it_reaches() {
    let pool = || {
        let plan =
            window_plan(&rows(&[]).schema(), CUMULATE, "k", "count(*), sum(k)", Emit::AfterWatermark, 0).unwrap();
        Pool::new(plan, 1, false)
    };
    let (run, job) = (pool(), pool());
    let mut pair = Pair { run, job, written: Checkpoint::default(), random: StdRng::seed_from_u64(1) };
    pair.epoch(&(0..5_000).map(|key| (key, 3)).collect::<Vec<_>>(), 10);
    pair.job.write(&mut pair.written, false);
    pair.epoch(&[(7, 12), (9, 13), (9, 14)], 15);
    assert_eq!(pair.told("new"), (2, 0), "groups of a new slice");
    pair.epoch(&[], 20);
    assert_eq!(pair.told("taken up"), (2, 2), "they have left their slice for what the next window goes on from");
    pair.epoch(&[], 20);
    assert_eq!(pair.told("rest"), (0, 0), "nothing has changed");
    pair.epoch(&[(3, 1)], 20);
    assert_eq!(pair.told("late"), (1, 0), "a slice that was taken up begins anew");
    pair.epoch(&[(10_000, 25)], 30);
    assert_eq!(pair.told("both"), (2, 1), "of the slice that came and went between two nothing is told");
    pair.epoch(&[(3, 1), (3, 12)], 35);
    assert_eq!(pair.told("again"), (2, 0));
    for workers in [4, 3, 1] {
        pair.written.compact(workers / 2);
        pair.job.go_on_from(&pair.written, workers);
        pair.epoch(&[(workers as i64, 36)], 37);
        assert_eq!(pair.told(&format!("{workers} workers")), (1, 0));
    }
    pair.epoch(&[(5, 58)], 60);
    assert_eq!((pair.job.state_rows(), pair.told("over").0), (0, 0), "the time says what is gone");
    assert!(pair.job.late == 0 && pair.job.contents.len() > 5_000);
}

/// Base and layers, put together or not, on other workers: with rows that are late for some of their windows, or for all.
#[test]
fn what_goes_on_from_layers_shows_what_an_undisturbed_run_does() {
    let offset = -SECOND;
    let windows = [
        WindowSpec::Tumble { size: 10 * SECOND, offset },
        WindowSpec::Hop { slide: 4 * SECOND, size: 10 * SECOND, offset },
        WindowSpec::Cumulate { step: 4 * SECOND, size: 20 * SECOND, offset },
        WindowSpec::Cumulate { step: 5 * SECOND, size: 5 * SECOND, offset },
    ];
    let emits = [Emit::AfterWatermark, Emit::OnChange];
    for (seed, (window, emit)) in (0..20).flat_map(|_| windows).flat_map(|of| emits.map(|emit| (of, emit))).enumerate()
    {
        let random = &mut StdRng::seed_from_u64(seed as u64);
        let keys = ["k", "", "k, s"][random.random_range(0..3)];
        let calls = "count(*), sum(i), max(s), count(DISTINCT j)";
        let plan = window_plan(&schema(), window, keys, calls, emit, SECOND).unwrap();
        let halves = random.random_bool(0.4);
        let mut run = Pool::new(plan.clone(), 1, false);
        let mut job = Pool::new(plan, 2, halves).with_fuel(random.random_range(1..60));
        let mut written = Checkpoint::default();
        let mut watermark = 0;
        for round in 0..25 {
            let batches: Vec<RecordBatch> = (0..random.random_range(0..3))
                .map(|_| {
                    let size = random.random_range(0..12);
                    punctual(random, size, watermark - 25 * SECOND, 40 * SECOND)
                })
                .collect();
            watermark += [0, 0, 1, 3, 12][random.random_range(0..5)] * SECOND;
            let at = if round == 24 { i64::MAX } else { watermark };
            run.epoch(random, &batches, Some(at));
            job.epoch(random, &batches, Some(at));
            let context = format!("{window:?}, {emit:?}, halves {halves}, seed {seed}, round {round}");
            assert_eq!((&job.contents, job.late), (&run.contents, run.late), "{context}");
            if !halves {
                assert_eq!(job.state_rows(), run.state_rows(), "{context}");
            }
            if random.random_bool(0.6) {
                job.write(&mut written, random.random_bool(0.9));
                job.check(&written, &context);
                if random.random_bool(0.3) {
                    written.compact(random.random_range(0..3));
                }
                if random.random_bool(0.4) {
                    job.go_on_from(&written, [1, 2, 4][random.random_range(0..3)]);
                }
            }
        }
        assert_eq!(job.state_rows(), 0);
    }
}
