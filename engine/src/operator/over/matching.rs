//! MATCH_RECOGNIZE in an OVER: the search for matches goes on where rows have changed.
//!
//! Of each attempt to find a match it is remembered how far it looked. The first that saw a change is made anew, and those
//! behind it, until one stands behind all changes where one stood before: from there on everything is as it was.
//!
//! Where rows are settled by a watermark, an attempt is decided when all rows at which it looked are settled, or when the
//! watermark has passed its WITHIN. Rows before the first attempt that isn't are not looked at again.

use std::ops::Range;

use arrow::array::{Array, StructArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;

use super::codec::RowCodec;
use super::partition::{Changed, Partition};
use super::reach::Ranges;
use super::settle::Settling;
use crate::error::{Error, Result};
use crate::operator::aggregate::windows::micros;
use crate::operator::expression::Expression;
use crate::operator::recognize::{Attempt, Goes, Recognizer, Rows, Search};
use crate::plan::Recognize;
use crate::plan::flow::{Emit, FlowNode};
use crate::state::row_numbers::RowNumbers;
use crate::state::slots::Slot;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Matching {
    recognizer: Recognizer,
    arguments: Vec<Expression>,
    types: Vec<DataType>,
    /// How many rows before a match are looked at.
    before: usize,
    forgets: bool,
}

/// Matches that were found in a partition and are to be shown.
#[derive(Debug)]
pub(super) struct Matches {
    /// The rows at which they begin, in order.
    starts: Vec<usize>,
    /// Their measures.
    pub(super) measures: StructArray,
}

impl Matches {
    /// The place of the match that begins at a row.
    pub(super) fn at(&self, row: usize) -> Option<usize> {
        self.starts.binary_search(&row).ok()
    }
}

/// What is remembered of the search in a partition.
#[derive(Debug, Default)]
pub(super) struct Tried {
    attempts: Vec<Attempt>,
    /// Where the search would go on.
    next: usize,
}

impl Tried {
    /// Rows before a position are forgotten; an attempt was made at it.
    pub(super) fn behead(&mut self, count: usize) {
        let kept = self.attempts.partition_point(|attempt| attempt.start < count);
        self.attempts.drain(..kept);
        for attempt in &mut self.attempts {
            (attempt.start, attempt.seen) = (attempt.start - count, attempt.seen - count);
        }
        self.next = self.next.saturating_sub(count);
    }

    /// The first row of which it is not known yet whether a match begins there.
    fn undecided(&self, horizon: Horizon) -> usize {
        let open = self.attempts.iter().find(|attempt| !horizon.decides(**attempt));
        open.map_or(self.next, |attempt| attempt.start)
    }

    /// Whether nobody has searched yet.
    fn is_nothing(&self) -> bool {
        self.attempts.is_empty() && self.next == 0
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.attempts.capacity() * size_of::<Attempt>()
    }
}

/// Where a watermark stands in a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// The watermark, in microseconds.
    pub(super) at: i64,
    /// How many rows are below it.
    pub(super) come: usize,
}

impl Horizon {
    fn decides(&self, attempt: Attempt) -> bool {
        self.at == i64::MAX || attempt.seen <= self.come || attempt.ends <= self.at
    }
}

impl Matching {
    /// Of the calls over the rows of `input`, if they are a MATCH_RECOGNIZE.
    pub(super) fn of(calls: &[Expr], input: &FlowNode) -> Result<Option<Self>> {
        if !calls.iter().any(|call| Recognize::of(call).is_some()) {
            return Ok(None);
        }
        let [only] = calls else {
            return Err(Error::internal("MATCH_RECOGNIZE stands with other window functions"));
        };
        let (Some(function), Expr::WindowFunction(call)) = (Recognize::of(only), only) else {
            return Err(Error::internal("MATCH_RECOGNIZE is no window function"));
        };
        let arguments = call.params.args.iter().map(|argument| Expression::new(argument, &input.schema));
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let schema = input.schema.inner();
        let types = arguments.iter().map(|argument| argument.data_type(schema)).collect::<Result<Vec<_>>>()?;
        let recognition = function.recognition();
        Ok(Some(Self {
            recognizer: Recognizer::new(function, &types)?,
            arguments,
            types,
            before: recognition.looks_before(),
            forgets: recognition.forgets_settled_rows(),
        }))
    }

    /// Searches in rows up to `end`, from a row on.
    fn search(
        &mut self,
        partition: &Partition,
        codec: &RowCodec,
        (from, end): (usize, usize),
        stops_at: impl FnMut(usize) -> bool,
        counts: impl FnMut(Attempt) -> Goes,
    ) -> Result<Search> {
        let Self { recognizer, arguments, types, before, .. } = self;
        let load = |rows: Range<usize>| {
            let rows = codec.decode(partition.range(rows))?;
            arguments.iter().map(|argument| argument.evaluate(&rows)).collect::<Result<Vec<_>>>()
        };
        let mut rows = Rows::new(from.saturating_sub(*before)..end, types, Box::new(load));
        recognizer.search(&mut rows, from, stops_at, counts)
    }

