//! What connectors define. A *definition* is what `WITH (…)` says, checked: it knows its columns and opens a source or sink
//! for each job.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::{ScanRequest, Sink, Source};
use crate::error::Result;
use crate::schema::evolution::SchemaChange;
use crate::schema::kept::Kept;

/// What a statement says of a stream or sink.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// The options of `WITH (…)`, without `connector`.
    pub options: &'a BTreeMap<String, String>,
    /// The descriptor that the catalog kept, when the object is not new.
    pub descriptor: Option<&'a [u8]>,
    /// The columns that the statement declares, if it declares some.
    pub columns: Option<&'a SchemaRef>,
    /// Where the server keeps what schema registries say, if it keeps anything.
    pub schemas: Option<&'a Path>,
}

/// A stream of which the last row of each key counts, and none once it is deleted. The stream's own rows are the history:
/// they are read in the order of `order`, and `deleted` marks those that end a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upserts {
    /// The key's columns.
    pub key: Vec<String>,
    /// The columns that a reader of the table sees.
    pub visible: Vec<String>,
    /// The column whose greatest value of a key is its last row.
    pub order: String,
    /// The column that is true where the row is gone.
    pub deleted: String,
}

/// A stream, as its connector defines it.
pub trait StreamDefinition: Send + Sync {
    /// Its columns.
    fn schema(&self) -> SchemaRef;
    /// What the catalog keeps, beside the statement.
    fn descriptor(&self) -> Option<Vec<u8>>;
    /// Whether its rows are the changes of a table; then what is read of it is the table.
    fn upserts(&self) -> Option<Upserts> {
        None
    }
    /// Where its schema may change, if that comes from elsewhere.
    fn evolving(&self) -> Option<&dyn Evolving> {
        None
    }
    /// A source for one job or query.
    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>>;
}

/// How often a change can be in a sink after something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Once or more often.
    AtLeastOnce,
    /// Once, by the statement's own word: a server that can't promise it refuses the sink.
    ExactlyOnce,
    /// Nobody has said, and the sink can write exactly once: it does where its jobs have checkpoints.
    ExactlyOnceWithCheckpoints,
}

/// A stream whose schema comes from elsewhere and may change there. Its versions are numbers; a job goes on reading by the
/// version that it was made for.
pub trait Evolving {
    /// The versions that are kept, the one in use last.
    fn kept(&self) -> Option<&Kept>;
    /// Asks for a newer version, and waits for the answer: the stream as of that. Of the others those in `used` are kept.
    /// `None`: there is no newer one.
    fn newest(&self, used: &BTreeSet<u64>) -> Result<Option<Arc<dyn StreamDefinition>>>;
    /// The stream as of a version that is kept.
    fn at(&self, version: u64) -> Result<Arc<dyn StreamDefinition>>;
    /// What one meets who reads by this version what is written by another one that is kept here.
    fn changes(&self, read: u64, written: u64) -> Result<Vec<SchemaChange>>;
    /// How often a newer version is to be looked for without being told.
    fn refresh_interval(&self) -> Option<Duration>;
}

/// What is written to a sink.
#[derive(Debug, Clone)]
pub struct SinkInput {
    /// The rows.
    pub schema: SchemaRef,
    /// Whether rows may be taken back.
    pub changelog: bool,
    /// Whether it is to be written exactly once; only where the sink's [`Delivery`] allows it.
    pub exactly_once: bool,
}

/// A sink, as its connector defines it.
pub trait SinkDefinition: Send + Sync {
    /// Its columns, where the connector or format says them; `INSERT` without a list of columns goes by their order.
    fn columns(&self) -> Option<SchemaRef>;
    /// What the catalog keeps, beside the statement.
    fn descriptor(&self) -> Option<Vec<u8>>;
    /// Whether it keeps one record of a key, so that a new one takes the old one's place.
    fn upserts(&self) -> bool {
        false
    }
    /// What it promises.
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
    /// A sink for one job. The error says which column does not fit.
    fn open(&self, input: &SinkInput) -> Result<Box<dyn Sink>>;
}
