//! The guard of a subquery that stands for a value: its rows pass, and two rows at an epoch's end are an error.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, UInt8Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::expression::{batch, with_schema};
use super::{EpochContext, Operator, Output, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::state::key_group::{hash_keys, key_group};

/// The part of a snapshot.
const COUNT: &str = "count";

/// Passes rows on as long as there is at most one. All of them come to one worker.
#[derive(Debug)]
pub struct SingleRow {
    schema: SchemaRef,
    rows: i64,
}

impl SingleRow {
    /// A guard over rows of the types of `schema`.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, rows: 0 }
    }
}

impl Operator for SingleRow {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        self.rows += (0..delta.num_rows()).map(|row| delta.weight(row)).sum::<i64>();
        let (rows, weights) = delta.into_parts();
        out.push(Delta::new(with_schema(rows, &self.schema)?, weights));
        Ok(Step::Done)
    }

    /// Within an epoch the new row may come before the old one goes.
    fn on_epoch_end(&mut self, _epoch: &EpochContext<'_>, _out: &mut Output) -> Result<Step> {
        if self.rows <= 1 {
            return Ok(Step::Done);
        }
        Err(Error::new(ErrorKind::Data, format!("a subquery that stands for a value has {} rows", self.rows))
            .with_code("21000")
            .with_hint("make it one row: an aggregate without GROUP BY has one"))
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("_group", DataType::UInt8, false),
            Field::new("rows", DataType::Int64, false),
        ]));
        let mut hashes = Vec::new();
        hash_keys(&[], 1, &mut hashes)?;
        let group = UInt8Array::from_iter_values(hashes.into_iter().map(key_group));
        let rows = batch(&schema, vec![Arc::new(group), Arc::new(Int64Array::from(vec![self.rows]))], 1)?;
        Ok(vec![StatePart { name: COUNT.to_owned(), rows }])
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            let rows = part.rows.columns().get(1).and_then(|rows| rows.as_primitive_opt::<Int64Type>());
            let rows = rows.filter(|_| part.name == COUNT).ok_or_else(|| {
                Error::new(ErrorKind::InvalidState, "the state of a subquery's guard does not fit its statement")
            })?;
            self.rows += rows.values().iter().sum::<i64>();
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        StateSize { rows: 1, bytes: size_of::<i64>() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Watermarks;

    fn delta(values: &[i64], weights: &[i64]) -> Delta {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let rows = batch(&schema, vec![Arc::new(Int64Array::from(values.to_vec()))], values.len()).unwrap();
        Delta::weighted(rows, Int64Array::from(weights.to_vec()))
    }

    fn end(guard: &mut SingleRow) -> Result<Step> {
        let watermarks = Watermarks::none(0);
        guard.on_epoch_end(&EpochContext { epoch: 1, now_micros: 0, watermarks: &watermarks }, &mut Output::default())
    }

    #[test]
    fn one_row_may_become_another() {
        let mut guard = SingleRow::new(delta(&[], &[]).schema());
        let mut out = Output::default();
        let _ = guard.on_delta(0, delta(&[1], &[1]), &mut out).unwrap();
        assert_eq!(end(&mut guard).unwrap(), Step::Done);
        let _ = guard.on_delta(0, delta(&[2], &[1]), &mut out).unwrap();
        let _ = guard.on_delta(0, delta(&[1], &[-1]), &mut out).unwrap();
        assert_eq!(end(&mut guard).unwrap(), Step::Done);
        assert_eq!(out.take().0.len(), 3);
    }

    #[test]
    fn two_rows_are_an_error_also_after_a_restore() {
        let mut guard = SingleRow::new(delta(&[], &[]).schema());
        let _ = guard.on_delta(0, delta(&[1], &[1]), &mut Output::default()).unwrap();
        let parts = guard.snapshot().unwrap();
        let mut guard = SingleRow::new(delta(&[], &[]).schema());
        guard.restore(parts).unwrap();
        let _ = guard.on_delta(0, delta(&[5], &[1]), &mut Output::default()).unwrap();
        let error = end(&mut guard).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Data, "a subquery that stands for a value has 2 rows"));
    }
}
