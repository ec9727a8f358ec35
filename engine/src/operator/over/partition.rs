//! The rows of one partition, in order.
//!
//! A list of chunks of at most [`LARGEST`] rows: a change rewrites one chunk, a row is found by its key or by its position,
//! and what is known of a chunk (its sums, how many different ORDER BY values it has) is kept until it changes. Equal
//! rows stand next to each other, each with what was shown of it.

use std::collections::VecDeque;
use std::ops::Range;

use datafusion::scalar::ScalarValue;

use super::matching::{Matches, Tried};
use crate::error::{Error, ErrorKind, Result};
use crate::state::row_numbers::{RowNumbers, UNWRITTEN};

/// Rows of a chunk, at most.
pub(super) const LARGEST: usize = 512;

/// One row.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    key: Box<[u8]>,
    order: u32,
    /// Whether it is to be written down anew: it was shown otherwise, or carries the partition's base.
    changed: bool,
    /// By which it was written down. Of equal rows those behind have greater numbers, or none.
    number: u64,
    /// What was shown of it last, as bytes; `None` if it was not shown.
    pub(super) shown: Option<Box<[u8]>>,
}

impl Entry {
    pub(super) fn new((key, order): (Box<[u8]>, u32), shown: Option<Box<[u8]>>) -> Self {
        Self { key, order, changed: false, number: UNWRITTEN, shown }
    }

    /// The same, as it was written down.
    pub(super) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    /// By which it was written down.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The whole row.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The ORDER BY: rows in which it is the same are peers.
    pub(super) fn order(&self) -> &[u8] {
        &self.key[..self.order as usize]
    }

    /// The columns that the ORDER BY does not have.
    pub(super) fn rest(&self) -> &[u8] {
        &self.key[self.order as usize..]
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.shown.as_ref().map_or(0, |shown| shown.len())
    }
}

/// A row that comes (as often as the weight says) or goes.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: Box<[u8]>,
    pub(super) order: u32,
    pub(super) weight: i64,
}

