//! Tables through a session.

use arrow::array::AsArray;

use super::*;

pub(super) fn values(shown: &str) -> Vec<String> {
    shown
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(1)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(","))
        .collect()
}

impl Server {
    pub(super) async fn rows(&self, sql: &str) -> Vec<String> {
        values(&self.run(sql).await)
    }

    pub(super) async fn fails(&self, sql: &str, code: &str, message: &str) {
        match self.try_run(sql).await {
            Ok(shown) => panic!("{sql} should fail and says {shown}"),
            Err(error) => {
                assert!(error.message().contains(message), "{sql}: {error}");
                assert_eq!(error.code().unwrap_or(""), code, "{sql}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_there_after_a_restart() {
    let server = Server::start(2);
    assert_eq!(server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)").await, "CREATE TABLE");
    assert_eq!(server.run("INSERT INTO t VALUES (2, 'b'), (1, 'a'), (3, NULL)").await, "INSERT 0 3");
    assert_eq!(server.run("INSERT INTO t (name, id) VALUES ('d', 4)").await, "INSERT 0 1");
    server.run("CREATE TABLE bag (n INT)").await;
    server.run("INSERT INTO bag VALUES (1), (1), (2)").await;
    let server = server.restarted();
    assert_eq!(server.rows("SELECT * FROM t ORDER BY id").await, ["1,a", "2,b", "3,", "4,d"]);
    assert_eq!(server.rows("SELECT name FROM t WHERE id = 2").await, ["b"]);
    server.run("INSERT INTO bag SELECT id FROM t WHERE id < 3").await;
    assert_eq!(server.rows("SELECT n, count(*) FROM bag GROUP BY n ORDER BY n").await, ["1,3", "2,2"]);
    server.run("DROP TABLE t").await;
    server.fails("SELECT * FROM t", "", "there is no stream or view named t").await;
    let server = server.restarted();
    assert_eq!(server.rows("SELECT count(*) FROM bag").await, ["5"]);
    server.run("CREATE TABLE IF NOT EXISTS bag (x INT)").await;
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn views_follow_tables() {
    for workers in [1, 3] {
        let server = Server::start(workers);
        server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, zone TEXT, fare BIGINT)").await;
        let rows: Vec<String> = (1..=1000).map(|id| format!("({id}, 'z{}', {id})", id % 3)).collect();
        server.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        server.run("CREATE MATERIALIZED VIEW every AS SELECT id, zone, fare FROM t").await;
        server.run("CREATE MATERIALIZED VIEW some AS SELECT id, fare * 2 AS twice FROM t WHERE zone = 'z1'").await;
        server.run("CREATE MATERIALIZED VIEW upon AS SELECT id FROM every WHERE fare > 990").await;
        server.run("FLUSH").await;
        assert_eq!(server.rows("SELECT count(*), sum(fare) FROM every").await, ["1000,500500"]);
        assert_eq!(server.rows("SELECT count(*) FROM upon").await, ["10"]);
        server.run("SET implicit_flush = on").await;
        assert_eq!(server.run("UPDATE t SET fare = fare + 1, zone = 'z1' WHERE id > 900").await, "UPDATE 100");
        assert_eq!(server.rows("SELECT count(*), sum(fare) FROM every").await, ["1000,500600"]);
        assert_eq!(
            server.rows("SELECT (SELECT count(*) FROM some) = (SELECT count(*) FROM t WHERE zone = 'z1')").await,
            ["true"]
        );
        assert_eq!(server.run("DELETE FROM t WHERE id % 2 = 0").await, "DELETE 500");
        assert_eq!(server.rows("SELECT count(*) FROM every").await, ["500"]);
        assert_eq!(server.rows("SELECT id FROM upon ORDER BY id").await, ["991", "993", "995", "997", "999"]);
        server.run("INSERT INTO t VALUES (5, 'new', 0) ON CONFLICT (id) DO UPDATE SET zone = excluded.zone").await;
        assert_eq!(server.rows("SELECT zone, fare FROM every WHERE id = 5").await, ["new,5"]);
        let server = server.restarted();
        server.run("FLUSH").await;
        assert_eq!(server.rows("SELECT count(*) FROM every").await, ["500"]);
        server.run("TRUNCATE t; FLUSH").await;
        assert_eq!(server.rows("SELECT count(*) FROM every").await, ["0"]);
        server.fails("DROP TABLE t", "", "use it").await;
        server.run("DROP TABLE t CASCADE").await;
        assert_eq!(server.rows("SHOW JOBS").await, Vec::<String>::new());
        server.engine.shutdown();
    }
}

/// Money moves between two tables in transactions: their sum stands still in every epoch of a view over both.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_over_two_tables_sees_whole_transactions() {
    let server = Server::start(2);
    server.run("CREATE TABLE a (id BIGINT PRIMARY KEY, amount BIGINT)").await;
    server.run("CREATE TABLE b (id BIGINT PRIMARY KEY, amount BIGINT)").await;
    server.run("INSERT INTO a VALUES (1, 1000); INSERT INTO b VALUES (1, 0)").await;
    server
        .run(
            "CREATE MATERIALIZED VIEW total AS SELECT a.id, a.amount AS held, b.amount AS given,
             a.amount + b.amount AS total FROM a JOIN b ON a.id = b.id",
        )
        .await;
    server.run("FLUSH").await;
    let watching = server.engine.session();
    let statement = watching.parse("SUBSCRIBE TO total").unwrap();
    let Outcome::Changes { mut stream, .. } = watching.execute(&statement[0], &[]).await.unwrap() else { panic!() };
    let watcher = tokio::spawn(async move {
        let mut last = 0;
        while let Some(changes) = stream.next().await {
            // Inside of an epoch what comes may go again.
            let mut net = std::collections::BTreeMap::new();
            for delta in changes.unwrap().deltas {
                let column = |at: usize| delta.rows().column(at).as_primitive::<arrow::datatypes::Int64Type>().clone();
                let (given, total) = (column(2), column(3));
                for row in 0..delta.num_rows() {
                    *net.entry((given.value(row), total.value(row))).or_insert(0) += delta.weight(row);
                }
            }
            for ((given, total), weight) in net {
                if weight != 0 {
                    assert_eq!(total, 1000);
                    last = last.max(given);
                }
            }
            if last == 200 {
                return;
            }
        }
    });
    for _ in 0..200 {
        server
            .run(
                "BEGIN; UPDATE a SET amount = amount - 1 WHERE id = 1;
                 UPDATE b SET amount = amount + 1 WHERE id = 1; COMMIT",
            )
            .await;
    }
    tokio::time::timeout(Duration::from_secs(30), watcher).await.unwrap().unwrap();
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_are_kept() {
    let server = Server::start(1);
    server
        .run(
            "CREATE TABLE t (
                id INT PRIMARY KEY,
                name TEXT NOT NULL DEFAULT 'nobody',
                age INT CHECK (age >= 0),
                twice INT GENERATED ALWAYS AS (age * 2) STORED,
                made TIMESTAMP DEFAULT now(),
                CONSTRAINT short CHECK (length(name) < 10)
            )",
        )
        .await;
    server.run("INSERT INTO t (id, age) VALUES (1, 20)").await;
    assert_eq!(server.rows("SELECT id, name, age, twice, made > '2020-01-01' FROM t").await, ["1,nobody,20,40,true"]);
    server.run("INSERT INTO t VALUES (2, DEFAULT, NULL, DEFAULT)").await;
    server.fails("INSERT INTO t (id) VALUES (1)", "23505", "violates unique constraint \"t_pkey\"").await;
    server.fails("INSERT INTO t (id) VALUES (3), (4), (3)", "23505", "duplicate key value").await;
    server.fails("INSERT INTO t (name) VALUES ('x')", "23502", "null value in column \"id\"").await;
    server.fails("INSERT INTO t VALUES (3, NULL)", "23502", "null value in column \"name\" of relation \"t\"").await;
    server.fails("INSERT INTO t VALUES (3, 'x', -1)", "23514", "check constraint \"t_age_check\"").await;
    server.fails("INSERT INTO t VALUES (3, 'a very long name', 1)", "23514", "check constraint \"short\"").await;
    server.fails("INSERT INTO t VALUES (3, 'x', 1, 7)", "428C9", "non-DEFAULT value into column \"twice\"").await;
    server.fails("INSERT INTO t VALUES ('x')", "22P02", "invalid input syntax for type integer: \"x\"").await;
    server.fails("INSERT INTO t VALUES (99999999999)", "22003", "integer out of range").await;
    server.fails("INSERT INTO t (id, made) VALUES (3, true)", "", "is of type timestamp without time zone").await;
    server.fails("INSERT INTO t (nix) VALUES (3)", "", "column \"nix\" of relation \"t\" does not exist").await;
    server.fails("INSERT INTO t (id, id) VALUES (3, 3)", "42701", "specified more than once").await;
    server.fails("INSERT INTO t (id, name) VALUES (3)", "", "more target columns than expressions").await;
    server.fails("UPDATE t SET id = 2 WHERE id = 1", "23505", "duplicate key value").await;
    server.fails("UPDATE t SET age = -5", "23514", "t_age_check").await;
    server.fails("UPDATE t SET twice = 1", "428C9", "can only be updated to DEFAULT").await;
    // Nothing of what failed is there.
    assert_eq!(server.rows("SELECT id FROM t ORDER BY id").await, ["1", "2"]);
    server.run("UPDATE t SET (name, age) = ('x', age + 1), made = DEFAULT WHERE id = 1").await;
    assert_eq!(server.rows("SELECT name, age, twice FROM t WHERE id = 1").await, ["x,21,42"]);
    server.run("UPDATE t SET id = id + 1").await;
    assert_eq!(server.rows("SELECT id FROM t ORDER BY id").await, ["2", "3"]);
    for (sql, message) in [
        ("CREATE TABLE x (a INT, a TEXT)", "specified more than once"),
        ("CREATE TABLE x (a INT PRIMARY KEY, b INT PRIMARY KEY)", "multiple primary keys"),
        ("CREATE TABLE x (a INT UNIQUE)", "is not supported"),
        ("CREATE TABLE x (a INT REFERENCES t (id))", "is not supported"),
        ("CREATE TABLE x (a INT, PRIMARY KEY (b))", "named in key does not exist"),
        ("CREATE TABLE x (a INT CHECK (b > 0))", "there is no column b"),
        ("CREATE TABLE x (a INT CHECK (a + 1))", "must be type boolean"),
        ("CREATE TABLE x (a INT DEFAULT true)", "is of type integer but expression is of type boolean"),
        ("CREATE TABLE x (a TIMESTAMP GENERATED ALWAYS AS (now()) STORED)", "not immutable"),
        ("CREATE TABLE x (a INT[] PRIMARY KEY)", "cannot be in a primary key"),
        ("CREATE TABLE x (at TIMESTAMP, WATERMARK FOR at AS at)", "APPEND ONLY"),
    ] {
        let error = server.try_run(sql).await.unwrap_err();
        assert!(error.message().contains(message), "{sql}: {error}");
    }
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_and_returning() {
    let server = Server::start(1);
    server.run("CREATE TABLE t (id INT PRIMARY KEY, n INT, note TEXT DEFAULT 'new')").await;
    assert_eq!(
        server.rows("INSERT INTO t VALUES (1, 10), (2, 20) RETURNING id, n * 2 AS twice, note").await,
        ["1,20,new", "2,40,new"]
    );
    assert_eq!(server.run("INSERT INTO t VALUES (1, 0), (3, 30), (3, 31) ON CONFLICT DO NOTHING").await, "INSERT 0 1");
    assert_eq!(
        server
            .rows(
                "INSERT INTO t AS old VALUES (1, 5), (4, 40) ON CONFLICT (id)
                 DO UPDATE SET n = old.n + excluded.n, note = 'twice' WHERE old.n < 100 RETURNING *"
            )
            .await,
        ["4,40,new", "1,15,twice"]
    );
    assert_eq!(
        server.run("INSERT INTO t VALUES (1, 1), (2, 1) ON CONFLICT (id) DO UPDATE SET n = 0 WHERE t.n > 15").await,
        "INSERT 0 1"
    );
    assert_eq!(server.rows("SELECT id, n FROM t ORDER BY id").await, ["1,15", "2,0", "3,30", "4,40"]);
    server
        .fails(
            "INSERT INTO t VALUES (1, 1), (1, 2) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
            "21000",
            "cannot affect row a second time",
        )
        .await;
    server.fails("INSERT INTO t VALUES (1) ON CONFLICT (n) DO NOTHING", "42P10", "no unique or exclusion").await;
    server.fails("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET n = 1", "", "requires inference").await;
    assert_eq!(server.rows("UPDATE t AS x SET n = n + 1 WHERE x.id = 4 RETURNING x.id, n").await, ["4,41"]);
    server.run("CREATE TABLE other (id INT, extra INT); INSERT INTO other VALUES (2, 7), (3, 8)").await;
    assert_eq!(server.run("UPDATE t SET n = other.extra FROM other WHERE other.id = t.id").await, "UPDATE 2");
    assert_eq!(
        server.rows("DELETE FROM t USING other WHERE t.id = other.id AND extra = 8 RETURNING t.id, n").await,
        ["3,8"]
    );
    assert_eq!(server.run("DELETE FROM t").await, "DELETE 3");
    assert_eq!(server.rows("SELECT count(*) FROM t").await, ["0"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered() {
    let server = Server::start(1);
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b INT)").await;
    server.run("INSERT INTO t VALUES (1, 'x', 10), (2, 'y', NULL)").await;
    server.run("CREATE MATERIALIZED VIEW named AS SELECT id, a FROM t").await;
    server.run("ALTER TABLE t ADD COLUMN c INT NOT NULL DEFAULT 7, ADD d TEXT").await;
    server.run("INSERT INTO t (id, c) VALUES (3, 8); FLUSH").await;
    assert_eq!(server.rows("SELECT * FROM t ORDER BY id").await, ["1,x,10,7,", "2,y,,7,", "3,,,8,"]);
    assert_eq!(server.rows("SELECT count(*) FROM named").await, ["3"]);
    server.run("ALTER TABLE t ALTER COLUMN c SET DEFAULT 9").await;
    server.fails("ALTER TABLE t ALTER b SET NOT NULL", "23502", "null value in column \"b\"").await;
    server.fails("ALTER TABLE t ADD e INT NOT NULL", "23502", "null value in column \"e\"").await;
    server.fails("ALTER TABLE t ADD CONSTRAINT big CHECK (b > 10)", "23514", "check constraint \"big\"").await;
    server.fails("ALTER TABLE t DROP COLUMN a", "", "materialized view 'named' read table 't'").await;
    server.fails("ALTER TABLE t RENAME TO u", "", "read table 't'").await;
    server.fails("ALTER TABLE t DROP COLUMN id", "", "in the primary key").await;
    server.run("ALTER TABLE t DROP COLUMN a CASCADE").await;
    server.run("ALTER TABLE t RENAME COLUMN b TO bee; ALTER TABLE t RENAME TO u").await;
    let server = server.restarted();
    server.run("INSERT INTO u VALUES (4)").await;
    assert_eq!(server.rows("SELECT id, bee, c FROM u ORDER BY id").await, ["1,10,7", "2,,7", "3,,8", "4,,9"]);
    // A name that comes again is another column.
    server.run("ALTER TABLE u ADD COLUMN a TEXT").await;
    assert_eq!(server.rows("SELECT DISTINCT a FROM u").await, [""]);
    server.run("CREATE MATERIALIZED VIEW all_of_it AS SELECT * FROM u").await;
    server.fails("ALTER TABLE u ADD f INT", "", "would have other columns").await;
    assert_eq!(server.run("CREATE TABLE copy AS SELECT id, c + 1 AS more FROM u").await, "SELECT 4");
    assert_eq!(server.rows("SELECT sum(more) FROM copy").await, ["35"]);
    server.run("CREATE TABLE renamed (x, y) AS VALUES (1, 'a')").await;
    assert_eq!(server.rows("SELECT x, y FROM renamed").await, ["1,a"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_whole() {
    let server = Server::start(1);
    server.run("CREATE TABLE t (id INT PRIMARY KEY, n INT); INSERT INTO t VALUES (1, 0)").await;
    let other = server.engine.session();
    let of_other = async |sql: &str| {
        let statement = other.parse(sql).unwrap();
        match other.execute(&statement[0], &[]).await? {
            Outcome::Rows(rows) => {
                let batches: Vec<_> = rows.try_collect().await?;
                Ok(values(&pretty_format_batches(&batches).unwrap().to_string()))
            }
            Outcome::Done { tag, .. } => Ok(vec![tag]),
            Outcome::Changes { .. } => Err(Error::internal("changes")),
        }
    };
    server.run("BEGIN; INSERT INTO t VALUES (2, 0); UPDATE t SET n = n + 1").await;
    assert_eq!(server.rows("SELECT id, n FROM t ORDER BY id").await, ["1,1", "2,1"]);
    assert_eq!(of_other("SELECT id, n FROM t").await.unwrap(), ["1,0"]);
    server.run("ROLLBACK").await;
    assert_eq!(server.rows("SELECT id, n FROM t").await, ["1,0"]);
    server.run("BEGIN; UPDATE t SET n = 5 WHERE id = 1").await;
    of_other("UPDATE t SET n = 7 WHERE id = 1").await.unwrap();
    server.fails("COMMIT", "40001", "could not serialize").await;
    assert_eq!(server.rows("SELECT n FROM t").await, ["7"]);
    server.run("BEGIN").await;
    server.fails("INSERT INTO t VALUES (1, 1)", "23505", "duplicate").await;
    server.fails("INSERT INTO t VALUES (9, 1)", "25P02", "aborted").await;
    assert_eq!(server.run("COMMIT").await, "ROLLBACK");
    server.run("BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 100); COMMIT").await;
    assert_eq!(of_other("SELECT id, n FROM t").await.unwrap(), ["1,100"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn append_only_tables_have_a_watermark() {
    let server = Server::start(2);
    server.run("CREATE TABLE e (at TIMESTAMP, n INT, WATERMARK FOR at AS at - INTERVAL '1' SECOND) APPEND ONLY").await;
    server
        .run(
            "CREATE MATERIALIZED VIEW w AS SELECT window_start, count(*) AS c, sum(n) AS s
             FROM TUMBLE(TABLE e, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_start EMIT AFTER WATERMARK",
        )
        .await;
    server.run("INSERT INTO e VALUES ('2024-01-01 00:00:10', 1), ('2024-01-01 00:00:50', 2); FLUSH").await;
    assert_eq!(server.rows("SELECT c, s FROM w").await, Vec::<String>::new());
    server.run("INSERT INTO e VALUES ('2024-01-01 00:01:02', 4); FLUSH").await;
    server.until("SELECT c, s FROM w", "| 2 | 3 |").await;
    server.fails("DELETE FROM e", "", "APPEND ONLY").await;
    server.fails("TRUNCATE e", "", "APPEND ONLY").await;
    let explained = server.run("EXPLAIN SELECT n FROM e").await;
    assert!(explained.contains("append-only") || explained.contains("append only"), "{explained}");
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_the_columns_types() {
    let server = Server::start(1);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, at TIMESTAMP, n SMALLINT)").await;
    let shape = |sql: &str| {
        let parsed = server.session.parse(sql).unwrap();
        let shape = server.session.describe(&parsed[0]).unwrap();
        let types: Vec<String> = shape.parameters.iter().map(crate::table::assign::type_name).collect();
        (types.join(","), shape.columns.map(|columns| columns.fields().len()))
    };
    let insert = shape("INSERT INTO t VALUES ($1, $2, $3) RETURNING id, n");
    assert_eq!(insert, ("bigint,timestamp without time zone,smallint".to_owned(), Some(2)));
    assert_eq!(shape("UPDATE t SET n = $2 WHERE id = $1"), ("bigint,smallint".to_owned(), None));
    assert_eq!(shape("DELETE FROM t WHERE id = $1 RETURNING *"), ("bigint".to_owned(), Some(3)));
    let parsed = server.session.parse("INSERT INTO t VALUES ($1, $2, $3)").unwrap();
    let parameters = [
        datafusion::scalar::ScalarValue::Int64(Some(1)),
        datafusion::scalar::ScalarValue::TimestampMicrosecond(Some(0), None),
        datafusion::scalar::ScalarValue::Int16(None),
    ];
    server.session.execute(&parsed[0], &parameters).await.unwrap();
    assert_eq!(server.rows("SELECT * FROM t").await, ["1,1970-01-01T00:00:00,"]);
    server.engine.shutdown();
}

/// Three sessions change two tables at random, in statements and transactions; views are created in between. In the end each
/// is what its query answers.
#[tokio::test(flavor = "multi_thread")]
async fn views_are_what_their_queries_answer() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    const QUERIES: [&str; 3] = [
        "SELECT t.id, t.n, bag.word FROM t JOIN bag ON t.n = bag.n",
        "SELECT n, word FROM bag WHERE n > 3 UNION ALL SELECT n, 'of t' FROM t",
        "SELECT id, n + 1 AS m FROM t WHERE id % 2 = 0",
    ];
    for workers in [1, 2, 4] {
        let server = Server::start(workers);
        server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT); CREATE TABLE bag (n BIGINT, word TEXT)").await;
        let mut writers = Vec::new();
        for writer in 0..3_u64 {
            let session = server.engine.session();
            writers.push(tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(writer);
                for _ in 0..60 {
                    let in_transaction = random.random_bool(0.5);
                    let mut text = String::new();
                    for _ in 0..if in_transaction { 3 } else { 1 } {
                        let (id, n) = (random.random_range(0..20), random.random_range(0..6));
                        text.push_str(&match random.random_range(0..7) {
                            0 | 1 => {
                                format!("INSERT INTO t VALUES ({id}, {n}) ON CONFLICT (id) DO UPDATE SET n = {n};")
                            }
                            2 => format!("DELETE FROM t WHERE id = {id};"),
                            3 | 4 => format!("INSERT INTO bag VALUES ({n}, 'w{id}'), ({n}, 'w{id}');"),
                            5 => format!("UPDATE bag SET n = n + 1 WHERE n = {n};"),
                            _ => format!("DELETE FROM bag WHERE word = 'w{id}';"),
                        });
                    }
                    let text = if in_transaction { format!("BEGIN; {text} COMMIT") } else { text };
                    for statement in session.parse(&text).unwrap() {
                        if let Err(error) = session.execute(&statement, &[]).await {
                            assert!(matches!(error.code(), Some("40001" | "25P02")), "{text}: {error}");
                        }
                    }
                }
            }));
        }
        for (number, query) in QUERIES.iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.run(&format!("CREATE MATERIALIZED VIEW v{number} AS {query}")).await;
        }
        for writer in writers {
            writer.await.unwrap();
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
            assert_eq!(sorted(format!("SELECT * FROM v{number}")).await, expected, "{workers} workers: {query}");
        }
        server.engine.shutdown();
    }
}

/// A row whose value can't be computed fails the job, which says the expression and the row; what the view had stays, and the
/// jobs beside it go on.
#[tokio::test(flavor = "multi_thread")]
async fn division_by_zero_fails_the_job_and_names_the_row() {
    let server = Server::start(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, shares BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW shared AS SELECT id, 100 / shares AS each FROM t").await;
    server.run("CREATE MATERIALIZED VIEW guarded AS SELECT id, 100 / nullif(shares, 0) AS each FROM t").await;
    server.run("INSERT INTO t VALUES (1, 4)").await;
    server.until("SELECT * FROM shared", "| 1  | 25   |").await;
    server.run("INSERT INTO t VALUES (2, 0)").await;
    let job = server.until("SHOW JOBS", "division by zero").await;
    assert!(job.contains("100 / t.shares: division by zero, in the row with shares = 0"), "{job}");
    let error = server.try_run("SELECT * FROM shared").await.unwrap_err();
    assert!(error.message().contains("division by zero"), "{error}");
    server.run("SET read_failed_views = on").await;
    assert_eq!(server.rows("SELECT * FROM shared").await, ["1,25"]);
    server.until("SELECT * FROM guarded ORDER BY id", "| 2  |      |").await;
    server.fails("SELECT 100 / shares FROM t", "22012", "division by zero").await;
    server.engine.shutdown();
}

/// A row that a job could not compute and that is gone or mended when the job is started again is not looked at again: not by the
/// same server, and not by the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_came_and_went_fails_no_job_that_catches_up() {
    let server = Server::start(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, shares BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW shared AS SELECT id, 100 / shares AS each FROM t").await;
    server.run("INSERT INTO t VALUES (1, 4), (2, 5), (3, 10); FLUSH; CHECKPOINT").await;
    server.run("INSERT INTO t VALUES (4, 0), (5, 20)").await;
    server.until("SHOW JOBS", "shared | materialized view | FAILED").await;
    // It is still there: it fails the job again.
    server.run("ALTER JOB shared START").await;
    server.until("SHOW JOBS", "shared | materialized view | FAILED").await;
    server.run("UPDATE t SET shares = 0 WHERE id IN (2, 3)").await;
    server.run("DELETE FROM t WHERE id IN (3, 4); UPDATE t SET shares = 50 WHERE id = 2").await;
    server.run("ALTER JOB shared START; FLUSH").await;
    assert_eq!(server.rows("SELECT * FROM shared ORDER BY id").await, ["1,25", "2,2", "5,5"]);
    server.run("CHECKPOINT; INSERT INTO t VALUES (6, 0)").await;
    server.until("SHOW JOBS", "shared | materialized view | FAILED").await;
    server.run("UPDATE t SET shares = 1 WHERE id = 6; DELETE FROM t WHERE id = 1").await;
    let server = server.restarted();
    server.run("FLUSH").await;
    assert_eq!(server.rows("SELECT * FROM shared ORDER BY id").await, ["2,2", "5,5", "6,100"]);
    // What comes now is read as it comes.
    server.run("UPDATE t SET shares = 2 WHERE id = 6; FLUSH").await;
    assert_eq!(server.rows("SELECT * FROM shared ORDER BY id").await, ["2,2", "5,5", "6,50"]);
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_was_just_created_is_read_whole() {
    let server = Server::start(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    for from in (0..20_000).step_by(5_000) {
        let rows: Vec<String> = (from..from + 5_000).map(|id| format!("({id}, {})", id % 10)).collect();
        server.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    }
    server.run("CREATE MATERIALIZED VIEW counts AS SELECT n, count(*) AS rows FROM t GROUP BY n").await;
    assert_eq!(server.rows("SELECT count(*), sum(rows) FROM counts").await, ["10,20000"]);
    server.run("CREATE MATERIALIZED VIEW pairs AS SELECT a.id FROM t a JOIN counts c ON a.n = c.n").await;
    server.run("CREATE TABLE kept (id BIGINT)").await;
    assert_eq!(server.run("INSERT INTO kept SELECT id FROM pairs").await, "INSERT 0 20000");
    let start = Instant::now();
    while !server.rows("SHOW JOBS").await.iter().all(|job| job.contains("RUNNING")) {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.rows("SHOW JOBS").await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_come_and_go_as_time_passes() {
    let server = Server::start(2);
    server.run("CREATE TABLE bookings (id BIGINT PRIMARY KEY, starts TIMESTAMPTZ, ends TIMESTAMP)").await;
    let unbounded =
        "CREATE MATERIALIZED VIEW counted WITH (state_ttl = '1 hour') AS SELECT count(*) AS n FROM bookings";
    server.fails(unbounded, "", "state_ttl has nothing to bound").await;
    let unknown = "CREATE MATERIALIZED VIEW counted WITH (stat_ttl = '1 hour') AS SELECT count(*) AS n FROM bookings";
    server.fails(unknown, "", "there is no option stat_ttl here").await;
    server
        .run("CREATE MATERIALIZED VIEW now_on AS SELECT id FROM bookings WHERE starts <= now() AND ends > now()")
        .await;
    for row in [
        "(1, now() - INTERVAL '1' HOUR, '9999-12-31')",
        "(2, now() - INTERVAL '1' HOUR, '2020-01-01')",
        "(3, now() + INTERVAL '900' MILLISECOND, now() + INTERVAL '1' HOUR)",
        "(4, NULL, '9999-12-31')",
    ] {
        server.run(&format!("INSERT INTO bookings VALUES {row}")).await;
    }
    let wait = async |expected: &[&str]| {
        let start = Instant::now();
        while server.rows("SELECT id FROM now_on ORDER BY id").await != expected {
            assert!(start.elapsed() < PATIENCE, "{:?}", server.rows("SELECT id FROM now_on ORDER BY id").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    wait(&["1", "3"]).await;
    server.run("UPDATE bookings SET ends = now() + INTERVAL '300' MILLISECOND WHERE id = 1").await;
    wait(&["3"]).await;
    server.run("DELETE FROM bookings WHERE id = 3").await;
    wait(&[]).await;
    let once = server.rows("SELECT count(DISTINCT t) FROM (SELECT now() AS t FROM bookings) x").await;
    assert_eq!(once, ["1"]);
    server.engine.shutdown();
}
