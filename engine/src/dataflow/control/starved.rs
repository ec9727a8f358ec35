//! Jobs whose sources wait, since all jobs together hold as much as they may.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Control, Status};

/// How often jobs that wait for memory are looked at.
const STARVED_LOOK_MICROS: u64 = 20_000;
/// Whoever waits for memory no longer than this does not say so.
const STARVED_MICROS: u64 = 500_000;
/// Who waits.
const STARVED: &str = "the job";

impl Control {
    /// Lets sources go on that waited for memory, and says of jobs that wait for long that they do. Answers in how many
    /// microseconds to look again.
    pub(super) fn feed_starved(&mut self, micros: u64) -> Option<u64> {
        if !self.pool.memory.wanted.load(Ordering::SeqCst) {
            return None;
        }
        let memory = Arc::clone(&self.pool.memory);
        let room = memory.has_room();
        if room {
            memory.wanted.store(false, Ordering::SeqCst);
        }
        for entry in self.jobs.values_mut() {
            let mut starved =
                entry.job.sources.iter().filter(|source| source.starved.load(Ordering::SeqCst)).peekable();
            let is_starved = starved.peek().is_some() && matches!(entry.status, Status::Running);
            if room {
                for source in starved {
                    source.starved.store(false, Ordering::SeqCst);
                    source.wake_up.activate();
                }
            }
            match entry.starved {
                None if is_starved && !room => entry.starved = Some((micros, false)),
                Some((since, false)) if !room && micros > since + STARVED_MICROS => {
                    entry.starved = Some((since, true));
                    let [used, limit, moving] =
                        [memory.used(), memory.limit(), memory.in_flight()].map(|bytes| bytes >> 20);
                    let what =
                        format!("memory: all jobs together hold {used} MiB of {limit} MiB, {moving} MiB on their way");
                    entry.job.observer.waits_for(STARVED, Some(what));
                }
                Some((_, told)) if room => {
                    entry.starved = None;
                    if told {
                        entry.job.observer.waits_for(STARVED, None);
                    }
                }
                _ => {}
            }
        }
        (!room).then_some(STARVED_LOOK_MICROS)
    }
}
