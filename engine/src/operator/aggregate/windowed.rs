//! Aggregates per window and key, each window shown once, when the watermark says that it is complete.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;

use super::bases::Bases;
use super::closing::Horizon;
use super::local::PARTIAL;
use super::output::{PIECE, WindowOutput, no_changes, restored, table_changes, table_parts};
use super::plan::{AggregatePlan, Input, Kind, Read};
use super::table::{Rows, Shape, Table};
use super::windows::{Part, Window, Windows, micros};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::build::Role;
use crate::operator::change::Below;
use crate::operator::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::state::slots::Slot;

/// See the [module](self).
///
/// Rows go into slices, which windows share. A window that closes is one slice (TUMBLE); the merged states of its slices
/// (HOP); or a base that grows from window to window by the slices that it has not taken up yet (CUMULATE).
pub(super) struct Windowed {
    input: Input,
    windows: Windows,
    output: WindowOutput,
    state_schema: SchemaRef,
    /// Of what a local half had not flushed at a snapshot: it is taken up here, on however many workers.
    partial_schema: SchemaRef,
    shape: Shape,
    /// Rows come as they are, not added up by local halves.
    is_whole: bool,
    horizon: Horizon,
    slices: BTreeMap<i64, Table>,
    /// Windows that have rows and were not shown, the first to close first.
    open: BTreeSet<Window>,
    /// CUMULATE: what windows of one start have taken up.
    bases: Bases,
    closing: Option<Closing>,
    /// Groups of the window that was closed last.
    last_groups: usize,
}

/// Windows up to `to` are being closed.
struct Closing {
    to: i64,
    window: Option<OpenedWindow>,
}

/// The window at work.
struct OpenedWindow {
    window: Window,
    table: Table,
    /// Slices that the table has still to take up.
    slices: Vec<i64>,
    /// The groups of the slice, or (once all slices were taken up) of the window, and how many of them were handled.
    groups: Option<(Vec<Slot>, usize)>,
}

impl Windowed {
    pub(super) fn new(plan: &AggregatePlan, role: Role) -> Result<Self> {
        let Kind::Windowed { windows, watermark, layout, .. } = &plan.kind else {
            return Err(Error::internal("a running aggregate is not a windowed one"));
        };
        Ok(Self {
            input: if role == Role::Final { plan.partial_input() } else { plan.raw_input(plan.calls.clone()) },
            windows: *windows,
            output: WindowOutput::new(&plan.schema, layout),
            state_schema: plan.state_schema(&["_slice"]),
            partial_schema: plan.partial_schema(),
            shape: plan.shape(),
            is_whole: role == Role::Whole,
            horizon: Horizon::new(*watermark),
            slices: BTreeMap::new(),
            open: BTreeSet::new(),
            bases: Bases::default(),
            closing: None,
            last_groups: 0,
        })
    }

    /// Adds rows of one slice; those that no open window covers are dropped (and counted, if a closed one did).
    fn add(&mut self, slice: i64, rows: &Rows, count: u64, out: &mut Output) -> Result<()> {
        let Some(last_end) = self.windows.last_end(slice) else { return Ok(()) };
        if last_end <= self.horizon.at() {
            out.drop_late(count);
            return Ok(());
        }
        if !self.slices.contains_key(&slice) {
            self.open_windows(slice);
            // About as many groups as the slice before.
            let groups = self.slices.values().next_back().map_or(0, Table::len);
            self.slices.insert(slice, Table::with_room(&self.shape, groups)?);
        }
        match self.slices.get_mut(&slice) {
            Some(table) => table.add(rows),
            None => Ok(()),
        }
    }

