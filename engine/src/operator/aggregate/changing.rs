//! Aggregates per window and key, shown at the end of every epoch that changed them, at once or from the watermark on.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, SchemaRef};

use super::closing::Horizon;
use super::output::{PIECE, WindowOutput, forgotten_rows, no_changes, restored, table_changes, table_parts};
use super::plan::{AggregatePlan, Input, Kind};
use super::table::{Forgotten, Rows, Shape, Table};
use super::tracked::{Showing, Tracked};
use super::windowed::{for_each_slice, keep_late};
use super::windows::{Window, Windows};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::build::Role;
use crate::operator::change::Below;
use crate::operator::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::state::slots::Slot;

/// See the [module](self).
///
/// The rows of an epoch go into slices, and at its end each slice is merged into the windows that cover it: the work per
/// row doesn't grow with the number of windows, only that per changed group does, as the output must.
pub(super) struct Changing {
    input: Input,
    windows: Windows,
    output: WindowOutput,
    state_schema: SchemaRef,
    shape: Shape,
    /// Whether the output carries weights: not where rows are final when they are first shown (no aggregates).
    changelog: bool,
    horizon: Horizon,
    /// Windows beyond it are not shown yet.
    shown_from: Option<Horizon>,
    /// This epoch's rows (not for TUMBLE, whose rows go straight into their window).
    slices: BTreeMap<i64, Table>,
    open: BTreeMap<Window, Tracked>,
    /// Windows that changed since they were shown.
    touched: BTreeSet<Window>,
    /// Groups of windows that have none left, forgotten since the state was last written down.
    forgotten: Vec<(Window, Forgotten)>,
    ending: Option<Ending>,
}

/// Where the end of an epoch stands.
struct Ending {
    /// Where the horizon will be.
    to: i64,
    /// The slice that is being merged into its windows, its groups, and how many of them were.
    merging: Option<(i64, Table, Vec<Slot>, usize)>,
    showing: Option<(Window, Showing)>,
}

impl Changing {
    pub(super) fn new(plan: &AggregatePlan, role: Role) -> Result<Self> {
        let Kind::Windowed { windows, watermark, shown_from, layout, .. } = &plan.kind else {
            return Err(Error::internal("a running aggregate is not a windowed one"));
        };
        Ok(Self {
            input: if role == Role::Final { plan.partial_input() } else { plan.raw_input(plan.calls.clone()) },
            windows: *windows,
            output: WindowOutput::new(&plan.schema, layout),
            state_schema: plan.snapshot_schema(&["_start", "_end"]),
            shape: plan.shape(),
            changelog: plan.changelog,
            horizon: Horizon::new(*watermark),
            shown_from: shown_from.map(|promise| Horizon::new(Some(promise))),
            slices: BTreeMap::new(),
            open: BTreeMap::new(),
            touched: BTreeSet::new(),
            forgotten: Vec::new(),
            ending: None,
        })
    }

    fn add(&mut self, slice: i64, rows: &Rows, count: u64, out: &mut Output) -> Result<()> {
        let Some(last_end) = self.windows.last_end(slice) else { return Ok(()) };
        if last_end <= self.horizon.at() {
            out.drop_late(count);
            return Ok(());
        }
        if self.windows.is_tumble() {
            return self.add_to_windows(slice, rows);
        }
        let table = match self.slices.entry(slice) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Table::new(&self.shape)?),
        };
        table.add(rows)
    }

    /// Adds rows to each window that covers their slice and is not over.
    fn add_to_windows(&mut self, slice: i64, rows: &Rows) -> Result<()> {
        let closed = self.horizon.at();
        for window in self.windows.covering(slice).take_while(|window| window.end > closed) {
            self.touched.insert(window);
            self.window(window)?.add(rows)?;
        }
        Ok(())
    }

    /// The first window to close of those that changed and may be shown.
    fn first_to_show(&self) -> Option<Window> {
        let window = self.touched.first().copied()?;
        (!self.is_held_back(window)).then_some(window)
    }

    fn is_held_back(&self, window: Window) -> bool {
        self.shown_from.is_some_and(|from| window.end > from.at())
    }

    fn window(&mut self, window: Window) -> Result<&mut Tracked> {
        Ok(match self.open.entry(window) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Tracked::new(&self.shape, false)?),
        })
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        let mut fuel = Output::FUEL;
        loop {
            let Some(mut ending) = self.ending.take() else { return Ok(Step::Done) };
            if let Some((slice, mut table, groups, at)) = ending.merging.take() {
                let to = groups.len().min(at + PIECE);
                let rows = table.states(&groups[at..to])?;
                self.add_to_windows(slice, &rows)?;
                fuel = fuel.saturating_sub((to - at) * self.windows.covering(slice).size_hint().0.max(1));
                if to < groups.len() {
                    ending.merging = Some((slice, table, groups, to));
                }
            } else if let Some((slice, table)) = self.slices.pop_first() {
                let groups = table.live();
                ending.merging = Some((slice, table, groups, 0));
            } else if let Some((window, mut showing)) = ending.showing.take() {
                let piece = match self.open.get_mut(&window) {
                    Some(groups) => groups.show(&mut showing, PIECE)?,
                    None => None,
                };
                if let Some(change) = piece {
                    let rows = self.output.batch(window, &change.keys, change.results, change.weights.len())?;
                    out.push(Delta::new(rows, self.changelog.then_some(change.weights)));
                    ending.showing = Some((window, showing));
                } else if let Some(groups) = self.open.get_mut(&window) {
                    let vanished = groups.vanished();
                    groups.table().release(&vanished)?;
                    if groups.len() == 0 {
                        let forgotten = groups.table().take_forgotten();
                        self.forgotten.extend(forgotten.into_iter().map(|groups| (window, groups)));
                        self.open.remove(&window);
                    }
                }
            } else if let Some(window) = self.first_to_show() {
                self.touched.remove(&window);
                if let Some(groups) = self.open.get_mut(&window) {
                    ending.showing = Some((window, groups.begin()?));
                }
            } else {
                self.horizon.advance(ending.to);
                while self.open.first_key_value().is_some_and(|(window, _)| window.end <= ending.to) {
                    self.open.pop_first();
                }
                return Ok(Step::Done);
            }
            self.ending = Some(ending);
            if out.exhausted() || fuel == 0 {
                return Ok(Step::Yield);
            }
        }
    }
}

