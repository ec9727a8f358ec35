//! Order, counts, watermarks, and bounded memory.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use arrow::array::UInt32Array;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ErrorKind;
use crate::connector::memory::{MemorySink, PrebuiltSource};
use crate::operator::{EpochContext, Output, StateSize, Step};

/// Rows given before an epoch's end, workers that ended it, and the watermark there.
type Ending = (usize, usize, Vec<Option<i64>>);

/// Counts rows by epoch on all workers, and checks what every operator is promised.
#[derive(Default)]
struct Ledger {
    epochs: Mutex<BTreeMap<Epoch, Ending>>,
    ended: AtomicUsize,
}

struct Checker {
    ledger: Arc<Ledger>,
    rows: usize,
    last: Epoch,
    watermark: Option<i64>,
}

impl Operator for Checker {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        self.rows += delta.num_rows();
        // A row that is older than the watermark at the end of the last epoch would be late.
        let times = delta.rows().column(2).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let late = times.values().iter().filter(|at| Some(**at) < self.watermark).count();
        out.drop_late(late as u64);
        out.push(delta);
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, context: &EpochContext<'_>, _out: &mut Output) -> Result<Step> {
        assert!(context.epoch > self.last, "epochs come in order");
        assert_eq!(context.now_micros, context.epoch as i64 * 1_000);
        let watermark = context.watermarks.get(WatermarkId(0));
        assert!(watermark >= self.watermark, "watermarks never go back");
        self.last = context.epoch;
        self.watermark = watermark;
        let mut epochs = self.ledger.epochs.lock().unwrap();
        let entry = epochs.entry(context.epoch).or_default();
        entry.0 += std::mem::take(&mut self.rows);
        entry.1 += 1;
        entry.2.push(watermark);
        self.ledger.ended.fetch_add(1, Ordering::SeqCst);
        Ok(Step::Done)
    }
}

fn checked(operators: &TestOperators, name: &str, keys: Option<Vec<usize>>) -> Arc<Ledger> {
    let ledger = Arc::new(Ledger::default());
    let of_workers = Arc::clone(&ledger);
    operators.add(name, keys, false, move |_| {
        Box::new(Checker { ledger: Arc::clone(&of_workers), rows: 0, last: 0, watermark: None })
    });
    ledger
}

/// Rows in random batches with event times out of order within 1,000; returns how many.
fn feed_randomly(feed: &MemoryHandle, random: &mut StdRng, batches: usize, clock: &mut i64) -> usize {
    let mut total = 0;
    for _ in 0..batches {
        let rows: Vec<_> = (0..random.random_range(1..60))
            .map(|_| {
                *clock += random.random_range(0..20);
                (random.random_range(0..1_000), random.random_range(0..1_000), *clock - random.random_range(0..1_000))
            })
            .collect();
        total += rows.len();
        feed.push(random.random_range(0..4), batch(&rows)).unwrap();
    }
    total
}

