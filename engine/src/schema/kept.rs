//! Schemas as the catalog keeps them: the versions of one object, the one that is in use last.
//!
//! Kept are those that a job still reads by, and the last few. A catalog of before versions holds the bytes of a
//! `FileDescriptorSet` alone: that is version 1.

use std::collections::BTreeSet;

use prost::Message;
use prost_reflect::DescriptorPool;

use super::Descriptors;
use crate::error::{Error, Result};

/// No `FileDescriptorSet` begins so.
const MARK: [u8; 2] = [0, 1];

/// Versions that are kept although no job reads by them.
const UNUSED_MAX: usize = 8;

/// The languages that schemas are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    /// Protocol buffers.
    Protobuf,
    /// Avro.
    Avro,
    /// JSON Schema.
    Json,
}

impl SchemaKind {
    /// Its name in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Protobuf => "protobuf",
            Self::Avro => "Avro",
            Self::Json => "JSON Schema",
        }
    }
}

/// What a schema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Protobuf definitions, all imports among them, and the file that is meant if one is.
    Protobuf {
        /// A `FileDescriptorSet`, encoded.
        set: Vec<u8>,
        /// The name of the file whose messages are numbered in records.
        file: Option<String>,
    },
    /// An Avro schema.
    Avro(String),
    /// A JSON Schema.
    Json(String),
}

impl Content {
    /// What it is written in.
    pub fn kind(&self) -> SchemaKind {
        match self {
            Self::Protobuf { .. } => SchemaKind::Protobuf,
            Self::Avro(_) => SchemaKind::Avro,
            Self::Json(_) => SchemaKind::Json,
        }
    }

    /// The protobuf definitions; `origin` names them in errors.
    pub fn descriptors(&self, origin: &str) -> Result<Descriptors> {
        let Self::Protobuf { set, .. } = self else {
            return Err(self.unexpected(SchemaKind::Protobuf, origin));
        };
        let pool = DescriptorPool::decode(set.as_slice())
            .map_err(|error| Error::internal(format!("the kept descriptor of {origin} can't be read: {error}")))?;
        Ok(Descriptors::from_pool(pool, origin))
    }

    /// Its text, of Avro and JSON.
    pub fn text(&self, wanted: SchemaKind, origin: &str) -> Result<&str> {
        match self {
            Self::Avro(text) if wanted == SchemaKind::Avro => Ok(text),
            Self::Json(text) if wanted == SchemaKind::Json => Ok(text),
            _ => Err(self.unexpected(wanted, origin)),
        }
    }

    fn unexpected(&self, wanted: SchemaKind, origin: &str) -> Error {
        let word = match self.kind() {
            SchemaKind::Protobuf => "protobuf",
            SchemaKind::Avro => "avro",
            SchemaKind::Json => "json",
        };
        Error::invalid(format!("{origin} is a schema of {}, not of {}", self.kind().word(), wanted.word()))
            .with_hint(format!("write format = '{word}'"))
    }
}

/// One version of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The registry's number of it; where there is none, the first is 1 and each other content the next.
    pub number: u64,
    /// Its id in a registry with Confluent's API.
    pub id: Option<u32>,
    /// Where it was found, for people.
    pub origin: String,
    /// What it says.
    pub content: Content,
}

/// The versions of one object's schema, in the order in which they were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    versions: Vec<SchemaVersion>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptForm {
    #[prost(message, repeated, tag = "1")]
    versions: Vec<VersionForm>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionForm {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint32, optional, tag = "2")]
    id: Option<u32>,
    #[prost(string, tag = "3")]
    origin: String,
    #[prost(bytes = "vec", optional, tag = "4")]
    protobuf: Option<Vec<u8>>,
    #[prost(string, optional, tag = "5")]
    file: Option<String>,
    #[prost(string, optional, tag = "6")]
    avro: Option<String>,
    #[prost(string, optional, tag = "7")]
    json: Option<String>,
}

impl Kept {
    /// A first version.
    pub fn new(version: SchemaVersion) -> Self {
        Self { versions: vec![version] }
    }

    /// The version in use.
    pub fn current(&self) -> &SchemaVersion {
        // There is one from the beginning, and none is taken away that is the last.
        &self.versions[self.versions.len() - 1]
    }

    /// All that are kept.
    pub fn versions(&self) -> &[SchemaVersion] {
        &self.versions
    }

