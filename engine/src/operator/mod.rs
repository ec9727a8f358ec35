//! Operators: pure, synchronous state machines. Deltas in, deltas out.
//!
//! An operator knows no thread, no clock, no I/O and nothing of timely; it is tested by calling it. The adaptor in
//! `dataflow/` hosts *chains* of operators between two exchanges and keeps this contract:
//!
//! * each epoch begins with [`Operator::begin_epoch`], its deltas come before its [`Operator::on_epoch_end`], and epochs
//!   come one after the other;
//! * after [`Step::Yield`] the operator gets nothing but [`Operator::resume`] until it answers [`Step::Done`]; what it
//!   had put into the [`Output`] is handed downstream between the calls;
//! * after an error or a panic it is never called again;
//! * [`Operator::snapshot`] comes only between epochs (after `on_epoch_end` was done), [`Operator::restore`] only first.

pub mod aggregate;
pub mod asof;
pub mod build;
pub mod change;
pub(crate) mod columns;
pub mod consolidate;
mod counted;
pub mod deferred;
pub mod expression;
pub mod filter;
mod held;
pub mod join;
pub mod over;
pub mod project;
pub(crate) mod recognize;
pub mod session;
pub mod set;
pub mod show;
pub mod single_row;
pub mod temporal_filter;
pub mod union;
pub mod unnest;
pub mod values;
pub mod window;

use std::sync::Arc;

use crate::delta::Delta;
use crate::error::Result;
use crate::state::spill::{SpillSpace, SpilledSize};
use crate::time::{Epoch, Watermarks};
use arrow::array::BooleanArray;
use arrow::record_batch::RecordBatch;
pub use change::StateChange;
pub use deferred::{DeferredPart, DeferredRows};

/// Whether an operator has said all that it has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// All said.
    Done,
    /// There is more: hand on what is in the output and call [`Operator::resume`].
    Yield,
}

/// The end of an epoch, as an operator sees it.
#[derive(Debug, Clone, Copy)]
pub struct EpochContext<'a> {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// The epoch's own time, in microseconds since 1970: what `now()` is in it.
    pub now_micros: i64,
    /// The job's watermarks at the end of this epoch, merged over all workers.
    pub watermarks: &'a Watermarks,
}

/// Part of what an operator remembers: rows whose first column, `_group` (UInt8), is the key group of each row, so that
/// a job can be restored on another number of workers.
#[derive(Debug, Clone)]
pub struct StatePart {
    /// Which part of the operator's state; unique within the operator and stable across versions.
    pub name: String,
    /// The rows. Types are Arrow's own: no row-format bytes, which could change between versions.
    pub rows: RecordBatch,
}

/// How much an operator remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Rows or groups.
    pub rows: usize,
    /// Bytes of memory; what is on disk is not counted.
    pub bytes: usize,
}

/// What an operator emits in one call, and the fuel that the call has left.
///
/// Fuel is counted in rows (about a millisecond's worth a call, [`Output::FUEL`]). An operator whose output is not
/// bounded by its input (a join, a closing pane, a snapshot) checks [`Output::exhausted`] and answers [`Step::Yield`].
#[derive(Debug)]
pub struct Output {
    deltas: Vec<Delta>,
    rows: usize,
    fuel: usize,
    late_rows: u64,
    /// Where late rows are wanted: those since the last time that they were taken.
    late: Option<Vec<LateRows>>,
}

/// Rows of an operator's input that came too late.
#[derive(Debug)]
pub struct LateRows {
    /// Which input.
    pub input: usize,
    /// The rows.
    pub rows: RecordBatch,
}

impl Default for Output {
    fn default() -> Self {
        Self::with_fuel(Self::FUEL)
    }
}

impl Output {
    /// Rows that one call may emit before it should yield.
    pub const FUEL: usize = 32 * 1024;

    /// An empty output with fuel for `rows` rows.
    pub fn with_fuel(rows: usize) -> Self {
        Self { deltas: Vec::new(), rows: 0, fuel: rows, late_rows: 0, late: None }
    }

    /// Emits a delta; an empty one is dropped.
    pub fn push(&mut self, delta: Delta) {
        if !delta.is_empty() {
            self.rows += delta.num_rows();
            self.deltas.push(delta);
        }
    }

