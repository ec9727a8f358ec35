//! Sessions: one connection's statements, from text to result.
//!
//! * `variables`: SET and SHOW
//! * `define`: CREATE, DROP
//! * `revive`: jobs that begin, stop and begin again; what a restart does with the catalog
//! * `describe`: DESCRIBE, and the versions of schemas
//! * `evolve`: streams whose schemas change elsewhere
//! * `query`: SELECT, SUBSCRIBE, COPY, EXPLAIN
//! * `table`, `alter`: definitions of tables
//! * `dml`: INSERT, UPDATE, DELETE, TRUNCATE, COPY FROM, transactions
//! * `one_epoch`: several views read at one epoch
//! * `late`: who takes late rows
//! * `show`: SHOW
//! * `stream_scan`: a stream read once

mod alter;
pub(crate) mod define;
mod delivery;
mod describe;
mod dml;
mod evolve;
mod job_options;
mod late;
mod one_epoch;
mod query;
mod revive;
mod savepoint;
mod show;
mod stream_scan;
mod table;
mod variables;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::engine::{Engine, Outcome, Parameters, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{self, CreateTable, Dialect, ParsedStatement, SetValue, Show, Statement, Transaction};

pub(crate) use late::LateRowsOfTables;
pub use variables::{Allowed, SERVER_VERSION, VARIABLES, VariableSpec, Variables};
use variables::{DIALECT, READ_FAILED_VIEWS};

/// A session; see the [module](self).
pub struct Session {
    engine: Arc<Engine>,
    variables: Mutex<Variables>,
    /// The open transaction; locked while a statement runs that looks at tables or changes them.
    transaction: tokio::sync::Mutex<Option<dml::Transaction>>,
}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, variables: Mutex::default(), transaction: tokio::sync::Mutex::default() }
    }

    fn variables(&self) -> std::sync::MutexGuard<'_, Variables> {
        self.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a variable; `None` is its default.
    pub fn set(&self, name: &str, value: Option<&str>) -> Result<()> {
        self.variables().set(name, value)
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Result<String> {
        self.variables().get(name).map(str::to_owned)
    }

    /// All variables back to their defaults.
    pub fn reset(&self) {
        self.variables().reset();
    }

    /// Reads a text of statements, in the session's dialect.
    pub fn parse(&self, text: &str) -> Result<Vec<ParsedStatement>> {
        let dialect = self.get(DIALECT)?;
        self.parse_in(text, &dialect)
    }

    /// Reads a text of statements in a dialect, whatever the session's is: a `SET dialect` stands before the text.
    pub fn parse_in(&self, text: &str, dialect: &str) -> Result<Vec<ParsedStatement>> {
        sql::parse_in(text, Dialect::named(dialect).unwrap_or_default())
    }

    /// What a statement takes and gives, without running it.
    pub fn describe(&self, parsed: &ParsedStatement) -> Result<Shape> {
        let none = |columns| Ok(Shape { parameters: Vec::new(), columns });
        match &parsed.statement {
            Statement::Query(query) | Statement::CopyQuery(query) => query::describe(&self.engine, query),
            Statement::Subscribe { to, .. } => none(Some(query::subscription_schema(&self.engine, to)?)),
            Statement::Explain(_) => none(Some(query::explain_schema())),
            Statement::Show(what) => none(Some(show::schema(what))),
            Statement::Describe(_) => none(Some(describe::schema())),
            Statement::Insert(insert) if !self.engine.is_table(&insert.target) => none(None),
            statement @ (Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)) => {
                dml::describe(&self.engine, statement)
            }
            _ => none(None),
        }
    }

    /// Runs a statement. Dropping the future or the stream that it answers with stops the work; a definition that was
    /// begun is finished all the same.
    pub async fn execute(&self, parsed: &ParsedStatement, parameters: &Parameters) -> Result<Outcome> {
        let engine = Arc::clone(&self.engine);
        let done = || Outcome::Done { tag: parsed.statement.tag().to_owned(), notices: Vec::new() };
        match &parsed.statement {
            Statement::CreateTable(create) if create.query.is_some() => self.create_table_as(create, parameters).await,
            Statement::Insert(insert) if engine.is_table(&insert.target) => {
                dml::run(self, &parsed.statement, parameters).await
            }
            Statement::Update(_) | Statement::Delete(_) | Statement::Truncate(_) => {
                dml::run(self, &parsed.statement, parameters).await
            }
            Statement::CreateStream(_)
            | Statement::CreateTable(_)
            | Statement::CreateView(_)
            | Statement::CreateSink(_)
            | Statement::Insert(_)
            | Statement::Drop(_)
            | Statement::AlterTable(_)
            | Statement::Checkpoint(_)
            | Statement::CreateSavepoint(_)
            | Statement::DropSavepoint { .. }
            | Statement::AlterJob { .. } => {
                let statement = parsed.clone();
                let notices = blocking(move || define::run(&engine, &statement)).await?;
                Ok(Outcome::Done { tag: parsed.statement.tag().to_owned(), notices })
            }
            Statement::Flush => {
                blocking(move || engine.flush()).await?;
                Ok(done())
            }
            // How COPY's rows are written is the client protocol's business.
            Statement::Query(query) | Statement::CopyQuery(query) => {
                let failed_views = self.variables().is_on(READ_FAILED_VIEWS);
                query::select(&engine, query, parameters, self.table_view().await?, failed_views).await
            }
            Statement::Subscribe { to, copy } => query::subscribe(&engine, to, *copy).await,
            Statement::Explain(inner) => query::explain(&engine, inner),
            Statement::Show(Show::Setting(name)) => {
                let value = self.get(name)?;
                show::setting(name, &value)
            }
            Statement::Show(Show::All) => show::settings(&self.variables()),
            Statement::Show(Show::Checkpoints) => blocking(move || show::checkpoints(&engine)).await,
            Statement::Show(Show::SchemaVersions(stream)) => describe::versions(&engine, stream.as_deref()),
            Statement::Show(what) => show::objects(&engine, what),
            Statement::Describe(name) => describe::describe(&engine, name),
            Statement::Refresh(name) => {
                let name = name.clone();
                let notices = blocking(move || {
                    let notices = engine.refresh_stream(&name)?;
                    let none = || vec![format!("stream '{name}' has the newest version of its schema already")];
                    Ok(if notices.is_empty() { none() } else { notices })
                })
                .await?;
                Ok(Outcome::Done { tag: parsed.statement.tag().to_owned(), notices })
            }
            Statement::Set { name, value, local: _ } => {
                match value {
                    SetValue::Default => self.set(name, None)?,
                    SetValue::Values(values) => self.set(name, Some(&values.join(", ")))?,
                }
                Ok(done())
            }
            Statement::Reset(Some(name)) => {
                self.set(name, None)?;
                Ok(done())
            }
            Statement::Reset(None) => {
                self.variables().reset();
                Ok(done())
            }
            Statement::Transaction(Transaction::Begin) => {
                self.begin().await;
                Ok(done())
            }
            Statement::Transaction(Transaction::Commit) => {
                let tag = if self.commit().await? { Transaction::Commit } else { Transaction::Rollback };
                Ok(Outcome::Done { tag: Statement::Transaction(tag).tag().to_owned(), notices: Vec::new() })
            }
            Statement::Transaction(Transaction::Rollback) => {
                self.roll_back().await;
                Ok(done())
            }
            Statement::Other(statement) => Err(Error::new(
                ErrorKind::NotSupported,
                format!("this statement is not supported: {}", first_words(&statement.to_string())),
            )),
        }
    }

    /// The columns that `COPY table (columns) FROM STDIN` fills; without names all.
    pub fn copy_columns(&self, table: &str, columns: &[String]) -> Result<SchemaRef> {
        dml::copy_columns(&self.engine, table, columns)
    }

    /// `COPY table (columns) FROM STDIN`: rows of text columns, as one statement. Answers how many there were.
    pub async fn copy_in(&self, table: &str, columns: &[String], rows: Vec<RecordBatch>) -> Result<usize> {
        dml::copy(self, table, columns, rows).await
    }

    /// `CREATE TABLE … AS query`.
    async fn create_table_as(&self, create: &CreateTable, parameters: &Parameters) -> Result<Outcome> {
        let Some(query) = &create.query else { return Err(Error::internal("a table without a query")) };
        let plan = self.engine.planner.plan_table_as(query, parameters)?;
        let made = table::columns_of(create, plan.schema().inner())?;
        let parsed = sql::parse_one(&made.to_string())?;
        let engine = Arc::clone(&self.engine);
        let is_there = engine.catalog.get(&create.name).is_some();
        let notices = blocking(move || define::run(&engine, &parsed)).await?;
        if is_there {
            return Ok(Outcome::Done { tag: "CREATE TABLE AS".to_owned(), notices });
        }
        let insert = sql::Insert {
            target: create.name.clone(),
            alias: None,
            columns: Vec::new(),
            query: Some(query.clone()),
            on_conflict: None,
            returning: Vec::new(),
        };
        match dml::run(self, &Statement::Insert(insert), parameters).await {
            Ok(Outcome::Done { tag, .. }) => Ok(Outcome::Done { tag: tag.replace("INSERT 0", "SELECT"), notices }),
            Ok(_) => Err(Error::internal("an INSERT has answered with rows")),
            Err(error) => {
                let drop = sql::parse_one(&format!("DROP TABLE {}", sql::quoted(&create.name)))?;
                let engine = Arc::clone(&self.engine);
                blocking(move || define::run(&engine, &drop)).await?;
                Err(error)
            }
        }
    }
}

fn first_words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    words.join(" ")
}

/// Runs what waits for workers or disks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("a statement broke off: {error}"))),
    }
}

#[cfg(test)]
mod tests;
