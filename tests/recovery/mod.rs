//! Servers that are killed: what was acknowledged is there, and views are what they would have been.

mod commits;
mod damage;
mod exactly_once;
mod finished;
mod kafka;
mod place;
mod tables;

use std::time::Duration;

use rondel_tests::Result;
use rondel_tests::rondel::{RondelServer, rows};
use tokio_postgres::Client;

/// How long anything may take on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that takes checkpoints all the time.
async fn server(workers: usize) -> Result<RondelServer> {
    RondelServer::start_with(workers, &["--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"]).await
}

/// A statement's rows, one text for each.
async fn shown(client: &Client, sql: &str) -> Result<Vec<String>> {
    let row = |row: Vec<Option<String>>| {
        row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join(",")
    };
    Ok(rows(client, sql).await?.into_iter().map(row).collect())
}

/// Waits until a job goes on from a checkpoint that was taken after `epoch`; answers its epoch.
async fn checkpoint_after(client: &Client, job: &str, epoch: i64) -> Result<i64> {
    let sql = "SHOW CHECKPOINTS";
    let newest = |rows: &[Vec<Option<String>>]| -> i64 {
        let own = rows.iter().filter(|row| row[0].as_deref() == Some(job));
        own.filter_map(|row| row[1].as_deref()?.parse().ok()).max().unwrap_or(0)
    };
    let rows = rondel_tests::rondel::rows_until(client, sql, PATIENCE, |rows| newest(rows) > epoch).await?;
    Ok(newest(&rows))
}

/// A job's rows read since it was started.
async fn rows_in(client: &Client, job: &str) -> Result<i64> {
    let text = rondel_tests::rondel::job_column(client, job, "rows_in").await?;
    Ok(text.unwrap_or_default().parse()?)
}
