//! Temporal filters: at every epoch the result is what the batch engine answers when `now()` is the epoch's time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rondel_engine::Delta;

use super::{Job, MINUTE, START, Sums, add, batch_answer, planned, schema};

/// Rows around `now`, most of them within a few minutes.
fn random_rows(rng: &mut SmallRng, now: i64, far: bool) -> RecordBatch {
    let count = rng.random_range(1..30);
    let mut moments = || -> Vec<Option<i64>> {
        let mut moment = || match rng.random_range(0..20) {
            0 => None,
            // The end of time, as people write it.
            1 if far => Some(253_402_214_400_000_000),
            2 => Some(now + rng.random_range(-3 * 1_440 * MINUTE..3 * 1_440 * MINUTE)),
            _ => Some(now + rng.random_range(-10 * MINUTE..10 * MINUTE)),
        };
        (0..count).map(|_| moment()).collect()
    };
    let (ts, until, ms) = (moments(), moments(), moments());
    let keys: Vec<Option<i64>> = (0..count).map(|_| (!rng.random_bool(0.1)).then(|| rng.random_range(0..4))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(ts)),
        Arc::new(TimestampMicrosecondArray::from(until)),
        Arc::new(Int64Array::from(keys)),
        Arc::new(ms.into_iter().map(|at| at.map(|at| at / 1_000)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Runs a query over random rows, epochs, clocks, workers, snapshots and restores.
async fn check(sql: &str, seed: u64) {
    let plan = planned(sql, None).unwrap_or_else(|error| panic!("{sql}: {error}"));
    // DataFusion counts a date less an interval in nanoseconds, which end in 2262.
    let far = !sql.contains("current_date -");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut rows: Vec<RecordBatch> = Vec::new();
    let mut job = Job::start(&plan, rng.random_range(1..=3), None, seed);
    let (mut sums, mut seen, mut checked) = (Sums::new(), 0, 0);
    for round in 0..12 {
        let stepped = if rng.random_bool(0.7) {
            let new = random_rows(&mut rng, job.now(), far);
            job.push(&new, rng.random_range(0..3));
            rows.push(new);
            job.step()
        } else {
            let jump = if rng.random_bool(0.2) { 2 * 1_440 * MINUTE } else { 4 * MINUTE };
            job.pass(rng.random_range(0..jump));
            job.step()
        };
        // What timers say by themselves, while nothing comes.
        for _ in 0..3 {
            job.pass(rng.random_range(0..2 * MINUTE));
            job.pool.simulate(150);
        }
        job.step();
        let written: Vec<(u64, Delta)> = job.sink.written()[seen..].to_vec();
        seen += written.len();
        let mut by_epoch: BTreeMap<u64, Vec<Delta>> = BTreeMap::from([(stepped, Vec::new())]);
        written.into_iter().for_each(|(epoch, delta)| by_epoch.entry(epoch).or_default().push(delta));
        for (epoch, deltas) in by_epoch {
            deltas.iter().for_each(|delta| add(&mut sums, delta.rows(), |row| delta.weight(row)));
            if epoch >= stepped {
                let expected = batch_answer(&plan, &rows, epoch as i64 * 1_000).await;
                assert_eq!(sums, expected, "{sql}\nseed {seed}, round {round}, epoch {epoch}\n{}", plan.explain());
                checked += 1;
            }
        }
        if rng.random_bool(0.3) {
            let snapshot = job.pool.snapshot(job.job.id()).unwrap();
            let late = job.sink.written()[seen..].to_vec();
            let late = late.iter().filter(|(epoch, _)| *epoch <= snapshot.epoch);
            late.for_each(|(_, delta)| add(&mut sums, delta.rows(), |row| delta.weight(row)));
            let passed = job.now() - START;
            seen = 0;
            job = Job::start(&plan, rng.random_range(1..=3), Some((snapshot, passed)), seed + round);
        }
    }
    assert!(checked >= 12);
}

const QUERIES: [&str; 18] = [
    "SELECT ts, k FROM s WHERE ts > now() - INTERVAL '5' MINUTE",
    "SELECT ts, k FROM s WHERE now() <= ts + INTERVAL '90' SECOND AND k > 0",
    "SELECT ts, k FROM s WHERE ts BETWEEN now() - INTERVAL '5' MINUTE AND now()",
    "SELECT k FROM s WHERE ts <= now() AND until > now()",
    "SELECT k FROM s WHERE ts <= now()",
    "SELECT k, ms FROM s WHERE now() - ts < INTERVAL '3' MINUTE",
    "SELECT k FROM s WHERE NOT (ts > current_timestamp)",
    "SELECT k, ts FROM s WHERE CAST(ts AS DATE) = current_date",
    "SELECT k, ts FROM s WHERE current_date - INTERVAL '1' DAY <= ts",
    "SELECT k, ts FROM s WHERE ts >= date_trunc('minute', now())",
    "SELECT k, ts FROM s WHERE ts + INTERVAL '1' MONTH < now() + INTERVAL '31' DAY",
    "SELECT k, ms FROM s WHERE ms > CAST(date_part('epoch', now()) AS BIGINT) * 1000 - 60000",
    "SELECT k, count(*), max(ts) FROM s WHERE ts > now() - INTERVAL '2' MINUTE GROUP BY k",
    "SELECT k, max(ts) FROM s GROUP BY k HAVING max(ts) < now() - INTERVAL '1' MINUTE",
    "SELECT a.k, b.ms FROM s a JOIN s b ON a.k = b.k WHERE a.ts > now() - INTERVAL '1' MINUTE AND b.ts > now() - INTERVAL '2' MINUTE",
    "SELECT a.k, a.ts, b.until FROM s a JOIN s b ON a.k = b.k AND a.ms < b.ms WHERE a.ts + (b.until - a.until) > now()",
    "SELECT k, ts FROM s a WHERE EXISTS (SELECT 1 FROM s b WHERE b.k = a.k AND b.until <= now() AND b.ts > now())",
    "SELECT k, n FROM (SELECT k, count(*) AS n, min(ts) AS first FROM s GROUP BY k) t WHERE first + INTERVAL '80' SECOND > localtimestamp",
];

#[tokio::test(flavor = "multi_thread")]
async fn at_every_epoch_what_the_batch_engine_answers_at_that_time() {
    for (number, sql) in QUERIES.iter().enumerate() {
        for seed in 0..2 {
            check(sql, 100 * number as u64 + seed).await;
        }
    }
}
