//! What everything else here stands on: the broker enforces transactions, and the judges are sound.

use std::process::Command;

use rondel_tests::kafka::KafkaBroker;
use rondel_tests::{Result, python, root};
use serde_json::Value;

/// One transaction committed, one aborted, one fenced: a reader of committed records sees the first only.
#[tokio::test]
async fn real_kafka_enforces_transactions() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let said = broker.java("TransactionProof.java", &[&broker.bootstrap(), "transaction-proof"])?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "late commit of the fenced producer: refused",
            "read_committed: [committed]",
            "read_uncommitted: [committed, aborted, fenced]",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_stopped_broker_keeps_its_topics() -> Result<()> {
    let broker = KafkaBroker::start()?;
    broker.create_topic("kept", 3).await?;
    broker.stop()?;
    assert!(std::net::TcpStream::connect(broker.bootstrap()).is_err(), "nobody listens any more");
    broker.resume()?;
    let error = broker.create_topic("kept", 3).await.err().ok_or("the topic was gone")?;
    assert!(error.to_string().contains("already exists"), "{error}");
    Ok(())
}

/// The producer's own arithmetic, checked against the records that the consumer reads back.
#[tokio::test]
async fn the_judges_agree_with_each_other() -> Result<()> {
    const RECORDS: usize = 3_000;
    let broker = KafkaBroker::shared()?;
    broker.create_topic("judges", 4).await?;
    let descriptor = super::descriptor()?;
    let bootstrap = broker.bootstrap();
    let expected = python::run(
        "produce.py",
        &[
            "--bootstrap",
            &bootstrap,
            "--topic",
            "judges",
            "--descriptor",
            &descriptor.path().to_string_lossy(),
            "--records",
            &RECORDS.to_string(),
            "--partitions",
            "4",
            "--seed",
            "7",
        ],
    )?;
    let expected: Value = serde_json::from_str(&expected)?;
    let read = python::run(
        "consume.py",
        &[
            "--bootstrap",
            &bootstrap,
            "--topic",
            "judges",
            "--descriptor",
            &descriptor.path().to_string_lossy(),
            "--message",
            "rondel.tour.Booking",
            "--records",
            &(RECORDS + 4).to_string(),
            "--settle",
            "0.2",
        ],
    )?;
    let mut bookings = 0;
    let mut meters = 0;
    let mut fares = 0.0;
    let mut with_driver = 0;
    let mut newest = [i64::MIN; 4];
    let mut disordered = 0;
    for line in read.lines() {
        let record: Value = serde_json::from_str(line)?;
        let value = &record["value"];
        if value["order_number"].as_str().is_some_and(|order| order.starts_with("closing")) {
            continue;
        }
        bookings += 1;
        meters += value["distance_meters"].as_i64().ok_or("no distance")?;
        fares += value["fare"].as_f64().ok_or("no fare")?;
        with_driver += i64::from(!value["driver_id"].is_null());
        let partition = record["partition"].as_u64().ok_or("no partition")? as usize;
        let time = value["event_timestamp"].as_i64().ok_or("no time")?;
        disordered += i64::from(time < newest[partition]);
        newest[partition] = newest[partition].max(time);
        assert!(time > newest[partition] - 10_000_000, "out of order by more than the bound");
    }
    let sum = |column: usize| -> f64 {
        expected["tumble"].as_array().into_iter().flatten().filter_map(|row| row[column].as_f64()).sum()
    };
    assert_eq!(bookings, RECORDS);
    assert!(disordered > 300, "only {disordered} records are out of order");
    assert_eq!((sum(4), sum(5), sum(6), sum(7)), (RECORDS as f64, with_driver as f64, fares, meters as f64));
    Ok(())
}

/// A runner that is killed leaves nothing behind: the broker and its data end with its script's standard input.
#[test]
fn a_broker_ends_with_its_parent() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ports = [rondel_tests::free_port()?.to_string(), rondel_tests::free_port()?.to_string()];
    let output = Command::new("bash")
        .arg("-c")
        .arg("(until grep -q . \"$1\" 2>/dev/null; do sleep 0.1; done) | bash \"$0\" serve \"$2\" \"$3\" \"$4\" | tee \"$1\"")
        .arg(root().join("tests/components/kafka/broker.sh"))
        .arg(folder.path().join("ready"))
        .arg(folder.path().join("data"))
        .args(&ports)
        .output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ready");
    assert!(std::net::TcpStream::connect(("127.0.0.1", ports[0].parse::<u16>()?)).is_err());
    assert!(!folder.path().join("data").exists());
    Ok(())
}
