//! Stepping through epochs: which jobs move together, and when.
//!
//! Jobs that are connected by views form a group and open epochs together, so that no reader waits for a view that
//! nobody steps. A group is stepped only while one of its sources has something to read, someone asks, or the time has
//! come at which one of its operators has something to say of itself
//! ([`next_timer`](crate::operator::Operator::next_timer)); the tick stretches from 10 ms towards 100 ms when stepping
//! would take more than a tenth of the workers' time, or when epochs are not done within it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::time::Epoch;

use super::control::{Control, Entry, Status};
use super::gate::{Gate, GateState};
use super::job::JobId;

/// The shortest tick.
const LEAST_TICK: u64 = 10_000;
/// The longest.
const GREATEST_TICK: u64 = 100_000;
/// What it costs to step one timely operator on one worker through one epoch (measured: 5 to 7).
const STEP_MICROS: u64 = 6;
/// No timer is waited for longer than this without a look at the clock, which may be set.
const LONGEST_WAIT_MICROS: u64 = 60_000_000;

/// How fast a job is stepped. All times in microseconds.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What one epoch costs one worker, even if it is empty.
    cost: u64,
    opened_at: u64,
    tick: u64,
}

impl Pace {
    pub(crate) fn new(operators: usize) -> Self {
        Self { cost: operators as u64 * STEP_MICROS, opened_at: 0, tick: LEAST_TICK }
    }

    fn opened(&mut self, micros: u64) {
        self.opened_at = micros;
    }

    /// The last epoch was or was not done within its tick.
    fn adapt(&mut self, done: bool) {
        self.tick = if done { self.tick * 3 / 4 } else { self.tick * 2 }.clamp(LEAST_TICK, GREATEST_TICK);
    }
}

impl Control {
    /// Running jobs, by what connects them.
    pub(crate) fn groups(&self) -> Vec<Vec<JobId>> {
        let running = |id: &JobId| self.jobs.get(id).is_some_and(|entry| entry.status == Status::Running);
        let mut leader: BTreeMap<JobId, JobId> =
            self.jobs.keys().filter(|id| running(id)).map(|id| (*id, *id)).collect();
        for (id, entry) in &self.jobs {
            for read in entry.reads.iter().filter(|read| running(read) && running(id)) {
                let (from, to) = (leader[id], leader[read]);
                if from != to {
                    leader.values_mut().filter(|of| **of == from).for_each(|of| *of = to);
                }
            }
        }
        let mut groups: BTreeMap<JobId, Vec<JobId>> = BTreeMap::new();
        for (id, leader) in leader {
            groups.entry(leader).or_default().push(id);
        }
        groups.into_values().collect()
    }

    /// Adds up what it costs to step the jobs that are open.
    pub(crate) fn note_cost(&mut self) {
        let open = |entry: &&Entry| entry.status == Status::Running && entry.job.gate().state == GateState::Open;
        self.open_cost = self.jobs.values().filter(open).map(|entry| entry.pace.cost).sum();
    }

    /// The tick of open groups: together they may take a tenth of a worker's time.
    fn tick(&self, group: &[JobId]) -> u64 {
        let own = self.members(group).map(|entry| entry.pace.tick).max().unwrap_or(LEAST_TICK);
        own.max(self.open_cost * 10).clamp(LEAST_TICK, GREATEST_TICK)
    }

