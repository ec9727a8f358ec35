//! What `CREATE STREAM … WITH (connector = 'file')` says, checked.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::settings::{FileSourceOptions, SourceFormat};
use super::source::FileSource;
use crate::connector::definition::{Definition, StreamDefinition};
use crate::connector::{ScanRequest, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::format::check_json_columns;

/// The rows of files.
struct FileStream {
    name: String,
    options: FileSourceOptions,
    schema: SchemaRef,
}

/// Checks a stream's options. Columns are declared, or those of the first Parquet file.
pub(in crate::connector) fn define_stream(definition: &Definition<'_>) -> Result<Arc<dyn StreamDefinition>> {
    let options = FileSourceOptions::parse(definition.options)?;
    let declared = definition.columns.filter(|columns| !columns.fields().is_empty());
    let schema = match (declared, options.format) {
        (Some(columns), SourceFormat::Json) => {
            check_json_columns(columns)?;
            SchemaRef::clone(columns)
        }
        (Some(columns), SourceFormat::Parquet) => SchemaRef::clone(columns),
        (None, SourceFormat::Json) => {
            return Err(Error::invalid("a stream of JSON lines needs its columns")
                .with_hint("declare them: CREATE STREAM s (id BIGINT, name TEXT) WITH (…)"));
        }
        (None, SourceFormat::Parquet) => match definition.descriptor {
            Some(kept) => kept_schema(kept)?,
            None => {
                let files = files_of(&options.path, options.format)?;
                let Some(first) = files.first() else {
                    return Err(Error::invalid(format!("there is no Parquet file in {}", options.path.display()))
                        .with_hint("declare the columns, or create the stream when the first file is there"));
                };
                parquet_columns(first)?
            }
        },
    };
    Ok(Arc::new(FileStream { name: definition.name.to_owned(), options, schema }))
}

impl StreamDefinition for FileStream {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let written = StreamWriter::try_new(&mut bytes, &self.schema).and_then(|mut writer| writer.finish());
        written.ok().map(|()| bytes)
    }

    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>> {
        Ok(Box::new(FileSource::new(&self.name, self.options.clone(), scan)))
    }
}

fn kept_schema(bytes: &[u8]) -> Result<SchemaRef> {
    Ok(StreamReader::try_new(Cursor::new(bytes), None)?.schema())
}

/// The files of a path, in the order of their names: one, or all of a folder and of those below it. Names that begin with
/// an underscore or a dot are passed over.
pub(super) fn files_of(path: &Path, format: SourceFormat) -> Result<Vec<PathBuf>> {
    let failed = |path: &Path, error: &std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::InvalidDefinition,
            _ => ErrorKind::External,
        };
        Error::new(kind, format!("{} can't be read: {error}", path.display()))
    };
    let about = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
    if about.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![path.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| failed(&folder, &error))? {
            let entry = entry.map_err(|error| failed(&folder, &error))?;
            let (path, name) = (entry.path(), entry.file_name());
            if name.to_string_lossy().starts_with(['_', '.']) {
                continue;
            }
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
            // Links are followed.
            let about = std::fs::metadata(&path).map_err(|error| failed(&path, &error))?;
            if about.is_dir() {
                folders.push(path);
            } else if ending.is_some_and(|ending| format.endings().contains(&ending.as_str())) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A Parquet file's columns, in the types that SQL has.
fn parquet_columns(path: &Path) -> Result<SchemaRef> {
    let shown = path.display();
    let file =
        File::open(path).map_err(|error| Error::new(ErrorKind::External, format!("{shown} can't be read: {error}")))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| Error::invalid(format!("{shown} is no Parquet file: {error}")))?;
    let fields = reader.schema().fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn column(field: &FieldRef) -> Result<FieldRef> {
    let data_type = match field.data_type() {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Dictionary(_, values) => {
            let inner = column(&Arc::new(Field::new(field.name(), values.as_ref().clone(), true)))?;
            inner.data_type().clone()
        }
        DataType::List(item) | DataType::LargeList(item) => DataType::List(column(item)?),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(column).collect::<Result<Fields>>()?),
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Map(..)
        | DataType::Decimal128(..) => field.data_type().clone(),
        other => {
            return Err(Error::not_supported(format!("the column {} of type {other} can't be read", field.name()))
                .with_hint("declare the columns without it"));
        }
    };
    Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
}
