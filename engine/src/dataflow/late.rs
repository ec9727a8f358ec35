//! Rows that came too late, on their way from a chain to the job's second end.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::delta::Delta;
use crate::error::Result;
use crate::operator::LateRows;
use crate::plan::flow::LateSource;
use crate::time::{Epoch, Watermarks};

use super::exchange::Outlet;

/// One chain's part.
pub(crate) struct LateEnd {
    pub(crate) outlet: Outlet,
    schema: SchemaRef,
    /// By member of the chain.
    sources: Vec<(usize, LateSource)>,
}

impl LateEnd {
    pub(crate) fn new(outlet: Outlet, schema: SchemaRef, sources: Vec<(usize, LateSource)>) -> Self {
        Self { outlet, schema, sources }
    }

    /// Sends late rows of a member. `watermarks` are those by which they were late: of the end of the last epoch.
    pub(crate) fn send(&mut self, epoch: Epoch, member: usize, late: LateRows, watermarks: &Watermarks) -> Result<()> {
        let of = |(of, source): &&(usize, LateSource)| *of == member && source.input == late.input;
        let Some((_, source)) = self.sources.iter().find(of) else { return Ok(()) };
        let count = late.rows.num_rows();
        let micros = i64::try_from(epoch).unwrap_or(i64::MAX).saturating_mul(1_000);
        let at = watermarks.get(source.watermark).filter(|at| *at != i64::MAX);
        let columns = self.schema.fields().iter().enumerate().map(|(place, field)| -> ArrayRef {
            match (source.columns.get(place), field.name().as_str()) {
                (Some(Some(column)), _) => Arc::clone(late.rows.column(*column)),
                (Some(None), _) => new_null_array(field.data_type(), count),
                (None, "late_operator") => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&source.operator, count)))
                }
                (None, "late_ptime") => {
                    Arc::new(TimestampMicrosecondArray::from_value(micros, count).with_timezone("+00:00"))
                }
                (None, _) => Arc::new(TimestampMicrosecondArray::from_iter(std::iter::repeat_n(at, count))),
            }
        });
        let columns = columns.collect();
        self.outlet.send(epoch, Delta::append(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}
