//! Jobs that read other jobs' views.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ErrorKind;

/// A view of sums over a stream.
fn summing(pool: &Pool, job: u64, feed: &MemoryHandle) -> (JobHandle, Arc<View>) {
    let view = view(true);
    let plan = PlanBuilder::new().stream("s").then("sum");
    let builder = JobBuilder::new(job, plan, Target::View(Arc::clone(&view))).reads(0, feed);
    (builder.create(pool).unwrap().0, view)
}

/// A copy of a view.
fn copying(pool: &Pool, job: u64, of: &Arc<View>) -> (JobHandle, Arc<View>) {
    let view = view(of.is_changelog());
    let plan = PlanBuilder::new().view("v").then("by_key");
    let builder = JobBuilder::new(job, plan, Target::View(Arc::clone(&view))).reads_view(0, of);
    (builder.create(pool).unwrap().0, view)
}

fn random_rows(random: &mut StdRng) -> Vec<(i64, i64, i64)> {
    (0..random.random_range(1..30)).map(|_| (random.random_range(0..15), random.random_range(-5..5), 0)).collect()
}

#[test]
fn a_reader_created_later_gets_everything_once() {
    for seed in 0..40 {
        let pool = simulated(1 + seed as usize % 3, &TestOperators::new(), seed);
        let mut random = StdRng::seed_from_u64(seed);
        let feed = MemoryHandle::new(3);
        let (base, sums) = summing(&pool, 1, &feed);
        let mut copies: Vec<(JobHandle, Arc<View>)> = Vec::new();
        for round in 0..12 {
            for _ in 0..random.random_range(0..4) {
                feed.push(random.random_range(0..3), batch(&random_rows(&mut random))).unwrap();
                pool.simulate(random.random_range(0..15));
            }
            match random.random_range(0..4) {
                0 => copies.push(copying(&pool, 10 + round, &sums)),
                1 if !copies.is_empty() => {
                    let (reader, view) = copies.swap_remove(random.random_range(0..copies.len()));
                    if pool.drop_job(reader.id()).is_err() {
                        copies.push((reader, view));
                    }
                }
                2 if !copies.is_empty() => {
                    let of = Arc::clone(&copies[random.random_range(0..copies.len())].1);
                    copies.push(copying(&pool, 100 + round, &of));
                }
                _ => {}
            }
        }
        let target = pool.step(base.id()).unwrap();
        for (reader, copy) in &copies {
            pool.step(reader.id()).unwrap();
            assert!(copy.frontier() >= target);
            assert_eq!(contents(copy), contents(&sums), "seed {seed}");
        }
    }
}

