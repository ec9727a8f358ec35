//! Exactly once as it is promised: a view of a window, a join and a running aggregate, its readers' sinks, and sinks over the
//! topic itself, through kills of the server, of which every second is aimed at a commit, and restarts of the broker under it.
//!
//! `RONDEL_LIMITS=full` makes it two million records and thirty kills.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rondel_tests::Result;
use rondel_tests::kafka::{Isolation, KafkaBroker, Watch};
use rondel_tests::rondel::RondelServer;
use serde_json::Value;

use super::server;
use crate::limits::is_full;

const KEYS: i64 = 50;
/// Records of a minute of event time.
const PER_MINUTE: i64 = 1_000;
const PARTITIONS: i64 = 2;

/// How much of it.
struct Size {
    records: i64,
    kills: usize,
    broker_restarts: usize,
    patience: Duration,
}

fn size() -> Size {
    let patience = Duration::from_secs(if is_full() { 1_800 } else { 180 });
    match is_full() {
        true => Size { records: 2_000_000, kills: 30, broker_restarts: 4, patience },
        false => Size { records: 20_000, kills: 4, broker_restarts: 1, patience },
    }
}

fn minute_of(id: i64) -> i64 {
    id / PER_MINUTE
}

fn record(id: i64) -> Vec<u8> {
    let (minute, second) = (minute_of(id), id % PER_MINUTE * 60 / PER_MINUTE);
    let at = format!(
        "2026-{:02}-{:02}T{:02}:{:02}:{second:02}Z",
        1 + minute / 40_320,
        1 + minute / 1_440 % 28,
        minute / 60 % 24,
        minute % 60
    );
    format!(r#"{{"id":{id},"k":{},"v":{},"at":"{at}"}}"#, id * 7 % KEYS, id % 11).into_bytes()
}

fn create(bootstrap: &str, folder: &str) -> String {
    let kafka =
        |topic: &str| format!("connector = 'kafka', brokers = '{bootstrap}', topic = '{topic}', format = 'json'");
    let upsert = |topic: &str, key: &str| format!("{}, changelog = 'upsert', key = '{key}'", kafka(topic));
    let windows = "SELECT window_start, k, count(*) AS n, sum(v) AS total
        FROM TUMBLE(TABLE input, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, k";
    format!(
        "CREATE STREAM input (id BIGINT, k BIGINT, v BIGINT, at TIMESTAMP, WATERMARK FOR at AS at) WITH ({});
         CREATE TABLE names (k BIGINT PRIMARY KEY, name TEXT);
         INSERT INTO names SELECT n, 'name ' || n % 10 FROM generate_series(0, {KEYS} - 1) AS series (n);
         CREATE MATERIALIZED VIEW named AS
             SELECT name, count(*) AS windows, sum(n) AS n FROM ({windows}) AS w JOIN names ON w.k = names.k GROUP BY name;
         CREATE SINK named_out WITH ({}) AS SELECT name, windows, n FROM named;
         CREATE SINK named_files WITH (connector = 'file', path = '{folder}', format = 'json', changelog = 'weights') AS
             SELECT name, windows, n FROM named;
         CREATE MATERIALIZED VIEW all_names AS SELECT 1 AS one, count(*) AS names, sum(n) AS n FROM named;
         CREATE SINK all_out WITH ({}) AS SELECT one, names, n FROM all_names;
         CREATE SINK rows_out WITH ({}) AS SELECT id, k FROM input;
         CREATE SINK windows_out WITH ({}) AS {windows} EMIT AFTER WATERMARK",
        kafka("commits-in"),
        upsert("commits-named", "name"),
        upsert("commits-all", "one"),
        kafka("commits-rows"),
        kafka("commits-windows"),
    )
}

fn number(row: &Value, column: &str) -> Result<i64> {
    row[column]
        .as_i64()
        .or_else(|| row[column].as_str()?.parse().ok())
        .ok_or_else(|| format!("no {column} in {row}").into())
}

/// All committed values of a topic.
fn committed(broker: &KafkaBroker, topic: &str) -> Result<Vec<Value>> {
    let records = broker.read(topic, Isolation::Committed)?;
    records
        .iter()
        .filter(|record| !record.value.is_empty())
        .map(|record| Ok(serde_json::from_slice(&record.value)?))
        .collect()
}

/// The last value of each key.
fn newest(broker: &KafkaBroker, topic: &str) -> Result<BTreeMap<Vec<u8>, Value>> {
    let mut newest = BTreeMap::new();
    for record in broker.read(topic, Isolation::Committed)? {
        match record.value.is_empty() {
            true => _ = newest.remove(&record.key),
            false => _ = newest.insert(record.key, serde_json::from_slice(&record.value)?),
        }
    }
    Ok(newest)
}

/// Kills the server: at a random instant, or when a progress record has come and its transaction commits. `watch` began
/// before there was anything to commit: a job that has committed all commits no more.
async fn kill(server: &mut RondelServer, watch: Option<Watch>, random: &mut StdRng) -> Result<bool> {
    let Some(watch) = watch else {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..1_500))).await;
        server.kill()?;
        return Ok(false);
    };
    let seen = watch.next(Duration::from_secs(10));
    server.kill()?;
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_commits_and_brokers_that_restart_lose_and_double_nothing() -> Result<()> {
    let Size { records, kills, broker_restarts, patience } = size();
    let (broker, folder, begun) = (KafkaBroker::start()?, tempfile::tempdir()?, Instant::now());
    for topic in ["commits-in", "commits-named", "commits-all", "commits-rows", "commits-windows"] {
        broker.create_topic(topic, PARTITIONS as i32).await?;
    }
    let mut random = StdRng::seed_from_u64(24);
    let mut server = server(2).await?;
    let path = folder.path().display().to_string();
    server.connect().await?.batch_execute(&create(&broker.bootstrap(), &path)).await?;
    let rounds = (kills + broker_restarts) as i64;
    let (mut next, mut at_commits) = (0, 0);
    let produce = |from: i64, to: i64| -> Result<()> {
        for partition in 0..PARTITIONS {
            let values: Vec<Vec<u8>> = (from..to).filter(|id| id % PARTITIONS == partition).map(record).collect();
            broker.produce("commits-in", partition as i32, &values)?;
        }
        Ok(())
    };
    for round in 0..rounds {
        let to = records * (round + 1) / rounds;
        let aimed = round % 2 == 0 && broker.partitions("rondel-progress").unwrap_or(0) > 0;
        let watch = if aimed { Some(broker.watch("rondel-progress")?) } else { None };
        produce(next, to)?;
        next = to;
        if round % (rounds / broker_restarts as i64) == 1 {
            tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
            broker.stop()?;
            broker.resume()?;
            continue;
        }
        at_commits += usize::from(kill(&mut server, watch, &mut random).await?);
        server.restart_with(random.random_range(1..4)).await?;
    }
    // A minute more closes the last window.
    let closing = minute_of(records - 1) + 1;
    produce(closing * PER_MINUTE, closing * PER_MINUTE + PARTITIONS)?;
    let total = records + PARTITIONS;
    let windows = (minute_of(records - 1) + 1) * KEYS;
    let deadline = Instant::now() + patience;
    // Each sink's job stands somewhere else, and Kafka shows a transaction one partition after the other.
    while committed(&broker, "commits-rows")?.len() < total as usize
        || committed(&broker, "commits-windows")?.len() < windows as usize
        || newest(&broker, "commits-all")?.values().all(|row| number(row, "n").unwrap_or(0) < total)
        || newest(&broker, "commits-named")?.values().map(|row| number(row, "n").unwrap_or(0)).sum::<i64>() < total
    {
        if Instant::now() > deadline {
            let jobs = rondel_tests::rondel::rows(&server.connect().await?, "SHOW JOBS").await?;
            return Err(format!("{jobs:?}\n{}", server.log()).into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    server.connect().await?.batch_execute("FLUSH; CHECKPOINT").await?;
    judge(&broker, &path, records)?;
    println!(
        "{records} records, {kills} kills, {at_commits} of them at a commit, {broker_restarts} restarts of the broker: {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(at_commits > 0);
    Ok(())
}

/// What an undisturbed run comes to, by plain arithmetic.
fn judge(broker: &KafkaBroker, folder: &str, records: i64) -> Result<()> {
    let closing = (minute_of(records - 1) + 1) * PER_MINUTE;
    let ids: Vec<i64> = (0..records).chain(closing..closing + PARTITIONS).collect();
    let mut seen: Vec<i64> =
        committed(broker, "commits-rows")?.iter().map(|row| number(row, "id")).collect::<Result<_>>()?;
    seen.sort_unstable();
    assert!(seen == ids, "{} of {} rows", seen.len(), ids.len());

    let key = |id: i64| id * 7 % KEYS;
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for id in &ids {
        let (n, total) = windows.entry((minute_of(*id), key(*id))).or_default();
        (*n, *total) = (*n + 1, *total + id % 11);
    }
    let mut shown: Vec<(i64, i64, i64)> = Vec::new();
    for row in committed(broker, "commits-windows")? {
        shown.push((number(&row, "k")?, number(&row, "n")?, number(&row, "total")?));
    }
    let closed = windows.iter().filter(|((minute, _), _)| minute * PER_MINUTE < closing);
    let mut expected: Vec<_> = closed.map(|((_, k), (n, total))| (*k, *n, *total)).collect();
    shown.sort_unstable();
    expected.sort_unstable();
    assert!(shown == expected, "{} of {} windows", shown.len(), expected.len());

    let mut names: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for ((_, k), (n, _)) in &windows {
        let (count, sum) = names.entry(format!("name {}", k % 10)).or_default();
        (*count, *sum) = (*count + 1, *sum + n);
    }
    let named = |row: &Value| -> Result<(String, (i64, i64))> {
        Ok((row["name"].as_str().unwrap_or_default().to_owned(), (number(row, "windows")?, number(row, "n")?)))
    };
    let last: BTreeMap<_, _> = newest(broker, "commits-named")?.values().map(named).collect::<Result<_>>()?;
    assert_eq!(last, names);
    let mut sums: BTreeMap<(String, (i64, i64)), i64> = BTreeMap::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.is_file() {
            for line in fs::read_to_string(path)?.lines() {
                let row: Value = serde_json::from_str(line)?;
                *sums.entry(named(&row)?).or_default() += number(&row, "_weight")?;
            }
        }
    }
    sums.retain(|_, weight| *weight != 0);
    assert_eq!(sums, names.into_iter().map(|name| (name, 1)).collect());
    Ok(())
}
