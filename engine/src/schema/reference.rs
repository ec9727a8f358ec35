//! The manual's table of types, made by asking the rules what an example of each construct becomes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::datatypes::DataType;

use super::sources::compile_texts;
use super::types::{TypeRules, schema_by};
use crate::error::{Error, Result};

/// A construct, an example of it, and what has to be said of it.
struct Construct {
    name: &'static str,
    syntax: &'static str,
    /// A declaration of the field `f` of the message `M`, or of what becomes the column `f`.
    example: &'static str,
    rules: TypeRules,
    note: &'static str,
}

const PLAIN: TypeRules = TypeRules { enum_numbers: false, unset_is_null: false, oneof_case: false, recursion_depth: 0 };

const fn proto3(name: &'static str, example: &'static str, note: &'static str) -> Construct {
    Construct { name, syntax: "proto3", example, rules: PLAIN, note }
}

const fn proto2(name: &'static str, example: &'static str, note: &'static str) -> Construct {
    Construct { name, syntax: "proto2", example, rules: PLAIN, note }
}

const CONSTRUCTS: &[Construct] = &[
    proto3("`int32`, `sint32`, `sfixed32`", "int32 f = 1;", ""),
    proto3("`int64`, `sint64`, `sfixed64`", "int64 f = 1;", ""),
    proto3("`uint32`, `fixed32`", "uint32 f = 1;", "PostgreSQL has no unsigned numbers; every value fits"),
    proto3("`uint64`, `fixed64`", "uint64 f = 1;", "every value fits, and differences may be negative"),
    proto3("`bool`", "bool f = 1;", ""),
    proto3("`float`", "float f = 1;", ""),
    proto3("`double`", "double f = 1;", ""),
    proto3("`string`", "string f = 1;", "one that is not UTF-8 makes the record unreadable"),
    proto3("`bytes`", "bytes f = 1;", ""),
    proto3(
        "an enum",
        "Color f = 1;",
        "the value's name; a number without a name as its digits, and written as that number again",
    ),
    Construct {
        rules: TypeRules { enum_numbers: true, ..PLAIN },
        ..proto3("an enum, with `enums = 'number'`", "Color f = 1;", "")
    },
    proto3("`optional` of any of these", "optional int32 f = 1;", "NULL where it is not set"),
    Construct {
        rules: TypeRules { unset_is_null: true, ..PLAIN },
        ..proto3(
            "a plain field, with `unset = 'null'`",
            "int32 f = 1;",
            "NULL where it has its default, which looks the same as not set",
        )
    },
    proto3("a message", "Leg f = 1;", "its fields by a dot: `pickup.zone`"),
    proto3(
        "`repeated`",
        "repeated int32 f = 1;",
        "`vouchers[1]` is the first, `stops[1].zone` a field of it; absent and empty are the same. Packed or not is read alike",
    ),
    proto3("`map`", "map<string, int32> f = 1;", "`labels['app']`; a key that occurs twice has its last value"),
    proto3(
        "a member of a `oneof`",
        "oneof g { int32 f = 1; string other = 2; }",
        "NULL where another one is set, or none",
    ),
    Construct {
        rules: TypeRules { oneof_case: true, ..PLAIN },
        ..proto3(
            "the `oneof` itself, with `oneofs = 'case'`",
            "oneof f { int32 one = 1; string other = 2; }",
            "the name of the field that is set; for reading only",
        )
    },
    proto3("`google.protobuf.Timestamp`", "google.protobuf.Timestamp f = 1;", "microseconds, UTC; years 1 to 9999"),
    proto3("`google.protobuf.Duration`", "google.protobuf.Duration f = 1;", "microseconds"),
    proto3("`google.protobuf.Int64Value` and its kin", "google.protobuf.Int64Value f = 1;", "the scalar, or NULL"),
    proto3("`google.protobuf.Struct`", "google.protobuf.Struct f = 1;", "a JSON object"),
    proto3(
        "`google.protobuf.Value`",
        "google.protobuf.Value f = 1;",
        "any JSON; NULL where it is not set, the text `null` where it is null",
    ),
    proto3("`google.protobuf.ListValue`", "google.protobuf.ListValue f = 1;", "a JSON array"),
    proto3(
        "`google.protobuf.Any`",
        "google.protobuf.Any f = 1;",
        "`type_url`, `value`, and `json`: the contents, where the descriptor defines their type",
    ),
    proto3("`google.protobuf.FieldMask`", "google.protobuf.FieldMask f = 1;", "its `paths` are an array of texts"),
    proto3(
        "a message inside of itself",
        "M f = 1;",
        "its bytes as they stand in the record, checked; `recursion_depth` unfolds it so often before",
    ),
    proto2("proto2's `required`", "required int32 f = 1;", "a record without it is unreadable"),
    proto2("proto2's `optional`", "optional int32 f = 1;", ""),
    proto2(
        "proto2's `optional` with a default",
        "optional int32 f = 1 [default = 5];",
        "the default where it is not set, or NULL with `unset = 'null'`",
    ),
    proto2(
        "proto2's group",
        "optional group F = 1 { optional int32 x = 2; }",
        "a message; its field is called as in lower case",
    ),
    proto2(
        "an extension",
        "extensions 100 to 200; } extend M { optional int32 f = 100;",
        "a column under its full name, as `\"acme.priority\"`, behind the declared ones",
    ),
];

