//! From records to rows: decoding a batch, and what happens to the records that are no rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use rdkafka::error::RDKafkaErrorCode;

use super::batch_queue::{Batch, Record};
use super::dead_letters::LetterBox;
use super::health::Health;
use super::metadata::MetadataBuilder;
use crate::connector::SourceBatch;
use crate::connector::partitions::{Partition, Share};
use crate::error::{Error, ErrorKind, Result};
use crate::format::decoder::{DecodeError, RowDecoder};
use crate::time::Clock;

/// What a reader knows of the dealt partitions.
#[derive(Default)]
pub(super) struct View {
    pub(super) share: Share,
    /// Those met in the queue, by topic and partition: its share again.
    met: HashMap<(usize, i32), usize>,
    /// The last one met: records come in runs.
    last: Option<((usize, i32), usize)>,
}

impl View {
    /// The partition of a record, by its place in the share.
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
                let index =
                    self.share.mine.iter().position(|mine| mine.partition == number && *mine.topic == *topic)?;
                self.met.insert(id, index);
                index
            }
        };
        self.last = Some((id, index));
        Some(index)
    }
}

/// Turns batches of records into batches of rows.
pub(super) struct Rows {
    pub(super) schema: SchemaRef,
    pub(super) decoder: Box<dyn RowDecoder>,
    pub(super) metadata: Vec<MetadataBuilder>,
    /// Those of the batch that the decoder is at.
    pub(super) runs: Vec<(u32, usize)>,
    pub(super) left_out: LeftOut,
    pub(super) letters: Option<LetterBox>,
    pub(super) health: Arc<Health>,
    /// How the schemas' registry is doing.
    pub(super) schemas: Arc<Health>,
    pub(super) skip: bool,
    pub(super) clock: Arc<dyn Clock>,
}

/// Records of a batch that are no rows.
#[derive(Default)]
pub(super) struct LeftOut {
    tombstones: u64,
    skipped: u64,
    last_reason: String,
}

impl Rows {
    /// Decodes one batch of the queue into `out`: usually one batch of rows, more if the decoder runs out of room. Answers
    /// how many of its messages are done: the next one waits for its schema, if there is a next one.
    pub(super) fn decode(&mut self, batch: &Batch<'_>, view: &mut View, out: &mut Vec<SourceBatch>) -> Result<usize> {
        let mut done = batch.len();
        let records = batch.iter().filter(|record| record.event().is_none());
        let mut bytes: usize = records.filter_map(|record| record.payload()).map(<[u8]>::len).sum();
        self.decoder.begin(batch.len(), bytes);
        for (index, record) in batch.iter().enumerate() {
            let found = view.find(record);
            if let Some(code) = record.event() {
                self.event(code, record, found.map(|index| &*view.share.mine[index]))?;
                continue;
            }
            let Some(found) = found else {
                return Err(Error::internal(format!("{} was never dealt to this worker", place(record))));
            };
            let partition = &view.share.mine[found];
            let payload = record.payload();
            if !reads(partition, record) {
                bytes -= payload.map_or(0, <[u8]>::len);
                passed(partition, record);
                continue;
            }
            let mut pushed = self.decoder.push_keyed(record.key(), payload);
            if matches!(&pushed, Err(error) if error.batch_full) && !self.runs.is_empty() {
                self.finish(out)?;
                self.decoder.begin(batch.len() - index, bytes);
                pushed = self.decoder.push_keyed(record.key(), payload);
            }
            if let Err(error) = &pushed
                && error.awaits
            {
                self.schemas.waits_for(Some(error.reason.clone()));
                done = index;
                break;
            }
            bytes -= payload.map_or(0, <[u8]>::len);
            passed(partition, record);
            match pushed {
                Ok(true) => self.accept(record, partition.number)?,
                Ok(false) if self.decoder.expects_tombstones() => {}
                Ok(false) => self.left_out.tombstones += 1,
                Err(error) => self.refuse(record, &error)?,
            }
        }
        if done == batch.len() {
            self.schemas.waits_for(None);
        }
        self.tell_left_out();
        self.finish(out)?;
        Ok(done)
    }

    /// The decoder has taken a record.
    #[inline]
    fn accept(&mut self, record: Record<'_>, number: u32) -> Result<()> {
        for column in &mut self.metadata {
            column.push(record)?;
        }
        match self.runs.last_mut() {
            Some((last, rows)) if *last == number => *rows += 1,
            _ => self.runs.push((number, 1)),
        }
        Ok(())
    }

    /// The decoder has refused a record: what `on_error` says.
    fn refuse(&mut self, record: Record<'_>, error: &DecodeError) -> Result<()> {
        if let Some(letters) = &mut self.letters {
            return letters.push(record, error.to_string());
        }
        let words = format!("{}: {error}", place(record));
        if self.skip {
            self.left_out.skipped += 1;
            self.left_out.last_reason = words;
            return Ok(());
        }
        Err(Error::new(ErrorKind::Data, words).with_hint(
            "Compare the record with the stream's message type; on_error = 'skip' or 'dead_letter' goes on without it.",
        ))
    }

    fn tell_left_out(&mut self) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out.tombstones > 0 {
            self.health.skipped(left_out.tombstones, "the record has no value (a tombstone)");
        }
        if left_out.skipped > 0 {
            self.health.skipped(left_out.skipped, &left_out.last_reason);
        }
    }

    /// Ends the decoder's batch.
    fn finish(&mut self, out: &mut Vec<SourceBatch>) -> Result<()> {
        let rows = self.decoder.finish()?;
        if self.runs.is_empty() {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.extend(self.metadata.iter_mut().map(MetadataBuilder::finish));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        out.push(SourceBatch { rows, weights: None, runs: std::mem::take(&mut self.runs) });
        Ok(())
    }

    /// An event in a record's place.
    fn event(&self, code: RDKafkaErrorCode, record: Record<'_>, partition: Option<&Partition>) -> Result<()> {
        use RDKafkaErrorCode as C;
        match code {
            C::PartitionEOF => {
                if let Some(partition) = partition {
                    partition.reached_end(record.offset(), self.clock.now_micros());
                    partition.passed(record.offset());
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

/// Notes that a record came; answers whether it belongs to the scan.
#[inline]
fn reads(partition: &Partition, record: Record<'_>) -> bool {
    partition.moved();
    partition.end.is_none_or(|end| record.offset() < end)
}

/// Notes that a record is done with.
#[inline]
fn passed(partition: &Partition, record: Record<'_>) {
    partition.passed(record.offset() + 1);
    if partition.end.is_some_and(|end| record.offset() + 1 >= end) {
        partition.finish();
    }
}

/// Where a record stands, in words.
fn place(record: Record<'_>) -> String {
    format!("topic {}, partition {}, offset {}", record.topic(), record.partition(), record.offset())
}
