//! One partition: how far it was read, and whether it is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

const NOWHERE: i64 = -1;

/// One partition of one topic.
pub(in crate::connector) struct Partition {
    /// The source's own number: dense, in order of discovery.
    pub(in crate::connector) number: u32,
    pub(in crate::connector) topic: Arc<str>,
    pub(in crate::connector) partition: i32,
    /// Where a bounded scan ends: the first offset that is not its own.
    pub(in crate::connector) end: Option<i64>,
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
    pub(in crate::connector) fn new(number: u32, topic: Arc<str>, partition: i32, end: Option<i64>) -> Self {
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
    pub(in crate::connector) fn passed(&self, next: i64) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// The offset of the next record, once it is known.
    pub(in crate::connector) fn next(&self) -> Option<i64> {
        let next = self.next.load(Ordering::Relaxed);
        (next != NOWHERE).then_some(next)
    }

    /// A bounded scan has read all of it.
    pub(in crate::connector) fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
    }

    /// Whether a bounded scan has read all of it.
    pub(in crate::connector) fn finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// A record came: the partition is not at its end. Called by the reader.
    #[inline]
    pub(in crate::connector) fn moved(&self) {
        if self.at_end.load(Ordering::Relaxed) != NOWHERE {
            self.at_end.store(NOWHERE, Ordering::SeqCst);
        }
    }

    /// The broker said that there is nothing at `offset` yet. Called by the reader.
    ///
    /// The end may move without a record (the mark of a transaction): then the time counts on, and idle stays idle.
    pub(in crate::connector) fn reached_end(&self, offset: i64, now_micros: i64) {
        let before = self.at_end.load(Ordering::SeqCst);
        if before == NOWHERE {
            self.at_end_since.store(now_micros, Ordering::SeqCst);
        } else if self.confirmed.load(Ordering::SeqCst) == before {
            self.confirmed.store(offset, Ordering::SeqCst);
        }
        self.at_end.store(offset, Ordering::SeqCst);
    }

    /// The end at which the partition has stood for at least `idle_micros`, if that is not confirmed yet.
    pub(in crate::connector) fn to_confirm(&self, now_micros: i64, idle_micros: i64) -> Option<i64> {
        let offset = self.at_end.load(Ordering::SeqCst);
        let waited = now_micros.saturating_sub(self.at_end_since.load(Ordering::SeqCst));
        (offset != NOWHERE && waited >= idle_micros && self.confirmed.load(Ordering::SeqCst) != offset)
            .then_some(offset)
    }

    /// The broker was asked and named no later end.
    pub(in crate::connector) fn confirm(&self, offset: i64) {
        self.confirmed.store(offset, Ordering::SeqCst);
    }

    /// At its end, by the broker's word, for the whole idle time-out.
    pub(in crate::connector) fn idle(&self) -> bool {
        let offset = self.at_end.load(Ordering::SeqCst);
        offset != NOWHERE && self.confirmed.load(Ordering::SeqCst) == offset
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