fn name_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "`BOOLEAN`".to_owned(),
        DataType::Int32 => "`INTEGER`".to_owned(),
        DataType::Int64 => "`BIGINT`".to_owned(),
        DataType::Float32 => "`REAL`".to_owned(),
        DataType::Float64 => "`DOUBLE PRECISION`".to_owned(),
        DataType::Decimal128(precision, 0) => format!("`NUMERIC({precision})`"),
        DataType::Utf8View | DataType::Utf8 => "`TEXT`".to_owned(),
        DataType::Binary => "`BYTEA`".to_owned(),
        DataType::Timestamp(..) => "`TIMESTAMP`".to_owned(),
        DataType::Duration(_) => "`INTERVAL`".to_owned(),
        DataType::Struct(_) => "a row".to_owned(),
        DataType::List(_) => "an array".to_owned(),
        DataType::Map(..) => "a map".to_owned(),
        other => format!("`{other}`"),
    }
}

/// The table as Markdown.
pub fn markdown() -> Result<String> {
    let mut text = String::from("| protobuf | SQL | may be NULL | |\n|---|---|---|---|\n");
    for construct in CONSTRUCTS {
        let source = format!(
            "syntax = \"{}\";\nimport \"google/protobuf/timestamp.proto\"; import \"google/protobuf/duration.proto\";
             import \"google/protobuf/wrappers.proto\"; import \"google/protobuf/struct.proto\";
             import \"google/protobuf/any.proto\"; import \"google/protobuf/field_mask.proto\";
             enum Color {{ RED = 0; }} message Leg {{ {}int32 x = 1; }} message M {{ {} }}",
            construct.syntax,
            if construct.syntax == "proto2" { "optional " } else { "" },
            construct.example,
        );
        let wrong = |why: String| Error::internal(format!("the example of {}: {why}", construct.name));
        let pool = compile_texts(BTreeMap::from([("m.proto".to_owned(), source)]));
        let pool = pool.map_err(|error| wrong(format!("{error:?}")))?;
        let message = pool.get_message_by_name("M").ok_or_else(|| wrong("no message".to_owned()))?;
        let schema = schema_by(&message, &construct.rules)?;
        let field = schema.field_with_name("f").map_err(|error| wrong(error.to_string()))?;
        let nullable = if field.is_nullable() { "yes" } else { "" };
        let _ =
            writeln!(text, "| {} | {} | {nullable} | {} |", construct.name, name_of(field.data_type()), construct.note);
    }
    Ok(text)
}
