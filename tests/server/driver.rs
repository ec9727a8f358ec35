//! A driver: tokio-postgres, which prepares everything and asks for binary values.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{Server, wait_for};
use rondel_server::pg::Limits;

async fn connect(server: &Server) -> Client {
    connect_as(server, "ann").await.unwrap()
}

async fn connect_as(server: &Server, user: &str) -> Result<Client, tokio_postgres::Error> {
    let settings = format!("host=127.0.0.1 port={} user={user} dbname=rondel", server.address.port());
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |code| code.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_takes_typed_parameters() {
    let server = Server::start();
    let client = connect(&server).await;
    let statement = client.prepare("SELECT id, name FROM cities WHERE id >= $1 ORDER BY id").await.unwrap();
    assert_eq!(statement.params(), [tokio_postgres::types::Type::INT8]);
    for from in [1_i64, 2] {
        let rows = client.query(&statement, &[&from]).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids, (from..=3).collect::<Vec<_>>());
    }
    let row = client.query_one("SELECT name FROM cities WHERE id = $1", &[&2_i64]).await.unwrap();
    assert_eq!(row.get::<_, Option<String>>(0), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_subscription_streams_in_the_extended_protocol() {
    let server = Server::start();
    let client = connect(&server).await;
    for view in ["ticks", "flood"] {
        let none: [&i64; 0] = [];
        let rows = client.query_raw(&format!("SUBSCRIBE TO {view}"), none).await.unwrap();
        let mut rows = std::pin::pin!(rows);
        let token = client.cancel_token();
        for expected in [(1_i64, 1_i64), (1, -1)] {
            let row = tokio::time::timeout(Duration::from_secs(30), rows.next()).await.unwrap().unwrap().unwrap();
            assert_eq!((row.get::<_, i64>("epoch"), row.get::<_, i64>("weight")), expected);
        }
        token.cancel_query(NoTls).await.unwrap();
        let error = rows.try_for_each(|_| std::future::ready(Ok(()))).await.unwrap_err();
        assert_eq!(code(&error), "57014");
    }
    // The connection is as good as new.
    assert_eq!(client.query_one("SELECT 1::bigint", &[]).await.unwrap().get::<_, i64>(0), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_portions() {
    let server = Server::start();
    let mut client = connect(&server).await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT id FROM cities ORDER BY id", &[]).await.unwrap();
    let mut portions = Vec::new();
    for _ in 0..3 {
        portions.push(transaction.query_portal(&portal, 2).await.unwrap().len());
    }
    // Ended: nothing more.
    assert!(portions == [2, 1, 0] || portions[..2] == [2, 1], "{portions:?}");
    let portal = transaction.bind("SUBSCRIBE TO ticks", &[]).await.unwrap();
    // A portion is given back when nothing more is ready: two rows, and not a hundred.
    let first = transaction.query_portal(&portal, 100).await.unwrap();
    assert!((1..100).contains(&first.len()), "{}", first.len());
    let second = transaction.query_portal(&portal, 1).await.unwrap();
    assert!(second[0].get::<_, i64>("value") > first.last().unwrap().get("value"));
    assert_eq!(server.engine.running_subscriptions(), 1);
    transaction.commit().await.unwrap();
    drop(portal);
    wait_for("the subscription ends", || server.engine.running_subscriptions() == 0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_waits_for_its_end() {
    let server = Server::start();
    let client = connect(&server).await;
    client.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let error = client.batch_execute("SELECT nothing FROM cities; SELECT 1").await.unwrap_err();
    assert_eq!(code(&error), "42703");
    let error = client.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(code(&error), "25P02");
    let tags = client.simple_query("COMMIT").await.unwrap();
    assert!(matches!(tags.as_slice(), [SimpleQueryMessage::CommandComplete(_)]));
    client.batch_execute("SELECT 1").await.unwrap();
    client.batch_execute("BEGIN; SELECT 1; ROLLBACK").await.unwrap();
    // The same in the extended protocol: an error is answered once, and the next statement works.
    assert_eq!(code(&client.query("SELECT nothing FROM cities", &[]).await.unwrap_err()), "42703");
    assert_eq!(code(&client.query("SELEC", &[]).await.unwrap_err()), "42601");
    assert_eq!(client.query("SELECT id FROM cities", &[]).await.unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_variables_are_set_shown_and_reset() {
    let server = Server::start();
    let client = connect(&server).await;
    let show = async |name: &str| {
        let rows = client.query(&format!("SHOW {name}"), &[]).await?;
        Ok::<String, tokio_postgres::Error>(rows[0].get(0))
    };
    assert!(show("server_version").await.unwrap().starts_with("15.0 (Rondel "));
    client
        .batch_execute("SET application_name TO 'x'; SET timezone = 'Asia/Tokyo'; SET dialect = flink")
        .await
        .unwrap();
    assert_eq!(show("application_name").await.unwrap(), "x");
    assert_eq!(show("TimeZone").await.unwrap(), "Asia/Tokyo");
    assert_eq!(show("dialect").await.unwrap(), "flink");
    client.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(show("timezone").await.unwrap(), "UTC");
    assert_eq!(show("dialect").await.unwrap(), "postgres");
    assert_eq!(code(&client.batch_execute("SET no_such = 1").await.unwrap_err()), "42P01");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told_and_hold() {
    let server = Server::start_with(Limits { connections_max: 2, message_bytes_max: 10_000 });
    let first = connect(&server).await;
    let _second = connect(&server).await;
    assert_eq!(code(&connect_as(&server, "ann").await.err().unwrap()), "53300");
    let error = first.batch_execute(&format!("SELECT '{}'", "x".repeat(20_000))).await.unwrap_err();
    assert_eq!(code(&error), "54000");
    // That ended the first connection, so there is room again.
    let error = loop {
        match connect_as(&server, "nobody").await.err().unwrap() {
            error if code(&error) == "53300" => tokio::time::sleep(Duration::from_millis(5)).await,
            error => break error,
        }
    };
    assert!(error.as_db_error().unwrap().message().contains("not let in"));
    connect(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_messages_end_the_connection_only() {
    let server = Server::start();
    let start = b"\0\0\0\x12\0\x03\0\0user\0ann\0\0\0";
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 64],
        vec![0; 64],
        // After a good start: an unknown message, a length below four, counts that lead beyond the message.
        [start.as_slice(), b"!\0\0\0\x04"].concat(),
        [start.as_slice(), b"Q\0\0\0\x01"].concat(),
        [start.as_slice(), b"B\0\0\0\x0a\0\0\xff\xff\0\0"].concat(),
        [start.as_slice(), b"D\0\0\0\x04\0"].concat(),
    ] {
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        socket.write_all(&garbage).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(30), read).await.expect("the connection is closed");
    }
    let client = connect(&server).await;
    assert_eq!(client.query("SELECT id FROM cities", &[]).await.unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_tells_clients_and_ends_subscriptions() {
    let server = Server::start();
    let idle = connect(&server).await;
    let busy = connect(&server).await;
    let none: [&i64; 0] = [];
    let rows = busy.query_raw("SUBSCRIBE TO silence", none).await.unwrap();
    let waiting = tokio::spawn(async move { std::pin::pin!(rows).next().await });
    wait_for("the subscription begins", || server.engine.running_subscriptions() == 1).await;
    server.stop().await;
    let error = waiting.await.unwrap().unwrap().unwrap_err();
    assert_eq!(code(&error), "57P01");
    assert!(idle.query("SELECT 1", &[]).await.is_err());
}
