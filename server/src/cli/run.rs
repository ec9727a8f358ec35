//! `rondel run`: the statements of files, in order, up to the first that fails.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use rondel_engine::error::Position;
use rondel_engine::{Error, ErrorKind, Result};

use super::RowFormat;
use super::table::Printer;
use crate::frontend::{Frontend, Session};
use crate::pg::{Answer, Fault, Query, SystemTables};
use crate::script::{Piece, split};

/// An error with its place in a file.
#[derive(Debug, Clone)]
pub struct Complaint {
    /// What is wrong.
    pub error: Error,
    /// Where, in the script.
    pub at: Position,
}

/// Runs files. What the user wrote wrongly is shown with its place and ends in exit code 1.
pub(super) async fn run_files<F: Frontend>(
    frontend: &Arc<F>,
    files: &[PathBuf],
    format: RowFormat,
) -> Result<ExitCode> {
    for file in files {
        let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        let script =
            read(file).map_err(|error| Error::new(ErrorKind::External, format!("{name} can't be read: {error}")))?;
        let mut printer = Printer::new(io::stdout(), format);
        if let Err(complaint) = run_script(frontend, &script, &mut printer).await {
            let text = complaint.show(&name, &script).to_string();
            let written = io::stderr().lock().write_all(text.as_bytes());
            written.map_err(|error| Error::new(ErrorKind::External, error.to_string()))?;
            return Ok(ExitCode::FAILURE);
        }
    }
    frontend.finished().await?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// Runs a script's statements in one session. The script is read as a whole first: a syntax error runs nothing.
pub async fn run_script<F: Frontend, W: Write>(
    frontend: &Arc<F>,
    script: &str,
    printer: &mut Printer<W>,
) -> Result<(), Complaint> {
    let beginning = Position { line: 1, column: 1 };
    let pieces = split(script).map_err(|error| Complaint { at: error.position().unwrap_or(beginning), error })?;
    let in_script = |piece: &Piece, error: Error| Complaint {
        at: error.position().map_or(piece.start(), |at| piece.in_script(at)),
        error,
    };
    let start = |error| Complaint { error, at: beginning };
    let session = Arc::new(frontend.connect("rondel", "rondel").map_err(start)?);
    let system = SystemTables::new(Arc::clone(frontend) as _).map_err(start)?;
    let mut queries = Vec::new();
    for piece in &pieces {
        queries.push(Query::read(piece, &session).map_err(|fault| in_script(piece, *fault.error))?);
    }
    for (piece, query) in pieces.iter().zip(&queries) {
        let answered = answer(query, piece, &session, &system).await;
        let answer = answered.map_err(|fault| in_script(piece, *fault.error))?;
        let printed = match answer {
            Answer::Done { tag, notices } => printer.done(&tag, &notices),
            Answer::Rows(mut rows) => printer.rows(&mut rows).await,
        };
        printed.map_err(|error| in_script(piece, error))?;
    }
    Ok(())
}

async fn answer<S: Session>(
    query: &Query<S>,
    piece: &Piece,
    session: &Arc<S>,
    system: &SystemTables,
) -> Result<Answer, Fault> {
    query.resolve(piece, session, system).await?.run(piece, &[], session).await
}

impl Complaint {
    /// `file:line:column: sentence`, the line with a caret below the place, detail and hint.
    pub fn show<'a>(&'a self, file: &'a str, script: &'a str) -> impl fmt::Display + 'a {
        Shown { complaint: self, file, script }
    }
}

struct Shown<'a> {
    complaint: &'a Complaint,
    file: &'a str,
    script: &'a str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Complaint { error, at } = self.complaint;
        writeln!(f, "{}:{}:{}: {}", self.file, at.line, at.column, error.message())?;
        let index = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
        if let Some(line) = self.script.lines().nth(index) {
            // Tabs stay tabs, so that the caret stands below what it points at.
            let before = line.chars().take(at.column.saturating_sub(1) as usize);
            let before: String = before.map(|character| if character == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "  | {line}\n  | {before}^")?;
        }
        if let Some(detail) = error.detail() {
            writeln!(f, "detail: {detail}")?;
        }
        match error.hint() {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_points_at_its_place() {
        let error = Error::new(ErrorKind::UndefinedColumn, "there is no column \"x\"").with_hint("it may be y");
        let complaint = Complaint { error, at: Position { line: 2, column: 9 } };
        let shown = complaint.show("a.sql", "-- first\n\tselect x\n").to_string();
        let expected = "a.sql:2:9: there is no column \"x\"\n  | \tselect x\n  | \t       ^\nhint: it may be y\n";
        assert_eq!(shown, expected);
    }
}