    /// Whether this call has emitted enough: say the rest after the next [`Operator::resume`].
    pub fn exhausted(&self) -> bool {
        self.rows >= self.fuel
    }

    /// Counts rows that came too late and were dropped.
    pub fn drop_late(&mut self, rows: u64) {
        self.late_rows += rows;
    }

    /// From now on late rows are kept until they are taken.
    pub fn keep_late(&mut self) {
        self.late.get_or_insert_default();
    }

    /// Whether late rows are to be kept ([`Output::late`]); all are to be counted ([`Output::drop_late`]).
    pub fn keeps_late(&self) -> bool {
        self.late.is_some()
    }

    /// Keeps the rows of an input for which `late` is true.
    pub fn late(&mut self, input: usize, rows: &RecordBatch, late: &BooleanArray) -> Result<()> {
        if let Some(kept) = &mut self.late
            && late.true_count() > 0
        {
            kept.push(LateRows { input, rows: arrow::compute::filter_record_batch(rows, late)? });
        }
        Ok(())
    }

    /// Takes the late rows that were kept.
    pub fn take_late(&mut self) -> Vec<LateRows> {
        self.late.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes what was emitted and refuels; the second value is the number of late rows since the last call.
    pub fn take(&mut self) -> (Vec<Delta>, u64) {
        self.rows = 0;
        (std::mem::take(&mut self.deltas), std::mem::take(&mut self.late_rows))
    }
}

/// An operator; see the [module](self) for the contract.
pub trait Operator: Send {
    /// It stands on one of several workers; told before anything else.
    fn stand_on(&mut self, _worker: usize, _workers: usize) {}

    /// An epoch begins, before its first delta; `now_micros` is its [`EpochContext::now_micros`].
    fn begin_epoch(&mut self, _now_micros: i64) {}

    /// A delta on input `input` (0 for all but joins and unions), of the current epoch.
    fn on_delta(&mut self, input: usize, delta: Delta, out: &mut Output) -> Result<Step>;

    /// The end of the current epoch: all its deltas were given.
    fn on_epoch_end(&mut self, _epoch: &EpochContext<'_>, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }

    /// The earliest time of an epoch ([`EpochContext::now_micros`]) at which the operator has something to say even if
    /// nothing comes: an epoch is opened then. Asked after the end of each epoch; a time that is not later than the
    /// epoch's own opens none, since the operator had its say. A function of the state, so that a restored operator
    /// answers as the one did that was snapshot.
    fn next_timer(&self) -> Option<i64> {
        None
    }

    /// Goes on after [`Step::Yield`].
    fn resume(&mut self, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }

    /// All that the operator remembers at the end of an epoch. The operator goes on afterwards as if nothing had been.
    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        Ok(Vec::new())
    }

    /// What has changed since the last snapshot or call, or since [`Operator::restore`]; nothing but changes is copied, and
    /// the operator goes on as after a snapshot. `None`: it can't tell, and has to be asked for a snapshot. Which of the two
    /// depends on the operator's plan only: all workers answer alike.
    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        Ok(None)
    }

    /// Takes up what snapshots of this operator (of any number of workers) held for the key groups of this worker.
    /// Parts of one name may come several times.
    fn restore(&mut self, _parts: Vec<StatePart>) -> Result<()> {
        Ok(())
    }

    /// What of the last snapshot or changes was not given with them, since it is not in memory: it belongs to the parts that
    /// were, or is a part of its own of a snapshot.
    fn deferred(&mut self) -> Vec<DeferredPart> {
        Vec::new()
    }

    /// Whether [`Operator::restore`] may be called several times, each with some rows of the parts.
    fn restores_in_pieces(&self) -> bool {
        false
    }

    /// What memory has no room for may go to `space`; comes before anything else. An operator that can't put its state
    /// there keeps it in memory.
    fn spill_to(&mut self, _space: Arc<dyn SpillSpace>) {}

    /// How much of what the operator remembers is on disk; cheap enough to ask once an epoch.
    fn spilled(&self) -> SpilledSize {
        SpilledSize::default()
    }

    /// How much the operator remembers; cheap enough to ask once an epoch.
    fn state_size(&self) -> StateSize {
        StateSize::default()
    }

    /// How many different keys it remembers; `None`: as many as [`StateSize::rows`], since each has one row or group.
    fn state_keys(&self) -> Option<usize> {
        None
    }
}
