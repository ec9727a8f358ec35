//! The functions' results for spans of rows: what they need is found by position and decoded together, once.

use std::collections::{HashMap, hash_map};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, UInt32Array, UInt64Array, new_empty_array, new_null_array};
use arrow::compute::{cast, interleave, take};
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;

use super::accumulate::Frames;
use super::call::{Call, FrameAggregate, Function, Place, Way, merge_states};
use super::codec::RowCodec;
use super::partition::{Entry, Partition};
use crate::error::{Error, Result};
use crate::operator::expression::batch;

/// Rows of one partition whose results are wanted.
#[derive(Debug)]
pub(super) struct Span {
    /// The partition's number.
    pub(super) slot: usize,
    /// Their positions.
    pub(super) rows: Range<usize>,
}

/// The rows of some spans, and per call a column of its results.
pub(super) struct Results {
    pub(super) rows: RecordBatch,
    pub(super) columns: Vec<ArrayRef>,
}

/// A span, with what each call needs for it.
struct View {
    span: Span,
    /// The rows of its partition that are decoded.
    held: Range<usize>,
    /// Where the first of them stands among all that are decoded.
    base: usize,
    wants: Vec<Want>,
}

/// What a call needs for a span, or has already.
enum Want {
    Numbers(Vec<u64>),
    Shares(Vec<f64>),
    /// The argument of other rows.
    Rows(Vec<Option<usize>>),
    /// The argument of other rows, which are found when it is known where it is not NULL; the frames, if it has some.
    NotNull(Vec<Range<usize>>),
    Frames(Option<Frames>),
    /// The measures of some matches, and for each row the place of its own.
    Match(ArrayRef, Vec<Option<usize>>),
}

/// Computes the results of all calls for some spans.
pub(super) fn evaluate(
    calls: &[Call],
    codec: &RowCodec,
    partitions: &mut [Partition],
    spans: Vec<Span>,
) -> Result<Results> {
    let mut views = Vec::with_capacity(spans.len());
    let mut base = 0;
    for span in spans {
        let mut view = View::new(calls, codec, &mut partitions[span.slot], span)?;
        view.base = base;
        base += view.held.len();
        views.push(view);
    }
    let mut others: Vec<&Entry> = Vec::new();
    let mut other_places = HashMap::new();
    let mut held: Vec<&Entry> = Vec::with_capacity(base);
    for (number, view) in views.iter().enumerate() {
        let partition = &partitions[view.span.slot];
        held.extend(partition.range(view.held.clone()));
        for at in view.elsewhere() {
            if let Some(entry) = partition.entry(at)
                && let hash_map::Entry::Vacant(place) = other_places.entry((number, at))
            {
                place.insert(base + others.len());
                others.push(entry);
            }
        }
    }
    held.append(&mut others);
    let context = Context { rows: codec.decode(held.iter().copied())?, others: other_places };
    let mut columns = Vec::with_capacity(calls.len());
    for (number, call) in calls.iter().enumerate() {
        let column = context.column(call, number, &mut views)?;
        let same = column.data_type() == &call.data_type;
        columns.push(if same { column } else { cast(&column, &call.data_type)? });
    }
    Ok(Results { rows: context.wanted(codec, &views)?, columns })
}

impl View {
    fn new(calls: &[Call], codec: &RowCodec, partition: &mut Partition, span: Span) -> Result<Self> {
        let mut view = Self { held: span.rows.clone(), span, base: 0, wants: Vec::with_capacity(calls.len()) };
        let mut summarised = 0;
        for call in calls {
            let want = view.want(call, calls, summarised, codec, partition)?;
            summarised += usize::from(call.summarised().is_some());
            view.wants.push(want);
        }
        Ok(view)
    }

