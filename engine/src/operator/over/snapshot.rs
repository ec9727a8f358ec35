//! An OVER's part in a checkpoint: the rows of each partition, with what was shown of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::Over;
use super::codec::bytes_of;
use super::partition::{Entry, Partition};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::operator::aggregate::closing::Horizon;
use crate::operator::change::ChangedRows;
use crate::operator::expression::batch;
use crate::operator::{StateChange, StatePart};
use crate::plan::flow::Emit;
use crate::state::row_numbers::{groups, row_field};
use crate::state::slots::Slot;

/// The part that holds the rows: `_group`, the number of the row (which is its key, and of equal rows says which comes
/// first), how many rows of its partition had been forgotten when it was written, whether it is shown, the input's
/// columns, and what was shown as the functions' results.
const ROWS: &str = "rows";

/// Where the number stands.
const NUMBER: usize = 1;

/// Columns before the input's.
const FIXED: usize = 4;

/// Rows of a part, at most.
const PIECE: usize = 64 * 1024;

impl Over {
    fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![
            Arc::new(Field::new("_group", DataType::UInt8, false)),
            row_field(),
            Arc::new(Field::new("_before", DataType::Int64, false)),
            Arc::new(Field::new("_shown", DataType::Boolean, false)),
        ];
        fields.extend(self.codec.schema().fields().iter().cloned());
        let results = self.schema.fields().iter().skip(self.codec.schema().fields().len());
        fields.extend(results.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
        Arc::new(Schema::new(fields))
    }

    pub(super) fn snapshot_parts(&mut self) -> Result<Vec<StatePart>> {
        self.marks.begin();
        self.numbers.begin();
        let rows = self.rows_of(&self.slots.live(), true)?;
        let mut parts: Vec<StatePart> =
            rows.into_iter().map(|rows| StatePart { name: ROWS.to_owned(), rows }).collect();
        parts.extend(self.horizon().map(|horizon| horizon.snapshot()).transpose()?);
        Ok(parts)
    }

    /// What has changed: rows that came or are shown otherwise, and the numbers of those that are gone.
    pub(super) fn changed_parts(&mut self) -> Result<Vec<StateChange>> {
        let slots = self.marks.take().unwrap_or_else(|| self.slots.live());
        let rows = self.rows_of(&slots, false)?;
        let gone = self.numbers.take_gone()?;
        let rows = ChangedRows { name: ROWS.to_owned(), keys: vec![NUMBER], rows, gone, ..ChangedRows::default() };
        let mut changes = vec![StateChange::Rows(rows)];
        changes.extend(self.horizon().map(|horizon| horizon.change()).transpose()?);
        Ok(changes)
    }

    fn horizon(&mut self) -> Option<Horizon> {
        match (&mut self.closes, &self.settling) {
            (Some(closes), _) => Some(*closes.horizon()),
            (None, Some(settling)) => Some(settling.horizon),
            (None, None) => None,
        }
    }

    /// The rows of some partitions, in pieces: all, or those that are to be written down anew. They count as written.
    fn rows_of(&mut self, slots: &[Slot], all: bool) -> Result<Vec<RecordBatch>> {
        for (slot, group) in slots.iter().zip(self.slots.key_groups(slots)?) {
            self.partitions[*slot as usize].number(group, &mut self.numbers);
        }
        let mut parts = Vec::new();
        let mut entries: Vec<(usize, &Entry)> = Vec::new();
        for slot in slots {
            let partition = &self.partitions[*slot as usize];
            for entry in partition.to_write(all) {
                entries.push((partition.base, entry));
                if entries.len() == PIECE {
                    parts.push(self.part(&entries)?);
                    entries.clear();
                }
            }
        }
        if !entries.is_empty() {
            parts.push(self.part(&entries)?);
        }
        slots.iter().for_each(|slot| self.partitions[*slot as usize].written());
        Ok(parts)
    }

