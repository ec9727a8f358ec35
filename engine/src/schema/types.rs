//! What a protobuf message becomes in SQL.
//!
//! | protobuf | Arrow | why |
//! |---|---|---|
//! | `uint32`, `fixed32` | `Int64` | PostgreSQL has no unsigned numbers; every value fits |
//! | `uint64`, `fixed64` | `Decimal128(20, 0)` | every value fits, and `a - b` may be negative |
//! | `string` | `Utf8View` | what DataFusion plans for TEXT, so that nothing is cast; comparing and grouping look at the first bytes in place |
//! | `map<k, v>` | `Map`, keys by the same rules but `Utf8` | `m['k']` compares with a `Utf8` literal, without a cast |
//! | `google.protobuf.Timestamp` | `Timestamp(µs)` | finer digits are cut off |
//! | `google.protobuf.Duration` | `Duration(µs)` | has one order, sums and averages, adds to timestamps; an Arrow interval has none of the first three and overflows at 292 years |
//! | `google.protobuf.Struct`, `Value`, `ListValue` | `Utf8View` | JSON; a recursive type has no columns |
//! | `google.protobuf.Any` | `Struct` of `type_url`, `value`, and `json` | each row may hold another message |
//!
//! The whole table is in the manual, made by [`super::reference`] from these rules; [`TypeRules`] are its switches.
//!
//! **NULL.** A field with presence is nullable: messages, proto3 `optional`, members of a `oneof`, proto2 `optional`
//! without a default. A proto2 field with a declared default has that value when absent and is never NULL; neither is
//! a `required` one, nor a plain proto3 field. *Inside* of a nested message every field is nullable, since its message
//! may be absent: SQL's `a.b` is NULL when `a` is.
//!
//! **Recursion.** A field whose message type is one of those that enclose it (`message Node { Node next = 1; }`)
//! would unfold without end. At the chosen depth it becomes its bytes as they stand in the record, checked; a repeated
//! one becomes a list of them.
//!
//! Columns stand in the order in which the message declares its fields, under the fields' own names; extensions that the
//! descriptor knows follow, under their full names. Unknown fields are not shown.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use super::field::{MessageField, fields_of};
use crate::error::{Error, Result};

/// Fields that a schema may have, all nested ones counted: messages that share parts unfold to trees.
const MAX_FIELDS: usize = 10_000;

/// How deep messages may be nested in each other; decoding recurses.
const MAX_DEPTH: usize = 100;

/// What a user may choose of the columns of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TypeRules {
    /// Enums are `INTEGER`, not the names of their values.
    pub enum_numbers: bool,
    /// A field without presence is NULL when it has its default, as is an absent one with a declared default.
    pub unset_is_null: bool,
    /// Each `oneof` has a column of its own, with the name of the field that is set.
    pub oneof_case: bool,
    /// How often a message unfolds inside of itself before it is kept as its bytes.
    pub recursion_depth: usize,
}

/// How one value of a field is held; the wire form of a number is the field's [`Kind`].
#[derive(Clone)]
pub(crate) enum ValueClass {
    /// A number, bool, string or bytes.
    Scalar(Kind),
    /// By name or number.
    Enum(EnumDescriptor),
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// A wrapper message; its one field.
    Wrapper(FieldDescriptor),
    /// `google.protobuf.Struct` and its kin.
    Json(JsonKind),
    /// A message to unfold.
    Message(MessageDescriptor),
    /// A message inside of itself.
    Raw(MessageDescriptor),
}

/// The messages that are JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonKind {
    /// `google.protobuf.Struct`: an object.
    Struct,
    /// `google.protobuf.Value`: anything.
    Value,
    /// `google.protobuf.ListValue`: an array.
    List,
}

/// The column of [`is_any`] messages that shows what is inside.
pub(crate) const ANY_JSON: &str = "json";