    /// `summary`: the call's place among those that are summarised.
    fn want(
        &mut self,
        call: &Call,
        calls: &[Call],
        summary: usize,
        codec: &RowCodec,
        partition: &mut Partition,
    ) -> Result<Want> {
        let (rows, len, base) = (self.span.rows.clone(), partition.len(), partition.base);
        let share = |one: usize, of: usize| one as f64 / of as f64;
        Ok(match &call.function {
            Function::RowNumber => Want::Numbers(rows.map(|at| (base + at) as u64 + 1).collect()),
            Function::Rank => Want::Numbers(per_peers(partition, rows, |peers| (base + peers.start) as u64 + 1)),
            Function::DenseRank => {
                let mut group = partition.groups_before(rows.start + 1) as u64;
                let first = rows.start;
                let counted = |peers: Range<usize>| {
                    group += u64::from(peers.start > first);
                    group
                };
                Want::Numbers(per_peers(partition, rows, counted))
            }
            Function::PercentRank => {
                let last = (len as f64 - 1.0).max(1.0);
                Want::Shares(per_peers(partition, rows, |peers| peers.start as f64 / last))
            }
            Function::CumeDist => Want::Shares(per_peers(partition, rows, |peers| share(peers.end, len))),
            Function::Ntile(buckets) => Want::Numbers(rows.map(|at| bucket(at as u64, len as u64, *buckets)).collect()),
            Function::Shift { ignore_nulls: true, by, .. } if *by != 0 => {
                self.hold(0..len);
                Want::NotNull(Vec::new())
            }
            Function::Shift { by, .. } => {
                let other = |at: usize| (at as i64).checked_sub(*by).and_then(|at| usize::try_from(at).ok());
                Want::Rows(rows.map(|at| other(at).filter(|other| *other < len)).collect())
            }
            Function::Nth { ignore_nulls: true, frame, .. } => {
                let frames = frame.of(partition, rows, codec)?;
                self.hold(hull(&frames));
                Want::NotNull(frames)
            }
            Function::Nth { place, frame, .. } => {
                let frames = frame.of(partition, rows, codec)?;
                Want::Rows(frames.into_iter().map(|frame| nth(frame, *place)).collect())
            }
            Function::Match => {
                let Some(matches) = &partition.matches else {
                    return Err(Error::internal("nobody has searched for matches"));
                };
                Want::Match(Arc::new(matches.measures.clone()), rows.map(|at| matches.at(at)).collect())
            }
            Function::Aggregate(aggregate) => {
                let frames = aggregate.frame.of(partition, rows, codec)?;
                let frames = seeded(aggregate, calls, summary, codec, partition, frames)?;
                self.hold(frames.rows.clone());
                Want::Frames(Some(frames))
            }
        })
    }

    /// Sees to it that these rows are decoded.
    fn hold(&mut self, rows: Range<usize>) {
        if !rows.is_empty() {
            self.held = self.held.start.min(rows.start)..self.held.end.max(rows.end);
        }
    }

    /// Rows that are needed and not among those held.
    fn elsewhere(&self) -> impl Iterator<Item = usize> + '_ {
        let rows = self.wants.iter().filter_map(|want| match want {
            Want::Rows(rows) => Some(rows),
            _ => None,
        });
        rows.flatten().flatten().copied().filter(|at| !self.held.contains(at))
    }
}

/// Per row of a span what is the same for all its peers.
fn per_peers<T: Copy>(partition: &Partition, span: Range<usize>, mut of: impl FnMut(Range<usize>) -> T) -> Vec<T> {
    let mut results: Vec<T> = Vec::with_capacity(span.len());
    let mut end = 0;
    for at in span {
        match results.last() {
            Some(same) if at < end => results.push(*same),
            _ => {
                let peers = partition.peers_start(at)..partition.peers_end(at);
                end = peers.end;
                results.push(of(peers));
            }
        }
    }
    results
}

/// `ntile`: the first buckets are one row larger where the rows can't be divided evenly.
fn bucket(at: u64, len: u64, buckets: u64) -> u64 {
    let (size, larger) = (len / buckets, len % buckets);
    match at < larger * (size + 1) {
        true => at / (size + 1) + 1,
        false => larger + (at - larger * (size + 1)) / size.max(1) + 1,
    }
}

fn nth(frame: Range<usize>, place: Place) -> Option<usize> {
    match place {
        Place::FromFirst(n) => Some(frame.start.checked_add(n - 1)?).filter(|at| *at < frame.end),
        Place::FromLast(n) => frame.end.checked_sub(n).filter(|at| *at >= frame.start),
        Place::Nowhere => None,
    }
}

