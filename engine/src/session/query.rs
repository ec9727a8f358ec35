//! SELECT, SUBSCRIBE, COPY and EXPLAIN.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::define::destination;
use super::job_options::without_job_options;
use super::variables::READ_FAILED_VIEWS;
use super::{blocking, show, stream_scan};
use crate::batch::BatchScans;
use crate::catalog::{DesiredState, ObjectKind, unknown};
use crate::checkpoint::is_job_option;
use crate::connector::ScanRequest;
use crate::connector::channel::channel;
use crate::connector::definition::Definition;
use crate::connector::registry;
use crate::dataflow::{JobId, Target};
use crate::delta::EpochChanges;
use crate::engine::{Engine, Outcome, Parameters, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, JobStatus, Live, Origin};
use crate::operator::expression::batch;
use crate::plan::{ContinuousPlan, Destination, Relation, StateTtl, answer_columns};
use crate::sql::{self, ParsedStatement, Query, Statement, Subscription, quoted};
use crate::table::{RowBatches, TableView, lookup_keys};

/// A query's parameters and columns.
pub(super) fn describe(engine: &Engine, query: &Query) -> Result<Shape> {
    let plan = engine.planner.plan_batch(query, None)?;
    Ok(Shape { parameters: parameter_types(&plan)?, columns: Some(answer_columns(&plan)) })
}

/// The types of `$1`, `$2`, …; text where planning could not tell.
pub(super) fn parameter_types(plan: &LogicalPlan) -> Result<Vec<DataType>> {
    let mut types: Vec<(usize, DataType)> = Vec::new();
    for (name, data_type) in plan.get_parameter_types()? {
        let number = name.trim_start_matches('$').parse().map_err(|_| {
            Error::new(ErrorKind::Syntax, format!("the parameter {name} has no number")).with_hint("write $1, $2, …")
        })?;
        types.push((number, data_type.unwrap_or(DataType::Utf8)));
    }
    types.sort_by_key(|(number, _)| *number);
    Ok(types.into_iter().map(|(_, data_type)| data_type).collect())
}

/// A snapshot: materialized views that are connected at one epoch, any other at its last complete one, all tables as of one
/// LSN, a stream from its first to its present last row. `failed_views`: those whose job has failed are read as they last
/// were, instead of being an error.
pub(super) async fn select(
    engine: &Arc<Engine>,
    query: &Query,
    parameters: &Parameters,
    tables: TableView,
    failed_views: bool,
) -> Result<Outcome> {
    let plan = engine.planner.plan_batch(query, Some(parameters))?;
    hydrated(engine, &plan).await?;
    let views = super::one_epoch::read(engine, &plan).await?;
    let scans = Arc::new(LiveScans { failed_views, views, ..LiveScans::new(engine, tables) });
    let (now, memory) = (engine.clock.now_micros(), engine.settings.job_memory_bytes);
    let rows = engine.batch.execute(&plan, scans, now, memory).await?;
    let columns = answer_columns(&plan);
    let differ = rows.schema().fields().iter().zip(columns.fields()).any(|(row, column)| row.name() != column.name());
    Ok(Outcome::Rows(if differ { called(rows, &columns) } else { rows }))
}

/// The rows with other names for their columns.
fn called(rows: SendableRecordBatchStream, columns: &Schema) -> SendableRecordBatchStream {
    let own = rows.schema();
    let fields = own.fields().iter().zip(columns.fields());
    let fields = fields.map(|(row, column)| row.as_ref().clone().with_name(column.name()));
    let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), own.metadata().clone()));
    let named = Arc::clone(&schema);
    let rows = rows.map(move |rows| {
        let rows = rows?;
        batch(&named, rows.columns().to_vec(), rows.num_rows()).map_err(Into::into)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The rows behind the names, now.
pub(super) struct LiveScans {
    engine: Arc<Engine>,
    tables: TableView,
    /// Views whose job has failed are read as they last were.
    failed_views: bool,
    /// Views that were read already.
    views: HashMap<String, Vec<RecordBatch>>,
    /// A table that stands for these rows.
    given: Option<(String, RecordBatch)>,
}

impl LiveScans {
    /// Tables are read from `tables`.
    pub(super) fn new(engine: &Arc<Engine>, tables: TableView) -> Self {
        Self { engine: Arc::clone(engine), tables, failed_views: false, views: HashMap::new(), given: None }
    }

    /// The same, but a table has these rows.
    pub(super) fn with_rows(self, table: &str, rows: RecordBatch) -> Self {
        Self { given: Some((table.to_owned(), rows)), ..self }
    }
}

/// Waits until the views that a plan reads are there: one that was created over large inputs is not before it has read
/// them, and is never shown half-built.
pub(super) async fn hydrated(engine: &Arc<Engine>, plan: &LogicalPlan) -> Result<()> {
    for name in super::one_epoch::named(plan)? {
        let Some(Live::MaterializedView { view, job, .. }) = engine.live.get(&name) else { continue };
        // Why a job has failed is said when the view is read.
        if !view.hydrated().await && job.view().state != JobState::Failed {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("'{name}' holds nothing yet: its job was stopped before it had read its inputs"),
            )
            .with_hint(format!("ALTER JOB {} START starts it again", quoted(&name))));
        }
    }
    Ok(())
}

