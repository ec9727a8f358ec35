//! Rows of streams that only grow may be equal, and are told apart in checkpoints by numbers.

use super::kinds::KINDS;
use super::*;
use crate::operator::change::Layered;
use crate::state::key_group::{hash_keys, key_group, worker_of};

#[test]
fn a_match_changes_the_rows_that_it_meets() {
    let case = &cases()[0];
    let mut join = case.join_of(JoinKind::Left);
    let mut counts = BTreeMap::new();
    let row = |n: i64| (Some(n), None, None, 0);
    let many: Vec<Row> = (0..8_000).map(|n| row(n / 2)).collect();
    feed(&mut join, 0, Delta::append(rows(&many)), &mut counts);
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    let mut written = Layered::default();
    written.write(&mut [&mut join], false);
    feed(&mut join, 1, Delta::append(rows(&[row(7)])), &mut counts);
    feed(&mut join, 0, Delta::append(rows(&[row(9_999)])), &mut counts);
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    written.write(&mut [&mut join], true);
    assert_eq!((written.rows, written.gone), (4, 0), "two that it meets, itself, and one that has come");
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    written.write(&mut [&mut join], true);
    assert_eq!((written.rows, written.gone), (0, 0), "nothing has changed");
    let mut join = case.join_of(JoinKind::Left);
    join.restore(written.parts_of(0, 1)).unwrap();
    feed(&mut join, 1, Delta::append(rows(&[row(7), row(8)])), &mut counts);
    settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
    assert_eq!((counts.len(), counts.values().sum::<i64>()), (4_001, 8_003), "{:?}", counts.first_key_value());
}

/// Many rows that only come, and for that nobody copies; they are found on other workers, whatever was read by whom.
#[test]
fn many_rows_are_told_as_they_lie() {
    let case = &cases()[0];
    let mut join = case.join();
    let mut counts = BTreeMap::new();
    let text = "a text that is longer than what a view holds".repeat(3);
    let many = |from: i64| (from..from + 50_000).map(|n| (Some(n), Some(text.clone()), None, n)).collect::<Vec<Row>>();
    let mut written = Layered::default();
    for (epoch, from) in [0, 50_000].into_iter().enumerate() {
        for some in many(from).chunks(5_000) {
            feed(&mut join, 0, Delta::append(rows(some)), &mut counts);
        }
        settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
        if epoch == 0 {
            assert!(join.snapshot().unwrap().is_empty(), "nothing is copied");
            let deferred = join.deferred();
            assert!(deferred.iter().all(|part| !part.rows.is_by_group()));
            let of = |groups: std::ops::RangeInclusive<u8>| {
                let parts = deferred.iter().flat_map(move |part| part.in_memory(groups.clone()).unwrap());
                parts.map(|part| part.rows.num_rows()).sum::<usize>()
            };
            assert_eq!(of(0..=99) + of(100..=255), 50_000);
            assert!(of(0..=99) > 15_000);
        }
        written.write(&mut [&mut join], epoch > 0);
    }
    assert_eq!(written.rows, 50_000);
    written.check(&mut [&mut join], "after all");
    written.check(&mut [&mut join], "after all");
    let mut workers = [case.join(), case.join(), case.join()];
    for (worker, join) in workers.iter_mut().enumerate() {
        join.restore(written.parts_of(worker, 3)).unwrap();
    }
    let probes: Vec<Row> = (0..100_000).step_by(7).map(|n| (Some(n), None, None, -1)).collect();
    let parts = divided(&Delta::append(rows(&probes)), 3);
    for (join, delta) in workers.iter_mut().zip(parts) {
        feed(join, 1, delta, &mut counts);
        settle_epoch(join, &Watermarks::none(0), &mut counts);
    }
    assert_eq!(counts.values().sum::<i64>(), probes.len() as i64);
}

