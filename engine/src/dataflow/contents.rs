//! The consolidated rows of one worker's part of a view.
//!
//! Rows lie in Arrow blocks that own their bytes. An append-only view needs no more. A changelog view has a weight and a
//! 128-bit hash for every row besides, and an index from hash to row: two rows are the same row when their hashes are
//! the same (two of a trillion different rows collide with a probability of about 10⁻¹⁵).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use hashbrown::HashTable;

use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::state::key_group::hash_keys_seeded;

use super::flow_control::column_bytes;

/// Rows of a full block.
const BLOCK_ROWS: usize = 8 * 1024;
/// The second half of a row's hash.
const SECOND_SEED: u64 = 0x517c_c1b7_2722_0a95;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Contents {
    schema: SchemaRef,
    blocks: Vec<RecordBatch>,
    /// The blocks at the end that are not full and will be joined: how many, and their rows.
    tail: (usize, usize),
    rows: usize,
    bytes: usize,
    changes: Option<Changes>,
}

/// What a changelog view has besides.
#[derive(Debug, Default)]
struct Changes {
    weights: Vec<i64>,
    hashes: Vec<u128>,
    index: HashTable<u32>,
    /// Rows whose weight is 0.
    dead: usize,
}

/// The 128-bit hashes of a delta's rows.
fn row_hashes(delta: &Delta) -> Result<Vec<u128>> {
    let (mut low, mut high) = (Vec::new(), Vec::new());
    let columns = delta.rows().columns();
    hash_keys_seeded(columns, delta.num_rows(), 0, &mut low)?;
    hash_keys_seeded(columns, delta.num_rows(), SECOND_SEED, &mut high)?;
    Ok(low.into_iter().zip(high).map(|(low, high)| (u128::from(high) << 64) | u128::from(low)).collect())
}

/// A copy of a batch that owns its bytes, where it would keep much more alive than it needs.
fn owned(batch: &RecordBatch) -> Result<RecordBatch> {
    let needed: usize = batch.columns().iter().map(column_bytes).sum();
    let copied = if batch.get_array_memory_size() > 2 * needed + 4096 {
        let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
        take_record_batch(batch, &all)?
    } else {
        batch.clone()
    };
    let columns = copied.columns().iter().map(collected).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

/// Views keep whole buffers alive for one string: give them their own.
fn collected(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => Arc::clone(column),
    }
}

impl Contents {
    pub(crate) fn new(schema: SchemaRef, changelog: bool) -> Self {
        let changes = changelog.then(Changes::default);
        Self { schema, blocks: Vec::new(), tail: (0, 0), rows: 0, bytes: 0, changes }
    }

    /// Rows with a weight.
    pub(crate) fn live_rows(&self) -> usize {
        self.rows - self.changes.as_ref().map_or(0, |changes| changes.dead)
    }

    /// Bytes held, indexes included.
    pub(crate) fn bytes(&self) -> usize {
        // Weight, hash, and an index of a fill of at least 7/16.
        self.bytes + self.changes.as_ref().map_or(0, |changes| changes.weights.len() * (8 + 16 + 10))
    }

    /// Takes in a delta.
    pub(crate) fn apply(&mut self, delta: &Delta) -> Result<()> {
        let Some(changes) = &mut self.changes else {
            if delta.weights().is_some_and(|weights| weights.values().iter().any(|weight| *weight != 1)) {
                return Err(Error::internal("an append-only view was given rows with weights"));
            }
            return self.append(&owned(delta.rows())?);
        };
        let hashes = row_hashes(delta)?;
        let mut new_rows = Vec::new();
        for (row, hash) in hashes.into_iter().enumerate() {
            let weight = delta.weight(row);
            let Changes { weights, hashes, index, dead } = changes;
            match index.find(hash as u64, |slot| hashes[*slot as usize] == hash) {
                Some(slot) => {
                    let known = &mut weights[*slot as usize];
                    *dead -= usize::from(*known == 0);
                    *known += weight;
                    *dead += usize::from(*known == 0);
                }
                None => {
                    let slot = u32::try_from(weights.len()).map_err(|_| {
                        Error::new(ErrorKind::ResourceExhausted, "a view holds more than 4 billion rows on one worker")
                    })?;
                    index.insert_unique(hash as u64, slot, |slot| hashes[*slot as usize] as u64);
                    hashes.push(hash);
                    weights.push(weight);
                    *dead += usize::from(weight == 0);
                    new_rows.push(row as u32);
                }
            }
        }
        if !new_rows.is_empty() {
            let rows = take_record_batch(delta.rows(), &UInt32Array::from(new_rows))?;
            self.append(&owned(&rows)?)?;
        }
        self.compact()
    }

    fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        // The declared schema may name columns otherwise than the plan that fills the view.
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), rows.columns().to_vec(), &options)?;
        self.bytes += rows.get_array_memory_size();
        self.tail.0 += 1;
        self.tail.1 += rows.num_rows();
        self.blocks.push(rows);
        if self.tail.1 >= BLOCK_ROWS || self.tail.0 >= 64 {
            self.join_tail()?;
        }
        Ok(())
    }

    fn join_tail(&mut self) -> Result<()> {
        let (count, rows) = std::mem::take(&mut self.tail);
        let small = self.blocks.split_off(self.blocks.len() - count);
        let before: usize = small.iter().map(RecordBatch::get_array_memory_size).sum();
        let joined = if count == 1 { small } else { vec![concat_batches(&self.schema, &small)?] };
        let after: usize = joined.iter().map(RecordBatch::get_array_memory_size).sum();
        self.bytes = self.bytes + after - before;
        self.blocks.extend(joined);
        if rows < BLOCK_ROWS {
            // Many tiny deltas: one small block that goes on growing.
            self.tail = (1, rows);
        }
        Ok(())
    }

    /// Forgets dead rows when they are the greater part.
    fn compact(&mut self) -> Result<()> {
        let Some(changes) = &self.changes else { return Ok(()) };
        if changes.dead < BLOCK_ROWS || changes.dead * 2 < self.rows {
            return Ok(());
        }
        let mut old = std::mem::replace(self, Self::new(Arc::clone(&self.schema), true));
        let Some(Changes { weights, hashes, .. }) = old.changes.take() else { return Ok(()) };
        let mut start = 0;
        for block in old.blocks {
            let live: Vec<u32> =
                (0..block.num_rows()).filter(|row| weights[start + row] != 0).map(|row| row as u32).collect();
            if let Some(changes) = &mut self.changes {
                for row in &live {
                    let (slot, hash) = (changes.weights.len() as u32, hashes[start + *row as usize]);
                    let known = &changes.hashes;
                    changes.index.insert_unique(hash as u64, slot, |slot| known[*slot as usize] as u64);
                    changes.hashes.push(hash);
                    changes.weights.push(weights[start + *row as usize]);
                }
            }
            start += block.num_rows();
            if !live.is_empty() {
                self.append(&take_record_batch(&block, &UInt32Array::from(live))?)?;
            }
        }
        Ok(())
    }

    /// All rows with their weights as they would be after `later` deltas: cheap to take (blocks are shared), and
    /// independent of what happens to the contents afterwards.
    pub(crate) fn image<'a>(&self, later: impl Iterator<Item = &'a Delta>) -> Result<Image> {
        let Some(changes) = &self.changes else {
            let mut blocks = self.blocks.clone();
            blocks.extend(later.map(|delta| delta.rows().clone()));
            return Ok(Image { schema: Arc::clone(&self.schema), blocks, weights: None });
        };
        let mut weights = changes.weights.clone();
        let mut rest = Self::new(Arc::clone(&self.schema), true);
        for delta in later {
            let mut unknown = Vec::new();
            for (row, hash) in row_hashes(delta)?.into_iter().enumerate() {
                match changes.index.find(hash as u64, |slot| changes.hashes[*slot as usize] == hash) {
                    Some(slot) => weights[*slot as usize] += delta.weight(row),
                    None => unknown.push(row as u32),
                }
            }
            if !unknown.is_empty() {
                rest.apply(&delta.take(&UInt32Array::from(unknown))?)?;
            }
        }
        let mut blocks = self.blocks.clone();
        blocks.append(&mut rest.blocks);
        weights.append(&mut rest.changes.unwrap_or_default().weights);
        Ok(Image { schema: Arc::clone(&self.schema), blocks, weights: Some(weights) })
    }

    /// About `rows` rows from slot `from` on, as a delta, and the slot to go on with; `None` at the end.
    pub(crate) fn piece(&self, from: usize, rows: usize) -> Result<Option<(Delta, usize)>> {
        let mut start = 0;
        for block in &self.blocks {
            let end = start + block.num_rows();
            if from < end {
                let offset = from - start;
                let length = rows.min(block.num_rows() - offset);
                let slice = block.slice(offset, length);
                let delta = match &self.changes {
                    None => Delta::append(slice),
                    Some(changes) => live(&slice, &changes.weights[from..from + length])?,
                };
                return Ok(Some((delta, from + length)));
            }
            start = end;
        }
        Ok(None)
    }
}

