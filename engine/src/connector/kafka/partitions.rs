//! The partitions of a source, as its coordinator deals them to the workers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::batch_queue::Wake;
use super::position::{self, Place, Stood};
use crate::connector::Positions;

const NOWHERE: i64 = -1;

/// One partition of one topic.
pub(super) struct Partition {
    /// The source's own number: dense, in order of discovery.
    pub(super) number: u32,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Where a bounded scan ends: the first offset that is not its own.
    pub(super) end: Option<i64>,
    /// The offset at which the broker said "no more", as long as no record came after it.
    at_end: AtomicI64,
    /// Since when, in microseconds since 1970.
    at_end_since: AtomicI64,
    /// The end offset that the broker named when asked again after the idle time-out.
    confirmed: AtomicI64,
    /// A bounded scan has read all of it.
    finished: AtomicBool,
    /// The offset of the next record: of the first that was not handed out.
    next: AtomicI64,
}

impl Partition {
    pub(super) fn new(number: u32, topic: Arc<str>, partition: i32, end: Option<i64>) -> Self {
        Self {
            number,
            topic,
            partition,
            end,
            at_end: AtomicI64::new(NOWHERE),
            at_end_since: AtomicI64::new(0),
            confirmed: AtomicI64::new(NOWHERE),
            finished: AtomicBool::new(false),
            next: AtomicI64::new(NOWHERE),
        }
    }

    /// Everything before `next` was handed out, or is not to be read.
    #[inline]
    pub(super) fn passed(&self, next: i64) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// The offset of the next record, once it is known.
    pub(super) fn next(&self) -> Option<i64> {
        let next = self.next.load(Ordering::Relaxed);
        (next != NOWHERE).then_some(next)
    }

    /// A bounded scan has read all of it.
    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
    }

    /// Whether a bounded scan has read all of it.
    pub(super) fn finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// A record came: the partition is not at its end. Called by the reader.
    #[inline]
    pub(super) fn moved(&self) {
        if self.at_end.load(Ordering::Relaxed) != NOWHERE {
            self.at_end.store(NOWHERE, Ordering::SeqCst);
        }
    }

    /// The broker said that there is nothing at `offset` yet. Called by the reader.
    ///
    /// The end may move without a record (the mark of a transaction): then the time counts on, and idle stays idle.
    pub(super) fn reached_end(&self, offset: i64, now_micros: i64) {
        let before = self.at_end.load(Ordering::SeqCst);
        if before == NOWHERE {
            self.at_end_since.store(now_micros, Ordering::SeqCst);
        } else if self.confirmed.load(Ordering::SeqCst) == before {
            self.confirmed.store(offset, Ordering::SeqCst);
        }
        self.at_end.store(offset, Ordering::SeqCst);
    }

    /// The end at which the partition has stood for at least `idle_micros`, if that is not confirmed yet.
    pub(super) fn to_confirm(&self, now_micros: i64, idle_micros: i64) -> Option<i64> {
        let offset = self.at_end.load(Ordering::SeqCst);
        let waited = now_micros.saturating_sub(self.at_end_since.load(Ordering::SeqCst));
        (offset != NOWHERE && waited >= idle_micros && self.confirmed.load(Ordering::SeqCst) != offset)
            .then_some(offset)
    }

    /// The broker was asked and named no later end.
    pub(super) fn confirm(&self, offset: i64) {
        self.confirmed.store(offset, Ordering::SeqCst);
    }

    /// At its end, by the broker's word, for the whole idle time-out.
    pub(super) fn idle(&self) -> bool {
        let offset = self.at_end.load(Ordering::SeqCst);
        offset != NOWHERE && self.confirmed.load(Ordering::SeqCst) == offset
    }
}

/// All partitions of a source, shared by its coordinator and its readers.
pub(super) struct Partitions {
    all: Mutex<Vec<Arc<Partition>>>,
    /// Grows with each deal; 0: nothing is known yet.
    version: AtomicU64,
    wakes: Vec<Arc<Wake>>,
    /// Wakes the coordinator.
    pub(super) coordinator: Arc<Wake>,
    readers: AtomicUsize,
    failed: AtomicBool,
    /// Where an earlier run of the job stood.
    pub(super) stood: BTreeMap<Place, Stood>,
}

impl Partitions {
    /// For as many workers as there are wakes, from where an earlier run `stood`.
    pub(super) fn new(wakes: Vec<Arc<Wake>>, stood: BTreeMap<Place, Stood>) -> Self {
        let readers = AtomicUsize::new(wakes.len());
        Self {
            all: Mutex::default(),
            version: AtomicU64::new(0),
            wakes,
            coordinator: Arc::default(),
            readers,
            failed: AtomicBool::new(false),
            stood,
        }
    }

