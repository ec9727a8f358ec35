//! Aggregates of what has come since a group was last shown: `EMIT … DISCARDING`.
//!
//! A group is shown when it fires, and is then empty again. Its rows are exchanged as they are: a pane has few of them, and
//! how many have come is what decides when it ends.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::not;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::closing::{Closes, Horizon};
use super::output::{PIECE, add_forgotten, batch, no_changes, restored, state_rows};
use super::plan::{AggregatePlan, Input, Kind};
use super::table::{Rows, Shape, Table};
use super::windows::micros;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::held::Held;
use crate::operator::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::plan::flow::Firing;
use crate::state::slots::Slot;

/// The part of a snapshot that holds the groups.
const GROUPS: &str = "groups";
/// Between a group's keys and its states: since when it waits, and the rows that have come.
const BETWEEN: [&str; 2] = ["_since", "_come"];

/// See the [module](self).
pub(super) struct Panes {
    input: Input,
    schema: SchemaRef,
    state_schema: SchemaRef,
    shape: Shape,
    table: Table,
    firing: Firing,
    held: Held,
    /// Says which rows are late.
    closes: Option<Closes>,
    /// Groups that are being shown, and how many of them were handled.
    fired: (Vec<Slot>, usize),
}

impl Panes {
    pub(super) fn new(plan: &AggregatePlan, firing: Firing) -> Result<Self> {
        let Kind::Running { closes } = &plan.kind else {
            return Err(Error::internal("panes are no windows"));
        };
        let shape = plan.shape();
        Ok(Self {
            input: plan.raw_input(plan.calls.clone()),
            schema: Arc::clone(&plan.schema),
            state_schema: plan.state_schema(&BETWEEN),
            table: Table::new(&shape)?,
            shape,
            firing,
            held: Held::new(firing),
            closes: closes.map(|(key, watermark, delay)| Closes::new(key, watermark, delay)),
            fired: (Vec::new(), 0),
        })
    }

    /// Finds the groups of rows; new ones are noted.
    fn locate(&mut self, rows: &Rows) -> Result<Vec<Slot>> {
        let (slots, created) = self.table.locate(rows)?;
        let (slots, created) = (slots.to_vec(), created.to_vec());
        let ends = match self.firing.complete {
            Some((key, ..)) if !created.is_empty() => Some(micros(&self.table.keys(&created)?[key])?),
            _ => None,
        };
        for (row, slot) in created.into_iter().enumerate() {
            let ends = ends.as_ref().filter(|ends| ends.is_valid(row)).map(|ends| ends.value(row));
            self.held.note(slot, ends);
        }
        Ok(slots)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        loop {
            let (slots, at) = &mut self.fired;
            if *at == slots.len() {
                self.fired = (Vec::new(), 0);
                return Ok(Step::Done);
            }
            if out.exhausted() {
                return Ok(Step::Yield);
            }
            let to = slots.len().min(*at + PIECE);
            let piece = &slots[*at..to];
            *at = to;
            let columns = self.table.keys(piece)?.into_iter().chain(self.table.results(piece)?).collect();
            out.push(Delta::append(batch(&self.schema, columns, piece.len())?));
            self.table.release(piece)?;
        }
    }

    /// Groups as their part has them, in pieces.
    fn group_rows(&mut self, groups: &[Slot]) -> Result<Vec<RecordBatch>> {
        let keys = self.shape.keys.len();
        let mut pieces = Vec::new();
        for piece in groups.chunks(PIECE) {
            let Rows { keys: mut columns, calls, .. } = self.table.states(piece)?;
            let held = piece.iter().map(|group| self.held.snapshot(*group));
            columns.push(Arc::new(Int64Array::from_iter_values(held.clone().map(|(since, _)| since))));
            columns.push(Arc::new(Int64Array::from_iter_values(held.map(|(_, come)| come))));
            columns.extend(calls.into_iter().flat_map(|call| call.columns));
            pieces.push(state_rows(&self.state_schema, columns, keys, piece.len())?);
        }
        Ok(pieces)
    }
}

impl Operator for Panes {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let raw = delta.rows().clone();
        let mut rows = self.input.read(delta)?.rows;
        let late: Option<BooleanArray> = match &self.closes {
            Some(closes) => closes.late(&rows.keys)?,
            None => None,
        };
        if let Some(late) = late {
            out.late(0, &raw, &late)?;
            out.drop_late(late.true_count() as u64);
            let kept = not(&late)?;
            let kept: UInt32Array = kept.values().set_indices().map(|row| row as u32).collect();
            rows = rows.take(&kept)?;
        }
        for slot in self.locate(&rows)? {
            self.held.change(slot, 1);
        }
        self.table.add_located(&rows)?;
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if let Some(closes) = &mut self.closes {
            let horizon = closes.horizon();
            horizon.advance(horizon.with(epoch.watermarks));
        }
        self.fired = (self.held.end_epoch(epoch, |_| true), 0);
        self.go_on(out)
    }

    fn next_timer(&self) -> Option<i64> {
        self.held.next_due()
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        self.table.note_changes();
        let groups = self.group_rows(&self.table.live())?.into_iter();
        let mut parts: Vec<StatePart> = groups.map(|rows| StatePart { name: GROUPS.to_owned(), rows }).collect();
        if let Some(closes) = &mut self.closes {
            parts.push(closes.horizon().snapshot()?);
        }
        Ok(parts)
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        let keys = self.shape.keys.len();
        if keys == 0 {
            // There is one group.
            return Ok(None);
        }
        // Since when a group waits is known from the first row on: it changes with its rows.
        let told = self.table.take_changes();
        let mut groups = no_changes(GROUPS, keys);
        groups.rows = self.group_rows(&told.groups)?;
        add_forgotten(&mut groups, &self.state_schema, told.forgotten, &[])?;
        let mut changes = vec![StateChange::Rows(groups)];
        if let Some(closes) = &mut self.closes {
            changes.push(closes.horizon().change()?);
        }
        Ok(Some(changes))
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            match (part.name.as_str(), &mut self.closes) {
                (GROUPS, _) => {
                    let keys = self.shape.keys.len();
                    let rows = restored(&part, &self.state_schema)?;
                    let states = Rows::partial(&rows, keys, keys + BETWEEN.len(), &self.shape.calls);
                    let slots = self.locate(&states)?;
                    self.table.add_located(&states)?;
                    let number = |column: usize, row: usize| rows.column(column).as_primitive::<Int64Type>().value(row);
                    for (row, slot) in slots.into_iter().enumerate() {
                        self.held.restore(slot, (number(keys, row), number(keys + 1, row)));
                    }
                }
                (Horizon::PART, Some(closes)) => closes.horizon().restore(&part)?,
                (other, _) => return Err(Error::internal(format!("panes have no state '{other}'"))),
            }
        }
        self.table.note_changes();
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        StateSize { rows: self.table.len(), bytes: self.table.bytes() + self.held.bytes() }
    }
}