/// The rows whose weight is not 0.
fn live(rows: &RecordBatch, weights: &[i64]) -> Result<Delta> {
    if weights.iter().all(|weight| *weight != 0) {
        return Ok(Delta::weighted(rows.clone(), Int64Array::from(weights.to_vec())));
    }
    let indices: Vec<u32> = (0..weights.len()).filter(|row| weights[*row] != 0).map(|row| row as u32).collect();
    let weights = Int64Array::from_iter_values(indices.iter().map(|row| weights[*row as usize]));
    Ok(Delta::weighted(take_record_batch(rows, &UInt32Array::from(indices))?, weights))
}

/// The contents at one moment.
#[derive(Debug)]
pub(crate) struct Image {
    schema: SchemaRef,
    blocks: Vec<RecordBatch>,
    weights: Option<Vec<i64>>,
}

impl Image {
    /// One delta a block: rows with a weight.
    pub(crate) fn deltas(&self) -> Result<Vec<Delta>> {
        let mut deltas = Vec::with_capacity(self.blocks.len());
        let mut start = 0;
        for block in &self.blocks {
            let end = start + block.num_rows();
            deltas.push(match &self.weights {
                None => Delta::append(block.clone()),
                Some(weights) => live(block, &weights[start..end])?,
            });
            start = end;
        }
        deltas.retain(|delta| !delta.is_empty());
        Ok(deltas)
    }

    /// All images of one view (one a worker) as plain rows: a row of weight n stands n times.
    pub(crate) fn rows(images: &[Image]) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        if images.iter().flat_map(|image| &image.weights).flatten().any(|weight| *weight < 0) {
            // A row came on one worker and went on another: add them up.
            let Some(first) = images.first() else { return Ok(batches) };
            let mut all = Contents::new(Arc::clone(&first.schema), true);
            for image in images {
                image.deltas()?.iter().try_for_each(|delta| all.apply(delta))?;
            }
            repeat(&all.image(std::iter::empty())?.deltas()?, &mut batches)?;
        } else {
            for image in images {
                repeat(&image.deltas()?, &mut batches)?;
            }
        }
        Ok(batches)
    }
}

fn repeat(deltas: &[Delta], out: &mut Vec<RecordBatch>) -> Result<()> {
    for delta in deltas {
        match delta.weights() {
            Some(weights) if weights.values().iter().any(|weight| *weight != 1) => {
                let mut indices = Vec::new();
                for (row, weight) in weights.values().iter().enumerate() {
                    indices.extend(std::iter::repeat_n(row as u32, usize::try_from(*weight).unwrap_or(0)));
                }
                if !indices.is_empty() {
                    out.push(take_record_batch(delta.rows(), &UInt32Array::from(indices))?);
                }
            }
            _ => out.push(delta.rows().clone()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
