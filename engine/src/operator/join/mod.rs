//! Join: by equality of keys, with any further condition; without keys every row is compared with every row.
//!
//! Both sides are kept as Arrow blocks with a hash index. A delta of one side is matched with all rows of the other
//! and then kept itself, so that over an epoch every pair of rows meets once, whichever came first:
//! `(L + dL) ⋈ (R + dR) − L ⋈ R = dL ⋈ R + (L + dL) ⋈ dR`. Weights multiply.
//!
//! Where rows come out for having a match or for having none, it is counted how many rows of the other side each row
//! meets, and the end of an epoch says what has changed ([`settle`]).
//!
//! Where time columns of both sides are bound to each other, by equality or by an interval, and grow with a watermark,
//! rows that nothing can match any more are let go, and rows of an append-only input below what that input has promised
//! are late: they are dropped and counted.
//!
//! Rows that memory has no room for go to disk, where their key finds them ([`room`]).
//!
//! Without keys the rows of one side belong to workers by all their columns, and every worker has all rows of the other:
//! the replicated side, of which each worker writes down its share.
//!
//! Matches come out in pieces: neither the candidates of a hot key nor their rows are ever held all at once.

mod held;
mod index;
mod kept;
mod outbox;
mod probe;
pub(in crate::operator) mod release;
mod residual;
mod room;
mod settle;
mod side;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::SchemaRef;

