//! A million bookings, out of order, through windows into Kafka: every window as the producer's own arithmetic says.

use std::collections::BTreeMap;
use std::time::Instant;

use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, job_column, rows};
use rondel_tests::{Result, python};
use serde_json::Value;

const RECORDS: usize = 1_000_000;
const PARTITIONS: i32 = 4;
const TOPIC: &str = "windows-bookings";

/// A window's row: start, end, zone, service, bookings, with driver, fares, meters.
type Row = Vec<Value>;

/// One program, two windows, 1 and 4 workers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_bookings_through_windows() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let bootstrap = broker.bootstrap();
    broker.create_topic(TOPIC, PARTITIONS).await?;
    let descriptor = super::descriptor()?;
    let path = descriptor.path().to_string_lossy().into_owned();
    let started = Instant::now();
    let (records, partitions) = (RECORDS.to_string(), PARTITIONS.to_string());
    let expected = python::run(
        "produce.py",
        &[
            "--bootstrap",
            &bootstrap,
            "--topic",
            TOPIC,
            "--descriptor",
            &path,
            "--records",
            &records,
            "--partitions",
            &partitions,
            "--seed",
            "20260101",
        ],
    )?;
    println!("{RECORDS} bookings written in {:.1} s", started.elapsed().as_secs_f64());
    let expected: BTreeMap<String, Vec<Row>> = serde_json::from_str(&expected)?;

    for workers in [1, 4] {
        let server = RondelServer::start_with(workers, &["--checkpoint-interval", "1s"]).await?;
        let client = server.connect().await?;
        client.batch_execute(&super::create_bookings("bookings", &bootstrap, TOPIC, descriptor.path(), "")).await?;
        let queries = [
            ("tumble", "TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)"),
            ("hop", "HOP(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)"),
        ];
        let started = Instant::now();
        for (name, windows) in queries {
            let topic = format!("windows-{name}-{workers}");
            broker.create_topic(&topic, PARTITIONS).await?;
            let sink = format!(
                "CREATE SINK {name}_out WITH (connector = 'kafka', brokers = '{bootstrap}', topic = '{topic}',
                     key = 'zone', format = 'protobuf', message = 'rondel.tests.Window', descriptor = 'file:{path}')
                 AS SELECT window_start, window_end, pickup.zone AS zone, service_type, count(*) AS bookings,
                           count(driver_id) AS with_driver, sum(fare) AS fares, sum(distance_meters) AS meters
                    FROM {windows}
                    GROUP BY window_start, window_end, pickup.zone, service_type
                    EMIT AFTER WATERMARK"
            );
            client.batch_execute(&sink).await?;
        }
        for (name, _) in queries {
            let topic = format!("windows-{name}-{workers}");
            let judged = judge(&bootstrap, &topic, &path, &expected[name]);
            println!("{workers} workers, {name}: {:.1} s after its creation", started.elapsed().as_secs_f64());
            if let Err(error) = judged {
                let jobs = rows(&client, "SHOW JOBS").await;
                return Err(format!("{workers} workers, {name}: {error}\n{jobs:?}\n{}", server.log()).into());
            }
        }
        for (name, _) in queries {
            let sink = format!("{name}_out");
            let rows_in = job_column(&client, &sink, "rows_in").await?;
            assert_eq!(rows_in, Some((RECORDS + PARTITIONS as usize).to_string()));
            assert_eq!(job_column(&client, &sink, "late_rows").await?.as_deref(), Some("0"));
        }
        // The same stream read as a bounded input: all of it, the closing records included.
        let all = rows(&client, "SELECT count(*), count(driver_id) FROM bookings").await?;
        let with_driver: i64 = expected["tumble"].iter().filter_map(|row| row[5].as_i64()).sum();
        let total = RECORDS + PARTITIONS as usize;
        assert_eq!(all, [[Some(total.to_string()), Some(with_driver.to_string())]]);
        let jobs = rows(&client, "SHOW JOBS").await?;
        assert_eq!(jobs.len(), 2, "{jobs:?}");
    }
    Ok(())
}

/// Reads a sink's topic with the independent consumer and compares it with the independent arithmetic, row by row.
fn judge(bootstrap: &str, topic: &str, descriptor: &str, expected: &[Row]) -> Result<()> {
    let count = expected.len().to_string();
    let read = python::run(
        "consume.py",
        &[
            "--bootstrap",
            bootstrap,
            "--topic",
            topic,
            "--descriptor",
            descriptor,
            "--message",
            "rondel.tests.Window",
            "--records",
            &count,
            "--timeout",
            "240",
            "--settle",
            "3",
        ],
    )?;
    let mut found: BTreeMap<String, Row> = BTreeMap::new();
    let mut partition_of: BTreeMap<String, u64> = BTreeMap::new();
    for line in read.lines() {
        let record: Value = serde_json::from_str(line)?;
        let value = &record["value"];
        let names =
            ["window_start", "window_end", "zone", "service_type", "bookings", "with_driver", "fares", "meters"];
        let row: Row = names.iter().map(|name| value[name].clone()).collect();
        let zone = row[2].as_str().unwrap_or_default().to_owned();
        let key: String = zone.bytes().map(|byte| format!("{byte:02x}")).collect();
        if record["key"].as_str() != Some(&key) {
            return Err(format!("a row of zone {zone:?} has the key {}", record["key"]).into());
        }
        let partition = record["partition"].as_u64().ok_or("a record without a partition")?;
        if *partition_of.entry(zone).or_insert(partition) != partition {
            return Err("rows of one key are in two partitions".into());
        }
        if let Some(first) = found.insert(identity(&row), row.clone()) {
            return Err(format!("a window came twice: {first:?}, then {row:?}").into());
        }
    }
    let mut wrong = Vec::new();
    for row in expected {
        match found.remove(&identity(row)) {
            Some(same) if same == *row => {}
            other => wrong.push(format!("{row:?} is {other:?}")),
        }
    }
    wrong.extend(found.values().map(|row| format!("{row:?} should not be")));
    if !wrong.is_empty() {
        return Err(format!("{} windows are wrong, among them {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]).into());
    }
    Ok(())
}

fn identity(row: &Row) -> String {
    format!("{} {} {} {}", row[0], row[1], row[2], row[3])
}
