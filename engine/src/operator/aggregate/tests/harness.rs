//! Plans from SQL text, workers and epochs by hand, and DataFusion's batch answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DFSchema;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::Analyzer;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::Rng;
use rand::rngs::StdRng;

use super::super::{build, exchange_keys, partial_schema};
use crate::delta::Delta;
use crate::operator::build::Role;
use crate::operator::change::Layered;
use crate::operator::{EpochContext, Operator, Output, Step};
use crate::plan::flow::{FlowNode, FlowOp, FlowPlan, FlowProperties, ScanKind};
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::state::spill::memory::MemorySpace;
use crate::time::Watermarks;

/// Runs SQL over table `t`, as a batch. The answer's rows are sorted.
pub(super) fn batch_answer(rows: &RecordBatch, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let ctx = context(&rows.schema(), vec![vec![rows.clone()]]);
        let batches = ctx.sql(sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
        let mut answer: Vec<Vec<Value>> = batches.iter().flat_map(values).collect();
        answer.sort_by(|one, other| compare_rows(one, other));
        Ok(answer)
    })
}

fn context(schema: &SchemaRef, partitions: Vec<Vec<RecordBatch>>) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(1);
    let ctx = SessionContext::new_with_config(config);
    ctx.register_table("t", Arc::new(MemTable::try_new(Arc::clone(schema), partitions).unwrap())).unwrap();
    ctx
}

/// The (analysed) aggregate in the plan of `sql` over `t`.
pub(super) fn lowered(schema: &SchemaRef, sql: &str) -> Result<datafusion::logical_expr::Aggregate, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let ctx = context(schema, vec![vec![]]);
        let plan = ctx.sql(sql).await.map_err(|e| e.to_string())?.into_unoptimized_plan();
        let options = ctx.state().config_options().clone();
        let mut plan = Analyzer::new().execute_and_check(plan, &options, |_, _| {}).map_err(|e| e.to_string())?;
        loop {
            plan = match plan {
                LogicalPlan::Aggregate(aggregate) => return Ok(aggregate),
                other => match other.inputs().first() {
                    Some(input) => (*input).clone(),
                    None => return Err("no aggregate".to_owned()),
                },
            };
        }
    })
}

/// A plan of two nodes: a scan, and the aggregate.
pub(super) fn flow_plan(input: &DFSchema, op: FlowOp, output: DFSchema, changelog: bool) -> FlowPlan {
    let scan = FlowOp::Scan { relation: "t".to_owned(), kind: ScanKind::Stream, projection: vec![], watermark: None };
    let node = |op, inputs, schema, changelog| FlowNode {
        id: String::new(),
        op,
        inputs,
        schema: Arc::new(schema),
        properties: FlowProperties { changelog, ..FlowProperties::default() },
    };
    FlowPlan {
        nodes: vec![node(scan, vec![], input.clone(), false), node(op, vec![0], output, changelog)],
        ..FlowPlan::default()
    }
}

/// What was written down of a [`Pool`]: of its local halves, and of those that have the keys.
#[derive(Default)]
pub(super) struct Checkpoint {
    local: Layered,
    keyed: Layered,
}

impl Checkpoint {
    /// Rows of keyed state that were written last, and rows that say what is gone.
    pub(super) fn rows(&self) -> (usize, usize) {
        (self.keyed.rows, self.keyed.gone)
    }

    /// Puts all layers but the oldest so many together.
    pub(super) fn compact(&mut self, from: usize) {
        self.keyed.compact(from);
    }
}

/// Workers that run one aggregate node, with or without halves.
pub(super) struct Pool {
    plan: FlowPlan,
    halves: bool,
    locals: Vec<Box<dyn Operator>>,
    keyed: Vec<Box<dyn Operator>>,
    /// Sum of all that was emitted.
    pub(super) contents: HashMap<Vec<Value>, i64>,
    pub(super) late: u64,
    epoch: u64,
    fuel: usize,
    /// Bytes that an operator may hold in memory, if there is little.
    allowed: Option<usize>,
}

impl Pool {
    pub(super) fn new(plan: FlowPlan, workers: usize, halves: bool) -> Self {
        let mut pool = Self {
            plan,
            halves,
            locals: vec![],
            keyed: vec![],
            contents: HashMap::new(),
            late: 0,
            epoch: 0,
            fuel: Output::FUEL,
            allowed: None,
        };
        pool.start(workers);
        pool
    }

    /// Leaves operators so many bytes of memory.
    pub(super) fn with_memory(mut self, bytes: usize) -> Self {
        self.allowed = Some(bytes);
        self.start(self.keyed.len());
        self
    }

    /// Makes operators yield after so many rows.
    pub(super) fn with_fuel(mut self, fuel: usize) -> Self {
        self.fuel = fuel;
        self
    }

