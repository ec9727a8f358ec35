//! The Kafka source and its readers.
//!
//! One client of librdkafka serves a job's source. Its partitions are dealt to the workers by their number; those of one
//! worker share a queue, which the worker's reader empties in batches and decodes straight from librdkafka's memory.
//!
//! Records without a value (tombstones) are no rows: they are counted as skipped, whatever `on_error` says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;

use super::batch_queue::{BATCH_ROWS, BatchReader, Wake, Watched, WorkerQueue};
use super::coordinator::Coordinator;
use super::dead_letters::{DeadLetters, LetterBox};
use super::health::{Health, ReadingContext};
use super::metadata::MetadataBuilder;
use super::rows::{LeftOut, Rows, View};
use super::settings::{KafkaSourceOptions, OnError, config_error};
use crate::connector::partitions::{Partitions, Place, Stood, position};
use crate::connector::{
    PartitionState, PollState, Positions, Reporter, ScanRequest, Source, SourceBatch, SourceReader, Waker,
};
use crate::error::{Error, Result};
use crate::format::decoder::RowDecoder;
use crate::schema::registry::ids::Bell;
use crate::time::Clock;

/// Makes the decoder of one reader, for the value's columns that [`KafkaSource::value_projection`] names.
pub type DecoderFactory = Arc<dyn Fn() -> Result<Box<dyn RowDecoder>> + Send + Sync>;

/// A Kafka source, ready to be opened by a job.
pub struct KafkaSource {
    name: String,
    options: Arc<KafkaSourceOptions>,
    request: ScanRequest,
    value_columns: usize,
    decoders: DecoderFactory,
    /// Where an earlier run of the job stood.
    stood: BTreeMap<Place, Stood>,
    /// Bytes that it may fetch ahead.
    ahead: usize,
}

impl KafkaSource {
    /// A source named `name` (the stream's name, for messages). The stream's columns are `value_columns` columns of the
    /// record's value, then [`KafkaSourceOptions::metadata_fields`].
    pub fn new(
        name: &str,
        options: KafkaSourceOptions,
        request: ScanRequest,
        value_columns: usize,
        decoders: DecoderFactory,
    ) -> Self {
        Self {
            name: name.to_owned(),
            options: Arc::new(options),
            request,
            value_columns,
            decoders,
            stood: BTreeMap::new(),
            ahead: usize::MAX,
        }
    }

    /// The part of a projection that the decoder delivers: the columns of the value.
    pub fn value_projection(projection: &[usize], value_columns: usize) -> Vec<usize> {
        projection.iter().copied().filter(|column| *column < value_columns).collect()
    }

    /// The builders of the projected metadata columns.
    fn metadata(&self) -> Result<Vec<MetadataBuilder>> {
        let columns = self.request.projection.iter().filter_map(|column| column.checked_sub(self.value_columns));
        columns
            .map(|index| {
                let column = self.options.metadata.get(index).copied();
                column.map(MetadataBuilder::new).ok_or_else(|| {
                    Error::internal(format!(
                        "the projection of stream {} names a column that it does not have",
                        self.name
                    ))
                })
            })
            .collect()
    }
}

impl Source for KafkaSource {
    fn start_at(&mut self, positions: Positions) -> Result<()> {
        self.stood = position::read(&positions)?;
        Ok(())
    }

    fn fetch_ahead(&mut self, bytes: usize) {
        self.ahead = bytes;
    }

