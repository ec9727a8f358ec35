//! Who writes exactly once, and who is told that it can't be.

use super::*;

const FILES: &str = "connector = 'file', path = '/nowhere/rondel', format = 'json'";

#[tokio::test(flavor = "multi_thread")]
async fn without_checkpoints_a_sink_writes_at_least_once_and_says_so() {
    let engine = Engine::open(EngineSettings::default(), Functions::builtin(), Arc::new(SystemClock)).unwrap();
    let session = engine.session();
    let run = async |sql: &str| match session.execute(&session.parse(sql)?[0], &[]).await? {
        Outcome::Done { notices, .. } => Ok::<_, Error>(notices),
        _ => panic!("{sql} answers with rows"),
    };
    let kafka = "connector = 'kafka', brokers = '127.0.0.1:9', topic = 't', format = 'json'";
    for (name, columns, options) in [("files", "", FILES), ("topic", "(n BIGINT)", kafka)] {
        let sink = |more: &str| format!("CREATE SINK {name} {columns} WITH ({options}{more})");
        let refused: Error = run(&sink(", delivery = 'exactly_once'")).await.unwrap_err();
        let words = format!("'{name}' is to write exactly once, and this server keeps no checkpoints");
        assert_eq!(refused.message(), words);
        let said = run(&sink("")).await.unwrap();
        assert_eq!(
            said,
            [format!(
                "sink '{name}' writes at least once: exactly once takes checkpoints, and this server has no data directory"
            )]
        );
        run(&format!("DROP SINK {name}")).await.unwrap();
        assert_eq!(run(&sink(", delivery = 'at_least_once'")).await.unwrap(), Vec::<String>::new());
    }
    engine.shutdown();
}

/// The sink of a bounded job shows the last of its rows when the job is finished, by a checkpoint of its end; so do those of
/// jobs that read its view, also one that reads a table as well and never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_job_has_shown_everything() {
    let server = Server::start(2);
    let folder = |name: &str| server.folder.path().join(name);
    let files = |name: &str| format!("connector = 'file', path = '{}', format = 'json'", folder(name).display());
    let lines = |name: &str| -> usize {
        let Ok(found) = std::fs::read_dir(folder(name)) else { return 0 };
        let shown = found.map(|file| file.unwrap().path()).filter(|path| path.is_file());
        shown.map(|path| std::fs::read_to_string(path).unwrap().lines().count()).sum()
    };
    server
        .run(&format!(
            "CREATE STREAM bid WITH (connector = 'nexmark', table = 'bid', events = '5000');
             CREATE TABLE names (id BIGINT, name TEXT) APPEND ONLY;
             INSERT INTO names VALUES (0, 'even'), (1, 'odd');
             CREATE SINK all_bids WITH ({}) AS SELECT auction, price FROM bid;
             CREATE MATERIALIZED VIEW dear AS SELECT auction, price FROM bid WHERE price > 0;
             CREATE SINK of_view WITH ({}) AS SELECT auction, price FROM dear;
             CREATE SINK named WITH ({}) AS SELECT auction, name FROM dear JOIN names ON auction % 2 = id",
            files("all"),
            files("dear"),
            files("named"),
        ))
        .await;
    for job in ["all_bids", "dear", "of_view"] {
        server.until("SHOW JOBS", "FINISHED").await;
        let begun = Instant::now();
        while !server.job(job).await.contains("FINISHED") {
            assert!(begun.elapsed() < PATIENCE, "{}", server.job(job).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!((lines("all"), lines("dear")), (4_600, 4_600));
    // The view has ended; who reads it and a table takes checkpoints as before.
    server.run("CHECKPOINT JOB named").await;
    assert_eq!(lines("named"), 4_600);
    server.run("INSERT INTO names VALUES (1, 'odd again'); FLUSH; CHECKPOINT JOB named").await;
    let with_more = lines("named");
    assert!(with_more > 4_600, "{with_more}");

    // And goes on from the last, though it is of a later epoch than the view's.
    let server = server.restarted();
    let job = server.until("SHOW JOBS", "FINISHED").await;
    assert!(!job.contains("FAILED"), "{job}");
    server.run("INSERT INTO names VALUES (0, 'even again'); FLUSH; CHECKPOINT JOB named").await;
    let lines = |name: &str| -> usize {
        let shown = std::fs::read_dir(server.folder.path().join(name)).unwrap().map(|file| file.unwrap().path());
        shown.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap().lines().count()).sum()
    };
    assert_eq!((lines("all"), lines("dear"), lines("named")), (4_600, 4_600, 9_200));
    server.engine.shutdown();
}
