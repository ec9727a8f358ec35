//! What `CREATE STREAM` and `CREATE SINK` say of Kafka, checked: options, format and columns together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};

use super::settings::{Changelog, KafkaSinkOptions, KafkaSourceOptions, KeyFormat};
use super::sink::{EncoderFactory, KafkaSink};
use super::source::KafkaSource;
use crate::connector::definition::{
    Definition, Delivery, Evolving, SinkDefinition, SinkInput, StreamDefinition, Upserts,
};
use crate::connector::{ScanRequest, Sink, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::format::decoder::RowDecoder;
use crate::format::table::{DELETED, KeyReader, TableDecoder, deleted_field};
use crate::format::value::{FORMAT, FormatRequest, READING, REGISTRY, Role, ValueFormat, WRITING};
use crate::schema::Leaves;
use crate::schema::evolution::SchemaChange;
use crate::schema::kept::Kept;

/// A stream over Kafka topics.
#[derive(Clone)]
struct KafkaStream {
    name: String,
    options: KafkaSourceOptions,
    format: Arc<ValueFormat>,
    /// Of a record's value, then what a table adds, then metadata.
    schema: SchemaRef,
    /// How many columns the decoder has.
    value_columns: usize,
    table: Option<KafkaTable>,
    statement: Arc<Statement>,
}

/// What the statement said, to read it again with another version of the schema.
struct Statement {
    options: BTreeMap<String, String>,
    columns: Option<SchemaRef>,
    schemas: Option<PathBuf>,
}

/// What makes a topic a table.
#[derive(Clone)]
struct KafkaTable {
    key: Fields,
    /// How the record's key is read, if it is.
    key_format: Option<KeyFormat>,
    upserts: Upserts,
}

/// Checks a stream's options.
pub(in crate::connector) fn define_stream(definition: &Definition<'_>) -> Result<Arc<dyn StreamDefinition>> {
    let mut options = KafkaSourceOptions::parse(definition.options, &[&FORMAT, &REGISTRY, &READING])?;
    let format = ValueFormat::of(request(definition, Role::Stream))?;
    let mut fields: Vec<FieldRef> = format.schema()?.fields().to_vec();
    let table = match options.table.clone() {
        None => None,
        Some(table) => {
            let key = table_columns(&table.key, &mut fields)?;
            let shown = options.metadata_fields();
            let visible = fields.iter().map(|field| field.name()).chain(shown.iter().map(|field| field.name()));
            let visible = visible.cloned().collect();
            let order = options.read_offsets();
            fields.push(deleted_field());
            let upserts = Upserts { key: table.key, visible, order, deleted: DELETED.to_owned() };
            Some(KafkaTable { key, key_format: table.key_format, upserts })
        }
    };
    let value_columns = fields.len();
    fields.extend(options.metadata_fields().into_iter().map(FieldRef::new));
    let stream = KafkaStream {
        name: definition.name.to_owned(),
        options,
        format: format.shared(),
        schema: Arc::new(Schema::new(fields)),
        value_columns,
        table,
        statement: Arc::new(Statement {
            options: definition.options.clone(),
            columns: definition.columns.cloned(),
            schemas: definition.schemas.map(PathBuf::from),
        }),
    };
    // Made once for the check alone: what can't be read is an error here.
    stream.decoder(&(0..value_columns).collect::<Vec<_>>(), &[])?;
    Ok(Arc::new(stream))
}

fn request<'a>(definition: &Definition<'a>, role: Role) -> FormatRequest<'a> {
    FormatRequest {
        options: definition.options,
        role,
        kept: definition.descriptor,
        columns: definition.columns,
        schemas: definition.schemas,
    }
}