impl Operator for Changing {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        keep_late(&self.input, &self.windows, self.horizon, &delta, out)?;
        let read = self.input.read(delta)?;
        for_each_slice(&self.windows.clone(), &read, |slice, rows, count| self.add(slice, rows, count, out))?;
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        let to = self.horizon.with(epoch.watermarks);
        if let Some(from) = &mut self.shown_from {
            from.advance(from.with(epoch.watermarks));
        }
        self.ending = Some(Ending { to, merging: None, showing: None });
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        self.forgotten.clear();
        let mut parts = vec![self.horizon.snapshot()?];
        if let Some(from) = &self.shown_from {
            parts.push(StatePart { name: SHOWN.to_owned(), ..from.snapshot()? });
        }
        for (window, groups) in &mut self.open {
            let between = [window.start, window.end];
            parts.extend(table_parts(WINDOWS, &self.state_schema, groups.table(), &between, &self.shape.calls)?);
        }
        Ok(parts)
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        let keys = self.shape.keys.len();
        let mut windows = no_changes(WINDOWS, keys + 2);
        for (window, groups) in &mut self.open {
            let between = [window.start, window.end];
            table_changes(&mut windows, &self.state_schema, groups.table(), &between, &self.shape.calls)?;
        }
        for (window, groups) in self.forgotten.drain(..) {
            windows.gone.push(forgotten_rows(&self.state_schema, groups, &[window.start, window.end])?);
        }
        windows.below = Some(Below { column: keys + 2, at: self.horizon.at().saturating_add(1) });
        let mut changes = vec![StateChange::Rows(windows), self.horizon.change()?];
        if let Some(from) = &self.shown_from {
            let StatePart { rows, .. } = from.snapshot()?;
            changes.push(StateChange::Whole { name: SHOWN.to_owned(), rows: vec![rows] });
        }
        Ok(Some(changes))
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        // What was shown first: it says which windows were.
        for part in parts.iter().filter(|part| part.name == SHOWN) {
            if let Some(from) = &mut self.shown_from {
                from.restore(part)?;
            }
        }
        for part in parts.iter().filter(|part| part.name != SHOWN) {
            match part.name.as_str() {
                Horizon::PART => self.horizon.restore(part)?,
                WINDOWS => {
                    let rows = restored(part, &self.state_schema)?;
                    let keys = self.shape.keys.len();
                    let starts = rows.column(keys).as_primitive::<Int64Type>().values().clone();
                    let ends = rows.column(keys + 1).as_primitive::<Int64Type>().values().clone();
                    let calls = self.shape.calls.clone();
                    let all = Rows::partial(&rows, keys, keys + 2, &calls);
                    let mut from = 0;
                    while from < all.count {
                        let window = Window { start: starts[from], end: ends[from] };
                        let same = |row: &usize| starts[*row] == window.start && ends[*row] == window.end;
                        let length = (from..all.count).take_while(same).count();
                        let remembered: Vec<ArrayRef> = rows.columns()[keys + 2 + Rows::width(&calls)..]
                            .iter()
                            .map(|column| column.slice(from, length))
                            .collect();
                        let held_back = self.is_held_back(window);
                        let groups = self.window(window)?;
                        groups.table().add(&all.slice(from, length)?)?;
                        groups.table().remember(&remembered, &calls)?;
                        if held_back {
                            groups.note_unshown();
                            self.touched.insert(window);
                        }
                        from += length;
                    }
                }
                other => return Err(Error::internal(format!("a windowed aggregate has no state '{other}'"))),
            }
        }
        self.open.values_mut().for_each(|groups| groups.table().note_changes());
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        let windows = self.open.values();
        let slices = self.slices.values();
        StateSize {
            rows: windows.clone().map(Tracked::len).sum::<usize>() + slices.clone().map(Table::len).sum::<usize>(),
            bytes: windows.map(Tracked::bytes).sum::<usize>() + slices.map(Table::bytes).sum::<usize>(),
        }
    }
}

/// The part of a snapshot that says up to where windows were shown.
const SHOWN: &str = "shown";

/// The part of a snapshot that holds the open windows.
const WINDOWS: &str = "windows";
