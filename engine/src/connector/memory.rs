//! Rows from memory: a source that a handle feeds, for tests and the oracle; one that hands out batches built before,
//! for benchmarks; and a sink that keeps what it is given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::definition::StreamDefinition;
use super::{
    PartitionState, PollState, Positions, Reporter, ScanRequest, Sink, SinkState, SinkWriter, Source, SourceBatch,
    SourceReader, Waker,
};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{Clock, Epoch};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A partition that a handle feeds.
#[derive(Default)]
struct Queue {
    batches: VecDeque<Delta>,
    rows: usize,
    idle: bool,
}

#[derive(Default)]
struct Feed {
    partitions: Vec<Queue>,
    closed: bool,
    /// One for each worker, by number.
    wakers: BTreeMap<usize, Waker>,
}

/// Feeds a [`MemorySource`].
#[derive(Clone)]
pub struct MemoryHandle {
    feed: Arc<Mutex<Feed>>,
    max_rows: usize,
}

impl MemoryHandle {
    /// Rows that may wait in one partition.
    const MAX_ROWS: usize = 64 << 20;

    /// A handle with `partitions` partitions, spread over the workers by number.
    pub fn new(partitions: usize) -> Self {
        let feed = Feed { partitions: (0..partitions).map(|_| Queue::default()).collect(), ..Feed::default() };
        Self { feed: Arc::new(Mutex::new(feed)), max_rows: Self::MAX_ROWS }
    }

    /// The source; several may read one feed only one after the other, since rows are handed out once.
    pub fn source(&self) -> Box<dyn Source> {
        Box::new(MemorySource { feed: Arc::clone(&self.feed) })
    }

    /// Adds rows to a partition; one that is new is found by the running source.
    pub fn push(&self, partition: usize, rows: RecordBatch) -> Result<()> {
        self.push_delta(partition, Delta::append(rows))
    }

    /// As [`Self::push`], of rows that may go as well: only for a job that reads the source as a changelog.
    pub fn push_delta(&self, partition: usize, rows: Delta) -> Result<()> {
        let mut feed = lock(&self.feed);
        if feed.closed {
            return Err(Error::new(ErrorKind::InvalidState, "the memory source is closed"));
        }
        if feed.partitions.len() <= partition {
            feed.partitions.resize_with(partition + 1, Queue::default);
        }
        let queue = &mut feed.partitions[partition];
        if queue.rows + rows.num_rows() > self.max_rows {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("more than {} rows wait in partition {partition} of the memory source", self.max_rows),
            ));
        }
        queue.rows += rows.num_rows();
        queue.idle = false;
        queue.batches.push_back(rows);
        wake(feed);
        Ok(())
    }

    /// Says whether a partition is idle: it then takes no part in the watermark until rows come.
    pub fn set_idle(&self, partition: usize, idle: bool) {
        let mut feed = lock(&self.feed);
        if let Some(queue) = feed.partitions.get_mut(partition) {
            queue.idle = idle;
        }
        wake(feed);
    }

    /// The input ends after what was pushed.
    pub fn close(&self) {
        let mut feed = lock(&self.feed);
        feed.closed = true;
        wake(feed);
    }

    /// Rows that were pushed and not yet read.
    pub fn waiting_rows(&self) -> usize {
        lock(&self.feed).partitions.iter().map(|queue| queue.rows).sum()
    }
}

/// Wakes all readers, without the lock: a waker may look at the feed's pool.
fn wake(feed: MutexGuard<'_, Feed>) {
    let wakers: Vec<Waker> = feed.wakers.values().cloned().collect();
    drop(feed);
    wakers.iter().for_each(|waker| waker());
}

/// Reads what a [`MemoryHandle`] is given.
struct MemorySource {
    feed: Arc<Mutex<Feed>>,
}

impl Source for MemorySource {
    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        Ok((0..workers)
            .map(|worker| {
                Box::new(MemoryReader { feed: Arc::clone(&self.feed), worker, workers }) as Box<dyn SourceReader>
            })
            .collect())
    }
}

struct MemoryReader {
    feed: Arc<Mutex<Feed>>,
    worker: usize,
    workers: usize,
}

impl SourceReader for MemoryReader {
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        let mut feed = lock(&self.feed);
        let mut rows = 0;
        // One batch of each partition in turn, so that none runs ahead of the others.
        loop {
            let mut any = false;
            for partition in (self.worker..feed.partitions.len()).step_by(self.workers) {
                let queue = &mut feed.partitions[partition];
                if rows >= budget_rows {
                    return Ok(PollState::More);
                }
                let Some(mut batch) = queue.batches.pop_front() else { continue };
                any = true;
                let room = (budget_rows - rows).max(1);
                if batch.num_rows() > room {
                    queue.batches.push_front(batch.slice(room, batch.num_rows() - room));
                    batch = batch.slice(0, room);
                }
                rows += batch.num_rows();
                queue.rows -= batch.num_rows();
                let runs = vec![(partition as u32, batch.num_rows())];
                out.push(SourceBatch { rows: batch.rows().clone(), weights: batch.weights().cloned(), runs });
            }
            if !any {
                return Ok(if feed.closed { PollState::Finished } else { PollState::Idle });
            }
        }
    }

    fn partitions(&self) -> Vec<PartitionState> {
        let feed = lock(&self.feed);
        (self.worker..feed.partitions.len())
            .step_by(self.workers)
            .map(|partition| PartitionState { partition: partition as u32, idle: feed.partitions[partition].idle })
            .collect()
    }

    fn set_waker(&mut self, waker: Waker) {
        lock(&self.feed).wakers.insert(self.worker, waker);
    }
}

