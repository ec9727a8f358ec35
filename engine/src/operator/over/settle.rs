//! What a watermark settles in an OVER whose rows are ordered by event time and only come: rows below it have all come.
//!
//! A row whose frame lies below the watermark is final. With EMIT AFTER WATERMARK it is shown then; and rows that no frame
//! of a row that isn't final can reach are forgotten.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::scalar::ScalarValue;

use super::call::{Call, Function};
use super::codec::RowCodec;
use super::matching;
use super::partition::Partition;
use crate::error::{Error, Result};
use crate::operator::aggregate::closing::Horizon;
use crate::operator::aggregate::windows::micros;
use crate::state::slots::Slot;

/// See the [module](self).
pub(super) struct Settling {
    pub(super) horizon: Horizon,
    reaches: Reaches,
    /// Whether rows are forgotten; otherwise they are only shown late.
    forgets: bool,
    /// When to look at which partitions again, though no row comes.
    due: BTreeMap<i64, Vec<Slot>>,
}

/// The farthest that frames reach by values, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Reaches {
    ahead: i64,
    back: Option<i64>,
}

/// Up to where a partition's rows are final, and from where on they are needed.
pub(super) struct Settled {
    pub(super) until: usize,
    pub(super) needed: usize,
}

impl Settling {
    pub(super) fn new(horizon: Horizon, calls: &[Call], forgets: bool) -> Self {
        let frames = calls.iter().filter_map(|call| match &call.function {
            Function::Nth { frame, .. } => Some(frame),
            Function::Aggregate(aggregate) => Some(&aggregate.frame),
            _ => None,
        });
        let mut reaches = Reaches::default();
        for frame in frames {
            reaches.ahead = reaches.ahead.max(frame.micros_ahead().unwrap_or(0));
            reaches.back = reaches.back.max(frame.micros_back());
        }
        Self { horizon, reaches, forgets, due: BTreeMap::new() }
    }

    /// The partitions that must be looked at now.
    pub(super) fn due(&mut self) -> Vec<Slot> {
        let later = self.due.split_off(&self.horizon.at());
        std::mem::replace(&mut self.due, later).into_values().flatten().collect()
    }

    /// Rows that come below the watermark as it stood at the end of the last epoch.
    pub(super) fn late(&self, times: &ArrayRef) -> Result<Option<BooleanArray>> {
        let at = self.horizon.at();
        if at == i64::MIN {
            return Ok(None);
        }
        let late: Vec<bool> = micros(times)?.iter().map(|time| time.is_some_and(|time| time < at)).collect();
        Ok(late.contains(&true).then(|| BooleanArray::from(late)))
    }

    /// What is settled of a partition.
    pub(super) fn of(&self, calls: &[Call], partition: &Partition, codec: &RowCodec) -> Result<Settled> {
        let at = self.horizon.at();
        let len = partition.len();
        if at == i64::MIN || at == i64::MAX {
            let all = if at == i64::MAX { len } else { 0 };
            return Ok(Settled { until: all, needed: if self.forgets { all } else { 0 } });
        }
        let time = moment(at, codec.first_type()?)?;
        let come = below(partition, &time, codec)?;
        let mut until = come;
        for call in calls {
            until = until.min(match &call.function {
                Function::RowNumber | Function::Rank | Function::DenseRank => come,
                Function::PercentRank | Function::CumeDist | Function::Ntile(_) | Function::Match => 0,
                Function::Shift { by, .. } if *by >= 0 => come,
                Function::Shift { ignore_nulls: true, .. } => 0,
                Function::Shift { by, .. } => come.saturating_sub(count(*by)),
                Function::Nth { frame, .. } => frame.final_until(partition, come, &time, codec)?,
                Function::Aggregate(aggregate) => aggregate.frame.final_until(partition, come, &time, codec)?,
            });
        }
        let mut needed = if self.forgets { until } else { 0 };
        // From which time on rows may come or change.
        let from = match partition.entry(until) {
            Some(entry) if until < come => codec.order_values(std::iter::once(entry.order()))?,
            _ => time,
        };
        for call in calls {
            needed = needed.min(match &call.function {
                Function::RowNumber => until.min(len.saturating_sub(1)),
                Function::Rank => partition.peers_start(until.min(len.saturating_sub(1))),
                Function::Shift { by, .. } if *by >= 0 => until.saturating_sub(count(*by)),
                Function::Nth { frame, .. } => frame.needed_from(partition, until, &from, codec)?,
                Function::Aggregate(aggregate) => aggregate.frame.needed_from(partition, until, &from, codec)?,
                _ => until,
            });
        }
        if calls.iter().any(|call| matches!(call.function, Function::Rank)) {
            needed = partition.peers_start(needed);
        }
        Ok(Settled { until, needed })
    }

    /// Where the watermark stands in a partition.
    pub(super) fn stands_in(&self, partition: &Partition, codec: &RowCodec) -> Result<matching::Horizon> {
        let at = self.horizon.at();
        let come = match at {
            i64::MIN => 0,
            i64::MAX => partition.len(),
            _ => below(partition, &moment(at, codec.first_type()?)?, codec)?,
        };
        Ok(matching::Horizon { at, come })
    }

    /// Remembers to look at a partition again when the watermark has passed `due`.
    pub(super) fn remember_at(&mut self, slot: Slot, due: i64) {
        self.due.entry(due.max(self.horizon.at())).or_default().push(slot);
    }

    /// Remembers when to look at a partition again. `until`: up to where its rows are final.
    pub(super) fn remember(&mut self, slot: Slot, partition: &Partition, until: usize, codec: &RowCodec) -> Result<()> {
        let (row, far) = match (partition.len(), self.reaches.back) {
            (len, _) if until < len => (until, self.reaches.ahead),
            (len, Some(back)) if self.forgets && len > 0 => (len - 1, back),
            _ => return Ok(()),
        };
        let Some(entry) = partition.entry(row) else { return Ok(()) };
        let time = micros(&codec.order_values(std::iter::once(entry.order()))?)?;
        if time.is_valid(0) {
            let due = time.value(0).saturating_add(far).max(self.horizon.at());
            self.due.entry(due).or_default().push(slot);
        }
        Ok(())
    }
}

/// How many rows stand before a moment.
fn below(partition: &Partition, time: &ArrayRef, codec: &RowCodec) -> Result<usize> {
    Ok(partition.lower(&codec.encode_first(time)?))
}

fn count(by: i64) -> usize {
    usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX)
}

/// The first moment of a type that is not before `at`, in microseconds.
fn moment(at: i64, data_type: &DataType) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, zone) = data_type else {
        return Err(Error::internal(format!("event time of type {data_type}")));
    };
    let up = |length: i64| at.div_euclid(length) + i64::from(at.rem_euclid(length) != 0);
    let value = match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(up(1_000_000)), zone.clone()),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(up(1_000)), zone.clone()),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(at), zone.clone()),
        TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(at.saturating_mul(1_000)), zone.clone()),
    };
    let array = value.to_array_of_size(1)?;
    let same = array.data_type() == data_type;
    Ok(if same { array } else { cast(&array, data_type)? })
}
