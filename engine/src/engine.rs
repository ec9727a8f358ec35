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
use crate::checkpoint::{CheckpointSettings, CheckpointView, Checkpoints, Place};
use crate::connector::definition::StreamDefinition;
use crate::dataflow::{EpochLease, JobId, JobLimits, Pool, PoolSettings};
pub use crate::delta::EpochChanges;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, JobView, Live, LiveObjects, Rounds, refresh_streams, supervise};
use crate::plan::{Functions, Planner, Relation};
use crate::session::{LateRowsOfTables, Session};
use crate::spill::SpillFolder;
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
    /// How long a sink that decides may take to say which checkpoint counts, before its job is left for later.
    pub decision_timeout: Duration,
    /// How checkpoints are taken. Without a data directory there are none.
    pub checkpoints: CheckpointSettings,
    /// Where state goes that memory has no room for; `None`: to the folder `spill` of the data directory, or without one to
    /// a temporary folder.
    pub spill: Option<PathBuf>,
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
            decision_timeout: Duration::from_secs(10),
            checkpoints: CheckpointSettings::default(),
            spill: None,
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
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) pool: Arc<Pool>,
    /// Who takes checkpoints; `None`: nothing is kept.
    pub(crate) checkpoints: Option<Arc<Checkpoints>>,
    supervisor: std::sync::OnceLock<Rounds>,
    refresher: std::sync::OnceLock<Rounds>,
    pub(crate) live: Arc<LiveObjects>,
    pub(crate) planner: Planner,
    pub(crate) batch: BatchContext,
    pub(crate) tables: Arc<TableStore>,
    /// Where state goes that memory has no room for.
    spill: SpillFolder,
    spill_above: Option<usize>,
    /// One change of definitions at a time.
    pub(crate) changing: Mutex<()>,
    /// Numbers of jobs that have no name: those of subscriptions to queries.
    pub(crate) nameless: std::sync::atomic::AtomicU64,
}

impl Engine {
    /// Opens the data directory, starts the workers, and starts the jobs that the catalog knows, from their checkpoints. A
    /// job that cannot be brought back is shown as failed; the others run.
    pub fn open(settings: EngineSettings, functions: Functions, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let catalog = Arc::new(match &settings.data_dir {
            Some(directory) => Catalog::open(directory)?,
            None => Catalog::in_memory(),
        });
        let tables = Arc::new(TableStore::open(settings.data_dir.as_deref())?);
        let pool_settings = PoolSettings {
            memory_bytes: settings.memory_limit_bytes,
            last_epoch: catalog.first_free_epoch() - 1,
            lease: Some(Arc::new(Lease(Arc::clone(&catalog)))),
            ..PoolSettings::workers(settings.workers)
        };
        let pool = Arc::new(Pool::threads(pool_settings, Arc::clone(&clock))?);
        let checkpoints = match place(&settings)? {
            Some(place) => {
                Some(Checkpoints::open(place, settings.checkpoints.clone(), (&pool, &tables, &catalog), &clock)?)
            }
            None => None,
        };
        let spill = spill_folder(&settings, catalog.deployment()?);
        spill.prepare()?;
        let rooms = Rooms { catalog, tables, pool, checkpoints, spill, spill_above: None };
        let engine = Self::assemble(settings, functions, clock, rooms);
        engine.recover()?;
        let refresher = refresh_streams(Arc::downgrade(&engine))?;
        engine.refresher.get_or_init(|| refresher);
        if engine.checkpoints.is_some() {
            let supervisor = supervise(Arc::downgrade(&engine))?;
            engine.supervisor.get_or_init(|| supervisor);
        }
        Ok(engine)
    }

