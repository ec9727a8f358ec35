//! The broker's side: topics, producers, transactions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::partition::{Appended, Fetched, Partition, StoredRecord};

/// Which records a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions, and those of none; nothing behind an open transaction.
    Committed,
    /// All.
    Uncommitted,
}

/// The number of a transactional id.
pub type ProducerId = u64;

/// A producer, as the broker knows it: a number, and which of those that had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerEpoch {
    /// Of the transactional id.
    pub id: ProducerId,
    /// One more for each that initialised.
    pub epoch: i16,
}

/// The broker's refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such topic or partition.
    UnknownPartition,
    /// A newer producer has the id.
    Fenced,
    /// The last transaction of this id is decided and not marked everywhere yet: ask again.
    ConcurrentTransactions,
    /// There is no transaction that could end so.
    InvalidState,
    /// A record before this one is missing.
    OutOfOrder,
}

/// What an id's transaction is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Transaction {
    /// None was there yet, or it ended so.
    Ended(Option<bool>),
    Open {
        places: BTreeSet<Place>,
        since_millis: i64,
    },
    /// Decided; these places have no mark yet.
    Decided {
        commit: bool,
        places: VecDeque<Place>,
    },
}

/// A topic's partition.
type Place = (String, i32);

#[derive(Debug, Clone)]
struct Id {
    number: ProducerId,
    epoch: i16,
    timeout_millis: i64,
    transaction: Transaction,
}

/// What has happened so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Transactions that were committed.
    pub committed: u64,
    /// Transactions that were aborted.
    pub aborted: u64,
    /// Calls that were refused since a newer producer has the id.
    pub fenced: u64,
}

#[derive(Debug, Default)]
struct Topics {
    tally: Tally,
    topics: BTreeMap<String, Vec<Partition>>,
    ids: BTreeMap<String, Id>,
    /// Marks are written one by one, when [`Cluster::write_mark`] is called.
    lazy_marks: bool,
    now_millis: i64,
}

/// See the [module](self). Clones are the same cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    state: Arc<Mutex<Topics>>,
}

impl Topics {
    fn partition(&mut self, topic: &str, partition: i32) -> Result<&mut Partition, Refusal> {
        let partitions = self.topics.get_mut(topic).ok_or(Refusal::UnknownPartition)?;
        let index = usize::try_from(partition).map_err(|_| Refusal::UnknownPartition)?;
        partitions.get_mut(index).ok_or(Refusal::UnknownPartition)
    }

    fn id(&mut self, producer: ProducerEpoch) -> Result<&mut Id, Refusal> {
        let id = self.ids.values_mut().find(|id| id.number == producer.id).ok_or(Refusal::InvalidState)?;
        if id.epoch != producer.epoch {
            self.tally.fenced += 1;
            return Err(Refusal::Fenced);
        }
        Ok(id)
    }

    /// Writes one mark of an id's decided transaction; the last ends it. Answers whether there was one.
    fn write_mark(&mut self, name: &str) -> bool {
        let Some(Id { number, transaction: Transaction::Decided { commit, places }, .. }) = self.ids.get_mut(name)
        else {
            return false;
        };
        let (number, commit) = (*number, *commit);
        let place = places.pop_front();
        if places.is_empty()
            && let Some(id) = self.ids.get_mut(name)
        {
            id.transaction = Transaction::Ended(Some(commit));
        }
        if let Some((topic, partition)) = place
            && let Ok(partition) = self.partition(&topic, partition)
        {
            partition.mark(number, commit);
        }
        true
    }

    fn decide(&mut self, name: &str, commit: bool) {
        if let Some(id) = self.ids.get_mut(name)
            && let Transaction::Open { places, .. } = &id.transaction
        {
            id.transaction = Transaction::Decided { commit, places: places.iter().cloned().collect() };
            *if commit { &mut self.tally.committed } else { &mut self.tally.aborted } += 1;
        }
        if !self.lazy_marks {
            while self.write_mark(name) {}
        }
    }
}

impl Cluster {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has happened so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// The transactional ids whose transactions are open, or decided and not marked everywhere.
    pub fn unfinished(&self) -> Vec<String> {
        let state = self.lock();
        let unfinished = state.ids.iter().filter(|(_, id)| !matches!(id.transaction, Transaction::Ended(_)));
        unfinished.map(|(name, _)| name.clone()).collect()
    }

    /// Makes a topic; one that is there stays as it is.
    pub fn create_topic(&self, topic: &str, partitions: usize) {
        self.lock().topics.entry(topic.to_owned()).or_insert_with(|| vec![Partition::default(); partitions]);
    }

    /// How many partitions a topic has; 0: there is none.
    pub fn partitions(&self, topic: &str) -> usize {
        self.lock().topics.get(topic).map_or(0, Vec::len)
    }

    /// The partition that a key belongs to.
    pub fn partition_of(&self, topic: &str, key: &[u8]) -> i32 {
        (xxh3_64(key) % self.partitions(topic).max(1) as u64) as i32
    }

    /// From now on the marks of a transaction that is decided are written by [`Self::write_mark`], and until then its
    /// records are read nowhere, or in some partitions only.
    pub fn set_lazy_marks(&self, lazy: bool) {
        self.lock().lazy_marks = lazy;
    }

