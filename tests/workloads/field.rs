//! What other engines take as a continuous query, row by row of the field's table of SQL: taken here, with its outcome.
//!
//! `cargo test … field -- --nocapture` prints the list. Queries of [`TAKEN`] run as views and are compared with their
//! snapshots; those of [`REFUSED`] must be refused with a sentence. One of them that is taken fails the
//! test until it is moved up.

use std::collections::BTreeMap;

use rondel_engine::job::{JobState, JobView};
use rondel_tests::Result;

use super::compared::Compared;

/// The feature, and the query.
type Form = (&'static str, &'static str);

/// Queries over tables whose rows change, and over append-only tables with event times.
const TAKEN: &[Form] = &[
    (
        "TUMBLE",
        "SELECT window_start, count(*) FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end",
    ),
    (
        "TUMBLE with an offset",
        "SELECT window_start, count(*) FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND, INTERVAL '3' SECOND) GROUP BY window_start, window_end",
    ),
    (
        "HOP",
        "SELECT window_start, ad, count(*) FROM HOP(TABLE clicks, DESCRIPTOR(at), INTERVAL '5' SECOND, INTERVAL '10' SECOND) GROUP BY window_start, window_end, ad",
    ),
    (
        "HOP whose size is no multiple of its slide",
        "SELECT window_start, count(*) FROM HOP(TABLE clicks, DESCRIPTOR(at), INTERVAL '4' SECOND, INTERVAL '10' SECOND) GROUP BY window_start, window_end",
    ),
    (
        "windows over windows",
        "SELECT window_start, max(n) FROM TUMBLE((SELECT window_start AS t, n FROM (SELECT window_start, count(*) AS n FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '5' SECOND) GROUP BY window_start, window_end)), DESCRIPTOR(t), INTERVAL '20' SECOND) GROUP BY window_start, window_end",
    ),
    (
        "SESSION",
        "SELECT ad, window_start, window_end, count(*) FROM SESSION(TABLE clicks PARTITION BY ad, DESCRIPTOR(at), INTERVAL '6' SECOND) GROUP BY ad, window_start, window_end",
    ),
    (
        "SESSION in a join",
        "SELECT s.ad, s.n, o.amount FROM (SELECT ad, window_start, count(*) AS n FROM SESSION(TABLE clicks PARTITION BY ad, DESCRIPTOR(at), INTERVAL '6' SECOND) GROUP BY ad, window_start, window_end) AS s JOIN orders o ON o.id = s.ad",
    ),
    (
        "CUMULATE",
        "SELECT window_end, count(*) FROM CUMULATE(TABLE clicks, DESCRIPTOR(at), INTERVAL '5' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end",
    ),
    (
        "window over a changing table",
        "SELECT window_start, sum(amount) FROM TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end",
    ),
    (
        "GROUP BY without a window",
        "SELECT customer, count(*), sum(amount), min(amount), max(amount), avg(amount) FROM orders GROUP BY customer",
    ),
    (
        "aggregate of an aggregate",
        "SELECT n, count(*) FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) AS x GROUP BY n",
    ),
    (
        "aggregate over a join that is corrected",
        "SELECT c.city, sum(o.amount) FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.city",
    ),
    (
        "DISTINCT in aggregates",
        "SELECT customer, count(DISTINCT amount), sum(DISTINCT amount) FROM orders GROUP BY customer",
    ),
    ("FILTER in aggregates", "SELECT customer, count(*) FILTER (WHERE amount > 15) FROM orders GROUP BY customer"),
    (
        "DISTINCT and FILTER in a window",
        "SELECT window_start, count(DISTINCT ad) FILTER (WHERE who = 'a') FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end",
    ),
    (
        "GROUPING SETS",
        "SELECT customer, amount, count(*) FROM orders GROUP BY GROUPING SETS ((customer), (amount), ())",
    ),
    ("ROLLUP", "SELECT customer, amount, count(*) FROM orders GROUP BY ROLLUP (customer, amount)"),
    (
        "CUBE in a window",
        "SELECT window_start, ad, who, count(*) FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end, CUBE (ad, who)",
    ),
    ("HAVING", "SELECT customer FROM orders GROUP BY customer HAVING sum(amount) > 25"),
    ("statistics", "SELECT customer, stddev(amount), var_pop(amount), corr(amount, id) FROM orders GROUP BY customer"),
    (
        "median and percentiles",
        "SELECT median(amount), percentile_cont(0.25) WITHIN GROUP (ORDER BY amount) FROM orders",
    ),
    (
        "array_agg and string_agg with an order",
        "SELECT customer, array_agg(id ORDER BY amount, id), string_agg(id::TEXT, ',' ORDER BY id) FROM orders GROUP BY customer",
    ),
    ("inner join", "SELECT o.id, c.name FROM orders o JOIN customers c ON o.customer = c.id"),
    ("inner join of streams", "SELECT s.ad, c.at FROM shown s JOIN clicks c ON s.ad = c.ad"),
    ("join on another condition", "SELECT o.id, c.id AS c FROM orders o JOIN customers c ON o.amount > c.id * 10"),
    ("cross join", "SELECT o.id, c.id AS c FROM orders o CROSS JOIN customers c"),
    (
        "cross join with an aggregate",
        "SELECT o.id, x.most FROM orders o CROSS JOIN (SELECT max(amount) AS most FROM orders) AS x",
    ),
    ("left join", "SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON o.customer = c.id"),
    ("right join", "SELECT o.id, c.name FROM orders o RIGHT JOIN customers c ON o.customer = c.id"),
    ("FULL JOIN with USING", "SELECT id FROM customers FULL JOIN (SELECT customer AS id FROM orders) AS o USING (id)"),
    ("full join", "SELECT o.id, c.name FROM orders o FULL JOIN customers c ON o.customer = c.id"),
    (
        "full join on another condition",
        "SELECT o.id, c.id AS c FROM orders o FULL JOIN customers c ON o.amount < c.id * 8",
    ),
    ("NULL-safe join", "SELECT o.id, c.id AS c FROM orders o JOIN customers c ON o.customer IS NOT DISTINCT FROM c.id"),
    ("self-join", "SELECT a.id, b.id AS b FROM orders a JOIN orders b ON a.customer = b.customer AND a.id < b.id"),
    (
        "NATURAL JOIN and USING",
        "SELECT id, amount, name FROM (SELECT customer AS id, amount FROM orders) AS o NATURAL JOIN customers",
    ),
    ("semi join", "SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id)"),
    ("anti join", "SELECT id FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id)"),
    ("LEFT SEMI JOIN", "SELECT c.id FROM customers c LEFT SEMI JOIN orders o ON o.customer = c.id"),
    ("LEFT ANTI JOIN", "SELECT c.id FROM customers c LEFT ANTI JOIN orders o ON o.customer = c.id"),
    (
        "window join",
        "SELECT s.ad, s.at, c.at AS clicked FROM TUMBLE(TABLE shown, DESCRIPTOR(at), INTERVAL '10' SECOND) s JOIN TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) c ON s.ad = c.ad AND s.window_start = c.window_start AND s.window_end = c.window_end",
    ),
    (
        "window join of hops, outer",
        "SELECT s.ad, s.window_start, c.who FROM HOP(TABLE shown, DESCRIPTOR(at), INTERVAL '5' SECOND, INTERVAL '10' SECOND) s LEFT JOIN HOP(TABLE clicks, DESCRIPTOR(at), INTERVAL '5' SECOND, INTERVAL '10' SECOND) c ON s.ad = c.ad AND s.window_start = c.window_start AND s.window_end = c.window_end",
    ),
    (
        "window join, anti",
        "SELECT s.ad, s.window_start FROM TUMBLE(TABLE shown, DESCRIPTOR(at), INTERVAL '10' SECOND) s WHERE NOT EXISTS (SELECT 1 FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) c WHERE s.ad = c.ad AND s.window_start = c.window_start AND s.window_end = c.window_end)",
    ),
    (
        "join of windowed aggregates",
        "SELECT a.window_start, a.n, b.n AS shown FROM (SELECT window_start, window_end, count(*) AS n FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end) a JOIN (SELECT window_start, window_end, count(*) AS n FROM TUMBLE(TABLE shown, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end) b ON a.window_start = b.window_start AND a.window_end = b.window_end",
    ),
    (
        "interval join",
        "SELECT s.ad, c.at FROM shown s JOIN clicks c ON s.ad = c.ad AND c.at BETWEEN s.at AND s.at + INTERVAL '5' SECOND",
    ),
    (
        "interval join, outer",
        "SELECT s.ad, s.at, c.at AS clicked FROM shown s LEFT JOIN clicks c ON s.ad = c.ad AND c.at BETWEEN s.at AND s.at + INTERVAL '5' SECOND",
    ),
    (
        "interval join, full",
        "SELECT s.ad, s.at, c.at AS clicked FROM shown s FULL JOIN clicks c ON s.ad = c.ad AND c.at >= s.at - INTERVAL '2' SECOND AND c.at < s.at + INTERVAL '5' SECOND",
    ),
    (
        "join of many",
        "SELECT o.id, c.name, k.who, s.at FROM orders o JOIN customers c ON o.customer = c.id JOIN clicks k ON k.ad = o.id JOIN shown s ON s.ad = k.ad",
    ),
    (
        "OVER with ROWS",
        "SELECT id, sum(amount) OVER (PARTITION BY customer ORDER BY at, id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM orders",
    ),
    (
        "OVER with RANGE of time",
        "SELECT id, count(*) OVER (PARTITION BY customer ORDER BY at RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) FROM orders",
    ),
    (
        "OVER with GROUPS",
        "SELECT id, sum(amount) OVER (ORDER BY amount GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM orders",
    ),
    (
        "OVER with rows to come",
        "SELECT id, max(amount) OVER (PARTITION BY customer ORDER BY at, id ROWS BETWEEN CURRENT ROW AND 2 FOLLOWING) FROM orders",
    ),
    ("OVER without PARTITION BY", "SELECT id, row_number() OVER (ORDER BY amount DESC, id) FROM orders"),
    (
        "RANK, DENSE_RANK, NTILE",
        "SELECT id, rank() OVER w, dense_rank() OVER w, ntile(3) OVER w FROM orders WINDOW w AS (PARTITION BY customer ORDER BY amount)",
    ),
    (
        "LAG, LEAD, FIRST_VALUE, LAST_VALUE",
        "SELECT id, lag(amount) OVER w, lead(amount, 2, 0) OVER w, first_value(amount) OVER w, last_value(amount) OVER w FROM orders WINDOW w AS (PARTITION BY customer ORDER BY at, id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
    ),
    (
        "different OVERs in one query",
        "SELECT id, sum(amount) OVER (PARTITION BY customer), avg(amount) OVER (ORDER BY at, id ROWS 3 PRECEDING), cume_dist() OVER (ORDER BY amount) FROM orders",
    ),
    (
        "OVER over a windowed aggregate",
        "SELECT window_start, ad, n, rank() OVER (PARTITION BY window_start, window_end ORDER BY n DESC) FROM (SELECT window_start, window_end, ad, count(*) AS n FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end, ad) AS x",
    ),
    (
        "top-N",
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS n FROM orders) AS x WHERE n <= 2",
    ),
    (
        "top-N of windows",
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, ad) AS place FROM (SELECT window_start, window_end, ad, count(*) AS n FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end, ad) AS x) AS y WHERE place <= 1",
    ),
    (
        "top-N by rank",
        "SELECT * FROM (SELECT *, rank() OVER (ORDER BY amount DESC) AS n FROM orders) AS x WHERE n <= 3",
    ),
    ("QUALIFY", "SELECT id FROM orders QUALIFY row_number() OVER (PARTITION BY customer ORDER BY amount, id) = 1"),
    ("ORDER BY with LIMIT and OFFSET", "SELECT id, amount FROM orders ORDER BY amount DESC, id LIMIT 3 OFFSET 1"),
    ("LIMIT in a subquery", "SELECT sum(amount) FROM (SELECT amount FROM orders ORDER BY amount DESC LIMIT 3) AS x"),
    ("ORDER BY alone, which orders nothing", "SELECT id, amount FROM orders ORDER BY amount DESC, at"),
    (
        "MATCH_RECOGNIZE",
        "SELECT * FROM clicks MATCH_RECOGNIZE (PARTITION BY ad ORDER BY at MEASURES A.who AS who, LAST(B.at) AS until PATTERN (A B+) DEFINE B AS B.who = 'b') AS m",
    ),
    (
        "MATCH_RECOGNIZE over rows that change",
        "SELECT * FROM orders MATCH_RECOGNIZE (PARTITION BY customer ORDER BY at, id MEASURES FIRST(id) AS id, sum(b.amount) AS amount PATTERN (a b{1,3}) DEFINE b AS b.amount > a.amount) AS m",
    ),
    (
        "DISTINCT ON",
        "SELECT DISTINCT ON (customer) customer, id, amount FROM orders ORDER BY customer, amount DESC, id",
    ),
    (
        "first row of a key",
        "SELECT ad, at FROM (SELECT *, row_number() OVER (PARTITION BY ad ORDER BY at) AS n FROM clicks) AS x WHERE n = 1",
    ),
    (
        "last row of a key",
        "SELECT ad, at FROM (SELECT *, row_number() OVER (PARTITION BY ad ORDER BY at DESC) AS n FROM clicks) AS x WHERE n = 1",
    ),
    ("SELECT DISTINCT", "SELECT DISTINCT customer FROM orders"),
    ("UNION ALL", "SELECT id FROM orders UNION ALL SELECT id FROM customers"),
    ("UNION", "SELECT customer FROM orders UNION SELECT id FROM customers"),
    ("INTERSECT", "SELECT customer FROM orders INTERSECT SELECT id FROM customers"),
    ("INTERSECT ALL", "SELECT customer FROM orders INTERSECT ALL SELECT id FROM customers"),
    ("EXCEPT", "SELECT id FROM customers EXCEPT SELECT customer FROM orders"),
    ("EXCEPT ALL", "SELECT customer FROM orders EXCEPT ALL SELECT id FROM customers"),
    ("UNION ALL of streams", "SELECT at, ad FROM shown UNION ALL SELECT at, ad FROM clicks"),
    ("IN with a subquery", "SELECT id FROM orders WHERE customer IN (SELECT id FROM customers WHERE city = 'Oslo')"),
    (
        "NOT IN with a subquery",
        "SELECT id FROM customers WHERE id NOT IN (SELECT customer FROM orders WHERE customer IS NOT NULL)",
    ),
    (
        "ANY and ALL",
        "SELECT id FROM orders WHERE amount >= ALL (SELECT amount FROM orders WHERE customer = 1) OR amount < ANY (SELECT id FROM customers)",
    ),
    (
        "correlated subquery as a value",
        "SELECT id, (SELECT sum(amount) FROM orders o WHERE o.customer = c.id) FROM customers c",
    ),
    (
        "correlated subquery in WHERE",
        "SELECT id FROM orders o WHERE amount > (SELECT avg(amount) FROM orders i WHERE i.customer = o.customer)",
    ),
    (
        "correlated EXISTS on another condition",
        "SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.amount < c.id * 10)",
    ),
    ("uncorrelated subquery as a value", "SELECT id FROM orders WHERE amount = (SELECT max(amount) FROM orders)"),
    (
        "EXISTS below OR",
        "SELECT id FROM customers c WHERE name = 'ann' OR EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id)",
    ),
    (
        "LATERAL with an aggregate",
        "SELECT c.id, x.n FROM customers c, LATERAL (SELECT count(*) AS n FROM orders o WHERE o.customer = c.id) AS x",
    ),
    (
        "top-N as LATERAL with LIMIT",
        "SELECT c.id, x.id AS best FROM customers c, LATERAL (SELECT id FROM orders o WHERE o.customer = c.id ORDER BY amount DESC, id LIMIT 2) AS x",
    ),
    (
        "top-N as LEFT JOIN LATERAL, from the second",
        "SELECT c.id, x.* FROM customers c LEFT JOIN LATERAL (SELECT o.id AS o, amount FROM orders o WHERE o.customer = c.id AND amount > 3 ORDER BY at LIMIT 3 OFFSET 1) AS x ON true",
    ),
    (
        "top-N of groups as LATERAL",
        "SELECT c.city, x.* FROM customers c, LATERAL (SELECT amount % 5 AS rest, count(*) AS n FROM orders o WHERE o.customer = c.id GROUP BY amount % 5 ORDER BY count(*) DESC, 1 LIMIT 1) AS x",
    ),
    (
        "subquery with LIMIT as a value",
        "SELECT id, (SELECT amount FROM orders o WHERE o.customer = c.id ORDER BY at DESC LIMIT 1) AS latest FROM customers c",
    ),
    (
        "subquery with LIMIT as a value in WHERE",
        "SELECT id FROM orders o WHERE id = (SELECT id FROM orders i WHERE i.customer = o.customer ORDER BY amount DESC, id LIMIT 1)",
    ),
    (
        "EXISTS as a value",
        "SELECT id, EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id AND o.amount > 5), NOT EXISTS (SELECT 1 FROM orders WHERE amount > 25) AS none FROM customers c",
    ),
    (
        "IN as a value",
        "SELECT id, customer IN (SELECT id FROM customers WHERE city = 'Oslo') AS is_in, customer NOT IN (SELECT customer FROM orders) AS is_not FROM orders",
    ),
    (
        "EXISTS in CASE",
        "SELECT CASE WHEN EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id) THEN 'some' ELSE 'none' END AS orders, count(*) FROM customers c GROUP BY 1",
    ),
    (
        "as-of join",
        "SELECT c.ad, c.at, s.at AS shown FROM clicks c ASOF JOIN shown s MATCH_CONDITION (c.at >= s.at) ON c.ad = s.ad",
    ),
    (
        "as-of join, outer, of rows that change",
        "SELECT a.id, b.id AS before FROM orders a LEFT ASOF JOIN orders b MATCH_CONDITION (a.amount > b.amount) ON a.customer = b.customer",
    ),
    ("temporal filter", "SELECT id FROM orders WHERE at > now() - INTERVAL '36500' DAY"),
    (
        "WITH, named twice",
        "WITH x AS (SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer) SELECT a.customer FROM x a JOIN x b ON a.amount < b.amount",
    ),
    ("unnest", "SELECT id, unnest(ARRAY[id, amount]) FROM orders"),
    (
        "VALUES in a join",
        "SELECT o.id, v.word FROM orders o JOIN (VALUES (1, 'one'), (2, 'two')) AS v(n, word) ON o.customer = v.n",
    ),
    ("view over a view", "SELECT customer, amount FROM sums WHERE amount > 20"),
    ("join of a view with what it reads", "SELECT o.id, s.amount FROM orders o JOIN sums s ON o.customer = s.customer"),
];