#[test]
fn a_reader_on_threads_follows_a_view_under_load() {
    for workers in 1..=3 {
        let pool = threads(workers, &TestOperators::new());
        let mut random = StdRng::seed_from_u64(workers as u64);
        let feed = MemoryHandle::new(3);
        let (base, sums) = summing(&pool, 1, &feed);
        let mut copies = Vec::new();
        for round in 0..300 {
            feed.push(round % 3, batch(&random_rows(&mut random))).unwrap();
            if round % 30 == 0 {
                copies.push(copying(&pool, 10 + round as u64, &sums));
            }
            if round % 10 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        pool.step(base.id()).unwrap();
        for (reader, copy) in &copies {
            pool.step(reader.id()).unwrap();
            assert_eq!(contents(copy), contents(&sums));
        }
        assert_eq!(pool.drop_job(base.id()).unwrap_err().kind(), ErrorKind::DependentObjects);
        feed.close();
        base.wait(PATIENCE).unwrap().unwrap();
        for (reader, copy) in &copies {
            reader.wait(PATIENCE).unwrap().unwrap();
            assert_eq!(contents(copy), contents(&sums));
        }
        // A view whose job has ended can still be read, and so is its reader at once.
        let (late, copy) = copying(&pool, 999, &sums);
        late.wait(PATIENCE).unwrap().unwrap();
        assert_eq!(contents(&copy), contents(&sums));
    }
}

#[test]
fn a_large_view_is_handed_over_in_pieces() {
    let pool = threads(2, &TestOperators::new());
    let (feed, other) = (MemoryHandle::new(2), MemoryHandle::new(1));
    let base = view(false);
    let plan = PlanBuilder::new().stream("s").then("pass");
    let (job, _) =
        JobBuilder::new(1, plan.clone(), Target::View(Arc::clone(&base))).reads(0, &feed).create(&pool).unwrap();
    let (neighbour, _) = JobBuilder::new(2, plan, Target::View(view(false))).reads(0, &other).create(&pool).unwrap();
    for part in 0..40 {
        feed.push(part % 2, batch(&(0..10_000).map(|row| (row, part as i64, 0)).collect::<Vec<_>>())).unwrap();
    }
    pool.step(job.id()).unwrap();
    let (reader, copy) = copying(&pool, 3, &base);
    let mut slowest = Duration::ZERO;
    while copy.stats().rows < 400_000 {
        let start = std::time::Instant::now();
        other.push(0, batch(&[(1, 1, 0)])).unwrap();
        pool.step(neighbour.id()).unwrap();
        slowest = slowest.max(start.elapsed());
    }
    pool.step(reader.id()).unwrap();
    assert_eq!(contents(&copy), contents(&base));
    assert!(slowest < Duration::from_secs(3), "a neighbour's step took {slowest:?}");
}

#[test]
fn a_reader_with_a_stream_of_its_own_is_not_held_back_by_an_idle_view() {
    let pool = threads(2, &TestOperators::new());
    let (feed, own) = (MemoryHandle::new(1), MemoryHandle::new(1));
    let (_, sums) = summing(&pool, 1, &feed);
    feed.push(0, batch(&[(1, 7, 0)])).unwrap();
    let both = view(true);
    let plan = PlanBuilder::new().view("v").stream("s").over("pass", vec![0, 1]);
    let (reader, _) = JobBuilder::new(2, plan, Target::View(Arc::clone(&both)))
        .reads_view(0, &sums)
        .reads(1, &own)
        .create(&pool)
        .unwrap();
    for round in 0..20 {
        own.push(0, batch(&[(2, round, 0)])).unwrap();
        pool.step(reader.id()).unwrap();
    }
    let mut expected: BTreeMap<_, _> = (0..20).map(|round| ((2, round), 1)).collect();
    expected.insert((1, 7), 1);
    assert_eq!(contents(&both), expected);
}

#[test]
fn watermarks_travel_with_the_view() {
    use crate::operator::{EpochContext, Output, Step};
    /// Shows the watermark that it sees.
    struct Show(Option<i64>);
    impl Operator for Show {
        fn on_delta(&mut self, _input: usize, _delta: Delta, _out: &mut Output) -> Result<Step> {
            Ok(Step::Done)
        }
        fn on_epoch_end(&mut self, context: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
            let watermark = context.watermarks.get(WatermarkId(0));
            if watermark != self.0 {
                self.0 = watermark;
                out.push(Delta::append(batch(&[(0, watermark.unwrap_or(-1), 0)])));
            }
            Ok(Step::Done)
        }
    }
    for workers in 1..=3 {
        let operators = TestOperators::new();
        operators.add("show", Some(vec![]), false, |_| Box::new(Show(None)));
        let pool = simulated(workers, &operators, 9);
        let (feed, base) = (MemoryHandle::new(2), view(false));
        let plan = PlanBuilder::new().stream("s").then("by_key");
        let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&base))).reads(0, &feed).create(&pool).unwrap();
        feed.push(0, batch(&[(1, 1, 500)])).unwrap();
        feed.push(1, batch(&[(1, 1, 400)])).unwrap();
        pool.step(job.id()).unwrap();
        let shown = view(false);
        let mut plan = PlanBuilder::new().view("v").then("show");
        // The reader's bound is looser by 100 than the column's own.
        plan.plan.nodes[0].properties.time_columns[0].delay_micros = 100;
        let builder = JobBuilder::new(2, plan, Target::View(Arc::clone(&shown))).reads_view(0, &base);
        let (reader, _) = builder.create(&pool).unwrap();
        pool.step(reader.id()).unwrap();
        assert_eq!(contents(&shown), [((0, 500), 1)].into(), "{workers} workers: with the contents");
        feed.push(1, batch(&[(1, 1, 450)])).unwrap();
        pool.step(reader.id()).unwrap();
        assert_eq!(contents(&shown), [((0, 500), 1), ((0, 550), 1)].into());
        feed.close();
        assert!(pool.wait_until(PATIENCE, || reader.outcome().is_some()));
        assert!(contents(&shown).contains_key(&(0, i64::MAX)), "{:?}", contents(&shown));
    }
}

