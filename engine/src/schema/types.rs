//! What a protobuf message becomes in SQL.
//!
//! | protobuf | Arrow | in SQL | why |
//! |---|---|---|---|
//! | `int32`, `sint32`, `sfixed32` | `Int32` | `INTEGER` | |
//! | `int64`, `sint64`, `sfixed64` | `Int64` | `BIGINT` | |
//! | `uint32`, `fixed32` | `Int64` | `BIGINT` | PostgreSQL has no unsigned numbers; every value fits |
//! | `uint64`, `fixed64` | `Decimal128(20, 0)` | `NUMERIC(20)` | every value fits, and `a - b` may be negative |
//! | `bool`, `float`, `double` | `Boolean`, `Float32`, `Float64` | | |
//! | `string` | `Utf8View` | `TEXT` | what DataFusion plans for TEXT, so that nothing is cast; comparing and grouping look at the first bytes in place |
//! | `bytes` | `Binary` | `BYTEA` | |
//! | an enum | `Utf8View` | `TEXT` | the value's name; a number without a name as its digits |
//! | a message | `Struct`, nullable | | |
//! | `repeated` | `List` | an array | absent and empty are the same: never NULL |
//! | `map<k, v>` | `Map`, keys by the same rules but `Utf8` | | `m['k']` compares with a `Utf8` literal, without a cast. A key that occurs twice has its last value |
//! | `google.protobuf.Timestamp` | `Timestamp(µs)` | `TIMESTAMP` | years 1 to 9999; finer digits are cut off |
//! | `google.protobuf.Duration` | `Duration(µs)` | `INTERVAL` | has one order, sums and averages, adds to timestamps; an Arrow interval has none of the first three and overflows at 292 years |
//! | `google.protobuf.Int64Value` and its kin | the scalar, nullable | | |
//! | a message inside of itself | `Binary` | `BYTEA` | see below |
//!
//! **NULL.** A field with presence is nullable: messages, proto3 `optional`, members of a `oneof`, proto2 `optional`
//! without a default. A proto2 field with a declared default has that value when absent and is never NULL; neither is
//! a `required` one, nor a plain proto3 field. *Inside* of a nested message every field is nullable, since its message
//! may be absent: SQL's `a.b` is NULL when `a` is.
//!
//! **Recursion.** A field whose message type is one of those that enclose it (`message Node { Node next = 1; }`)
//! would unfold without end. It becomes its bytes as they stand in the record; a repeated one becomes a list of them.
//!
//! Columns stand in the order in which the message declares its fields, under the fields' own names. Extensions and
//! unknown fields are not shown. `Any`, `Struct` and `Value` are ordinary messages.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Syntax};

use crate::error::{Error, Result};

/// Fields that a schema may have, all nested ones counted: messages that share parts unfold to trees.
const MAX_FIELDS: usize = 10_000;

/// How deep messages may be nested in each other; decoding recurses.
const MAX_DEPTH: usize = 100;

/// How one value of a field is held; the wire form of a number is the field's [`Kind`].
#[derive(Clone)]
pub(crate) enum ValueClass {
    /// A number, bool, string or bytes.
    Scalar(Kind),
    /// By name.
    Enum(EnumDescriptor),
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// A wrapper message; its one field.
    Wrapper(FieldDescriptor),
    /// A message to unfold.
    Message(MessageDescriptor),
    /// A message inside of itself.
    Raw,
}

/// The messages that enclose a field, outermost first, by full name.
pub(crate) type Ancestors = Vec<String>;

