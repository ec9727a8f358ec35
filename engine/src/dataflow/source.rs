//! The timely operator that reads a stream: polls the connector's reader when it is woken, within its epoch's budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use timely::scheduling::Activator;

use crate::connector::{PollState, Positions, SourceReader, Waker};
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::Output;
use crate::time::Epoch;

use super::event_time::EventTime;
use super::exchange::Outlet;
use super::flow_control::delta_bytes;
use super::gate::GateState;
use super::given::Given;
use super::guarded::guarded;
use super::job::{JobShared, SourceStatus};

/// How long a job above its memory limit waits before it looks again.
pub(crate) const BACK_OFF: Duration = Duration::from_millis(1);

/// What a source needs besides its place in the dataflow.
pub(crate) struct SourcePart {
    /// The node's identity, for errors and snapshots.
    pub(crate) id: String,
    pub(crate) reader: Box<dyn SourceReader>,
    pub(crate) event_time: Option<EventTime>,
    pub(crate) status: Arc<SourceStatus>,
}

/// One worker's part of a stream's scan.
pub(crate) struct SourceTask {
    part: SourcePart,
    outlets: Vec<Outlet>,
    job: Arc<JobShared>,
    activator: Activator,
    epoch: Epoch,
    /// Whether `epoch` was open here (not only waited for).
    in_epoch: bool,
    /// Where the reader stood at the end of the last epoch, if that had no rows.
    stood: Option<Positions>,
    /// The reader is told of each epoch, and read to its end.
    binds: bool,
    rows_in_epoch: usize,
    bytes_in_epoch: usize,
    /// Bytes of a row, by the last poll that had some; 0 before.
    row_bytes: usize,
    failed: bool,
}

impl SourceTask {
    pub(crate) fn new(
        mut part: SourcePart,
        outlets: Vec<Outlet>,
        job: Arc<JobShared>,
        activator: Activator,
        first: Epoch,
    ) -> Self {
        part.reader.set_waker(waker(&job, &part.status));
        let binds = part.status.binds.load(Ordering::SeqCst);
        Self {
            part,
            outlets,
            job,
            activator,
            epoch: first,
            in_epoch: false,
            stood: None,
            binds,
            rows_in_epoch: 0,
            bytes_in_epoch: 0,
            row_bytes: 0,
            failed: false,
        }
    }

    /// One activation. Answers whether there will be others.
    pub(crate) fn run(&mut self) -> bool {
        if !self.failed
            && let Err(error) = self.try_run()
        {
            // The capability stays where it is, for ever: this epoch must not complete.
            self.failed = true;
            self.job.fail(error.context(&self.part.id));
        }
        true
    }

    fn try_run(&mut self) -> Result<()> {
        let gate = self.job.gate();
        if gate.state == GateState::Closed {
            self.end_epoch(Epoch::MAX)?;
            self.outlets.iter_mut().for_each(Outlet::close);
            return Ok(());
        }
        if gate.epoch > self.epoch {
            self.end_epoch(gate.epoch)?;
            self.epoch = gate.epoch;
            self.outlets.iter_mut().for_each(|outlet| outlet.advance(gate.epoch));
        }
        if gate.state == GateState::Open {
            if !std::mem::replace(&mut self.in_epoch, true) && self.binds {
                let reader = &mut self.part.reader;
                guarded(|| reader.begin_epoch(gate.epoch))?;
            }
            self.read()?;
        }
        Ok(())
    }

    /// Says the watermark of the epoch, if it is news, and leaves the epoch for `next`. A worker that was busy may
    /// never have looked at some of the epochs between.
    fn end_epoch(&mut self, next: Epoch) -> Result<()> {
        if std::mem::take(&mut self.in_epoch) {
            self.note_position()?;
            self.promise();
        }
        let job = Arc::clone(&self.job);
        job.give_snapshot(self.epoch..next, |_| self.snapshot())
    }

    /// Notices records that were passed without a row: those that were left out, or that come to nothing together.
    fn note_position(&mut self) -> Result<()> {
        // Rows are news of their own, and positions are not looked at while there are any.
        let stood = match self.rows_in_epoch {
            0 => guarded(|| Ok(self.part.reader.positions()))?,
            _ => None,
        };
        if self.stood.is_some() && stood.is_some() && self.stood != stood {
            self.job.note_news();
        }
        self.stood = stood;
        Ok(())
    }

    fn promise(&mut self) {
        self.rows_in_epoch = 0;
        self.bytes_in_epoch = 0;
        let finished = self.part.status.finished.load(Ordering::SeqCst);
        if let Some(event_time) = &mut self.part.event_time
            && let Some(promise) = event_time.promise(&self.part.reader.partitions(), finished)
        {
            let promises = [(event_time.id(), promise)];
            self.outlets.iter_mut().for_each(|outlet| outlet.send_control(self.epoch, &promises, true));
        }
    }

