//! JSON Schema: the columns that it says, and what is said of columns.
//!
//! | JSON Schema | column |
//! |---|---|
//! | `string`; with `format: date-time`, `date` | `TEXT`; `TIMESTAMP`, `DATE` |
//! | `integer`, `number`, `boolean` | `BIGINT`, `DOUBLE PRECISION`, `BOOLEAN` |
//! | `array` with `items` | an array |
//! | `object` with `properties`; with `additionalProperties` alone | a row; a map |
//! | `null` beside one other type | that type, which may be NULL |
//! | anything else (several types, an open object, a schema inside of itself) | `TEXT`: the value as JSON |

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::schema::ordered::Json;

/// Objects in objects; behind it a value is kept as JSON.
const DEPTH_MAX: usize = 20;

/// The columns of objects of this schema.
pub(crate) fn columns(text: &str, origin: &str) -> Result<SchemaRef> {
    let wrong = |words: String| {
        Error::invalid(format!("{origin} is no JSON Schema of objects: {words}"))
            .with_hint("its type has to be 'object', with properties")
    };
    let root = Json::read(text).map_err(|error| wrong(error.to_string()))?;
    let reading = Reading { root: &root };
    let object = reading.resolved(&root).unwrap_or(&root);
    let fields = reading.fields(object, 0);
    if fields.is_empty() {
        return Err(wrong("it has no properties".to_owned()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

struct Reading<'a> {
    root: &'a Json,
}

impl<'a> Reading<'a> {
    /// What a `$ref` within the text points at.
    fn resolved(&self, schema: &'a Json) -> Option<&'a Json> {
        let mut schema = schema;
        for _ in 0..DEPTH_MAX {
            let Some(reference) = schema.get("$ref").and_then(Json::as_str) else { return Some(schema) };
            schema = self.root.pointer(reference.strip_prefix('#')?)?;
        }
        None
    }

    fn fields(&self, object: &'a Json, depth: usize) -> Vec<FieldRef> {
        let mut fields: Vec<FieldRef> = Vec::new();
        // What all of several schemas say is said.
        let parts = object.get("allOf").and_then(Json::as_array).into_iter().flatten();
        for part in parts.filter_map(|part| self.resolved(part)) {
            let more = self.fields(part, depth + 1);
            fields.extend(more.into_iter().filter(|_| depth < DEPTH_MAX));
        }
        let required: Vec<&str> = object
            .get("required")
            .and_then(Json::as_array)
            .map(|names| names.iter().filter_map(Json::as_str).collect())
            .unwrap_or_default();
        for (name, schema) in object.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let (data_type, may_be_null) = self.typed(schema, depth + 1);
            let nullable = may_be_null || !required.contains(&name.as_str());
            fields.retain(|known| known.name() != name);
            fields.push(Arc::new(Field::new(name, data_type, nullable)));
        }
        fields
    }

    /// The type of values, and whether they may be NULL.
    fn typed(&self, schema: &'a Json, depth: usize) -> (DataType, bool) {
        let Some(schema) = self.resolved(schema).filter(|_| depth <= DEPTH_MAX) else { return (DataType::Utf8, true) };
        for either in ["oneOf", "anyOf"] {
            let Some(parts) = schema.get(either).and_then(Json::as_array) else { continue };
            let is_null = |part: &&Json| part.get("type").and_then(Json::as_str) == Some("null");
            let others: Vec<&Json> = parts.iter().filter(|part| !is_null(part)).collect();
            return match others[..] {
                [one] => {
                    let (data_type, may_be_null) = self.typed(one, depth + 1);
                    (data_type, may_be_null || others.len() < parts.len())
                }
                _ => (DataType::Utf8, true),
            };
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Json::String(one)) => vec![one.as_str()],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ if schema.get("properties").is_some() || schema.get("allOf").is_some() => vec!["object"],
            _ => vec![],
        };
        let may_be_null = types.contains(&"null");
        let others: Vec<&str> = types.into_iter().filter(|name| *name != "null").collect();
        match others[..] {
            [one] => (self.of_name(one, schema, depth), may_be_null),
            _ => (DataType::Utf8, true),
        }
    }

    fn of_name(&self, name: &str, schema: &'a Json, depth: usize) -> DataType {
        // Kafka Connect says which of its own numbers it was.
        let connect = schema.get("connect.type").and_then(Json::as_str);
        match (name, connect) {
            ("boolean", _) => DataType::Boolean,
            ("integer", Some("int8" | "int16")) => DataType::Int16,
            ("integer", Some("int32")) => DataType::Int32,
            ("integer", _) => DataType::Int64,
            ("number", Some("float32")) => DataType::Float32,
            ("number", _) => DataType::Float64,
            ("string", _) => match schema.get("format").and_then(Json::as_str) {
                Some("date-time") => DataType::Timestamp(TimeUnit::Microsecond, None),
                Some("date") => DataType::Date32,
                _ => DataType::Utf8,
            },
            ("array", _) => match schema.get("items") {
                Some(items) => DataType::List(Arc::new(Field::new_list_field(self.typed(items, depth + 1).0, true))),
                None => DataType::Utf8,
            },
            ("object", _) => {
                let fields = self.fields(schema, depth);
                if !fields.is_empty() {
                    // Inside, a member may be missing with all that is around it.
                    let inner = fields.iter().map(|field| field.as_ref().clone().with_nullable(true));
                    return DataType::Struct(inner.collect::<Vec<_>>().into());
                }
                match schema.get("additionalProperties").filter(|values| values.as_object().is_some()) {
                    Some(values) => map_of(self.typed(values, depth + 1).0),
                    None => DataType::Utf8,
                }
            }
            _ => DataType::Utf8,
        }
    }
}

fn map_of(values: DataType) -> DataType {
    let parts = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", values, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(parts), false)), false)
}

/// The schema of the objects that rows are written as.
pub(crate) fn of_columns(schema: &Schema, title: &str) -> String {
    let mut object = object_of(schema.fields());
    object.set("$schema", "http://json-schema.org/draft-07/schema#".into());
    object.set("title", title.into());
    object.to_string()
}

fn object_of(fields: &Fields) -> Json {
    let properties =
        fields.iter().map(|field| (field.name().as_str(), schema_of(field.data_type(), field.is_nullable())));
    Json::object([
        ("type", "object".into()),
        ("properties", Json::object(properties)),
        ("additionalProperties", false.into()),
    ])
}

fn schema_of(data_type: &DataType, nullable: bool) -> Json {
    let of_type = |name: &str| Json::object([("type", name.into())]);
    let mut schema = match data_type {
        DataType::Boolean => of_type("boolean"),
        DataType::List(item) | DataType::LargeList(item) => {
            Json::object([("type", "array".into()), ("items", schema_of(item.data_type(), true))])
        }
        DataType::Struct(fields) => object_of(fields),
        DataType::Map(entries, _) => {
            let values = match entries.data_type() {
                DataType::Struct(parts) => parts.get(1).map(|value| schema_of(value.data_type(), true)),
                _ => None,
            };
            let values = values.unwrap_or(Json::Bool(true));
            Json::object([("type", "object".into()), ("additionalProperties", values)])
        }
        DataType::Timestamp(..) => Json::object([("type", "string".into()), ("format", "date-time".into())]),
        DataType::Date32 | DataType::Date64 => Json::object([("type", "string".into()), ("format", "date".into())]),
        whole if whole.is_integer() => of_type("integer"),
        // NaN and the infinities are written as texts.
        number if number.is_floating() => Json::object([("type", Json::texts(["number", "string"]))]),
        number if number.is_decimal() => of_type("number"),
        _ => of_type("string"),
    };
    if nullable {
        let types: Vec<Json> = match schema.get("type") {
            Some(Json::Array(types)) => types.clone(),
            one => one.cloned().into_iter().collect(),
        };
        schema.set("type", Json::Array(types.into_iter().chain(["null".into()]).collect()));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_columns() {
        let schema = columns(
            r##"{"type": "object", "required": ["id", "maybe"], "definitions": {"leg": {"type": "object",
                 "properties": {"lat": {"type": "number"}, "leg": {"$ref": "#/definitions/leg"}}}},
               "properties": {
                 "id": {"type": "integer"}, "small": {"type": "integer", "connect.type": "int32"},
                 "maybe": {"oneOf": [{"type": "null"}, {"type": "string"}]},
                 "at": {"type": ["string", "null"], "format": "date-time"}, "day": {"type": "string", "format": "date"},
                 "tags": {"type": "array", "items": {"type": "string"}},
                 "open": {"type": "object"}, "either": {"type": ["string", "integer"]},
                 "prices": {"type": "object", "additionalProperties": {"type": "number"}},
                 "short": {"type": "object", "properties": {"x": {"type": "boolean"}}}}}"##,
            "x",
        )
        .unwrap();
        let said: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| {
                format!("{} {} {}", field.name(), field.data_type(), if field.is_nullable() { "" } else { "!" })
            })
            .collect();
        let find = |name: &str| said.iter().find(|words| words.starts_with(&format!("{name} "))).unwrap().as_str();
        assert_eq!(find("id"), "id Int64 !");
        assert_eq!(find("small"), "small Int32 ");
        assert_eq!(find("maybe"), "maybe Utf8 ");
        assert!(find("at").starts_with("at Timestamp(µs)"), "{}", find("at"));
        assert_eq!(find("day"), "day Date32 ");
        assert!(find("tags").contains("List"));
        assert_eq!((find("open"), find("either")), ("open Utf8 ", "either Utf8 "));
        assert!(find("prices").contains("Map"));
        assert!(find("short").contains("Boolean"));
    }

    #[test]
    fn a_schema_inside_of_itself_ends_as_json() {
        let text = r##"{"type": "object", "properties": {"next": {"$ref": "#"}}}"##;
        let schema = columns(text, "x").unwrap();
        assert!(schema.field(0).data_type().is_nested());
        for wrong in ["{", "{}", r#"{"type": "string"}"#] {
            assert!(columns(wrong, "here").unwrap_err().message().starts_with("here is no JSON Schema"));
        }
    }

    #[test]
    fn what_is_said_of_columns_is_read_as_them() {
        let text = r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"},
            "at": {"type": "string", "format": "date-time"}, "inner": {"type": "object", "properties": {"x": {"type": "boolean"}}},
            "tags": {"type": "array", "items": {"type": "string"}}}}"#;
        let schema = columns(text, "x").unwrap();
        let again = columns(&of_columns(&schema, "Row"), "y").unwrap();
        let said = |schema: &Schema| {
            schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>()
        };
        assert_eq!(said(&schema), said(&again));
        // In the order of the text.
        assert_eq!(schema.field(0).name(), "id");
    }
}