/// Whether the message is `google.protobuf.Any`.
pub(crate) fn is_any(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Any"
}

/// The messages that enclose a field, outermost first, by full name.
pub(crate) type Ancestors = Vec<String>;

/// How a value of `field` is held inside of `ancestors` (the message that declares it included).
pub(crate) fn classify(field: &MessageField, ancestors: &Ancestors, rules: &TypeRules) -> ValueClass {
    let message = match field.kind() {
        Kind::Enum(values) => return ValueClass::Enum(values),
        Kind::Message(message) => message,
        scalar => return ValueClass::Scalar(scalar),
    };
    match message.full_name() {
        "google.protobuf.Timestamp" => return ValueClass::Timestamp,
        "google.protobuf.Duration" => return ValueClass::Duration,
        "google.protobuf.Struct" => return ValueClass::Json(JsonKind::Struct),
        "google.protobuf.Value" => return ValueClass::Json(JsonKind::Value),
        "google.protobuf.ListValue" => return ValueClass::Json(JsonKind::List),
        _ => {}
    }
    if let Some(inner) = wrapped(&message) {
        ValueClass::Wrapper(inner)
    } else if ancestors.iter().filter(|name| *name == message.full_name()).count() > rules.recursion_depth {
        ValueClass::Raw(message)
    } else {
        ValueClass::Message(message)
    }
}

fn wrapped(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    let is_wrapper = matches!(
        name,
        "DoubleValue"
            | "FloatValue"
            | "Int64Value"
            | "UInt64Value"
            | "Int32Value"
            | "UInt32Value"
            | "BoolValue"
            | "StringValue"
            | "BytesValue"
    );
    message.get_field(1).filter(|inner| is_wrapper && !matches!(inner.kind(), Kind::Message(_)) && !inner.is_list())
}

/// A column of a message.
#[derive(Debug, Clone)]
pub(crate) enum MessageColumn {
    /// A field's.
    Field(MessageField),
    /// Which field of a oneof is set.
    Case(OneofDescriptor),
}

/// A message's columns, in order; a oneof's own stands before its first member.
pub(crate) fn columns_of(message: &MessageDescriptor, rules: &TypeRules) -> Vec<MessageColumn> {
    let mut columns = Vec::new();
    let mut shown: Vec<String> = Vec::new();
    for field in fields_of(message) {
        if let Some(oneof) = field.oneof().filter(|oneof| rules.oneof_case && !shown.iter().any(|n| n == oneof.name()))
        {
            shown.push(oneof.name().to_owned());
            columns.push(MessageColumn::Case(oneof));
        }
        columns.push(MessageColumn::Field(field));
    }
    columns
}

/// Whether an absent singular field is NULL; see the [module](self). What is `required` has to be there.
pub(crate) fn is_nullable(field: &MessageField, rules: &TypeRules) -> bool {
    if field.is_list() || field.is_map() || field.is_required() {
        return false;
    }
    let has_default = has_declared_default(field) && !rules.unset_is_null;
    let is_message = matches!(field.kind(), Kind::Message(_));
    field.supports_presence() && (is_message || field.oneof().is_some() || !has_default)
}

/// Whether a field that can't be seen to be absent is NULL where it has its default.
pub(crate) fn is_null_by_default(field: &MessageField, rules: &TypeRules) -> bool {
    rules.unset_is_null && !field.is_list() && !field.is_map() && !field.is_required() && !field.supports_presence()
}

fn has_declared_default(field: &MessageField) -> bool {
    field.proto().default_value.is_some()
}

/// The Arrow schema of a message: one column for each field.
pub fn arrow_schema(message: &MessageDescriptor) -> Result<SchemaRef> {
    schema_by(message, &TypeRules::default())
}

