//! Checkpoints as statements have them: how much they write, what jobs say of them, savepoints, a place that is away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::*;
use crate::checkpoint::{Beginning, CheckpointSettings};
use crate::connector::two_phase::{CheckpointName, Committer};
use crate::error::ErrorKind;
use crate::time::Epoch;

/// Takes checkpoints when it is asked.
fn server(workers: usize) -> Server {
    let checkpoints = CheckpointSettings { interval: Duration::from_secs(3600), ..CheckpointSettings::default() };
    Server::start_with(EngineSettings { workers, checkpoints, ..EngineSettings::default() })
}

impl Server {
    /// The bytes of a job's last checkpoint, and those that the one before did not have.
    fn bytes(&self, job: &str) -> (u64, u64) {
        let views = self.engine.checkpoint_views();
        let view = views.iter().find(|view| view.job == job).unwrap();
        (view.bytes, view.new_bytes)
    }
}

/// One key of a hundred changes: a checkpoint writes less than a twentieth of the state. And what is restored from it, on
/// another number of workers, is what was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_writes_what_has_changed() {
    let server = server(2);
    let views = [
        ("grouped", "SELECT id % 20000 AS k, count(*) AS n, sum(v) AS total FROM t GROUP BY id % 20000"),
        ("joined", "SELECT a.id, a.v, b.name FROM t a JOIN u b ON a.id = b.id"),
        ("outer_joined", "SELECT a.id, a.v, b.name FROM t a LEFT JOIN u b ON a.id = b.id AND b.id % 7 > 0"),
        ("different", "SELECT DISTINCT id, v FROM t"),
        (
            "newest",
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY v DESC) AS place FROM t) WHERE place = 1",
        ),
        ("numbered", "SELECT id, v, lag(v) OVER (ORDER BY id) AS before FROM t"),
        ("plain", "SELECT id, v + 1 AS w FROM t"),
    ];
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE TABLE u (id BIGINT PRIMARY KEY, name TEXT)").await;
    for (name, query) in views {
        server.run(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await;
    }
    server.run("INSERT INTO t SELECT i, i * 3 FROM generate_series(1, 20000) AS s(i)").await;
    server.run("INSERT INTO u SELECT i, 'the name of number ' || i FROM generate_series(1, 20000) AS s(i)").await;
    server.run("FLUSH; CHECKPOINT").await;
    let whole: Vec<u64> = views.iter().map(|(name, _)| server.bytes(name).1).collect();
    server.run("UPDATE t SET v = v + 1000000 WHERE id % 200 = 3").await;
    server
        .run("DELETE FROM t WHERE id % 400 = 5; INSERT INTO t SELECT i + 50000, i FROM generate_series(1, 50) AS s(i)")
        .await;
    server.run("FLUSH; CHECKPOINT").await;
    for ((name, _), whole) in views.iter().zip(whole) {
        let (bytes, new) = server.bytes(name);
        println!(
            "{name}: {whole} bytes whole, {new} bytes for 1 % of the keys ({:.2} %)",
            100.0 * new as f64 / whole as f64
        );
        assert!(new * 20 < whole, "{name}: {new} of {whole} bytes");
        assert!(bytes >= whole, "{name}");
    }
    let sums = "SELECT sum(total), count(*) FROM grouped";
    let sums_of = |name: &str| format!("SELECT count(*), sum(v), count(name) FROM {name}");
    let mut asked = vec![sums.to_owned(), sums_of("joined"), sums_of("outer_joined")];
    asked.extend(["different", "newest"].map(|name| format!("SELECT count(*), sum(v), sum(id) FROM {name}")));
    asked.push("SELECT count(*), sum(v), sum(before) FROM numbered".to_owned());
    asked.push("SELECT count(*), sum(w), sum(id) FROM plain".to_owned());
    let mut before = Vec::new();
    for query in &asked {
        before.push(server.run(query).await);
    }
    let mut server = server.restarted();
    for round in 0..2 {
        for (query, before) in asked.iter().zip(&before) {
            assert_eq!(&server.run(query).await, before, "{query}, round {round}");
        }
        // The restored state goes on, and its changes stand upon the same files.
        server.run("UPDATE t SET v = v - 7 WHERE id % 500 = 1; UPDATE t SET v = v + 7 WHERE id % 500 = 1").await;
        server.run("FLUSH; CHECKPOINT").await;
        for (name, _) in views {
            let (bytes, new) = server.bytes(name);
            assert!(new * 20 < bytes, "{name}: {new} of {bytes} bytes, round {round}");
        }
        server = server.restarted();
    }
    server.engine.shutdown();
}

