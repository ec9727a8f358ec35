//! One client's connection, from its start to its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use metrics::counter;
use pgwire::api::results::FieldFormat;
use pgwire::messages::copy::{CopyDone, CopyOutResponse};
use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use rondel_engine::engine::Parameters;

use super::answer::{Answer, Rows};
use super::catalog::SystemTables;
use super::command::Command;
use super::copy::CopyFormat;
use super::delivery::{Delivered, Form, Interrupts, Portion, Stop, deliver};
use super::extended::{Portal, Prepared};
use super::sqlstate::{Fault, notice};
use super::startup;
use super::statement::{Query, Statement};
use super::value::{pg_type, type_modifier, type_size};
use super::variables::Reported;
use super::wire::Outbound;
use crate::frontend::Session;
use crate::script::{Piece, split};

/// FETCH from a cursor whose rows have no end waits so long for the first one.
const FETCH_WAIT: Duration = Duration::from_secs(1);
/// And so long for another.
pub(super) const NEXT_ROW_WAIT: Duration = Duration::from_millis(20);

/// The client is gone, or was told a fatal error: the connection ends.
#[derive(Debug)]
pub(super) struct Ended;

/// A connection's state between two messages.
pub(super) struct Connection<S: Session> {
    pub(super) session: Arc<S>,
    pub(super) system: SystemTables,
    pub(super) interrupts: Interrupts,
    pub(super) outbound: Outbound,
    pub(super) reported: Reported,
    pub(super) transaction: TransactionStatus,
    /// Whether a definition was changed since BEGIN: ROLLBACK warns that it stays.
    pub(super) has_changed: bool,
    pub(super) prepared: HashMap<String, Arc<Prepared<S>>>,
    pub(super) portals: HashMap<String, Portal<S>>,
    pub(super) cursors: HashMap<String, Cursor>,
    /// After an error in the extended protocol: messages are passed over until Sync.
    pub(super) skips_to_sync: bool,
}

/// A result that is fetched in portions.
pub(super) struct Cursor {
    pub(super) rows: Rows,
    /// Whether it outlives its transaction.
    pub(super) hold: bool,
}

/// A statement that has begun.
pub(super) enum Begun {
    /// Its rows come.
    Running(Running),
    /// It is done.
    Done {
        /// The command tag.
        tag: String,
        /// Things the user should know.
        notices: Vec<String>,
    },
    /// It takes rows from a cursor.
    Fetch {
        /// The cursor.
        name: String,
        /// How many.
        count: Option<u64>,
        /// MOVE.
        silent: bool,
    },
}

/// A statement whose rows are being delivered.
pub(super) struct Running {
    pub(super) rows: Rows,
    pub(super) form: Form,
    /// The word before the number of rows in the command tag; EXPLAIN and SHOW have no number.
    pub(super) verb: &'static str,
}

impl<S: Session> Connection<S> {
    /// Answers messages until the client leaves.
    pub(super) async fn serve(mut self) {
        self.ready();
        let _ = self.serve_messages().await;
        self.outbound.close().await;
    }

    async fn serve_messages(&mut self) -> Result<(), Ended> {
        loop {
            if self.outbound.flush().await.is_err() {
                return Err(Ended);
            }
            let shutdown = &mut self.interrupts.shutdown;
            let received = tokio::select! {
                biased;
                () = shutdown.requested() => return self.fail(Stop::Fault(Fault::shutdown())),
                received = self.interrupts.inbound.receive() => received,
            };
            let message = match received {
                Ok(Some(PgWireFrontendMessage::Terminate(_)) | None) => return Ok(()),
                Ok(Some(message)) => message,
                Err(error) => {
                    let fault = startup::fault_of(&error).ok_or(Ended)?;
                    return self.fail(Stop::Fault(fault));
                }
            };
            self.interrupts.cancellation.begin();
            match message {
                PgWireFrontendMessage::Query(query) if !self.skips_to_sync => self.simple_query(&query.query).await?,
                message => self.extended(message).await?,
            }
        }
    }

    /// Tells the client what went wrong. The transaction, if one is open, has failed.
    pub(super) fn fail(&mut self, stop: Stop) -> Result<(), Ended> {
        let Stop::Fault(fault) = stop else { return Err(Ended) };
        counter!("rondel_pg_errors_total", "sqlstate" => fault.state).increment(1);
        self.outbound.queue(fault.message());
        self.transaction = self.transaction.to_error_state();
        if fault.is_fatal { Err(Ended) } else { Ok(()) }
    }