/// Why a view is not kept current any more, if it is not although it should.
fn failure(name: &str, job: &JobStatus) -> Option<Error> {
    let status = job.view();
    (status.state == JobState::Failed).then(|| {
        let reason = status.error.map_or_else(String::new, |error| format!(": {error}"));
        Error::new(ErrorKind::InvalidState, format!("'{name}' is not kept current: its job has failed{reason}"))
    })
}

impl BatchScans for LiveScans {
    fn scan(&self, relation: &Relation, projection: &[usize]) -> Result<SendableRecordBatchStream> {
        self.lookup(relation, projection, &[])
    }

    fn lookup(&self, relation: &Relation, projection: &[usize], filters: &[Expr]) -> Result<SendableRecordBatchStream> {
        let schema = Arc::new(relation.schema.project(projection)?);
        if let Some((name, rows)) = &self.given
            && *name == relation.name
        {
            let rows = futures::stream::iter([Ok(rows.project(projection)?)]);
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)));
        }
        match self.engine.live.get(&relation.name) {
            Some(Live::MaterializedView { view, job, .. }) => {
                if let Some(failure) = failure(&relation.name, &job).filter(|_| !self.failed_views) {
                    return Err(failure.with_hint(format!(
                        "ALTER JOB {} START starts it again; after SET {READ_FAILED_VIEWS} = on, SELECT shows what it last held",
                        quoted(&relation.name)
                    )));
                }
                let batches = match self.views.get(&relation.name) {
                    Some(batches) => batches.clone(),
                    None => view.snapshot()?.batches,
                };
                let batches = batches.into_iter();
                let projection = projection.to_vec();
                let projected = batches.map(move |batch| Ok(batch.project(&projection)?));
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(projected))))
            }
            Some(Live::Table { table, .. }) => {
                let keys = lookup_keys(&table, filters);
                let rows = RowBatches::new(self.tables.clone(), &table, projection, keys)?;
                let schema = Arc::clone(rows.schema());
                let rows = rows.map(|batch| batch.map_err(Into::into));
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows))))
            }
            Some(Live::Stream { definition, .. }) => {
                let projection = projection.to_vec();
                let source = definition.open(ScanRequest {
                    projection,
                    leaves: Vec::new(),
                    schema: Arc::clone(&schema),
                    bounded: true,
                })?;
                stream_scan::read_once(source, schema, Arc::clone(&self.engine.clock))
            }
            _ => Err(unknown(&relation.name)),
        }
    }
}

/// The query whose changes are subscribed to.
fn subscribed(engine: &Engine, to: &Subscription) -> Result<Query> {
    match to {
        Subscription::Query(query) => Ok(query.clone()),
        Subscription::Name(name) => match engine.live.get(name) {
            Some(live) if live.relation().is_some() => sql::parse_query(&format!("SELECT * FROM {}", quoted(name))),
            Some(Live::Broken { error, .. }) => Err(error),
            Some(_) => Err(Error::new(ErrorKind::InvalidState, format!("'{name}' cannot be read"))),
            None => Err(unknown(name)),
        },
    }
}

/// `epoch`, `weight`, then the columns of what is subscribed to.
pub(super) fn subscription_schema(engine: &Engine, to: &Subscription) -> Result<SchemaRef> {
    let rows = match to {
        Subscription::Name(name) => match engine.live.get(name) {
            Some(live) => match live.relation() {
                Some(relation) => Arc::clone(&relation.schema),
                None => return Err(unknown(name)),
            },
            None => return Err(unknown(name)),
        },
        Subscription::Query(query) => engine.planner.result_schema(query)?,
    };
    let own = ["epoch", "weight"].map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
    Ok(Arc::new(Schema::new(own.into_iter().chain(rows.fields().iter().cloned()).collect::<Vec<_>>())))
}

