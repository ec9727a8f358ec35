//! The engine's side of a case: its planner over the case's streams, and its pool.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use rand::Rng;
use rand::rngs::SmallRng;
use rondel_engine::batch::{BatchContext, BatchScans};
use rondel_engine::connector::Source;
use rondel_engine::connector::definition::Upserts;
use rondel_engine::connector::memory::{MemoryHandle, MemorySink};
use rondel_engine::dataflow::{Blueprint, JobHandle, JobId, JobLimits, JobSnapshot, Pool, PoolSettings, Target};
use rondel_engine::plan::flow::{FlowOp, FlowPlan, NodeIndex};
use rondel_engine::plan::{ContinuousPlan, Functions, Planner, Relation, RelationKind, Relations, WatermarkDefinition};
use rondel_engine::spill::SpillFolder;
use rondel_engine::sql::parse_query;
use rondel_engine::{Delta, Error, Result};

use super::multiset::Multiset;
use super::row::{UPSERTS_KEY, schema, upserts_schema};
use super::spill;
use super::table::{Form, KEY, Table};

/// The streams, as a catalog has them.
struct Streams(BTreeMap<String, Arc<Relation>>);

impl Streams {
    fn new(tables: &[Table]) -> Self {
        let upserts = |table: &Table| {
            let names = |schema: SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect();
            let key = UPSERTS_KEY.map(str::to_owned).to_vec();
            let (order, deleted) = ("_order".to_owned(), "_deleted".to_owned());
            let upserts = Upserts { key, visible: names(schema()), order, deleted };
            Relation::upserts(&table.name, upserts_schema(), &upserts).unwrap()
        };
        let stream = |table: &Table| Relation {
            name: table.name.clone(),
            schema: schema(),
            kind: RelationKind::Stream,
            changelog: table.changing,
            keys: if table.form == Form::Keyed { vec![vec![KEY]] } else { Vec::new() },
            watermark: Some(WatermarkDefinition {
                column: 0,
                expression: format!("ts - INTERVAL '{}' SECOND", table.delay_seconds),
            }),
            time_columns: Vec::new(),
        };
        let relation = |table: &Table| if table.form == Form::Upserts { upserts(table) } else { stream(table) };
        Self(tables.iter().map(|table| (table.name.clone(), Arc::new(relation(table)))).collect())
    }
}

impl Relations for Streams {
    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Plans a statement over the streams.
pub(crate) fn planned(sql: &str, tables: &[Table], functions: &Arc<Functions>) -> Result<ContinuousPlan> {
    let planner = Planner::new(Arc::new(Streams::new(tables)), Arc::clone(functions));
    planner.plan_continuous(&parse_query(sql)?)
}

/// All rows of the streams, for a bounded query.
struct AllRows(Vec<Table>);

impl BatchScans for AllRows {
    fn scan(&self, relation: &Relation, projection: &[usize]) -> Result<SendableRecordBatchStream> {
        let table = self.0.iter().find(|table| table.name == relation.name);
        let table = table.ok_or_else(|| Error::internal(format!("no rows of {}", relation.name)))?;
        let (schema, rows) = table.scanned();
        let rows: Vec<_> = rows.iter().map(|rows| Ok(rows.project(projection)?)).collect();
        let schema = Arc::new(schema.project(projection)?);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows))))
    }
}

/// What the engine's own batch side answers.
pub(crate) async fn batch_answer(
    batch: &BatchContext,
    plan: &ContinuousPlan,
    tables: &[Table],
    now: i64,
) -> Result<Multiset> {
    let scans = Arc::new(AllRows(tables.to_vec()));
    let mut rows = batch.execute(&plan.batch, scans, now, 1 << 30).await?;
    let mut answer = Multiset::default();
    while let Some(rows) = rows.next().await {
        answer.add(&rows.map_err(Error::from)?, |_| 1);
    }
    Ok(answer)
}

