//! The extended protocol: statements are prepared, bound to parameters and executed, a portion of rows at a time.
//!
//! A *portal* is a prepared statement with its parameters; its rows are streamed as they come and wait, when the client asked
//! for a portion only, until it asks again. After an error everything is passed over up to the next Sync.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;
use pgwire::api::results::FieldFormat;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use rondel_engine::{Error, ErrorKind};

use super::answer::changes_schema;
use super::command::Command;
use super::connection::{Begun, Connection, Ended, NEXT_ROW_WAIT, Running, row_description, whole_text_fault};
use super::delivery::{Form, Portion, Stop};
use super::parameters;
use super::sqlstate::Fault;
use super::statement::{Query, Resolved, Statement};
use super::value::pg_type;
use crate::frontend::Session;
use crate::script::{Piece, split};

/// Prepared statements, and portals, that a connection may hold.
const PREPARED_MAX: usize = 4096;

/// A statement that was parsed and described.
pub(super) struct Prepared<S: Session> {
    /// `None` for a text without a statement.
    statement: Option<(Piece, Statement<S>)>,
    /// What planning says of each parameter.
    parameter_types: Vec<DataType>,
    /// What the client, or else planning, says of each parameter.
    parameter_pg_types: Vec<Type>,
    /// Its rows' columns.
    columns: Option<SchemaRef>,
}

/// A prepared statement with its parameters.
pub(super) struct Portal<S: Session> {
    prepared: Arc<Prepared<S>>,
    parameters: Vec<ScalarValue>,
    formats: Vec<FieldFormat>,
    progress: Progress,
}

/// How far a portal was executed.
enum Progress {
    New,
    /// It has rows.
    Begun(Running),
    /// It has none, and was run.
    Ended,
}

impl<S: Session> Connection<S> {
    /// Answers a message of the extended protocol.
    pub(super) async fn extended(&mut self, message: PgWireFrontendMessage) -> Result<(), Ended> {
        if let PgWireFrontendMessage::Sync(_) = message {
            self.skips_to_sync = false;
            if self.transaction == TransactionStatus::Idle {
                self.end_transaction();
            }
            self.ready();
            return Ok(());
        }
        if self.skips_to_sync {
            return Ok(());
        }
        let result = match message {
            PgWireFrontendMessage::Parse(parse) => self.parse(parse).await,
            PgWireFrontendMessage::Bind(bind) => self.bind(&bind).map_err(Stop::from),
            PgWireFrontendMessage::Describe(describe) => self.describe(&describe).map_err(Stop::from),
            PgWireFrontendMessage::Execute(execute) => self.execute(execute).await,
            PgWireFrontendMessage::Close(close) => self.close(close).map_err(Stop::from),
            // Everything is written before the next message is waited for.
            PgWireFrontendMessage::Flush(_) => Ok(()),
            // What is left of a COPY that the client gave up: nothing to answer.
            PgWireFrontendMessage::CopyData(_)
            | PgWireFrontendMessage::CopyDone(_)
            | PgWireFrontendMessage::CopyFail(_) => return Ok(()),
            _ => Err(Fault::fatal("08P01", "the message is not expected here").into()),
        };
        result.or_else(|stop| {
            self.skips_to_sync = true;
            self.fail(stop)
        })
    }

