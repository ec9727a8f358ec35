//! `EMIT` through the door: views, subscriptions, sinks, and what is refused.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::stream::BoxStream;

use super::*;
use crate::delta::EpochChanges;

impl Server {
    /// An append-only table of rides with a watermark.
    async fn rides_table(&self) {
        self.run(
            "CREATE TABLE rides (at TIMESTAMP, zone TEXT, fare BIGINT, WATERMARK FOR at AS at - INTERVAL '10' SECOND) APPEND ONLY",
        )
        .await;
    }

    /// Rides: second of 2026, zone, fare. Every view has them when this returns.
    async fn ride(&self, rides: &[(u64, &str, i64)]) {
        let rows = rides.iter().map(|(second, zone, fare)| {
            format!("(TIMESTAMP '2026-01-01' + INTERVAL '{second}' SECOND, '{zone}', {fare})")
        });
        let rows: Vec<String> = rows.collect();
        self.run(&format!("INSERT INTO rides VALUES {}; FLUSH", rows.join(", "))).await;
    }

    /// The rows of an answer, cells joined with commas.
    async fn cells(&self, sql: &str) -> Vec<String> {
        let shown = self.run(sql).await;
        let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
        let row = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",");
        rows.map(row).collect()
    }

    async fn subscribed(&self, query: &str) -> BoxStream<'static, Result<EpochChanges>> {
        let statement = self.session.parse(&format!("SUBSCRIBE ({query})")).unwrap();
        match self.session.execute(&statement[0], &[]).await.unwrap() {
            Outcome::Changes { stream, .. } => stream,
            _ => panic!("{query} is no subscription"),
        }
    }

    async fn refused(&self, sql: &str, sentence: &str) {
        match self.try_run(sql).await {
            Ok(shown) => panic!("{sql} should be refused and says {shown}"),
            Err(error) => assert!(error.message().contains(sentence), "{sql}: {error}"),
        }
    }
}

