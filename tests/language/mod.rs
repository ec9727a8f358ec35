//! The language over the wire: what columns are called, and what is said when something is wrong.

mod errors;
mod names;

use rondel_tests::rondel::rows;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Runs statements that succeed.
async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The rows of a statement, their values separated by commas.
async fn shown(client: &Client, sql: &str) -> Vec<String> {
    let rows = rows(client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let value = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    rows.into_iter().map(|row| row.into_iter().map(value).collect::<Vec<_>>().join(",")).collect()
}

/// What the columns of a statement are called: where it is only described, and beside its rows.
async fn names(client: &Client, sql: &str) -> String {
    let statement = client.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let described: Vec<&str> = statement.columns().iter().map(|column| column.name()).collect();
    for message in client.simple_query(sql).await.unwrap() {
        if let SimpleQueryMessage::Row(row) = message {
            let columns: Vec<&str> = row.columns().iter().map(|column| column.name()).collect();
            assert_eq!(columns, described, "{sql}");
        }
    }
    described.join(" ")
}

/// Fails with this SQLSTATE and a sentence, and a hint, that contain these words.
async fn fails(client: &Client, sql: &str, code: &str, sentence: &str, hint: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    assert_eq!(error.code().code(), code, "{sql}: {error}");
    assert!(error.message().contains(sentence), "{sql}: {error}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{sql}: {:?}", error.hint());
}
