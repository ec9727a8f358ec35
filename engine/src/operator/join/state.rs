//! A join's part in a checkpoint: the live rows of each side, with their weights, and below what they were let go.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt8Array, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::super::change::{Below, ChangedRows};
use super::super::expression::batch;
use super::super::{DeferredPart, StateChange, StatePart};
use super::held::HeldRows;
use super::side::Side;
use super::store::Address;
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::state::key_group::KEY_GROUPS;
use crate::state::row_numbers::row_field;

/// Bytes from which on rows in memory are not copied where they can be shared: less becomes one file of all workers.
pub(super) const SHARED_FROM: usize = 4 << 20;

/// Names of the parts, by input.
pub(super) const PARTS: [&str; 2] = ["left", "right"];

/// The columns of a side's part: `_group`, the input's columns, of a changelog `_weight`, of a counted side `_matches`,
/// and of a numbered one `_row`.
fn part_schema(side: &Side) -> SchemaRef {
    let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
    fields.extend(side.schema.fields().iter().cloned());
    if side.memory.changelog {
        fields.push(Arc::new(Field::new("_weight", DataType::Int64, false)));
    }
    if side.memory.counted {
        fields.push(Arc::new(Field::new("_matches", DataType::Int64, false)));
    }
    if side.is_numbered() {
        fields.push(row_field());
    }
    Arc::new(Schema::new(fields))
}

/// The key group and the columns of some rows.
fn columns(side: &Side, rows: &[Address]) -> Result<Vec<ArrayRef>> {
    let gather = side.store().gather(rows);
    let stored = (0..side.width()).map(|column| gather.column(column)).collect::<Result<Vec<_>>>()?;
    let group: ArrayRef = Arc::new(UInt8Array::from(side.key_groups(&stored, rows.len())?));
    let width = side.schema.fields().len();
    Ok(std::iter::once(group).chain(stored.into_iter().take(width)).collect())
}

/// What is this worker's to write down, of rows with their key groups.
fn own(side: &Side, rows: RecordBatch) -> Result<RecordBatch> {
    if !side.is_shared_out() {
        return Ok(rows);
    }
    let groups = rows.column(0).as_primitive::<UInt8Type>();
    Ok(filter_record_batch(&rows, &side.owned(groups.values()))?)
}

/// Some rows as a part has them.
fn part_rows(side: &Side, rows: &[Address]) -> Result<RecordBatch> {
    let mut columns = columns(side, rows)?;
    if side.memory.changelog {
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|at| side.store().weight(*at)))));
    }
    if side.memory.counted {
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|at| side.store().matches(*at)))));
    }
    if side.is_numbered() {
        columns.push(numbers(side, rows));
    }
    own(side, batch(&part_schema(side), columns, rows.len())?)
}

fn numbers(side: &Side, rows: &[Address]) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(rows.iter().map(|at| side.store().number(*at))))
}

/// The columns by which rows of a part are told apart: key group and number, or all of the input's. None: rows only come,
/// and go by their time.
fn key_columns(side: &Side) -> Vec<usize> {
    let width = side.schema.fields().len();
    match (side.is_numbered(), side.memory.changelog) {
        (true, _) => vec![0, 1 + width + usize::from(side.memory.counted)],
        (false, true) => (1..=width).collect(),
        (false, false) => Vec::new(),
    }
}

/// Rows that are gone, by the columns by which they are told apart.
pub(super) fn gone_rows(side: &Side, rows: &[Address]) -> Result<RecordBatch> {
    if side.is_numbered() {
        let group = columns(side, rows)?.swap_remove(0);
        let fields = [Field::new("_group", DataType::UInt8, false), Field::new("_of", DataType::UInt8, false)];
        let fields = fields.into_iter().map(Arc::new).chain([row_field()]).collect::<Vec<_>>();
        let columns = vec![Arc::clone(&group), group, numbers(side, rows)];
        return own(side, batch(&Arc::new(Schema::new(fields)), columns, rows.len())?);
    }
    let named = part_schema(side).project(&(0..=side.schema.fields().len()).collect::<Vec<_>>())?;
    own(side, batch(&Arc::new(named), columns(side, rows)?, rows.len())?)
}

