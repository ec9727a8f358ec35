//! The part of a query's end in a checkpoint: the groups of which something is known, and the rows that wait.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::{PIECE, Show};
use crate::error::{Error, Result};
use crate::operator::aggregate::{batch, restored};
use crate::operator::change::ChangedRows;
use crate::operator::{StateChange, StatePart};
use crate::state::key_group::{hash_keys, key_group};
use crate::state::marks::Marks;
use crate::state::row_numbers::{RowNumbers, UNWRITTEN, groups, row_field};
use crate::state::slots::Slot;

/// The parts. Both have `_group`, the number of the group or row, which is its key, and the group's columns; then those of
/// the group's state, or the row's columns and its weight.
const GROUPS: &str = "groups";
const ROWS: &str = "rows";

/// Where the number stands.
const NUMBER: usize = 1;

/// Which of the groups, or of the rows, have changed since they were written down, and by which numbers they were.
#[derive(Debug, Default)]
pub(super) struct Noted {
    marks: Marks,
    numbers: RowNumbers,
    /// By slot.
    of: Vec<u64>,
}

impl Noted {
    /// So many slots there may be.
    pub(super) fn make_room(&mut self, bound: usize) {
        if self.of.len() < bound {
            self.of.resize(bound, UNWRITTEN);
        }
    }

    pub(super) fn mark(&mut self, slots: &[Slot]) {
        self.marks.mark(slots);
    }

    /// They are no more.
    pub(super) fn leave(&mut self, slots: &[Slot]) {
        self.marks.unmark(slots);
        for slot in slots {
            self.numbers.leave(std::mem::replace(&mut self.of[*slot as usize], UNWRITTEN));
        }
    }

    /// All is written down.
    fn begin(&mut self) {
        self.marks.begin();
        self.numbers.begin();
    }

    /// The numbers of some slots of these key groups; new ones for those that have none.
    fn numbers(&mut self, slots: &[Slot], key_groups: Vec<u8>) -> Vec<u64> {
        let number = |(slot, key_group): (&Slot, u8)| {
            let number = &mut self.of[*slot as usize];
            if *number == UNWRITTEN {
                *number = self.numbers.give(key_group);
            }
            *number
        };
        slots.iter().zip(key_groups).map(number).collect()
    }

    fn read_back(&mut self, slot: Slot, number: u64) {
        self.numbers.note(number);
        self.of[slot as usize] = number;
    }

    pub(super) fn bytes(&self) -> usize {
        self.marks.bytes() + self.numbers.bytes() + self.of.capacity() * size_of::<u64>()
    }
}

impl Show {
    pub(super) fn snapshot_parts(&mut self) -> Result<Vec<StatePart>> {
        self.noted_groups.begin();
        self.noted_rows.begin();
        let (all_groups, all_rows) = (self.groups.live(), self.rows.live());
        let part = |name: &str, rows| StatePart { name: name.to_owned(), rows };
        let mut parts: Vec<StatePart> =
            self.group_rows(&all_groups)?.into_iter().map(|rows| part(GROUPS, rows)).collect();
        parts.extend(self.row_rows(&all_rows)?.into_iter().map(|rows| part(ROWS, rows)));
        Ok(parts)
    }

    pub(super) fn changed_parts(&mut self) -> Result<Vec<StateChange>> {
        let changed_groups = self.noted_groups.marks.take().unwrap_or_else(|| self.groups.live());
        let changed_rows = self.noted_rows.marks.take().unwrap_or_else(|| self.rows.live());
        let change = |name: &str, rows, gone| {
            let (name, keys) = (name.to_owned(), vec![NUMBER]);
            StateChange::Rows(ChangedRows { name, keys, rows, gone, ..ChangedRows::default() })
        };
        let groups = change(GROUPS, self.group_rows(&changed_groups)?, self.noted_groups.numbers.take_gone()?);
        let rows = change(ROWS, self.row_rows(&changed_rows)?, self.noted_rows.numbers.take_gone()?);
        Ok(vec![groups, rows])
    }

