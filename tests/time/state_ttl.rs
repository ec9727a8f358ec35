//! `state_ttl`: what nobody has touched for so long is forgotten, and what becomes of the result.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};

use super::{Job, MINUTE, START, Sums, planned, schema};

/// Rows of keys, each with a number; their times are of no matter.
fn rows(rows: &[(i64, i64)]) -> RecordBatch {
    let times = vec![Some(START); rows.len()];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times.clone())),
        Arc::new(TimestampMicrosecondArray::from(times)),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn start(sql: &str, workers: usize) -> Job {
    // Grains of a minute.
    let plan = planned(sql, Some("64 minutes")).unwrap_or_else(|error| panic!("{sql}: {error}"));
    Job::start(&plan, workers, None, workers as u64)
}

fn said(rows: &[(&str, i64)]) -> Sums {
    rows.iter().map(|(row, count)| ((*row).to_owned(), *count)).collect()
}

impl Job {
    /// Rows come, and are read.
    fn take(&self, new: &[(i64, i64)]) {
        self.push(&rows(new), 0);
        self.step();
    }

    /// Time passes, and what is due by itself is said.
    fn rest(&mut self, minutes: i64) {
        self.pass(minutes * MINUTE);
        self.pool.simulate(300);
    }
}

#[test]
fn a_group_that_nobody_touches_goes_and_begins_anew() {
    for workers in 1..=3 {
        let mut job = start("SELECT k, count(*), sum(ms) FROM s GROUP BY k", workers);
        job.take(&[(1, 10), (2, 20), (2, 1)]);
        job.rest(40);
        job.take(&[(1, 5)]);
        assert_eq!(job.sums(), said(&[("1 | 2 | 15", 1), ("2 | 2 | 21", 1)]));
        job.rest(30);
        assert_eq!(job.sums(), said(&[("1 | 2 | 15", 1)]), "{workers} workers: 2 is forgotten without any row");
        job.take(&[(2, 7)]);
        assert_eq!(job.sums(), said(&[("1 | 2 | 15", 1), ("2 | 1 | 7", 1)]));
        job.rest(40);
        assert_eq!(job.sums(), said(&[("2 | 1 | 7", 1)]));
        job.rest(90);
        assert_eq!(job.sums(), Sums::new());
    }
}

#[test]
fn a_distinct_row_stays_and_is_said_again() {
    let mut job = start("SELECT DISTINCT k FROM s", 2);
    job.take(&[(1, 0), (2, 0), (1, 1)]);
    job.rest(30);
    job.take(&[(2, 0)]);
    job.rest(40);
    job.take(&[(1, 0), (2, 0)]);
    assert_eq!(job.sums(), said(&[("1", 2), ("2", 1)]));
}

#[test]
fn rows_of_a_join_meet_those_that_came_not_so_long_before() {
    for workers in 1..=2 {
        let sql = "SELECT a.k, a.ms, b.ms FROM s a JOIN s b ON a.k = b.k AND a.ms < b.ms";
        let mut job = start(sql, workers);
        job.take(&[(1, 1), (2, 1)]);
        job.rest(40);
        job.take(&[(1, 2)]);
        job.rest(30);
        job.take(&[(1, 3), (2, 3)]);
        assert_eq!(job.sums(), said(&[("1 | 1 | 2", 1), ("1 | 2 | 3", 1)]), "{workers} workers");
    }
    let mut job = start("SELECT a.k, b.ms FROM s a LEFT JOIN s b ON a.k = b.k AND a.ms < b.ms", 1);
    job.take(&[(1, 1)]);
    job.rest(90);
    job.take(&[(1, 2)]);
    assert_eq!(job.sums(), said(&[("1 | NULL", 2)]), "what was shown without a match stays so");
}