/// The next `count` rows, each with its weight in front, in order of their text within an epoch.
async fn next_rows(stream: &mut BoxStream<'static, Result<EpochChanges>>, count: usize) -> Vec<String> {
    let mut rows = Vec::new();
    while rows.len() < count {
        let changes = tokio::time::timeout(PATIENCE, stream.next()).await.expect("changes").unwrap().unwrap();
        let mut of_epoch = Vec::new();
        for delta in changes.deltas {
            let options = FormatOptions::default();
            let schema = delta.schema();
            // The time of an epoch is another one each time.
            let columns =
                schema.fields().iter().zip(delta.rows().columns()).filter(|(field, _)| field.name() != "ptime");
            let columns: Vec<_> =
                columns.map(|(_, column)| ArrayFormatter::try_new(column, &options).unwrap()).collect();
            for row in 0..delta.num_rows() {
                let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
                of_epoch.push(format!("{:+} {}", delta.weight(row), cells.join(",")));
            }
        }
        of_epoch.sort();
        rows.extend(of_epoch);
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_shows_a_group_when_enough_rows_have_come() {
    let server = Server::start(2);
    server.rides_table().await;
    server.run("CREATE MATERIALIZED VIEW v AS SELECT zone, count(*) AS n, max(fare) AS most FROM rides GROUP BY zone EMIT AFTER 3 ROWS").await;
    // Neither the group nor its count is selected.
    server.run("CREATE MATERIALIZED VIEW w AS SELECT sum(fare) AS fares FROM rides GROUP BY zone HAVING sum(fare) > 5 EMIT AFTER 2 ROWS").await;
    server.ride(&[(1, "a", 7), (2, "a", 4), (3, "b", 1)]).await;
    assert_eq!(server.cells("SELECT * FROM v").await, Vec::<String>::new());
    assert_eq!(server.cells("SELECT * FROM w").await, ["11"]);
    server.ride(&[(4, "a", 5)]).await;
    assert_eq!(server.cells("SELECT * FROM v").await, ["a,3,7"]);
    server.ride(&[(5, "a", 9), (6, "b", 9)]).await;
    assert_eq!(server.cells("SELECT * FROM v").await, ["a,3,7"]);
    assert_eq!(server.cells("SELECT * FROM w ORDER BY fares").await, ["10", "25"]);
    server.ride(&[(7, "a", 1), (8, "a", 2), (9, "b", 2)]).await;
    assert_eq!(server.cells("SELECT * FROM v ORDER BY zone").await, ["a,6,9", "b,3,9"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn early_on_time_and_late() {
    let server = Server::start(2);
    server.rides_table().await;
    server
        .run(
            "CREATE MATERIALIZED VIEW v AS SELECT window_end, zone, count(*) AS n
             FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, zone
             EMIT AFTER 3 ROWS AND AFTER WATERMARK ALLOWED LATENESS INTERVAL '1' MINUTE",
        )
        .await;
    let counts = "SELECT zone, n FROM v WHERE window_end = TIMESTAMP '2026-01-01 00:01:00' ORDER BY zone";
    server.ride(&[(1, "a", 0), (2, "b", 0), (3, "a", 0)]).await;
    assert_eq!(server.cells(counts).await, Vec::<String>::new());
    server.ride(&[(4, "a", 0)]).await;
    assert_eq!(server.cells(counts).await, ["a,3"], "early");
    server.ride(&[(5, "a", 0), (69, "z", 0)]).await;
    assert_eq!(server.cells(counts).await, ["a,3"], "the watermark stands at 59");
    server.ride(&[(70, "z", 0)]).await;
    assert_eq!(server.cells(counts).await, ["a,4", "b,1"], "on time");
    server.ride(&[(6, "b", 0)]).await;
    assert_eq!(server.cells(counts).await, ["a,4", "b,2"], "late");
    server.ride(&[(131, "z", 0)]).await;
    server.ride(&[(7, "b", 0)]).await;
    assert_eq!(server.cells(counts).await, ["a,4", "b,2"], "too late");
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_runs_out_by_itself() {
    let server = Server::start(2);
    server.rides_table().await;
    server.run("CREATE MATERIALIZED VIEW v AS SELECT zone, count(*) AS n FROM rides GROUP BY zone EMIT AFTER DELAY INTERVAL '300' MILLISECOND").await;
    server.ride(&[(1, "a", 7), (2, "a", 4), (3, "b", 1)]).await;
    server.until("SELECT zone, n FROM v", "| a    | 2 |").await;
    assert_eq!(server.cells("SELECT * FROM v ORDER BY zone").await, ["a,2", "b,1"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_changelog_is_a_result() {
    let server = Server::start(2);
    server.rides_table().await;
    server
        .run("CREATE MATERIALIZED VIEW log (z, n) AS SELECT zone, count(*) FROM rides GROUP BY zone EMIT STREAM")
        .await;
    let mut all = server.subscribed("SELECT zone, fare FROM rides EMIT STREAM").await;
    let mut new =
        server.subscribed("SELECT zone, count(*) AS n FROM rides GROUP BY zone EMIT STREAM ACCUMULATING").await;
    server.ride(&[(1, "a", 7), (2, "b", 4)]).await;
    // FLUSH does not wait for subscriptions.
    assert_eq!(next_rows(&mut all, 2).await, ["+1 a,7,,0", "+1 b,4,,0"]);
    assert_eq!(next_rows(&mut new, 2).await, ["+1 a,1,,0", "+1 b,1,,0"]);
    server.ride(&[(3, "a", 5)]).await;
    assert_eq!(next_rows(&mut all, 1).await, ["+1 a,5,,0"]);
    assert_eq!(next_rows(&mut new, 1).await, ["+1 a,2,,1"]);
    let log = server.cells("SELECT z, n, undo, ver FROM log ORDER BY z, ver").await;
    assert_eq!(log, ["a,1,,0", "a,1,undo,1", "a,2,,2", "b,1,,0"]);
    let summed = "SELECT z, sum(CASE WHEN undo = '' THEN n ELSE -n END) AS n FROM log GROUP BY z ORDER BY z";
    assert_eq!(server.cells(summed).await, ["a,2", "b,1"]);
    let times = server.cells("SELECT count(*) FROM log WHERE ptime > TIMESTAMP '2020-01-01'").await;
    assert_eq!(times, ["4"]);
    // Views read it as rows that only come.
    let explained = server.run("EXPLAIN SELECT z, n FROM log").await;
    assert!(explained.contains("append-only"), "{explained}");
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_discards_says_parts() {
    let server = Server::start(2);
    server.rides_table().await;
    let query = "SELECT zone, count(*) AS n, max(fare) AS most FROM rides GROUP BY zone";
    let mut parts = server.subscribed(&format!("{query} EMIT AFTER 2 ROWS DISCARDING")).await;
    server.run(&format!("CREATE MATERIALIZED VIEW log AS {query} EMIT STREAM AFTER 2 ROWS DISCARDING")).await;
    server.ride(&[(1, "a", 7), (2, "b", 4)]).await;
    server.ride(&[(3, "a", 5)]).await;
    assert_eq!(next_rows(&mut parts, 1).await, ["+1 a,2,7"]);
    server.ride(&[(4, "a", 2), (5, "a", 3), (6, "a", 1)]).await;
    assert_eq!(next_rows(&mut parts, 1).await, ["+1 a,3,3"]);
    assert_eq!(server.cells("SELECT zone, n, most, undo, ver FROM log ORDER BY ver").await, ["a,2,7,,0", "a,3,3,,1"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_table_are_counted_and_cancel() {
    let server = Server::start(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW v AS SELECT id, n FROM t EMIT AFTER 2 ROWS").await;
    server.run("CREATE MATERIALIZED VIEW s AS SELECT sum(n) AS s FROM t EMIT AFTER 2 ROWS").await;
    server.run("INSERT INTO t VALUES (1, 1); FLUSH").await;
    assert_eq!(server.cells("SELECT * FROM v").await, Vec::<String>::new());
    server.run("UPDATE t SET n = 2 WHERE id = 1; FLUSH").await;
    assert_eq!(server.cells("SELECT * FROM v").await, ["1,2"]);
    // Its row without any rows was a change as well.
    assert_eq!(server.cells("SELECT * FROM s").await, ["1"]);
    server.run("DELETE FROM t WHERE id = 1; FLUSH").await;
    assert_eq!(server.cells("SELECT * FROM v").await, ["1,2"]);
    server.run("INSERT INTO t VALUES (1, 5); FLUSH").await;
    assert_eq!(server.cells("SELECT * FROM v").await, ["1,5"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_go_to_a_sink() {
    let server = Server::start(2);
    server.rides_table().await;
    let options = server.options("topic = 'late', message = 't.Late'");
    server.run(&format!("CREATE SINK too_late WITH ({options})")).await;
    server.run(&format!("CREATE STREAM late WITH ({options})")).await;
    server
        .run(
            "CREATE MATERIALIZED VIEW v AS SELECT window_end, zone, count(*) AS n
             FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE) WHERE fare > 0 GROUP BY window_start, window_end, zone
             EMIT AFTER WATERMARK LATE ROWS TO too_late",
        )
        .await;
    server.ride(&[(1, "a", 1), (80, "b", 2)]).await;
    server.ride(&[(2, "c", 3), (3, "c", 0), (75, "d", 4)]).await;
    let late =
        "SELECT zone, fare, late_operator, extract(second FROM at), extract(second FROM late_watermark) FROM late";
    server.until(late, "WindowAggregate").await;
    assert_eq!(server.cells(late).await, ["c,3,WindowAggregate TUMBLE 1 min,2,10"]);
    server.refused("DROP SINK too_late", "cannot be dropped").await;
    server.refused("SUBSCRIBE (SELECT zone FROM rides EMIT LATE ROWS TO too_late)", "in this query none can").await;
    let windows =
        "SELECT window_end, count(*) FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_end";
    server
        .refused(&format!("CREATE MATERIALIZED VIEW w AS {windows} EMIT LATE ROWS TO v"), "it is no sink and no table")
        .await;
    server.refused(&format!("CREATE MATERIALIZED VIEW w AS {windows} EMIT LATE ROWS TO nobody"), "nobody").await;
    let explained = server.run(&format!("EXPLAIN {windows} EMIT LATE ROWS TO too_late")).await;
    assert!(explained.contains("late rows to too_late"), "{explained}");
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_go_to_a_table() {
    let server = Server::start(2);
    server.rides_table().await;
    server
        .run(
            "CREATE TABLE too_late (number TEXT DEFAULT 'new', zone TEXT NOT NULL, fare INT, late_operator TEXT,
             twice BIGINT GENERATED ALWAYS AS (fare * 2) STORED, CHECK (fare < 1000))",
        )
        .await;
    let windows = "SELECT window_end, zone, count(*) AS n
        FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, zone";
    let view = |name: &str, target: &str| {
        format!("CREATE MATERIALIZED VIEW {name} AS {windows} EMIT AFTER WATERMARK LATE ROWS TO {target}")
    };
    server.run(&view("v", "too_late")).await;
    // What comes late can be looked at as anything else.
    server.run("CREATE MATERIALIZED VIEW lost AS SELECT zone, sum(fare) AS fares FROM too_late GROUP BY zone").await;
    server.ride(&[(1, "a", 1), (80, "b", 2)]).await;
    server.ride(&[(2, "c", 3), (3, "d", 5), (75, "d", 4)]).await;
    server.until("SELECT zone FROM too_late", "| d ").await;
    server.until("SELECT zone, fares FROM lost", "| d    | 5 ").await;
    assert_eq!(
        server.cells("SELECT number, zone, fare, late_operator, twice FROM too_late ORDER BY zone").await,
        ["new,c,3,WindowAggregate TUMBLE 1 min,6", "new,d,5,WindowAggregate TUMBLE 1 min,10"]
    );
    server.refused("DROP TABLE too_late", "cannot be dropped").await;
    server.run("CREATE TABLE keyed (zone TEXT PRIMARY KEY); CREATE TABLE strange (a INT, b INT)").await;
    server.run("CREATE TABLE wants_more (zone TEXT, why TEXT NOT NULL); CREATE TABLE typed (fare BOOLEAN)").await;
    server.refused(&view("w", "keyed"), "has a primary key").await;
    server.refused(&view("w", "strange"), "has none of the columns").await;
    server.refused(&view("w", "wants_more"), "column 'why' of table 'wants_more' is NOT NULL").await;
    server.refused(&view("w", "typed"), "column \"fare\" is of type boolean").await;
    server.refused(&view("w", "rides"), "they could come back to it").await;
    // A row that the table does not take fails the job, which says so.
    server.run("INSERT INTO rides VALUES (TIMESTAMP '2026-01-01 00:00:02', 'e', 5000)").await;
    server.until("SHOW JOBS", "violates check constraint").await;
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_means_nothing_is_refused() {
    let server = Server::start(1);
    server.rides_table().await;
    server.run("CREATE SINK out WITH (connector = 'blackhole')").await;
    let options = server.options("topic = 'counts', message = 't.Count', changelog = 'upsert', key = 'zone'");
    server.run(&format!("CREATE SINK keyed WITH ({options}, {MOCK})")).await;
    let query = "SELECT zone, count(*) AS rides FROM rides GROUP BY zone";
    let view = |emit: &str| format!("CREATE MATERIALIZED VIEW v AS {query} EMIT {emit}");
    let into = |sink: &str, emit: &str| format!("INSERT INTO {sink} (zone, rides) {query} EMIT {emit}");
    server.refused(&view("ACCUMULATING"), "a view holds the current result").await;
    server.refused(&view("AFTER 3 ROWS DISCARDING"), "a view holds the current result").await;
    server.refused(&view("AFTER WATERMARK AND AFTER 3 ROWS"), "needs groups that a watermark completes").await;
    server.refused(&view("AFTER 3 ROWS AND AFTER 4 ROWS"), "another trigger of its kind").await;
    server.refused(&view("AFTER 0 ROWS"), "after one row at least").await;
    server.refused(&view("AFTER DELAY INTERVAL '0' SECOND"), "greater than zero").await;
    server.refused(&into("keyed", "AFTER 3 ROWS DISCARDING"), "the last record of a key only").await;
    server.refused(&into("keyed", "STREAM"), "the last record of a key only").await;
    let having = "INSERT INTO out SELECT zone, count(*) FROM rides GROUP BY zone HAVING count(*) < 9 EMIT ACCUMULATING";
    server.refused(having, "a group may go away").await;
    let corrected = "INSERT INTO out SELECT n, count(*) FROM (SELECT zone, count(*) AS n FROM rides GROUP BY zone) GROUP BY n EMIT DISCARDING";
    server.refused(corrected, "taken back or corrected").await;
    let keyless = "SUBSCRIBE (SELECT 1 AS one FROM rides a LEFT JOIN rides b ON a.zone = b.zone EMIT ACCUMULATING)";
    server.refused(keyless, "have no key").await;
    server.refused("SUBSCRIBE (SELECT zone AS undo FROM rides EMIT STREAM)", "two columns are named undo").await;
    server.refused(&format!("{query} EMIT STREAM"), "a SELECT is answered once").await;
    server.refused(&format!("{query} EMIT DISCARDING"), "a SELECT is answered once").await;
    server.run(&into("keyed", "AFTER 3 ROWS ACCUMULATING")).await;
    server.run(&into("out", "AFTER 3 ROWS ACCUMULATING")).await;
    server.run(&into("out", "AFTER DELAY INTERVAL '1' SECOND DISCARDING")).await;
    server.run("INSERT INTO out (zone, rides, undo, ptime, ver) SELECT zone, count(*) FROM rides GROUP BY zone EMIT STREAM").await;
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_what_is_held_back() {
    let server = Server::start(1);
    server.rides_table().await;
    let explained = server
        .run("EXPLAIN SELECT zone, count(*) FROM rides GROUP BY zone EMIT AFTER DELAY INTERVAL '2' SECOND AND AFTER 100 ROWS")
        .await;
    for part in [
        "Show (zone) 2 s after its first change or after 100 rows, in place of what was shown",
        "state: the changes that wait",
        "state: how many rows have come to each group since it was shown",
    ] {
        assert!(explained.contains(part), "{part}\n{explained}");
    }
    let explained = server.run("EXPLAIN SELECT zone, fare FROM rides EMIT AFTER DELAY INTERVAL '2' SECOND").await;
    assert!(explained.contains("Show the result 2 s after its first change"), "{explained}");
    assert!(explained.contains("exchange by nothing: one worker"), "{explained}");
    let explained = server
        .run(
            "EXPLAIN SELECT window_end, count(*) FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE)
             GROUP BY window_start, window_end EMIT STREAM",
        )
        .await;
    assert!(explained.contains("Show each change as a row"), "{explained}");
    assert!(explained.contains("released by watermark of rides.at"), "{explained}");
    server.engine.shutdown();
}