#[test]
fn nothing_arrives_after_its_epoch_and_no_row_is_lost() {
    for workers in 1..=4 {
        let operators = TestOperators::new();
        let first = checked(&operators, "first", None);
        let second = checked(&operators, "second", Some(vec![0]));
        let third = checked(&operators, "third", Some(vec![1]));
        let pool = threads(workers, &operators);
        let (feed, sink) = (MemoryHandle::new(4), MemorySink::new());
        let plan = PlanBuilder::new().stream("s").then("first").then("second").then("third");
        let (job, _) =
            JobBuilder::new(1, plan, Target::Sink(Box::new(sink.clone()))).reads(0, &feed).create(&pool).unwrap();
        let mut random = StdRng::seed_from_u64(workers as u64);
        let (mut clock, mut rows) = (0, 0);
        for _ in 0..30 {
            rows += feed_randomly(&feed, &mut random, 100, &mut clock);
            std::thread::sleep(Duration::from_millis(3));
        }
        feed.close();
        job.wait(PATIENCE).unwrap().unwrap();
        let epochs = first.epochs.lock().unwrap().clone();
        assert!(epochs.len() > 3);
        assert_eq!(epochs.values().map(|epoch| epoch.0).sum::<usize>(), rows);
        assert!(epochs.values().all(|epoch| epoch.1 == workers), "every worker ends every epoch");
        for ledger in [&second, &third] {
            for (epoch, (rows, ended, watermarks)) in ledger.epochs.lock().unwrap().iter() {
                let (all, _, of_first) = &epochs[epoch];
                assert_eq!((rows, *ended), (all, workers), "epoch {epoch}");
                assert!(
                    watermarks.iter().chain(of_first).all(|at| *at == watermarks[0]),
                    "{watermarks:?} {of_first:?}"
                );
            }
        }
        // The sink saw the same epochs, whole.
        let mut written: BTreeMap<Epoch, usize> = BTreeMap::new();
        let deltas = sink.written();
        deltas.iter().for_each(|(epoch, delta)| *written.entry(*epoch).or_default() += delta.num_rows());
        let expected: BTreeMap<Epoch, usize> =
            epochs.iter().filter(|(_, epoch)| epoch.0 > 0).map(|(at, epoch)| (*at, epoch.0)).collect();
        assert_eq!(written, expected);
        assert_eq!(epochs.values().last().unwrap().2, vec![Some(i64::MAX); workers], "the end of a bounded input");
        assert_eq!(job.metrics().bytes_in_flight, 0);
    }
}

#[test]
fn the_simulated_pool_keeps_the_same_promises() {
    for seed in 0..20 {
        let operators = TestOperators::new();
        let first = checked(&operators, "first", None);
        let second = checked(&operators, "second", Some(vec![0]));
        let pool = simulated(1 + seed as usize % 4, &operators, seed);
        let (feed, view) = (MemoryHandle::new(4), view(false));
        let plan = PlanBuilder::new().stream("s").then("first").then("second");
        let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        let (mut clock, mut rows) = (0, 0);
        for _ in 0..20 {
            rows += feed_randomly(&feed, &mut random, 3, &mut clock);
            pool.simulate(random.random_range(0..40));
        }
        pool.step(job.id()).unwrap();
        assert_eq!(contents(&view).values().sum::<i64>(), rows as i64, "seed {seed}");
        let second = second.epochs.lock().unwrap();
        for (epoch, (rows, _, watermarks)) in first.epochs.lock().unwrap().iter() {
            if let Some(theirs) = second.get(epoch).filter(|theirs| theirs.1 == pool.workers()) {
                assert_eq!(theirs.0, *rows, "seed {seed}, epoch {epoch}");
                assert!(theirs.2.iter().all(|at| Some(at) == watermarks.first()));
            }
        }
    }
}

#[test]
fn the_slowest_partition_holds_the_watermark_and_workers_without_any_do_not() {
    let operators = TestOperators::new();
    let ledger = checked(&operators, "check", Some(vec![0]));
    let pool = threads(4, &operators);
    let feed = MemoryHandle::new(2);
    let plan = PlanBuilder::new().stream("s").then("check");
    let (job, witness) = JobBuilder::new(1, plan, Target::View(view(false))).reads(0, &feed).create(&pool).unwrap();
    let watermark = || {
        pool.step(job.id()).unwrap();
        ledger.epochs.lock().unwrap().values().last().unwrap().2[0]
    };
    feed.push(0, batch(&[(1, 1, 5_000)])).unwrap();
    assert_eq!(watermark(), None, "partition 1 has promised nothing");
    feed.push(1, batch(&[(1, 1, 3_000)])).unwrap();
    assert_eq!(watermark(), Some(3_000));
    feed.set_idle(1, true);
    assert_eq!(watermark(), Some(5_000));
    feed.push(1, batch(&[(1, 1, 3_500)])).unwrap();
    assert_eq!(watermark(), Some(5_000), "never back");
    assert_eq!(*witness.late.lock().unwrap(), 1, "by the watermark of the epoch before");
    feed.push(2, batch(&[])).unwrap();
    pool.step(job.id()).unwrap();
    feed.push(0, batch(&[(1, 1, 6_000)])).unwrap();
    feed.push(1, batch(&[(1, 1, 6_000)])).unwrap();
    assert_eq!(watermark(), Some(5_000), "a new partition, on a worker that had none, starts where we are");
    feed.push(2, batch(&[(1, 1, 9_000)])).unwrap();
    feed.push(0, batch(&[(1, 1, 8_000)])).unwrap();
    feed.push(1, batch(&[(1, 1, 7_000)])).unwrap();
    assert_eq!(watermark(), Some(7_000));
}

