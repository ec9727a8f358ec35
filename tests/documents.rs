//! The pages' SQL and the tour are run, from top to bottom, against a server and a real Kafka with bookings in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use regex::Regex;
use rondel_tests::documents::{SqlBlock, pages, sql_blocks, statements};
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::rondel::RondelServer;
use rondel_tests::{Result, python, root};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// The broker that pages and tour name.
const BROKER_IN_TEXT: &str = "127.0.0.1:9092";

/// The folder that pages name.
const FOLDER_IN_TEXT: &str = "file:///data";

/// How long a statement may take, and how long a subscription is listened to.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
const SUBSCRIPTION_TIME: Duration = Duration::from_secs(1);

/// The pages whose SQL is run, each by the test named after it.
const RUN: &[&str] = &[
    "README.md",
    "docs/aggregates.md",
    "docs/checkpoints.md",
    "docs/emit.md",
    "docs/files.md",
    "docs/sql.md",
    "docs/joins.md",
    "docs/tables.md",
    "docs/kafka.md",
    "docs/sinks.md",
    "docs/protobuf.md",
    "docs/schemas.md",
    "docs/flink.md",
    "docs/postgres.md",
    "docs/types.md",
    "docs/operations.md",
    "docs/nexmark.md",
];

/// The tour, in its order.
const TOUR: &[&str] = &["01-streams.sql", "02-windows.sql", "03-join.sql", "04-sink.sql"];

fn tour_text() -> Result<String> {
    TOUR.iter().map(|file| Ok(fs::read_to_string(root().join("sql/tour").join(file))?)).collect()
}

/// A server, a broker with the topics that a text names, and the text's statements for it.
struct Scene {
    broker: KafkaBroker,
    server: RondelServer,
    client: Client,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(text: &str) -> Result<Scene> {
        let broker = KafkaBroker::start()?;
        let mut topics: Vec<&str> = Regex::new(r"\btopic = '([a-z0-9_.-]+)'")?
            .captures_iter(text)
            .chain(Regex::new(r"\bdead_letter_topic = '([a-z0-9_.-]+)'")?.captures_iter(text))
            .filter_map(|found| found.get(1).map(|name| name.as_str()))
            .filter(|name| !name.starts_with("missing"))
            .collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in &topics {
            broker.create_topic(topic, 4).await?;
        }
        if topics.contains(&"bookings") {
            let descriptor = super::real_kafka::descriptor()?;
            let descriptor = descriptor.path().to_string_lossy().into_owned();
            let bootstrap = broker.bootstrap();
            python::run(
                "produce.py",
                &[
                    "--bootstrap",
                    &bootstrap,
                    "--topic",
                    "bookings",
                    "--descriptor",
                    &descriptor,
                    "--records",
                    "2000",
                    "--partitions",
                    "4",
                    "--seed",
                    "1",
                ],
            )?;
        }
        let server = RondelServer::start(2).await?;
        let client = server.connect().await?;
        Ok(Scene { broker, server, client, folder: tempfile::tempdir()? })
    }

    /// Runs a statement; answers its columns, if it has rows.
    async fn run(&self, statement: &str) -> Result<Option<Vec<String>>> {
        let folder = self.folder.path().to_string_lossy();
        let statement = statement.replace(BROKER_IN_TEXT, &self.broker.bootstrap()).replace(FOLDER_IN_TEXT, &folder);
        let word = statement.split(|c: char| !c.is_alphabetic()).next().unwrap_or("").to_uppercase();
        if word == "SUBSCRIBE" {
            return self.subscribe(&statement).await.map(Some);
        }
        if word == "COPY" {
            self.copy(&statement).await?;
            return Ok(None);
        }
        let messages = tokio::time::timeout(STATEMENT_TIMEOUT, self.client.simple_query(&statement))
            .await
            .map_err(|_| format!("no answer in {STATEMENT_TIMEOUT:?}"))??;
        Ok(messages.iter().find_map(columns))
    }

    /// Listens a while, then cancels, as Ctrl-C does.
    async fn subscribe(&self, statement: &str) -> Result<Vec<String>> {
        let mut answer = std::pin::pin!(self.client.simple_query_raw(statement).await?);
        let mut shown = None;
        let listening = async {
            while let Some(message) = answer.next().await {
                shown = shown.take().or(columns(&message?));
            }
            Ok::<(), tokio_postgres::Error>(())
        };
        match tokio::time::timeout(SUBSCRIPTION_TIME, listening).await {
            Ok(Ok(())) => return Err("the subscription ended by itself".into()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => self.client.cancel_token().cancel_query(NoTls).await?,
        }
        while let Some(message) = answer.next().await {
            match message {
                Ok(message) => shown = shown.take().or(columns(&message)),
                Err(error) => {
                    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error}");
                    break;
                }
            }
        }
        shown.ok_or_else(|| "the subscription said nothing of its columns".into())
    }

