//! Descriptors by their URLs.

use std::collections::BTreeMap;

use rondel_engine::schema::registry::fetch::fetch_with;
use rondel_engine::schema::registry::http::Access;
use rondel_tests::Result;
use rondel_tests::http::HttpServer;
use rondel_tests::rondel::RondelServer;

use super::{refused, set, shown};

fn create(name: &str, with: &str) -> String {
    format!("CREATE STREAM {name} WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't', {with})")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_descriptor_is_fetched_once_and_kept() -> Result<()> {
    let (one, other) = (set("int64 id = 1; string zone = 2;")?, set("bool only = 1;")?);
    let files = BTreeMap::from([("/acme.desc", one), ("/secret/acme.desc", other)]);
    let web = HttpServer::start(move |request| {
        let is_secret = request.path.starts_with("/secret");
        // user:word
        let let_in =
            request.header("authorization") == Some("Basic dXNlcjp3b3Jk") && request.header("x-team") == Some("a");
        match files.get(request.path.as_str()) {
            Some(_) if is_secret && !let_in => (401, b"who are you?".to_vec()),
            Some(bytes) => (200, bytes.clone()),
            None => (404, b"nothing here".to_vec()),
        }
    })?;
    let address = web.address();
    let mut server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let descriptor = |path: &str| format!("message = 'acme.Booking', descriptor = '{address}{path}'");
    client.batch_execute(&create("s", &descriptor("/acme.desc"))).await?;
    let columns = ["id,BIGINT,no,NULL", "zone,TEXT,no,NULL"];
    assert_eq!(shown(&client, "DESCRIBE STREAM s").await?, columns);
    let secret = format!(
        "{}, registry_user = 'user', registry_password = 'word', registry_headers = 'X-Team: a, x-other: b'",
        descriptor("/secret/acme.desc")
    );
    client.batch_execute(&create("secret", &secret)).await?;
    assert_eq!(shown(&client, "DESCRIBE secret").await?, ["only,BOOLEAN,no,NULL"]);
    // Of several the first counts that has the message.
    let several = format!("message = 'acme.Booking', descriptor = '{address}/nothing, {address}/acme.desc'");
    client.batch_execute(&create("several", &several)).await?;
    let versions = shown(&client, "SHOW SCHEMA VERSIONS FOR STREAM several").await?;
    assert_eq!(versions, [format!("several,1,NULL,current,NULL,{address}/acme.desc")]);
    for (with, words) in [
        (descriptor("/nothing"), "there is nothing at"),
        (descriptor("/secret/acme.desc"), "401 Unauthorized: who are you?"),
        (format!("message = 'acme.Bokking', descriptor = '{address}/acme.desc'"), "did you mean acme.Booking?"),
    ] {
        let said = refused(&client, &create("x", &with)).await?;
        assert!(said.contains(words), "{said}");
    }
    // A server that is away: an error for what is new, and nothing for what is known.
    web.stop();
    let retries = "registry_retries = '0'";
    let said = refused(&client, &create("x", &format!("{}, {retries}", descriptor("/acme.desc")))).await?;
    assert!(said.contains("can't be reached") && said.contains("refused"), "{said}");
    server.kill_and_restart().await?;
    let client = server.connect().await?;
    assert_eq!(shown(&client, "DESCRIBE s").await?, columns);
    let said = refused(&client, "REFRESH STREAM s").await?;
    assert!(said.contains("can't be reached"), "{said}");
    web.resume()?;
    client.batch_execute("REFRESH STREAM s").await?;
    Ok(())
}

/// A bucket of S3, as far as reading goes: `GET /bucket/key`.
#[test]
fn an_object_is_fetched_from_a_bucket() -> Result<()> {
    let bucket = HttpServer::start(|request| match request.path.as_str() {
        "/schemas/acme/booking.desc" => (200, b"the bytes".to_vec()),
        _ => (404, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
    })?;
    let address = bucket.address();
    let options = [
        ("aws_endpoint", address.as_str()),
        ("aws_allow_http", "true"),
        ("aws_region", "eu-1"),
        ("aws_access_key_id", "key"),
        ("aws_secret_access_key", "secret"),
    ];
    let read = |url: &str| {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        fetch_with(url, options, &Access::default())
    };
    assert_eq!(read("s3://schemas/acme/booking.desc")?.as_ref(), b"the bytes");
    let error = read("s3://schemas/acme/other.desc").err().ok_or("it was read")?;
    assert!(error.message().contains("there is no object s3://schemas/acme/other.desc"), "{error}");
    let asked = bucket.requests();
    assert!(asked.iter().all(|request| request.header("authorization").is_some_and(|who| who.contains("key"))));
    Ok(())
}
