//! A chain: the operators between two exchanges, hosted as one timely operator.
//!
//! Deltas are handed over in epoch order, each epoch is ended on its own, and what an operator emits goes through the
//! operators above it before anything else happens (depth first), so that no more than a call's worth of rows waits
//! between two of them. After an error or a panic the chain keeps its capability for ever and discards what comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use timely::scheduling::Activator;

use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::operator::{EpochContext, Operator, Output, Step};
use crate::time::{Epoch, WatermarkId, Watermarks};

use super::exchange::Outlet;
use super::figures::OperatorMeter;
use super::flow_control::ByteGuard;
use super::given::Given;
use super::guarded::guarded;
use super::inlet::Inlets;
use super::job::JobShared;
use super::late::LateEnd;
use super::packet::{Payload, Promise};
use super::source::BACK_OFF;

/// Rows (in and out of operators) of one activation: a few milliseconds, then other jobs run.
const ACTIVATION_FUEL: usize = 4 * Output::FUEL;

/// An operator in its place.
pub(crate) struct Member {
    /// The node's identity, for errors and snapshots.
    pub(crate) id: String,
    pub(crate) operator: Box<dyn Operator>,
    /// Who takes its output: member and input. `None`: the outlets.
    pub(crate) parent: Option<(usize, usize)>,
    /// What it remembers, for those who watch.
    pub(crate) meter: Arc<OperatorMeter>,
    /// Bytes of state reported last.
    pub(crate) state_bytes: usize,
}

enum Task {
    Feed(usize, usize, Delta, Option<ByteGuard>),
    Resume(usize),
    End(usize),
}

/// One worker's instance of a chain.
pub(crate) struct Chain {
    members: Vec<Member>,
    inlets: Inlets,
    /// Where each inlet's rows go: member and input.
    entries: Vec<(usize, usize)>,
    outlets: Vec<Outlet>,
    /// Where rows go that come too late, if not nowhere.
    late: Option<LateEnd>,
    job: Arc<JobShared>,
    activator: Activator,
    /// What is to be done, the next last.
    tasks: Vec<Task>,
    /// The last epoch that was begun.
    begun: Epoch,
    /// The last epoch that was ended.
    ended: Epoch,
    /// The epoch whose operators are being told of its end.
    ending: Option<Epoch>,
    watermarks: Watermarks,
    /// Watermarks that moved in the epoch that is being ended.
    moved: Vec<(WatermarkId, Promise)>,
    output: Output,
    /// When one of the operators has something to say of itself.
    timer: Arc<AtomicI64>,
    failed: bool,
}

impl Chain {
    /// Members stand in topological order: inputs before users.
    pub(crate) fn new(
        members: Vec<Member>,
        (inlets, entries): (Inlets, Vec<(usize, usize)>),
        (outlets, late): (Vec<Outlet>, Option<LateEnd>),
        job: Arc<JobShared>,
        activator: Activator,
        (first, watermarks): (Epoch, Watermarks),
    ) -> Self {
        let mut output = Output::default();
        if late.is_some() {
            output.keep_late();
        }
        Self {
            members,
            inlets,
            entries,
            outlets,
            timer: job.add_timer(),
            late,
            job,
            activator,
            tasks: Vec::new(),
            begun: first.saturating_sub(1),
            ended: first.saturating_sub(1),
            ending: None,
            watermarks,
            moved: Vec::new(),
            output,
            failed: false,
        }
    }

    /// One activation; `frontier` is the least epoch that may still come, `None` at the end of all inputs.
    pub(crate) fn run(&mut self, frontier: Option<Epoch>) {
        if self.failed {
            self.inlets.discard();
            return;
        }
        self.inlets.receive();
        if let Err(error) = self.advance(frontier) {
            self.failed = true;
            self.tasks.clear();
            self.inlets.discard();
            self.job.fail(error);
        }
    }

    fn advance(&mut self, frontier: Option<Epoch>) -> Result<()> {
        let mut fuel = ACTIVATION_FUEL;
        loop {
            let current = match self.ending {
                Some(epoch) => Some(epoch),
                None => self.job.epoch_after(self.ended),
            };
            let Some(epoch) = current else {
                if frontier.is_none() {
                    self.all_outlets().for_each(Outlet::close);
                }
                return Ok(());
            };
            if epoch > self.begun {
                self.begun = epoch;
                for member in &mut self.members {
                    let operator = &mut member.operator;
                    guarded(|| {
                        operator.begin_epoch(now_micros(epoch));
                        Ok(())
                    })?;
                }
            }
            while !self.tasks.is_empty() {
                if fuel == 0 {
                    self.activator.activate();
                    return Ok(());
                }
                let late = self.late.iter().map(|late| &late.outlet);
                if !self.job.may_run(epoch, self.outlets.iter().chain(late).map(Outlet::link)) {
                    self.activator.activate_after(BACK_OFF);
                    return Ok(());
                }
                self.step(epoch, &mut fuel)?;
            }
            if self.ending.is_some() {
                self.finish_epoch(epoch)?;
            } else if let Some((inlet, packet)) = self.inlets.next(epoch) {
                if let Payload::Rows { delta, guard } = packet.payload {
                    let (member, input) = self.entries[inlet];
                    self.tasks.push(Task::Feed(member, input, delta, guard));
                }
            } else if frontier.is_none_or(|frontier| frontier > epoch) {
                self.ending = Some(epoch);
                self.moved = self.inlets.merge_into(&mut self.watermarks);
                if self.job.is_last(epoch) {
                    self.watermarks.end();
                }
                self.tasks.extend((0..self.members.len()).rev().map(Task::End));
            } else {
                return Ok(());
            }
        }
    }