/// Adds the rows of a side, a block at a time; answers those that are on disk.
pub(super) fn snapshot(side: &mut Side, name: &str, parts: &mut Vec<StatePart>) -> Result<Vec<DeferredPart>> {
    // Of what was never told everything has changed.
    let is_untold = side.is_untold();
    let rows = if is_untold { side.take_changed()?.0 } else { live_rows(side) };
    if !is_untold {
        side.take_back_pledges();
    }
    let (rows, deferred) = told(side, name, rows, is_untold)?;
    parts.extend(rows.into_iter().map(|rows| StatePart { name: name.to_owned(), rows }));
    side.note_changes();
    Ok(deferred)
}

/// The rows in memory, by block.
fn live_rows(side: &Side) -> Vec<Vec<Address>> {
    let blocks = (0..side.store().block_count()).map(|block| side.live_rows(block));
    blocks.filter(|rows| !rows.is_empty()).collect()
}

/// Whether rows are written down as they lie: they never change or go, and nothing has to be known of them besides. Where
/// they go by their time, layers are put together by key group, to be rid of them.
pub(super) fn lie_as_written(side: &Side) -> bool {
    let only_come = key_columns(side).is_empty() && side.release.is_none();
    only_come && !side.schema.fields().is_empty() && !side.is_shared_out()
}

/// Rows in memory, and those on disk: all, or those that have changed. Where there is no room for a copy none is made.
fn told(
    side: &mut Side,
    name: &str,
    hot: Vec<Vec<Address>>,
    only_changed: bool,
) -> Result<(Vec<RecordBatch>, Vec<DeferredPart>)> {
    side.note_told();
    let schema = part_schema(side);
    let mut parts = side.take_pledged(name, &schema);
    let count = hot.iter().map(Vec::len).sum();
    let is_shared = lie_as_written(side);
    if side.has_room_for(count) && !(is_shared && side.bytes_of(count) >= SHARED_FROM) {
        let rows = hot.iter().map(|rows| part_rows(side, rows)).collect::<Result<Vec<_>>>()?;
        // Of a block of a replicated side other workers may write down everything.
        return Ok((rows.into_iter().filter(|rows| rows.num_rows() > 0).collect(), parts));
    }
    let mut hot = hot;
    if is_shared {
        let held = HeldRows::of(side, &std::mem::take(&mut hot), &schema).into_iter();
        parts.extend(held.map(|rows| DeferredPart { name: name.to_owned(), rows: Arc::new(rows) }));
    }
    parts.extend(side.told((name, schema), hot.concat(), only_changed)?);
    Ok((Vec::new(), parts))
}

/// What has changed of a side since it was last written down, and what of it is on disk.
pub(super) fn changes(side: &mut Side, name: &str) -> Result<(StateChange, Vec<DeferredPart>)> {
    // Rows without columns are told apart by nothing.
    if side.schema.fields().is_empty() {
        let all = live_rows(side);
        let (rows, deferred) = told(side, name, all, false)?;
        side.note_changes();
        return Ok((StateChange::Whole { name: name.to_owned(), rows }, deferred));
    }
    let only_changed = side.notes_changes();
    let (there, gone) = side.take_changed()?;
    let (rows, deferred) = told(side, name, there, only_changed)?;
    let keys = key_columns(side);
    let below = side.release.as_ref().map(|release| Below { column: 1 + release.column, at: release.released_below });
    let name = name.to_owned();
    Ok((StateChange::Rows(ChangedRows { name, keys, is_sum: false, rows, gone, below }), deferred))
}

/// As [`snapshot_released`].
pub(super) fn released_change(sides: &[Side; 2]) -> Result<StateChange> {
    let mut parts = Vec::new();
    snapshot_released(sides, &mut parts)?;
    let rows = parts.into_iter().map(|part| part.rows).collect();
    Ok(StateChange::Whole { name: RELEASED.to_owned(), rows })
}