/// A delta's rows, by the workers of their keys.
fn divided(delta: &Delta, workers: usize) -> Vec<Delta> {
    let mut hashes = Vec::new();
    hash_keys(&delta.rows().columns()[..1], delta.num_rows(), &mut hashes).unwrap();
    let of = |worker: usize| {
        let mine = hashes.iter().enumerate().filter(|(_, hash)| worker_of(key_group(**hash), workers) == worker);
        delta.take(&UInt32Array::from_iter_values(mine.map(|(row, _)| row as u32))).unwrap()
    };
    (0..workers).map(of).collect()
}

/// Base and layers, put together or not, on other workers, for every kind.
#[test]
fn what_goes_on_from_layers_says_the_batch_answer() {
    for (number, case) in [0, 8].map(|number| (number, cases().swap_remove(number))) {
        for ((kind, sql), seed) in KINDS.into_iter().flat_map(|kind| (0..2).map(move |seed| (kind, seed))) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut workers = vec![case.join_of(kind), case.join_of(kind)];
            let mut contents = [Vec::new(), Vec::new()];
            let mut counts = BTreeMap::new();
            let mut written = Layered::default();
            for epoch in 0..7 {
                for _ in 0..rng.random_range(0..4) {
                    let input = rng.random_range(0..2);
                    let delta = random_delta(&mut rng, &mut contents[input], false);
                    let parts = divided(&delta, workers.len());
                    for (join, delta) in workers.iter_mut().zip(parts) {
                        feed(join, input, delta, &mut counts);
                    }
                }
                workers.iter_mut().for_each(|join| settle_epoch(join, &Watermarks::none(0), &mut counts));
                let context = format!("{kind:?}, case {number}, seed {seed}, epoch {epoch}");
                assert_eq!(counts, batch_answer(&contents, &sql.replace("{}", case.sql)), "{context}");
                if rng.random_bool(0.8) {
                    let mut operators: Vec<&mut dyn Operator> =
                        workers.iter_mut().map(|join| join as &mut dyn Operator).collect();
                    written.write(&mut operators, rng.random_bool(0.9));
                    written.check(&mut operators, &context);
                    if rng.random_bool(0.3) {
                        written.compact(rng.random_range(0..3));
                    }
                    if rng.random_bool(0.4) {
                        let count = [1, 2, 4][rng.random_range(0..3)];
                        workers = (0..count).map(|_| case.join_of(kind)).collect();
                        for (worker, join) in workers.iter_mut().enumerate() {
                            join.restore(written.parts_of(worker, count)).unwrap();
                        }
                    }
                }
            }
        }
    }
}

/// Rows that are let go a time after they came, block by block: their numbers are told, or what they are. What was never
/// written leaves nothing behind.
#[test]
fn rows_that_are_too_old_are_told() {
    let mut told = [0, 0];
    for (number, case) in [0, 1, 2, 8].map(|number| (number, cases().swap_remove(number))) {
        for ((kind, _), seed) in KINDS.into_iter().flat_map(|kind| (0..4).map(move |seed| (kind, seed))) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let new = || case.join_of(kind).forgetting([Some(64), Some(128)]);
            let mut join = new();
            let mut contents = [Vec::new(), Vec::new()];
            let mut written = Layered::default();
            for epoch in 0..12 {
                join.begin_epoch(epoch * 25);
                random_epoch(&mut join, &case, &mut rng, &mut contents, &mut BTreeMap::new());
                // Who reads the rest would take back rows that are forgotten.
                contents.iter_mut().for_each(Vec::clear);
                if rng.random_bool(0.7) {
                    written.write(&mut [&mut join], rng.random_bool(0.9));
                    told[usize::from(case.changelog[0])] += written.gone;
                    written.check(&mut [&mut join], &format!("{kind:?}, case {number}, seed {seed}, epoch {epoch}"));
                    if rng.random_bool(0.3) {
                        written.compact(rng.random_range(0..3));
                    }
                    if rng.random_bool(0.3) {
                        join = new();
                        join.restore(written.parts_of(0, 1)).unwrap();
                    }
                }
            }
        }
    }
    assert!(told.iter().all(|told| *told > 1_000), "{told:?}");
}