/// Rows that all frames together have. Frames only move on.
fn hull(frames: &[Range<usize>]) -> Range<usize> {
    match (frames.first(), frames.last()) {
        (Some(first), Some(last)) => first.start..last.end.max(first.start),
        _ => 0..0,
    }
}

/// Which rows must be read for the frames, and an accumulator that holds the others.
fn seeded(
    aggregate: &FrameAggregate,
    calls: &[Call],
    summary: usize,
    codec: &RowCodec,
    partition: &mut Partition,
    frames: Vec<Range<usize>>,
) -> Result<Frames> {
    let whole = hull(&frames);
    let count = partition.chunk_count();
    let first_end = frames.first().map_or(0, |frame| frame.end);
    let last_start = frames.last().map_or(0, |frame| frame.start);
    let (chunks, rows) = match aggregate.way {
        Way::Whole if count > 1 => (0..count, 0..0),
        Way::Growing => {
            let chunk = partition.chunk_of(first_end.saturating_sub(1));
            let from = partition.chunk_start(chunk);
            (0..chunk, from..whole.end.max(from))
        }
        Way::Shrinking => {
            let chunk = (partition.chunk_of(last_start) + 1).min(count);
            let to = partition.chunk_start(chunk);
            (chunk..count, whole.start.min(to)..to)
        }
        _ => (0..0, whole),
    };
    if chunks.is_empty() {
        return Ok(Frames { frames, seed: None, rows });
    }
    for chunk in chunks.clone() {
        summarise(calls, codec, partition, chunk)?;
    }
    let mut seed = aggregate.accumulator()?;
    let states = chunks.filter_map(|chunk| partition.summary(chunk).and_then(|states| states.get(summary)));
    merge_states(seed.as_mut(), states)?;
    Ok(Frames { frames, seed: Some(seed), rows })
}

/// Remembers what the summarised calls make of a chunk's rows.
fn summarise(calls: &[Call], codec: &RowCodec, partition: &mut Partition, chunk: usize) -> Result<()> {
    if partition.summary(chunk).is_some() {
        return Ok(());
    }
    let rows = codec.decode(partition.chunk_entries(chunk).iter())?;
    let states = calls
        .iter()
        .filter_map(Call::summarised)
        .map(|aggregate| {
            let mut accumulator = aggregate.accumulator()?;
            accumulator.update_batch(&aggregate.arguments(&rows)?.of(0, rows.num_rows())?)?;
            Ok(accumulator.state()?)
        })
        .collect::<Result<Vec<_>>>()?;
    partition.summarise(chunk, states);
    Ok(())
}

/// The rows that were decoded.
struct Context {
    rows: RecordBatch,
    /// Where rows stand that no view holds: by view and position.
    others: HashMap<(usize, usize), usize>,
}

impl Context {
    fn place(&self, number: usize, view: &View, at: usize) -> Option<usize> {
        if view.held.contains(&at) {
            return Some(view.base + at - view.held.start);
        }
        self.others.get(&(number, at)).copied()
    }

    /// The rows that results are wanted for.
    fn wanted(&self, codec: &RowCodec, views: &[View]) -> Result<RecordBatch> {
        let places = views.iter().flat_map(|view| {
            let first = view.base + view.span.rows.start - view.held.start;
            first..first + view.span.rows.len()
        });
        let places: UInt32Array = places.map(|place| place as u32).collect();
        let columns = self.rows.columns().iter().map(|column| take(column, &places, None));
        batch(codec.schema(), columns.collect::<Result<_, _>>()?, places.len())
    }

