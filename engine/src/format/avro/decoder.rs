//! Avro records to batches.
//!
//! The library appends a datum to its columns as it reads, and can't take back what it has read of a bad one. So the data
//! of the running batch are kept beside it: after a bad one the columns are made anew, and for the rest of that batch each
//! record is tried alone first.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_avro::reader::Decoder;

use super::columns::{as_column, library_decoder};
use crate::error::{Error, Result};
use crate::format::confluent::frame::{head, opened, refused};
use crate::format::confluent::reading::known;
use crate::format::decoder::{DecodeError, RowDecoder};
use crate::schema::kept::SchemaKind;
use crate::schema::registry::ids::{Bell, SchemaIds};

/// Schemas that records are written by, at one time.
const WRITERS_MAX: usize = 1_000;

/// Where a record's schema is.
#[derive(Clone)]
pub(in crate::format) enum Writers {
    /// The reader's is the writer's: records are plain.
    Own,
    /// Records are framed.
    Registered(Arc<SchemaIds>),
}

/// Decodes records into rows of a schema.
pub(in crate::format) struct AvroDecoder {
    schema: SchemaRef,
    /// The Avro schema that rows are read by, and which of its fields are wanted.
    reader: String,
    projection: Vec<usize>,
    writers: Writers,
    /// By the writer's id.
    open: HashMap<u32, Result<Writer, String>>,
    /// The id of the last record.
    current: Option<u32>,
    /// What is decoded, in the library's types; and rows that are absent.
    parts: Vec<RecordBatch>,
    absent: usize,
    /// A record of this batch was bad.
    careful: bool,
    /// Held, so that it is rung.
    bell: Option<Bell>,
}

/// Records of one schema.
struct Writer {
    decoder: Decoder,
    text: String,
    /// The frames that are in `decoder`.
    frames: Vec<u8>,
    ends: Vec<usize>,
}

impl AvroDecoder {
    /// `schema` has the columns of `projection`, places in the reader's schema.
    pub(in crate::format) fn new(
        schema: SchemaRef,
        reader: &str,
        projection: &[usize],
        writers: Writers,
    ) -> Result<Self> {
        let projection = if projection.is_empty() { vec![0] } else { projection.to_vec() };
        // What does not fit is an error now.
        library_decoder(0, reader, reader, &projection)?;
        Ok(Self {
            schema,
            reader: reader.to_owned(),
            projection,
            writers,
            open: HashMap::new(),
            current: None,
            parts: Vec::new(),
            absent: 0,
            careful: false,
            bell: None,
        })
    }

    /// Makes the decoder of a writer's schema, once that is known.
    fn meet(&mut self, id: u32) -> Result<(), DecodeError> {
        if self.open.contains_key(&id) {
            return Ok(());
        }
        let text = match &self.writers {
            Writers::Own => self.reader.clone(),
            Writers::Registered(ids) => {
                let content = known(ids, id)?;
                content.text(SchemaKind::Avro, &format!("schema {id}")).map_err(|e| refused(e.message()))?.to_owned()
            }
        };
        let made = library_decoder(id, &text, &self.reader, &self.projection)
            .map(|decoder| Writer { decoder, text, frames: Vec::new(), ends: Vec::new() })
            .map_err(|error| {
                format!("it is written by schema {id}, which can't be read as the stream's: {}", error.message())
            });
        if self.open.len() >= WRITERS_MAX {
            self.open.retain(|_, writer| writer.as_ref().is_ok_and(|writer| !writer.ends.is_empty()));
        }
        self.open.insert(id, made);
        Ok(())
    }

    /// Takes what is decoded by the current writer.
    fn flush(&mut self) -> Result<()> {
        let Some(Ok(writer)) = self.current.and_then(|id| self.open.get_mut(&id)) else { return Ok(()) };
        writer.frames.clear();
        writer.ends.clear();
        if let Some(batch) = writer.decoder.flush().map_err(|error| Error::internal(error.to_string()))? {
            let part = self.part(batch.columns(), batch.num_rows())?;
            self.parts.push(part);
        }
        Ok(())
    }

