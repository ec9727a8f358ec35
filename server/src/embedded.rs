//! The engine in this process, as a [`Frontend`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use rondel_engine::checkpoint::CheckpointView;
use rondel_engine::dataflow::OperatorFigures;
use rondel_engine::engine::{Engine, EngineSettings, Outcome, Parameters, Shape};
use rondel_engine::job::{JobState, JobView};
use rondel_engine::plan::RelationKind as PlannedKind;
use rondel_engine::session::Session as EngineSession;
use rondel_engine::sql::ParsedStatement;
use rondel_engine::time::SystemClock;
use rondel_engine::{Error, ErrorKind, Result};

use crate::frontend::{CatalogView, Figure, Frontend, RelationInfo, RelationKind, Session};

/// The engine behind the doors.
pub struct Embedded {
    engine: Arc<Engine>,
    is_open: AtomicBool,
}

/// How often the jobs of `rondel run` are looked at.
const FINISHED_INTERVAL: Duration = Duration::from_millis(10);

impl Embedded {
    /// The doors to `engine`.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, is_open: AtomicBool::new(true) }
    }

    /// The engine itself.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl CatalogView for Embedded {
    fn relations(&self) -> Vec<RelationInfo> {
        let relations = self.engine.relations().into_iter().map(|relation| {
            let (kind, definition) = match &relation.kind {
                PlannedKind::Stream | PlannedKind::Upserts { .. } => (RelationKind::Stream, None),
                PlannedKind::Table => (RelationKind::Table, None),
                PlannedKind::MaterializedView => (RelationKind::MaterializedView, None),
                PlannedKind::View { query, .. } => (RelationKind::View, Some(query.clone())),
            };
            let schema = relation.visible_schema().unwrap_or_else(|_| Arc::clone(&relation.schema));
            RelationInfo { name: relation.name.clone(), kind, schema, definition }
        });
        relations.collect()
    }
}

impl Frontend for Embedded {
    type Session = EmbeddedSession;

    async fn open(settings: EngineSettings) -> Result<Self> {
        let open = || Engine::open(settings, crate::functions(), Arc::new(SystemClock));
        blocking(open).await?.map(Self::new)
    }

    fn connect(&self, _user: &str, _database: &str) -> Result<Self::Session> {
        if !self.is_ready() {
            return Err(Error::new(ErrorKind::InvalidState, "the engine is closed"));
        }
        Ok(EmbeddedSession(self.engine.session()))
    }

