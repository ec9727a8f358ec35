//! The `rondel` program itself, as a process, and its clients.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{Result, free_port, root};

/// How long a server may take until it answers.
/// A server that goes on from checkpoints of some gigabytes answers when they are read.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The program's file. Built when it is first asked for, so that no test runs an old one.
pub fn program() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|error| error.to_string())).clone().map_err(Into::into)
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The whole workspace and a test beside the program: so cargo chooses the features of `cargo test`, and finds every
    // dependency compiled.
    let mut command = Command::new(cargo);
    // What cargo tells this test of its own package would count as changed for a build script that asks for it (ring's),
    // and all that stands on that crate would be compiled anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_CRATE_") {
            command.env_remove(name.as_ref());
        }
    }
    let output = command
        .args(["build", "--workspace", "--locked", "--bin", "rondel", "--test", "integration"])
        .current_dir(root())
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("rondel was not built: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    // Tests lie in `deps`, beside which cargo puts programs.
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).ok_or("the test lies in no folder of cargo's")?;
    Ok(folder.join("rondel"))
}

/// A server with a data directory of its own, on free ports of loopback; it ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct RondelServer {
    process: Child,
    /// Held open: the server's leash.
    leash: Option<ChildStdin>,
    postgres_port: u16,
    http_port: u16,
    options: Vec<String>,
    data: TempDir,
    log: PathBuf,
}

impl RondelServer {
    /// Starts a server with as many workers, and waits until it answers. It runs in the checkout's root, so that
    /// `file:sql/tour/booking.proto` is found.
    pub async fn start(workers: usize) -> Result<RondelServer> {
        Self::start_with(workers, &[]).await
    }

    /// As [`start`](Self::start), with more options.
    pub async fn start_with(workers: usize, options: &[&str]) -> Result<RondelServer> {
        let options: Vec<String> = ["--workers".to_owned(), workers.to_string()]
            .into_iter()
            .chain(options.iter().map(|option| (*option).to_owned()))
            .collect();
        let mut attempts = 0;
        loop {
            let data = tempfile::Builder::new().prefix("rondel-data-").tempdir()?;
            let ports = (free_port()?, free_port()?);
            let (process, leash) = launch(data.path(), ports, &options)?;
            let log = data.path().join("server.log");
            let (postgres_port, http_port) = ports;
            let options = options.clone();
            let mut server = RondelServer { process, leash, postgres_port, http_port, options, data, log };
            attempts += 1;
            match server.wait_until_ready().await {
                // A port that was free is another test's by now.
                Err(error) if attempts < 5 && error.to_string().contains("Address already in use") => {}
                ready => return ready.map(|()| server),
            }
        }
    }

