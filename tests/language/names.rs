//! What columns are called, as PostgreSQL calls them: names may repeat in an answer, and not in a view or a table.

use rondel_tests::rondel::RondelServer;

use super::{fails, names, run, shown};

#[tokio::test(flavor = "multi_thread")]
async fn names_may_repeat_in_an_answer() {
    let server = RondelServer::start(1).await.unwrap();
    let client = server.connect().await.unwrap();
    run(
        &client,
        "CREATE TABLE t (a INT PRIMARY KEY, k INT, f DOUBLE PRECISION);
         CREATE TABLE u (a INT PRIMARY KEY, b TEXT);
         CREATE TABLE pairs (x INT, y INT);
         CREATE MATERIALIZED VIEW m AS SELECT k, count(*) AS n FROM t GROUP BY k;
         INSERT INTO t VALUES (1, 10, 0.5), (2, 10, 1.5);
         INSERT INTO u VALUES (1, 'one');
         FLUSH",
    )
    .await;
    for (sql, expected) in [
        ("SELECT a, a FROM t ORDER BY a", "a a"),
        ("SELECT t.a, t.a, a FROM t", "a a a"),
        ("SELECT a AS x, k AS x FROM t", "x x"),
        ("SELECT count(*), count(DISTINCT k) FROM t", "count count"),
        ("SELECT k, count(*), count(DISTINCT a), count(f) FROM t GROUP BY k", "k count count count"),
        ("SELECT 1, 2, 'x'", "?column? ?column? ?column?"),
        ("SELECT *, a FROM t", "a k f a"),
        ("SELECT t.*, t.a, k FROM t", "a k f a k"),
        ("SELECT *, k + 1 AS k FROM t ORDER BY t.a", "a k f k"),
        ("SELECT t.*, u.*, u.a FROM t JOIN u ON t.a = u.a", "a k f a b a"),
        ("SELECT * FROM (SELECT t.a, u.a, b FROM t JOIN u ON t.a = u.a) AS j", "a a b"),
        ("SELECT * FROM (SELECT * FROM t JOIN u ON t.a = u.a) AS j", "a k f a b"),
        ("SELECT * FROM (SELECT *, k + 1 AS k FROM t) AS q", "a k f k"),
        ("SELECT a, f FROM (SELECT *, k + 1 AS k FROM t) AS q ORDER BY a", "a f"),
        ("SELECT * FROM (SELECT *, f * 2 AS f FROM (SELECT *, k + 1 AS k FROM t) AS p) AS q", "a k f k f"),
        ("WITH w AS (SELECT x.*, count(*) OVER () AS a FROM t AS x) SELECT * FROM w", "a k f a"),
        ("SELECT k, j FROM (SELECT *, k AS j FROM m) AS q", "k j"),
        ("WITH w AS (SELECT a, a FROM t) SELECT * FROM w", "a a"),
        ("SELECT a, a FROM t UNION SELECT k, k FROM t", "a a"),
        ("SELECT DISTINCT k, k FROM m", "k k"),
        ("SELECT g.n, g.n FROM generate_series(1, 2) AS g(n)", "n n"),
        ("SELECT * FROM generate_series(1, 9)", "generate_series"),
        ("SELECT generate_series FROM generate_series(1, 9) ORDER BY generate_series DESC", "generate_series"),
        ("SELECT * FROM generate_series(1, 9) AS s", "s"),
        ("SELECT * FROM unnest(ARRAY[1, 2])", "unnest"),
        ("SELECT * FROM unnest(ARRAY[1, 2]) AS e", "e"),
        ("SELECT e.e, t.a FROM t, unnest(ARRAY[t.k]) AS e", "e a"),
    ] {
        assert_eq!(names(&client, sql).await, expected, "{sql}");
    }
    assert_eq!(shown(&client, "SELECT a, a FROM t ORDER BY a").await, ["1,1", "2,2"]);
    assert_eq!(shown(&client, "SELECT count(*), count(DISTINCT k) FROM t").await, ["2,1"]);
    assert_eq!(shown(&client, "SELECT t.a, a FROM t ORDER BY a DESC").await, ["2,2", "1,1"]);
    assert_eq!(
        shown(&client, "SELECT * FROM (SELECT *, k + 1 AS k FROM t) AS q ORDER BY a").await,
        ["1,10,0.5,11", "2,10,1.5,11"]
    );
    assert_eq!(shown(&client, "SELECT *, k + 1 AS k FROM t ORDER BY t.a").await, ["1,10,0.5,11", "2,10,1.5,11"]);
    assert_eq!(
        shown(&client, "SELECT sum(n) FROM (SELECT g.n, g.n FROM generate_series(1, 4) AS g(n)) q").await,
        ["10"]
    );
    // Only the places matter to an INSERT.
    run(
        &client,
        "INSERT INTO pairs SELECT a, a FROM t; INSERT INTO pairs SELECT g.n, g.n FROM generate_series(7, 7) AS g(n)",
    )
    .await;
    assert_eq!(shown(&client, "SELECT * FROM pairs ORDER BY x").await, ["1,1", "2,2", "7,7"]);
    assert_eq!(shown(&client, "INSERT INTO pairs VALUES (8, 9) RETURNING x, x, y AS x").await, ["8,8,9"]);
    // Who asks for a name that two columns have is told so.
    for sql in [
        "SELECT q.x FROM (SELECT a AS x, k AS x FROM t) AS q",
        "SELECT count FROM (SELECT count(*), count(DISTINCT k) FROM t) AS q",
        "SELECT a FROM t JOIN u ON t.a = u.a",
        "SELECT k FROM (SELECT *, k + 1 AS k FROM t) AS q",
        "SELECT n FROM (SELECT *, k AS n FROM m) AS q",
        "SELECT a AS x, k AS x FROM t ORDER BY x",
        "SELECT a, k AS a FROM t ORDER BY a DESC LIMIT 1",
        "SELECT a, a FROM t UNION SELECT k, k FROM t ORDER BY a",
        "SELECT * FROM (SELECT a AS x, k AS x FROM t ORDER BY x LIMIT 1) AS q",
    ] {
        fails(&client, sql, "42702", "could be one of several", "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_different_in_views_and_tables() {
    let server = RondelServer::start(1).await.unwrap();
    let client = server.connect().await.unwrap();
    run(&client, "CREATE TABLE t (a INT PRIMARY KEY, k INT); INSERT INTO t VALUES (1, 10), (2, 10)").await;
    for create in ["CREATE VIEW", "CREATE MATERIALIZED VIEW", "CREATE TABLE"] {
        for query in [
            "SELECT a, a FROM t",
            "SELECT a AS x, k AS x FROM t",
            "SELECT *, a FROM t",
            "SELECT * FROM (SELECT a, a FROM t) AS q",
            "SELECT x.a, y.a FROM t AS x JOIN t AS y ON x.a = y.a",
            "SELECT * FROM (SELECT x.a, y.a FROM t AS x JOIN t AS y ON x.a = y.a) AS q",
        ] {
            let sql = format!("{create} v AS {query}");
            fails(&client, &sql, "42701", "specified more than once", "another name with AS").await;
        }
    }
    fails(&client, "CREATE TABLE v (a INT, b INT, a INT)", "42701", "column \"a\" specified more than once", "").await;
    fails(&client, "CREATE VIEW v (x, x) AS SELECT a, k FROM t", "42701", "column \"x\" specified", "").await;
    fails(
        &client,
        "CREATE SINK s WITH (connector = 'blackhole') AS SELECT a, a FROM t",
        "42701",
        "column \"a\" specified more than once",
        "",
    )
    .await;
    // Names that nobody has written are told apart by numbers.
    run(
        &client,
        "CREATE MATERIALIZED VIEW v AS SELECT k, count(*), count(DISTINCT a) FROM t GROUP BY k;
         CREATE VIEW w AS SELECT *, a + 1 AS b FROM t;
         CREATE MATERIALIZED VIEW x (p, q) AS SELECT a, a FROM t;
         CREATE TABLE y AS SELECT max(a), max(k) FROM t;
         FLUSH",
    )
    .await;
    assert_eq!(names(&client, "SELECT * FROM v").await, "k count count_2");
    assert_eq!(shown(&client, "SELECT count_2, count FROM v").await, ["2,2"]);
    assert_eq!(shown(&client, "SELECT b FROM w ORDER BY b").await, ["2", "3"]);
    assert_eq!(shown(&client, "SELECT p, q FROM x ORDER BY p").await, ["1,1", "2,2"]);
    assert_eq!(names(&client, "SELECT * FROM y").await, "max max_2");
}
