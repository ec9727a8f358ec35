//! Blocks of rows as the batches of a file of Arrow's IPC format.
//!
//! Whoever has a section knows where its blocks begin and which columns they have, so a file that sections share is no more
//! than its batches. A [whole](super::whole) file has also what tells everybody else.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt8Array, UInt64Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::FileDecoder;
use arrow::ipc::writer::FileWriter;
use arrow::ipc::{Block as IpcBlock, MetadataVersion};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{Rows, SpillFile};
use crate::error::{Error, ErrorKind, Result};
use crate::state::alone::alone;

/// Bytes before a message of a file: a mark, and how long what is said of the batch is.
const PREFIX: usize = 8;

/// Which columns blocks have.
#[derive(Debug)]
pub(super) struct Layout {
    /// Those of the rows.
    rows: SchemaRef,
    /// Before them the key group, and behind them whether a row has changed and its order.
    written: SchemaRef,
}

impl Layout {
    fn of(rows: SchemaRef) -> Self {
        let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
        fields.extend(rows.fields().iter().cloned());
        fields.push(Arc::new(Field::new("_changed", DataType::Boolean, false)));
        fields.push(Arc::new(Field::new("_order", DataType::UInt64, false)));
        Self { rows, written: Arc::new(Schema::new(fields)) }
    }

    fn batch(&self, group: u8, rows: &Rows) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt8Array::from(vec![group; rows.orders.len()]))];
        columns.extend(alone(&rows.rows)?.columns().iter().cloned());
        columns.push(Arc::new(BooleanArray::from(rows.changed.clone())));
        columns.push(Arc::new(UInt64Array::from(rows.orders.clone())));
        Ok(RecordBatch::try_new(Arc::clone(&self.written), columns)?)
    }

    /// The rows of a block; `None`: it is something else.
    pub(super) fn read(&self, bytes: Vec<u8>) -> Option<Rows> {
        let said = i32::from_le_bytes(bytes.get(PREFIX / 2..PREFIX)?.try_into().ok()?);
        let body = bytes.len().checked_sub(usize::try_from(said).ok()? + PREFIX)?;
        let place = IpcBlock::new(0, said + PREFIX as i32, body as i64);
        let decoder = FileDecoder::new(Arc::clone(&self.written), MetadataVersion::V5);
        let batch = decoder.read_record_batch(&place, &Buffer::from_vec(bytes)).ok()??;
        let mut columns: Vec<ArrayRef> = batch.columns()[1..].to_vec();
        let orders = columns.pop()?.as_primitive_opt::<UInt64Type>()?.values().to_vec();
        let changed = columns.pop()?.as_boolean_opt()?.values().iter().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.rows), columns, &options).ok()?;
        Some(Rows { rows, orders, changed })
    }
}

/// Where a block was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) length: u32,
    /// The hash of its bytes.
    pub(super) check: u64,
}

/// Writes blocks of rows with the same columns.
pub(super) struct BlockWriter {
    layout: Arc<Layout>,
    file: Arc<dyn SpillFile>,
    writer: FileWriter<Vec<u8>>,
    /// Of a whole file: what it comes to.
    whole: Option<Xxh3>,
    /// Bytes that were written.
    bytes: u64,
}

impl BlockWriter {
    /// To the end of a file, or as a whole one, which is empty.
    pub(super) fn new(file: Arc<dyn SpillFile>, rows: SchemaRef, is_whole: bool) -> Result<Self> {
        let layout = Arc::new(Layout::of(rows));
        let writer = FileWriter::try_new(Vec::new(), &layout.written)?;
        let mut this = Self { layout, file, writer, whole: is_whole.then(Xxh3::new), bytes: 0 };
        if is_whole {
            this.append()?;
        }
        this.writer.get_mut().clear();
        Ok(this)
    }

    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Bytes that were written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn write(&mut self, group: u8, rows: &Rows) -> Result<Place> {
        self.writer.write(&self.layout.batch(group, rows)?)?;
        let at = self.append()?;
        let bytes = self.writer.get_mut();
        let too_large = |_| Error::new(ErrorKind::ResourceExhausted, "a row is larger than 4 GiB");
        let place = Place { at, length: u32::try_from(bytes.len()).map_err(too_large)?, check: xxh3_64(bytes) };
        bytes.clear();
        Ok(place)
    }

    /// Ends a whole file; answers the `xxh3_128` of its bytes, and how many they are.
    pub(super) fn finish(mut self) -> Result<(u128, u64)> {
        self.writer.finish()?;
        self.append()?;
        self.file.seal()?;
        Ok((self.whole.map_or(0, |hash| hash.digest128()), self.bytes))
    }

    fn append(&mut self) -> Result<u64> {
        let bytes = self.writer.get_ref();
        if let Some(hash) = &mut self.whole {
            hash.update(bytes);
        }
        self.bytes += bytes.len() as u64;
        self.file.append(bytes)
    }
}