    /// Where a worker's reader stands. What an earlier run had read and nobody has found yet stays as it was, with the
    /// worker that will read it.
    pub(super) fn positions(&self, worker: usize) -> Positions {
        let all = self.lock();
        let mine = all.iter().filter(|partition| self.worker_of(partition.number) == worker);
        let unfound = self.stood.iter().filter(|((topic, number), stood)| {
            let is_found = |of: &Arc<Partition>| *of.topic == **topic && of.partition == *number;
            self.worker_of(stood.number) == worker && !all.iter().any(is_found)
        });
        position::write(mine.map(|partition| &**partition), unfound.map(|(place, stood)| (place, *stood)))
    }

    /// How many workers.
    pub(super) fn workers(&self) -> usize {
        self.wakes.len()
    }

    /// Which worker reads partition `number`.
    pub(super) fn worker_of(&self, number: u32) -> usize {
        number as usize % self.workers().max(1)
    }

    /// The partitions that a worker will have, as long as nobody was dealt any: those that an earlier run had read, all of
    /// them, or else the first one, if there are so many. A worker that said it had none, or fewer, would let the watermark
    /// run ahead of those that it is about to read, whose rows would be late.
    pub(super) fn expected(&self, worker: usize) -> Vec<u32> {
        let numbers = self.stood.values().map(|stood| stood.number);
        let mine: Vec<u32> = numbers.filter(|number| self.worker_of(*number) == worker).collect();
        if mine.is_empty() { vec![u32::try_from(worker).unwrap_or(u32::MAX)] } else { mine }
    }

    /// Adds partitions and wakes everyone. Also called with none, when a source turns out to have none yet.
    pub(super) fn deal(&self, new: Vec<Arc<Partition>>) {
        self.lock().extend(new);
        self.version.fetch_add(1, Ordering::SeqCst);
        self.wakes.iter().for_each(|wake| wake.wake());
    }

    /// Everything dealt so far.
    pub(super) fn all(&self) -> Vec<Arc<Partition>> {
        self.lock().clone()
    }

    /// How often partitions were dealt.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Wakes the worker of a partition.
    pub(super) fn wake(&self, number: u32) {
        if let Some(wake) = self.wakes.get(self.worker_of(number)) {
            wake.wake();
        }
    }

    /// A reader is gone; the coordinator ends after the last one.
    pub(super) fn leave(&self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
        self.coordinator.wake();
    }

    /// Whether a reader is left.
    pub(super) fn wanted(&self) -> bool {
        self.readers.load(Ordering::SeqCst) > 0 && !self.failed.load(Ordering::SeqCst)
    }

    /// The source cannot go on: everyone looks why.
    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.wakes.iter().for_each(|wake| wake.wake());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Partition>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_needs_the_brokers_word() {
        let partition = Partition::new(0, "t".into(), 0, None);
        assert_eq!(partition.to_confirm(1_000, 0), None, "nothing is known of a fresh partition");
        partition.reached_end(10, 1_000);
        assert_eq!(partition.to_confirm(1_499, 500), None);
        assert_eq!(partition.to_confirm(1_500, 500), Some(10));
        assert!(!partition.idle(), "time alone does not make it idle");
        partition.confirm(10);
        assert!(partition.idle());
        assert_eq!(partition.to_confirm(9_000, 500), None);
        partition.moved();
        assert!(!partition.idle());
        partition.reached_end(11, 9_000);
        assert!(!partition.idle(), "the word for offset 10 does not hold for 11");
        assert_eq!(partition.to_confirm(9_400, 500), None);
    }

    /// A job that had read two partitions on two workers goes on with one: both hold its watermark from the first epoch on.
    #[test]
    fn partitions_of_an_earlier_run_are_expected() {
        let stood = |number| Stood { number, offset: 10 };
        let stood: BTreeMap<Place, Stood> = [(("t".to_owned(), 0), stood(0)), (("t".to_owned(), 1), stood(1))].into();
        let on = |workers: usize| Partitions::new((0..workers).map(|_| Arc::default()).collect(), stood.clone());
        assert_eq!(on(1).expected(0), [0, 1]);
        assert_eq!([0, 1].map(|worker| on(2).expected(worker)), [[0], [1]]);
        assert_eq!(on(3).expected(2), [2], "of whom nothing is known: it holds everyone up");
        let fresh = Partitions::new(vec![Arc::default()], BTreeMap::new());
        assert_eq!(fresh.expected(0), [0]);
    }

    #[test]
    fn an_end_that_moves_without_records_keeps_the_time() {
        let partition = Partition::new(0, "t".into(), 0, None);
        partition.reached_end(10, 1_000);
        partition.reached_end(11, 1_400);
        assert_eq!(partition.to_confirm(1_500, 500), Some(11));
        partition.confirm(11);
        partition.reached_end(12, 1_600);
        assert!(partition.idle());
    }

    #[test]
    fn a_late_word_is_ignored() {
        let partition = Partition::new(0, "t".into(), 0, None);
        partition.reached_end(10, 1_000);
        let asked = partition.to_confirm(2_000, 500).unwrap();
        partition.moved();
        partition.confirm(asked);
        assert!(!partition.idle());
    }
}
