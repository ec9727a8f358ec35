//! Files as streams: read once, in any number of workers, and on from a checkpoint.

use std::time::{Duration, Instant};

use rondel_tests::Result;
use rondel_tests::rondel::{RondelServer, job_column, rows};
use tokio_postgres::Client;

const PATIENCE: Duration = Duration::from_secs(90);

async fn until(client: &Client, sql: &str, expected: &[&[&str]]) -> Result<()> {
    let expected: Vec<Vec<Option<String>>> =
        expected.iter().map(|row| row.iter().map(|value| Some((*value).to_owned())).collect()).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = rows(client, sql).await?;
        if found == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{sql} answers {found:?}: {:?}", rows(client, "SHOW JOBS").await?).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_read_once_and_windows_close_at_their_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("json/dt=1");
    std::fs::create_dir_all(&json)?;
    for file in 0..5 {
        let lines: Vec<String> = (0..20_000)
            .map(|n| format!("{{\"id\": {}, \"at\": \"2026-01-01T0{file}:{:02}:00Z\"}}", file * 20_000 + n, n % 60))
            .collect();
        std::fs::write(json.join(format!("part-{file}.json")), lines.join("\n"))?;
    }
    std::fs::write(json.join("_hidden.json"), "no row")?;
    let mut server =
        RondelServer::start_with(3, &["--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"]).await?;
    let client = server.connect().await?;
    let path = folder.path().display();
    client
        .batch_execute(&format!(
            "CREATE STREAM events (id BIGINT NOT NULL, at TIMESTAMP, WATERMARK FOR at AS at)
                 WITH (connector = 'file', path = '{path}/json', format = 'json');
             CREATE MATERIALIZED VIEW hours AS SELECT window_start, count(*) AS n, sum(id) AS ids
                 FROM TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '6' HOURS) GROUP BY window_start, window_end EMIT AFTER WATERMARK;
             CREATE SINK out WITH (connector = 'file', path = '{path}/parquet', format = 'parquet', delivery = 'at_least_once') AS SELECT id, at FROM events;"
        ))
        .await?;
    until(&client, "SELECT n, ids FROM hours", &[&["100000", "4999950000"]]).await?;
    until(&client, "SELECT count(*), sum(id) FROM events", &[&["100000", "4999950000"]]).await?;
    let deadline = Instant::now() + PATIENCE;
    while job_column(&client, "out", "state").await?.as_deref() != Some("FINISHED") {
        assert!(Instant::now() < deadline, "{:?}", rows(&client, "SHOW JOBS").await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What the sink wrote, with its own columns; and after a restart.
    let create = format!(
        "CREATE STREAM back WITH (connector = 'file', path = '{path}/parquet', format = 'parquet');
         CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(id) AS ids, max(at) AS at FROM back;"
    );
    client.batch_execute(&create).await?;
    let sums: &[&[&str]] = &[&["100000", "4999950000", "2026-01-01 04:59:00"]];
    until(&client, "SELECT * FROM sums", sums).await?;
    server.kill_and_restart_with(2).await?;
    let client = server.connect().await?;
    until(&client, "SELECT * FROM sums", sums).await?;
    until(&client, "SELECT n, ids FROM hours", &[&["100000", "4999950000"]]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_row_is_said_or_skipped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().display();
    std::fs::write(folder.path().join("a.jsonl"), "{\"id\": 1}\n\nno json\n{\"id\": 2}\n{\"id\": \"x\"}\n")?;
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let create = |name: &str, more: &str| {
        format!(
            "CREATE STREAM {name} (id BIGINT NOT NULL) WITH (connector = 'file', path = '{path}', format = 'json'{more});
             CREATE MATERIALIZED VIEW {name}_ids AS SELECT id FROM {name};"
        )
    };
    client.batch_execute(&create("skips", ", on_error = 'skip'")).await?;
    client.batch_execute(&create("fails", "")).await?;
    until(&client, "SELECT id FROM skips_ids ORDER BY id", &[&["1"], &["2"]]).await?;
    assert_eq!(job_column(&client, "skips_ids", "skipped_rows").await?.as_deref(), Some("2"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = job_column(&client, "fails_ids", "error").await?.unwrap_or_default();
        if error.contains("a.jsonl: line 3: byte") {
            break;
        }
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (statement, words) in [
        (format!("CREATE STREAM x WITH (connector = 'file', path = '{path}', format = 'json')"), "needs its columns"),
        (
            format!("CREATE STREAM x WITH (connector = 'file', path = '{path}', format = 'parquet')"),
            "no Parquet file in",
        ),
        (
            format!("CREATE STREAM x WITH (connector = 'file', path = '{path}/gone', format = 'parquet')"),
            "can't be read",
        ),
        (
            format!("CREATE STREAM x (a BYTEA) WITH (connector = 'file', path = '{path}', format = 'json')"),
            "can't be read from JSON",
        ),
    ] {
        let error = client.batch_execute(&statement).await.err().ok_or("it was taken")?;
        let said = error.as_db_error().map_or(String::new(), |error| error.message().to_owned());
        assert!(said.contains(words), "{said}");
    }
    Ok(())
}
