//! Schemas from elsewhere: web servers, buckets, Stencil, a registry with Confluent's API; and what becomes of jobs when
//! they change there.

mod confluent;
mod descriptors;
mod evolution;
mod references;
mod secrets;
mod stencil;

use std::time::{Duration, Instant};

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use rondel_tests::Result;
use rondel_tests::rondel::rows;
use tokio_postgres::Client;

/// How long anything may take on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(90);

/// A FileDescriptorSet of `acme.Booking` with these fields.
fn set(fields: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let text =
        format!("syntax = \"proto3\"; package acme; message Booking {{ {fields} }} message Other {{ int32 x = 1; }}");
    std::fs::write(folder.path().join("acme.proto"), text)?;
    let mut compiler = protox::Compiler::new([folder.path()])?;
    compiler.include_imports(true).open_file("acme.proto")?;
    Ok(compiler.encode_file_descriptor_set())
}

/// The bytes of an `acme.Booking` by a set.
fn booking(set: &[u8], fields: &[(&str, Value)]) -> Result<Vec<u8>> {
    let pool = DescriptorPool::decode(set)?;
    let class = pool.get_message_by_name("acme.Booking").ok_or("no such message")?;
    let mut message = DynamicMessage::new(class);
    for (name, value) in fields {
        message.set_field_by_name(name, value.clone());
    }
    Ok(message.encode_to_vec())
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// A statement's rows, one text for each.
async fn shown(client: &Client, sql: &str) -> Result<Vec<String>> {
    let row = |row: Vec<Option<String>>| {
        row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join(",")
    };
    Ok(rows(client, sql).await?.into_iter().map(row).collect())
}

/// Asks until the answer is as expected.
async fn until(client: &Client, sql: &str, expected: &[&str]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = shown(client, sql).await?;
        if found == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            let jobs = shown(client, "SHOW JOBS").await?;
            return Err(format!("{sql}\nanswers {found:?},\nnot     {expected:?}\n{jobs:#?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The sentence and hint of a statement that fails.
async fn refused(client: &Client, sql: &str) -> Result<String> {
    let error = client.batch_execute(sql).await.err().ok_or_else(|| format!("it was taken: {sql}"))?;
    let said = error.as_db_error().ok_or_else(|| error.to_string())?;
    Ok(format!("{}; {}", said.message(), said.hint().unwrap_or_default()))
}
