//! Runs a flow plan by calling its operators: workers, exchanges, epochs and snapshots without a single thread.
//!
//! It is a second, much simpler adaptor: within an epoch deltas are cut up and come in any order, operators get little
//! fuel, and every choice comes from the seed. What it finds is a fault of an operator or of the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use datafusion::physical_expr::PhysicalExpr;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rondel_engine::operator::build::{Exchange, Role, exchange, has_local_half, operator, replicated_part};
use rondel_engine::operator::change::changed;
use rondel_engine::operator::deferred::{into_changes, into_parts};
use rondel_engine::operator::{EpochContext, Operator, Output, StatePart, Step};
use rondel_engine::plan::flow::{FlowOp, FlowPlan, NodeIndex};
use rondel_engine::state::key_group::{hash_keys, key_group, worker_of};
use rondel_engine::{Delta, Result};

use super::spill::{self, LittleSpace};

/// What a machine remembers between two epochs, by the number of the node.
type Snapshot = Vec<(NodeIndex, StatePart)>;

/// A job on some workers.
pub(crate) struct Machine {
    plan: FlowPlan,
    workers: usize,
    nodes: Vec<Node>,
    /// Rows that operators dropped because they were late.
    pub(crate) late_rows: u64,
    /// What the job remembered when that was written down last.
    written: Option<Snapshot>,
}

#[derive(Default)]
struct Node {
    /// By worker; empty without a local half.
    local: Vec<Box<dyn Operator>>,
    /// By worker; `None` where the only key lives on another one.
    keyed: Vec<Option<Box<dyn Operator>>>,
    /// By input.
    exchanges: Vec<Exchange>,
}

impl Machine {
    /// Builds a plan for `workers` workers. With one there may be local halves or not.
    pub(crate) fn new(plan: &FlowPlan, workers: usize, rng: &mut SmallRng) -> Result<Self> {
        let mut nodes = Vec::new();
        let allowed = spill::allowed(rng);
        for (index, spec) in plan.nodes.iter().enumerate() {
            let mut node = Node::default();
            if matches!(spec.op, FlowOp::Scan { .. }) {
                nodes.push(node);
                continue;
            }
            for input in 0..spec.inputs.len() {
                node.exchanges.push(exchange(plan, index, input)?);
            }
            let halves = has_local_half(plan, index) && (workers > 1 || rng.random_bool(0.3));
            let to_all = node.exchanges.iter().any(|exchange| matches!(exchange, Exchange::ToAll));
            let owner = match node.exchanges.first() {
                Some(Exchange::ByKeys(keys)) if keys.is_empty() && !to_all => {
                    Some(worker_of(key_group(hashes(&[], 1)?[0]), workers))
                }
                None => Some(0), // constants
                _ => None,
            };
            for worker in 0..workers {
                if halves {
                    node.local.push(operator(plan, index, Role::Local)?);
                }
                let role = if halves { Role::Final } else { Role::Whole };
                let here = owner.is_none_or(|owner| owner == worker);
                let mut keyed = here.then(|| operator(plan, index, role)).transpose()?;
                keyed.iter_mut().for_each(|operator| operator.stand_on(worker, workers));
                node.keyed.push(keyed);
            }
            for operator in node.keyed.iter_mut().flatten() {
                if let Some(allowed) = allowed {
                    operator.spill_to(LittleSpace::new(allowed, rng));
                }
            }
            // With one worker and no halves nothing is exchanged; the keys of halves are not those of the raw rows.
            if workers == 1 {
                node.exchanges.iter_mut().for_each(|exchange| *exchange = Exchange::Stay);
            } else if !halves && has_local_half(plan, index) {
                unreachable!("several workers always use the halves");
            }
            nodes.push(node);
        }
        Ok(Self { plan: plan.clone(), workers, nodes, late_rows: 0, written: None })
    }