    fn part(&self, entries: &[(usize, &Entry)]) -> Result<RecordBatch> {
        let rows = self.codec.decode(entries.iter().map(|(_, entry)| *entry))?;
        let numbers = || entries.iter().map(|(_, entry)| entry.number());
        let shown: BooleanArray = entries.iter().map(|(_, entry)| Some(entry.shown.is_some())).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(groups(numbers())),
            Arc::new(UInt64Array::from_iter_values(numbers())),
            Arc::new(Int64Array::from_iter_values(entries.iter().map(|(before, _)| *before as i64))),
        ];
        // Only what was shown has results.
        let results = self.results.decode(entries.iter().filter_map(|(_, entry)| entry.shown.as_deref()))?;
        let mut places = 0..;
        let places: arrow::array::UInt32Array =
            shown.values().iter().map(|shown| if shown { places.next() } else { None }).collect();
        columns.push(Arc::new(shown));
        columns.extend(rows.columns().iter().cloned());
        for column in results {
            columns.push(arrow::compute::take(&column, &places, None)?);
        }
        typed(&self.state_schema(), columns, entries.len())
    }

    pub(super) fn restore_parts(&mut self, parts: Vec<StatePart>) -> Result<()> {
        let mut restored: BTreeMap<Slot, Vec<(i64, Entry)>> = BTreeMap::new();
        for part in parts {
            match (part.name.as_str(), &mut self.closes, &mut self.settling) {
                (ROWS, ..) => self.restore_rows(&part, &mut restored)?,
                (Horizon::PART, Some(closes), _) => closes.horizon().restore(&part)?,
                (Horizon::PART, None, Some(settling)) => settling.horizon.restore(&part)?,
                (other, ..) => return Err(does_not_fit(&format!("it has no part {other}"))),
            }
        }
        for (slot, mut entries) in restored {
            entries.sort_unstable_by(|(_, one), (_, other)| {
                one.key().cmp(other.key()).then(one.number().cmp(&other.number()))
            });
            // It grows, and the first row was written when it last did.
            let base = entries.iter().map(|(before, _)| *before as usize).max().unwrap_or(0);
            let shown = entries.iter().take_while(|(_, entry)| entry.shown.is_some()).count();
            let mut partition = Partition::of_sorted(entries.into_iter().map(|(_, entry)| entry).collect());
            partition.measure();
            partition.base = base;
            partition.visible = match (self.emit, &self.limit) {
                (Emit::AfterWatermark, _) => 0..shown,
                (Emit::OnChange, Some(limit)) => limit.visible(&partition),
                (Emit::OnChange, None) => 0..partition.len(),
            };
            if self.settling.is_some() {
                self.touched.push(slot);
            }
            self.partitions[slot as usize] = partition;
            self.measured(slot, (0, 0));
        }
        Ok(())
    }

    fn restore_rows(&mut self, part: &StatePart, restored: &mut BTreeMap<Slot, Vec<(i64, Entry)>>) -> Result<()> {
        let schema = self.state_schema();
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        if types(&schema) != types(&part.rows.schema()) {
            return Err(does_not_fit("it has other columns"));
        }
        let width = self.codec.schema().fields().len();
        let columns = part.rows.columns();
        let count = part.rows.num_rows();
        let numbers = columns[NUMBER].as_primitive::<UInt64Type>();
        let before = columns[2].as_primitive::<Int64Type>();
        let shown = columns[3].as_boolean();
        let rows = Delta::append(batch(self.codec.schema(), columns[FIXED..FIXED + width].to_vec(), count)?);
        let keys = self.keys(&rows)?;
        let slots = self.intern(&keys, count)?;
        let rows = self.codec.encode(rows.rows())?;
        let results = self.results.encode(&columns[FIXED + width..])?;
        for (row, slot) in slots.into_iter().enumerate() {
            let shown = shown.value(row).then(|| bytes_of(results.as_ref(), row).into());
            let number = numbers.value(row);
            self.numbers.note(number);
            let entry = Entry::new(rows.key(row), shown).numbered(number);
            restored.entry(slot).or_default().push((before.value(row), entry));
        }
        Ok(())
    }
}

/// A batch of the schema; columns are cast where a type's encoding differs.
fn typed(schema: &SchemaRef, columns: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
    let columns = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
        let same = column.data_type() == field.data_type();
        Ok(if same { column } else { cast(&column, field.data_type())? })
    });
    batch(schema, columns.collect::<Result<Vec<_>>>()?, count)
}

/// A snapshot of another statement, or of another version of it.
fn does_not_fit(why: &str) -> Error {
    Error::new(ErrorKind::InvalidState, format!("the state of an OVER does not fit its statement: {why}"))
        .with_hint("Start the job anew from its sources.")
}
