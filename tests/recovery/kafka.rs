//! Views over a topic of a real Kafka, through kills at random instants.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::rows_until;

use super::{PATIENCE, checkpoint_after, rows_in, server, shown};
use crate::real_kafka::{booking, create_bookings, descriptor};

const TOPIC: &str = "recovery-kafka";
const PARTITIONS: i32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn positions_outlive_kills() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic(TOPIC, PARTITIONS).await?;
    let mut random = StdRng::seed_from_u64(7);
    let mut server = server(1).await?;
    let client = server.connect().await?;
    let descriptor = descriptor()?;
    let more = ", metadata = '_partition,_offset'";
    client.batch_execute(&create_bookings("bookings", &broker.bootstrap(), TOPIC, descriptor.path(), more)).await?;
    client
        .batch_execute(
            "CREATE MATERIALIZED VIEW counted AS SELECT _partition AS p, count(*) AS n, max(_offset) AS last,
               count(DISTINCT _offset) AS different FROM bookings GROUP BY _partition;
             CREATE MATERIALIZED VIEW all_of_them AS SELECT sum(n) AS n FROM counted",
        )
        .await?;
    let records = vec![booking("r", 1_700_000_000)?; 50];
    let mut written = 0_i64;
    let mut produce = |rounds: i64| -> Result<i64> {
        for _ in 0..rounds {
            for partition in 0..PARTITIONS {
                broker.produce(TOPIC, partition, &records)?;
                written += 50;
            }
        }
        Ok(written)
    };
    produce(2)?;
    checkpoint_after(&client, "counted", 0).await?;
    let mut epoch = checkpoint_after(&client, "all_of_them", 0).await?;
    for workers in [4, 2, 1, 3] {
        produce(random.random_range(1..4))?;
        tokio::time::sleep(Duration::from_millis(random.random_range(50..900))).await;
        server.kill_and_restart_with(workers).await?;
        let total = produce(1)?;
        let client = server.connect().await?;
        let all = |rows: &[Vec<Option<String>>]| rows == [[Some(total.to_string())]];
        rows_until(&client, "SELECT n FROM all_of_them", PATIENCE, all).await?;
        let each = total / i64::from(PARTITIONS);
        let expected: Vec<String> = (0..PARTITIONS).map(|p| format!("{p},{each},{},{each}", each - 1)).collect();
        assert_eq!(shown(&client, "SELECT p, n, last, different FROM counted ORDER BY p").await?, expected);
        let read = rows_in(&client, "counted").await?;
        assert!(read < total, "it has read {read} of {total} records: it began anew");
        // The next kill has a newer checkpoint to go on from.
        epoch = checkpoint_after(&client, "counted", epoch).await?;
    }
    Ok(())
}
