//! The format of a record's value, from the options of `WITH (…)`: `format`, and what belongs to it.
//!
//! The one list of formats. A stream's columns come from its format; a sink's rows are checked against it at creation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::cells::check_type;
use super::decoder::RowDecoder;
use super::encoder::RowEncoder;
use super::json::decoder::{Envelope, JsonDecoder};
use super::json::encoder::JsonEncoder;
use super::json::read::TimeNumbers;
use super::lines::{LineDecoder, LineEncoder, LineForm};
use super::protobuf::{ProtobufDecoder, ProtobufEncoder};
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options};
use crate::error::{Error, Result};
use crate::schema::{Descriptors, TypeRules, schema_by};

/// The options that say how records are read and written.
pub const FORMAT: OptionTable = OptionTable {
    title: "format",
    options: &[
        OptionSpec {
            name: "format",
            kind: OptionKind::Choice(&["protobuf", "json", "csv", "text", "raw"]),
            default: Some("protobuf"),
            required: false,
            doc: "How a record's value is written: a protobuf message, a JSON object, a line of CSV, a text or bytes. A stream of any but protobuf declares its columns.",
        },
        OptionSpec {
            name: "message",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "The full name of the protobuf message, as 'acme.Booking'. Protobuf needs it.",
        },
        OptionSpec {
            name: "descriptor",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "Protobuf needs it: where the message is defined: 'file:PATH' of a FileDescriptorSet or of .proto files (several separated by commas), read when the object is created and kept in the catalog.",
        },
        OptionSpec {
            name: "includes",
            kind: OptionKind::List,
            default: None,
            required: false,
            doc: "Folders in which imports of .proto files are looked up, before the folders of the files themselves.",
        },
        OptionSpec {
            name: "csv_delimiter",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "What stands between the fields of a line of CSV: one ASCII character, a comma if not said, or 'tab'.",
        },
        OptionSpec {
            name: "time_numbers",
            kind: OptionKind::Choice(&["seconds", "millis", "micros"]),
            default: None,
            required: false,
            doc: "What a number in a TIMESTAMP column of JSON counts, since 1970; milliseconds if not said.",
        },
    ],
    prefixes: &[],
};

/// The options that say what becomes of a message's fields in a stream.
pub const READING: OptionTable = OptionTable {
    title: "protobuf fields",
    options: &[
        OptionSpec {
            name: "enums",
            kind: OptionKind::Choice(&["name", "number"]),
            default: Some("name"),
            required: false,
            doc: "What an enum's column holds: the names of its values, or their numbers.",
        },
        OptionSpec {
            name: "unset",
            kind: OptionKind::Choice(&["default", "null"]),
            default: Some("default"),
            required: false,
            doc: "What a field without presence shows when it is not set: its default, or NULL. Not set and set to the default look the same in protobuf.",
        },
        OptionSpec {
            name: "oneofs",
            kind: OptionKind::Choice(&["fields", "case"]),
            default: Some("fields"),
            required: false,
            doc: "With 'case' each oneof has a column of its own name, before those of its fields, with the name of the field that is set.",
        },
        OptionSpec {
            name: "recursion_depth",
            kind: OptionKind::Integer { min: 0, max: 20 },
            default: Some("0"),
            required: false,
            doc: "How often a message unfolds inside of itself before it is kept as its bytes.",
        },
    ],
    prefixes: &[],
};

/// The options that say how a sink's columns meet a message's fields.
pub const WRITING: OptionTable = OptionTable {
    title: "protobuf columns",
    options: &[OptionSpec {
        name: "ignore_unknown",
        kind: OptionKind::Choice(&["true", "false"]),
        default: Some("false"),
        required: false,
        doc: "Whether columns that no field takes are left out; otherwise they are an error when the sink is created.",
    }],
    prefixes: &[],
};

/// The format of a record's value.
#[derive(Debug, Clone)]
pub struct ValueFormat {
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Protobuf(Box<ProtobufForm>),
    Json { columns: Option<SchemaRef>, times: TimeNumbers },
    Line { form: LineForm, columns: Option<SchemaRef>, times: TimeNumbers },
}

#[derive(Debug, Clone)]
struct ProtobufForm {
    descriptors: Descriptors,
    message: MessageDescriptor,
    rules: TypeRules,
    ignore_unknown: bool,
}

/// Options that belong to one format, with its name.
const OF_FORMAT: &[(&str, &[&str])] = &[
    ("message", &["protobuf"]),
    ("descriptor", &["protobuf"]),
    ("includes", &["protobuf"]),
    ("enums", &["protobuf"]),
    ("unset", &["protobuf"]),
    ("oneofs", &["protobuf"]),
    ("recursion_depth", &["protobuf"]),
    ("ignore_unknown", &["protobuf"]),
    ("csv_delimiter", &["csv"]),
    ("time_numbers", &["json", "csv"]),
];