    fn start(&mut self, workers: usize) {
        let make = |role| (0..workers).map(|_| build(&self.plan, 1, role).unwrap()).collect::<Vec<_>>();
        (self.locals, self.keyed) =
            if self.halves { (make(Role::Local), make(Role::Final)) } else { (vec![], make(Role::Whole)) };
        if let Some(allowed) = self.allowed {
            for operator in &mut self.keyed {
                operator.spill_to(Arc::new(MemorySpace::new(allowed, allowed / 2)));
            }
        }
    }

    /// Writes all state down and starts again with it on another number of workers.
    pub(super) fn restart(&mut self, workers: usize) {
        let mut checkpoint = Checkpoint::default();
        self.write(&mut checkpoint, false);
        self.go_on_from(&checkpoint, workers);
    }

    fn operators(&mut self) -> [Vec<&mut dyn Operator>; 2] {
        [&mut self.locals, &mut self.keyed].map(|operators| operators.iter_mut().map(|of| of.as_mut() as _).collect())
    }

    /// Writes down all, or what has changed.
    pub(super) fn write(&mut self, checkpoint: &mut Checkpoint, only_changes: bool) {
        let [mut locals, mut keyed] = self.operators();
        checkpoint.local.write(&mut locals, only_changes);
        checkpoint.keyed.write(&mut keyed, only_changes);
    }

    /// What was just written down comes to what is remembered.
    pub(super) fn check(&mut self, checkpoint: &Checkpoint, context: &str) {
        let [mut locals, mut keyed] = self.operators();
        checkpoint.local.check(&mut locals, context);
        checkpoint.keyed.check(&mut keyed, context);
    }

    /// Goes on from what was written down, on so many workers.
    pub(super) fn go_on_from(&mut self, checkpoint: &Checkpoint, workers: usize) {
        self.start(workers);
        for (worker, operator) in self.keyed.iter_mut().enumerate() {
            // What local halves had not passed on is taken up by those that have the keys.
            let mut parts = checkpoint.keyed.parts_of(worker, workers);
            parts.extend(checkpoint.local.parts_of(worker, workers));
            operator.restore(parts).unwrap();
        }
    }

    /// One epoch: the batches arrive on random workers, then it ends with this watermark.
    pub(super) fn epoch(&mut self, random: &mut StdRng, batches: &[RecordBatch], watermark: Option<i64>) {
        self.epoch_of(random, batches.iter().cloned().map(Delta::append).collect(), watermark);
    }

    /// One epoch of deltas.
    pub(super) fn epoch_of(&mut self, random: &mut StdRng, deltas: Vec<Delta>, watermark: Option<i64>) {
        self.epoch += 1;
        let mut watermarks = Watermarks::none(1);
        if let Some(at) = watermark {
            watermarks.advance(crate::time::WatermarkId(0), at);
        }
        let context = EpochContext { epoch: self.epoch, now_micros: 0, watermarks: &watermarks };
        let mut between = vec![];
        for delta in deltas {
            if self.halves {
                let worker = random.random_range(0..self.locals.len());
                let (deltas, late) =
                    drive(self.locals[worker].as_mut(), self.fuel, |op, out| op.on_delta(0, delta, out));
                assert_eq!(late, 0, "a local half does not judge");
                between.extend(deltas);
            } else {
                between.push(delta);
            }
        }
        for local in &mut self.locals {
            between.extend(drive(local.as_mut(), self.fuel, |op, out| op.on_epoch_end(&context, out)).0);
        }
        for delta in between {
            self.deliver(&delta);
        }
        for worker in 0..self.keyed.len() {
            let fuel = self.fuel;
            let emitted = drive(self.keyed[worker].as_mut(), fuel, |op, out| op.on_epoch_end(&context, out));
            self.collect(emitted);
        }
        assert!(self.contents.values().all(|weight| *weight == 1), "{:?}", self.contents);
    }

    fn deliver(&mut self, delta: &Delta) {
        let workers = self.keyed.len();
        let keys: Vec<ArrayRef> = if self.halves {
            assert_eq!(delta.schema(), partial_schema(&self.plan, 1).unwrap());
            delta.rows().columns()[..exchange_keys(&self.plan, 1).unwrap()].to_vec()
        } else {
            self.raw_keys(delta.rows())
        };
        let mut hashes = vec![];
        hash_keys(&keys, delta.num_rows(), &mut hashes).unwrap();
        let mut parts: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (row, hash) in hashes.iter().enumerate() {
            parts.entry(worker_of(key_group(*hash), workers)).or_default().push(row as u32);
        }
        for (worker, rows) in parts {
            let part = delta.take(&UInt32Array::from(rows)).unwrap();
            let fuel = self.fuel;
            let emitted = drive(self.keyed[worker].as_mut(), fuel, |op, out| op.on_delta(0, part, out));
            self.collect(emitted);
        }
    }

