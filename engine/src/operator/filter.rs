//! Filter: the rows for which a predicate is true, with their weights.

use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use super::columns::compact;
use super::expression::{Expression, batch, with_schema};
use super::{Operator, Output, Step};
use crate::delta::Delta;
use crate::error::Result;

/// Keeps the rows for which a predicate is true. Stateless, append-only and changelog alike.
#[derive(Debug)]
pub struct Filter {
    predicate: Expression,
    schema: SchemaRef,
}

impl Filter {
    /// A filter over rows of `input` that emits rows of `schema` (the same types).
    pub fn new(predicate: &Expr, input: &DFSchema, schema: SchemaRef) -> Result<Self> {
        Ok(Self { predicate: Expression::new(predicate, input)?, schema })
    }
}

impl Operator for Filter {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let mask = self.predicate.evaluate_predicate(delta.rows())?;
        let kept = mask.true_count();
        if kept == delta.num_rows() {
            let (rows, weights) = delta.into_parts();
            out.push(Delta::new(with_schema(rows, &self.schema)?, weights));
        } else if kept > 0 {
            let rows = unpinned(filter_record_batch(delta.rows(), &mask)?, &self.schema)?;
            let weights = match delta.weights() {
                Some(weights) => {
                    let weights = filter(weights, &mask)?;
                    Some(arrow::array::AsArray::as_primitive(&weights).clone())
                }
                None => None,
            };
            out.push(Delta::new(rows, weights));
        }
        Ok(Step::Done)
    }
}

/// The rows without what their views share with the batch that they come from.
fn unpinned(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(compact).collect::<Result<Vec<_>>>()?;
    batch(schema, columns, rows.num_rows())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::common::ToDFSchema;
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("s", DataType::Utf8View, true)]))
    }

    fn rows(count: i64) -> RecordBatch {
        let numbers = Int64Array::from_iter((0..count).map(|n| if n % 10 == 9 { None } else { Some(n) }));
        let strings = StringViewArray::from_iter_values((0..count).map(|n| format!("a long string with number {n}")));
        batch(&schema(), vec![Arc::new(numbers), Arc::new(strings)], count as usize).unwrap()
    }

    #[test]
    fn null_and_false_are_dropped_and_weights_kept() {
        let schema = schema();
        let mut filter = Filter::new(&col("a").gt(lit(5_i64)), &schema.clone().to_dfschema().unwrap(), schema).unwrap();
        let weights = Int64Array::from_iter_values((0..10).map(|n| if n % 2 == 0 { 3 } else { -1 }));
        let mut out = Output::default();
        assert_eq!(filter.on_delta(0, Delta::weighted(rows(10), weights), &mut out).unwrap(), Step::Done);
        let (deltas, _) = out.take();
        assert_eq!(deltas.len(), 1);
        assert_eq!(deltas[0].rows().column(0).as_primitive::<Int64Type>().values(), &[6, 7, 8]);
        assert_eq!(deltas[0].weights().unwrap().values(), &[3, -1, 3]);
    }

    #[test]
    fn survivors_do_not_pin_the_batch() {
        let schema = schema();
        let mut filter = Filter::new(&col("a").lt(lit(5_i64)), &schema.clone().to_dfschema().unwrap(), schema).unwrap();
        let mut out = Output::default();
        let _ = filter.on_delta(0, Delta::append(rows(8192)), &mut out).unwrap();
        let (deltas, _) = out.take();
        assert_eq!(deltas[0].num_rows(), 5);
        assert!(deltas[0].memory_size() < 2000, "{}", deltas[0].memory_size());
    }

    #[test]
    fn nothing_left_emits_nothing() {
        let schema = schema();
        let mut filter =
            Filter::new(&col("a").lt(lit(-5_i64)), &schema.clone().to_dfschema().unwrap(), schema).unwrap();
        let mut out = Output::default();
        let _ = filter.on_delta(0, Delta::append(rows(100)), &mut out).unwrap();
        assert!(out.take().0.is_empty());
    }
}
