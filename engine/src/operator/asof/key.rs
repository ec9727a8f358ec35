//! What an as-of join knows of one key: the rows of both sides, in the order of their places.
//!
//! A right row is the nearest one for the left rows behind the right row before it. So what comes or goes on the right
//! concerns one stretch of left rows, and no others are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::line::{Limit, Line};
use crate::error::{Error, Result};
use crate::operator::StateSize;
use crate::state::row_numbers::{RowNumbers, UNWRITTEN};

/// All columns of a row as bytes.
pub(super) type Row = Arc<[u8]>;

/// A row at its place. Rows of one place stand in the order of their bytes.
pub(super) type Moment = (i64, Row);

/// Rows that come and go, each once.
pub(super) type Changes = Vec<(Moment, i64)>;

/// How often a row was there at the end of the last epoch, and is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    before: i64,
    pub(super) now: i64,
    /// By which it was written down.
    pub(super) number: u64,
    /// Whether it is another one since.
    changed: bool,
}

/// What rows that are let go leave behind.
pub(super) struct Left<'a> {
    pub(super) size: &'a mut StateSize,
    /// By side.
    pub(super) numbers: &'a mut [RowNumbers; 2],
}

impl Left<'_> {
    fn forget(&mut self, side: usize, row: &Row, count: &Count) {
        self.size.rows -= 1;
        self.size.bytes -= bytes_of(row);
        self.numbers[side].leave(count.number);
    }
}

/// A row to be emitted.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) left: Row,
    pub(super) right: Option<Row>,
    pub(super) weight: i64,
}

/// The rows of a key, by side.
#[derive(Debug, Default)]
pub(super) struct Key {
    rows: [BTreeMap<Moment, Count>; 2],
    /// Whether its slot is taken.
    pub(super) is_known: bool,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// Bytes of memory that a row takes.
fn bytes_of(row: &Row) -> usize {
    row.len() + size_of::<(Moment, Count)>() + 2 * size_of::<usize>()
}

/// Before all rows of a place.
fn start_of(place: i64) -> Moment {
    (place, Row::default())
}

/// Left rows from a place on up to another, both included.
type Stretch = (Bound<Moment>, Bound<Moment>);

fn stretch(from: i64, to: i64) -> Stretch {
    let end = to.checked_add(1).map_or(Bound::Unbounded, |behind| Bound::Excluded(start_of(behind)));
    (Bound::Included(start_of(from)), end)
}

impl Key {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(BTreeMap::is_empty)
    }

    /// Gives numbers to the rows of a side that have none: they are about to be written down.
    pub(super) fn number(&mut self, side: usize, group: u8, numbers: &mut RowNumbers) {
        for count in self.rows[side].values_mut().filter(|count| count.number == UNWRITTEN) {
            count.number = numbers.give(group);
        }
    }

    /// The rows of a side that have changed since they were written down, or all.
    pub(super) fn to_write(&self, side: usize, all: bool) -> impl Iterator<Item = (&Moment, &Count)> {
        self.rows[side].iter().filter(move |(_, count)| all || count.changed)
    }

    /// All rows of a side were written down.
    pub(super) fn written(&mut self, side: usize) {
        self.rows[side].values_mut().for_each(|count| count.changed = false);
    }

    /// A row was read back, by this number.
    pub(super) fn read_back(&mut self, side: usize, moment: &Moment, number: u64) {
        if let Some(count) = self.rows[side].get_mut(moment) {
            (count.number, count.changed) = (number, false);
        }
    }

    /// Takes note of rows that come or go. What is shown follows from [`Self::changes`]; then [`Self::settle`].
    pub(super) fn apply(&mut self, side: usize, moment: &Moment, weight: i64, size: &mut StateSize) -> Result<()> {
        let rows = &mut self.rows[side];
        let count = match rows.get_mut(moment) {
            Some(count) => count,
            None => {
                size.rows += 1;
                size.bytes += bytes_of(&moment.1);
                rows.entry(moment.clone()).or_default()
            }
        };
        count.now += weight;
        count.changed = true;
        if count.now < 0 {
            return Err(Error::internal("more rows of an as-of join were taken back than had come"));
        }
        Ok(())
    }

    /// The nearest right row for a left one at `place`: of the end of the last epoch, or of now.
    fn nearest(&self, place: i64, line: Line, before: bool) -> Option<&Moment> {
        let from = start_of(line.reach(place)?);
        let is_there = |count: &Count| if before { count.before > 0 } else { count.now > 0 };
        self.rows[RIGHT].range(from..).find(|(_, count)| is_there(count)).map(|(moment, _)| moment)
    }