    /// What the exchange of raw rows goes by.
    fn raw_keys(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        let plan = super::super::plan::AggregatePlan::new(&self.plan, 1).unwrap();
        plan.keys.iter().map(|key| key.evaluate(rows).unwrap().into_array(rows.num_rows()).unwrap()).collect()
    }

    fn collect(&mut self, (deltas, late): (Vec<Delta>, u64)) {
        self.late += late;
        for delta in deltas {
            assert_eq!(delta.schema(), self.plan.arrow_schema(1));
            assert!(self.plan.nodes[1].properties.changelog || delta.weights().is_none());
            for (row, value) in values(delta.rows()).into_iter().enumerate() {
                let weight = self.contents.entry(value).or_default();
                *weight += delta.weight(row);
            }
        }
        self.contents.retain(|_, weight| *weight != 0);
    }

    /// All rows that stand, sorted.
    pub(super) fn answer(&self) -> Vec<Vec<Value>> {
        let mut rows: Vec<Vec<Value>> = self.contents.keys().cloned().collect();
        rows.sort_by(|one, other| compare_rows(one, other));
        rows
    }

    /// Bytes of memory that the keyed operators hold, and rows that they have on disk.
    pub(super) fn held(&self) -> (usize, usize) {
        let sum = |of: &dyn Fn(&dyn Operator) -> usize| self.keyed.iter().map(|operator| of(operator.as_ref())).sum();
        (sum(&|operator| operator.state_size().bytes), sum(&|operator| operator.spilled().rows))
    }

    /// Groups held by the keyed operators.
    pub(super) fn state_rows(&self) -> usize {
        self.keyed.iter().map(|operator| operator.state_size().rows).sum()
    }
}

/// Calls an operator until it is done.
fn drive(
    operator: &mut dyn Operator,
    fuel: usize,
    call: impl FnOnce(&mut dyn Operator, &mut Output) -> crate::Result<Step>,
) -> (Vec<Delta>, u64) {
    let mut out = Output::with_fuel(fuel);
    let mut step = call(operator, &mut out).unwrap();
    let (mut deltas, mut late) = out.take();
    while step == Step::Yield {
        step = operator.resume(&mut out).unwrap();
        let (more, more_late) = out.take();
        deltas.extend(more);
        late += more_late;
    }
    (deltas, late)
}

pub(super) fn taken(rows: &RecordBatch, indices: &UInt32Array) -> RecordBatch {
    let columns = rows.columns().iter().map(|column| take(column, indices, None).unwrap()).collect();
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

/// A cell: floats are compared with a tolerance, all else as text.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Float(f64),
    Text(String),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits(),
            (Value::Text(one), Value::Text(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Value::Float(value) => value.to_bits().hash(state),
            Value::Text(value) => value.hash(state),
        }
    }
}

impl Value {
    fn is_close(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Float(one), Value::Float(other)) => {
                one.total_cmp(other).is_eq() || (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
            }
            _ => self == other,
        }
    }
}

/// By everything but floats, then by those: rows that differ in floats only a little stand at the same place.
fn compare_rows(one: &[Value], other: &[Value]) -> std::cmp::Ordering {
    let text = |row: &[Value]| {
        row.iter()
            .map(|value| if let Value::Text(text) = value { text.clone() } else { String::new() })
            .collect::<Vec<_>>()
    };
    let floats = |row: &[Value]| {
        row.iter()
            .filter_map(|value| if let Value::Float(float) = value { Some(*float) } else { None })
            .collect::<Vec<_>>()
    };
    text(one).cmp(&text(other)).then_with(|| {
        floats(one)
            .iter()
            .zip(floats(other))
            .map(|(one, other)| one.total_cmp(&other))
            .find(|o| o.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    })
}

pub(super) fn assert_same(ours: &[Vec<Value>], theirs: &[Vec<Value>], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}: {ours:?}\nbatch: {theirs:?}");
    for (our, their) in ours.iter().zip(theirs) {
        let same = our.len() == their.len() && our.iter().zip(their).all(|(our, their)| our.is_close(their));
        assert!(same, "{what}: {our:?}, batch: {their:?}");
    }
}

/// The rows of a batch.
pub(super) fn values(batch: &RecordBatch) -> Vec<Vec<Value>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<Vec<Value>> = batch
        .columns()
        .iter()
        .map(|column| {
            if column.data_type() == &DataType::Float64 {
                let floats = column.as_primitive::<arrow::datatypes::Float64Type>();
                let cell = |row| {
                    if floats.is_null(row) { Value::Text("NULL".to_owned()) } else { Value::Float(floats.value(row)) }
                };
                return (0..floats.len()).map(cell).collect();
            }
            let formatter = ArrayFormatter::try_new(column, &options).unwrap();
            (0..column.len()).map(|row| Value::Text(formatter.value(row).to_string())).collect()
        })
        .collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}