/// Queries over streams that end, so that all their windows close.
const TAKEN_OVER_STREAMS: &[Form] = &[
    (
        "EMIT AFTER WATERMARK",
        "SELECT window_start, count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '5' SECOND) GROUP BY window_start, window_end EMIT AFTER WATERMARK",
    ),
    (
        "EMIT AFTER WATERMARK ALLOWED LATENESS",
        "SELECT window_start, count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '5' SECOND) GROUP BY window_start, window_end EMIT AFTER WATERMARK ALLOWED LATENESS INTERVAL '1' MINUTE",
    ),
    (
        "EMIT AFTER WATERMARK of sessions",
        "SELECT bidder, window_start, count(*) FROM SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(date_time), INTERVAL '2' SECOND) GROUP BY bidder, window_start, window_end EMIT AFTER WATERMARK",
    ),
    (
        "EMIT AFTER WATERMARK of an outer interval join",
        "SELECT a.id FROM auction a LEFT JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.date_time + INTERVAL '1' SECOND WHERE b.auction IS NULL EMIT AFTER WATERMARK",
    ),
    (
        "EMIT AFTER WATERMARK of OVER by event time",
        "SELECT auction, count(*) OVER (PARTITION BY auction ORDER BY date_time RANGE BETWEEN INTERVAL '1' SECOND PRECEDING AND CURRENT ROW) FROM bid EMIT AFTER WATERMARK",
    ),
    (
        "event-time temporal join",
        "SELECT b.auction, b.price, a.seller FROM bid AS b JOIN auction FOR SYSTEM_TIME AS OF b.date_time AS a ON b.auction = a.id",
    ),
    (
        "as-of join with final rows",
        "SELECT b.auction, b.price, a.id, a.seller FROM bid AS b LEFT ASOF JOIN auction a MATCH_CONDITION (b.date_time >= a.date_time) ON b.bidder = a.seller EMIT AFTER WATERMARK",
    ),
    (
        "MATCH_RECOGNIZE over a stream",
        "SELECT * FROM bid MATCH_RECOGNIZE (PARTITION BY auction ORDER BY date_time MEASURES FIRST(b.price) AS low, LAST(b.price) AS high PATTERN (a b{2,}) WITHIN INTERVAL '10' SECOND DEFINE b AS price > PREV(price)) EMIT AFTER WATERMARK",
    ),
    ("results that are corrected over a stream", "SELECT auction, count(*), max(price) FROM bid GROUP BY auction"),
];

