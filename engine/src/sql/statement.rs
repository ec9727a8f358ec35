//! Statements, as read. Each prints as SQL that reads back as the same statement.

use std::fmt;
use std::ops::Range;

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, ErrorKind, Position, Result};

use super::asof::text_of;
use super::dialect::Dialect;
use super::emit::EmitClause;
use super::job::{JobAction, Savepoint};
use super::name::quoted;
use super::show::Words;
use super::table::{AlterTable, CreateTable, Insert};

/// A statement and its own slice of the text that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedStatement {
    /// What it says.
    pub statement: Statement,
    /// Its own text, without the semicolon.
    pub text: String,
    /// Where that stands in the whole text, in bytes.
    pub range: Range<usize>,
    /// Where it begins.
    pub position: Position,
    /// What it is written in.
    pub dialect: Dialect,
}

/// A statement.
// Statements are few and are moved once or twice: boxes would only be in the reader's way.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `CREATE STREAM`
    CreateStream(CreateStream),
    /// `CREATE VIEW`, `CREATE MATERIALIZED VIEW`
    CreateView(CreateView),
    /// `CREATE SINK`
    CreateSink(CreateSink),
    /// `CREATE TABLE`
    CreateTable(CreateTable),
    /// `ALTER TABLE`
    AlterTable(AlterTable),
    /// `INSERT INTO` a table, or a sink
    Insert(Insert),
    /// `UPDATE table SET …`
    Update(Box<ast::Update>),
    /// `DELETE FROM table …`
    Delete(Box<ast::Delete>),
    /// `TRUNCATE tables`
    Truncate(Vec<String>),
    /// `DROP …`
    Drop(DropObjects),
    /// `SUBSCRIBE TO view`, `SUBSCRIBE (query)`
    Subscribe {
        /// To what.
        to: Subscription,
        /// `COPY (SUBSCRIBE …) TO STDOUT` was asked for.
        copy: bool,
    },
    /// `COPY (query) TO STDOUT`
    CopyQuery(Query),
    /// `EXPLAIN statement`
    Explain(Box<ParsedStatement>),
    /// `SHOW …`
    Show(Show),
    /// `SET name = value`
    Set {
        /// The setting's name, lower case.
        name: String,
        /// Its new value.
        value: SetValue,
        /// For this transaction only (`SET LOCAL`).
        local: bool,
    },
    /// `RESET name`; `None`: `RESET ALL`
    Reset(Option<String>),
    /// `ALTER JOB name STOP | START [FROM SAVEPOINT s] | SET (…) | RESET (…)`, `START JOB name …`, `STOP JOB name`
    AlterJob {
        /// The job's name.
        name: String,
        /// What is asked of it.
        action: JobAction,
    },
    /// `CHECKPOINT JOB name`; `None`: `CHECKPOINT`, of all jobs
    Checkpoint(Option<String>),
    /// `CREATE SAVEPOINT name FOR JOB name`
    CreateSavepoint(Savepoint),
    /// `DROP SAVEPOINT [IF EXISTS] name FOR JOB name`
    DropSavepoint {
        /// Which.
        savepoint: Savepoint,
        /// No error if there is none.
        if_exists: bool,
    },
    /// `DESCRIBE [STREAM] name`
    Describe(String),
    /// `REFRESH STREAM name`
    Refresh(String),
    /// `FLUSH`
    Flush,
    /// `BEGIN`, `COMMIT`, `ROLLBACK`
    Transaction(Transaction),
    /// `SELECT …`, `VALUES …`, `WITH …`
    Query(Query),
    /// Any other statement that PostgreSQL has (`DISCARD ALL`, `DEALLOCATE p`): the server answers what it can.
    Other(Box<ast::Statement>),
}

/// A query and its `EMIT` suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The query.
    pub body: Box<ast::Query>,
    /// When its results are shown.
    pub emit: Option<Box<EmitClause>>,
}

