//! As-of joins, temporal joins and LATERAL, from the statement to the view.

use super::*;

/// Tables that change at random: each view is what its query answers.
#[tokio::test(flavor = "multi_thread")]
async fn views_are_what_their_queries_answer() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    const QUERIES: [&str; 4] = [
        "SELECT t.id, t.n, q.price FROM t LEFT ASOF JOIN q MATCH_CONDITION (t.n >= q.n) ON t.k = q.k",
        "SELECT t.id, q.n, q.price FROM t ASOF JOIN q ON t.k = q.k AND t.n < q.n",
        "SELECT t.id, l.price FROM t LEFT JOIN LATERAL
           (SELECT q.price FROM q WHERE q.k = t.k ORDER BY q.n DESC LIMIT 2) AS l ON true",
        "SELECT t.id, l.price, l.apart FROM t, LATERAL
           (SELECT q.price, q.n - t.n AS apart FROM q WHERE q.k = t.k AND q.n <> t.n ORDER BY abs(q.n - t.n) LIMIT 1) AS l",
    ];
    let server = Server::start(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, k BIGINT, n BIGINT)").await;
    server.run("CREATE TABLE q (k BIGINT, n BIGINT, price BIGINT)").await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..60 {
        if round == 10 {
            for (number, query) in QUERIES.iter().enumerate() {
                server.run(&format!("CREATE MATERIALIZED VIEW v{number} AS {query}")).await;
            }
        }
        let (id, k, n, price) = (
            random.random_range(0..30),
            random.random_range(0..3),
            random.random_range(0..12),
            random.random_range(0..5),
        );
        let statement = match random.random_range(0..6) {
            0 | 1 => format!("INSERT INTO t VALUES ({id}, {k}, {n}) ON CONFLICT (id) DO UPDATE SET k = {k}, n = {n}"),
            2 => format!("DELETE FROM t WHERE id = {id}"),
            3 | 4 => format!("INSERT INTO q VALUES ({k}, {n}, {price}), ({k}, NULL, 1), ({k}, {n}, {price})"),
            _ => format!("DELETE FROM q WHERE k = {k} AND n = {n}"),
        };
        server.run(&statement).await;
        if round % 10 != 9 || round < 10 {
            continue;
        }
        server.run("FLUSH").await;
        for (number, query) in QUERIES.iter().enumerate() {
            let sorted = async |sql: String| {
                let mut rows = server.rows(&sql).await;
                rows.sort();
                rows
            };
            let expected = sorted((*query).to_owned()).await;
            assert!(!expected.is_empty());
            assert_eq!(sorted(format!("SELECT * FROM v{number}")).await, expected, "round {round}: {query}");
        }
    }
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_join_shows_what_is_final() {
    const QUERY: &str = "SELECT o.id, o.amount * r.rate AS value
        FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.at AS r ON o.currency = r.currency";
    let server = Server::start(2);
    for (table, columns) in [("orders", "id BIGINT, amount BIGINT"), ("rates", "rate BIGINT")] {
        let time = "at TIMESTAMP, currency TEXT, WATERMARK FOR at AS at - INTERVAL '5' SECOND";
        server.run(&format!("CREATE TABLE {table} ({columns}, {time}) APPEND ONLY")).await;
    }
    server.run(&format!("CREATE MATERIALIZED VIEW valued AS {QUERY}")).await;
    let at = |second: u32| format!("'2024-01-01 10:00:{second:02}'");
    let order = |id: u32, second: u32, currency: &str| format!("({id}, {id}, {}, '{currency}')", at(second));
    let rate = |rate: u32, second: u32, currency: &str| format!("({rate}, {}, '{currency}')", at(second));
    let orders = [order(1, 10, "EUR"), order(2, 20, "EUR"), order(3, 10, "USD"), order(4, 2, "EUR")].join(", ");
    server.run(&format!("INSERT INTO orders VALUES {orders}")).await;
    server.run(&format!("INSERT INTO rates VALUES {}, {}", rate(10, 5, "EUR"), rate(20, 18, "EUR"))).await;
    server.run("FLUSH").await;
    let valued = "SELECT id, value FROM valued ORDER BY id";
    assert_eq!(server.rows(valued).await, ["1,10", "3,", "4,"], "up to second 13");
    // It comes after the order of second 20, and is older.
    server.run(&format!("INSERT INTO rates VALUES {}, {}", rate(19, 19, "EUR"), rate(30, 30, "EUR"))).await;
    server.run("FLUSH").await;
    assert_eq!(server.rows(valued).await, ["1,10", "2,38", "3,", "4,"]);
    // Late: the watermark of rates has passed second 25, that of orders second 15.
    server.run(&format!("INSERT INTO rates VALUES {}", rate(99, 19, "EUR"))).await;
    server.run(&format!("INSERT INTO orders VALUES {}, {}", order(5, 14, "EUR"), order(6, 21, "EUR"))).await;
    server.run("FLUSH").await;
    assert_eq!(server.rows(valued).await, ["1,10", "2,38", "3,", "4,", "6,114"]);
    assert_eq!(server.rows(&format!("SELECT count(*) FROM ({QUERY}) AS all_of_them")).await, ["6"]);
    server.engine.shutdown();
}
