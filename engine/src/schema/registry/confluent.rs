//! Registries with Confluent's API: subjects have versions, and every schema has an id, which records carry.
//!
//! A protobuf schema comes as `.proto` text, or as a file's descriptor in base64 (as the official clients for Python
//! register it); files that it imports are other subjects, named as references. So are types of Avro and texts of JSON Schema
//! that are registered alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::http::{Access, Answer, Http, Question, status_words, wait};
use super::references::{whole_avro, whole_json};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::kept::{Content, SchemaKind};
use crate::schema::sources::compile_registered;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// References of references end somewhere.
const REFERENCES_MAX: usize = 500;

/// What a schema refers to, as a subject: a file that it imports, a type, a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) version: i64,
}

/// A schema to register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NewSchema {
    pub(crate) schema: String,
    #[serde(rename = "schemaType")]
    pub(crate) schema_type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) references: Vec<Reference>,
}

/// A schema as the registry gives it.
#[derive(Debug, Clone, Deserialize)]
struct Raw {
    id: Option<u32>,
    version: Option<u64>,
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

/// A schema with all that it refers to.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) id: u32,
    /// Its version in the subject that was asked for, if one was.
    pub(crate) version: Option<u64>,
    pub(crate) content: Content,
}

/// A registry.
#[derive(Debug, Clone)]
pub(crate) struct Confluent {
    http: Http,
}

impl Confluent {
    pub(crate) fn new(addresses: &[String], access: &Access) -> Result<Self> {
        Ok(Self { http: Http::new(addresses, access)? })
    }

    /// The same, asked once and with little patience.
    pub(crate) fn hastily(&self) -> Self {
        Self { http: self.http.hastily() }
    }

    /// Its addresses, for people.
    pub(crate) fn shown(&self) -> String {
        self.http.shown()
    }

    /// The number of a subject's latest version.
    pub(crate) fn latest_version(&self, subject: &str) -> Result<u64> {
        let answer = self.http.ask(Question::get(format!("/subjects/{}/versions", escaped(subject))))?;
        let versions: Vec<u64> = self.read(&answer, &format!("subject '{subject}'"))?;
        versions.into_iter().max().ok_or_else(|| Error::invalid(format!("subject '{subject}' has no versions")))
    }

    /// A version of a subject; `None`: its latest.
    pub(crate) fn version(&self, subject: &str, version: Option<u64>) -> Result<Resolved> {
        let version = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
        let what = format!("version {version} of subject '{subject}'");
        let registry = self.clone();
        let question = Question::get(format!("/subjects/{}/versions/{version}", escaped(subject)));
        wait(async move {
            let raw: Raw = registry.read(&registry.http.ask_later(question).await?, &what)?;
            let id = raw.id.ok_or_else(|| registry.strange(&what, "it has no id"))?;
            registry.resolved(raw, id, &what).await
        })?
    }

    /// The schema of an id.
    pub(crate) async fn by_id(&self, id: u32) -> Result<Resolved> {
        let what = format!("schema {id}");
        let raw: Raw = self.read(&self.http.ask_later(Question::get(format!("/schemas/ids/{id}"))).await?, &what)?;
        self.resolved(raw, id, &what).await
    }

    /// Registers a schema as a subject's newest version, if it is not one of them; answers its id.
    pub(crate) fn register(&self, subject: &str, schema: &NewSchema) -> Result<u32> {
        #[derive(Deserialize)]
        struct Id {
            id: u32,
        }
        let path = format!("/subjects/{}/versions", escaped(subject));
        let answer = self.http.ask(Question::post(path, CONTENT_TYPE, body(schema)?))?;
        let what = format!("subject '{subject}'");
        match answer.status {
            409 => Err(self.incompatible(subject, schema, &answer)),
            422 => Err(Error::invalid(format!("the registry refuses the schema for {what}: {}", words(&answer)))),
            _ => self.read::<Id>(&answer, &what).map(|registered| registered.id),
        }
    }

    /// The id and version of a schema that a subject has already.
    pub(crate) fn lookup(&self, subject: &str, schema: &NewSchema) -> Result<(u32, u64)> {
        #[derive(Deserialize)]
        struct Found {
            id: u32,
            version: u64,
        }
        let path = format!("/subjects/{}", escaped(subject));
        let answer = self.http.ask(Question::post(path, CONTENT_TYPE, body(schema)?))?;
        if answer.status == 404 {
            return Err(Error::invalid(format!("subject '{subject}' has no such schema: {}", words(&answer)))
                .with_hint("register it first, or write register = 'true'"));
        }
        self.read::<Found>(&answer, &format!("subject '{subject}'")).map(|found| (found.id, found.version))
    }

