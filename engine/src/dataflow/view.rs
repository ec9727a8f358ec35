//! A view: the maintained result of a job, readable at any moment.
//!
//! Each worker keeps its part (a *shard*): consolidated contents, and the deltas of ended epochs that are not yet taken
//! in. An epoch is *complete* when every worker has ended it; a snapshot shows all shards at the last complete epoch,
//! and subscribers get each epoch's deltas of all workers when it completes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::channel::oneshot;

use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::TimeColumn;
use crate::time::Epoch;

use super::contents::{Contents, Image};
use super::flow_control::{ByteGuard, Kept, Memory, lock};
use super::subscription::{Mailbox, Subscription};

/// A view's contents at one epoch.
#[derive(Debug, Clone)]
pub struct ViewSnapshot {
    /// The epoch: everything up to its end, and nothing after.
    pub epoch: Epoch,
    /// The rows; a row that is there n times stands n times.
    pub batches: Vec<RecordBatch>,
}

/// A view's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewStats {
    /// Different rows.
    pub rows: usize,
    /// Bytes of memory, indexes included.
    pub bytes: usize,
    /// Who subscribes.
    pub subscribers: usize,
}

/// Deltas of an ended epoch.
pub(crate) type Ended = (Epoch, VecDeque<(Delta, Option<ByteGuard>)>);

/// One worker's part.
pub(crate) struct Shard {
    pub(crate) contents: Contents,
    /// Ended epochs, oldest first, not yet taken into the contents.
    pub(crate) pending: VecDeque<Ended>,
}

/// What all workers share: which epochs are complete, and who wants to hear of them.
#[derive(Default)]
struct Hub {
    /// By worker: the last epoch that it has ended.
    ended: Vec<Epoch>,
    /// Deltas of epochs that are not complete; kept only while there are subscribers.
    incomplete: BTreeMap<Epoch, Vec<Delta>>,
    subscribers: Vec<Arc<Mailbox>>,
    /// The job's first epoch, once there is one: before it is complete the view is not there yet.
    first: Option<Epoch>,
    /// The job has ended.
    over: bool,
    /// Who waits for the first epoch, or the end.
    waiting: Vec<oneshot::Sender<()>>,
}

