//! Project: one expression per output column; weights pass through.

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use super::expression::{Expression, batch};
use super::{Operator, Output, Step};
use crate::delta::Delta;
use crate::error::Result;

/// Computes the output columns row by row. Stateless; columns that are passed on share their memory.
#[derive(Debug)]
pub struct Project {
    expressions: Vec<Expression>,
    schema: SchemaRef,
}

impl Project {
    /// A projection of rows of `input` to rows of `schema`, one expression per column.
    pub fn new(expressions: &[Expr], input: &DFSchema, schema: SchemaRef) -> Result<Self> {
        let expressions = expressions.iter().map(|expr| Expression::new(expr, input)).collect::<Result<_>>()?;
        Ok(Self { expressions, schema })
    }
}

impl Operator for Project {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let columns = self.expressions.iter().map(|expr| expr.evaluate(delta.rows())).collect::<Result<Vec<_>>>()?;
        let rows = batch(&self.schema, columns, delta.num_rows())?;
        out.push(delta.with_rows(rows));
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::common::ToDFSchema;
    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn computes_columns_and_keeps_weights() {
        let input: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let output: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("twice", DataType::Int64, true),
            Field::new("one", DataType::Int64, false),
        ]));
        let expressions = [col("a") * lit(2_i64), lit(1_i64)];
        let mut project = Project::new(&expressions, &input.clone().to_dfschema().unwrap(), output).unwrap();
        let rows = batch(&input, vec![Arc::new(Int64Array::from(vec![Some(1), None]))], 2).unwrap();
        let mut out = Output::default();
        let _ = project.on_delta(0, Delta::weighted(rows, Int64Array::from(vec![2, -1])), &mut out).unwrap();
        let (deltas, _) = out.take();
        assert_eq!(deltas[0].rows().column(0).as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(2), None]));
        assert_eq!(deltas[0].rows().column(1).as_primitive::<Int64Type>().values(), &[1, 1]);
        assert_eq!(deltas[0].weights().unwrap().values(), &[2, -1]);
    }

    #[test]
    fn no_columns_are_rows_all_the_same() {
        let input: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let mut project = Project::new(&[], &input.clone().to_dfschema().unwrap(), Arc::new(Schema::empty())).unwrap();
        let rows = batch(&input, vec![Arc::new(Int64Array::from(vec![1, 2, 3]))], 3).unwrap();
        let mut out = Output::default();
        let _ = project.on_delta(0, Delta::append(rows), &mut out).unwrap();
        assert_eq!(out.take().0[0].num_rows(), 3);
    }
}
