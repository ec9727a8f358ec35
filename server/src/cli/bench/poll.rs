//! The yardstick that needs a process of its own: rust-rdkafka's `poll` over the system's allocator.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rondel_engine::connector::kafka::yardstick::{Drained, drain_by_poll};
use rondel_engine::{Error, ErrorKind, Result};

use super::broker::{Contents, TOPIC};
use super::measure::{Meter, Taken};
use super::say;
use crate::cli::complain;

/// The program, beside this one.
const PROGRAM: &str = "rondel-poll";
const PATIENCE: Duration = Duration::from_secs(120);

/// Reads the topic of the broker named by the first argument, and says what that took: what `rondel-poll` does.
pub fn poll_yardstick() -> ExitCode {
    let Some(bootstrap) = std::env::args().nth(1) else {
        complain(&Error::invalid(format!("{PROGRAM} is a part of rondel bench: it wants a broker's address")));
        return ExitCode::FAILURE;
    };
    let measured = Meter::start().and_then(|meter| {
        let drained = drain_by_poll(&bootstrap, TOPIC, PATIENCE)?;
        Ok((drained, meter.stop()?))
    });
    match measured {
        Ok((Drained { records, bytes }, Taken { wall, cpu, peak })) => {
            say(&format!("{records} {bytes} {wall} {cpu} {peak}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Where the program is, if it was built.
pub(super) fn program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(PROGRAM);
    path.is_file().then_some(path)
}

/// Runs the program once.
pub(super) fn run(program: &PathBuf, bootstrap: &str, contents: Contents) -> Result<Taken> {
    let failed = |reason: String| Error::new(ErrorKind::External, format!("{} failed: {reason}", program.display()));
    let output = Command::new(program).arg(bootstrap).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    match parse(&line) {
        Some((records, taken)) if records == contents.records => Ok(taken),
        Some((records, _)) => Err(failed(format!("{records} records of {} were read", contents.records))),
        None => Err(failed(output.status.to_string())),
    }
}

fn parse(line: &str) -> Option<(u64, Taken)> {
    let mut words = line.split_ascii_whitespace();
    let records = words.next()?.parse().ok()?;
    let _bytes: u64 = words.next()?.parse().ok()?;
    let mut number = || words.next()?.parse().ok();
    Some((records, Taken { wall: number()?, cpu: number()?, peak: number()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_read() {
        let (records, taken) = parse("7 99 0.5 0.25 1048576\n").unwrap();
        assert_eq!((records, taken.wall, taken.cpu, taken.peak), (7, 0.5, 0.25, 1_048_576.0));
        assert!(parse("7 99 0.5").is_none());
    }
}
