//! The simulated pool: real worker threads under a baton. Whoever calls holds it and hands it, as the seed says, to a
//! worker for a few steps, to the control for a turn, or moves the clock.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use timely::communication::WorkerGuards;

use crate::error::Result;
use crate::time::{Clock, Epoch, ManualClock};

use super::control::{Control, PoolShared, Request};
use super::flow_control::lock;
use super::pool::{EpochLease, millis, spawn_workers};
use super::worker::Worker;

/// Where simulated time starts: 2024-01-01 UTC.
const START_MICROS: i64 = 1_704_067_200_000_000;

#[derive(Default)]
struct Turn {
    /// Whose turn it is, and for how many steps.
    worker: Option<(usize, usize)>,
    /// Everyone goes home.
    over: bool,
}

struct Baton {
    turn: Mutex<Turn>,
    /// Where each worker waits for its turn: a step is short, and nobody else is to be woken for it.
    handed: Vec<Condvar>,
    /// Where whoever lends it waits.
    returned: Condvar,
}

fn wait<'a>(on: &Condvar, turn: MutexGuard<'a, Turn>) -> MutexGuard<'a, Turn> {
    on.wait(turn).unwrap_or_else(PoisonError::into_inner)
}

impl Baton {
    fn of(workers: usize) -> Self {
        let handed = (0..workers).map(|_| Condvar::new()).collect();
        Self { turn: Mutex::default(), handed, returned: Condvar::new() }
    }

    /// Hands the baton to a worker and takes it back.
    fn lend(&self, worker: usize, steps: usize) {
        let mut turn = lock(&self.turn);
        turn.worker = Some((worker, steps));
        self.handed[worker].notify_one();
        while turn.worker.is_some() && !turn.over {
            turn = wait(&self.returned, turn);
        }
    }

    /// Everyone goes home.
    fn end(&self) {
        lock(&self.turn).over = true;
        self.returned.notify_all();
        self.handed.iter().for_each(Condvar::notify_all);
    }

    /// A worker's life: waits for its turns.
    fn live(&self, index: usize, worker: &mut Worker) {
        loop {
            let mut turn = lock(&self.turn);
            let steps = loop {
                if turn.over {
                    return;
                }
                match turn.worker {
                    Some((whose, steps)) if whose == index => break steps,
                    _ => turn = wait(&self.handed[index], turn),
                }
            };
            drop(turn);
            let goes_on = worker.obey();
            for _ in 0..steps {
                worker.step();
            }
            lock(&self.turn).worker = None;
            self.returned.notify_one();
            if !goes_on {
                return;
            }
        }
    }
}

/// Ends the simulation when a worker's thread panics, so that the caller does not wait for it.
struct Returned(Arc<Baton>);

impl Drop for Returned {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

/// What is around a simulated pool and has turns of its own.
pub trait Outside: Send + Sync {
    /// Its turn. `false`: the process is killed, and nothing happens in it any more.
    fn turn(&self) -> bool;
}

/// See the [module](self).
pub(crate) struct Simulation {
    baton: Arc<Baton>,
    workers: usize,
    threads: Option<WorkerGuards<()>>,
    control: Control,
    shared: Arc<PoolShared>,
    clock: ManualClock,
    random: StdRng,
    trace: Vec<u64>,
    outside: Option<Arc<dyn Outside>>,
}

impl Simulation {
    pub(crate) fn start(
        shared: &Arc<PoolShared>,
        (last_epoch, lease): (Epoch, Option<Arc<dyn EpochLease>>),
        seed: u64,
        outside: Option<Arc<dyn Outside>>,
    ) -> Result<Self> {
        let baton = Arc::new(Baton::of(shared.workers.len()));
        let of_workers = Arc::clone(&baton);
        let threads = spawn_workers(shared, None, move |worker| {
            let _returned = Returned(Arc::clone(&of_workers));
            of_workers.live(worker.index(), worker);
        })?;
        Ok(Self {
            baton,
            workers: shared.workers.len(),
            threads: Some(threads),
            control: Control::new(Arc::clone(shared), last_epoch, lease),
            shared: Arc::clone(shared),
            clock: ManualClock::at(START_MICROS),
            random: StdRng::seed_from_u64(seed),
            trace: Vec::new(),
            outside,
        })
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    /// Moves the clock.
    pub(crate) fn pass(&mut self, micros: i64) {
        self.clock.advance_micros(micros);
    }

    pub(crate) fn trace(&self) -> &[u64] {
        &self.trace
    }

    /// One party's turn, after one of what is outside. `false`: the pool is over.
    pub(crate) fn turn(&mut self) -> bool {
        if self.threads.is_none() || self.outside.as_ref().is_some_and(|outside| !outside.turn()) {
            return false;
        }
        let party = self.random.random_range(0..self.workers + 2);
        let length: usize = 1 << self.random.random_range(0..4);
        if party < self.workers {
            self.baton.lend(party, length);
        } else if party == self.workers {
            let micros = u64::try_from(self.clock.now_micros() - START_MICROS).unwrap_or(0);
            self.control.turn(millis(&self.clock), micros);
        } else {
            self.clock.advance_micros(length as i64 * 1_000);
        }
        if self.outside.is_some() {
            // The seed is that of the whole world, which has figures of its own.
            return true;
        }
        self.trace.push((party as u64) << 32 | length as u64);
        for entry in self.control.jobs.values() {
            let metrics = entry.job.metrics();
            self.trace.extend([metrics.frontier, metrics.rows_in, metrics.rows_out, metrics.bytes_in_flight as u64]);
        }
        true
    }

    pub(crate) fn stop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        let (reply, _) = std::sync::mpsc::sync_channel(1);
        self.shared.ask(Request::Shutdown(reply));
        self.control.turn(0, 0);
        // Each drops its jobs, then its thread ends.
        for worker in 0..self.workers {
            self.baton.lend(worker, 0);
        }
        self.baton.end();
        for worker in threads.join() {
            let _ = worker;
        }
    }
}