    /// The same as of one of its versions: that is the one in use.
    pub fn at(&self, number: u64) -> Option<Self> {
        let version = self.versions.iter().find(|version| version.number == number)?;
        Some(Self::new(version.clone()))
    }

    /// With a newer version in use. Of the others those in `used` are kept, and the last few.
    pub fn followed_by(&self, version: SchemaVersion, used: &BTreeSet<u64>) -> Self {
        let mut versions: Vec<SchemaVersion> =
            self.versions.iter().filter(|known| known.number != version.number).cloned().collect();
        let unused = versions.iter().filter(|known| !used.contains(&known.number)).count();
        let mut to_drop = unused.saturating_sub(UNUSED_MAX);
        versions.retain(|known| {
            let goes = to_drop > 0 && !used.contains(&known.number);
            to_drop -= usize::from(goes);
            !goes
        });
        versions.push(version);
        Self { versions }
    }

    /// As the catalog keeps it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let versions = self.versions.iter().cloned().map(|SchemaVersion { number, id, origin, content }| {
            let mut form = VersionForm { number, id, origin, ..VersionForm::default() };
            match content {
                Content::Protobuf { set, file } => (form.protobuf, form.file) = (Some(set), file),
                Content::Avro(text) => form.avro = Some(text),
                Content::Json(text) => form.json = Some(text),
            }
            form
        });
        let form = KeptForm { versions: versions.collect() };
        [MARK.as_slice(), &form.encode_to_vec()].concat()
    }

    /// Reads what the catalog kept. `origin` names it where that does not.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self> {
        let Some(bytes) = bytes.strip_prefix(&MARK) else {
            let content = Content::Protobuf { set: bytes.to_vec(), file: None };
            return Ok(Self::new(SchemaVersion { number: 1, id: None, origin: origin.to_owned(), content }));
        };
        let damaged = || Error::internal(format!("the schema of {origin} in the catalog can't be read"));
        let form = KeptForm::decode(bytes).map_err(|_| damaged())?;
        let versions = form.versions.into_iter().map(|form| {
            let content = match (form.protobuf, form.avro, form.json) {
                (Some(set), ..) => Content::Protobuf { set, file: form.file },
                (None, Some(text), _) => Content::Avro(text),
                (None, None, Some(text)) => Content::Json(text),
                (None, None, None) => return Err(damaged()),
            };
            Ok(SchemaVersion { number: form.number, id: form.id, origin: form.origin, content })
        });
        let versions = versions.collect::<Result<Vec<_>>>()?;
        if versions.is_empty() { Err(damaged()) } else { Ok(Self { versions }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> SchemaVersion {
        let content = match number % 3 {
            0 => Content::Avro("\"long\"".into()),
            1 => Content::Json("{}".into()),
            _ => Content::Protobuf { set: vec![10, 0], file: Some("a.proto".into()) },
        };
        SchemaVersion { number, id: (number > 2).then_some(7), origin: format!("place {number}"), content }
    }

    #[test]
    fn versions_outlive_the_catalog_and_go_when_nobody_reads_by_them() {
        let mut kept = Kept::new(version(1));
        for number in 2..=20 {
            kept = kept.followed_by(version(number), &BTreeSet::from([1, 3]));
        }
        let numbers: Vec<u64> = kept.versions().iter().map(|version| version.number).collect();
        assert_eq!(numbers, [1, 3, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
        assert_eq!(kept.current().number, 20);
        assert_eq!(Kept::from_bytes(&kept.to_bytes(), "x").unwrap(), kept);
        assert_eq!(kept.at(3).unwrap().current(), &version(3));
        assert!(kept.at(4).is_none());
        // Back to one that was there: it is the newest once more.
        let back = kept.followed_by(version(12), &BTreeSet::new());
        assert_eq!(back.current().number, 12);
        assert_eq!(back.versions().iter().filter(|version| version.number == 12).count(), 1);
    }

    #[test]
    fn a_catalog_of_before_holds_a_descriptor_alone() {
        let old = Kept::from_bytes(&[10, 0], "file:x").unwrap();
        assert_eq!((old.current().number, old.current().origin.as_str()), (1, "file:x"));
        assert!(Kept::from_bytes(&[0, 1, 9, 9], "x").unwrap_err().message().contains("can't be read"));
    }
}
