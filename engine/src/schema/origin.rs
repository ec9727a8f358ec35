//! Where the schema of a stream or sink comes from: files, URLs, Stencil, a registry with Confluent's API.
//!
//! It is asked when the object is created, and again by REFRESH; what it said is kept ([`Kept`](super::kept::Kept)), so
//! that nothing has to answer when the server starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Descriptors;
use super::kept::{Content, SchemaKind, SchemaVersion};
use super::registry::confluent::Confluent;
use super::registry::fetch::fetch;
use super::registry::http::{Access, without_password};
use super::registry::stencil::Stencil;
use super::sources::compile_fetched;
use crate::error::{Error, ErrorKind, Result};

/// How a newer schema is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefreshBy {
    /// The list of versions is asked for, and a version is fetched when it is new.
    Version,
    /// The schema is fetched, and compared with the last one.
    Content,
}

/// A place that has schemas.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Files of this machine.
    Files {
        /// As the option says: one or several paths.
        option: String,
        /// Folders in which imports are looked up.
        includes: Vec<PathBuf>,
    },
    /// Files on web servers or in buckets; the first counts that has the message.
    Urls(Vec<String>),
    /// A schema in Stencil.
    Stencil(Stencil),
    /// A subject of a registry.
    Confluent {
        /// The registry.
        registry: Confluent,
        /// The subject.
        subject: String,
    },
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) place: Place,
    pub(crate) access: Access,
    /// The only version that is wanted.
    pub(crate) version: Option<u64>,
    pub(crate) by: RefreshBy,
    /// How often it is asked without being told.
    pub(crate) every: Option<Duration>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) kind: SchemaKind,
    /// Of protobuf, the message.
    pub(crate) message: Option<&'a str>,
}

impl Origin {
    /// What it is, for people.
    pub(crate) fn shown(&self) -> String {
        match &self.place {
            Place::Files { option, .. } => option.clone(),
            Place::Urls(urls) => urls.iter().map(|url| without_password(url)).collect::<Vec<_>>().join(", "),
            Place::Stencil(stencil) => stencil.shown(),
            Place::Confluent { registry, subject } => format!("subject '{subject}' of {}", registry.shown()),
        }
    }

    /// The newest version; `None` if that is the `known` one. Waits for the answer.
    pub(crate) fn newest(&self, wanted: Wanted<'_>, known: Option<&SchemaVersion>) -> Result<Option<SchemaVersion>> {
        let is_known = |number: u64| known.is_some_and(|known| known.number == number);
        match &self.place {
            Place::Files { option, includes } => {
                Ok(counted(file_content(wanted, option, includes)?, self.shown(), known))
            }
            Place::Urls(urls) => {
                let (content, origin) = self.first_of(urls, wanted)?;
                Ok(counted(content, origin, known))
            }
            Place::Stencil(stencil) if self.by == RefreshBy::Content && self.version.is_none() => {
                let bytes = stencil.latest()?;
                Ok(counted(content_of(&bytes, wanted, &self.shown())?, self.shown(), known))
            }
            Place::Stencil(stencil) => {
                let number = match self.version {
                    Some(version) => version,
                    None => stencil.versions()?.last().copied().unwrap_or_default(),
                };
                if is_known(number) {
                    return Ok(None);
                }
                let content = content_of(&stencil.version(number)?, wanted, &self.shown())?;
                Ok(Some(SchemaVersion { number, id: None, origin: self.shown(), content }))
            }
            Place::Confluent { registry, subject } => {
                if self.by == RefreshBy::Version && self.version.is_none() && known.is_some() {
                    let newest = registry.latest_version(subject)?;
                    if is_known(newest) {
                        return Ok(None);
                    }
                }
                let found = registry.version(subject, self.version)?;
                let number = found.version.unwrap_or(1);
                if is_known(number) {
                    return Ok(None);
                }
                if found.content.kind() != wanted.kind {
                    let content = &found.content;
                    return Err(content.text(wanted.kind, &self.shown()).err().unwrap_or_else(|| {
                        Error::invalid(format!("{} is a schema of {}", self.shown(), content.kind().word()))
                    }));
                }
                Ok(Some(SchemaVersion { number, id: Some(found.id), origin: self.shown(), content: found.content }))
            }
        }
    }

