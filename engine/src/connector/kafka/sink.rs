//! The Kafka sink: changes as records.
//!
//! The workers share one idempotent producer, whose queue is the bound: a writer that finds it full keeps the rest of its
//! delta and says so. A broker that is down is waited for as long as it takes.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::delivery::{Delivery, Outgoing, Taken};
use super::health::Health;
use super::key::{KeyEncoder, Keys, key_columns};
use super::settings::{Changelog, KafkaSinkOptions, KeyFormat};
use super::upsert::{Upsert, Upserts};
use crate::connector::{Reporter, Sink, SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::time::Epoch;

/// Makes the encoder of one writer.
pub type EncoderFactory = Arc<dyn Fn() -> Result<Box<dyn RowEncoder>> + Send + Sync>;

/// A Kafka sink, ready to be opened by a job.
pub struct KafkaSink {
    name: String,
    options: KafkaSinkOptions,
    key_columns: Vec<usize>,
    values: EncoderFactory,
    key_message: Option<EncoderFactory>,
}

impl KafkaSink {
    /// A sink named `name` for a result with the columns of `schema`, which is a changelog or append-only.
    ///
    /// `values` encodes whole rows. `key_message` encodes rows of the key's columns alone ([`Self::key_schema`]) and is
    /// needed for [`KeyFormat::Protobuf`]. Refuses a changelog that the options do not say how to write.
    pub fn new(
        name: &str,
        options: KafkaSinkOptions,
        schema: &SchemaRef,
        changelog: bool,
        values: EncoderFactory,
        key_message: Option<EncoderFactory>,
    ) -> Result<Self> {
        if changelog && options.changelog == Changelog::Append {
            return Err(Error::invalid(format!(
                "the rows of sink {name} are corrected as input comes, and its option \"changelog\" is 'append'"
            ))
            .with_hint(
                "Write changelog = 'upsert' with key = the columns that identify a row, or make the result final with EMIT AFTER WATERMARK.",
            ));
        }
        if matches!(options.key_format, KeyFormat::Protobuf(_)) && key_message.is_none() {
            return Err(Error::internal(format!("the key of sink {name} has no encoder")));
        }
        let key_columns = key_columns(name, schema, &options.key)?;
        Ok(Self { name: name.to_owned(), options, key_columns, values, key_message })
    }

    /// The columns of the key, for its encoder.
    pub fn key_schema(name: &str, options: &KafkaSinkOptions, schema: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::new(schema.project(&key_columns(name, schema, &options.key)?)?))
    }

    fn key_encoder(&self) -> Result<KeyEncoder> {
        Ok(match (&self.options.key_format, self.key_columns.as_slice(), &self.key_message) {
            (_, [], _) => KeyEncoder::None,
            (KeyFormat::Protobuf(_), columns, Some(encoder)) => KeyEncoder::Message(columns.to_vec(), encoder()?),
            (KeyFormat::Text, [column], _) => KeyEncoder::Text(*column),
            (_, columns, _) => {
                KeyEncoder::Json(self.options.key.iter().cloned().zip(columns.iter().copied()).collect())
            }
        })
    }
}

impl Sink for KafkaSink {
    fn meeting_columns(&self) -> Option<Vec<usize>> {
        // A key's old row may go on one worker while its new row comes on another; only together they are an update.
        (self.options.changelog == Changelog::Upsert).then(|| self.key_columns.clone())
    }

    fn writers(self: Box<Self>, workers: usize, reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        let health = Health::new(&format!("sink {}", self.name), &self.options.brokers, reporter);
        let config = self.options.producer_config();
        let delivery = Delivery::open(&config, &self.options.topic, health, Box::new(|_| {}))?;
        let topic: Arc<str> = self.options.topic.as_str().into();
        (0..workers)
            .map(|_| {
                Ok(Box::new(KafkaWriter {
                    name: self.name.clone(),
                    topic: Arc::clone(&topic),
                    values: (self.values)()?,
                    keys: self.key_encoder()?,
                    upserts: (self.options.changelog == Changelog::Upsert).then(Upserts::default),
                    waiting: VecDeque::new(),
                    delivery: Arc::clone(&delivery),
                }) as Box<dyn SinkWriter>)
            })
            .collect()
    }
}

/// Records of one delta that the producer has not taken yet.
enum Waiting {
    /// Rows as they are: each as often as its weight.
    Rows { keys: Keys, values: EncodedRows, weights: Option<Vec<i64>>, next: usize, written: i64 },
    /// The states of keys.
    Upserts { upserts: Vec<Upsert>, next: usize },
}

struct KafkaWriter {
    name: String,
    topic: Arc<str>,
    values: Box<dyn RowEncoder>,
    keys: KeyEncoder,
    upserts: Option<Upserts>,
    /// In order; more than one only if the job goes on writing to a full sink.
    waiting: VecDeque<Waiting>,
    delivery: Arc<Delivery>,
}

impl KafkaWriter {
    fn drain(&mut self) -> Result<SinkState> {
        while let Some(waiting) = self.waiting.front_mut() {
            if offer(&self.delivery, &self.topic, waiting)? == Taken::Full {
                return Ok(SinkState::Full);
            }
            self.waiting.pop_front();
        }
        Ok(SinkState::Ready)
    }
}

/// Gives the producer what it takes of one delta.
fn offer(delivery: &Delivery, topic: &str, waiting: &mut Waiting) -> Result<Taken> {
    let send = |key: Option<&[u8]>, value: Option<&[u8]>| {
        delivery.send(Outgoing { topic, partition: None, key, value, timestamp_millis: None, headers: &[], ticket: 0 })
    };
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

impl SinkWriter for KafkaWriter {
    fn write(&mut self, epoch: Epoch, delta: Delta) -> Result<SinkState> {
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
                    return Err(Error::new(
                        ErrorKind::Internal,
                        format!("sink {} takes only rows that stay, and was given a retraction", self.name),
                    ));
                }
                Waiting::Rows { keys, values, weights, next: 0, written: 0 }
            }
        };
        self.waiting.push_back(waiting);
        self.drain()
    }

    fn resume(&mut self) -> Result<SinkState> {
        self.drain()
    }

    fn flush(&mut self) -> Result<SinkState> {
        if self.drain()? == SinkState::Full || !self.delivery.delivered()? {
            return Ok(SinkState::Full);
        }
        Ok(SinkState::Ready)
    }
}

#[cfg(test)]
mod tests;