/// `CREATE STREAM [IF NOT EXISTS] name [(columns, WATERMARK FOR c AS expression)] WITH (options)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStream {
    /// The name.
    pub name: String,
    /// Do nothing if the name is taken.
    pub if_not_exists: bool,
    /// Columns, if they are not left to the schema.
    pub columns: Vec<ast::ColumnDef>,
    /// Event time.
    pub watermark: Option<Box<WatermarkClause>>,
    /// Connector, format and their options.
    pub options: Options,
}

/// `WATERMARK FOR column AS expression`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkClause {
    /// The event-time column.
    pub column: String,
    /// The promise: no later row's event time lies below the greatest value of this so far.
    pub expression: ast::Expr,
    /// Where the clause begins.
    pub position: Option<Position>,
}

/// `CREATE [MATERIALIZED] VIEW [IF NOT EXISTS] name [(columns)] [WITH (options)] AS query`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateView {
    /// The name.
    pub name: String,
    /// Whether its result is maintained.
    pub materialized: bool,
    /// Do nothing if the name is taken.
    pub if_not_exists: bool,
    /// New names for the query's columns, from the first on.
    pub columns: Vec<String>,
    /// `WITH (…)`, of a materialized view.
    pub options: Options,
    /// The query.
    pub query: Query,
}

/// `CREATE SINK [IF NOT EXISTS] name [(columns)] WITH (options) [AS query]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSink {
    /// The name.
    pub name: String,
    /// Do nothing if the name is taken.
    pub if_not_exists: bool,
    /// Columns, for a sink without a query whose format does not say them.
    pub columns: Vec<ast::ColumnDef>,
    /// Connector, format and their options.
    pub options: Options,
    /// The query whose changes it gets; without, `INSERT INTO` names it.
    pub query: Option<Query>,
}

/// `DROP kind [IF EXISTS] names [CASCADE]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropObjects {
    /// Of which kind.
    pub kind: ObjectKind,
    /// Do nothing for a name that does not exist.
    pub if_exists: bool,
    /// The names.
    pub names: Vec<String>,
    /// With what reads from them.
    pub cascade: bool,
}

/// A kind of named object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A stream.
    Stream,
    /// A view whose query is put in where it is named.
    View,
    /// A view whose result is maintained.
    MaterializedView,
    /// A table.
    Table,
    /// A sink.
    Sink,
    /// A running continuous query.
    Job,
}

/// What is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// A view or stream.
    Name(String),
    /// A query of its own.
    Query(Query),
}

/// What `SHOW` lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// Streams.
    Streams,
    /// Views and materialized views.
    Views,
    /// Sinks.
    Sinks,
    /// Jobs and their states.
    Jobs,
    /// Checkpoints that are kept.
    Checkpoints,
    /// Versions of schemas: of one stream, or of all.
    SchemaVersions(Option<String>),
    /// Everything that can be read.
    Tables,
    /// All settings.
    All,
    /// One setting, by its name in lower case.
    Setting(String),
}

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// Its default.
    Default,
    /// One value, or a list (`search_path`), without quotes.
    Values(Vec<String>),
}

/// Transaction control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// `BEGIN`, `START TRANSACTION`
    Begin,
    /// `COMMIT`, `END`
    Commit,
    /// `ROLLBACK`, `ABORT`
    Rollback,
}

/// One `name = value` of a `WITH (…)` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionEntry {
    /// The name: lower case unless quoted.
    pub name: String,
    /// The value: a string without its quotes, or a number or word as written.
    pub value: String,
    /// Where the name stands.
    pub position: Option<Position>,
}

/// A `WITH (…)` list: each name once, in the order written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<OptionEntry>);

