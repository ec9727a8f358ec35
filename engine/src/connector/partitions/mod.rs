//! The partitions of a source that finds them while it runs, as they are dealt to the workers.
//!
//! A source is opened before it knows its partitions: a broker has to be asked, topics come later, or go. Until then the watermark
//! waits for what will be found. Of a job that goes on from a checkpoint that is all that the earlier run had read; a
//! watermark that ran ahead of one of them would make its rows late.
//!
//! * [`partition`]: one of them: how far it was read, and whether it is idle
//! * [`position`]: where a source stands, in words that outlive the process
//! * [`share`]: what one worker's reader knows of them
//! * [`wake`]: waking the worker

pub(in crate::connector) mod partition;
pub(in crate::connector) mod position;
mod share;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) use self::partition::Partition;
pub(super) use self::position::{OFFSET_BEGINNING, Place, Stood};
pub(super) use self::share::Share;
pub(super) use self::wake::Wake;
use crate::connector::{PartitionState, Positions};

/// What a worker has as long as nobody was dealt anything: a partition that nobody has, for which the watermark waits. A worker
/// that said it had none, or only what an earlier run had read (which may not have heard of all), would let the watermark run
/// ahead of what it is about to read, whose rows would be late.
const UNKNOWN: PartitionState = PartitionState { partition: u32::MAX, idle: false };

/// All partitions of a source, shared by who finds them and its readers.
pub(in crate::connector) struct Partitions {
    dealt: Mutex<Dealt>,
    /// Grows with each deal; 0: nothing is known yet.
    version: AtomicU64,
    /// The number of the next partition that no earlier run has read.
    next_number: AtomicU32,
    wakes: Vec<Arc<Wake>>,
    /// Wakes the coordinator.
    pub(in crate::connector) coordinator: Arc<Wake>,
    readers: AtomicUsize,
    failed: AtomicBool,
    /// Where an earlier run of the job stood.
    pub(in crate::connector) stood: BTreeMap<Place, Stood>,
}

#[derive(Default)]
struct Dealt {
    all: Vec<Arc<Partition>>,
    /// What an earlier run has read and nobody has found yet.
    awaited: BTreeMap<Place, Arc<Partition>>,
}

impl Partitions {
    /// For as many workers as there are wakes, from where an earlier run `stood`.
    pub(in crate::connector) fn new(wakes: Vec<Arc<Wake>>, stood: BTreeMap<Place, Stood>) -> Self {
        let readers = AtomicUsize::new(wakes.len());
        let next_number = stood.values().map(|stood| stood.number.saturating_add(1)).max().unwrap_or(0);
        let awaited = stood.iter().map(|(place, stood)| {
            let partition = Partition::new(stood.number, place.0.as_str().into(), place.1, None);
            partition.passed(stood.offset);
            (place.clone(), Arc::new(partition))
        });
        let dealt = Dealt { all: Vec::new(), awaited: awaited.collect() };
        Self {
            dealt: Mutex::new(dealt),
            version: AtomicU64::new(0),
            next_number: AtomicU32::new(next_number),
            wakes,
            coordinator: Arc::default(),
            readers,
            failed: AtomicBool::new(false),
            stood,
        }
    }

    /// Where a worker's reader stands. What an earlier run had read and nobody has found yet stays as it was, with the
    /// worker that will read it.
    pub(in crate::connector) fn positions(&self, worker: usize) -> Positions {
        let dealt = self.lock();
        let all = dealt.all.iter().chain(dealt.awaited.values());
        position::write(
            all.filter(|partition| self.worker_of(partition.number) == worker).map(|partition| &**partition),
        )
    }

    /// How many workers.
    fn workers(&self) -> usize {
        self.wakes.len()
    }

    /// Which worker reads partition `number`.
    pub(in crate::connector) fn worker_of(&self, number: u32) -> usize {
        number as usize % self.workers().max(1)
    }

    /// The number of a partition that is about to be dealt: that which an earlier run had for it, or the next.
    pub(in crate::connector) fn number(&self, place: &Place) -> u32 {
        match self.stood.get(place) {
            Some(stood) => stood.number,
            None => self.next_number.fetch_add(1, Ordering::SeqCst),
        }
    }

    /// The partitions that an earlier run had read and nobody has found yet, and that this worker will have.
    fn awaited(&self, worker: usize) -> Vec<Arc<Partition>> {
        let dealt = self.lock();
        dealt.awaited.values().filter(|partition| self.worker_of(partition.number) == worker).cloned().collect()
    }

    /// What is awaited of the brokers, which were asked what there is and have named `found`. A partition that they have not
    /// known for the whole idle time-out holds the watermark no longer: it is idle, until it is found.
    pub(in crate::connector) fn missing(
        &self,
        found: &BTreeSet<Place>,
        now_micros: i64,
        idle_micros: i64,
    ) -> BTreeSet<Place> {
        let mut idle = Vec::new();
        let mut missing = BTreeSet::new();
        for (place, partition) in &self.lock().awaited {
            if found.contains(place) {
                partition.moved();
                continue;
            }
            partition.reached_end(0, now_micros);
            if let Some(end) = partition.to_confirm(now_micros, idle_micros) {
                partition.confirm(end);
                idle.push(partition.number);
            }
            if !partition.idle() {
                missing.insert(place.clone());
            }
        }
        idle.into_iter().for_each(|number| self.wake(number));
        missing
    }

