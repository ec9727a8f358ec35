//! The Kafka source and its readers.
//!
//! One client of librdkafka serves a job's source. Its partitions are dealt to the workers by their number; those of one
//! worker share a queue, which the worker's reader empties in batches and decodes straight from librdkafka's memory.
//!
//! Records without a value (tombstones) are no rows: they are counted as skipped, whatever `on_error` says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;

use super::batch_queue::{BATCH_ROWS, Batch, BatchReader, Record, Wake, Watched, WorkerQueue};
use super::coordinator::Coordinator;
use super::dead_letters::{DeadLetters, LetterBox};
use super::health::{Health, ReadingContext};
use super::metadata::MetadataBuilder;
use super::partitions::{Partition, Partitions};
use super::settings::{KafkaSourceOptions, OnError, config_error};
use crate::connector::{PartitionState, PollState, Reporter, ScanRequest, Source, SourceBatch, SourceReader, Waker};
use crate::error::{Error, ErrorKind, Result};
use crate::format::decoder::RowDecoder;
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
        Self { name: name.to_owned(), options: Arc::new(options), request, value_columns, decoders }
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
    fn readers(
        self: Box<Self>,
        workers: usize,
        clock: Arc<dyn Clock>,
        reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let who = format!("stream {}", self.name);
        let health = Health::new(&who, &self.options.brokers, reporter);
        let config = self.options.consumer_config();
        let context = ReadingContext(Arc::clone(&health));
        let client: BaseConsumer<ReadingContext> =
            config.create_with_context(context).map_err(|error| config_error(&error))?;
        let client = Arc::new(client);

        let wakes: Vec<Arc<Wake>> = (0..workers).map(|_| Arc::default()).collect();
        let partitions = Arc::new(Partitions::new(wakes.clone()));
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
        let mut readers: Vec<Box<dyn SourceReader>> = Vec::with_capacity(workers);
        for (worker, queue) in queues.iter().enumerate() {
            readers.push(Box::new(KafkaReader {
                worker,
                queue: BatchReader::new(Arc::clone(queue)),
                view: View::default(),
                rows: Rows {
                    schema: Arc::clone(&self.request.schema),
                    decoder: (self.decoders)()?,
                    metadata: self.metadata()?,
                    letters: letters.clone().map(LetterBox::new),
                    health: Arc::clone(&health),
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

/// What a reader knows of the dealt partitions.
#[derive(Default)]
struct View {
    version: u64,
    /// This worker's, by number.
    mine: Vec<Arc<Partition>>,
    /// Those met in the queue, by topic and partition: `mine` again.
    met: HashMap<(usize, i32), usize>,
    /// The last one met: records come in runs.
    last: Option<((usize, i32), usize)>,
}

impl View {
    fn refresh(&mut self, worker: usize, partitions: &Partitions) {
        let version = partitions.version();
        if version != self.version {
            self.mine = partitions
                .all()
                .into_iter()
                .filter(|partition| partitions.worker_of(partition.number) == worker)
                .collect();
            self.version = version;
        }
    }

    /// The partition of a record, by its place in `mine`.
    #[inline]
    fn find(&mut self, record: Record<'_>) -> Option<usize> {
        let id = (record.topic_id(), record.partition());
        if let Some((last, index)) = self.last
            && last == id
        {
            return Some(index);
        }
        let index = match self.met.get(&id) {
            Some(index) => *index,
            None => {
                let (topic, number) = (record.topic(), record.partition());
                let index = self.mine.iter().position(|mine| mine.partition == number && *mine.topic == *topic)?;
                self.met.insert(id, index);
                index
            }
        };
        self.last = Some((id, index));
        Some(index)
    }
}

/// Turns batches of records into batches of rows.
struct Rows {
    schema: SchemaRef,
    decoder: Box<dyn RowDecoder>,
    metadata: Vec<MetadataBuilder>,
    letters: Option<LetterBox>,
    health: Arc<Health>,
    skip: bool,
    clock: Arc<dyn Clock>,
}

impl Rows {
    fn decode(&mut self, batch: &Batch<'_>, view: &mut View) -> Result<Option<SourceBatch>> {
        let bytes = batch.iter().filter(|record| record.event().is_none()).filter_map(|record| record.payload());
        self.decoder.begin(batch.len(), bytes.map(<[u8]>::len).sum());
        let mut runs: Vec<(u32, usize)> = Vec::new();
        let (mut tombstones, mut skipped, mut reason) = (0_u64, 0_u64, String::new());
        for record in batch.iter() {
            let found = view.find(record);
            if let Some(code) = record.event() {
                self.event(code, record, found.map(|index| &*view.mine[index]))?;
                continue;
            }
            let Some(index) = found else {
                return Err(Error::internal(format!("{} was never dealt to this worker", place(record))));
            };
            let partition = &view.mine[index];
            partition.moved();
            if let Some(end) = partition.end {
                if record.offset() + 1 >= end {
                    partition.finish();
                }
                if record.offset() >= end {
                    continue;
                }
            }
            let Some(payload) = record.payload() else {
                tombstones += 1;
                continue;
            };
            if let Err(error) = self.decoder.push(payload) {
                if let Some(letters) = &mut self.letters {
                    letters.push(record, error.to_string())?;
                } else if self.skip {
                    skipped += 1;
                    reason = format!("{}: {error}", place(record));
                } else {
                    return Err(Error::new(ErrorKind::Data, format!("{}: {error}", place(record))).with_hint(
                        "Compare the record with the stream's message type; on_error = 'skip' or 'dead_letter' goes on without it.",
                    ));
                }
                continue;
            }
            for column in &mut self.metadata {
                column.push(record)?;
            }
            match runs.last_mut() {
                Some((number, rows)) if *number == partition.number => *rows += 1,
                _ => runs.push((partition.number, 1)),
            }
        }
        if tombstones > 0 {
            self.health.skipped(tombstones, "the record has no value (a tombstone)");
        }
        if skipped > 0 {
            self.health.skipped(skipped, &reason);
        }
        let rows = self.decoder.finish()?;
        if runs.is_empty() {
            return Ok(None);
        }
        Ok(Some(SourceBatch { rows: self.with_metadata(rows)?, runs }))
    }

    fn with_metadata(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.extend(self.metadata.iter_mut().map(MetadataBuilder::finish));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// An event in a record's place.
    fn event(&self, code: RDKafkaErrorCode, record: Record<'_>, partition: Option<&Partition>) -> Result<()> {
        use RDKafkaErrorCode as C;
        match code {
            C::PartitionEOF => {
                if let Some(partition) = partition {
                    partition.reached_end(record.offset(), self.clock.now_micros());
                    // By position: the last offsets may be marks of transactions, which are no records.
                    if partition.end.is_some_and(|end| record.offset() >= end) {
                        partition.finish();
                    }
                }
                Ok(())
            }
            // librdkafka goes on by itself; the coordinator tells what the job waits for.
            C::BrokerTransportFailure
            | C::AllBrokersDown
            | C::OperationTimedOut
            | C::RequestTimedOut
            | C::Resolve
            | C::NodeUpdate
            | C::LeaderNotAvailable
            | C::NotLeaderForPartition
            | C::ReplicaNotAvailable
            | C::UnknownTopicOrPartition
            | C::UnknownTopic
            | C::UnknownPartition
            | C::KafkaStorageError
            | C::OffsetNotAvailable => {
                tracing::info!(stream = self.health.who(), "{}: {}", place(record), record.event_text());
                Ok(())
            }
            C::AutoOffsetReset | C::OffsetOutOfRange => Err(Error::new(
                ErrorKind::External,
                format!("{} is no longer, or not yet, in the topic: {}", place(record), record.event_text()),
            )
            .with_hint(
                "The topic's retention has removed it. Start elsewhere, or say \"kafka.auto.offset.reset\" = 'earliest' to go on with a gap.",
            )),
            C::TopicAuthorizationFailed | C::GroupAuthorizationFailed => Err(Error::new(
                ErrorKind::External,
                format!("topic {} may not be read: the broker refuses access", record.topic()),
            )),
            _ => Err(Error::new(ErrorKind::External, format!("{}: {}", place(record), record.event_text()))),
        }
    }
}

/// Where a record stands, in words.
fn place(record: Record<'_>) -> String {
    format!("topic {}, partition {}, offset {}", record.topic(), record.partition(), record.offset())
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
            && self.view.version > 0
            && self.view.mine.iter().all(|partition| partition.finished())
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
            self.view.refresh(self.worker, &self.membership.0);
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
                self.view.refresh(self.worker, &self.membership.0);
                out.extend(self.rows.decode(&batch, &mut self.view)?);
            }
            drop(batch);
            if self.finished() {
                return Ok(PollState::Finished);
            }
            if taken < most {
                return Ok(PollState::Idle);
            }
            budget -= taken;
            if budget == 0 {
                return Ok(PollState::More);
            }
        }
    }

    fn partitions(&self) -> Vec<PartitionState> {
        if self.view.version == 0 {
            // Not known yet: the first partition that this worker will have, if there are so many. Saying "none" would
            // let the other workers' watermark run ahead of it.
            let partition = u32::try_from(self.worker).unwrap_or(u32::MAX);
            return vec![PartitionState { partition, idle: false }];
        }
        let state = |partition: &Arc<Partition>| PartitionState { partition: partition.number, idle: partition.idle() };
        self.view.mine.iter().map(state).collect()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.queue.wake().set(waker);
    }
}

#[cfg(test)]
mod tests;
