//! What the server asks of the engine.
//!
//! A *frontend* is an engine seen from its doors: it opens a *session* for each connection, and names its relations for the
//! system tables. The wire protocol and the command line know only these traits, so that they are tested without an engine.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use rondel_engine::engine::{EngineSettings, Outcome, Parameters, Shape};
use rondel_engine::{Error, Result};

/// What a relation is, as the system tables show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// An append-only source of rows.
    Stream,
    /// Rows with a primary key, stored by Rondel.
    Table,
    /// A named query.
    View,
    /// A named query whose result is maintained.
    MaterializedView,
    /// Where a query's changes go.
    Sink,
}

/// One relation of the catalog.
#[derive(Debug, Clone)]
pub struct RelationInfo {
    /// Its name, as it is written in SQL.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns.
    pub schema: SchemaRef,
    /// The query of a view, if it has one.
    pub definition: Option<String>,
}

/// A figure of the engine or of one of its jobs, in the words of Prometheus.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The metric.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// The job; `None`: it is the engine's own.
    pub job: Option<String>,
    /// The operator of the job; `None`: it is the whole job's.
    pub operator: Option<String>,
    /// The value.
    pub value: f64,
}

/// The engine's relations, as the system tables need them.
pub trait CatalogView: Send + Sync + 'static {
    /// All relations, in any order. Called for every query of a system table: it is cheap.
    fn relations(&self) -> Vec<RelationInfo>;
}

/// An engine, seen from its doors.
pub trait Frontend: CatalogView + Sized {
    /// What one connection talks to.
    type Session: Session;

    /// Starts an engine.
    fn open(settings: EngineSettings) -> impl Future<Output = Result<Self>> + Send;

    /// Opens a session for a user who connected to `database`.
    fn connect(&self, user: &str, database: &str) -> Result<Self::Session>;

    /// Whether statements can be answered now.
    fn is_ready(&self) -> bool;

    /// Waits until every job has finished; one whose input has no end never does. A job that failed is an error.
    fn finished(&self) -> impl Future<Output = Result<()>> + Send;

    /// What is counted of the engine and its jobs now, for the metrics page.
    fn figures(&self) -> Vec<Figure>;

    /// Stops all jobs in order and keeps what is to be kept. Statements fail from now on.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// One connection's view of the engine: its variables, and its statements.
pub trait Session: Send + Sync + 'static {
    /// A statement that was read, with all that its execution needs.
    type Parsed: Send + Sync + 'static;

    /// Reads a text, one answer per statement. Positions in errors are relative to `sql`.
    fn parse(&self, sql: &str) -> Result<Vec<Self::Parsed>>;

    /// The same for a text of this dialect, whatever the session's is: a `SET dialect` stands before it in the script.
    fn parse_in(&self, sql: &str, dialect: &str) -> Result<Vec<Self::Parsed>>;

    /// A statement's parameters and columns, without running it.
    fn describe(&self, parsed: &Self::Parsed) -> Result<Shape>;

    /// Runs a statement. Dropping the future, or the stream that it answers with, stops the work.
    fn execute(&self, parsed: &Self::Parsed, parameters: &Parameters) -> impl Future<Output = Result<Outcome>> + Send;

    /// Begins a transaction, which holds changes of tables together.
    fn begin(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Makes the transaction's changes durable and visible, and ends it. After an error it has changed nothing.
    fn commit(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Forgets the transaction's changes, and ends it.
    fn roll_back(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// The columns that `COPY table (columns) FROM STDIN` fills; without names all.
    fn copy_columns(&self, _table: &str, _columns: &[String]) -> Result<SchemaRef> {
        Err(Error::not_supported("COPY … FROM STDIN is not supported here"))
    }

    /// Adds rows, whose columns are text, to a table as one statement; answers how many.
    fn copy_in(
        &self,
        _table: &str,
        _columns: &[String],
        _rows: Vec<RecordBatch>,
    ) -> impl Future<Output = Result<usize>> + Send {
        async { Err(Error::not_supported("COPY … FROM STDIN is not supported here")) }
    }

    /// Sets a session variable, as SET does; a client may send some with its start.
    fn set(&self, name: &str, value: &str) -> Result<()>;

    /// A session variable's value; names in lower case.
    fn get(&self, name: &str) -> Option<String>;

    /// All session variables back to their defaults, as RESET ALL does.
    fn reset(&self);
}