/// Where a partition changed, as positions of its rows afterwards.
#[derive(Debug)]
pub(super) struct Changed {
    /// The first row that came, or the row before which rows went.
    pub(super) at: usize,
    /// How many rows came.
    pub(super) came: usize,
    /// How many went.
    pub(super) went: usize,
    /// Their ORDER BY.
    pub(super) order: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Chunk {
    entries: Vec<Entry>,
    /// Whether any of them is to be written down anew.
    changed: bool,
    /// Per summarised call, the state of its accumulator over these rows.
    summary: Option<Vec<Vec<ScalarValue>>>,
    /// How often the ORDER BY changes from one of these rows to the next.
    steps: Option<usize>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Partition {
    chunks: Vec<Chunk>,
    /// The position of each chunk's first row.
    starts: Vec<usize>,
    len: usize,
    bytes: usize,
    /// How many rows stood before these and were forgotten.
    pub(super) base: usize,
    /// Which rows were shown at the end of the last epoch.
    pub(super) visible: Range<usize>,
    /// What came in this epoch.
    pub(super) pending: Vec<Change>,
    /// Where a match was looked for.
    pub(super) tried: Tried,
    /// Matches that are to be shown.
    pub(super) matches: Option<Matches>,
}

impl Partition {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory, without what is pending.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.tried.bytes()
    }

    /// Takes up what is pending. Answers where the rows changed, in order; rows that went are added to `gone`.
    pub(super) fn apply(&mut self, gone: &mut Vec<Entry>) -> Result<Vec<Changed>> {
        let mut changes = netted(std::mem::take(&mut self.pending))?;
        let mut changed = Vec::new();
        let first_gone = gone.len();
        let mut old = std::mem::take(&mut self.chunks);
        if old.is_empty() {
            old.push(Chunk::default());
        }
        let mut at = 0;
        let mut old = old.into_iter().peekable();
        while let Some(chunk) = old.next() {
            let next = old.peek().and_then(|chunk| chunk.entries.first());
            let last = next.is_none();
            let touched = match (changes.front(), chunk.entries.last()) {
                (Some(change), Some(end)) => last || *change.key <= *end.key(),
                (Some(_), None) => true,
                (None, _) => false,
            };
            if !touched {
                at += chunk.entries.len();
                self.chunks.push(chunk);
                continue;
            }
            let (merged, bytes) = merge(chunk.entries, &mut changes, next, at, &mut changed, gone)?;
            self.bytes += bytes;
            at += merged.len();
            self.chunks.extend(chunks(merged, true));
        }
        self.chunks.retain(|chunk| !chunk.entries.is_empty());
        self.count();
        let went: usize = gone[first_gone..].iter().map(Entry::bytes).sum();
        self.bytes = self.bytes.saturating_sub(went);
        Ok(changed)
    }

    /// A partition of rows that are in order.
    pub(super) fn of_sorted(entries: Vec<Entry>) -> Self {
        let mut partition = Self { chunks: chunks(entries, false), ..Self::default() };
        partition.count();
        partition
    }

    fn count(&mut self) {
        self.starts.clear();
        self.len = 0;
        for chunk in &self.chunks {
            self.starts.push(self.len);
            self.len += chunk.entries.len();
        }
    }

    /// Measures the memory that the rows take.
    pub(super) fn measure(&mut self) {
        self.bytes = self.chunks.iter().flat_map(|chunk| &chunk.entries).map(Entry::bytes).sum();
    }

    /// What is shown of the row at a position from now on. Answers what was, if that is something else.
    pub(super) fn show(&mut self, at: usize, new: Option<&[u8]>) -> Option<Option<Box<[u8]>>> {
        let number = self.chunk_of(at);
        let start = self.starts.get(number).copied()?;
        let chunk = self.chunks.get_mut(number)?;
        let entry = chunk.entries.get_mut(at - start).filter(|entry| entry.shown.as_deref() != new)?;
        (entry.changed, chunk.changed) = (true, true);
        let was = std::mem::replace(&mut entry.shown, new.map(Box::from));
        let less = was.as_ref().map_or(0, |was| was.len());
        self.bytes = (self.bytes + new.map_or(0, <[u8]>::len)).saturating_sub(less);
        Some(was)
    }

    /// Forgets the rows from a position on.
    pub(super) fn truncate(&mut self, len: usize, numbers: &mut RowNumbers) {
        while self.len > len {
            let Some(chunk) = self.chunks.last_mut() else { return };
            let rest = (self.len - len).min(chunk.entries.len());
            let kept = chunk.entries.len() - rest;
            let freed = left(chunk.entries.drain(kept..), numbers);
            self.bytes = self.bytes.saturating_sub(freed);
            self.len -= rest;
            (chunk.summary, chunk.steps) = (None, None);
            if chunk.entries.is_empty() {
                self.chunks.pop();
                self.starts.pop();
            }
        }
    }

    /// Forgets the rows before a position.
    pub(super) fn behead(&mut self, count: usize, numbers: &mut RowNumbers) {
        let mut rest = count.min(self.len);
        if rest == 0 {
            return;
        }
        let whole = self.chunks.iter().take_while(|chunk| {
            let fits = chunk.entries.len() <= rest;
            rest -= if fits { chunk.entries.len() } else { 0 };
            fits
        });
        let whole = whole.count();
        let mut freed = left(self.chunks.drain(..whole).flat_map(|chunk| chunk.entries), numbers);
        if let Some(chunk) = self.chunks.first_mut() {
            if rest > 0 {
                freed += left(chunk.entries.drain(..rest), numbers);
                (chunk.summary, chunk.steps) = (None, None);
            }
            // How many rows stood before is written down with the first that is left.
            if let Some(first) = chunk.entries.first_mut() {
                (first.changed, chunk.changed) = (true, true);
            }
        }
        self.bytes = self.bytes.saturating_sub(freed);
        self.base += self.len;
        self.count();
        self.base -= self.len;
        self.tried.behead(count);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, numbers: &mut RowNumbers) {
        left(std::mem::take(self).chunks.into_iter().flat_map(|chunk| chunk.entries), numbers);
    }

    /// Gives numbers to the rows that have none: they are about to be written down.
    pub(super) fn number(&mut self, group: u8, numbers: &mut RowNumbers) {
        // A chunk to which rows have come counts as changed.
        for entry in self.chunks.iter_mut().filter(|chunk| chunk.changed).flat_map(|chunk| &mut chunk.entries) {
            if entry.number == UNWRITTEN {
                entry.number = numbers.give(group);
                entry.changed = true;
            }
        }
    }

    /// The rows that are to be written down anew, or all.
    pub(super) fn to_write(&self, all: bool) -> impl Iterator<Item = &Entry> {
        let chunks = self.chunks.iter().filter(move |chunk| all || chunk.changed);
        chunks.flat_map(|chunk| &chunk.entries).filter(move |entry| all || entry.changed)
    }

    /// All was written down.
    pub(super) fn written(&mut self) {
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.changed) {
            chunk.changed = false;
            chunk.entries.iter_mut().for_each(|entry| entry.changed = false);
        }
    }

