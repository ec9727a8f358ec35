//! OVER: window functions over the rows of a partition in order, and top-N, which is an OVER that shows its first rows.
//!
//! The rows of each partition are kept in their order with what was shown of each. At the end of an epoch the changes are
//! put in, the rows whose results they can reach are found by position, only those are computed anew, and of those only
//! what differs is said: −old +new. What a function sees decides how far a change reaches: a bounded frame's or `lag`'s
//! neighbourhood, all rows behind it for a running sum, the whole partition for `ntile`.
//!
//! Where the input only grows and only the first rows are shown, rows behind them are forgotten; where rows are ordered by
//! event time, those are that a watermark has settled and that no frame reaches any more.

mod accumulate;
mod call;
mod codec;
mod evaluate;
mod frame;
mod limit;
mod matching;
mod partition;
mod reach;
mod settle;
mod snapshot;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{filter_record_batch, not, take};
use arrow::datatypes::SchemaRef;
use arrow::row::SortField;
use datafusion::common::DFSchemaRef;

use self::call::{Call, Function};
use self::codec::{Part, RowCodec, bytes_of};
use self::evaluate::{Span, evaluate};
use self::limit::{Limit, moved};
use self::matching::Matching;
use self::partition::{Change, Entry, Partition};
use self::reach::{Ranges, clipped, reach, united};
use self::settle::Settling;
use super::aggregate::closing::{Closes, Horizon};
use super::columns::canonical;
use super::consolidate::consolidate_all;
use super::expression::{Expression, batch};
use super::{EpochContext, Operator, Output, StateChange, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::flow::{Emit, FlowNode, OverSpec};
use crate::state::ages::Ages;
use crate::state::marks::Marks;
use crate::state::row_numbers::RowNumbers;
use crate::state::slots::{Slot, Slots};

/// Rows that are computed together.
const PIECE: usize = 8192;

/// Rows that one call puts in or computes.
const ROWS_PER_CALL: usize = 64 * 1024;

/// See the [module](self).
pub struct Over {
    /// The output's: the input's columns, then one per call.
    schema: SchemaRef,
    by: Vec<Expression>,
    codec: RowCodec,
    calls: Vec<Call>,
    /// Of a MATCH_RECOGNIZE, which is the only call then.
    matching: Option<Matching>,
    /// The calls' results as bytes.
    results: Part,
    limit: Option<Limit>,
    emit: Emit,
    /// Whether the input may take rows back.
    retracting: bool,
    /// Whether rows behind the shown ones are forgotten.
    pruning: bool,
    /// The column that is true in a row behind which nothing is kept.
    ends: Option<usize>,
    slots: Slots,
    /// By slot.
    partitions: Vec<Partition>,
    touched: Vec<Slot>,
    closes: Option<Closes>,
    settling: Option<Settling>,
    /// Partitions that no row touches are forgotten after a time.
    ages: Option<Ages>,
    /// The time of day in this epoch.
    now: i64,
    /// The partitions of a snapshot, which are as good as touched in the first epoch.
    restored: bool,
    /// Partitions that have changed since they were last written down; which of their rows, these know themselves.
    marks: Marks,
    numbers: RowNumbers,
    ending: Option<Ending>,
    rows: usize,
    bytes: usize,
}

/// Where the end of an epoch stands.
#[derive(Default)]
struct Ending {
    /// Partitions that changed and were not looked at yet; then those that are complete; then those that are forgotten.
    slots: Vec<Slot>,
    /// Whether these are the complete ones, or those that are forgotten.
    closing: bool,
    /// Whether these are forgotten: what was shown of them is taken back.
    forgetting: bool,
    /// The partition whose rows are being computed, and which of them are left.
    work: Option<(Slot, Ranges)>,
    /// Rows that are gone, with what was shown of them.
    gone: Vec<Entry>,
}

impl Over {
    /// The operator of a plan node over the rows of `input`. `schema`: the input's columns, then the functions'.
    pub fn new(spec: &OverSpec, input: &FlowNode, schema: &DFSchemaRef) -> Result<Self> {
        let by = spec.partition.iter().map(|key| Expression::new(key, &input.schema)).collect::<Result<Vec<_>>>()?;
        let types = by.iter().map(|key| key.data_type(input.schema.inner())).collect::<Result<Vec<_>>>()?;
        let width = input.schema.fields().len();
        let calls = spec
            .functions
            .iter()
            .enumerate()
            .map(|(number, call)| Call::new(call, &input.schema, schema.field(width + number).data_type().clone()))
            .collect::<Result<Vec<_>>>()?;
        let results = calls.iter().map(|call| SortField::new(call.data_type.clone())).collect();
        let limit = spec.limit.as_ref().map(Limit::new);
        let matching = Matching::of(&spec.functions, input)?;
        let looks_back = calls.iter().all(|call| match &call.function {
            Function::RowNumber | Function::Rank | Function::DenseRank => true,
            Function::Shift { by, .. } => *by >= 0,
            Function::Nth { frame, .. } => frame.looks_back(),
            Function::Aggregate(aggregate) => aggregate.frame.looks_back(),
            Function::PercentRank | Function::CumeDist | Function::Ntile(_) | Function::Match => false,
        });
        let retracting = input.properties.changelog;
        let settling =
            spec.settles.map(|promise| Settling::new(Horizon::new(Some(promise)), &calls, spec.forgets_settled_rows()));
        Ok(Self {
            schema: Arc::clone(schema.inner()),
            by,
            codec: RowCodec::new(&spec.order, &input.schema)?,
            calls,
            matching,
            results: Part::new(results)?,
            limit,
            emit: spec.emit,
            retracting,
            pruning: !retracting && looks_back && limit.is_some_and(|limit| limit.is_bounded()),
            ends: spec.ends.filter(|_| !retracting),
            slots: Slots::new(&types)?,
            partitions: Vec::new(),
            touched: Vec::new(),
            closes: spec.closes.map(|(key, watermark, delay)| Closes::new(key, watermark, delay)),
            settling,
            ages: None,
            now: i64::MIN,
            restored: false,
            marks: Marks::default(),
            numbers: RowNumbers::default(),
            ending: None,
            rows: 0,
            bytes: 0,
        })
    }

    /// The same, and partitions that no row touches for so many microseconds are forgotten.
    pub fn forgetting(mut self, state_ttl: Option<i64>) -> Self {
        self.ages = state_ttl.map(Ages::new);
        self
    }

    /// The partitions' keys of rows.
    fn keys(&self, delta: &Delta) -> Result<Vec<ArrayRef>> {
        self.by.iter().map(|key| canonical(&key.evaluate(delta.rows())?)).collect()
    }

    /// The slots of keys; new ones are noted.
    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<Slot>> {
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        self.slots.intern(keys, rows, &mut slots, &mut created)?;
        if let Some(closes) = &mut self.closes {
            closes.note(&self.slots.keys(&created)?, &created)?;
        }
        let bound = created.iter().max().map_or(0, |slot| *slot as usize + 1);
        if self.partitions.len() < bound {
            self.partitions.resize_with(bound, Partition::default);
        }
        Ok(slots)
    }

    /// The rows whose partition was not complete, or whose time not over, before this epoch. A row that comes later is
    /// dropped, and counted.
    fn in_time(&self, delta: Delta, out: &mut Output) -> Result<Delta> {
        let late = match (&self.closes, &self.settling) {
            (Some(closes), _) => closes.late(&self.keys(&delta)?)?,
            (None, Some(settling)) => settling.late(&self.codec.first_values(delta.rows())?)?,
            (None, None) => None,
        };
        let Some(late) = late else { return Ok(delta) };
        if !self.retracting {
            out.late(0, delta.rows(), &late)?;
            out.drop_late(late.true_count() as u64);
        }
        let kept: BooleanArray = not(&late)?;
        let weights = match delta.weights() {
            Some(weights) => {
                let weights = arrow::compute::filter(weights, &kept)?;
                Some(arrow::array::AsArray::as_primitive(&weights).clone())
            }
            None => None,
        };
        Ok(Delta::new(filter_record_batch(delta.rows(), &kept)?, weights))
    }

    /// Puts a partition's changes in. Answers which rows are to be computed.
    fn begin(&mut self, slot: Slot, gone: &mut Vec<Entry>) -> Result<Ranges> {
        let partition = &mut self.partitions[slot as usize];
        let before = (partition.len(), partition.bytes());
        let first_gone = gone.len();
        let changed = partition.apply(gone)?;
        gone[first_gone..].iter().for_each(|entry| self.numbers.leave(entry.number()));
        if self.emit == Emit::AfterWatermark {
            gone.truncate(first_gone);
            let mut ranges = Vec::new();
            if let (Some(settling), Some(matching)) = (&self.settling, &mut self.matching) {
                let horizon = settling.stands_in(partition, &self.codec)?;
                let shown = matching.settled(partition, horizon, &self.codec)?;
                ranges.extend((!shown.is_empty()).then_some(shown));
            } else if let Some(settling) = &self.settling {
                let until = settling.of(&self.calls, partition, &self.codec)?.until;
                let shown = partition.visible.end;
                ranges.extend((shown < until).then_some(shown..until));
                partition.visible = 0..until.max(shown);
            }
            self.measured(slot, before);
            return Ok(ranges);
        }
        let len = partition.len();
        let mut ranges = match &mut self.matching {
            Some(matching) => matching.changed(partition, &changed, &self.codec)?,
            None => reach(&self.calls, partition, &changed, &self.codec)?,
        };
        if let Some(limit) = &self.limit {
            let visible = limit.visible(partition);
            let were = moved(&partition.visible, &changed);
            ranges.extend(without(&visible, &were));
            ranges = clipped(united(ranges), &visible);
            for hidden in without(&were, &visible) {
                for at in hidden.start..hidden.end.min(len) {
                    let was = partition.show(at, None).flatten();
                    if let (Some(shown), Some(entry)) = (was, partition.entry(at)) {
                        let mut old = entry.clone();
                        old.shown = Some(shown);
                        gone.push(old);
                    }
                }
            }
            partition.visible = visible;
        } else {
            partition.visible = 0..len;
        }
        self.measured(slot, before);
        Ok(ranges)
    }

    /// Keeps count of all partitions' rows and bytes.
    fn measured(&mut self, slot: Slot, (rows, bytes): (usize, usize)) {
        let partition = &self.partitions[slot as usize];
        self.rows = (self.rows + partition.len()).saturating_sub(rows);
        self.bytes = (self.bytes + partition.bytes()).saturating_sub(bytes);
    }

    /// A partition was computed: forgets what nobody will ask for. Answers whether the partition is over.
    fn settle(&mut self, slot: Slot, closing: bool) -> Result<bool> {
        let partition = &mut self.partitions[slot as usize];
        let before = (partition.len(), partition.bytes());
        partition.matches = None;
        if closing {
            partition.clear(&mut self.numbers);
        } else if let (Some(matching), Some(settling)) = (&self.matching, &mut self.settling) {
            matching.settle((slot, partition), self.emit, settling, &self.codec, &mut self.numbers)?;
        } else if let (true, Some(limit)) = (self.pruning, &self.limit) {
            let kept = limit.visible(partition).end;
            partition.truncate(kept, &mut self.numbers);
        } else if let Some(settling) = &mut self.settling {
            let settled = settling.of(&self.calls, partition, &self.codec)?;
            let needed = settled.needed.min(settled.until);
            partition.behead(needed, &mut self.numbers);
            partition.visible = 0..partition.visible.end.saturating_sub(needed);
            settling.remember(slot, partition, settled.until - needed, &self.codec)?;
        }
        // One that can be closed stays until it is, even if it has no rows: it is known by its slot.
        let is_over = closing || (partition.len() == 0 && self.closes.is_none());
        self.measured(slot, before);
        if is_over {
            self.partitions[slot as usize] = Partition::default();
        }
        Ok(is_over)
    }

    /// Partitions were computed.
    fn finish(&mut self, slots: &[Slot], closing: bool) -> Result<()> {
        self.marks.mark(slots);
        let ended = self.ended(slots)?;
        let mut over = Vec::new();
        for (slot, ended) in slots.iter().zip(ended) {
            if self.settle(*slot, closing || ended)? {
                over.push(*slot);
            }
        }
        self.marks.unmark(&over);
        self.slots.release(&over);
        Ok(())
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        let mut done = 0;
        let Some(mut ending) = self.ending.take() else { return Ok(Step::Done) };
        loop {
            let (spans, finished) = self.gather(&mut ending, &mut done)?;
            let gone = std::mem::take(&mut ending.gone);
            if spans.is_empty() && gone.is_empty() && finished.is_empty() {
                if ending.forgetting {
                    return Ok(Step::Done);
                }
                ending.forgetting = std::mem::replace(&mut ending.closing, true);
                ending.slots = match (&mut self.ages, &mut self.closes) {
                    (Some(ages), _) if ending.forgetting => ages.expired(self.now),
                    (_, Some(closes)) if !ending.forgetting => closes.complete(),
                    _ => Vec::new(),
                };
                ending.slots.retain(|slot| !ending.forgetting || self.partitions[*slot as usize].len() > 0);
                continue;
            }
            self.say(spans, &gone, out)?;
            self.finish(&finished, ending.closing)?;
            if out.exhausted() || done >= ROWS_PER_CALL {
                self.ending = Some(ending);
                return Ok(Step::Yield);
            }
        }
    }

    /// Which of these partitions are over by what their first rows say.
    fn ended(&self, slots: &[Slot]) -> Result<Vec<bool>> {
        let Some(column) = self.ends else { return Ok(vec![false; slots.len()]) };
        let firsts = slots.iter().map(|slot| self.partitions[*slot as usize].entry(0)).collect::<Vec<_>>();
        let rows = self.codec.decode(firsts.iter().copied().flatten())?;
        let mut ends = rows.column(column).as_boolean().iter();
        Ok(firsts.iter().map(|first| first.is_some() && ends.next().flatten().unwrap_or(false)).collect())
    }

    /// The next rows to be computed, and the partitions that are done with them.
    fn gather(&mut self, ending: &mut Ending, done: &mut usize) -> Result<(Vec<Span>, Vec<Slot>)> {
        let (mut spans, mut finished, mut rows) = (Vec::new(), Vec::new(), 0);
        while rows + ending.gone.len() < PIECE && finished.len() < PIECE {
            if let Some((slot, ranges)) = &mut ending.work {
                match ranges.pop() {
                    None => {
                        finished.push(*slot);
                        ending.work = None;
                    }
                    Some(range) => {
                        let count = range.len().min(PIECE - rows);
                        if count < range.len() {
                            ranges.push(range.start + count..range.end);
                        }
                        rows += count;
                        spans.push(Span { slot: *slot as usize, rows: range.start..range.start + count });
                        if rows >= PIECE {
                            break;
                        }
                    }
                }
                continue;
            }
            let Some(slot) = ending.slots.pop() else { break };
            let ranges = match (ending.closing, self.emit) {
                (false, _) => self.begin(slot, &mut ending.gone)?,
                (true, Emit::OnChange) if ending.forgetting => {
                    let partition = &self.partitions[slot as usize];
                    ending.gone.extend(partition.range(0..partition.len()).cloned());
                    Vec::new()
                }
                (true, Emit::OnChange) => Vec::new(),
                (true, Emit::AfterWatermark) => vec![self.shown_of(slot)],
            };
            ending.work = Some((slot, ranges));
        }
        *done += rows + finished.len();
        Ok((spans, finished))
    }

    /// The rows of a partition that are shown.
    fn shown_of(&self, slot: Slot) -> Range<usize> {
        let partition = &self.partitions[slot as usize];
        self.limit.as_ref().map_or(0..partition.len(), |limit| limit.visible(partition))
    }

    /// Computes spans, and says what differs from what was shown.
    fn say(&mut self, spans: Vec<Span>, gone: &[Entry], out: &mut Output) -> Result<()> {
        let mut deltas = Vec::new();
        let gone: Vec<&Entry> = gone.iter().filter(|entry| entry.shown.is_some()).collect();
        if !gone.is_empty() {
            let rows = self.codec.decode(gone.iter().copied())?;
            let old = self.results.decode(gone.iter().filter_map(|entry| entry.shown.as_deref()))?;
            deltas.push(self.delta(rows.columns().to_vec(), old, gone.len(), -1)?);
        }
        if let Some(matching) = &mut self.matching {
            for span in &spans {
                let partition = &mut self.partitions[span.slot];
                if partition.matches.is_none() {
                    matching.complete(partition, &self.codec)?;
                }
            }
        }
        if !spans.is_empty() {
            let places: Vec<(usize, Range<usize>)> = spans.iter().map(|span| (span.slot, span.rows.clone())).collect();
            let results = evaluate(&self.calls, &self.codec, &mut self.partitions, spans)?;
            let bytes = self.results.encode(&results.columns)?;
            let (mut old, mut old_rows, mut new_rows) = (Vec::new(), Vec::new(), Vec::new());
            let mut row = 0;
            for (slot, range) in places {
                let partition = &mut self.partitions[slot];
                let before = (partition.len(), partition.bytes());
                for at in range {
                    let new = bytes_of(bytes.as_ref(), row);
                    if let Some(was) = partition.show(at, Some(new)) {
                        if let Some(was) = was {
                            old.push(was);
                            old_rows.push(row as u32);
                        }
                        new_rows.push(row as u32);
                    }
                    row += 1;
                }
                self.measured(slot as Slot, before);
            }
            let taken = |columns: &[ArrayRef], rows: &UInt32Array| {
                columns.iter().map(|column| take(column, rows, None)).collect::<Result<Vec<_>, _>>()
            };
            let (old_rows, new_rows) = (UInt32Array::from(old_rows), UInt32Array::from(new_rows));
            let was = self.results.decode(old.iter().map(|was| &**was))?;
            deltas.push(self.delta(taken(results.rows.columns(), &old_rows)?, was, old_rows.len(), -1)?);
            let is = taken(&results.columns, &new_rows)?;
            deltas.push(self.delta(taken(results.rows.columns(), &new_rows)?, is, new_rows.len(), 1)?);
        }
        if self.emit == Emit::AfterWatermark {
            deltas.into_iter().for_each(|delta| out.push(Delta::append(delta.rows().clone())));
        } else if !deltas.is_empty() {
            out.push(consolidate_all(&self.schema, &deltas)?);
        }
        Ok(())
    }

    /// Rows and their results, all with one weight.
    fn delta(&self, rows: Vec<ArrayRef>, results: Vec<ArrayRef>, count: usize, weight: i64) -> Result<Delta> {
        let fields = self.schema.fields().iter();
        let columns = rows.into_iter().chain(results).zip(fields).map(|(column, field)| {
            let same = column.data_type() == field.data_type();
            Ok(if same { column } else { arrow::compute::cast(&column, field.data_type())? })
        });
        let rows = batch(&self.schema, columns.collect::<Result<_>>()?, count)?;
        Ok(Delta::weighted(rows, Int64Array::from_value(weight, count)))
    }
}

/// What of one range does not lie in another.
fn without(range: &Range<usize>, other: &Range<usize>) -> Ranges {
    if other.is_empty() {
        return vec![range.clone()];
    }
    let parts = [range.start..range.end.min(other.start), range.start.max(other.end)..range.end];
    parts.into_iter().filter(|part| part.start < part.end).collect()
}

impl Operator for Over {
    fn begin_epoch(&mut self, now_micros: i64) {
        self.now = now_micros;
        if let (true, Some(ages)) = (std::mem::take(&mut self.restored), &mut self.ages) {
            ages.touch(&self.slots.live(), now_micros);
        }
    }

    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        if delta.weights().is_some() && !self.retracting {
            return Err(Error::internal("a retraction reached an OVER over rows that only grow"));
        }
        let delta = self.in_time(delta, out)?;
        if delta.is_empty() {
            return Ok(Step::Done);
        }
        let keys = self.keys(&delta)?;
        let slots = self.intern(&keys, delta.num_rows())?;
        if let Some(ages) = &mut self.ages {
            ages.touch(&slots, self.now);
        }
        let rows = self.codec.encode(delta.rows())?;
        for (row, slot) in slots.into_iter().enumerate() {
            let partition = &mut self.partitions[slot as usize];
            let weight = delta.weight(row);
            let (key, order) = rows.key(row);
            let beyond = match (&self.limit, self.pruning) {
                (Some(limit), true) => limit.is_beyond(partition, &key, &key[..order as usize]),
                _ => false,
            };
            if weight == 0 || beyond {
                continue;
            }
            if partition.pending.is_empty() {
                self.touched.push(slot);
            }
            partition.pending.push(Change { key, order, weight });
        }
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if let Some(closes) = &mut self.closes {
            let horizon = closes.horizon();
            horizon.advance(horizon.with(epoch.watermarks));
        }
        let mut slots = std::mem::take(&mut self.touched);
        if let Some(settling) = &mut self.settling {
            let before = settling.horizon.at();
            settling.horizon.advance(settling.horizon.with(epoch.watermarks));
            slots.extend(settling.due());
            if before < i64::MAX && settling.horizon.at() == i64::MAX {
                // The end: rows without a time are final too.
                let live = self.partitions.iter().enumerate().filter(|(_, partition)| partition.len() > 0);
                slots.extend(live.map(|(slot, _)| slot as Slot));
            }
            slots.sort_unstable();
            slots.dedup();
            slots.retain(|slot| {
                let partition = &self.partitions[*slot as usize];
                partition.len() > 0 || !partition.pending.is_empty()
            });
        }
        self.ending = Some(Ending { slots, ..Ending::default() });
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }

    fn next_timer(&self) -> Option<i64> {
        self.ages.as_ref().and_then(Ages::next)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        self.snapshot_parts()
    }

    fn changes(&mut self) -> Result<Option<Vec<StateChange>>> {
        self.changed_parts().map(Some)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        self.restored = true;
        self.restore_parts(parts)?;
        self.marks.begin();
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        let noted = self.marks.bytes() + self.numbers.bytes() + self.ages.as_ref().map_or(0, Ages::bytes);
        StateSize { rows: self.rows, bytes: self.bytes + noted }
    }

    fn state_keys(&self) -> Option<usize> {
        Some(self.slots.len())
    }
}
