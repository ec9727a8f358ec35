//! The producer's side: a queue whose records reach the broker in their own time, answers that may be lost, and calls that
//! are made again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cluster::{Cluster, Isolation, ProducerEpoch, Refusal};
use super::partition::StoredRecord;
use crate::connector::transaction::log::{LogRecord, Taken, TransactionalLog, TransactionalProducer, Trouble, Visit};
use crate::error::{Error, ErrorKind, Result};
use crate::safeguard::Safeguard;

/// Records that may wait in a producer's queue.
const QUEUE: usize = 1_000;

/// What becomes of a call to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is answered.
    Answered,
    /// It never arrives.
    Lost,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It arrives later, when the client has given it up, whether that lives or not; but before the client's next call.
    Delayed,
    /// The client breaks off and is of no use any more; whether the call was `done` nobody knows.
    Broken {
        /// Whether it was.
        done: bool,
    },
}

/// The world around a client: what becomes of its calls, and what happens while it waits.
pub trait World: Send + Sync {
    /// What becomes of the next call.
    fn fate(&self) -> Fate {
        Fate::Answered
    }

    /// The client waits: others go on. An error ends the waiting.
    fn wait(&self) -> Result<()> {
        std::thread::yield_now();
        Ok(())
    }
}

/// A world in which nothing goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calm;

impl World for Calm {}

/// The log, as one sink sees it.
pub struct MemoryLog {
    name: String,
    cluster: Cluster,
    progress: String,
    timeout_millis: i64,
    world: Arc<dyn World>,
    state: Mutex<LogState>,
}

#[derive(Default)]
struct LogState {
    closed: bool,
    waits: Vec<String>,
    producers: Vec<Arc<MemoryProducer>>,
}

impl MemoryLog {
    /// A client of `cluster` whose jobs keep their progress in the topic `progress`.
    pub fn new(name: &str, cluster: Cluster, progress: &str, timeout_millis: i64, world: Arc<dyn World>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            cluster,
            progress: progress.to_owned(),
            timeout_millis,
            world,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was waited for, in order.
    pub fn waits(&self) -> Vec<String> {
        self.lock().waits.clone()
    }

    /// Sends one record of the `turn`-th producer's queue; answers whether one has any.
    pub fn deliver(&self, turn: usize) -> bool {
        let producers = self.lock().producers.clone();
        let full: Vec<_> = producers.iter().filter(|producer| producer.lock().queue.front().is_some()).collect();
        let Some(producer) = full.get(turn % full.len().max(1)) else { return false };
        producer.deliver();
        true
    }

    /// Lets a call arrive that is under way, also one of a client that is gone. Answers whether there was one.
    pub fn arrive(&self) -> bool {
        let producers = self.lock().producers.clone();
        producers.iter().any(|producer| producer.arrive())
    }
}

impl TransactionalLog for MemoryLog {
    fn name(&self) -> &str {
        &self.name
    }

    fn producer(&self, transactional_id: &str) -> Result<Arc<dyn TransactionalProducer>> {
        let producer = Arc::new(MemoryProducer {
            id: transactional_id.to_owned(),
            cluster: self.cluster.clone(),
            timeout_millis: self.timeout_millis,
            world: Arc::clone(&self.world),
            state: Mutex::default(),
        });
        self.lock().producers.push(Arc::clone(&producer));
        Ok(producer)
    }

    fn progress_topic(&self) -> &str {
        &self.progress
    }

    fn open_progress(&self) -> Result<i32> {
        self.cluster.create_topic(&self.progress, 1);
        Ok(self.cluster.partitions(&self.progress) as i32)
    }

    fn end_of_progress(&self, partition: i32) -> Result<i64> {
        let isolation = match Safeguard::UncommittedEnd.holds() {
            true => Isolation::Uncommitted,
            false => Isolation::Committed,
        };
        self.cluster.end_offset(&self.progress, partition, isolation).map_err(unreadable)
    }

