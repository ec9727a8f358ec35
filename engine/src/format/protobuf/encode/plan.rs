//! The encode plan: which column goes to which field, and how its values are written.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit};
use prost_reflect::{Kind, MessageDescriptor};

use super::super::compile::wire_type;
use super::super::wire;
use super::fit::{is_bytes, is_integer, is_text, scalar_fits, sql_name};
use super::range::EnumNumbers;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::types::{ANY_JSON, JsonKind, TypeRules, ValueClass, classify, is_any};
use crate::schema::{MessageField, fields_of, nearest};

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
    /// A message whose fields are columns of their own, called `location.lat`.
    Gathered(MessageShape, Ending),
    List {
        item: ValueShape,
        packed: bool,
    },
    Map {
        key: ValueShape,
        key_tag: u32,
        value: ValueShape,
        value_tag: u32,
    },
}

/// How one value is written.
pub(super) enum ValueShape {
    Scalar(Kind),
    Enum(EnumNumbers),
    Timestamp,
    Duration,
    /// JSON as a text.
    Json(JsonKind),
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

/// A column on its way to a field.
struct Given<'a> {
    place: usize,
    /// What is left of its name behind the fields that were found.
    name: &'a str,
    /// Its whole name.
    path: String,
    column: &'a Field,
}

/// What becomes of columns that no field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Refused,
    Ignored,
}

impl MessageShape {
    /// Matches `columns` to the fields of `message`; `outer` is the path of the struct that they lie in, or empty.
    pub(super) fn of_message(
        message: &MessageDescriptor,
        columns: &Fields,
        outer: &str,
        unknown: Unknown,
    ) -> Result<Self> {
        let given = columns.iter().enumerate().map(|(place, column)| {
            let path = if outer.is_empty() { column.name().clone() } else { format!("{outer}.{}", column.name()) };
            Given { place, name: column.name(), path, column }
        });
        Self::of_columns(message, given.collect(), unknown)
    }

    fn of_columns(message: &MessageDescriptor, columns: Vec<Given<'_>>, unknown: Unknown) -> Result<Self> {
        let mut shapes: Vec<(MessageField, FieldShape)> = Vec::with_capacity(columns.len());
        let mut gathered: Vec<(MessageField, Vec<Given<'_>>)> = Vec::new();
        for given in columns {
            // What an Any shows of its contents is for reading.
            if is_any(message) && given.name == ANY_JSON {
                continue;
            }
            if let Some(field) = find_field(message, given.name) {
                let taken = shapes.iter().any(|(other, _)| *other == field);
                if taken || gathered.iter().any(|(other, _)| *other == field) {
                    return Err(taken_twice(&field, &given.path));
                }
                let shape = FieldShape::of_field(&field, given.place, given.column, given.path, unknown)?;
                shapes.push((field, shape));
                continue;
            }
            let inner = given.name.split_once('.').and_then(|(first, rest)| Some((find_field(message, first)?, rest)));
            match inner {
                Some((field, rest)) => {
                    if shapes.iter().any(|(other, _)| *other == field) {
                        return Err(taken_twice(&field, &given.path));
                    }
                    let given = Given { name: rest, ..given };
                    match gathered.iter_mut().find(|(other, _)| *other == field) {
                        Some((_, columns)) => columns.push(given),
                        None => gathered.push((field, vec![given])),
                    }
                }
                None if unknown == Unknown::Ignored => {}
                None => return Err(no_field(message, given.name, &given.path)),
            }
        }
        for (field, columns) in gathered {
            if let Some(shape) = FieldShape::gathered(&field, columns, unknown)? {
                shapes.push((field, shape));
            }
        }
        Self::of_shapes(message, shapes)
    }

    fn of_shapes(message: &MessageDescriptor, mut shapes: Vec<(MessageField, FieldShape)>) -> Result<Self> {
        for field in fields_of(message).iter().filter(|field| field.is_required()) {
            if !shapes.iter().any(|(given, _)| given == field) {
                let message = format!("the field {} is required and has no column", field.full_name());
                return Err(Error::invalid(message).with_hint(format!("select a column AS {}", field.name())));
            }
        }
        shapes.sort_by_key(|(field, _)| field.number());
        let mut members: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, (field, _)) in shapes.iter().enumerate() {
            if let Some(oneof) = field.oneof() {
                members.entry(oneof.name().to_owned()).or_default().push(place);
            }
        }
        let oneofs = members.into_values().filter(|members| members.len() > 1).collect();
        Ok(Self { fields: shapes.into_iter().map(|(_, shape)| shape).collect(), oneofs })
    }
}

