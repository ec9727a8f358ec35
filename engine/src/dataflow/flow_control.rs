//! Flow control: who may go on, and how much a job may hold.
//!
//! Timely's channels are not bounded, so every delta on its way carries a [`ByteGuard`] that counts its bytes for its
//! job from creation to drop. Above the job's limit only the *oldest incomplete* epoch goes on, and whoever produces for
//! it waits while the consumer has unread rows of that epoch. That cannot deadlock: rows of the oldest epoch stand at
//! the frontier and wait for no younger ones.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;

use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// Locks, whatever a panicking thread has left: what is behind these locks is valid between any two statements.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of all jobs of a pool. Above seven eighths of the limit sources read no more, until a quarter is free, and so
/// when an eighth is on its way, until half of that has arrived: while operators are busy with their files, rows would come
/// for all that the limit leaves. An eighth above the limit no job with more than its share may remember more.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    in_flight: AtomicUsize,
    state: AtomicUsize,
    jobs: AtomicUsize,
    /// A source wanted to read and was not let.
    pub(crate) wanted: AtomicBool,
}

impl Memory {
    pub(crate) fn new(limit: usize) -> Self {
        let (in_flight, state, jobs) = Default::default();
        Self { limit, in_flight, state, jobs, wanted: AtomicBool::new(false) }
    }

    /// Bytes that the jobs hold.
    pub(crate) fn used(&self) -> usize {
        self.in_flight() + self.state.load(Ordering::Relaxed)
    }

    /// Those of them that are on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes that they may hold.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A job's share of them, if each has as much.
    pub(crate) fn share(&self) -> usize {
        self.limit / self.jobs.load(Ordering::Relaxed).max(1)
    }

    /// Bytes that the jobs hold once all that is on its way has arrived: what remembers a row keeps an index beside it,
    /// and may have grown its room twofold, so a byte on its way counts as two.
    fn expected(&self) -> usize {
        self.used() + self.in_flight()
    }

    /// Whether sources are to read little at a time.
    pub(crate) fn is_half_full(&self) -> bool {
        self.expected() > self.limit / 2
    }

    /// Whether sources are to stop.
    pub(crate) fn is_full(&self) -> bool {
        self.expected() > self.limit - self.limit / 8 || self.in_flight() > self.limit / 8
    }

    /// Whether sources that were stopped may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.expected() <= self.limit - self.limit / 4 && self.in_flight() <= self.limit / 16
    }

    /// Why a job that holds `held` bytes may not remember more than it does.
    fn refusal(&self, held: usize) -> Option<Error> {
        let state = self.state.load(Ordering::Relaxed);
        // What was under way when the sources stopped must still find room. And a job within its share is not to fail
        // for another's, while there is time to stop the other.
        let share = self.share();
        let over = state.saturating_sub(self.limit);
        let refused = over > self.limit / 4 || (over > self.limit / 8 && held > share);
        refused.then(|| {
            Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "all jobs together remember {} MiB, more than the server's limit of {} MiB; this one holds {} MiB",
                    state.div_ceil(1 << 20),
                    self.limit >> 20,
                    held.div_ceil(1 << 20)
                ),
            )
            .with_hint("stop or drop a job, raise the server's memory limit, or let the queries forget")
        })
    }
}

/// State that outlives the job that made it: a view that is stopped or has failed, and can still be read.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: usize,
    all: Arc<Memory>,
}

