//! Union all: the rows of every input, with their weights.

use arrow::datatypes::SchemaRef;

use super::expression::with_schema;
use super::{Operator, Output, Step};
use crate::delta::Delta;
use crate::error::Result;

/// Passes on all rows of all inputs under the output's schema. Stateless.
#[derive(Debug)]
pub struct Union {
    schema: SchemaRef,
}

impl Union {
    /// A union whose inputs have the types of `schema`.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl Operator for Union {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let (rows, weights) = delta.into_parts();
        out.push(Delta::new(with_schema(rows, &self.schema)?, weights));
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::expression::batch;
    use super::*;

    #[test]
    fn rows_of_all_inputs_pass_under_the_outputs_names() {
        let output: SchemaRef = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("y", DataType::Int64, false)]));
        let mut union = Union::new(Arc::clone(&output));
        let mut out = Output::default();
        let left = batch(&output, vec![Arc::new(Int64Array::from(vec![1]))], 1).unwrap();
        let right = batch(&other, vec![Arc::new(Int64Array::from(vec![2]))], 1).unwrap();
        let _ = union.on_delta(0, Delta::append(left), &mut out).unwrap();
        let _ = union.on_delta(1, Delta::weighted(right, Int64Array::from(vec![-1])), &mut out).unwrap();
        let (deltas, _) = out.take();
        assert_eq!(deltas.len(), 2);
        assert_eq!(deltas[1].schema(), output);
        assert_eq!((deltas[0].weight(0), deltas[1].weight(0)), (1, -1));
    }

    #[test]
    fn a_type_that_does_not_fit_is_an_error() {
        let output: SchemaRef = Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, true)]));
        let input: SchemaRef = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        let rows = batch(&input, vec![Arc::new(Int64Array::from(vec![1]))], 1).unwrap();
        assert!(Union::new(output).on_delta(0, Delta::append(rows), &mut Output::default()).is_err());
    }
}
