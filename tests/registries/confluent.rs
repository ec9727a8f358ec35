//! A registry with Confluent's API: what the official serializers write is read, and what is written they read.

use std::path::PathBuf;

use prost_reflect::Value;
use rondel_tests::http::HttpServer;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::registry::SchemaRegistry;
use rondel_tests::rondel::{RondelServer, job_column};
use rondel_tests::{Result, python};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{PATIENCE, booking, refused, set, shown, text, until};

/// Two files, a message inside of a message, and messages in front of the one that is meant.
const PARTS: &str = r#"syntax = "proto3"; package acme; message Leg { double lat = 1; string street = 2; }"#;
const MAIN: &str = r#"syntax = "proto3"; package acme; import "parts/leg.proto"; import "google/protobuf/timestamp.proto";
    message First { int32 x = 1; }
    message Order { int64 id = 1; Leg leg = 2; repeated string tags = 3; Status status = 4;
                    google.protobuf.Timestamp at = 5; message Line { int64 id = 1; string item = 2; } }
    enum Status { UNKNOWN = 0; PAID = 1; }"#;

struct Files {
    _folder: TempDir,
    set: PathBuf,
}

impl Files {
    /// `part` names the file that the main one imports, which is a subject of its own: of two tests that register the same
    /// one at once, the registry refuses one. `replace` is done in the main file.
    fn new(part: &str, replace: (&str, &str)) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("parts"))?;
        std::fs::write(folder.path().join(format!("parts/{part}.proto")), PARTS)?;
        let main = MAIN.replace("parts/leg.proto", &format!("parts/{part}.proto")).replace(replace.0, replace.1);
        std::fs::write(folder.path().join("order.proto"), main)?;
        let mut compiler = protox::Compiler::new([folder.path()])?;
        compiler.include_imports(true).open_file("order.proto")?;
        let set = folder.path().join("order.desc");
        std::fs::write(&set, compiler.encode_file_descriptor_set())?;
        Ok(Self { _folder: folder, set })
    }

    fn path(&self) -> String {
        self.set.display().to_string()
    }
}

pub(super) struct Scene {
    pub(super) broker: &'static KafkaBroker,
    registry: String,
}

impl Scene {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { broker: KafkaBroker::shared()?, registry: SchemaRegistry::shared()?.address() })
    }

    pub(super) fn produce(&self, kind: &str, topic: &str, schema: (&str, &str), records: &Json) -> Result<()> {
        let (bootstrap, records) = (self.broker.bootstrap(), records.to_string());
        python::run("registry_produce.py", &[kind, &bootstrap, &self.registry, topic, schema.0, schema.1, &records])?;
        Ok(())
    }

    fn consume(&self, kind: &str, topic: &str, schema: (&str, &str)) -> Result<Vec<Json>> {
        let bootstrap = self.broker.bootstrap();
        let said = python::run("registry_consume.py", &[kind, &bootstrap, &self.registry, topic, schema.0, schema.1])?;
        Ok(serde_json::from_str(&said)?)
    }

    pub(super) fn with(&self, topic: &str) -> String {
        format!(
            "connector = 'kafka', brokers = '{}', topic = '{topic}', registry = 'confluent', registry_url = '{}'",
            self.broker.bootstrap(),
            self.registry
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_of_the_official_client_is_read_and_ours_read_by_it() -> Result<()> {
    let scene = Scene::new()?;
    for topic in ["sr-orders", "sr-lines", "sr-out"] {
        scene.broker.create_topic(topic, 1).await?;
    }
    let files = Files::new("leg", ("", ""))?;
    let order = |id: i64| {
        json!({"id": id.to_string(), "leg": {"lat": 1.5, "street": "s"}, "tags": ["a", "b"], "status": "PAID",
               "at": "2026-01-02T03:04:05Z"})
    };
    scene.produce("protobuf", "sr-orders", (&files.path(), "acme.Order"), &json!([order(1), order(2)]))?;
    let lines = json!([{"id": "7", "item": "tea"}]);
    scene.produce("protobuf", "sr-lines", (&files.path(), "acme.Order.Line"), &lines)?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE STREAM orders WITH ({}, message = 'acme.Order');
             CREATE STREAM lines WITH ({}, message = 'acme.Order.Line');
             CREATE MATERIALIZED VIEW seen AS SELECT id, leg.street, tags[2] AS tag, status, at FROM orders;",
            scene.with("sr-orders"),
            scene.with("sr-lines")
        ))
        .await?;
    let row = |id: i64| format!("{id},s,b,PAID,2026-01-02 03:04:05");
    until(&client, "SELECT * FROM seen ORDER BY id", &[&row(1), &row(2)]).await?;
    assert_eq!(shown(&client, "SELECT * FROM lines").await?, ["7,tea"]);

    // Written by a newer version while the job runs: its id is met for the first time.
    let grown = Files::new("leg", ("int64 id = 1; Leg", "int64 id = 1; string note = 9; Leg"))?;
    scene.produce("protobuf", "sr-orders", (&grown.path(), "acme.Order"), &json!([order(3)]))?;
    until(&client, "SELECT count(*) FROM seen", &["3"]).await?;
    client.batch_execute("REFRESH STREAM orders").await?;
    assert_eq!(shown(&client, "SELECT id, note FROM orders WHERE id = 3").await?, ["3,"]);

    // Out again: the schema is registered, by the file that has the message.
    client
        .batch_execute(&format!(
            "CREATE SINK out WITH ({}, delivery = 'at_least_once', message = 'acme.Order', descriptor = 'file:{}')
                 AS SELECT id, leg, tags, status, at FROM orders;",
            scene.with("sr-out"),
            files.path()
        ))
        .await?;
    scene.broker.until_end("sr-out", 0, 3)?;
    let read = scene.consume("protobuf", "sr-out", (&files.path(), "acme.Order"))?;
    assert_eq!(read, [order(1), order(2), order(3)]);
    // And we read it ourselves, by what is registered.
    client
        .batch_execute(&format!("CREATE STREAM back WITH ({}, message = 'acme.Order')", scene.with("sr-out")))
        .await?;
    assert_eq!(shown(&client, "SELECT id, leg.lat FROM back ORDER BY id").await?, ["1,1.5", "2,1.5", "3,1.5"]);
    Ok(())
}