    async fn copy(&self, statement: &str) -> Result<()> {
        let mut rows = std::pin::pin!(self.client.copy_out(statement).await?);
        let listening = async {
            while let Some(bytes) = rows.next().await {
                bytes?;
            }
            Ok::<(), tokio_postgres::Error>(())
        };
        match tokio::time::timeout(SUBSCRIPTION_TIME, listening).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => {
                self.client.cancel_token().cancel_query(NoTls).await?;
                while let Some(bytes) = rows.next().await {
                    if let Err(error) = bytes {
                        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error}");
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    async fn run_blocks(&self, page: &str, text: &str) -> Result<()> {
        for block in sql_blocks(text) {
            self.run_block(page, &block).await?;
        }
        Ok(())
    }

    async fn run_block(&self, page: &str, block: &SqlBlock) -> Result<()> {
        let mut shown = None;
        for (index, statement) in block.statements.iter().enumerate() {
            let last = index + 1 == block.statements.len();
            let outcome = self.run(statement).await;
            match outcome {
                Ok(_) if block.fails && last => {
                    return Err(format!("{page}:{}: should fail, and does not: {statement}", block.line).into());
                }
                Err(error) if !(block.fails && last) => {
                    let said = error.downcast_ref::<tokio_postgres::Error>().and_then(|error| error.as_db_error());
                    let said = said.map_or_else(|| error.to_string(), |said| format!("{said:?}"));
                    let log = self.server.log();
                    return Err(format!("{page}:{}: {statement}\n{said}\nThe server's log:\n{log}", block.line).into());
                }
                Ok(columns) => shown = columns,
                Err(_) => {}
            }
        }
        // A table printed below a block shows what psql shows: at least its columns are as they are.
        if let Some(header) = &block.shown {
            let expected: Vec<String> = header.split('|').map(|name| name.trim().to_owned()).collect();
            assert_eq!(Some(&expected), shown.as_ref(), "{page}:{}: other columns than the page shows", block.line);
        }
        Ok(())
    }
}

fn columns(message: &SimpleQueryMessage) -> Option<Vec<String>> {
    match message {
        SimpleQueryMessage::RowDescription(columns) => {
            Some(columns.iter().map(|column| column.name().to_owned()).collect())
        }
        _ => None,
    }
}

async fn run_page(page: &str) -> Result<()> {
    let text = fs::read_to_string(root().join(page))?;
    Scene::new(&text).await?.run_blocks(page, &text).await
}

#[test]
fn every_page_with_sql_is_run() -> Result<()> {
    for page in pages()? {
        let name = page.strip_prefix(root())?.to_string_lossy().into_owned();
        let blocks = sql_blocks(&fs::read_to_string(&page)?);
        assert!(blocks.is_empty() || RUN.contains(&name.as_str()), "{name} has SQL that no test runs");
    }
    for page in RUN {
        assert!(Path::new(&root().join(page)).is_file(), "{page} is gone");
    }
    Ok(())
}

#[tokio::test]
async fn the_readme_runs() -> Result<()> {
    let text = fs::read_to_string(root().join("README.md"))?;
    let scene = Scene::new(&(tour_text()? + &text)).await?;
    run_tour(&scene).await?;
    scene.run_blocks("README.md", &text).await
}

#[tokio::test]
async fn the_aggregates_page_runs() -> Result<()> {
    run_page("docs/aggregates.md").await
}

#[tokio::test]
async fn the_emit_page_runs() -> Result<()> {
    run_page("docs/emit.md").await
}

#[tokio::test]
async fn the_sql_page_runs() -> Result<()> {
    run_page("docs/sql.md").await
}

#[tokio::test]
async fn the_joins_page_runs() -> Result<()> {
    run_page("docs/joins.md").await
}

#[tokio::test]
async fn the_tables_page_runs() -> Result<()> {
    run_page("docs/tables.md").await
}

#[tokio::test]
async fn the_kafka_page_runs() -> Result<()> {
    run_page("docs/kafka.md").await
}

#[tokio::test]
async fn the_sinks_page_runs() -> Result<()> {
    run_page("docs/sinks.md").await
}

#[tokio::test]
async fn the_nexmark_page_runs() -> Result<()> {
    run_page("docs/nexmark.md").await
}

#[tokio::test]
async fn the_protobuf_page_runs() -> Result<()> {
    run_page("docs/protobuf.md").await
}

#[tokio::test]
async fn the_files_page_runs() -> Result<()> {
    run_page("docs/files.md").await
}

#[tokio::test]
async fn the_schemas_page_runs() -> Result<()> {
    run_page("docs/schemas.md").await
}

#[tokio::test]
async fn the_types_page_runs() -> Result<()> {
    run_page("docs/types.md").await
}

#[tokio::test]
async fn the_flink_page_runs() -> Result<()> {
    run_page("docs/flink.md").await
}

#[tokio::test]
async fn the_postgres_page_runs() -> Result<()> {
    run_page("docs/postgres.md").await
}

#[tokio::test]
async fn the_checkpoints_page_runs() -> Result<()> {
    run_page("docs/checkpoints.md").await
}

#[tokio::test]
async fn the_operations_page_runs() -> Result<()> {
    run_page("docs/operations.md").await
}

/// What the demo has done before its guests come.
async fn run_tour(scene: &Scene) -> Result<()> {
    for file in TOUR {
        let text = fs::read_to_string(root().join("sql/tour").join(file))?;
        let block = SqlBlock { line: 1, fails: false, shown: None, statements: statements(&text) };
        scene.run_block(file, &block).await?;
    }
    Ok(())
}

/// The tour's files, in their order, and what they leave behind.
#[tokio::test]
async fn the_tour_runs() -> Result<()> {
    let scene = Scene::new(&tour_text()?).await?;
    run_tour(&scene).await?;
    let counted = "SELECT sum(bookings) FROM demand";
    let all = |rows: &[Vec<Option<String>>]| rows.first().is_some_and(|row| row[0].as_deref() == Some("2000"));
    rondel_tests::rondel::rows_until(&scene.client, counted, Duration::from_secs(30), all).await?;
    Ok(())
}