/// The same of what is remembered of rows that only come, and may be equal; restored on other numbers of workers again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_writes_what_has_come() {
    let mut server = server(2);
    let by_symbol = "ON t.symbol = q.symbol AND t.at = q.at";
    let views = [
        (
            "sessions",
            "",
            "SELECT id, symbol AS v FROM SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(at), INTERVAL '5' SECOND)"
                .to_owned(),
        ),
        (
            "nearest",
            "",
            "SELECT t.id, q.price AS v FROM trades t LEFT ASOF JOIN quotes q MATCH_CONDITION (t.at >= q.at) \
             ON t.symbol = q.symbol"
                .to_owned(),
        ),
        ("kept", "", format!("SELECT t.id, q.price AS v FROM trades t LEFT JOIN quotes q {by_symbol}")),
        (
            "short",
            "WITH (state_ttl = '2 hours')",
            format!("SELECT t.id, q.price AS v FROM trades t JOIN quotes q {by_symbol}"),
        ),
        ("current", "", "SELECT id, symbol AS v FROM trades WHERE at > now() - INTERVAL '1' DAY".to_owned()),
    ];
    server.run("CREATE TABLE trades (id BIGINT, symbol BIGINT, at TIMESTAMP) APPEND ONLY").await;
    server.run("CREATE TABLE quotes (symbol BIGINT, at TIMESTAMP, price BIGINT) APPEND ONLY").await;
    for (name, with, query) in &views {
        server.run(&format!("CREATE MATERIALIZED VIEW {name} {with} AS {query}")).await;
    }
    // In the year 2100.
    let trades = |from: i64, to: i64| {
        format!(
            "INSERT INTO trades SELECT i / 2, i % 2000 / 2, to_timestamp(4102444800 + i % 2000 / 2) \
             FROM generate_series({from}, {to}) AS s(i)"
        )
    };
    let quotes = |from: i64, to: i64| {
        format!(
            "INSERT INTO quotes SELECT i % 1000, to_timestamp(4102444800 + i % 1000), i \
             FROM generate_series({from}, {to}) AS s(i)"
        )
    };
    server.run(&format!("{}; {}", trades(0, 39_999), quotes(0, 899))).await;
    server.run("FLUSH; CHECKPOINT").await;
    for (round, workers) in [(0, 3), (1, 1), (2, 4), (3, 2)] {
        server.run(&format!("{}; {}", trades(100 * round, 100 * round + 20), quotes(890 + round, 891 + round))).await;
        server.run("FLUSH; CHECKPOINT").await;
        let mut before = Vec::new();
        for (name, _, query) in &views {
            let (bytes, new) = server.bytes(name);
            println!("{name}: {new} of {bytes} bytes, round {round}");
            assert!(new * 10 < bytes, "{name}: {new} of {bytes} bytes, round {round}");
            let sums = |of: &str| format!("SELECT count(*), sum(id), sum(v), count(v) FROM {of}");
            let said = server.run(&sums(name)).await;
            assert_eq!(said, server.run(&sums(&format!("({query})"))).await, "{name}, round {round}");
            before.push((sums(name), said));
        }
        server = server.restarted_on(workers);
        for (query, before) in &before {
            assert_eq!(&server.run(query).await, before, "{query} on {workers} workers, round {round}");
        }
    }
    server.engine.shutdown();
}