/// What the registry refuses is an error of the statement, in its words. Apicurio can't compare descriptors, as the official
/// clients register them: a stand-in says what Confluent's registry does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protobuf_schema_that_the_registry_refuses_makes_no_sink() -> Result<()> {
    let registry = HttpServer::start(|request| {
        let answer = match (request.method.as_str(), request.path.as_str()) {
            // What the file imports is taken.
            ("POST", "/subjects/parts%2Fleg.proto/versions") => (200, r#"{"id":1}"#),
            ("POST", "/subjects/parts%2Fleg.proto") => (200, r#"{"subject":"parts/leg.proto","version":1,"id":1}"#),
            ("POST", "/subjects/sr-refuses-value/versions") => (
                409,
                r#"{"error_code":409,"message":"Schema being registered is incompatible with an earlier schema"}"#,
            ),
            ("POST", path) if path.starts_with("/compatibility/subjects/sr-refuses-value/versions/latest") => {
                (200, r#"{"is_compatible":false,"messages":["FIELD_SCALAR_KIND_CHANGED at #/Order/1"]}"#)
            }
            ("POST", "/subjects/sr-refuses-value") => (404, r#"{"error_code":40403,"message":"Schema not found"}"#),
            _ => (404, r#"{"error_code":40401,"message":"no such subject"}"#),
        };
        (answer.0, answer.1.as_bytes().to_vec())
    })?;
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    client.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await?;
    let files = Files::new("leg", ("", ""))?;
    let create = |more: &str| {
        format!(
            "CREATE SINK bad WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 'sr-refuses', registry = 'confluent',
                 registry_url = '{}', delivery = 'at_least_once', message = 'acme.Order', descriptor = 'file:{}'{more})
                 AS SELECT id FROM t",
            registry.address(),
            files.path()
        )
    };
    let said = refused(&client, &create("")).await?;
    assert!(
        said.contains("incompatible with the versions of subject 'sr-refuses-value': FIELD_SCALAR_KIND_CHANGED"),
        "{said}"
    );
    // And one that is not there may not be made up.
    let said = refused(&client, &create(", register = 'false'")).await?;
    assert!(said.contains("subject 'sr-refuses-value' has no such schema: Schema not found"), "{said}");
    assert!(shown(&client, "SHOW SINKS").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_by_a_schema_that_breaks_the_jobs_own_stops_it() -> Result<()> {
    let scene = Scene::new()?;
    scene.broker.create_topic("sr-breaks", 1).await?;
    let files = Files::new("stretch", ("", ""))?;
    let one = |id: &str| json!([{"id": id}]);
    scene.produce("protobuf", "sr-breaks", (&files.path(), "acme.Order"), &one("1"))?;
    let mut server =
        RondelServer::start_with(1, &["--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"]).await?;
    let client = server.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE STREAM o WITH ({with}, message = 'acme.Order');
             CREATE STREAM skipping WITH ({with}, message = 'acme.Order', on_error = 'skip');
             CREATE MATERIALIZED VIEW ids AS SELECT id FROM o;
             CREATE MATERIALIZED VIEW skipped AS SELECT id FROM skipping;
             CREATE MATERIALIZED VIEW tags AS SELECT tags FROM o;",
            with = scene.with("sr-breaks")
        ))
        .await?;
    until(&client, "SELECT * FROM ids", &["1"]).await?;
    until(&client, "SELECT * FROM skipped", &["1"]).await?;
    let renumbered = Files::new("stretch", ("int64 id = 1; Leg", "int64 id = 8; Leg"))?;
    scene.produce("protobuf", "sr-breaks", (&renumbered.path(), "acme.Order"), &one("2"))?;
    until(&client, "SELECT count(*) FROM tags", &["2"]).await?;
    let deadline = std::time::Instant::now() + PATIENCE;
    let error = loop {
        let error = job_column(&client, "ids", "error").await?.unwrap_or_default();
        if !error.is_empty() {
            break error;
        }
        assert!(std::time::Instant::now() < deadline, "{:?}", shown(&client, "SHOW JOBS").await?);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(error.contains("topic sr-breaks, partition 0, offset 1"), "{error}");
    assert!(error.contains("in which field id has the number 8, and had 1"), "{error}");
    until(&client, "SELECT * FROM skipped", &["1"]).await?;
    // Bytes that are no frame, and a schema that is not there.
    scene.broker.produce("sr-breaks", 0, &[b"\x08\x01".to_vec(), vec![0, 0, 0, 39, 16, 0, 8, 1]])?;
    scene.produce("protobuf", "sr-breaks", (&files.path(), "acme.Order"), &one("3"))?;
    until(&client, "SELECT * FROM skipped ORDER BY id", &["1", "3"]).await?;
    assert_eq!(job_column(&client, "skipped", "skipped_rows").await?.as_deref(), Some("3"));
    server.kill_and_restart().await?;
    let client = server.connect().await?;
    until(&client, "SELECT * FROM skipped ORDER BY id", &["1", "3"]).await
}

/// A registry that asks for a login, and that goes away: what it said is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_away_is_waited_for_and_not_needed_at_start() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("sr-away", 1).await?;
    broker.create_topic("sr-away-out", 1).await?;
    let proto = r#"syntax = \"proto3\"; package acme; message Booking { int64 id = 1; string zone = 2; }"#;
    let registry = HttpServer::start(move |request| {
        // user:word
        if request.header("authorization") != Some("Basic dXNlcjp3b3Jk") {
            return (401, br#"{"error_code":40101,"message":"who are you?"}"#.to_vec());
        }
        let schema = format!(r#""schemaType":"PROTOBUF","schema":"{proto}""#);
        let answer = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/subjects/sr-away-value/versions/latest") => {
                format!(r#"{{"subject":"sr-away-value","version":1,"id":1,{schema}}}"#)
            }
            ("GET", "/schemas/ids/1" | "/schemas/ids/2") => format!("{{{schema}}}"),
            ("POST", "/subjects/sr-away-out-value/versions") => r#"{"id":5}"#.to_owned(),
            _ => return (404, br#"{"error_code":40403,"message":"not found"}"#.to_vec()),
        };
        (200, answer.into_bytes())
    })?;
    let set = set("int64 id = 1; string zone = 2;")?;
    let framed = |schema: u8, id: i64| -> Result<Vec<u8>> {
        let mut bytes = vec![0, 0, 0, 0, schema, 0];
        bytes.extend(booking(&set, &[("id", Value::I64(id)), ("zone", text("z"))])?);
        Ok(bytes)
    };
    broker.produce("sr-away", 0, &[framed(1, 1)?])?;
    let mut server =
        RondelServer::start_with(1, &["--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"]).await?;
    let client = server.connect().await?;
    let with = |topic: &str, login: &str| {
        format!(
            "connector = 'kafka', brokers = '{}', topic = '{topic}', registry = 'confluent', registry_url = '{}',
             registry_retries = '0'{login}",
            broker.bootstrap(),
            registry.address()
        )
    };
    let login = ", registry_user = 'user', registry_password = 'word'";
    let said = refused(&client, &format!("CREATE STREAM x WITH ({})", with("sr-away", ""))).await?;
    assert!(said.contains("lets nobody in: who are you?"), "{said}");
    client
        .batch_execute(&format!(
            "CREATE STREAM s WITH ({});
             CREATE MATERIALIZED VIEW seen AS SELECT id FROM s;
             CREATE SINK out WITH ({}) AS SELECT id FROM s;",
            with("sr-away", login),
            with("sr-away-out", &format!("{login}, format = 'json', delivery = 'at_least_once'"))
        ))
        .await?;
    until(&client, "SELECT * FROM seen", &["1"]).await?;
    broker.until_end("sr-away-out", 0, 1)?;

    // The schema of the next record can't be asked for: the job waits, says for what, and goes on.
    registry.stop();
    broker.produce("sr-away", 0, &[framed(2, 2)?, framed(1, 3)?])?;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let waits = job_column(&client, "seen", "waits_for").await?.unwrap_or_default();
        if waits.contains("schema 2 of http://127.0.0.1") && waits.contains("refused") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{waits}: {}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(shown(&client, "SELECT * FROM seen").await?, ["1"]);
    registry.resume()?;
    until(&client, "SELECT * FROM seen ORDER BY id", &["1", "2", "3"]).await?;
    broker.until_end("sr-away-out", 0, 3)?;

    // Nobody is asked when the server starts, or what was said serves as well.
    registry.stop();
    server.kill_and_restart().await?;
    let client = server.connect().await?;
    broker.produce("sr-away", 0, &[framed(2, 4)?, framed(1, 5)?])?;
    until(&client, "SELECT * FROM seen ORDER BY id", &["1", "2", "3", "4", "5"]).await?;
    broker.until_end("sr-away-out", 0, 5)?;
    let written = broker.read("sr-away-out", rondel_tests::kafka::Isolation::Uncommitted)?;
    assert!(written.iter().all(|record| record.value.starts_with(&[0, 0, 0, 0, 5, b'{'])));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_has_its_columns_from_its_schema() -> Result<()> {
    let scene = Scene::new()?;
    scene.broker.create_topic("sr-json", 1).await?;
    scene.broker.create_topic("sr-json-out", 1).await?;
    let schema = r#"{"title": "Ride", "type": "object",
        "required": ["id"], "properties": {"id": {"type": "integer"}, "fare": {"type": "number"},
        "at": {"type": "string", "format": "date-time"}, "leg": {"type": "object", "properties": {"zone": {"type": "string"}}}}}"#;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ride.json");
    std::fs::write(&file, schema)?;
    let ride = json!([{"id": 1, "fare": 2.5, "at": "2026-01-02T03:04:05Z", "leg": {"zone": "a"}}, {"id": 2}]);
    scene.produce("json", "sr-json", (&file.to_string_lossy(), "-"), &ride)?;
    let server = RondelServer::start(1).await?;
    let client = server.connect().await?;
    let with = scene.with("sr-json");
    client.batch_execute(&format!("CREATE STREAM rides WITH ({with}, format = 'json')")).await?;
    let columns = [
        "id,BIGINT,no,NULL",
        "fare,DOUBLE PRECISION,yes,NULL",
        "at,TIMESTAMP,yes,NULL",
        "leg,ROW(\"zone\" TEXT),yes,NULL",
    ];
    assert_eq!(shown(&client, "DESCRIBE rides").await?, columns);
    let rows = ["2026-01-02 03:04:05,2.5,1,a", "NULL,NULL,2,NULL"];
    assert_eq!(shown(&client, "SELECT at, fare, id, leg.zone FROM rides ORDER BY id").await?, rows);
    // Declared columns need no schema, only the frame is taken away.
    client.batch_execute(&format!("CREATE STREAM declared (id BIGINT) WITH ({with}, format = 'json')")).await?;
    assert_eq!(shown(&client, "SELECT * FROM declared ORDER BY id").await?, ["1", "2"]);
    let out = scene.with("sr-json-out");
    client
        .batch_execute(&format!(
            "CREATE SINK out WITH ({out}, format = 'json', delivery = 'at_least_once') AS SELECT id, fare FROM rides"
        ))
        .await?;
    scene.broker.until_end("sr-json-out", 0, 2)?;
    let read = scene.consume("json", "sr-json-out", ("-", "-"))?;
    assert_eq!(read, [json!({"id": 1, "fare": 2.5}), json!({"id": 2, "fare": null})]);
    // A file is as good.
    let create = format!(
        "CREATE STREAM filed WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't', format = 'json', descriptor = 'file:{}')",
        file.display()
    );
    client.batch_execute(&create).await?;
    assert_eq!(shown(&client, "DESCRIBE filed").await?, columns);
    Ok(())
}

/// Avro: both ways, with a writer that has another version, and a schema that the registry refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avro_of_the_official_client_is_read_and_ours_read_by_it() -> Result<()> {
    let scene = Scene::new()?;
    for topic in ["sr-avro", "sr-avro-out"] {
        scene.broker.create_topic(topic, 1).await?;
    }
    let folder = tempfile::tempdir()?;
    let file = |name: &str, fields: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(
            &path,
            format!(r#"{{"type": "record", "name": "Ride", "namespace": "acme", "fields": [{fields}]}}"#),
        )?;
        Ok(path.to_string_lossy().into_owned())
    };
    let fields = r#"{"name": "id", "type": "long"}, {"name": "zone", "type": ["null", "string"], "default": null},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["BIKE", "CAR"]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "leg", "type": {"type": "record", "name": "Leg", "fields": [{"name": "lat", "type": "double"}]}}"#;
    let ride = |id: i64, zone: Option<&str>| json!({"id": id, "zone": zone, "kind": "CAR", "tags": ["a", "b"], "leg": {"lat": 1.5}});
    scene.produce("avro", "sr-avro", (&file("one.avsc", fields)?, "-"), &json!([ride(1, Some("x")), ride(2, None)]))?;
    let server = RondelServer::start(2).await?;
    let client = server.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE STREAM rides WITH ({}, format = 'avro');
             CREATE MATERIALIZED VIEW seen AS SELECT id, zone, kind, tags[2] AS tag, leg.lat AS lat FROM rides;",
            scene.with("sr-avro")
        ))
        .await?;
    until(&client, "SELECT * FROM seen ORDER BY id", &["1,x,CAR,b,1.5", "2,NULL,CAR,b,1.5"]).await?;
    // A writer with a field more in front, and without one.
    let other = fields.replace(
        r#""name": "id", "type": "long""#,
        r#""name": "note", "type": "string"}, {"name": "id", "type": "int""#,
    );
    let other = other.replace(r#"{"name": "zone", "type": ["null", "string"], "default": null},"#, "");
    let record = json!([{"note": "n", "id": 3, "kind": "BIKE", "tags": [], "leg": {"lat": 2.0}}]);
    scene.produce("avro", "sr-avro", (&file("two.avsc", &other)?, "-"), &record)?;
    scene.produce("avro", "sr-avro", (&file("one.avsc", fields)?, "-"), &json!([ride(4, None)]))?;
    let all = ["1,x,CAR,b,1.5", "2,NULL,CAR,b,1.5", "3,NULL,BIKE,NULL,2", "4,NULL,CAR,b,1.5"];
    until(&client, "SELECT * FROM seen ORDER BY id", &all).await?;

    let out = scene.with("sr-avro-out");
    client
        .batch_execute(&format!(
            "CREATE SINK out WITH ({out}, format = 'avro', delivery = 'at_least_once') AS SELECT id, zone, tags, leg FROM rides"
        ))
        .await?;
    scene.broker.until_end("sr-avro-out", 0, 4)?;
    let mut read = scene.consume("avro", "sr-avro-out", ("-", "-"))?;
    read.sort_by_key(|row| row["id"].as_i64());
    assert_eq!(read[0], json!({"id": 1, "zone": "x", "tags": ["a", "b"], "leg": {"lat": 1.5}}));
    assert_eq!((read[2]["zone"].clone(), read[2]["tags"].clone()), (Json::Null, json!([])));

    // What the registry refuses is an error of the statement, in its words.
    let rule = python::run("registry_rule.py", &[&scene.registry, "sr-avro-out-value", "BACKWARD"])?;
    assert!(rule.contains("BACKWARD"), "{rule}");
    let create = format!("CREATE SINK more WITH ({out}, format = 'avro') AS SELECT leg AS zone, 1 AS must FROM rides");
    let said = refused(&client, &create).await?;
    assert!(said.contains("incompatible with the versions of subject 'sr-avro-out-value'"), "{said}");
    Ok(())
}
