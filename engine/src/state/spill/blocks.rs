//! Blocks of rows as the batches of a file of Arrow's IPC format.
//!
//! Whoever has a section knows where its blocks begin and which columns they have, so a file that sections share is no more
//! than its batches. A [whole](super::whole) file has also what tells everybody else.
//!
//! Such a file has one dictionary for each column. Rows whose columns have dictionaries bring their own, so each of their blocks
//! is a stream by itself.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt8Array, UInt64Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::{FileDecoder, StreamReader};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::ipc::{Block as IpcBlock, MetadataVersion};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{Rows, SpillFile, SpillReader};
use crate::error::{Error, ErrorKind, Result};
use crate::state::alone::alone;

/// Bytes before a message of a file: a mark, and how long what is said of the batch is.
const PREFIX: usize = 8;

/// Whether a column, or a field of one, has a dictionary: such rows can't be in a whole file.
pub fn has_dictionaries(schema: &Schema) -> bool {
    schema.flattened_fields().iter().any(|field| matches!(field.data_type(), DataType::Dictionary(..)))
}

/// A file is not as it was written.
fn damaged(file: &dyn SpillFile) -> Error {
    let what = format!("{} is not as it was written: state that was put there is lost", file.name());
    Error::new(ErrorKind::External, what).with_hint("look after the disk; the job goes on from its last checkpoint")
}

/// Which columns blocks have.
#[derive(Debug)]
pub(super) struct Layout {
    /// Those of the rows.
    rows: SchemaRef,
    /// Before them the key group, and behind them whether a row has changed and its order.
    written: SchemaRef,
    has_dictionaries: bool,
}

impl Layout {
    fn of(rows: SchemaRef) -> Self {
        let mut fields = vec![Arc::new(Field::new("_group", DataType::UInt8, false))];
        fields.extend(rows.fields().iter().cloned());
        fields.push(Arc::new(Field::new("_changed", DataType::Boolean, false)));
        fields.push(Arc::new(Field::new("_order", DataType::UInt64, false)));
        Self { has_dictionaries: has_dictionaries(&rows), rows, written: Arc::new(Schema::new(fields)) }
    }

    fn batch(&self, group: u8, rows: &Rows) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt8Array::from(vec![group; rows.orders.len()]))];
        columns.extend(alone(&rows.rows)?.columns().iter().cloned());
        columns.push(Arc::new(BooleanArray::from(rows.changed.clone())));
        columns.push(Arc::new(UInt64Array::from(rows.orders.clone())));
        Ok(RecordBatch::try_new(Arc::clone(&self.written), columns)?)
    }

    /// The rows of a block of a file.
    pub(super) fn read(&self, place: Place, file: &dyn SpillFile, reader: &mut dyn SpillReader) -> Result<Rows> {
        let bytes = reader.read(place.at, place.length as usize)?;
        let is_as_written = xxh3_64(&bytes) == place.check;
        let rows = if is_as_written { self.rows_of(bytes) } else { None };
        rows.ok_or_else(|| damaged(file))
    }

    fn rows_of(&self, bytes: Vec<u8>) -> Option<Rows> {
        let batch = if self.has_dictionaries {
            StreamReader::try_new(bytes.as_slice(), None).ok()?.next()?.ok()?
        } else {
            self.batch_of(bytes)?
        };
        let mut columns: Vec<ArrayRef> = batch.columns().get(1..)?.to_vec();
        let orders = columns.pop()?.as_primitive_opt::<UInt64Type>()?.values().to_vec();
        let changed = columns.pop()?.as_boolean_opt()?.values().iter().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.rows), columns, &options).ok()?;
        Some(Rows { rows, orders, changed })
    }

    fn batch_of(&self, bytes: Vec<u8>) -> Option<RecordBatch> {
        let said = i32::from_le_bytes(bytes.get(PREFIX / 2..PREFIX)?.try_into().ok()?);
        let body = bytes.len().checked_sub(usize::try_from(said).ok()? + PREFIX)?;
        let place = IpcBlock::new(0, said + PREFIX as i32, body as i64);
        let decoder = FileDecoder::new(Arc::clone(&self.written), MetadataVersion::V5);
        decoder.read_record_batch(&place, &Buffer::from_vec(bytes)).ok()?
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

/// Makes the bytes of blocks.
enum Encoder {
    Batches(Box<FileWriter<Vec<u8>>>),
    /// Of rows with dictionaries.
    Streams(Vec<u8>),
}

impl Encoder {
    /// Bytes that were made and not written yet.
    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Batches(writer) => writer.get_mut(),
            Self::Streams(bytes) => bytes,
        }
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        match self {
            Self::Batches(writer) => writer.write(rows)?,
            Self::Streams(bytes) => {
                let mut writer = StreamWriter::try_new(std::mem::take(bytes), &rows.schema())?;
                writer.write(rows)?;
                *bytes = writer.into_inner()?;
            }
        }
        Ok(())
    }
}

/// Writes blocks of rows with the same columns.
pub(super) struct BlockWriter {
    layout: Arc<Layout>,
    file: Arc<dyn SpillFile>,
    encoder: Encoder,
    /// Of a whole file: what it comes to.
    whole: Option<Xxh3>,
    /// Bytes that were written.
    bytes: u64,
}

impl BlockWriter {
    /// To the end of a file, or as a whole one, which is empty.
    pub(super) fn new(file: Arc<dyn SpillFile>, rows: SchemaRef, is_whole: bool) -> Result<Self> {
        let layout = Arc::new(Layout::of(rows));
        if is_whole && layout.has_dictionaries {
            return Err(Error::internal("rows with dictionaries were to be a whole file"));
        }
        let encoder = match layout.has_dictionaries {
            true => Encoder::Streams(Vec::new()),
            false => Encoder::Batches(Box::new(FileWriter::try_new(Vec::new(), &layout.written)?)),
        };
        let mut this = Self { layout, file, encoder, whole: is_whole.then(Xxh3::new), bytes: 0 };
        if is_whole {
            this.append()?;
        }
        this.encoder.bytes().clear();
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
        self.encoder.encode(&self.layout.batch(group, rows)?)?;
        let at = self.append()?;
        let bytes = self.encoder.bytes();
        let too_large = |_| Error::new(ErrorKind::ResourceExhausted, "a row is larger than 4 GiB");
        let place = Place { at, length: u32::try_from(bytes.len()).map_err(too_large)?, check: xxh3_64(bytes) };
        bytes.clear();
        Ok(place)
    }

    /// Ends a whole file; answers the `xxh3_128` of its bytes, and how many they are.
    pub(super) fn finish(mut self) -> Result<(u128, u64)> {
        if let Encoder::Batches(writer) = &mut self.encoder {
            writer.finish()?;
        }
        self.append()?;
        self.file.seal()?;
        Ok((self.whole.map_or(0, |hash| hash.digest128()), self.bytes))
    }

    fn append(&mut self) -> Result<u64> {
        let bytes = self.encoder.bytes();
        if let Some(hash) = &mut self.whole {
            hash.update(bytes);
        }
        self.bytes += bytes.len() as u64;
        self.file.append(bytes)
    }
}
