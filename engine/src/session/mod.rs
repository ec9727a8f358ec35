//! Sessions: one connection's statements, from text to result.
//!
//! * `variables`: SET and SHOW
//! * `define`: CREATE, DROP, ALTER; also what a restart does with the catalog
//! * `query`: SELECT, SUBSCRIBE, COPY, EXPLAIN
//! * `show`: SHOW
//! * `stream_scan`: a stream read once

mod define;
mod query;
mod show;
mod stream_scan;
mod variables;

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Engine, Outcome, Parameters, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{self, ParsedStatement, SetValue, Show, Statement, Transaction};

use variables::READ_FAILED_VIEWS;
pub use variables::{Allowed, SERVER_VERSION, VARIABLES, VariableSpec, Variables};

/// A session; see the [module](self).
pub struct Session {
    engine: Arc<Engine>,
    variables: Mutex<Variables>,
}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, variables: Mutex::default() }
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

    /// Reads a text of statements.
    pub fn parse(&self, text: &str) -> Result<Vec<ParsedStatement>> {
        sql::parse(text)
    }

    /// What a statement takes and gives, without running it.
    pub fn describe(&self, parsed: &ParsedStatement) -> Result<Shape> {
        let none = |columns| Ok(Shape { parameters: Vec::new(), columns });
        match &parsed.statement {
            Statement::Query(query) | Statement::CopyQuery(query) => query::describe(&self.engine, query),
            Statement::Subscribe { to, .. } => none(Some(query::subscription_schema(&self.engine, to)?)),
            Statement::Explain(_) => none(Some(query::explain_schema())),
            Statement::Show(what) => none(Some(show::schema(what))),
            _ => none(None),
        }
    }

    /// Runs a statement. Dropping the future or the stream that it answers with stops the work; a definition that was
    /// begun is finished all the same.
    pub async fn execute(&self, parsed: &ParsedStatement, parameters: &Parameters) -> Result<Outcome> {
        let engine = Arc::clone(&self.engine);
        let done = || Outcome::Done { tag: parsed.statement.tag().to_owned(), notices: Vec::new() };
        match &parsed.statement {
            Statement::CreateStream(_)
            | Statement::CreateView(_)
            | Statement::CreateSink(_)
            | Statement::Insert(_)
            | Statement::Drop(_)
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
                query::select(&engine, query, parameters, failed_views).await
            }
            Statement::Subscribe { to, copy } => query::subscribe(&engine, to, *copy).await,
            Statement::Explain(inner) => query::explain(&engine, inner),
            Statement::Show(Show::Setting(name)) => {
                let value = self.get(name)?;
                show::setting(name, &value)
            }
            Statement::Show(Show::All) => show::settings(&self.variables()),
            Statement::Show(what) => show::objects(&engine, what),
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
            // There is nothing to hold together yet: each statement is a transaction of its own, and the server keeps
            // the block's state for the client.
            Statement::Transaction(Transaction::Begin | Transaction::Commit | Transaction::Rollback) => Ok(done()),
            Statement::Other(statement) => Err(Error::new(
                ErrorKind::NotSupported,
                format!("this statement is not supported: {}", first_words(&statement.to_string())),
            )),
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