use self::outbox::Outbox;
use self::probe::{Pairs, Probe};
use self::release::Release;
use self::residual::Residual;
use self::room::Room;
use self::side::{Arrivals, Memory, Share, Side};
use self::store::NOWHERE;
use self::waiting::Waiting;
use super::columns::compact;
use super::consolidate::consolidate;
use super::expression::{Expression, batch};
use super::{DeferredPart, EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::{Emit, FlowNode, FlowOp, JoinKind};
use crate::plan::side_releases;
use crate::state::spill::{SpillSpace, SpilledSize};

/// Candidates that are looked at together, and so the most rows of one delta of output.
const PIECE: usize = 8192;

/// Candidates that one call looks at: keys that collide and conditions that fail cost time without emitting a row.
const CANDIDATES_PER_CALL: usize = 64 * 1024;

/// Rows that one call links into an index.
const LINKED_PER_CALL: usize = 64 * 1024;

/// Rows that one call lets go or moves.
const TIDIED_PER_CALL: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Join {
    kind: JoinKind,
    schema: SchemaRef,
    /// Whether the output may take rows back.
    changelog: bool,
    /// Rows without a match are shown when they are let go, and not before.
    shows_unmatched_late: bool,
    sides: [Side; 2],
    residual: Option<Residual>,
    probe: Option<Probe>,
    /// Rows whose matches may be on disk.
    waiting: Option<Waiting>,
    /// Where rows go that memory has no room for.
    room: Option<Room>,
    /// What the last snapshot or changes left on disk.
    deferred: Vec<DeferredPart>,
    outbox: Outbox,
    /// The epoch's end: touched rows are being looked at.
    settling: bool,
    /// The next block to be tidied: side and number.
    tidying: Option<(usize, usize)>,
}

impl Join {
    /// The join that `node` is, of the outputs of two other nodes.
    pub fn new(left: &FlowNode, right: &FlowNode, node: &FlowNode) -> Result<Self> {
        let FlowOp::Join { kind, on, residual, null_equals_null, emit } = &node.op else {
            return Err(Error::internal(format!("{} is no join", node.id)));
        };
        let mut keys = [Vec::new(), Vec::new()];
        for (of_left, of_right) in on {
            let pair = [Expression::new(of_left, &left.schema)?, Expression::new(of_right, &right.schema)?];
            let types = [pair[0].data_type(left.schema.inner())?, pair[1].data_type(right.schema.inner())?];
            if types[0] != types[1] {
                return Err(Error::internal(format!(
                    "a join compares {} ({}) with {} ({}) without a common type",
                    pair[0].text(),
                    types[0],
                    pair[1].text(),
                    types[1],
                )));
            }
            for (keys, key) in keys.iter_mut().zip(pair) {
                keys.push(key);
            }
        }
        let late = *emit == Emit::AfterWatermark;
        let schemas = [left, right].map(|input| Arc::clone(input.schema.inner()));
        let releases = side_releases(left, right, &node.op);
        let mut sides = Vec::new();
        for (number, ((input, keys), release)) in [left, right].into_iter().zip(keys).zip(releases).enumerate() {
            let (unmatched, matched) = (kind.shows_unmatched(number), kind.shows_matched(number));
            let memory = Memory {
                changelog: input.properties.changelog,
                counted: unmatched || matched,
                watched: (unmatched && !late) || matched,
                keyless: unmatched,
            };
            let release = release.and_then(|spec| Release::new(spec, &schemas[number], &schemas[1 - number]));
            sides.push(Side::new(Arc::clone(&schemas[number]), memory, keys, *null_equals_null, release));
        }
        let [left_side, right_side] =
            <[Side; 2]>::try_from(sides).map_err(|_| Error::internal("a join has two sides"))?;
        let residual = match residual {
            Some(condition) => {
                let joined = left.schema.join(&right.schema)?;
                Some(Residual::new(condition, &joined)?)
            }
            None => None,
        };
        Ok(Self {
            kind: *kind,
            schema: Arc::clone(node.schema.inner()),
            changelog: node.properties.changelog,
            shows_unmatched_late: late,
            sides: [left_side, right_side],
            residual,
            probe: None,
            waiting: None,
            room: None,
            deferred: Vec::new(),
            outbox: Outbox::default(),
            settling: false,
            tidying: None,
        })
    }

    /// The same, as one of several workers that all have the rows of one side.
    pub fn replicating(mut self, side: Option<usize>) -> Self {
        if let Some(replicated) = side {
            for (number, side) in self.sides.iter_mut().enumerate() {
                side.share = Some(if number == replicated { Share::Replicated } else { Share::ByRow });
            }
        }
        self
    }

    /// What the part of a side's rows is called.
    pub fn part_of(side: usize) -> &'static str {
        state::PARTS[side]
    }

    /// The same, and rows that no watermark releases are let go so many microseconds after they came.
    pub fn forgetting(mut self, state_ttl: [Option<i64>; 2]) -> Self {
        for (side, ttl) in self.sides.iter_mut().zip(state_ttl) {
            if let Some(ttl) = ttl {
                side.forget_after(ttl);
            }
        }
        self
    }

    fn say(&mut self, delta: Delta, out: &mut Output) -> Result<()> {
        self.outbox.say(delta, !self.changelog, out)
    }

    fn match_pieces(&mut self, out: &mut Output) -> Result<Step> {
        let mut examined = 0;
        loop {
            let Some(mut probe) = self.probe.take() else {
                if self.make_room(out)? == Step::Yield {
                    return Ok(Step::Yield);
                }
                if !self.go_on()? {
                    return Ok(Step::Done);
                }
                continue;
            };
            let stored = &mut self.sides[1 - probe.input];
            if !probe.is_looked_up() {
                if !stored.prepare(probe.rows(), LINKED_PER_CALL) {
                    self.probe = Some(probe);
                    return Ok(Step::Yield);
                }
                probe.look_up(stored.index());
            }
            let pairs = probe.candidates(stored.index(), PIECE);
            examined += pairs.rows.len();
            if let Some(delta) = self.matches(&probe, pairs)? {
                self.say(delta, out)?;
            }
            if !probe.is_finished() {
                self.probe = Some(probe);
                if out.exhausted() || examined >= CANDIDATES_PER_CALL {
                    return Ok(Step::Yield);
                }
            }
        }
    }

    /// Rows are kept, and begin to be matched with the other side's.
    fn begin_probe(&mut self, input: usize, arrivals: Arrivals) -> Result<()> {
        let own = self.sides[input].absorb(&arrivals)?;
        self.probe = Some(Probe::new(input, arrivals, own));
        Ok(())
    }

    /// Counts those candidates that match; answers their joined rows if those come out.
    fn matches(&mut self, probe: &Probe, mut pairs: Pairs) -> Result<Option<Delta>> {
        let stored = &self.sides[1 - probe.input];
        let keys: Vec<(usize, usize)> =
            self.sides[probe.input].keys.iter().copied().zip(stored.keys.iter().copied()).collect();
        stored.retain_matching(&mut pairs, &probe.columns, &keys)?;
        if let (Some(residual), false) = (&self.residual, pairs.rows.is_empty()) {
            let columns = self.joined(probe, &pairs, residual.columns.iter().copied())?;
            let rows = batch(&residual.schema, columns, pairs.rows.len())?;
            pairs.retain(&residual.condition.evaluate_predicate(&rows)?);
        }
        self.count(probe, &pairs);
        if pairs.rows.is_empty() || !self.kind.has_pairs() {
            return Ok(None);
        }
        let weights = self.weights(probe, &mut pairs)?;
        if pairs.rows.is_empty() {
            return Ok(None);
        }
        let columns = self.joined(probe, &pairs, 0..self.schema.fields().len())?;
        let rows = batch(&self.schema, columns, pairs.rows.len())?;
        Ok(Some(Delta::new(rows, weights)))
    }

    /// Notes on both sides which rows have met.
    fn count(&mut self, probe: &Probe, pairs: &Pairs) {
        let other = 1 - probe.input;
        if self.sides[other].memory.counted {
            for (row, address) in pairs.rows.iter().zip(&pairs.addresses) {
                self.sides[other].add_matches(*address, probe.weight(*row));
            }
        }
        if !probe.own.is_empty() {
            for (row, address) in pairs.rows.iter().zip(&pairs.addresses) {
                let own = probe.own[*row as usize];
                if own != NOWHERE {
                    let weight = self.sides[other].weight(*address);
                    self.sides[probe.input].add_matches(own, weight);
                }
            }
        }
    }

    /// The products of the pairs' weights, if they can be other than one. Pairs with rows that have gone are dropped.
    fn weights(&self, probe: &Probe, pairs: &mut Pairs) -> Result<Option<Int64Array>> {
        let stored = &self.sides[1 - probe.input];
        if probe.weights.is_none() && !stored.memory.changelog {
            return Ok(None);
        }
        if stored.memory.watched && stored.memory.changelog {
            let alive: BooleanArray =
                pairs.addresses.iter().map(|address| Some(stored.store().weight(*address) != 0)).collect();
            pairs.retain(&alive);
        }
        let weights = pairs.rows.iter().zip(&pairs.addresses).map(|(row, address)| {
            probe.weight(*row).checked_mul(stored.weight(*address)).ok_or_else(|| {
                Error::new(ErrorKind::ResourceExhausted, "a joined row appears more often than 2^63 times")
            })
        });
        Ok(Some(Int64Array::from(weights.collect::<Result<Vec<i64>>>()?)))
    }

    /// Columns of the joined rows, by their place in the output.
    fn joined(&self, probe: &Probe, pairs: &Pairs, columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>> {
        let left_width = self.sides[0].schema.fields().len();
        let rows = UInt32Array::from(pairs.rows.clone());
        let gather = self.sides[1 - probe.input].store().gather(&pairs.addresses);
        columns
            .map(|column| {
                let (side, column) = if column < left_width { (0, column) } else { (1, column - left_width) };
                if side == probe.input {
                    compact(&take(&probe.columns[column], &rows, None)?)
                } else {
                    gather.column(column)
                }
            })
            .collect()
    }

    /// Rows below what their own input has promised came too late: what they match may be gone. Of a changelog no row
    /// is late.
    fn without_late_rows(&self, input: usize, delta: Delta, out: &mut Output) -> Result<Delta> {
        let Some(release) = &self.sides[1 - input].release else { return Ok(delta) };
        let Some(mask) = release.on_time(delta.rows().columns())? else { return Ok(delta) };
        if mask.true_count() == delta.num_rows() {
            return Ok(delta);
        }
        let mut late = arrow::compute::not(&mask)?;
        // Every worker drops them, and one says so.
        if let Some(own) = self.sides[input].own_rows(delta.rows().columns(), delta.num_rows())? {
            late = arrow::compute::and(&late, &own)?;
        }
        out.late(input, delta.rows(), &late)?;
        out.drop_late(late.true_count() as u64);
        Ok(Delta::append(filter_record_batch(delta.rows(), &mask)?))
    }

    /// Goes on with what the epoch's end has to do.
    fn finish(&mut self, out: &mut Output) -> Result<Step> {
        if self.settling {
            if self.settle(out)? == Step::Yield {
                return Ok(Step::Yield);
            }
            self.settling = false;
            self.look_for_room();
        }
        if self.make_room(out)? == Step::Yield {
            return Ok(Step::Yield);
        }
        self.tidy(out)
    }

    /// Goes on letting rows go and compacting blocks.
    fn tidy(&mut self, out: &mut Output) -> Result<Step> {
        let mut touched = 0;
        while let Some((side, block)) = self.tidying {
            if touched >= TIDIED_PER_CALL || out.exhausted() {
                return Ok(Step::Yield);
            }
            let this = &mut self.sides[side];
            if !this.untidy || block >= this.store().block_count() {
                if this.untidy {
                    this.finish_tidying();
                }
                self.tidying = (side == 0).then_some((1, 0));
                continue;
            }
            self.say_leaving(side, block, out)?;
            touched += self.sides[side].tidy(block)?;
            self.tidying = Some((side, block + 1));
        }
        Ok(Step::Done)
    }
}

impl Operator for Join {
    fn stand_on(&mut self, worker: usize, workers: usize) {
        self.sides.iter_mut().for_each(|side| side.place = (worker, workers));
    }

    fn begin_epoch(&mut self, now_micros: i64) {
        self.sides.iter_mut().for_each(|side| side.begin_epoch(now_micros));
    }

    fn on_delta(&mut self, input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        if input > 1 {
            return Err(Error::internal(format!("a join has two inputs, a delta came on input {input}")));
        }
        let delta = if self.sides[input].memory.changelog {
            consolidate(delta)?
        } else {
            self.without_late_rows(input, without_weights(delta)?, out)?
        };
        let side = &self.sides[input];
        let mut arrivals = side.arrivals(&delta)?;
        self.note_arrivals(&delta);
        drop(delta);
        if let Some(keyless) = arrivals.keyless.take() {
            self.say_keyless(input, keyless, out)?;
        }
        if self.is_spilled() {
            let orders = self.sides[input].orders(&arrivals.columns, arrivals.hashes.len())?;
            self.waiting = Some(Waiting::new(input, arrivals, &orders)?);
        } else {
            self.begin_probe(input, arrivals)?;
        }
        self.match_pieces(out)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        for side in &mut self.sides {
            side.advance(epoch.watermarks);
            side.grow_old();
        }
        self.settling = true;
        self.tidying = Some((0, 0));
        self.finish(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        match self.match_pieces(out)? {
            Step::Done => self.finish(out),
            Step::Yield => Ok(Step::Yield),
        }
    }

    fn next_timer(&self) -> Option<i64> {
        self.sides.iter().filter_map(Side::next_timer).min()
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        self.spill_for_checkpoint()?;
        let mut parts = Vec::new();
        for (side, name) in self.sides.iter_mut().zip(state::PARTS) {
            self.deferred.extend(state::snapshot(side, name, &mut parts)?);
        }
        state::snapshot_released(&self.sides, &mut parts)?;
        Ok(parts)
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        self.spill_for_checkpoint()?;
        let mut changes = Vec::new();
        for (side, name) in self.sides.iter_mut().zip(state::PARTS) {
            let (change, deferred) = state::changes(side, name)?;
            changes.push(change);
            self.deferred.extend(deferred);
        }
        changes.push(state::released_change(&self.sides)?);
        Ok(Some(changes))
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            state::restore_part(&mut self.sides, &part)?;
            self.sides.iter_mut().for_each(Side::note_changes);
            self.look_for_room();
            while self.make_room(&mut Output::default())? == Step::Yield {}
        }
        for side in &mut self.sides {
            side.note_changes();
            side.note_told();
        }
        Ok(())
    }

    fn deferred(&mut self) -> Vec<DeferredPart> {
        std::mem::take(&mut self.deferred)
    }

    fn restores_in_pieces(&self) -> bool {
        true
    }

    fn spill_to(&mut self, space: Arc<dyn SpillSpace>) {
        self.find_room_in(space);
    }

    fn spilled(&self) -> SpilledSize {
        let [left, right] = [self.sides[0].spilled(), self.sides[1].spilled()];
        SpilledSize { rows: left.rows + right.rows, bytes: left.bytes + right.bytes }
    }

    fn state_size(&self) -> StateSize {
        let [left, right] = [self.sides[0].size(), self.sides[1].size()];
        StateSize { rows: left.rows + right.rows, bytes: left.bytes + right.bytes }
    }

    fn state_keys(&self) -> Option<usize> {
        Some(self.sides.iter().map(|side| side.index().keys()).sum())
    }
}

/// Append-only rows: weights, if there are any, must all be one.
fn without_weights(delta: Delta) -> Result<Delta> {
    match delta.weights() {
        Some(weights) if weights.values().iter().any(|weight| *weight != 1) => Err(Error::internal(
            "a join was told that an input is append-only, and a row of it came with another weight",
        )),
        _ => Ok(Delta::append(delta.into_parts().0)),
    }
}
