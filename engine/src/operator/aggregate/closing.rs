//! When groups of a running aggregate are complete: one of their keys grows with a watermark.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt8Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;

use super::windows::micros;
use crate::error::{Error, Result};
use crate::operator::{StateChange, StatePart};
use crate::state::key_group::KEY_GROUPS;
use crate::state::slots::Slot;
use crate::time::{WatermarkId, Watermarks};

/// Up to where time is over: a watermark less its delay, as it stood at the end of the last epoch.
#[derive(Debug, Clone, Copy)]
pub(in crate::operator) struct Horizon {
    watermark: Option<(WatermarkId, i64)>,
    at: i64,
}

impl Horizon {
    pub(in crate::operator) fn new(watermark: Option<(WatermarkId, i64)>) -> Self {
        Self { watermark, at: i64::MIN }
    }

    /// Where it stood at the end of the last epoch.
    pub(in crate::operator) fn at(&self) -> i64 {
        self.at
    }

    /// Where it stands with these watermarks. The end of the input is the end of time, whatever the delay.
    pub(in crate::operator) fn with(&self, watermarks: &Watermarks) -> i64 {
        let Some((id, delay)) = self.watermark else { return self.at };
        match watermarks.get(id) {
            Some(i64::MAX) => i64::MAX,
            Some(watermark) => watermark.saturating_sub(delay).max(self.at),
            None => self.at,
        }
    }

    pub(in crate::operator) fn advance(&mut self, to: i64) {
        self.at = self.at.max(to);
    }

    /// A part that every worker of a restored job gets, whichever key groups it owns.
    pub(in crate::operator) fn snapshot(&self) -> Result<StatePart> {
        let schema = Schema::new(vec![
            Field::new("_group", DataType::UInt8, false),
            Field::new("closed", DataType::Int64, false),
        ]);
        let groups = UInt8Array::from_iter_values((0..KEY_GROUPS).map(|group| group as u8));
        let closed = Int64Array::from_value(self.at, KEY_GROUPS);
        let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(groups), Arc::new(closed)])?;
        Ok(StatePart { name: Self::PART.to_owned(), rows })
    }

    /// The part, which is always written as a whole.
    pub(in crate::operator) fn change(&self) -> Result<StateChange> {
        let StatePart { name, rows } = self.snapshot()?;
        Ok(StateChange::Whole { name, rows: vec![rows] })
    }

    /// The name of the part.
    pub(in crate::operator) const PART: &str = "closed";

    pub(in crate::operator) fn restore(&mut self, part: &StatePart) -> Result<()> {
        let closed = part.rows.columns().get(1).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let closed = closed.ok_or_else(|| Error::invalid("the state 'closed' of an aggregate is of another shape"))?;
        closed.values().iter().for_each(|at| self.advance(*at));
        Ok(())
    }
}

/// Which groups are complete when, by the key that grows.
pub(in crate::operator) struct Closes {
    key: usize,
    horizon: Horizon,
    groups: BTreeMap<i64, Vec<Slot>>,
    /// Groups whose key is NULL: complete at the end of the input.
    timeless: Vec<Slot>,
}

impl Closes {
    pub(in crate::operator) fn new(key: usize, watermark: WatermarkId, delay: i64) -> Self {
        let horizon = Horizon::new(Some((watermark, delay)));
        Self { key, horizon, groups: BTreeMap::new(), timeless: Vec::new() }
    }

    pub(in crate::operator) fn horizon(&mut self) -> &mut Horizon {
        &mut self.horizon
    }

    fn times(&self, keys: &[ArrayRef]) -> Result<Int64Array> {
        let key = keys.get(self.key).ok_or_else(|| Error::internal("an aggregate closes by a key that it has not"))?;
        micros(key)
    }

    /// The rows whose group was complete at the end of the last epoch, if there are any.
    pub(in crate::operator) fn late(&self, keys: &[ArrayRef]) -> Result<Option<BooleanArray>> {
        if self.horizon.at == i64::MIN {
            return Ok(None);
        }
        let times = self.times(keys)?;
        if arrow::compute::min(&times).is_none_or(|least| least >= self.horizon.at) {
            return Ok(None);
        }
        let late = times.iter().map(|time| Some(time.is_some_and(|time| time < self.horizon.at)));
        Ok(Some(late.collect()))
    }

    /// Takes note of new groups.
    pub(in crate::operator) fn note(&mut self, keys: &[ArrayRef], slots: &[Slot]) -> Result<()> {
        for (time, slot) in self.times(keys)?.iter().zip(slots) {
            match time {
                Some(time) => self.groups.entry(time).or_default().push(*slot),
                None => self.timeless.push(*slot),
            }
        }
        Ok(())
    }

    /// Forgets groups that are no more.
    pub(super) fn forget(&mut self, keys: &[ArrayRef], slots: &[Slot]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let gone: HashSet<Slot> = slots.iter().copied().collect();
        let times: BTreeSet<Option<i64>> = self.times(keys)?.iter().collect();
        for time in times {
            let Some(time) = time else {
                self.timeless.retain(|slot| !gone.contains(slot));
                continue;
            };
            if let Some(groups) = self.groups.get_mut(&time) {
                groups.retain(|slot| !gone.contains(slot));
                if groups.is_empty() {
                    self.groups.remove(&time);
                }
            }
        }
        Ok(())
    }

    /// The groups that are complete now.
    pub(in crate::operator) fn complete(&mut self) -> Vec<Slot> {
        if self.horizon.at == i64::MAX {
            let mut all = std::mem::take(&mut self.timeless);
            all.extend(std::mem::take(&mut self.groups).into_values().flatten());
            return all;
        }
        let rest = self.groups.split_off(&self.horizon.at);
        std::mem::replace(&mut self.groups, rest).into_values().flatten().collect()
    }
}