/// Each row becomes `factor` rows, in pieces.
struct FanOut {
    factor: usize,
    left: std::collections::VecDeque<(Delta, usize)>,
}

impl FanOut {
    fn emit(&mut self, out: &mut Output) -> Result<Step> {
        while let Some((delta, left)) = self.left.front_mut() {
            if out.exhausted() {
                return Ok(Step::Yield);
            }
            let times = (*left).min(1 + 8 * 1024 / delta.num_rows());
            let indices = UInt32Array::from_iter_values((0..times).flat_map(|_| 0..delta.num_rows() as u32));
            out.push(delta.take(&indices)?);
            *left -= times;
            if *left == 0 {
                self.left.pop_front();
            }
        }
        Ok(Step::Done)
    }
}

impl Operator for FanOut {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        self.left.push_back((delta, self.factor));
        self.emit(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.emit(out)
    }
}

/// Adds values up and is slow about it on one worker.
struct Slow {
    sum: Arc<AtomicI64>,
    most: Arc<AtomicUsize>,
    job: Arc<Mutex<Option<JobHandle>>>,
}

impl Operator for Slow {
    fn on_delta(&mut self, _input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
        self.sum.fetch_add(delta.num_rows() as i64, Ordering::SeqCst);
        if let Some(job) = &*self.job.lock().unwrap() {
            self.most.fetch_max(job.metrics().bytes_in_flight, Ordering::SeqCst);
        }
        Ok(Step::Done)
    }
}

#[test]
fn a_fan_out_stays_within_the_limit_and_its_neighbours_go_on() {
    for workers in [1, 2] {
        let operators = TestOperators::new();
        operators.add("fan out", None, false, |_| Box::new(FanOut { factor: 4_000, left: Default::default() }));
        let (sum, most, handle) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)), Arc::default());
        let of_workers = (Arc::clone(&sum), Arc::clone(&most), Arc::clone(&handle));
        operators.add("slow", Some(vec![0]), false, move |_| {
            let (sum, most, job) = of_workers.clone();
            Box::new(Slow { sum, most, job })
        });
        let pool = threads(workers, &operators);
        let (feed, other) = (MemoryHandle::new(2), MemoryHandle::new(1));
        let limits = JobLimits { memory_bytes: 8 << 20, ..JobLimits::default() };
        let plan = PlanBuilder::new().stream("s").then("fan out").then("slow");
        let (job, _) =
            JobBuilder::new(1, plan, Target::View(view(false))).reads(0, &feed).limits(limits).create(&pool).unwrap();
        *handle.lock().unwrap() = Some(job.clone());
        let neighbour = view(false);
        let plan = PlanBuilder::new().stream("s").then("pass");
        let (second, _) =
            JobBuilder::new(2, plan, Target::View(Arc::clone(&neighbour))).reads(0, &other).create(&pool).unwrap();
        // 2,000 rows of 24 bytes become 8 M rows: 192 MB, 24 times the limit.
        for part in 0..2 {
            feed.push(part, batch(&(0..1_000).map(|row| (row, row, 0)).collect::<Vec<_>>())).unwrap();
        }
        feed.close();
        let mut slowest = Duration::ZERO;
        while job.outcome().is_none() {
            let start = std::time::Instant::now();
            other.push(0, batch(&[(1, 1, 0)])).unwrap();
            pool.step(second.id()).unwrap();
            slowest = slowest.max(start.elapsed());
        }
        job.outcome().unwrap().unwrap();
        assert_eq!(sum.load(Ordering::SeqCst), 8_000_000);
        let most = most.load(Ordering::SeqCst);
        assert!(most < 10 << 20, "{most} bytes at once");
        assert!(slowest < Duration::from_secs(3), "a neighbour's step took {slowest:?}");
        *handle.lock().unwrap() = None;
    }
}