    /// Writes the next mark of the `turn`-th decided transaction; answers whether any was decided.
    pub fn write_mark(&self, turn: usize) -> bool {
        let mut state = self.lock();
        let decided = |id: &&Id| matches!(id.transaction, Transaction::Decided { .. });
        let names: Vec<String> = state.ids.iter().filter(|(_, id)| decided(id)).map(|(name, _)| name.clone()).collect();
        let Some(name) = names.get(turn % names.len().max(1)) else { return false };
        state.write_mark(name)
    }

    /// Moves the clock: transactions that are open for longer than their time-outs are aborted, and their producers
    /// fenced.
    pub fn advance_millis(&self, millis: i64) {
        let mut state = self.lock();
        state.now_millis += millis;
        let now = state.now_millis;
        let late = |id: &Id| match id.transaction {
            Transaction::Open { since_millis, .. } => now - since_millis > id.timeout_millis,
            Transaction::Ended(_) | Transaction::Decided { .. } => false,
        };
        let names: Vec<String> = state.ids.iter().filter(|(_, id)| late(id)).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(id) = state.ids.get_mut(&name) {
                id.epoch += 1;
            }
            state.decide(&name, false);
        }
    }

    /// A new producer of a transactional id: older ones are fenced, and what they left open is aborted.
    pub fn init(&self, name: &str, timeout_millis: i64) -> Result<ProducerEpoch, Refusal> {
        let mut state = self.lock();
        let number = state.ids.len() as u64 + 1;
        let id = state.ids.entry(name.to_owned()).or_insert(Id {
            number,
            epoch: -1,
            timeout_millis,
            transaction: Transaction::Ended(None),
        });
        match id.transaction {
            Transaction::Decided { .. } => return Err(Refusal::ConcurrentTransactions),
            Transaction::Open { .. } => {
                // Fenced at once; the new one is answered when the marks are written.
                id.epoch += 1;
                state.decide(name, false);
                if matches!(state.ids.get(name).map(|id| &id.transaction), Some(Transaction::Decided { .. })) {
                    return Err(Refusal::ConcurrentTransactions);
                }
            }
            Transaction::Ended(_) => {}
        }
        let id = state.ids.get_mut(name).ok_or(Refusal::InvalidState)?;
        id.epoch += 1;
        id.timeout_millis = timeout_millis;
        id.transaction = Transaction::Ended(None);
        Ok(ProducerEpoch { id: id.number, epoch: id.epoch })
    }

    /// Writes the record with this number of a producer's transaction into a partition; the first begins it.
    pub fn produce(
        &self,
        producer: ProducerEpoch,
        (topic, partition): (&str, i32),
        sequence: i64,
        record: StoredRecord,
    ) -> Result<(), Refusal> {
        let mut state = self.lock();
        let now = state.now_millis;
        state.partition(topic, partition)?;
        let id = state.id(producer)?;
        match &mut id.transaction {
            Transaction::Decided { .. } => return Err(Refusal::ConcurrentTransactions),
            Transaction::Open { places, .. } => _ = places.insert((topic.to_owned(), partition)),
            Transaction::Ended(_) => {
                let places = BTreeSet::from([(topic.to_owned(), partition)]);
                id.transaction = Transaction::Open { places, since_millis: now };
            }
        }
        match state.partition(topic, partition)?.append_in((producer.id, producer.epoch), sequence, record) {
            Appended::Now | Appended::Before => Ok(()),
            Appended::Gap => Err(Refusal::OutOfOrder),
        }
    }

    /// Ends a producer's transaction. Asked again in the same way after it has ended so, it is done.
    pub fn end(&self, producer: ProducerEpoch, commit: bool) -> Result<(), Refusal> {
        let mut state = self.lock();
        let id = state.id(producer)?;
        match &id.transaction {
            Transaction::Open { .. } => {
                let name = state.ids.iter().find(|(_, id)| id.number == producer.id).map(|(name, _)| name.clone());
                state.decide(&name.ok_or(Refusal::InvalidState)?, commit);
                Ok(())
            }
            Transaction::Decided { commit: decided, .. } if *decided == commit => Ok(()),
            Transaction::Ended(Some(ended)) if *ended == commit => Ok(()),
            Transaction::Decided { .. } | Transaction::Ended(_) => Err(Refusal::InvalidState),
        }
    }

    /// Writes a record without a transaction.
    pub fn append(&self, (topic, partition): (&str, i32), record: StoredRecord) -> Result<i64, Refusal> {
        Ok(self.lock().partition(topic, partition)?.append(record))
    }

    /// The end of a partition, as a reader of this isolation sees it.
    pub fn end_offset(&self, topic: &str, partition: i32, isolation: Isolation) -> Result<i64, Refusal> {
        Ok(self.lock().partition(topic, partition)?.end(isolation))
    }

    /// Reads at most `most` records of a partition from an offset on.
    pub fn fetch(
        &self,
        (topic, partition): (&str, i32),
        from: i64,
        isolation: Isolation,
        most: usize,
    ) -> Result<Fetched, Refusal> {
        Ok(self.lock().partition(topic, partition)?.fetch(from, isolation, most))
    }

    /// Compacts a topic's partitions.
    pub fn compact(&self, topic: &str) {
        self.lock().topics.get_mut(topic).into_iter().flatten().for_each(Partition::compact);
    }
}