    /// Takes note of the windows of a slice that are not closed.
    fn open_windows(&mut self, slice: i64) {
        let closed = self.horizon.at();
        self.open.extend(self.windows.covering(slice).take_while(|window| window.end > closed));
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        // Merging emits nothing, but takes as long.
        let mut fuel = Output::FUEL;
        loop {
            let Some(closing) = &mut self.closing else { return Ok(Step::Done) };
            let Some(opened) = &mut closing.window else {
                let to = closing.to;
                match self.open.first().copied().filter(|window| window.end <= to) {
                    Some(window) => {
                        self.open.remove(&window);
                        let opened = self.open_window(window)?;
                        self.closing = Some(Closing { to, window: Some(opened) });
                    }
                    None => {
                        self.horizon.advance(to);
                        self.release_slices();
                        self.closing = None;
                    }
                }
                continue;
            };
            match (&mut opened.groups, opened.slices.last()) {
                (Some((groups, at)), Some(slice)) => {
                    let to = groups.len().min(*at + PIECE);
                    if let Some(table) = self.slices.get_mut(slice) {
                        opened.table.add(&table.states(&groups[*at..to])?)?;
                    }
                    fuel = fuel.saturating_sub(to - *at);
                    *at = to;
                    if to == groups.len() {
                        opened.slices.pop();
                        opened.groups = None;
                    }
                }
                (None, Some(slice)) => {
                    let groups = self.slices.get(slice).map(Table::live).unwrap_or_default();
                    opened.groups = Some((groups, 0));
                }
                (None, None) => {
                    let groups = opened.table.live();
                    opened.groups = Some((opened.table.with_rows(groups)?, 0));
                }
                (Some((groups, at)), None) if *at == groups.len() => {
                    if let Some(opened) = closing.window.take() {
                        self.put_away(opened)?;
                    }
                }
                (Some((groups, at)), None) => {
                    let to = groups.len().min(*at + PIECE);
                    let piece = &groups[*at..to];
                    *at = to;
                    let (keys, results) = (opened.table.keys(piece)?, opened.table.results(piece)?);
                    out.push(Delta::append(self.output.batch(opened.window, &keys, results, piece.len())?));
                }
            }
            if out.exhausted() || fuel == 0 {
                return Ok(Step::Yield);
            }
        }
    }

    /// Begins to close a window.
    fn open_window(&mut self, window: Window) -> Result<OpenedWindow> {
        if self.windows.is_tumble() {
            let table = match self.slices.remove(&window.start) {
                Some(table) => table,
                None => Table::new(&self.shape)?,
            };
            return Ok(OpenedWindow { window, table, slices: Vec::new(), groups: None });
        }
        let table = match self.bases.take(window.start) {
            Some(base) => base,
            None => Table::with_room(&self.shape, self.last_groups)?,
        };
        let slices = self.slices.range(window.start..window.end).map(|(slice, _)| *slice).collect();
        Ok(OpenedWindow { window, table, slices, groups: None })
    }

    fn put_away(&mut self, opened: OpenedWindow) -> Result<()> {
        self.last_groups = opened.table.len();
        if !self.windows.is_cumulate() {
            return Ok(());
        }
        let Window { start, end } = opened.window;
        let taken: Vec<i64> = self.slices.range(start..end).map(|(slice, _)| *slice).collect();
        for slice in taken {
            if let Some(table) = self.slices.remove(&slice) {
                self.bases.took_up(slice, &table)?;
            }
        }
        if self.windows.last_end(start).is_some_and(|last| last > end) {
            self.bases.put(start, opened.table);
        }
        Ok(())
    }

    fn release_slices(&mut self) {
        while let Some((slice, _)) = self.slices.first_key_value() {
            match self.windows.last_end(*slice) {
                Some(last) if last > self.horizon.at() => return,
                _ => self.slices.pop_first(),
            };
        }
    }

    /// All is read back: changes are noted from now on.
    fn note_changes(&mut self) {
        self.slices.values_mut().for_each(Table::note_changes);
        self.bases.note_changes();
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        let opened = self.closing.iter().filter_map(|closing| closing.window.as_ref()).map(|opened| &opened.table);
        self.slices.values().chain(self.bases.tables()).chain(opened)
    }
}