fn taken_twice(field: &MessageField, path: &str) -> Error {
    let message = format!("two columns go to the field {}, the second is {path}", field.full_name());
    Error::invalid(message).with_hint("keep one of them, or give it another name with AS")
}

/// The field of that name, or else the only one of that name without regard to case: SQL folds names.
fn find_field(message: &MessageDescriptor, name: &str) -> Option<MessageField> {
    let fields = fields_of(message);
    if let Some(field) = fields.iter().find(|field| field.name() == name) {
        return Some(field.clone());
    }
    let alike: Vec<&MessageField> = fields.iter().filter(|field| field.name().eq_ignore_ascii_case(name)).collect();
    match &alike[..] {
        [field] => Some((*field).clone()),
        _ => None,
    }
}

fn no_field(message: &MessageDescriptor, name: &str, path: &str) -> Error {
    let fields = fields_of(message);
    let near = nearest(name, fields.iter().map(MessageField::name));
    let oneof = message.oneofs().any(|oneof| oneof.name() == name && !oneof.is_synthetic());
    let hint = if oneof {
        "a oneof is written by the columns of its fields: leave it out, or say ignore_unknown = 'true'".to_owned()
    } else if near.is_empty() {
        let names: Vec<&str> = fields.iter().map(MessageField::name).take(20).collect();
        format!(
            "its fields are {}; rename the column with AS, leave it out, or say ignore_unknown = 'true'",
            names.join(", ")
        )
    } else {
        format!("rename the column with AS: did you mean {}?", near.join(" or "))
    };
    let text = format!("the column {path} has no field in the message {}", message.full_name());
    Error::new(ErrorKind::UndefinedColumn, text).with_hint(hint)
}

impl FieldShape {
    /// A message of columns of their own; `None` if no field takes any of them and that is allowed.
    fn gathered(field: &MessageField, columns: Vec<Given<'_>>, unknown: Unknown) -> Result<Option<Self>> {
        let path = columns.first().map_or("", |given| given.path.as_str());
        let path = path.strip_suffix(columns.first().map_or("", |given| given.name)).unwrap_or(path);
        let path = path.trim_end_matches('.').to_owned();
        let class = classify(field, &Vec::new(), &TypeRules::default());
        let (ValueClass::Message(message), false) = (class, field.is_list() || field.is_map()) else {
            let (wanted, _) = wanted(field);
            let what = if field.is_list() || field.is_map() { "which has many values".to_owned() } else { wanted };
            let first = columns.first().map_or("", |given| given.path.as_str());
            let text =
                format!("the column {first} goes into the field {}, {what}: it has no fields", field.full_name());
            return Err(Error::new(ErrorKind::DatatypeMismatch, text)
                .with_hint(format!("write one column AS {}", field.name())));
        };
        let shape = MessageShape::of_columns(&message, columns, unknown)?;
        if shape.fields.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            column: 0,
            path,
            tag: wire::tag(field.number(), wire_type(field)),
            content: Content::Gathered(shape, ending(field)),
            explicit: true,
            required: field.is_required(),
        }))
    }

    fn of_field(field: &MessageField, column: usize, arrow: &Field, path: String, unknown: Unknown) -> Result<Self> {
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
                let key = MessageField::Own(entry.map_entry_key_field());
                let value = MessageField::Own(entry.map_entry_value_field());
                Content::Map {
                    key: ValueShape::of_value(&key, key_column.data_type(), &format!("{path}.key"), unknown)?,
                    key_tag: wire::tag(1, wire_type(&key)),
                    value: ValueShape::of_value(&value, value_column.data_type(), &format!("{path}.value"), unknown)?,
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
                Content::List { item: ValueShape::of_value(field, item.data_type(), &path, unknown)?, packed }
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
            (_, one) => Content::One(ValueShape::of_value(field, one, &path, unknown)?),
        };
        Ok(Self { column, path, tag, content, explicit: field.supports_presence(), required: field.is_required() })
    }
}

