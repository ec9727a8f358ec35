//! A join that remembers ten times what memory may hold: 32 MB, with `RONDEL_LIMITS=full` 512, or `RONDEL_SPILL_MB`.

use std::time::{Duration, Instant};

use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, job_column, rows_until};
use tokio_postgres::Client;

use super::{create_stream, is_full, metric, row};

const WORKERS: usize = 2;

/// What a row of the join's state takes on disk, about.
const ROW_BYTES: usize = 440;
const TEXT_BYTES: usize = 400;

/// The greatest figures since it was asked for the last time; of what is resident, since the server was started.
#[derive(Debug, Default, Clone, Copy)]
struct Most {
    resident: f64,
    counted: f64,
    spilled: f64,
}

impl Most {
    async fn look(&mut self, server: &RondelServer) {
        self.resident = self.resident.max(metric(server, "process_resident_memory_max_bytes").await);
        self.counted = self.counted.max(metric(server, "rondel_memory_used_bytes").await);
        self.spilled = self.spilled.max(metric(server, "rondel_spill_bytes").await);
    }
}

/// Bytes that memory may hold.
fn limit() -> usize {
    let megabytes = std::env::var("RONDEL_SPILL_MB").ok().and_then(|value| value.parse::<usize>().ok());
    megabytes.unwrap_or(if is_full() { 512 } else { 32 }) << 20
}

/// Rows of a topic with two partitions: keys, and a text.
fn produce(broker: &KafkaBroker, topic: &str, keys: impl Iterator<Item = usize>, text: &str) -> Result<usize> {
    let mut count = 0;
    let mut values = [Vec::new(), Vec::new()];
    let send = |values: &mut [Vec<Vec<u8>>; 2]| -> Result<()> {
        for (partition, values) in values.iter_mut().enumerate() {
            broker.produce(topic, partition as i32, values)?;
            values.clear();
        }
        Ok(())
    };
    for key in keys {
        values[count % 2].push(row(key as u64, 1, text));
        count += 1;
        if count % 100_000 == 0 {
            send(&mut values)?;
        }
    }
    send(&mut values)?;
    Ok(count)
}

/// Waits until the view has its answer, and looks at the memory meanwhile.
async fn await_answer(server: &RondelServer, client: &Client, probes: usize, most: &mut Most) -> Result<()> {
    let length = probes * (TEXT_BYTES + 1);
    let expected = vec![vec![Some(probes.to_string()), Some(length.to_string())]];
    let patience = Duration::from_secs(if is_full() { 3_600 } else { 600 });
    let start = Instant::now();
    while rondel_tests::rondel::rows(client, "SELECT n, bytes FROM joined").await? != expected {
        most.look(server).await;
        assert!(
            start.elapsed() < patience,
            "{most:?}, {:?}",
            rows_until(client, "SHOW JOBS", patience, |_| true).await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most.look(server).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_with_ten_times_the_memory_finishes() -> Result<()> {
    let limit = limit();
    let rows = limit * 10 / ROW_BYTES;
    let broker = KafkaBroker::shared()?;
    for topic in ["limits-spill", "limits-spill-probes"] {
        broker.create_topic(topic, 2).await?;
    }
    let text = "x".repeat(TEXT_BYTES);
    let bytes = limit.to_string();
    let settings = ["--memory-limit", &bytes, "--job-memory", &bytes, "--checkpoint-interval", "2s"];
    let mut server = RondelServer::start_with(WORKERS, &settings).await?;
    let client = server.connect().await?;
    for (name, topic) in [("large", "limits-spill"), ("probes", "limits-spill-probes")] {
        create_stream(&client, name, &broker.bootstrap(), topic).await?;
    }
    let join = "SELECT count(*) AS n, sum(length(a.text || b.text)) AS bytes FROM large a JOIN probes b ON a.k = b.k";
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW joined AS {join}")).await?;
    // What the first rows need is there: threads, connections, buffers.
    produce(broker, "limits-spill", 0..1000, &text)?;
    produce(broker, "limits-spill-probes", 0..1000, "y")?;
    let mut most = Most::default();
    await_answer(&server, &client, 1000, &mut most).await?;
    let before = most;

    // The rows of one side, then those that look for them, in another order.
    let start = Instant::now();
    produce(broker, "limits-spill", 1000..rows, &text)?;
    println!("{rows} rows written in {:?}", start.elapsed());
    let start = Instant::now();
    let has_read =
        |read: Option<String>| read.and_then(|read| read.parse().ok()).is_some_and(|read: usize| read >= rows + 1000);
    while !has_read(job_column(&client, "joined", "rows_in").await?) {
        most.look(&server).await;
        assert!(start.elapsed() < Duration::from_secs(3_600), "{most:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("read in {:?}: {most:?}", start.elapsed());
    assert!(most.spilled > 8.0 * limit as f64, "{most:?}");
    let start = Instant::now();
    // Many more than there is room for, in another order.
    let looked_for = rows.min(1 << 22) / 8;
    let keys = |from: usize| (from..from + looked_for).map(|n| n * 7919 % rows);
    produce(broker, "limits-spill-probes", keys(0), "y")?;
    await_answer(&server, &client, 1000 + looked_for, &mut most).await?;
    println!("{looked_for} looked for in {:?}: {most:?}", start.elapsed());
    judge(before, most, limit);

    // A server that was killed goes on from the checkpoint, in as little memory.
    client.batch_execute("CHECKPOINT JOB joined").await?;
    drop(client);
    let start = Instant::now();
    server.kill_and_restart().await?;
    let client = server.connect().await?;
    produce(broker, "limits-spill-probes", keys(looked_for), "y")?;
    let mut most = Most::default();
    await_answer(&server, &client, 1000 + 2 * looked_for, &mut most).await?;
    println!("{looked_for} looked for after a restart in {:?}: {most:?}", start.elapsed());
    judge(before, most, limit);
    // What is gone leaves nothing behind.
    client.batch_execute("DROP MATERIALIZED VIEW joined").await?;
    let start = Instant::now();
    while metric(&server, "rondel_spill_files").await > 0.0 {
        assert!(start.elapsed() < super::PATIENCE, "files are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The job's memory as it is counted is within a fifth of the limit; with the sizes of the promise also the whole process, whose
/// buffers and program do not depend on the limit.
fn judge(before: Most, most: Most, limit: usize) {
    let allowed = limit as f64 * 1.2;
    println!("limit {limit}, before {before:?}, at most {most:?}");
    assert!(most.counted < allowed, "{most:?}");
    assert!(!is_full() || most.resident < allowed, "{most:?}");
}