impl Operator for Windowed {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        keep_late(&self.input, &self.windows, self.horizon, &delta, out)?;
        let read = self.input.read(delta)?;
        for_each_slice(&self.windows.clone(), &read, |slice, rows, count| self.add(slice, rows, count, out))?;
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        let to = self.horizon.with(epoch.watermarks);
        if to > self.horizon.at() {
            self.closing = Some(Closing { to, window: None });
        }
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let mut parts = vec![self.horizon.snapshot()?];
        for (slice, table) in &mut self.slices {
            parts.extend(table_parts(SLICES, &self.state_schema, table, &[*slice], &[])?);
        }
        parts.extend(self.bases.snapshot(&self.state_schema)?);
        Ok(parts)
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        let keys = self.shape.keys.len();
        let mut slices = no_changes(SLICES, keys + 1);
        for (slice, table) in &mut self.slices {
            table_changes(&mut slices, &self.state_schema, table, &[*slice], &[])?;
        }
        let cumulates = self.windows.is_cumulate();
        let first = if cumulates {
            // A slice that was taken up may begin anew, as long as a window that covers it is open.
            self.windows.start_of(self.horizon.at())
        } else {
            self.slices.first_key_value().map_or(i64::MAX, |(slice, _)| *slice)
        };
        slices.below = Some(Below { column: keys + 1, at: first });
        let mut changes = vec![self.horizon.change()?];
        if cumulates {
            changes.push(StateChange::Rows(self.bases.changes(&self.state_schema, &mut slices)?));
        }
        changes.push(StateChange::Rows(slices));
        if self.is_whole {
            // Local halves, of which there are none, had it once.
            changes.push(StateChange::Whole { name: PARTIAL.to_owned(), rows: Vec::new() });
        }
        Ok(Some(changes))
    }

    fn restore(&mut self, mut parts: Vec<StatePart>) -> Result<()> {
        // The horizon first: it says which windows are open.
        for part in parts.iter().filter(|part| part.name == Horizon::PART) {
            self.horizon.restore(part)?;
        }
        // What local halves had is taken up last, as a change: it is no longer where it was written.
        parts.sort_by_key(|part| part.name == PARTIAL);
        let mut is_noting = false;
        let mut out = Output::default();
        for part in parts.iter().filter(|part| part.name != Horizon::PART) {
            if part.name == PARTIAL && !std::mem::replace(&mut is_noting, true) {
                self.note_changes();
            }
            let schema = match part.name.as_str() {
                SLICES | Bases::PART => &self.state_schema,
                PARTIAL => &self.partial_schema,
                other => return Err(Error::internal(format!("a windowed aggregate has no state '{other}'"))),
            };
            let read = restored_slices(part, schema, &self.shape)?;
            for_each_slice(&self.windows.clone(), &read, |slice, rows, count| {
                if part.name == Bases::PART {
                    self.open_windows(slice);
                    return self.bases.restore(slice, rows, &self.shape);
                }
                self.add(slice, rows, count, &mut out)
            })?;
        }
        if !is_noting {
            self.note_changes();
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            rows: self.tables().map(Table::len).sum(),
            bytes: self.tables().map(Table::bytes).sum::<usize>() + self.bases.bytes(),
        }
    }
}

/// Keeps the rows that no open window covers, and a closed one did.
pub(super) fn keep_late(
    input: &Input,
    windows: &Windows,
    horizon: Horizon,
    delta: &Delta,
    out: &mut Output,
) -> Result<()> {
    let Some(column) = input.time_column().filter(|_| out.keeps_late()) else { return Ok(()) };
    let times = micros(delta.rows().column(column))?;
    let is_late = |time| windows.last_end(windows.slice_of(time)).is_some_and(|end| end <= horizon.at());
    out.late(0, delta.rows(), &times.iter().map(|time| Some(time.is_some_and(is_late))).collect())
}

/// Rows of slices, as a snapshot holds them.
pub(super) fn restored_slices(part: &StatePart, schema: &SchemaRef, shape: &Shape) -> Result<Read> {
    let rows = restored(part, schema)?;
    let keys = shape.keys.len();
    let times = Some(micros(rows.column(keys))?);
    Ok(Read { times, rows: Rows::partial(&rows, keys, keys + 1, &shape.calls), totals: None })
}

/// Calls `add` with the rows of each slice, and the number of (raw) rows that they stand for.
pub(super) fn for_each_slice(
    windows: &Windows,
    read: &Read,
    mut add: impl FnMut(i64, &Rows, u64) -> Result<()>,
) -> Result<()> {
    let Read { rows, times: Some(times), totals } = read else {
        return Err(Error::internal("a windowed aggregate read rows without times"));
    };
    for (slice, part) in windows.split(times) {
        let count = match (totals, &part) {
            (None, part) => part.len() as u64,
            (Some(totals), Part::Run(run)) => totals.values()[run.clone()].iter().sum::<i64>() as u64,
            (Some(totals), Part::Rows(rows)) => {
                rows.values().iter().map(|row| totals.value(*row as usize)).sum::<i64>() as u64
            }
        };
        match part {
            Part::Run(run) if run.len() == rows.count => add(slice, rows, count)?,
            Part::Run(run) => add(slice, &rows.slice(run.start, run.len())?, count)?,
            Part::Rows(indices) => add(slice, &rows.take(&indices)?, count)?,
        }
    }
    Ok(())
}

/// The part of a snapshot that holds slices.
const SLICES: &str = "slices";
