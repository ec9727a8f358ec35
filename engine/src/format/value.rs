//! The format of a record's value, from the options of `WITH (…)`: `format`, and what belongs to it.
//!
//! The one list of formats. A stream's columns come from its format; a sink's rows are checked against it at creation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use prost_reflect::MessageDescriptor;

use super::avro;
use super::avro::decoder::{AvroDecoder, Writers};
use super::avro::encoder::AvroEncoder;
use super::cells::check_type;
use super::confluent::reading::{FramedDecoder, Wanted as WantedMessage};
use super::confluent::{Framing, Part};
use super::decoder::RowDecoder;
use super::encoder::RowEncoder;
use super::json::decoder::{Envelope, JsonDecoder};
use super::json::encoder::JsonEncoder;
use super::json::read::TimeNumbers;
use super::json::schema as json_schema;
use super::lines::{LineDecoder, LineEncoder, LineForm};
use super::options::check_format;
pub use super::options::{FORMAT, READING, REGISTRY, WRITING};
use super::protobuf::{ProtobufDecoder, ProtobufEncoder};
pub use super::schemas::Role;
use super::schemas::Schemas;
use crate::connector::options::Options;
use crate::error::{Error, Result};
use crate::schema::evolution::{SchemaChange, changes};
use crate::schema::kept::{Content, Kept, SchemaKind, SchemaVersion};
use crate::schema::origin::{Origin, Wanted};
use crate::schema::registry::ids::SchemaIds;
use crate::schema::{Descriptors, Leaves, TypeRules, schema_by};

/// What a format is made of.
#[derive(Debug, Clone, Copy)]
pub struct FormatRequest<'a> {
    /// The options of `WITH (…)`.
    pub options: &'a BTreeMap<String, String>,
    /// Whether rows are read or written.
    pub role: Role,
    /// What the catalog kept of an object that is not new: then nobody is asked.
    pub kept: Option<&'a [u8]>,
    /// The columns that the statement declares.
    pub columns: Option<&'a SchemaRef>,
    /// Where the server keeps what registries say.
    pub schemas: Option<&'a Path>,
}

/// The format of a record's value.
#[derive(Debug, Clone)]
pub struct ValueFormat {
    form: Form,
    /// Where its schema comes from, and what is kept of that.
    source: Option<Arc<SchemaSource>>,
    /// Records carry ids.
    framing: Option<Arc<Framing>>,
}

#[derive(Debug)]
struct SchemaSource {
    origin: Origin,
    message: Option<String>,
    kept: Kept,
}

#[derive(Debug, Clone)]
enum Form {
    Protobuf(Box<ProtobufForm>),
    Json {
        columns: Option<SchemaRef>,
        times: TimeNumbers,
    },
    /// By this schema; a sink's without one has the query's columns.
    Avro {
        schema: Option<String>,
        columns: Option<SchemaRef>,
    },
    Line {
        form: LineForm,
        columns: Option<SchemaRef>,
        times: TimeNumbers,
    },
}

#[derive(Debug, Clone)]
struct ProtobufForm {
    descriptors: Descriptors,
    message: MessageDescriptor,
    rules: TypeRules,
    ignore_unknown: bool,
    /// The message is a record's key, or its value.
    part: Part,
}

impl ValueFormat {
    /// A stream's format, from options alone.
    pub fn new(values: &BTreeMap<String, String>, stored: Option<&[u8]>, columns: Option<&SchemaRef>) -> Result<Self> {
        Self::of(FormatRequest { options: values, role: Role::Stream, kept: stored, columns, schemas: None })
    }