impl ValueFormat {
    /// Reads the options. `stored` is the descriptor that the catalog kept (an encoded `FileDescriptorSet`): then the
    /// file is not read again, since it may have changed or gone. `columns` are those that the statement declares.
    pub fn new(values: &BTreeMap<String, String>, stored: Option<&[u8]>, columns: Option<&SchemaRef>) -> Result<Self> {
        let options = Options::new(&FORMAT, values);
        let format = options.choice("format")?.unwrap_or("protobuf");
        for (option, formats) in OF_FORMAT {
            if values.contains_key(*option) && !formats.contains(&format) {
                return Err(Error::invalid(format!("the option \"{option}\" does not go with format = '{format}'"))
                    .with_hint(format!("it belongs to format = '{}'", formats.join("' or '"))));
            }
        }
        if format == "protobuf" {
            if let Some(column) = columns.and_then(|columns| columns.fields().first()) {
                return Err(Error::invalid(format!(
                    "the columns come from the protobuf message, and '{}' is declared beside it",
                    column.name()
                ))
                .with_hint("leave the columns out: (WATERMARK FOR t AS t - INTERVAL '10' SECOND)"));
            }
            return Ok(Self { form: Form::Protobuf(Box::new(ProtobufForm::new(values, &options, stored)?)) });
        }
        let times = match options.choice("time_numbers")? {
            Some("seconds") => TimeNumbers::Seconds,
            Some("micros") => TimeNumbers::Micros,
            _ => TimeNumbers::Millis,
        };
        let columns = columns.cloned();
        let form = match format {
            "csv" => LineForm::Csv(delimiter(&options)?),
            "text" => LineForm::Text,
            "raw" => LineForm::Raw,
            _ => return Ok(Self { form: Form::Json { columns, times } }),
        };
        Ok(Self { form: Form::Line { form, columns, times } })
    }

    /// The columns of a stream of such records.
    pub fn schema(&self) -> Result<SchemaRef> {
        let (name, columns) = match &self.form {
            Form::Protobuf(form) => return schema_by(&form.message, &form.rules),
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
            Form::Json { columns, .. } | Form::Line { columns, .. } => Ok(columns.clone()),
        }
    }

    /// What the catalog keeps.
    pub fn descriptor(&self) -> Option<Vec<u8>> {
        match &self.form {
            Form::Protobuf(form) => Some(form.descriptors.pool().encode_to_vec()),
            Form::Json { .. } | Form::Line { .. } => None,
        }
    }

    /// A decoder of these columns (indices into [`Self::schema`]).
    pub fn decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        self.decoder_of(self.schema()?, projection, false)
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
            Form::Protobuf(_) | Form::Line { .. } if debezium => {
                return Err(
                    Error::not_supported("Debezium's changes are read from JSON").with_hint("write format = 'json'")
                );
            }
            Form::Protobuf(form) => Box::new(ProtobufDecoder::by_rules(&form.message, projection, &form.rules)?),
            Form::Json { times, .. } => {
                let envelope = if debezium { Envelope::Debezium } else { Envelope::None };
                Box::new(JsonDecoder::new(SchemaRef::new(schema.project(projection)?), *times, envelope))
            }
            Form::Line { form, times, .. } => Box::new(LineDecoder::new(*form, schema, projection, *times)?),
        })
    }

    /// An encoder of rows with these columns; the error says which column does not fit.
    pub fn encoder(&self, schema: &Schema) -> Result<Box<dyn RowEncoder>> {
        Ok(match &self.form {
            Form::Protobuf(form) if form.ignore_unknown => {
                Box::new(ProtobufEncoder::ignoring_unknown(&form.message, schema)?)
            }
            Form::Protobuf(form) => Box::new(ProtobufEncoder::new(&form.message, schema)?),
            Form::Json { .. } => Box::new(JsonEncoder::new(schema)?),
            Form::Line { form, .. } => Box::new(LineEncoder::new(*form, schema)?),
        })
    }

    /// Another message of the same descriptor, as the format of something else (a record's key).
    pub fn with_message(&self, name: &str) -> Result<Self> {
        let Form::Protobuf(form) = &self.form else {
            return Err(Error::invalid("a protobuf key goes with format = 'protobuf', which has the descriptor")
                .with_hint("write the key with key_format = 'json' or 'text'"));
        };
        // A key's columns are named by the user: each has to have its place.
        let form = ProtobufForm { message: form.descriptors.message(name)?, ignore_unknown: false, ..(**form).clone() };
        Ok(Self { form: Form::Protobuf(Box::new(form)) })
    }

    /// The format, for use by several readers.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

impl ProtobufForm {
    fn new(values: &BTreeMap<String, String>, options: &Options<'_>, stored: Option<&[u8]>) -> Result<Self> {
        let needed = |name: &str| {
            options
                .text(name)?
                .ok_or_else(|| Error::invalid(format!("the protobuf format needs the option \"{name}\"")))
        };
        let (name, origin) = (needed("message")?, needed("descriptor")?);
        let descriptors = match stored {
            Some(bytes) => {
                let pool = DescriptorPool::decode(bytes).map_err(|error| {
                    Error::internal(format!("the descriptor in the catalog cannot be read: {error}"))
                })?;
                Descriptors::from_pool(pool, origin)
            }
            None => {
                let includes: Vec<PathBuf> = options.list("includes")?.into_iter().map(PathBuf::from).collect();
                Descriptors::load(origin, &includes)?
            }
        };
        let message = descriptors.message(name)?;
        let reading = Options::new(&READING, values);
        let rules = TypeRules {
            enum_numbers: reading.choice("enums")? == Some("number"),
            unset_is_null: reading.choice("unset")? == Some("null"),
            oneof_case: reading.choice("oneofs")? == Some("case"),
            recursion_depth: reading.integer("recursion_depth")?.map_or(0, |depth| depth as usize),
        };
        let ignore_unknown = Options::new(&WRITING, values).choice("ignore_unknown")? == Some("true");
        Ok(Self { descriptors, message, rules, ignore_unknown })
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
