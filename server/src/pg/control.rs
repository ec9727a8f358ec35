//! Runs the statements that the server answers itself: transactions, session variables, cursors.
//!
//! A transaction groups statements for the client only: each statement takes effect when it is done.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use pgwire::messages::response::TransactionStatus;
use rondel_engine::{Error, ErrorKind};

use super::answer::Answer;
use super::command::Command;
use super::connection::{Connection, Cursor};
use super::delivery::Stop;
use super::sqlstate::{Fault, notice};
use super::startup::parameter_status;
use super::statement::Query;
use super::variables::unknown;
use crate::frontend::Session;
use crate::script::Piece;

/// Cursors that a connection may hold.
const CURSORS_MAX: usize = 256;

/// Variables of the protocol that the engine's session hears of too.
const SHARED_VARIABLES: [&str; 2] = ["timezone", "search_path"];

impl<S: Session> Connection<S> {
    /// Runs a command.
    pub(super) async fn command(&mut self, command: &Command, piece: &Piece) -> Result<Answer, Stop> {
        match command {
            Command::Begin => {
                if self.transaction == TransactionStatus::Transaction {
                    self.warn("there is already a transaction in progress");
                }
                self.transaction = TransactionStatus::Transaction;
                Ok(Answer::done("BEGIN"))
            }
            Command::Commit => Ok(Answer::done(self.end("COMMIT"))),
            Command::Rollback => Ok(Answer::done(self.end("ROLLBACK"))),
            Command::Set { name, value } => {
                self.set(name, value.as_deref())?;
                let is_reset = piece.text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("reset"));
                Ok(Answer::done(if is_reset { "RESET" } else { "SET" }))
            }
            Command::Nothing { tag } => Ok(Answer::done(*tag)),
            Command::Show { name } => self.show(name, piece).await,
            Command::ShowAll => {
                let all = self.variables.all();
                let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
                let values = all.iter().map(|(_, value)| value.as_str()).collect();
                Ok(Answer::ready(texts(&show_all_schema(), vec![names, values])?)?)
            }
            Command::ResetAll => {
                self.reset_variables()?;
                Ok(Answer::done("RESET"))
            }
            Command::DiscardAll => {
                self.reset_variables()?;
                self.prepared.clear();
                self.cursors.clear();
                Ok(Answer::done("DISCARD ALL"))
            }
            Command::Deallocate(Some(name)) => {
                let missing = || Fault::new("26000", format!("prepared statement \"{name}\" does not exist"));
                self.prepared.remove(name).ok_or_else(missing)?;
                Ok(Answer::done("DEALLOCATE"))
            }
            Command::Deallocate(None) => {
                self.prepared.clear();
                Ok(Answer::done("DEALLOCATE ALL"))
            }
            Command::Declare { name, hold, query } => self.declare(name, *hold, query).await,
            Command::Close(Some(name)) => {
                self.cursor(name)?;
                self.cursors.remove(name);
                Ok(Answer::done("CLOSE CURSOR"))
            }
            Command::Close(None) => {
                self.cursors.clear();
                Ok(Answer::done("CLOSE CURSOR ALL"))
            }
            // Their rows are delivered by the connection.
            Command::CopyOut { .. } | Command::Fetch { .. } => {
                Err(Error::internal("a command was run without rows").into())
            }
        }
    }

    /// The columns of a command's rows.
    pub(super) fn command_columns(&mut self, command: &Command) -> Result<Option<SchemaRef>, Fault> {
        Ok(match command {
            Command::Show { name } => Some(show_schema(name)),
            Command::ShowAll => Some(show_all_schema()),
            Command::Fetch { name, silent: false, .. } => Some(Arc::clone(&self.cursor(name)?.rows.schema)),
            _ => None,
        })
    }

    fn warn(&mut self, text: &str) {
        self.outbound.queue(notice("WARNING", text));
    }

    fn end(&mut self, tag: &'static str) -> &'static str {
        let failed = self.transaction == TransactionStatus::Error;
        if self.transaction == TransactionStatus::Idle {
            self.warn("there is no transaction in progress");
        } else if tag == "ROLLBACK" && self.has_changed {
            self.warn("nothing was rolled back: each statement took effect when it was done");
        }
        self.transaction = TransactionStatus::Idle;
        self.cursors.retain(|_, cursor| cursor.hold);
        self.end_transaction();
        if failed { "ROLLBACK" } else { tag }
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Fault> {
        if !self.variables.knows(name) {
            self.session.set(name, value).map_err(|error| match error.kind() {
                ErrorKind::UndefinedObject => undefined_variable(name),
                _ => error.into(),
            })?;
            self.session_variables.insert(name.to_owned());
            return Ok(());
        }
        if SHARED_VARIABLES.contains(&name) {
            match self.session.set(name, value) {
                Err(error) if error.kind() != ErrorKind::UndefinedObject => return Err(error.into()),
                _ => {}
            }
        }
        let before: Vec<_> = self.variables.reported().collect();
        self.variables.set(name, value)?;
        let changed = self.variables.reported().zip(before).filter(|(now, before)| now != before);
        for ((name, value), _) in changed.collect::<Vec<_>>() {
            self.outbound.queue(parameter_status(name, value));
        }
        Ok(())
    }

    fn reset_variables(&mut self) -> Result<(), Fault> {
        for name in std::mem::take(&mut self.session_variables) {
            self.session.set(&name, None)?;
        }
        for name in SHARED_VARIABLES {
            self.set(name, None)?;
        }
        let before: Vec<_> = self.variables.reported().collect();
        self.variables.reset();
        let changed = self.variables.reported().zip(before).filter(|(now, before)| now != before);
        for ((name, value), _) in changed.collect::<Vec<_>>() {
            self.outbound.queue(parameter_status(name, value));
        }
        Ok(())
    }

    /// A variable's value; what is no variable may be the engine's (`SHOW JOBS`).
    async fn show(&mut self, name: &str, piece: &Piece) -> Result<Answer, Stop> {
        let value = self.variables.get(name).or_else(|| self.session.get(name));
        match value {
            Some(value) => Ok(Answer::ready(texts(&show_schema(name), vec![vec![&value]])?)?),
            None => {
                let query = Query::read(piece, &self.session)?;
                self.answer(&query, piece, &[]).await
            }
        }
    }

    async fn declare(&mut self, name: &str, hold: bool, query: &Piece) -> Result<Answer, Stop> {
        if self.cursors.contains_key(name) {
            return Err(Fault::new("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        if self.cursors.len() >= CURSORS_MAX {
            let sentence = format!("a connection may hold {CURSORS_MAX} cursors");
            return Err(Error::new(ErrorKind::ResourceExhausted, sentence).with_hint("CLOSE some").into());
        }
        let read = Query::read(query, &self.session)?;
        let Answer::Rows(rows) = self.answer(&read, query, &[]).await? else {
            return Err(Error::invalid("a cursor needs a statement with rows").into());
        };
        // Outside of a transaction there is nothing that would close it.
        let hold = hold || self.transaction == TransactionStatus::Idle;
        self.cursors.insert(name.to_owned(), Cursor { rows, hold });
        Ok(Answer::done("DECLARE CURSOR"))
    }
}

/// SQLSTATE has a code of its own for session variables.
fn undefined_variable(name: &str) -> Fault {
    Fault { state: "42704", ..unknown(name).into() }
}

fn show_schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]))
}

fn show_all_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true), Field::new("setting", DataType::Utf8, true)]))
}

fn texts(schema: &SchemaRef, columns: Vec<Vec<&str>>) -> Result<RecordBatch, Error> {
    let columns = columns.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
