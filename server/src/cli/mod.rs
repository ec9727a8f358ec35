//! The `rondel` command.

mod bench;
mod checkpoint;
mod run;
mod serve;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use rondel_engine::{Error, ErrorKind, Result};
use tracing_subscriber::EnvFilter;

use crate::demo::demo;
use crate::frontend::Frontend;
use crate::opening::Opening;
use crate::settings::{EngineOptions, ServerOptions};
use crate::shutdown;

pub use bench::poll_yardstick;
pub use run::{Complaint, run_script};
pub use serve::serve;
pub use table::Printer;

/// SQL over streams: continuously maintained results from Kafka, in psql and in Kafka.
#[derive(Debug, Parser)]
#[command(name = "rondel", version, arg_required_else_help = true)]
struct Line {
    /// What is logged to standard error: error, warn, info, debug, trace, or filters by module
    #[arg(long, env = "RONDEL_LOG", global = true, value_name = "FILTER")]
    log: Option<String>,

    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Serves PostgreSQL clients and HTTP until it is stopped
    Server(ServerOptions),
    /// Runs the tour in one process: an embedded broker, a producer of ride bookings, and the server
    Demo(ServerOptions),
    /// Runs files of SQL in this process, in order, and waits until their jobs have finished
    Run(RunOptions),
    /// Lists, verifies and copies checkpoints where they lie; no server has to run
    Checkpoint(checkpoint::CheckpointOptions),
    /// Measures how many events a second of processor time handles, from memory and from Kafka
    Bench(bench::BenchOptions),
    /// The broker that `bench` reads from, in a process of its own; ends with its standard input
    #[command(hide = true)]
    BenchBroker(bench::BrokerOptions),
}

/// Options of `rondel run`.
#[derive(Debug, clap::Args)]
struct RunOptions {
    /// Files of SQL statements; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How rows are printed
    #[arg(long, value_enum, default_value_t = RowFormat::Table)]
    format: RowFormat,

    #[command(flatten)]
    engine: EngineOptions,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// Aligned columns
    Table,
    /// Comma-separated values
    Csv,
}

/// The whole program, over an engine of type `F`.
pub fn main<F: Frontend>() -> ExitCode {
    let line = Line::parse();
    let (level, finished) = match &line.task {
        Task::Server(_) => ("info", "the server ended"),
        Task::Demo(_) => ("warn", "the demo ended"),
        Task::Run(_) => ("warn", "the files were run"),
        Task::Checkpoint(_) => ("warn", "the checkpoints were read"),
        Task::Bench(_) | Task::BenchBroker(_) => ("warn", "all was measured"),
    };
    let done = start_logging(line.log.as_deref().unwrap_or(level)).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::new(ErrorKind::External, format!("no threads: {error}")))?;
        let code = runtime.block_on(perform::<F>(line.task));
        // What still blocks a thread does not keep the process.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        code
    });
    match done {
        Ok(code) => {
            tracing::info!("{finished}");
            code
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn perform<F: Frontend>(task: Task) -> Result<ExitCode> {
    match task {
        Task::Server(options) => {
            let frontend = Arc::new(Opening::<F>::new());
            let engine = Arc::clone(&frontend);
            let open = engine.fill(options.engine.settings(options.data_dir()));
            serve(frontend, &options, open, stop_signal()).await?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Demo(options) => {
            let frontend = Arc::new(F::open(options.engine.settings(None)).await?);
            demo(frontend, &options, stop_signal()).await?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Run(options) => {
            let frontend = Arc::new(F::open(options.engine.settings(None)).await?);
            let code = run::run_files(&frontend, &options.files, options.format).await?;
            frontend.close().await;
            Ok(code)
        }
        Task::Checkpoint(options) => {
            // A bucket is waited for, which nothing else may be kept up by.
            let read = tokio::task::spawn_blocking(move || checkpoint::checkpoint(options, &mut io::stdout().lock()));
            read.await.map_err(|error| Error::internal(error.to_string()))?
        }
        Task::Bench(options) => {
            bench::bench(&options).await?;
            Ok(ExitCode::SUCCESS)
        }
        Task::BenchBroker(options) => {
            bench::serve_broker(&options)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Done when the process is asked to stop.
async fn stop_signal() {
    match shutdown::signal().await {
        Ok(signal) => tracing::info!(signal, "stopping"),
        Err(error) => {
            tracing::error!(%error, "signals can't be waited for: the server has to be killed");
            std::future::pending::<()>().await;
        }
    }
}

fn start_logging(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Error::invalid(format!("the log filter \"{filter}\" can't be read: {error}"))
            .with_hint("it is a level such as info, or levels by module such as info,rondel_engine=debug")
    })?;
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let logging = logging.with_ansi(io::stderr().is_terminal()).try_init();
    logging.map_err(|error| Error::internal(format!("logging can't be started: {error}")))
}

/// The program's last words.
fn complain(error: &Error) {
    let mut stderr = io::stderr().lock();
    // When even this can't be written there is nobody to tell.
    let _ = writeln!(stderr, "rondel: {error}");
    if let Some(hint) = error.hint() {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}
