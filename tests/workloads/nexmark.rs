//! Nexmark's 23 queries: over the connector's streams, and over tables whose rows change.

use std::collections::BTreeMap;

use rondel_engine::job::JobState;
use rondel_tests::Result;

use super::compared::{Compared, query_of};
use super::times_larger;

/// Events of all three tables.
const EVENTS: i64 = 5_000;
/// How many events `streams.sql` has.
const EVENTS_IN_FILE: &str = "events = '50000'";

const EMIT: &str = "\nEMIT AFTER WATERMARK";

fn queries() -> Result<BTreeMap<String, String>> {
    (0..=22).map(|number| Ok((format!("q{number}"), query_of(&format!("nexmark/q{number}.sql"))?))).collect()
}

fn events() -> String {
    format!("events = '{}'", EVENTS * times_larger())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_over_the_streams_is_its_batch_answer() -> Result<()> {
    let bids = (EVENTS * times_larger() / 50 * 46).unsigned_abs();
    for workers in [1, 3] {
        let mut compared = Compared::new(workers)?;
        compared.run_file("nexmark/streams.sql", &[(EVENTS_IN_FILE, &events())]).await?;
        compared.run_file("nexmark/side-input.sql", &[]).await?;
        compared.watch(queries()?).await?;
        // q13 also reads a table, which never ends.
        let ended = |job: &rondel_engine::job::JobView| {
            job.state == JobState::Finished || (job.name == "view_q13" && job.rows_in == bids + 10_000)
        };
        compared.wait_for("all events are read", ended).await?;
        let rows = compared.check("all events are read").await?;
        println!("Nexmark rows of each view on {workers} workers: {rows:?}");
        let empty: Vec<&String> = rows.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name).collect();
        assert!(empty.is_empty(), "without an answer, nothing is compared: {empty:?}");
        let late: u64 = compared.engine().jobs().iter().map(|job| job.late_rows).sum();
        assert_eq!(late, 0, "the watermark waits as long as the disorder");
        compared
            .run(
                "UPDATE side_input SET value = 'another' WHERE key % 10 = 3; DELETE FROM side_input WHERE key % 10 = 4",
            )
            .await?;
        compared.check("the side input has changed").await?;
        compared.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_over_tables_follows_updates_and_deletes() -> Result<()> {
    let mut compared = Compared::new(2)?;
    let made = [
        ("STREAM person", "STREAM made_person"),
        ("STREAM auction", "STREAM made_auction"),
        ("STREAM bid", "STREAM made_bid"),
    ];
    let events = events();
    compared.run_file("nexmark/streams.sql", &[&[(EVENTS_IN_FILE, events.as_str())][..], &made[..]].concat()).await?;
    compared.run_file("nexmark/side-input.sql", &[]).await?;
    compared
        .run(
            "CREATE TABLE person (id BIGINT PRIMARY KEY, name TEXT, email_address TEXT, credit_card TEXT, city TEXT,
               state TEXT, date_time TIMESTAMP, extra TEXT);
             CREATE TABLE auction (id BIGINT PRIMARY KEY, item_name TEXT, description TEXT, initial_bid BIGINT,
               reserve BIGINT, date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT);
             CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT,
               date_time TIMESTAMP, extra TEXT);",
        )
        .await?;
    let half = |half: &str| {
        format!(
            "INSERT INTO person SELECT * FROM made_person WHERE id % 2 {half};
             INSERT INTO auction SELECT * FROM made_auction WHERE id % 2 {half};
             INSERT INTO bid SELECT * FROM made_bid WHERE price % 2 {half}"
        )
    };
    compared.run(&half("= 0")).await?;
    // Rows of tables may always be changed: what they answer is never final.
    let queries = queries()?.into_iter().map(|(name, query)| (name, query.trim_end_matches(EMIT).to_owned())).collect();
    compared.watch(queries).await?;
    compared.check("created on half of the rows").await?;
    compared.run(&half("<> 0")).await?;
    compared.check("all rows inserted").await?;
    for change in [
        "UPDATE bid SET price = price * 2, date_time = date_time + INTERVAL '3' SECOND WHERE bidder % 10 = 3",
        "UPDATE auction SET category = 10, expires = expires + INTERVAL '5' SECOND WHERE id % 10 = 6",
        "UPDATE person SET state = 'OR', date_time = date_time - INTERVAL '10' SECOND WHERE id % 10 = 7",
        "UPDATE side_input SET value = 'another' WHERE key % 10 = 3",
        "DELETE FROM bid WHERE bidder % 10 = 1; DELETE FROM auction WHERE id % 10 = 0; DELETE FROM person WHERE id % 10 = 0",
        "DELETE FROM bid; DELETE FROM auction; DELETE FROM person",
    ] {
        compared.run(change).await.map_err(|error| format!("{change}: {error}"))?;
        compared.check(change).await?;
    }
    compared.close().await
}
