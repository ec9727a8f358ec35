//! Edges from a view to the jobs that read it: inside each worker, from the view's writer to the reader's source.
//!
//! The writer holds weak queues and pushes deltas, watermarks and its frontier at the end of each epoch. A reader is
//! created with a boundary epoch S that no worker has ended: it takes the contents as of the end of S in pieces, at its
//! own pace (the writer takes no later epoch into the contents meanwhile), and then what was pushed since.
//! The frontier that a writer has seen accounts for all workers, so a reader may follow the one on its own worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use timely::scheduling::Activator;

use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::{Output, StateChange, StatePart};
use crate::time::{Epoch, WatermarkId, Watermarks};

use super::exchange::Outlet;
use super::flow_control::{ByteGuard, Meter, delta_bytes, lock};
use super::gate::{Gate, GateState};
use super::given::Given;
use super::guarded::guarded;
use super::job::JobShared;
use super::packet::Promise;
use super::snapshot;
use super::source::BACK_OFF;
use super::view::{Shard, View};

/// Rows that one activation takes into a view's contents: about a millisecond, then other jobs run.
pub(crate) const ABSORBED_ROWS: usize = Output::FUEL / 4;

enum EdgeItem {
    Rows(Epoch, Delta, ByteGuard),
    /// Watermarks of the writer's job, as of the end of the epoch.
    Watermarks(Epoch, Vec<(WatermarkId, i64)>),
}

/// From a writer to one reader on the same worker.
struct EdgeQueue {
    items: VecDeque<EdgeItem>,
    /// All epochs before have been pushed.
    frontier: Epoch,
    /// The writer has ended: nothing will follow.
    closed: bool,
}

struct Reader {
    queue: Weak<RefCell<EdgeQueue>>,
    start: Epoch,
    /// Whether it still needs the contents as of `start`.
    needs_contents: bool,
    meter: Arc<Meter>,
    activator: Activator,
}

/// What a worker does for a view.
pub(crate) struct ViewWriter {
    view: Arc<View>,
    job: Arc<JobShared>,
    worker: usize,
    readers: Vec<Reader>,
    watermarks: Watermarks,
    ended: Epoch,
    closed: bool,
    state_bytes: usize,
}

impl ViewWriter {
    pub(crate) fn new(
        view: Arc<View>,
        job: Arc<JobShared>,
        worker: usize,
        first: Epoch,
        watermarks: Watermarks,
    ) -> Self {
        let ended = first.saturating_sub(1);
        Self { view, job, worker, readers: Vec::new(), watermarks, ended, closed: false, state_bytes: 0 }
    }

    /// Ends an epoch: its deltas become part of the view, and go to readers. They are to be [absorbed](Self::absorb).
    pub(crate) fn end_epoch(
        &mut self,
        epoch: Epoch,
        deltas: Vec<(Delta, Option<ByteGuard>)>,
        moved: &[(WatermarkId, Promise)],
    ) -> Result<()> {
        let moved: Vec<(WatermarkId, i64)> = moved
            .iter()
            .filter_map(|(id, promise)| match promise {
                Promise::At(at) => Some((*id, *at)),
                Promise::NoneHere | Promise::Hold | Promise::Resting(_) => None,
            })
            .collect();
        moved.iter().for_each(|(id, at)| {
            self.watermarks.advance(*id, *at);
        });
        self.ended = epoch;
        let all: Vec<Delta> = deltas.iter().map(|(delta, _)| delta.clone()).collect();
        if !deltas.is_empty()
            && let Some(shard) = self.view.shard(self.worker)
        {
            lock(shard).pending.push_back((epoch, deltas.into()));
        }
        if self.view.end_epoch(self.worker, epoch, &all) && self.job.gate().state != GateState::Open {
            // No next epoch will soon make the others look: they may have waited for this worker.
            self.job.wake_terminals();
        }
        let watermarks = &self.watermarks;
        self.readers.retain(|reader| {
            let Some(queue) = reader.queue.upgrade() else { return false };
            let mut queue = queue.borrow_mut();
            if epoch >= reader.start {
                // The first that is pushed may be a later one: the reader was created while no job was moved on.
                let is_first = queue.frontier <= reader.start;
                if epoch > reader.start {
                    queue.items.extend(all.iter().map(|delta| {
                        let guard = ByteGuard::new(&reader.meter, delta_bytes(delta));
                        EdgeItem::Rows(epoch, delta.clone(), guard)
                    }));
                }
                let news = if is_first { promised(watermarks) } else { moved.clone() };
                if !news.is_empty() {
                    queue.items.push_back(EdgeItem::Watermarks(epoch, news));
                }
                queue.frontier = epoch + 1;
                reader.activator.activate();
            }
            true
        });
        let job = Arc::clone(&self.job);
        job.give_snapshot(epoch..epoch + 1, |only_changes| self.snapshot(only_changes))
    }

