//! What can be set: each setting is declared once, here, as an option of the command line and a variable of the
//! environment. `docs/settings.md` is written from these declarations by a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command};

use rondel_engine::checkpoint::CheckpointSettings;
use rondel_engine::connector::options::parse_duration;
use rondel_engine::engine::EngineSettings;

use crate::machine;
use crate::pg::Limits;

/// Settings of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct EngineOptions {
    /// Worker threads; by default one for each processor
    #[arg(long, env = "RONDEL_WORKERS", value_name = "COUNT", value_parser = at_least_one)]
    pub workers: Option<usize>,

    /// Memory that one job's state and rows under way may hold
    #[arg(long, env = "RONDEL_JOB_MEMORY", value_name = "BYTES", default_value = "256MB", value_parser = bytes)]
    pub job_memory: usize,

    /// Memory that all jobs may hold together: near it their sources read no more; by default three quarters of the machine's
    #[arg(long, env = "RONDEL_MEMORY_LIMIT", value_name = "BYTES", value_parser = bytes)]
    pub memory_limit: Option<usize>,

    /// Where state goes that memory has no room for; by default the folder `spill` of the data directory
    #[arg(long, env = "RONDEL_SPILL", value_name = "FOLDER")]
    pub spill: Option<PathBuf>,

    /// How long a job that is stopped may take to write what it has read
    #[arg(long, env = "RONDEL_JOB_STOP_TIMEOUT", value_name = "DURATION", default_value = "4s", value_parser = duration)]
    pub job_stop_timeout: Duration,

    /// Where checkpoints are kept: `file://`, `s3://`, `gs://` or `az://`; by default the folder `checkpoints` of the data directory
    #[arg(long, env = "RONDEL_CHECKPOINTS", value_name = "URL")]
    pub checkpoints: Option<String>,

    /// From one checkpoint of a job to the next
    #[arg(long, env = "RONDEL_CHECKPOINT_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub checkpoint_interval: Duration,

    /// How long a checkpoint may take
    #[arg(long, env = "RONDEL_CHECKPOINT_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub checkpoint_timeout: Duration,

    /// At least so long from the end of a checkpoint to the begin of the next
    #[arg(long, env = "RONDEL_CHECKPOINT_PAUSE", value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    pub checkpoint_pause: Duration,

    /// So many checkpoints of each job are kept
    #[arg(long, env = "RONDEL_CHECKPOINTS_RETAINED", value_name = "COUNT", default_value = "3", value_parser = at_least_one)]
    pub checkpoints_retained: usize,

    /// And those that are younger
    #[arg(long, env = "RONDEL_CHECKPOINTS_RETAINED_FOR", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub checkpoints_retained_for: Duration,
}

impl EngineOptions {
    /// Worker threads.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Bytes that all jobs may hold together.
    pub fn memory_limit(&self) -> usize {
        self.memory_limit.unwrap_or_else(|| machine::memory_bytes() / 4 * 3)
    }

    /// What the engine is told.
    pub fn settings(&self, data_dir: Option<PathBuf>) -> EngineSettings {
        EngineSettings {
            data_dir,
            workers: self.workers(),
            job_memory_bytes: self.job_memory,
            memory_limit_bytes: self.memory_limit(),
            stop_timeout: self.job_stop_timeout,
            spill: self.spill.clone(),
            checkpoints: CheckpointSettings {
                url: self.checkpoints.clone(),
                interval: self.checkpoint_interval,
                minimum_pause: self.checkpoint_pause,
                timeout: self.checkpoint_timeout,
                retained: self.checkpoints_retained,
                retained_for: self.checkpoints_retained_for,
            },
            ..EngineSettings::default()
        }
    }
}

/// Settings of the server.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ServerOptions {
    /// Where PostgreSQL clients connect
    #[arg(long, env = "RONDEL_PG", value_name = "ADDRESS", default_value = "127.0.0.1:5433")]
    pub pg: SocketAddr,

    /// PostgreSQL connections at one time
    #[arg(long, env = "RONDEL_PG_CONNECTIONS_MAX", value_name = "COUNT", default_value = "200", value_parser = at_least_one)]
    pub pg_connections_max: usize,

    /// The longest message of a PostgreSQL client, and so the longest statement
    #[arg(long, env = "RONDEL_PG_MESSAGE_BYTES_MAX", value_name = "BYTES", default_value = "16MB", value_parser = bytes)]
    pub pg_message_bytes_max: usize,

    /// Where health and metrics are served
    #[arg(long, env = "RONDEL_HTTP", value_name = "ADDRESS", default_value = "127.0.0.1:8433")]
    pub http: SocketAddr,

    /// Where the catalog is kept
    #[arg(long, env = "RONDEL_DATA_DIR", value_name = "FOLDER", default_value = "rondel-data")]
    pub data_dir: PathBuf,

    /// Keep nothing: the catalog is in memory only
    #[arg(long, env = "RONDEL_IN_MEMORY")]
    pub in_memory: bool,

    /// How long the server waits for connections and jobs to end when it is stopped
    #[arg(long, env = "RONDEL_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub shutdown_timeout: Duration,

    #[allow(missing_docs)] // the flattened group documents itself
    #[command(flatten)]
    pub engine: EngineOptions,
}

