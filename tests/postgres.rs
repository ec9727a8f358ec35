//! PostgreSQL's manners: four hundred expressions, with the answers of a real PostgreSQL (`tests/postgres/regenerate.sh`).
//!
//! Where Rondel answers otherwise, `differences.txt` says how and why, and the manual shows it. After a change,
//! `RONDEL_UPDATE_DOCS=1 cargo test --test integration postgres` writes both anew; reasons are kept, and a new difference
//! is written without one, which the test does not accept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use rondel_tests::rondel::RondelServer;
use rondel_tests::{Result, root};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The expressions, each with PostgreSQL's answer.
fn expressions() -> Result<Vec<(String, String)>> {
    let folder = root().join("tests/postgres");
    let text = fs::read_to_string(folder.join("expressions.txt"))?;
    let answers = fs::read_to_string(folder.join("answers.txt"))?;
    let expressions: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let answers: Vec<&str> = answers.lines().collect();
    if expressions.len() != answers.len() {
        return Err(format!("{} expressions have {} answers: regenerate.sh", expressions.len(), answers.len()).into());
    }
    let pairs = expressions.into_iter().zip(answers).map(|(text, answer)| (text.to_owned(), answer.to_owned()));
    Ok(pairs.collect())
}

/// What Rondel answers, in the same form.
async fn answer(client: &Client, expression: &str) -> String {
    match client.simple_query(&format!("SELECT {expression}")).await {
        Ok(messages) => {
            let value = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            });
            value.flatten().map_or_else(|| "NULL".to_owned(), |value| value.replace('\n', "\\n"))
        }
        Err(error) => match error.code() {
            Some(code) => format!("ERROR {}", code.code()),
            None => format!("ERROR {error}"),
        },
    }
}

/// Expression → Rondel's answer and the reason.
fn differences(text: &str) -> BTreeMap<String, (String, String)> {
    let line = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        Some((parts.next()?, (parts.next()?, parts.next().unwrap_or_default())))
    };
    text.lines().filter_map(line).collect()
}

#[tokio::test]
async fn expressions_mean_what_they_mean_in_postgres() -> Result<()> {
    let path = root().join("tests/postgres/differences.txt");
    let known = differences(&fs::read_to_string(&path).unwrap_or_default());
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let update = std::env::var_os("RONDEL_UPDATE_DOCS").is_some();
    let (mut wrong, mut file, mut table) = (Vec::new(), String::new(), String::new());
    for (expression, postgres) in expressions()? {
        let ours = answer(&client, &expression).await;
        let noted = known.get(&expression);
        let reason = noted.map_or("", |(_, reason)| reason.as_str());
        match noted {
            None if ours == postgres => continue,
            Some(_) if ours == postgres => {
                wrong.push(format!("{expression} is as in PostgreSQL now: strike it from differences.txt"));
                continue;
            }
            Some((known, reason)) if *known == ours && !reason.is_empty() => {}
            _ => wrong.push(format!("{expression}: PostgreSQL says {postgres}, Rondel {ours}")),
        }
        writeln!(file, "{expression}\t{ours}\t{reason}")?;
        let cell = |text: &str| text.replace('|', "\\|");
        writeln!(table, "| `{}` | `{}` | `{}` | {reason} |", cell(&expression), cell(&postgres), cell(&ours))?;
    }
    let page = root().join("docs/postgres.md");
    let manual = fs::read_to_string(&page)?;
    let (before, after) = manual.split_once("<!-- differences -->\n").ok_or("docs/postgres.md has no marker")?;
    let (_, after) = after.split_once("<!-- end -->").ok_or("docs/postgres.md has no end of the table")?;
    let heading = "| expression | PostgreSQL | Rondel | |\n|---|---|---|---|\n";
    let written = format!("{before}<!-- differences -->\n{heading}{table}<!-- end -->{after}");
    if update {
        fs::write(&path, &file)?;
        fs::write(&page, &written)?;
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(written == manual, "docs/postgres.md shows old differences: RONDEL_UPDATE_DOCS=1 writes them anew");
    Ok(())
}
