//! What a snapshot of a job holds besides its operators' own state: watermarks and the view's contents.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt8Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::given::Given;
use crate::connector::Positions;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::change::{ChangedRows, changed};
use crate::operator::deferred::into_changes;
use crate::operator::{DeferredPart, Operator, StateChange, StatePart};
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::time::{Epoch, WatermarkId, Watermarks};

/// The column that says which key group a row of a [`StatePart`] belongs to.
const GROUP: &str = "_group";
/// Not an operator's identity: the job's merged watermarks.
const WATERMARKS: &str = "watermarks";
/// Not an operator's identity: the view's contents.
pub(crate) const VIEW: &str = "view";
const PARTITIONS: &str = "partitions";

/// Parts of several operators, by their identity.
type OfOperators<T> = Vec<(String, T)>;

/// All that a job remembers at the end of one epoch.
#[derive(Debug, Clone)]
pub struct JobSnapshot {
    /// The epoch.
    pub epoch: Epoch,
    /// Parts, by the identity of the plan's node (and two of the job itself).
    pub parts: Vec<(String, StatePart)>,
    /// By the identity of the plan's node: what has changed since the snapshot before, of those that gave no more than that.
    pub changes: BTreeMap<String, Vec<StateChange>>,
    /// What belongs to either and is not in memory, by the identity of the plan's node.
    pub deferred: Vec<(String, DeferredPart)>,
    /// By the scan's identity: where the source stood. `None`: it can't be opened there again.
    pub positions: BTreeMap<String, Option<Positions>>,
    /// By the scan's identity, where a view is restored as of a later epoch than its reader: what changed between. The
    /// reader has it first.
    pub missed: BTreeMap<String, Vec<Delta>>,
}

impl JobSnapshot {
    /// What all timely operators gave.
    pub(crate) fn given(epoch: Epoch, given: Given) -> Result<Self> {
        let Given { mut parts, mut changes, whole, deferred, positions } = given;
        for operator in whole {
            // The local half of an aggregate may have told its changes, and always does so as a whole.
            for change in changes.remove(&operator).into_iter().flatten() {
                let StateChange::Whole { name, rows } = change else {
                    return Err(Error::internal(format!("workers gave the state of {operator} in different ways")));
                };
                let rows = rows.into_iter().map(|rows| (operator.clone(), StatePart { name: name.clone(), rows }));
                parts.extend(rows);
            }
        }
        Ok(Self { epoch, parts, changes, deferred, positions, missed: BTreeMap::new() })
    }

