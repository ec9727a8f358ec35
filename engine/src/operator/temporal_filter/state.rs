//! A temporal filter's part in a checkpoint: the rows that it keeps, how often each is there, and whether it was shown.
//!
//! A row of an input that only grows stays on the worker that it came to, and equal ones may be on others: so what changes is
//! told as sums. A row that is shown from now on is there so many times less as one that is not.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt8Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::super::change::ChangedRows;
use super::super::counted::stored;
use super::super::expression::batch;
use super::super::{StateChange, StatePart};
use super::{PIECE, TemporalFilter};
use crate::error::{Error, ErrorKind, Result};
use crate::state::key_group::{hash_keys, key_group};
use crate::state::slots::Slot;

/// The part: `_group`, which is that of the whole row, the row's columns, whether it was shown, and how often it is there.
const ROWS: &str = "rows";

/// What was written down of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How often it is there; 0: nothing was written of it.
    count: i64,
    shown: bool,
}

impl TemporalFilter {
    pub(super) fn snapshot_parts(&mut self) -> Result<Vec<StatePart>> {
        self.marks.begin();
        self.gone.clear();
        let slots = self.rows.live();
        let sums: Vec<(Slot, Told)> = slots.iter().map(|slot| (*slot, self.now_of(*slot))).collect();
        sums.iter().for_each(|(slot, told)| self.told[*slot as usize] = *told);
        let rows = self.pieces(&sums)?.into_iter();
        Ok(rows.map(|rows| StatePart { name: ROWS.to_owned(), rows }).collect())
    }

    /// What has changed: how much more or less often each row is there, as one that was shown or not.
    pub(super) fn changed_parts(&mut self) -> Result<Vec<StateChange>> {
        let slots = self.marks.take().unwrap_or_else(|| self.rows.live());
        let mut sums = Vec::new();
        for slot in slots {
            let now = self.now_of(slot);
            let told = std::mem::replace(&mut self.told[slot as usize], now);
            if told.shown == now.shown {
                sums.push((slot, Told { count: now.count.wrapping_sub(told.count), ..now }));
            } else {
                sums.push((slot, Told { count: told.count.wrapping_neg(), ..told }));
                sums.push((slot, now));
            }
        }
        sums.retain(|(_, told)| told.count != 0);
        let mut rows = self.pieces(&sums)?;
        rows.append(&mut self.gone);
        let changes = ChangedRows { name: ROWS.to_owned(), is_sum: true, rows, ..ChangedRows::default() };
        Ok(vec![StateChange::Rows(changes)])
    }

    /// Rows are about to be forgotten: what was written of them is taken back.
    pub(super) fn note_gone(&mut self, slots: &[Slot]) -> Result<()> {
        self.marks.unmark(slots);
        let mut sums = Vec::new();
        for slot in slots {
            let told = std::mem::take(&mut self.told[*slot as usize]);
            if told.count != 0 {
                sums.push((*slot, Told { count: told.count.wrapping_neg(), ..told }));
            }
        }
        let gone = self.pieces(&sums)?;
        self.gone.extend(gone);
        Ok(())
    }

    fn now_of(&self, slot: Slot) -> Told {
        Told { count: self.counts[slot as usize], shown: self.shown[slot as usize] }
    }

    fn part_schema(&self) -> SchemaRef {
        let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
        fields.extend(self.schema.fields().iter().cloned());
        fields.push(Arc::new(Field::new("_shown", DataType::Boolean, false)));
        fields.push(Arc::new(Field::new("_count", DataType::Int64, false)));
        Arc::new(Schema::new(fields))
    }

    /// Rows with what is to be said of each.
    fn pieces(&self, sums: &[(Slot, Told)]) -> Result<Vec<RecordBatch>> {
        if sums.is_empty() {
            // Most epochs let no row go: not even the schema is made then.
            return Ok(Vec::new());
        }
        let schema = self.part_schema();
        let mut hashes = Vec::new();
        let mut pieces = Vec::new();
        for piece in sums.chunks(PIECE) {
            let slots: Vec<Slot> = piece.iter().map(|(slot, _)| *slot).collect();
            let rows = stored(&self.rows, &slots, &self.schema)?;
            hash_keys(&rows, slots.len(), &mut hashes)?;
            let groups: ArrayRef = Arc::new(UInt8Array::from_iter_values(hashes.iter().map(|hash| key_group(*hash))));
            let shown: BooleanArray = piece.iter().map(|(_, told)| Some(told.shown)).collect();
            let mut columns = vec![groups];
            columns.extend(rows);
            columns.push(Arc::new(shown));
            columns.push(Arc::new(Int64Array::from_iter_values(piece.iter().map(|(_, told)| told.count))));
            pieces.push(batch(&schema, columns, piece.len())?);
        }
        Ok(pieces)
    }

    pub(super) fn restore_parts(&mut self, parts: &[StatePart]) -> Result<()> {
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
            let counts = columns[width + 2].as_primitive_opt::<Int64Type>();
            let (Some(counts), Some(shown)) = (counts, columns[width + 1].as_boolean_opt()) else {
                return Err(misfit("it does not say how often a row is there"));
            };
            let rows = batch(&self.schema, columns[1..=width].to_vec(), part.rows.num_rows())?;
            let (enters, leaves) = self.moments(&rows)?;
            let slots = self.locate(&rows, &enters, &leaves)?;
            for (row, slot) in slots.into_iter().enumerate() {
                let place = slot as usize;
                // A row that only comes stays on the worker that it came to: others may have written it down as well.
                self.counts[place] = self.counts[place].wrapping_add(counts.value(row));
                // Nothing was shown yet by the time of an operator that has not begun an epoch.
                if shown.value(row) {
                    self.shown[place] = true;
                    self.await_moment(slot, leaves[row]);
                }
            }
        }
        self.drop_stale();
        for slot in self.rows.live() {
            self.told[slot as usize] = self.now_of(slot);
        }
        self.marks.begin();
        Ok(())
    }
}

fn misfit(why: &str) -> Error {
    Error::new(ErrorKind::InvalidState, format!("the state of a temporal filter does not fit its statement: {why}"))
        .with_hint("Start the job anew from its sources.")
}
