//! Tables through the program: durable over `kill -9`, filled by COPY, changed by a driver's transactions.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use rondel_tests::rondel::{RondelServer, rows};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

fn text(rows: Vec<Vec<Option<String>>>) -> Vec<String> {
    let row = |row: Vec<Option<String>>| {
        row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join(",")
    };
    rows.into_iter().map(row).collect()
}

async fn shown(client: &Client, sql: &str) -> Vec<String> {
    text(rows(client, sql).await.unwrap())
}

/// What was acknowledged is there after the server was killed in the middle of many statements; and views agree with it.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_rows_outlive_kill_9() {
    let mut server = RondelServer::start(2).await.unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE accounts (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL);
             CREATE TABLE log (writer BIGINT, number BIGINT) APPEND ONLY;
             INSERT INTO accounts VALUES (1, 1000), (2, 0);
             CREATE MATERIALIZED VIEW entries AS SELECT writer, count(*) AS n, max(number) AS last FROM log GROUP BY writer",
        )
        .await
        .unwrap();
    for round in 0..2_i64 {
        let mut writers = Vec::new();
        for writer in 0..4_i64 {
            let mut client = server.connect().await.unwrap();
            writers.push(tokio::spawn(async move {
                let mut acknowledged = 0_i64;
                loop {
                    let done = async {
                        let number = acknowledged + 1;
                        if writer == 0 {
                            // Money moves: the sum stands still.
                            let transaction = client.transaction().await?;
                            transaction.execute("UPDATE accounts SET amount = amount - 1 WHERE id = 1", &[]).await?;
                            transaction.execute("UPDATE accounts SET amount = amount + 1 WHERE id = 2", &[]).await?;
                            transaction.commit().await
                        } else {
                            let key = writer * 10 + round;
                            client.execute("INSERT INTO log VALUES ($1, $2)", &[&key, &number]).await.map(|_| ())
                        }
                    };
                    match done.await {
                        Ok(()) => acknowledged += 1,
                        Err(_) => return (writer, acknowledged),
                    }
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        server.kill_and_restart().await.unwrap();
        let client = server.connect().await.unwrap();
        for writer in writers {
            let (writer, acknowledged) = writer.await.unwrap();
            assert!(acknowledged > 5, "writer {writer} was acknowledged {acknowledged} statements");
            if writer == 0 {
                assert_eq!(shown(&client, "SELECT sum(amount) FROM accounts").await, ["1000"]);
                continue;
            }
            let key = writer * 10 + round;
            let sql = format!("SELECT count(*), max(number) FROM log WHERE writer = {key}");
            let found = shown(&client, &sql).await;
            // The last one may have been written and not acknowledged.
            let more = format!("{0},{0}", acknowledged + 1);
            assert!(found == [format!("{acknowledged},{acknowledged}")] || found == [more], "{found:?} {acknowledged}");
        }
        client.batch_execute("FLUSH").await.unwrap();
        let of_view = shown(&client, "SELECT writer, n, last FROM entries ORDER BY writer").await;
        let of_table = "SELECT writer, count(*), max(number) FROM log GROUP BY writer ORDER BY writer";
        assert_eq!(of_view, shown(&client, of_table).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_has_its_transactions_and_errors() {
    let server = RondelServer::start(1).await.unwrap();
    let mut client = server.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (id INT PRIMARY KEY, name TEXT NOT NULL, n INT CHECK (n > 0))").await.unwrap();
    let statement = client.prepare("INSERT INTO t VALUES ($1, $2, $3) RETURNING id, n").await.unwrap();
    for id in 1..=3_i32 {
        let row = client.query_one(&statement, &[&id, &format!("row {id}"), &(id * 10)]).await.unwrap();
        assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (id, id * 10));
    }
    assert_eq!(client.execute("UPDATE t SET n = n + $1 WHERE id >= $2", &[&5_i32, &2_i32]).await.unwrap(), 2);
    assert_eq!(client.execute("DELETE FROM t WHERE id = $1", &[&3_i32]).await.unwrap(), 1);
    for (sql, state, constraint) in [
        ("INSERT INTO t VALUES (1, 'again', 1)", SqlState::UNIQUE_VIOLATION, "Key (id)=(1) already exists."),
        ("INSERT INTO t VALUES (4, NULL, 1)", SqlState::NOT_NULL_VIOLATION, "Failing row contains (4, null, 1)."),
        ("INSERT INTO t VALUES (4, 'x', 0)", SqlState::CHECK_VIOLATION, "Failing row contains (4, x, 0)."),
    ] {
        let error = client.execute(sql, &[]).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code(), error.detail()), (&state, Some(constraint)), "{sql}");
    }
    let error = client.execute("INSERT INTO t VALUES ('one', 'x', 1)", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION), "{error}");
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (7, 'seven', 7)", &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (8, 'eight', 8)", &[]).await.unwrap();
    assert!(transaction.execute("INSERT INTO t VALUES (8, 'eight', 8)", &[]).await.is_err());
    assert_eq!(
        transaction.execute("DELETE FROM t", &[]).await.unwrap_err().code(),
        Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
    );
    transaction.commit().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (9, 'nine', 9)", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(shown(&client, "SELECT id, n FROM t ORDER BY id").await, ["1,10", "2,25", "9,9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_in() {
    let server = RondelServer::start(1).await.unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE t (id INT PRIMARY KEY, name TEXT, at TIMESTAMP, ok BOOLEAN DEFAULT true, tags TEXT[])",
        )
        .await
        .unwrap();
    let sink = client.copy_in::<_, Bytes>("COPY t (id, name, at, tags) FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(Bytes::from_static(b"1\ta\\tb\t2024-01-01 10:00:00\t{x,\"y z\"}\n2\t\\N\t\\N\t\\")).await.unwrap();
    sink.send(Bytes::from_static(b"N\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN WITH (FORMAT csv, HEADER)").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(Bytes::from_static(b"id,name,at,ok,tags\n3,\"say \"\"hi\"\"\n\",,f,{}\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 1);
    assert_eq!(
        shown(&client, "SELECT * FROM t ORDER BY id").await,
        ["1,a\tb,2024-01-01 10:00:00,t,{x,\"y z\"}", "2,NULL,NULL,t,NULL", "3,say \"hi\"\n,NULL,f,{}"]
    );
    // One bad row, and none is there; the connection goes on.
    let sink = client.copy_in::<_, Bytes>("COPY t (id, name) FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(Bytes::from_static(b"4\tx\nfive\ty\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap_err().code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
    let sink = client.copy_in::<_, Bytes>("COPY t (id, name) FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(Bytes::from_static(b"4\tx\ty\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap_err().code(), Some(&SqlState::BAD_COPY_FILE_FORMAT));
    assert_eq!(shown(&client, "SELECT count(*) FROM t").await, ["3"]);
    // psql's own \copy, and its words.
    let mut psql = Command::new("psql")
        .args(["--no-psqlrc", "--host=127.0.0.1", "--username=rondel", "--dbname=rondel"])
        .arg(format!("--port={}", server.postgres_port()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let script = "\\copy t (id, name) from stdin\n10\tten\n11\televen\n\\.\nTRUNCATE t;\nINSERT INTO t (id) VALUES (1), (2);\n\\dt\n";
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(errors.is_empty(), "{errors}");
    assert!(printed.starts_with("COPY 2\nTRUNCATE TABLE\nINSERT 0 2\n"), "{printed}");
    assert!(printed.contains("| t    | table |"), "{printed}");
}
