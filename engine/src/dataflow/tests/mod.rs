//! Jobs on pools of threads and on simulated ones, with operators of the tests' own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::logical_expr::col;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::*;
use crate::connector::memory::MemoryHandle;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::operator::build::{Exchange, Role};
use crate::plan::flow::{
    FlowNode, FlowOp, FlowPlan, FlowProperties, NodeIndex, ScanKind, ScanWatermark, TimeColumn, WatermarkOrigin,
};
use crate::time::{Epoch, SystemClock, WatermarkId};

mod edges;
mod emission;
mod failures;
mod flow;
mod hydration;
mod jobs;
mod limits;
mod operators;
mod timers;
mod waking;

use operators::TestOperators;

const PATIENCE: Duration = Duration::from_secs(20);

/// Columns of all tests: a key, a value, an event time.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]))
}

fn batch(rows: &[(i64, i64, i64)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Rows with their weights, added up.
fn summed<'a>(deltas: impl IntoIterator<Item = &'a Delta>) -> BTreeMap<(i64, i64), i64> {
    let mut sum = BTreeMap::new();
    for delta in deltas {
        let column = |index: usize| delta.rows().column(index).as_primitive::<Int64Type>();
        for row in 0..delta.num_rows() {
            *sum.entry((column(0).value(row), column(1).value(row))).or_insert(0) += delta.weight(row);
        }
    }
    sum.retain(|_, weight| *weight != 0);
    sum
}

fn contents(view: &View) -> BTreeMap<(i64, i64), i64> {
    let deltas: Vec<Delta> = view.snapshot().unwrap().batches.into_iter().map(Delta::append).collect();
    summed(&deltas)
}

/// Builds plans of scans and operators that the tests know by name.
#[derive(Clone)]
struct PlanBuilder {
    plan: FlowPlan,
}

impl PlanBuilder {
    fn new() -> Self {
        Self { plan: FlowPlan::default() }
    }

    fn add(&mut self, id: &str, op: FlowOp, inputs: Vec<NodeIndex>, properties: FlowProperties) -> NodeIndex {
        let schema = Arc::new(DFSchema::try_from(schema()).unwrap());
        self.plan.nodes.push(FlowNode { id: id.to_owned(), op, inputs, schema, properties });
        self.plan.nodes.len() - 1
    }

    /// A stream whose event time is column `at`.
    fn stream(mut self, name: &str) -> Self {
        let id = WatermarkId(self.plan.watermarks.len() as u32);
        let watermark = Some(ScanWatermark { id, column: 2, expression: col("at") });
        self.scan(name, ScanKind::Stream, watermark, id);
        self
    }

    fn view(mut self, name: &str) -> Self {
        let id = WatermarkId(self.plan.watermarks.len() as u32);
        self.scan(name, ScanKind::View, None, id);
        self
    }

    fn scan(&mut self, name: &str, kind: ScanKind, watermark: Option<ScanWatermark>, id: WatermarkId) {
        let op = FlowOp::Scan { relation: name.to_owned(), kind, projection: vec![0, 1, 2], watermark };
        let time_columns = vec![TimeColumn { column: 2, watermark: id, delay_micros: 0 }];
        let scan = self.add(name, op, Vec::new(), FlowProperties { time_columns, ..FlowProperties::default() });
        let (relation, column) = (name.to_owned(), "at".to_owned());
        self.plan.watermarks.push(WatermarkOrigin { scan, relation, column });
    }

    /// An operator by name, over the last node.
    fn then(self, name: &str) -> Self {
        let last = self.plan.nodes.len() - 1;
        self.over(name, vec![last])
    }

    /// An operator by name over any nodes. Its output has the same event times.
    fn over(mut self, name: &str, inputs: Vec<NodeIndex>) -> Self {
        let properties = self.plan.nodes[inputs[0]].properties.clone();
        self.add(name, FlowOp::Union, inputs, properties);
        self
    }
}

/// Hears all that a job has to say.
#[derive(Debug, Default)]
struct Witness {
    failed: Mutex<Vec<Error>>,
    epochs: Mutex<Vec<Epoch>>,
    late: Mutex<u64>,
    finished: Mutex<usize>,
    waits: Mutex<Vec<String>>,
}

impl JobObserver for Witness {
    fn finished(&self) {
        *self.finished.lock().unwrap() += 1;
    }

    fn failed(&self, error: &Error) {
        self.failed.lock().unwrap().push(error.clone());
    }

    fn waits_for(&self, who: &str, what: Option<String>) {
        let said = what.map_or_else(|| format!("{who} waits no longer"), |what| format!("{who} waits for {what}"));
        self.waits.lock().unwrap().push(said);
    }

    fn late_rows(&self, _node: &str, rows: u64) {
        *self.late.lock().unwrap() += rows;
    }

    fn epoch_completed(&self, epoch: Epoch) {
        self.epochs.lock().unwrap().push(epoch);
    }
}

struct JobBuilder {
    blueprint: Blueprint,
    witness: Arc<Witness>,
}

impl JobBuilder {
    fn new(job: u64, plan: PlanBuilder, target: Target) -> Self {
        let witness = Arc::new(Witness::default());
        let blueprint = Blueprint {
            job: JobId(job),
            name: format!("job{job}"),
            plan: plan.plan,
            sources: HashMap::new(),
            views: HashMap::new(),
            target,
            limits: JobLimits::default(),
            observer: Arc::clone(&witness) as Arc<dyn JobObserver>,
            restore: None,
            after: 0,
            ends_with_checkpoint: false,
        };
        Self { blueprint, witness }
    }

    fn reads(mut self, node: NodeIndex, feed: &MemoryHandle) -> Self {
        self.blueprint.sources.insert(node, feed.source());
        self
    }

    fn reads_view(mut self, node: NodeIndex, view: &Arc<View>) -> Self {
        self.blueprint.views.insert(node, Arc::clone(view));
        self
    }

    fn limits(mut self, limits: JobLimits) -> Self {
        self.blueprint.limits = limits;
        self
    }

    fn create(self, pool: &Pool) -> Result<(JobHandle, Arc<Witness>)> {
        Ok((pool.create_job(self.blueprint)?, self.witness))
    }
}

fn view(changelog: bool) -> Arc<View> {
    View::new("v", schema(), vec![], changelog)
}

fn settings(workers: usize, operators: &Arc<TestOperators>) -> PoolSettings {
    let operators = Arc::clone(operators) as Arc<dyn OperatorFactory>;
    PoolSettings { operators, ..PoolSettings::workers(workers) }
}

fn threads(workers: usize, operators: &Arc<TestOperators>) -> Pool {
    Pool::threads(settings(workers, operators), Arc::new(SystemClock)).unwrap()
}

fn simulated(workers: usize, operators: &Arc<TestOperators>, seed: u64) -> Pool {
    Pool::simulated(settings(workers, operators), seed).unwrap()
}
