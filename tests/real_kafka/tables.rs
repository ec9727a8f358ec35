//! Topics that are tables: upserts with tombstones, the changes that Debezium writes, and records in other formats.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, rows};
use tokio_postgres::Client;

const PATIENCE: Duration = Duration::from_secs(90);

/// A record's key and value.
type Record = (String, Option<String>);

fn produce(broker: &KafkaBroker, topic: &str, records: &[Record]) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create()?;
    for (key, value) in records {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

/// Asks until the answer is as expected.
async fn until(client: &Client, query: &str, expected: &[Vec<Option<String>>]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = rows(client, query).await?;
        if found == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            let jobs = rows(client, "SHOW JOBS").await?;
            return Err(format!("{query}\nanswers {found:?},\nnot     {expected:?}\n{jobs:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn texts(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

/// Customers as upserts, orders as Debezium's changes; kept beside as plain maps.
#[derive(Default)]
struct Tables {
    customers: BTreeMap<i64, String>,
    orders: BTreeMap<i64, (i64, i64)>,
}

impl Tables {
    fn change(&mut self, rng: &mut SmallRng, customers: &mut Vec<Record>, orders: &mut Vec<Record>) {
        let id = rng.random_range(0..40);
        if rng.random_bool(0.3) {
            let value = rng.random_bool(0.7).then(|| format!("name-{}", rng.random_range(0..5)));
            customers.push((id.to_string(), value.as_ref().map(|name| format!(r#"{{"id":{id},"name":"{name}"}}"#))));
            match value {
                Some(name) => self.customers.insert(id, name),
                None => self.customers.remove(&id),
            };
            return;
        }
        let key = format!(r#"{{"id":{id}}}"#);
        let row = |(customer, amount): &(i64, i64)| format!(r#"{{"id":{id},"customer":{customer},"amount":{amount}}}"#);
        let before = self.orders.get(&id).map(row);
        let shown = before.clone().unwrap_or_else(|| "null".to_owned());
        if before.is_some() && rng.random_bool(0.3) {
            // Only the key of what is gone, as PostgreSQL says by default; then the tombstone.
            let gone = format!(r#"{{"id":{id},"customer":null,"amount":null}}"#);
            orders.push((key.clone(), Some(format!(r#"{{"before":{gone},"after":null,"op":"d","ts_ms":1}}"#))));
            orders.push((key, None));
            self.orders.remove(&id);
            return;
        }
        let after = (rng.random_range(0..40), rng.random_range(1..100));
        let operation = if before.is_some() { "u" } else { "c" };
        let value = format!(r#"{{"before":{shown},"after":{},"op":"{operation}"}}"#, row(&after));
        // As a connector with schemas on writes it.
        let value = if rng.random_bool(0.5) { format!(r#"{{"schema":{{}},"payload":{value}}}"#) } else { value };
        orders.push((key, Some(value)));
        self.orders.insert(id, after);
    }

    /// What the join has to say: orders and amounts by customer's name.
    fn joined(&self) -> Vec<Vec<Option<String>>> {
        let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for (customer, amount) in self.orders.values() {
            if let Some(name) = self.customers.get(customer) {
                let total = totals.entry(name).or_default();
                *total = (total.0 + 1, total.1 + amount);
            }
        }
        totals.iter().map(|(name, (n, sum))| texts(&[name, &n.to_string(), &sum.to_string()])).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_topic_and_a_debezium_topic_are_joined() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let brokers = broker.bootstrap();
    broker.create_topic("tables-customers", 3).await?;
    broker.create_topic("tables-orders", 2).await?;
    let mut server =
        RondelServer::start_with(3, &["--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"]).await?;
    let mut client = server.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE STREAM customers (id BIGINT, name TEXT) WITH (connector = 'kafka', brokers = '{brokers}',
                 topic = 'tables-customers', format = 'json', changelog = 'upsert', key = 'id');
             CREATE STREAM orders (id BIGINT, customer BIGINT, amount BIGINT) WITH (connector = 'kafka',
                 brokers = '{brokers}', topic = 'tables-orders', format = 'json', changelog = 'debezium', key = 'id');
             CREATE MATERIALIZED VIEW totals AS SELECT c.name, count(*) AS n, sum(o.amount) AS amount
                 FROM orders o JOIN customers c ON o.customer = c.id GROUP BY c.name;"
        ))
        .await?;
    let mut rng = SmallRng::seed_from_u64(5);
    let mut tables = Tables::default();
    for round in 0..3 {
        let (mut customers, mut orders) = (Vec::new(), Vec::new());
        (0..400).for_each(|_| tables.change(&mut rng, &mut customers, &mut orders));
        produce(broker, "tables-customers", &customers)?;
        if round > 0 {
            // In the middle of it: half of the changes are there, and some of those are in no checkpoint.
            server.kill_and_restart_with(if round == 1 { 2 } else { 3 }).await?;
            client = server.connect().await?;
        }
        produce(broker, "tables-orders", &orders)?;
        let joined = tables.joined();
        assert!(!joined.is_empty(), "round {round}");
        let query = "SELECT name, n, amount FROM totals ORDER BY name";
        until(&client, query, &joined).await.map_err(|error| format!("round {round}: {error}\n{}", server.log()))?;
    }
    // The topics as they are now, without a job.
    let known: Vec<_> = tables.customers.iter().map(|(id, name)| texts(&[&id.to_string(), name])).collect();
    assert_eq!(rows(&client, "SELECT * FROM customers ORDER BY id").await?, known);
    let sum: i64 = tables.orders.values().map(|(_, amount)| amount).sum();
    let counted = texts(&[&tables.orders.len().to_string(), &sum.to_string()]);
    assert_eq!(rows(&client, "SELECT count(*), sum(amount) FROM orders").await?, [counted]);
    Ok(())
}

/// Each change of a result as Debezium writes it: read again it is the result, and any reader of Debezium's can follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_as_debezium_is_read_as_a_table() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let brokers = broker.bootstrap();
    broker.create_topic("tables-changes", 1).await?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    let with = format!(
        "connector = 'kafka', brokers = '{brokers}', topic = 'tables-changes', format = 'json', changelog = 'debezium', key = 'zone'"
    );
    client
        .batch_execute(&format!(
            "CREATE TABLE rides (id BIGINT PRIMARY KEY, zone TEXT, fare NUMERIC(10, 2));
             CREATE SINK changes WITH ({with}, delivery = 'at_least_once') AS SELECT zone, count(*) AS rides, sum(fare) AS fares FROM rides GROUP BY zone;
             CREATE STREAM read (zone TEXT, rides BIGINT, fares NUMERIC(20, 2)) WITH ({with});
             CREATE MATERIALIZED VIEW seen AS SELECT * FROM read;
             INSERT INTO rides VALUES (1, 'a', 1.50), (2, 'b', 5);"
        ))
        .await?;
    let query = "SELECT zone, rides, fares FROM seen ORDER BY zone";
    until(&client, query, &[texts(&["a", "1", "1.50"]), texts(&["b", "1", "5.00"])]).await?;
    client.batch_execute("UPDATE rides SET fare = 4 WHERE id = 1").await?;
    until(&client, query, &[texts(&["a", "1", "4.00"]), texts(&["b", "1", "5.00"])]).await?;
    client.batch_execute("DELETE FROM rides WHERE zone = 'b'").await?;
    until(&client, query, &[texts(&["a", "1", "4.00"])]).await?;
    broker.until_end("tables-changes", 0, 5)?;
    let records = broker.read("tables-changes", rondel_tests::kafka::Isolation::Committed)?;
    let value = |index: usize| serde_json::from_slice::<serde_json::Value>(&records[index].value);
    let (update, deletion) = (value(2)?, value(3)?);
    assert_eq!(records[2].key, br#"{"zone":"a"}"#);
    assert_eq!((update["op"].as_str(), update["before"]["fares"].as_f64()), (Some("u"), Some(1.5)));
    assert_eq!(update["after"]["fares"].as_f64(), Some(4.0));
    assert_eq!((deletion["op"].as_str(), &deletion["after"]), (Some("d"), &serde_json::Value::Null));
    assert_eq!(deletion["before"]["zone"].as_str(), Some("b"));
    assert_eq!((records[4].key.as_slice(), records[4].value.len()), (&br#"{"zone":"b"}"#[..], 0));
    for (statement, words) in [
        (format!("CREATE SINK x WITH ({}) AS SELECT * FROM rides", with.replace("'json'", "'csv'")), "written as JSON"),
        (
            format!("CREATE SINK x WITH ({}) AS SELECT * FROM rides", with.replace(", key = 'zone'", "")),
            "needs the option \"key\"",
        ),
    ] {
        let error = client.batch_execute(&statement).await.err().ok_or("it was taken")?;
        let said = error.as_db_error().map_or(String::new(), |error| error.message().to_owned());
        assert!(said.contains(words), "{said}");
    }
    Ok(())
}

/// What our own upsert sink writes is the same table when it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_as_upserts_is_read_as_a_table() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let brokers = broker.bootstrap();
    broker.create_topic("tables-written", 2).await?;
    let server = RondelServer::start_with(2, &["--checkpoint-interval", "500ms"]).await?;
    let client = server.connect().await?;
    let with = format!("connector = 'kafka', brokers = '{brokers}', topic = 'tables-written', changelog = 'upsert'");
    let json = "format = 'json', key = 'zone, day'";
    client
        .batch_execute(&format!(
            "CREATE TABLE rides (id BIGINT PRIMARY KEY, zone TEXT, day DATE, fare NUMERIC(10, 2));
             CREATE SINK written WITH ({with}, {json}) AS
                 SELECT zone, day, count(*) AS rides, sum(fare) AS fares FROM rides GROUP BY zone, day;
             CREATE STREAM read (zone TEXT, day DATE, rides BIGINT, fares NUMERIC(20, 2)) WITH ({with}, {json});
             CREATE MATERIALIZED VIEW seen AS SELECT * FROM read;
             INSERT INTO rides VALUES (1, 'a', DATE '2026-01-01', 1.50), (2, 'a', DATE '2026-01-01', 2), (3, 'b', DATE '2026-01-02', 5);"
        ))
        .await?;
    let query = "SELECT zone, day, rides, fares FROM seen ORDER BY zone, day";
    let both = [texts(&["a", "2026-01-01", "2", "3.50"]), texts(&["b", "2026-01-02", "1", "5.00"])];
    until(&client, query, &both).await?;
    client.batch_execute("DELETE FROM rides WHERE zone = 'b'; UPDATE rides SET fare = 4 WHERE id = 1;").await?;
    until(&client, query, &[texts(&["a", "2026-01-01", "2", "6.00"])]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_other_formats() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let brokers = broker.bootstrap();
    for topic in ["formats-json", "formats-csv", "formats-text"] {
        broker.create_topic(topic, 1).await?;
    }
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let with =
        |topic: &str| format!("connector = 'kafka', brokers = '{brokers}', topic = '{topic}', on_error = 'skip'");
    let value = |text: &str| ("k".to_owned(), Some(text.to_owned()));
    produce(
        broker,
        "formats-json",
        &[
            value(r#"{"id": 1, "tags": ["x", "y"], "at": "2026-01-01T00:00:00Z"}"#),
            value("no json"),
            value(r#"{"id": "two"}"#),
            value(r#"{"id": 3}"#),
        ],
    )?;
    produce(broker, "formats-csv", &[value("1|\"a|b\"|2.50"), value("2||"), value("x|y|z")])?;
    produce(broker, "formats-text", &[value("ä line"), value("")])?;
    client
        .batch_execute(&format!(
            "CREATE STREAM j (id BIGINT NOT NULL, tags TEXT[], at TIMESTAMP) WITH ({}, format = 'json');
             CREATE STREAM c (id BIGINT, name TEXT, price NUMERIC(10, 2)) WITH ({}, format = 'csv', csv_delimiter = '|');
             CREATE STREAM t WITH ({}, format = 'text');",
            with("formats-json"),
            with("formats-csv"),
            with("formats-text")
        ))
        .await?;
    let one = texts(&["1", "y", "2026-01-01 00:00:00"]);
    let three = vec![Some("3".to_owned()), None, None];
    assert_eq!(rows(&client, "SELECT id, tags[2], at FROM j ORDER BY id").await?, [one, three]);
    let two = vec![Some("2".to_owned()), None, None];
    assert_eq!(rows(&client, "SELECT * FROM c ORDER BY id").await?, [texts(&["1", "a|b", "2.50"]), two]);
    assert_eq!(rows(&client, "SELECT value FROM t ORDER BY value").await?, [texts(&[""]), texts(&["ä line"])]);
    for (statement, words) in [
        (format!("CREATE STREAM x WITH ({}, format = 'json')", with("t")), "a stream of JSON needs its columns"),
        (
            format!("CREATE STREAM x (a BIGINT) WITH ({}, format = 'json', changelog = 'upsert')", with("t")),
            "changelog = 'upsert' needs the option \"key\"",
        ),
        (
            format!("CREATE STREAM x (a BIGINT) WITH ({}, format = 'json', message = 'm')", with("t")),
            "the option \"message\" does not go with format = 'json'",
        ),
        (
            format!(
                "CREATE STREAM x (a TIMESTAMP, WATERMARK FOR a AS a) WITH ({}, format = 'json', changelog = 'upsert', key = 'a')",
                with("t")
            ),
            "it has no watermark",
        ),
    ] {
        let error = client.batch_execute(&statement).await.err().ok_or("it was taken")?;
        let said = error.as_db_error().map_or(String::new(), |error| error.message().to_owned());
        assert!(said.contains(words), "{said}");
    }
    Ok(())
}