    /// Reads the options, and asks for the schema if none is kept.
    pub fn of(request: FormatRequest<'_>) -> Result<Self> {
        let FormatRequest { options: values, columns, .. } = request;
        let options = Options::new(&FORMAT, values);
        let format = options.choice("format")?.unwrap_or("protobuf");
        check_format(values, format)?;
        let message = options.text("message")?.map(str::to_owned);
        let mut schemas = Schemas::parse(values, request.role, request.schemas, message.as_deref())?;
        let times = match options.choice("time_numbers")? {
            Some("seconds") => TimeNumbers::Seconds,
            Some("micros") => TimeNumbers::Micros,
            _ => TimeNumbers::Millis,
        };
        let declared = columns.filter(|columns| !columns.fields().is_empty());
        let form = match format {
            "protobuf" => None,
            "csv" => Some(Form::Line { form: LineForm::Csv(delimiter(&options)?), columns: columns.cloned(), times }),
            "text" => Some(Form::Line { form: LineForm::Text, columns: columns.cloned(), times }),
            "raw" => Some(Form::Line { form: LineForm::Raw, columns: columns.cloned(), times }),
            "avro" => {
                let given = values.contains_key("descriptor") || values.get("register").is_some_and(|r| r == "false");
                (request.role == Role::Sink && !given).then(|| Form::Avro { schema: None, columns: columns.cloned() })
            }
            _ => {
                // Columns that are declared, and those of a sink's query, need no schema.
                if values.contains_key("descriptor") && (declared.is_some() || request.role == Role::Sink) {
                    return Err(Error::invalid("the columns are known without the descriptor")
                        .with_hint("leave the descriptor out, or the columns"));
                }
                let known = declared.is_some() || request.role == Role::Sink || schemas.origin.is_none();
                if known {
                    schemas.origin = None;
                }
                known.then(|| Form::Json { columns: columns.cloned(), times })
            }
        };
        if let Some(form) = form {
            return Ok(Self { form, source: None, framing: schemas.framing });
        }
        let (kind, what) = match format {
            "protobuf" => (SchemaKind::Protobuf, "protobuf message"),
            "avro" => (SchemaKind::Avro, "Avro schema"),
            _ => (SchemaKind::Json, "JSON Schema"),
        };
        if let Some(column) = declared.and_then(|columns| columns.fields().first()) {
            return Err(Error::invalid(format!(
                "the columns come from the {what}, and '{}' is declared beside it",
                column.name()
            ))
            .with_hint("leave the columns out: (WATERMARK FOR t AS t - INTERVAL '10' SECOND)"));
        }
        let Some(origin) = schemas.origin else {
            return Err(Error::invalid(format!("the {format} format needs the option \"descriptor\""))
                .with_hint("or a registry that has the schema: registry = 'confluent' or 'stencil'"));
        };
        let wanted = Wanted { kind, message: message.as_deref() };
        let kept = match request.kept {
            Some(bytes) => Kept::from_bytes(bytes, &origin.shown())?,
            None => {
                let version = origin.newest(wanted, None)?;
                Kept::new(version.ok_or_else(|| Error::internal("a place has no first version of a schema"))?)
            }
        };
        let form = match kind {
            SchemaKind::Protobuf => Form::Protobuf(Box::new(ProtobufForm::new(values, message.as_deref(), &kept)?)),
            SchemaKind::Avro => {
                let SchemaVersion { content, origin, .. } = kept.current();
                let text = content.text(SchemaKind::Avro, origin)?;
                let columns = Some(avro::columns::columns(text, origin)?);
                Form::Avro { schema: Some(text.to_owned()), columns }
            }
            SchemaKind::Json => {
                let SchemaVersion { content, origin, .. } = kept.current();
                let columns = json_schema::columns(content.text(SchemaKind::Json, origin)?, origin)?;
                Form::Json { columns: Some(columns), times }
            }
        };
        let source = Some(Arc::new(SchemaSource { origin, message, kept }));
        Ok(Self { form, source, framing: schemas.framing })
    }

    /// The columns of a stream of such records.
    pub fn schema(&self) -> Result<SchemaRef> {
        let (name, columns) = match &self.form {
            Form::Protobuf(form) => return schema_by(&form.message, &form.rules),
            Form::Avro { columns: Some(columns), .. } => return Ok(SchemaRef::clone(columns)),
            Form::Avro { columns, .. } => ("Avro", columns),
            Form::Json { columns, .. } => ("JSON", columns),
            Form::Line { form: LineForm::Csv(_), columns, .. } => ("CSV", columns),
            Form::Line { form, columns, .. } => return line_schema(*form, columns.as_ref()),
        };
        let Some(columns) = columns.as_ref().filter(|columns| !columns.fields().is_empty()) else {
            return Err(Error::invalid(format!("a stream of {name} needs its columns"))
                .with_hint("declare them: CREATE STREAM s (id BIGINT, name TEXT) WITH (…)"));
        };
        for field in columns.fields() {
            check_type(field, name)?;
            if name == "CSV" && field.data_type().is_nested() {
                return Err(Error::not_supported(format!("the column {} can't be a field of CSV", field.name()))
                    .with_hint("declare it TEXT"));
            }
        }
        Ok(SchemaRef::clone(columns))
    }

