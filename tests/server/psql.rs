//! psql, the program itself.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{Server, wait_for};

/// Ctrl-C ends psql within this.
pub(crate) const INTERRUPT_WITHIN: Duration = Duration::from_millis(100);

/// A psql that talks to the server and reads no settings of the user's.
fn psql(port: u16) -> Command {
    let mut command = Command::new("psql");
    command.args(["-X", "-h", "127.0.0.1", "-U", "ann", "-d", "rondel", "-p", &port.to_string()]);
    command.env("PGCONNECT_TIMEOUT", "5").env_remove("PGOPTIONS").env("LC_ALL", "C");
    command
}

/// Runs statements; answers what psql printed.
pub(super) async fn run(server: &Server, arguments: &[&str]) -> Output {
    let mut command = psql(server.address.port());
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output().expect("psql is needed for this test")).await.unwrap()
}

pub(super) async fn printed(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !errors.contains("ERROR"), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_prints_results_and_tags() {
    let server = Server::start();
    let text =
        printed(&server, &["-c", "SELECT id, name FROM cities ORDER BY id; CREATE STREAM s; SHOW dialect"]).await;
    let expected = " id |     name     \n----+--------------\n  1 | Berlin\n  2 | \n  3 | tab     here\n(3 rows)\n\n\
                    CREATE STREAM\n dialect  \n----------\n postgres\n(1 row)\n\n";
    assert_eq!(text, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_where_an_error_is_and_what_to_do() {
    let server = Server::start();
    let output = run(&server, &["-v", "VERBOSITY=verbose", "-c", "SELECT 1;\nSELECT id\nFROM cities WHERE ) 3"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("ERROR:  42601: "), "{text}");
    assert!(text.contains("LINE 3: FROM cities WHERE ) 3\n                          ^\n"), "{text}");
    assert!(text.contains("HINT:  look at the caret"), "{text}");
    // The text is read as a whole before its first statement runs.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    let output = run(&server, &["-c", "SELECT nothing FROM cities; SELECT 1"]).await;
    assert!(String::from_utf8(output.stderr).unwrap().contains("No field named nothing"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    server.stop().await;
}

/// A psql whose output is read while it runs.
pub(crate) struct Live {
    child: Child,
    pub(crate) lines: std::sync::mpsc::Receiver<(Instant, String)>,
}

impl Live {
    pub(crate) fn start(port: u16, statement: &str) -> Self {
        let mut command = psql(port);
        command.args(["-v", "ON_ERROR_STOP=1", "-c", statement]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("psql is needed for this test");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(1 << 20);
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Ctrl-C; answers how long psql took to end, and what it said.
    pub(crate) fn interrupt(mut self) -> (Duration, String) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let start = Instant::now();
        #[allow(unsafe_code)] // a signal to a child of this test
        // SAFETY: kill takes two integers; the process is a child that was not waited for, so its id is its own.
        let sent = unsafe { libc::kill(pid, libc::SIGINT) };
        assert_eq!(sent, 0);
        // The reader's queue is kept empty, or psql would wait for it.
        let drain = std::thread::spawn(move || while self.lines.recv().is_ok() {});
        self.child.wait().unwrap();
        let elapsed = start.elapsed();
        drain.join().unwrap();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (elapsed, errors)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_rows_arrive_as_they_come() {
    let server = Server::start();
    let live = Live::start(server.address.port(), "COPY (SUBSCRIBE TO ticks) TO STDOUT");
    let wait = Duration::from_secs(30);
    let first = live.lines.recv_timeout(wait).unwrap();
    assert_eq!(first.1, "1\t1\t2");
    assert_eq!(live.lines.recv_timeout(wait).unwrap().1, "1\t-1\t3");
    // An epoch comes every 20 ms: ten of them come one by one, not at the end.
    for epoch in 2..12 {
        assert_eq!(live.lines.recv_timeout(wait).unwrap().1, format!("{epoch}\t1\t{}", epoch * 2));
        live.lines.recv_timeout(wait).unwrap();
    }
    assert_eq!(server.engine.running_subscriptions(), 1);
    let (_, errors) = live.interrupt();
    assert!(errors.contains("canceling statement due to user request"), "{errors}");
    wait_for("the subscription ends", || server.engine.running_subscriptions() == 0).await;
    server.stop().await;
}

/// Interrupts a statement that runs; answers how long psql took to end. What has to be quick is measured a few times and
/// the best counts: the machine may be busy with something else.
async fn interrupted(server: &Server, statement: &str, rows_first: bool) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let live = Live::start(server.address.port(), statement);
        wait_for("the subscription begins", || server.engine.running_subscriptions() == 1).await;
        if rows_first {
            live.lines.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        let (elapsed, errors) = tokio::task::spawn_blocking(|| live.interrupt()).await.unwrap();
        assert!(errors.contains("canceling statement due to user request"), "{statement}: {errors}");
        wait_for("the subscription ends", || server.engine.running_subscriptions() == 0).await;
        best = best.min(elapsed);
        if best < INTERRUPT_WITHIN {
            break;
        }
    }
    best
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupts_stop_a_flood_and_a_silence() {
    let server = Server::start();
    for (statement, rows_first) in [
        ("COPY (SUBSCRIBE TO ticks) TO STDOUT", true),
        ("COPY (SUBSCRIBE TO flood) TO STDOUT", true),
        ("COPY (SUBSCRIBE TO silence) TO STDOUT", false),
        ("SUBSCRIBE TO silence", false),
        ("SUBSCRIBE TO ticks", false),
    ] {
        let elapsed = interrupted(&server, statement, rows_first).await;
        assert!(elapsed < INTERRUPT_WITHIN, "{statement}: {elapsed:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_ends_its_subscription() {
    let server = Server::start();
    for view in ["ticks", "silence", "flood"] {
        let mut live = Live::start(server.address.port(), &format!("COPY (SUBSCRIBE TO {view}) TO STDOUT"));
        wait_for("the subscription begins", || server.engine.running_subscriptions() == 1).await;
        live.child.kill().unwrap();
        live.child.wait().unwrap();
        wait_for("the subscription ends", || server.engine.running_subscriptions() == 0).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_and_cursors_work_in_psql() {
    let server = Server::start();
    let text =
        printed(&server, &["-c", "COPY (SELECT * FROM cities ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)"]).await;
    assert_eq!(text, "id,name\n1,Berlin\n2,\n3,tab\there\n");
    let text = printed(&server, &["-c", "COPY cities (name, id) TO STDOUT"]).await;
    assert_eq!(text, "Berlin\t1\n\\N\t2\ntab\\there\t3\n");
    let text = printed(&server, &["-At", "-v", "FETCH_COUNT=2", "-c", "SELECT id FROM cities ORDER BY id"]).await;
    assert_eq!(text, "1\n2\n3\n");
    server.stop().await;
}