    pub(super) fn ready(&mut self) {
        self.outbound.queue(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(self.transaction)));
    }

    pub(super) fn complete(&mut self, tag: String) {
        self.outbound.queue(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)));
    }

    /// The simple protocol: a text of statements, answered in order up to the first that fails.
    async fn simple_query(&mut self, text: &str) -> Result<(), Ended> {
        self.portals.remove("");
        if let Err(stop) = self.run_script(text).await {
            self.fail(stop)?;
        }
        if self.transaction == TransactionStatus::Idle {
            self.end_transaction();
        }
        self.ready();
        Ok(())
    }

    async fn run_script(&mut self, text: &str) -> Result<(), Stop> {
        let pieces = split(text).map_err(|error| whole_text_fault(error, text))?;
        if pieces.is_empty() {
            self.outbound.queue(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        // A syntax error in the last statement is told before the first one runs.
        let statements: Vec<Statement<S>> =
            pieces.iter().map(|piece| Statement::read(piece, &self.session)).collect::<Result<_, _>>()?;
        for (piece, statement) in pieces.iter().zip(&statements) {
            match self.begin(statement, piece, &[], &[]).await? {
                Begun::Done { tag, notices } => {
                    self.notices(&notices);
                    self.complete(tag);
                }
                Begun::Running(mut running) => {
                    self.announce(&running);
                    let delivered = self.outbound_progress(&mut running, Portion::default()).await?;
                    self.finish(&running, delivered.rows);
                }
                Begun::Fetch { name, count, silent } => {
                    let schema = Arc::clone(&self.cursor(&name)?.rows.schema);
                    if !silent {
                        self.outbound.queue(row_description(&schema, &[]));
                    }
                    self.fetch(&name, count, silent, Vec::new()).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts a statement: what has no rows is done afterwards.
    pub(super) async fn begin(
        &mut self,
        statement: &Statement<S>,
        piece: &Piece,
        parameters: &Parameters,
        formats: &[FieldFormat],
    ) -> Result<Begun, Stop> {
        counter!("rondel_pg_statements_total").increment(1);
        let ends = matches!(statement, Statement::Command(Command::Commit | Command::Rollback));
        if self.transaction == TransactionStatus::Error && !ends {
            let sentence = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Fault::new("25P02", sentence).with_hint("ROLLBACK ends it").into());
        }
        match statement {
            Statement::Query(query) => {
                let answer = self.answer(query, piece, parameters).await?;
                if let Answer::Done { tag, .. } = &answer {
                    self.has_changed |= stays(tag) && self.transaction == TransactionStatus::Transaction;
                }
                Ok(self.begun(answer, Form::Rows(formats.to_vec()), verb(piece)))
            }
            Statement::Command(Command::CopyOut { query, format }) => {
                let read = Query::read(query, &self.session)?;
                let answer = self.answer(&read, query, parameters).await?;
                Ok(self.begun(answer, Form::Copy(format.clone()), "COPY"))
            }
            Statement::Command(Command::CopyIn(copy)) => {
                Ok(Begun::Done { tag: self.copy_in(copy).await?, notices: Vec::new() })
            }
            Statement::Command(Command::Fetch { name, count, silent }) => {
                Ok(Begun::Fetch { name: name.clone(), count: *count, silent: *silent })
            }
            Statement::Command(command) => {
                let answer = self.command(command).await?;
                Ok(self.begun(answer, Form::Rows(formats.to_vec()), verb(piece)))
            }
        }
    }

    /// Runs a query; a cancel request stops it at once.
    pub(super) async fn answer(
        &mut self,
        query: &Query<S>,
        piece: &Piece,
        parameters: &Parameters,
    ) -> Result<Answer, Stop> {
        let (session, system) = (Arc::clone(&self.session), self.system.clone());
        let work = async {
            let resolved = query.resolve(piece, &session, &system).await?;
            resolved.run(piece, parameters, &session).await
        };
        Ok(self.interrupts.guard(work).await??)
    }

    fn begun(&mut self, answer: Answer, form: Form, verb: &'static str) -> Begun {
        match answer {
            Answer::Done { tag, notices } => {
                if matches!(tag.as_str(), "SET" | "RESET") {
                    self.report_variables();
                }
                Begun::Done { tag, notices }
            }
            Answer::Rows(rows) => Begun::Running(Running { rows, form, verb }),
        }
    }

    pub(super) fn notices(&mut self, notices: &[String]) {
        for text in notices {
            self.outbound.queue(notice("NOTICE", text));
        }
    }

    /// Tells the client what kind of rows come: needed before the first one.
    fn announce(&mut self, running: &Running) {
        match &running.form {
            Form::Copy(format) => self.announce_copy(&running.rows.schema, format),
            _ => self.outbound.queue(row_description(&running.rows.schema, &[])),
        }
    }

    pub(super) fn announce_copy(&mut self, schema: &Schema, format: &CopyFormat) {
        let columns = schema.fields().len();
        let response = CopyOutResponse::new(0, columns as i16, vec![0; columns]);
        self.outbound.queue(PgWireBackendMessage::CopyOutResponse(response));
        if format.header {
            format.write_header(schema.fields().iter().map(|field| field.name().as_str()), self.outbound.buffer());
        }
    }

    /// Delivers a portion of a statement's rows.
    pub(super) async fn outbound_progress(
        &mut self,
        running: &mut Running,
        portion: Portion,
    ) -> Result<Delivered, Stop> {
        let Running { rows, form, .. } = running;
        deliver(rows, form, portion, &mut self.interrupts, &mut self.outbound).await
    }

    /// Says that all rows were delivered.
    pub(super) fn finish(&mut self, running: &Running, rows: u64) {
        if matches!(running.form, Form::Copy(_)) {
            self.outbound.queue(PgWireBackendMessage::CopyDone(CopyDone::new()));
        }
        let tag = match running.verb {
            "EXPLAIN" | "SHOW" => running.verb.to_owned(),
            verb => format!("{verb} {rows}"),
        };
        self.complete(tag);
    }

    pub(super) fn cursor(&mut self, name: &str) -> Result<&mut Cursor, Fault> {
        let missing = || Fault::new("34000", format!("cursor \"{name}\" does not exist"));
        self.cursors.get_mut(name).ok_or_else(missing)
    }

    /// FETCH and MOVE: rows of a cursor, as many as are wanted or, if they have no end, as there are.
    pub(super) async fn fetch(
        &mut self,
        name: &str,
        count: Option<u64>,
        silent: bool,
        formats: Vec<FieldFormat>,
    ) -> Result<(), Stop> {
        let form = if silent { Form::Silent } else { Form::Rows(formats) };
        let missing = || Fault::new("34000", format!("cursor \"{name}\" does not exist"));
        let cursor = self.cursors.get_mut(name).ok_or_else(missing)?;
        let portion = Portion { rows: count, first_within: Some(FETCH_WAIT), next_within: Some(NEXT_ROW_WAIT) };
        let delivered = deliver(&mut cursor.rows, &form, portion, &mut self.interrupts, &mut self.outbound).await?;
        self.complete(format!("{} {}", if silent { "MOVE" } else { "FETCH" }, delivered.rows));
        Ok(())
    }

    /// What doesn't outlive a transaction.
    pub(super) fn end_transaction(&mut self) {
        self.portals.clear();
        self.has_changed = false;
    }
}

/// An error of the whole text: its place needs no translation but into characters.
pub(super) fn whole_text_fault(error: rondel_engine::Error, text: &str) -> Fault {
    let character = error.position().map(|at| {
        let lines = text.split_inclusive('\n').take(at.line.saturating_sub(1) as usize);
        lines.map(|line| line.chars().count()).sum::<usize>() + at.column as usize
    });
    Fault { character, ..error.into() }
}

/// Whether what a statement has done is not undone by ROLLBACK. Rows of tables are the transaction's; an INSERT that
/// begins to write to a sink has no count.
fn stays(tag: &str) -> bool {
    let of_rows = ["INSERT 0 ", "UPDATE ", "DELETE ", "TRUNCATE "].iter().any(|rows| tag.starts_with(rows));
    !of_rows && !matches!(tag, "SET" | "RESET" | "FLUSH")
}

fn verb(piece: &Piece) -> &'static str {
    let first = piece.text.split(|character: char| !character.is_ascii_alphabetic()).next().unwrap_or_default();
    match first.to_ascii_uppercase().as_str() {
        "EXPLAIN" => "EXPLAIN",
        "SHOW" => "SHOW",
        "SUBSCRIBE" => "SUBSCRIBE",
        "INSERT" => "INSERT 0",
        "UPDATE" => "UPDATE",
        "DELETE" => "DELETE",
        _ => "SELECT",
    }
}

/// The columns, as the client is told them. Fewer formats than columns: the rest is text.
pub(super) fn row_description(schema: &Schema, formats: &[FieldFormat]) -> PgWireBackendMessage {
    let fields = schema.fields().iter().enumerate().map(|(index, field)| {
        let pg_type = pg_type(field);
        let format = formats.get(index).map_or(0, FieldFormat::value);
        let (size, modifier) = (type_size(&pg_type), type_modifier(field.data_type()));
        FieldDescription::new(field.name().clone(), 0, 0, pg_type.oid(), size, modifier, format)
    });
    PgWireBackendMessage::RowDescription(RowDescription::new(fields.collect()))
}
