//! A sink whose broker has gone, while its job has more to write than it may hold.

use std::time::Duration;

use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, job_column, rows, rows_until};

use super::{Neighbour, PATIENCE, create_stream, held, is_full, options, row, shape};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_stands_still_holds_its_job_and_loses_nothing() -> Result<()> {
    // Rows of about 200 bytes: twice as many as the job and the producer's queue of 20,000 may hold.
    let (records, limit, megabytes) =
        if is_full() { (3_000_000, 256 << 20, "256MB") } else { (500_000, 32 << 20, "32MB") };
    let broker = KafkaBroker::shared()?;
    let other = KafkaBroker::start()?;
    broker.create_topic("limits-sink-in", 2).await?;
    other.create_topic("limits-sink-out", 2).await?;
    let server = RondelServer::start_with(2, &["--job-memory", megabytes]).await?;
    let client = server.connect().await?;
    create_stream(&client, "numbers", &broker.bootstrap(), "limits-sink-in").await?;
    create_stream(&client, "copies", &other.bootstrap(), "limits-sink-out").await?;
    let mut neighbour = Neighbour::start(&server, broker, "limits-sink-pings").await?;
    client
        .batch_execute(&format!(
            "CREATE SINK copied WITH ({}, delivery = 'at_least_once', \"kafka.queue.buffering.max.messages\" = '20000') AS SELECT k, v, text FROM numbers",
            options(&other.bootstrap(), "limits-sink-out")
        ))
        .await?;
    broker.produce("limits-sink-in", 0, &[row(0, 0, "")])?;
    let one = [[Some("1".to_owned())]];
    rows_until(&client, "SELECT count(*) FROM copies", PATIENCE, |rows| rows == one).await?;
    let quiet = neighbour.ask(20).await?;
    other.stop()?;
    let text = "x".repeat(180);
    for part in 0..10 {
        let values: Vec<Vec<u8>> = (1 + part * records / 10..1 + (part + 1) * records / 10)
            .map(|v| row(v as u64 % 100, v as u64, &text))
            .collect();
        broker.produce("limits-sink-in", (part % 2) as i32, &values)?;
    }
    let waits = |jobs: &[Vec<Option<String>>]| jobs.iter().flatten().flatten().any(|text| text.contains("sink copied"));
    rows_until(&client, "SHOW JOBS", PATIENCE, waits).await?;
    // It reads what its epochs in flight may hold, and then no more.
    let (mut most, mut read, mut same) = (0, None, 0);
    while same < 10 {
        most = most.max(held(&server, "copied").await);
        let now = job_column(&client, "copied", "rows_in").await?;
        same = if now == read { same + 1 } else { 0 };
        read = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let busy = neighbour.ask(20).await?;
    let resident = super::metric(&server, "process_resident_memory_bytes").await;
    println!(
        "a sink that stands still: {read:?} of {} rows read, at most {} MiB of {megabytes}, resident {:.0} MiB; a neighbour \
         took {:?} before and {:?} meanwhile (median, worst)",
        records + 1,
        most >> 20,
        resident / f64::from(1 << 20),
        shape(&quiet),
        shape(&busy)
    );
    // One bite of each worker may go beyond.
    assert!(most > 0 && most <= limit + limit / 4, "{most} bytes");
    assert!(read.as_deref().is_some_and(|read| read.parse::<usize>().unwrap() < records), "{read:?}");
    assert!(shape(&busy).0 < shape(&quiet).0 + Duration::from_millis(500), "{busy:?}");
    other.resume()?;
    let all = [[Some((records + 1).to_string()), Some((records * (records + 1) / 2).to_string())]];
    let patience = Duration::from_secs(300);
    rows_until(&client, "SELECT count(DISTINCT v), sum(v) FROM copies", patience, |rows| rows == all).await?;
    assert_eq!(rows(&client, "SELECT count(*) FROM copies").await?, [[Some((records + 1).to_string())]]);
    Ok(())
}