    /// Emits what these changes make otherwise: the pairs that are no more, and those that are new.
    pub(super) fn changes(&self, changed: [&[Moment]; 2], line: Line, keeps: bool, shown: &mut Vec<Shown>) {
        let mut say = |left: &Row, right: Option<&Moment>, weight: i64| {
            if weight != 0 && (right.is_some() || keeps) {
                shown.push(Shown { left: Arc::clone(left), right: right.map(|(_, row)| Arc::clone(row)), weight });
            }
        };
        for moment in changed[LEFT] {
            let Some(count) = self.rows[LEFT].get(moment) else { continue };
            let [was, is] = [true, false].map(|before| self.nearest(moment.0, line, before));
            if was == is {
                say(&moment.1, is, count.now - count.before);
            } else {
                say(&moment.1, was, -count.before);
                say(&moment.1, is, count.now);
            }
        }
        let places: BTreeSet<i64> = changed[RIGHT].iter().map(|moment| moment.0).collect();
        for place in places {
            let Some(to) = line.reached_from(place) else { continue };
            // Whoever reaches the right row before this one doesn't look further.
            let earlier = self.rows[RIGHT].range(..start_of(place)).next_back().map(|((earlier, _), _)| *earlier);
            let from = match earlier.map(|earlier| line.reached_from(earlier)) {
                None | Some(None) => Some(i64::MIN),
                Some(Some(last)) => last.checked_add(1),
            };
            let Some(from) = from.filter(|from| *from <= to) else { continue };
            let [was, is] = [true, false].map(|before| self.nearest(to, line, before));
            if was == is {
                continue;
            }
            for (moment, count) in self.rows[LEFT].range(stretch(from, to)) {
                // Those that have changed themselves have been said.
                if count.before == count.now {
                    say(&moment.1, was, -count.now);
                    say(&moment.1, is, count.now);
                }
            }
        }
    }

    /// Makes these changes what was.
    pub(super) fn settle(&mut self, changed: [&[Moment]; 2], left: &mut Left<'_>) {
        for (side, (rows, changed)) in self.rows.iter_mut().zip(changed).enumerate() {
            for moment in changed {
                let Some(count) = rows.get_mut(moment) else { continue };
                count.before = count.now;
                if count.now == 0 {
                    left.forget(side, &moment.1, count);
                    rows.remove(moment);
                }
            }
        }
    }

    /// The time at which it is known that a left row's right row is final.
    pub(super) fn due(&self, place: i64, line: Line) -> Option<i64> {
        match line.is_back() {
            true => Some(line.place(place)),
            false => self.nearest(place, line, false).map(|(right, _)| line.place(*right)),
        }
    }

    /// Forgets the left rows whose right row is final below the limit, and emits them if they wait for that.
    pub(super) fn resolve(
        &mut self,
        (limit, line): (Limit, Line),
        keeps: bool,
        mut shown: Option<&mut Vec<Shown>>,
        gone: &mut Left<'_>,
    ) {
        loop {
            let oldest = match line.is_back() {
                true => self.rows[LEFT].last_key_value(),
                false => self.rows[LEFT].first_key_value(),
            };
            let Some((&(place, _), _)) = oldest else { return };
            let due = self.due(place, line);
            if !limit.is_end && !due.is_some_and(|due| limit.has_passed(due)) {
                return;
            }
            let right = self.nearest(place, line, false).map(|(_, row)| Arc::clone(row));
            let oldest = match line.is_back() {
                true => self.rows[LEFT].pop_last(),
                false => self.rows[LEFT].pop_first(),
            };
            let Some(((_, left), count)) = oldest else { return };
            gone.forget(LEFT, &left, &count);
            if let Some(shown) = &mut shown
                && (right.is_some() || keeps)
            {
                shown.push(Shown { left, right, weight: count.now });
            }
        }
    }

    /// Forgets right rows that no left row reaches: none that is here, and none that will come at or above the limit.
    pub(super) fn release(&mut self, (limit, line): (Limit, Line), gone: &mut Left<'_>) {
        let [left, right] = &mut self.rows;
        if left.is_empty() && limit.is_end {
            right.iter().for_each(|((_, row), count)| gone.forget(RIGHT, row, count));
            right.clear();
            return;
        }
        let oldest = if line.is_back() { left.last_key_value() } else { left.first_key_value() };
        let oldest = oldest.map(|((place, _), _)| line.place(*place));
        let needed_from = oldest.map_or(limit.time, |oldest| oldest.min(limit.time));
        if !line.is_back() {
            while let Some(first) = right.first_entry().filter(|first| first.key().0 < needed_from) {
                let ((_, row), count) = first.remove_entry();
                gone.forget(RIGHT, &row, &count);
            }
            return;
        }
        // The latest before that time stands for all before it.
        let Some(behind) = line.place(needed_from).checked_add(1) else { return };
        let Some(latest) = right.range(start_of(behind)..).next().map(|(moment, _)| moment.clone()) else { return };
        while let Some(last) = right.last_entry().filter(|last| *last.key() > latest) {
            let ((_, row), count) = last.remove_entry();
            gone.forget(RIGHT, &row, &count);
        }
    }
}
