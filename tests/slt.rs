//! The files of `tests/slt`: one feature of the language each, through PostgreSQL's protocol, in sqllogictest's format.
//!
//! A file has sections, each begun by a comment: `# section: tables`, `rows`, `views`, then any others. It is run twice in
//! its own order but for two: once with the views created before the rows come, once after. The answers are the same.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use rondel_tests::documents::files_below;
use rondel_tests::rondel::{RondelServer, rows};
use rondel_tests::{Result, root};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

/// No statement takes so long.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a connection's rows go: text, NULL and the empty text as sqllogictest writes them.
struct Wire(Client);

/// What the server says of a statement.
#[derive(Debug)]
struct Said {
    text: String,
    state: Option<SqlState>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Said {}

impl From<tokio_postgres::Error> for Said {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = match error.as_db_error() {
            Some(said) => {
                [Some(said.message()), said.detail(), said.hint()].into_iter().flatten().collect::<Vec<_>>().join(" | ")
            }
            None => error.to_string(),
        };
        Self { text, state: error.code().cloned() }
    }
}

#[async_trait]
impl AsyncDB for Wire {
    type Error = Said;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> std::result::Result<DBOutput<DefaultColumnType>, Said> {
        let messages = tokio::time::timeout(STATEMENT_TIMEOUT, self.0.simple_query(sql))
            .await
            .map_err(|_| Said { text: format!("no answer in {STATEMENT_TIMEOUT:?}"), state: None })??;
        let (mut columns, mut found, mut changed) = (None, Vec::new(), 0);
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(described) => columns = Some(described.len()),
                SimpleQueryMessage::Row(row) => {
                    found.push((0..row.len()).map(|column| shown(row.get(column))).collect())
                }
                SimpleQueryMessage::CommandComplete(count) => changed = count,
                _ => {}
            }
        }
        Ok(match columns {
            Some(columns) => DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows: found },
            None => DBOutput::StatementComplete(changed),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "rondel"
    }

    fn error_sql_state(error: &Said) -> Option<String> {
        error.state.as_ref().map(|state| state.code().to_owned())
    }
}

fn shown(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// A file's text by its sections, in their order; what stands before the first has no name.
fn sections(text: &str) -> Vec<(&str, String)> {
    let mut sections = vec![("", String::new())];
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# section: ") {
            sections.push((name.trim(), String::new()));
        }
        if let Some((_, section)) = sections.last_mut() {
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}

/// The file with its views before its rows, or after them. An error names a line of what was run.
fn ordered(text: &str, views_first: bool) -> Result<String> {
    let sections = sections(text);
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    if names.get(1..5) != Some(&["tables", "rows", "views", "answers"]) {
        return Err(format!("its sections are {names:?}, and begin with tables, rows, views, answers").into());
    }
    let order: &[usize] = if views_first { &[0, 1, 3, 2] } else { &[0, 1, 2, 3] };
    let mut script: String = order.iter().map(|section| sections[*section].1.as_str()).collect();
    // Everything acknowledged is visible in every view, then and after every later change.
    script.push_str("statement ok\nFLUSH\n\nstatement ok\nSET implicit_flush = on\n\n");
    sections[4..].iter().for_each(|(_, section)| script.push_str(section));
    Ok(script)
}

/// Runs one file once, and drops what it has made.
async fn run_file(server: &RondelServer, path: &PathBuf, views_first: bool) -> Result<Option<String>> {
    let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let text = std::fs::read_to_string(path)?;
    let script = ordered(&text, views_first).map_err(|error| format!("{name}: {error}"))?;
    let mut runner = Runner::new(|| async {
        Ok(Wire(server.connect().await.map_err(|error| Said { text: error.to_string(), state: None })?))
    });
    let outcome = runner.run_script_with_name_async(&script, &*name).await;
    runner.shutdown_async().await;
    let client = server.connect().await?;
    for row in rows(&client, "SHOW TABLES").await? {
        let [Some(name), Some(kind), ..] = row.as_slice() else { continue };
        client.batch_execute(&format!("DROP {kind} IF EXISTS \"{name}\" CASCADE")).await?;
    }
    Ok(outcome.err().map(|error| {
        let when = if views_first { "views before rows" } else { "views after rows" };
        format!("{when}: {}", error.display(false))
    }))
}

/// All files, or those whose name contains `RONDEL_SLT`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_answers_with_views_before_and_after_their_rows() -> Result<()> {
    let server = RondelServer::start(2).await?;
    let only = std::env::var("RONDEL_SLT").unwrap_or_default();
    let (mut wrong, mut run) = (Vec::new(), 0);
    for path in files_below(&root().join("tests/slt"), "slt")? {
        if !path.display().to_string().contains(&only) {
            continue;
        }
        for views_first in [false, true] {
            wrong.extend(run_file(&server, &path, views_first).await?);
        }
        run += 1;
    }
    assert!(run > 20 || !only.is_empty(), "only {run} files were found");
    assert!(wrong.is_empty(), "{} of {} runs failed:\n{}", wrong.len(), 2 * run, wrong.join("\n\n"));
    println!("{run} files, each twice");
    Ok(())
}
