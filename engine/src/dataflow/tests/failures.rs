//! What goes wrong in one job, and stays there.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ErrorKind;
use crate::connector::memory::MemorySink;
use crate::operator::{EpochContext, Output, Step};

/// Panics, or errs, at a row whose value is -1: on the one worker that has it, in the middle of an epoch.
struct Trap {
    panics: bool,
    at_end: bool,
    armed: bool,
}

impl Trap {
    fn spring(&self) -> Result<()> {
        assert!(!self.panics, "stepped on the trap");
        Err(Error::new(ErrorKind::Data, "a bad row"))
    }
}

impl Operator for Trap {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let values = delta.rows().column(1).as_primitive::<Int64Type>();
        if values.values().contains(&-1) {
            if !self.at_end {
                self.spring()?;
            }
            self.armed = true;
        }
        out.push(delta);
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, _context: &EpochContext<'_>, _out: &mut Output) -> Result<Step> {
        if self.armed {
            self.spring()?;
        }
        Ok(Step::Done)
    }
}

fn with_traps() -> Arc<TestOperators> {
    let operators = TestOperators::new();
    for (name, panics, at_end) in
        [("panic", true, false), ("error", false, false), ("panic at end", true, true), ("error at end", false, true)]
    {
        operators.add(name, Some(vec![0]), false, move |_| Box::new(Trap { panics, at_end, armed: false }));
    }
    operators
}

#[test]
fn a_failing_epoch_never_completes_and_neighbours_lose_nothing() {
    for name in ["panic", "error", "panic at end", "error at end"] {
        for workers in [1, 2, 4] {
            let operators = with_traps();
            let pool = threads(workers, &operators);
            let (feed, other) = (MemoryHandle::new(4), MemoryHandle::new(4));
            let (view, sink, neighbour) = (view(false), MemorySink::new(), view(false));
            let plan = PlanBuilder::new().stream("s").then(name).then("by_key");
            let (job, witness) = JobBuilder::new(1, plan.clone(), Target::View(Arc::clone(&view)))
                .reads(0, &feed)
                .create(&pool)
                .unwrap();
            let to_sink = MemoryHandle::new(4);
            let (second, _) = JobBuilder::new(2, plan, Target::Sink(Box::new(sink.clone())))
                .reads(0, &to_sink)
                .create(&pool)
                .unwrap();
            let plan = PlanBuilder::new().stream("s").then("by_key");
            let (third, _) =
                JobBuilder::new(3, plan, Target::View(Arc::clone(&neighbour))).reads(0, &other).create(&pool).unwrap();
            let mut subscription = view.subscribe(false).unwrap();
            let good: Vec<_> = (0..100).map(|row| (row, 1, 0)).collect();
            for handle in [&feed, &to_sink, &other] {
                handle.push(0, batch(&good)).unwrap();
            }
            for job in [&job, &second, &third] {
                pool.step(job.id()).unwrap();
            }
            for round in 0..50 {
                let bad: Vec<_> = (0..100).map(|row| (row, if row == 50 { -1 } else { 2 }, 0)).collect();
                for handle in [&feed, &to_sink] {
                    handle.push(round % 4, batch(&bad)).unwrap();
                }
                other.push(round % 4, batch(&good)).unwrap();
            }
            for job in [&job, &second] {
                let error = job.wait(PATIENCE).unwrap().unwrap_err();
                if name.starts_with("panic") {
                    assert_eq!(error.kind(), ErrorKind::Internal);
                    assert!(error.message().contains("stepped on the trap"), "{error}");
                    assert!(error.detail().unwrap().contains("failures.rs"), "the backtrace says where");
                } else {
                    assert_eq!((error.kind(), error.message()), (ErrorKind::Data, "a bad row"));
                }
                assert_eq!(pool.step(job.id()).unwrap_err().kind(), error.kind());
            }
            pool.step(third.id()).unwrap();
            assert_eq!(contents(&neighbour), (0..100).map(|row| ((row, 1), 51)).collect());
            let complete: BTreeMap<_, _> = (0..100).map(|row| ((row, 1), 1)).collect();
            assert_eq!(contents(&view), complete, "{name} on {workers} workers");
            assert_eq!(summed(sink.written().iter().map(|(_, delta)| delta)), complete);
            assert_eq!(witness.failed.lock().unwrap().len(), 1);
            let mut seen = Vec::new();
            let error = loop {
                match subscription.next_within(PATIENCE).unwrap() {
                    Ok(changes) => seen.extend(changes.deltas),
                    Err(error) => break error,
                }
            };
            assert_eq!(summed(&seen), complete);
            assert!(error.message().contains(if name.starts_with("panic") { "trap" } else { "bad row" }));
            for id in [job.id(), second.id(), third.id()] {
                pool.drop_job(id).unwrap();
            }
        }
    }
}

