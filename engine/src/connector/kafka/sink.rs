//! The Kafka sink: changes as records.
//!
//! The workers share one idempotent producer, whose queue is the bound: a writer that finds it full keeps the rest of its
//! delta and says so. A broker that is down is waited for as long as it takes. A sink that writes exactly once has two
//! producers instead, see [`transaction`].

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::delivery::{Delivery, Outgoing};
use super::health::Health;
use super::key::{KeyEncoder, key_columns};
use super::records::Records;
use super::settings::{Changelog, KafkaSinkOptions, KeyFormat};
use super::transaction::KafkaLog;
use crate::connector::transaction::{self, writer::RecordQueue};
use crate::connector::two_phase::{ExactlyOnce, Writer};
use crate::connector::{Reporter, Sink, SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::format::encoder::RowEncoder;
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
                "Write changelog = 'upsert' or 'debezium' with key = the columns that identify a row, or make the result final with EMIT AFTER WATERMARK.",
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

    /// What makes one writer's records.
    fn records(&self) -> Result<Records> {
        Ok(Records::new(&self.name, (self.values)()?, self.key_encoder()?, self.options.changelog))
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
        (self.options.changelog != Changelog::Append).then(|| self.key_columns.clone())
    }

    fn is_exactly_once(&self) -> bool {
        self.options.transactions.is_some()
    }

    fn open_exactly_once(
        self: Box<Self>,
        workers: usize,
        writer: Writer,
        reporter: Arc<dyn Reporter>,
    ) -> Result<ExactlyOnce> {
        let timeout = self.options.transactions.as_ref().map(|transactions| transactions.timeout);
        if timeout.is_some_and(|timeout| timeout <= writer.interval) {
            return Err(Error::invalid(format!(
                "sink {}: a transaction may be open for as long as a checkpoint's interval and time-out, {} s, and the \
                 option \"transaction_timeout\" ends it before",
                self.name,
                writer.interval.as_secs()
            ))
            .with_hint("Raise it (the brokers' transaction.max.timeout.ms as well), or take checkpoints more often."));
        }
        let queues: Vec<Box<dyn RecordQueue>> =
            (0..workers).map(|_| Ok(Box::new(self.records()?) as Box<dyn RecordQueue>)).collect::<Result<_>>()?;
        let health = Health::new(&format!("sink {}", self.name), &self.options.brokers, reporter);
        let topic = self.options.topic.clone();
        transaction::open(KafkaLog::new(self.options, health)?, &topic, writer, queues)
    }

    fn writers(self: Box<Self>, workers: usize, reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        if self.is_exactly_once() {
            return Err(Error::not_supported(format!(
                "sink {} is to write exactly once, and its job takes no checkpoints",
                self.name
            ))
            .with_hint("Write delivery = 'at_least_once'."));
        }
        let health = Health::new(&format!("sink {}", self.name), &self.options.brokers, reporter);
        let config = self.options.producer_config();
        let delivery = Delivery::open(&config, &self.options.topic, health, Box::new(|_| {}))?;
        let topic: Arc<str> = self.options.topic.as_str().into();
        (0..workers)
            .map(|_| {
                Ok(Box::new(KafkaWriter {
                    topic: Arc::clone(&topic),
                    records: self.records()?,
                    delivery: Arc::clone(&delivery),
                }) as Box<dyn SinkWriter>)
            })
            .collect()
    }
}

struct KafkaWriter {
    topic: Arc<str>,
    records: Records,
    delivery: Arc<Delivery>,
}

impl SinkWriter for KafkaWriter {
    fn write(&mut self, epoch: Epoch, delta: Delta) -> Result<SinkState> {
        self.records.push(epoch, &delta)?;
        self.resume()
    }

    fn resume(&mut self) -> Result<SinkState> {
        let (delivery, topic) = (&self.delivery, &self.topic);
        self.records.drain(&mut |key, value| {
            delivery.send(Outgoing {
                topic,
                partition: None,
                key,
                value,
                timestamp_millis: None,
                headers: &[],
                ticket: 0,
            })
        })
    }

    fn flush(&mut self) -> Result<SinkState> {
        if self.resume()? == SinkState::Full || !self.delivery.delivered()? {
            return Ok(SinkState::Full);
        }
        Ok(SinkState::Ready)
    }
}

#[cfg(test)]
mod tests;