    fn read_progress(&self, partition: i32, end: i64, visit: &mut Visit<'_>) -> Result<()> {
        let mut position = 0;
        while position < end {
            let place = (self.progress.as_str(), partition);
            let fetched = self.cluster.fetch(place, position, Isolation::Committed, 100).map_err(unreadable)?;
            for (_, record) in &fetched.records {
                visit(record.key.as_deref(), record.value.as_deref());
            }
            if fetched.next == position {
                self.waits_for(Some(format!("the end of another job's transaction at {position}")));
                self.rest()?;
            }
            position = fetched.next;
        }
        Ok(())
    }

    fn waits_for(&self, what: Option<String>) {
        self.lock().waits.extend(what);
    }

    fn rest(&self) -> Result<()> {
        if self.lock().closed {
            return Err(Error::new(ErrorKind::Canceled, "the job is dropped"));
        }
        self.world.wait()
    }

    fn close(&self) {
        self.lock().closed = true;
    }
}

fn broken() -> Trouble {
    Trouble::Broken(Error::new(ErrorKind::External, "the client of the log in memory has broken off"))
}

fn unreadable(refusal: Refusal) -> Error {
    Error::new(ErrorKind::External, format!("the log in memory refuses: {refusal:?}"))
}

/// A producer; see the [module](self).
struct MemoryProducer {
    id: String,
    cluster: Cluster,
    timeout_millis: i64,
    world: Arc<dyn World>,
    state: Mutex<ProducerState>,
}

#[derive(Default)]
struct ProducerState {
    epoch: Option<ProducerEpoch>,
    begun: bool,
    /// Records on their way, each with its number in its partition.
    queue: VecDeque<(String, i32, i64, StoredRecord)>,
    sequences: BTreeMap<(String, i32), i64>,
    /// Whether the transaction has records.
    written: bool,
    failed: Option<Refusal>,
    /// The end of a transaction that is under way: of which producer, and whether it commits.
    under_way: Option<(ProducerEpoch, bool)>,
}

impl MemoryProducer {
    fn lock(&self) -> MutexGuard<'_, ProducerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is under way arrives; nobody hears what comes of it.
    fn arrive(&self) -> bool {
        let under_way = self.lock().under_way.take();
        let Some((epoch, commit)) = under_way else { return false };
        let _ = self.cluster.end(epoch, commit);
        true
    }

    /// Sends the first record of the queue; it leaves the queue when it is acknowledged.
    fn deliver(&self) {
        let mut state = self.lock();
        if state.failed.is_some() {
            return;
        }
        let (Some(epoch), Some((topic, partition, sequence, record))) = (state.epoch, state.queue.front().cloned())
        else {
            return;
        };
        let fate = self.world.fate();
        if matches!(fate, Fate::Lost | Fate::Delayed | Fate::Broken { .. }) {
            return;
        }
        match self.cluster.produce(epoch, (&topic, partition), sequence, record) {
            Ok(()) if fate == Fate::AnswerLost => {}
            Ok(()) => drop(state.queue.pop_front()),
            Err(Refusal::ConcurrentTransactions) => {}
            Err(refusal) => state.failed = Some(refusal),
        }
    }

    fn error(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Fenced => Error::new(
                ErrorKind::InvalidState,
                format!("another run of this job has taken over the transactional id {}", self.id),
            ),
            other => Error::new(ErrorKind::External, format!("the log in memory refuses: {other:?}")),
        }
    }

    fn trouble(&self, refusal: Refusal) -> Trouble {
        match refusal {
            Refusal::Fenced => Trouble::Final(self.error(refusal)),
            Refusal::ConcurrentTransactions => Trouble::Unknown("concurrent transactions".to_owned()),
            _ => Trouble::Abort(self.error(refusal)),
        }
    }

    fn ended(&self) {
        let mut state = self.lock();
        state.begun = false;
        state.written = false;
        state.queue.clear();
    }

