//! Which groups have changes that are held back, and when they are due: the triggers of `EMIT`.
//!
//! A group *waits* from the epoch in which it first changed after it was last shown. At the end of an epoch it *fires* for
//! the first of its triggers that says so. A group that is complete, by the watermark, waits for nothing any more; and at
//! the end of all input nobody does.

use std::collections::BTreeSet;

use super::EpochContext;
use super::aggregate::Horizon;
use crate::plan::flow::Firing;
use crate::state::slots::Slot;

/// What is known of a group.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// The time of the epoch with its first change that was not shown, in microseconds; `None`: all is shown.
    since: Option<i64>,
    /// Rows that have come since it was shown.
    rows: i64,
    /// What a watermark must pass for it to be complete, in microseconds.
    ends: Option<i64>,
    touched: bool,
}

const NEW: Group = Group { since: None, rows: 0, ends: None, touched: false };

/// The groups, by slot; see the [module](self).
#[derive(Debug)]
pub(super) struct Held {
    firing: Firing,
    groups: Vec<Group>,
    touched: Vec<Slot>,
    /// Waiting groups by the time at which they have waited long enough.
    due: BTreeSet<(i64, Slot)>,
    /// Waiting groups by what completes them.
    ending: BTreeSet<(i64, Slot)>,
    /// Up to where groups are complete.
    complete: Horizon,
}

impl Held {
    pub(super) fn new(firing: Firing) -> Self {
        let complete = Horizon::new(firing.complete.map(|(_, watermark, delay)| (watermark, delay)));
        let (groups, touched, due, ending) = Default::default();
        Self { firing, groups, touched, due, ending, complete }
    }

    /// A new group, and what completes it.
    pub(super) fn note(&mut self, slot: Slot, ends: Option<i64>) {
        let place = slot as usize;
        if self.groups.len() <= place {
            self.groups.resize(place + 1, NEW);
        }
        self.groups[place] = Group { ends, ..NEW };
    }

    /// A group changes in the current epoch: so many rows have come to it.
    pub(super) fn change(&mut self, slot: Slot, rows: i64) {
        let group = &mut self.groups[slot as usize];
        // Without a count of rows there is nothing to remember of a group that is not waiting.
        if self.firing.rows.is_some() {
            group.rows = group.rows.saturating_add(rows);
        }
        if !std::mem::replace(&mut group.touched, true) {
            self.touched.push(slot);
        }
    }

    /// The groups that changed in the current epoch.
    pub(super) fn touched(&self) -> &[Slot] {
        &self.touched
    }

    /// The end of an epoch: the groups that fire. `differs`: whether a group that was touched has anything to show.
    pub(super) fn end_epoch(&mut self, epoch: &EpochContext<'_>, differs: impl Fn(Slot) -> bool) -> Vec<Slot> {
        self.complete.advance(self.complete.with(epoch.watermarks));
        let mut fired = Vec::new();
        for slot in std::mem::take(&mut self.touched) {
            self.groups[slot as usize].touched = false;
            if differs(slot) {
                self.wait(slot, epoch.now_micros);
            } else {
                self.settle(slot);
            }
            let group = &self.groups[slot as usize];
            let enough = self.firing.rows.is_some_and(|rows| group.rows.unsigned_abs() >= rows);
            let complete = group.ends.is_some_and(|ends| ends <= self.complete.at());
            if !self.firing.holds_back() || enough || (complete && group.since.is_some()) {
                self.fire(slot, &mut fired);
            }
        }
        while let Some((due, slot)) = self.due.first().copied()
            && due <= epoch.now_micros
        {
            self.fire(slot, &mut fired);
        }
        while let Some((ends, slot)) = self.ending.first().copied()
            && ends <= self.complete.at()
        {
            self.fire(slot, &mut fired);
        }
        if epoch.watermarks.is_over() {
            let waiting = |slot: &Slot| self.groups[*slot as usize].since.is_some();
            let rest: Vec<Slot> = (0..self.groups.len() as Slot).filter(waiting).collect();
            rest.into_iter().for_each(|slot| self.fire(slot, &mut fired));
        }
        fired
    }

    fn wait(&mut self, slot: Slot, now: i64) {
        let group = &mut self.groups[slot as usize];
        if group.since.is_some() || !self.firing.holds_back() {
            return;
        }
        group.since = Some(now);
        if let Some(delay) = self.firing.delay_micros {
            self.due.insert((now.saturating_add(delay), slot));
        }
        if let Some(ends) = group.ends.filter(|_| self.firing.complete.is_some()) {
            self.ending.insert((ends, slot));
        }
    }

    /// A group has nothing to show any more.
    fn settle(&mut self, slot: Slot) {
        let group = &mut self.groups[slot as usize];
        let Some(since) = group.since.take() else { return };
        if let Some(delay) = self.firing.delay_micros {
            self.due.remove(&(since.saturating_add(delay), slot));
        }
        if let Some(ends) = group.ends {
            self.ending.remove(&(ends, slot));
        }
    }

