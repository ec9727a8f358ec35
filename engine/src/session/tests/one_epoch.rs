//! A SELECT over several views sees no change in one of them only.

use super::*;

/// Views over a table, and over each other, while the table changes all the time: what holds between them at each epoch holds in
/// every answer.
#[tokio::test(flavor = "multi_thread")]
async fn connected_views_are_read_at_one_epoch() {
    let server = Server::start(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    server.run("INSERT INTO t SELECT value, 0 FROM generate_series(1, 20) AS s(value)").await;
    server.run("CREATE MATERIALIZED VIEW items AS SELECT id, n FROM t").await;
    server.run("CREATE MATERIALIZED VIEW twice AS SELECT id, n * 2 AS n FROM items").await;
    server.run("CREATE MATERIALIZED VIEW total AS SELECT sum(n) AS n FROM items").await;
    server.run("FLUSH").await;
    let engine = Arc::clone(&server.engine);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writes = tokio::spawn(async move {
        let session = engine.session();
        let update = session.parse("UPDATE t SET n = n + 1 WHERE id % 3 = 1").unwrap();
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            session.execute(&update[0], &[]).await.unwrap();
        }
    });
    let query =
        "SELECT (SELECT sum(n) FROM items) = total.n AND (SELECT sum(n) FROM twice) = 2 * total.n AS holds FROM total";
    for _ in 0..60 {
        let shown = server.run(query).await;
        assert!(shown.contains("true"), "{shown}");
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    writes.await.unwrap();
    server.run("FLUSH").await;
    server.run("ALTER JOB twice STOP").await;
    server.run("UPDATE t SET n = n + 1; FLUSH").await;
    let shown = server.run("SELECT (SELECT sum(n) FROM twice) + 40 = 2 * total.n AS holds FROM total").await;
    assert!(shown.contains("true"), "a view whose job is stopped stays as it is: {shown}");
    server.engine.shutdown();
}