    /// Runs one epoch. `arrivals`: what came for each scan, by worker. Answers what the root said.
    pub(crate) fn epoch(
        &mut self,
        arrivals: &BTreeMap<NodeIndex, Vec<Vec<Delta>>>,
        context: &EpochContext<'_>,
        rng: &mut SmallRng,
    ) -> Result<Vec<Delta>> {
        for node in &mut self.nodes {
            for operator in node.local.iter_mut().chain(node.keyed.iter_mut().flatten()) {
                operator.begin_epoch(context.now_micros);
            }
        }
        let mut said: Vec<Vec<Vec<Delta>>> = Vec::new();
        for index in 0..self.nodes.len() {
            if matches!(self.plan.nodes[index].op, FlowOp::Scan { .. }) {
                said.push(arrivals.get(&index).cloned().unwrap_or_else(|| vec![Vec::new(); self.workers]));
                continue;
            }
            let inboxes = self.inboxes(index, &said, context, rng)?;
            let mut outputs = Vec::new();
            for (worker, mut inbox) in inboxes.into_iter().enumerate() {
                let mut output = Vec::new();
                inbox.shuffle(rng);
                if let Some(operator) = &mut self.nodes[index].keyed[worker] {
                    for (input, delta) in inbox {
                        self.late_rows += feed(operator.as_mut(), input, delta, &mut output, rng)?;
                    }
                    self.late_rows += end(operator.as_mut(), context, &mut output, rng)?;
                }
                outputs.push(output);
            }
            said.push(outputs);
        }
        spill::note(self.nodes.iter().flat_map(|node| node.keyed.iter().flatten()).any(|of| of.spilled().rows > 0));
        Ok(said.pop().into_iter().flatten().flatten().collect())
    }

    /// What reaches each worker's keyed operator in an epoch.
    fn inboxes(
        &mut self,
        index: NodeIndex,
        said: &[Vec<Vec<Delta>>],
        context: &EpochContext<'_>,
        rng: &mut SmallRng,
    ) -> Result<Vec<Vec<(usize, Delta)>>> {
        let mut inboxes: Vec<Vec<(usize, Delta)>> = vec![Vec::new(); self.workers];
        let node = &mut self.nodes[index];
        for (input, source) in self.plan.nodes[index].inputs.iter().enumerate() {
            for worker in 0..self.workers {
                let mut deltas: Vec<Delta> = said[*source][worker].iter().flat_map(|delta| cut(delta, rng)).collect();
                if let Some(local) = node.local.get_mut(worker) {
                    deltas.shuffle(rng);
                    let mut partials = Vec::new();
                    for delta in deltas {
                        self.late_rows += feed(local.as_mut(), input, delta, &mut partials, rng)?;
                    }
                    self.late_rows += end(local.as_mut(), context, &mut partials, rng)?;
                    deltas = partials;
                }
                for delta in deltas {
                    match &node.exchanges[input] {
                        Exchange::Stay => inboxes[worker].push((input, delta)),
                        Exchange::ToAll => inboxes.iter_mut().for_each(|inbox| inbox.push((input, delta.clone()))),
                        Exchange::ByKeys(keys) => {
                            for (to, delta) in divided(&delta, keys, self.workers)?.into_iter().enumerate() {
                                if !delta.is_empty() {
                                    inboxes[to].push((input, delta));
                                }
                            }
                        }
                    }
                }
            }
        }
        Ok(inboxes)
    }