impl Options {
    /// A list; a name that comes twice is an error.
    pub fn new(entries: Vec<OptionEntry>) -> Result<Self> {
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|earlier| earlier.name == entry.name) {
                let error = Error::new(ErrorKind::Syntax, format!("the option {} is given twice", entry.name));
                return Err(match entry.position {
                    Some(position) => error.at(position),
                    None => error,
                });
            }
        }
        Ok(Self(entries))
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|entry| entry.name == name).map(|entry| entry.value.as_str())
    }

    /// Refuses options other than these; `state_ttl.*` are all whose names begin so.
    pub fn allow(&self, names: &[&str]) -> Result<()> {
        let allows = |allowed: &str, name: &str| match allowed.strip_suffix('*') {
            Some(start) => name.len() > start.len() && name.starts_with(start),
            None => name == allowed,
        };
        let is_other = |entry: &&OptionEntry| !names.iter().any(|allowed| allows(allowed, &entry.name));
        let Some(entry) = self.0.iter().find(is_other) else { return Ok(()) };
        let error = Error::new(ErrorKind::InvalidDefinition, format!("there is no option {} here", entry.name));
        let error = match names {
            [] => error.with_hint("leave WITH out"),
            names => error.with_hint(format!("there is {}", names.join(", "))),
        };
        Err(match entry.position {
            Some(position) => error.at(position),
            None => error,
        })
    }

    /// All, in the order written.
    pub fn iter(&self) -> impl Iterator<Item = &OptionEntry> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All but those of which `leaves` says so.
    pub fn without(&self, leaves: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|entry| !leaves(&entry.name)).cloned().collect())
    }

    /// As text, without what stands around.
    pub(super) fn list(&self) -> String {
        let entries = self.0.iter();
        let entries = entries.map(|entry| format!("{} = '{}'", quoted(&entry.name), entry.value.replace('\'', "''")));
        entries.collect::<Vec<_>>().join(", ")
    }

    /// All, by name.
    pub fn to_map(&self) -> std::collections::BTreeMap<String, String> {
        self.0.iter().map(|entry| (entry.name.clone(), entry.value.clone())).collect()
    }
}

impl Statement {
    /// The command tag that a client is shown, as far as it does not depend on the result.
    pub fn tag(&self) -> &'static str {
        match self {
            Statement::CreateStream(_) => "CREATE STREAM",
            Statement::CreateView(view) if view.materialized => "CREATE MATERIALIZED VIEW",
            Statement::CreateView(_) => "CREATE VIEW",
            Statement::CreateSink(_) => "CREATE SINK",
            Statement::CreateTable(_) => "CREATE TABLE",
            Statement::AlterTable(_) => "ALTER TABLE",
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::Truncate(_) => "TRUNCATE TABLE",
            Statement::Drop(drop) => match drop.kind {
                ObjectKind::Stream => "DROP STREAM",
                ObjectKind::Table => "DROP TABLE",
                ObjectKind::View => "DROP VIEW",
                ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
                ObjectKind::Sink => "DROP SINK",
                ObjectKind::Job => "DROP JOB",
            },
            Statement::Subscribe { copy: false, .. } => "SUBSCRIBE",
            Statement::Subscribe { copy: true, .. } | Statement::CopyQuery(_) => "COPY",
            Statement::Explain(_) => "EXPLAIN",
            Statement::Show(_) => "SHOW",
            Statement::Set { .. } => "SET",
            Statement::Reset(_) => "RESET",
            Statement::AlterJob { .. } => "ALTER JOB",
            Statement::Checkpoint(_) => "CHECKPOINT",
            Statement::CreateSavepoint(_) => "CREATE SAVEPOINT",
            Statement::DropSavepoint { .. } => "DROP SAVEPOINT",
            Statement::Describe(_) => "DESCRIBE",
            Statement::Refresh(_) => "REFRESH STREAM",
            Statement::Flush => "FLUSH",
            Statement::Transaction(Transaction::Begin) => "BEGIN",
            Statement::Transaction(Transaction::Commit) => "COMMIT",
            Statement::Transaction(Transaction::Rollback) => "ROLLBACK",
            Statement::Query(_) => "SELECT",
            Statement::Other(_) => "OTHER",
        }
    }
}

