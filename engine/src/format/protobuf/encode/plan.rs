//! The encode plan: which column goes to which field, and how its values are written.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::super::compile::wire_type;
use super::super::wire;
use super::range::EnumNumbers;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::nearest;
use crate::schema::types::{ValueClass, classify, declared_fields, in_oneof};

/// The fields of a message that have columns, by ascending number.
pub(super) struct MessageShape {
    pub(super) fields: Vec<FieldShape>,
    /// For each oneof, the places in `fields` of its members; only where it has several.
    pub(super) oneofs: Vec<Vec<usize>>,
}

/// A field and its column.
pub(super) struct FieldShape {
    /// The column's place among its siblings.
    pub(super) column: usize,
    /// The column's name for errors: `leg.lat`.
    pub(super) path: String,
    pub(super) tag: u32,
    pub(super) content: Content,
    /// Written also when it has the default value.
    pub(super) explicit: bool,
    pub(super) required: bool,
}

/// One value or several.
pub(super) enum Content {
    One(ValueShape),
    List { item: ValueShape, packed: bool },
    Map { key: ValueShape, key_tag: u32, value: ValueShape, value_tag: u32 },
}

/// How one value is written.
pub(super) enum ValueShape {
    Scalar(Kind),
    Enum(EnumNumbers),
    Timestamp,
    Duration,
    /// The scalar inside, which is field 1.
    Wrapper(Kind),
    Message(MessageShape, Ending),
    /// Bytes that are a message already.
    Raw(Ending),
}

/// How a message's end is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// By its length, which comes before it.
    Length,
    /// By this tag.
    Group(u32),
}

impl MessageShape {
    /// Matches `columns` to the fields of `message`; `outer` is the path of the struct that they lie in, or empty.
    pub(super) fn of_message(message: &MessageDescriptor, columns: &Fields, outer: &str) -> Result<Self> {
        let mut fields: Vec<(u32, FieldShape, Option<String>)> = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            let path = if outer.is_empty() { column.name().clone() } else { format!("{outer}.{}", column.name()) };
            let field = find_field(message, column.name(), &path)?;
            if fields.iter().any(|(number, _, _)| *number == field.number()) {
                let message = format!("two columns go to the field {}, the second is {path}", field.full_name());
                return Err(Error::invalid(message).with_hint("keep one of them, or give it another name with AS"));
            }
            let oneof =
                in_oneof(&field).then(|| field.containing_oneof().map(|oneof| oneof.name().to_owned())).flatten();
            fields.push((field.number(), FieldShape::of_field(&field, place, column, path)?, oneof));
        }
        for field in declared_fields(message).filter(FieldDescriptor::is_required) {
            if !fields.iter().any(|(number, _, _)| *number == field.number()) {
                let message = format!("the field {} is required and has no column", field.full_name());
                return Err(Error::invalid(message).with_hint(format!("select a column AS {}", field.name())));
            }
        }
        fields.sort_by_key(|(number, _, _)| *number);
        let mut members: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, (_, _, oneof)) in fields.iter().enumerate() {
            if let Some(oneof) = oneof {
                members.entry(oneof).or_default().push(place);
            }
        }
        let oneofs = members.into_values().filter(|members| members.len() > 1).collect();
        Ok(Self { fields: fields.into_iter().map(|(_, shape, _)| shape).collect(), oneofs })
    }
}

/// The field of that name, or else the only one of that name without regard to case: SQL folds names.
fn find_field(message: &MessageDescriptor, name: &str, path: &str) -> Result<FieldDescriptor> {
    if let Some(field) = message.get_field_by_name(name) {
        return Ok(field);
    }
    let alike: Vec<FieldDescriptor> =
        message.fields().filter(|field| field.name().eq_ignore_ascii_case(name)).collect();
    if let [field] = &alike[..] {
        return Ok(field.clone());
    }
    let fields: Vec<FieldDescriptor> = declared_fields(message).collect();
    let near = nearest(name, fields.iter().map(FieldDescriptor::name));
    let hint = if near.is_empty() {
        let names: Vec<&str> = fields.iter().map(FieldDescriptor::name).take(20).collect();
        format!("its fields are {}; rename the column with AS, or leave it out", names.join(", "))
    } else {
        format!("rename the column with AS: did you mean {}?", near.join(" or "))
    };
    let text = format!("the column {path} has no field in the message {}", message.full_name());
    Err(Error::new(ErrorKind::UndefinedColumn, text).with_hint(hint))
}

impl FieldShape {
    fn of_field(field: &FieldDescriptor, column: usize, arrow: &Field, path: String) -> Result<Self> {
        let number = field.number();
        let mut tag = wire::tag(number, wire_type(field));
        let content = match (field.kind(), arrow.data_type()) {
            (_, DataType::Null) => Content::One(ValueShape::Scalar(Kind::Bool)),
            (Kind::Message(entry), DataType::Map(entries, _)) if field.is_map() => {
                let DataType::Struct(parts) = entries.data_type() else {
                    return Err(Error::internal(format!("the entries of the map {path} are no struct")));
                };
                let [key_column, value_column] = &parts[..] else {
                    return Err(Error::internal(format!("the entries of the map {path} are no pairs")));
                };
                let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
                Content::Map {
                    key: ValueShape::of_value(&key, key_column.data_type(), &format!("{path}.key"))?,
                    key_tag: wire::tag(1, wire_type(&key)),
                    value: ValueShape::of_value(&value, value_column.data_type(), &format!("{path}.value"))?,
                    value_tag: wire::tag(2, wire_type(&value)),
                }
            }
            (_, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _))
                if field.is_list() =>
            {
                let packed = field.is_packed();
                if packed {
                    tag = wire::tag(number, wire::DELIMITED);
                }
                Content::List { item: ValueShape::of_value(field, item.data_type(), &path)?, packed }
            }
            (_, other) if field.is_list() || field.is_map() => {
                let what = if field.is_map() { "a map" } else { "repeated" };
                let text =
                    format!("the column {path} is {}, but the field {} is {what}", sql_name(other), field.full_name());
                let hint = if field.is_map() {
                    format!("write MAP(keys, values) AS {}", field.name())
                } else {
                    format!("write make_array({path}) AS {}", field.name())
                };
                return Err(Error::new(ErrorKind::DatatypeMismatch, text).with_hint(hint));
            }
            (_, one) => Content::One(ValueShape::of_value(field, one, &path)?),
        };
        Ok(Self { column, path, tag, content, explicit: field.supports_presence(), required: field.is_required() })
    }
}

