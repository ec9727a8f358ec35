//! Schemas of Avro and JSON Schema that refer to other subjects, as one text that has all that they name.
//!
//! Protobuf's imports stay files of their own; a reader of Avro or JSON Schema has one text.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::schema::ordered::Json;

/// An Avro schema with the types of `others` written out where each is named first, as Avro has it.
pub(super) fn whole_avro(schema: &str, others: &BTreeMap<String, String>) -> Result<String, String> {
    let main = read(schema)?;
    let mut types = Types::default();
    for text in others.values() {
        types.gather(&read(text)?, "");
    }
    // What the schema defines itself goes before.
    let mut own = Types::default();
    own.gather(&main, "");
    types.known.retain(|name, _| !own.known.contains_key(name));
    let mut writing = Writing { types: &types, written: HashSet::new() };
    Ok(writing.value(&main, "").to_string())
}

fn read(text: &str) -> Result<Json, String> {
    // A schema that is one name may stand without quotes.
    Json::read(text).or_else(|error| match text.trim().chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c)) {
        true => Ok(text.trim().into()),
        false => Err(format!("a schema is no JSON: {error}")),
    })
}

/// Named types with their definitions, by full name.
#[derive(Default)]
struct Types {
    known: HashMap<String, Json>,
}

impl Types {
    fn gather(&mut self, schema: &Json, around: &str) {
        match schema {
            Json::Array(parts) => parts.iter().for_each(|part| self.gather(part, around)),
            Json::Object(_) => {
                let mut inside = around.to_owned();
                if let Some((name, namespace)) = named(schema, around) {
                    let mut definition = schema.clone();
                    definition.set("name", last_part(&name).into());
                    definition.set("namespace", namespace.as_str().into());
                    self.known.entry(name).or_insert(definition);
                    inside = namespace;
                }
                for field in schema.get("fields").and_then(Json::as_array).into_iter().flatten() {
                    field.get("type").into_iter().for_each(|of| self.gather(of, &inside));
                }
                for part in ["type", "items", "values"] {
                    schema.get(part).into_iter().for_each(|of| self.gather(of, &inside));
                }
            }
            _ => {}
        }
    }
}

/// Full name and namespace of a schema that defines a type.
fn named(schema: &Json, around: &str) -> Option<(String, String)> {
    let kind = schema.get("type")?.as_str()?;
    if !matches!(kind, "record" | "error" | "enum" | "fixed") {
        return None;
    }
    let name = schema.get("name")?.as_str()?;
    let namespace = match (name.rsplit_once('.'), schema.get("namespace").and_then(Json::as_str)) {
        (Some((namespace, _)), _) => namespace.to_owned(),
        (None, Some(namespace)) => namespace.to_owned(),
        (None, None) => around.to_owned(),
    };
    Some((full_name(last_part(name), &namespace), namespace))
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

struct Writing<'a> {
    types: &'a Types,
    /// Those that stand in the text already.
    written: HashSet<String>,
}

impl Writing<'_> {
    fn value(&mut self, schema: &Json, around: &str) -> Json {
        match schema {
            Json::String(name) => self.name(name, around),
            Json::Array(parts) => Json::Array(parts.iter().map(|part| self.value(part, around)).collect()),
            Json::Object(_) => self.object(schema, around),
            other => other.clone(),
        }
    }

    /// A type by its name: where that is another schema's, its definition, the first time.
    fn name(&mut self, name: &str, around: &str) -> Json {
        let full = [full_name(name, around), name.to_owned()];
        let Some((full, definition)) = full.iter().find_map(|full| self.types.known.get_key_value(full)) else {
            return name.into();
        };
        if self.written.contains(full) {
            return full.as_str().into();
        }
        self.object(definition, around)
    }

    fn object(&mut self, schema: &Json, around: &str) -> Json {
        let mut inside = around.to_owned();
        if let Some((name, namespace)) = named(schema, around) {
            self.written.insert(name);
            inside = namespace;
        }
        let mut whole = schema.clone();
        if let Some(fields) = schema.get("fields").and_then(Json::as_array) {
            let field = |field: &Json, of: Json| {
                let mut field = field.clone();
                field.set("type", of);
                field
            };
            let fields = fields.iter().map(|one| match one.get("type") {
                Some(of) => field(one, self.value(of, &inside)),
                None => one.clone(),
            });
            whole.set("fields", Json::Array(fields.collect()));
        }
        for part in ["type", "items", "values"] {
            if let Some(of) = schema.get(part) {
                whole.set(part, self.value(of, &inside));
            }
        }
        whole
    }
}

/// Where the texts of other subjects stand in a JSON Schema.
const DEFINITIONS: &str = "$defs";

/// A JSON Schema with those of `others`, by the names that it refers to them by, among its definitions.
pub(super) fn whole_json(schema: &str, others: &BTreeMap<String, String>) -> Result<String, String> {
    let mut ids: BTreeMap<String, String> = others.keys().map(|name| (name.clone(), name.clone())).collect();
    let mut parts = Vec::new();
    for (name, text) in others {
        let part = read(text)?;
        if let Some(id) = part.get("$id").and_then(Json::as_str) {
            ids.entry(id.trim_end_matches('#').to_owned()).or_insert_with(|| name.clone());
        }
        parts.push((name.as_str(), part));
    }
    let mut whole = pointed(&read(schema)?, "#", &ids);
    let mut definitions = whole.get(DEFINITIONS).cloned().unwrap_or(Json::Object(Vec::new()));
    for (name, part) in parts {
        definitions.set(name, pointed(&part, &place(name), &ids));
    }
    whole.set(DEFINITIONS, definitions);
    Ok(whole.to_string())
}

