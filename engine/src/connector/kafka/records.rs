//! Changes as records: encoded, and kept until a producer takes them.

use std::collections::VecDeque;

use super::key::{KeyEncoder, Keys};
use super::settings::Changelog;
use super::upsert::{Upsert, Upserts};
use crate::connector::SinkState;
use crate::connector::transaction::log::Taken;
use crate::connector::transaction::writer::{RecordQueue, Send};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::time::Epoch;

/// The records of one writer.
pub(super) struct Records {
    /// The sink's name.
    name: String,
    values: Box<dyn RowEncoder>,
    keys: KeyEncoder,
    upserts: Option<Upserts>,
    /// Changes are written as Debezium does.
    debezium: bool,
    /// In order; more than one only if the job goes on writing to a full sink.
    waiting: VecDeque<Waiting>,
}

/// Records of one delta that the producer has not taken yet.
enum Waiting {
    /// Rows as they are: each as often as its weight.
    Rows { keys: Keys, values: EncodedRows, weights: Option<Vec<i64>>, next: usize, written: i64 },
    /// The states of keys: key and value.
    Keyed { records: Vec<(Vec<u8>, Option<Vec<u8>>)>, next: usize },
}

impl Records {
    pub(super) fn new(name: &str, values: Box<dyn RowEncoder>, keys: KeyEncoder, changelog: Changelog) -> Self {
        Self {
            name: name.to_owned(),
            values,
            keys,
            upserts: (changelog != Changelog::Append).then(Upserts::default),
            debezium: changelog == Changelog::Debezium,
            waiting: VecDeque::new(),
        }
    }
}

/// A key's change as Debezium writes it, around the rows' JSON. Behind a deletion comes a record without a value, so that a
/// compacted topic forgets the key.
fn changed(sink: &str, epoch: Epoch, upsert: Upsert) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let Upsert { key, before, value } = upsert;
    let operation = match (&before, &value) {
        (None, Some(_)) => "c",
        (Some(_), Some(_)) => "u",
        (_, None) => "d",
    };
    let row = |row: Option<Vec<u8>>| row.unwrap_or_else(|| b"null".to_vec());
    let deletes = value.is_none();
    let source = serde_json::json!({"connector": "rondel", "name": sink, "ts_ms": epoch});
    let rest = format!(",\"source\":{source},\"op\":\"{operation}\",\"ts_ms\":{epoch}}}");
    let change = [b"{\"before\":", &row(before)[..], b",\"after\":", &row(value)[..], rest.as_bytes()].concat();
    let mut records = vec![(key.clone(), Some(change))];
    if deletes {
        records.push((key, None));
    }
    records
}

/// Gives away what is taken of one delta.
fn offer(waiting: &mut Waiting, send: &mut Send<'_>) -> Result<Taken> {
    match waiting {
        Waiting::Rows { keys, values, weights, next, written } => {
            while *next < values.len() {
                let copies = weights.as_ref().map_or(1, |weights| weights[*next]);
                while *written < copies {
                    if send(keys.get(*next), Some(values.row(*next)))? == Taken::Full {
                        return Ok(Taken::Full);
                    }
                    *written += 1;
                }
                *written = 0;
                *next += 1;
            }
        }
        Waiting::Keyed { records, next } => {
            while let Some((key, value)) = records.get(*next) {
                if send(Some(key), value.as_deref())? == Taken::Full {
                    return Ok(Taken::Full);
                }
                *next += 1;
            }
        }
    }
    Ok(Taken::Yes)
}

impl RecordQueue for Records {
    fn push(&mut self, epoch: Epoch, delta: &Delta) -> Result<()> {
        let mut values = EncodedRows::default();
        self.values.encode(delta.rows(), &mut values)?;
        if values.len() != delta.num_rows() {
            return Err(Error::internal(format!(
                "the encoder of sink {} made {} records of {} rows",
                self.name,
                values.len(),
                delta.num_rows()
            )));
        }
        let keys = self.keys.encode(delta.rows())?;
        let waiting = match &mut self.upserts {
            Some(upserts) => {
                let upserts = upserts
                    .take(epoch, &keys, &values, |row| delta.weight(row))
                    .map_err(|error| error.context(format!("sink {}", self.name)))?;
                let records = match self.debezium {
                    true => upserts.into_iter().flat_map(|upsert| changed(&self.name, epoch, upsert)).collect(),
                    false => upserts.into_iter().map(|upsert| (upsert.key, upsert.value)).collect(),
                };
                Waiting::Keyed { records, next: 0 }
            }
            None => {
                let weights = delta.weights().map(|weights| weights.values().to_vec());
                if weights.iter().flatten().any(|weight| *weight < 0) {
                    return Err(Error::internal(format!(
                        "sink {} takes only rows that stay, and was given a retraction",
                        self.name
                    )));
                }
                Waiting::Rows { keys, values, weights, next: 0, written: 0 }
            }
        };
        self.waiting.push_back(waiting);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn drain(&mut self, send: &mut Send<'_>) -> Result<SinkState> {
        while let Some(waiting) = self.waiting.front_mut() {
            if offer(waiting, send)? == Taken::Full {
                return Ok(SinkState::Full);
            }
            self.waiting.pop_front();
        }
        Ok(SinkState::Ready)
    }
}
