//! Jobs that come to their end: what they wrote last is seen as well.

use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{job_column, rows_until};

use super::{PATIENCE, server, shown};

/// A bounded stream, into a topic at once and through a view; the jobs are finished when readers of committed records have
/// all rows, and a server that is killed afterwards writes none again.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_has_committed_its_last_transaction() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let (bootstrap, bids) = (broker.bootstrap(), 4_600);
    for topic in ["finished-all", "finished-dear"] {
        broker.create_topic(topic, 2).await?;
    }
    let mut server = server(2).await?;
    let client = server.connect().await?;
    let with =
        |topic: &str| format!("connector = 'kafka', brokers = '{bootstrap}', topic = '{topic}', format = 'json'");
    client
        .batch_execute(&format!(
            "CREATE STREAM bid WITH (connector = 'nexmark', table = 'bid', events = '5000');
             CREATE SINK all_bids WITH ({}) AS SELECT auction, price FROM bid;
             CREATE MATERIALIZED VIEW dear AS SELECT auction, price FROM bid WHERE price > 0;
             CREATE SINK of_view WITH ({}) AS SELECT auction, price FROM dear;
             CREATE STREAM all_seen (auction BIGINT) WITH ({});
             CREATE STREAM dear_seen (auction BIGINT) WITH ({})",
            with("finished-all"),
            with("finished-dear"),
            with("finished-all"),
            with("finished-dear"),
        ))
        .await?;
    drop(client);
    for workers in [2, 1, 3] {
        let client = server.connect().await?;
        let is_finished = |jobs: &[Vec<Option<String>>]| {
            jobs.iter().filter(|job| job.iter().flatten().any(|cell| cell == "FINISHED")).count() == 3
        };
        rows_until(&client, "SHOW JOBS", PATIENCE, is_finished).await?;
        for seen in ["all_seen", "dear_seen"] {
            assert_eq!(shown(&client, &format!("SELECT count(*) FROM {seen}")).await?, [bids.to_string()], "{seen}");
        }
        assert_eq!(job_column(&client, "all_bids", "error").await?, None);
        drop(client);
        server.kill_and_restart_with(workers).await?;
    }
    Ok(())
}