    /// The first URL whose definitions have the message. All `.proto` files together are one place.
    fn first_of(&self, urls: &[String], wanted: Wanted<'_>) -> Result<(Content, String)> {
        let is_source = |url: &&String| url.split(['?', '#']).next().is_some_and(|path| path.ends_with(".proto"));
        let sources: Vec<&String> = urls.iter().filter(is_source).collect();
        if wanted.kind == SchemaKind::Protobuf && !sources.is_empty() {
            if sources.len() < urls.len() {
                return Err(Error::invalid("some of the descriptor's URLs are .proto files, and some are not"));
            }
            let mut texts = BTreeMap::new();
            for url in &sources {
                let bytes = fetch(url, &self.access)?;
                let text = String::from_utf8(bytes.to_vec())
                    .map_err(|_| Error::invalid(format!("{} is no text", without_password(url))))?;
                let path = url.split(['?', '#']).next().unwrap_or(url);
                let name = path.rsplit('/').next().unwrap_or(path);
                if texts.insert(name.to_owned(), text).is_some() {
                    return Err(Error::invalid(format!("two of the descriptor's URLs are files called {name}"))
                        .with_hint("write a FileDescriptorSet, which has the files' paths"));
                }
            }
            let set = compile_fetched(texts)?.encode_to_vec();
            return Ok((Content::Protobuf { set, file: None }, self.shown()));
        }
        let mut last = None;
        for url in urls {
            let shown = without_password(url);
            let found = fetch(url, &self.access).and_then(|bytes| content_of(&bytes, wanted, &shown));
            let found = found.and_then(|content| {
                if let (SchemaKind::Protobuf, Some(message)) = (wanted.kind, wanted.message) {
                    content.descriptors(&shown)?.message(message)?;
                }
                Ok(content)
            });
            match found {
                Ok(content) => return Ok((content, shown)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::invalid("the descriptor option names no URL")))
    }
}

/// Another content than the known one is the next version.
fn counted(content: Content, origin: String, known: Option<&SchemaVersion>) -> Option<SchemaVersion> {
    let number = match known {
        Some(known) if known.content == content => return None,
        Some(known) => known.number + 1,
        None => 1,
    };
    Some(SchemaVersion { number, id: None, origin, content })
}

fn content_of(bytes: &[u8], wanted: Wanted<'_>, shown: &str) -> Result<Content> {
    let text = || {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::invalid(format!("{shown} is no {} schema: it is no text", wanted.kind.word())))
    };
    Ok(match wanted.kind {
        SchemaKind::Protobuf => {
            let set = Descriptors::from_set(bytes, shown)?.pool().encode_to_vec();
            Content::Protobuf { set, file: None }
        }
        SchemaKind::Avro => Content::Avro(text()?),
        SchemaKind::Json => Content::Json(text()?),
    })
}

fn file_content(wanted: Wanted<'_>, option: &str, includes: &[PathBuf]) -> Result<Content> {
    if wanted.kind == SchemaKind::Protobuf {
        let set = Descriptors::load(option, includes)?.pool().encode_to_vec();
        return Ok(Content::Protobuf { set, file: None });
    }
    let path = option.trim();
    let path = path.strip_prefix("file:").unwrap_or(path);
    let bytes = std::fs::read(path).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::InvalidDefinition,
            _ => ErrorKind::External,
        };
        Error::new(kind, format!("the schema's file {path} can't be read: {error}"))
    })?;
    content_of(&bytes, wanted, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(option: String) -> Origin {
        let place = Place::Files { option, includes: Vec::new() };
        Origin { place, access: Access::default(), version: None, by: RefreshBy::Content, every: None }
    }

    #[test]
    fn a_file_that_changes_is_the_next_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.proto");
        let write = |fields: &str| {
            std::fs::write(&path, format!("syntax = \"proto3\"; message A {{ {fields} }}")).unwrap();
        };
        write("int32 x = 1;");
        let origin = origin(format!("file:{}", path.display()));
        let wanted = Wanted { kind: SchemaKind::Protobuf, message: Some("A") };
        let first = origin.newest(wanted, None).unwrap().unwrap();
        assert_eq!(first.number, 1);
        assert!(origin.newest(wanted, Some(&first)).unwrap().is_none());
        write("int32 x = 1; int32 y = 2;");
        let second = origin.newest(wanted, Some(&first)).unwrap().unwrap();
        assert_eq!(second.number, 2);
        let message = second.content.descriptors("a").unwrap().message("A").unwrap();
        assert_eq!(message.fields().len(), 2);
        std::fs::remove_file(&path).unwrap();
        assert!(origin.newest(wanted, Some(&second)).unwrap_err().message().contains("does not exist"));
    }

    #[test]
    fn other_languages_are_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.avsc");
        let wanted = Wanted { kind: SchemaKind::Avro, message: None };
        let option = path.display().to_string();
        assert!(origin(option.clone()).newest(wanted, None).unwrap_err().message().contains("can't be read"));
        std::fs::write(&path, "\"long\"").unwrap();
        let found = origin(option).newest(wanted, None).unwrap().unwrap();
        assert_eq!(found.content, Content::Avro("\"long\"".into()));
        assert!(found.content.descriptors("x").unwrap_err().message().contains("schema of Avro, not of protobuf"));
    }
}
