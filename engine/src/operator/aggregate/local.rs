//! The disposable half of an aggregate: it combines rows before they cross workers.
//!
//! What it holds may be flushed at any epoch's end; its state is partial rows like those it emits, and is at home on any
//! worker. Aggregates that show changes are flushed at every epoch's end. Windows that wait for the watermark are
//! flushed slice by slice when the watermark has passed the slice (so that what arrives for a slice that is over are
//! rows of that epoch alone, by which the final half tells late ones), and as a whole when they take much memory.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;

use super::closing::Horizon;
use super::output::{PIECE, batch, state_columns, table_parts};
use super::plan::{AggregatePlan, Input, Kind};
use super::table::{Rows, Shape, Table};
use super::windowed::for_each_slice;
use super::windows::Windows;
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::plan::flow::Emit;
use crate::state::slots::Slot;

/// See the [module](self).
pub(super) struct Local {
    input: Input,
    windows: Option<Windows>,
    horizon: Horizon,
    schema: SchemaRef,
    shape: Shape,
    /// Whether results wait for the watermark, so that rows may stay here until then.
    waits: bool,
    /// By slice; without windows all in one.
    slices: BTreeMap<i64, Table>,
    /// Whether an aggregate without keys must still say that it is there.
    announces: bool,
    combining: Combining,
    flushing: Vec<Flushing>,
}

/// A table that is on its way out.
struct Flushing {
    slice: i64,
    table: Table,
    groups: Vec<Slot>,
    at: usize,
}

/// Whether combining rows makes fewer of them: groups against rows, over stretches of rows.
#[derive(Debug, Default)]
struct Combining {
    rows: usize,
    groups: usize,
    /// Rows that go out uncombined before the next try.
    pause: usize,
}

impl Combining {
    /// Rows over which groups are counted.
    const PROBE: usize = 100_000;
    /// Rows that go out uncombined after a probe that saved little.
    const PAUSE: usize = 1_000_000;

    fn is_paused(&mut self, rows: usize) -> bool {
        let paused = self.pause > 0;
        self.pause = self.pause.saturating_sub(rows);
        paused
    }

    /// Takes note of rows that began so many groups.
    fn saw(&mut self, rows: usize, groups: usize) {
        self.rows += rows;
        self.groups += groups;
        if self.rows < Self::PROBE {
            return;
        }
        let in_vain = self.groups * 2 > self.rows;
        *self = Self { pause: if in_vain { Self::PAUSE } else { 0 }, ..Self::default() };
    }
}

/// Bytes that a local half holds at most between epochs.
const BUDGET: usize = 32 << 20;

impl Local {
    pub(super) fn new(plan: &AggregatePlan) -> Result<Self> {
        let calls = plan.local_calls()?;
        let (windows, watermark) = match &plan.kind {
            Kind::Windowed { windows, watermark, .. } => (Some(*windows), *watermark),
            Kind::Running { .. } => (None, None),
        };
        Ok(Self {
            input: plan.raw_input(calls.clone()),
            windows,
            horizon: Horizon::new(watermark),
            schema: plan.partial_schema(),
            shape: Shape { calls, ..plan.shape() },
            waits: plan.emit == Emit::AfterWatermark && windows.is_some(),
            slices: BTreeMap::new(),
            announces: windows.is_none() && plan.keys.is_empty(),
            combining: Combining::default(),
            flushing: Vec::new(),
        })
    }

    fn add(&mut self, slice: i64, rows: &Rows, out: &mut Output) -> Result<()> {
        if self.windows.is_some_and(|windows| windows.last_end(slice).is_none()) {
            return Ok(());
        }
        if !rows.partial && self.combining.is_paused(rows.count) {
            return self.emit(slice, Table::uncombined(&self.shape, rows)?, out);
        }
        let table = match self.slices.entry(slice) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Table::new(&self.shape)?),
        };
        table.add(rows)?;
        let begun = table.created().len();
        self.combining.saw(rows.count, begun);
        Ok(())
    }

    fn emit(&self, slice: i64, rows: Rows, out: &mut Output) -> Result<()> {
        let count = rows.count;
        let columns = state_columns(rows, self.windows.map(|_| slice).as_slice());
        out.push(Delta::append(batch(&self.schema, columns, count)?));
        Ok(())
    }

    /// Begins to flush the slices that `leaves` says.
    fn flush(&mut self, leaves: impl Fn(i64) -> bool) {
        let kept = std::mem::take(&mut self.slices);
        for (slice, table) in kept {
            if leaves(slice) {
                let groups = table.live();
                self.flushing.push(Flushing { slice, table, groups, at: 0 });
            } else {
                self.slices.insert(slice, table);
            }
        }
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        while let Some(mut flushing) = self.flushing.pop() {
            let to = flushing.groups.len().min(flushing.at + PIECE);
            let rows = flushing.table.states(&flushing.groups[flushing.at..to])?;
            self.emit(flushing.slice, rows, out)?;
            flushing.at = to;
            if to < flushing.groups.len() {
                self.flushing.push(flushing);
            }
            if out.exhausted() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }

    fn bytes(&self) -> usize {
        self.slices.values().map(Table::bytes).sum()
    }
}

impl Operator for Local {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let read = self.input.read(delta)?;
        match self.windows {
            Some(windows) => for_each_slice(&windows, &read, |slice, rows, _| self.add(slice, rows, out))?,
            None => self.add(0, &read.rows, out)?,
        }
        if self.bytes() > BUDGET {
            self.flush(|_| true);
            return self.go_on(out);
        }
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if std::mem::take(&mut self.announces) && self.slices.is_empty() {
            let sole = Rows { keys: Vec::new(), calls: Vec::new(), weights: None, count: 1, partial: true };
            self.add(0, &sole, out)?;
        }
        self.horizon.advance(self.horizon.with(epoch.watermarks));
        match self.windows.filter(|_| self.waits && self.combining.pause == 0) {
            Some(windows) => {
                let over = self.horizon.at();
                self.flush(|slice| windows.slice_end(slice) <= over);
            }
            None => self.flush(|_| true),
        }
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let mut parts = Vec::new();
        for (slice, table) in &mut self.slices {
            let between = self.windows.map(|_| *slice);
            parts.extend(table_parts(PARTIAL, &self.schema, table, between.as_slice(), &[])?);
        }
        Ok(parts)
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        // It lives from one flush to the next.
        let rows = self.snapshot()?.into_iter().map(|part| part.rows).collect();
        Ok(Some(vec![StateChange::Whole { name: PARTIAL.to_owned(), rows }]))
    }

    fn state_size(&self) -> StateSize {
        StateSize { rows: self.slices.values().map(Table::len).sum(), bytes: self.bytes() }
    }
}

/// The part of a snapshot that holds rows which were not flushed yet.
pub(super) const PARTIAL: &str = "partial";