impl ValueShape {
    /// How values of type `data_type` are written as values of `field`.
    fn of_value(field: &FieldDescriptor, data_type: &DataType, path: &str) -> Result<Self> {
        let ending =
            if field.is_group() { Ending::Group(wire::tag(field.number(), wire::END_GROUP)) } else { Ending::Length };
        let (fits, shape) = match classify(field, &Vec::new()) {
            ValueClass::Scalar(kind) => (scalar_fits(&kind, data_type), Self::Scalar(kind)),
            ValueClass::Enum(values) => {
                (is_text(data_type) || is_integer(data_type), Self::Enum(EnumNumbers::of(&values)))
            }
            ValueClass::Timestamp => (matches!(data_type, DataType::Timestamp(..)), Self::Timestamp),
            ValueClass::Duration => {
                let fits = matches!(data_type, DataType::Duration(_) | DataType::Interval(IntervalUnit::MonthDayNano));
                (fits, Self::Duration)
            }
            ValueClass::Wrapper(inner) => (scalar_fits(&inner.kind(), data_type), Self::Wrapper(inner.kind())),
            ValueClass::Message(message) => match data_type {
                DataType::Struct(columns) => {
                    return Ok(Self::Message(MessageShape::of_message(&message, columns, path)?, ending));
                }
                _ => (is_bytes(data_type), Self::Raw(ending)),
            },
            // Without ancestors nothing is recursive: the columns end, whatever the message does.
            ValueClass::Raw => (is_bytes(data_type), Self::Raw(ending)),
        };
        if fits { Ok(shape) } else { Err(misfit(field, data_type, path)) }
    }
}

fn misfit(field: &FieldDescriptor, data_type: &DataType, path: &str) -> Error {
    let (wanted, cast) = wanted(field);
    let text = format!("the column {path} is {}, but the field {} is {wanted}", sql_name(data_type), field.full_name());
    let hint = match cast {
        Some(cast) => format!("write CAST({path} AS {cast})"),
        None => format!("write named_struct('field', value, …) AS {}", field.name()),
    };
    Error::new(ErrorKind::DatatypeMismatch, text).with_hint(hint)
}

/// A field's type in protobuf's words, and the SQL type to cast to.
fn wanted(field: &FieldDescriptor) -> (String, Option<&'static str>) {
    let scalar = |kind: &Kind| match kind {
        Kind::Bool => "BOOLEAN",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "INTEGER",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => "BIGINT",
        Kind::Uint64 | Kind::Fixed64 => "NUMERIC(20)",
        Kind::Float => "REAL",
        Kind::Double => "DOUBLE PRECISION",
        Kind::String | Kind::Enum(_) => "TEXT",
        Kind::Bytes | Kind::Message(_) => "BYTEA",
    };
    match classify(field, &Vec::new()) {
        ValueClass::Scalar(kind) => (format!("{kind:?}"), Some(scalar(&kind))),
        ValueClass::Enum(values) => (format!("the enum {}", values.full_name()), Some("TEXT")),
        ValueClass::Timestamp => ("a google.protobuf.Timestamp".to_owned(), Some("TIMESTAMP")),
        ValueClass::Duration => ("a google.protobuf.Duration".to_owned(), Some("INTERVAL")),
        ValueClass::Wrapper(inner) => {
            (format!("a {}", inner.parent_message().full_name()), Some(scalar(&inner.kind())))
        }
        ValueClass::Message(message) => (format!("the message {}", message.full_name()), None),
        ValueClass::Raw => ("a message".to_owned(), None),
    }
}

/// A type as a user of SQL knows it.
fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 | DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE PRECISION".to_owned(),
        DataType::Decimal128(precision, scale) => format!("NUMERIC({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::Duration(_) | DataType::Interval(_) => "INTERVAL".to_owned(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "an array".to_owned(),
        DataType::Map(..) => "a map".to_owned(),
        DataType::Struct(_) => "a struct".to_owned(),
        other => other.to_string(),
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// Integers of any width, and decimals without fraction: their values are checked.
fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Decimal128(_, 0))
}

/// Whether every value of the type is a value of the scalar, or is one after a check.
fn scalar_fits(kind: &Kind, data_type: &DataType) -> bool {
    use DataType as T;
    match kind {
        Kind::Bool => matches!(data_type, T::Boolean),
        Kind::Float => matches!(data_type, T::Float16 | T::Float32 | T::Int8 | T::Int16 | T::UInt8 | T::UInt16),
        Kind::Double => {
            let floats = matches!(data_type, T::Float16 | T::Float32 | T::Float64);
            floats || data_type.is_integer() && !matches!(data_type, T::Int64 | T::UInt64)
        }
        Kind::String => is_text(data_type),
        Kind::Bytes => is_bytes(data_type),
        Kind::Enum(_) | Kind::Message(_) => false,
        _ => is_integer(data_type),
    }
}
