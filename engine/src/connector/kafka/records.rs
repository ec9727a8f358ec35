//! Changes as records: encoded, and kept until a producer takes them.

use std::collections::VecDeque;

use super::key::{KeyEncoder, Keys};
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
    /// In order; more than one only if the job goes on writing to a full sink.
    waiting: VecDeque<Waiting>,
}

/// Records of one delta that the producer has not taken yet.
enum Waiting {
    /// Rows as they are: each as often as its weight.
    Rows { keys: Keys, values: EncodedRows, weights: Option<Vec<i64>>, next: usize, written: i64 },
    /// The states of keys.
    Upserts { upserts: Vec<Upsert>, next: usize },
}

impl Records {
    pub(super) fn new(name: &str, values: Box<dyn RowEncoder>, keys: KeyEncoder, upserts: bool) -> Self {
        Self { name: name.to_owned(), values, keys, upserts: upserts.then(Upserts::default), waiting: VecDeque::new() }
    }
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
        Waiting::Upserts { upserts, next } => {
            while let Some(upsert) = upserts.get(*next) {
                if send(Some(&upsert.key), upsert.value.as_deref())? == Taken::Full {
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
                Waiting::Upserts { upserts, next: 0 }
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