    fn end(&self, commit: bool) -> Result<(), Trouble> {
        let (epoch, written) = {
            let state = self.lock();
            if !state.begun {
                return Err(Trouble::Broken(Error::internal("no transaction was begun")));
            }
            (state.epoch, state.written)
        };
        let Some(epoch) = epoch.filter(|_| written) else {
            self.ended();
            return Ok(());
        };
        let fate = self.world.fate();
        self.arrive();
        match fate {
            Fate::Answered | Fate::AnswerLost => {}
            Fate::Lost => return Err(Trouble::Unknown("no answer".to_owned())),
            Fate::Delayed => {
                self.lock().under_way = Some((epoch, commit));
                return Err(Trouble::Unknown("no answer yet".to_owned()));
            }
            Fate::Broken { done } => {
                if done {
                    let _ = self.cluster.end(epoch, commit);
                }
                return Err(broken());
            }
        }
        self.cluster.end(epoch, commit).map_err(|refusal| self.trouble(refusal))?;
        if fate == Fate::AnswerLost {
            return Err(Trouble::Unknown("no answer".to_owned()));
        }
        self.ended();
        Ok(())
    }
}

impl TransactionalProducer for MemoryProducer {
    fn init(&self) -> Result<(), Trouble> {
        let fate = self.world.fate();
        self.arrive();
        match fate {
            Fate::Lost | Fate::Delayed => return Err(Trouble::Unknown("no answer".to_owned())),
            Fate::Broken { .. } => return Err(broken()),
            Fate::Answered | Fate::AnswerLost => {}
        }
        let epoch = self.cluster.init(&self.id, self.timeout_millis).map_err(|refusal| self.trouble(refusal))?;
        if fate == Fate::AnswerLost {
            return Err(Trouble::Unknown("no answer".to_owned()));
        }
        *self.lock() = ProducerState { epoch: Some(epoch), ..ProducerState::default() };
        Ok(())
    }

    fn begin(&self) -> Result<(), Trouble> {
        self.lock().begun = true;
        Ok(())
    }

    fn send(&self, record: LogRecord<'_>) -> Result<Taken> {
        let mut state = self.lock();
        if let Some(refusal) = state.failed {
            return Err(self.error(refusal));
        }
        if !state.begun {
            return Err(Error::internal("a record was sent outside of a transaction"));
        }
        if state.queue.len() >= QUEUE {
            return Ok(Taken::Full);
        }
        let LogRecord { topic, partition, key, value } = record;
        let partition = partition.unwrap_or_else(|| self.cluster.partition_of(topic, key.unwrap_or_default()));
        let next = state.sequences.entry((topic.to_owned(), partition)).or_default();
        let sequence = *next;
        *next += 1;
        let record = StoredRecord { key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec) };
        state.queue.push_back((topic.to_owned(), partition, sequence, record));
        state.written = true;
        Ok(Taken::Yes)
    }

    fn acknowledged(&self) -> Result<bool> {
        let state = self.lock();
        match state.failed {
            Some(refusal) => Err(self.error(refusal)),
            None => Ok(state.queue.is_empty()),
        }
    }

    fn flush(&self) -> Result<()> {
        while !self.acknowledged()? {
            self.deliver();
            self.world.wait()?;
        }
        Ok(())
    }

    fn commit(&self) -> Result<(), Trouble> {
        // As Kafka's clients do: a commit sends what still waits.
        self.flush().map_err(|error| match error.kind() {
            ErrorKind::InvalidState => Trouble::Final(error),
            ErrorKind::Canceled => Trouble::Canceled(error),
            _ => Trouble::Abort(error),
        })?;
        self.end(true)
    }

    fn abort(&self) -> Result<(), Trouble> {
        {
            let mut state = self.lock();
            if !state.queue.is_empty() {
                // Their numbers are never written, so what would come after them is out of order: `init` counts anew.
                state.queue.clear();
                state.failed = Some(Refusal::OutOfOrder);
            }
        }
        self.end(false)
    }
}
