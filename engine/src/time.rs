//! Time: epochs, watermarks and the clock.
//!
//! An *epoch* is the engine's logical time, a `u64` that counts milliseconds since 1970 and grows by at least one; what
//! happens in an epoch becomes visible together. A *watermark* is a source's promise that no row with an earlier event
//! time will follow. Event times and watermarks are microseconds since 1970, whatever unit a column has.
//!
//! This is the only file that reads the machine's clock: everything else is handed a [`Clock`], so that a test holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The engine's logical time; see the [module](self).
pub type Epoch = u64;

/// Which watermark of a job: each scan of a stream with a `WATERMARK FOR` has its own, numbered from 0 in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct WatermarkId(pub u32);

/// The watermarks of a job, by [`WatermarkId`]: microseconds since 1970, `None` before the first promise.
///
/// `i64::MAX` is the end of a bounded input: nothing will follow at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermarks {
    promised: Vec<Option<i64>>,
    over: bool,
}

impl Watermarks {
    /// `count` watermarks, none promised yet.
    pub fn none(count: usize) -> Self {
        Self { promised: vec![None; count], over: false }
    }

    /// All inputs have ended, also those without a watermark: this epoch is the last.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Whether no epoch follows: what is held back is to be said now.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The watermark, in microseconds.
    pub fn get(&self, id: WatermarkId) -> Option<i64> {
        self.promised.get(id.0 as usize).copied().flatten()
    }

    /// Moves a watermark forward; one that would go back is ignored. Answers whether it moved.
    pub fn advance(&mut self, id: WatermarkId, to: i64) -> bool {
        let index = id.0 as usize;
        if self.promised.len() <= index {
            self.promised.resize(index + 1, None);
        }
        match &mut self.promised[index] {
            Some(old) if *old >= to => false,
            slot => {
                *slot = Some(to);
                true
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.promised.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.promised.is_empty()
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = (WatermarkId, Option<i64>)> + '_ {
        self.promised.iter().enumerate().map(|(index, at)| (WatermarkId(index as u32), *at))
    }
}

/// Where the time of day comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Microseconds since 1970-01-01 UTC.
    fn now_micros(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        #[allow(clippy::disallowed_methods)] // the one place
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that a test moves.
#[derive(Debug, Default, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `micros` since 1970.
    pub fn at(micros: i64) -> Self {
        Self(Arc::new(AtomicI64::new(micros)))
    }

    /// Moves the clock forward.
    pub fn advance_micros(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
