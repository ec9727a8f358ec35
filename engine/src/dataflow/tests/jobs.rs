use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::connector::memory::MemorySink;

#[test]
fn rows_reach_a_view_and_the_job_ends_with_its_input() {
    for workers in 1..=4 {
        let pool = threads(workers, &TestOperators::new());
        let (feed, view) = (MemoryHandle::new(3), view(false));
        let plan = PlanBuilder::new().stream("s").then("pass").then("by_key").then("pass");
        let (job, witness) =
            JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
        let mut expected = BTreeMap::new();
        for round in 0..50 {
            let rows: Vec<_> = (0..100).map(|row| (row, round, 0)).collect();
            rows.iter().for_each(|row| *expected.entry((row.0, row.1)).or_insert(0) += 1);
            feed.push(round as usize % 3, batch(&rows)).unwrap();
        }
        let epoch = pool.step(job.id()).unwrap();
        assert_eq!(contents(&view), expected, "{workers} workers");
        assert!(view.frontier() >= epoch);
        assert_eq!(job.outcome().map(|outcome| outcome.is_ok()), None);
        feed.push(0, batch(&[(-1, -1, 0)])).unwrap();
        expected.insert((-1, -1), 1);
        feed.close();
        job.wait(PATIENCE).unwrap().unwrap();
        assert_eq!(contents(&view), expected);
        assert_eq!(*witness.finished.lock().unwrap(), 1);
        let epochs = witness.epochs.lock().unwrap().clone();
        assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
        let metrics = job.metrics();
        assert_eq!((metrics.rows_in, metrics.rows_out), (5_001, 5_001));
        pool.drop_job(job.id()).unwrap();
    }
}

#[test]
fn a_sum_with_a_local_half_is_right_at_every_epoch() {
    for workers in 1..=4 {
        for seed in 0..4 {
            let pool = simulated(workers, &TestOperators::new(), seed);
            let (feed, view) = (MemoryHandle::new(5), view(true));
            let plan = PlanBuilder::new().stream("s").then("pass").then("sum").then("pass");
            let (job, _) =
                JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
            let mut random = StdRng::seed_from_u64(seed);
            let mut sums = BTreeMap::new();
            for _ in 0..10 {
                for _ in 0..random.random_range(0..5) {
                    let rows: Vec<_> = (0..random.random_range(1..40))
                        .map(|_| (random.random_range(0..12), random.random_range(-5..5), 0))
                        .collect();
                    rows.iter().for_each(|row| *sums.entry(row.0).or_insert(0) += row.1);
                    feed.push(random.random_range(0..5), batch(&rows)).unwrap();
                }
                pool.simulate(random.random_range(0..30));
                pool.step(job.id()).unwrap();
                assert_eq!(contents(&view), sums.iter().map(|(key, sum)| ((*key, *sum), 1)).collect());
            }
        }
    }
}

#[test]
fn an_aggregate_without_keys_has_one_row_on_any_number_of_workers() {
    for workers in 1..=3 {
        let pool = threads(workers, &TestOperators::new());
        let (feed, view) = (MemoryHandle::new(3), view(true));
        let plan = PlanBuilder::new().stream("s").then("count");
        let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
        pool.step(job.id()).unwrap();
        assert_eq!(contents(&view), [((0, 0), 1)].into());
        feed.push(1, batch(&[(1, 1, 0), (2, 2, 0)])).unwrap();
        pool.step(job.id()).unwrap();
        assert_eq!(contents(&view), [((0, 2), 1)].into());
    }
}

#[test]
fn operators_say_what_they_remember() {
    let pool = simulated(2, &TestOperators::new(), 9);
    let (feed, view) = (MemoryHandle::new(2), view(true));
    let plan = PlanBuilder::new().stream("s").then("pass").then("sum").then("by_key");
    let (job, _) = JobBuilder::new(1, plan, Target::View(view)).reads(0, &feed).create(&pool).unwrap();
    assert_eq!(job.operators(), []);
    feed.push(0, batch(&(0..30).map(|row| (row % 20, 1, 0)).collect::<Vec<_>>())).unwrap();
    pool.step(job.id()).unwrap();
    let [sum] = job.operators().try_into().unwrap();
    assert_eq!(
        sum,
        OperatorFigures { operator: "sum".to_owned(), rows: 20, bytes: 20 * 64, keys: 20, spilled_bytes: 0 }
    );
}

#[test]
fn equal_seeds_make_equal_runs() {
    let run = |seed| {
        let pool = simulated(3, &TestOperators::new(), seed);
        let (feed, view) = (MemoryHandle::new(4), view(true));
        let plan = PlanBuilder::new().stream("s").then("sum");
        let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, &feed).create(&pool).unwrap();
        for round in 0..20 {
            feed.push(round % 4, batch(&[(round as i64 % 7, 1, 0), (3, 2, 0)])).unwrap();
            pool.simulate(20);
        }
        pool.step(job.id()).unwrap();
        pool.trace()
    };
    for seed in 0..3 {
        let trace = run(seed);
        assert_eq!(trace, run(seed));
        assert_ne!(trace, run(seed + 100));
    }
}

