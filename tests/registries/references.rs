//! Schemas that refer to other subjects.

use rondel_tests::Result;
use rondel_tests::rondel::RondelServer;
use serde_json::json;

use super::confluent::Scene;
use super::{shown, until};

struct Files(tempfile::TempDir);

impl Files {
    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avro_types_of_other_subjects_are_found() -> Result<()> {
    let scene = Scene::new()?;
    scene.broker.create_topic("sr-avro-refers", 1).await?;
    let files = Files(tempfile::tempdir()?);
    let leg = files.write(
        "leg.avsc",
        r#"{"type": "record", "name": "Leg", "namespace": "acme.parts", "fields": [{"name": "lat", "type": "double"},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["BIKE", "CAR"]}}]}"#,
    )?;
    let ride = files.write(
        "ride.avsc",
        r#"{"type": "record", "name": "Ride", "namespace": "acme", "fields": [{"name": "id", "type": "long"},
            {"name": "first", "type": "acme.parts.Leg"}, {"name": "more", "type": {"type": "array", "items": "acme.parts.Leg"}}]}"#,
    )?;
    let references = json!([{"name": "acme.parts.Leg", "subject": "sr-refers-leg", "file": leg}]).to_string();
    let first = json!({"lat": 1.5, "kind": "CAR"});
    let rides = json!([{"id": 1, "first": first, "more": [{"lat": 2.5, "kind": "BIKE"}]}, {"id": 2, "first": first, "more": []}]);
    scene.produce("avro", "sr-avro-refers", (&ride, &references), &rides)?;
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE STREAM rides WITH ({}, format = 'avro');
             CREATE MATERIALIZED VIEW seen AS SELECT id, first.kind AS kind, more[1]['lat'] AS lat FROM rides;",
            scene.with("sr-avro-refers")
        ))
        .await?;
    until(&client, "SELECT * FROM seen ORDER BY id", &["1,CAR,2.5", "2,CAR,NULL"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_schemas_of_other_subjects_are_found() -> Result<()> {
    let scene = Scene::new()?;
    scene.broker.create_topic("sr-json-refers", 1).await?;
    let files = Files(tempfile::tempdir()?);
    let leg = files.write(
        "leg.json",
        r##"{"$id": "http://acme.example/leg.json", "type": "object",
            "definitions": {"zone": {"type": "string"}},
            "properties": {"zone": {"$ref": "#/definitions/zone"}, "lat": {"type": "number"}}}"##,
    )?;
    let ride = files.write(
        "ride.json",
        r#"{"$id": "http://acme.example/ride.json", "title": "Ride",
            "type": "object", "required": ["id"],
            "properties": {"id": {"type": "integer"}, "first": {"$ref": "http://acme.example/leg.json"},
                           "all": {"type": "array", "items": {"$ref": "http://acme.example/leg.json"}}}}"#,
    )?;
    let references =
        json!([{"name": "http://acme.example/leg.json", "subject": "sr-refers-leg-json", "file": leg}]).to_string();
    let rides = json!([{"id": 1, "first": {"zone": "a", "lat": 1.5}, "all": [{"zone": "b"}]}]);
    scene.produce("json", "sr-json-refers", (&ride, &references), &rides)?;
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let with = scene.with("sr-json-refers");
    client.batch_execute(&format!("CREATE STREAM rides WITH ({with}, format = 'json')")).await?;
    let columns = [
        "id,BIGINT,no,NULL",
        "first,ROW(\"zone\" TEXT, lat DOUBLE PRECISION),yes,NULL",
        "all,ROW(\"zone\" TEXT, lat DOUBLE PRECISION)[],yes,NULL",
    ];
    assert_eq!(shown(&client, "DESCRIBE rides").await?, columns);
    until(&client, "SELECT id, first.lat, \"all\"[1]['zone'] FROM rides", &["1,1.5,b"]).await
}
