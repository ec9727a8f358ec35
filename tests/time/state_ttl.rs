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
        let sql = "SELECT a.k, a.ms, b.ms AS other FROM s a JOIN s b ON a.k = b.k AND a.ms < b.ms";
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

#[test]
fn one_side_of_a_join_is_forgotten_and_the_other_is_not() {
    for (sql, found) in [
        // The old row is of the side that is remembered.
        (
            "SELECT /*+ STATE_TTL('b' = '64m') */ a.k, a.ms, b.ms AS other FROM s a JOIN s b ON a.k = b.k AND a.ms < b.ms",
            said(&[("1 | 1 | 2", 1)]),
        ),
        // It is of the side that is forgotten.
        (
            "SELECT /*+ STATE_TTL('b' = '64m') */ a.k, a.ms, b.ms AS other FROM s a JOIN s b ON a.k = b.k AND a.ms > b.ms",
            Sums::new(),
        ),
        // Sides that are exchanged.
        (
            "SELECT /*+ STATE_TTL('b' = '64m') */ a.k, a.ms, b.ms AS other FROM s b RIGHT JOIN s a ON a.k = b.k AND a.ms > b.ms",
            said(&[("1 | 1 | NULL", 1), ("1 | 2 | NULL", 1)]),
        ),
    ] {
        for workers in 1..=2 {
            let plan = planned(sql, None).unwrap_or_else(|error| panic!("{sql}: {error}"));
            let mut job = Job::start(&plan, workers, None, 5);
            job.take(&[(1, 1)]);
            job.rest(90);
            job.take(&[(1, 2)]);
            assert_eq!(job.sums(), found, "{sql}, {workers} workers");
        }
    }
}

#[test]
fn operators_of_a_query_forget_at_different_times() {
    // The groups live for 64 minutes, the rows of the join for 128.
    let sql = "SELECT /*+ STATE_TTL('j' = '64 min') */ k, count(*) FROM (
                   SELECT /*+ STATE_TTL('a' = '128 min', 'b' = '128 min') */ a.k, a.ms FROM s a JOIN s b ON a.k = b.k
               ) j GROUP BY k";
    let mut job = Job::start(&planned(sql, None).unwrap(), 2, None, 7);
    job.take(&[(1, 0)]);
    assert_eq!(job.sums(), said(&[("1 | 1", 1)]));
    job.rest(90);
    assert_eq!(job.sums(), Sums::new(), "the group is forgotten");
    job.take(&[(1, 0)]);
    assert_eq!(job.sums(), said(&[("1 | 3", 1)]), "both sides find the first row, and each other's second");
    job.rest(140);
    job.take(&[(1, 0)]);
    assert_eq!(job.sums(), said(&[("1 | 1", 1)]), "all is forgotten");
}

#[test]
fn what_is_said_of_a_name_is_shown_and_beats_what_is_said_of_all() {
    let explained =
        |sql: &str, all: Option<&str>| planned(sql, all).unwrap_or_else(|error| panic!("{sql}: {error}")).explain();
    let join = "SELECT /*+ STATE_TTL('a' = '1d') */ a.k FROM s AS a JOIN s AS b ON a.k = b.k";
    let text = explained(join, None);
    assert!(text.contains("state: left rows, each forgotten 1 d after it came (state_ttl)"), "{text}");
    assert!(text.contains("state: right rows, all of them: not bounded"), "{text}");
    let text = explained(join, Some("2 hours"));
    assert!(text.contains("state: left rows, each forgotten 1 d after it came (state_ttl)"), "{text}");
    assert!(text.contains("state: right rows, each forgotten 2 h after it came (state_ttl)"), "{text}");
    for (sql, length) in [
        ("SELECT /*+ STATE_TTL('s' = '3h') */ k, count(*) FROM s WHERE ms > 1 GROUP BY k", "3 h"),
        ("SELECT /*+ STATE_TTL('x' = '10 s') */ k, sum(ms) FROM s AS x GROUP BY k", "10 s"),
        ("SELECT /*+ STATE_TTL('x' = '90 seconds') */ DISTINCT k FROM s AS x", "90 s"),
        ("SELECT /*+ STATE_TTL('x' = '2h') */ k, ms, rank() OVER (PARTITION BY k ORDER BY ms) FROM s AS x", "2 h"),
    ] {
        let text = explained(sql, None);
        assert!(text.contains(&format!("for {length} (state_ttl)")), "{sql}: {text}");
    }
}

#[test]
fn a_name_that_bounds_nothing_or_could_not_is_refused() {
    for (sql, all, why) in [
        ("SELECT /*+ STATE_TTL('t' = '1d') */ k, count(*) FROM s GROUP BY k", None, "nothing to bound of 't'"),
        // The name behind the alias is not what FROM calls it.
        ("SELECT /*+ STATE_TTL('s' = '1d') */ k, count(*) FROM s AS x GROUP BY k", None, "nothing to bound of 's'"),
        ("SELECT /*+ STATE_TTL('s' = '1d') */ k FROM s", None, "nothing to bound of 's'"),
        // An aggregate over a join reads no relation directly.
        (
            "SELECT /*+ STATE_TTL('a' = '1d') */ a.k, count(*) FROM s a JOIN s b ON a.k = b.k GROUP BY a.k",
            Some("1 hour"),
            "",
        ),
        (
            "SELECT /*+ STATE_TTL('x' = '1d') */ n, count(*) FROM (SELECT k, count(*) AS n FROM s GROUP BY k) x GROUP BY n",
            None,
            "an aggregate over rows that may be corrected",
        ),
        (
            "SELECT /*+ STATE_TTL('s' = 'soon') */ k, count(*) FROM s GROUP BY k",
            None,
            "is a length of time, not 'soon'",
        ),
        ("SELECT /*+ STATE_TTL('s') */ k, count(*) FROM s GROUP BY k", None, "cannot be read"),
    ] {
        match planned(sql, all) {
            Ok(plan) => assert!(why.is_empty(), "{sql} is planned:\n{}", plan.explain()),
            Err(error) => assert!(!why.is_empty() && error.to_string().contains(why), "{sql}: {error}"),
        }
    }
}
