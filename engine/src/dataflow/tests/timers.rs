//! Operators that have something to say when time has passed, and nothing has come.

use super::*;
use crate::connector::memory::MemorySink;
use crate::operator::{EpochContext, Output, StatePart, StateSize, Step};
use arrow::array::UInt8Array;

const HOUR: Duration = Duration::from_secs(3_600);

/// Hands rows on when they have been here for a time: column `at` becomes the epoch's time at which they may go.
struct Later {
    by_micros: i64,
    fresh: Vec<(i64, i64)>,
    held: BTreeMap<i64, Vec<(i64, i64)>>,
}

impl Later {
    fn new(by: Duration) -> Self {
        Self { by_micros: i64::try_from(by.as_micros()).unwrap(), fresh: Vec::new(), held: BTreeMap::new() }
    }

    fn rows(&self) -> Vec<(i64, i64, i64)> {
        self.held.iter().flat_map(|(at, rows)| rows.iter().map(|row| (row.0, row.1, *at))).collect()
    }
}

impl Operator for Later {
    fn on_delta(&mut self, _input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
        let column = |index: usize| delta.rows().column(index).as_primitive::<Int64Type>().clone();
        self.fresh.extend((0..delta.num_rows()).map(|row| (column(0).value(row), column(1).value(row))));
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        let fresh = std::mem::take(&mut self.fresh);
        if !fresh.is_empty() {
            self.held.entry(epoch.now_micros + self.by_micros).or_default().extend(fresh);
        }
        let later = self.held.split_off(&(epoch.now_micros + 1));
        for (at, rows) in std::mem::replace(&mut self.held, later) {
            let rows: Vec<_> = rows.into_iter().map(|row| (row.0, row.1, at)).collect();
            out.push(Delta::append(batch(&rows)));
        }
        Ok(Step::Done)
    }

    fn next_timer(&self) -> Option<i64> {
        self.held.keys().next().copied()
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let rows = batch(&self.rows());
        let mut hashes = Vec::new();
        crate::state::key_group::hash_keys(&rows.columns()[..1], rows.num_rows(), &mut hashes)?;
        let groups: UInt8Array = hashes.iter().map(|hash| crate::state::key_group::key_group(*hash)).collect();
        let mut columns = vec![("_group", Arc::new(groups) as ArrayRef)];
        columns.extend(["k", "v", "at"].into_iter().zip(rows.columns().iter().cloned()));
        Ok(vec![StatePart { name: "held".to_owned(), rows: RecordBatch::try_from_iter(columns)? }])
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            let column = |index: usize| part.rows.column(index).as_primitive::<Int64Type>();
            let at = part.rows.column(3).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
            for row in 0..part.rows.num_rows() {
                self.held.entry(at.value(row)).or_default().push((column(1).value(row), column(2).value(row)));
            }
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        StateSize { rows: self.held.len(), bytes: 64 * self.held.len() }
    }
}

/// Operators with one more: `later` hands rows on after `by`.
fn operators(by: Duration) -> Arc<TestOperators> {
    let operators = TestOperators::new();
    operators.add("later", Some(vec![0]), false, move |_| Box::new(Later::new(by)));
    operators
}

fn plan() -> PlanBuilder {
    PlanBuilder::new().stream("s").then("pass").then("later").then("by_key")
}

fn expected(rows: i64) -> BTreeMap<(i64, i64), i64> {
    (0..rows).map(|row| ((row, row), 1)).collect()
}

fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    batch(&range.map(|row| (row, row, 0)).collect::<Vec<_>>())
}