    fn members<'a>(&'a self, group: &'a [JobId]) -> impl Iterator<Item = &'a Entry> + 'a {
        group.iter().filter_map(|id| self.jobs.get(id))
    }

    /// Opens `epoch` for all jobs of a group.
    pub(crate) fn open(&mut self, group: &[JobId], epoch: Epoch, micros: u64) {
        self.place_snapshots(group, epoch);
        for id in group {
            if let Some(entry) = self.jobs.get_mut(id) {
                if entry.lacks_last() {
                    entry.job.make_last(epoch);
                }
                entry.pace.opened(micros);
                entry.job.active.store(false, Ordering::SeqCst);
                entry.job.exhausted.store(false, Ordering::SeqCst);
                entry.job.set_gate(Gate { epoch, state: GateState::Open });
            }
        }
    }

    /// Moves a group on if it is due. Answers in how many microseconds to look again.
    pub(crate) fn step_group(&mut self, group: &[JobId], now: Epoch, micros: u64) -> Option<u64> {
        if self.is_standing() {
            return None;
        }
        if self.is_frozen(group) {
            return self.is_held(group).then_some(LEAST_TICK / 10);
        }
        let timer = self.next_timer(group);
        // Whoever was created while nothing moved has yet to have its first epoch.
        let is_new = self.members(group).any(|entry| entry.job.is_unopened());
        let ready = self.is_ready(group) || timer.is_some_and(|at| at <= now) || is_new;
        let waiting = |entry: &Entry| entry.steps.iter().any(|step| step.target.is_none());
        // A job whose inputs have ended has one epoch more, in which it says what it holds back.
        let ending = self.members(group).any(Entry::lacks_last);
        let asked = self.wants_snapshot(group) || self.members(group).any(waiting) || ending;
        let epoch = self.members(group).map(|entry| entry.job.gate().epoch).max()?;
        let is_open = self.members(group).any(|entry| entry.job.gate().state == GateState::Open);
        if !is_open {
            if (ready || asked) && self.has_room(group) {
                let next = self.next_epoch(now, epoch.saturating_sub(1));
                self.open(group, next, micros);
                return Some(self.tick(group));
            }
            return if ready { None } else { timer.map(|at| until(at, now)) };
        }
        let exhausted = self.members(group).any(|entry| entry.job.exhausted.load(Ordering::SeqCst));
        if asked {
            self.place_snapshots(group, epoch);
        }
        let settled = asked
            && self.members(group).flat_map(|entry| &entry.job.sources).all(|source| {
                source.finished.load(Ordering::SeqCst)
                    || (source.read_in.load(Ordering::SeqCst) >= epoch
                        && (source.binds.load(Ordering::SeqCst) || !source.ready.load(Ordering::SeqCst)))
            });
        let opened_at = self.members(group).map(|entry| entry.pace.opened_at).max().unwrap_or(0);
        let due = opened_at + self.tick(group);
        let over = self.members(group).all(|entry| entry.inputs_ended.is_some());
        let close = exhausted || settled || over || (micros >= due && !asked) || (micros >= due + GREATEST_TICK);
        if !close {
            return Some(due.saturating_sub(micros).max(LEAST_TICK / 10));
        }
        if self.is_held(group) {
            return Some(LEAST_TICK / 10);
        }
        if ready && !self.has_room(group) {
            // Sources go on reading into the open epoch, within its budget, until an older one is complete.
            return None;
        }
        for id in group {
            if let Some(entry) = self.jobs.get_mut(id) {
                let done = entry.job.epochs_in_flight() <= 1;
                entry.pace.adapt(done);
                for step in entry.steps.iter_mut().filter(|step| step.target.is_none() && (settled || exhausted)) {
                    step.target = Some(epoch);
                }
            }
        }
        if ready {
            let next = self.next_epoch(now, epoch);
            self.open(group, next, micros);
            return Some(self.tick(group));
        }
        for entry in self.members(group) {
            entry.job.active.store(false, Ordering::SeqCst);
            entry.rest(Gate { epoch: epoch + 1, state: GateState::Idle });
        }
        // A source that was woken before it could see the gate has told nobody; nor will anybody tell when a step is
        // still asked for: the epoch was closed before busy workers had looked at all sources.
        if self.is_ready(group) || self.members(group).any(waiting) || ending {
            return Some(0);
        }
        timer.map(|at| until(at, now))
    }

    /// The next epoch that a timer of the group asks for. An earlier one that is set from now on tells the control.
    fn next_timer(&self, group: &[JobId]) -> Option<Epoch> {
        let last = self.members(group).map(Entry::last_opened).max()?;
        self.members(group).filter_map(|entry| entry.job.await_timer(last)).min()
    }

    /// Whether a source has something to read.
    fn is_ready(&self, group: &[JobId]) -> bool {
        self.members(group).flat_map(|entry| &entry.job.sources).any(|source| source.is_ready())
    }

    /// Whether an epoch of the group is open in which a source has still to read what is bound to it.
    pub(crate) fn is_held(&self, group: &[JobId]) -> bool {
        self.members(group).any(|entry| {
            let gate = entry.job.gate();
            gate.state == GateState::Open
                && entry.job.sources.iter().any(|source| {
                    source.binds.load(Ordering::SeqCst)
                        && !source.finished.load(Ordering::SeqCst)
                        && source.read_in.load(Ordering::SeqCst) < gate.epoch
                })
        })
    }

    /// Whether another epoch may be opened; if not, the jobs tell when one is complete.
    fn has_room(&self, group: &[JobId]) -> bool {
        let full = |entry: &Entry| entry.job.epochs_in_flight() >= entry.job.limits.epochs_in_flight;
        for entry in self.members(group) {
            entry.job.awaited.store(false, Ordering::SeqCst);
            if full(entry) {
                entry.job.awaited.store(true, Ordering::SeqCst);
                // One may have been completed just before.
                if full(entry) {
                    return false;
                }
            }
        }
        true
    }
}

/// In how many microseconds to look whether the clock has reached `epoch`.
fn until(epoch: Epoch, now: Epoch) -> u64 {
    epoch.saturating_sub(now).saturating_mul(1_000).clamp(LEAST_TICK / 10, LONGEST_WAIT_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_stretches_and_shrinks() {
        let mut pace = Pace::new(4);
        for _ in 0..10 {
            pace.adapt(false);
        }
        assert_eq!(pace.tick, GREATEST_TICK);
        for _ in 0..20 {
            pace.adapt(true);
        }
        assert_eq!(pace.tick, LEAST_TICK);
    }
}
