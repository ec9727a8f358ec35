//! Programs in Python (`tests/components/python/`), in an environment with the official protobuf library,
//! confluent-kafka and DuckDB: an encoder, a consumer and a database that share no code with Rondel.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{Result, root};

fn command(program: &str) -> Command {
    let folder = root().join("tests/components/python");
    let mut command = Command::new("bash");
    command.arg(folder.join("python.sh")).arg(folder.join(program));
    command
}

/// Runs a program of `tests/components/python/`; answers what it printed. Its failure is an error with its last words.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program).args(arguments).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{program} failed ({}): {words}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A program that says a line when it is ready, and answers each line with a line, until this is dropped.
#[derive(Debug)]
pub struct Conversation {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Conversation {
    /// Starts a program of `tests/components/python/`; it is ready then.
    pub fn start(program: &str) -> Result<Self> {
        let mut child = command(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = child.stdin.take().ok_or("it has no input")?;
        let answers = child.stdout.take().ok_or("it has no output")?;
        let mut started = Self { child, questions, answers: BufReader::new(answers) };
        started.line().map_err(|error| format!("{program}: {error}; make setup brings what it needs"))?;
        Ok(started)
    }

    /// The answer to a line; an error when the program has ended.
    pub fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.questions, "{question}")?;
        self.questions.flush()?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("it has ended".into()),
            _ => Ok(line),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It would end where its input does, but not before it has answered.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