    /// Why a schema can't follow the subject's others, in the registry's own words.
    fn incompatible(&self, subject: &str, schema: &NewSchema, answer: &Answer) -> Error {
        #[derive(Deserialize, Default)]
        struct Verdict {
            #[serde(default)]
            messages: Vec<String>,
        }
        let path = format!("/compatibility/subjects/{}/versions/latest?verbose=true", escaped(subject));
        let asked = body(schema).and_then(|body| self.http.ask(Question::post(path, CONTENT_TYPE, body)));
        let verdict = asked.ok().and_then(|answer| serde_json::from_slice::<Verdict>(&answer.body).ok());
        let reasons = verdict.map(|verdict| verdict.messages).filter(|messages| !messages.is_empty());
        let reasons = reasons.map_or_else(|| words(answer), |messages| messages.join("; "));
        Error::invalid(format!("the rows' schema is incompatible with the versions of subject '{subject}': {reasons}"))
            .with_hint("write other columns, another subject, or change the subject's compatibility in the registry")
    }

    fn strange(&self, what: &str, why: &str) -> Error {
        Error::new(ErrorKind::External, format!("the registry {} answers strangely for {what}: {why}", self.shown()))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, answer: &Answer, what: &str) -> Result<T> {
        match answer.status {
            200..=299 => serde_json::from_slice(&answer.body).map_err(|error| self.strange(what, &error.to_string())),
            404 => Err(Error::invalid(format!("the registry {} has no {what}: {}", self.shown(), words(answer)))),
            401 | 403 => Err(Error::new(
                ErrorKind::External,
                format!("the registry {} lets nobody in: {}", self.shown(), words(answer)),
            )
            .with_hint("give registry_user and registry_password, or registry_headers")),
            _ => Err(Error::new(
                ErrorKind::External,
                format!("the registry {} refuses {what}: {}", self.shown(), words(answer)),
            )),
        }
    }

    async fn resolved(&self, raw: Raw, id: u32, what: &str) -> Result<Resolved> {
        let references = raw.references.unwrap_or_default();
        let kind = match raw.schema_type.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some("JSON") => SchemaKind::Json,
            Some(other) => return Err(self.strange(what, &format!("its type is {other}"))),
        };
        let others = self.imports(references).await?;
        let refused = |words: String| Error::invalid(format!("{what}: {words}"));
        let content = match kind {
            SchemaKind::Avro | SchemaKind::Json if others.is_empty() => {
                if kind == SchemaKind::Avro {
                    Content::Avro(raw.schema)
                } else {
                    Content::Json(raw.schema)
                }
            }
            SchemaKind::Avro => Content::Avro(whole_avro(&raw.schema, &others).map_err(refused)?),
            SchemaKind::Json => Content::Json(whole_json(&raw.schema, &others).map_err(refused)?),
            SchemaKind::Protobuf => {
                let main = format!("registry/schema-{id}.proto");
                compile_registered(&main, &raw.schema, others).map_err(|error| error.context(what))?
            }
        };
        Ok(Resolved { id, version: raw.version, content })
    }

    /// What a schema refers to, by the names that it imports it under.
    async fn imports(&self, references: Vec<Reference>) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let mut open = references;
        while let Some(Reference { name, subject, version }) = open.pop() {
            if found.contains_key(&name) {
                continue;
            }
            if found.len() == REFERENCES_MAX {
                return Err(Error::not_supported(format!("a schema refers to more than {REFERENCES_MAX} others")));
            }
            let what = format!("version {version} of subject '{subject}'");
            let path = format!("/subjects/{}/versions/{version}?deleted=true", escaped(&subject));
            let raw: Raw = self.read(&self.http.ask_later(Question::get(path)).await?, &what)?;
            found.insert(name, raw.schema);
            open.extend(raw.references.unwrap_or_default());
        }
        Ok(found)
    }
}

fn body(schema: &NewSchema) -> Result<Vec<u8>> {
    serde_json::to_vec(schema).map_err(|error| Error::internal(format!("a schema can't be written: {error}")))
}

/// The registry's own words.
fn words(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    serde_json::from_slice::<Said>(&answer.body).map_or_else(|_| status_words(answer), |said| said.message)
}

/// A name as one segment of a path.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a-value"), "a-value");
        assert_eq!(escaped("parts/leg.proto ä"), "parts%2Fleg.proto%20%C3%A4");
    }
}