    fn is_ready(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    async fn finished(&self) -> Result<()> {
        let mut interval = tokio::time::interval(FINISHED_INTERVAL);
        loop {
            interval.tick().await;
            let jobs = self.engine.jobs();
            if let Some(failed) = jobs.iter().find(|job| job.state == JobState::Failed) {
                let error = failed.error.clone();
                let error = error.unwrap_or_else(|| Error::internal("it failed and does not say why"));
                return Err(error.context(format!("job \"{}\"", failed.name)));
            }
            if jobs.iter().all(|job| matches!(job.state, JobState::Finished | JobState::Stopped)) {
                return Ok(());
            }
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let of_engine = ENGINE_METRICS.iter().map(|metric| metric.figure(&self.engine, None));
        let checkpoints = self.engine.checkpoint_views();
        let of_checkpoints = checkpoints
            .iter()
            .flat_map(|of| CHECKPOINT_METRICS.iter().map(|metric| metric.figure(of, Some(of.job.clone()))));
        of_engine.chain(self.engine.jobs().iter().flat_map(figures_of)).chain(of_checkpoints).collect()
    }

    async fn close(&self) {
        self.is_open.store(false, Ordering::Release);
        let engine = Arc::clone(&self.engine);
        if let Err(error) = blocking(move || engine.shutdown()).await {
            tracing::error!(%error, "the engine did not close in order");
        }
    }
}

/// A metric, declared once: its name, what it counts, whether it only grows, and where its value comes from.
/// `docs/metrics.md` is written from these declarations by a test.
struct Metric<T: 'static> {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    value: fn(&T) -> u64,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Metric<T> {
    Metric { name, help, is_counter: true, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Metric<T> {
    Metric { name, help, is_counter: false, value }
}

/// Of each job.
const JOB_METRICS: &[Metric<JobView>] = &[
    counter("rondel_job_rows_in_total", "Rows read from the job's sources.", |job| job.rows_in),
    counter("rondel_job_rows_out_total", "Changes written to the job's view or sink.", |job| job.rows_out),
    counter("rondel_job_late_rows_total", "Rows dropped because they came too late.", |job| job.late_rows),
    counter("rondel_job_skipped_rows_total", "Rows that could not be read and were skipped.", |job| job.skipped_rows),
    gauge("rondel_job_state_bytes", "Bytes that the job's operators and view remember.", |job| job.state_bytes),
    gauge("rondel_job_in_flight_bytes", "Bytes under way between the job's operators.", |job| job.in_flight_bytes),
    gauge("rondel_job_running", "1 if the job runs.", |job| {
        u64::from(matches!(job.state, JobState::Hydrating | JobState::Running))
    }),
    gauge("rondel_job_waiting", "1 if the job waits for something.", |job| u64::from(job.state == JobState::Waiting)),
    gauge("rondel_job_failed", "1 if the job has failed.", |job| u64::from(job.state == JobState::Failed)),
];

/// Of each operator of a job that has ever remembered anything.
const OPERATOR_METRICS: &[Metric<OperatorFigures>] = &[
    gauge("rondel_operator_state_rows", "Rows or groups that the operator remembers.", |of| of.rows as u64),
    gauge("rondel_operator_state_bytes", "Bytes of memory that the operator's state takes.", |of| of.bytes as u64),
    gauge("rondel_operator_state_keys", "Different keys that the operator remembers.", |of| of.keys as u64),
    gauge("rondel_operator_spilled_bytes", "Bytes of its state that are on disk.", |of| of.spilled_bytes),
];

/// Of each running job that has checkpoints.
const CHECKPOINT_METRICS: &[Metric<CheckpointView>] = &[
    counter("rondel_checkpoints_total", "Checkpoints taken since the job was started.", |of| of.taken),
    counter("rondel_checkpoints_failed_total", "Checkpoints that failed since then.", |of| of.failed),
    gauge("rondel_checkpoint_age_seconds", "Seconds since the last checkpoint was taken.", |of| of.age_seconds),
    gauge("rondel_checkpoint_duration_milliseconds", "How long the last attempt took.", |of| of.took_micros / 1_000),
    gauge("rondel_checkpoint_bytes", "Bytes of state in the last checkpoint.", |of| of.bytes),
    gauge("rondel_checkpoint_new_bytes", "Bytes of them that the one before did not have.", |of| of.new_bytes),
];

/// Of the engine.
const ENGINE_METRICS: &[Metric<Engine>] = &[
    gauge("rondel_memory_used_bytes", "Bytes that all jobs hold together.", |engine| engine.memory_used() as u64),
    gauge("rondel_memory_limit_bytes", "Bytes that all jobs may hold together.", |engine| engine.memory_limit() as u64),
    gauge("rondel_spill_bytes", "Bytes on disk, of state that memory has no room for.", |engine| {
        engine.spill().bytes()
    }),
    gauge("rondel_spill_files", "Files that they are in.", |engine| engine.spill().files()),
];

impl<T> Metric<T> {
    fn figure(&self, of: &T, job: Option<String>) -> Figure {
        let Self { name, help, is_counter, value } = *self;
        Figure { name, help, is_counter, job, operator: None, value: value(of) as f64 }
    }
}

fn figures_of(job: &JobView) -> impl Iterator<Item = Figure> {
    let of_job = JOB_METRICS.iter().map(|metric| metric.figure(job, Some(job.name.clone())));
    let of_operators = job.operators.iter().flat_map(|operator| {
        OPERATOR_METRICS.iter().map(|metric| {
            let figure = metric.figure(operator, Some(job.name.clone()));
            Figure { operator: Some(operator.operator.clone()), ..figure }
        })
    });
    of_job.chain(of_operators)
}

/// Runs what waits for workers or disks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal(format!("the engine broke off: {error}")))
}

/// A session of the engine in this process.
pub struct EmbeddedSession(EngineSession);

impl Session for EmbeddedSession {
    type Parsed = ParsedStatement;

    fn parse(&self, sql: &str) -> Result<Vec<Self::Parsed>> {
        self.0.parse(sql)
    }

    fn parse_in(&self, sql: &str, dialect: &str) -> Result<Vec<Self::Parsed>> {
        self.0.parse_in(sql, dialect)
    }

    fn describe(&self, parsed: &Self::Parsed) -> Result<Shape> {
        self.0.describe(parsed)
    }

    fn execute(&self, parsed: &Self::Parsed, parameters: &Parameters) -> impl Future<Output = Result<Outcome>> + Send {
        self.0.execute(parsed, parameters)
    }

    async fn begin(&self) -> Result<()> {
        self.0.begin().await;
        Ok(())
    }

    async fn commit(&self) -> Result<()> {
        self.0.commit().await.map(|_| ())
    }

    async fn roll_back(&self) -> Result<()> {
        self.0.roll_back().await;
        Ok(())
    }

    fn copy_columns(&self, table: &str, columns: &[String]) -> Result<SchemaRef> {
        self.0.copy_columns(table, columns)
    }

    async fn copy_in(&self, table: &str, columns: &[String], rows: Vec<RecordBatch>) -> Result<usize> {
        self.0.copy_in(table, columns, rows).await
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        self.0.set(name, Some(value))
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).ok()
    }

    fn reset(&self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_these_declarations() {
        let line = |name, help, is_counter| {
            format!("| `{name}` | {} | {help} |\n", if is_counter { "counter" } else { "gauge" })
        };
        let heading = "# Metrics\n\nWhat `/metrics` says of the engine and its jobs; [operations](operations.md) has the rest. \
                       Those of a job have the label `job`, those of an operator also `operator`: what it does and a number that stays \
                       the same.\n\n| metric | type | |\n|---|---|---|\n";
        let mut expected = heading.to_owned();
        expected.extend(JOB_METRICS.iter().map(|metric| line(metric.name, metric.help, metric.is_counter)));
        expected.extend(OPERATOR_METRICS.iter().map(|metric| line(metric.name, metric.help, metric.is_counter)));
        expected.extend(CHECKPOINT_METRICS.iter().map(|metric| line(metric.name, metric.help, metric.is_counter)));
        expected.extend(ENGINE_METRICS.iter().map(|metric| line(metric.name, metric.help, metric.is_counter)));
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::fs::read_to_string(page).unwrap_or_default() != expected {
            std::fs::write(page, expected).unwrap();
            panic!("docs/metrics.md was out of date and is written anew: commit it");
        }
    }
}