    /// All inputs of the view's job have ended.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for reader in &self.readers {
            if let Some(queue) = reader.queue.upgrade() {
                let mut queue = queue.borrow_mut();
                if reader.start > self.ended {
                    // Its boundary will not come: it begins with all that there is.
                    queue.items.push_back(EdgeItem::Watermarks(reader.start, promised(&self.watermarks)));
                }
                queue.closed = true;
                reader.activator.activate();
            }
        }
    }

    /// Takes ended epochs into the contents, as far as every snapshot and every new reader allows. Answers whether some
    /// are left that could be taken in later without anything else happening.
    pub(crate) fn absorb(&mut self, fuel: &mut usize) -> Result<bool> {
        self.readers.retain(|reader| reader.queue.strong_count() > 0);
        let held = self.readers.iter().filter(|reader| reader.needs_contents).map(|reader| reader.start).min();
        // Not ahead of the last complete epoch, which a snapshot shows.
        let through = self.view.frontier().min(held.unwrap_or(Epoch::MAX));
        let Some(shard) = self.view.shard(self.worker) else { return Ok(false) };
        let mut shard = lock(shard);
        let mut more = false;
        while let Some((epoch, deltas)) = shard.pending.front_mut()
            && *epoch <= through
        {
            if *fuel == 0 {
                more = true;
                break;
            }
            match deltas.pop_front() {
                None => {
                    shard.pending.pop_front();
                }
                Some((delta, guard)) => {
                    // In pieces: a delta may be large.
                    let rows = delta.num_rows().min(*fuel);
                    if rows < delta.num_rows() {
                        deltas.push_front((delta.slice(rows, delta.num_rows() - rows), guard));
                    }
                    *fuel -= rows;
                    shard.contents.apply(&delta.slice(0, rows))?;
                }
            }
        }
        let bytes = shard.contents.bytes();
        drop(shard);
        self.job.meter.set_state(&mut self.state_bytes, bytes)?;
        Ok(more)
    }

    /// A new reader; the queue that it will read from.
    fn add_reader(
        &mut self,
        start: Epoch,
        needs_contents: bool,
        meter: &Arc<Meter>,
        activator: &Activator,
    ) -> Rc<RefCell<EdgeQueue>> {
        let mut queue = EdgeQueue { items: VecDeque::new(), frontier: start, closed: self.closed };
        if self.closed {
            queue.items.push_back(EdgeItem::Watermarks(start, promised(&self.watermarks)));
        }
        let queue = Rc::new(RefCell::new(queue));
        self.readers.push(Reader {
            queue: Rc::downgrade(&queue),
            start,
            needs_contents,
            meter: Arc::clone(meter),
            activator: activator.clone(),
        });
        queue
    }

    /// About `rows` rows of the contents as of the end of `start`, from slot `from` on.
    fn piece(&mut self, start: Epoch, from: usize, rows: usize) -> Result<Piece> {
        if !self.closed && self.ended < start {
            return Ok(Piece::Later);
        }
        self.absorb(&mut ABSORBED_ROWS.clone())?;
        let Some(shard) = self.view.shard(self.worker) else { return Ok(Piece::End) };
        let shard = lock(shard);
        if shard.pending.front().is_some_and(|(epoch, _)| self.closed || *epoch <= start) {
            // Not all taken in yet, or another worker has not ended `start`.
            return Ok(Piece::Soon);
        }
        Ok(match shard.contents.piece(from, rows)? {
            Some((delta, next)) => Piece::Rows(delta, next),
            None => Piece::End,
        })
    }

    /// The reader has the contents.
    fn release(&mut self, queue: &Rc<RefCell<EdgeQueue>>) -> Result<()> {
        for reader in &mut self.readers {
            if reader.queue.ptr_eq(&Rc::downgrade(queue)) {
                reader.needs_contents = false;
            }
        }
        if self.absorb(&mut ABSORBED_ROWS.clone())? || self.closed {
            self.job.wake_terminals();
        }
        Ok(())
    }

    /// Whether ended epochs wait to be taken into the contents.
    pub(crate) fn has_pending(&self) -> bool {
        self.view.shard(self.worker).is_some_and(|shard| !lock(shard).pending.is_empty())
    }

    /// The contents at the end of the epoch that was just ended, or what has changed of them.
    fn snapshot(&self, only_changes: bool) -> Result<Given> {
        let mut parts: Vec<(String, StatePart)> = Vec::new();
        if self.worker == 0 {
            parts.push(snapshot::watermarks(&self.watermarks)?);
        }
        let Some(shard) = self.view.shard(self.worker) else { return Ok(Given::state(parts)) };
        let mut shard = lock(shard);
        let Shard { contents, pending } = &mut *shard;
        let later = pending.iter().flat_map(|(_, deltas)| deltas.iter().map(|(delta, _)| delta));
        // Rows without columns are all the same.
        if only_changes && !self.view.schema().fields().is_empty() {
            let changes = contents.changes(later)?;
            let change = snapshot::view_change(&changes, self.view.is_changelog())?;
            let changes = BTreeMap::from([(snapshot::VIEW.to_owned(), vec![StateChange::Rows(change)])]);
            return Ok(Given { changes, ..Given::state(parts) });
        }
        for delta in contents.image(later.clone())?.deltas()? {
            parts.push((snapshot::VIEW.to_owned(), snapshot::view_part(&delta)?));
        }
        contents.note_changes(later)?;
        Ok(Given { whole: BTreeSet::from([snapshot::VIEW.to_owned()]), ..Given::state(parts) })
    }
}