/// The Arrow schema of a message by chosen rules.
pub fn schema_by(message: &MessageDescriptor, rules: &TypeRules) -> Result<SchemaRef> {
    let mut unfolding = Unfolding { root: message.full_name().to_owned(), fields: 0, rules: *rules };
    let fields = unfolding.message(message, &mut Vec::new())?;
    if fields.is_empty() {
        return Err(Error::invalid(format!("the message {} has no fields", message.full_name())));
    }
    Ok(Arc::new(Schema::new(fields)))
}

struct Unfolding {
    root: String,
    fields: usize,
    rules: TypeRules,
}

impl Unfolding {
    fn message(&mut self, message: &MessageDescriptor, ancestors: &mut Ancestors) -> Result<Fields> {
        let nested = !ancestors.is_empty();
        if ancestors.len() >= MAX_DEPTH {
            let message = format!("the message {} nests messages more than {MAX_DEPTH} deep", self.root);
            return Err(Error::invalid(message).with_hint("name a message further inside"));
        }
        ancestors.push(message.full_name().to_owned());
        let mut fields: Vec<FieldRef> = Vec::new();
        for column in columns_of(message, &self.rules) {
            fields.push(Arc::new(match column {
                MessageColumn::Field(field) => self.field(&field, ancestors, nested)?,
                MessageColumn::Case(oneof) => Field::new(oneof.name(), DataType::Utf8View, true),
            }));
        }
        // The record itself has no column that could show it.
        if nested && is_any(message) {
            fields.push(Arc::new(Field::new(ANY_JSON, DataType::Utf8View, true)));
        }
        ancestors.pop();
        Ok(fields.into())
    }

    fn field(&mut self, field: &MessageField, ancestors: &mut Ancestors, nested: bool) -> Result<Field> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            let message = format!("the message {} has more than {MAX_FIELDS} fields when unfolded", self.root);
            return Err(Error::invalid(message).with_hint("name a smaller message that holds the columns you need"));
        }
        let data_type = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let key = match self.value(&MessageField::Own(entry.map_entry_key_field()), ancestors)? {
                    DataType::Utf8View => DataType::Utf8,
                    other => other,
                };
                let value = self.value(&MessageField::Own(entry.map_entry_value_field()), ancestors)?;
                map_type(key, value)
            }
            _ if field.is_list() => DataType::List(item_field(self.value(field, ancestors)?)),
            _ => self.value(field, ancestors)?,
        };
        let nullable = nested || is_nullable(field, &self.rules) || is_null_by_default(field, &self.rules);
        Ok(Field::new(field.name(), data_type, nullable))
    }

    fn value(&mut self, field: &MessageField, ancestors: &mut Ancestors) -> Result<DataType> {
        Ok(match classify(field, ancestors, &self.rules) {
            ValueClass::Scalar(kind) => scalar_type(&kind),
            ValueClass::Enum(_) if self.rules.enum_numbers => DataType::Int32,
            ValueClass::Enum(_) | ValueClass::Json(_) => DataType::Utf8View,
            ValueClass::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ValueClass::Duration => DataType::Duration(TimeUnit::Microsecond),
            ValueClass::Wrapper(inner) => scalar_type(&inner.kind()),
            ValueClass::Message(message) => DataType::Struct(self.message(&message, ancestors)?),
            ValueClass::Raw(_) => DataType::Binary,
        })
    }
}

/// The Arrow type of a number, bool, string or bytes.
pub(crate) fn scalar_type(kind: &Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => DataType::Int32,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => DataType::Int64,
        Kind::Uint64 | Kind::Fixed64 => DataType::Decimal128(20, 0),
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::String | Kind::Enum(_) => DataType::Utf8View,
        Kind::Bytes | Kind::Message(_) => DataType::Binary,
    }
}

/// A list's item, named and nullable as DataFusion's own lists are, so that the types are equal.
pub(crate) fn item_field(data_type: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(data_type, true))
}

/// A map, its fields named and nullable as DataFusion's own maps are.
pub(crate) fn map_type(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

#[cfg(test)]
mod tests;
