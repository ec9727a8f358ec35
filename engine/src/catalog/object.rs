//! What the catalog remembers of a thing that has a name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sql::Dialect;

/// The kinds of things that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A registered stream.
    Stream,
    /// Rows that Rondel keeps.
    Table,
    /// A named query.
    View,
    /// A named query whose result is maintained by a job.
    MaterializedView,
    /// Where changes go; with a query of its own it has a job.
    Sink,
    /// A continuous `INSERT INTO sink SELECT …`: a job without a relation.
    Insert,
}

impl ObjectKind {
    /// Its name in SQL, as in `DROP <this> x`.
    pub fn sql(self) -> &'static str {
        match self {
            ObjectKind::Stream => "STREAM",
            ObjectKind::Table => "TABLE",
            ObjectKind::View => "VIEW",
            ObjectKind::MaterializedView => "MATERIALIZED VIEW",
            ObjectKind::Sink => "SINK",
            ObjectKind::Insert => "JOB",
        }
    }

    /// Its name in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            ObjectKind::Stream => "stream",
            ObjectKind::Table => "table",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
            ObjectKind::Sink => "sink",
            ObjectKind::Insert => "job",
        }
    }

    /// Whether queries can read from it.
    pub fn is_relation(self) -> bool {
        matches!(self, ObjectKind::Stream | ObjectKind::Table | ObjectKind::View | ObjectKind::MaterializedView)
    }
}

/// What the user wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// It should run.
    Running,
    /// It should stand still until started again.
    Stopped,
}

/// The job of an object, as the catalog remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job's number, never used twice in one data directory.
    pub id: u64,
    /// What the user wants.
    pub desired: DesiredState,
}

/// A thing with a name. The statement's text is the definition; a restart plans it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Never used twice, also not after DROP and CREATE under the same name.
    pub id: Uuid,
    /// Order of creation: what an object reads has a smaller number.
    pub sequence: u64,
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, folded as SQL folds it.
    pub name: String,
    /// The statement that made it.
    pub sql: String,
    /// What that is written in.
    #[serde(default)]
    pub dialect: Dialect,
    /// Names of the objects that it reads from or writes to.
    pub uses: Vec<String>,
    /// Of the streams that its job reads, by which version of their schemas.
    #[serde(default)]
    pub schemas: BTreeMap<String, u64>,
    /// Its job, if it has one.
    pub job: Option<JobRecord>,
    /// Options of the job that were altered since it was made; without a value: reset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Option<String>>,
    /// When it was made, in microseconds since 1970.
    pub created_at_micros: i64,
}
