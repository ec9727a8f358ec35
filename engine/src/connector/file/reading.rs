//! One file, read from a row on.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::settings::{FileSourceOptions, SourceFormat};
use crate::error::{Error, ErrorKind, Result};
use crate::format::json_lines_decoder;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// A line that is longer is no row.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Takes rows and the number of the next one; `false`: nobody wants more.
pub(super) type Give<'a> = dyn FnMut(u64, RecordBatch) -> bool + 'a;

/// Reads a file from row `next` on; answers whether it was read to its end.
pub(super) fn read_file(
    path: &Path,
    options: &FileSourceOptions,
    schema: &SchemaRef,
    next: u64,
    give: &mut Give<'_>,
    skipped: &mut dyn FnMut(u64, &str),
) -> Result<bool> {
    let file = File::open(path).map_err(|error| {
        Error::new(ErrorKind::External, format!("the file {} can't be read: {error}", path.display()))
    })?;
    let outcome = match options.format {
        SourceFormat::Parquet => parquet(file, schema, next, give),
        SourceFormat::Json => json(file, schema, next, options.skips, give, skipped),
    };
    outcome.map_err(|error| error.context(format!("the file {}", path.display())))
}

fn parquet(file: File, schema: &SchemaRef, next: u64, give: &mut Give<'_>) -> Result<bool> {
    let data = |error: parquet::errors::ParquetError| Error::new(ErrorKind::Data, format!("can't be read: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(data)?;
    let there = Arc::clone(builder.schema());
    for field in schema.fields() {
        if there.index_of(field.name()).is_err() && !field.is_nullable() {
            return Err(Error::new(ErrorKind::Data, format!("has no column {}, which can't be NULL", field.name())));
        }
    }
    let roots = schema.fields().iter().filter_map(|field| there.index_of(field.name()).ok());
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let skip = usize::try_from(next).map_err(|_| Error::internal("a row's number is out of range"))?;
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).with_offset(skip).build().map_err(data)?;
    let mut next = next;
    for batch in reader {
        let batch = batch.map_err(|error| Error::new(ErrorKind::Data, format!("can't be read: {error}")))?;
        let rows = batch.num_rows();
        let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
            let Some(column) = batch.column_by_name(field.name()) else {
                return Ok(new_null_array(field.data_type(), rows));
            };
            if column.data_type() == field.data_type() {
                return Ok(Arc::clone(column));
            }
            cast(column, field.data_type()).map_err(|error| {
                Error::new(ErrorKind::Data, format!("its column {} is {}: {error}", field.name(), column.data_type()))
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let with_rows = RecordBatchOptions::new().with_row_count(Some(rows));
        next += rows as u64;
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &with_rows)
            .map_err(|error| Error::new(ErrorKind::Data, error.to_string()))?;
        if !give(next, batch) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn json(
    file: File,
    schema: &SchemaRef,
    next: u64,
    skips: bool,
    give: &mut Give<'_>,
    skipped: &mut dyn FnMut(u64, &str),
) -> Result<bool> {
    let mut decoder = json_lines_decoder(schema);
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut number, mut rows, mut bad, mut reason) = (0_u64, 0, 0, String::new());
    let mut line = Vec::new();
    decoder.begin(BATCH_ROWS, 0);
    loop {
        line.clear();
        let read = std::io::Read::take(&mut reader, LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Error::new(ErrorKind::External, format!("can't be read: {error}")))?;
        if line.len() > LINE_BYTES_MAX {
            return Err(Error::new(ErrorKind::Data, format!("line {} is longer than 64 MB", number + 1)));
        }
        let ended = read == 0;
        if !ended {
            number += 1;
            let text = line.trim_ascii();
            if number <= next || text.is_empty() {
                continue;
            }
            match decoder.push(text) {
                Ok(()) => rows += 1,
                Err(error) if skips => {
                    bad += 1;
                    reason = format!("line {number}: {error}");
                }
                Err(error) => {
                    return Err(Error::new(ErrorKind::Data, format!("line {number}: {error}"))
                        .with_hint("on_error = 'skip' goes on without such lines"));
                }
            }
        }
        if rows + bad as usize >= BATCH_ROWS || ended && rows > 0 {
            let batch = decoder.finish()?;
            decoder.begin(BATCH_ROWS, 0);
            rows = 0;
            if !give(number, batch) {
                return Ok(false);
            }
        }
        if bad > 0 && (ended || rows == 0) {
            skipped(std::mem::take(&mut bad), &reason);
        }
        if ended {
            return Ok(true);
        }
    }
}
