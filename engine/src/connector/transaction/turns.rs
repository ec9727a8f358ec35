//! The two producers, and whose turn it is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::{TransactionalLog, TransactionalProducer};
use crate::connector::two_phase::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::safeguard::Safeguard;
use crate::time::Epoch;

type Producer = Arc<dyn TransactionalProducer>;

/// See the [module](self).
pub(super) struct Turns {
    log: Arc<dyn TransactionalLog>,
    /// Of the deployment and the job alone: whatever version, machine or attempt writes, it fences the one before.
    ids: [String; 2],
    workers: usize,
    state: Mutex<State>,
}

struct State {
    producers: [Producer; 2],
    /// Earlier runs are fenced: writing may begin.
    ready: bool,
    /// The interval that is written now; the producer's number is its last bit.
    open: u64,
    /// How many workers have ended it.
    ended: usize,
    /// At the end of which epoch it ends, once a worker has said so.
    end: Option<Epoch>,
    /// Intervals that all workers have ended and that are not committed, with their ends.
    waiting: VecDeque<(u64, Epoch)>,
    /// All intervals before it are committed.
    committed: u64,
    /// Which producers' transactions may have records.
    written: [bool; 2],
    /// Why nothing is written any more.
    over: Option<Error>,
}

/// What would tell runs apart that are to fence each other.
fn another_run() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    format!("-{}", RUNS.fetch_add(1, Ordering::Relaxed))
}

/// Workers have ended an interval, all or some, and there is no checkpoint of it.
fn given_up() -> Error {
    Error::new(
        ErrorKind::External,
        "the checkpoint before was given up when its output was complete, so that it can be neither shown nor taken back",
    )
    .with_hint("The job goes on from its last checkpoint.")
}

fn side(interval: u64) -> usize {
    usize::from(interval % 2 == 1)
}

impl State {
    /// Goes on to the next interval, if it may be written: every worker has ended this one, all of its records are
    /// acknowledged, and the other producer's transaction is known to be committed.
    fn advance(&mut self, workers: usize) -> Result<bool> {
        let free = self.ended == workers && self.committed >= self.open;
        if !free || (Safeguard::FlushedBefore.holds() && !self.producers[side(self.open)].acknowledged()?) {
            return Ok(false);
        }
        self.open += 1;
        self.ended = 0;
        self.end = None;
        Ok(true)
    }

    /// Whether a worker in this interval may write or end it.
    fn has_turn(&mut self, interval: u64, workers: usize) -> Result<bool> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        if !self.ready {
            return Ok(false);
        }
        match interval {
            _ if interval == self.open => Ok(true),
            _ if interval == self.open + 1 => self.advance(workers),
            _ => Err(Error::internal(format!("interval {interval} is written while {} is open", self.open))),
        }
    }
}

impl Turns {
    /// Opens both producers.
    pub(super) fn open(log: Arc<dyn TransactionalLog>, writer: &Writer, workers: usize) -> Result<Self> {
        let run = if Safeguard::Fencing.holds() { String::new() } else { another_run() };
        let ids = [0, 1].map(|turn| format!("rondel-{}-{}-{turn}{run}", writer.deployment, writer.job));
        let producers = [log.producer(&ids[0])?, log.producer(&ids[1])?];
        let state = State {
            producers,
            ready: false,
            open: 0,
            ended: 0,
            end: None,
            waiting: VecDeque::new(),
            committed: 0,
            written: [false; 2],
            over: None,
        };
        Ok(Self { log, ids, workers, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer for a worker's records of its interval; `None`: it is not yet its turn.
    pub(super) fn admit(&self, interval: u64) -> Result<Option<Producer>> {
        let mut state = self.lock();
        if !state.has_turn(interval, self.workers)? {
            return Ok(None);
        }
        state.written[side(interval)] = true;
        Ok(Some(Arc::clone(&state.producers[side(interval)])))
    }

    /// A worker has given all its records of an interval. `false`: the interval before is not through; ask again.
    pub(super) fn end(&self, interval: u64, epoch: Epoch) -> Result<bool> {
        let mut state = self.lock();
        if !state.has_turn(interval, self.workers)? {
            return Ok(false);
        }
        if *state.end.get_or_insert(epoch) != epoch {
            return Err(given_up());
        }
        state.ended += 1;
        if state.ended == self.workers {
            state.waiting.push_back((interval, epoch));
        }
        Ok(true)
    }

    /// The interval that ended with this epoch on all workers and waits for its commit, with its producer.
    pub(super) fn ended_at(&self, epoch: Epoch) -> Result<(u64, Producer)> {
        let state = self.lock();
        if let Some(error) = &state.over {
            return Err(error.clone());
        }
        let Some((interval, _)) = state.waiting.iter().find(|(_, end)| *end == epoch) else {
            return Err(Error::internal(format!("no interval of the sink has ended with epoch {epoch}")));
        };
        if *interval != state.committed {
            return Err(given_up());
        }
        Ok((*interval, Arc::clone(&state.producers[side(*interval)])))
    }

    /// An interval is known to be committed; its producer begins the next transaction.
    pub(super) fn committed(&self, interval: u64) -> Result<()> {
        let producer = {
            let mut state = self.lock();
            state.waiting.retain(|(waiting, _)| *waiting != interval);
            state.written[side(interval)] = false;
            Arc::clone(&state.producers[side(interval)])
        };
        let begun = producer.begin();
        let mut state = self.lock();
        match begun {
            Ok(()) => state.committed = interval + 1,
            // What is committed is committed; the next record finds out.
            Err(trouble) => _ = state.over.get_or_insert(trouble.into_error()),
        }
        Ok(())
    }

    /// Both producers.
    pub(super) fn producers(&self) -> [Producer; 2] {
        self.lock().producers.clone()
    }

    /// Opens an interval's producer anew: the one that was is of no use any more.
    pub(super) fn reopen(&self, interval: u64) -> Result<Producer> {
        let producer = self.log.producer(&self.ids[side(interval)])?;
        self.lock().producers[side(interval)] = Arc::clone(&producer);
        Ok(producer)
    }

    /// Earlier runs are fenced and both transactions begun.
    pub(super) fn ready(&self) {
        self.lock().ready = true;
    }

    /// Whether transactions may have records that are not committed.
    pub(super) fn has_written(&self) -> bool {
        self.lock().written.contains(&true)
    }

    /// Nothing is written any more; the first reason stands.
    pub(super) fn stop(&self, reason: &Error) {
        self.lock().over.get_or_insert_with(|| reason.clone());
    }
}