/// The key's columns. All others may be NULL, since a row that is gone has none.
fn table_columns(key: &[String], fields: &mut [FieldRef]) -> Result<Fields> {
    let found = key.iter().map(|name| {
        let field = fields.iter().find(|field| field.name() == name);
        field.map(|field| Arc::new(field.as_ref().clone().with_nullable(false))).ok_or_else(|| {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            Error::new(ErrorKind::UndefinedColumn, format!("the key names the column \"{name}\", which is not there"))
                .with_hint(format!("the columns are {}", names.join(", ")))
        })
    });
    let found: Fields = found.collect::<Result<Vec<FieldRef>>>()?.into();
    for field in &found {
        if field.data_type().is_nested() || field.data_type().is_floating() {
            return Err(Error::not_supported(format!(
                "the column {} can't be a key: {}",
                field.name(),
                field.data_type()
            )));
        }
    }
    for field in fields.iter_mut() {
        *field = Arc::new(field.as_ref().clone().with_nullable(!key.contains(field.name())));
    }
    Ok(found)
}

impl KafkaStream {
    /// A decoder of these of the value's columns. A table's key is always read, since it says which row a record is of.
    fn decoder(&self, columns: &[usize], leaves: &[Leaves]) -> Result<Box<dyn RowDecoder>> {
        let Some(table) = &self.table else { return self.format.decoder_of_leaves(columns, leaves) };
        let shows_deleted = columns.last() == Some(&(self.value_columns - 1));
        let values = if shows_deleted { &columns[..columns.len() - 1] } else { columns };
        let wanted: Vec<&FieldRef> = values.iter().map(|column| &self.schema.fields()[*column]).collect();
        let keys: Vec<FieldRef> =
            table.key.iter().filter(|key| wanted.iter().any(|field| field.name() == key.name())).cloned().collect();
        let key = match &table.key_format {
            None => KeyReader::InValue,
            Some(KeyFormat::Text) => KeyReader::Text,
            Some(KeyFormat::Json) => KeyReader::Json,
            Some(KeyFormat::Protobuf(message)) => {
                let format = self.format.with_message(message)?;
                KeyReader::Message(format.decoder(&key_places(&format.schema()?, &keys)?)?, Vec::new())
            }
        };
        let debezium = table.key_format.is_none().then_some(&table.upserts.key[..]);
        let decoder = self.format.table_decoder(values, debezium)?;
        let schema = Schema::new(wanted.into_iter().cloned().collect::<Vec<_>>());
        Ok(Box::new(TableDecoder::new(decoder, schema, key, &table.key, &keys, shows_deleted)?))
    }
}

/// Where the key's message has the key's columns, with the types that the value has them in.
fn key_places(message: &SchemaRef, keys: &[FieldRef]) -> Result<Vec<usize>> {
    keys.iter()
        .map(|key| match message.column_with_name(key.name()) {
            Some((place, field)) if field.data_type() == key.data_type() => Ok(place),
            Some((_, field)) => Err(Error::new(
                ErrorKind::DatatypeMismatch,
                format!(
                    "the key column {} is {} in the value and {} in the key",
                    key.name(),
                    key.data_type(),
                    field.data_type()
                ),
            )),
            None => {
                Err(Error::new(ErrorKind::UndefinedColumn, format!("the key's message has no field {}", key.name()))
                    .with_hint("the key's columns go by the same names in both messages"))
            }
        })
        .collect()
}

impl StreamDefinition for KafkaStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        self.format.descriptor()
    }

    fn upserts(&self) -> Option<Upserts> {
        self.table.as_ref().map(|table| table.upserts.clone())
    }

    fn evolving(&self) -> Option<&dyn Evolving> {
        self.format.kept().map(|_| self as &dyn Evolving)
    }

    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>> {
        let columns = KafkaSource::value_projection(&scan.projection, self.value_columns);
        let stream = self.clone();
        // Those of the value come first.
        let leaves: Vec<Leaves> = scan.leaves.iter().take(columns.len()).cloned().collect();
        let decoders = Arc::new(move || stream.decoder(&columns, &leaves));
        Ok(Box::new(KafkaSource::new(&self.name, self.options.clone(), scan, self.value_columns, decoders)))
    }
}

