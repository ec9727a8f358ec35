//! Rows to framed records.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use arrow::record_batch::RecordBatch;
use prost_reflect::{FileDescriptor, MessageDescriptor};

use super::frame::{head, push_places};
use super::{Framing, Part};
use crate::error::{Error, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::schema::editions::is_lowered;
use crate::schema::registry::confluent::{Confluent, NewSchema, Reference};
use crate::schema::registry::ids::encoded_file;

/// Puts the same bytes in front of each record.
pub(in crate::format) struct FramedEncoder {
    inner: Box<dyn RowEncoder>,
    head: Vec<u8>,
    records: EncodedRows,
}

impl FramedEncoder {
    fn new(inner: Box<dyn RowEncoder>, head: Vec<u8>) -> Self {
        Self { inner, head, records: EncodedRows::default() }
    }
}

impl RowEncoder for FramedEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        self.records.clear();
        self.inner.encode(rows, &mut self.records)?;
        for record in self.records.iter() {
            out.buffer().extend_from_slice(&self.head);
            out.buffer().extend_from_slice(record);
            out.end_row();
        }
        Ok(())
    }
}

impl Framing {
    /// An encoder of messages behind their frame. If the id is not `known`, the message's file is registered first.
    pub(in crate::format) fn messages(
        &self,
        inner: Box<dyn RowEncoder>,
        message: &MessageDescriptor,
        part: Part,
        known: Option<u32>,
    ) -> Result<FramedEncoder> {
        let id = match known {
            Some(id) => id,
            None => self.registered_message(message, part)?,
        };
        let mut bytes = head(id);
        push_places(&mut bytes, &place_of(message)?);
        Ok(FramedEncoder::new(inner, bytes))
    }

    /// An encoder of records of this schema, a text, behind their frame. If the id is not `known` the schema is registered
    /// first.
    pub(in crate::format) fn records(
        &self,
        inner: Box<dyn RowEncoder>,
        (schema, schema_type): (&str, &'static str),
        record: Option<&str>,
        known: Option<u32>,
    ) -> Result<FramedEncoder> {
        if let Some(id) = known {
            return Ok(FramedEncoder::new(inner, head(id)));
        }
        let subject = self.subjects.name(Part::Value, record)?;
        let id = self.registered(&subject, schema, |registry, schema| {
            let new = NewSchema { schema: schema.to_owned(), schema_type, references: Vec::new() };
            self.answered(registry, &subject, &new)
        })?;
        Ok(FramedEncoder::new(inner, head(id)))
    }

    fn registered_message(&self, message: &MessageDescriptor, part: Part) -> Result<u32> {
        let subject = self.subjects.name(part, Some(message.full_name()))?;
        let file = message.parent_file();
        check_registrable(&file)?;
        self.registered(&subject, &encoded_file(file.file_descriptor_proto()), |registry, schema| {
            let mut done = BTreeMap::new();
            let references = registered_imports(registry, &file, self.register, &mut done)?;
            let new = NewSchema { schema: schema.to_owned(), schema_type: "PROTOBUF", references };
            self.answered(registry, &subject, &new)
        })
    }

    fn answered(&self, registry: &Confluent, subject: &str, new: &NewSchema) -> Result<u32> {
        match self.register {
            true => registry.register(subject, new),
            false => registry.lookup(subject, new).map(|(id, _)| id),
        }
    }

    /// The id of a schema, asked for once.
    fn registered(
        &self,
        subject: &str,
        schema: &str,
        ask: impl FnOnce(&Confluent, &str) -> Result<u32>,
    ) -> Result<u32> {
        let key = (subject.to_owned(), schema.to_owned());
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = registered.get(&key) {
            return Ok(*id);
        }
        let id = self.ids.remembered(&[subject, schema], |registry| ask(registry, schema))?;
        registered.insert(key, id);
        Ok(id)
    }
}

/// Registers what a file imports, under the names that it imports it by, as the official clients do.
fn registered_imports(
    registry: &Confluent,
    file: &FileDescriptor,
    register: bool,
    done: &mut BTreeMap<String, Reference>,
) -> Result<Vec<Reference>> {
    let mut references = Vec::new();
    for import in file.dependencies() {
        let name = import.name().to_owned();
        // Every client has Google's.
        if name.starts_with("google/protobuf/") {
            continue;
        }
        if let Some(known) = done.get(&name) {
            references.push(known.clone());
            continue;
        }
        check_registrable(&import)?;
        let own = registered_imports(registry, &import, register, done)?;
        let schema = encoded_file(import.file_descriptor_proto());
        let new = NewSchema { schema, schema_type: "PROTOBUF", references: own };
        if register {
            registry.register(&name, &new)?;
        }
        let (_, version) = registry.lookup(&name, &new)?;
        let version = i64::try_from(version).map_err(|_| Error::internal("a version is out of range"))?;
        let reference = Reference { name: name.clone(), subject: name.clone(), version };
        done.insert(name, reference.clone());
        references.push(reference);
    }
    Ok(references)
}

/// A file of an edition is held in the words of older ones: what would be registered is not what the user wrote.
fn check_registrable(file: &FileDescriptor) -> Result<()> {
    if !is_lowered(file.file_descriptor_proto()) {
        return Ok(());
    }
    let text =
        format!("the file {} is of an edition, which registries with Confluent's API have no schemas of", file.name());
    Err(Error::not_supported(text).with_hint("write by a subject's own schema: leave the descriptor out"))
}

/// Where a message stands in its file, from the outermost on.
fn place_of(message: &MessageDescriptor) -> Result<Vec<usize>> {
    let mut places = Vec::new();
    let mut inner = message.clone();
    loop {
        let outer = inner.parent_message();
        let place = match &outer {
            Some(outer) => outer.child_messages().position(|child| child == inner),
            None => inner.parent_file().messages().position(|child| child == inner),
        };
        places.push(place.ok_or_else(|| Error::internal("a message is not where it stands"))?);
        match outer {
            Some(outer) => inner = outer,
            None => break,
        }
    }
    places.reverse();
    Ok(places)
}
