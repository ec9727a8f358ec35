//! The snapshot of an as-of join: the rows of both sides, and what the inputs have promised. What was shown follows from the
//! rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::key::Moment;
use super::{AsOf, PIECE};
use crate::error::{Error, Result};
use crate::operator::StatePart;
use crate::operator::aggregate::{restored, state_part};

/// The names of the parts, by side.
const ROWS: [&str; 2] = ["left rows", "right rows"];
const CLOSED: [&str; 2] = ["left closed", "right closed"];

pub(super) fn snapshot(join: &AsOf) -> Result<Vec<StatePart>> {
    let mut parts = Vec::new();
    for (number, side) in join.sides.iter().enumerate() {
        parts.push(StatePart { name: CLOSED[number].to_owned(), ..side.horizon.snapshot()? });
        let schema = side.state_schema();
        let all: Vec<(&Moment, i64)> = join.keys.iter().flat_map(|key| key.all(number)).collect();
        for piece in all.chunks(PIECE) {
            let rows = side.rows(piece.iter().map(|((_, row), _)| row.as_ref()))?;
            let mut columns: Vec<ArrayRef> = side.keys(&rows)?;
            columns.extend(rows.columns().iter().cloned());
            columns.push(Arc::new(Int64Array::from_iter_values(piece.iter().map(|(_, weight)| *weight))));
            parts.push(state_part(ROWS[number], &schema, columns, side.key_types.len(), piece.len())?);
        }
    }
    Ok(parts)
}

pub(super) fn restore(join: &mut AsOf, parts: Vec<StatePart>) -> Result<()> {
    for part in parts {
        let place = |names: [&str; 2]| names.iter().position(|name| *name == part.name);
        if let Some(number) = place(CLOSED) {
            join.sides[number].horizon.restore(&part)?;
            continue;
        }
        let Some(number) = place(ROWS) else {
            return Err(Error::internal(format!("an as-of join has no state '{}'", part.name)));
        };
        let side = &join.sides[number];
        let rows = restored(&part, &side.state_schema())?;
        let (first, last) = (side.key_types.len(), rows.num_columns() - 1);
        let weights = rows.column(last).as_primitive::<Int64Type>().clone();
        let columns: Vec<usize> = (first..last).collect();
        join.take_in(number, rows.project(&columns)?, Some(weights), true)?;
    }
    while let Some((slot, changes)) = join.next_changes() {
        join.change(slot, changes, false)?;
    }
    Ok(())
}