    /// One call of one operator; what it emits comes before what was to be done.
    fn step(&mut self, epoch: Epoch, fuel: &mut usize) -> Result<()> {
        let Some(task) = self.tasks.pop() else { return Ok(()) };
        let output = &mut self.output;
        let (index, rows_in, step) = match task {
            Task::Feed(index, input, delta, mut guard) => {
                if let Some(guard) = &mut guard {
                    guard.read();
                }
                let rows = delta.num_rows();
                let operator = &mut self.members[index].operator;
                (index, rows, guarded(|| operator.on_delta(input, delta, output)))
            }
            Task::Resume(index) => {
                let operator = &mut self.members[index].operator;
                (index, 0, guarded(|| operator.resume(output)))
            }
            Task::End(index) => {
                let context = EpochContext { epoch, now_micros: now_micros(epoch), watermarks: &self.watermarks };
                let operator = &mut self.members[index].operator;
                (index, 0, guarded(|| operator.on_epoch_end(&context, output)))
            }
        };
        let step = step.map_err(|error| self.blame(index, error))?;
        let (deltas, late) = self.output.take();
        if late > 0 {
            self.job.late_rows.fetch_add(late, Ordering::Relaxed);
            self.job.observer.late_rows(&self.members[index].id, late);
        }
        if let Some(end) = &mut self.late {
            for late in self.output.take_late() {
                guarded(|| end.send(epoch, index, late, &self.watermarks))?;
            }
        }
        let rows_out: usize = deltas.iter().map(Delta::num_rows).sum();
        *fuel = fuel.saturating_sub((rows_in + rows_out).max(64));
        if step == Step::Yield {
            self.tasks.push(Task::Resume(index));
        }
        match self.members[index].parent {
            Some((parent, input)) => {
                self.tasks.extend(deltas.into_iter().rev().map(|delta| Task::Feed(parent, input, delta, None)));
            }
            None => {
                for delta in deltas {
                    self.emit(epoch, delta).map_err(|error| self.blame(index, error))?;
                }
            }
        }
        Ok(())
    }

    fn emit(&mut self, epoch: Epoch, delta: Delta) -> Result<()> {
        let Some((last, others)) = self.outlets.split_last_mut() else { return Ok(()) };
        for outlet in others {
            guarded(|| outlet.send(epoch, delta.clone()))?;
        }
        guarded(|| last.send(epoch, delta))
    }

    /// All operators have heard of the end: the watermarks follow the output, and the epoch is left.
    fn finish_epoch(&mut self, epoch: Epoch) -> Result<()> {
        let mut timer: Option<i64> = None;
        for member in &mut self.members {
            let (operator, meter) = (&member.operator, &member.meter);
            let (bytes, own) = guarded(|| Ok((meter.measure(operator.as_ref()), operator.next_timer())))?;
            self.job.meter.set_state(&mut member.state_bytes, bytes)?;
            timer = timer.into_iter().chain(own).min();
        }
        // Before the epoch is complete: whoever sees that it is knows what is still to be said.
        self.job.set_timer(&self.timer, timer);
        let job = Arc::clone(&self.job);
        job.give_snapshot(self.ended + 1..epoch + 1, |only_changes| self.snapshot(only_changes))?;
        let moved = std::mem::take(&mut self.moved);
        for outlet in self.outlets.iter_mut().chain(self.late.iter_mut().map(|late| &mut late.outlet)) {
            if !moved.is_empty() {
                outlet.send_control(epoch, &moved, false);
            }
            outlet.advance(epoch + 1);
        }
        self.ended = epoch;
        self.ending = None;
        Ok(())
    }

    fn all_outlets(&mut self) -> impl Iterator<Item = &mut Outlet> {
        self.outlets.iter_mut().chain(self.late.iter_mut().map(|late| &mut late.outlet))
    }

    fn snapshot(&mut self, only_changes: bool) -> Result<Given> {
        let mut given = Given::default();
        for member in &mut self.members {
            let operator = &mut member.operator;
            let changes = if only_changes { guarded(|| operator.changes())? } else { None };
            match changes {
                Some(changes) => given.changes.entry(member.id.clone()).or_default().extend(changes),
                None => {
                    let parts = guarded(|| operator.snapshot())?;
                    given.parts.extend(parts.into_iter().map(|part| (member.id.clone(), part)));
                    given.whole.insert(member.id.clone());
                }
            }
            given.deferred.extend(operator.deferred().into_iter().map(|part| (member.id.clone(), part)));
        }
        Ok(given)
    }

    fn blame(&self, index: usize, error: Error) -> Error {
        // An error of the user's data already says what is wrong; only faults of Rondel need the operator's name.
        if error.kind() == ErrorKind::Internal {
            error.context(format!("operator {}", self.members[index].id))
        } else {
            error
        }
    }
}

/// What `now()` is in an epoch.
fn now_micros(epoch: Epoch) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX).saturating_mul(1_000)
}

impl Drop for Chain {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Nothing is refused that becomes less.
            let _ = self.job.meter.set_state(&mut member.state_bytes, 0);
        }
    }
}
