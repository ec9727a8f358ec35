//! What a statement says in confidence is shown to nobody: not by a list, not by a system table, not in a log, not in errors.

use prost_reflect::Value;
use rondel_tests::Result;
use rondel_tests::http::HttpServer;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::{RondelServer, rows};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{booking, refused, set, shown, until};

/// Stands in every password, header and token.
const SECRET: &str = "Hush0815";

/// All that a query answers, or the words of its error.
async fn answer(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(messages) => {
            let cells = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some((0..row.len()).filter_map(|n| row.get(n)).collect::<Vec<_>>()),
                _ => None,
            });
            cells.flatten().collect::<Vec<_>>().join("\n")
        }
        Err(error) => error.as_db_error().map_or_else(|| error.to_string(), |said| format!("{said:?}")),
    }
}

fn check(what: &str, text: &str) {
    let at = text.find(SECRET).map(|at| text[..at].chars().rev().take(200).collect::<Vec<_>>());
    assert!(
        at.is_none(),
        "{what} shows it behind: {:?}",
        at.map(|before| before.into_iter().rev().collect::<String>())
    );
}

async fn check_all(client: &Client, server: &RondelServer) -> Result<()> {
    for sql in [
        "SHOW STREAMS",
        "SHOW SINKS",
        "SHOW JOBS",
        "SHOW VIEWS",
        "SHOW TABLES",
        "SHOW ALL",
        "SHOW CHECKPOINTS",
        "SHOW SCHEMA VERSIONS",
        "DESCRIBE s",
        "DESCRIBE STREAM s",
        "REFRESH STREAM s",
        "SHOW CREATE STREAM s",
        "EXPLAIN SELECT * FROM s",
        "EXPLAIN CREATE SINK x WITH (connector = 'blackhole') AS SELECT * FROM s",
    ] {
        check(sql, &answer(client, sql).await);
    }
    let tables = rows(client, "SELECT table_schema, table_name FROM information_schema.tables").await?;
    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        let [Some(schema), Some(name)] = &table[..] else { continue };
        if schema != "public" {
            let sql = format!("SELECT * FROM {schema}.\"{name}\"");
            check(&sql, &answer(client, &sql).await);
        }
    }
    check("pg_get_viewdef", &answer(client, "SELECT pg_get_viewdef(oid) FROM pg_class").await);
    for path in ["/metrics", "/healthz", "/readyz"] {
        let address = ([127, 0, 0, 1], server.http_port()).into();
        check(path, &crate::server::doors::get(address, path).await.1);
    }
    check("the log", &server.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_secret_is_shown_nowhere() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("secrets", 1).await?;
    let fields = "int64 id = 1; string zone = 2;";
    let bytes = set(fields)?;
    broker.produce("secrets", 0, &[booking(&bytes, &[("id", Value::I64(1))])?])?;
    let answered = bytes.clone();
    let files = HttpServer::start(move |request| match request.header("authorization") {
        Some(_) => (200, answered.clone()),
        None => (401, b"who are you?".to_vec()),
    })?;
    let mut server =
        RondelServer::start_with(1, &["--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"]).await?;
    let client = server.connect().await?;
    let kafka = format!(
        "connector = 'kafka', brokers = '{}', topic = 'secrets', \"kafka.ssl.key.password\" = '{SECRET}'",
        broker.bootstrap()
    );
    let url =
        format!("{}/acme.desc?token={SECRET}", files.address().replace("http://", &format!("http://me:{SECRET}@")));
    let schema = format!("message = 'acme.Booking', descriptor = '{url}', registry_retries = '0'");
    client
        .batch_execute(&format!(
            "CREATE STREAM s WITH ({kafka}, {schema}, registry_headers = 'x-token: {SECRET}');
             CREATE MATERIALIZED VIEW v AS SELECT id FROM s;
             CREATE SINK out WITH ({kafka}, {schema}, registry_user = 'me', registry_password = '{SECRET}',
                 delivery = 'at_least_once') AS SELECT id FROM v WHERE id < 0;"
        ))
        .await?;
    until(&client, "SELECT * FROM v", &["1"]).await?;
    check_all(&client, &server).await?;
    assert!(shown(&client, "SHOW SCHEMA VERSIONS").await?[0].contains("/acme.desc?…"));

    // Mistakes around it, as people make them.
    for options in [
        format!("{kafka}, {schema}, registry_pasword = '{SECRET}'"),
        format!("{kafka}, {schema}, registry_headers = '{SECRET}'"),
        format!("{kafka}, {schema}, registry_password = '{SECRET}'"),
        format!("{kafka}, message = 'acme.Booking', descriptor = 'file:a.desc, {url}'"),
        format!("{kafka}, message = 'acme.Booking', registry = 'confluent', registry_url = 'ftp://me:{SECRET}@x'"),
        format!("{kafka}, message = 'acme.Nothing', descriptor = '{url}', registry_headers = 'a: {SECRET}'"),
        format!("connector = 'kafka', brokers = 'b', topic = 't', \"kafka.sasl.pasword\" = '{SECRET}', {schema}"),
    ] {
        check(&options.replace(SECRET, "…"), &refused(&client, &format!("CREATE STREAM x WITH ({options})")).await?);
    }
    // With the server of the schema away, over a restart, and with what it says changed.
    files.stop();
    check("a refresh", &refused(&client, "REFRESH STREAM s").await?);
    server.kill_and_restart().await?;
    let client = server.connect().await?;
    until(&client, "SELECT * FROM v", &["1"]).await?;
    check_all(&client, &server).await
}
