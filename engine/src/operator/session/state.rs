//! A SESSION's part in a checkpoint: its rows. The sessions follow from them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::super::aggregate::{Horizon, batch, restored};
use super::super::change::ChangedRows;
use super::super::{StateChange, StatePart};
use super::{BYTES, Count, Moment, PIECE, Session, sessions};
use crate::error::{Error, Result};
use crate::state::row_numbers::{UNWRITTEN, groups, row_field};
use crate::state::slots::Slot;

/// The part that holds the rows: `_group`, the number of the row, which is its key, how often it is there, and the input's
/// columns.
const ROWS: &str = "rows";

/// Where the number stands in it.
const NUMBER: usize = 1;

impl Session {
    /// The columns of the part behind `_group`.
    fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![row_field(), Arc::new(Field::new("_weight", DataType::Int64, false))];
        fields.extend(self.input.fields().iter().cloned());
        Arc::new(Schema::new(fields))
    }

    pub(super) fn snapshot_parts(&mut self) -> Result<Vec<StatePart>> {
        self.marks.begin();
        self.numbers.begin();
        let rows = self.rows_of(&self.slots.live(), true)?;
        let mut parts = vec![self.horizon.snapshot()?];
        parts.extend(rows.into_iter().map(|rows| StatePart { name: ROWS.to_owned(), rows }));
        Ok(parts)
    }

    /// What has changed: rows that came or are there another number of times, and the numbers of those that are gone.
    pub(super) fn changed_parts(&mut self) -> Result<Vec<StateChange>> {
        let slots = self.marks.take().unwrap_or_else(|| self.slots.live());
        let rows = self.rows_of(&slots, false)?;
        let gone = self.numbers.take_gone()?;
        let rows = ChangedRows { name: ROWS.to_owned(), keys: vec![NUMBER], rows, gone, ..ChangedRows::default() };
        Ok(vec![self.horizon.change()?, StateChange::Rows(rows)])
    }

    /// The rows of some keys, in pieces: all, or those that have changed. They count as written.
    fn rows_of(&mut self, slots: &[Slot], all: bool) -> Result<Vec<RecordBatch>> {
        for (slot, group) in slots.iter().zip(self.slots.key_groups(slots)?) {
            for count in self.keys[*slot as usize].rows.values_mut() {
                if count.number == UNWRITTEN {
                    count.number = self.numbers.give(group);
                }
            }
        }
        let rows = slots.iter().flat_map(|slot| &self.keys[*slot as usize].rows);
        let told: Vec<(&Moment, &Count)> = rows.filter(|(_, count)| all || count.changed).collect();
        let pieces = told.chunks(PIECE).map(|piece| self.part(piece)).collect::<Result<Vec<_>>>()?;
        for slot in slots {
            self.keys[*slot as usize].rows.values_mut().for_each(|count| count.changed = false);
        }
        Ok(pieces)
    }

    fn part(&self, rows: &[(&Moment, &Count)]) -> Result<RecordBatch> {
        let numbers = || rows.iter().map(|(_, count)| count.number);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(groups(numbers())),
            Arc::new(UInt64Array::from_iter_values(numbers())),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, count)| count.weight))),
        ];
        columns.extend(self.columns(rows.iter().map(|((_, row), _)| row.as_ref()))?);
        let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
        fields.extend(self.state_schema().fields().iter().cloned());
        batch(&Arc::new(Schema::new(fields)), columns, rows.len())
    }

    /// Takes up what was written down; what was shown is not shown again.
    pub(super) fn restore_parts(&mut self, parts: &[StatePart]) -> Result<()> {
        let mut filled = BTreeSet::new();
        for part in parts {
            match part.name.as_str() {
                Horizon::PART => self.horizon.restore(part)?,
                ROWS => self.restore_rows(part, &mut filled)?,
                other => return Err(Error::internal(format!("SESSION has no state '{other}'"))),
            }
        }
        for slot in filled {
            let key = &mut self.keys[slot as usize];
            key.sessions = sessions(key.rows.keys().map(|(time, _)| *time), self.gap);
            let sessions = key.sessions.clone();
            for (start, last) in sessions {
                self.open.insert((self.end(last)?, slot, start));
            }
        }
        self.marks.begin();
        Ok(())
    }

    fn restore_rows(&mut self, part: &StatePart, filled: &mut BTreeSet<Slot>) -> Result<()> {
        let rows = restored(part, &self.state_schema())?;
        let numbers = rows.column(0).as_primitive::<UInt64Type>();
        let weights = rows.column(1).as_primitive::<Int64Type>();
        let input = batch(&self.input, rows.columns()[2..].to_vec(), rows.num_rows())?;
        for (row, (slot, moment)) in self.moments(&input, &mut Vec::new())?.into_iter().enumerate() {
            let moment = moment.ok_or_else(|| Error::invalid("the state of a SESSION has a row without a time"))?;
            let number = numbers.value(row);
            self.numbers.note(number);
            self.rows += 1;
            self.bytes += moment.1.len() + BYTES;
            let count = Count { weight: weights.value(row), number, changed: false };
            self.keys[slot as usize].rows.insert(moment, count);
            filled.insert(slot);
        }
        Ok(())
    }
}