impl Kept {
    pub(crate) fn new(bytes: usize, all: &Arc<Memory>) -> Self {
        all.state.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: Arc::clone(all) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.state.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The bytes of a job: those on their way, and those that its operators and view remember.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: usize,
    in_flight: AtomicUsize,
    /// Those of them that the ends of the dataflow keep until their epoch is complete.
    gathered: AtomicUsize,
    state: AtomicUsize,
    /// Where they are counted with those of all other jobs.
    all: Arc<Memory>,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.all.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    pub(crate) fn new(limit: usize, all: &Arc<Memory>) -> Self {
        all.jobs.fetch_add(1, Ordering::Relaxed);
        let (in_flight, gathered, state) = Default::default();
        Self { limit, in_flight, gathered, state, all: Arc::clone(all) }
    }

    /// The bytes of all jobs.
    pub(crate) fn all(&self) -> &Memory {
        &self.all
    }

    /// Bytes that the job may hold.
    pub(crate) fn limit(&self) -> usize {
        self.limit.min(self.all.limit)
    }

    /// Bytes of deltas on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes of incomplete epochs at the ends of the dataflow.
    pub(crate) fn gathered(&self) -> usize {
        self.gathered.load(Ordering::Relaxed)
    }

    /// One end, which has gathered `own` bytes, takes more.
    pub(crate) fn gather(&self, own: &mut usize, bytes: usize) {
        *own += bytes;
        self.gathered.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Its epoch is complete, or will never be.
    pub(crate) fn scatter(&self, own: &mut usize) {
        self.gathered.fetch_sub(std::mem::take(own), Ordering::Relaxed);
    }

    /// Bytes remembered.
    pub(crate) fn state(&self) -> usize {
        self.state.load(Ordering::Relaxed)
    }

    /// What state leaves for deltas on their way; at least an eighth of the limit, so that a job with much state moves.
    pub(crate) fn flow_limit(&self) -> usize {
        self.limit.saturating_sub(self.state()).max(self.limit / 8)
    }

    /// Whether only the oldest epoch may go on.
    pub(crate) fn is_tight(&self) -> bool {
        self.in_flight() > self.flow_limit() || self.all.is_full()
    }

    /// Replaces what one owner of state had reported before. Fails when the job's state outgrows its limit.
    pub(crate) fn set_state(&self, reported: &mut usize, bytes: usize) -> Result<()> {
        for state in [&self.state, &self.all.state] {
            if bytes >= *reported {
                state.fetch_add(bytes - *reported, Ordering::Relaxed);
            } else {
                state.fetch_sub(*reported - bytes, Ordering::Relaxed);
            }
        }
        let grew = bytes > *reported;
        *reported = bytes;
        let state = self.state();
        if grew && state > self.limit {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "the job remembers {} MiB, more than its limit of {} MiB",
                    state.div_ceil(1 << 20),
                    self.limit >> 20
                ),
            )
            .with_hint(
                "raise the job's memory limit, or let the query forget: a window with a watermark, fewer or shorter keys",
            ));
        }
        match self.all.refusal(state + self.in_flight()).filter(|_| grew) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }
}

/// Rows sent to one timely operator and not yet handed over there, by epoch; of all workers.
#[derive(Debug, Default)]
pub(crate) struct LinkMeter(Mutex<VecDeque<(Epoch, usize)>>);

impl LinkMeter {
    fn add(&self, epoch: Epoch) {
        let mut epochs = lock(&self.0);
        match epochs.iter_mut().rev().find(|(at, _)| *at == epoch) {
            Some((_, packets)) => *packets += 1,
            None => epochs.push_back((epoch, 1)),
        }
    }

    fn remove(&self, epoch: Epoch) {
        let mut epochs = lock(&self.0);
        if let Some(index) = epochs.iter().position(|(at, _)| *at == epoch) {
            epochs[index].1 -= 1;
            if epochs[index].1 == 0 {
                epochs.remove(index);
            }
        }
    }

    /// Whether packets of `epoch` are unread.
    pub(crate) fn has_unread(&self, epoch: Epoch) -> bool {
        lock(&self.0).iter().any(|(at, _)| *at == epoch)
    }
}

/// Counts the bytes of one delta on its way.
#[derive(Debug)]
pub(crate) struct ByteGuard {
    meter: Arc<Meter>,
    bytes: usize,
    unread: Option<(Arc<LinkMeter>, Epoch)>,
}

impl ByteGuard {
    /// Counts `bytes` for a job.
    pub(crate) fn new(meter: &Arc<Meter>, bytes: usize) -> Self {
        meter.in_flight.fetch_add(bytes, Ordering::Relaxed);
        meter.all.in_flight.fetch_add(bytes, Ordering::Relaxed);
        Self { meter: Arc::clone(meter), bytes, unread: None }
    }

    /// Counts `bytes` for a job, and one unread packet on a link.
    pub(crate) fn sent(meter: &Arc<Meter>, bytes: usize, link: &Arc<LinkMeter>, epoch: Epoch) -> Self {
        link.add(epoch);
        let mut guard = Self::new(meter, bytes);
        guard.unread = Some((Arc::clone(link), epoch));
        guard
    }

    /// What it counts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The receiver has handed the rows over.
    pub(crate) fn read(&mut self) {
        if let Some((link, epoch)) = self.unread.take() {
            link.remove(epoch);
        }
    }
}

impl Drop for ByteGuard {
    fn drop(&mut self) {
        self.read();
        self.meter.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
        self.meter.all.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The bytes of a delta's own rows (a slice counts as its part of its buffers).
pub(crate) fn delta_bytes(delta: &Delta) -> usize {
    delta.rows().columns().iter().map(column_bytes).sum::<usize>()
        + delta.weights().map_or(0, |weights| weights.len() * 8)
}

/// The bytes of a column's own rows.
pub(crate) fn column_bytes(column: &ArrayRef) -> usize {
    let own = column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    own + viewed_bytes(column.as_ref())
}

/// The bytes of text that a column's rows point to: Arrow's own figure of a slice leaves them out.
fn viewed_bytes(column: &dyn Array) -> usize {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        DataType::Struct(_) => column.as_struct().columns().iter().map(|field| viewed_bytes(field.as_ref())).sum(),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            viewed_between(list.values().as_ref(), list.value_offsets())
        }
        DataType::Map(..) => {
            let map = column.as_map();
            viewed_between(map.entries(), map.value_offsets())
        }
        _ => 0,
    }
}

