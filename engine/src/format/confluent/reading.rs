//! Framed records to rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use prost_reflect::MessageDescriptor;

use super::frame::{opened, places, refused};
use crate::error::Result;
use crate::format::decoder::{DecodeError, RowDecoder};
use crate::schema::TypeRules;
use crate::schema::evolution::changes;
use crate::schema::kept::Content;
use crate::schema::registry::ids::{Bell, Known, SchemaIds};

/// Verdicts that are remembered; garbage in records must not fill the memory.
const VERDICTS_MAX: usize = 10_000;

/// What a reader of messages looks for.
#[derive(Clone)]
pub(in crate::format) struct Wanted {
    pub(in crate::format) message: MessageDescriptor,
    pub(in crate::format) rules: TypeRules,
    /// The columns that are read: changes of others don't matter.
    pub(in crate::format) columns: Vec<String>,
}

/// Takes the frame away, and looks whether what is in it can be read.
pub(in crate::format) struct FramedDecoder {
    inner: Box<dyn RowDecoder>,
    frames: Frames,
    /// Held, so that it is rung.
    bell: Option<Bell>,
}

enum Frames {
    /// The record itself says whether it fits.
    Plain,
    Messages(Box<Messages>),
}

/// The messages that have been met.
struct Messages {
    ids: Arc<SchemaIds>,
    wanted: Wanted,
    /// The id and place of the last record that was read, and how many bytes say the place.
    last: Option<(u32, Vec<u8>)>,
    verdicts: HashMap<(u32, Vec<usize>), Result<(), String>>,
}

impl FramedDecoder {
    /// Of JSON and the like.
    pub(in crate::format) fn plain(inner: Box<dyn RowDecoder>) -> Self {
        Self { inner, frames: Frames::Plain, bell: None }
    }

    /// Of protobuf.
    pub(in crate::format) fn messages(inner: Box<dyn RowDecoder>, ids: Arc<SchemaIds>, wanted: Wanted) -> Self {
        let messages = Messages { ids, wanted, last: None, verdicts: HashMap::new() };
        Self { inner, frames: Frames::Messages(Box::new(messages)), bell: None }
    }

    fn body<'a>(&mut self, record: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let (id, body) = opened(record)?;
        match &mut self.frames {
            Frames::Plain => Ok(body),
            Frames::Messages(messages) => messages.body(id, body),
        }
    }
}

impl Messages {
    /// The message behind its place, if this reader can read it.
    fn body<'a>(&mut self, id: u32, body: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        if let Some((last, place)) = &self.last
            && *last == id
            && let Some(rest) = body.strip_prefix(place.as_slice())
        {
            return Ok(rest);
        }
        let (length, at) = places(body)?;
        let key = (id, at);
        let verdict = match self.verdicts.get(&key) {
            Some(verdict) => verdict.clone(),
            None => {
                let verdict = self.judge(id, &key.1)?;
                if self.verdicts.len() >= VERDICTS_MAX {
                    self.verdicts.clear();
                }
                self.verdicts.insert(key, verdict.clone());
                verdict
            }
        };
        verdict.map_err(refused)?;
        self.last = Some((id, body[..length].to_vec()));
        Ok(&body[length..])
    }

    /// Whether messages of this schema can be read; the error is that it is not known yet.
    fn judge(&self, id: u32, at: &[usize]) -> Result<Result<(), String>, DecodeError> {
        let content = known(&self.ids, id)?;
        let wanted = &self.wanted;
        let written = match &*content {
            Content::Protobuf { file: Some(file), .. } => {
                let descriptors = content.descriptors(&format!("schema {id}"));
                descriptors.ok().and_then(|descriptors| descriptors.message_at(file, at))
            }
            _ => return Ok(Err(format!("schema {id} is one of {}", content.kind().word()))),
        };
        let Some(written) = written else { return Ok(Err(format!("schema {id} has no message at the place {at:?}"))) };
        if written.full_name() != wanted.message.full_name() {
            let (written, read) = (written.full_name(), wanted.message.full_name());
            return Ok(Err(format!("the record is {written} by schema {id}, and {read} is read")));
        }
        let changes = changes(&wanted.message, &written, &wanted.rules);
        let breaking: Vec<String> = changes
            .into_iter()
            .filter(|change| change.breaks && wanted.columns.contains(&change.column))
            .map(|change| change.what)
            .collect();
        Ok(match breaking.is_empty() {
            true => Ok(()),
            false => Err(format!("it is written by schema {id}, in which {}", breaking.join("; "))),
        })
    }
}

/// What an id stands for, as soon as that is known.
pub(in crate::format) fn known(ids: &Arc<SchemaIds>, id: u32) -> Result<Arc<Content>, DecodeError> {
    match ids.get(id) {
        Known::Schema(content) => Ok(content),
        Known::Missing(words) => Err(refused(words)),
        Known::OnItsWay(words) => {
            let what = format!("schema {id} of {}", ids.shown());
            let reason = words.map_or(what.clone(), |words| format!("{what}: {words}"));
            Err(DecodeError { awaits: true, ..refused(reason) })
        }
    }
}

impl RowDecoder for FramedDecoder {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn begin(&mut self, rows: usize, bytes: usize) {
        self.inner.begin(rows, bytes);
    }

    fn push(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let body = self.body(record)?;
        self.inner.push(body)
    }

    fn push_absent(&mut self) -> Result<(), DecodeError> {
        self.inner.push_absent()
    }

    fn deleted(&self) -> &[bool] {
        self.inner.deleted()
    }

    fn expects_tombstones(&self) -> bool {
        self.inner.expects_tombstones()
    }

    fn ring(&mut self, bell: &Bell) {
        if let Frames::Messages(messages) = &self.frames {
            messages.ids.ring(bell);
            self.bell = Some(Arc::clone(bell));
        }
        self.inner.ring(bell);
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.inner.finish()
    }
}