    /// How many rows come before the first whose key does not hold.
    fn position(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let number = self.chunks.partition_point(|chunk| chunk.entries.last().is_some_and(|entry| before(entry.key())));
        match self.chunks.get(number) {
            Some(chunk) => self.starts[number] + chunk.entries.partition_point(|entry| before(entry.key())),
            None => self.len,
        }
    }

    /// The first row whose ORDER BY is not before `order`.
    pub(super) fn lower(&self, order: &[u8]) -> usize {
        self.position(|key| key < order)
    }

    /// The first row whose ORDER BY is behind `order`.
    pub(super) fn upper(&self, order: &[u8]) -> usize {
        self.position(|key| key < order || key.starts_with(order))
    }

    /// The first peer of the row at a position.
    pub(super) fn peers_start(&self, at: usize) -> usize {
        self.entry(at).map_or(at, |entry| self.lower(entry.order()))
    }

    /// The first row behind the peers of the row at a position.
    pub(super) fn peers_end(&self, at: usize) -> usize {
        self.entry(at).map_or(at, |entry| self.upper(entry.order()))
    }

    /// The chunk in which the row at a position is; the number of chunks for the end.
    pub(super) fn chunk_of(&self, at: usize) -> usize {
        if at >= self.len { self.chunks.len() } else { self.starts.partition_point(|start| *start <= at) - 1 }
    }

    /// How many chunks there are.
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// The position of a chunk's first row; the length for the end.
    pub(super) fn chunk_start(&self, chunk: usize) -> usize {
        self.starts.get(chunk).copied().unwrap_or(self.len)
    }

    /// The rows of a chunk.
    pub(super) fn chunk_entries(&self, chunk: usize) -> &[Entry] {
        self.chunks.get(chunk).map_or(&[], |chunk| &chunk.entries)
    }

    /// What is remembered of a chunk's rows.
    pub(super) fn summary(&self, chunk: usize) -> Option<&Vec<Vec<ScalarValue>>> {
        self.chunks.get(chunk).and_then(|chunk| chunk.summary.as_ref())
    }

    pub(super) fn summarise(&mut self, chunk: usize, summary: Vec<Vec<ScalarValue>>) {
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            chunk.summary = Some(summary);
        }
    }

    /// How many different ORDER BY values the rows before a position have.
    pub(super) fn groups_before(&mut self, at: usize) -> usize {
        let mut groups = 0;
        let mut before: Option<usize> = None;
        for number in 0..self.chunks.len() {
            if self.starts[number] >= at {
                break;
            }
            let joins = before.is_some_and(|before| {
                let last = self.chunks[before].entries.last();
                let first = self.chunks[number].entries.first();
                last.map(Entry::order) == first.map(Entry::order)
            });
            groups += usize::from(!joins);
            let chunk = &mut self.chunks[number];
            let within = at - self.starts[number];
            groups += if within >= chunk.entries.len() {
                *chunk.steps.get_or_insert_with(|| steps(&chunk.entries))
            } else {
                steps(&chunk.entries[..within])
            };
            before = Some(number);
        }
        groups
    }

    /// The row at a position.
    pub(super) fn entry(&self, at: usize) -> Option<&Entry> {
        let number = self.chunk_of(at);
        self.chunks.get(number).and_then(|chunk| chunk.entries.get(at - self.starts[number]))
    }

    /// The rows of a range of positions.
    pub(super) fn range(&self, range: Range<usize>) -> impl Iterator<Item = &Entry> + Clone {
        let first = self.chunk_of(range.start);
        let skip = range.start - self.starts.get(first).copied().unwrap_or(range.start);
        let entries = self.chunks[first.min(self.chunks.len())..].iter().flat_map(|chunk| &chunk.entries);
        entries.skip(skip).take(range.len())
    }
}

