//! Errors, as a client and as psql shows them: what is wrong, where, and what to do.

use std::time::Duration;

use rondel_tests::rondel::{RondelServer, rows, rows_until};
use tokio_postgres::Client;

use super::{fails, run, shown};

const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> (RondelServer, Client) {
    let server = RondelServer::start(2).await.unwrap();
    let client = server.connect().await.unwrap();
    run(
        &client,
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, zone TEXT NOT NULL, fare INT CHECK (fare >= 0), tags TEXT[], at TIMESTAMP);
         CREATE TABLE rides (at TIMESTAMP, zone TEXT, WATERMARK FOR at AS at - INTERVAL '5' SECOND) APPEND ONLY;
         CREATE VIEW plain AS SELECT id, fare FROM orders;
         CREATE SINK out WITH (connector = 'blackhole');
         INSERT INTO orders VALUES (1, 'a', 10, ARRAY['x'], '2026-01-01'), (2, 'b', 20, NULL, NULL)",
    )
    .await;
    (server, client)
}

/// What is refused in a SELECT and in everything that is made of a query.
async fn refused_everywhere(client: &Client, query: &str, code: &str, sentence: &str, hint: &str) {
    for begin in ["", "CREATE VIEW v AS ", "CREATE MATERIALIZED VIEW v AS ", "INSERT INTO out ", "EXPLAIN "] {
        fails(client, &format!("{begin}{query}"), code, sentence, hint).await;
    }
    fails(client, &format!("SUBSCRIBE ({query})"), code, sentence, hint).await;
    fails(client, &format!("CREATE SINK s WITH (connector = 'blackhole') AS {query}"), code, sentence, hint).await;
    let prepared = client.prepare(query).await.expect_err(query);
    assert_eq!(prepared.as_db_error().map(|error| error.code().code()), Some(code), "{query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_do_not_exist() {
    let (_server, client) = start().await;
    for (query, code, sentence, hint) in [
        ("SELECT fares FROM orders", "42703", "there is no column fares", "do you mean fare?"),
        ("SELECT o.zon FROM orders AS o", "42703", "there is no column o.zon", "do you mean zone?"),
        ("SELECT orders.id FROM orders AS o", "42703", "there is no column orders.id", "columns here: o.id"),
        ("SELECT id FROM orders WHERE far > 1", "42703", "there is no column far", "do you mean fare?"),
        ("SELECT zone FROM orders GROUP BY zoen", "42703", "there is no column zoen", "do you mean zone?"),
        ("SELECT count(*) FROM orders HAVING max(fares) > 1", "42703", "there is no column fares", ""),
        ("SELECT rank() OVER (ORDER BY fares) FROM orders", "42703", "there is no column fares", ""),
        (
            "SELECT 1 FROM orders a JOIN orders b ON a.id = b.idd",
            "42703",
            "there is no column b.idd",
            "do you mean id?",
        ),
        ("SELECT 1 FROM orders a JOIN rides b USING (id)", "42703", "the right side of the join has no column id", ""),
        ("SELECT id FROM plain WHERE zone = 'a'", "42703", "there is no column zone", "columns here: plain.id"),
        (
            "SELECT zone FROM orders, rides",
            "42702",
            "the column zone could be one of several",
            "name or alias before it",
        ),
        ("SELECT 1 FROM ordrs", "42P01", "named ordrs", "do you mean orders?"),
        ("SELECT lowr(zone) FROM orders", "42883", "there is no function lowr", "do you mean lower?"),
        ("SELECT o.* FROM orders", "42P01", "there is no relation o in FROM", "alias"),
    ] {
        refused_everywhere(&client, query, code, sentence, hint).await;
    }
    for (sql, code, sentence) in [
        ("INSERT INTO orders (id, zon) VALUES (1, 'a')", "42703", "zon"),
        ("UPDATE orders SET fares = 1", "42703", "fares"),
        ("UPDATE orders SET fare = fares", "42703", "fares"),
        ("DELETE FROM orders WHERE idd = 1", "42703", "idd"),
        ("INSERT INTO orders VALUES (9, 'z') RETURNING fares", "42703", "fares"),
        ("INSERT INTO orders VALUES (9, 'z') RETURNING 1 / (id - 9)", "22012", "division by zero"),
        ("DELETE FROM orders RETURNING 1 / (id - 1)", "22012", "division by zero"),
        ("DROP TABLE nothing", "42P01", "nothing"),
        ("ALTER TABLE orders DROP COLUMN fares", "42703", "fares"),
        ("SHOW nothing", "42704", "nothing"),
    ] {
        fails(&client, sql, code, sentence, "").await;
    }
    assert_eq!(shown(&client, "SELECT count(*) FROM orders").await, ["2"], "what fails changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_do_not_fit() {
    let (_server, client) = start().await;
    for (query, code, sentence) in [
        ("SELECT fare + true FROM orders", "42883", "the operator + does not take INTEGER and BOOLEAN"),
        ("SELECT at + 1 FROM orders", "42883", "the operator + does not take TIMESTAMP and"),
        ("SELECT id FROM orders WHERE fare", "42804", "a condition is BOOLEAN, and orders.fare is INTEGER"),
        ("SELECT id FROM orders WHERE tags = 1", "42883", "the operator = does not take"),
        ("SELECT sum(zone) FROM orders", "42883", ""),
        ("SELECT lower(tags) FROM orders", "42883", "the function lower does not take (TEXT[])"),
        (
            "SELECT id FROM orders UNION SELECT zone, fare FROM orders",
            "42601",
            "each UNION query must have the same number of columns",
        ),
        ("SELECT (SELECT id, fare FROM orders) FROM orders", "42601", "only one column"),
        ("SELECT zone, max(fare) FROM orders", "42803", "must appear in the GROUP BY clause"),
        ("SELECT id FROM orders WHERE max(fare) > 1", "42803", "not allowed in WHERE"),
    ] {
        refused_everywhere(&client, query, code, sentence, "").await;
    }
    for (sql, code, sentence) in [
        ("INSERT INTO orders VALUES (3, 'c', 'many')", "22P02", "invalid input syntax for type integer: \"many\""),
        ("INSERT INTO orders VALUES (3, 'c', true)", "42804", "fare"),
        ("INSERT INTO orders VALUES (3, 'c', 3000000000)", "22003", "out of range"),
        ("UPDATE orders SET at = 'yesterday evening'", "22007", "invalid input syntax for type timestamp"),
        ("SELECT 'x'::INT", "22P02", "invalid input syntax for type integer: \"x\""),
        ("SELECT 1 / 0", "22012", "division by zero"),
    ] {
        fails(&client, sql, code, sentence, "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constructs_that_are_not_supported() {
    let (_server, client) = start().await;
    for (query, sentence, hint) in [
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r",
            "WITH RECURSIVE",
            "",
        ),
        (
            "(SELECT id FROM orders ORDER BY id) UNION ALL SELECT id FROM orders",
            "ORDER BY without LIMIT has no meaning",
            "leave ORDER BY out here",
        ),
        ("SELECT id FROM orders LIMIT 1", "LIMIT without ORDER BY", "write ORDER BY before it"),
        ("SELECT id, random() FROM orders", "gives another value each time", ""),
        ("SELECT id, now() FROM orders", "now()", ""),
        ("SELECT first_value(fare) FROM orders", "first_value without ORDER BY", ""),
        ("SELECT zone, count(*) FROM orders GROUP BY zone EMIT AFTER WATERMARK", "EMIT AFTER WATERMARK", "leave"),
    ] {
        for begin in ["CREATE MATERIALIZED VIEW v AS ", "INSERT INTO out ", "EXPLAIN "] {
            fails(&client, &format!("{begin}{query}"), "0A000", sentence, hint).await;
        }
    }
    for (sql, code, sentence, hint) in [
        ("CREATE INDEX i ON orders (zone)", "0A000", "", ""),
        ("LISTEN x", "0A000", "", ""),
        ("UPDATE rides SET zone = 'x'", "0A000", "APPEND ONLY", ""),
        ("INSERT INTO plain VALUES (1, 1)", "55000", "is not a table", ""),
        ("CREATE STREAM s WITH (connector = 'kafak')", "42P17", "no connector", ""),
        (
            "CREATE MATERIALIZED VIEW v WITH (stat_ttl = '1 day') AS SELECT id FROM orders",
            "42P17",
            "no option stat_ttl",
            "there is state_ttl",
        ),
        ("DROP TABLE orders", "2BP01", "cannot be dropped", "CASCADE"),
        ("CREATE TABLE orders (a INT)", "42P07", "orders", ""),
        ("SET dialect = 'oracle'", "22023", "dialect", ""),
    ] {
        fails(&client, sql, code, sentence, hint).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_that_are_violated() {
    let (_server, client) = start().await;
    for (sql, code, sentence, detail) in [
        ("INSERT INTO orders VALUES (1, 'x', 1)", "23505", "\"orders_pkey\"", "Key (id)=(1) already exists."),
        (
            "INSERT INTO orders VALUES (3, NULL, 1)",
            "23502",
            "null value in column \"zone\"",
            "Failing row contains (3, null, 1",
        ),
        (
            "INSERT INTO orders VALUES (3, 'c', -1)",
            "23514",
            "violates check constraint",
            "Failing row contains (3, c, -1",
        ),
        ("UPDATE orders SET id = 1", "23505", "\"orders_pkey\"", "Key (id)=(1) already exists."),
        ("UPDATE orders SET fare = fare - 15", "23514", "violates check constraint", "Failing row contains (1, a, -5"),
        ("INSERT INTO orders SELECT id + 10, zone, fare - 100 FROM orders", "23514", "violates check constraint", ""),
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), code, "{sql}: {error}");
        assert!(error.message().contains(sentence), "{sql}: {error}");
        assert!(error.detail().unwrap_or_default().starts_with(detail), "{sql}: {:?}", error.detail());
    }
    assert_eq!(shown(&client, "SELECT id, fare FROM orders ORDER BY id").await, ["1,10", "2,20"]);
}

/// The job fails with the row that did it, says so everywhere, and its neighbours go on.
#[tokio::test(flavor = "multi_thread")]
async fn division_by_zero_in_a_job() {
    let (server, client) = start().await;
    run(
        &client,
        "CREATE TABLE parts (id BIGINT PRIMARY KEY, n BIGINT);
         CREATE MATERIALIZED VIEW shares AS SELECT id, 100 / n AS share FROM parts;
         CREATE MATERIALIZED VIEW sums AS SELECT sum(share) AS all FROM shares;
         CREATE MATERIALIZED VIEW guarded AS SELECT id, 100 / nullif(n, 0) AS share FROM parts;
         INSERT INTO out SELECT id, 100 % n FROM parts;
         INSERT INTO parts VALUES (1, 4);
         FLUSH",
    )
    .await;
    assert_eq!(shown(&client, "SELECT share FROM shares").await, ["25"]);
    run(&client, "INSERT INTO parts VALUES (2, 0)").await;
    let reason = "division by zero, in the row with n = 0";
    let jobs = "SHOW JOBS";
    let failed = |rows: &[Vec<Option<String>>]| {
        let says = |row: &&Vec<Option<String>>| row.iter().flatten().any(|cell| cell.contains(reason));
        rows.iter().filter(says).count() >= 2
    };
    rows_until(&client, jobs, PATIENCE, failed).await.unwrap();
    fails(&client, "SELECT * FROM shares", "55000", reason, "ALTER JOB").await;
    fails(&client, "SUBSCRIBE TO shares", "55000", reason, "ALTER JOB").await;
    // What reads from it fails with it, and what stands beside it does not.
    fails(&client, "SELECT * FROM sums", "55000", "", "").await;
    let done = |rows: &[Vec<Option<String>>]| rows.len() == 2;
    rows_until(&client, "SELECT * FROM guarded", PATIENCE, done).await.unwrap();
    // A query that is answered once fails alone, and names the row as well.
    fails(&client, "SELECT 100 / n FROM parts", "22012", "division by zero", "").await;
    // Mended, it goes on.
    run(
        &client,
        "UPDATE parts SET n = 5 WHERE id = 2; ALTER JOB sums STOP; ALTER JOB shares START; ALTER JOB sums START",
    )
    .await;
    let done = |rows: &[Vec<Option<String>>]| rows.iter().any(|row| row.contains(&Some("20".to_owned())));
    let mut found = rows(&client, "SELECT share FROM shares").await;
    for _ in 0..200 {
        if found.as_ref().is_ok_and(|rows| done(rows)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = rows(&client, "SELECT share FROM shares").await;
    }
    assert!(found.as_ref().is_ok_and(|rows| done(rows)), "{found:?}");
    // psql shows all of it: sentence, place and hint.
    let output = server.psql("SELECT id,\n fares FROM orders").unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("ERROR:  there is no column fares"), "{text}");
    assert!(text.contains("LINE 2:  fares FROM orders\n         ^"), "{text}");
    assert!(text.contains("HINT:  do you mean fare?"), "{text}");
}
