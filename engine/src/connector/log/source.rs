//! A stream of the committed rows of some topics, each a JSON object. Which partitions there are it is told while it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::record_batch::RecordBatch;

use super::cluster::{Cluster, Isolation, Refusal};
use super::partition::StoredRecord;
use crate::connector::definition::StreamDefinition;
use crate::connector::partitions::{OFFSET_BEGINNING, Partition, Partitions, Place, Share, Stood, Wake, position};
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

/// Whoever finds the partitions of a source.
pub trait Finder: Send + Sync {
    /// A source was opened. What is not found now is found later.
    fn opened(&self, discovery: &Arc<Discovery>);
}

/// What a source has found of its topics' partitions.
pub struct Discovery {
    all: Vec<Place>,
    partitions: Partitions,
}

impl Discovery {
    /// Finds partitions: of those that an earlier run of the job has read, which `finds` names. The others are found with the
    /// first, whichever that is: what comes to a source later than that is news, and may be late.
    pub fn find(&self, mut finds: impl FnMut(&str, i32) -> bool) {
        let found = self.partitions.all();
        let is_new = |place: &&Place| !found.iter().any(|found| *found.topic == *place.0 && found.partition == place.1);
        let new: Vec<&Place> = self.all.iter().filter(is_new).collect();
        let is_found = |place: &&Place| !self.partitions.stood.contains_key(place) || finds(&place.0, place.1);
        let new: Vec<&Place> = new.into_iter().filter(is_found).collect();
        if new.is_empty() {
            return;
        }
        let partition = |place: &Place| {
            let partition = Partition::new(self.partitions.number(place), place.0.as_str().into(), place.1, None);
            partition.passed(self.partitions.stood.get(place).map_or(OFFSET_BEGINNING, |stood| stood.offset));
            Arc::new(partition)
        };
        self.partitions.deal(new.into_iter().map(partition).collect());
    }

    /// Whether all are found.
    pub fn is_done(&self) -> bool {
        self.partitions.all().len() == self.all.len()
    }
}

/// See the [module](self).
#[derive(Clone)]
pub struct MemoryLogStream {
    cluster: Cluster,
    topics: Vec<String>,
    schema: SchemaRef,
    feed: Arc<Feed>,
    finder: Arc<dyn Finder>,
}

impl MemoryLogStream {
    /// The rows of `topics`, whose objects have members that are called as the columns.
    pub fn new(cluster: Cluster, topics: &[&str], schema: SchemaRef, feed: Arc<Feed>, finder: Arc<dyn Finder>) -> Self {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Self { cluster, topics, schema, feed, finder }
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
        Ok(Box::new(MemoryLogSource { stream: self.clone(), columns: scan.projection, stood: BTreeMap::new() }))
    }
}

struct MemoryLogSource {
    stream: MemoryLogStream,
    columns: Vec<usize>,
    stood: BTreeMap<Place, Stood>,
}

impl Source for MemoryLogSource {
    fn start_at(&mut self, positions: Positions) -> Result<()> {
        self.stood = position::read(&positions)?;
        Ok(())
    }

    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let Self { stream, columns, stood } = *self;
        let of_topic = |topic: &String| {
            let partitions = stream.cluster.partitions(topic) as i32;
            (0..partitions).map(|partition| (topic.clone(), partition)).collect::<Vec<_>>()
        };
        let all = stream.topics.iter().flat_map(of_topic).collect();
        let wakes: Vec<Arc<Wake>> = (0..workers).map(|_| Arc::default()).collect();
        let discovery = Arc::new(Discovery { all, partitions: Partitions::new(wakes.clone(), stood) });
        let readers = wakes.into_iter().enumerate().map(|(worker, wake)| {
            let (stream, columns, discovery) = (stream.clone(), columns.clone(), Arc::clone(&discovery));
            let share = Share::default();
            Box::new(MemoryLogReader { worker, stream, columns, discovery, share, wake }) as Box<dyn SourceReader>
        });
        let readers = readers.collect();
        stream.finder.opened(&discovery);
        Ok(readers)
    }
}

struct MemoryLogReader {
    worker: usize,
    stream: MemoryLogStream,
    columns: Vec<usize>,
    discovery: Arc<Discovery>,
    share: Share,
    wake: Arc<Wake>,
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
        // Asked first: what is written or found afterwards is read by the next poll.
        let closed = self.stream.feed.closed.load(Ordering::SeqCst);
        self.wake.arm();
        let mut all_read = closed && self.discovery.is_done();
        self.share.refresh(self.worker, &self.discovery.partitions);
        let mut left = budget_rows;
        for partition in &self.share.mine {
            let place = (&*partition.topic, partition.partition);
            let unreadable = |refusal: Refusal| {
                Error::new(ErrorKind::External, format!("topic {} cannot be read: {refusal:?}", place.0))
            };
            let position = partition.next().filter(|next| *next != OFFSET_BEGINNING).unwrap_or(0);
            let found = self.stream.cluster.fetch(place, position, Isolation::Committed, left).map_err(unreadable)?;
            let end = self.stream.cluster.end_offset(place.0, place.1, Isolation::Uncommitted).map_err(unreadable)?;
            all_read &= found.next == end;
            left -= found.records.len();
            if !found.records.is_empty() {
                let rows = self.rows(&found.records)?;
                let runs = vec![(partition.number, rows.num_rows())];
                out.push(SourceBatch { rows, weights: None, runs });
            }
            partition.passed(found.next);
        }
        Ok(match left {
            0 => PollState::More,
            _ if all_read => PollState::Finished,
            _ => PollState::Idle,
        })
    }

    fn partitions(&self) -> Vec<PartitionState> {
        self.share.states()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.wake.set(Arc::clone(&waker));
        self.stream.feed.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    fn positions(&self) -> Option<Positions> {
        Some(self.discovery.partitions.positions(self.worker))
    }
}