    /// Rows have changed. Answers which rows may begin a match now that did not, or did and do not, or another one.
    pub(super) fn changed(
        &mut self,
        partition: &mut Partition,
        changed: &[Changed],
        codec: &RowCodec,
    ) -> Result<Ranges> {
        let (Some(first), Some(last)) = (changed.first(), changed.last()) else {
            if partition.tried.is_nothing() && partition.len() > 0 {
                // Of a snapshot: what is shown is right, but nothing is known of how it was found.
                let search = self.search(partition, codec, (0, partition.len()), |_| false, |_| Goes::On)?;
                partition.tried = Tried { attempts: search.attempts, next: search.next };
            }
            return Ok(Vec::new());
        };
        let old = std::mem::take(&mut partition.tried);
        let moved: i64 = changed.iter().map(|change| change.came as i64 - change.went as i64).sum();
        let now = |row: usize| (row as i64 + moved) as usize;
        let kept = old.attempts.iter().position(|attempt| attempt.seen > first.at).unwrap_or(old.attempts.len());
        let (kept, again) = old.attempts.split_at(kept);
        let from = again.first().map_or(old.next, |attempt| attempt.start);
        let behind = last.at + last.came + self.before;
        let mut same = None;
        let was_there = |row: usize| {
            if row >= behind {
                same = again.binary_search_by(|attempt| (attempt.start as i64).cmp(&(row as i64 - moved))).ok();
            }
            same.is_some()
        };
        let search = self.search(partition, codec, (from, partition.len()), was_there, |_| Goes::On)?;
        let mut tried = Tried { attempts: kept.to_vec(), next: search.next };
        tried.attempts.extend(search.attempts);
        let mut until = partition.len();
        if let Some(same) = same {
            let rest = again[same..].iter();
            tried.attempts.extend(rest.map(|old| Attempt { start: now(old.start), seen: now(old.seen), ..*old }));
            (tried.next, until) = (now(old.next), search.next);
        }
        partition.tried = tried;
        partition.matches = Some(Matches { starts: search.matches, measures: search.measures });
        Ok(std::iter::once(from..until).filter(|range| !range.is_empty()).collect())
    }

    /// The rows that a watermark has settled since the last time: whether a match begins at them is known now.
    pub(super) fn settled(
        &mut self,
        partition: &mut Partition,
        horizon: Horizon,
        codec: &RowCodec,
    ) -> Result<Range<usize>> {
        let from = partition.visible.end;
        let counts = |attempt| if horizon.decides(attempt) { Goes::On } else { Goes::Out };
        let search = self.search(partition, codec, (from, horizon.come.max(from)), |_| false, counts)?;
        partition.visible = 0..search.next;
        partition.matches = Some(Matches { starts: search.matches, measures: search.measures });
        Ok(from..search.next)
    }

    /// Searches in all rows of a partition that is complete.
    pub(super) fn complete(&mut self, partition: &mut Partition, codec: &RowCodec) -> Result<()> {
        let search = self.search(partition, codec, (0, partition.len()), |_| false, |_| Goes::On)?;
        partition.matches = Some(Matches { starts: search.matches, measures: search.measures });
        Ok(())
    }

    /// A partition was computed: forgets the rows that nothing looks at any more, and remembers when to look at it again.
    pub(super) fn settle(
        &self,
        (slot, partition): (Slot, &mut Partition),
        emit: Emit,
        settling: &mut Settling,
        codec: &RowCodec,
        numbers: &mut RowNumbers,
    ) -> Result<()> {
        let mut horizon = settling.stands_in(partition, codec)?;
        let undecided = match emit {
            Emit::AfterWatermark => partition.visible.end,
            Emit::OnChange => partition.tried.undecided(horizon),
        };
        let forgotten = if self.forgets { undecided } else { 0 };
        partition.behead(forgotten, numbers);
        partition.visible = 0..partition.visible.end.saturating_sub(forgotten);
        horizon.come = horizon.come.saturating_sub(forgotten);
        if let Some(due) = self.due(partition, undecided - forgotten, horizon, codec)? {
            settling.remember_at(slot, due);
        }
        Ok(())
    }

    /// From which watermark on more may be decided, though no row comes. `undecided`: the first row that isn't.
    fn due(&self, partition: &Partition, undecided: usize, horizon: Horizon, codec: &RowCodec) -> Result<Option<i64>> {
        let time = |row: usize| -> Result<Option<i64>> {
            let Some(entry) = partition.entry(row) else { return Ok(None) };
            let times = micros(&codec.order_values(std::iter::once(entry.order()))?)?;
            Ok(times.is_valid(0).then(|| times.value(0)))
        };
        if undecided >= partition.len() {
            return Ok(None);
        }
        let comes = time(horizon.come)?;
        let within = self.recognizer.recognition().within;
        let ends = match (within, time(undecided)?) {
            (Some(within), Some(time)) => Some(time.saturating_add(within - 1)),
            _ => None,
        };
        Ok(comes.into_iter().chain(ends).min())
    }
}
