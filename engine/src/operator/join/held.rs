//! Rows of a side that a checkpoint reads as they lie in memory, beside the job.
//!
//! Rows of an append-only input that are told apart by nothing and never go do not change, so nobody has to copy them, or to put them in
//! order: the checkpoint keeps the chunks in which they came. Rows that the side puts to disk or lets go in the meantime stay
//! in memory until they are written.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt8Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::super::deferred::DeferredRows;
use super::super::expression::batch;
use super::side::{Side, key_groups};
use super::store::{Address, SharedRows};
use crate::error::Result;

/// Bytes of rows that are held together: they go together, too. About a file of a checkpoint.
const HELD_BYTES: usize = 8 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct HeldRows {
    rows: Vec<SharedRows>,
    /// Which of the columns say to which key group a row belongs.
    keys: Vec<usize>,
    /// The part's columns: `_group`, and the input's.
    schema: SchemaRef,
}

impl HeldRows {
    /// Rows of a side, block by block, as a part with these columns: in pieces, each of which goes when it is written.
    pub(super) fn of(side: &Side, blocks: &[Vec<Address>], schema: &SchemaRef) -> Vec<Self> {
        let empty = || Self { rows: Vec::new(), keys: side.grouped_by(), schema: Arc::clone(schema) };
        let (mut pieces, mut piece, mut bytes) = (Vec::new(), empty(), 0);
        for shared in blocks.iter().flat_map(|rows| side.store().shared(rows)) {
            bytes += shared.bytes;
            piece.rows.push(shared);
            if bytes >= HELD_BYTES {
                bytes = 0;
                pieces.push(std::mem::replace(&mut piece, empty()));
            }
        }
        if !piece.rows.is_empty() {
            pieces.push(piece);
        }
        pieces
    }
}

impl DeferredRows for HeldRows {
    fn read(&self, groups: RangeInclusive<u8>, give: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let width = self.schema.fields().len() - 1;
        for shared in &self.rows {
            let columns = shared.columns()?;
            let count = columns.first().map_or(0, |column| column.len());
            let own = key_groups(&columns, &self.keys, count)?;
            let mask: Option<BooleanArray> =
                (groups != (0..=u8::MAX)).then(|| own.iter().map(|group| Some(groups.contains(group))).collect());
            let group: ArrayRef = Arc::new(UInt8Array::from(own));
            let mut rows =
                batch(&self.schema, std::iter::once(group).chain(columns.into_iter().take(width)).collect(), count)?;
            if let Some(mask) = mask {
                rows = filter_record_batch(&rows, &mask)?;
            }
            if rows.num_rows() > 0 {
                give(rows)?;
            }
        }
        Ok(())
    }

    fn is_by_group(&self) -> bool {
        false
    }
}