impl ValueShape {
    /// How values of type `data_type` are written as values of `field`.
    fn of_value(field: &MessageField, data_type: &DataType, path: &str, unknown: Unknown) -> Result<Self> {
        let ending = ending(field);
        let (fits, shape) = match classify(field, &Vec::new(), &TypeRules::default()) {
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
                    let inner = MessageShape::of_message(&message, columns, path, unknown)?;
                    return Ok(Self::Message(inner, ending));
                }
                _ => (is_bytes(data_type), Self::Raw(ending)),
            },
            // Without ancestors nothing is recursive: the columns end, whatever the message does.
            ValueClass::Raw(_) => (is_bytes(data_type), Self::Raw(ending)),
            ValueClass::Json(_) if is_bytes(data_type) => (true, Self::Raw(ending)),
            ValueClass::Json(kind) => (is_text(data_type), Self::Json(kind)),
        };
        if fits { Ok(shape) } else { Err(misfit(field, data_type, path)) }
    }
}

fn ending(field: &MessageField) -> Ending {
    if field.is_group() { Ending::Group(wire::tag(field.number(), wire::END_GROUP)) } else { Ending::Length }
}

fn misfit(field: &MessageField, data_type: &DataType, path: &str) -> Error {
    let (wanted, cast) = wanted(field);
    let text = format!("the column {path} is {}, but the field {} is {wanted}", sql_name(data_type), field.full_name());
    let hint = match cast {
        Some(cast) => format!("write CAST({path} AS {cast})"),
        None => format!("write named_struct('field', value, …) AS {}", field.name()),
    };
    Error::new(ErrorKind::DatatypeMismatch, text).with_hint(hint)
}

/// A field's type in protobuf's words, and the SQL type to cast to.
fn wanted(field: &MessageField) -> (String, Option<&'static str>) {
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
    match classify(field, &Vec::new(), &TypeRules::default()) {
        ValueClass::Scalar(kind) => (format!("{kind:?}"), Some(scalar(&kind))),
        ValueClass::Enum(values) => (format!("the enum {}", values.full_name()), Some("TEXT")),
        ValueClass::Timestamp => ("a google.protobuf.Timestamp".to_owned(), Some("TIMESTAMP")),
        ValueClass::Duration => ("a google.protobuf.Duration".to_owned(), Some("INTERVAL")),
        ValueClass::Wrapper(inner) => {
            (format!("a {}", inner.parent_message().full_name()), Some(scalar(&inner.kind())))
        }
        ValueClass::Message(message) => (format!("the message {}", message.full_name()), None),
        ValueClass::Raw(_) => ("a message".to_owned(), None),
        ValueClass::Json(JsonKind::Struct) => ("a google.protobuf.Struct, written as JSON".to_owned(), Some("TEXT")),
        ValueClass::Json(JsonKind::Value) => ("a google.protobuf.Value, written as JSON".to_owned(), Some("TEXT")),
        ValueClass::Json(JsonKind::List) => ("a google.protobuf.ListValue, written as JSON".to_owned(), Some("TEXT")),
    }
}
