//! Joins whose rows are on disk most of the time.

use std::sync::atomic::Ordering;

use super::kinds::KINDS;
use super::*;
use crate::operator::change::Layered;
use crate::operator::deferred::into_parts;
use crate::state::spill::SpillSpace;
use crate::state::spill::memory::MemorySpace;

fn spilling(join: Join, allowed: usize, portion: usize) -> Join {
    kept(join, allowed, portion, false)
}

/// With checkpoints that take what it has put to disk, if `is_kept`.
fn kept(mut join: Join, allowed: usize, portion: usize, is_kept: bool) -> Join {
    join.spill_to(Arc::new(MemorySpace { is_kept, ..MemorySpace::new(allowed, portion) }));
    join
}

#[test]
fn every_kind_says_the_batch_answer_from_disk() {
    let mut spilled = 0;
    for (number, case) in cases().iter().enumerate() {
        for (kind, sql) in KINDS {
            for seed in 0..2 {
                let mut rng = SmallRng::seed_from_u64(seed + 100);
                let budget = [(0, 0), (2_000, 500), (8_000, 1_000_000)][rng.random_range(0..3)];
                let is_kept = rng.random_bool(0.5);
                let mut join = kept(case.join_of(kind), budget.0, budget.1, is_kept);
                let mut contents = [Vec::new(), Vec::new()];
                let mut counts = BTreeMap::new();
                let mut written = Written::default();
                for epoch in 0..8 {
                    random_epoch(&mut join, case, &mut rng, &mut contents, &mut counts);
                    let expected = batch_answer(&contents, &sql.replace("{}", case.sql));
                    assert_eq!(counts, expected, "{kind:?}, case {number}, seed {seed}, epoch {epoch}");
                    spilled += usize::from(join.spilled().rows > 0);
                    let rows = join.state_size().rows;
                    if rng.random_bool(0.6) {
                        written.write(&mut join, rng.random_bool(0.9));
                        if rng.random_bool(0.5) {
                            join = kept(case.join_of(kind), budget.0, budget.1, is_kept);
                            join.restore(written.parts()).unwrap();
                        }
                    }
                    assert_eq!(join.state_size().rows, rows);
                }
            }
        }
    }
    assert!(spilled > 300, "{spilled}");
}

/// Rows of windows, in which both sides let go by the other's watermark.
#[test]
fn rows_on_disk_are_let_go() {
    for changelog in [false, true] {
        let mut join = spilling(window_join(changelog), 0, 1_000_000);
        let mut counts = BTreeMap::new();
        let many: Vec<(i64, i64)> = (0..3_000).map(|n| (n / 3, n)).collect();
        for some in many.chunks(500) {
            feed(&mut join, 0, Delta::append(window_rows(some)), &mut counts);
            settle_epoch(&mut join, &Watermarks::none(2), &mut counts);
        }
        assert!(join.spilled().rows > 2_000, "{:?}", join.spilled());
        let mut watermarks = Watermarks::none(2);
        watermarks.advance(WatermarkId(1), 900_000);
        settle_epoch(&mut join, &watermarks, &mut counts);
        let later: Vec<(i64, i64)> = (899..1_000).map(|end| (end, 1)).collect();
        feed(&mut join, 1, Delta::append(window_rows(&later[1..])), &mut counts);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(counts.values().sum::<i64>(), 300);
        watermarks.advance(WatermarkId(1), i64::MAX);
        watermarks.advance(WatermarkId(0), i64::MAX);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!((join.state_size().rows, join.spilled().rows), (0, 0));
    }
}

#[test]
fn what_is_in_memory_stays_within_what_is_allowed() {
    let case = &cases()[0];
    let mut join = spilling(case.join(), 1 << 20, 256 << 10);
    let mut counts = BTreeMap::new();
    let text = "some text that fills the memory of a machine".repeat(3);
    let row = |n: i64| (Some(n), Some(text.clone()), None, n);
    let mut most = 0;
    for part in 0..20 {
        let some: Vec<Row> = (0..4_000).map(|n| row(part * 4_000 + n)).collect();
        feed(&mut join, 0, Delta::append(rows(&some)), &mut counts);
        most = most.max(join.state_size().bytes);
    }
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    assert_eq!(join.state_size().rows, 80_000);
    assert!(most < 2 << 20, "{most} bytes");
    assert!(join.spilled().bytes > 10 << 20, "{:?}", join.spilled());
    // Each row finds its one match, in an order that has nothing to do with that of the rows.
    let probes: Vec<Row> = (0..8_000).map(|n| (Some(n * 7919 % 80_000), None, None, -1)).collect();
    let mut out = Output::default();
    let mut step = join.on_delta(1, Delta::append(rows(&probes)), &mut out).unwrap();
    let mut found = 0;
    loop {
        found += out.take().0.iter().map(Delta::num_rows).sum::<usize>();
        most = most.max(join.state_size().bytes);
        if step == Step::Done {
            break;
        }
        step = join.resume(&mut out).unwrap();
    }
    assert_eq!(found, 8_000);
    assert!(most < 3 << 20, "{most} bytes");
    // A checkpoint of it is not held in memory.
    let parts = join.snapshot().unwrap();
    assert!(parts.is_empty());
    let mut parts = Vec::new();
    into_parts(join.deferred(), &mut parts).unwrap();
    assert_eq!(parts.iter().map(|part| part.rows.num_rows()).sum::<usize>(), 88_000);
}