impl ServerOptions {
    /// What bounds the PostgreSQL server.
    pub fn limits(&self) -> Limits {
        Limits { connections_max: self.pg_connections_max, message_bytes_max: self.pg_message_bytes_max }
    }

    /// Where the catalog is kept, if anywhere.
    pub fn data_dir(&self) -> Option<PathBuf> {
        (!self.in_memory).then(|| self.data_dir.clone())
    }
}

/// The settings as a table in Markdown.
pub fn table() -> String {
    let command = ServerOptions::augment_args(Command::new("rondel"));
    let mut table = "| option | variable | default | |\n|---|---|---|---|\n".to_owned();
    for argument in command.get_arguments() {
        let Some(option) = argument.get_long() else { continue };
        let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let defaults = argument.get_default_values().iter();
        let defaults: Vec<String> = defaults.map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
        table.push_str(&format!("| `--{option}` | `{variable}` | {} | {meaning} |\n", defaults.join(" ")));
    }
    table
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it is at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("it is a whole number".to_owned()),
    }
}

/// `4096`, `64KB`, `256MB`, `2GB`; the units are powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "KB" | "KIB" | "K" => 10,
        "MB" | "MIB" | "M" => 20,
        "GB" | "GIB" | "G" => 30,
        unit => return Err(format!("\"{unit}\" is no unit: B, KB, MB, GB")),
    };
    let count: usize = text[..digits].parse().map_err(|_| "it is a number of bytes, such as 256MB".to_owned())?;
    count.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(|| "it is out of range".to_owned())
}

/// `250ms`, `5s`, `2min`, `1.5h`: as the options of statements say it.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text.trim()).ok_or_else(|| "it is a length of time, such as 250ms, 5s, 2min or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ServerOptions,
    }

    #[test]
    fn defaults_are_for_one_machine() {
        let options = Line::try_parse_from(["rondel"]).unwrap().options;
        assert_eq!(options.pg.to_string(), "127.0.0.1:5433");
        assert_eq!(options.http.to_string(), "127.0.0.1:8433");
        assert_eq!(options.engine.job_memory, 256 << 20);
        assert_eq!(options.limits(), Limits::default());
        assert!(options.engine.workers() >= 1);
        assert!(options.data_dir().is_some());
        let options = Line::try_parse_from(["rondel", "--in-memory", "--workers", "3"]).unwrap().options;
        assert_eq!((options.data_dir(), options.engine.workers()), (None, 3));
        assert!(options.engine.settings(None).memory_limit_bytes > 256 << 20, "of a machine that runs these tests");
    }

    #[test]
    fn values_have_units() {
        assert_eq!(bytes("64 KB"), Ok(65_536));
        assert_eq!(bytes("1g"), Ok(1 << 30));
        for wrong in ["", "MB", "0", "12XB", "99999999999999999999"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert!(duration("5").is_err());
        assert!(at_least_one("0").is_err());
    }

    #[test]
    fn the_documentation_is_these_declarations() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");
        let heading = "# Settings\n\nOptions of `rondel server`. Each can also be given as a variable of the environment; \
                       the option wins.\n\n";
        let expected = format!("{heading}{}", table());
        let written = std::fs::read_to_string(page).unwrap_or_default();
        if written != expected {
            std::fs::write(page, expected).unwrap();
            panic!("docs/settings.md was out of date and is written anew: commit it");
        }
    }

    #[test]
    fn a_group_of_options_knows_its_own_arguments() {
        let command = ServerOptions::augment_args(Command::new("rondel"));
        let matches = command.try_get_matches_from(["rondel", "--pg", "nonsense"]);
        assert!(matches.is_err());
        let matches = ServerOptions::augment_args(Command::new("rondel")).get_matches_from(["rondel"]);
        assert!(ServerOptions::from_arg_matches(&matches).is_ok());
    }
}
