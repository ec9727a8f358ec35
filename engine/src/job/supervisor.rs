//! Starts jobs again that have failed: from their last checkpoints, after a pause that grows, and not for ever.
//!
//! What fails for a reason outside (a broker, a disk, a fault of Rondel's own) is tried again. What fails for its data or
//! its limits would fail in the same way again: it stays FAILED until somebody has looked.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::rounds::Rounds;
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};

/// Before the first attempt; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A job that has run for so long begins with a new budget.
const RECOVERED: Duration = Duration::from_secs(600);
/// Attempts before a job is left alone.
const ATTEMPTS: u32 = 8;

#[derive(Debug, Clone, Copy)]
struct Attempts {
    made: u32,
    last: Instant,
    next: Option<Instant>,
}

/// Looks after the jobs of an engine, as long as it is there; see the [module](self).
pub(crate) fn supervise(engine: Weak<Engine>) -> Result<Rounds> {
    let mut attempts = HashMap::new();
    Rounds::start("rondel:supervisor", engine, move |engine| look(engine, &mut attempts))
}

fn look(engine: &Arc<Engine>, attempts: &mut HashMap<u64, Attempts>) {
    for (name, live) in engine.live.all() {
        let Some(job) = live.job() else { continue };
        let Some(error) = job.failure() else { continue };
        if !matches!(error.kind(), ErrorKind::External | ErrorKind::Internal) {
            continue;
        }
        let now = Instant::now();
        let of_job = attempts.entry(job.id).or_insert(Attempts { made: 0, last: now, next: None });
        if of_job.made > 0 && of_job.next.is_none() && now.duration_since(of_job.last) > RECOVERED {
            of_job.made = 0;
        }
        if of_job.made >= ATTEMPTS {
            continue;
        }
        let Some(next) = of_job.next else {
            let pause = (FIRST_PAUSE * 2_u32.saturating_pow(of_job.made)).min(LONGEST_PAUSE);
            of_job.next = Some(now + pause);
            tracing::warn!(job = %name, "starts again in {pause:?}, attempt {} of {ATTEMPTS}", of_job.made + 1);
            continue;
        };
        if next > now {
            continue;
        }
        *of_job = Attempts { made: of_job.made + 1, last: now, next: None };
        if let Err(error) = engine.restart_failed(&name) {
            tracing::warn!(job = %name, "could not be started again: {error}");
        }
    }
}