fn steps(entries: &[Entry]) -> usize {
    entries.windows(2).filter(|pair| pair[0].order() != pair[1].order()).count()
}

/// Rows are forgotten; answers how many bytes that frees.
fn left(entries: impl Iterator<Item = Entry>, numbers: &mut RowNumbers) -> usize {
    let bytes = entries.map(|entry| {
        numbers.leave(entry.number);
        entry.bytes()
    });
    bytes.sum()
}

/// The changes in the order of their keys, each key once.
fn netted(mut changes: Vec<Change>) -> Result<VecDeque<Change>> {
    changes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let mut netted: VecDeque<Change> = VecDeque::with_capacity(changes.len());
    for change in changes {
        match netted.back_mut() {
            Some(last) if last.key == change.key => {
                last.weight = last.weight.checked_add(change.weight).ok_or_else(|| {
                    Error::new(ErrorKind::ResourceExhausted, "a row appears more often than 2^63 times")
                })?;
            }
            _ => netted.push_back(change),
        }
    }
    netted.retain(|change| change.weight != 0);
    Ok(netted)
}

/// The rows of a chunk that begins at `base`, with those changes taken up that belong there; and the bytes of what came.
/// `next`: the first row of the chunk behind it.
fn merge(
    entries: Vec<Entry>,
    changes: &mut VecDeque<Change>,
    next: Option<&Entry>,
    base: usize,
    changed: &mut Vec<Changed>,
    gone: &mut Vec<Entry>,
) -> Result<(Vec<Entry>, usize)> {
    let (mut bytes, last) = (0, next.is_none());
    let mut merged = Vec::with_capacity(entries.len() + 1);
    let mut entries = entries.into_iter().peekable();
    while let Some(change) = changes.pop_front() {
        while let Some(entry) = entries.next_if(|entry| *entry.key() < *change.key) {
            merged.push(entry);
        }
        if entries.peek().is_none() && !last {
            changes.push_front(change);
            break;
        }
        let mut equal: Vec<Entry> = Vec::new();
        while let Some(entry) = entries.next_if(|entry| *entry.key() == *change.key) {
            equal.push(entry);
        }
        if change.weight > 0 && next.is_some_and(|next| *next.key() == *change.key) {
            // Rows come behind those that they are equal to: these go on in the next chunk.
            merged.append(&mut equal);
            changes.push_front(change);
            break;
        }
        let Change { key, order, weight } = change;
        let count = usize::try_from(weight.unsigned_abs()).unwrap_or(usize::MAX);
        let (came, went) = if weight > 0 { (count, 0) } else { (0, count.min(equal.len())) };
        gone.extend(equal.drain(equal.len() - went..));
        merged.append(&mut equal);
        if came + went > 0 {
            let order = key[..order as usize].into();
            changed.push(Changed { at: base + merged.len(), came, went, order });
        }
        if weight < 0 && went < count {
            // The rest of the equal rows may stand in the next chunk.
            if entries.peek().is_some() || last {
                return Err(Error::internal("a row is retracted that was never there"));
            }
            changes.push_front(Change { key, order, weight: weight + went as i64 });
            break;
        }
        let entry = Entry::new((key, order), None);
        bytes += entry.bytes() * came;
        merged.extend(std::iter::repeat_n(entry, came));
    }
    merged.extend(entries);
    Ok((merged, bytes))
}

fn chunks(entries: Vec<Entry>, changed: bool) -> Vec<Chunk> {
    if entries.len() <= LARGEST {
        return vec![Chunk { entries, changed, ..Chunk::default() }];
    }
    let count = entries.len().div_ceil(LARGEST / 2);
    let size = entries.len().div_ceil(count);
    let mut entries = entries.into_iter();
    let part = |_| Chunk { entries: entries.by_ref().take(size).collect(), changed, ..Chunk::default() };
    let parts = (0..count).map(part);
    parts.filter(|chunk| !chunk.entries.is_empty()).collect()
}