    fn read(&mut self) -> Result<()> {
        let status = Arc::clone(&self.part.status);
        // What a reader that binds epochs has in this one does not depend on when it was woken.
        let has_read = status.read_in.load(Ordering::SeqCst) >= self.epoch;
        let ready = if self.binds { !has_read } else { status.ready.load(Ordering::SeqCst) };
        if status.finished.load(Ordering::SeqCst) || !ready {
            status.read_in.store(self.epoch, Ordering::SeqCst);
            return Ok(());
        }
        // A share of the limit for each epoch in flight, so that an epoch that is gathered fits.
        let byte_budget = self.job.limits.memory_bytes / (2 * self.job.limits.epochs_in_flight.max(1));
        let budget = self.job.limits.epoch_budget_rows.saturating_sub(self.rows_in_epoch);
        if (budget == 0 || self.bytes_in_epoch >= byte_budget) && !self.binds {
            status.read_in.store(self.epoch, Ordering::SeqCst);
            self.job.note_exhausted();
            return Ok(());
        }
        if self.job.meter.all().is_full() {
            self.job.note_starved(&status);
            return Ok(());
        }
        if !self.job.may_run(self.epoch, self.outlets.iter().map(Outlet::link)) {
            self.activator.activate_after(BACK_OFF);
            return Ok(());
        }
        status.ready.store(false, Ordering::SeqCst);
        let mut batches = Vec::new();
        let reader = &mut self.part.reader;
        // Small bites when all jobs together come near their limit, and of wide rows: a large one would go far beyond it.
        let bite = if self.job.meter.all().is_half_full() { Output::FUEL / 16 } else { Output::FUEL };
        let bite = match self.row_bytes {
            _ if self.binds => bite,
            0 => bite / 4,
            row_bytes => bite.min((byte_budget - self.bytes_in_epoch.min(byte_budget)) / row_bytes + 1),
        };
        let fuel = if self.binds { bite } else { budget.min(bite) };
        let state = guarded(|| reader.poll(fuel, &mut batches))?;
        let (mut rows, before) = (0, self.bytes_in_epoch);
        for batch in batches.into_iter().filter(|batch| batch.rows.num_rows() > 0) {
            rows += batch.rows.num_rows();
            if let Some(event_time) = &mut self.part.event_time {
                guarded(|| event_time.observe(&batch))?;
            }
            let delta = Delta::new(batch.rows, batch.weights);
            self.bytes_in_epoch += delta_bytes(&delta);
            let Some((last, others)) = self.outlets.split_last_mut() else { continue };
            for outlet in others {
                guarded(|| outlet.send(self.epoch, delta.clone()))?;
            }
            guarded(|| last.send(self.epoch, delta))?;
        }
        if let Some(each) = (self.bytes_in_epoch - before).checked_div(rows) {
            self.row_bytes = each.max(1);
        }
        self.rows_in_epoch += rows;
        self.job.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
        match state {
            PollState::More => {
                status.ready.store(true, Ordering::SeqCst);
                self.activator.activate();
            }
            PollState::Idle => status.read_in.store(self.epoch, Ordering::SeqCst),
            PollState::Later => {
                status.ready.store(true, Ordering::SeqCst);
                status.read_in.store(self.epoch, Ordering::SeqCst);
            }
            PollState::Finished => {
                status.finished.store(true, Ordering::SeqCst);
                status.read_in.store(self.epoch, Ordering::SeqCst);
            }
        }
        if status.ready.load(Ordering::SeqCst) && self.job.gate().state != GateState::Open {
            // Whoever closed the epoch meanwhile may have looked before: nobody else tells that there is more.
            self.job.signal.notify();
        }
        let finished = state == PollState::Finished;
        let reader = &self.part.reader;
        let partitions = guarded(|| Ok(reader.partitions()))?;
        let news = self.part.event_time.as_ref().is_some_and(|event_time| event_time.has_news(&partitions, finished));
        if rows > 0 || news || finished {
            self.job.note_activity();
        }
        Ok(())
    }

    /// Where the reader stands, and the partitions' promises; every worker reads all of them back, since partitions move.
    fn snapshot(&self) -> Result<Given> {
        let (id, reader) = (&self.part.id, &self.part.reader);
        let mut given = Given::default();
        given.positions.insert(id.clone(), guarded(|| Ok(reader.positions()))?);
        if let Some(event_time) = &self.part.event_time {
            given.parts.push(super::snapshot::partitions(id, event_time.partitions())?);
        }
        Ok(given)
    }
}

/// Wakes the worker if the source may read, else the control, which opens an epoch.
fn waker(job: &Arc<JobShared>, status: &Arc<SourceStatus>) -> Waker {
    let (job, status) = (Arc::clone(job), Arc::clone(status));
    Arc::new(move || {
        if !status.ready.swap(true, Ordering::SeqCst) {
            if job.gate().state == GateState::Open {
                status.wake_up.activate();
            } else {
                job.signal.notify();
            }
        }
    })
}
