//! Stencil: namespaces, schemas, versions; several addresses, headers, both ways of refreshing.

use rondel_tests::Result;
use rondel_tests::registry::StencilServer;
use rondel_tests::rondel::RondelServer;

use super::{refused, set, shown, until};

fn create(name: &str, with: &str) -> String {
    format!(
        "CREATE STREAM {name} WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't', message = 'acme.Booking',
             registry = 'stencil', {with})"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_resolved_and_refreshed_by_version() -> Result<()> {
    let stencil = StencilServer::start(Some("Bearer t"))?;
    stencil.upload("acme", "bookings", set("int64 id = 1;")?);
    stencil.upload("acme", "bookings", set("int64 id = 1; string zone = 2;")?);
    let address = stencil.http().address();
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let with =
        |url: &str, more: &str| format!("registry_url = '{url}', registry_headers = 'authorization: Bearer t'{more}");
    let named = ", namespace = 'acme', schema = 'bookings'";
    // The first address is nobody's.
    let both = format!("http://127.0.0.1:1, {address}");
    client.batch_execute(&create("s", &with(&both, named))).await?;
    client.batch_execute(&create("pinned", &with(&address, &format!("{named}, schema_version = '1'")))).await?;
    let own = format!("{address}/v1beta1/namespaces/acme/schemas/bookings");
    client.batch_execute(&create("content", &with(&own, ", refresh_by = 'content'"))).await?;
    assert_eq!(shown(&client, "DESCRIBE s").await?, ["id,BIGINT,no,NULL", "zone,TEXT,no,NULL"]);
    assert_eq!(shown(&client, "DESCRIBE pinned").await?, ["id,BIGINT,no,NULL"]);
    let numbers = "SHOW SCHEMA VERSIONS";
    let seen: Vec<String> = shown(&client, numbers)
        .await?
        .iter()
        .map(|row| row.splitn(5, ',').take(4).collect::<Vec<_>>().join(","))
        .collect();
    assert_eq!(seen, ["content,1,NULL,current", "pinned,1,NULL,current", "s,2,NULL,current"]);

    // Nothing new: only the list of versions is asked for.
    let before = stencil.http().requests().len();
    client.batch_execute("REFRESH STREAM s; REFRESH STREAM pinned; REFRESH STREAM content").await?;
    let asked: Vec<String> = stencil.http().requests().split_off(before).into_iter().map(|r| r.path).collect();
    let path = "/v1beta1/namespaces/acme/schemas/bookings";
    assert_eq!(asked, [format!("{path}/versions"), path.to_owned()]);

    stencil.upload("acme", "bookings", set("int64 id = 1; string zone = 2; bool live = 3;")?);
    client.batch_execute("REFRESH STREAM s; REFRESH STREAM pinned; REFRESH STREAM content").await?;
    for (stream, columns) in [("s", 3), ("pinned", 1), ("content", 3)] {
        assert_eq!(shown(&client, &format!("DESCRIBE {stream}")).await?.len(), columns, "{stream}");
    }
    let versions = shown(&client, "SHOW SCHEMA VERSIONS FOR STREAM s").await?;
    assert!(versions[0].starts_with("s,2,NULL,kept") && versions[1].starts_with("s,3,NULL,current"), "{versions:?}");

    for (with, words) in [
        (with(&address, ", namespace = 'acme', schema = 'rides'"), "Stencil has no schema"),
        (with(&address, &format!("{named}, schema_version = '9'")), "no version 9"),
        (format!("registry_url = '{address}'{named}"), "401"),
        (with(&address, ", namespace = 'acme'"), "together"),
    ] {
        let said = refused(&client, &create("x", &with)).await?;
        assert!(said.contains(words), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_looks_for_newer_versions_by_itself() -> Result<()> {
    let stencil = StencilServer::start(None)?;
    stencil.upload("acme", "bookings", set("int64 id = 1;")?);
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let address = stencil.http().address();
    let with = format!(
        "registry_url = '{address}', namespace = 'acme', schema = 'bookings', refresh = '1s', registry_retries = '0'"
    );
    client.batch_execute(&create("s", &with)).await?;
    // What is away is asked again.
    stencil.http().stop();
    stencil.upload("acme", "bookings", set("int64 id = 1; string zone = 2;")?);
    stencil.http().resume()?;
    until(&client, "DESCRIBE s", &["id,BIGINT,no,NULL", "zone,TEXT,no,NULL"]).await?;
    // A version without the message is not taken, and the stream stays as it is.
    stencil.upload("acme", "bookings", protox_other()?);
    let said = refused(&client, "REFRESH STREAM s").await?;
    assert!(said.contains("no message of"), "{said}");
    assert_eq!(shown(&client, "DESCRIBE s").await?.len(), 2);
    Ok(())
}

fn protox_other() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("o.proto"), "syntax = \"proto3\"; package acme; message Rides { int32 x = 1; }")?;
    let mut compiler = protox::Compiler::new([folder.path()])?;
    compiler.include_imports(true).open_file("o.proto")?;
    Ok(compiler.encode_file_descriptor_set())
}