    /// An engine of these parts, which knows nothing yet.
    pub(crate) fn assemble(
        settings: EngineSettings,
        functions: Functions,
        clock: Arc<dyn Clock>,
        rooms: Rooms,
    ) -> Arc<Self> {
        let Rooms { catalog, tables, pool, checkpoints, spill, spill_above } = rooms;
        let live: Arc<LiveObjects> = Arc::default();
        let batch = BatchContext::new(&functions, settings.workers);
        let planner = Planner::new(live.clone(), Arc::new(functions));
        let engine = Arc::new(Self {
            settings,
            clock,
            catalog,
            pool,
            checkpoints,
            supervisor: std::sync::OnceLock::new(),
            refresher: std::sync::OnceLock::new(),
            live,
            planner,
            batch,
            tables,
            spill,
            spill_above,
            changing: Mutex::new(()),
            // Far from the catalog's own numbers.
            nameless: std::sync::atomic::AtomicU64::new(1 << 48),
        });
        engine.live.inserts.get_or_init(|| Arc::new(LateRowsOfTables(Arc::downgrade(&engine))));
        engine
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

    /// Where state is that memory has no room for.
    pub fn spill(&self) -> &SpillFolder {
        &self.spill
    }

    /// How the checkpoints of running jobs are going.
    pub fn checkpoint_views(&self) -> Vec<CheckpointView> {
        self.checkpoints.as_ref().map(|checkpoints| checkpoints.views()).unwrap_or_default()
    }

    /// Takes a last checkpoint of all jobs; those that have none are stopped in order, so that sinks have what was read.
    /// Both as far as it takes no longer than [`EngineSettings::stop_timeout`]; then the workers end.
    pub fn shutdown(&self) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.stop();
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = self.live.all();
        let mut jobs: Vec<JobId> = Vec::new();
        let taken = self.last_checkpoints();
        let mut built: Vec<_> = objects
            .iter()
            .filter_map(|(name, live)| Some((name, live.job()?)))
            .filter(|(_, job)| job.take_built())
            .collect();
        // Readers first.
        built.sort_by_key(|(_, job)| std::cmp::Reverse(job.id));
        for (name, job) in built {
            job.enter(JobState::Stopping);
            let has_checkpoint = self.catalog.get(name).is_some_and(|object| taken.contains(&object.id));
            if !has_checkpoint || self.pool.drop_job(JobId(job.id)).is_err() {
                jobs.push(JobId(job.id));
            }
        }
        let late = self.pool.stop_jobs(&jobs, self.settings.stop_timeout);
        for (name, live) in &objects {
            if let Some(job) = live.job().filter(|job| late.contains(&JobId(job.id))) {
                tracing::warn!(job = name, waits_for = job.view().waits_for, "what it has read is not all written");
            }
        }
        self.pool.shutdown();
    }

    /// Takes a checkpoint of each job, and no more; answers of which it was taken.
    fn last_checkpoints(&self) -> Vec<uuid::Uuid> {
        let Some(checkpoints) = &self.checkpoints else { return Vec::new() };
        let outcomes = checkpoints.take_all(self.settings.stop_timeout / 2, true);
        checkpoints.stop();
        let taken: Vec<_> = outcomes.into_iter().filter(|(_, outcome)| outcome.is_ok()).map(|(job, _)| job).collect();
        taken.iter().for_each(|job| checkpoints.remove(*job));
        taken
    }

    /// What one job may use.
    pub(crate) fn limits(&self) -> JobLimits {
        let (spill, spill_above) = (Some(self.spill.clone()), self.spill_above);
        JobLimits { memory_bytes: self.settings.job_memory_bytes, spill, spill_above, ..JobLimits::default() }
    }
}

/// What an engine is put together from.
pub(crate) struct Rooms {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tables: Arc<TableStore>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) checkpoints: Option<Arc<Checkpoints>>,
    pub(crate) spill: SpillFolder,
    /// [`JobLimits::spill_above`].
    pub(crate) spill_above: Option<usize>,
}

/// Where state goes that memory has no room for: a folder that no other server has.
fn spill_folder(settings: &EngineSettings, deployment: uuid::Uuid) -> SpillFolder {
    let folder = settings.spill.clone().or_else(|| Some(settings.data_dir.as_ref()?.join("spill")));
    folder.map_or_else(SpillFolder::temporary, |folder| SpillFolder::new(&folder.join(deployment.to_string())))
}

/// Where checkpoints are kept, if anywhere.
fn place(settings: &EngineSettings) -> Result<Option<Place>> {
    let Some(directory) = &settings.data_dir else {
        return match &settings.checkpoints.url {
            None => Ok(None),
            Some(url) => Err(Error::new(
                ErrorKind::InvalidState,
                format!(
                    "checkpoints are to be kept in {url}, and without a data directory nobody knows what they are of"
                ),
            )),
        };
    };
    match &settings.checkpoints.url {
        Some(url) => Place::open(url).map(Some),
        None => Ok(Some(Place::Folder(directory.join("checkpoints")))),
    }
}

/// The catalog remembers which epochs were given out.
pub(crate) struct Lease(pub(crate) Arc<Catalog>);

impl EpochLease for Lease {
    fn extend(&self, epoch: u64) -> u64 {
        self.0.lease_epochs(epoch).unwrap_or_else(|error| {
            // Epochs are the clock's: none comes twice as long as that does not go back.
            tracing::error!("which epochs were given out could not be remembered: {error}");
            epoch
        })
    }
}