#[test]
fn an_epoch_that_does_not_fit_and_state_that_does_not_are_clear_errors() {
    let operators = TestOperators::new();
    operators.add("fan out", None, false, |_| Box::new(FanOut { factor: 10_000, left: Default::default() }));
    struct Hoarder(usize);
    impl Operator for Hoarder {
        fn on_delta(&mut self, _input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
            self.0 += delta.num_rows() << 20;
            Ok(Step::Done)
        }
        fn state_size(&self) -> StateSize {
            StateSize { rows: 1, bytes: self.0 }
        }
    }
    operators.add("hoard", None, false, |_| Box::new(Hoarder(0)));
    let pool = threads(2, &operators);
    for (name, words) in [("fan out", "the changes of one epoch"), ("hoard", "the job remembers")] {
        let feed = MemoryHandle::new(1);
        let limits = JobLimits { memory_bytes: 4 << 20, ..JobLimits::default() };
        let plan = PlanBuilder::new().stream("s").then(name);
        let builder = JobBuilder::new(1, plan, Target::View(view(false))).reads(0, &feed).limits(limits);
        let (job, witness) = builder.create(&pool).unwrap();
        feed.push(0, batch(&(0..100).map(|row| (row, row, 0)).collect::<Vec<_>>())).unwrap();
        let error = job.wait(PATIENCE).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains(words), "{error}");
        assert_eq!(witness.failed.lock().unwrap().len(), 1);
        pool.drop_job(job.id()).unwrap();
    }
}

#[test]
fn a_sink_that_stops_reading_stops_the_source_and_nothing_is_lost() {
    let pool = threads(2, &TestOperators::new());
    let sink = MemorySink::new();
    sink.set_full(true);
    let rows: Vec<_> = (0..1_000).map(|row| (row, row, 0)).collect();
    let source = PrebuiltSource::new(vec![vec![batch(&rows); 1_000]; 2]);
    let plan = PlanBuilder::new().stream("s").then("by_key");
    let mut builder = JobBuilder::new(1, plan, Target::Sink(Box::new(sink.clone())));
    builder.blueprint.sources.insert(0, Box::new(source));
    builder.blueprint.limits = JobLimits { memory_bytes: 8 << 20, epochs_in_flight: 4, ..JobLimits::default() };
    let (job, _) = builder.create(&pool).unwrap();
    let mut most = 0;
    let mut before = 0;
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(10));
        let metrics = job.metrics();
        most = most.max(metrics.bytes_in_flight);
        before = metrics.rows_in;
    }
    assert!(before < 2_000_000, "the source went on");
    assert!(most < 10 << 20, "{most} bytes in flight");
    assert!(job.outcome().is_none());
    sink.set_full(false);
    job.wait(PATIENCE).unwrap().unwrap();
    let written = sink.written();
    assert_eq!(written.iter().map(|(_, delta)| delta.num_rows()).sum::<usize>(), 2_000_000);
    assert!(most > 0 && job.metrics().bytes_in_flight == 0);
}