/// First what is there, then every change, whole epochs only.
pub(super) async fn subscribe(engine: &Arc<Engine>, to: &Subscription, copy: bool) -> Result<Outcome> {
    if let Subscription::Name(name) = to
        && let Some(Live::MaterializedView { view, job, .. }) = engine.live.get(name)
    {
        if let Some(failure) = failure(name, &job) {
            return Err(failure.with_hint(format!("ALTER JOB {} START starts it again", quoted(name))));
        }
        let schema = Arc::clone(view.schema());
        let subscription = view.subscribe(true)?;
        return Ok(Outcome::Changes { schema, stream: subscription.boxed(), copy });
    }
    let query = subscribed(engine, to)?;
    let owner = Arc::clone(engine);
    let (schema, changes) = blocking(move || start_nameless(&owner, &query)).await?;
    Ok(Outcome::Changes { schema, stream: changes.boxed(), copy })
}

/// A job for one subscriber.
fn start_nameless(engine: &Arc<Engine>, query: &Query) -> Result<(SchemaRef, Changes)> {
    let mut plan = engine.planner.plan_continuous(query)?;
    engine.fit_late_rows(&mut plan)?;
    let id = engine.nameless.fetch_add(1, Ordering::Relaxed);
    let status =
        JobStatus::new(id, "a subscription", ObjectKind::Insert, DesiredState::Running, engine.clock.now_micros());
    let status = Arc::new(status);
    let (sink, receiver) = channel();
    let schema = Arc::clone(&plan.schema);
    let ContinuousPlan { flow, .. } = plan;
    let target = Target::Sink(Box::new(sink));
    crate::job::start((&engine.pool, &engine.live), &status, &flow, target, (engine.limits(), Origin::default()))?;
    Ok((schema, Changes { receiver, status, engine: Arc::clone(engine), ended: false }))
}

/// The changes of a subscriber's own job; the job ends with it.
struct Changes {
    receiver: mpsc::Receiver<EpochChanges>,
    status: Arc<JobStatus>,
    engine: Arc<Engine>,
    ended: bool,
}

impl Stream for Changes {
    type Item = Result<EpochChanges>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(changes)) => Poll::Ready(Some(Ok(changes))),
            // The job has let go of its sink: it has failed, or its input was bounded.
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(self.status.view().error.map(Err))
            }
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if self.status.take_built() {
            let (engine, id) = (Arc::clone(&self.engine), JobId(self.status.id));
            // Dropping waits for the workers, and this may be one of tokio's threads.
            std::thread::spawn(move || {
                if let Err(error) = engine.pool.drop_job(id) {
                    tracing::debug!("a subscription's job was gone already: {error}");
                }
            });
        }
    }
}

/// The one column of EXPLAIN.
pub(super) fn explain_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, true)]))
}

/// The operators of a continuous query.
pub(super) fn explain(engine: &Engine, inner: &ParsedStatement) -> Result<Outcome> {
    let plan = match &inner.statement {
        Statement::Query(query) => engine.planner.plan_continuous(query)?,
        Statement::CreateView(view) => engine.planner.plan_materialized_view(&without_job_options(view))?,
        Statement::Insert(insert) => match &insert.query {
            Some(query) if !engine.is_table(&insert.target) => {
                let destination = match engine.live.get(&insert.target) {
                    Some(Live::Sink { definition, .. }) => destination(&*definition),
                    _ => Destination::Appends,
                };
                engine.planner.plan_for(query, destination, &StateTtl::default())?
            }
            _ => return Err(Error::not_supported("an INSERT into a table has no plan that runs on")),
        },
        Statement::Subscribe { to, .. } => engine.planner.plan_continuous(&subscribed(engine, to)?)?,
        Statement::CreateSink(sink) => match &sink.query {
            Some(query) => {
                let mut options = sink.options.without(is_job_option).to_map();
                let state_ttl = StateTtl::taken(&mut options);
                let schemas = engine.schemas_folder();
                let definition = Definition {
                    name: &sink.name,
                    options: &options,
                    descriptor: None,
                    columns: None,
                    schemas: schemas.as_deref(),
                };
                let destination = destination(&*registry::define_sink(&definition)?);
                engine.planner.plan_for(query, destination, &state_ttl)?
            }
            None => return Err(Error::not_supported("a sink without a query has no plan")),
        },
        other => return Err(Error::not_supported(format!("{} has no plan", other.tag()))),
    };
    show::lines(explain_schema(), &plan.explain())
}