#[test]
fn a_failing_source_and_a_failing_key_fail_their_job_only() {
    use crate::connector::{PartitionState, PollState, Reporter, Source, SourceBatch, SourceReader, Waker};
    struct Broken;
    impl Source for Broken {
        fn readers(
            self: Box<Self>,
            workers: usize,
            _clock: Arc<dyn crate::time::Clock>,
            _reporter: Arc<dyn Reporter>,
        ) -> Result<Vec<Box<dyn SourceReader>>> {
            Ok((0..workers).map(|_| Box::new(Broken) as Box<dyn SourceReader>).collect())
        }
    }
    impl SourceReader for Broken {
        fn poll(&mut self, _budget_rows: usize, _out: &mut Vec<SourceBatch>) -> Result<PollState> {
            Err(Error::new(ErrorKind::External, "no such topic"))
        }
        fn partitions(&self) -> Vec<PartitionState> {
            Vec::new()
        }
        fn set_waker(&mut self, _waker: Waker) {}
    }
    let pool = threads(2, &TestOperators::new());
    let plan = PlanBuilder::new().stream("s").then("pass");
    let mut builder = JobBuilder::new(1, plan, Target::View(view(false)));
    builder.blueprint.sources.insert(0, Box::new(Broken));
    let (job, _) = builder.create(&pool).unwrap();
    let error = job.wait(PATIENCE).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::External, "s: no such topic"));
}

#[test]
fn fifty_jobs_come_and_go_under_load() {
    let operators = with_traps();
    let pool = threads(2, &operators);
    let mut random = StdRng::seed_from_u64(11);
    type Sums = BTreeMap<(i64, i64), i64>;
    let mut running: Vec<(JobHandle, MemoryHandle, Arc<View>, Sums)> = Vec::new();
    let threads_before = thread_count();
    let failed = AtomicUsize::new(0);
    for round in 0..600_u64 {
        if running.len() < 50 && (running.len() < 5 || random.random_bool(0.6)) {
            let (feed, view) = (MemoryHandle::new(2), view(true));
            let plan = PlanBuilder::new().stream("s").then("panic").then("sum");
            let builder = JobBuilder::new(round + 1, plan, Target::View(Arc::clone(&view))).reads(0, &feed);
            let (job, _) = builder.create(&pool).unwrap();
            running.push((job, feed, view, BTreeMap::new()));
        } else {
            let (job, feed, view, sums) = running.swap_remove(random.random_range(0..running.len()));
            match random.random_range(0..3) {
                0 => {
                    pool.step(job.id()).unwrap();
                    assert_eq!(contents(&view), sums);
                }
                1 => {
                    feed.push(0, batch(&[(1, -1, 0)])).unwrap();
                    job.wait(PATIENCE).unwrap().unwrap_err();
                    failed.fetch_add(1, Ordering::SeqCst);
                }
                _ => {}
            }
            pool.drop_job(job.id()).unwrap();
        }
        for (_, feed, _, sums) in &mut running {
            let (key, value) = (random.random_range(0..5), random.random_range(0..5));
            feed.push(random.random_range(0..2), batch(&[(key, value, 0)])).unwrap();
            let old = sums.keys().find(|(of, _)| *of == key).copied();
            let sum = old.map_or(0, |(_, sum)| sum) + value;
            old.map(|old| sums.remove(&old));
            sums.insert((key, sum), 1);
        }
    }
    assert!(failed.load(Ordering::SeqCst) > 10);
    for (job, _, view, sums) in running {
        pool.step(job.id()).unwrap();
        assert_eq!(contents(&view), sums);
        pool.drop_job(job.id()).unwrap();
        assert_eq!(job.metrics().bytes_in_flight, 0, "a dropped job holds nothing");
    }
    assert!(thread_count() <= threads_before + 4, "threads of this pool do not grow");
}

/// Threads of this process (other tests may run beside).
fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count())
}