#[test]
fn a_partition_that_nobody_touches_goes_and_begins_anew() {
    for sql in [
        "SELECT k, ms, row_number() OVER (PARTITION BY k ORDER BY ms) FROM s",
        "SELECT k, ms, n FROM (SELECT k, ms, row_number() OVER (PARTITION BY k ORDER BY ms) AS n FROM s) WHERE n <= 2",
    ] {
        let mut job = start(sql, 2);
        job.take(&[(1, 5), (1, 6), (2, 5)]);
        job.rest(40);
        job.take(&[(1, 4)]);
        job.rest(30);
        let third = if sql.contains("<= 2") { vec![] } else { vec![("1 | 6 | 3", 1)] };
        let kept = [vec![("1 | 4 | 1", 1), ("1 | 5 | 2", 1)], third].concat();
        assert_eq!(job.sums(), said(&kept), "{sql}");
        job.rest(40);
        assert_eq!(job.sums(), Sums::new(), "{sql}");
        job.take(&[(1, 9)]);
        assert_eq!(job.sums(), said(&[("1 | 9 | 1", 1)]), "{sql}");
    }
}

#[test]
fn what_is_restored_counts_as_touched() {
    for sql in ["SELECT k, count(*) FROM s GROUP BY k", "SELECT k, count(*) OVER (PARTITION BY k ORDER BY ms) FROM s"] {
        let mut job = start(sql, 2);
        job.take(&[(1, 1)]);
        job.rest(40);
        let snapshot = job.pool.snapshot(job.job.id()).unwrap();
        let plan = planned(sql, Some("64 minutes")).unwrap();
        let passed = job.now() - START;
        let mut job = Job::start(&plan, 1, Some((snapshot, passed)), 9);
        job.pool.simulate(300);
        job.rest(40);
        assert_eq!(job.sums(), Sums::new(), "{sql}: nothing is said again, nothing is forgotten");
        job.rest(40);
        assert_eq!(job.sums(), said(&[("1 | 1", -1)]), "{sql}");
    }
}

#[test]
fn what_is_remembered_stays_flat_when_keys_come_and_go() {
    for sql in [
        "SELECT k, count(*) FROM s GROUP BY k",
        "SELECT DISTINCT k FROM s",
        "SELECT a.k FROM s a JOIN s b ON a.k = b.k",
        "SELECT k, ms, row_number() OVER (PARTITION BY k ORDER BY ms) FROM s",
    ] {
        let mut job = start(sql, 1);
        let mut most = [0, 0];
        for round in 0..60 {
            let new: Vec<(i64, i64)> = (0..500).map(|key| (round * 500 + key, 1)).collect();
            job.take(&new);
            job.rest(5);
            let half = &mut most[usize::from(round >= 30)];
            *half = job.job.metrics().state_bytes.max(*half);
        }
        assert!(most[1] <= most[0] + most[0] / 4, "{sql}: {most:?}");
    }
}

#[test]
fn what_cannot_be_bounded_is_refused() {
    let refused = |sql: &str, ttl: &str| match planned(sql, Some(ttl)) {
        Ok(plan) => panic!("{sql} is planned:\n{}", plan.explain()),
        Err(error) => error.to_string(),
    };
    for (sql, why) in [
        (
            "SELECT n, count(*) FROM (SELECT k, count(*) AS n FROM s GROUP BY k) GROUP BY n",
            "an aggregate over rows that may be corrected",
        ),
        ("SELECT k FROM s EXCEPT SELECT ms FROM s", "set operations"),
        ("SELECT k FROM s WHERE k > 1", "nothing to bound"),
        ("SELECT ms, row_number() OVER (ORDER BY ms) FROM s", "without PARTITION BY"),
    ] {
        assert!(refused(sql, "1 hour").contains(why), "{sql}: {}", refused(sql, "1 hour"));
    }
    for wrong in ["soon", "0 seconds", "-1 hour", "1 month", "", "1 hour'; DROP"] {
        assert!(refused("SELECT k, count(*) FROM s GROUP BY k", wrong).contains("state_ttl"), "{wrong}");
    }
    let plan = planned("SELECT k, count(*) FROM s GROUP BY k", Some("1 hour")).unwrap().explain();
    assert!(
        plan.contains("state: the groups, each forgotten when no row has touched it for 1 h (state_ttl)"),
        "{plan}"
    );
}