#[test]
fn an_epoch_is_opened_when_a_timer_is_due_and_none_before() {
    for workers in 1..=3 {
        for seed in 0..4 {
            let pool = simulated(workers, &operators(HOUR), seed);
            let (feed, view) = (MemoryHandle::new(2), view(false));
            let (job, _) =
                JobBuilder::new(1, plan(), Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
            feed.push(0, rows(0..20)).unwrap();
            pool.step(job.id()).unwrap();
            pool.simulate(200);
            let epochs = job.metrics().epochs_completed;
            pool.pass(HOUR / 2);
            pool.simulate(500);
            assert_eq!(contents(&view), BTreeMap::new());
            assert_eq!(job.metrics().epochs_completed, epochs, "nothing was due");
            feed.push(1, rows(20..30)).unwrap();
            pool.step(job.id()).unwrap();
            pool.pass(HOUR / 2);
            assert!(pool.wait_until(PATIENCE, || contents(&view) == expected(20)), "{workers} workers, seed {seed}");
            pool.simulate(200);
            let epochs = job.metrics().epochs_completed;
            pool.simulate(500);
            assert_eq!((contents(&view), job.metrics().epochs_completed), (expected(20), epochs));
            pool.pass(HOUR / 2);
            assert!(pool.wait_until(PATIENCE, || contents(&view) == expected(30)), "{workers} workers, seed {seed}");
        }
    }
}

#[test]
fn a_thread_sleeps_until_a_timer_is_due() {
    for workers in 1..=2 {
        let pool = threads(workers, &operators(Duration::from_millis(150)));
        let (feed, view) = (MemoryHandle::new(2), view(false));
        let (job, _) =
            JobBuilder::new(1, plan(), Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
        for round in 0..3 {
            feed.push(0, rows(round * 5..round * 5 + 5)).unwrap();
            assert!(pool.wait_until(PATIENCE, || contents(&view) == expected(round * 5 + 5)));
        }
        // One for what comes, one for what goes; and the job's first.
        assert!(job.metrics().epochs_completed <= 20, "{:?}", job.metrics());
    }
}

#[test]
fn readers_of_a_view_move_with_its_timers() {
    for workers in 1..=3 {
        let pool = simulated(workers, &operators(HOUR), 7);
        let (feed, base, copy) = (MemoryHandle::new(2), view(false), view(false));
        let (job, _) =
            JobBuilder::new(1, plan(), Target::View(Arc::clone(&base))).reads(0, &feed).create(&pool).unwrap();
        let reading = PlanBuilder::new().view("v").then("later");
        JobBuilder::new(2, reading, Target::View(Arc::clone(&copy))).reads_view(0, &base).create(&pool).unwrap();
        feed.push(0, rows(0..10)).unwrap();
        pool.step(job.id()).unwrap();
        pool.pass(HOUR);
        assert!(pool.wait_until(PATIENCE, || contents(&base) == expected(10)));
        pool.simulate(300);
        assert_eq!(contents(&copy), BTreeMap::new());
        pool.pass(HOUR);
        assert!(pool.wait_until(PATIENCE, || contents(&copy) == expected(10)));
    }
}

#[test]
fn a_job_whose_inputs_have_ended_ends_when_nothing_is_due_any_more() {
    for workers in 1..=3 {
        for seed in 0..4 {
            let pool = simulated(workers, &operators(HOUR), seed);
            let (feed, base, sink) = (MemoryHandle::new(2), view(false), MemorySink::new());
            let (job, witness) =
                JobBuilder::new(1, plan(), Target::View(Arc::clone(&base))).reads(0, &feed).create(&pool).unwrap();
            let reading = PlanBuilder::new().view("v").then("later");
            let (reader, of_reader) = JobBuilder::new(2, reading, Target::Sink(Box::new(sink.clone())))
                .reads_view(0, &base)
                .create(&pool)
                .unwrap();
            feed.push(0, rows(0..10)).unwrap();
            feed.close();
            pool.simulate(1_000);
            assert!(job.outcome().is_none() && *witness.finished.lock().unwrap() == 0);
            pool.pass(HOUR);
            assert!(pool.wait_until(PATIENCE, || job.outcome().is_some()), "{workers} workers, seed {seed}");
            assert_eq!(contents(&base), expected(10));
            pool.simulate(1_000);
            assert!(reader.outcome().is_none() && *of_reader.finished.lock().unwrap() == 0);
            pool.pass(HOUR);
            assert!(pool.wait_until(PATIENCE, || reader.outcome().is_some()), "{workers} workers, seed {seed}");
            assert_eq!(summed(sink.written().iter().map(|(_, delta)| delta)), expected(10));
        }
    }
}

#[test]
fn a_stopped_job_does_not_wait_for_its_timers() {
    let pool = simulated(2, &operators(HOUR), 3);
    let (feed, view) = (MemoryHandle::new(2), view(false));
    let (job, _) = JobBuilder::new(1, plan(), Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
    feed.push(0, rows(0..10)).unwrap();
    pool.step(job.id()).unwrap();
    assert!(pool.stop_job(job.id(), PATIENCE).unwrap());
    assert_eq!(contents(&view), BTreeMap::new());
}

#[test]
fn a_restored_job_keeps_its_timers() {
    for (before, after) in [(1, 3), (3, 1), (2, 2)] {
        let pool = simulated(before, &operators(HOUR), 5);
        let (feed, first) = (MemoryHandle::new(4), view(false));
        let (job, _) =
            JobBuilder::new(1, plan(), Target::View(Arc::clone(&first))).reads(0, &feed).create(&pool).unwrap();
        feed.push(0, rows(0..10)).unwrap();
        pool.step(job.id()).unwrap();
        let snapshot = pool.snapshot(job.id()).unwrap();

        let pool = simulated(after, &operators(HOUR), 6);
        let second = view(false);
        let mut builder = JobBuilder::new(1, plan(), Target::View(Arc::clone(&second))).reads(0, &feed);
        builder.blueprint.restore = Some(snapshot);
        builder.create(&pool).unwrap();
        pool.simulate(500);
        assert_eq!(contents(&second), BTreeMap::new());
        pool.pass(HOUR);
        assert!(pool.wait_until(PATIENCE, || contents(&second) == expected(10)), "{before} to {after} workers");
    }
}