/// Queries whose results wait or are changes themselves: other tests compare them (`tests/slt/emit_triggers.slt`,
/// `tests/slt/temporal_filters.slt`). Here they are only taken.
const TAKEN_ELSEWHERE: &[Form] = &[
    (
        "EMIT AFTER DELAY",
        "SELECT customer, count(*) FROM orders GROUP BY customer EMIT AFTER DELAY INTERVAL '1' SECOND",
    ),
    ("EMIT AFTER n ROWS", "SELECT customer, count(*) FROM orders GROUP BY customer EMIT AFTER 3 ROWS"),
    ("EMIT STREAM", "SELECT customer, count(*) FROM orders GROUP BY customer EMIT STREAM"),
    ("temporal filter that forgets", "SELECT id FROM orders WHERE at > now() - INTERVAL '1' HOUR"),
];

/// What is refused for good, with a sentence that says what to write.
const REFUSED: &[Form] = &[
    ("recursion", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r"),
    ("LIMIT alone", "SELECT id FROM orders LIMIT 2"),
];

const TABLES: &str = "
    CREATE TABLE orders (id INT PRIMARY KEY, customer INT, amount INT, at TIMESTAMP);
    CREATE TABLE customers (id INT PRIMARY KEY, name TEXT, city TEXT);
    CREATE TABLE clicks (at TIMESTAMP, ad INT, who TEXT, WATERMARK FOR at AS at - INTERVAL '30' SECOND) APPEND ONLY;
    CREATE TABLE shown (at TIMESTAMP, ad INT, WATERMARK FOR at AS at - INTERVAL '30' SECOND) APPEND ONLY;
    CREATE MATERIALIZED VIEW sums AS SELECT customer, sum(amount) AS amount FROM orders GROUP BY customer;
    CREATE STREAM auction (WATERMARK FOR date_time AS date_time)
      WITH (connector = 'nexmark', table = 'auction', events = '2000', rate = '100');
    CREATE STREAM bid (WATERMARK FOR date_time AS date_time)
      WITH (connector = 'nexmark', table = 'bid', events = '2000', rate = '100');
    INSERT INTO customers VALUES (1, 'ann', 'Oslo'), (2, 'bob', 'Rome'), (3, 'cid', 'Oslo'), (4, 'dan', NULL);
    INSERT INTO orders VALUES (1, 1, 10, '2024-01-01 00:00:01'), (2, 1, 20, '2024-01-01 00:00:05'),
      (3, 2, 20, '2024-01-01 00:00:11'), (4, NULL, 5, '2024-01-01 00:00:21'), (5, 9, 30, '2024-01-01 00:00:22');
    INSERT INTO clicks VALUES ('2024-01-01 00:00:01', 1, 'a'), ('2024-01-01 00:00:06', 1, 'b'),
      ('2024-01-01 00:00:07', 2, 'a'), ('2024-01-01 00:00:19', 1, 'a');
    INSERT INTO shown VALUES ('2024-01-01 00:00:00', 1), ('2024-01-01 00:00:04', 2), ('2024-01-01 00:00:12', 3);
";

/// Each is followed by a comparison.
const CHANGES: &[&str] = &[
    "INSERT INTO orders SELECT n, n % 4, n * 7 % 31, to_timestamp(1704067200 + n * 2) FROM generate_series(10, 40) AS g(n)",
    "INSERT INTO clicks SELECT to_timestamp(1704067203 + n), n % 5, CASE n % 3 WHEN 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 30) AS g(n);
     INSERT INTO shown SELECT to_timestamp(1704067202 + n * 3), n % 6 FROM generate_series(1, 10) AS g(n)",
    "UPDATE orders SET amount = amount + 3, customer = customer % 3 + 1 WHERE id % 3 = 0; UPDATE customers SET city = 'Rome', name = 'ann' WHERE id = 3",
    "DELETE FROM orders WHERE id % 4 = 1; DELETE FROM customers WHERE id = 1",
    "DELETE FROM orders; DELETE FROM customers",
];

fn named(forms: &[Form], prefix: &str) -> BTreeMap<String, String> {
    forms.iter().enumerate().map(|(number, (_, query))| (format!("{prefix}{number:02}"), (*query).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_field_takes_is_taken() -> Result<()> {
    let mut compared = Compared::new(2)?;
    compared.run(TABLES).await?;
    for (feature, query) in TAKEN_ELSEWHERE {
        let made = format!("CREATE MATERIALIZED VIEW taken AS {query}; DROP MATERIALIZED VIEW taken");
        compared.run(&made).await.map_err(|error| format!("{feature}: {error}"))?;
    }
    let mut still = Vec::new();
    for (feature, query) in REFUSED {
        match compared.run(&format!("CREATE MATERIALIZED VIEW later AS {query}")).await {
            Ok(_) => return Err(format!("{feature} is taken now: move it to TAKEN in tests/workloads/field.rs").into()),
            Err(error) => still.push(format!("  no   {feature}: {error}")),
        }
    }
    compared.watch(named(TAKEN, "t")).await?;
    compared.watch(named(TAKEN_OVER_STREAMS, "s")).await?;
    let over_streams = |job: &JobView| !job.name.starts_with("view_s") || job.state == JobState::Finished;
    compared.wait_for("the streams end", over_streams).await?;
    let mut most = compared.check("the first rows").await?;
    for change in CHANGES {
        compared.run(change).await.map_err(|error| format!("{change}: {error}"))?;
        for (name, rows) in compared.check(change).await? {
            let known = most.entry(name).or_default();
            *known = rows.max(*known);
        }
    }
    let empty: Vec<_> = most.iter().filter(|(_, rows)| **rows == 0).collect();
    assert!(empty.is_empty(), "without an answer, nothing is compared: {empty:?}");
    for (feature, _) in TAKEN.iter().chain(TAKEN_OVER_STREAMS).chain(TAKEN_ELSEWHERE) {
        println!("  yes  {feature}");
    }
    println!("{}", still.join("\n"));
    compared.close().await
}
