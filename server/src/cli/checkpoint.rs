//! `rondel checkpoint`: what lies in a place of checkpoints. No server has to run.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use rondel_engine::checkpoint::{Archive, ArchivedCheckpoint};
use rondel_engine::{Error, ErrorKind, Result};

/// Options of `rondel checkpoint`.
#[derive(Debug, Args)]
pub(super) struct CheckpointOptions {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Lists the checkpoints that are there
    List(Which),
    /// Reads checkpoints whole, and says which can be gone on from; fails if one cannot
    Verify(Which),
    /// Copies one checkpoint into a folder, from which the job can go on: the one that was chosen, or that of --epoch
    Export {
        #[command(flatten)]
        which: Which,
        /// The folder
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
}

/// Which checkpoints, and where they are.
#[derive(Debug, Args)]
struct Which {
    /// The data directory of the server
    #[arg(long, env = "RONDEL_DATA_DIR", value_name = "FOLDER", default_value = "rondel-data")]
    data_dir: PathBuf,

    /// Where checkpoints are kept, if not in the data directory: a URL as the server is given it
    #[arg(long, env = "RONDEL_CHECKPOINTS", value_name = "URL")]
    checkpoints: Option<String>,

    /// Of this job alone
    #[arg(long, value_name = "NAME")]
    job: Option<String>,

    /// Of this epoch alone
    #[arg(long, value_name = "EPOCH")]
    epoch: Option<u64>,
}

impl Which {
    fn found(&self) -> Result<(Archive, Vec<ArchivedCheckpoint>)> {
        let archive = Archive::open(self.checkpoints.as_deref(), &self.data_dir)?;
        let mut found = archive.list()?;
        // One whose manifest cannot be read may be anybody's.
        found.retain(|one| self.job.is_none() || one.name().is_none() || one.name() == self.job.as_deref());
        found.retain(|one| self.epoch.is_none() || one.epoch() == self.epoch);
        Ok((archive, found))
    }
}

/// Does what the command says, and prints it.
pub(super) fn checkpoint(options: CheckpointOptions, out: &mut impl Write) -> Result<ExitCode> {
    match options.task {
        Task::List(which) => list(&which, out),
        Task::Verify(which) => verify(&which, out),
        Task::Export { which, to } => export(&which, &to, out),
    }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::new(ErrorKind::External, format!("the output can't be written: {error}"))
}

fn epoch_of(one: &ArchivedCheckpoint) -> String {
    one.epoch().map_or_else(|| one.file.clone(), |epoch| epoch.to_string())
}

fn state_of(one: &ArchivedCheckpoint) -> String {
    let savepoints = one.savepoints.iter().map(|name| format!("savepoint {name}"));
    let chosen = one.is_chosen.then(|| "chosen".to_owned());
    let words: Vec<String> = chosen.into_iter().chain(savepoints).collect();
    if words.is_empty() { "kept".to_owned() } else { words.join(", ") }
}

fn list(which: &Which, out: &mut impl Write) -> Result<ExitCode> {
    let (_, found) = which.found()?;
    writeln!(out, "job\tepoch\tstate\tfiles\trows\tbytes\trondel").map_err(unwritten)?;
    for one in &found {
        let (epoch, state) = (epoch_of(one), state_of(one));
        let line = match &one.manifest {
            Ok(manifest) => {
                let rows: u64 = manifest.files.iter().map(|file| file.rows).sum();
                let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
                let (name, files) = (&manifest.name, manifest.files.len());
                format!("{name}\t{epoch}\t{state}\t{files}\t{rows}\t{bytes}\t{}", manifest.rondel)
            }
            Err(error) => format!("{}\t{epoch}\t{state}\tunreadable: {error}", one.job),
        };
        writeln!(out, "{line}").map_err(unwritten)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(which: &Which, out: &mut impl Write) -> Result<ExitCode> {
    let (archive, found) = which.found()?;
    let mut damaged = 0;
    for one in &found {
        let name = one.name().map_or_else(|| one.job.to_string(), str::to_owned);
        let line = match archive.verify(one) {
            Ok(rows) => format!("{name}\t{}\tok\t{rows} rows", epoch_of(one)),
            Err(error) => {
                damaged += 1;
                format!("{name}\t{}\tdamaged\t{error}", epoch_of(one))
            }
        };
        writeln!(out, "{line}").map_err(unwritten)?;
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn export(which: &Which, to: &std::path::Path, out: &mut impl Write) -> Result<ExitCode> {
    let (archive, mut found) = which.found()?;
    if which.epoch.is_none() {
        found.retain(|one| one.is_chosen);
    }
    let invalid = |words: String| Error::invalid(words).with_hint("rondel checkpoint list shows what is there");
    let one = match found.as_slice() {
        [one] => one,
        [] => return Err(invalid("there is no such checkpoint".to_owned())),
        several => {
            let names: Vec<&str> = several.iter().filter_map(ArchivedCheckpoint::name).collect();
            return Err(invalid(format!("one checkpoint is exported, and there are several: {}", names.join(", "))));
        }
    };
    let bytes = archive.export(one, to)?;
    let name = one.name().unwrap_or_default();
    writeln!(out, "{name}\t{}\t{bytes} bytes in {}", epoch_of(one), to.display()).map_err(unwritten)?;
    Ok(ExitCode::SUCCESS)
}