    /// Writes down what the job remembers, or no more than what has changed since the last time where operators can tell.
    /// It goes on as if nothing had been.
    pub(crate) fn write_down(&mut self, only_changes: bool) -> Result<()> {
        let earlier = self.written.take();
        let mut written = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let (mut parts, mut changes) = (Vec::new(), Vec::new());
            let mut tell_changes = only_changes && earlier.is_some();
            // What a local half has not flushed goes to the keyed one when the job is restored: local halves start empty.
            let keyed = node.keyed.iter_mut().flatten();
            for operator in node.local.iter_mut().chain(keyed) {
                match if only_changes && earlier.is_some() { operator.changes()? } else { None } {
                    Some(mut told) => {
                        into_changes(operator.deferred(), &mut told)?;
                        changes.extend(told);
                    }
                    None => {
                        tell_changes = false;
                        parts.extend(operator.snapshot()?);
                        into_parts(operator.deferred(), &mut parts)?;
                    }
                }
            }
            let of_node = earlier.iter().flatten().filter(|(of, _)| *of == index).map(|(_, part)| part.clone());
            let before = if tell_changes { of_node.collect() } else { parts };
            written.extend(changed(before, changes)?.into_iter().map(|part| (index, part)));
        }
        self.written = Some(written);
        Ok(())
    }

    /// Takes up what a machine with any number of workers has written down.
    pub(crate) fn restore(&mut self, other: Self) -> Result<()> {
        use arrow::array::AsArray;
        let snapshot = other.written.unwrap_or_default();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let to_all = replicated_part(&self.plan, index);
            for (worker, operator) in node.keyed.iter_mut().enumerate() {
                let Some(operator) = operator else { continue };
                let mut parts = Vec::new();
                for (_, part) in snapshot.iter().filter(|(of, _)| *of == index) {
                    if to_all == Some(part.name.as_str()) {
                        parts.push(part.clone());
                        continue;
                    }
                    let groups = part.rows.column(0).as_primitive::<arrow::datatypes::UInt8Type>();
                    let mine: UInt32Array = (0..part.rows.num_rows() as u32)
                        .filter(|row| worker_of(groups.value(*row as usize), self.workers) == worker)
                        .collect();
                    if !mine.is_empty() {
                        let rows = take_record_batch(&part.rows, &mine)?;
                        parts.push(StatePart { name: part.name.clone(), rows });
                    }
                }
                operator.restore(parts)?;
            }
        }
        self.written = Some(snapshot);
        Ok(())
    }
}

/// A delta in pieces, sometimes.
fn cut(delta: &Delta, rng: &mut SmallRng) -> Vec<Delta> {
    let mut pieces = Vec::new();
    let mut from = 0;
    while from < delta.num_rows() {
        let rest = delta.num_rows() - from;
        let length = if rng.random_bool(0.3) { rng.random_range(1..=rest) } else { rest };
        pieces.push(delta.slice(from, length));
        from += length;
    }
    pieces
}

fn feed(
    operator: &mut dyn Operator,
    input: usize,
    delta: Delta,
    said: &mut Vec<Delta>,
    rng: &mut SmallRng,
) -> Result<u64> {
    let mut out = Output::with_fuel(rng.random_range(1..100));
    let step = operator.on_delta(input, delta, &mut out)?;
    finish(operator, step, &mut out, said)
}

fn end(
    operator: &mut dyn Operator,
    context: &EpochContext<'_>,
    said: &mut Vec<Delta>,
    rng: &mut SmallRng,
) -> Result<u64> {
    let mut out = Output::with_fuel(rng.random_range(1..100));
    let step = operator.on_epoch_end(context, &mut out)?;
    finish(operator, step, &mut out, said)
}

fn finish(operator: &mut dyn Operator, mut step: Step, out: &mut Output, said: &mut Vec<Delta>) -> Result<u64> {
    let mut late_rows = 0;
    loop {
        let (deltas, late) = out.take();
        late_rows += late;
        said.extend(deltas);
        if step == Step::Done {
            return Ok(late_rows);
        }
        step = operator.resume(out)?;
    }
}

fn hashes(columns: &[arrow::array::ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = Vec::new();
    hash_keys(columns, rows, &mut hashes)?;
    Ok(hashes)
}

/// A delta's rows by the worker that owns their key.
fn divided(delta: &Delta, keys: &[Arc<dyn PhysicalExpr>], workers: usize) -> Result<Vec<Delta>> {
    let mut columns = Vec::new();
    for key in keys {
        columns.push(key.evaluate(delta.rows())?.into_array(delta.num_rows())?);
    }
    let hashes = hashes(&columns, delta.num_rows())?;
    (0..workers)
        .map(|worker| {
            let rows = hashes.iter().enumerate().filter(|(_, hash)| worker_of(key_group(**hash), workers) == worker);
            delta.take(&UInt32Array::from_iter_values(rows.map(|(row, _)| row as u32)))
        })
        .collect()
}
