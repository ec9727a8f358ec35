//! What time alone changes, on simulated pools: rows that satisfy conditions on `now()`, and state that is forgotten.

mod state_bound;
mod state_ttl;
mod temporal_filters;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use rondel_engine::batch::{BatchContext, BatchScans};
use rondel_engine::connector::Source;
use rondel_engine::connector::memory::{MemoryHandle, MemorySink};
use rondel_engine::dataflow::{Blueprint, JobHandle, JobId, JobLimits, JobSnapshot, Pool, PoolSettings, Target};
use rondel_engine::plan::flow::{FlowOp, NodeIndex};
use rondel_engine::plan::{
    ContinuousPlan, Destination, Functions, Planner, Relation, RelationKind, Relations, StateTtl, WatermarkDefinition,
};
use rondel_engine::sql::parse_query;
use rondel_engine::{Error, Result};

const MINUTE: i64 = 60_000_000;

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("ts", time.clone(), true),
        Field::new("until", time, true),
        Field::new("k", DataType::Int64, true),
        Field::new("ms", DataType::Int64, true),
    ]))
}

/// One stream, `s`.
struct Catalog(Arc<Relation>);

impl Relations for Catalog {
    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        (name == "s").then(|| Arc::clone(&self.0))
    }

    fn names(&self) -> Vec<String> {
        vec!["s".to_owned()]
    }
}

/// The stream.
fn relation(watermark: Option<WatermarkDefinition>) -> Relation {
    Relation {
        name: "s".to_owned(),
        schema: schema(),
        kind: RelationKind::Stream,
        changelog: false,
        keys: Vec::new(),
        watermark,
        time_columns: Vec::new(),
    }
}

/// The plan of a query over the stream, with what it says of `state_ttl`.
fn planned_over(relation: Relation, sql: &str, state_ttl: Option<&str>) -> Result<ContinuousPlan> {
    let planner = Planner::new(Arc::new(Catalog(Arc::new(relation))), Arc::new(Functions::builtin()));
    let state_ttl = StateTtl { all: state_ttl.map(str::to_owned), ..StateTtl::default() };
    planner.plan_for(&parse_query(sql)?, Destination::Appends, &state_ttl)
}

/// The same, without a watermark.
fn planned(sql: &str, state_ttl: Option<&str>) -> Result<ContinuousPlan> {
    planned_over(relation(None), sql, state_ttl)
}

struct Rows(Vec<RecordBatch>);

impl BatchScans for Rows {
    fn scan(&self, _relation: &Relation, projection: &[usize]) -> Result<SendableRecordBatchStream> {
        let rows: Vec<_> = self.0.iter().map(|rows| Ok(rows.project(projection)?)).collect();
        let schema = Arc::new(schema().project(projection)?);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows))))
    }
}

type Sums = BTreeMap<String, i64>;

fn add(sums: &mut Sums, rows: &RecordBatch, weight: impl Fn(usize) -> i64) {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    for row in 0..rows.num_rows() {
        let text: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
        *sums.entry(text.join(" | ")).or_default() += weight(row);
    }
    sums.retain(|_, count| *count != 0);
}

async fn batch_answer(plan: &ContinuousPlan, rows: &[RecordBatch], now_micros: i64) -> Sums {
    let context = BatchContext::new(&Functions::builtin(), 1);
    let scans = Arc::new(Rows(rows.to_vec()));
    let mut answer = context.execute(&plan.batch, scans, now_micros, 1 << 30).await.unwrap();
    let mut sums = Sums::new();
    while let Some(rows) = answer.next().await {
        add(&mut sums, &rows.map_err(Error::from).unwrap(), |_| 1);
    }
    sums
}

/// A plan on a simulated pool.
struct Job {
    pool: Pool,
    job: JobHandle,
    feeds: Vec<(Vec<usize>, MemoryHandle)>,
    sink: MemorySink,
    /// Simulated microseconds that were let pass at once, here and before.
    passed: i64,
}

impl Job {
    fn start(plan: &ContinuousPlan, workers: usize, restore: Option<(JobSnapshot, i64)>, seed: u64) -> Self {
        let (last_epoch, passed) = restore.as_ref().map_or((0, 0), |(snapshot, passed)| (snapshot.epoch, *passed));
        let pool = Pool::simulated(PoolSettings { last_epoch, ..PoolSettings::workers(workers) }, seed).unwrap();
        pool.pass(Duration::from_micros(passed as u64));
        let mut feeds = Vec::new();
        let mut sources: HashMap<NodeIndex, Box<dyn Source>> = HashMap::new();
        for (index, node) in plan.flow.nodes.iter().enumerate() {
            if let FlowOp::Scan { projection, .. } = &node.op {
                let handle = MemoryHandle::new(3);
                sources.insert(index, handle.source());
                feeds.push((projection.clone(), handle));
            }
        }
        let sink = MemorySink::new();
        let job = pool
            .create_job(Blueprint {
                job: JobId(1),
                name: "filtered".to_owned(),
                plan: plan.flow.clone(),
                sources,
                views: HashMap::new(),
                target: Target::Sink(Box::new(sink.clone())),
                limits: JobLimits::default(),
                observer: Arc::new(()),
                restore: restore.map(|(snapshot, _)| snapshot),
                after: 0,
                ends_with_checkpoint: false,
            })
            .unwrap();
        Self { pool, job, feeds, sink, passed }
    }

    fn pass(&mut self, micros: i64) {
        self.passed += micros;
        self.pool.pass(Duration::from_micros(micros as u64));
    }

    fn push(&self, rows: &RecordBatch, partition: usize) {
        for (projection, feed) in &self.feeds {
            feed.push(partition, rows.project(projection).unwrap()).unwrap();
        }
    }

    fn now(&self) -> i64 {
        self.pool.clock().now_micros()
    }

    fn step(&self) -> u64 {
        self.pool.step(self.job.id()).unwrap()
    }

    /// All that was said so far, added up.
    fn sums(&self) -> Sums {
        let mut sums = Sums::new();
        for (_, delta) in self.sink.written() {
            add(&mut sums, delta.rows(), |row| delta.weight(row));
        }
        sums
    }
}

/// Where simulated time starts: 2024-01-01 UTC.
const START: i64 = 1_704_067_200_000_000;
