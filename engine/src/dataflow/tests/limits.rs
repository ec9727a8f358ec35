//! Memory: of one job, of all together, and of what is large.

use std::time::Instant;

use super::*;
use crate::connector::memory::{MemorySink, PrebuiltSource};
use crate::connector::{Reporter, Sink, SinkWriter};

/// What one job may hold.
const LIMIT: usize = 256 << 20;

/// Times of steps of a job that has little to do, while its neighbour has much.
#[derive(Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn measure(&mut self, pool: &Pool, job: &JobHandle, feed: &MemoryHandle) {
        let start = Instant::now();
        feed.push(0, batch(&[(1, 1, 0)])).unwrap();
        pool.step(job.id()).unwrap();
        self.0.push(start.elapsed());
    }

    fn check(&mut self, what: &str) {
        self.0.sort_unstable();
        let (median, worst) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        println!("{what}: {} steps of a neighbour, median {median:?}, worst {worst:?}", self.0.len());
        assert!(median < Duration::from_millis(500) && worst < Duration::from_secs(20), "{median:?}, {worst:?}");
    }
}

/// The most that a job held while `done` was waited for.
fn most_while(pool: &Pool, job: &JobHandle, mut meanwhile: impl FnMut(), done: impl Fn() -> bool) -> usize {
    let (mut most, start) = (0, Instant::now());
    while !done() {
        if let Some(Err(error)) = job.outcome() {
            panic!("{error}");
        }
        assert!(start.elapsed() < Duration::from_secs(300), "{:?}", pool.trace());
        let metrics = job.metrics();
        most = most.max(metrics.bytes_in_flight + metrics.state_bytes);
        meanwhile();
    }
    most
}

/// A snapshot of 5 M rows goes into a new view within 256 MB; its neighbours keep their latency, and it can be dropped
/// at any moment.
#[test]
fn five_million_rows_are_handed_over_within_the_limit() {
    const ROWS: usize = 5_000_000;
    const BATCH: usize = 8_000;
    for changelog in [true, false] {
        let pool = threads(2, &TestOperators::new());
        let (other, base) = (MemoryHandle::new(1), view(changelog));
        let batches = |part: usize| -> Vec<RecordBatch> {
            let numbers = |number: usize| (number * BATCH) as i64..((number + 1) * BATCH) as i64;
            let rows = |number| numbers(number).map(|row| (row, row, row)).collect::<Vec<_>>();
            (part..ROWS / BATCH).step_by(2).map(|number| batch(&rows(number))).collect()
        };
        let plan = PlanBuilder::new().stream("s").then("pass");
        let mut builder = JobBuilder::new(1, plan.clone(), Target::View(Arc::clone(&base)));
        builder.blueprint.sources.insert(0, Box::new(PrebuiltSource::new(vec![batches(0), batches(1)])));
        let (first, _) =
            builder.limits(JobLimits { memory_bytes: LIMIT, ..JobLimits::default() }).create(&pool).unwrap();
        let (neighbour, _) =
            JobBuilder::new(2, plan, Target::View(view(false))).reads(0, &other).create(&pool).unwrap();
        let start = Instant::now();
        let most = most_while(
            &pool,
            &first,
            || std::thread::sleep(Duration::from_millis(1)),
            || first.outcome().is_some() && base.stats().rows == ROWS,
        );
        println!(
            "changelog {changelog}: {ROWS} rows in {:?}, {} bytes a row, at most {} MiB",
            start.elapsed(),
            base.stats().bytes / ROWS,
            most >> 20
        );
        assert!(most <= LIMIT, "{most} bytes");

        let reading = |job: u64| {
            let copy = view(changelog);
            let plan = PlanBuilder::new().view("v").then("by_key");
            let builder = JobBuilder::new(job, plan, Target::View(Arc::clone(&copy))).reads_view(0, &base);
            let (job, _) =
                builder.limits(JobLimits { memory_bytes: LIMIT, ..JobLimits::default() }).create(&pool).unwrap();
            (job, copy)
        };
        let mut latencies = Latencies::default();
        let (reader, copy) = reading(3);
        let start = Instant::now();
        let step = || latencies.measure(&pool, &neighbour, &other);
        let most = most_while(&pool, &reader, step, || copy.stats().rows == ROWS);
        println!("changelog {changelog}: handed over in {:?}, at most {} MiB", start.elapsed(), most >> 20);
        assert!(most <= LIMIT, "{most} bytes");
        latencies.check("while 5 M rows are handed over");
        // The same keys and values: their sums say so without two more copies.
        let sum = |view: &View| -> i64 {
            let batches = view.snapshot().unwrap().batches;
            let columns = batches.iter().map(|batch| batch.column(1).as_primitive::<Int64Type>());
            columns.flat_map(|column| column.values()).sum()
        };
        assert_eq!(sum(&copy), sum(&base));
        pool.drop_job(reader.id()).unwrap();
        drop(copy);

        let (second, _copy) = reading(4);
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        pool.drop_job(second.id()).unwrap();
        println!("changelog {changelog}: dropped in the middle within {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!(second.metrics().bytes_in_flight, 0);
    }
}

/// Near the limit of all jobs together sources wait, their jobs say so, and they go on when there is room.
#[test]
fn sources_wait_while_all_jobs_together_hold_too_much() {
    let operators = TestOperators::new();
    let settings = PoolSettings { memory_bytes: 8 << 20, ..settings(2, &operators) };
    let pool = Pool::threads(settings, Arc::new(SystemClock)).unwrap();
    let sink = MemorySink::new();
    sink.set_full(true);
    let rows: Vec<_> = (0..1_000).map(|row| (row, row, 0)).collect();
    let plan = PlanBuilder::new().stream("s").then("by_key");
    let mut builder = JobBuilder::new(1, plan.clone(), Target::Sink(Box::new(sink.clone())));
    builder.blueprint.sources.insert(0, Box::new(PrebuiltSource::new(vec![vec![batch(&rows); 1_000]; 2])));
    let (job, witness) = builder.create(&pool).unwrap();
    let (feed, view) = (MemoryHandle::new(1), view(false));
    let said = |witness: &Witness| witness.waits.lock().unwrap().last().cloned();
    let waits = |witness: &Witness| said(witness).is_some_and(|said| said.starts_with("the job waits for memory: all"));
    assert!(pool.wait_until(PATIENCE, || waits(&witness)), "{:?}", said(&witness));
    // A second job is created, and may not read either; dropping it is no matter.
    let (second, of_second) =
        JobBuilder::new(2, plan.clone(), Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
    feed.push(0, batch(&[(1, 1, 0)])).unwrap();
    assert!(pool.wait_until(PATIENCE, || waits(&of_second)), "{:?}", said(&of_second));
    let before = job.metrics().rows_in;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!((job.metrics().rows_in, view.stats().rows), (before, 0));
    assert!(pool.memory_used() < 12 << 20, "{} bytes", pool.memory_used());
    sink.set_full(false);
    job.wait(PATIENCE).unwrap().unwrap();
    assert_eq!(sink.written().iter().map(|(_, delta)| delta.num_rows()).sum::<usize>(), 2_000_000);
    pool.step(second.id()).unwrap();
    assert_eq!(view.stats().rows, 1);
    for witness in [&witness, &of_second] {
        assert!(pool.wait_until(PATIENCE, || said(witness).is_some_and(|said| said == "the job waits no longer")));
    }
    for job in [job, second] {
        pool.drop_job(job.id()).unwrap();
    }
    assert_eq!(pool.memory_used(), view.stats().bytes, "the view can still be read");
    drop(view);
    assert_eq!(pool.memory_used(), 0);
}

/// Jobs stop together, readers first, and what was read is written; one that can't write is named.
#[test]
fn jobs_stop_together_and_in_order() {
    let pool = threads(2, &TestOperators::new());
    let (feed, base, sink, stuck) = (MemoryHandle::new(2), view(false), MemorySink::new(), MemorySink::new());
    let plan = PlanBuilder::new().stream("s").then("by_key");
    let (first, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&base))).reads(0, &feed).create(&pool).unwrap();
    let reading = |job, sink: &MemorySink| {
        let plan = PlanBuilder::new().view("v").then("by_key");
        let builder = JobBuilder::new(job, plan, Target::Sink(Box::new(sink.clone()))).reads_view(0, &base);
        builder.create(&pool).unwrap().0
    };
    let (reader, held) = (reading(2, &sink), reading(3, &stuck));
    stuck.set_full(true);
    for round in 0..100 {
        feed.push(round % 2, batch(&[(round as i64, 1, 0)])).unwrap();
    }
    pool.step(reader.id()).unwrap();
    // What a job has taken from the view is written; what waits for it there is not its own yet.
    assert!(pool.wait_until(PATIENCE, || held.metrics().rows_in == 100));
    let late = pool.stop_jobs(&[first.id(), reader.id(), held.id()], Duration::from_secs(1));
    assert_eq!(late, [first.id(), held.id()], "a sink is full, and its view is read");
    assert_eq!(summed(sink.written().iter().map(|(_, delta)| delta)).len(), 100);
    assert_eq!(sink.flushes(), 2);
    stuck.set_full(false);
    assert_eq!(pool.stop_jobs(&late, PATIENCE), []);
    assert_eq!(summed(stuck.written().iter().map(|(_, delta)| delta)).len(), 100);
}