/// A plan on a simulated pool, from one restart to the next.
pub(crate) struct PooledJob {
    pool: Pool,
    job: JobHandle,
    /// By scan: the stream that it reads, its columns, and where its rows are put.
    feeds: Vec<(String, Vec<usize>, MemoryHandle)>,
    sink: MemorySink,
    seen: usize,
    /// What the job remembered when that was written down last.
    written: Option<JobSnapshot>,
}

impl PooledJob {
    /// Starts the plan on `workers` workers, from a snapshot or anew.
    pub(crate) fn start(
        plan: &FlowPlan,
        tables: &[Table],
        workers: usize,
        restore: Option<JobSnapshot>,
        rng: &mut SmallRng,
    ) -> Result<Self> {
        let pool = Pool::simulated(PoolSettings::workers(workers), rng.random())?;
        let mut feeds = Vec::new();
        let mut sources: HashMap<NodeIndex, Box<dyn Source>> = HashMap::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            if let FlowOp::Scan { relation, projection, .. } = &node.op {
                let partitions =
                    tables.iter().find(|table| table.name == *relation).map_or(1, |table| table.partitions);
                let handle = MemoryHandle::new(partitions as usize);
                sources.insert(index, handle.source());
                feeds.push((relation.clone(), projection.clone(), handle));
            }
        }
        let sink = MemorySink::new();
        let spill_above = spill::allowed(rng);
        let spill = spill_above.is_some().then(SpillFolder::temporary);
        let job = pool.create_job(Blueprint {
            job: JobId(1),
            name: "oracle".to_owned(),
            plan: plan.clone(),
            sources,
            views: HashMap::new(),
            target: Target::Sink(Box::new(sink.clone())),
            limits: JobLimits { spill, spill_above, spill_is_kept: rng.random_bool(0.5), ..JobLimits::default() },
            observer: Arc::new(()),
            restore: restore.clone(),
            after: 0,
            ends_with_checkpoint: false,
        })?;
        Ok(Self { pool, job, feeds, sink, seen: 0, written: restore })
    }

    /// Runs one epoch of the tables; after the last one the inputs end. Answers what the job said.
    pub(crate) fn epoch(&mut self, tables: &[Table], epoch: usize) -> Result<Vec<Delta>> {
        let mut ended = true;
        for (relation, projection, handle) in &self.feeds {
            let Some(table) = tables.iter().find(|table| table.name == *relation) else { continue };
            match table.epochs.get(epoch) {
                Some(arrivals) => {
                    ended = false;
                    for arrival in arrivals {
                        let rows = arrival.rows.project(projection)?;
                        handle.push_delta(arrival.partition as usize, arrival.delta().with_rows(rows))?;
                    }
                }
                None => handle.close(),
            }
        }
        if ended {
            let job = self.job.clone();
            self.pool.wait_until(std::time::Duration::from_secs(60), || job.outcome().is_some());
            match self.job.outcome() {
                Some(outcome) => outcome?,
                None => return Err(Error::internal("the job does not end though its inputs have")),
            }
        } else if !self.has_ended() {
            self.pool.step(self.job.id())?;
        }
        spill::note(self.job.operators().iter().any(|operator| operator.spilled_bytes > 0));
        let written = self.sink.written();
        let new = written[self.seen..].iter().map(|(_, delta)| delta.clone()).collect();
        self.seen = written.len();
        Ok(new)
    }

    /// A job without inputs (the planner found that no row can pass) ends by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.job.outcome().is_some()
    }

    /// Writes down what the job remembers, or no more than what has changed since the last time.
    pub(crate) fn write_down(&mut self, only_changes: bool) -> Result<()> {
        let written = match self.written.take() {
            Some(before) if only_changes => self.pool.changes(self.job.id())?.onto(before)?,
            _ => self.pool.snapshot(self.job.id())?,
        };
        self.written = Some(written);
        Ok(())
    }

    /// All that the job remembers; it is over afterwards.
    pub(crate) fn stop(mut self) -> Result<JobSnapshot> {
        self.write_down(true)?;
        self.pool.drop_job(self.job.id())?;
        self.written.ok_or_else(|| Error::internal("nothing was written down"))
    }
}