    /// The columns of a sink, where the format says them.
    pub fn sink_schema(&self) -> Result<Option<SchemaRef>> {
        match &self.form {
            Form::Protobuf(form) => schema_by(&form.message, &form.rules).map(Some),
            Form::Avro { columns, .. } | Form::Json { columns, .. } | Form::Line { columns, .. } => Ok(columns.clone()),
        }
    }

    /// Whether records are JSON and nothing else.
    pub fn is_plain_json(&self) -> bool {
        matches!(self.form, Form::Json { .. }) && self.framing.is_none()
    }

    /// What the catalog keeps.
    pub fn descriptor(&self) -> Option<Vec<u8>> {
        self.source.as_ref().map(|source| source.kept.to_bytes())
    }

    /// The versions of its schema that are kept, if it has one from elsewhere.
    pub fn kept(&self) -> Option<&Kept> {
        self.source.as_ref().map(|source| &source.kept)
    }

    /// How often a newer version is to be looked for.
    pub fn refresh_interval(&self) -> Option<Duration> {
        self.source.as_ref().and_then(|source| source.origin.every)
    }

    /// Asks for a newer version of the schema; answers what the catalog is to keep then, with the versions in `used`.
    /// `None`: there is none. Waits for the answer.
    pub fn newest(&self, used: &BTreeSet<u64>) -> Result<Option<Vec<u8>>> {
        let Some(source) = &self.source else { return Ok(None) };
        let kind = source.kept.current().content.kind();
        let wanted = Wanted { kind, message: source.message.as_deref() };
        let newest = source.origin.newest(wanted, Some(source.kept.current()))?;
        Ok(newest.map(|version| source.kept.followed_by(version, used).to_bytes()))
    }

    /// What one meets who reads by this format what is written by a newer one.
    pub fn changes_to(&self, newer: &Self) -> Result<Vec<SchemaChange>> {
        if let (Form::Protobuf(old), Form::Protobuf(new)) = (&self.form, &newer.form) {
            let mut found = changes(&old.message, &new.message, &old.rules);
            // Framed records say by which version they are written: each is looked at when it comes.
            found.iter_mut().for_each(|change| change.breaks &= self.framing.is_none());
            return Ok(found);
        }
        // Of JSON each record is looked at, and so is the schema of each framed record of Avro. Plain ones can't be read by
        // another schema than they are written by.
        let breaks = matches!(self.form, Form::Avro { .. }) && self.framing.is_none();
        let (old, new) = (self.schema()?, newer.schema()?);
        let mut found = Vec::new();
        for field in old.fields().iter().filter(|_| breaks) {
            let what = format!("the plain Avro record that {} is in has another schema", field.name());
            found.push(SchemaChange { column: field.name().clone(), what, breaks });
        }
        let mut note = |column: &str, what: String| {
            found.push(SchemaChange { column: column.to_owned(), what, breaks: false });
        };
        for field in old.fields() {
            match new.field_with_name(field.name()) {
                Err(_) => note(field.name(), format!("{} is gone", field.name())),
                Ok(now) if now.data_type() != field.data_type() => {
                    note(
                        field.name(),
                        format!("{} is {}, and was {}", field.name(), now.data_type(), field.data_type()),
                    );
                }
                Ok(_) => {}
            }
        }
        for field in new.fields().iter().filter(|field| old.field_with_name(field.name()).is_err()) {
            note(field.name(), format!("{} is new", field.name()));
        }
        Ok(found)
    }

