//! Topics that are tables: a record says what the row of a key is now, or that it is gone.
//!
//! The rows of such a decoder have, after the columns of the value, a column [`DELETED`]. Whoever reads them keeps the last
//! one of each key.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde_json::Value as Json;

use super::cells::{Cell, Rows};
use super::decoder::{DecodeError, RowDecoder};
use super::json::read::{TimeNumbers, cell, row};
use crate::error::{Error, Result};
use crate::schema::registry::ids::Bell;

/// The column that says that the key's row is gone.
pub const DELETED: &str = "_deleted";

/// The field of [`DELETED`].
pub(crate) fn deleted_field() -> FieldRef {
    Arc::new(Field::new(DELETED, DataType::Boolean, false))
}

/// How a record's key is written.
pub(crate) enum KeyReader {
    /// The one column as a text.
    Text,
    /// The columns as a JSON object.
    Json,
    /// The columns as a message: a decoder of just these, and the keys that it took.
    Message(Box<dyn RowDecoder>, Vec<Vec<u8>>),
    /// The key's columns are in the value, also of a row that is gone.
    InValue,
}

/// Decodes keys and values into rows that are there or gone.
pub(crate) struct TableDecoder {
    values: Box<dyn RowDecoder>,
    key: KeyReader,
    /// The key's columns.
    key_fields: Fields,
    /// Of those that are wanted: their places in the key, and in the batch.
    places: Vec<(usize, usize)>,
    keys: Rows,
    deleted: Vec<bool>,
    /// Whether [`DELETED`] is wanted.
    shows_deleted: bool,
    schema: SchemaRef,
}

impl TableDecoder {
    /// `values` decodes the value's columns that are wanted, which have the types of `schema`. `key` are all columns of the
    /// key, and `wanted` those of them that `schema` has.
    pub(crate) fn new(
        values: Box<dyn RowDecoder>,
        schema: Schema,
        key: KeyReader,
        all: &Fields,
        wanted: &[FieldRef],
        shows_deleted: bool,
    ) -> Result<Self> {
        let mut places = Vec::with_capacity(wanted.len());
        for field in wanted {
            let place = schema.index_of(field.name());
            let place_in_key = all.iter().position(|key| key.name() == field.name());
            match (place, place_in_key) {
                (Ok(place), Some(of_key)) => places.push((of_key, place)),
                _ => return Err(Error::internal(format!("the key column {} is not read", field.name()))),
            }
        }
        let mut fields: Vec<FieldRef> = schema.fields().to_vec();
        if shows_deleted {
            fields.push(deleted_field());
        }
        Ok(Self {
            values,
            key,
            key_fields: all.clone(),
            places,
            keys: Rows::default(),
            deleted: Vec::new(),
            shows_deleted,
            schema: Arc::new(Schema::new(fields)),
        })
    }

    fn key_cells(&mut self, key: Option<&[u8]>) -> Result<Vec<Cell>, DecodeError> {
        let refused =
            |reason: String| DecodeError { field: "_key".into(), offset: 0, reason, batch_full: false, awaits: false };
        let key = key.ok_or_else(|| refused("the record has no key, and so names no row".to_owned()))?;
        match &mut self.key {
            KeyReader::Text => {
                let text = std::str::from_utf8(key).map_err(|_| refused("the key is not UTF-8".to_owned()))?;
                let field = &self.key_fields[0];
                let value = cell(&Json::String(text.to_owned()), field.data_type(), TimeNumbers::Millis);
                Ok(vec![value.map_err(|misfit| refused(misfit.reason))?])
            }
            KeyReader::Json => {
                let json: Json = serde_json::from_slice(key).map_err(|error| refused(format!("no JSON: {error}")))?;
                // With schemas on, Debezium's and Connect's keys have a payload.
                let payload = json.get("payload").filter(|_| json.get("schema").is_some()).unwrap_or(&json);
                let Json::Object(object) = payload else { return Err(refused("the key is no JSON object".to_owned())) };
                row(object, &self.key_fields, TimeNumbers::Millis)
                    .map_err(|misfit| refused(format!("{}: {}", misfit.path, misfit.reason)))
            }
            KeyReader::Message(keys, _) => {
                keys.begin(1, key.len());
                keys.push(key).map(|()| Vec::new())
            }
            KeyReader::InValue => Ok(Vec::new()),
        }
    }
}

impl RowDecoder for TableDecoder {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn begin(&mut self, rows: usize, bytes: usize) {
        self.values.begin(rows, bytes);
        self.keys.clear();
        self.deleted.clear();
        if let KeyReader::Message(_, taken) = &mut self.key {
            taken.clear();
        }
    }

    fn push(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        self.push_keyed(None, Some(record)).map(drop)
    }

    fn push_absent(&mut self) -> Result<(), DecodeError> {
        self.push_keyed(None, None).map(drop)
    }

    fn push_keyed(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, DecodeError> {
        if let KeyReader::InValue = self.key {
            let Some(value) = value else { return Ok(false) };
            self.values.push(value)?;
            self.deleted.push(self.values.deleted().last().copied().unwrap_or(false));
            return Ok(true);
        }
        // The key first, without a trace: a row needs both, and the value's decoder can't take a row back.
        let cells = self.key_cells(key)?;
        match value {
            Some(value) => self.values.push(value)?,
            None => self.values.push_absent()?,
        }
        match &mut self.key {
            KeyReader::Message(_, taken) => taken.push(key.unwrap_or_default().to_vec()),
            _ => self.keys.push(cells),
        }
        self.deleted.push(value.is_none());
        Ok(true)
    }

    fn ring(&mut self, bell: &Bell) {
        self.values.ring(bell);
        if let KeyReader::Message(keys, _) = &mut self.key {
            keys.ring(bell);
        }
    }

    fn expects_tombstones(&self) -> bool {
        // Debezium writes one after a deletion, for the topic's compaction.
        matches!(self.key, KeyReader::InValue)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let batch = self.values.finish()?;
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let keys = match &mut self.key {
            KeyReader::InValue => Vec::new(),
            KeyReader::Message(keys, taken) => {
                keys.begin(taken.len(), 0);
                for key in taken.drain(..) {
                    keys.push(&key).map_err(|_| Error::internal("a key that was read can't be read again"))?;
                }
                keys.finish()?.columns().to_vec()
            }
            KeyReader::Text | KeyReader::Json => self.keys.finish(&self.key_fields)?.0,
        };
        for (read, (of_key, place)) in self.places.iter().enumerate() {
            // A message's decoder gives those that are wanted, a text all of them.
            let key = if matches!(self.key, KeyReader::Message(..)) { keys.get(read) } else { keys.get(*of_key) };
            if let Some(key) = key {
                columns[*place] = ArrayRef::clone(key);
            }
        }
        let deleted = std::mem::take(&mut self.deleted);
        if self.shows_deleted {
            columns.push(Arc::new(BooleanArray::from(deleted)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}
