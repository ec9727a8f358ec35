//! A stream of a topic's committed rows, each a JSON object.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::record_batch::RecordBatch;

use super::cluster::{Cluster, Isolation, Refusal};
use super::partition::StoredRecord;
use crate::connector::definition::StreamDefinition;
use crate::connector::{
    PartitionState, PollState, Positions, Reporter, ScanRequest, Source, SourceBatch, SourceReader, Waker,
};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Clock;

/// A topic that is read: what its readers are told of, and whether more will come.
#[derive(Default)]
pub struct Feed {
    wakers: Mutex<Vec<Waker>>,
    closed: AtomicBool,
}

impl Feed {
    /// Something has come, or can be seen now.
    pub fn wake(&self) {
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wakers.iter().for_each(|waker| waker());
    }

    /// Nothing will be written any more: readers end when they have read everything.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }
}

/// See the [module](self).
#[derive(Clone)]
pub struct MemoryLogStream {
    cluster: Cluster,
    topic: String,
    schema: SchemaRef,
    feed: Arc<Feed>,
}

impl MemoryLogStream {
    /// The rows of `topic`, whose objects have members that are called as the columns.
    pub fn new(cluster: Cluster, topic: &str, schema: SchemaRef, feed: Arc<Feed>) -> Self {
        Self { cluster, topic: topic.to_owned(), schema, feed }
    }
}

impl StreamDefinition for MemoryLogStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        None
    }

    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>> {
        if scan.bounded {
            return Err(Error::not_supported("a topic of the log in memory is read by jobs only"));
        }
        Ok(Box::new(MemoryLogSource { stream: self.clone(), columns: scan.projection, positions: BTreeMap::new() }))
    }
}

struct MemoryLogSource {
    stream: MemoryLogStream,
    columns: Vec<usize>,
    positions: BTreeMap<i32, i64>,
}

impl Source for MemoryLogSource {
    fn start_at(&mut self, positions: Positions) -> Result<()> {
        for (partition, offset) in &positions.0 {
            match (partition.parse(), offset.parse()) {
                (Ok(partition), Ok(offset)) => _ = self.positions.insert(partition, offset),
                _ => return Err(Error::internal(format!("no partition {partition}, or no offset {offset}"))),
            }
        }
        Ok(())
    }

    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let partitions = self.stream.cluster.partitions(&self.stream.topic) as i32;
        Ok((0..workers)
            .map(|worker| {
                let own = (0..partitions).filter(|partition| *partition as usize % workers == worker);
                let positions = own.map(|own| (own, self.positions.get(&own).copied().unwrap_or(0))).collect();
                let (stream, columns) = (self.stream.clone(), self.columns.clone());
                Box::new(MemoryLogReader { stream, columns, positions }) as Box<dyn SourceReader>
            })
            .collect())
    }
}

struct MemoryLogReader {
    stream: MemoryLogStream,
    columns: Vec<usize>,
    /// Of each partition the offset of the next row.
    positions: BTreeMap<i32, i64>,
}

impl MemoryLogReader {
    fn rows(&self, records: &[(i64, StoredRecord)]) -> Result<RecordBatch> {
        let builder = ReaderBuilder::new(Arc::clone(&self.stream.schema)).with_batch_size(records.len().max(1));
        let mut decoder = builder.build_decoder()?;
        for (_, record) in records {
            decoder.decode(record.value.as_deref().unwrap_or(b"{}"))?;
            decoder.decode(b"\n")?;
        }
        let rows = decoder.flush()?;
        let rows = rows.ok_or_else(|| Error::new(ErrorKind::Data, "a record of the log in memory has no row"))?;
        Ok(rows.project(&self.columns)?)
    }
}

impl SourceReader for MemoryLogReader {
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        let unreadable = |refusal: Refusal| {
            Error::new(ErrorKind::External, format!("topic {} cannot be read: {refusal:?}", self.stream.topic))
        };
        // Asked first: what is written afterwards is found by the next poll.
        let closed = self.stream.feed.closed.load(Ordering::SeqCst);
        let (mut left, mut all_read) = (budget_rows, closed);
        let mut next = self.positions.clone();
        for (partition, position) in &mut next {
            let place = (self.stream.topic.as_str(), *partition);
            let found = self.stream.cluster.fetch(place, *position, Isolation::Committed, left).map_err(unreadable)?;
            let end = self.stream.cluster.end_offset(place.0, place.1, Isolation::Uncommitted).map_err(unreadable)?;
            *position = found.next;
            all_read &= found.next == end;
            left -= found.records.len();
            if !found.records.is_empty() {
                let rows = self.rows(&found.records)?;
                let runs = vec![(*partition as u32, rows.num_rows())];
                out.push(SourceBatch { rows, weights: None, runs });
            }
        }
        self.positions = next;
        Ok(match left {
            0 => PollState::More,
            _ if all_read => PollState::Finished,
            _ => PollState::Idle,
        })
    }

    fn partitions(&self) -> Vec<PartitionState> {
        let state = |partition: &i32| PartitionState { partition: *partition as u32, idle: false };
        self.positions.keys().map(state).collect()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.stream.feed.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    fn positions(&self) -> Option<Positions> {
        let position = |(partition, offset): (&i32, &i64)| (partition.to_string(), offset.to_string());
        Some(Positions(self.positions.iter().map(position).collect()))
    }
}
