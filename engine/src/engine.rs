//! The façade: what the server, tests and tools see of the engine.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;

use crate::batch::BatchContext;
use crate::catalog::Catalog;
use crate::connector::definition::StreamDefinition;
use crate::dataflow::{JobId, JobLimits, Pool, PoolSettings};
pub use crate::delta::EpochChanges;
use crate::error::Result;
use crate::job::{JobState, JobView, Live, LiveObjects};
use crate::plan::{Functions, Planner, Relation};
use crate::session::Session;
use crate::sql::{self, WatermarkClause};
use crate::table::TableStore;
use crate::time::Clock;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Where the catalog lives; `None`: in memory only (tests, `rondel run`).
    pub data_dir: Option<PathBuf>,
    /// Worker threads.
    pub workers: usize,
    /// Memory that one job's deltas and state may hold, in bytes.
    pub job_memory_bytes: usize,
    /// Memory that all jobs may hold together, in bytes: near it their sources read no more.
    pub memory_limit_bytes: usize,
    /// How long a job that is stopped, or all at the engine's end, may take to write what was read.
    pub stop_timeout: Duration,
}

impl Default for EngineSettings {
    /// For a process that goes away: nothing is kept.
    fn default() -> Self {
        Self {
            data_dir: None,
            workers: 1,
            job_memory_bytes: 256 << 20,
            memory_limit_bytes: usize::MAX,
            stop_timeout: Duration::from_secs(4),
        }
    }
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

/// The engine: a catalog, a pool of workers and the jobs that they run.
pub struct Engine {
    pub(crate) settings: EngineSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) catalog: Catalog,
    pub(crate) pool: Pool,
    pub(crate) live: Arc<LiveObjects>,
    pub(crate) planner: Planner,
    pub(crate) batch: BatchContext,
    pub(crate) tables: Arc<TableStore>,
    /// One change of definitions at a time.
    pub(crate) changing: Mutex<()>,
    /// Numbers of jobs that have no name: those of subscriptions to queries.
    pub(crate) nameless: std::sync::atomic::AtomicU64,
}

impl Engine {
    /// Opens the data directory, starts the workers, and starts the jobs that the catalog knows. A job whose definition
    /// cannot be brought back is shown as failed; the others run.
    pub fn open(settings: EngineSettings, functions: Functions, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let catalog = match &settings.data_dir {
            Some(directory) => Catalog::open(directory)?,
            None => Catalog::in_memory(),
        };
        let tables = Arc::new(TableStore::open(settings.data_dir.as_deref())?);
        let pool_settings =
            PoolSettings { memory_bytes: settings.memory_limit_bytes, ..PoolSettings::workers(settings.workers) };
        let pool = Pool::threads(pool_settings, Arc::clone(&clock))?;
        let live: Arc<LiveObjects> = Arc::default();
        let batch = BatchContext::new(&functions, settings.workers);
        let planner = Planner::new(live.clone(), Arc::new(functions));
        let engine = Arc::new(Self {
            settings,
            clock,
            catalog,
            pool,
            live,
            planner,
            batch,
            tables,
            changing: Mutex::new(()),
            // Far from the catalog's own numbers.
            nameless: std::sync::atomic::AtomicU64::new(1 << 48),
        });
        engine.recover();
        Ok(engine)
    }

    /// A session: one connection's view of the engine.
    pub fn session(self: &Arc<Self>) -> Session {
        Session::new(Arc::clone(self))
    }

    /// Lends the engine a stream whose rows the program itself has: benchmarks, tests. It can be read like any other and
    /// is not in the catalog. `watermark` is a column and the expression of its promise.
    pub fn lend_stream(
        &self,
        name: &str,
        definition: Arc<dyn StreamDefinition>,
        watermark: Option<(&str, &str)>,
    ) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.catalog.check_free(name)?;
        let schema = definition.schema();
        let watermark = match watermark {
            Some((column, expression)) => {
                let expression = sql::parse_expression(expression)?;
                let clause = WatermarkClause { column: column.to_owned(), expression, position: None };
                Some(self.planner.validate_watermark(&schema, &clause)?)
            }
            None => None,
        };
        let relation = Arc::new(Relation::stream(name, schema, watermark));
        self.live.insert(name, Live::Stream { relation, definition });
        Ok(())
    }

    /// All jobs, in order of names.
    pub fn jobs(&self) -> Vec<JobView> {
        self.live.all().iter().filter_map(|(_, live)| live.job()).map(|job| job.view()).collect()
    }

    /// Everything that queries can read.
    pub fn relations(&self) -> Vec<Arc<Relation>> {
        self.live.all().iter().filter_map(|(_, live)| live.relation().cloned()).collect()
    }

    /// Bytes that all jobs hold together.
    pub fn memory_used(&self) -> usize {
        self.pool.memory_used()
    }

    /// Bytes that they may hold.
    pub fn memory_limit(&self) -> usize {
        self.settings.memory_limit_bytes
    }

    /// Stops all jobs in order, so that sinks have what was read, as far as that takes no longer than
    /// [`EngineSettings::stop_timeout`]; then the workers. Positions and state do not survive it yet: a new server begins
    /// each job at its configured start.
    pub fn shutdown(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = self.live.all();
        let built = objects.iter().filter_map(|(_, live)| live.job()).filter(|job| job.take_built());
        let jobs: Vec<JobId> = built.inspect(|job| job.enter(JobState::Stopping)).map(|job| JobId(job.id)).collect();
        let late = self.pool.stop_jobs(&jobs, self.settings.stop_timeout);
        for (name, live) in &objects {
            if let Some(job) = live.job().filter(|job| late.contains(&JobId(job.id))) {
                tracing::warn!(job = name, waits_for = job.view().waits_for, "what it has read is not all written");
            }
        }
        self.pool.shutdown();
    }

    /// What one job may use.
    pub(crate) fn limits(&self) -> JobLimits {
        JobLimits { memory_bytes: self.settings.job_memory_bytes, ..JobLimits::default() }
    }
}