/// Takes up rows that a snapshot held.
fn restore(side: &mut Side, rows: &RecordBatch) -> Result<()> {
    let width = side.schema.fields().len();
    let extra = usize::from(side.memory.changelog) + usize::from(side.memory.counted);
    if rows.num_columns() != 1 + width + extra + usize::from(side.is_numbered()) {
        return Err(does_not_fit("it has another number of columns"));
    }
    let of_rows = match side.is_numbered() {
        true => rows.columns().last().and_then(|numbers| numbers.as_primitive_opt::<UInt64Type>()),
        false => None,
    };
    if side.is_numbered() && of_rows.is_none() {
        return Err(does_not_fit("its rows have no numbers"));
    }
    let columns = rows.columns()[1..=width].to_vec();
    let numbers = |column: usize| {
        let numbers = rows.column(column).as_primitive_opt::<Int64Type>();
        numbers.cloned().ok_or_else(|| does_not_fit("its weights are no numbers"))
    };
    let weights = side.memory.changelog.then(|| numbers(width + 1)).transpose()?;
    let matches = side.memory.counted.then(|| numbers(width + extra)).transpose()?;
    let rows = batch(&side.schema, columns, rows.num_rows()).map_err(|error| does_not_fit(error.message()))?;
    let matches = matches.as_ref().map_or(&[][..], |matches| &matches.values()[..]);
    let of_rows = of_rows.map_or(&[][..], |numbers| &numbers.values()[..]);
    side.take_up(&Delta::new(rows, weights), matches, of_rows)
}

/// Below which times rows were let go and come too late, in ticks of the columns: it decides which rows of the next epoch
/// are late. Every worker must know it, so that it is written once for every key group.
const RELEASED: &str = "released";

/// Its columns: for each side, below which time its rows were let go, and below which the other side's come too late.
const TIMES: [&str; 4] = ["left", "right_late", "right", "left_late"];

/// Adds what both sides have let go, if they have.
pub(super) fn snapshot_released(sides: &[Side; 2], parts: &mut Vec<StatePart>) -> Result<()> {
    let times: Vec<i64> = sides
        .iter()
        .flat_map(|side| match &side.release {
            Some(release) => [release.released_below, release.late_below],
            None => [i64::MIN; 2],
        })
        .collect();
    if times.iter().all(|time| *time == i64::MIN) {
        return Ok(());
    }
    let mut fields = vec![Field::new("_group", DataType::UInt8, false)];
    fields.extend(TIMES.map(|name| Field::new(name, DataType::Int64, false)));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt8Array::from_iter_values(0..=u8::MAX))];
    columns.extend(times.into_iter().map(|time| Arc::new(Int64Array::from_value(time, KEY_GROUPS)) as ArrayRef));
    let rows = batch(&Arc::new(Schema::new(fields)), columns, KEY_GROUPS)?;
    parts.push(StatePart { name: RELEASED.to_owned(), rows });
    Ok(())
}

/// Takes up a part of a snapshot.
pub(super) fn restore_part(sides: &mut [Side; 2], part: &StatePart) -> Result<()> {
    if part.name == RELEASED {
        let time = |column: usize| {
            let times = part.rows.columns().get(column).and_then(|times| times.as_primitive_opt::<Int64Type>());
            times.and_then(arrow::compute::max).unwrap_or(i64::MIN)
        };
        for (number, side) in sides.iter_mut().enumerate() {
            if let Some(release) = &mut side.release {
                release.released_below = release.released_below.max(time(1 + 2 * number));
                release.late_below = release.late_below.max(time(2 + 2 * number));
            }
        }
        return Ok(());
    }
    match PARTS.iter().position(|name| *name == part.name) {
        Some(side) => restore(&mut sides[side], &part.rows),
        None => Err(does_not_fit(&format!("a join has no part {}", part.name))),
    }
}

/// A snapshot of another statement, or of another version of it.
fn does_not_fit(why: &str) -> Error {
    Error::new(ErrorKind::InvalidState, format!("the state of a join does not fit its statement: {why}"))
        .with_hint("Start the job anew from its sources.")
}
