//! What is wrong is said in a clear sentence, and the server stays up.

use std::time::Duration;

use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, job_column, rows, rows_until};
use rondel_tests::{Result, free_port, python};
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use super::booking;

const PATIENCE: Duration = Duration::from_secs(30);

/// A statement's error, as the server says it.
async fn error_of(client: &Client, statement: &str) -> Result<DbError> {
    match client.simple_query(statement).await {
        Ok(_) => Err(format!("this should have failed: {statement}").into()),
        Err(error) => Ok(error.as_db_error().ok_or_else(|| format!("no answer to {statement}: {error}"))?.clone()),
    }
}

/// Checks that an error has a SQLSTATE and says all of `words`, in its sentence or its hint.
#[track_caller]
fn says(error: &DbError, state: &str, words: &[&str]) {
    let said = format!("{}\n{}", error.message(), error.hint().unwrap_or(""));
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {error:?}");
    }
    assert_eq!(error.code().code(), state, "{error:?}");
    assert!(!error.message().contains('\n') && error.message().len() < 300, "not one sentence: {error:?}");
}

/// The row of SHOW JOBS for a job, as one text.
fn job(jobs: &[Vec<Option<String>>], name: &str) -> Option<String> {
    let row = jobs.iter().find(|row| row.iter().flatten().any(|text| text == name))?;
    Some(row.iter().map(|text| text.as_deref().unwrap_or("")).collect::<Vec<_>>().join(" | "))
}

/// Waits until SHOW JOBS says all of `words` of a job.
async fn job_says(client: &Client, name: &str, words: &[&str]) -> Result<String> {
    let said =
        |jobs: &[Vec<Option<String>>]| job(jobs, name).is_some_and(|text| words.iter().all(|word| text.contains(word)));
    let jobs = rows_until(client, "SHOW JOBS", PATIENCE, said).await?;
    Ok(job(&jobs, name).unwrap_or_default())
}

#[tokio::test]
async fn wrong_definitions_are_explained() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("faults-definitions", 1).await?;
    let bootstrap = broker.bootstrap();
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let options = |message: &str, descriptor: &str| {
        format!(
            "WITH (connector = 'kafka', brokers = '{bootstrap}', topic = 'faults-definitions', format = 'protobuf',
                   message = '{message}', descriptor = '{descriptor}')"
        )
    };
    let tour = "file:sql/tour/booking.proto";

    let error = error_of(&client, &format!("CREATE STREAM s {}", options("rondel.tour.Bocking", tour))).await?;
    says(&error, "42P17", &["rondel.tour.Bocking", "rondel.tour.Booking"]);

    let missing = options("rondel.tour.Booking", "file:sql/tour/nowhere.proto");
    let error = error_of(&client, &format!("CREATE STREAM s {missing}")).await?;
    says(&error, "42P17", &["sql/tour/nowhere.proto", "does not exist"]);

    let good = options("rondel.tour.Booking", tour);
    let text = format!("CREATE STREAM s (WATERMARK FOR order_number AS order_number) {good}");
    says(&error_of(&client, &text).await?, "42804", &["order_number", "TIMESTAMP"]);

    let unknown = format!("CREATE STREAM s (WATERMARK FOR event_tim AS event_tim) {good}");
    says(&error_of(&client, &unknown).await?, "42703", &["event_tim"]);

    client.batch_execute(&format!("CREATE STREAM s {good}")).await?;
    let error = error_of(&client, "SELECT no_such_column FROM s").await?;
    says(&error, "42703", &["no_such_column"]);
    let error = error_of(&client, "CREATE MATERIALIZED VIEW v AS SELECT fare FROM s LIMIT 3").await?;
    says(&error, "0A000", &["LIMIT without ORDER BY"]);

    // Nothing of what failed is left behind, and the server answers.
    assert_eq!(rows(&client, "SHOW JOBS").await?, Vec::<Vec<Option<String>>>::new());
    client.batch_execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s").await?;
    rows_until(&client, "SELECT n FROM v", PATIENCE, |rows| rows == [[Some("0".to_owned())]]).await?;
    Ok(())
}

