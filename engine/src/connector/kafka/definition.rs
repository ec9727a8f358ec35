//! What `CREATE STREAM` and `CREATE SINK` say of Kafka, checked: options, format and columns together.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use super::settings::{Changelog, KafkaSinkOptions, KafkaSourceOptions, KeyFormat};
use super::sink::{EncoderFactory, KafkaSink};
use super::source::KafkaSource;
use crate::connector::definition::{Definition, SinkDefinition, SinkInput, StreamDefinition};
use crate::connector::{ScanRequest, Sink, Source};
use crate::error::Result;
use crate::format::value::{FORMAT, ValueFormat};

/// A stream over Kafka topics.
struct KafkaStream {
    name: String,
    options: KafkaSourceOptions,
    format: Arc<ValueFormat>,
    schema: SchemaRef,
    value_columns: usize,
}

/// Checks a stream's options.
pub(in crate::connector) fn define_stream(definition: &Definition<'_>) -> Result<Arc<dyn StreamDefinition>> {
    let options = KafkaSourceOptions::parse(definition.options, &[&FORMAT])?;
    let format = ValueFormat::new(definition.options, definition.descriptor)?;
    let value = format.schema()?;
    let value_columns = value.fields().len();
    let metadata = options.metadata_fields().into_iter().map(FieldRef::new);
    let fields: Vec<FieldRef> = value.fields().iter().cloned().chain(metadata).collect();
    Ok(Arc::new(KafkaStream {
        name: definition.name.to_owned(),
        options,
        format: format.shared(),
        schema: Arc::new(Schema::new(fields)),
        value_columns,
    }))
}

impl StreamDefinition for KafkaStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        Some(self.format.descriptor())
    }

    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>> {
        let format = Arc::clone(&self.format);
        let columns = KafkaSource::value_projection(&scan.projection, self.value_columns);
        let decoders = Arc::new(move || format.decoder(&columns));
        Ok(Box::new(KafkaSource::new(&self.name, self.options.clone(), scan, self.value_columns, decoders)))
    }
}

/// A sink into a Kafka topic.
struct KafkaTopicSink {
    name: String,
    options: KafkaSinkOptions,
    value: Arc<ValueFormat>,
    columns: SchemaRef,
    key: Option<Arc<ValueFormat>>,
}

/// Checks a sink's options.
pub(in crate::connector) fn define_sink(definition: &Definition<'_>) -> Result<Arc<dyn SinkDefinition>> {
    let options = KafkaSinkOptions::parse(definition.options, &[&FORMAT])?;
    let value = ValueFormat::new(definition.options, definition.descriptor)?;
    let key = match &options.key_format {
        KeyFormat::Protobuf(message) => Some(value.with_message(message)?.shared()),
        KeyFormat::Text | KeyFormat::Json => None,
    };
    let columns = value.schema()?;
    Ok(Arc::new(KafkaTopicSink { name: definition.name.to_owned(), options, value: value.shared(), columns, key }))
}

impl SinkDefinition for KafkaTopicSink {
    fn columns(&self) -> Option<SchemaRef> {
        Some(Arc::clone(&self.columns))
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        Some(self.value.descriptor())
    }

    fn upserts(&self) -> bool {
        self.options.changelog == Changelog::Upsert
    }

    fn open(&self, input: &SinkInput) -> Result<Box<dyn Sink>> {
        let values = encoders(Arc::clone(&self.value), Arc::clone(&input.schema))?;
        let keys = match &self.key {
            Some(format) => {
                let schema = KafkaSink::key_schema(&self.name, &self.options, &input.schema)?;
                Some(encoders(Arc::clone(format), schema)?)
            }
            None => None,
        };
        let sink = KafkaSink::new(&self.name, self.options.clone(), &input.schema, input.changelog, values, keys)?;
        Ok(Box::new(sink))
    }
}

/// Makes encoders; the first is made at once, so that a column that does not fit is an error at creation.
fn encoders(format: Arc<ValueFormat>, schema: SchemaRef) -> Result<EncoderFactory> {
    format.encoder(&schema)?;
    Ok(Arc::new(move || format.encoder(&schema)))
}
