//! Rows as the bytes of a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::writer::{LineDelimited, WriterBuilder};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::settings::{Compression, FileFormat};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};

/// The column of a row's weight.
pub(super) const WEIGHT: &str = "_weight";

/// Rows that go into one file at most with one call: what a file is longer than asked for is bounded by it.
pub(super) const CHUNK_ROWS: usize = 8_192;

type JsonWriter<W> = arrow::json::writer::Writer<W, LineDelimited>;

/// An open file that takes rows.
pub(super) enum RowFile {
    Json(Box<JsonWriter<Counted>>),
    Parquet(Box<ArrowWriter<Counted>>),
}

/// Counts what goes into a file.
pub(super) struct Counted {
    file: BufWriter<File>,
    bytes: usize,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl RowFile {
    /// Begins a file.
    pub(super) fn begin(file: File, format: FileFormat, schema: &SchemaRef) -> Result<Self> {
        let file = Counted { file: BufWriter::with_capacity(256 << 10, file), bytes: 0 };
        Ok(match format {
            FileFormat::Json => Self::Json(Box::new(json(file))),
            FileFormat::Parquet(compression) => {
                let codec = match compression {
                    Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
                    Compression::Snappy => Codec::SNAPPY,
                    Compression::None => Codec::UNCOMPRESSED,
                };
                let properties = WriterProperties::builder()
                    .set_compression(codec)
                    .set_created_by(format!("Rondel {}", env!("CARGO_PKG_VERSION")))
                    .build();
                let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties)).map_err(parquet_error)?;
                Self::Parquet(Box::new(writer))
            }
        })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match self {
            Self::Json(writer) => Ok(writer.write(rows)?),
            Self::Parquet(writer) => writer.write(rows).map_err(parquet_error),
        }
    }

    /// About how many bytes the file has by now.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Json(writer) => writer.get_ref().bytes,
            Self::Parquet(writer) => writer.bytes_written() + writer.in_progress_size(),
        }
    }

    /// Ends the file: what was given is in it, though perhaps not yet on the disk.
    pub(super) fn finish(self) -> Result<(File, usize)> {
        let counted = match self {
            Self::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Self::Parquet(writer) => writer.into_inner().map_err(parquet_error)?,
        };
        let bytes = counted.bytes;
        let file =
            counted.file.into_inner().map_err(|error| Error::new(ErrorKind::External, error.error().to_string()))?;
        Ok((file, bytes))
    }
}

fn json<W: Write>(into: W) -> JsonWriter<W> {
    WriterBuilder::new().with_explicit_nulls(true).build(into)
}

fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::External, error.to_string())
}

/// The columns of the files.
pub(super) fn file_schema(schema: &SchemaRef, weights: bool) -> SchemaRef {
    if !weights {
        return Arc::clone(schema);
    }
    let weight = Arc::new(Field::new(WEIGHT, DataType::Int64, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([weight]).collect::<Vec<_>>()))
}

/// Refuses columns that the format has no values for.
pub(super) fn check(sink: &str, schema: &SchemaRef, format: FileFormat) -> Result<()> {
    for field in schema.fields() {
        let one = Arc::new(Schema::new(vec![Arc::clone(field)]));
        let refused = match format {
            FileFormat::Json => {
                // A row of nulls, since an empty batch asks nothing of its columns.
                let nullable = Arc::new(Schema::new(vec![field.as_ref().clone().with_nullable(true)]));
                let column = arrow::array::new_null_array(field.data_type(), 1);
                let rows = RecordBatch::try_new(nullable, vec![column])?;
                json(Vec::new()).write(&rows).err().map(|error| error.to_string())
            }
            // The library has no answer for these but to panic.
            FileFormat::Parquet(_) if holds_union(field.data_type()) => Some("Parquet has no unions".to_owned()),
            FileFormat::Parquet(_) => ArrowWriter::try_new(Vec::new(), one, None).err().map(|error| error.to_string()),
        };
        if let Some(reason) = refused {
            return Err(Error::new(
                ErrorKind::DatatypeMismatch,
                format!(
                    "the column \"{}\" of sink {sink} is of type {} and can't be written as {}: {reason}",
                    field.name(),
                    field.data_type(),
                    format.extension()
                ),
            )
            .with_hint("Cast the column to a type that it can be, such as TEXT."));
        }
    }
    Ok(())
}

fn holds_union(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(..) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_union(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_union(field.data_type())),
        _ => false,
    }
}

/// A delta as rows of the files: each as often as its weight, or once with it.
pub(super) fn rows(sink: &str, delta: &Delta, schema: &SchemaRef, weights: bool) -> Result<RecordBatch> {
    if weights {
        let weight: ArrayRef = match delta.weights() {
            Some(weights) => Arc::new(weights.clone()),
            None => Arc::new(Int64Array::from_value(1, delta.num_rows())),
        };
        let columns: Vec<ArrayRef> = delta.rows().columns().iter().cloned().chain([weight]).collect();
        return Ok(RecordBatch::try_new(Arc::clone(schema), columns)?);
    }
    let Some(weights) = delta.weights() else { return Ok(delta.rows().clone()) };
    if weights.values().iter().any(|weight| *weight < 0) {
        return Err(Error::internal(format!("sink {sink} takes only rows that stay, and was given a retraction")));
    }
    if weights.values().iter().all(|weight| *weight == 1) {
        return Ok(delta.rows().clone());
    }
    let copies = weights.values().iter().enumerate();
    let copies: Vec<u64> = copies.flat_map(|(row, weight)| (0..*weight).map(move |_| row as u64)).collect();
    Ok(take_record_batch(delta.rows(), &UInt64Array::from(copies))?)
}
