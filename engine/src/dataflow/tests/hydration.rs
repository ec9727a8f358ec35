//! A view is not there before it has read its inputs as of one epoch.

use futures::FutureExt;

use super::*;
use crate::connector::memory::MemorySink;

fn summing(pool: &Pool, feed: &MemoryHandle) -> (JobHandle, Arc<View>) {
    let view = view(true);
    let plan = PlanBuilder::new().stream("s").then("sum");
    let (job, _) = JobBuilder::new(1, plan, Target::View(Arc::clone(&view))).reads(0, feed).create(pool).unwrap();
    (job, view)
}

#[test]
fn a_view_is_waited_for_until_its_first_epoch_is_complete() {
    for workers in 1..=3 {
        let pool = simulated(workers, &TestOperators::new(), 11);
        let feed = MemoryHandle::new(2);
        feed.push(0, batch(&[(1, 1, 0), (2, 2, 0)])).unwrap();
        let (job, view) = summing(&pool, &feed);
        assert!(!view.is_hydrated(), "its first epoch was opened, and no worker has had a turn since");
        let waiting = view.hydrated();
        assert!(view.hydrated().now_or_never().is_none());
        pool.step(job.id()).unwrap();
        assert_eq!(waiting.now_or_never(), Some(true));
        assert_eq!(view.hydrated().now_or_never(), Some(true));
        assert_eq!(contents(&view), [((1, 1), 1), ((2, 2), 1)].into());
    }
}

#[test]
fn whoever_waits_hears_that_the_job_was_dropped_before() {
    let pool = simulated(2, &TestOperators::new(), 12);
    let (job, view) = summing(&pool, &MemoryHandle::new(2));
    let waiting = view.hydrated();
    pool.drop_job(job.id()).unwrap();
    assert_eq!(waiting.now_or_never(), Some(view.is_hydrated()));
}

#[test]
fn a_sink_over_a_view_gets_what_is_there_once_and_together() {
    for workers in 1..=3 {
        let pool = simulated(workers, &TestOperators::new(), 13);
        let feed = MemoryHandle::new(2);
        let (job, base) = summing(&pool, &feed);
        for round in 0..10 {
            feed.push(round % 2, batch(&(0..20).map(|key| (key, round as i64, 0)).collect::<Vec<_>>())).unwrap();
            pool.step(job.id()).unwrap();
        }
        let sink = MemorySink::new();
        let plan = PlanBuilder::new().view("v").then("by_key");
        let (reader, _) =
            JobBuilder::new(2, plan, Target::Sink(Box::new(sink.clone()))).reads_view(0, &base).create(&pool).unwrap();
        pool.step(reader.id()).unwrap();
        let written = sink.written();
        let epochs: std::collections::BTreeSet<Epoch> = written.iter().map(|(epoch, _)| *epoch).collect();
        assert_eq!(epochs.len(), 1, "{epochs:?}");
        let rows: usize = written.iter().map(|(_, delta)| delta.num_rows()).sum();
        assert_eq!(rows, 20, "nothing that was corrected before is written");
        assert_eq!(summed(written.iter().map(|(_, delta)| delta)), contents(&base));
    }
}