    fn readers(
        mut self: Box<Self>,
        workers: usize,
        clock: Arc<dyn Clock>,
        reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let who = format!("stream {}", self.name);
        let health = Health::new(&who, &self.options.brokers, reporter);
        let config = self.options.reading_config(self.ahead, workers);
        let context = ReadingContext(Arc::clone(&health));
        let client: BaseConsumer<ReadingContext> =
            config.create_with_context(context).map_err(|error| config_error(&error))?;
        let client = Arc::new(client);

        let wakes: Vec<Arc<Wake>> = (0..workers).map(|_| Arc::default()).collect();
        let partitions = Arc::new(Partitions::new(wakes.clone(), std::mem::take(&mut self.stood)));
        let queues = wakes
            .iter()
            .map(|wake| WorkerQueue::new(Arc::clone(&client), Arc::clone(wake)).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let letters = match &self.options.on_error {
            OnError::DeadLetter(topic) => {
                let config = self.options.dead_letter_config();
                Some(DeadLetters::open(&config, topic, &self.name, &health, wakes)?)
            }
            OnError::Fail | OnError::Skip => None,
        };
        let schemas = health.for_schemas();
        let mut readers: Vec<Box<dyn SourceReader>> = Vec::with_capacity(workers);
        for (worker, queue) in queues.iter().enumerate() {
            let mut decoder = (self.decoders)()?;
            let wake = Arc::clone(queue.wake());
            let bell: Bell = Arc::new(move || wake.wake());
            decoder.ring(&bell);
            readers.push(Box::new(KafkaReader {
                worker,
                queue: BatchReader::new(Arc::clone(queue)),
                view: View::default(),
                rows: Rows {
                    schema: Arc::clone(&self.request.schema),
                    decoder,
                    metadata: self.metadata()?,
                    runs: Vec::new(),
                    left_out: LeftOut::default(),
                    letters: letters.clone().map(LetterBox::new),
                    health: Arc::clone(&health),
                    schemas: Arc::clone(&schemas),
                    skip: self.options.on_error == OnError::Skip,
                    clock: Arc::clone(&clock),
                },
                bounded: self.request.bounded,
                membership: Membership(Arc::clone(&partitions)),
            }));
        }
        let coordinator = Coordinator {
            client: Watched::consumer(client, Arc::clone(&partitions.coordinator))?,
            options: Arc::clone(&self.options),
            bounded: self.request.bounded,
            partitions,
            queues,
            health,
            clock,
            topics: HashMap::new(),
            dealt: HashSet::new(),
            started: Vec::new(),
            ask: Duration::ZERO,
        };
        thread::Builder::new()
            .name("kafka-source".to_owned())
            .spawn(move || coordinator.run())
            .map_err(|error| Error::internal(format!("no thread for the Kafka source: {error}")))?;
        Ok(readers)
    }
}

/// A reader's place among those that the coordinator works for.
struct Membership(Arc<Partitions>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// One worker's reader. The queue goes before the membership: the coordinator, which ends after the last member, is then
/// the last to hold the client and closes it on its own thread.
struct KafkaReader {
    worker: usize,
    queue: BatchReader<ReadingContext>,
    view: View,
    rows: Rows,
    bounded: bool,
    membership: Membership,
}

impl KafkaReader {
    fn finished(&self) -> bool {
        self.bounded
            && self.view.share.version > 0
            && self.view.share.mine.iter().all(|partition| partition.finished())
            && self.rows.letters.as_ref().is_none_or(LetterBox::empty)
    }
}

impl SourceReader for KafkaReader {
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        let mut budget = budget_rows.max(1);
        loop {
            // First armed, then looked: see `Wake::arm`.
            self.queue.wake().arm();
            if let Some(error) = self.rows.health.failed() {
                return Err(error);
            }
            self.view.share.refresh(self.worker, &self.membership.0);
            if let Some(letters) = &mut self.rows.letters {
                letters.post()?;
                if letters.full() {
                    return Ok(PollState::Idle);
                }
            }
            let most = budget.min(BATCH_ROWS);
            let batch = self.queue.take(most);
            let taken = batch.len();
            if taken > 0 {
                self.view.share.refresh(self.worker, &self.membership.0);
                let done = self.rows.decode(&batch, &mut self.view, out)?;
                if done < taken {
                    // Whoever knows the schema wakes the worker.
                    batch.give_back(done);
                    return Ok(PollState::Idle);
                }
            }
            drop(batch);
            if self.finished() {
                return Ok(PollState::Finished);
            }
            if taken < most {
                return Ok(PollState::Idle);
            }
            budget = budget.saturating_sub(taken);
            if budget == 0 {
                return Ok(PollState::More);
            }
        }
    }

    fn partitions(&self) -> Vec<PartitionState> {
        self.view.share.states()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.queue.wake().set(waker);
    }

    fn positions(&self) -> Option<Positions> {
        Some(self.membership.0.positions(self.worker))
    }
}

#[cfg(test)]
mod tests;