    /// A decoder of these columns (indices into [`Self::schema`]).
    pub fn decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        self.decoder_of_leaves(projection, &[])
    }

    /// The same of what is read of them ([`ScanRequest::leaves`](crate::connector::ScanRequest)). Only protobuf makes use of
    /// it: others read a record whole.
    pub fn decoder_of_leaves(&self, projection: &[usize], leaves: &[Leaves]) -> Result<Box<dyn RowDecoder>> {
        match &self.form {
            Form::Protobuf(form) => self.message_decoder(form, &self.schema()?, projection, leaves),
            _ => self.decoder_of(self.schema()?, projection, false),
        }
    }

    /// The same for the changes of a table, any of whose columns may be absent. As Debezium writes them, `debezium` is the
    /// key, whose columns are there also in a row that is gone.
    pub fn table_decoder(&self, projection: &[usize], debezium: Option<&[String]>) -> Result<Box<dyn RowDecoder>> {
        let schema = self.schema()?;
        let is_key = |field: &Field| debezium.is_some_and(|key| key.contains(field.name()));
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(!is_key(field)));
        let debezium = debezium.is_some();
        self.decoder_of(Arc::new(Schema::new(fields.collect::<Vec<_>>())), projection, debezium)
    }

    fn decoder_of(&self, schema: SchemaRef, projection: &[usize], debezium: bool) -> Result<Box<dyn RowDecoder>> {
        Ok(match &self.form {
            Form::Protobuf(_) | Form::Avro { .. } | Form::Line { .. } if debezium => {
                return Err(
                    Error::not_supported("Debezium's changes are read from JSON").with_hint("write format = 'json'")
                );
            }
            Form::Protobuf(form) => self.message_decoder(form, &schema, projection, &[])?,
            Form::Json { times, .. } => {
                let envelope = if debezium { Envelope::Debezium } else { Envelope::None };
                let plain = Box::new(JsonDecoder::new(SchemaRef::new(schema.project(projection)?), *times, envelope));
                match &self.framing {
                    Some(_) => Box::new(FramedDecoder::plain(plain)),
                    None => plain,
                }
            }
            Form::Avro { schema: reader, .. } => {
                let writers = match &self.framing {
                    Some(framing) => Writers::Registered(self.known_ids(framing)),
                    None => Writers::Own,
                };
                let reader = reader.as_deref().unwrap_or_default();
                Box::new(AvroDecoder::new(Arc::new(schema.project(projection)?), reader, projection, writers)?)
            }
            Form::Line { form, times, .. } => Box::new(LineDecoder::new(*form, schema, projection, *times)?),
        })
    }

    /// The ids of a registry: the version that is kept is known without asking.
    fn known_ids(&self, framing: &Framing) -> Arc<SchemaIds> {
        if let Some(SchemaVersion { id: Some(id), content, .. }) = self.kept().map(Kept::current) {
            framing.ids.put(*id, Arc::new(content.clone()));
        }
        Arc::clone(&framing.ids)
    }

    fn message_decoder(
        &self,
        form: &ProtobufForm,
        schema: &SchemaRef,
        projection: &[usize],
        leaves: &[Leaves],
    ) -> Result<Box<dyn RowDecoder>> {
        let plain = Box::new(ProtobufDecoder::of_leaves(&form.message, projection, leaves, &form.rules)?);
        let Some(framing) = &self.framing else { return Ok(plain) };
        let columns = projection.iter().map(|column| schema.field(*column).name().clone()).collect();
        let wanted = WantedMessage { message: form.message.clone(), rules: form.rules, columns };
        Ok(Box::new(FramedDecoder::messages(plain, self.known_ids(framing), wanted)))
    }

    /// An encoder of rows with these columns; the error says which column does not fit.
    pub fn encoder(&self, schema: &Schema) -> Result<Box<dyn RowEncoder>> {
        Ok(match &self.form {
            Form::Protobuf(form) => {
                let plain = Box::new(match form.ignore_unknown {
                    true => ProtobufEncoder::ignoring_unknown(&form.message, schema)?,
                    false => ProtobufEncoder::new(&form.message, schema)?,
                });
                match &self.framing {
                    Some(framing) => {
                        let known = self.kept().and_then(|kept| kept.current().id).filter(|_| form.part == Part::Value);
                        Box::new(framing.messages(plain, &form.message, form.part, known)?)
                    }
                    None => plain,
                }
            }
            Form::Json { .. } => {
                let plain = Box::new(JsonEncoder::new(schema)?);
                match &self.framing {
                    Some(framing) => {
                        let text = json_schema::of_columns(schema, "Row");
                        Box::new(framing.records(plain, (&text, "JSON"), None, None)?)
                    }
                    None => plain,
                }
            }
            Form::Avro { schema: given, .. } => {
                let (plain, text) = AvroEncoder::new(schema, given.as_deref())?;
                let plain = Box::new(plain);
                match &self.framing {
                    Some(framing) => {
                        let known = self.kept().and_then(|kept| kept.current().id);
                        let record = avro::columns::record_name(&text);
                        Box::new(framing.records(plain, (&text, "AVRO"), record.as_deref(), known)?)
                    }
                    None => plain,
                }
            }
            Form::Line { form, .. } => Box::new(LineEncoder::new(*form, schema)?),
        })
    }

    /// Another message of the same descriptor, as the format of a record's key.
    pub fn with_message(&self, name: &str) -> Result<Self> {
        let Form::Protobuf(form) = &self.form else {
            return Err(Error::invalid("a protobuf key goes with format = 'protobuf', which has the descriptor")
                .with_hint("write the key with key_format = 'json' or 'text'"));
        };
        // A key's columns are named by the user: each has to have its place.
        let message = form.descriptors.message(name)?;
        let form = ProtobufForm { message, ignore_unknown: false, part: Part::Key, ..(**form).clone() };
        Ok(Self { form: Form::Protobuf(Box::new(form)), ..self.clone() })
    }

    /// The format, for use by several readers.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

