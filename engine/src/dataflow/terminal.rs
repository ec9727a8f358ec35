//! The end of a job's dataflow on one worker: gathers an epoch's deltas and gives them to the view or sink when the
//! epoch is complete.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use timely::scheduling::Activator;

use crate::connector::{SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::operator::Output;
use crate::safeguard::Safeguard;
use crate::time::{Epoch, WatermarkId, Watermarks};

use super::edge::{ABSORBED_ROWS, ViewWriter};
use super::flow_control::ByteGuard;
use super::given::Given;
use super::guarded::guarded;
use super::inlet::Inlets;
use super::job::JobShared;
use super::packet::{Payload, Promise};
use super::snapshot;

/// How long a full sink is left alone.
const SINK_RETRY: Duration = Duration::from_millis(2);

type Deltas = Vec<(Delta, Option<ByteGuard>)>;
type Waiting = VecDeque<(Delta, Option<ByteGuard>)>;

/// Where a worker's results go.
pub(crate) enum Destination {
    View(Rc<RefCell<ViewWriter>>),
    Sink(SinkTask),
}

/// See the [module](self).
pub(crate) struct Terminal {
    inlets: Inlets,
    destination: Destination,
    /// Whether it takes the rows that come too late, not the result.
    is_late: bool,
    job: Arc<JobShared>,
    /// Its number among all workers' ends.
    worker: usize,
    activator: Activator,
    ended: Epoch,
    gathered: Deltas,
    gathered_bytes: usize,
    watermarks: Watermarks,
    closed: bool,
    /// All is written, or taken into the view.
    done: bool,
    failed: bool,
}

impl Terminal {
    pub(crate) fn new(
        inlets: Inlets,
        (destination, is_late): (Destination, bool),
        job: Arc<JobShared>,
        worker: usize,
        activator: Activator,
        (first, watermarks): (Epoch, Watermarks),
    ) -> Self {
        Self {
            inlets,
            destination,
            is_late,
            worker: worker + if is_late { job.workers } else { 0 },
            job,
            activator,
            ended: first.saturating_sub(1),
            gathered: Vec::new(),
            gathered_bytes: 0,
            watermarks,
            closed: false,
            done: false,
            failed: false,
        }
    }

    /// One activation; `frontier` as for a chain. Answers whether there is more to do.
    pub(crate) fn run(&mut self, frontier: Option<Epoch>) -> bool {
        if self.failed {
            self.inlets.discard();
            return false;
        }
        self.inlets.receive();
        match self.advance(frontier) {
            Ok(more) => more,
            Err(error) => {
                self.failed = true;
                self.gathered.clear();
                self.job.meter.scatter(&mut self.gathered_bytes);
                self.job.fail(error);
                false
            }
        }
    }

    fn advance(&mut self, frontier: Option<Epoch>) -> Result<bool> {
        while let Some(epoch) = self.job.epoch_after(self.ended) {
            while let Some((_, packet)) = self.inlets.next(epoch) {
                if let Payload::Rows { delta, mut guard } = packet.payload {
                    if let Some(guard) = &mut guard {
                        guard.read();
                        self.job.meter.gather(&mut self.gathered_bytes, guard.bytes());
                    }
                    self.gathered.push((delta, guard));
                }
            }
            self.check_memory()?;
            if frontier.is_some_and(|frontier| frontier <= epoch) {
                break;
            }
            self.end_epoch(epoch)?;
        }
        let at_end = frontier.is_none() && self.job.epoch_after(self.ended).is_none();
        match &mut self.destination {
            Destination::View(writer) => {
                let mut writer = writer.borrow_mut();
                if at_end && !self.closed {
                    self.closed = true;
                    writer.close();
                }
                if writer.absorb(&mut ABSORBED_ROWS.clone())? {
                    self.activator.activate();
                }
                let pending = writer.has_pending();
                if self.closed && !pending && !self.done {
                    self.done = true;
                    self.job.set_done(self.worker, Epoch::MAX);
                }
                // Timely forgets an operator whose inputs have ended, unless it has more to do: another worker may yet
                // have to end what is to be taken in here.
                Ok(pending)
            }
            Destination::Sink(sink) => sink.run(at_end, &self.activator, (&self.job, self.worker)),
        }
    }

    fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        let moved: Vec<(WatermarkId, Promise)> = self.inlets.merge_into(&mut self.watermarks);
        let deltas = std::mem::take(&mut self.gathered);
        self.job.meter.scatter(&mut self.gathered_bytes);
        if !self.is_late {
            let rows: usize = deltas.iter().map(|(delta, _)| delta.num_rows()).sum();
            self.job.rows_out.fetch_add(rows as u64, Ordering::Relaxed);
        }
        self.ended = epoch;
        match &mut self.destination {
            Destination::View(writer) => {
                writer.borrow_mut().end_epoch(epoch, deltas, &moved)?;
                self.job.set_done(self.worker, epoch + 1);
            }
            Destination::Sink(sink) => {
                sink.queue.push_back((epoch, deltas.into()));
                if self.job.is_snapshot(epoch..epoch + 1) {
                    let is_first = self.worker == 0;
                    let parts = if is_first { vec![snapshot::watermarks(&self.watermarks)?] } else { Vec::new() };
                    sink.boundaries.push_back((epoch, Given::state(parts)));
                }
            }
        }
        Ok(())
    }

    /// What is gathered is of one epoch, and above the limit only the oldest goes on: if it alone is too much, it is this
    /// one that does not fit. What younger epochs have read ahead waits and does not count.
    fn check_memory(&self) -> Result<()> {
        let limit = self.job.limits.memory_bytes;
        let held = self.job.meter.gathered() + self.job.meter.state();
        if held > limit + limit / 4 {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "the changes of one epoch, {} MiB with what the job remembers, exceed its memory limit of {} MiB",
                    held >> 20,
                    limit >> 20
                ),
            )
            .with_hint("raise the job's memory limit, or look for a join whose key has too many rows on both sides"));
        }
        Ok(())
    }
}