#[test]
fn a_sink_gets_whole_epochs_in_order_and_is_flushed_at_the_end() {
    let pool = threads(2, &TestOperators::new());
    let (feed, sink) = (MemoryHandle::new(2), MemorySink::new());
    let plan = PlanBuilder::new().stream("s").then("by_key");
    let (job, _) =
        JobBuilder::new(1, plan, Target::Sink(Box::new(sink.clone()))).reads(0, &feed).create(&pool).unwrap();
    for round in 0..200 {
        feed.push(round % 2, batch(&[(round as i64, 1, 0), (round as i64 + 1, 1, 0)])).unwrap();
        if round % 50 == 0 {
            pool.step(job.id()).unwrap();
        }
    }
    feed.close();
    job.wait(PATIENCE).unwrap().unwrap();
    let written = sink.written();
    assert_eq!(summed(written.iter().map(|(_, delta)| delta)).values().sum::<i64>(), 400);
    assert!(written.iter().map(|(epoch, _)| epoch).collect::<std::collections::BTreeSet<_>>().len() >= 4);
    assert_eq!(sink.flushes(), 2, "once a worker");
    assert_eq!(job.metrics().bytes_in_flight, 0);
}

#[test]
fn what_cannot_be_built_is_refused_before_any_worker_hears_of_it() {
    let pool = threads(2, &TestOperators::new());
    let feed = MemoryHandle::new(1);
    let plan = PlanBuilder::new().stream("s").then("no such operator");
    let error = JobBuilder::new(1, plan, Target::View(view(false))).reads(0, &feed).create(&pool).unwrap_err();
    assert!(error.message().contains("no such operator"));
    let plan = PlanBuilder::new().stream("s").then("pass");
    let error = JobBuilder::new(1, plan.clone(), Target::View(view(false))).create(&pool).unwrap_err();
    assert!(error.message().contains("no source"), "{error}");
    let (job, _) = JobBuilder::new(1, plan.clone(), Target::View(view(false))).reads(0, &feed).create(&pool).unwrap();
    let again = JobBuilder::new(1, plan, Target::View(view(false))).reads(0, &feed).create(&pool);
    assert_eq!(again.unwrap_err().kind(), crate::ErrorKind::DuplicateObject);
    pool.drop_job(job.id()).unwrap();
    assert_eq!(pool.drop_job(job.id()).unwrap_err().kind(), crate::ErrorKind::UndefinedObject);
    assert!(Pool::threads(PoolSettings::workers(0), Arc::new(SystemClock)).is_err());
}

#[test]
fn a_snapshot_is_restored_on_another_number_of_workers() {
    for (before, after) in [(1, 3), (3, 1), (2, 4), (4, 2)] {
        let pool = simulated(before, &TestOperators::new(), 5);
        let (feed, first) = (MemoryHandle::new(4), view(true));
        let plan = PlanBuilder::new().stream("s").then("sum");
        let (job, _) =
            JobBuilder::new(1, plan.clone(), Target::View(Arc::clone(&first))).reads(0, &feed).create(&pool).unwrap();
        let rows = |from: i64| -> Vec<_> { (from..from + 30).map(|row| (row % 40, row, row * 1_000)).collect() };
        for partition in 0..4 {
            feed.push(partition, batch(&rows(partition as i64 * 10))).unwrap();
        }
        pool.step(job.id()).unwrap();
        let snapshot = pool.snapshot(job.id()).unwrap();
        assert!(snapshot.epoch <= first.frontier() + 1);
        let at_snapshot = contents(&first);

        let pool = simulated(after, &TestOperators::new(), 6);
        let second = view(true);
        let mut builder = JobBuilder::new(1, plan, Target::View(Arc::clone(&second))).reads(0, &feed);
        builder.blueprint.restore = Some(snapshot);
        let (job, _) = builder.create(&pool).unwrap();
        pool.step(job.id()).unwrap();
        assert_eq!(contents(&second), at_snapshot, "{before} to {after} workers");
        feed.push(0, batch(&[(5, 1_000, 0), (77, 1, 0)])).unwrap();
        pool.step(job.id()).unwrap();
        let mut expected = at_snapshot;
        let old = *expected.keys().find(|(key, _)| *key == 5).unwrap();
        expected.remove(&old);
        expected.insert((5, old.1 + 1_000), 1);
        expected.insert((77, 1), 1);
        assert_eq!(contents(&second), expected);
    }
}

/// Remembers up to which epoch it was asked.
#[derive(Default)]
struct Leased(Mutex<Epoch>);

impl EpochLease for Leased {
    fn extend(&self, epoch: Epoch) -> Epoch {
        *self.0.lock().unwrap() = epoch;
        epoch
    }
}