    /// Adds partitions and wakes everyone. Also called with none, when a source turns out to have none yet.
    pub(in crate::connector) fn deal(&self, new: Vec<Arc<Partition>>) {
        let mut dealt = self.lock();
        for partition in &new {
            dealt.awaited.remove(&(partition.topic.to_string(), partition.partition));
        }
        dealt.all.extend(new);
        drop(dealt);
        self.version.fetch_add(1, Ordering::SeqCst);
        self.wakes.iter().for_each(|wake| wake.wake());
    }

    /// Everything dealt so far.
    pub(in crate::connector) fn all(&self) -> Vec<Arc<Partition>> {
        self.lock().all.clone()
    }

    /// How often partitions were dealt.
    pub(in crate::connector) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Wakes the worker of a partition.
    pub(in crate::connector) fn wake(&self, number: u32) {
        if let Some(wake) = self.wakes.get(self.worker_of(number)) {
            wake.wake();
        }
    }

    /// A reader is gone; the coordinator ends after the last one.
    pub(in crate::connector) fn leave(&self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
        self.coordinator.wake();
    }

    /// Whether a reader is left.
    pub(in crate::connector) fn wanted(&self) -> bool {
        self.readers.load(Ordering::SeqCst) > 0 && !self.failed.load(Ordering::SeqCst)
    }

    /// The source cannot go on: everyone looks why.
    pub(in crate::connector) fn set_failed(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.wakes.iter().for_each(|wake| wake.wake());
    }

    fn lock(&self) -> MutexGuard<'_, Dealt> {
        self.dealt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: &str, partition: i32) -> Place {
        (topic.to_owned(), partition)
    }

    /// For some workers; an earlier run stood in partitions 0 and 1 of `t`, and in one of `u`, numbers 0 to 2.
    fn restored(workers: usize) -> Partitions {
        let places = [place("t", 0), place("t", 1), place("u", 0)];
        let stood = places.into_iter().zip(0..).map(|(place, number)| (place, Stood { number, offset: 10 }));
        Partitions::new((0..workers).map(|_| Arc::default()).collect(), stood.collect())
    }

    fn deal(partitions: &Partitions, places: &[Place]) {
        let partition = |place: &Place| {
            let partition = Partition::new(partitions.number(place), place.0.as_str().into(), place.1, None);
            partition.passed(10);
            Arc::new(partition)
        };
        partitions.deal(places.iter().map(partition).collect());
    }

    /// What a worker says that it has: numbers, and whether they are idle.
    fn said(partitions: &Partitions, worker: usize) -> Vec<(u32, bool)> {
        let mut share = Share::default();
        share.refresh(worker, partitions);
        share.states().into_iter().map(|state| (state.partition, state.idle)).collect()
    }

    /// Until anything is found, each worker holds the watermark, whatever the earlier run knew; then by what is still to be
    /// found, on each number of workers.
    #[test]
    fn partitions_of_an_earlier_run_are_expected() {
        let nothing = [(u32::MAX, false)];
        let fresh = Partitions::new(vec![Arc::default(), Arc::default()], BTreeMap::new());
        assert_eq!([said(&fresh, 0), said(&fresh, 1)], [nothing, nothing]);
        deal(&fresh, &[]);
        assert_eq!([said(&fresh, 0), said(&fresh, 1)], [[], []], "it has none, and holds nothing up");
        for workers in 1..4 {
            let partitions = restored(workers);
            let all = || (0..workers).flat_map(|worker| said(&partitions, worker));
            assert!(all().all(|said| said == nothing[0]));
            // The topic `u` is not there yet.
            deal(&partitions, &[place("t", 1)]);
            assert_eq!(all().collect::<BTreeSet<_>>(), [(0, false), (1, false), (2, false)].into());
            deal(&partitions, &[place("t", 0), place("t", 2)]);
            assert_eq!(all().collect::<BTreeSet<_>>(), (0..4).map(|number| (number, false)).collect());
            let stands = (0..workers).flat_map(|worker| partitions.positions(worker).0);
            let stands: BTreeMap<String, String> = stands.collect();
            assert_eq!(stands["u/0"], "2@10", "what was not found stays as it was");
            assert_eq!(stands.len(), 4);
            deal(&partitions, &[place("u", 0)]);
            assert_eq!(all().count(), 4);
        }
    }

    /// A topic that is gone for good does not hold the watermark for ever, and one that comes back is read on.
    #[test]
    fn what_the_brokers_do_not_know_becomes_idle() {
        let partitions = restored(1);
        let found = BTreeSet::from([place("t", 0), place("t", 1)]);
        deal(&partitions, &found.iter().cloned().collect::<Vec<_>>());
        let lost = BTreeSet::from([place("u", 0)]);
        assert_eq!(partitions.missing(&found, 1_000, 500), lost);
        assert_eq!(partitions.missing(&found, 1_499, 500), lost);
        assert_eq!(said(&partitions, 0), [(0, false), (1, false), (2, false)]);
        assert!(partitions.missing(&found, 1_500, 500).is_empty());
        assert_eq!(said(&partitions, 0), [(0, false), (1, false), (2, true)]);
        let all = found.into_iter().chain(lost).collect();
        assert!(partitions.missing(&all, 1_600, 500).is_empty());
        assert_eq!(said(&partitions, 0), [(0, false), (1, false), (2, false)]);
        deal(&partitions, &[place("u", 0)]);
        assert_eq!(said(&partitions, 0).len(), 3);
    }
}