impl Drop for ViewWriter {
    fn drop(&mut self) {
        // The view may live on; what it still has to take in is no longer the job's.
        if let Some(shard) = self.view.shard(self.worker) {
            lock(shard).pending.iter_mut().flat_map(|(_, deltas)| deltas).for_each(|(_, guard)| *guard = None);
        }
        // Nothing is refused that becomes less.
        let _ = self.job.meter.set_state(&mut self.state_bytes, 0);
    }
}

fn promised(watermarks: &Watermarks) -> Vec<(WatermarkId, i64)> {
    watermarks.iter().filter_map(|(id, at)| Some((id, at?))).collect()
}

enum Piece {
    /// The boundary epoch has not ended here: the writer will wake the reader.
    Later,
    /// The contents are being brought up to the boundary: look again.
    Soon,
    Rows(Delta, usize),
    End,
}

/// How a watermark of the view's job becomes one of the reader's: the view's time column lies `shift` microseconds
/// from the watermark that bounds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WatermarkLink {
    pub(crate) of_view: WatermarkId,
    pub(crate) of_reader: WatermarkId,
    pub(crate) shift: i64,
}

/// The timely operator that reads a view on one worker.
pub(crate) struct EdgeTask {
    writer: Rc<RefCell<ViewWriter>>,
    queue: Rc<RefCell<EdgeQueue>>,
    /// The epoch whose end the contents are read at.
    start: Epoch,
    /// The reader's first epoch, or one before it.
    first: Epoch,
    /// What a restored reader has to take in before: the view was restored as of a later epoch.
    missed: VecDeque<Delta>,
    projection: Vec<usize>,
    links: Vec<WatermarkLink>,
    /// What the view's watermarks are known to be.
    known: BTreeMap<WatermarkId, i64>,
    said: Watermarks,
    /// The slot of the contents to go on from; `None` when all is read.
    slot: Option<usize>,
    outlets: Vec<Outlet>,
    job: Arc<JobShared>,
    activator: Activator,
    failed: bool,
}

impl EdgeTask {
    /// A reader from its epoch `first` on. One that was restored has the contents in its state, but for what it `missed`.
    pub(crate) fn new(
        writer: &Rc<RefCell<ViewWriter>>,
        (first, missed): (Epoch, Option<Vec<Delta>>),
        (projection, links): (Vec<usize>, Vec<WatermarkLink>),
        outlets: Vec<Outlet>,
        job: Arc<JobShared>,
        activator: Activator,
    ) -> Self {
        let restored = missed.is_some();
        let start = if restored { first - 1 } else { first };
        let queue = writer.borrow_mut().add_reader(start, !restored, &job.meter, &activator);
        Self {
            writer: Rc::clone(writer),
            queue,
            start,
            first,
            missed: missed.unwrap_or_default().into(),
            projection,
            links,
            known: BTreeMap::new(),
            said: Watermarks::default(),
            slot: (!restored).then_some(0),
            outlets,
            job,
            activator,
            failed: false,
        }
    }

    /// One activation.
    pub(crate) fn run(&mut self) {
        if self.failed {
            self.queue.borrow_mut().items.clear();
        } else if let Err(error) = self.try_run() {
            self.failed = true;
            self.job.fail(error);
        }
    }

