//! Which rows of a partition a change reaches, by what the functions see.

use std::ops::Range;

use super::call::{Call, Function, Place};
use super::codec::RowCodec;
use super::partition::{Changed, Partition};
use crate::error::Result;

/// Sorted ranges without overlap.
pub(super) type Ranges = Vec<Range<usize>>;

/// The rows whose results may be others now, among them all that came.
pub(super) fn reach(calls: &[Call], partition: &Partition, changed: &[Changed], codec: &RowCodec) -> Result<Ranges> {
    let len = partition.len();
    let came: usize = changed.iter().map(|change| change.came).sum();
    let mut ranges: Ranges = changed.iter().map(|change| change.at..change.at + change.came).collect();
    if came * 2 >= len && len > 0 {
        return Ok(std::iter::once(0..len).collect());
    }
    for call in calls {
        match &call.function {
            Function::RowNumber => shifted(partition, changed, &mut ranges, |change, _| change.at),
            // A row's rank counts what stands before its peers, so that the peers of the next change still move.
            Function::Rank => {
                shifted(partition, changed, &mut ranges, |change, partition| partition.upper(&change.order));
            }
            Function::DenseRank => ranges.extend(changed.first().map(|change| change.at..len)),
            Function::PercentRank | Function::CumeDist | Function::Ntile(_) => {
                ranges.extend((!changed.is_empty()).then_some(0..len));
            }
            Function::Shift { by, ignore_nulls, .. } => {
                let far = usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX);
                let far = if *ignore_nulls { len } else { far };
                ranges.extend(changed.iter().map(|change| match *by {
                    by if by >= 0 => change.at..(change.at + change.came).saturating_add(far).min(len),
                    _ => change.at.saturating_sub(far)..change.at + change.came,
                }));
            }
            Function::Nth { place, frame, ignore_nulls, .. } => {
                for change in changed {
                    let behind = len - change.at - change.came;
                    let unseen = match place {
                        Place::Nowhere => true,
                        _ if *ignore_nulls || !frame.has_current() => false,
                        Place::FromFirst(n) => frame.is_from_first() && change.at >= *n,
                        Place::FromLast(n) => frame.is_to_last() && behind >= *n,
                    };
                    if !unseen {
                        ranges.push(frame.reach(partition, change, codec)?);
                    }
                }
            }
            // The search for matches says it itself.
            Function::Match => ranges.push(0..len),
            Function::Aggregate(aggregate) => {
                for change in changed {
                    ranges.push(aggregate.frame.reach(partition, change, codec)?);
                }
            }
        }
    }
    Ok(united(ranges))
}

/// Rows whose number has changed: those behind a change, up to where as many have gone as have come.
fn shifted(
    partition: &Partition,
    changed: &[Changed],
    ranges: &mut Ranges,
    until: impl Fn(&Changed, &Partition) -> usize,
) {
    let mut shift = 0_i64;
    for (number, change) in changed.iter().enumerate() {
        shift += change.came as i64 - change.went as i64;
        if shift != 0 {
            let to = changed.get(number + 1).map_or(partition.len(), |next| until(next, partition));
            ranges.push(change.at..to.max(change.at));
        }
    }
}

/// The same positions, sorted and without overlap.
pub(super) fn united(mut ranges: Ranges) -> Ranges {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut united: Ranges = Vec::with_capacity(ranges.len());
    for range in ranges {
        match united.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => united.push(range),
        }
    }
    united
}

/// What of the ranges lies in `within`.
pub(super) fn clipped(ranges: Ranges, within: &Range<usize>) -> Ranges {
    let clip = |range: Range<usize>| range.start.max(within.start)..range.end.min(within.end);
    ranges.into_iter().map(clip).filter(|range| !range.is_empty()).collect()
}