    async fn parse(&mut self, parse: Parse) -> Result<(), Stop> {
        let name = parse.name.unwrap_or_default();
        if !name.is_empty() && self.prepared.contains_key(&name) {
            return Err(Fault::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        if self.prepared.len() >= PREPARED_MAX {
            let sentence = format!("a connection may hold {PREPARED_MAX} prepared statements");
            return Err(Error::new(ErrorKind::ResourceExhausted, sentence).with_hint("DEALLOCATE some").into());
        }
        let mut pieces = split(&parse.query).map_err(|error| whole_text_fault(error, &parse.query))?;
        if pieces.len() > 1 {
            return Err(Fault::new("42601", "cannot insert multiple commands into a prepared statement").into());
        }
        let prepared = match pieces.pop() {
            Some(piece) => self.prepare(piece, &parse.type_oids).await?,
            None => {
                Prepared { statement: None, parameter_types: Vec::new(), parameter_pg_types: Vec::new(), columns: None }
            }
        };
        self.prepared.insert(name, Arc::new(prepared));
        self.outbound.queue(PgWireBackendMessage::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    async fn prepare(&mut self, piece: Piece, type_oids: &[u32]) -> Result<Prepared<S>, Stop> {
        let statement = Statement::read(&piece, &self.session)?;
        let (parameter_types, columns) = match &statement {
            Statement::Query(query) => self.shape(query, &piece).await?,
            // Its rows are no result: the client is told of them when they come.
            Statement::Command(Command::CopyOut { query, .. }) => {
                let read = Query::read(query, &self.session)?;
                (self.shape(&read, query).await?.0, None)
            }
            Statement::Command(command) => (Vec::new(), self.command_columns(command)?),
        };
        let count = parameter_types.len().max(type_oids.len());
        let parameter_pg_types = (0..count)
            .map(|index| {
                let told = type_oids.get(index).copied().filter(|oid| *oid != 0).and_then(Type::from_oid);
                let known = parameter_types.get(index).filter(|known| **known != DataType::Null);
                let known = known.map(|known| pg_type(&arrow::datatypes::Field::new("$", known.clone(), true)));
                told.filter(|told| *told != Type::UNKNOWN).or(known).unwrap_or(Type::TEXT)
            })
            .collect();
        Ok(Prepared { statement: Some((piece, statement)), parameter_types, parameter_pg_types, columns })
    }

    async fn shape(&mut self, query: &Query<S>, piece: &Piece) -> Result<(Vec<DataType>, Option<SchemaRef>), Stop> {
        let (session, system) = (Arc::clone(&self.session), self.system.clone());
        let resolved: Resolved<S> = self.interrupts.guard(query.resolve(piece, &session, &system)).await??;
        let shape = resolved.describe(piece, &session)?;
        let is_subscription = piece.text.get(..9).is_some_and(|word| word.eq_ignore_ascii_case("subscribe"));
        let columns = shape.columns.map(|columns| match is_subscription && !starts_with_epoch(&columns) {
            true => changes_schema(&columns),
            false => columns,
        });
        Ok((shape.parameters, columns))
    }

    fn bind(&mut self, bind: &Bind) -> Result<(), Fault> {
        let name = bind.statement_name.clone().unwrap_or_default();
        let missing = || Fault::new("26000", format!("prepared statement \"{name}\" does not exist"));
        let prepared = Arc::clone(self.prepared.get(&name).ok_or_else(missing)?);
        let wanted = prepared.parameter_pg_types.len();
        if bind.parameters.len() != wanted {
            let given = bind.parameters.len();
            let sentence = format!("the statement has {wanted} parameters, and {given} values were given");
            return Err(Fault::new("08P01", sentence));
        }
        let parameters = parameters::decode(bind, &prepared.parameter_pg_types, &prepared.parameter_types)?;
        let formats = result_formats(bind, prepared.columns.as_ref().map_or(0, |columns| columns.fields().len()))?;
        let portal_name = bind.portal_name.clone().unwrap_or_default();
        if !portal_name.is_empty() && self.portals.contains_key(&portal_name) {
            return Err(Fault::new("42P03", format!("portal \"{portal_name}\" already exists")));
        }
        if self.portals.len() >= PREPARED_MAX {
            let sentence = format!("a connection may hold {PREPARED_MAX} portals");
            return Err(Error::new(ErrorKind::ResourceExhausted, sentence).into());
        }
        self.portals.insert(portal_name, Portal { prepared, parameters, formats, progress: Progress::New });
        self.outbound.queue(PgWireBackendMessage::BindComplete(BindComplete::new()));
        Ok(())
    }

    fn describe(&mut self, describe: &Describe) -> Result<(), Fault> {
        let name = describe.name.clone().unwrap_or_default();
        let (columns, formats) = match describe.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let missing = || Fault::new("26000", format!("prepared statement \"{name}\" does not exist"));
                let prepared = self.prepared.get(&name).ok_or_else(missing)?;
                let types = prepared.parameter_pg_types.iter().map(Type::oid).collect();
                self.outbound.queue(PgWireBackendMessage::ParameterDescription(ParameterDescription::new(types)));
                (prepared.columns.clone(), Vec::new())
            }
            _ => {
                let portal = self.portal(&name)?;
                (portal.prepared.columns.clone(), portal.formats.clone())
            }
        };
        self.outbound.queue(match columns {
            Some(columns) => row_description(&columns, &formats),
            None => PgWireBackendMessage::NoData(NoData::new()),
        });
        Ok(())
    }

    async fn execute(&mut self, execute: Execute) -> Result<(), Stop> {
        let name = execute.name.unwrap_or_default();
        let portal = self.portal(&name)?;
        let mut running = match std::mem::replace(&mut portal.progress, Progress::Ended) {
            Progress::Begun(running) => running,
            Progress::Ended => return Err(Fault::new("55000", format!("portal \"{name}\" cannot be run")).into()),
            Progress::New => {
                let prepared = Arc::clone(&portal.prepared);
                let (parameters, formats) = (std::mem::take(&mut portal.parameters), portal.formats.clone());
                let Some((piece, statement)) = &prepared.statement else {
                    self.outbound.queue(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
                    return Ok(());
                };
                match self.begin(statement, piece, &parameters, &formats).await? {
                    Begun::Running(running) => {
                        if let Form::Copy(format) = &running.form {
                            self.announce_copy(&running.rows.schema, format);
                        }
                        running
                    }
                    Begun::Done { tag, notices } => {
                        self.notices(&notices);
                        self.complete(tag);
                        return Ok(());
                    }
                    Begun::Fetch { name, count, silent } => return self.fetch(&name, count, silent, formats).await,
                }
            }
        };
        // COPY has no portions; a subscription's portion is given back when nothing more is ready.
        let rows = u64::try_from(execute.max_rows).ok().filter(|rows| *rows > 0);
        let rows = rows.filter(|_| !matches!(running.form, Form::Copy(_)));
        let portion = Portion { rows, first_within: None, next_within: rows.map(|_| NEXT_ROW_WAIT) };
        let delivered = self.outbound_progress(&mut running, portion).await?;
        if delivered.is_complete {
            self.finish(&running, delivered.rows);
        } else {
            self.outbound.queue(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()));
        }
        // A portal that is asked again after its end has no more rows.
        self.portal(&name)?.progress = Progress::Begun(running);
        Ok(())
    }

    fn close(&mut self, close: Close) -> Result<(), Fault> {
        let name = close.name.unwrap_or_default();
        match close.target_type {
            TARGET_TYPE_BYTE_STATEMENT => drop(self.prepared.remove(&name)),
            TARGET_TYPE_BYTE_PORTAL => drop(self.portals.remove(&name)),
            other => return Err(Fault::fatal("08P01", format!("there is nothing of type {other} to close"))),
        }
        self.outbound.queue(PgWireBackendMessage::CloseComplete(CloseComplete::new()));
        Ok(())
    }

    fn portal(&mut self, name: &str) -> Result<&mut Portal<S>, Fault> {
        let missing = || Fault::new("34000", format!("portal \"{name}\" does not exist"));
        self.portals.get_mut(name).ok_or_else(missing)
    }
}

/// The engine may describe a subscription with the columns that are added on the way.
fn starts_with_epoch(columns: &SchemaRef) -> bool {
    columns.fields().iter().zip(["epoch", "weight"]).filter(|(field, name)| field.name() == name).count() == 2
}

/// One format for each column: none given is text, one given is for all.
fn result_formats(bind: &Bind, columns: usize) -> Result<Vec<FieldFormat>, Fault> {
    match bind.result_column_format_codes.as_slice() {
        [] => Ok(Vec::new()),
        [one] => Ok(vec![FieldFormat::from(*one); columns]),
        codes if codes.len() == columns => Ok(codes.iter().map(|code| FieldFormat::from(*code)).collect()),
        codes => {
            let sentence = format!("{} result formats were given for {columns} columns", codes.len());
            Err(Fault::new("08P01", sentence))
        }
    }
}
