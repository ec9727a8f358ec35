//! A stream's watermark on one worker: per partition, on the scan's rows, before any filter.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::connector::{PartitionState, SourceBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::time::WatermarkId;

use super::packet::Promise;

/// Follows the partitions that one worker reads.
///
/// A promise grows with its time column (the planner accepts no other), so that its greatest value is its value at the
/// greatest time: it is computed once a run, not once a row.
pub(crate) struct EventTime {
    id: WatermarkId,
    /// The time column among the scan's.
    column: usize,
    /// The promise, over the time column alone.
    expression: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// By partition: the greatest promise so far, in microseconds.
    partitions: Vec<Option<i64>>,
    /// What this worker has last said.
    said: Option<Promise>,
    /// The greatest that this worker has promised.
    promised: Option<i64>,
}

impl EventTime {
    /// A promise over column `column` of `scan`. Starts with the partitions' maxima of a restored snapshot, or none.
    pub(crate) fn new(
        id: WatermarkId,
        expression: Arc<dyn PhysicalExpr>,
        (scan, column): (&Schema, usize),
        partitions: Vec<Option<i64>>,
    ) -> Result<Self> {
        let alone = |node: Arc<dyn PhysicalExpr>| match node.downcast_ref::<Column>() {
            Some(of_scan) if of_scan.index() == column => {
                Ok(Transformed::yes(Arc::new(Column::new(of_scan.name(), 0)) as Arc<dyn PhysicalExpr>))
            }
            Some(other) => Err(Error::internal(format!("a watermark reads the column {}", other.name())).into()),
            None => Ok(Transformed::no(node)),
        };
        let expression = expression.transform_down(alone).data()?;
        // A run without a time has none, whatever the column says.
        let schema = Arc::new(Schema::new(vec![scan.field(column).clone().with_nullable(true)]));
        Ok(Self { id, column, expression, schema, partitions, said: None, promised: None })
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
        let latest = latest_of_runs(batch.rows.column(self.column), &batch.runs)?;
        let latest = RecordBatch::try_new(Arc::clone(&self.schema), vec![latest])?;
        let promises = self.expression.evaluate(&latest)?.into_array(batch.runs.len())?;
        for (run, (partition, _)) in batch.runs.iter().enumerate() {
            let Some(promise) = micros(&promises, run)? else { continue };
            let partition = *partition as usize;
            if self.partitions.len() <= partition {
                self.partitions.resize(partition + 1, None);
            }
            let known = &mut self.partitions[partition];
            *known = Some(known.map_or(promise, |known| known.max(promise)));
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

/// The greatest time of each run of rows, in the column's own type; NULL where there is none.
fn latest_of_runs(times: &ArrayRef, runs: &[(u32, usize)]) -> Result<ArrayRef> {
    fn latest<T: ArrowTimestampType>(times: &ArrayRef, runs: &[(u32, usize)]) -> ArrayRef {
        let times: &PrimitiveArray<T> = times.as_primitive();
        let mut start = 0;
        let latest = runs.iter().map(|(_, length)| {
            let length = (*length).min(times.len() - start);
            let run = times.slice(start, length);
            start += length;
            arrow::compute::max(&run)
        });
        let latest: PrimitiveArray<T> = latest.collect();
        Arc::new(latest.with_data_type(times.data_type().clone()))
    }
    Ok(match unit(times.data_type())? {
        TimeUnit::Second => latest::<TimestampSecondType>(times, runs),
        TimeUnit::Millisecond => latest::<TimestampMillisecondType>(times, runs),
        TimeUnit::Microsecond => latest::<TimestampMicrosecondType>(times, runs),
        TimeUnit::Nanosecond => latest::<TimestampNanosecondType>(times, runs),
    })
}

/// An instant of a timestamp column of any unit, in microseconds (rounded down).
fn micros(times: &ArrayRef, row: usize) -> Result<Option<i64>> {
    fn ticks<T: ArrowTimestampType>(times: &ArrayRef, row: usize) -> i64 {
        times.as_primitive::<T>().value(row)
    }
    let unit = unit(times.data_type())?;
    if times.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match unit {
        TimeUnit::Second => ticks::<TimestampSecondType>(times, row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => ticks::<TimestampMillisecondType>(times, row).saturating_mul(1_000),
        TimeUnit::Microsecond => ticks::<TimestampMicrosecondType>(times, row),
        TimeUnit::Nanosecond => ticks::<TimestampNanosecondType>(times, row).div_euclid(1_000),
    }))
}

fn unit(data_type: &DataType) -> Result<TimeUnit> {
    match data_type {
        DataType::Timestamp(unit, _) => Ok(*unit),
        other => Err(Error::new(ErrorKind::DatatypeMismatch, format!("a watermark of type {other}"))
            .with_hint("a WATERMARK expression must be a timestamp")),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, TimestampMillisecondArray};
    use arrow::datatypes::Field;
    use datafusion::common::ToDFSchema;
    use datafusion::logical_expr::{col, lit};
    use datafusion::scalar::ScalarValue;

    use super::*;
    use crate::operator::expression::physical;

    fn event_time() -> EventTime {
        let schema = Schema::new(vec![Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true)]);
        EventTime::new(WatermarkId(0), Arc::new(Column::new("at", 0)), (&schema, 0), Vec::new()).unwrap()
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
    fn the_promise_is_computed_at_the_greatest_time() {
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![9, 9, 9, 9])) as ArrayRef, false),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(70_000), None, Some(90_500), None])), true),
        ])
        .unwrap();
        let schema = rows.schema();
        let five = ScalarValue::new_interval_mdn(0, 0, 5_000_000_000);
        let promise = physical(&(col("at") - lit(five)), &schema.clone().to_dfschema().unwrap()).unwrap();
        let mut time = EventTime::new(WatermarkId(0), promise, (&schema, 1), Vec::new()).unwrap();
        time.observe(&SourceBatch { rows, weights: None, runs: vec![(1, 2), (0, 1), (2, 1)] }).unwrap();
        assert_eq!(time.partitions().collect::<Vec<_>>(), [(0, 85_500_000), (1, 65_000_000)]);
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
