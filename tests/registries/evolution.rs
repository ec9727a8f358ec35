//! Fields that are added, removed, renumbered and that change their types, under running jobs.

use prost_reflect::Value;
use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;
use rondel_tests::registry::StencilServer;
use rondel_tests::rondel::{RondelServer, job_column};
use tokio_postgres::Client;

use super::{booking, refused, set, shown, text, until};

const FIRST: &str = "int64 id = 1; string zone = 2; int32 amount = 3;";
const GROWN: &str = "int64 id = 1; string zone = 2; int32 amount = 3; string note = 4;";
const SHRUNK: &str = "int64 id = 1; int32 amount = 3; string note = 4;";
const RENUMBERED: &str = "int64 id = 1; int32 amount = 7; string note = 4;";
const RETYPED: &str = "string id = 1; int32 amount = 7; string note = 4;";

struct Scene {
    stencil: StencilServer,
    broker: &'static KafkaBroker,
    server: RondelServer,
    client: Client,
}

impl Scene {
    /// Uploads a version, and writes records by it.
    fn publish(&self, fields: &str, records: &[&[(&str, Value)]]) -> Result<()> {
        let set = set(fields)?;
        self.stencil.upload("acme", "bookings", set.clone());
        let records = records.iter().map(|record| booking(&set, record)).collect::<Result<Vec<_>>>()?;
        self.broker.produce("evolution", 0, &records)
    }

    async fn job(&self, name: &str) -> Result<(String, String)> {
        let column = async |column| job_column(&self.client, name, column).await.map(Option::unwrap_or_default);
        Ok((column("state").await?, column("error").await?))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_a_schema_has_its_outcome() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("evolution", 1).await?;
    let server = RondelServer::start_with(2, &["--checkpoint-interval", "200ms", "--checkpoint-pause", "50ms"]).await?;
    let client = server.connect().await?;
    let mut scene = Scene { stencil: StencilServer::start(None)?, broker, server, client };
    scene.publish(FIRST, &[&[("id", Value::I64(1)), ("zone", text("a")), ("amount", Value::I32(10))]])?;
    let create = format!(
        "CREATE STREAM s WITH (connector = 'kafka', brokers = '{}', topic = 'evolution', message = 'acme.Booking',
             registry = 'stencil', registry_url = '{}', namespace = 'acme', schema = 'bookings');
         CREATE VIEW plain AS SELECT id, amount FROM s;
         CREATE MATERIALIZED VIEW everything AS SELECT * FROM s;
         CREATE MATERIALIZED VIEW ids AS SELECT id FROM plain;
         CREATE MATERIALIZED VIEW zones AS SELECT zone, count(*) AS n FROM s GROUP BY zone;
         CREATE MATERIALIZED VIEW amounts AS SELECT sum(amount) AS amount FROM s;",
        broker.bootstrap(),
        scene.stencil.http().address()
    );
    scene.client.batch_execute(&create).await?;
    until(&scene.client, "SELECT * FROM everything", &["1,a,10"]).await?;
    let pinned = shown(&scene.client, "SHOW SCHEMA VERSIONS FOR STREAM s").await?;
    assert!(pinned[0].starts_with("s,1,NULL,current,everything, ids, zones, amounts,"), "{pinned:?}");

    // Added: jobs go on, new queries see it.
    let note = &[("id", Value::I64(2)), ("zone", text("b")), ("amount", Value::I32(20)), ("note", text("n"))];
    scene.publish(GROWN, &[note])?;
    until(&scene.client, "SELECT * FROM everything ORDER BY id", &["1,a,10", "2,b,20"]).await?;
    scene.client.batch_execute("REFRESH STREAM s; CREATE MATERIALIZED VIEW notes AS SELECT id, note FROM s").await?;
    until(&scene.client, "SELECT * FROM notes ORDER BY id", &["1,", "2,n"]).await?;
    assert_eq!(shown(&scene.client, "SELECT note FROM s ORDER BY id").await?, ["", "n"]);
    until(&scene.client, "SELECT * FROM everything ORDER BY id", &["1,a,10", "2,b,20"]).await?;

    // Removed: jobs go on, and see it unset; new queries don't see it.
    scene.publish(SHRUNK, &[&[("id", Value::I64(3)), ("amount", Value::I32(30))]])?;
    scene.client.batch_execute("REFRESH STREAM s").await?;
    until(&scene.client, "SELECT * FROM zones ORDER BY zone", &[",1", "a,1", "b,1"]).await?;
    let said = refused(&scene.client, "SELECT zone FROM s").await?;
    assert!(said.contains("zone"), "{said}");

    // All of that after a kill, with a registry that is away: `SELECT *` has not grown.
    scene.stencil.http().stop();
    scene.server.kill_and_restart().await?;
    scene.client = scene.server.connect().await?;
    scene.stencil.http().resume()?;
    until(&scene.client, "SELECT * FROM everything ORDER BY id", &["1,a,10", "2,b,20", "3,,30"]).await?;
    until(&scene.client, "SELECT * FROM amounts", &["60"]).await?;

    // Renumbered: who reads it stops, with a sentence; the others go on.
    scene.publish(RENUMBERED, &[])?;
    scene.client.batch_execute("REFRESH STREAM s").await?;
    for name in ["amounts", "everything"] {
        stopped(&scene, name, "field amount has the number 7, and had 3").await?;
    }
    scene.publish(RENUMBERED, &[&[("id", Value::I64(4)), ("amount", Value::I32(40))]])?;
    until(&scene.client, "SELECT * FROM ids ORDER BY id", &["1", "2", "3", "4"]).await?;

    // Another type.
    scene.publish(RETYPED, &[])?;
    scene.client.batch_execute("REFRESH STREAM s").await?;
    for name in ["ids", "notes"] {
        stopped(&scene, name, "field id is string, and was int64").await?;
    }
    assert_eq!(scene.job("zones").await?.0, "RUNNING");
    // A restart does not start what would be wrong, nor does the user; a new job reads by the new version.
    scene.server.kill_and_restart().await?;
    scene.client = scene.server.connect().await?;
    stopped(&scene, "ids", "field id is string, and was int64").await?;
    let said = refused(&scene.client, "ALTER JOB ids START").await?;
    assert!(said.contains("field id is string") && said.contains("create it anew"), "{said}");
    until(&scene.client, "SELECT * FROM zones ORDER BY zone", &[",2", "a,1", "b,1"]).await?;
    scene
        .client
        .batch_execute(
            "DROP MATERIALIZED VIEW amounts; CREATE MATERIALIZED VIEW amounts AS SELECT count(amount) AS n FROM s",
        )
        .await?;
    until(&scene.client, "SELECT * FROM amounts", &["4"]).await
}

/// Waits until a job has failed for this reason.
async fn stopped(scene: &Scene, job: &str, words: &str) -> Result<()> {
    let deadline = std::time::Instant::now() + super::PATIENCE;
    loop {
        let (state, error) = scene.job(job).await?;
        if state == "FAILED" && error.contains(words) {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            return Err(format!("{job} is {state}: {error}\n{}", scene.server.log()).into());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
