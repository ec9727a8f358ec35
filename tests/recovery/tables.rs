//! Views over tables, through kills at random instants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rondel_tests::Result;
use rondel_tests::rondel::{RondelServer, job_column};
use tokio_postgres::Client;

use super::{checkpoint_after, rows_in, server, shown};
use crate::limits::is_full;

const SCHEMA: &str = "
    CREATE TABLE zones (id BIGINT PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE rides (id BIGINT, zone BIGINT, fare BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1' SECOND) APPEND ONLY;
    INSERT INTO zones SELECT n, 'zone ' || n FROM generate_series(0, 9) AS series (n);
    CREATE MATERIALIZED VIEW totals AS SELECT zone, count(*) AS n, sum(fare) AS fares, max(fare) AS most FROM rides GROUP BY zone;
    CREATE MATERIALIZED VIEW named AS SELECT r.id, z.name, r.fare FROM rides r JOIN zones z ON r.zone = z.id;
    CREATE MATERIALIZED VIEW minutes AS
        SELECT window_start, zone, count(*) AS n, sum(fare) AS fares
        FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, zone;
    CREATE MATERIALIZED VIEW over_view AS SELECT name, count(*) AS n, sum(fare) AS fares FROM named GROUP BY name";

/// Each view, and the same of the tables.
const ANSWERS: &[(&str, &str)] = &[
    (
        "SELECT zone, n, fares, most FROM totals ORDER BY zone",
        "SELECT zone, count(*), sum(fare), max(fare) FROM rides GROUP BY zone ORDER BY zone",
    ),
    (
        "SELECT count(*), sum(fare), count(DISTINCT id) FROM named",
        "SELECT count(*), sum(r.fare), count(DISTINCT r.id) FROM rides r JOIN zones z ON r.zone = z.id",
    ),
    (
        "SELECT window_start, zone, n, fares FROM minutes ORDER BY 1, 2",
        "SELECT window_start, zone, count(*), sum(fare) FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE)
         GROUP BY window_start, window_end, zone ORDER BY 1, 2",
    ),
    (
        "SELECT name, n, fares FROM over_view ORDER BY name",
        "SELECT z.name, count(*), sum(r.fare) FROM rides r JOIN zones z ON r.zone = z.id GROUP BY z.name ORDER BY z.name",
    ),
];

async fn agree(client: &Client) -> Result<()> {
    client.batch_execute("FLUSH").await?;
    for (view, tables) in ANSWERS {
        assert_eq!(shown(client, view).await?, shown(client, tables).await?, "{view}");
    }
    Ok(())
}

/// Inserts rides, twenty in a statement, and renames zones, until the connection breaks or it is enough.
async fn write(client: Client, mut next: i64, enough: Arc<AtomicBool>) -> i64 {
    while !enough.load(Ordering::SeqCst) {
        let rows: Vec<String> = (next..next + 20)
            .map(|n| {
                format!("({n}, {}, {}, TIMESTAMP '2024-01-01 00:00:00' + INTERVAL '{n}' SECOND)", n % 10, n * 7 % 101)
            })
            .collect();
        if client.batch_execute(&format!("INSERT INTO rides VALUES {}", rows.join(","))).await.is_err() {
            break;
        }
        next += 20;
        let rename = format!("UPDATE zones SET name = 'zone {next} of {0}' WHERE id = {0}", next / 20 % 10);
        if client.batch_execute(&rename).await.is_err() {
            break;
        }
    }
    next
}

/// Kills at random instants, and other worker counts each time: 1, 4, 2.
#[tokio::test(flavor = "multi_thread")]
async fn views_after_kills_are_those_of_an_undisturbed_run() -> Result<()> {
    let mut random = StdRng::seed_from_u64(20_261_128);
    let mut server = server(1).await?;
    let client = server.connect().await?;
    client.batch_execute(SCHEMA).await?;
    let mut next = 0;
    for (round, workers) in [4, 2, 1, 4, 2].into_iter().enumerate() {
        let enough: Arc<AtomicBool> = Arc::default();
        let writer = tokio::spawn(write(server.connect().await?, next, Arc::clone(&enough)));
        if round == 0 {
            // The first has something to go on from.
            for job in ["totals", "named", "minutes", "over_view"] {
                checkpoint_after(&server.connect().await?, job, 0).await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        server.kill()?;
        let acknowledged = writer.await?;
        server.restart_with(workers).await?;
        let client = server.connect().await?;
        // The views are there at once, before anything is read.
        let n: i64 = shown(&client, "SELECT count(*) FROM named").await?[0].parse()?;
        assert!(n > 0, "the view is restored");
        let there: i64 = shown(&client, "SELECT count(*) FROM rides").await?[0].parse()?;
        assert!(there == acknowledged || there == acknowledged + 20, "{there} of {acknowledged} rows");
        next = there;
        agree(&client).await?;
        let read = rows_in(&client, "totals").await?;
        assert!(read < there, "it has read {read} rows, of {there}: it began anew");
    }
    // It goes on as if nothing had been.
    let enough: Arc<AtomicBool> = Arc::default();
    let writer = tokio::spawn(write(server.connect().await?, next, Arc::clone(&enough)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    enough.store(true, Ordering::SeqCst);
    writer.await?;
    agree(&server.connect().await?).await
}

/// What was acknowledged is there, and once.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_acknowledged_inserts() -> Result<()> {
    const WRITERS: i64 = 8;
    const EACH: i64 = 1_250;
    // How many kills, and after how many milliseconds each.
    let (most, after) = if is_full() { (20, 30..300) } else { (6, 300..1_500) };
    let mut server = server(2).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (writer BIGINT, n BIGINT, PRIMARY KEY (writer, n));
             CREATE MATERIALIZED VIEW counted AS SELECT writer, count(*) AS n, sum(n) AS total FROM t GROUP BY writer",
        )
        .await?;
    let mut random = StdRng::seed_from_u64(10_000);
    let mut done = vec![0_i64; WRITERS as usize];
    let mut kills = 0;
    while done.iter().any(|done| *done < EACH) {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let client = server.connect().await?;
            let mut n = done[writer as usize];
            writers.push(tokio::spawn(async move {
                while n < EACH && client.execute("INSERT INTO t VALUES ($1, $2)", &[&writer, &n]).await.is_ok() {
                    n += 1;
                }
                n
            }));
        }
        if kills < most {
            tokio::time::sleep(Duration::from_millis(random.random_range(after.clone()))).await;
            server.kill()?;
            kills += 1;
        }
        for (writer, task) in writers.into_iter().enumerate() {
            done[writer] = task.await?;
        }
        if server.is_killed() {
            server.restart().await?;
        }
        let client = server.connect().await?;
        for (writer, acknowledged) in done.iter_mut().enumerate() {
            let sql = format!("SELECT count(*), coalesce(max(n) + 1, 0) FROM t WHERE writer = {writer}");
            let found = shown(&client, &sql).await?;
            // The last one may be there without having been acknowledged.
            let possible = [*acknowledged, *acknowledged + 1].map(|n| format!("{n},{n}"));
            assert!(possible.contains(&found[0]), "{found:?} of {acknowledged} acknowledged");
            *acknowledged = found[0].split(',').next().unwrap_or("0").parse()?;
        }
    }
    let client = server.connect().await?;
    client.batch_execute("FLUSH").await?;
    let counted = shown(&client, "SELECT n, total FROM counted ORDER BY writer").await?;
    assert_eq!(counted, vec![format!("{EACH},{}", EACH * (EACH - 1) / 2); WRITERS as usize]);
    assert_eq!(kills, most);
    Ok(())
}

/// A job that is stopped and started, and a server that is stopped in order, read nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_goes_on() -> Result<()> {
    let mut server = RondelServer::start_with(2, &["--checkpoint-interval", "60s"]).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT);
             INSERT INTO t SELECT n, n AS v FROM generate_series(1, 1000) AS series (n);
             CREATE MATERIALIZED VIEW sums AS SELECT id % 10 AS k, sum(v) AS total FROM t GROUP BY id % 10;
             CREATE MATERIALIZED VIEW most AS SELECT max(total) AS most FROM sums;
             FLUSH",
        )
        .await?;
    assert_eq!(shown(&client, "SELECT most FROM most").await?, ["50500"]);
    client.batch_execute("ALTER JOB most STOP").await?;
    client.batch_execute("INSERT INTO t VALUES (1001, 1000000); UPDATE t SET v = v + 1 WHERE id <= 10; FLUSH").await?;
    assert_eq!(shown(&client, "SELECT total FROM sums WHERE k = 1").await?, ["1049601"]);
    // It takes in what it missed of the view, and the view goes on where it was.
    client.batch_execute("ALTER JOB most START").await?;
    client.batch_execute("FLUSH").await?;
    assert_eq!(shown(&client, "SELECT most FROM most").await?, ["1049601"]);
    assert!(rows_in(&client, "sums").await? < 100, "the table was read anew");

    client.batch_execute("ALTER JOB most STOP; ALTER JOB sums STOP; INSERT INTO t VALUES (1011, 1)").await?;
    assert_eq!(job_column(&client, "sums", "state").await?.as_deref(), Some("STOPPED"));
    client.batch_execute("ALTER JOB sums START; ALTER JOB most START; FLUSH").await?;
    assert_eq!(shown(&client, "SELECT most FROM most").await?, ["1049602"]);
    assert!(rows_in(&client, "sums").await? < 100, "the table was read anew");

    drop(client);
    server.stop()?;
    server.restart().await?;
    let client = server.connect().await?;
    assert_eq!(shown(&client, "SELECT most FROM most").await?, ["1049602"], "at once");
    client.batch_execute("INSERT INTO t VALUES (1021, 1); FLUSH").await?;
    assert_eq!(shown(&client, "SELECT most FROM most").await?, ["1049603"]);
    assert!(rows_in(&client, "sums").await? < 100, "the table was read anew");
    client.batch_execute("CHECKPOINT JOB most").await?;
    let kept = shown(&client, "SHOW CHECKPOINTS").await?;
    assert!(
        kept.iter().any(|row| row.starts_with("most,")) && kept.iter().any(|row| row.starts_with("sums,")),
        "{kept:?}"
    );
    Ok(())
}