    /// The key groups of groups with these columns: those of the columns that say on which worker a group is.
    fn key_groups(&self, keys: &[ArrayRef], count: usize) -> Result<Vec<u8>> {
        let place = |column: &usize| self.spec.key.iter().position(|key| key == column);
        let place = |column| place(column).ok_or_else(|| Error::internal("rows of a group stand on several workers"));
        let routed: Vec<ArrayRef> =
            self.route.iter().map(|column| Ok(Arc::clone(&keys[place(column)?]))).collect::<Result<_>>()?;
        let mut hashes = Vec::new();
        hash_keys(&routed, count, &mut hashes)?;
        Ok(hashes.into_iter().map(key_group).collect())
    }

    /// Groups as their part has them, in pieces.
    fn group_rows(&mut self, slots: &[Slot]) -> Result<Vec<RecordBatch>> {
        let mut pieces = Vec::new();
        for piece in slots.chunks(PIECE) {
            let mut columns = self.groups.keys(piece)?;
            let key_groups = self.key_groups(&columns, piece.len())?;
            let held = piece.iter().map(|group| self.held.snapshot(*group));
            let numbers = piece.iter().map(|group| self.numbers[*group as usize]);
            columns.push(Arc::new(Int64Array::from_iter_values(held.clone().map(|(since, _)| since))));
            columns.push(Arc::new(Int64Array::from_iter_values(held.map(|(_, rows)| rows))));
            columns.push(Arc::new(Int64Array::from_iter_values(numbers)));
            pieces.push(numbered(&self.group_schema, self.noted_groups.numbers(piece, key_groups), columns)?);
        }
        Ok(pieces)
    }

    /// Rows that wait as their part has them, in pieces.
    fn row_rows(&mut self, slots: &[Slot]) -> Result<Vec<RecordBatch>> {
        let mut pieces = Vec::new();
        for piece in slots.chunks(PIECE) {
            let mut row = self.rows.keys(piece)?;
            let of_groups = row.remove(0);
            let mut columns = self.groups.keys(of_groups.as_primitive::<UInt32Type>().values())?;
            let key_groups = self.key_groups(&columns, piece.len())?;
            columns.extend(row);
            let weights = piece.iter().map(|row| self.weights[*row as usize]);
            columns.push(Arc::new(Int64Array::from_iter_values(weights)));
            pieces.push(numbered(&self.row_schema, self.noted_rows.numbers(piece, key_groups), columns)?);
        }
        Ok(pieces)
    }

    pub(super) fn restore_parts(&mut self, parts: &[StatePart]) -> Result<()> {
        let keys = self.spec.key.len();
        for part in parts {
            let count = part.rows.num_rows();
            let is_groups = match part.name.as_str() {
                GROUPS => true,
                ROWS => false,
                other => return Err(Error::internal(format!("the end of a query has no state '{other}'"))),
            };
            let schema = with_number(if is_groups { &self.group_schema } else { &self.row_schema });
            let rows = restored(part, &schema)?;
            let written = rows.column(0).as_primitive::<UInt64Type>();
            let columns = &rows.columns()[1..];
            let groups = self.locate(&columns[..keys], count)?;
            if is_groups {
                let number = |column: usize, row: usize| columns[column].as_primitive::<Int64Type>().value(row);
                for (row, group) in groups.into_iter().enumerate() {
                    self.held.restore(group, (number(keys, row), number(keys + 1, row)));
                    self.numbers[group as usize] = number(keys + 2, row);
                    self.noted_groups.read_back(group, written.value(row));
                }
            } else {
                let weights = columns[keys + self.spec.visible].as_primitive::<Int64Type>();
                let visible = &columns[keys..keys + self.spec.visible];
                let slots = self.add(groups, visible, |row| weights.value(row))?;
                for (row, slot) in slots.into_iter().enumerate() {
                    self.noted_rows.read_back(slot, written.value(row));
                }
            }
        }
        self.noted_groups.begin();
        self.noted_rows.begin();
        Ok(())
    }
}

fn with_number(schema: &SchemaRef) -> SchemaRef {
    let fields = std::iter::once(row_field()).chain(schema.fields().iter().cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows of a part.
fn numbered(schema: &SchemaRef, numbers: Vec<u64>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
    fields.extend(with_number(schema).fields().iter().cloned());
    let count = numbers.len();
    let mut all: Vec<ArrayRef> = vec![Arc::new(groups(numbers.iter().copied())), Arc::new(UInt64Array::from(numbers))];
    all.extend(columns);
    batch(&Arc::new(Schema::new(fields)), all, count)
}
