mod checkpoints;
mod delivery;
mod emission;
mod flink;
mod nearest;
mod one_epoch;
mod tables;

use std::time::{Duration, Instant};

use arrow::util::pretty::pretty_format_batches;
use futures::{StreamExt, TryStreamExt};

use super::*;
use crate::connector::kafka::client::Producer;
use crate::connector::kafka::mock::MockBroker;
use crate::engine::EngineSettings;
use crate::plan::Functions;
use crate::time::SystemClock;

const PROTO: &str = r#"
syntax = "proto3";
package t;
import "google/protobuf/timestamp.proto";
message Ride { string zone = 1; int64 fare = 2; google.protobuf.Timestamp at = 3; }
message Late { string zone = 1; int64 fare = 2; google.protobuf.Timestamp at = 3; string late_operator = 4; google.protobuf.Timestamp late_watermark = 5; }
message Count { string zone = 1; int64 rides = 2; int64 fares = 3; google.protobuf.Timestamp window_start = 4; }
"#;

/// The mock broker acknowledges transactions without keeping them.
const MOCK: &str = "delivery = 'at_least_once'";

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    broker: MockBroker,
    engine: Arc<Engine>,
    session: Session,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(workers: usize) -> Self {
        Self::start_with(EngineSettings { workers, ..EngineSettings::default() })
    }

    fn start_with(settings: EngineSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.proto"), PROTO).unwrap();
        let broker = MockBroker::start(1).unwrap();
        broker.create_topic("rides", 2).unwrap();
        broker.create_topic("counts", 1).unwrap();
        broker.create_topic("late", 1).unwrap();
        let data_dir = Some(folder.path().join("data"));
        let settings = EngineSettings { data_dir, ..settings };
        let engine = Engine::open(settings, Functions::builtin(), Arc::new(SystemClock)).unwrap();
        let session = engine.session();
        Self { broker, engine, session, folder }
    }

    /// Another server on the same data directory.
    fn restarted(self) -> Self {
        let workers = self.engine.settings.workers;
        self.restarted_on(workers)
    }

    /// Another server on the same data directory, with so many workers.
    fn restarted_on(self, workers: usize) -> Self {
        let Self { broker, engine, session, folder } = self;
        let settings = EngineSettings { workers, ..engine.settings.clone() };
        engine.shutdown();
        drop((engine, session));
        let engine = Engine::open(settings, Functions::builtin(), Arc::new(SystemClock)).unwrap();
        let session = engine.session();
        Self { broker, engine, session, folder }
    }

    fn options(&self, rest: &str) -> String {
        let (brokers, proto) = (self.broker.bootstrap(), self.folder.path().join("t.proto"));
        format!("connector = 'kafka', brokers = '{brokers}', descriptor = '{}', {rest}", proto.display())
    }

    async fn try_run(&self, sql: &str) -> Result<String> {
        let mut shown = String::new();
        for statement in self.session.parse(sql)? {
            match self.session.execute(&statement, &[]).await? {
                Outcome::Rows(rows) => {
                    let batches: Vec<_> = rows.try_collect().await?;
                    shown = pretty_format_batches(&batches).unwrap().to_string();
                }
                Outcome::Done { tag, .. } => shown = tag,
                Outcome::Changes { .. } => shown = "changes".to_owned(),
            }
        }
        Ok(shown)
    }

    /// What a statement that defines something wants the user to know.
    async fn notices(&self, sql: &str) -> Vec<String> {
        match self.session.execute(&self.session.parse(sql).unwrap()[0], &[]).await.unwrap() {
            Outcome::Done { notices, .. } => notices,
            _ => panic!("{sql} answers with rows"),
        }
    }

    async fn run(&self, sql: &str) -> String {
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error} ({:?})", error.hint()))
    }

    async fn stream(&self) {
        let options = self.options("topic = 'rides', message = 't.Ride', idle_timeout = '500ms'");
        self.run(&format!("CREATE STREAM rides (WATERMARK FOR at AS at - INTERVAL '5' SECOND) WITH ({options})")).await;
    }

    fn produce(&self, rides: &[(&str, i64, i64)]) {
        let producer = Producer::new(self.broker.bootstrap()).unwrap();
        for (zone, fare, second) in rides {
            let mut bytes = vec![0x0a, zone.len() as u8];
            bytes.extend_from_slice(zone.as_bytes());
            bytes.push(0x10);
            push_varint(&mut bytes, *fare as u64);
            let mut time = vec![0x08];
            push_varint(&mut time, *second as u64);
            bytes.extend([0x1a, time.len() as u8]);
            bytes.extend(time);
            producer.send_value("rides", (*fare % 2) as i32, &bytes).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    /// A job's row of SHOW JOBS.
    async fn job(&self, name: &str) -> String {
        let jobs = self.run("SHOW JOBS").await;
        jobs.lines().find(|line| line.contains(&format!("| {name} "))).unwrap_or(&jobs).to_owned()
    }

    /// Asks until the answer holds `wanted`.
    async fn until(&self, sql: &str, wanted: &str) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.run(sql).await;
            if shown.contains(wanted) {
                return shown;
            }
            if begun.elapsed() > Duration::from_secs(20) {
                panic!("{sql}\nnever held {wanted}:\n{shown}\n{}", self.run("SHOW JOBS").await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_windowed_view_and_a_running_view_over_kafka() {
    for workers in [1, 2] {
        let server = Server::start(workers);
        server.stream().await;
        server.run(
            "CREATE MATERIALIZED VIEW per_minute AS SELECT window_start, zone, count(*) AS rides, sum(fare) AS fares \
             FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, zone EMIT AFTER WATERMARK",
        )
        .await;
        server.run("CREATE MATERIALIZED VIEW totals AS SELECT zone, count(*) AS rides, max(fare) AS top FROM rides GROUP BY zone").await;
        server.produce(&[("a", 1, 60), ("b", 2, 61), ("a", 3, 100), ("a", 5, 119), ("b", 4, 130), ("a", 7, 200)]);
        let totals = server.until("SELECT * FROM totals ORDER BY zone", "| a    | 4 ").await;
        assert!(totals.contains("| b    | 2     | 4   |"), "{totals}");
        let windows = server.until("SELECT * FROM per_minute ORDER BY window_start, zone", "1970-01-01T00:02:00").await;
        assert!(windows.contains("| 1970-01-01T00:01:00 | a    | 3     | 9     |"), "{windows}");
        assert!(windows.contains("| 1970-01-01T00:01:00 | b    | 1     | 2     |"), "{windows}");
        assert!(windows.contains("| 1970-01-01T00:02:00 | b    | 1     | 4     |"), "{windows}");
        assert!(!windows.contains("00:03:00"), "{windows}");
        // The stream itself, read once.
        let rides = server.run("SELECT count(*) AS n, sum(fare) AS s FROM rides").await;
        assert!(rides.contains("| 6 | 22 |"), "{rides}");
        server.run("DROP STREAM rides CASCADE").await;
        assert!(!server.run("SHOW JOBS").await.contains("totals"));
        server.engine.shutdown();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_over_a_view_a_sink_and_a_subscription() {
    let server = Server::start(2);
    server.stream().await;
    server.run("CREATE MATERIALIZED VIEW totals AS SELECT zone, count(*) AS rides, sum(fare) AS fares FROM rides GROUP BY zone").await;
    server.produce(&[("a", 1, 60), ("b", 2, 61)]);
    server.until("SELECT * FROM totals ORDER BY zone", "| b    | 1 ").await;
    server.run("CREATE MATERIALIZED VIEW big AS SELECT zone, fares FROM totals WHERE fares > 5").await;
    let options = server.options("topic = 'counts', message = 't.Count', key = 'zone', changelog = 'upsert'");
    server.run(&format!("CREATE SINK counts WITH ({options}, {MOCK}) AS SELECT zone, rides, fares FROM totals")).await;
    let subscription = server.session.parse("SUBSCRIBE TO big").unwrap();
    let Outcome::Changes { mut stream, .. } = server.session.execute(&subscription[0], &[]).await.unwrap() else {
        panic!("a subscription gives changes");
    };
    server.produce(&[("a", 9, 62)]);
    let changes = loop {
        let changes = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().unwrap();
        if !changes.deltas.is_empty() {
            break changes;
        }
    };
    assert_eq!(changes.deltas.iter().map(crate::Delta::num_rows).sum::<usize>(), 1);
    server.until("SELECT * FROM big", "| a    | 10    |").await;
    let error = server.try_run("DROP MATERIALIZED VIEW totals").await.unwrap_err();
    assert!(error.message().contains("sink 'counts'") && error.message().contains("'big'"), "{error}");
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_knows_its_streams_views_sinks_and_jobs() {
    let server = Server::start(2);
    server.stream().await;
    server.run("CREATE VIEW dear AS SELECT zone, fare FROM rides WHERE fare > 3").await;
    server.run("CREATE MATERIALIZED VIEW totals AS SELECT zone, sum(fare) AS fares FROM dear GROUP BY zone").await;
    server.run("CREATE MATERIALIZED VIEW halted AS SELECT count(*) AS rides FROM rides").await;
    server.run("ALTER JOB halted STOP").await;
    let options = server.options("topic = 'counts', message = 't.Count'");
    server.run(&format!("CREATE SINK counts WITH ({options}, {MOCK})")).await;
    server.run("INSERT INTO counts (zone, fares) SELECT zone, fare FROM dear").await;
    server.produce(&[("a", 1, 60), ("a", 4, 61), ("b", 6, 62)]);
    server.until("SELECT * FROM totals ORDER BY zone", "| b    | 6     |").await;

    // The message's definition is in the catalog: its file may go.
    std::fs::remove_file(server.folder.path().join("t.proto")).unwrap();
    let server = server.restarted();
    server.until("SELECT * FROM totals ORDER BY zone", "| b    | 6     |").await;
    let jobs = server.run("SHOW JOBS").await;
    assert!(jobs.contains("counts_insert_1"), "{jobs}");
    let halted: Vec<&str> = jobs.lines().filter(|line| line.contains("halted")).collect();
    assert!(halted[0].contains("STOPPED"), "{jobs}");
    server.run("ALTER JOB halted START").await;
    server.until("SELECT * FROM halted", "| 3     |").await;
    let error = server.try_run("DROP VIEW dear").await.unwrap_err();
    assert!(error.message().contains("'totals'") && error.message().contains("counts_insert_1"), "{error}");
    server.run("DROP VIEW dear CASCADE").await;
    let jobs = server.run("SHOW JOBS").await;
    assert!(!jobs.contains("totals") && !jobs.contains("insert") && jobs.contains("halted"), "{jobs}");
    server.engine.shutdown();
}

/// Parts of a query that are named twice run once; rows of several readers have the least of their watermarks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_parts_and_watermarks_of_several_readers() {
    for workers in [1, 2] {
        let server = Server::start(workers);
        server.stream().await;
        server.run(
            "CREATE MATERIALIZED VIEW hot AS WITH counts AS (SELECT zone, window_end, count(*) AS n \
               FROM HOP(TABLE rides, DESCRIPTOR(at), INTERVAL '30' SECOND, INTERVAL '1' MINUTE) GROUP BY zone, window_end), \
             most AS (SELECT window_end, max(n) AS n FROM counts GROUP BY window_end) \
             SELECT counts.zone, counts.window_end, counts.n FROM counts JOIN most \
             ON counts.window_end = most.window_end AND counts.n = most.n EMIT AFTER WATERMARK",
        )
        .await;
        server.run("CREATE MATERIALIZED VIEW pairs AS SELECT a.zone, a.fare AS one, b.fare AS other FROM rides a JOIN rides b ON a.zone = b.zone").await;
        server.run(
            "CREATE MATERIALIZED VIEW both AS SELECT window_end, count(*) AS n FROM TUMBLE((SELECT at, zone FROM rides \
             WHERE zone = 'a' UNION ALL SELECT at, zone FROM rides), DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_end EMIT AFTER WATERMARK",
        )
        .await;
        server.produce(&[("a", 1, 60), ("b", 2, 61), ("a", 3, 100), ("a", 5, 119), ("b", 4, 130), ("a", 7, 300)]);
        let hot = server.until("SELECT * FROM hot ORDER BY window_end, zone", "00:03:00").await;
        assert!(hot.contains("| a    | 1970-01-01T00:02:00 | 3 |"), "{hot}");
        assert!(!hot.contains("| b    | 1970-01-01T00:02:00"), "{hot}");
        let pairs = server.until("SELECT count(*) AS n FROM pairs", "| 20 |").await;
        assert!(pairs.contains("| 20 |"), "{pairs}");
        let both = server.until("SELECT * FROM both ORDER BY window_end", "00:03:00").await;
        assert!(both.contains("| 1970-01-01T00:02:00 | 7 |") && both.contains("| 1970-01-01T00:03:00 | 1 |"), "{both}");
        server.engine.shutdown();
    }
}

/// A view that is not kept current any more does not answer as if it were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_whose_job_has_failed_says_so() {
    let server = Server::start(2);
    server.stream().await;
    server.run("CREATE MATERIALIZED VIEW totals AS SELECT zone, sum(fare) AS fares FROM rides GROUP BY zone").await;
    server.run("CREATE VIEW dear AS SELECT * FROM totals WHERE fares > 1").await;
    server.produce(&[("a", 5, 60)]);
    server.until("SELECT * FROM totals", "| a    | 5     |").await;
    let producer = Producer::new(server.broker.bootstrap()).unwrap();
    producer.send_value("rides", 0, b"\x0a\x7fcut").unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    server.until("SHOW JOBS", "FAILED").await;
    for query in ["SELECT * FROM totals", "SELECT count(*) FROM dear", "SUBSCRIBE TO totals"] {
        let error = server.try_run(query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{query}");
        assert!(error.message().starts_with("'totals' is not kept current: its job has failed: "), "{error}");
        assert!(error.hint().unwrap().contains("ALTER JOB \"totals\" START"), "{:?}", error.hint());
    }
    server.run("SET read_failed_views = on").await;
    assert!(server.run("SELECT * FROM dear").await.contains("| a    | 5     |"));
    server.engine.shutdown();
}

/// What a job has read is written before it is stopped, by ALTER JOB and at the engine's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_job_has_written_what_it_had_read() {
    let server = Server::start_with(EngineSettings {
        workers: 2,
        stop_timeout: Duration::from_secs(3),
        ..EngineSettings::default()
    });
    server.stream().await;
    // The producer holds records back for a second: a job that is dropped at once would take them with it.
    let options = server.options("topic = 'counts', message = 't.Count', \"kafka.linger.ms\" = '1000'");
    server.run(&format!("CREATE SINK counts WITH ({options}, {MOCK}) AS SELECT zone, fare AS fares FROM rides")).await;
    let written = || {
        let records = crate::connector::kafka::client::read_topic(server.broker.bootstrap(), "counts", PATIENCE);
        records.unwrap().len()
    };
    server.produce(&[("a", 1, 60), ("b", 2, 61)]);
    // rows_in, then rows_out.
    while !server.job("counts").await.contains("| 2       | 2        |") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.notices("ALTER JOB counts STOP").await, Vec::<String>::new());
    assert_eq!(written(), 2);
    assert!(server.job("counts").await.contains("STOPPED"));
    server.run("ALTER JOB counts START").await;
    // It goes on where it was.
    server.produce(&[("c", 3, 62), ("d", 4, 63)]);
    while !server.job("counts").await.contains("| 2       | 2        |") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.broker.go_down().unwrap();
    let notices = server.notices("ALTER JOB counts STOP").await;
    assert!(notices[0].contains("job 'counts' will go on from the checkpoint before"), "{notices:?}");
    assert!(server.job("counts").await.contains("STOPPED"));
    server.broker.come_up().unwrap();
    server.run("ALTER JOB counts START").await;
    while !server.job("counts").await.contains("| 2       | 2        |") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = written();
    server.engine.shutdown();
    assert_eq!(written(), before + 2);
}

/// Rows of an upsert sink cross workers by its key only where they do not meet by the result's own.
#[tokio::test]
async fn the_keys_by_which_rows_meet_are_known() {
    let server = Server::start(1);
    server.stream().await;
    for (query, expected) in [
        ("SELECT zone, count(*) AS n FROM rides GROUP BY zone", Some(vec![0])),
        ("SELECT count(*) AS n, zone FROM rides GROUP BY zone HAVING count(*) > 1", Some(vec![1])),
        ("SELECT count(*) AS n FROM rides GROUP BY zone", None),
        ("SELECT count(*) AS n FROM rides", Some(vec![])),
        ("SELECT zone, fare FROM rides", None),
    ] {
        let plan = server.engine.planner.plan_continuous(&sql::parse_query(query).unwrap()).unwrap().flow;
        let meeting = crate::operator::build::meeting_columns(&plan, plan.nodes.len() - 1);
        assert_eq!(meeting, expected, "{query}");
    }
    server.engine.shutdown();
}
