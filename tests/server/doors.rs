//! The other doors: HTTP, `rondel run`, and the whole server's end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rondel_engine::engine::EngineSettings;
use rondel_server::cli::{Printer, RowFormat, run_script, serve};
use rondel_server::frontend::Frontend;
use rondel_server::http::HttpServer;
use rondel_server::opening::Opening;
use rondel_server::pg::{Limits, PgServer};
use rondel_server::settings::{EngineOptions, ServerOptions};
use rondel_server::shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::memory::MemoryEngine;

pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: rondel\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    (status, response.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn http_tells_health_and_metrics() {
    let engine = Arc::new(MemoryEngine::new());
    let (trigger, shutdown) = shutdown::channel();
    let server = HttpServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&engine), shutdown).await.unwrap();
    let address = server.address().unwrap();
    let task = tokio::spawn(server.run());
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/readyz").await.0, 200);
    let (status, metrics) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    let resident = metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
    assert!(resident.parse::<f64>().unwrap() > 1e6, "{metrics}");
    assert!(metrics.contains("\nrondel_job_rows_in_total{job=\"j\"} 7\n"), "{metrics}");
    engine.close().await;
    assert_eq!(get(address, "/readyz").await.0, 503);
    assert_eq!(get(address, "/healthz").await.0, 200);
    assert_eq!(get(address, "/nothing").await.0, 404);
    trigger.shut_down();
    tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_being_opened_is_told_of() {
    let engine = Arc::new(Opening::<MemoryEngine>::new());
    let (trigger, shutdown) = shutdown::channel();
    let http = HttpServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&engine), shutdown.clone()).await.unwrap();
    let pg = PgServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&engine), Limits::default(), shutdown).unwrap();
    let (address, port) = (http.address().unwrap(), pg.address().unwrap().port());
    let doors = [tokio::spawn(http.run()), tokio::spawn(pg.run())];
    let connect = || async move {
        let (client, connection) =
            tokio_postgres::connect(&format!("host=127.0.0.1 port={port} user=rondel"), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.simple_query("SELECT 1").await
    };

    let refused = connect().await.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(*refused.code(), tokio_postgres::error::SqlState::CANNOT_CONNECT_NOW);
    assert_eq!((refused.severity(), refused.message()), ("FATAL", "the server is starting up"));
    assert!(refused.hint().unwrap().contains("checkpoints"), "{refused:?}");
    assert_eq!(get(address, "/healthz").await.0, 200);
    assert_eq!(get(address, "/readyz").await.0, 503);
    assert!(get(address, "/metrics").await.1.contains("process_resident_memory_bytes"));

    engine.fill(EngineSettings::default()).await.unwrap();
    connect().await.unwrap();
    assert_eq!(get(address, "/readyz").await.0, 200);
    trigger.shut_down();
    for door in doors {
        tokio::time::timeout(Duration::from_secs(5), door).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_print_rows_and_point_at_errors() {
    let engine = Arc::new(MemoryEngine::new());
    let mut printer = Printer::new(Vec::new(), RowFormat::Table);
    let script = "CREATE STREAM s;\n-- rows\nSELECT id, name FROM cities WHERE id < 3 ORDER BY id;\nSELECT 1 AS one;";
    run_script(&engine, script, &mut printer).await.unwrap();
    let expected = "NOTICE: the test's engine keeps nothing\nCREATE STREAM\n id | name\n----+--------\n 1  | Berlin\n 2  |\n\
                    (2 rows)\n\n one\n-----\n 1\n(1 row)\n\n";
    assert_eq!(String::from_utf8(printer.into_inner()).unwrap(), expected);

    let mut printer = Printer::new(Vec::new(), RowFormat::Csv);
    let script = "SELECT id, name FROM cities ORDER BY id;\nSELECT id\n  FROM cities\n  WHERE ) 3;";
    let complaint = run_script(&engine, script, &mut printer).await.unwrap_err();
    let shown = complaint.show("x.sql", script).to_string();
    assert!(shown.starts_with("x.sql:4:9: "), "{shown}");
    assert!(shown.ends_with("  |   WHERE ) 3;\n  |         ^\nhint: look at the caret\n"), "{shown}");
    // The script is read as a whole before its first statement runs.
    assert!(printer.into_inner().is_empty());

    let mut printer = Printer::new(Vec::new(), RowFormat::Csv);
    let script = "SELECT id, name FROM cities ORDER BY id;\n  SELECT nothing FROM cities";
    let complaint = run_script(&engine, script, &mut printer).await.unwrap_err();
    assert_eq!((complaint.at.line, complaint.at.column), (2, 3));
    assert_eq!(String::from_utf8(printer.into_inner()).unwrap(), "id,name\n1,Berlin\n2,\n3,tab\there\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_ends_in_order() {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let options = ServerOptions {
        pg: any,
        pg_connections_max: 10,
        pg_message_bytes_max: 1 << 20,
        http: any,
        data_dir: "unused".into(),
        in_memory: true,
        shutdown_timeout: Duration::from_secs(5),
        engine: EngineOptions {
            workers: Some(1),
            job_memory: 1 << 20,
            memory_limit: None,
            spill: None,
            job_stop_timeout: Duration::from_secs(1),
            checkpoints: None,
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_timeout: Duration::from_secs(10),
            checkpoint_pause: Duration::from_secs(1),
            checkpoints_retained: 1,
            checkpoints_retained_for: Duration::ZERO,
        },
    };
    let engine = Arc::new(MemoryEngine::new());
    let stop = tokio::time::sleep(Duration::from_millis(50));
    let open = std::future::ready(Ok(()));
    tokio::time::timeout(Duration::from_secs(5), serve(Arc::clone(&engine), &options, open, stop))
        .await
        .unwrap()
        .unwrap();
    assert!(!engine.is_ready(), "the engine is closed last");

    // An engine that cannot be opened ends the server.
    let failing = std::future::ready(Err(rondel_engine::Error::internal("no engine")));
    let engine = Arc::new(MemoryEngine::new());
    let error = serve(Arc::clone(&engine), &options, failing, std::future::pending()).await.unwrap_err();
    assert_eq!(error.message(), "no engine");

    // An address that is taken is a sentence with a hint.
    let taken = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let options = ServerOptions { pg: taken.local_addr().unwrap(), ..options };
    let error = serve(engine, &options, std::future::ready(Ok(())), std::future::pending()).await.unwrap_err();
    assert!(error.message().starts_with("cannot listen for PostgreSQL clients on 127.0.0.1:"), "{error}");
    assert!(error.hint().is_some());
}