/// A bounded source of batches that are there already: handed out as they are, without copies.
#[derive(Debug, Clone)]
pub struct PrebuiltSource {
    partitions: Vec<Arc<[RecordBatch]>>,
    /// Of each partition the next batch.
    next: Vec<usize>,
}

impl PrebuiltSource {
    /// Batches by partition; partitions are spread over the workers by number.
    pub fn new(partitions: Vec<Vec<RecordBatch>>) -> Self {
        Self { next: vec![0; partitions.len()], partitions: partitions.into_iter().map(Arc::from).collect() }
    }
}

impl Source for PrebuiltSource {
    fn start_at(&mut self, positions: Positions) -> Result<()> {
        for (partition, next) in &positions.0 {
            let slot =
                partition.parse().ok().and_then(|partition: usize| self.next.get_mut(partition)).zip(next.parse().ok());
            let (slot, next) =
                slot.ok_or_else(|| Error::internal(format!("no partition {partition}, or no batch {next}")))?;
            *slot = next;
        }
        Ok(())
    }

    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let mut readers: Vec<PrebuiltReader> = (0..workers).map(|_| PrebuiltReader::default()).collect();
        for (partition, batches) in self.partitions.into_iter().enumerate() {
            readers[partition % workers].partitions.push((partition as u32, batches, self.next[partition]));
        }
        Ok(readers.into_iter().map(|reader| Box::new(reader) as Box<dyn SourceReader>).collect())
    }
}

#[derive(Default)]
struct PrebuiltReader {
    /// Partition, its batches, the next one.
    partitions: Vec<(u32, Arc<[RecordBatch]>, usize)>,
}

impl SourceReader for PrebuiltReader {
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        let mut rows = 0;
        loop {
            let mut any = false;
            for (partition, batches, next) in &mut self.partitions {
                let Some(batch) = batches.get(*next) else { continue };
                if rows >= budget_rows {
                    return Ok(PollState::More);
                }
                *next += 1;
                rows += batch.num_rows();
                any = true;
                out.push(SourceBatch {
                    rows: batch.clone(),
                    weights: None,
                    runs: vec![(*partition, batch.num_rows())],
                });
            }
            if !any {
                return Ok(PollState::Finished);
            }
        }
    }

    fn partitions(&self) -> Vec<PartitionState> {
        self.partitions.iter().map(|(partition, ..)| PartitionState { partition: *partition, idle: false }).collect()
    }

    fn set_waker(&mut self, _waker: Waker) {}

    fn positions(&self) -> Option<Positions> {
        let of_partition = |(partition, _, next): &(u32, _, usize)| (partition.to_string(), next.to_string());
        Some(Positions(self.partitions.iter().map(of_partition).collect()))
    }
}

/// A stream over batches that are there already: every job reads them all, and ends.
#[derive(Debug, Clone)]
pub struct PrebuiltStream {
    schema: SchemaRef,
    partitions: Vec<Vec<RecordBatch>>,
}

impl PrebuiltStream {
    /// Batches of one schema by partition.
    pub fn new(schema: SchemaRef, partitions: Vec<Vec<RecordBatch>>) -> Self {
        Self { schema, partitions }
    }
}

impl StreamDefinition for PrebuiltStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        None
    }

    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>> {
        let projected =
            |batch: &RecordBatch| Ok(batch.project(&scan.projection)?.with_schema(Arc::clone(&scan.schema))?);
        let partitions = self.partitions.iter().map(|batches| batches.iter().map(projected).collect());
        Ok(Box::new(PrebuiltSource::new(partitions.collect::<Result<_>>()?)))
    }
}

/// A sink that keeps what it is given, for tests. It can be told to stop taking.
#[derive(Clone, Default)]
pub struct MemorySink {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    written: Vec<(Epoch, Delta)>,
    full: bool,
    flushes: usize,
}

impl MemorySink {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that was written, in the order of writing.
    pub fn written(&self) -> Vec<(Epoch, Delta)> {
        lock(&self.kept).written.clone()
    }

    /// While full it takes one more delta a writer and then says so.
    pub fn set_full(&self, full: bool) {
        lock(&self.kept).full = full;
    }

    /// How often it was flushed to the end.
    pub fn flushes(&self) -> usize {
        lock(&self.kept).flushes
    }
}

impl Kept {
    fn state(&self) -> SinkState {
        if self.full { SinkState::Full } else { SinkState::Ready }
    }
}

impl Sink for MemorySink {
    fn writers(self: Box<Self>, workers: usize, _reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        Ok((0..workers).map(|_| Box::new((*self).clone()) as Box<dyn SinkWriter>).collect())
    }
}

impl SinkWriter for MemorySink {
    fn write(&mut self, epoch: Epoch, delta: Delta) -> Result<SinkState> {
        let mut kept = lock(&self.kept);
        kept.written.push((epoch, delta));
        Ok(kept.state())
    }

    fn resume(&mut self) -> Result<SinkState> {
        Ok(lock(&self.kept).state())
    }

    fn flush(&mut self) -> Result<SinkState> {
        let mut kept = lock(&self.kept);
        if !kept.full {
            kept.flushes += 1;
        }
        Ok(kept.state())
    }
}
