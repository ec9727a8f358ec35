//! DISTINCT, INTERSECT and EXCEPT, each by how often a row is there on each side.
//!
//! Of every different row it is known how often it is there, weights summed up; the end of an epoch says of the rows that
//! it touched how much more often each is in the result than before. NULL is the same as NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt8Array, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use super::change::ChangedRows;
use super::counted::{shown, stored};
use super::expression::batch;
use super::join::release::{first_tick_at, less, ticks, time_unit};
use super::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::SetKind;
use crate::state::key_group::{KEY_GROUPS, hash_keys, key_group};
use crate::state::marks::Marks;
use crate::state::slots::{Slot, Slots};
use crate::time::WatermarkId;

/// Rows that one piece of output or of a snapshot has at most.
const PIECE: usize = 8192;

/// The part of a snapshot.
const ROWS: &str = "rows";

/// The part of a snapshot that says below which time rows don't change any more: for every worker, so for every key group.
const CLOSED: &str = "closed";

impl Closes {
    fn snapshot(&self) -> Result<StatePart> {
        let schema = Schema::new(vec![
            Field::new("_group", DataType::UInt8, false),
            Field::new("below", DataType::Int64, false),
        ]);
        let groups: ArrayRef = Arc::new(UInt8Array::from_iter_values(0..=u8::MAX));
        let below: ArrayRef = Arc::new(Int64Array::from_value(self.below, KEY_GROUPS));
        Ok(StatePart { name: CLOSED.to_owned(), rows: batch(&Arc::new(schema), vec![groups, below], KEY_GROUPS)? })
    }
}

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
    /// Rows whose counts have changed since they were last written down, and those that are no more.
    marks: Marks,
    gone: Vec<Vec<ArrayRef>>,
    /// By slot: whether it stands in `touched`.
    is_touched: Vec<bool>,
    /// Rows that this epoch touched, and their counts before.
    touched: Vec<(Slot, Counts)>,
    ending: bool,
    closes: Option<Closes>,
}

/// Rows below a time don't change any more: which column has the time, and how far it has come.
#[derive(Debug)]
struct Closes {
    column: usize,
    unit: TimeUnit,
    watermark: WatermarkId,
    delay_micros: i64,
    /// In ticks of the column.
    below: i64,
    /// By input: rows below come too late. Of a changelog none does.
    append_only: Vec<bool>,
    /// The epoch's end has moved the time.
    moved: bool,
    /// Rows that remained when some were let go last: the next look is when there are twice as many.
    remained: usize,
}

/// Rows that are not worth a look whether some can go.
const FEW: usize = 4096;

impl SetOperation {
    /// A set operation whose inputs have the types of `schema`; with `changelog` its output may take rows back.
    pub fn new(kind: SetKind, schema: SchemaRef, changelog: bool) -> Result<Self> {
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let rows = Slots::new(&types)?;
        let (counts, marks, gone, is_touched, touched) = Default::default();
        Ok(Self {
            kind,
            schema,
            changelog,
            rows,
            counts,
            marks,
            gone,
            is_touched,
            touched,
            ending: false,
            closes: None,
        })
    }

    /// Lets rows go by a column that grows with a watermark: (column, watermark, delay in microseconds). `append_only` says
    /// of which inputs rows can come too late.
    pub fn closing(mut self, closes: Option<(usize, WatermarkId, i64)>, append_only: Vec<bool>) -> Self {
        self.closes = closes.and_then(|(column, watermark, delay_micros)| {
            let unit = time_unit(self.schema.field(column).data_type())?;
            let (below, moved, remained) = (i64::MIN, false, 0);
            Some(Closes { column, unit, watermark, delay_micros, below, append_only, moved, remained })
        });
        self
    }

    /// The rows that don't come too late; the others are counted.
    fn on_time(&self, input: usize, delta: Delta, out: &mut Output) -> Result<Delta> {
        let Some(closes) = &self.closes else { return Ok(delta) };
        if closes.below == i64::MIN || closes.append_only.get(input) != Some(&true) {
            return Ok(delta);
        }
        let times = ticks(delta.rows().column(closes.column))?;
        let in_time = |time: Option<i64>| time.is_none_or(|time| time >= closes.below);
        let kept = times.iter().enumerate().filter(|(_, time)| in_time(*time)).map(|(row, _)| row as u32);
        let kept = UInt32Array::from_iter_values(kept);
        if kept.len() == delta.num_rows() {
            return Ok(delta);
        }
        if out.keeps_late() {
            out.late(input, delta.rows(), &times.iter().map(|time| Some(!in_time(time))).collect())?;
        }
        out.drop_late((delta.num_rows() - kept.len()) as u64);
        delta.take(&kept)
    }