impl ProtobufForm {
    fn new(values: &BTreeMap<String, String>, message: Option<&str>, kept: &Kept) -> Result<Self> {
        let SchemaVersion { content, origin, .. } = kept.current();
        let descriptors = content.descriptors(origin)?;
        let message = match (message, content) {
            (Some(name), _) => descriptors.message(name)?,
            (None, Content::Protobuf { file: Some(file), .. }) => descriptors
                .message_at(file, &[0])
                .ok_or_else(|| Error::invalid(format!("{origin} defines no messages")))?,
            (None, _) => return Err(Error::invalid("the protobuf format needs the option \"message\"")),
        };
        let reading = Options::new(&READING, values);
        let rules = TypeRules {
            enum_numbers: reading.choice("enums")? == Some("number"),
            unset_is_null: reading.choice("unset")? == Some("null"),
            oneof_case: reading.choice("oneofs")? == Some("case"),
            recursion_depth: reading.integer("recursion_depth")?.map_or(0, |depth| depth as usize),
        };
        let ignore_unknown = Options::new(&WRITING, values).choice("ignore_unknown")? == Some("true");
        Ok(Self { descriptors, message, rules, ignore_unknown, part: Part::Value })
    }
}

/// The one column of a stream of texts or bytes; called `value` if it is not declared.
fn line_schema(form: LineForm, declared: Option<&SchemaRef>) -> Result<SchemaRef> {
    let data_type = if form == LineForm::Raw { DataType::Binary } else { DataType::Utf8 };
    let words = if form == LineForm::Raw { "BYTEA" } else { "TEXT" };
    match declared.map(|columns| &columns.fields()[..]) {
        None | Some([]) => Ok(Arc::new(Schema::new(vec![Field::new("value", data_type, false)]))),
        Some([one]) if *one.data_type() == data_type => {
            Ok(Arc::new(Schema::new(vec![Field::new(one.name(), data_type, one.is_nullable())])))
        }
        Some(_) => Err(Error::invalid(format!("a record of this format is one column of type {words}"))
            .with_hint(format!("declare one column, or none: then it is called value and is {words}"))),
    }
}

fn delimiter(options: &Options<'_>) -> Result<u8> {
    match options.text("csv_delimiter")? {
        None => Ok(b','),
        Some("tab") => Ok(b'\t'),
        Some(text) => match text.as_bytes() {
            [one] if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r') => Ok(*one),
            _ => Err(options.wrong("csv_delimiter", text)),
        },
    }
}