#[test]
fn a_subscription_gets_the_contents_and_then_whole_epochs() {
    for workers in [1, 3] {
        let pool = threads(workers, &TestOperators::new());
        let (feed, view) = (MemoryHandle::new(3), view(true));
        let plan = PlanBuilder::new().stream("s").then("sum");
        let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
        let going = AtomicBool::new(true);
        let mut random = StdRng::seed_from_u64(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while going.load(Ordering::SeqCst) {
                    let rows: Vec<_> =
                        (0..20).map(|_| (random.random_range(0..30), random.random_range(-9..9), 0)).collect();
                    feed.push(random.random_range(0..3), batch(&rows)).unwrap();
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
            // Each starts somewhere, and its changes add up to what the view shows at the same epoch.
            for _ in 0..10 {
                let mut subscription = view.subscribe(true).unwrap();
                let mut got = Vec::new();
                let mut last = 0;
                for _ in 0..5 {
                    let changes = subscription.next_within(PATIENCE).unwrap().unwrap();
                    assert!(changes.epoch > last);
                    last = changes.epoch;
                    got.extend(changes.deltas);
                }
                let sums = summed(&got);
                let mut keys: Vec<i64> = sums.keys().map(|(key, _)| *key).collect();
                assert!(sums.values().all(|weight| *weight == 1), "{sums:?}");
                keys.dedup();
                assert_eq!(keys.len(), sums.len(), "one row a key at the end of an epoch");
            }
            going.store(false, Ordering::SeqCst);
        });
        assert_eq!(view.stats().subscribers, 0, "dropping unsubscribes");
        let mut subscription = view.subscribe(true).unwrap();
        feed.push(0, batch(&[(99, 1, 0)])).unwrap();
        pool.step(job.id()).unwrap();
        let stream = futures::executor::block_on(async {
            let mut deltas = subscription.next().await.unwrap().unwrap().deltas;
            while !summed(&deltas).contains_key(&(99, 1)) {
                deltas.extend(subscription.next().await.unwrap().unwrap().deltas);
            }
            deltas
        });
        assert_eq!(summed(&stream), contents(&view));
        feed.close();
        job.wait(PATIENCE).unwrap().unwrap();
        assert!(futures::executor::block_on(subscription.next()).is_none(), "the end");
    }
}

#[test]
fn a_subscriber_that_is_too_slow_is_told_so() {
    let pool = threads(1, &TestOperators::new());
    let (feed, view) = (MemoryHandle::new(1), view(false));
    let plan = PlanBuilder::new().stream("s").then("pass");
    let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
    let mut slow = view.subscribe_within(false, 100_000).unwrap();
    let mut quick = view.subscribe(false).unwrap();
    for _ in 0..10 {
        feed.push(0, batch(&vec![(1, 1, 0); 1_000])).unwrap();
        pool.step(job.id()).unwrap();
    }
    let error = slow.next_within(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(slow.next_within(Duration::ZERO).is_none());
    let mut rows = 0;
    while let Some(changes) = quick.next_within(Duration::ZERO) {
        rows += changes.unwrap().deltas.iter().map(Delta::num_rows).sum::<usize>();
    }
    assert_eq!(rows, 10_000);
}

#[test]
fn a_step_is_answered_when_workers_are_too_busy_to_look_at_its_sources() {
    /// Holds its worker up for longer than the longest tick.
    struct Slow;
    impl Operator for Slow {
        fn on_delta(&mut self, _input: usize, _delta: Delta, _out: &mut Output) -> Result<Step> {
            std::thread::sleep(Duration::from_millis(250));
            Ok(Step::Done)
        }
    }
    let operators = TestOperators::new();
    operators.add("slow", None, false, |_| Box::new(Slow));
    let pool = Arc::new(threads(1, &operators));
    let (busy, silent) = (MemoryHandle::new(1), MemoryHandle::new(1));
    let plan = PlanBuilder::new().stream("s").then("slow");
    JobBuilder::new(1, plan, Target::View(view(false))).reads(0, &busy).create(&pool).unwrap();
    let plan = PlanBuilder::new().stream("s").then("pass");
    let builder = JobBuilder::new(2, plan, Target::View(view(false)));
    let (neighbour, _) = builder.reads(0, &silent).create(&pool).unwrap();
    let (said, hear) = std::sync::mpsc::channel();
    let stepping = Arc::clone(&pool);
    // On a thread of its own: a step that nobody answers must fail the test, not hang it.
    std::thread::spawn(move || {
        for _ in 0..6 {
            busy.push(0, batch(&[(1, 1, 0)])).unwrap();
            // The epoch opens while the worker is busy, and is closed before it looks; no row says that one is needed.
            std::thread::sleep(Duration::from_millis(30));
            let _ = said.send(stepping.step(neighbour.id()).map(|_| ()));
        }
    });
    for _ in 0..6 {
        hear.recv_timeout(PATIENCE).expect("the step is answered").unwrap();
    }
}