    /// Lets rows go that don't change any more, when it is worth a look at all of them.
    fn let_go(&mut self) -> Result<()> {
        let Some(closes) = &mut self.closes else { return Ok(()) };
        let due = std::mem::take(&mut closes.moved) && self.rows.len() > closes.remained.saturating_mul(2).max(FEW);
        // At the end of the input all go.
        if !due && closes.below != i64::MAX {
            return Ok(());
        }
        let slots = self.rows.live();
        let keys = self.rows.keys(&slots)?;
        let times = ticks(&keys[closes.column])?;
        let gone: Vec<Slot> = slots
            .iter()
            .zip(times.iter())
            .filter(|(_, time)| time.is_some_and(|time| time < closes.below))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in &gone {
            self.counts[*slot as usize] = [0; 2];
        }
        self.release(&gone)?;
        if let Some(closes) = &mut self.closes {
            closes.remained = self.rows.len();
        }
        Ok(())
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
            let rows = batch(&self.schema, stored(&self.rows, &slots, &self.schema)?, slots.len())?;
            out.push(shown("a set operation", self.changelog, rows, weights)?);
            self.release(&gone)?;
        }
        self.ending = false;
        self.let_go()?;
        Ok(Step::Done)
    }

    fn release(&mut self, slots: &[Slot]) -> Result<()> {
        if self.marks.is_on() && !slots.is_empty() {
            self.gone.push(stored(&self.rows, slots, &self.schema)?);
            self.marks.unmark(slots);
        }
        self.rows.release(slots);
        Ok(())
    }

    /// The columns of the part: `_group`, those of a row, and its counts on both sides.
    fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
        fields.extend(self.schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
        fields.extend(["_left", "_right"].map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
        Arc::new(Schema::new(fields))
    }

    /// Some rows as a snapshot has them, in pieces.
    fn state_rows(&self, slots: &[Slot]) -> Result<Vec<RecordBatch>> {
        let schema = self.state_schema();
        let pieces = slots.chunks(PIECE).map(|slots| {
            let mut columns = with_groups(stored(&self.rows, slots, &self.schema)?, slots.len())?;
            for side in 0..2 {
                let counts = slots.iter().map(|slot| self.counts[*slot as usize][side]);
                columns.push(Arc::new(Int64Array::from_iter_values(counts)));
            }
            batch(&schema, columns, slots.len())
        });
        pieces.collect()
    }
}

/// Rows with the key group of each before them.
fn with_groups(columns: Vec<ArrayRef>, count: usize) -> Result<Vec<ArrayRef>> {
    let mut hashes = Vec::new();
    hash_keys(&columns, count, &mut hashes)?;
    let groups: ArrayRef = Arc::new(UInt8Array::from_iter_values(hashes.into_iter().map(key_group)));
    Ok(std::iter::once(groups).chain(columns).collect())
}

impl Operator for SetOperation {
    fn on_delta(&mut self, input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        if input > 1 {
            return Err(Error::internal(format!("a set operation has two inputs, a delta came on input {input}")));
        }
        let delta = self.on_time(input, delta, out)?;
        let slots = self.locate(delta.rows().columns(), delta.num_rows())?;
        self.marks.mark(&slots);
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

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if let Some(closes) = &mut self.closes
            && let Some(at) = epoch.watermarks.get(closes.watermark)
        {
            let below = first_tick_at(less(at, closes.delay_micros), closes.unit);
            closes.moved = below > closes.below;
            closes.below = closes.below.max(below);
        }
        self.ending = true;
        self.show(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        if self.ending { self.show(out) } else { Ok(Step::Done) }
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        self.marks.begin();
        self.gone.clear();
        let rows = self.state_rows(&self.rows.live())?;
        let mut parts: Vec<StatePart> =
            rows.into_iter().map(|rows| StatePart { name: ROWS.to_owned(), rows }).collect();
        if let Some(closes) = &self.closes {
            parts.push(closes.snapshot()?);
        }
        Ok(parts)
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        let width = self.schema.fields().len();
        if width == 0 {
            // There is one row.
            return Ok(None);
        }
        let slots = self.marks.take().unwrap_or_else(|| self.rows.live());
        let schema: SchemaRef = Arc::new(self.state_schema().project(&(0..=width).collect::<Vec<_>>())?);
        let gone = std::mem::take(&mut self.gone).into_iter().map(|columns| {
            let count = columns[0].len();
            batch(&schema, with_groups(columns, count)?, count)
        });
        let gone = gone.collect::<Result<Vec<_>>>()?;
        let rows = self.state_rows(&slots)?;
        let rows =
            ChangedRows { name: ROWS.to_owned(), keys: (1..=width).collect(), rows, gone, ..ChangedRows::default() };
        let mut changes = vec![StateChange::Rows(rows)];
        if let Some(closes) = &self.closes {
            let StatePart { name, rows } = closes.snapshot()?;
            changes.push(StateChange::Whole { name, rows: vec![rows] });
        }
        Ok(Some(changes))
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
            if let (CLOSED, Some(closes)) = (part.name.as_str(), &mut self.closes) {
                let below = part.rows.columns().get(1).and_then(|below| below.as_primitive_opt::<Int64Type>());
                let below = below.and_then(arrow::compute::max).ok_or_else(|| misfit("it says no time"))?;
                closes.below = closes.below.max(below);
                continue;
            }
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
        self.marks.begin();
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        let gone: usize = self.gone.iter().flatten().map(|column| column.get_array_memory_size()).sum();
        let counts = self.counts.capacity() * size_of::<Counts>() + self.is_touched.capacity() + self.marks.bytes();
        let bytes = self.rows.bytes() + counts + gone;
        StateSize { rows: self.rows.len(), bytes }
    }
}

#[cfg(test)]
mod tests;