    /// Kills the server as `kill -9` does, and starts another on its data directory and ports.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.kill()?;
        self.restart().await
    }

    /// As [`kill_and_restart`](Self::kill_and_restart), with as many workers from now on.
    pub async fn kill_and_restart_with(&mut self, workers: usize) -> Result<()> {
        self.options[1] = workers.to_string();
        self.kill_and_restart().await
    }

    /// Stops the server in order (SIGTERM), and waits until it has ended.
    pub fn stop(&mut self) -> Result<()> {
        let program = child_of(self.process.id(), "rondel")?;
        Command::new("kill").args(["-TERM", &program.to_string()]).status()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts another server on the data directory and ports of one that has ended.
    pub async fn restart(&mut self) -> Result<()> {
        (self.process, self.leash) = launch(self.data.path(), (self.postgres_port, self.http_port), &self.options)?;
        self.wait_until_ready().await
    }

    /// Starts another server with as many workers on the data directory and ports of one that was killed.
    pub async fn restart_with(&mut self, workers: usize) -> Result<()> {
        self.options[1] = workers.to_string();
        self.restart().await
    }

    /// Whether the server has ended.
    pub fn is_killed(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Kills the server as `kill -9` does.
    pub fn kill(&mut self) -> Result<()> {
        let program = child_of(self.process.id(), "rondel")?;
        let killed = Command::new("kill").args(["-KILL", &program.to_string()]).status()?;
        if !killed.success() {
            return Err(format!("the server's process {program} could not be killed").into());
        }
        self.process.wait()?;
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("rondel server ended at once ({status}): {}", self.log()).into());
            }
            if let Ok(client) = self.connect().await
                && client.simple_query("SELECT 1").await.is_ok()
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("rondel server did not answer in {START_TIMEOUT:?}: {}", self.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection.
    pub async fn connect(&self) -> Result<Client> {
        let address = format!("host=127.0.0.1 port={} user=rondel dbname=rondel", self.postgres_port);
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
        tokio::spawn(async move {
            // Its end is seen by the client's calls.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Runs SQL through the client program psql, which stops at the first error.
    pub fn psql(&self, sql: &str) -> Result<Output> {
        Ok(Command::new("psql")
            .args(["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--host=127.0.0.1", "--username=rondel", "--dbname=rondel"])
            .arg(format!("--port={}", self.postgres_port))
            .arg(format!("--command={sql}"))
            .stdin(Stdio::null())
            .output()?)
    }

    /// The port of PostgreSQL's protocol.
    pub fn postgres_port(&self) -> u16 {
        self.postgres_port
    }

    /// The port of health and metrics.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The folder in which the server keeps its catalog.
    pub fn data_folder(&self) -> PathBuf {
        self.data.path().join("data")
    }
}

impl Drop for RondelServer {
    fn drop(&mut self) {
        drop(self.leash.take());
        // The script waits for the server, and kills it if it does not end.
        let _ = self.process.wait();
    }
}

/// Starts the program on a leash.
fn launch(folder: &Path, ports: (u16, u16), options: &[String]) -> Result<(Child, Option<ChildStdin>)> {
    let output = File::options().create(true).append(true).open(folder.join("server.log"))?;
    let mut process = Command::new("bash")
        .arg(root().join("tests/components/leashed.sh"))
        .arg(program()?)
        .arg("server")
        .args(["--pg", &format!("127.0.0.1:{}", ports.0)])
        .args(["--http", &format!("127.0.0.1:{}", ports.1)])
        .args(options)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let leash = process.stdin.take();
    Ok((process, leash))
}

/// The process of this name that another has started.
fn child_of(parent: u32, name: &str) -> Result<u32> {
    for entry in fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // `1234 (name) S 1233 …`
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let Some((begin, rest)) = stat.rsplit_once(") ") else { continue };
        let is_child = rest.split(' ').nth(1) == Some(parent.to_string().as_str());
        if is_child && begin.ends_with(&format!("({name}")) {
            return Ok(id);
        }
    }
    Err(format!("process {parent} has no child {name}").into())
}

/// The rows of a statement as text, NULL as `None`.
pub async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
        }
    }
    Ok(rows)
}

/// A job's column of SHOW JOBS.
pub async fn job_column(client: &Client, job: &str, column: &str) -> Result<Option<String>> {
    for message in client.simple_query("SHOW JOBS").await? {
        if let SimpleQueryMessage::Row(row) = message
            && row.try_get("name")? == Some(job)
        {
            return Ok(row.try_get(column)?.map(str::to_owned));
        }
    }
    Err(format!("there is no job {job}").into())
}

/// Asks again and again until `done` is content with a statement's rows; the last rows are in the error when it is not.
pub async fn rows_until(
    client: &Client,
    sql: &str,
    timeout: Duration,
    done: impl Fn(&[Vec<Option<String>>]) -> bool,
) -> Result<Vec<Vec<Option<String>>>> {
    let deadline = Instant::now() + timeout;
    loop {
        let found = rows(client, sql).await?;
        if done(&found) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("after {timeout:?}, {sql} still answers {found:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