impl fmt::Display for ParsedStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statement.fmt(f)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::CreateStream(create) => create.fmt(f),
            Statement::CreateView(create) => create.fmt(f),
            Statement::CreateSink(create) => create.fmt(f),
            Statement::CreateTable(create) => create.fmt(f),
            Statement::AlterTable(alter) => alter.fmt(f),
            Statement::Insert(insert) => insert.fmt(f),
            Statement::Update(update) => update.fmt(f),
            Statement::Delete(delete) => delete.fmt(f),
            Statement::Truncate(names) => {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                write!(f, "TRUNCATE {}", names.join(", "))
            }
            Statement::Drop(drop) => drop.fmt(f),
            Statement::Subscribe { to, copy: false } => to.fmt(f),
            Statement::Subscribe { to, copy: true } => write!(f, "COPY ({to}) TO STDOUT"),
            Statement::CopyQuery(query) => write!(f, "COPY ({query}) TO STDOUT"),
            Statement::Explain(inner) => write!(f, "EXPLAIN {inner}"),
            Statement::Show(show) => show.fmt(f),
            Statement::Set { name, value, local } => {
                write!(f, "SET {}{} TO {value}", if *local { "LOCAL " } else { "" }, Words(name))
            }
            Statement::Reset(None) => f.write_str("RESET ALL"),
            Statement::Reset(Some(name)) => write!(f, "RESET {}", Words(name)),
            Statement::AlterJob { name, action } => write!(f, "ALTER JOB {} {action}", quoted(name)),
            Statement::CreateSavepoint(savepoint) => write!(f, "CREATE SAVEPOINT {savepoint}"),
            Statement::DropSavepoint { savepoint, if_exists } => {
                write!(f, "DROP SAVEPOINT {}{savepoint}", if *if_exists { "IF EXISTS " } else { "" })
            }
            Statement::Checkpoint(None) => f.write_str("CHECKPOINT"),
            Statement::Checkpoint(Some(name)) => write!(f, "CHECKPOINT JOB {}", quoted(name)),
            Statement::Describe(name) => write!(f, "DESCRIBE {}", quoted(name)),
            Statement::Refresh(name) => write!(f, "REFRESH STREAM {}", quoted(name)),
            Statement::Flush => f.write_str("FLUSH"),
            Statement::Transaction(_) => f.write_str(self.tag()),
            Statement::Query(query) => query.fmt(f),
            Statement::Other(statement) => statement.fmt(f),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(&self.body))?;
        match &self.emit {
            Some(emit) => write!(f, " {emit}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for CreateStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE STREAM {}{}", if_not_exists(self.if_not_exists), quoted(&self.name))?;
        let mut items: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        items.extend(self.watermark.as_ref().map(ToString::to_string));
        if !items.is_empty() {
            write!(f, " ({})", items.join(", "))?;
        }
        write!(f, "{}", self.options)
    }
}

impl fmt::Display for WatermarkClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WATERMARK FOR {} AS {}", quoted(&self.column), self.expression)
    }
}

impl fmt::Display for CreateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let materialized = if self.materialized { "MATERIALIZED " } else { "" };
        write!(f, "CREATE {materialized}VIEW {}{}", if_not_exists(self.if_not_exists), quoted(&self.name))?;
        write!(f, "{}{} AS {}", names(&self.columns), self.options, self.query)
    }
}

impl fmt::Display for CreateSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE SINK {}{}", if_not_exists(self.if_not_exists), quoted(&self.name))?;
        if !self.columns.is_empty() {
            let columns: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
            write!(f, " ({})", columns.join(", "))?;
        }
        write!(f, "{}", self.options)?;
        match &self.query {
            Some(query) => write!(f, " AS {query}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DropObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(|name| quoted(name)).collect();
        write!(
            f,
            "DROP {} {}{}{}",
            self.kind,
            if self.if_exists { "IF EXISTS " } else { "" },
            names.join(", "),
            if self.cascade { " CASCADE" } else { "" }
        )
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Stream => "STREAM",
            ObjectKind::Table => "TABLE",
            ObjectKind::View => "VIEW",
            ObjectKind::MaterializedView => "MATERIALIZED VIEW",
            ObjectKind::Sink => "SINK",
            ObjectKind::Job => "JOB",
        })
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subscription::Name(name) => write!(f, "SUBSCRIBE TO {}", quoted(name)),
            Subscription::Query(query) => write!(f, "SUBSCRIBE ({query})"),
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " WITH ({})", self.list())
    }
}

fn if_not_exists(yes: bool) -> &'static str {
    if yes { "IF NOT EXISTS " } else { "" }
}

pub(super) fn names(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!(" ({})", names.join(", "))
}
