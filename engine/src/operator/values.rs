//! Values: constant rows, in the first epoch.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::expression::{batch, with_schema};
use super::{EpochContext, Operator, Output, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::Result;

/// Emits constant rows once, at the end of the first epoch. It has no input and runs on one worker only: on every
/// other worker it is built without rows.
#[derive(Debug)]
pub struct Values {
    rows: Vec<RecordBatch>,
    emitted: bool,
}

impl Values {
    /// The rows, with the types of `schema`.
    pub fn new(rows: &[RecordBatch], schema: &SchemaRef) -> Result<Self> {
        let rows = rows.iter().map(|rows| with_schema(rows.clone(), schema)).collect::<Result<_>>()?;
        Ok(Self { rows, emitted: false })
    }
}

impl Operator for Values {
    fn on_delta(&mut self, _input: usize, _delta: Delta, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, _epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if !self.emitted {
            self.emitted = true;
            for rows in std::mem::take(&mut self.rows) {
                out.push(Delta::append(rows));
            }
        }
        Ok(Step::Done)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        if !self.emitted {
            return Ok(Vec::new());
        }
        let schema = Arc::new(Schema::new(vec![Field::new("_group", DataType::UInt8, false)]));
        let group: ArrayRef = Arc::new(UInt8Array::from(vec![0]));
        Ok(vec![StatePart { name: "emitted".to_owned(), rows: batch(&schema, vec![group], 1)? }])
    }

    /// A job that is restored has emitted its constants: the mark may have gone to another worker, so that being
    /// restored is enough.
    fn restore(&mut self, _parts: Vec<StatePart>) -> Result<()> {
        self.emitted = true;
        self.rows.clear();
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            rows: self.rows.iter().map(RecordBatch::num_rows).sum(),
            bytes: self.rows.iter().map(RecordBatch::get_array_memory_size).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;
    use crate::time::Watermarks;

    #[test]
    fn rows_come_once_and_not_again_after_a_restore() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        let rows = batch(&schema, vec![Arc::new(Int64Array::from(vec![1, 2]))], 2).unwrap();
        let watermarks = Watermarks::none(0);
        let epoch = EpochContext { epoch: 1, now_micros: 0, watermarks: &watermarks };
        let mut values = Values::new(std::slice::from_ref(&rows), &schema).unwrap();
        let mut out = Output::default();
        let _ = values.on_epoch_end(&epoch, &mut out).unwrap();
        assert_eq!(out.take().0[0].num_rows(), 2);
        let _ = values.on_epoch_end(&epoch, &mut out).unwrap();
        assert!(out.take().0.is_empty());

        let parts = values.snapshot().unwrap();
        let mut restored = Values::new(&[rows], &schema).unwrap();
        restored.restore(parts).unwrap();
        let _ = restored.on_epoch_end(&epoch, &mut out).unwrap();
        assert!(out.take().0.is_empty());
    }
}