    fn part(&self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let fields = self.schema.fields().iter().zip(columns);
        let columns = fields.map(|(field, column)| as_column(column, field.data_type())).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?)
    }

    fn flush_absent(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.absent);
        if rows > 0 {
            let nulls: Vec<ArrayRef> =
                self.schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
            let part = self.part(&nulls, rows)?;
            self.parts.push(part);
        }
        Ok(())
    }
}

/// Decodes one frame; the error says why it is none.
fn decode(decoder: &mut Decoder, frame: &[u8]) -> Result<(), String> {
    let room = decoder.capacity();
    let taken = decoder.decode(frame).map_err(|error| error.to_string())?;
    match room - decoder.capacity() {
        1 if taken == frame.len() => Ok(()),
        0 => Err("the record ends within a value".to_owned()),
        _ => Err(format!("the record goes on behind its last value, after {taken} of {} bytes", frame.len())),
    }
}

impl Writer {
    fn renewed(&self, id: u32, reader: &str, projection: &[usize]) -> Result<Decoder, String> {
        library_decoder(id, &self.text, reader, projection).map_err(|error| error.message().to_owned())
    }

    /// Adds a frame. After an error there is no trace of it.
    fn push(&mut self, id: u32, frame: &[u8], reader: &str, projection: &[usize], careful: bool) -> Result<(), String> {
        if careful {
            decode(&mut self.renewed(id, reader, projection)?, frame)?;
        }
        if let Err(reason) = decode(&mut self.decoder, frame) {
            self.decoder = self.renewed(id, reader, projection)?;
            let mut start = 0;
            for end in &self.ends {
                decode(&mut self.decoder, &self.frames[start..*end])?;
                start = *end;
            }
            return Err(reason);
        }
        self.frames.extend_from_slice(frame);
        self.ends.push(self.frames.len());
        Ok(())
    }
}

impl RowDecoder for AvroDecoder {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn begin(&mut self, _rows: usize, _bytes: usize) {
        self.parts.clear();
        self.absent = 0;
        self.careful = false;
        // A batch that was given up.
        for writer in self.open.values_mut().flatten().filter(|writer| !writer.ends.is_empty()) {
            let _ = writer.decoder.flush();
            writer.frames.clear();
            writer.ends.clear();
        }
        self.current = None;
    }

    fn push(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let framed: Vec<u8>;
        let (id, frame) = match self.writers {
            Writers::Own => {
                framed = [head(0).as_slice(), record].concat();
                (0, framed.as_slice())
            }
            Writers::Registered(_) => (opened(record)?.0, record),
        };
        self.meet(id)?;
        let is_full = |writer: &Writer| writer.decoder.batch_is_full();
        let full = matches!(self.open.get(&id), Some(Ok(writer)) if is_full(writer));
        if self.current != Some(id) || self.absent > 0 || full {
            let internal = |error: Error| refused(error.message());
            self.flush().map_err(internal)?;
            self.flush_absent().map_err(internal)?;
            self.current = Some(id);
        }
        let careful = self.careful;
        match self.open.get_mut(&id) {
            Some(Ok(writer)) => writer.push(id, frame, &self.reader, &self.projection, careful).map_err(|reason| {
                self.careful = true;
                refused(format!("no Avro record of its schema: {reason}"))
            }),
            Some(Err(reason)) => Err(refused(reason.clone())),
            None => Err(refused(format!("schema {id} was forgotten"))),
        }
    }

    fn push_absent(&mut self) -> Result<(), DecodeError> {
        if self.absent == 0 {
            self.flush().map_err(|error| refused(error.message()))?;
            self.current = None;
        }
        self.absent += 1;
        Ok(())
    }

    fn ring(&mut self, bell: &Bell) {
        if let Writers::Registered(ids) = &self.writers {
            ids.ring(bell);
            self.bell = Some(Arc::clone(bell));
        }
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.flush()?;
        self.flush_absent()?;
        self.current = None;
        let parts = std::mem::take(&mut self.parts);
        match &parts[..] {
            [one] => Ok(one.clone()),
            several if self.schema.fields().is_empty() => {
                let rows = several.iter().map(RecordBatch::num_rows).sum();
                self.part(&[], rows)
            }
            several => Ok(concat_batches(&self.schema, several)?),
        }
    }
}