/// Writes complete epochs to a sink, in order.
pub(crate) struct SinkTask {
    writer: Box<dyn SinkWriter>,
    /// The output of an interval is hidden until a checkpoint is chosen: the writer is told where intervals end.
    exactly_once: bool,
    queue: VecDeque<(Epoch, Waiting)>,
    /// Epochs at whose end a snapshot is taken, and what is given to it when they are written: a checkpoint must not say
    /// that rows were read whose output a crash would lose.
    boundaries: VecDeque<(Epoch, Given)>,
    /// Counts what the writer has taken while it is full.
    taken: Option<ByteGuard>,
    full: bool,
    finished: bool,
}

impl SinkTask {
    pub(crate) fn new(writer: Box<dyn SinkWriter>, exactly_once: bool) -> Self {
        let (queue, boundaries) = (VecDeque::new(), VecDeque::new());
        Self { writer, exactly_once, queue, boundaries, taken: None, full: false, finished: false }
    }

    /// Makes what was written up to the end of `epoch` the sink's business alone, if a snapshot is taken there. Answers
    /// whether it is.
    fn pass_boundary(&mut self, epoch: Epoch, job: &JobShared) -> Result<bool> {
        if self.boundaries.front().is_none_or(|(boundary, _)| *boundary > epoch) {
            return Ok(true);
        }
        let (writer, exactly_once) = (&mut self.writer, self.exactly_once);
        let ended = guarded(|| if exactly_once { writer.end_interval(epoch) } else { writer.flush() })?;
        if ended == SinkState::Full {
            return Ok(false);
        }
        if let Some((boundary, given)) = self.boundaries.pop_front() {
            job.give_snapshot(boundary..boundary + 1, |_| Ok(given))?;
        }
        Ok(true)
    }

    /// Writes what it can; the job hears of each epoch that is written, and of the last when all is.
    fn run(&mut self, at_end: bool, activator: &Activator, (job, worker): (&JobShared, usize)) -> Result<bool> {
        let done = |epoch: Epoch| job.set_done(worker, epoch.saturating_add(1));
        if self.full {
            let writer = &mut self.writer;
            if guarded(|| writer.resume())? == SinkState::Full {
                activator.activate_after(SINK_RETRY);
                return Ok(true);
            }
            self.full = false;
            self.taken = None;
        }
        if !Safeguard::AlignedSnapshots.holds()
            && let Some(epoch) = self.queue.front().map(|(epoch, _)| *epoch)
            && !self.pass_boundary(epoch, job)?
        {
            activator.activate_after(SINK_RETRY);
            return Ok(true);
        }
        let mut fuel = 4 * Output::FUEL;
        while let Some((epoch, deltas)) = self.queue.front_mut() {
            let epoch = *epoch;
            let Some((delta, guard)) = deltas.pop_front() else {
                if !self.pass_boundary(epoch, job)? {
                    activator.activate_after(SINK_RETRY);
                    return Ok(true);
                }
                done(epoch);
                self.queue.pop_front();
                continue;
            };
            fuel = fuel.saturating_sub(delta.num_rows().max(64));
            let writer = &mut self.writer;
            if guarded(|| writer.write(epoch, delta))? == SinkState::Full {
                self.taken = guard;
                self.full = true;
                activator.activate_after(SINK_RETRY);
                return Ok(true);
            }
            if fuel == 0 {
                activator.activate();
                return Ok(true);
            }
        }
        if at_end && !self.finished {
            let writer = &mut self.writer;
            if guarded(|| writer.flush())? == SinkState::Full {
                activator.activate_after(SINK_RETRY);
                return Ok(true);
            }
            self.finished = true;
            done(Epoch::MAX);
        }
        Ok(false)
    }
}