/// See the [module](self). A view is maintained by one job, once: a job that is created again needs a new view.
pub struct View {
    id: u64,
    name: String,
    schema: SchemaRef,
    keys: Vec<Vec<usize>>,
    changelog: bool,
    /// Set when the job that maintains it is created.
    time_columns: OnceLock<Vec<TimeColumn>>,
    shards: OnceLock<Vec<Mutex<Shard>>>,
    hub: Mutex<Hub>,
    /// Counts the contents when the job that counted them is gone.
    kept: OnceLock<Kept>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Bytes that wait for one subscriber before it counts as too slow.
const SUBSCRIBER_BYTES: usize = 64 << 20;

impl View {
    /// A view that no job maintains yet. `keys`: unique keys, columns by index; `changelog`: rows may be retracted.
    pub fn new(name: impl Into<String>, schema: SchemaRef, keys: Vec<Vec<usize>>, changelog: bool) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            schema,
            keys,
            changelog,
            time_columns: OnceLock::new(),
            shards: OnceLock::new(),
            hub: Mutex::new(Hub::default()),
            kept: OnceLock::new(),
        })
    }

    /// Its name, for errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Its unique keys.
    pub fn keys(&self) -> &[Vec<usize>] {
        &self.keys
    }

    /// Whether rows may be retracted.
    pub fn is_changelog(&self) -> bool {
        self.changelog
    }

    /// Columns that grow with a watermark of the maintaining job.
    pub(crate) fn time_columns(&self) -> &[TimeColumn] {
        self.time_columns.get().map_or(&[], Vec::as_slice)
    }

    /// Tells views apart; names can be taken again.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Makes the shards, with what a snapshot had; once, by the job that will maintain the view.
    pub(crate) fn attach(&self, time_columns: Vec<TimeColumn>, restored: Vec<Vec<Delta>>) -> Result<()> {
        let mut shards = Vec::with_capacity(restored.len());
        for deltas in &restored {
            let mut contents = Contents::new(Arc::clone(&self.schema), self.changelog);
            deltas.iter().try_for_each(|delta| contents.apply(delta))?;
            if !deltas.is_empty() {
                contents.note_changes(std::iter::empty())?;
            }
            shards.push(Mutex::new(Shard { contents, pending: VecDeque::new() }));
        }
        lock(&self.hub).ended = vec![0; shards.len()];
        if self.shards.set(shards).is_err() || self.time_columns.set(time_columns).is_err() {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("view {} is maintained by another job already", self.name),
            ));
        }
        Ok(())
    }

    /// A worker's part; `None` before a job maintains the view.
    pub(crate) fn shard(&self, worker: usize) -> Option<&Mutex<Shard>> {
        self.shards.get()?.get(worker)
    }

    fn shards(&self) -> &[Mutex<Shard>] {
        self.shards.get().map_or(&[], Vec::as_slice)
    }

    /// The job's first epoch: nothing before it is missing. What a snapshot had is there at once.
    pub(crate) fn start(&self, first: Epoch, is_restored: bool) {
        let mut hub = lock(&self.hub);
        hub.ended.fill(first.saturating_sub(1));
        hub.first = (!is_restored).then_some(first);
    }

    /// Whether the view has what its job's inputs held at the end of one epoch; until then it is not there yet.
    pub fn is_hydrated(&self) -> bool {
        lock(&self.hub).is_hydrated()
    }

    /// Waits until the view is there, or its job has ended before; answers which. A view that no job maintains is as it is.
    pub fn hydrated(self: &Arc<Self>) -> impl Future<Output = bool> + Send + 'static {
        let waits = {
            let mut hub = lock(&self.hub);
            (!hub.is_hydrated() && !hub.over).then(|| {
                let (sender, receiver) = oneshot::channel();
                hub.waiting.retain(|waiting| !waiting.is_canceled());
                hub.waiting.push(sender);
                receiver
            })
        };
        let view = Arc::clone(self);
        async move {
            if let Some(waits) = waits {
                // The sender is gone only when the view is.
                let _ = waits.await;
            }
            view.is_hydrated()
        }
    }

    /// A worker has ended an epoch; its deltas are in its shard already. Answers whether it was the last worker, so
    /// that the epoch is complete.
    pub(crate) fn end_epoch(&self, worker: usize, epoch: Epoch, deltas: &[Delta]) -> bool {
        let mut hub = lock(&self.hub);
        let before = hub.complete();
        if !hub.subscribers.is_empty() && !deltas.is_empty() {
            hub.incomplete.entry(epoch).or_default().extend_from_slice(deltas);
        }
        hub.ended[worker] = epoch;
        let complete = hub.complete();
        while let Some(entry) = hub.incomplete.first_entry()
            && *entry.key() <= complete
        {
            let (epoch, deltas) = entry.remove_entry();
            hub.subscribers.retain(|subscriber| subscriber.deliver(epoch, &deltas));
        }
        if hub.is_hydrated() {
            hub.wake();
        }
        complete > before
    }

    /// The last complete epoch; 0 before the first.
    pub fn frontier(&self) -> Epoch {
        lock(&self.hub).complete()
    }

    /// The rows at the last complete epoch.
    pub fn snapshot(&self) -> Result<ViewSnapshot> {
        // While the hub is locked no epoch completes.
        let hub = lock(&self.hub);
        let epoch = hub.complete();
        let images = self.images(epoch)?;
        drop(hub);
        Ok(ViewSnapshot { epoch, batches: Image::rows(&images)? })
    }

    /// The contents of all shards at `epoch`, which must be the last complete one.
    fn images(&self, epoch: Epoch) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for shard in self.shards() {
            let shard = lock(shard);
            let later = shard.pending.iter().take_while(|(ended, _)| *ended <= epoch);
            images.push(shard.contents.image(later.flat_map(|(_, deltas)| deltas.iter().map(|(delta, _)| delta)))?);
        }
        Ok(images)
    }

    /// Each epoch's changes from now on, whole epochs only; `with_snapshot`: first what is there, as rows of weight +1.
    pub fn subscribe(self: &Arc<Self>, with_snapshot: bool) -> Result<Subscription> {
        self.subscribe_within(with_snapshot, SUBSCRIBER_BYTES)
    }

    /// As [`View::subscribe`], with another bound on the bytes that may wait for the subscriber. The snapshot itself
    /// does not count: it shares the view's memory.
    pub fn subscribe_within(self: &Arc<Self>, with_snapshot: bool, max_bytes: usize) -> Result<Subscription> {
        let mut hub = lock(&self.hub);
        let epoch = hub.complete();
        let first = if with_snapshot { Some((epoch, self.images(epoch)?)) } else { None };
        if hub.subscribers.is_empty() {
            // Nobody has gathered the epochs under way: the shards have what was ended of them.
            let Hub { ended, incomplete, .. } = &mut *hub;
            for (shard, through) in self.shards().iter().zip(ended) {
                for (ended, deltas) in &lock(shard).pending {
                    if *ended > epoch && ended <= through {
                        incomplete.entry(*ended).or_default().extend(deltas.iter().map(|(delta, _)| delta.clone()));
                    }
                }
            }
        }
        let mailbox = Arc::new(Mailbox::new(self.name.clone(), max_bytes));
        hub.subscribers.push(Arc::clone(&mailbox));
        drop(hub);
        if let Some((epoch, images)) = first {
            let mut deltas = Vec::new();
            if self.changelog {
                deltas.extend(Image::rows(&images)?.into_iter().map(Delta::append));
            } else {
                images.iter().try_for_each(|image| image.deltas().map(|image| deltas.extend(image)))?;
            }
            mailbox.deliver_first(epoch, deltas);
        }
        Ok(Subscription::new(Arc::clone(self), mailbox))
    }

    /// Forgets a subscriber.
    pub(crate) fn unsubscribe(&self, mailbox: &Arc<Mailbox>) {
        let mut hub = lock(&self.hub);
        hub.subscribers.retain(|subscriber| !Arc::ptr_eq(subscriber, mailbox));
        if hub.subscribers.is_empty() {
            hub.incomplete.clear();
        }
    }

    /// The maintaining job has ended: with an error, or with its bounded inputs.
    pub(crate) fn end(&self, error: Option<&Error>) {
        let mut hub = lock(&self.hub);
        hub.incomplete.clear();
        hub.over = true;
        hub.wake();
        for subscriber in std::mem::take(&mut hub.subscribers) {
            subscriber.end(error.cloned());
        }
    }

    /// The job is gone: what the view holds is counted on, as long as somebody may read it.
    pub(crate) fn outlive_job(&self, memory: &Arc<Memory>) {
        self.kept.get_or_init(|| Kept::new(self.stats().bytes, memory));
    }

    /// The figures.
    pub fn stats(&self) -> ViewStats {
        let mut stats = ViewStats { subscribers: lock(&self.hub).subscribers.len(), ..ViewStats::default() };
        for shard in self.shards() {
            let shard = lock(shard);
            stats.rows += shard.contents.live_rows();
            stats.bytes += shard.contents.bytes();
        }
        stats
    }
}

impl Hub {
    fn is_hydrated(&self) -> bool {
        self.first.is_none_or(|first| self.complete() >= first)
    }

    fn wake(&mut self) {
        for waiting in self.waiting.drain(..) {
            // Whoever waits no longer needs no answer.
            let _ = waiting.send(());
        }
    }

    fn complete(&self) -> Epoch {
        self.ended.iter().copied().min().unwrap_or(0)
    }
}
