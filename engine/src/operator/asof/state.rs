//! An as-of join's part in a checkpoint: the rows of both sides, and what the inputs have promised. What was shown follows
//! from the rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::key::{Count, Moment};
use super::{AsOf, PIECE};
use crate::error::{Error, Result};
use crate::operator::aggregate::{batch, restored};
use crate::operator::change::ChangedRows;
use crate::operator::{StateChange, StatePart};
use crate::state::row_numbers::{RowNumbers, groups};
use crate::state::slots::Slot;

/// The names of the parts, by side.
const ROWS: [&str; 2] = ["left rows", "right rows"];
const CLOSED: [&str; 2] = ["left closed", "right closed"];

/// Where the number of a row stands, which is its key.
const NUMBER: usize = 1;

pub(super) fn snapshot(join: &mut AsOf) -> Result<Vec<StatePart>> {
    join.marks.begin();
    join.numbers.iter_mut().for_each(RowNumbers::begin);
    let slots = join.slots.live();
    let mut parts = Vec::new();
    for side in 0..2 {
        parts.push(StatePart { name: CLOSED[side].to_owned(), ..join.sides[side].horizon.snapshot()? });
        let rows = rows_of(join, side, &slots, true)?;
        parts.extend(rows.into_iter().map(|rows| StatePart { name: ROWS[side].to_owned(), rows }));
    }
    Ok(parts)
}

/// What has changed: rows that came or are there another number of times, and the numbers of those that are gone.
pub(super) fn changes(join: &mut AsOf) -> Result<Vec<StateChange>> {
    let slots = join.marks.take().unwrap_or_else(|| join.slots.live());
    let mut changes = Vec::new();
    for side in 0..2 {
        let closed = join.sides[side].horizon.snapshot()?.rows;
        changes.push(StateChange::Whole { name: CLOSED[side].to_owned(), rows: vec![closed] });
        let rows = rows_of(join, side, &slots, false)?;
        let gone = join.numbers[side].take_gone()?;
        let (name, keys) = (ROWS[side].to_owned(), vec![NUMBER]);
        changes.push(StateChange::Rows(ChangedRows { name, keys, rows, gone, ..ChangedRows::default() }));
    }
    Ok(changes)
}

/// The rows of a side of some keys, in pieces: all, or those that have changed. They count as written.
fn rows_of(join: &mut AsOf, side: usize, slots: &[Slot], all: bool) -> Result<Vec<RecordBatch>> {
    for (slot, group) in slots.iter().zip(join.slots.key_groups(slots)?) {
        join.keys[*slot as usize].number(side, group, &mut join.numbers[side]);
    }
    let told: Vec<(&Moment, &Count)> =
        slots.iter().flat_map(|slot| join.keys[*slot as usize].to_write(side, all)).collect();
    let pieces = told.chunks(PIECE).map(|piece| part(join, side, piece)).collect::<Result<Vec<_>>>()?;
    slots.iter().for_each(|slot| join.keys[*slot as usize].written(side));
    Ok(pieces)
}

fn part(join: &AsOf, side: usize, rows: &[(&Moment, &Count)]) -> Result<RecordBatch> {
    let side = &join.sides[side];
    let numbers = || rows.iter().map(|(_, count)| count.number);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(groups(numbers())),
        Arc::new(UInt64Array::from_iter_values(numbers())),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, count)| count.now))),
    ];
    columns.extend(side.columns(rows.iter().map(|((_, row), _)| row.as_ref()))?);
    let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
    fields.extend(side.state_schema().fields().iter().cloned());
    batch(&Arc::new(Schema::new(fields)), columns, rows.len())
}

pub(super) fn restore(join: &mut AsOf, parts: Vec<StatePart>) -> Result<()> {
    let mut numbered: Vec<(usize, Slot, Moment, u64)> = Vec::new();
    for part in parts {
        let place = |names: [&str; 2]| names.iter().position(|name| *name == part.name);
        if let Some(side) = place(CLOSED) {
            join.sides[side].horizon.restore(&part)?;
            continue;
        }
        let Some(number) = place(ROWS) else {
            return Err(Error::internal(format!("an as-of join has no state '{}'", part.name)));
        };
        let side = &join.sides[number];
        let rows = restored(&part, &side.state_schema())?;
        let weights = rows.column(1).as_primitive::<Int64Type>();
        let input = batch(&side.schema, rows.columns()[2..].to_vec(), rows.num_rows())?;
        let arrivals = side.arrivals(input, None, true)?;
        if arrivals.rows.num_rows() != rows.num_rows() {
            return Err(Error::invalid("the state of an as-of join has rows without a key or a time"));
        }
        let numbers = rows.column(0).as_primitive::<UInt64Type>();
        for (row, (slot, moment)) in join.moments(number, &arrivals)?.into_iter().enumerate() {
            numbered.push((number, slot, moment.clone(), numbers.value(row)));
            *join.changes[number].entry((slot, moment)).or_default() += weights.value(row);
        }
    }
    while let Some((slot, changes)) = join.next_changes() {
        join.change(slot, changes, false)?;
    }
    for (side, slot, moment, number) in numbered {
        join.numbers[side].note(number);
        join.keys[slot as usize].read_back(side, &moment, number);
    }
    join.marks.begin();
    Ok(())
}