#[test]
fn readers_fail_with_what_they_read_but_not_the_other_way() {
    let operators = TestOperators::new();
    struct Fragile;
    impl Operator for Fragile {
        fn on_delta(
            &mut self,
            _input: usize,
            delta: Delta,
            out: &mut crate::operator::Output,
        ) -> Result<crate::operator::Step> {
            if delta.rows().column(0).as_primitive::<Int64Type>().values().contains(&13) {
                return Err(Error::new(ErrorKind::Data, "thirteen"));
            }
            out.push(delta);
            Ok(crate::operator::Step::Done)
        }
    }
    operators.add("fragile", None, false, |_| Box::new(Fragile));
    let pool = threads(2, &operators);
    let feed = MemoryHandle::new(1);
    let (base, sums) = summing(&pool, 1, &feed);
    let plan = PlanBuilder::new().view("v").then("fragile");
    let fragile = view(true);
    let builder = JobBuilder::new(2, plan.clone(), Target::View(Arc::clone(&fragile))).reads_view(0, &sums);
    let (reader, _) = builder.create(&pool).unwrap();
    let (above, _) = copying(&pool, 3, &fragile);
    feed.push(0, batch(&[(1, 1, 0)])).unwrap();
    pool.step(above.id()).unwrap();
    feed.push(0, batch(&[(13, 1, 0)])).unwrap();
    let error = reader.wait(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.message(), "thirteen");
    let error = above.wait(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.message(), "it reads job2, which failed: thirteen");
    feed.push(0, batch(&[(2, 5, 0)])).unwrap();
    pool.step(base.id()).unwrap();
    assert_eq!(contents(&sums), [((1, 1), 1), ((2, 5), 1), ((13, 1), 1)].into());
    assert_eq!(contents(&fragile), [((1, 1), 1)].into());
    let error = JobBuilder::new(4, plan, Target::View(view(true))).reads_view(0, &fragile).create(&pool).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    for job in [above.id(), reader.id(), base.id()] {
        pool.drop_job(job).unwrap();
    }
}

#[test]
fn a_view_and_its_reader_are_snapshotted_at_one_epoch() {
    for seed in 0..6 {
        let pool = simulated(1 + seed as usize % 3, &TestOperators::new(), seed);
        let feed = MemoryHandle::new(3);
        let (base, sums) = summing(&pool, 1, &feed);
        let (reader, copy) = copying(&pool, 2, &sums);
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..10 {
            feed.push(random.random_range(0..3), batch(&random_rows(&mut random))).unwrap();
            pool.simulate(random.random_range(0..20));
        }
        let snapshots = pool.snapshots(&[base.id(), reader.id()]).unwrap();
        assert_eq!(snapshots[0].epoch, snapshots[1].epoch);
        pool.step(reader.id()).unwrap();
        let expected = contents(&sums);
        assert_eq!(contents(&copy), expected);

        let pool = simulated(1 + (seed as usize + 1) % 3, &TestOperators::new(), seed + 50);
        let [of_base, of_reader] = <[JobSnapshot; 2]>::try_from(snapshots).unwrap();
        let (sums, copy) = (view(true), view(true));
        let plan = PlanBuilder::new().stream("s").then("sum");
        let mut builder = JobBuilder::new(1, plan, Target::View(Arc::clone(&sums))).reads(0, &feed);
        builder.blueprint.restore = Some(of_base);
        let (base, _) = builder.create(&pool).unwrap();
        let plan = PlanBuilder::new().view("v").then("by_key");
        let mut builder = JobBuilder::new(2, plan, Target::View(Arc::clone(&copy))).reads_view(0, &sums);
        builder.blueprint.restore = Some(of_reader);
        let (reader, _) = builder.create(&pool).unwrap();
        pool.step(reader.id()).unwrap();
        pool.step(base.id()).unwrap();
        assert_eq!(contents(&sums), expected, "seed {seed}");
        assert_eq!(contents(&copy), expected, "seed {seed}: neither gap nor double");
        feed.push(0, batch(&[(50, 5, 0)])).unwrap();
        pool.step(reader.id()).unwrap();
        assert!(contents(&copy).contains_key(&(50, 5)));
    }
}