/// A snapshot may come from another server, whose epochs were ahead of this one's: what its job says from now on stands behind
/// what it has said, and no other job of the pool stays in the epochs before.
#[test]
fn epochs_go_on_after_those_of_a_snapshot() {
    let (operators, plan) = (TestOperators::new(), PlanBuilder::new().stream("s").then("sum"));
    let ahead = Pool::simulated(settings(2, &operators), 7).unwrap();
    ahead.pass(Duration::from_secs(3_600));
    let feed = MemoryHandle::new(1);
    let (job, _) = JobBuilder::new(1, plan.clone(), Target::View(view(true))).reads(0, &feed).create(&ahead).unwrap();
    feed.push(0, batch(&[(1, 1, 0)])).unwrap();
    ahead.step(job.id()).unwrap();
    let snapshot = ahead.snapshot(job.id()).unwrap();
    let at = snapshot.epoch;

    let leased = Arc::new(Leased::default());
    let lease = Some(Arc::clone(&leased) as Arc<dyn EpochLease>);
    let pool = Pool::simulated(PoolSettings { lease, ..settings(2, &operators) }, 8).unwrap();
    let (other_feed, sink) = (MemoryHandle::new(1), MemorySink::new());
    let (other, _) =
        JobBuilder::new(2, plan.clone(), Target::View(view(true))).reads(0, &other_feed).create(&pool).unwrap();
    assert!(pool.step(other.id()).unwrap() < at);
    let mut builder = JobBuilder::new(1, plan.clone(), Target::Sink(Box::new(sink.clone()))).reads(0, &feed);
    builder.blueprint.restore = Some(snapshot);
    let (job, _) = builder.create(&pool).unwrap();
    feed.push(0, batch(&[(1, 1, 0)])).unwrap();
    pool.step(job.id()).unwrap();
    let said: Vec<Epoch> = sink.written().iter().map(|(epoch, _)| *epoch).collect();
    assert!(!said.is_empty() && said.iter().all(|epoch| *epoch > at), "{said:?}, after {at}");
    assert!(pool.snapshot(job.id()).unwrap().epoch > at);
    assert!(pool.step(other.id()).unwrap() > at);
    assert!(*leased.0.lock().unwrap() > at, "no later run gives them out again");
    // One that begins anew beside a snapshot that it can't go on from.
    let unused = at + 1_000_000;
    let mut builder = JobBuilder::new(3, plan, Target::View(view(true))).reads(0, &MemoryHandle::new(1));
    builder.blueprint.after = unused;
    let (anew, _) = builder.create(&pool).unwrap();
    assert!(pool.step(anew.id()).unwrap() > unused);
    assert!(pool.step(other.id()).unwrap() > unused);
}

#[test]
fn a_stopped_job_writes_what_it_has_read() {
    for workers in [1, 2] {
        let pool = threads(workers, &TestOperators::new());
        let (feed, sink, base) = (MemoryHandle::new(2), MemorySink::new(), view(false));
        let plan = PlanBuilder::new().stream("s").then("by_key");
        let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&base))).reads(0, &feed).create(&pool).unwrap();
        let plan = PlanBuilder::new().view("v").then("by_key");
        let (reader, witness) =
            JobBuilder::new(2, plan, Target::Sink(Box::new(sink.clone()))).reads_view(0, &base).create(&pool).unwrap();
        feed.push(0, batch(&(0..1_000).map(|row| (row, 1, 0)).collect::<Vec<_>>())).unwrap();
        pool.step(reader.id()).unwrap();
        assert_eq!(pool.stop_job(job.id(), PATIENCE).unwrap_err().kind(), crate::ErrorKind::DependentObjects);
        pool.stop_job(reader.id(), PATIENCE).unwrap();
        assert_eq!(summed(sink.written().iter().map(|(_, delta)| delta)).len(), 1_000);
        assert_eq!((sink.flushes(), *witness.finished.lock().unwrap()), (workers, 0));
        pool.stop_job(job.id(), PATIENCE).unwrap();
        assert_eq!(base.stats().rows, 1_000, "the view can still be read");
    }
}

/// `cargo test --release idle_jobs -- --ignored --nocapture` prints what idle jobs cost.
#[test]
#[ignore = "a measurement of five seconds"]
fn idle_jobs_cost_next_to_nothing() {
    let pool = threads(2, &TestOperators::new());
    let feeds: Vec<MemoryHandle> = (0..50).map(|_| MemoryHandle::new(2)).collect();
    for (job, feed) in feeds.iter().enumerate() {
        let plan = PlanBuilder::new().stream("s").then("pass").then("sum").then("by_key");
        JobBuilder::new(job as u64, plan, Target::View(view(true))).reads(0, feed).create(&pool).unwrap();
        feed.push(0, batch(&[(1, 1, 0)])).unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    let busy = |feed: &MemoryHandle, for_all: bool| {
        let (start, before) = (std::time::Instant::now(), cpu_time());
        while start.elapsed() < Duration::from_secs(2) {
            if for_all {
                feeds.iter().for_each(|feed| feed.push(1, batch(&[(1, 1, 0)])).unwrap());
            } else if feed.waiting_rows() > 10 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        (cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64()
    };
    let idle = busy(&feeds[0], false);
    let stepped = busy(&feeds[0], true);
    println!("50 idle jobs: {:.2} % of a core; with a row each every 10 ms: {:.1} %", idle * 100.0, stepped * 100.0);
    assert!(idle < 0.02, "{idle}");
}

/// Time that this process has used.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