    /// A snapshot that has changes, on top of the snapshot before.
    pub fn onto(mut self, before: Self) -> Result<Self> {
        let mut earlier: BTreeMap<String, Vec<StatePart>> = BTreeMap::new();
        let is_changed = |operator: &String| self.changes.contains_key(operator);
        for (operator, part) in before.deferred.into_iter().filter(|(operator, _)| is_changed(operator)) {
            earlier.entry(operator).or_default().extend(part.in_memory(0..=u8::MAX)?);
        }
        for (operator, part) in before.parts.into_iter().filter(|(operator, _)| self.changes.contains_key(operator)) {
            earlier.entry(operator).or_default().push(part);
        }
        for (operator, mut changes) in std::mem::take(&mut self.changes) {
            let (deferred, others): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.deferred).into_iter().partition(|(of, _)| *of == operator);
            self.deferred = others;
            into_changes(deferred.into_iter().map(|(_, part)| part).collect(), &mut changes)?;
            let parts = changed(earlier.remove(&operator).unwrap_or_default(), changes)?;
            self.parts.extend(parts.into_iter().map(|part| (operator.clone(), part)));
        }
        Ok(self)
    }

    /// A snapshot that was read back.
    pub(crate) fn restored(
        epoch: Epoch,
        (mut parts, deferred): (OfOperators<StatePart>, OfOperators<DeferredPart>),
        promised: &BTreeMap<u32, i64>,
        positions: BTreeMap<String, Positions>,
    ) -> Result<Self> {
        let promised = pairs_part(WATERMARKS, promised.iter().map(|(id, at)| (*id, *at)))?;
        parts.push((WATERMARKS.to_owned(), promised));
        let positions = positions.into_iter().map(|(scan, positions)| (scan, Some(positions))).collect();
        Ok(Self { epoch, parts, changes: BTreeMap::new(), deferred, positions, missed: BTreeMap::new() })
    }

    /// What operators and the view remember.
    pub(crate) fn state(&self) -> impl Iterator<Item = &(String, StatePart)> {
        self.parts.iter().filter(|(id, _)| id != WATERMARKS)
    }

    /// The job's merged watermarks, by number.
    pub(crate) fn promised(&self) -> BTreeMap<u32, i64> {
        self.pairs(WATERMARKS, WATERMARKS).collect()
    }

    /// A scan's position, if the source can be opened there.
    pub(crate) fn position(&self, scan: &str) -> Option<Positions> {
        self.positions.get(scan).cloned().flatten()
    }

    /// What one of `workers` workers has to take in of a view that moved on.
    pub(crate) fn missed(&self, scan: &str, worker: usize, workers: usize) -> Result<Vec<Delta>> {
        let mut mine = Vec::new();
        for delta in self.missed.get(scan).into_iter().flatten() {
            let mut hashes = Vec::new();
            hash_keys(delta.rows().columns(), delta.num_rows(), &mut hashes)?;
            let is_mine = |hash: &u64| worker_of(key_group(*hash), workers) == worker;
            let rows = hashes.iter().enumerate().filter(|(_, hash)| is_mine(hash)).map(|(row, _)| row as u32);
            let rows = UInt32Array::from_iter_values(rows);
            if !rows.is_empty() {
                mine.push(delta.take(&rows)?);
            }
        }
        Ok(mine)
    }

    /// The view's contents, of all workers.
    pub(crate) fn contents(&self, schema: &SchemaRef) -> Result<Vec<Delta>> {
        self.view_contents(schema, 0, 1)
    }

    /// Has an operator of one of `workers` workers take up what belongs to it: in pieces, if it can, of what is not in memory.
    /// Parts called `to_all` belong to each worker.
    pub(crate) fn restore(
        &self,
        operator: &mut dyn Operator,
        id: &str,
        place: (usize, usize),
        to_all: Option<&str>,
    ) -> Result<()> {
        let mut parts = self.parts_of(id, place, to_all)?;
        let in_pieces = operator.restores_in_pieces();
        if in_pieces {
            operator.restore(std::mem::take(&mut parts))?;
        }
        self.read_deferred(id, place, to_all, &mut |part| {
            if in_pieces {
                return operator.restore(vec![part]);
            }
            parts.push(part);
            Ok(())
        })?;
        if in_pieces { Ok(()) } else { operator.restore(parts) }
    }

    /// Hands over what belongs to one of `workers` workers and is not in memory.
    fn read_deferred(
        &self,
        id: &str,
        (worker, workers): (usize, usize),
        to_all: Option<&str>,
        give: &mut dyn FnMut(StatePart) -> Result<()>,
    ) -> Result<()> {
        let owns = |group: &u8| worker_of(*group, workers) == worker;
        let (Some(first), Some(last)) = ((0..=u8::MAX).find(owns), (0..=u8::MAX).rev().find(owns)) else {
            return Ok(());
        };
        for (_, part) in self.deferred.iter().filter(|(of, _)| of == id) {
            let groups = if to_all == Some(part.name.as_str()) { 0..=u8::MAX } else { first..=last };
            part.rows.read(groups, &mut |rows| give(StatePart { name: part.name.clone(), rows }))?;
        }
        Ok(())
    }

    /// As [`Self::parts_of`], with those that are not in memory.
    pub(crate) fn of_operator(&self, id: &str, place: (usize, usize), to_all: Option<&str>) -> Result<Vec<StatePart>> {
        let mut parts = self.parts_of(id, place, to_all)?;
        self.read_deferred(id, place, to_all, &mut |part| {
            parts.push(part);
            Ok(())
        })?;
        Ok(parts)
    }

    /// The operator's parts that belong to one of `workers` workers and are in memory; those called `to_all` belong to each.
    fn parts_of(&self, id: &str, (worker, workers): (usize, usize), to_all: Option<&str>) -> Result<Vec<StatePart>> {
        let mut parts = Vec::new();
        for (_, part) in self.parts.iter().filter(|(of, _)| of == id) {
            if to_all == Some(part.name.as_str()) {
                parts.push(part.clone());
                continue;
            }
            let groups = part
                .rows
                .columns()
                .first()
                .and_then(|column| column.as_primitive_opt::<UInt8Type>())
                .ok_or_else(|| Error::internal(format!("state {} of {id} has no key groups", part.name)))?;
            let mine: UInt32Array = (0..part.rows.num_rows() as u32)
                .filter(|row| worker_of(groups.value(*row as usize), workers) == worker)
                .collect();
            if !mine.is_empty() {
                parts.push(StatePart { name: part.name.clone(), rows: take_record_batch(&part.rows, &mine)? });
            }
        }
        Ok(parts)
    }

    /// The job's merged watermarks.
    pub(crate) fn watermarks(&self, count: usize) -> Watermarks {
        let mut watermarks = Watermarks::none(count);
        for (id, at) in self.pairs(WATERMARKS, WATERMARKS) {
            watermarks.advance(WatermarkId(id), at);
        }
        watermarks
    }

    /// What each partition of a source had promised. A worker that was restored also knows partitions that it does not
    /// read, as they stood then: the greatest word is the newest.
    pub(crate) fn partitions(&self, id: &str) -> Vec<Option<i64>> {
        let mut known: HashMap<u32, i64> = HashMap::new();
        for (partition, at) in self.pairs(id, PARTITIONS) {
            known.entry(partition).and_modify(|known| *known = at.max(*known)).or_insert(at);
        }
        let count = known.keys().max().map_or(0, |greatest| *greatest as usize + 1);
        (0..count).map(|partition| known.get(&(partition as u32)).copied()).collect()
    }

    fn pairs<'a>(&'a self, of: &'a str, name: &'a str) -> impl Iterator<Item = (u32, i64)> + 'a {
        self.parts.iter().filter(move |(id, part)| id == of && part.name == name).flat_map(|(_, part)| {
            let keys = part.rows.column(1).as_primitive::<UInt32Type>();
            let values = part.rows.column(2).as_primitive::<Int64Type>();
            keys.values().iter().copied().zip(values.values().iter().copied())
        })
    }

    /// The view's contents that belong to one of `workers` workers.
    pub(crate) fn view_contents(&self, schema: &SchemaRef, worker: usize, workers: usize) -> Result<Vec<Delta>> {
        let mut deltas = Vec::new();
        for part in self.of_operator(VIEW, (worker, workers), None)? {
            let mut columns = part.rows.columns()[1..].to_vec();
            let weights = columns.pop().map(|weights| weights.as_primitive::<Int64Type>().clone());
            let options = RecordBatchOptions::new().with_row_count(Some(part.rows.num_rows()));
            let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
            deltas.push(Delta::new(rows, weights));
        }
        Ok(deltas)
    }
}