impl KafkaStream {
    /// The same statement, with what the catalog would keep.
    fn again(&self, kept: &[u8]) -> Result<Arc<dyn StreamDefinition>> {
        define_stream(&Definition {
            name: &self.name,
            options: &self.statement.options,
            descriptor: Some(kept),
            columns: self.statement.columns.as_ref(),
            schemas: self.statement.schemas.as_deref(),
        })
    }

    fn kept_at(&self, version: u64) -> Result<Vec<u8>> {
        let kept = self.format.kept().and_then(|kept| kept.at(version)).map(|kept| kept.to_bytes());
        kept.ok_or_else(|| Error::internal(format!("version {version} of the schema of {} is not kept", self.name)))
    }

    fn format_at(&self, version: u64) -> Result<ValueFormat> {
        let kept = self.kept_at(version)?;
        ValueFormat::of(FormatRequest {
            options: &self.statement.options,
            role: Role::Stream,
            kept: Some(&kept),
            columns: self.statement.columns.as_ref(),
            schemas: self.statement.schemas.as_deref(),
        })
    }
}

impl Evolving for KafkaStream {
    fn kept(&self) -> Option<&Kept> {
        self.format.kept()
    }

    fn newest(&self, used: &BTreeSet<u64>) -> Result<Option<Arc<dyn StreamDefinition>>> {
        let kept = self.format.newest(used)?;
        kept.map(|kept| self.again(&kept)).transpose()
    }

    fn at(&self, version: u64) -> Result<Arc<dyn StreamDefinition>> {
        self.again(&self.kept_at(version)?)
    }

    fn changes(&self, read: u64, written: u64) -> Result<Vec<SchemaChange>> {
        self.format_at(read)?.changes_to(&self.format_at(written)?)
    }

    fn refresh_interval(&self) -> Option<Duration> {
        self.format.refresh_interval()
    }
}

/// A sink into a Kafka topic.
struct KafkaTopicSink {
    name: String,
    options: KafkaSinkOptions,
    value: Arc<ValueFormat>,
    columns: Option<SchemaRef>,
    key: Option<Arc<ValueFormat>>,
}

/// Checks a sink's options.
pub(in crate::connector) fn define_sink(definition: &Definition<'_>) -> Result<Arc<dyn SinkDefinition>> {
    let options = KafkaSinkOptions::parse(definition.options, &[&FORMAT, &REGISTRY, &WRITING])?;
    let value = ValueFormat::of(request(definition, Role::Sink))?;
    if options.changelog == Changelog::Debezium && !value.is_plain_json() {
        return Err(Error::not_supported("Debezium's changes are written as JSON, without the frame of a registry")
            .with_hint("write format = 'json', or changelog = 'upsert'"));
    }
    let key = match &options.key_format {
        KeyFormat::Protobuf(message) => Some(value.with_message(message)?.shared()),
        KeyFormat::Text | KeyFormat::Json => None,
    };
    let columns = value.sink_schema()?;
    Ok(Arc::new(KafkaTopicSink { name: definition.name.to_owned(), options, value: value.shared(), columns, key }))
}

impl SinkDefinition for KafkaTopicSink {
    fn columns(&self) -> Option<SchemaRef> {
        self.columns.clone()
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        self.value.descriptor()
    }

    fn upserts(&self) -> bool {
        self.options.changelog != Changelog::Append
    }

    fn delivery(&self) -> Delivery {
        self.options.delivery
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
        let mut options = self.options.clone();
        if !input.exactly_once {
            options.transactions = None;
        }
        let sink = KafkaSink::new(&self.name, options, &input.schema, input.changelog, values, keys)?;
        Ok(Box::new(sink))
    }
}

/// Makes encoders; the first is made at once, so that a column that does not fit is an error at creation.
fn encoders(format: Arc<ValueFormat>, schema: SchemaRef) -> Result<EncoderFactory> {
    format.encoder(&schema)?;
    Ok(Arc::new(move || format.encoder(&schema)))
}
