//! DISTINCT, INTERSECT and EXCEPT, each by how often a row is there on each side.
//!
//! Of every different row it is known how often it is there, weights summed up; the end of an epoch says of the rows that
//! it touched how much more often each is in the result than before. NULL is the same as NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt8Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::expression::batch;
use super::{EpochContext, Operator, Output, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::SetKind;
use crate::state::key_group::{hash_keys, key_group};
use crate::state::slots::{Slot, Slots};

/// Rows that one piece of output or of a snapshot has at most.
const PIECE: usize = 8192;

/// The part of a snapshot.
const ROWS: &str = "rows";

/// How often a row is there on the left and on the right side.
type Counts = [i64; 2];

/// See the [module](self).
#[derive(Debug)]
pub struct SetOperation {
    kind: SetKind,
    schema: SchemaRef,
    changelog: bool,
    rows: Slots,
    /// By slot.
    counts: Vec<Counts>,
    /// By slot: whether it stands in `touched`.
    is_touched: Vec<bool>,
    /// Rows that this epoch touched, and their counts before.
    touched: Vec<(Slot, Counts)>,
    ending: bool,
}

impl SetOperation {
    /// A set operation whose inputs have the types of `schema`; with `changelog` its output may take rows back.
    pub fn new(kind: SetKind, schema: SchemaRef, changelog: bool) -> Result<Self> {
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let rows = Slots::new(&types)?;
        let (counts, is_touched, touched) = Default::default();
        Ok(Self { kind, schema, changelog, rows, counts, is_touched, touched, ending: false })
    }

    /// How often a row is in the result.
    fn times(&self, counts: Counts) -> i64 {
        let [left, right] = counts.map(|count| count.max(0));
        match self.kind {
            SetKind::Distinct => left.min(1),
            SetKind::Intersect { all: true } => left.min(right),
            SetKind::Intersect { all: false } => left.min(right).min(1),
            SetKind::Except { all: true } => (left - right).max(0),
            SetKind::Except { all: false } => i64::from(left > 0 && right == 0),
        }
    }

    /// The slots of rows, with room for their counts.
    fn locate(&mut self, columns: &[ArrayRef], count: usize) -> Result<Vec<Slot>> {
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        self.rows.intern(columns, count, &mut slots, &mut created)?;
        self.counts.resize(self.rows.bound(), [0; 2]);
        self.is_touched.resize(self.rows.bound(), false);
        Ok(slots)
    }

    fn show(&mut self, out: &mut Output) -> Result<Step> {
        while !self.touched.is_empty() {
            if out.exhausted() {
                return Ok(Step::Yield);
            }
            let piece = self.touched.split_off(self.touched.len().saturating_sub(PIECE));
            let (mut slots, mut weights, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            for (slot, before) in piece {
                let counts = self.counts[slot as usize];
                let change = self.times(counts) - self.times(before);
                self.is_touched[slot as usize] = false;
                if change != 0 {
                    slots.push(slot);
                    weights.push(change);
                }
                if counts == [0; 2] {
                    gone.push(slot);
                }
            }
            let rows = self.batch(&slots)?;
            out.push(self.delta(rows, weights)?);
            self.rows.release(&gone);
        }
        self.ending = false;
        Ok(Step::Done)
    }

    fn batch(&self, slots: &[Slot]) -> Result<RecordBatch> {
        let columns = self
            .rows
            .keys(slots)?
            .into_iter()
            .zip(self.schema.fields())
            .map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(column),
                false => Ok(cast(&column, field.data_type())?),
            })
            .collect::<Result<Vec<_>>>()?;
        batch(&self.schema, columns, slots.len())
    }

    fn delta(&self, rows: RecordBatch, weights: Vec<i64>) -> Result<Delta> {
        if self.changelog {
            return Ok(Delta::weighted(rows, Int64Array::from(weights)));
        }
        if weights.iter().any(|weight| *weight < 0) {
            return Err(Error::internal("a set operation that only adds rows would take one back"));
        }
        if weights.iter().all(|weight| *weight == 1) {
            return Ok(Delta::append(rows));
        }
        // Without weights a row that is there three times stands there three times.
        let repeated =
            weights.iter().enumerate().flat_map(|(row, weight)| std::iter::repeat_n(row as u32, *weight as usize));
        Delta::append(rows).take(&arrow::array::UInt32Array::from_iter_values(repeated))
    }
}

impl Operator for SetOperation {
    fn on_delta(&mut self, input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
        if input > 1 {
            return Err(Error::internal(format!("a set operation has two inputs, a delta came on input {input}")));
        }
        let slots = self.locate(delta.rows().columns(), delta.num_rows())?;
        for (row, slot) in slots.into_iter().enumerate() {
            let counts = &mut self.counts[slot as usize];
            if !std::mem::replace(&mut self.is_touched[slot as usize], true) {
                self.touched.push((slot, *counts));
            }
            // What overflows on the way comes back: the sum at the end of an epoch is a number of rows.
            counts[input] = counts[input].wrapping_add(delta.weight(row));
        }
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, _epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        self.ending = true;
        self.show(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        if self.ending { self.show(out) } else { Ok(Step::Done) }
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
        fields.extend(self.schema.fields().iter().cloned());
        fields.extend(["_left", "_right"].map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
        let schema = Arc::new(Schema::new(fields));
        let mut parts = Vec::new();
        let mut hashes = Vec::new();
        for slots in self.rows.live().chunks(PIECE) {
            let rows = self.batch(slots)?;
            hash_keys(rows.columns(), slots.len(), &mut hashes)?;
            let groups: ArrayRef = Arc::new(UInt8Array::from_iter_values(hashes.iter().map(|hash| key_group(*hash))));
            let mut columns = vec![groups];
            columns.extend_from_slice(rows.columns());
            for side in 0..2 {
                let counts = slots.iter().map(|slot| self.counts[*slot as usize][side]);
                columns.push(Arc::new(Int64Array::from_iter_values(counts)));
            }
            parts.push(StatePart { name: ROWS.to_owned(), rows: batch(&schema, columns, slots.len())? });
        }
        Ok(parts)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let misfit = |why: &str| {
            Error::new(
                ErrorKind::InvalidState,
                format!("the state of a set operation does not fit its statement: {why}"),
            )
            .with_hint("Start the job anew from its sources.")
        };
        let width = self.schema.fields().len();
        for part in parts {
            if part.name != ROWS || part.rows.num_columns() != width + 3 {
                return Err(misfit("it has another shape"));
            }
            let columns = part.rows.columns();
            let mut typed = columns[1..=width].iter().zip(self.schema.fields());
            if typed.any(|(column, field)| column.data_type() != field.data_type()) {
                return Err(misfit("its columns are of other types"));
            }
            let counts = |column: usize| columns[column].as_primitive_opt::<Int64Type>();
            let (Some(left), Some(right)) = (counts(width + 1), counts(width + 2)) else {
                return Err(misfit("its counts are no numbers"));
            };
            let slots = self.locate(&columns[1..=width], part.rows.num_rows())?;
            for (row, slot) in slots.into_iter().enumerate() {
                self.counts[slot as usize] = [left.value(row), right.value(row)];
            }
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        let bytes = self.rows.bytes() + self.counts.capacity() * size_of::<Counts>() + self.is_touched.capacity();
        StateSize { rows: self.rows.len(), bytes }
    }
}

#[cfg(test)]
mod tests;
