//! Where checkpoints lie: a bucket, which may be away; a disk, which may be full; and the command that reads them.

use std::path::Path;
use std::process::Command;

use rondel_tests::Result;
use rondel_tests::rondel::{RondelServer, job_column, program, rows_until};
use rondel_tests::s3::S3;
use tokio_postgres::Client;

use super::{PATIENCE, checkpoint_after, shown};

const SUMS: &str = "SELECT k, total FROM sums ORDER BY k";

async fn begin(client: &Client) -> Result<()> {
    client
        .batch_execute(
            "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT);
             CREATE MATERIALIZED VIEW sums AS SELECT id % 4 AS k, sum(v) AS total FROM t GROUP BY id % 4;
             INSERT INTO t SELECT i, i * 1 FROM generate_series(1, 1000) AS s(i)",
        )
        .await?;
    Ok(())
}

/// Waits until SHOW JOBS says why there is no checkpoint.
async fn missing_checkpoint(client: &Client) -> Result<String> {
    let says_so =
        |rows: &[Vec<Option<String>>]| rows.iter().any(|row| format!("{row:?}").contains("no checkpoint since"));
    rows_until(client, "SHOW JOBS", PATIENCE, says_so).await?;
    assert_eq!(job_column(client, "sums", "state").await?.as_deref(), Some("RUNNING"));
    Ok(job_column(client, "sums", "waits_for").await?.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_lie_in_a_bucket_that_may_be_away() -> Result<()> {
    let mut s3 = S3::start("kept")?;
    let url = s3.url("kept/rondel");
    let options = ["--checkpoints", &url, "--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"];
    let mut server = RondelServer::start_with(2, &options).await?;
    let client = server.connect().await?;
    begin(&client).await?;
    let first = checkpoint_after(&client, "sums", 0).await?;
    assert!(s3.count("kept", "/state/")? > 0 && s3.count("kept", "/manifests/")? > 0);
    client.batch_execute("UPDATE t SET v = v + 1 WHERE id <= 10; FLUSH").await?;
    checkpoint_after(&client, "sums", first).await?;
    let before = shown(&client, SUMS).await?;
    drop(client);
    server.kill_and_restart_with(3).await?;
    let client = server.connect().await?;
    assert_eq!(shown(&client, SUMS).await?, before, "at once, from the bucket");

    // Away: the job runs on, and says so.
    s3.shut();
    client.batch_execute("UPDATE t SET v = v + 1 WHERE id <= 20; FLUSH").await?;
    let why = missing_checkpoint(&client).await?;
    assert!(why.contains("s3://kept/rondel failed at"), "{why}");
    assert!(!why.contains("aws_endpoint"), "what may be secret is not shown: {why}");
    client.batch_execute("UPDATE t SET v = v + 1 WHERE id <= 30; FLUSH").await?;
    let during = shown(&client, SUMS).await?;

    // Back: checkpoints go on, and hold what came meanwhile.
    s3.open()?;
    let waits = |rows: &[Vec<Option<String>>]| !rows.iter().any(|row| format!("{row:?}").contains("no checkpoint"));
    rows_until(&client, "SHOW JOBS", PATIENCE, waits).await?;
    client.batch_execute("CHECKPOINT").await?;
    drop(client);
    server.kill_and_restart_with(1).await?;
    let client = server.connect().await?;
    assert_eq!(shown(&client, SUMS).await?, during);
    Ok(())
}

/// A small file system, or, where none can be made, a place that takes nothing either.
struct FullDisk<'a> {
    folder: &'a Path,
    is_mounted: bool,
}

impl<'a> FullDisk<'a> {
    fn new(folder: &'a Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder).status();
        Ok(Self { folder, is_mounted: mounted.is_ok_and(|status| status.success()) })
    }

    fn fill(&self) -> Result<()> {
        if !self.is_mounted {
            std::fs::rename(self.folder, self.folder.with_extension("aside"))?;
            std::fs::write(self.folder, "no folder")?;
            return Ok(());
        }
        // As much as it takes.
        let _ = std::fs::write(self.folder.join("filling"), vec![0; 4 << 20]);
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        if !self.is_mounted {
            std::fs::remove_file(self.folder)?;
            std::fs::rename(self.folder.with_extension("aside"), self.folder)?;
            return Ok(());
        }
        std::fs::remove_file(self.folder.join("filling"))?;
        Ok(())
    }
}

impl Drop for FullDisk<'_> {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(self.folder).status();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_waited_for() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("rondel-full-").tempdir()?;
    let path = folder.path().join("checkpoints");
    let disk = FullDisk::new(&path)?;
    let url = format!("file://{}", path.display());
    let options = ["--checkpoints", &url, "--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"];
    let mut server = RondelServer::start_with(2, &options).await?;
    let client = server.connect().await?;
    begin(&client).await?;
    checkpoint_after(&client, "sums", 0).await?;
    disk.fill()?;
    client.batch_execute("UPDATE t SET v = v + 1 WHERE id <= 10; FLUSH").await?;
    let why = missing_checkpoint(&client).await?;
    let expected = if disk.is_mounted { "No space left on device" } else { "Not a directory" };
    assert!(why.contains("the checkpoints' file") && why.contains(expected), "{why}");
    client.batch_execute("UPDATE t SET v = v + 1 WHERE id <= 20; FLUSH").await?;
    let during = shown(&client, SUMS).await?;
    disk.empty()?;
    client.batch_execute("CHECKPOINT").await?;
    assert!(!job_column(&client, "sums", "waits_for").await?.unwrap_or_default().contains("no checkpoint"));
    drop(client);
    server.kill_and_restart_with(1).await?;
    let client = server.connect().await?;
    assert_eq!(shown(&client, SUMS).await?, during);
    drop(client);
    server.kill()?;
    Ok(())
}

