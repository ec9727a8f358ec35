//! Rows in Arrow batches that own their bytes, joined as they come: many small deltas end as few large batches.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::dataflow::flow_control::column_bytes;
use crate::error::Result;
use crate::operator::columns::{compact, owned};

/// Batches in order. A batch that has reached the size that was asked for is joined with no other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pieces {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

/// Bytes that are not worth a copy.
const SMALL_BATCH: usize = 4096;

/// The same rows in `schema`, each column by `change`.
fn with_columns(
    batch: &RecordBatch,
    schema: &SchemaRef,
    change: impl Fn(&ArrayRef) -> Result<ArrayRef>,
) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(change).collect::<Result<Vec<_>>>()?;
    // The declared schema may name columns otherwise than the plan that fills the view.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(std::sync::Arc::clone(schema), columns, &options)?)
}

impl Pieces {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a batch; it is copied where it would keep much more alive than it needs.
    pub(super) fn push(&mut self, batch: &RecordBatch, schema: &SchemaRef, full: usize) -> Result<()> {
        let needed: usize = batch.columns().iter().map(column_bytes).sum();
        let wasteful = batch.get_array_memory_size() > 2 * needed + SMALL_BATCH;
        let own = with_columns(batch, schema, |column| if wasteful { owned(column) } else { compact(column) })?;
        self.add(own, schema, full)
    }

    /// Adds the rows at `indices`, copied.
    pub(super) fn push_taken(
        &mut self,
        batch: &RecordBatch,
        indices: Vec<u32>,
        schema: &SchemaRef,
        full: usize,
    ) -> Result<()> {
        if indices.is_empty() {
            return Ok(());
        }
        let taken = take_record_batch(batch, &UInt32Array::from(indices))?;
        self.add(with_columns(&taken, schema, compact)?, schema, full)
    }

    /// Adds a batch and joins its predecessors to it while they are not larger: a row is copied a dozen times at most.
    fn add(&mut self, batch: RecordBatch, schema: &SchemaRef, full: usize) -> Result<()> {
        let mut joined = batch.num_rows();
        self.rows += joined;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        let mut first = self.batches.len() - 1;
        while first > 0 && joined < full && self.batches[first - 1].num_rows() <= joined {
            first -= 1;
            joined += self.batches[first].num_rows();
        }
        self.join(first, schema)
    }

    /// All of it as one batch, which owns one buffer where its parts had many.
    pub(super) fn seal(&mut self, schema: &SchemaRef) -> Result<()> {
        self.join(0, schema)?;
        if let Some(batch) = self.batches.first_mut() {
            *batch =
                with_columns(batch, schema, |column| if is_view(column) { owned(column) } else { compact(column) })?;
            self.bytes = batch.get_array_memory_size();
        }
        Ok(())
    }

    fn join(&mut self, first: usize, schema: &SchemaRef) -> Result<()> {
        if self.batches.len() - first > 1 {
            let parts = self.batches.split_off(first);
            let joined = concat_batches(schema, &parts)?;
            let before: usize = parts.iter().map(RecordBatch::get_array_memory_size).sum();
            self.bytes = self.bytes + joined.get_array_memory_size() - before;
            self.batches.push(joined);
        }
        Ok(())
    }

    /// The rows at ascending `indices`, copied; all in one batch.
    pub(super) fn taken(&self, indices: &[u32], schema: &SchemaRef) -> Result<RecordBatch> {
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, 0);
        for batch in &self.batches {
            let end = start + batch.num_rows() as u32;
            let count = indices[at..].partition_point(|index| *index < end);
            if count > 0 {
                let places = indices[at..at + count].iter().map(|index| index - start);
                parts.push(take_record_batch(batch, &UInt32Array::from_iter_values(places))?);
            }
            (start, at) = (end, at + count);
        }
        Ok(concat_batches(schema, &parts)?)
    }

    /// At most `rows` rows from row `from` on, and how many; all of one batch. `None`: there are none.
    pub(super) fn slice(&self, from: usize, rows: usize) -> Option<RecordBatch> {
        let mut start = 0;
        for batch in &self.batches {
            if from < start + batch.num_rows() {
                let offset = from - start;
                return Some(batch.slice(offset, rows.min(batch.num_rows() - offset)));
            }
            start += batch.num_rows();
        }
        None
    }
}

fn is_view(column: &ArrayRef) -> bool {
    use arrow::datatypes::DataType;
    matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView)
}