/// Where a text of another subject stands.
fn place(name: &str) -> String {
    format!("#/{DEFINITIONS}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The same with its `$ref`s as they have to be when it stands at `here`.
fn pointed(schema: &Json, here: &str, ids: &BTreeMap<String, String>) -> Json {
    match schema {
        Json::Array(items) => Json::Array(items.iter().map(|item| pointed(item, here, ids)).collect()),
        Json::Object(members) => Json::Object(
            members
                .iter()
                .map(|(name, value)| match (name.as_str(), value) {
                    ("$ref", Json::String(reference)) => (name.clone(), reference_at(reference, here, ids).into()),
                    _ => (name.clone(), pointed(value, here, ids)),
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

fn reference_at(reference: &str, here: &str, ids: &BTreeMap<String, String>) -> String {
    let (file, inside) = reference.split_once('#').unwrap_or((reference, ""));
    if file.is_empty() {
        return format!("{here}{inside}");
    }
    match ids.get(file) {
        Some(name) => format!("{}{inside}", place(name)),
        None => reference.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(texts: &[(&str, &str)]) -> BTreeMap<String, String> {
        texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn avro_types_stand_where_they_are_named_first() {
        let leg = r#"{"type":"record","name":"Leg","namespace":"acme.parts","fields":[
            {"name":"kind","type":"Kind"},{"name":"next","type":["null","Leg"]}]}"#;
        let kind = r#"{"type":"enum","name":"acme.parts.Kind","symbols":["A"]}"#;
        let main = r#"{"type":"record","name":"Ride","namespace":"acme","fields":[
            {"name":"leg","type":"acme.parts.Leg"},{"name":"legs","type":{"type":"array","items":"acme.parts.Leg"}},
            {"name":"other","type":["null","acme.parts.Kind"]}, {"name":"own","type":"Ride"}]}"#;
        let whole = whole_avro(main, &others(&[("l", leg), ("k", kind)])).unwrap();
        let expected = concat!(
            r#"{"type":"record","name":"Ride","namespace":"acme","fields":[{"name":"leg","type":"#,
            r#"{"type":"record","name":"Leg","namespace":"acme.parts","fields":[{"name":"kind","type":"#,
            r#"{"type":"enum","name":"Kind","symbols":["A"],"namespace":"acme.parts"}},{"name":"next","type":["null","Leg"]}]}},"#,
            r#"{"name":"legs","type":{"type":"array","items":"acme.parts.Leg"}},"#,
            r#"{"name":"other","type":["null","acme.parts.Kind"]},{"name":"own","type":"Ride"}]}"#
        );
        assert_eq!(whole, expected.replace(r#"["null","Leg"]"#, r#"["null","acme.parts.Leg"]"#));
        // A subject that only names another's type.
        let whole = whole_avro("\"acme.parts.Kind\"", &others(&[("k", kind)])).unwrap();
        assert!(whole.starts_with(r#"{"type":"enum""#), "{whole}");
        assert_eq!(whole_avro("acme.parts.Kind", &others(&[("k", kind)])).unwrap(), whole);
        assert!(whole_avro("{", &others(&[])).unwrap_err().contains("no JSON"));
    }

    #[test]
    fn json_schemas_become_definitions() {
        let leg = r##"{"$id":"http://acme/leg.json","definitions":{"z":{"type":"string"}},"type":"object",
            "properties":{"zone":{"$ref":"#/definitions/z"},"self":{"$ref":"#"},"of":{"$ref":"http://acme/kind.json"}}}"##;
        let kind = r#"{"type":"boolean"}"#;
        let main = r##"{"properties":{"b":{"$ref":"leg.json"},"a":{"$ref":"http://acme/leg.json#/definitions/z"},
            "own":{"$ref":"#/properties/a"},"unknown":{"$ref":"x.json"}}}"##;
        let whole = whole_json(main, &others(&[("leg.json", leg), ("http://acme/kind.json", kind)])).unwrap();
        let whole = Json::read(&whole).unwrap();
        let at = |pointer: &str| whole.pointer(pointer).and_then(Json::as_str).unwrap().to_owned();
        assert_eq!(at("/properties/b/$ref"), "#/$defs/leg.json");
        assert_eq!(at("/properties/a/$ref"), "#/$defs/leg.json/definitions/z");
        assert_eq!(at("/properties/own/$ref"), "#/properties/a");
        assert_eq!(at("/properties/unknown/$ref"), "x.json");
        assert_eq!(at("/$defs/leg.json/properties/zone/$ref"), "#/$defs/leg.json/definitions/z");
        assert_eq!(at("/$defs/leg.json/properties/self/$ref"), "#/$defs/leg.json");
        assert_eq!(at("/$defs/leg.json/properties/of/$ref"), "#/$defs/http:~1~1acme~1kind.json");
        assert_eq!(whole.pointer("/$defs/http:~1~1acme~1kind.json/type").and_then(Json::as_str), Some("boolean"));
    }
}
