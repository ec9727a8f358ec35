//! Fifty jobs that come and go, and fifty that have nothing to do.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, rows, rows_until};

use super::{Load, PATIENCE, create_stream, is_full, metric, shape};

const JOBS: usize = 50;

/// Queries over rows `(v % 100, v)`, and what asks their views how many rows they have seen.
const QUERIES: [(&str, &str); 4] = [
    ("SELECT count(*) AS n FROM numbers", "n"),
    ("SELECT k, count(*) AS n, sum(v) AS s FROM numbers GROUP BY k", "sum(n)"),
    ("SELECT k, v FROM numbers WHERE v >= 0", "count(*)"),
    ("SELECT a.k, count(*) AS n FROM numbers a JOIN numbers b ON a.v = b.v GROUP BY a.k", "sum(n)"),
];

/// A job: its view, and what asks it.
type Job = (String, &'static str);

async fn create(client: &tokio_postgres::Client, number: usize) -> Result<Job> {
    let (query, asks) = QUERIES[number % QUERIES.len()];
    let name = format!("job{number}");
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await?;
    Ok((name, asks))
}

async fn drop_job(client: &tokio_postgres::Client, (name, _): &Job) -> Result<()> {
    Ok(client.batch_execute(&format!("DROP MATERIALIZED VIEW {name}")).await?)
}

/// Threads and resident bytes when they have come to rest.
async fn at_rest(server: &RondelServer, threads_at_most: f64) -> (f64, f64) {
    let start = Instant::now();
    loop {
        let threads = metric(server, "process_threads").await;
        if threads <= threads_at_most || start.elapsed() > Duration::from_secs(20) {
            return (threads, metric(server, "process_resident_memory_bytes").await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_jobs_come_and_go_on_two_workers() -> Result<()> {
    let busy_for = Duration::from_secs(if is_full() { 60 } else { 12 });
    let broker = KafkaBroker::shared()?;
    broker.create_topic("limits-jobs", 2).await?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    create_stream(&client, "numbers", &broker.bootstrap(), "limits-jobs").await?;
    let before = metric(&server, "process_threads").await;
    // What is made once, and what the allocator keeps, is there after the first fifty.
    let mut running = Vec::new();
    for number in 0..JOBS {
        running.push(create(&client, number).await?);
    }
    for job in running.drain(..) {
        drop_job(&client, &job).await?;
    }
    let (threads_before, bytes_before) = at_rest(&server, before).await;

    let load = Load::start(&broker.bootstrap(), "limits-jobs", 1_000);
    client.batch_execute("CREATE MATERIALIZED VIEW steady AS SELECT count(*) AS n FROM numbers").await?;
    let mut random = StdRng::seed_from_u64(7);
    let (mut number, mut creates, mut drops, mut longest) = (JOBS, Vec::new(), Vec::new(), Duration::ZERO);
    let (start, mut seen, mut seen_at) = (Instant::now(), Vec::new(), Instant::now());
    while start.elapsed() < busy_for || running.len() < JOBS {
        let begun = Instant::now();
        if running.len() < JOBS && (running.len() < 5 || random.random_bool(0.7)) {
            running.push(create(&client, number).await?);
            number += 1;
            creates.push(begun.elapsed());
        } else {
            let job = running.swap_remove(random.random_range(0..running.len()));
            drop_job(&client, &job).await?;
            drops.push(begun.elapsed());
        }
        let now = rows(&client, "SELECT n FROM steady").await?;
        if now != seen {
            longest = longest.max(seen_at.elapsed());
            (seen, seen_at) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let total = load.stop();
    creates.sort_unstable();
    drops.sort_unstable();
    println!(
        "{} jobs created in {:?} (median, worst), {} dropped in {:?}; a steady one stood still for {longest:?} at most",
        creates.len(),
        shape(&creates),
        drops.len(),
        shape(&drops)
    );
    assert!(longest < Duration::from_secs(15), "stood still for {longest:?}");
    // All that are there have seen every row, whenever they came.
    running.push(("steady".to_owned(), "n"));
    for (name, asks) in &running {
        let all = [[Some(total.to_string())]];
        rows_until(&client, &format!("SELECT {asks} FROM {name}"), PATIENCE, |rows| rows == all).await?;
    }
    let bytes_busy = metric(&server, "process_resident_memory_bytes").await;
    for job in &running {
        drop_job(&client, job).await?;
    }
    assert_eq!(rows(&client, "SHOW JOBS").await?.len(), 0);
    let (threads, bytes) = at_rest(&server, threads_before).await;
    println!(
        "{total} rows; threads {threads_before} before, {threads} after; resident {:.0} MiB before, {:.0} with {JOBS} jobs, {:.0} after",
        bytes_before / f64::from(1 << 20),
        bytes_busy / f64::from(1 << 20),
        bytes / f64::from(1 << 20)
    );
    assert!(threads <= threads_before, "threads that nobody ended");
    assert!(bytes < bytes_before + f64::from(128 << 20), "memory that nobody gave back");
    assert_eq!(metric(&server, "rondel_memory_used_bytes").await, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_idle_jobs_cost_next_to_nothing() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("limits-idle", 2).await?;
    broker.produce("limits-idle", 0, &[super::row(1, 1, ""), super::row(2, 2, "")])?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    create_stream(&client, "numbers", &broker.bootstrap(), "limits-idle").await?;
    for number in 0..JOBS {
        let (name, asks) = create(&client, number).await?;
        let all = [[Some("2".to_owned())]];
        rows_until(&client, &format!("SELECT {asks} FROM {name}"), PATIENCE, |rows| rows == all).await?;
    }
    // Idle is who has nothing left to save either.
    let saved = |rows: &[Vec<Option<String>>]| rows.iter().map(|row| &row[0]).collect::<HashSet<_>>().len() == JOBS;
    rows_until(&client, "SHOW CHECKPOINTS", PATIENCE, saved).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let span = Duration::from_secs(if is_full() { 30 } else { 5 });
    let before = metric(&server, "process_cpu_seconds_total").await;
    tokio::time::sleep(span).await;
    let used = (metric(&server, "process_cpu_seconds_total").await - before) / span.as_secs_f64();
    println!("{JOBS} idle jobs that read Kafka: {:.2} % of a core", used * 100.0);
    // The promise is 2 %; on a machine that does other things at the time the same work costs more.
    let most = if is_full() { 0.02 } else { 0.05 };
    assert!(used < most, "{:.2} % of a core", used * 100.0);
    Ok(())
}