    fn try_run(&mut self) -> Result<()> {
        if self.job.stopping.load(Ordering::SeqCst) {
            self.outlets.iter_mut().for_each(Outlet::close);
            self.queue.borrow_mut().items.clear();
            self.missed.clear();
            if self.slot.take().is_some() {
                self.writer.borrow_mut().release(&self.queue)?;
            }
            return Ok(());
        }
        if self.job.is_unopened() {
            // Being built: the first epoch is opened when all workers are there.
            self.activator.activate_after(BACK_OFF);
            return Ok(());
        }
        let mut fuel = Output::FUEL / 2;
        while let Some(delta) = self.missed.front() {
            let Some(epoch) = self.job.epoch_after(self.first - 1) else { return Ok(()) };
            if fuel == 0 {
                self.activator.activate();
                return Ok(());
            }
            if !self.job.may_run(epoch, self.outlets.iter().map(Outlet::link)) {
                self.activator.activate_after(BACK_OFF);
                return Ok(());
            }
            let rows = delta.num_rows().min(fuel);
            let rest = (rows < delta.num_rows()).then(|| delta.slice(rows, delta.num_rows() - rows));
            let delta = delta.slice(0, rows);
            self.missed.pop_front();
            rest.into_iter().for_each(|rest| self.missed.push_front(rest));
            fuel -= rows;
            self.send(epoch, &delta)?;
        }
        while let Some(slot) = self.slot {
            if fuel == 0 {
                self.activator.activate();
                return Ok(());
            }
            if !self.job.may_run(self.start, self.outlets.iter().map(Outlet::link)) {
                self.activator.activate_after(BACK_OFF);
                return Ok(());
            }
            let piece = self.writer.borrow_mut().piece(self.start, slot, Output::FUEL / 4)?;
            match piece {
                Piece::Later => return Ok(()),
                Piece::Soon => {
                    self.activator.activate_after(BACK_OFF);
                    return Ok(());
                }
                Piece::Rows(delta, next) => {
                    fuel = fuel.saturating_sub(delta.num_rows().max(64));
                    self.slot = Some(next);
                    let Some(epoch) = self.job.epoch_after(self.first - 1) else {
                        return Err(Error::internal("a view's contents have no epoch to come in"));
                    };
                    self.send(epoch, &delta)?;
                }
                Piece::End => {
                    self.slot = None;
                    self.writer.borrow_mut().release(&self.queue)?;
                }
            }
        }
        self.follow(fuel)
    }

    /// Sends on what the writer has pushed.
    fn follow(&mut self, mut fuel: usize) -> Result<()> {
        loop {
            let mut queue = self.queue.borrow_mut();
            let epoch = match queue.items.front() {
                Some(EdgeItem::Rows(epoch, ..) | EdgeItem::Watermarks(epoch, _)) => *epoch,
                None => {
                    let (frontier, closed) = (queue.frontier, queue.closed);
                    drop(queue);
                    // Of a view that has ended nothing comes; the job may yet have something to say as time passes.
                    let gate = closed.then(|| self.job.follow_gate());
                    for outlet in &mut self.outlets {
                        match gate {
                            None => outlet.advance(frontier),
                            Some(Gate { state: GateState::Closed, .. }) => outlet.close(),
                            Some(gate) => outlet.advance(gate.epoch),
                        }
                    }
                    return Ok(());
                }
            };
            if fuel == 0 {
                self.activator.activate();
                return Ok(());
            }
            if !self.job.may_run(epoch, self.outlets.iter().map(Outlet::link)) {
                self.activator.activate_after(BACK_OFF);
                return Ok(());
            }
            let item = queue.items.pop_front();
            drop(queue);
            match item {
                Some(EdgeItem::Rows(epoch, delta, _guard)) => {
                    fuel = fuel.saturating_sub(delta.num_rows().max(64));
                    self.send(epoch, &delta)?;
                }
                Some(EdgeItem::Watermarks(epoch, news)) => {
                    // Of a view that has ended they stand at the reader's start, which need not be its first epoch.
                    let first = (epoch <= self.first).then(|| self.job.epoch_after(self.first - 1)).flatten();
                    self.say(first.unwrap_or(epoch), &news);
                }
                None => {}
            }
        }
    }

    fn send(&mut self, epoch: Epoch, delta: &Delta) -> Result<()> {
        let delta = delta.with_rows(delta.rows().project(&self.projection)?);
        self.job.rows_in.fetch_add(delta.num_rows() as u64, Ordering::Relaxed);
        for outlet in &mut self.outlets {
            guarded(|| outlet.send(epoch, delta.clone()))?;
        }
        Ok(())
    }

    fn say(&mut self, epoch: Epoch, news: &[(WatermarkId, i64)]) {
        self.known.extend(news.iter().copied());
        let mut least: BTreeMap<WatermarkId, Option<i64>> = BTreeMap::new();
        for link in &self.links {
            let at = self.known.get(&link.of_view).map(|at| match *at {
                i64::MAX => i64::MAX,
                at => at.saturating_add(link.shift),
            });
            let slot = least.entry(link.of_reader).or_insert(at);
            *slot = (*slot).min(at);
        }
        let mut promises = Vec::new();
        for (id, at) in least {
            if let Some(at) = at
                && self.said.advance(id, at)
            {
                promises.push((id, Promise::At(at)));
            }
        }
        if !promises.is_empty() {
            self.outlets.iter_mut().for_each(|outlet| outlet.send_control(epoch, &promises, false));
        }
    }
}
