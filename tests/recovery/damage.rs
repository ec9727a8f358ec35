//! Checkpoint files that are damaged or gone.

use std::fs;
use std::path::{Path, PathBuf};

use rondel_tests::Result;
use rondel_tests::documents::files_below;
use rondel_tests::rondel::{RondelServer, job_column, rows_until};

use super::{PATIENCE, checkpoint_after, server, shown};

/// The job's folder: there is one job.
fn state_files(server: &RondelServer) -> Result<Vec<PathBuf>> {
    let mut files = files_below(&server.data_folder().join("checkpoints"), "arrow")?;
    files.sort_by_key(|file| fs::metadata(file).and_then(|data| data.modified()).ok());
    Ok(files)
}

fn flip_a_bit(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(file, bytes)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_told_and_the_one_before_is_used() -> Result<()> {
    let mut server = server(2).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT);
             INSERT INTO t VALUES (1, 10), (2, 20);
             CREATE MATERIALIZED VIEW sums AS SELECT id % 2 AS k, sum(v) AS total FROM t GROUP BY id % 2",
        )
        .await?;
    let first = checkpoint_after(&client, "sums", 0).await?;
    client.batch_execute("INSERT INTO t VALUES (3, 30)").await?;
    checkpoint_after(&client, "sums", first).await?;
    drop(client);
    server.kill()?;
    let newest = state_files(&server)?.pop().ok_or("no state file")?;
    flip_a_bit(&newest)?;
    server.restart().await?;
    let client = server.connect().await?;
    client.batch_execute("FLUSH").await?;
    assert_eq!(shown(&client, "SELECT k, total FROM sums ORDER BY k").await?, ["0,20", "1,40"]);
    let log = server.log();
    let name = newest.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    assert!(
        log.contains(name) && log.contains("is damaged") && log.contains("goes on from the checkpoint before"),
        "{log}"
    );

    // None is left: the job says so, and does not begin anew by itself.
    drop(client);
    server.kill()?;
    for file in state_files(&server)? {
        fs::remove_file(file)?;
    }
    server.restart().await?;
    let client = server.connect().await?;
    assert_eq!(job_column(&client, "sums", "state").await?.as_deref(), Some("FAILED"));
    let error = job_column(&client, "sums", "error").await?.unwrap_or_default();
    assert!(error.contains("has no checkpoint that can be used") && error.contains("it is gone"), "{error}");
    assert_eq!(shown(&client, "SELECT count(*) FROM t").await?, ["3"], "the table is not touched");
    client.batch_execute("DROP MATERIALIZED VIEW sums").await?;
    client
        .batch_execute("CREATE MATERIALIZED VIEW sums AS SELECT id % 2 AS k, sum(v) AS total FROM t GROUP BY id % 2")
        .await?;
    rows_until(&client, "SELECT total FROM sums ORDER BY k", PATIENCE, |rows| rows.len() == 2).await?;
    Ok(())
}
