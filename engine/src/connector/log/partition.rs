//! One partition: records, marks, and who may read what.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Isolation, ProducerId};

/// What stands at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Record {
        record: StoredRecord,
        state: State,
    },
    /// The end of a producer's transaction. No reader gets it, and its offset is used all the same.
    Mark,
}

/// What became of a record's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was written without a transaction, or its transaction is committed.
    Committed,
    /// Its transaction is open, or its mark is not there yet.
    Open(ProducerId),
    Aborted,
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What a fetch found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Records with their offsets.
    pub records: Vec<(i64, StoredRecord)>,
    /// Where to go on: behind what was looked at, whether it was a record for this reader or not.
    pub next: i64,
    /// The end, as this reader sees it.
    pub end: i64,
}

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Partition {
    entries: BTreeMap<i64, Entry>,
    end: i64,
    /// The first record of each open transaction.
    open: BTreeMap<ProducerId, i64>,
    /// How many records each producer's present epoch has written here: a record that is sent again has a lower number.
    sequences: BTreeMap<ProducerId, (i16, i64)>,
}

/// Whether a record was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    Now,
    /// It was there: this is a repetition.
    Before,
    /// One before it is missing.
    Gap,
}

impl Partition {
    /// Adds a record without a transaction.
    pub(super) fn append(&mut self, record: StoredRecord) -> i64 {
        self.push(Entry::Record { record, state: State::Committed })
    }

    /// Adds the record with this number of a transaction's producer.
    pub(super) fn append_in(
        &mut self,
        (producer, epoch): (ProducerId, i16),
        sequence: i64,
        record: StoredRecord,
    ) -> Appended {
        let (last_epoch, next) = self.sequences.entry(producer).or_insert((epoch, 0));
        if *last_epoch != epoch {
            (*last_epoch, *next) = (epoch, 0);
        }
        if sequence != *next {
            return if sequence < *next { Appended::Before } else { Appended::Gap };
        }
        *next += 1;
        let offset = self.push(Entry::Record { record, state: State::Open(producer) });
        self.open.entry(producer).or_insert(offset);
        Appended::Now
    }

    /// Marks the end of a producer's transaction.
    pub(super) fn mark(&mut self, producer: ProducerId, committed: bool) {
        let Some(first) = self.open.remove(&producer) else { return };
        let outcome = if committed { State::Committed } else { State::Aborted };
        for (_, entry) in self.entries.range_mut(first..) {
            if let Entry::Record { state, .. } = entry
                && *state == State::Open(producer)
            {
                *state = outcome;
            }
        }
        self.push(Entry::Mark);
    }

    fn push(&mut self, entry: Entry) -> i64 {
        let offset = self.end;
        self.entries.insert(offset, entry);
        self.end += 1;
        offset
    }

    /// The end as a reader of this isolation sees it.
    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::Uncommitted => self.end,
            Isolation::Committed => self.open.values().min().copied().unwrap_or(self.end),
        }
    }

    /// Reads at most `most` records from an offset on.
    pub(super) fn fetch(&self, from: i64, isolation: Isolation, most: usize) -> Fetched {
        let end = self.end(isolation);
        let mut fetched = Fetched { records: Vec::new(), next: from.min(end), end };
        if from >= end {
            return fetched;
        }
        for (offset, entry) in self.entries.range(from..end) {
            if fetched.records.len() == most {
                return fetched;
            }
            fetched.next = offset + 1;
            match entry {
                Entry::Record { state: State::Aborted, .. } if isolation == Isolation::Committed => {}
                Entry::Record { record, .. } => fetched.records.push((*offset, record.clone())),
                Entry::Mark => {}
            }
        }
        if fetched.records.len() < most {
            fetched.next = end;
        }
        fetched
    }

    /// Keeps the last committed record of each key below the last stable offset, and forgets what is aborted; offsets
    /// stay as they are. Records without a key stay.
    pub(super) fn compact(&mut self) {
        let stable = self.end(Isolation::Committed);
        let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut gone = Vec::new();
        for (offset, entry) in self.entries.range(..stable).rev() {
            match entry {
                Entry::Record { state: State::Aborted, .. } => gone.push(*offset),
                Entry::Record { record: StoredRecord { key: Some(key), .. }, .. } => {
                    if !seen.insert(key.clone()) {
                        gone.push(*offset);
                    }
                }
                Entry::Record { .. } | Entry::Mark => {}
            }
        }
        for offset in gone {
            self.entries.remove(&offset);
        }
    }
}
