//! Sinks that write exactly once, through kills at random instants: a topic of rows, a topic of keys and two folders.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::rows_until;
use tokio_postgres::Client;

use super::{PATIENCE, server, shown};
use crate::limits::{create_stream, options};

const GROUPS: i64 = 10;

/// Inserts rows numbered from `next` on, in statements of a hundred, until the connection breaks or `enough` are in.
async fn write(client: Client, mut next: i64, enough: i64) {
    while next < enough {
        let insert = format!(
            "INSERT INTO t SELECT n, n % {GROUPS}, 'row ' || n FROM generate_series({next}, {}) AS series (n)",
            next + 99
        );
        if client.batch_execute(&insert).await.is_err() {
            return;
        }
        next += 100;
    }
}

/// The lines of all files of a folder that can be seen.
fn lines(folder: &Path) -> Result<Vec<serde_json::Value>> {
    let mut lines = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.is_file() {
            for line in fs::read_to_string(path)?.lines() {
                lines.push(serde_json::from_str(line)?);
            }
        }
    }
    Ok(lines)
}

fn number(row: &serde_json::Value, column: &str) -> Result<i64> {
    row[column].as_i64().ok_or_else(|| format!("no number {column} in {row}").into())
}

/// Every row once, of a sink over a table and of two sinks over one view, whatever instant the server is killed at and on
/// however many workers it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_seen_once() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let (bootstrap, folder) = (broker.bootstrap(), tempfile::tempdir()?);
    for topic in ["once-rows", "once-sums"] {
        broker.create_topic(topic, 2).await?;
    }
    let mut random = StdRng::seed_from_u64(4);
    let mut server = server(2).await?;
    let client = server.connect().await?;
    let once = "delivery = 'exactly_once'";
    let path = |name: &str| folder.path().join(name);
    client
        .batch_execute(&format!(
            "CREATE TABLE t (k BIGINT, v BIGINT, text TEXT) APPEND ONLY;
             CREATE SINK rows_out WITH ({}, {once}) AS SELECT k, v, text FROM t;
             CREATE SINK rows_files WITH (connector = 'file', path = '{}', format = 'json', {once}) AS SELECT k, v FROM t;
             CREATE MATERIALIZED VIEW sums AS SELECT v AS k, count(*) AS v FROM t GROUP BY v;
             CREATE SINK sums_out WITH ({}, changelog = 'upsert', key = 'k', {once}) AS SELECT k, v FROM sums;
             CREATE SINK sums_files WITH (connector = 'file', path = '{}', format = 'json', changelog = 'weights', {once})
                AS SELECT k, v FROM sums",
            options(&bootstrap, "once-rows"),
            path("rows").display(),
            options(&bootstrap, "once-sums"),
            path("sums").display(),
        ))
        .await?;
    create_stream(&client, "rows_seen", &bootstrap, "once-rows").await?;
    create_stream(&client, "sums_seen", &bootstrap, "once-sums").await?;
    let mut next = 0;
    for workers in [1, 3, 2, 1, 2] {
        let writer = tokio::spawn(write(server.connect().await?, next, i64::MAX));
        tokio::time::sleep(Duration::from_millis(random.random_range(500..2_500))).await;
        server.kill()?;
        writer.await?;
        server.restart_with(workers).await?;
        next = shown(&server.connect().await?, "SELECT count(*) FROM t").await?[0].parse()?;
    }
    let client = server.connect().await?;
    let total = next + 1_000;
    write(server.connect().await?, next, total).await;
    let all = [[Some(total.to_string())]];
    rows_until(&client, "SELECT count(DISTINCT k) FROM rows_seen", PATIENCE, |rows| rows == all).await?;
    assert_eq!(shown(&client, "SELECT count(*) FROM rows_seen").await?, [total.to_string()], "a row is there twice");

    // All is published when the sums of all groups are; what they were before has been taken back.
    let last = format!("SELECT count(*) FROM sums_seen WHERE v = {}", total / GROUPS);
    let each = [[Some(GROUPS.to_string())]];
    rows_until(&client, &last, PATIENCE, |rows| rows == each).await?;
    client.batch_execute("CHECKPOINT").await?;
    let mut seen: Vec<i64> = lines(&path("rows"))?.iter().map(|row| number(row, "k")).collect::<Result<_>>()?;
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..total), "{} of {total} rows in files", seen.len());
    let mut sums: HashMap<(i64, i64), i64> = HashMap::new();
    for row in lines(&path("sums"))? {
        *sums.entry((number(&row, "k")?, number(&row, "v")?)).or_default() += number(&row, "_weight")?;
    }
    sums.retain(|_, weight| *weight != 0);
    assert_eq!(sums, (0..GROUPS).map(|group| ((group, total / GROUPS), 1)).collect());
    Ok(())
}