    /// The results of a call.
    fn column(&self, call: &Call, number: usize, views: &mut [View]) -> Result<ArrayRef> {
        match &call.function {
            Function::Shift { argument, by, default, .. } => {
                let argument = argument.evaluate(&self.rows)?;
                let places = self.places(
                    number,
                    views,
                    |valid, at, _| {
                        let far = usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX);
                        match *by > 0 {
                            true => valid.partition_point(|other| *other < at).checked_sub(far),
                            false => valid.partition_point(|other| *other <= at).checked_add(far - 1),
                        }
                    },
                    &argument,
                );
                gathered(&argument, &places, default)
            }
            Function::Nth { argument, place, .. } => {
                let argument = argument.evaluate(&self.rows)?;
                let places = self.places(
                    number,
                    views,
                    |valid, _, frame| {
                        let first = valid.partition_point(|other| *other < frame.start);
                        nth(first..valid.partition_point(|other| *other < frame.end), *place)
                    },
                    &argument,
                );
                gathered(&argument, &places, &ScalarValue::Null)
            }
            Function::Aggregate(aggregate) => {
                let arguments = aggregate.arguments(&self.rows)?;
                let mut answers = Vec::new();
                for view in views {
                    let Want::Frames(frames) = &mut view.wants[number] else { continue };
                    let Some(frames) = frames.take() else { continue };
                    let base = view.base as i64 - view.held.start as i64;
                    let place = |at: usize| (at as i64 + base) as usize;
                    answers.extend(frames.answers(aggregate, &arguments, &call.data_type, place)?);
                }
                match answers.is_empty() {
                    true => Ok(new_empty_array(&call.data_type)),
                    false => Ok(ScalarValue::iter_to_array(answers)?),
                }
            }
            Function::Match => {
                let nothing = new_null_array(&call.data_type, 1);
                let (mut columns, mut places): (Vec<&dyn Array>, _) = (vec![nothing.as_ref()], Vec::new());
                for view in &*views {
                    let Want::Match(measures, rows) = &view.wants[number] else { continue };
                    columns.push(measures.as_ref());
                    let of = columns.len() - 1;
                    places.extend(rows.iter().map(|place| place.map_or((0, 0), |place| (of, place))));
                }
                Ok(interleave(&columns, &places)?)
            }
            Function::PercentRank | Function::CumeDist => {
                let shares = views.iter().map(|view| match &view.wants[number] {
                    Want::Shares(shares) => shares.as_slice(),
                    _ => &[],
                });
                Ok(Arc::new(Float64Array::from_iter_values(shares.flatten().copied())))
            }
            _ => {
                let numbers = views.iter().map(|view| match &view.wants[number] {
                    Want::Numbers(numbers) => numbers.as_slice(),
                    _ => &[],
                });
                Ok(Arc::new(UInt64Array::from_iter_values(numbers.flatten().copied())))
            }
        }
    }

    /// Where the rows stand whose argument is the result. `choose` picks among the positions where it is not NULL, by the
    /// row's own position and its frame.
    fn places(
        &self,
        number: usize,
        views: &[View],
        choose: impl Fn(&[usize], usize, Range<usize>) -> Option<usize>,
        argument: &ArrayRef,
    ) -> Vec<Option<usize>> {
        let mut places = Vec::new();
        for (of, view) in views.iter().enumerate() {
            match &view.wants[number] {
                Want::Rows(rows) => {
                    places.extend(rows.iter().map(|at| at.and_then(|at| self.place(of, view, at))));
                }
                Want::NotNull(frames) => {
                    let stands = |at: usize| view.base + at - view.held.start;
                    let valid: Vec<usize> = view.held.clone().filter(|at| argument.is_valid(stands(*at))).collect();
                    for (row, at) in view.span.rows.clone().enumerate() {
                        let frame = frames.get(row).cloned().unwrap_or(0..0);
                        let chosen = choose(&valid, at, frame).and_then(|place| valid.get(place));
                        places.push(chosen.map(|at| stands(*at)));
                    }
                }
                _ => {}
            }
        }
        places
    }
}

/// The values at some places; `default` where there is none.
fn gathered(values: &ArrayRef, places: &[Option<usize>], default: &ScalarValue) -> Result<ArrayRef> {
    if default.is_null() || places.iter().all(Option::is_some) {
        let places: UInt32Array = places.iter().map(|place| place.map(|place| place as u32)).collect();
        return Ok(take(values, &places, None)?);
    }
    let default = default.cast_to(values.data_type())?.to_array_of_size(1)?;
    if places.len() > u32::MAX as usize {
        return Err(Error::internal("a span of more than 4 billion rows"));
    }
    let places: Vec<(usize, usize)> = places.iter().map(|place| place.map_or((1, 0), |place| (0, place))).collect();
    Ok(interleave(&[values.as_ref(), default.as_ref()], &places)?)
}
