//! Aggregates per key that never end: `GROUP BY` without windows, DISTINCT, and aggregates of everything.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, UInt32Array};
use arrow::compute::not;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::call::Call;
use super::closing::{Closes, Horizon};
use super::output::{PIECE, add_changes, add_forgotten, batch, no_changes, restored, table_parts};
use super::plan::{AggregatePlan, Input, Kind, Read};
use super::spilling::Away;
use super::table::{Rows, Shape};
use super::tracked::{Showing, Tracked};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::build::Role;
use crate::operator::{DeferredPart, EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::plan::flow::Emit;
use crate::state::ages::Ages;
use crate::state::slots::Slot;
use crate::state::spill::{SpillSpace, SpilledSize};

/// See the [module](self).
pub(super) struct Running {
    input: Input,
    schema: SchemaRef,
    state_schema: SchemaRef,
    shape: Shape,
    groups: Tracked,
    closes: Option<Closes>,
    /// Groups that no row touches are forgotten after a time.
    ages: Option<Ages>,
    /// The time of day in this epoch.
    now: i64,
    /// The groups of a snapshot, which are as good as touched in the first epoch.
    restored: bool,
    emit: Emit,
    /// Whether the output carries weights.
    changelog: bool,
    /// Whether the one group of an aggregate without keys must still be made.
    sole_group_missing: bool,
    ending: Ending,
    /// Groups that memory has no room for, if there is a place for them.
    away: Option<Away>,
    /// What the last snapshot or changes left on disk.
    deferred: Vec<DeferredPart>,
}

/// Where the end of an epoch stands.
enum Ending {
    Done,
    Showing(Showing),
    /// Groups that are complete, and how many of them were handled.
    Closing(Vec<Slot>, usize),
    /// Groups that are forgotten, and how many of them were.
    Forgetting(Vec<Slot>, usize),
}

impl Running {
    /// The whole operator, or (`Role::Final`) the half that merges what local halves emit.
    ///
    /// An aggregate without keys has its row from the first epoch on. Of several final halves only the one that the
    /// local halves' (empty) states reach has it.
    pub(super) fn new(plan: &AggregatePlan, role: Role) -> Result<Self> {
        let shape = plan.shape();
        let Kind::Running { closes } = &plan.kind else {
            return Err(Error::internal("a windowed aggregate is not a running one"));
        };
        Ok(Self {
            input: if role == Role::Final { plan.partial_input() } else { plan.raw_input(plan.calls.clone()) },
            schema: plan.schema.clone(),
            state_schema: plan.snapshot_schema(&[]),
            groups: Tracked::new(&shape, shape.keys.is_empty())?,
            sole_group_missing: role == Role::Whole && shape.keys.is_empty(),
            shape,
            closes: closes.map(|(key, watermark, delay)| Closes::new(key, watermark, delay)),
            ages: plan.state_ttl.map(Ages::new),
            now: i64::MIN,
            restored: false,
            emit: plan.emit,
            changelog: plan.changelog,
            ending: Ending::Done,
            away: None,
            deferred: Vec::new(),
        })
    }

    /// Drops and counts rows whose group was complete before this epoch.
    fn without_late(&self, read: Read, raw: Option<RecordBatch>, out: &mut Output) -> Result<Rows> {
        let Read { rows, totals, .. } = read;
        let late = match &self.closes {
            Some(closes) => closes.late(&rows.keys)?,
            None => None,
        };
        let Some(late) = late else { return Ok(rows) };
        if let Some(raw) = raw {
            out.late(0, &raw, &late)?;
        }
        out.drop_late(match totals {
            None => late.true_count() as u64,
            Some(totals) => late.values().set_indices().map(|row| totals.value(row) as u64).sum(),
        });
        let kept: BooleanArray = not(&late)?;
        let kept: UInt32Array = kept.values().set_indices().map(|row| row as u32).collect();
        rows.take(&kept)
    }

    fn add(&mut self, rows: &Rows) -> Result<()> {
        if self.emit == Emit::OnChange {
            self.groups.add(rows)?;
        } else {
            self.groups.table().add(rows)?;
        }
        if let Some(ages) = &mut self.ages {
            ages.touch(self.groups.table().located(), self.now);
        }
        self.note_created()
    }

    fn note_created(&mut self) -> Result<()> {
        let Some(closes) = &mut self.closes else { return Ok(()) };
        let table = self.groups.table();
        let created = table.created();
        closes.note(&table.keys(created)?, created)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        loop {
            match &mut self.ending {
                Ending::Done => {
                    return match &mut self.away {
                        Some(away) => away.make_room(&mut self.groups, &self.shape, &self.state_schema),
                        None => Ok(Step::Done),
                    };
                }
                Ending::Showing(showing) => match self.groups.show(showing, PIECE)? {
                    Some(change) => {
                        let count = change.weights.len();
                        let columns = change.keys.into_iter().chain(change.results).collect();
                        let rows = batch(&self.schema, columns, count)?;
                        out.push(Delta::new(rows, self.changelog.then_some(change.weights)));
                    }
                    None => {
                        let vanished = self.groups.vanished();
                        let table = self.groups.table();
                        if let Some(closes) = &mut self.closes {
                            closes.forget(&table.keys(&vanished)?, &vanished)?;
                        }
                        table.release(&vanished)?;
                        let complete = self.closes.as_mut().map(Closes::complete).unwrap_or_default();
                        self.ending = Ending::Closing(complete, 0);
                    }
                },
                Ending::Closing(slots, at) if *at == slots.len() => {
                    let forgotten = self.ages.as_mut().map(|ages| ages.expired(self.now));
                    self.ending = Ending::Forgetting(forgotten.unwrap_or_default(), 0);
                }
                Ending::Forgetting(slots, at) if *at == slots.len() => self.ending = Ending::Done,
                Ending::Forgetting(slots, at) => {
                    let to = slots.len().min(*at + PIECE);
                    let piece = &slots[*at..to];
                    *at = to;
                    let table = self.groups.table();
                    if self.changelog {
                        let columns = table.keys(piece)?.into_iter().chain(table.results(piece)?).collect();
                        let rows = batch(&self.schema, columns, piece.len())?;
                        out.push(Delta::weighted(rows, Int64Array::from_value(-1, piece.len())));
                    }
                    table.release(piece)?;
                }
                Ending::Closing(slots, at) => {
                    let to = slots.len().min(*at + PIECE);
                    let piece = &slots[*at..to];
                    *at = to;
                    let table = self.groups.table();
                    if self.emit == Emit::AfterWatermark {
                        let shown = table.with_rows(piece.to_vec())?;
                        let columns = table.keys(&shown)?.into_iter().chain(table.results(&shown)?).collect();
                        let rows = batch(&self.schema, columns, shown.len())?;
                        let weights = self.changelog.then(|| Int64Array::from_value(1, shown.len()));
                        out.push(Delta::new(rows, weights));
                    }
                    table.release(piece)?;
                }
            }
            if out.exhausted() {
                return Ok(Step::Yield);
            }
        }
    }
}

impl Operator for Running {
    fn begin_epoch(&mut self, now_micros: i64) {
        self.now = now_micros;
        if let (true, Some(ages)) = (std::mem::take(&mut self.restored), &mut self.ages) {
            ages.touch(&self.groups.table().live(), now_micros);
        }
    }

    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let raw = out.keeps_late().then(|| delta.rows().clone());
        let read = self.input.read(delta)?;
        let rows = self.without_late(read, raw, out)?;
        if let Some(away) = &mut self.away {
            away.bring_back(&rows, self.groups.table(), &self.shape)?;
        }
        self.add(&rows)?;
        if let Some(away) = &mut self.away {
            away.note_used(self.groups.table().located());
        }
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if std::mem::take(&mut self.sole_group_missing) && self.groups.len() == 0 {
            // A row of no call: it makes the group and adds nothing to it.
            self.add(&Rows { keys: Vec::new(), calls: Vec::new(), weights: None, count: 1, partial: true })?;
        }
        if let Some(closes) = &mut self.closes {
            let horizon = closes.horizon();
            horizon.advance(horizon.with(epoch.watermarks));
        }
        self.ending = Ending::Showing(self.groups.begin()?);
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn next_timer(&self) -> Option<i64> {
        self.ages.as_ref().and_then(Ages::next)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let table = self.groups.table();
        if let Some(away) = self.away.as_mut().filter(|away| !away.has_room_for(table, table.len())) {
            let (all, schema) = (table.live(), &self.state_schema);
            self.deferred.extend(away.told(GROUPS, (table, &self.shape, schema), all, false)?);
            table.note_changes();
            return Ok(Vec::new());
        }
        let mut parts = table_parts(GROUPS, &self.state_schema, table, &[], &self.shape.calls)?;
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
        let mut groups = no_changes(GROUPS, keys);
        let (table, schema) = (self.groups.table(), &self.state_schema);
        let only_changed = table.notes_changes();
        let changes = table.take_changes();
        match self.away.as_mut().filter(|away| !away.has_room_for(table, changes.groups.len())) {
            Some(away) => {
                let told = away.told(GROUPS, (table, &self.shape, schema), changes.groups, only_changed)?;
                self.deferred.extend(told);
                add_forgotten(&mut groups, schema, changes.forgotten, &[])?;
            }
            None => add_changes(&mut groups, schema, table, changes, &[], &self.shape.calls)?,
        }
        let mut changes = vec![StateChange::Rows(groups)];
        if let Some(closes) = &mut self.closes {
            changes.push(closes.horizon().change()?);
        }
        Ok(Some(changes))
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.restored = true;
        for part in parts {
            match (part.name.as_str(), &mut self.closes) {
                (GROUPS, _) => {
                    let keys = self.shape.keys.len();
                    let rows = restored(&part, &self.state_schema)?;
                    let calls = &self.shape.calls;
                    let table = self.groups.table();
                    let groups = Rows::partial(&rows, keys, keys, calls);
                    if let Some(away) = &mut self.away {
                        away.bring_back(&groups, table, &self.shape)?;
                    }
                    table.add(&groups)?;
                    table.remember(&rows.columns()[keys + Rows::width(calls)..], calls)?;
                    self.note_created()?;
                    self.groups.table().note_changes();
                    while let Some(away) = &mut self.away
                        && away.make_room(&mut self.groups, &self.shape, &self.state_schema)? == Step::Yield
                    {
                    }
                }
                (Horizon::PART, Some(closes)) => closes.horizon().restore(&part)?,
                (other, _) => return Err(Error::internal(format!("an aggregate has no state '{other}'"))),
            }
        }
        self.groups.table().note_changes();
        Ok(())
    }

    fn deferred(&mut self) -> Vec<DeferredPart> {
        std::mem::take(&mut self.deferred)
    }

    fn restores_in_pieces(&self) -> bool {
        true
    }

    fn spill_to(&mut self, space: Arc<dyn SpillSpace>) {
        // Groups that go by a time are found by it. And a result may not depend on whether there was room.
        let is_exact = !self.shape.calls.iter().any(Call::is_digest);
        let is_timeless = self.closes.is_none() && self.ages.is_none() && self.emit == Emit::OnChange;
        if !self.shape.keys.is_empty() && is_timeless && is_exact {
            self.away = Some(Away::new(space));
        }
    }

    fn spilled(&self) -> SpilledSize {
        self.away.as_ref().map(Away::size).unwrap_or_default()
    }

    fn state_size(&self) -> StateSize {
        let ages = self.ages.as_ref().map_or(0, Ages::bytes);
        let away = self.away.as_ref().map_or(0, Away::bytes);
        StateSize { rows: self.groups.len() + self.spilled().rows, bytes: self.groups.bytes() + ages + away }
    }
}

/// The part of a snapshot that holds the groups.
const GROUPS: &str = "groups";
