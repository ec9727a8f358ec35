//! What `CREATE SINK … WITH (connector = 'file')` says, checked.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::settings::FileSinkOptions;
use super::sink::FileSink;
use crate::connector::Sink;
use crate::connector::definition::{Definition, Delivery, SinkDefinition, SinkInput};
use crate::error::{Error, Result};

/// A sink into a folder.
struct FolderSink {
    name: String,
    options: FileSinkOptions,
}

/// Checks a sink's options.
pub(in crate::connector) fn define_sink(definition: &Definition<'_>) -> Result<Arc<dyn SinkDefinition>> {
    let options = FileSinkOptions::parse(definition.options)?;
    if let Some(column) = definition.columns.and_then(|columns| columns.fields().first()) {
        return Err(Error::invalid(format!(
            "the columns of files are those of the query, and '{}' is declared beside them",
            column.name()
        ))
        .with_hint("leave the columns out"));
    }
    Ok(Arc::new(FolderSink { name: definition.name.to_owned(), options }))
}

impl SinkDefinition for FolderSink {
    fn columns(&self) -> Option<SchemaRef> {
        None
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        None
    }

    fn delivery(&self) -> Delivery {
        self.options.delivery
    }

    fn open(&self, input: &SinkInput) -> Result<Box<dyn Sink>> {
        let options = FileSinkOptions { exactly_once: input.exactly_once, ..self.options.clone() };
        Ok(Box::new(FileSink::new(&self.name, options, &input.schema, input.changelog)?))
    }
}