    fn fire(&mut self, slot: Slot, fired: &mut Vec<Slot>) {
        self.settle(slot);
        self.groups[slot as usize].rows = 0;
        fired.push(slot);
    }

    /// Whether nothing is known of a group but what completes it.
    pub(super) fn is_idle(&self, slot: Slot) -> bool {
        let group = &self.groups[slot as usize];
        group.since.is_none() && group.rows == 0
    }

    /// Whether a group has something to show.
    pub(super) fn is_waiting(&self, slot: Slot) -> bool {
        self.groups[slot as usize].since.is_some()
    }

    /// What a snapshot keeps of a group: since when it waits (`i64::MIN`: it does not), and its rows.
    pub(super) fn snapshot(&self, slot: Slot) -> (i64, i64) {
        let group = &self.groups[slot as usize];
        (group.since.unwrap_or(i64::MIN), group.rows)
    }

    /// Takes it back, for a group that was just noted.
    pub(super) fn restore(&mut self, slot: Slot, (since, rows): (i64, i64)) {
        self.groups[slot as usize].rows = rows;
        if since != i64::MIN {
            self.wait(slot, since);
        }
    }

    /// When the first group will have waited long enough.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        let timed = (self.due.len() + self.ending.len()) * size_of::<(i64, Slot)>();
        self.groups.capacity() * size_of::<Group>() + timed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{WatermarkId, Watermarks};

    fn ended(held: &mut Held, now: i64, watermark: i64) -> Vec<Slot> {
        let mut watermarks = Watermarks::none(1);
        watermarks.advance(WatermarkId(0), watermark);
        let mut fired =
            held.end_epoch(&EpochContext { epoch: 1, now_micros: now, watermarks: &watermarks }, |slot| slot != 9);
        fired.sort_unstable();
        fired
    }

    #[test]
    fn whichever_comes_first() {
        let complete = Some((0, WatermarkId(0), 5));
        let mut held = Held::new(Firing { delay_micros: Some(100), rows: Some(3), complete });
        held.note(0, Some(50));
        held.note(1, Some(60));
        held.note(2, None);
        held.change(0, 1);
        held.change(1, 3);
        held.change(2, 1);
        assert_eq!(ended(&mut held, 1_000, 10), [1], "it has its rows");
        assert_eq!((held.is_waiting(0), held.is_waiting(1), held.next_due()), (true, false, Some(1_100)));
        held.change(0, 1);
        held.change(1, 2);
        assert_eq!(ended(&mut held, 1_050, 54), Vec::<Slot>::new());
        assert_eq!(ended(&mut held, 1_099, 55), [0], "it is complete");
        assert_eq!(ended(&mut held, 1_100, 55), [2], "the delay counts from the first change");
        held.change(0, 1);
        assert_eq!(ended(&mut held, 1_101, 55), [0], "a complete group shows what is late at once");
        assert_eq!(ended(&mut held, 1_150, 55), [1]);
        assert!((0..3).all(|slot| held.is_idle(slot)) && held.next_due().is_none());
    }

    #[test]
    fn what_comes_to_nothing_waits_for_nothing() {
        let mut held = Held::new(Firing { delay_micros: Some(100), rows: Some(3), complete: None });
        held.note(9, None);
        held.change(9, 1);
        assert_eq!(ended(&mut held, 0, 0), Vec::<Slot>::new());
        assert!(!held.is_waiting(9) && !held.is_idle(9), "its row is counted");
        held.change(9, 2);
        assert_eq!(ended(&mut held, 0, 0), [9], "and with these it is enough");
        assert!(held.is_idle(9));
    }

    #[test]
    fn at_the_end_all_fire_and_a_snapshot_keeps_what_waits() {
        let firing = Firing { delay_micros: Some(100), rows: Some(5), complete: None };
        let mut held = Held::new(firing);
        held.note(0, None);
        held.change(0, 2);
        assert!(ended(&mut held, 7, 0).is_empty());
        let mut other = Held::new(firing);
        other.note(3, None);
        other.restore(3, held.snapshot(0));
        assert_eq!((other.snapshot(3), other.next_due()), ((7, 2), Some(107)));
        let mut watermarks = Watermarks::none(0);
        watermarks.end();
        let context = EpochContext { epoch: 2, now_micros: 8, watermarks: &watermarks };
        assert_eq!(other.end_epoch(&context, |_| true), [3]);
    }

    #[test]
    fn without_triggers_nothing_waits() {
        let mut held = Held::new(Firing::default());
        held.note(0, None);
        held.change(0, 1);
        assert_eq!(ended(&mut held, 0, 0), [0]);
        assert!(held.is_idle(0));
    }
}