/// A checkpoint writes rows from where they lie: they are counted until they are written, wherever the join has put them.
#[test]
fn what_a_checkpoint_keeps_in_memory_counts() {
    let case = &cases()[0];
    let allowed = 16 << 20;
    let mut join = spilling(case.join(), allowed, 1 << 20);
    let mut counts = BTreeMap::new();
    let text = "some text that fills the memory of a machine".repeat(10);
    let mut next = 0;
    let mut feed_more = |join: &mut Join, count: i64| {
        let mut most = 0;
        for _ in 0..count / 1_000 {
            let some: Vec<Row> = (next..next + 1_000).map(|n| (Some(n), Some(text.clone()), None, n)).collect();
            next += 1_000;
            feed(join, 0, Delta::append(rows(&some)), &mut counts);
            most = most.max(join.state_size().bytes);
        }
        settle_epoch(join, &Watermarks::none(0), &mut counts);
        most
    };
    let _ = feed_more(&mut join, 20_000);
    assert_eq!(join.spilled().rows, 0);
    let before = join.state_size().bytes;
    join.changes().unwrap();
    let deferred = join.deferred();
    assert!(!deferred.is_empty());
    assert!(join.state_size().bytes < before + before / 10, "nothing was copied");
    let most = feed_more(&mut join, 100_000);
    assert!(join.spilled().rows > 60_000, "{:?}", join.spilled());
    assert!(most > allowed / 2 && most < allowed + allowed / 2, "{most} bytes");
    let (with, rows) = (join.state_size(), join.state_size().rows);
    drop(deferred);
    let without = join.state_size();
    assert!(with.bytes > before / 10 * 9 && without.bytes < with.bytes - before / 10 * 9, "{with:?}, {without:?}");
    assert_eq!((without.rows, rows), (120_000, 120_000));
    // There is room for more rows again before they go to disk.
    let spilled = join.spilled().rows;
    let _ = feed_more(&mut join, 4_000);
    assert_eq!(join.spilled().rows, spilled);
}

/// Rows that never change are in files when they go to disk, and a checkpoint has these files: each row once, wherever it is
/// by then, and whoever reads them on however many workers.
#[test]
fn a_checkpoint_has_the_files_of_what_went_to_disk() {
    let case = &cases()[0];
    let new = || kept(case.join(), 256 << 10, 1 << 20, true);
    let mut join = new();
    let mut counts = BTreeMap::new();
    let text = "a text that is longer than what a view holds".repeat(3);
    let mut written = Layered::default();
    let (mut files, mut in_files) = (0, 0);
    for epoch in 0..4 {
        for some in (0..20_000).map(|n| n + epoch * 20_000).collect::<Vec<i64>>().chunks(2_000) {
            let some: Vec<Row> = some.iter().map(|n| (Some(*n), Some(text.clone()), None, *n)).collect();
            feed(&mut join, 0, Delta::append(rows(&some)), &mut counts);
            // Some come back, those that a checkpoint was told of and those of which it was not.
            let probes: Vec<Row> = some.iter().step_by(40).map(|(n, ..)| (n.map(|n| n / 3), None, None, -1)).collect();
            feed(&mut join, 1, Delta::append(rows(&probes)), &mut counts);
        }
        settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
        assert!(join.spilled().rows > 10_000, "{:?}", join.spilled());
        // The first is whole, and so is one behind a checkpoint that failed.
        let only_changes = epoch == 1 || epoch == 3;
        if epoch == 2 {
            join.changes().unwrap();
            assert!(join.deferred().iter().any(|part| part.rows.whole_file().is_some()));
        }
        written.write(&mut [&mut join], only_changes);
        if only_changes {
            assert_eq!(written.rows, 20_000 + 500);
        }
        written.check(&mut [&mut join], &format!("epoch {epoch}"));
        let mut workers = [new(), new(), new()];
        for (worker, join) in workers.iter_mut().enumerate() {
            join.restore(written.parts_of(worker, 3)).unwrap();
        }
        let all: usize = workers.iter().map(|join| join.state_size().rows).sum();
        assert_eq!(all, 20_500 * (epoch as usize + 1));
    }
    for epoch in 4..6 {
        let some: Vec<Row> = (0..30_000).map(|n| (Some(epoch * 1_000_000 + n), Some(text.clone()), None, n)).collect();
        feed(&mut join, 0, Delta::append(rows(&some)), &mut counts);
        settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
        join.changes().unwrap();
        for part in join.deferred() {
            let in_memory = |groups| -> usize {
                part.in_memory(groups).unwrap().iter().map(|part| part.rows.num_rows()).sum::<usize>()
            };
            let count = in_memory(0..=u8::MAX);
            if let Some((file, columns)) = part.rows.whole_file() {
                assert_eq!((file.rows, columns), (count, 5));
                let [least, greatest] = file.groups;
                assert_eq!(in_memory(least..=greatest), count);
                assert_eq!(in_memory(least..=least) + in_memory(least + 1..=greatest), count);
                let bytes = file.read().unwrap();
                assert_eq!((bytes.len() as u64, xxhash_rust::xxh3::xxh3_128(&bytes)), (file.bytes, file.hash));
                files += 1;
                in_files += count;
            }
        }
    }
    assert!(files > 1 && in_files > 50_000, "{in_files} rows in {files} files");
}