fn rondel(arguments: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(program()?).args(arguments).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(text)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_verifies_and_exports() -> Result<()> {
    let mut server = RondelServer::start_with(2, &["--checkpoint-interval", "60min"]).await?;
    let client = server.connect().await?;
    begin(&client).await?;
    client.batch_execute("FLUSH; CREATE SAVEPOINT before_it FOR JOB sums").await?;
    client.batch_execute("UPDATE t SET v = v + 1 WHERE id <= 10; FLUSH; CHECKPOINT").await?;
    let before = shown(&client, SUMS).await?;
    drop(client);
    let data = server.data_folder().to_path_buf();
    let data_dir = data.to_string_lossy().into_owned();
    // While the server runs.
    let (well, listed) = rondel(&["checkpoint", "list", "--data-dir", &data_dir])?;
    assert!(well && listed.contains("savepoint before_it") && listed.contains("\tchosen\t"), "{listed}");
    let (well, verified) = rondel(&["checkpoint", "verify", "--data-dir", &data_dir, "--job", "sums"])?;
    assert!(well && verified.matches("\tok\t").count() == 2, "{verified}");
    server.kill()?;
    let out = tempfile::tempdir()?;
    let folder = out.path().join("exported");
    let to = folder.to_string_lossy().into_owned();
    let export = ["checkpoint", "export", "--data-dir", &data_dir, "--job", "sums", "--to", &to];
    let (well, exported) = rondel(&export)?;
    assert!(well && exported.contains("sums\t"), "{exported}");
    let (well, again) = rondel(&export)?;
    assert!(!well && again.contains("has checkpoints of job 'sums' already"), "{again}");
    let (well, verified) = rondel(&["checkpoint", "verify", "--checkpoints", &format!("file://{to}")])?;
    assert!(well && verified.matches("\tok\t").count() == 1, "{verified}");

    // The original is damaged and told to be; the copy serves in its place.
    let damaged = rondel_tests::documents::files_below(&data.join("checkpoints"), "arrow")?;
    for file in &damaged {
        let mut bytes = std::fs::read(file)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes)?;
    }
    let (well, verified) = rondel(&["checkpoint", "verify", "--data-dir", &data_dir])?;
    assert!(
        !well && verified.matches("\tdamaged\t").count() == 2 && verified.contains("is damaged: it has"),
        "{verified}"
    );
    std::fs::rename(data.join("checkpoints"), data.join("damaged"))?;
    std::fs::rename(&folder, data.join("checkpoints"))?;
    server.restart().await?;
    let client = server.connect().await?;
    assert_eq!(shown(&client, SUMS).await?, before, "at once, from the copy");
    Ok(())
}
