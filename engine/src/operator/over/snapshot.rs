//! An OVER's part in a checkpoint: the rows of each partition in order, with what was shown of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt8Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::expressions::Column;

use super::Over;
use super::codec::bytes_of;
use super::partition::{Entry, Partition};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::operator::aggregate::closing::Horizon;
use crate::operator::change::ChangedRows;
use crate::operator::expression::{Expression, batch};
use crate::operator::{StateChange, StatePart};
use crate::plan::flow::Emit;
use crate::state::key_group::{hash_keys, key_group};
use crate::state::slots::Slot;

/// The part that holds the rows: `_group`, the row's place in its partition, whether it is shown, the input's columns,
/// and what was shown as the functions' results.
const ROWS: &str = "rows";

/// Columns before the input's.
const FIXED: usize = 3;

/// Rows of a part, at most.
const PIECE: usize = 64 * 1024;

impl Over {
    fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![
            Arc::new(Field::new("_group", DataType::UInt8, false)),
            Arc::new(Field::new("_at", DataType::Int64, false)),
            Arc::new(Field::new("_shown", DataType::Boolean, false)),
        ];
        fields.extend(self.codec.schema().fields().iter().cloned());
        let results = self.schema.fields().iter().skip(self.codec.schema().fields().len());
        fields.extend(results.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
        Arc::new(Schema::new(fields))
    }

    pub(super) fn snapshot_parts(&mut self) -> Result<Vec<StatePart>> {
        self.marks.begin();
        self.gone.clear();
        let rows = self.rows_of(self.partitions.iter())?;
        let mut parts: Vec<StatePart> =
            rows.into_iter().map(|rows| StatePart { name: ROWS.to_owned(), rows }).collect();
        parts.extend(self.horizon().map(|horizon| horizon.snapshot()).transpose()?);
        Ok(parts)
    }

    /// What has changed: partitions, each with all its rows.
    pub(super) fn changed_parts(&mut self) -> Result<Option<Vec<StateChange>>> {
        let plain = |key: &Expression| key.physical().downcast_ref::<Column>().map(|column| FIXED + column.index());
        let keys: Option<Vec<usize>> = self.by.iter().map(plain).collect();
        // A row does not show the key of its partition if that is computed; and without keys there is one partition.
        let Some(keys) = keys.filter(|keys| !keys.is_empty()) else { return Ok(None) };
        let slots = self.marks.take().unwrap_or_else(|| self.slots.live());
        let (empty, filled): (Vec<Slot>, Vec<Slot>) =
            slots.into_iter().partition(|slot| self.partitions[*slot as usize].len() == 0);
        let rows = self.rows_of(filled.iter().map(|slot| &self.partitions[*slot as usize]))?;
        let mut left = std::mem::take(&mut self.gone);
        left.push(self.slots.keys(&empty)?);
        let mut named = vec![0];
        named.extend(&keys);
        let schema: SchemaRef = Arc::new(self.state_schema().project(&named)?);
        let mut gone = Vec::new();
        for columns in left {
            let count = columns.first().map_or(0, |column| column.len());
            if count > 0 {
                gone.push(named_rows(&schema, columns, count)?);
            }
        }
        let rows = ChangedRows { name: ROWS.to_owned(), keys, rows, gone, ..ChangedRows::default() };
        let mut changes = vec![StateChange::Rows(rows)];
        changes.extend(self.horizon().map(|horizon| horizon.change()).transpose()?);
        Ok(Some(changes))
    }

    fn horizon(&mut self) -> Option<Horizon> {
        match (&mut self.closes, &self.settling) {
            (Some(closes), _) => Some(*closes.horizon()),
            (None, Some(settling)) => Some(settling.horizon),
            (None, None) => None,
        }
    }

    /// The rows of some partitions, in pieces.
    fn rows_of<'a>(&self, partitions: impl Iterator<Item = &'a Partition>) -> Result<Vec<RecordBatch>> {
        let mut parts = Vec::new();
        let mut entries: Vec<(usize, &Entry)> = Vec::new();
        for partition in partitions {
            for (at, entry) in partition.range(0..partition.len()).enumerate() {
                entries.push((partition.base + at, entry));
                if entries.len() == PIECE {
                    parts.push(self.part(&entries)?);
                    entries.clear();
                }
            }
        }
        if !entries.is_empty() {
            parts.push(self.part(&entries)?);
        }
        Ok(parts)
    }

    fn part(&self, entries: &[(usize, &Entry)]) -> Result<RecordBatch> {
        let rows = self.codec.decode(entries.iter().map(|(_, entry)| *entry))?;
        let keys = self.keys(&Delta::append(rows.clone()))?;
        let mut hashes = Vec::new();
        hash_keys(&keys, entries.len(), &mut hashes)?;
        let shown: BooleanArray = entries.iter().map(|(_, entry)| Some(entry.shown.is_some())).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from_iter_values(hashes.into_iter().map(key_group))),
            Arc::new(Int64Array::from_iter_values(entries.iter().map(|(at, _)| *at as i64))),
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
        let schema = self.state_schema();
        typed(&schema, columns, entries.len())
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
            entries.sort_by_key(|(at, _)| *at);
            let base = entries.first().map_or(0, |(at, _)| *at as usize);
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
        let at = columns[1].as_primitive::<Int64Type>().clone();
        let shown = columns[2].as_boolean().clone();
        let rows = Delta::append(batch(self.codec.schema(), columns[3..3 + width].to_vec(), count)?);
        let keys = self.keys(&rows)?;
        let slots = self.intern(&keys, count)?;
        let rows = self.codec.encode(rows.rows())?;
        let results = self.results.encode(&columns[3 + width..])?;
        for (row, slot) in slots.into_iter().enumerate() {
            let shown = shown.value(row).then(|| bytes_of(results.as_ref(), row).into());
            restored.entry(slot).or_default().push((at.value(row), Entry::new(rows.key(row), shown)));
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

/// Keys of partitions, with the key group of each before them.
fn named_rows(schema: &SchemaRef, keys: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
    let mut hashes = Vec::new();
    hash_keys(&keys, count, &mut hashes)?;
    let groups: ArrayRef = Arc::new(UInt8Array::from_iter_values(hashes.into_iter().map(key_group)));
    typed(schema, std::iter::once(groups).chain(keys).collect(), count)
}

/// A snapshot of another statement, or of another version of it.
fn does_not_fit(why: &str) -> Error {
    Error::new(ErrorKind::InvalidState, format!("the state of an OVER does not fit its statement: {why}"))
        .with_hint("Start the job anew from its sources.")
}