/// A sink of which each writer keeps what it got.
struct Separate(Vec<MemorySink>);

impl Sink for Separate {
    fn meeting_columns(&self) -> Option<Vec<usize>> {
        Some(vec![1])
    }

    fn writers(self: Box<Self>, _workers: usize, _reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        Ok(self.0.into_iter().map(|sink| Box::new(sink) as Box<dyn SinkWriter>).collect())
    }
}

/// Rows of a key that is not the result's reach the sink on one worker, whichever made them.
#[test]
fn rows_meet_by_the_key_of_a_sink_that_wants_it() {
    for workers in 1..=3 {
        let pool = threads(workers, &TestOperators::new());
        let feed = MemoryHandle::new(4);
        let sinks: Vec<MemorySink> = (0..workers).map(|_| MemorySink::new()).collect();
        let plan = PlanBuilder::new().stream("s").then("by_key").then("pass");
        let target = Target::Sink(Box::new(Separate(sinks.clone())));
        let (job, _) = JobBuilder::new(1, plan, target).reads(0, &feed).create(&pool).unwrap();
        for round in 0..200 {
            feed.push(round % 4, batch(&[(round as i64, round as i64 % 7, 0)])).unwrap();
        }
        feed.close();
        job.wait(PATIENCE).unwrap().unwrap();
        let mut places: BTreeMap<i64, usize> = BTreeMap::new();
        let mut rows = 0;
        for (worker, sink) in sinks.iter().enumerate() {
            for (_, value) in summed(sink.written().iter().map(|(_, delta)| delta)).into_keys() {
                assert_eq!(*places.entry(value).or_insert(worker), worker, "key {value} came to two writers");
                rows += 1;
            }
        }
        assert_eq!((places.len(), rows), (7, 200));
        let used: std::collections::BTreeSet<usize> = places.into_values().collect();
        assert!(used.len() == 1 || workers > 1, "{used:?}");
    }
}
