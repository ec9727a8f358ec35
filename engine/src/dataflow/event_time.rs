//! A stream's watermark on one worker: per partition, on the scan's rows, before any filter.

use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::physical_expr::PhysicalExpr;

use crate::connector::{PartitionState, SourceBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::time::WatermarkId;

use super::packet::Promise;

/// Follows the partitions that one worker reads.
pub(crate) struct EventTime {
    id: WatermarkId,
    expression: Arc<dyn PhysicalExpr>,
    /// By partition: the greatest promise so far, in microseconds.
    partitions: Vec<Option<i64>>,
    /// What this worker has last said.
    said: Option<Promise>,
    /// The greatest that this worker has promised.
    promised: Option<i64>,
}

impl EventTime {
    /// Starts with the partitions' maxima of a restored snapshot, or none.
    pub(crate) fn new(id: WatermarkId, expression: Arc<dyn PhysicalExpr>, partitions: Vec<Option<i64>>) -> Self {
        Self { id, expression, partitions, said: None, promised: None }
    }

    /// Whose watermark.
    pub(crate) fn id(&self) -> WatermarkId {
        self.id
    }

    /// What each partition has promised.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.partitions.iter().enumerate().filter_map(|(partition, at)| Some((partition as u32, (*at)?)))
    }

    /// Takes in the rows of a poll.
    pub(crate) fn observe(&mut self, batch: &SourceBatch) -> Result<()> {
        let rows = batch.rows.num_rows();
        let times = self.expression.evaluate(&batch.rows)?.into_array(rows)?;
        let mut start = 0;
        for (partition, length) in &batch.runs {
            let length = (*length).min(rows - start);
            let run = times.slice(start, length);
            start += length;
            if let Some(latest) = latest_micros(&run)? {
                let partition = *partition as usize;
                if self.partitions.len() <= partition {
                    self.partitions.resize(partition + 1, None);
                }
                let known = &mut self.partitions[partition];
                *known = Some(known.map_or(latest, |known| known.max(latest)));
            }
        }
        Ok(())
    }

    /// What to say at the end of an epoch, if it is news. `partitions` are those that this worker reads now.
    pub(crate) fn promise(&mut self, partitions: &[PartitionState], finished: bool) -> Option<Promise> {
        let promise = self.current(partitions, finished);
        if self.said == Some(promise) {
            return None;
        }
        self.said = Some(promise);
        if let Promise::At(at) = promise {
            self.promised = self.promised.max(Some(at));
        }
        Some(promise)
    }

    /// Whether [`EventTime::promise`] would be news.
    pub(crate) fn has_news(&self, partitions: &[PartitionState], finished: bool) -> bool {
        self.said != Some(self.current(partitions, finished))
    }

    fn current(&self, partitions: &[PartitionState], finished: bool) -> Promise {
        if finished {
            return Promise::At(i64::MAX);
        }
        let mut least: Option<i64> = None;
        for partition in partitions.iter().filter(|partition| !partition.idle) {
            // A partition found while running starts at what was promised already.
            let known = self.partitions.get(partition.partition as usize).copied().flatten().or(self.promised);
            let Some(known) = known else { return Promise::Hold };
            least = Some(least.map_or(known, |least| least.min(known)));
        }
        if let Some(least) = least {
            return Promise::At(least);
        }
        let known = |partition: &PartitionState| self.partitions.get(partition.partition as usize).copied().flatten();
        match partitions.iter().filter_map(known).max() {
            Some(greatest) => Promise::Resting(greatest),
            None => Promise::NoneHere,
        }
    }
}

/// The greatest instant of a timestamp column of any unit, in microseconds (rounded down).
fn latest_micros(times: &dyn Array) -> Result<Option<i64>> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    Ok(match times.data_type() {
        DataType::Timestamp(Second, _) => {
            latest::<TimestampSecondType>(times).map(|seconds| seconds.saturating_mul(1_000_000))
        }
        DataType::Timestamp(Millisecond, _) => {
            latest::<TimestampMillisecondType>(times).map(|millis| millis.saturating_mul(1_000))
        }
        DataType::Timestamp(Microsecond, _) => latest::<TimestampMicrosecondType>(times),
        DataType::Timestamp(Nanosecond, _) => {
            latest::<TimestampNanosecondType>(times).map(|nanos| nanos.div_euclid(1_000))
        }
        other => {
            return Err(Error::new(ErrorKind::DatatypeMismatch, format!("a watermark of type {other}"))
                .with_hint("a WATERMARK expression must be a timestamp"));
        }
    })
}

fn latest<T: ArrowPrimitiveType<Native = i64>>(times: &dyn Array) -> Option<i64> {
    let times: &PrimitiveArray<T> = times.as_primitive();
    arrow::compute::max(times)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, TimestampMillisecondArray};
    use arrow::record_batch::RecordBatch;
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    fn event_time() -> EventTime {
        EventTime::new(WatermarkId(0), Arc::new(Column::new("at", 0)), Vec::new())
    }

    fn batch(millis: Vec<Option<i64>>, runs: Vec<(u32, usize)>) -> SourceBatch {
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(millis));
        SourceBatch {
            rows: RecordBatch::try_from_iter_with_nullable([("at", times, true)]).unwrap(),
            weights: None,
            runs,
        }
    }

    fn reads(partitions: &[u32]) -> Vec<PartitionState> {
        partitions.iter().map(|partition| PartitionState { partition: *partition, idle: false }).collect()
    }

    #[test]
    fn the_slowest_partition_decides_and_idle_ones_do_not() {
        let mut time = event_time();
        assert_eq!(time.promise(&[], false), Some(Promise::NoneHere));
        assert_eq!(time.promise(&[], false), None, "only news");
        assert_eq!(time.promise(&reads(&[0, 1]), false), Some(Promise::Hold), "no partition has had a row");
        time.observe(&batch(vec![Some(5), None, Some(3)], vec![(0, 3)])).unwrap();
        assert_eq!(time.promise(&reads(&[0, 1]), false), None, "partition 1 has had none");
        time.observe(&batch(vec![Some(9), Some(2), Some(4)], vec![(0, 1), (1, 2)])).unwrap();
        assert!(time.has_news(&reads(&[0, 1]), false));
        assert_eq!(time.promise(&reads(&[0, 1]), false), Some(Promise::At(4_000)));
        let idle = [PartitionState { partition: 0, idle: false }, PartitionState { partition: 1, idle: true }];
        assert_eq!(time.promise(&idle, false), Some(Promise::At(9_000)));
        let back = time.promise(&reads(&[0, 1]), false);
        assert_eq!(back, Some(Promise::At(4_000)), "what is merged of it does not go back, but waits for the others");
        let new = time.promise(&reads(&[0, 2]), false);
        assert_eq!(new, Some(Promise::At(9_000)), "a new partition starts where we are");
        let resting = [PartitionState { partition: 0, idle: true }, PartitionState { partition: 1, idle: true }];
        assert_eq!(time.promise(&resting, false), Some(Promise::Resting(9_000)));
        assert_eq!(time.promise(&reads(&[]), false), Some(Promise::NoneHere));
        assert_eq!(time.promise(&reads(&[]), true), Some(Promise::At(i64::MAX)));
    }
}