/// Many checkpoints of small changes: their files stay few, and hold what they should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_many_checkpoints_stay_few() {
    let checkpoints = CheckpointSettings {
        interval: Duration::from_millis(10),
        minimum_pause: Duration::from_millis(1),
        ..CheckpointSettings::default()
    };
    let server = Server::start_with(EngineSettings { workers: 2, checkpoints, ..EngineSettings::default() });
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW doubled AS SELECT id, v * 2 AS w FROM t").await;
    server.run("INSERT INTO t SELECT i, i * 1 FROM generate_series(1, 2000) AS s(i); FLUSH; CHECKPOINT").await;
    for round in 0..60 {
        server.run(&format!("UPDATE t SET v = v + 1 WHERE id % 50 = {}; FLUSH; CHECKPOINT", round % 50)).await;
    }
    let files = |shown: &str| -> u64 {
        let line = shown.lines().find(|line| line.contains("chosen")).unwrap().to_owned();
        line.split('|').nth(6).unwrap().trim().parse().unwrap()
    };
    let begun = Instant::now();
    // Compaction runs beside; its files count from the next checkpoint on.
    while files(&server.run("SHOW CHECKPOINTS").await) > 40 {
        assert!(begun.elapsed() < PATIENCE, "{}", server.run("SHOW CHECKPOINTS").await);
        server.run("UPDATE t SET v = v + 1 WHERE id = 1; FLUSH").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = server.run("SELECT count(*), sum(w), max(w) FROM doubled").await;
    let server = server.restarted();
    assert_eq!(server.run("SELECT count(*), sum(w), max(w) FROM doubled").await, before);
    server.engine.shutdown();
}

