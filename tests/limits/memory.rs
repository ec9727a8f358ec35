//! All jobs together hold more than the server may.

use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, job_column, rows_until};

use super::{PATIENCE, create_stream, metric, row};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_wait_for_memory_and_say_so_until_there_is_room() -> Result<()> {
    let limit = 32 << 20;
    let broker = KafkaBroker::shared()?;
    for topic in ["limits-memory", "limits-memory-small"] {
        broker.create_topic(topic, 1).await?;
    }
    let text = "x".repeat(200);
    let values: Vec<Vec<u8>> = (0..300_000).map(|v| row(v % 10, v, &text)).collect();
    broker.produce("limits-memory", 0, &values)?;
    broker.produce("limits-memory-small", 0, &[row(1, 1, "")])?;
    let server = RondelServer::start_with(2, &["--memory-limit", "32MB"]).await?;
    let client = server.connect().await?;
    create_stream(&client, "numbers", &broker.bootstrap(), "limits-memory").await?;
    create_stream(&client, "few", &broker.bootstrap(), "limits-memory-small").await?;
    client.batch_execute("CREATE MATERIALIZED VIEW large AS SELECT k, v, text FROM numbers").await?;
    let waiting = |name: &'static str| {
        move |jobs: &[Vec<Option<String>>]| {
            jobs.iter().any(|job| {
                let has = |text: &str| job.iter().flatten().any(|column| column.contains(text));
                has(name)
                    && has("WAITING")
                    && has("the job waits for memory: all jobs together hold ")
                    && has(" of 32 MiB")
            })
        }
    };
    rows_until(&client, "SHOW JOBS", PATIENCE, waiting("large")).await?;
    // Whoever comes later finds what room there is, at the latest when the large one is gone.
    client.batch_execute("CREATE MATERIALIZED VIEW small AS SELECT count(*) AS n FROM few").await?;
    let used = metric(&server, "rondel_memory_used_bytes").await;
    println!("used {used} of {} bytes", metric(&server, "rondel_memory_limit_bytes").await);
    assert!(used > f64::from(limit) * 0.75 && used < f64::from(limit) * 1.25, "{used}");
    let read: usize = job_column(&client, "large", "rows_in").await?.ok_or("no figure")?.parse()?;
    assert!(read > 0 && read < values.len(), "{read}");
    client.batch_execute("DROP MATERIALIZED VIEW large").await?;
    rows_until(&client, "SELECT n FROM small", PATIENCE, |rows| rows == [[Some("1".to_owned())]]).await?;
    let running = |jobs: &[Vec<Option<String>>]| jobs.iter().flatten().flatten().any(|text| text == "RUNNING");
    rows_until(&client, "SHOW JOBS", PATIENCE, running).await?;
    Ok(())
}
