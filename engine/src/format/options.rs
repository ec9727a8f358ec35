//! The options of formats, and of the places that schemas come from.

use std::collections::BTreeMap;

use crate::connector::options::{OptionKind, OptionSpec, OptionTable};
use crate::error::{Error, Result};

const fn option(name: &'static str, kind: OptionKind, default: Option<&'static str>, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind, default, required: false, doc }
}

/// The options that say how records are read and written.
pub const FORMAT: OptionTable = OptionTable {
    title: "format",
    options: &[
        OptionSpec {
            name: "format",
            kind: OptionKind::Choice(&["protobuf", "json", "avro", "csv", "text", "raw"]),
            default: Some("protobuf"),
            required: false,
            doc: "How a record's value is written: a protobuf message, a JSON object, an Avro record, a line of CSV, a text or bytes. Columns come from the schema where there is one, and are declared where there is none.",
        },
        OptionSpec {
            name: "message",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "The full name of the protobuf message, as 'acme.Booking', or its name in Java. Protobuf needs it, unless a registry with Confluent's API has the schema: then it is the first message of that.",
        },
        OptionSpec {
            name: "descriptor",
            kind: OptionKind::Text,
            default: None,
            required: false,
            doc: "Where the schema is, if no registry has it: 'file:PATH', 'http://…', 'https://…', 's3://…', 'gs://…' or 'az://…' of a FileDescriptorSet or of .proto files, of an Avro schema, or of a JSON Schema; or 'file:PATH' of a folder of .proto files. Several are separated by commas: of URLs the first counts that has the message. Read when the object is created, and kept in the catalog.",
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

/// The options that say where schemas come from, and how the place is asked.
pub const REGISTRY: OptionTable = OptionTable {
    title: "schemas",
    options: &[
        option(
            "registry",
            OptionKind::Choice(&["confluent", "stencil"]),
            None,
            "What has the schemas: a registry with Confluent's API, whose ids the records carry, or Stencil.",
        ),
        option(
            "registry_url",
            OptionKind::List,
            None,
            "Where the registry is: http://host:port; of several the first that answers is taken.",
        ),
        option(
            "registry_headers",
            OptionKind::Text,
            None,
            "Headers that are sent to it, or to the descriptor's server: 'name: value, name: value'.",
        ),
        option("registry_user", OptionKind::Text, None, "The user, for basic authentication."),
        option("registry_password", OptionKind::Text, None, "The password, for basic authentication."),
        option("registry_timeout", OptionKind::Duration, Some("10s"), "How long one answer may take."),
        option(
            "registry_retries",
            OptionKind::Integer { min: 0, max: 100 },
            Some("2"),
            "How often all addresses are tried again, after half a second, one, two and so on.",
        ),
        option("namespace", OptionKind::Text, None, "Stencil's namespace."),
        option("schema", OptionKind::Text, None, "The schema's name in Stencil's namespace."),
        option(
            "subject",
            OptionKind::Text,
            None,
            "The subject of Confluent's API. If it is not said, subject_strategy makes it.",
        ),
        option(
            "subject_strategy",
            OptionKind::Choice(&["topic", "record", "topic_record"]),
            Some("topic"),
            "How subjects are called: after the topic, 'orders-value'; after the message, 'acme.Order'; or after both, 'orders-acme.Order'.",
        ),
        option(
            "schema_version",
            OptionKind::Integer { min: 1, max: i64::MAX },
            None,
            "The only version that is taken; otherwise the newest one.",
        ),
        option(
            "refresh",
            OptionKind::Duration,
            None,
            "How often a stream looks for a newer version by itself. If it is not said, REFRESH STREAM does it.",
        ),
        option(
            "refresh_by",
            OptionKind::Choice(&["version", "content"]),
            None,
            "How a newer version is noticed: by the registry's list of versions, or by fetching the schema and comparing it. Registries are asked by version, files and URLs by content.",
        ),
        option(
            "register",
            OptionKind::Choice(&["true", "false"]),
            None,
            "Whether a sink registers the schema of its rows with Confluent's API; true if not said. Otherwise the subject must have it.",
        ),
    ],
    prefixes: &[],
};

/// Options that belong to one format, with its name.
const OF_FORMAT: &[(&str, &[&str])] = &[
    ("message", &["protobuf"]),
    ("descriptor", &["protobuf", "avro", "json"]),
    ("registry", &["protobuf", "avro", "json"]),
    ("registry_url", &["protobuf", "avro", "json"]),
    ("includes", &["protobuf"]),
    ("enums", &["protobuf"]),
    ("unset", &["protobuf"]),
    ("oneofs", &["protobuf"]),
    ("recursion_depth", &["protobuf"]),
    ("ignore_unknown", &["protobuf"]),
    ("csv_delimiter", &["csv"]),
    ("time_numbers", &["json", "csv"]),
];

/// Refuses options that belong to another format.
pub(super) fn check_format(values: &BTreeMap<String, String>, format: &str) -> Result<()> {
    for (option, formats) in OF_FORMAT {
        if values.contains_key(*option) && !formats.contains(&format) {
            return Err(Error::invalid(format!("the option \"{option}\" does not go with format = '{format}'"))
                .with_hint(format!("it belongs to format = '{}'", formats.join("' or '"))));
        }
    }
    Ok(())
}