/// How a value of `field` is held inside of `ancestors` (the message that declares it included).
pub(crate) fn classify(field: &FieldDescriptor, ancestors: &Ancestors) -> ValueClass {
    let message = match field.kind() {
        Kind::Enum(values) => return ValueClass::Enum(values),
        Kind::Message(message) => message,
        scalar => return ValueClass::Scalar(scalar),
    };
    match message.full_name() {
        "google.protobuf.Timestamp" => return ValueClass::Timestamp,
        "google.protobuf.Duration" => return ValueClass::Duration,
        _ => {}
    }
    if let Some(inner) = wrapped(&message) {
        ValueClass::Wrapper(inner)
    } else if ancestors.iter().any(|name| name == message.full_name()) {
        ValueClass::Raw
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

/// A message's fields in the order in which its definition lists them.
pub(crate) fn declared_fields(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    message.descriptor_proto().field.iter().filter_map(|field| message.get_field(field.number() as u32))
}

/// Whether an absent singular field is NULL; see the [module](self). What is `required` has to be there.
pub(crate) fn is_nullable(field: &FieldDescriptor) -> bool {
    if field.is_list() || field.is_map() || field.cardinality() == Cardinality::Required {
        return false;
    }
    field.supports_presence() && (is_message(field) || in_oneof(field) || !has_declared_default(field))
}

/// Whether the field is a member of a `oneof` that the user wrote (proto3's `optional` is one under the hood).
pub(crate) fn in_oneof(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

fn is_message(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(_))
}

fn has_declared_default(field: &FieldDescriptor) -> bool {
    field.parent_file().syntax() == Syntax::Proto2 && field.field_descriptor_proto().default_value.is_some()
}

/// The Arrow schema of a message: one column for each field.
pub fn arrow_schema(message: &MessageDescriptor) -> Result<SchemaRef> {
    let mut unfolding = Unfolding { root: message.full_name().to_owned(), fields: 0 };
    let fields = unfolding.message(message, &mut Vec::new())?;
    if fields.is_empty() {
        return Err(Error::invalid(format!("the message {} has no fields", message.full_name())));
    }
    Ok(Arc::new(Schema::new(fields)))
}

struct Unfolding {
    root: String,
    fields: usize,
}

impl Unfolding {
    fn message(&mut self, message: &MessageDescriptor, ancestors: &mut Ancestors) -> Result<Fields> {
        let nested = !ancestors.is_empty();
        if ancestors.len() >= MAX_DEPTH {
            let message = format!("the message {} nests messages more than {MAX_DEPTH} deep", self.root);
            return Err(Error::invalid(message).with_hint("name a message further inside"));
        }
        ancestors.push(message.full_name().to_owned());
        let fields: Result<Vec<FieldRef>> =
            declared_fields(message).map(|field| self.field(&field, ancestors, nested).map(Arc::new)).collect();
        ancestors.pop();
        Ok(fields?.into())
    }

    fn field(&mut self, field: &FieldDescriptor, ancestors: &mut Ancestors, nested: bool) -> Result<Field> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            let message = format!("the message {} has more than {MAX_FIELDS} fields when unfolded", self.root);
            return Err(Error::invalid(message).with_hint("name a smaller message that holds the columns you need"));
        }
        let data_type = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let key = match self.value(&entry.map_entry_key_field(), ancestors)? {
                    DataType::Utf8View => DataType::Utf8,
                    other => other,
                };
                let value = self.value(&entry.map_entry_value_field(), ancestors)?;
                map_type(key, value)
            }
            _ if field.is_list() => DataType::List(item_field(self.value(field, ancestors)?)),
            _ => self.value(field, ancestors)?,
        };
        Ok(Field::new(field.name(), data_type, nested || is_nullable(field)))
    }

    fn value(&mut self, field: &FieldDescriptor, ancestors: &mut Ancestors) -> Result<DataType> {
        Ok(match classify(field, ancestors) {
            ValueClass::Scalar(kind) => scalar_type(&kind),
            ValueClass::Enum(_) => DataType::Utf8View,
            ValueClass::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ValueClass::Duration => DataType::Duration(TimeUnit::Microsecond),
            ValueClass::Wrapper(inner) => scalar_type(&inner.kind()),
            ValueClass::Message(message) => DataType::Struct(self.message(&message, ancestors)?),
            ValueClass::Raw => DataType::Binary,
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
