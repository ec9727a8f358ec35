//! The façade: what the server, tests and tools see of the engine.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;

use crate::delta::Delta;
use crate::error::Result;
use crate::time::Epoch;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Where the catalog lives; `None`: in memory only (tests, `rondel run`).
    pub data_dir: Option<PathBuf>,
    /// Worker threads.
    pub workers: usize,
    /// Memory that one job's deltas and state may hold, in bytes.
    pub job_memory_bytes: usize,
}

/// The changes of a subscription, epoch by epoch, whole epochs only.
#[derive(Debug, Clone)]
pub struct EpochChanges {
    /// The epoch that is complete.
    pub epoch: Epoch,
    /// Its changes.
    pub deltas: Vec<Delta>,
}

/// What a statement gives back.
pub enum Outcome {
    /// A finite result.
    Rows(SendableRecordBatchStream),
    /// Changes that go on until the subscriber leaves. The wire shows two columns before the row's own:
    /// `epoch` (bigint) and `weight` (bigint).
    Changes {
        /// The rows' schema.
        schema: SchemaRef,
        /// The changes.
        stream: BoxStream<'static, Result<EpochChanges>>,
        /// `COPY (…) TO STDOUT` was asked for.
        copy: bool,
    },
    /// Done; the command tag (`CREATE STREAM`).
    Done {
        /// The tag.
        tag: String,
        /// Things the user should know.
        notices: Vec<String>,
    },
}

/// A statement's parameters and columns, before it runs.
pub struct Shape {
    /// Types of `$1`, `$2`, …, as far as planning could tell.
    pub parameters: Vec<arrow::datatypes::DataType>,
    /// Its result's columns, if it has rows.
    pub columns: Option<SchemaRef>,
}

/// Parameter values of a prepared statement.
pub type Parameters = [ScalarValue];

/// Keeps `Arc` in the façade's vocabulary.
pub type Shared<T> = Arc<T>;
