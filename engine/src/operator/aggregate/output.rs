//! An aggregate's output and snapshot rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt8Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::call::Call;
use super::plan::Place;
use super::table::{Forgotten, Rows, Table, TableChanges};
use super::windows::{Window, instant};
use crate::error::{Error, Result};
use crate::operator::StatePart;
use crate::operator::change::ChangedRows;
use crate::state::key_group::{hash_keys, key_group};
use crate::state::slots::Slot;

/// Rows that one piece of output has at most.
pub(super) const PIECE: usize = 8192;

/// A batch of the schema, whose columns are cast where a type's encoding differs (a dictionary, a view).
pub(in crate::operator) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
    if columns.len() != schema.fields().len() {
        let message = format!("an aggregate made {} columns of {}", columns.len(), schema.fields().len());
        return Err(Error::internal(message));
    }
    let columns = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            let same = column.data_type() == field.data_type();
            if same { Ok(column) } else { cast(&column, field.data_type()) }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Rows that one part of a snapshot has at most.
const SNAPSHOT_PIECE: usize = 64 * 1024;

/// How a windowed aggregate's rows are put together.
pub(super) struct WindowOutput {
    schema: SchemaRef,
    layout: Vec<Place>,
}

impl WindowOutput {
    pub(super) fn new(schema: &SchemaRef, layout: &[Place]) -> Self {
        Self { schema: Arc::clone(schema), layout: layout.to_vec() }
    }

    /// `count` rows of one window.
    pub(super) fn batch(
        &self,
        window: Window,
        keys: &[ArrayRef],
        results: Vec<ArrayRef>,
        count: usize,
    ) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.layout.len() + results.len());
        for (place, field) in self.layout.iter().zip(self.schema.fields()) {
            columns.push(match place {
                Place::Start => instant(window.start, count, field.data_type())?,
                Place::End => instant(window.end, count, field.data_type())?,
                Place::Key(number) => Arc::clone(&keys[*number]),
            });
        }
        columns.extend(results);
        batch(&self.schema, columns, count)
    }
}

/// Keys, then numbers that are the same for all rows, then states.
pub(super) fn state_columns(rows: Rows, between: &[i64]) -> Vec<ArrayRef> {
    let Rows { keys, calls, count, .. } = rows;
    let mut columns = keys;
    columns.extend(between.iter().map(|number| Arc::new(Int64Array::from_value(*number, count)) as ArrayRef));
    columns.extend(calls.into_iter().flat_map(|call| call.columns));
    columns
}

/// The groups of a table as parts of a snapshot: keys, `between`, states, and the results that are kept beside those if
/// `remembers` says of which calls.
pub(super) fn table_parts(
    name: &str,
    schema: &SchemaRef,
    table: &mut Table,
    between: &[i64],
    remembers: &[Call],
) -> Result<Vec<StatePart>> {
    table.note_changes();
    let live = table.live();
    let rows = group_rows(schema, table, &live, between, remembers)?;
    Ok(rows.into_iter().map(|rows| StatePart { name: name.to_owned(), rows }).collect())
}

/// The rows of some groups, in pieces.
fn group_rows(
    schema: &SchemaRef,
    table: &mut Table,
    groups: &[Slot],
    between: &[i64],
    remembers: &[Call],
) -> Result<Vec<RecordBatch>> {
    let pieces = groups.chunks(SNAPSHOT_PIECE).map(|piece| {
        let (columns, keys) = group_columns(table, piece, between, remembers)?;
        state_rows(schema, columns, keys, piece.len())
    });
    pieces.collect()
}

/// The columns of some groups' rows, and how many of them are keys.
pub(super) fn group_columns(
    table: &mut Table,
    groups: &[Slot],
    between: &[i64],
    remembers: &[Call],
) -> Result<(Vec<ArrayRef>, usize)> {
    let states = table.states(groups)?;
    let keys = states.keys.len();
    let mut columns = state_columns(states, between);
    columns.extend(table.remembered(groups, remembers)?);
    Ok((columns, keys))
}

/// Adds what has changed of a table since it was last written down; arguments as for [`table_parts`]. A row is told from
/// others by its keys and what stands `between`.
pub(super) fn table_changes(
    changes: &mut ChangedRows,
    schema: &SchemaRef,
    table: &mut Table,
    between: &[i64],
    remembers: &[Call],
) -> Result<()> {
    let told = table.take_changes();
    add_changes(changes, schema, table, told, between, remembers)
}

/// As [`table_changes`], of changes that were taken.
pub(super) fn add_changes(
    changes: &mut ChangedRows,
    schema: &SchemaRef,
    table: &mut Table,
    told: TableChanges,
    between: &[i64],
    remembers: &[Call],
) -> Result<()> {
    changes.rows.extend(group_rows(schema, table, &told.groups, between, remembers)?);
    add_forgotten(changes, schema, told.forgotten, between)
}

/// Adds groups that are no more.
pub(super) fn add_forgotten(
    changes: &mut ChangedRows,
    schema: &SchemaRef,
    forgotten: Vec<Forgotten>,
    between: &[i64],
) -> Result<()> {
    for forgotten in forgotten {
        changes.gone.push(forgotten_rows(schema, forgotten, between)?);
    }
    Ok(())
}

/// Keys of groups that are no more, as [`ChangedRows::gone`] has them.
pub(super) fn forgotten_rows(schema: &SchemaRef, forgotten: Forgotten, between: &[i64]) -> Result<RecordBatch> {
    let (mut columns, count) = forgotten;
    let width = columns.len();
    columns.extend(between.iter().map(|number| Arc::new(Int64Array::from_value(*number, count)) as ArrayRef));
    let named: SchemaRef = Arc::new(schema.project(&(0..columns.len()).collect::<Vec<_>>())?);
    state_rows(&named, columns, width, count)
}

/// No changes yet of a part whose rows are told apart by their first `keys` columns.
pub(super) fn no_changes(name: &str, keys: usize) -> ChangedRows {
    ChangedRows { name: name.to_owned(), keys: (1..=keys).collect(), ..ChangedRows::default() }
}

/// Rows of a part of a snapshot: the key group of each row's key (the first `keys` columns), then the columns.
pub(super) fn state_rows(schema: &SchemaRef, columns: Vec<ArrayRef>, keys: usize, count: usize) -> Result<RecordBatch> {
    let mut hashes = Vec::new();
    hash_keys(&columns[..keys], count, &mut hashes)?;
    let groups = UInt8Array::from_iter_values(hashes.into_iter().map(key_group));
    let mut all: Vec<ArrayRef> = vec![Arc::new(groups)];
    all.extend(columns);
    batch(&with_group(schema), all, count)
}

pub(super) fn with_group(schema: &SchemaRef) -> SchemaRef {
    let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
    fields.extend(schema.fields().iter().cloned());
    Arc::new(Schema::new(fields))
}

/// The columns of a snapshot's part, without the key groups; fails if they are not those of `schema`.
pub(in crate::operator) fn restored(part: &StatePart, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = part.rows.columns();
    let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    if types(&part.rows.schema()).get(1..) != Some(types(schema).as_slice()) {
        return Err(Error::invalid(format!("the state '{}' is of another shape than the query's", part.name))
            .with_hint("the query or the version of its functions changed: start the job without its state"));
    }
    batch(schema, columns[1..].to_vec(), part.rows.num_rows())
}