fn pairs_part(name: &str, pairs: impl Iterator<Item = (u32, i64)>) -> Result<StatePart> {
    let (keys, values): (Vec<u32>, Vec<i64>) = pairs.unzip();
    let columns: [(&str, ArrayRef); 3] = [
        (GROUP, Arc::new(UInt8Array::from(vec![0; keys.len()]))),
        ("id", Arc::new(UInt32Array::from(keys))),
        ("micros", Arc::new(Int64Array::from(values))),
    ];
    Ok(StatePart { name: name.to_owned(), rows: RecordBatch::try_from_iter(columns)? })
}

/// What each partition of a source has promised.
pub(crate) fn partitions(id: &str, promises: impl Iterator<Item = (u32, i64)>) -> Result<(String, StatePart)> {
    Ok((id.to_owned(), pairs_part(PARTITIONS, promises)?))
}

/// The job's merged watermarks.
pub(crate) fn watermarks(watermarks: &Watermarks) -> Result<(String, StatePart)> {
    let promised = watermarks.iter().filter_map(|(id, at)| Some((id.0, at?)));
    Ok((WATERMARKS.to_owned(), pairs_part(WATERMARKS, promised)?))
}

/// Rows of a view, by the key group of the whole row.
pub(crate) fn view_part(delta: &Delta) -> Result<StatePart> {
    Ok(StatePart { name: ROWS.to_owned(), rows: view_rows(delta)? })
}

/// The one part of a view.
const ROWS: &str = "rows";

/// What has changed of a view: how much more or less often each row is there. A row that came on one worker may go on
/// another, so that sums are told (`is_sum`), and not what a row weighs now. Rows that only come are told as they came.
pub(crate) fn view_change(changes: &[Delta], is_sum: bool) -> Result<ChangedRows> {
    let rows = changes.iter().map(view_rows).collect::<Result<_>>()?;
    Ok(ChangedRows { name: ROWS.to_owned(), is_sum, rows, ..ChangedRows::default() })
}

fn view_rows(delta: &Delta) -> Result<RecordBatch> {
    let rows = delta.rows();
    let mut hashes = Vec::new();
    hash_keys(rows.columns(), rows.num_rows(), &mut hashes)?;
    let groups: UInt8Array = hashes.iter().map(|hash| key_group(*hash)).collect();
    let weights = delta.weights().cloned().unwrap_or_else(|| Int64Array::from_value(1, rows.num_rows()));
    let schema = rows.schema();
    let mut fields = vec![Arc::new(Field::new(GROUP, DataType::UInt8, false))];
    fields.extend(schema.fields().iter().cloned());
    fields.push(Arc::new(Field::new("_weight", DataType::Int64, false)));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(groups)];
    columns.extend(rows.columns().iter().cloned());
    columns.push(Arc::new(weights));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