fn viewed_between(values: &dyn Array, offsets: &[i32]) -> usize {
    match offsets {
        [first, .., last] if last > first => {
            viewed_bytes(values.slice(*first as usize, (last - first) as usize).as_ref())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ListArray, StringViewArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    fn meter(limit: usize) -> Meter {
        Meter::new(limit, &Arc::new(Memory::new(usize::MAX)))
    }

    #[test]
    fn guards_give_back_what_they_counted() {
        let meter = Arc::new(meter(100));
        let link = Arc::new(LinkMeter::default());
        let mut guard = ByteGuard::sent(&meter, 60, &link, 5);
        let other = ByteGuard::sent(&meter, 41, &link, 6);
        assert!(meter.is_tight());
        assert!(link.has_unread(5) && link.has_unread(6) && !link.has_unread(4));
        guard.read();
        assert!(!link.has_unread(5));
        assert!(meter.is_tight(), "read is not dropped");
        drop(guard);
        assert!(!meter.is_tight());
        drop(other);
        assert_eq!(meter.in_flight(), 0);
        assert!(!link.has_unread(6));
    }

    #[test]
    fn state_over_the_limit_is_a_clear_error() {
        let meter = meter(1 << 20);
        let (mut a, mut b) = (0, 0);
        meter.set_state(&mut a, 1 << 19).unwrap();
        meter.set_state(&mut b, 1 << 19).unwrap();
        let error = meter.set_state(&mut a, 1 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(error.message(), "the job remembers 2 MiB, more than its limit of 1 MiB");
        meter.set_state(&mut a, 0).unwrap();
        assert_eq!(meter.state(), 1 << 19);
        assert_eq!(meter.flow_limit(), 1 << 19);
    }

    #[test]
    fn text_counts_where_it_is_viewed() {
        let text = "x".repeat(200);
        let viewed: ArrayRef = Arc::new(StringViewArray::from_iter_values([&text, &text, &text, "short"]));
        assert_eq!(column_bytes(&viewed), 4 * 16 + 3 * 200);
        assert_eq!(column_bytes(&viewed.slice(2, 2)), 2 * 16 + 200, "a slice counts as its part");
        let lists: ArrayRef = Arc::new(ListArray::new(
            Arc::new(Field::new("item", DataType::Utf8View, true)),
            OffsetBuffer::new(vec![0, 1, 3, 4].into()),
            Arc::clone(&viewed),
            None,
        ));
        assert!(column_bytes(&lists) - column_bytes(&lists.slice(0, 1)) >= 400, "so does one of lists");
        let fields = StructArray::from(vec![(Arc::new(Field::new("t", DataType::Utf8View, true)), viewed)]);
        assert_eq!(column_bytes(&(Arc::new(fields) as ArrayRef)), 4 * 16 + 3 * 200);
    }

    #[test]
    fn no_more_than_an_eighth_is_on_its_way() {
        let all = Arc::new(Memory::new(16 << 20));
        let job = Arc::new(Meter::new(usize::MAX, &all));
        let under_way: Vec<ByteGuard> = (0..3).map(|_| ByteGuard::new(&job, 1 << 20)).collect();
        assert!(all.is_full() && job.is_tight());
        let mut under_way = under_way.into_iter();
        under_way.next();
        assert!(!all.is_full() && !all.has_room(), "who was stopped waits until half has arrived");
        under_way.next();
        assert!(all.has_room());
    }

    #[test]
    fn of_all_jobs_the_one_with_more_than_its_share_is_refused() {
        let all = Arc::new(Memory::new(8 << 20));
        let (large, small) = (Arc::new(Meter::new(usize::MAX, &all)), Meter::new(usize::MAX, &all));
        let (mut of_large, mut of_small) = (0, 0);
        large.set_state(&mut of_large, 6 << 20).unwrap();
        assert!(!all.is_full());
        let under_way = ByteGuard::new(&large, 1 << 20);
        assert!(all.is_full() && small.is_tight(), "what is on its way counts twice");
        small.set_state(&mut of_small, 1 << 20).unwrap();
        large.set_state(&mut of_large, 8 << 20).unwrap();
        let error = large.set_state(&mut of_large, 17 << 19).unwrap_err();
        assert!(error.message().starts_with("all jobs together remember 10 MiB, more than the server's"), "{error}");
        small.set_state(&mut of_small, 3 << 19).unwrap();
        assert!(small.set_state(&mut of_small, 2 << 20).is_err(), "there is an end to sparing it");
        drop(under_way);
        large.set_state(&mut of_large, 5 << 20).unwrap();
        assert!(!all.is_full() && !all.has_room(), "sources go on when a quarter is free");
        small.set_state(&mut of_small, 0).unwrap();
        assert!(all.has_room());
    }
}