/// Once rows go to disk, a checkpoint writes hardly any from memory: they would be written again when they go.
#[test]
fn rows_in_memory_go_to_disk_for_a_checkpoint() {
    let case = &cases()[0];
    let allowed = 4 << 20;
    let mut join = kept(case.join(), allowed, allowed / 8, true);
    let mut counts = BTreeMap::new();
    let text = "a text that is longer than what a view holds".repeat(3);
    let mut next = 0;
    let mut feed_more = |join: &mut Join, count: i64| {
        let some: Vec<Row> = (next..next + count).map(|n| (Some(n), Some(text.clone()), None, n)).collect();
        next += count;
        for some in some.chunks(1_000) {
            feed(join, 0, Delta::append(rows(some)), &mut counts);
        }
        settle_epoch(join, &Watermarks::none(0), &mut counts);
    };
    feed_more(&mut join, 5_000);
    join.changes().unwrap();
    assert!(join.deferred().iter().all(|part| part.rows.whole_file().is_none()), "there is room for all");
    feed_more(&mut join, 50_000);
    assert!(join.spilled().rows > 0);
    for _ in 0..3 {
        // Less than what has to go.
        feed_more(&mut join, 10_000);
        let told = join.changes().unwrap().unwrap();
        let from_memory: usize = told
            .iter()
            .map(|change| match change {
                StateChange::Rows(changed) => changed.rows.iter().map(RecordBatch::num_rows).sum(),
                StateChange::Whole { .. } => 0,
            })
            .sum();
        let (mut files, mut others) = (0, from_memory);
        for part in join.deferred() {
            let mut count = 0;
            let mut note = |rows: RecordBatch| {
                count += rows.num_rows();
                Ok(())
            };
            part.rows.read(0..=u8::MAX, &mut note).unwrap();
            *(if part.rows.whole_file().is_some() { &mut files } else { &mut others }) += count;
        }
        assert!(files > others, "{files} rows in files, {others} others");
        assert!(join.state_size().bytes < allowed, "{:?}", join.state_size());
    }
    assert_eq!(join.state_size().rows, 85_000);
}

#[test]
fn errors_of_the_disk_are_those_of_the_join() {
    let case = &cases()[0];
    let space = MemorySpace::new(0, 0);
    let (is_full, is_damaged) = (Arc::clone(&space.is_full), Arc::clone(&space.is_damaged));
    let mut join = case.join();
    join.spill_to(Arc::new(space) as Arc<dyn SpillSpace>);
    let mut counts = BTreeMap::new();
    feed(&mut join, 0, Delta::append(rows(&[(Some(1), None, None, 1)])), &mut counts);
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    is_damaged.store(true, Ordering::SeqCst);
    let delta = || Delta::append(rows(&[(Some(1), None, None, 2)]));
    let error = join.on_delta(1, delta(), &mut Output::default()).unwrap_err();
    assert!(error.message().ends_with("is not as it was written: state that was put there is lost"), "{error}");
    let mut join = case.join();
    is_full.store(true, Ordering::SeqCst);
    join.spill_to(Arc::new(MemorySpace { is_full, ..MemorySpace::new(0, 0) }));
    let _ = join.on_delta(1, delta(), &mut Output::default()).unwrap();
    let context = EpochContext { epoch: 1, now_micros: 0, watermarks: &Watermarks::none(0) };
    assert_eq!(join.on_epoch_end(&context, &mut Output::default()).unwrap_err().message(), "no space is left");
}