/// Two good records around one that is cut off.
async fn with_a_cut_record(topic: &str) -> Result<Vec<u8>> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic(topic, 1).await?;
    let mut cut = booking("cut", 2)?;
    cut.truncate(cut.len() - 3);
    broker.produce(topic, 0, &[booking("first", 1)?, cut.clone(), booking("last", 3)?])?;
    Ok(cut)
}

#[tokio::test]
async fn a_cut_record_fails_its_job_only() -> Result<()> {
    with_a_cut_record("faults-fail").await?;
    KafkaBroker::shared()?.create_topic("faults-neighbour", 1).await?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    let descriptor = super::descriptor()?;
    let bootstrap = KafkaBroker::shared()?.bootstrap();
    for topic in ["faults-fail", "faults-neighbour"] {
        let name = topic.replace('-', "_");
        client.batch_execute(&super::create_bookings(&name, &bootstrap, topic, descriptor.path(), "")).await?;
        let view = format!("CREATE MATERIALIZED VIEW {name}_orders AS SELECT order_number FROM {name}");
        client.batch_execute(&view).await?;
    }
    job_says(&client, "faults_fail_orders", &["FAILED", "faults-fail", "partition 0", "offset 1"]).await?;
    // Nothing of the epoch in which it failed is shown: the last record stands behind the one that is cut.
    let shown = rows(&client, "SELECT * FROM faults_fail_orders").await.unwrap_or_default();
    assert!(!shown.iter().flatten().any(|order| order.as_deref() == Some("last")), "{shown:?}");
    // The neighbour goes on.
    KafkaBroker::shared()?.produce("faults-neighbour", 0, &[booking("there", 1)?])?;
    let orders = "SELECT order_number FROM faults_neighbour_orders";
    rows_until(&client, orders, PATIENCE, |rows| rows == [[Some("there".to_owned())]]).await?;
    // A bounded query meets the same record.
    let error = error_of(&client, "SELECT count(order_number) FROM faults_fail").await?;
    assert!(error.message().contains("offset 1"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_cut_record_is_skipped_and_counted() -> Result<()> {
    with_a_cut_record("faults-skip").await?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    let descriptor = super::descriptor()?;
    let bootstrap = KafkaBroker::shared()?.bootstrap();
    let more = ", on_error = 'skip'";
    client.batch_execute(&super::create_bookings("s", &bootstrap, "faults-skip", descriptor.path(), more)).await?;
    client.batch_execute("CREATE MATERIALIZED VIEW orders AS SELECT order_number FROM s").await?;
    let both = [[Some("first".to_owned())], [Some("last".to_owned())]];
    rows_until(&client, "SELECT * FROM orders ORDER BY 1", PATIENCE, |rows| rows == both).await?;
    job_says(&client, "orders", &["RUNNING"]).await?;
    assert_eq!(job_column(&client, "orders", "skipped_rows").await?.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn a_cut_record_becomes_a_dead_letter() -> Result<()> {
    let cut = with_a_cut_record("faults-letters").await?;
    let broker = KafkaBroker::shared()?;
    broker.create_topic("faults-dead", 1).await?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    let descriptor = super::descriptor()?;
    let more = ", on_error = 'dead_letter', dead_letter_topic = 'faults-dead'";
    let stream = super::create_bookings("s", &broker.bootstrap(), "faults-letters", descriptor.path(), more);
    client.batch_execute(&stream).await?;
    client.batch_execute("CREATE MATERIALIZED VIEW orders AS SELECT order_number FROM s").await?;
    let both = [[Some("first".to_owned())], [Some("last".to_owned())]];
    rows_until(&client, "SELECT * FROM orders ORDER BY 1", PATIENCE, |rows| rows == both).await?;
    let letters = python::run(
        "consume.py",
        &["--bootstrap", &broker.bootstrap(), "--topic", "faults-dead", "--records", "1", "--settle", "1"],
    )?;
    let letter: serde_json::Value = serde_json::from_str(letters.trim())?;
    let bytes: String = cut.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(letter["value"], bytes.as_str());
    assert_eq!(letter["headers"]["rondel.topic"], "faults-letters");
    assert_eq!(letter["headers"]["rondel.partition"], "0");
    assert_eq!(letter["headers"]["rondel.offset"], "1");
    assert_eq!(job_column(&client, "orders", "skipped_rows").await?.as_deref(), Some("1"));
    assert!(letter["headers"]["rondel.error"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter}");
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_down_is_waited_for() -> Result<()> {
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let descriptor = super::descriptor()?;
    let address = format!("127.0.0.1:{}", free_port()?);
    client.batch_execute(&super::create_bookings("s", &address, "anything", descriptor.path(), "")).await?;
    client.batch_execute("CREATE MATERIALIZED VIEW orders AS SELECT order_number FROM s").await?;
    job_says(&client, "orders", &["WAITING", &address]).await?;
    assert_eq!(rows(&client, "SELECT 1").await?.len(), 1);
    // A job that waits can be dropped.
    client.batch_execute("DROP MATERIALIZED VIEW orders").await?;
    assert!(rows(&client, "SHOW JOBS").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_waited_for() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let descriptor = super::descriptor()?;
    let more = ", discovery_interval = '200ms'";
    let stream = super::create_bookings("s", &broker.bootstrap(), "faults-later", descriptor.path(), more);
    client.batch_execute(&stream).await?;
    client.batch_execute("CREATE MATERIALIZED VIEW orders AS SELECT order_number FROM s").await?;
    job_says(&client, "orders", &["WAITING", "faults-later", "does not exist"]).await?;
    broker.create_topic("faults-later", 2).await?;
    broker.produce("faults-later", 1, &[booking("found", 1)?])?;
    let found = [[Some("found".to_owned())]];
    rows_until(&client, "SELECT * FROM orders", PATIENCE, |rows| rows == found).await?;
    job_says(&client, "orders", &["RUNNING"]).await?;
    Ok(())
}

/// A broker that goes away in the middle: the job says so, goes on when it is back, and no record is lost or doubled.
#[tokio::test]
async fn a_broker_that_goes_away_costs_no_row() -> Result<()> {
    let broker = KafkaBroker::start()?;
    broker.create_topic("in", 2).await?;
    broker.create_topic("out", 1).await?;
    let server = RondelServer::start_with(2, &["--checkpoint-interval", "500ms"]).await?;
    let client = server.connect().await?;
    let descriptor = super::descriptor()?;
    let path = descriptor.path().to_string_lossy().into_owned();
    client.batch_execute(&super::create_bookings("s", &broker.bootstrap(), "in", descriptor.path(), "")).await?;
    let sink = format!(
        "CREATE SINK orders WITH (connector = 'kafka', brokers = '{}', topic = 'out', format = 'protobuf',
             message = 'rondel.tour.Booking', descriptor = 'file:{path}') AS SELECT order_number FROM s",
        broker.bootstrap()
    );
    client.batch_execute(&sink).await?;
    client.batch_execute("CREATE MATERIALIZED VIEW counted AS SELECT count(order_number) AS n FROM s").await?;
    let batch = |round: usize| {
        (0..500).map(move |index| booking(&format!("{round}-{index}"), index)).collect::<Result<Vec<_>>>()
    };
    for round in 0..3 {
        broker.produce("in", (round % 2) as i32, &batch(round)?)?;
        let all = [[Some(((round + 1) * 500).to_string())]];
        rows_until(&client, "SELECT n FROM counted", PATIENCE, |rows| rows == all).await?;
        broker.stop()?;
        job_says(&client, "counted", &["WAITING", &broker.bootstrap()]).await?;
        broker.resume()?;
    }
    let records = python::run(
        "consume.py",
        &[
            "--bootstrap",
            &broker.bootstrap(),
            "--topic",
            "out",
            "--descriptor",
            &path,
            "--message",
            "rondel.tour.Booking",
            "--records",
            "1500",
            "--settle",
            "3",
        ],
    )?;
    let mut orders: Vec<String> = Vec::new();
    for line in records.lines() {
        let record: serde_json::Value = serde_json::from_str(line)?;
        orders.push(record["value"]["order_number"].as_str().ok_or("no order number")?.to_owned());
    }
    orders.sort_unstable();
    let before = orders.len();
    orders.dedup();
    assert_eq!((before, orders.len()), (1500, 1500));
    Ok(())
}