/// Epochs in which nothing happens are no reason for a checkpoint, and a row is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_job_takes_no_checkpoints() {
    let checkpoints = CheckpointSettings {
        interval: Duration::from_millis(10),
        minimum_pause: Duration::from_millis(1),
        ..CheckpointSettings::default()
    };
    let server = Server::start_with(EngineSettings { workers: 2, checkpoints, ..EngineSettings::default() });
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW sums AS SELECT sum(v) AS s FROM t").await;
    let taken = || server.engine.checkpoint_views()[0].taken;
    server.run("INSERT INTO t VALUES (1, 10); FLUSH; CHECKPOINT").await;
    let before = taken();
    for _ in 0..5 {
        server.run("FLUSH").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(taken(), before);
    server.run("INSERT INTO t VALUES (2, 5); FLUSH").await;
    let begun = Instant::now();
    while taken() == before {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.engine.shutdown();
}

/// What a job says about its checkpoints holds for it, from its statement and as it is altered, also after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_has_options_of_its_own() {
    let server = server(1);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server
        .run(
            "CREATE MATERIALIZED VIEW often WITH (checkpoint_interval = '20ms', checkpoint_pause = '1ms', \
             checkpoints_retained = 1) AS SELECT count(*) AS n FROM t",
        )
        .await;
    server.run("CREATE MATERIALIZED VIEW seldom AS SELECT sum(v) AS s FROM t").await;
    let rows = |shown: String, job: &str| shown.lines().filter(|line| line.contains(&format!("| {job} "))).count();
    for id in 0..3 {
        server.run(&format!("INSERT INTO t VALUES ({id}, 1); FLUSH")).await;
        let before = server.engine.checkpoint_views().into_iter().find(|view| view.job == "often").unwrap().taken;
        let begun = Instant::now();
        while server.engine.checkpoint_views().into_iter().find(|view| view.job == "often").unwrap().taken == before {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(rows(server.run("SHOW CHECKPOINTS").await, "often"), 1, "one is retained");
    assert_eq!(rows(server.run("SHOW CHECKPOINTS").await, "seldom"), 0, "the server's interval is an hour");
    server.run("ALTER JOB seldom SET (checkpoints_retained = 2)").await;
    server.run("ALTER JOB often SET (checkpoints_retained = 4, checkpoint_interval = '1h')").await;
    let server = server.restarted();
    for id in 10..16 {
        server.run(&format!("INSERT INTO t VALUES ({id}, 1); FLUSH; CHECKPOINT")).await;
    }
    assert_eq!(rows(server.run("SHOW CHECKPOINTS").await, "often"), 4);
    assert_eq!(rows(server.run("SHOW CHECKPOINTS").await, "seldom"), 2);
    server.run("ALTER JOB often RESET (checkpoints_retained)").await;
    server.run("INSERT INTO t VALUES (20, 1); FLUSH; CHECKPOINT").await;
    assert_eq!(rows(server.run("SHOW CHECKPOINTS").await, "often"), 3, "as the server has it");
    for (statement, words) in [
        ("ALTER JOB often SET (checkpoint_intervall = '1s')", "there is no option \"checkpoint_intervall\""),
        ("ALTER JOB often SET (checkpoint_timeout = 'soon')", "allowed is a length of time"),
        ("ALTER JOB often RESET (connector)", "there is no option \"connector\" of a job"),
        ("ALTER JOB t SET (checkpoint_timeout = '1s')", "'t' has no job"),
        ("CREATE MATERIALIZED VIEW v WITH (checkpoints_retained = 0) AS SELECT 1 AS one", "a whole number from 1"),
        ("CREATE SINK s WITH (connector = 'blackhole', checkpoint_interval = '1s')", "has no job of its own"),
        (
            "CREATE VIEW v WITH (checkpoint_interval = '1s') AS SELECT 1 AS one",
            "there is no option checkpoint_interval",
        ),
    ] {
        let error = server.try_run(statement).await.unwrap_err();
        assert!(error.message().contains(words), "{statement}: {error}");
    }
    server.run("EXPLAIN CREATE MATERIALIZED VIEW v WITH (checkpoint_interval = '1s') AS SELECT count(*) FROM t").await;
    server.engine.shutdown();
}

/// A savepoint stays, however many checkpoints follow, and a job can go back to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_back_to_a_savepoint() {
    let server = server(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW sums AS SELECT id % 2 AS k, sum(v) AS s FROM t GROUP BY id % 2").await;
    server.run("CREATE MATERIALIZED VIEW most AS SELECT max(s) AS most FROM sums").await;
    server.run("INSERT INTO t VALUES (1, 10), (2, 20); FLUSH").await;
    server.run("CREATE SAVEPOINT \"Before it\" FOR JOB most").await;
    let error = server.try_run("CREATE SAVEPOINT \"Before it\" FOR JOB most").await.unwrap_err();
    assert!(error.message().contains("savepoint \"Before it\" exists already"), "{error}");
    for id in 3..10 {
        server.run(&format!("INSERT INTO t VALUES ({id}, 100); FLUSH; CHECKPOINT")).await;
    }
    let shown = server.run("SHOW CHECKPOINTS").await;
    assert_eq!(shown.lines().filter(|line| line.contains("Before it")).count(), 1, "{shown}");
    // The view keeps its own of that epoch for the reader's sake: it is the fourth of three.
    assert_eq!(shown.lines().filter(|line| line.contains("| sums ")).count(), 4, "{shown}");
    let server = server.restarted();
    let error = server.try_run("START JOB most FROM SAVEPOINT \"Before it\"").await.unwrap_err();
    assert!(error.message().contains("runs already"), "{error}");
    server.run("STOP JOB most").await;
    let error = server.try_run("START JOB most FROM SAVEPOINT other").await.unwrap_err();
    assert!(error.message().contains("there is no savepoint \"other\"") && error.hint().unwrap().contains("Before it"));
    server.run("START JOB most FROM SAVEPOINT \"Before it\"").await;
    // It takes in what the view has become since.
    server.run("FLUSH").await;
    assert!(server.run("SELECT most FROM most").await.contains("410"));
    server.run("STOP JOB most; STOP JOB sums").await;
    server.run("CREATE SAVEPOINT stopped FOR JOB sums").await;
    server.run("START JOB sums; START JOB most").await;
    server.run("DROP SAVEPOINT stopped FOR JOB sums; DROP SAVEPOINT \"Before it\" FOR JOB most").await;
    let error = server.try_run("DROP SAVEPOINT stopped FOR JOB sums").await.unwrap_err();
    assert!(error.message().contains("there is no savepoint \"stopped\" of job 'sums'"), "{error}");
    assert_eq!(server.notices("DROP SAVEPOINT IF EXISTS stopped FOR JOB sums").await.len(), 1);
    for id in 20..24 {
        server.run(&format!("INSERT INTO t VALUES ({id}, 1); FLUSH; CHECKPOINT")).await;
    }
    let shown = server.run("SHOW CHECKPOINTS").await;
    assert_eq!(shown.lines().filter(|line| line.contains("| most ")).count(), 3, "{shown}");
    server.engine.shutdown();
}

/// A view that has failed is started by name, whatever reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_view_is_started_with_its_readers() {
    let server = server(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW parts AS SELECT id, 10 / v AS part FROM t").await;
    server.run("CREATE MATERIALIZED VIEW whole AS SELECT sum(part) AS whole FROM parts").await;
    server.run("INSERT INTO t VALUES (1, 5); FLUSH; CHECKPOINT").await;
    server.run("INSERT INTO t VALUES (2, 0)").await;
    server.until("SHOW JOBS", "FAILED").await;
    server.until("SHOW JOBS", "whole | materialized view | FAILED").await;
    server.run("START JOB parts").await;
    let error = server.try_run("START JOB parts FROM SAVEPOINT none").await.unwrap_err();
    assert!(error.message().contains("is read by running jobs: whole"), "a reader cannot go back with it: {error}");
    server.engine.shutdown();
}

/// While the place of checkpoints cannot be written the jobs run on and say why; afterwards all is as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_away_is_told_and_waited_for() {
    let server = server(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW sums AS SELECT id % 10 AS k, sum(v) AS s FROM t GROUP BY id % 10").await;
    server.run("INSERT INTO t SELECT i, i * 1 FROM generate_series(1, 100) AS s(i); FLUSH; CHECKPOINT").await;
    let place = server.folder.path().join("data/checkpoints");
    let aside = server.folder.path().join("aside");
    std::fs::rename(&place, &aside).unwrap();
    std::fs::write(&place, "no folder").unwrap();
    server.run("UPDATE t SET v = v + 1 WHERE id <= 10; FLUSH").await;
    let error = server.try_run("CHECKPOINT JOB sums").await.unwrap_err();
    assert!(error.message().contains("no checkpoint of job 'sums' was taken"), "{error}");
    assert!(server.job("sums").await.contains("RUNNING"));
    assert!(server.job("sums").await.contains("no checkpoint since"), "{}", server.job("sums").await);
    server.run("UPDATE t SET v = v + 1 WHERE id <= 20; FLUSH").await;
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    // What was told to the one that failed is in the next.
    server.run("CHECKPOINT JOB sums").await;
    assert!(!server.job("sums").await.contains("no checkpoint since"));
    let before = server.run("SELECT * FROM sums ORDER BY k").await;
    let server = server.restarted();
    assert_eq!(server.run("SELECT * FROM sums ORDER BY k").await, before);
    server.engine.shutdown();
}

/// A job begins anew beside checkpoints of later epochs, which another server has taken whose clock is ahead: its own are kept, not
/// those, of which nothing is gone on from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_begins_anew_does_so_after_what_lies_there() {
    let server = server(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW sums AS SELECT sum(v) AS s FROM t").await;
    server.run("INSERT INTO t VALUES (1, 5); FLUSH; CHECKPOINT").await;
    let (folder, settings) = (server.folder, server.engine.settings.clone());
    server.engine.shutdown();
    drop((server.session, server.engine));
    let only = |path: &std::path::Path| std::fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    let job = only(&only(&folder.path().join("data/checkpoints")));
    std::fs::remove_dir_all(job.join("chosen")).unwrap();
    for file in std::fs::read_dir(job.join("manifests")).unwrap() {
        let path = file.unwrap().path();
        let (epoch, generation) = path.file_name().unwrap().to_str().unwrap().split_once('-').unwrap();
        let epoch: u64 = epoch.parse().unwrap();
        let ahead = epoch + 3_600_000;
        let manifest = std::fs::read_to_string(&path).unwrap().replace(&format!(" {epoch},"), &format!(" {ahead},"));
        std::fs::write(job.join(format!("manifests/{ahead:020}-{generation}")), manifest).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    let unused: Vec<_> =
        std::fs::read_dir(job.join("manifests")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(!unused.is_empty());
    let engine = Engine::open(settings, Functions::builtin(), Arc::new(SystemClock)).unwrap();
    let server = Server { session: engine.session(), engine, broker: server.broker, folder };
    for id in 2..6 {
        server.run(&format!("INSERT INTO t VALUES ({id}, 5); FLUSH; CHECKPOINT JOB sums")).await;
    }
    assert!(server.run("SELECT s FROM sums").await.contains(" 25 "));
    let mut kept: Vec<_> =
        std::fs::read_dir(job.join("manifests")).unwrap().map(|file| file.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert!(kept.iter().all(|file| unused.iter().all(|unused| file > unused)), "{kept:?} beside {unused:?}");
    let server = server.restarted();
    assert!(server.run("SELECT s FROM sums").await.contains(" 25 "));
    server.engine.shutdown();
}

/// A sink that decides which checkpoint counts, and can be away.
#[derive(Default)]
struct Deciding {
    away: AtomicBool,
}

impl Committer for Deciding {
    fn decides(&self) -> bool {
        true
    }

    fn recover(&self) -> Result<Option<CheckpointName>> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::External, "the sink is away")),
            false => Ok(None),
        }
    }

    fn prepare(&self, _: Epoch) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn publish(&self, _: &[u8], _: &CheckpointName) -> Result<()> {
        Ok(())
    }

    fn abandon(&self, _: Option<&[u8]>) -> Result<()> {
        Ok(())
    }

    fn close(&self) {}
}

/// Until a reader's sink can be asked, a run of a server that was taken for dead may commit at any checkpoint that its view had
/// then: the view keeps those, however many of its own follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_keeps_what_a_sink_that_is_away_may_have_committed() {
    let server = server(2);
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await;
    server.run("CREATE MATERIALIZED VIEW sums AS SELECT sum(v) AS s FROM t").await;
    server.run("INSERT INTO t VALUES (1, 5); FLUSH; CHECKPOINT JOB sums").await;
    let server = server.restarted();
    let view = server.engine.catalog.get("sums").unwrap().id;
    let folder = server.folder.path().join("data/checkpoints");
    let folder = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path().join(format!("{view}/manifests"));
    let files = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = files.collect();
        files.sort();
        files
    };
    let before = files();
    let sink = Arc::new(Deciding { away: AtomicBool::new(true) });
    let begin = || {
        let reads = BTreeMap::from([("scan".to_owned(), (view, Arc::new(arrow::datatypes::Schema::empty())))]);
        let (sql, plan, committer) = (String::new(), Vec::new(), Some(Arc::clone(&sink) as Arc<dyn Committer>));
        let (id, settings) = (Uuid::from_u128(7), CheckpointSettings::default());
        let job = Beginning { id, name: "reader".to_owned(), sql, plan, reads, committer, settings };
        server.engine.checkpoints().unwrap().begin(job)
    };
    assert!(begin().is_err_and(|error| error.message().contains("the sink is away")));
    for id in 2..7 {
        server.run(&format!("INSERT INTO t VALUES ({id}, 5); FLUSH; CHECKPOINT JOB sums")).await;
    }
    assert_eq!(files().len(), before.len() + 3, "{before:?} {:?}", files());
    assert!(before.iter().all(|file| files().contains(file)), "{before:?} {:?}", files());
    // It has committed nothing.
    sink.away.store(false, Ordering::SeqCst);
    assert!(begin().unwrap().manifest.is_none());
    server.run("INSERT INTO t VALUES (7, 5); FLUSH; CHECKPOINT JOB sums").await;
    assert_eq!(files().len(), 3, "{:?}", files());
    server.engine.shutdown();
}
