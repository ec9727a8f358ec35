//! Runs the statements that the server answers itself: transactions, prepared statements, cursors.
//!
//! A transaction holds the changes of tables together; definitions take effect at once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use pgwire::messages::response::TransactionStatus;
use rondel_engine::{Error, ErrorKind};

use super::answer::Answer;
use super::command::Command;
use super::connection::{Connection, Cursor};
use super::delivery::Stop;
use super::sqlstate::{Fault, notice};
use super::statement::Query;
use crate::frontend::Session;
use crate::script::Piece;

/// Cursors that a connection may hold.
const CURSORS_MAX: usize = 256;

impl<S: Session> Connection<S> {
    /// Runs a command.
    pub(super) async fn command(&mut self, command: &Command) -> Result<Answer, Stop> {
        match command {
            Command::Begin => {
                if self.transaction == TransactionStatus::Transaction {
                    self.warn("there is already a transaction in progress");
                }
                self.session.begin().await?;
                self.transaction = TransactionStatus::Transaction;
                Ok(Answer::done("BEGIN"))
            }
            Command::Commit => {
                let is_open = self.transaction == TransactionStatus::Transaction;
                let tag = self.end("COMMIT");
                match is_open {
                    true => self.session.commit().await?,
                    false => self.session.roll_back().await?,
                }
                Ok(Answer::done(tag))
            }
            Command::Rollback => {
                self.session.roll_back().await?;
                Ok(Answer::done(self.end("ROLLBACK")))
            }
            Command::Nothing { tag } => Ok(Answer::done(*tag)),
            Command::DiscardAll => {
                self.session.reset();
                self.report_variables();
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
            Command::CopyOut { .. } | Command::CopyIn(_) | Command::Fetch { .. } => {
                Err(Error::internal("a command was run without rows").into())
            }
        }
    }

    /// The columns of a command's rows.
    pub(super) fn command_columns(&mut self, command: &Command) -> Result<Option<SchemaRef>, Fault> {
        Ok(match command {
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
            self.warn("changes of tables were rolled back; definitions took effect when they were made, and stay");
        }
        self.transaction = TransactionStatus::Idle;
        self.cursors.retain(|_, cursor| cursor.hold);
        self.end_transaction();
        if failed { "ROLLBACK" } else { tag }
    }

    /// Tells the client which of the variables that it is told of have changed.
    pub(super) fn report_variables(&mut self) {
        for message in self.reported.changes(self.session.as_ref()) {
            self.outbound.queue(message);
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
