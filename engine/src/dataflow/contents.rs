//! The consolidated rows of one worker's part of a view.
//!
//! Rows lie in Arrow batches that own their bytes. An append-only view needs no more; a changelog view also knows how
//! often each row is there (`changelog`).

mod changelog;
mod pieces;
mod weights;

use std::sync::Arc;

use arrow::array::{Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::delta::Delta;
use crate::error::{Error, Result};

use changelog::{BLOCK_ROWS, Changelog};
use pieces::Pieces;
use weights::Weights;

/// See the [module](self).
#[derive(Debug)]
pub(crate) enum Contents {
    AppendOnly(AppendOnly),
    Changelog(Changelog),
}

/// Rows that only come.
#[derive(Debug)]
pub(crate) struct AppendOnly {
    schema: SchemaRef,
    pieces: Pieces,
    /// How many of the rows, in the order in which they came, were written down; `None`: nobody has.
    written: Option<usize>,
}

impl Contents {
    pub(crate) fn new(schema: SchemaRef, changelog: bool) -> Self {
        if changelog {
            Self::Changelog(Changelog::new(schema))
        } else {
            Self::AppendOnly(AppendOnly { schema, pieces: Pieces::default(), written: None })
        }
    }

    /// Rows with a weight.
    pub(crate) fn live_rows(&self) -> usize {
        match self {
            Self::AppendOnly(only) => only.pieces.rows(),
            Self::Changelog(changelog) => changelog.live_rows(),
        }
    }

    /// Bytes held, indexes included.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::AppendOnly(only) => only.pieces.bytes(),
            Self::Changelog(changelog) => changelog.bytes(),
        }
    }

    /// Takes in a delta.
    pub(crate) fn apply(&mut self, delta: &Delta) -> Result<()> {
        match self {
            Self::AppendOnly(only) => {
                if delta.weights().is_some_and(|weights| weights.values().iter().any(|weight| *weight != 1)) {
                    return Err(Error::internal("an append-only view was given rows with weights"));
                }
                only.pieces.push(delta.rows(), &only.schema, BLOCK_ROWS)
            }
            Self::Changelog(changelog) => changelog.apply(delta),
        }
    }

    /// All rows with their weights as they would be after `later` deltas: cheap to take (batches and weights are
    /// shared), and independent of what happens to the contents afterwards.
    pub(crate) fn image<'a>(&self, later: impl Iterator<Item = &'a Delta>) -> Result<Image> {
        match self {
            Self::AppendOnly(only) => {
                let mut batches = only.pieces.batches().to_vec();
                batches.extend(later.map(|delta| delta.rows().clone()));
                Ok(Image { schema: Arc::clone(&only.schema), blocks: vec![ImageBlock { batches, weights: None }] })
            }
            Self::Changelog(changelog) => changelog.image(later),
        }
    }

    /// At most `rows` rows from place `from` on (at first 0), as a delta, and the place to go on with; `None` at the end.
    pub(crate) fn piece(&self, from: usize, rows: usize) -> Result<Option<(Delta, usize)>> {
        match self {
            Self::AppendOnly(only) => Ok(only.pieces.slice(from, rows).map(|slice| {
                let next = from + slice.num_rows();
                (Delta::append(slice), next)
            })),
            Self::Changelog(changelog) => changelog.piece(from, rows),
        }
    }

    /// The contents, with `later` deltas, were written down or read back: changes are noted from now on.
    pub(crate) fn note_changes<'a>(&mut self, later: impl Iterator<Item = &'a Delta>) -> Result<()> {
        match self {
            Self::AppendOnly(only) => {
                only.written = Some(only.pieces.rows() + later.map(Delta::num_rows).sum::<usize>());
                Ok(())
            }
            Self::Changelog(changelog) => changelog.note_changes(later),
        }
    }

    /// What has changed since then, with `later` deltas, as a sum; from now on what comes after those is noted. If nothing
    /// was noted, all there is.
    pub(crate) fn changes<'a>(&mut self, later: impl Iterator<Item = &'a Delta> + Clone) -> Result<Vec<Delta>> {
        let changes = match self {
            Self::AppendOnly(only) => {
                let mut before = only.written.unwrap_or(0);
                let mut rows = Vec::new();
                let mut add = |batch: &RecordBatch| {
                    let skipped = before.min(batch.num_rows());
                    before -= skipped;
                    if skipped < batch.num_rows() {
                        rows.push(Delta::append(batch.slice(skipped, batch.num_rows() - skipped)));
                    }
                };
                only.pieces.batches().iter().for_each(&mut add);
                later.clone().for_each(|delta| add(delta.rows()));
                rows
            }
            Self::Changelog(changelog) => changelog.changes(later.clone())?,
        };
        self.note_changes(later)?;
        Ok(changes)
    }
}

/// The rows whose weight is not 0.
fn live(rows: &RecordBatch, weights: Vec<i64>) -> Result<Delta> {
    if weights.iter().all(|weight| *weight != 0) {
        return Ok(Delta::weighted(rows.clone(), Int64Array::from(weights)));
    }
    let indices: Vec<u32> = (0..weights.len()).filter(|row| weights[*row] != 0).map(|row| row as u32).collect();
    let weights = Int64Array::from_iter_values(indices.iter().map(|row| weights[*row as usize]));
    Ok(Delta::weighted(take_record_batch(rows, &UInt32Array::from(indices))?, weights))
}

/// The contents at one moment.
#[derive(Debug)]
pub(crate) struct Image {
    schema: SchemaRef,
    blocks: Vec<ImageBlock>,
}

/// Batches, and the weights of their rows, one after the other; `None`: all 1.
#[derive(Debug)]
struct ImageBlock {
    batches: Vec<RecordBatch>,
    weights: Option<Arc<Weights>>,
}

impl Image {
    /// Rows with a weight, batch by batch.
    pub(crate) fn deltas(&self) -> Result<Vec<Delta>> {
        let mut deltas = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let mut start = 0;
            for batch in &block.batches {
                let end = start + batch.num_rows();
                deltas.push(match &block.weights {
                    None => Delta::append(batch.clone()),
                    Some(weights) => live(batch, (start..end).map(|row| weights.get(row)).collect())?,
                });
                start = end;
            }
        }
        deltas.retain(|delta| !delta.is_empty());
        Ok(deltas)
    }

    fn has_negative(&self) -> bool {
        self.blocks.iter().flat_map(|block| &block.weights).any(|weights| weights.has_negative())
    }

    /// All images of one view (one a worker) as plain rows: a row of weight n stands n times.
    pub(crate) fn rows(images: &[Image]) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        if images.iter().any(Image::has_negative) {
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
