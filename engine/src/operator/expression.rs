//! Expressions: DataFusion's logical ones, bound to an input's columns and evaluated on whole batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use crate::error::{Error, ErrorKind, Result};

/// Binds a (type-coerced) logical expression to the columns of `schema`.
pub fn physical(expression: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let planning = PhysicalPlanningContext::default();
    create_physical_expr(expression, schema, &ExecutionProps::new(), &planning)
        .map_err(|error| Error::from(error).context(described(&expression.human_display())))
}

/// An expression bound to its input, which names itself in errors.
#[derive(Debug, Clone)]
pub struct Expression {
    physical: Arc<dyn PhysicalExpr>,
    text: String,
}

impl Expression {
    /// Binds `expression` to the columns of `schema`.
    pub fn new(expression: &Expr, schema: &DFSchema) -> Result<Self> {
        // What is computed, not what it is called.
        let shown = match expression {
            Expr::Alias(alias) => &alias.expr,
            other => other,
        };
        Ok(Self { physical: physical(expression, schema)?, text: shown.human_display().to_string() })
    }

    /// An expression that is bound already, with the words that errors use for it.
    pub fn bound(physical: Arc<dyn PhysicalExpr>, text: impl Into<String>) -> Self {
        Self { physical, text: text.into() }
    }

    /// The bound expression.
    pub fn physical(&self) -> &Arc<dyn PhysicalExpr> {
        &self.physical
    }

    /// The expression as errors name it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its type over rows of `schema`.
    pub fn data_type(&self, schema: &SchemaRef) -> Result<DataType> {
        self.physical.data_type(schema).map_err(|error| self.explain(error.into()))
    }

    /// One value per row of `rows`.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        self.values(rows).map_err(|error| self.explain(self.blamed(error, rows)))
    }

    fn values(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        Ok(self.physical.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()))?)
    }

    /// The error of a value, with the first row that brings it: what the expression reads there.
    fn blamed(&self, error: Error, rows: &RecordBatch) -> Error {
        if error.kind() != ErrorKind::Data {
            return error;
        }
        let failing = (0..rows.num_rows()).find_map(|row| {
            let one = rows.slice(row, 1);
            self.values(&one).err().map(|error| (error, one))
        });
        // An expression that fails without rows reads none of them.
        let Some((error, row)) = failing else { return error };
        match self.shown(&row) {
            shown if shown.is_empty() => error,
            shown => error.followed_by(format!(", in the row with {shown}")),
        }
    }

    /// The columns that the expression reads, of one row.
    fn shown(&self, row: &RecordBatch) -> String {
        let mut columns: Vec<usize> = collect_columns(&self.physical).iter().map(|column| column.index()).collect();
        columns.sort_unstable();
        let options = FormatOptions::new().with_null("NULL");
        let shown = columns.into_iter().take(MOST_COLUMNS).filter_map(|index| {
            let value = ArrayFormatter::try_new(row.columns().get(index)?, &options).ok()?.value(0).to_string();
            let value: String = value.chars().take(LONGEST_VALUE).collect();
            Some(format!("{} = {value}", row.schema_ref().field(index).name()))
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// A predicate's answer for each row of `rows`; NULL counts as false where the answer is used as a filter.
    pub fn evaluate_predicate(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let answer = self.evaluate(rows)?;
        match answer.data_type() {
            DataType::Boolean => Ok(answer.as_boolean().clone()),
            DataType::Null => Ok(BooleanArray::new_null(rows.num_rows())),
            other => Err(self.explain(Error::internal(format!("a condition is boolean, this one is {other}")))),
        }
    }

    fn explain(&self, error: Error) -> Error {
        error.context(described(&self.text))
    }
}

fn described(text: &dyn std::fmt::Display) -> String {
    let text = text.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("in {}…", &text[..end]),
        None => format!("in {text}"),
    }
}

/// Characters of an expression that an error shows.
const LONGEST: usize = 200;

/// Columns of a row that an error shows, and characters of each.
const MOST_COLUMNS: usize = 6;
const LONGEST_VALUE: usize = 60;

/// The same rows under another schema of the same types (a union's, a join's: names and qualifiers differ).
pub(crate) fn with_schema(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if Arc::ptr_eq(rows.schema_ref(), schema) {
        return Ok(rows);
    }
    let count = rows.num_rows();
    let (_, columns, _) = rows.into_parts();
    batch(schema, columns, count)
}

/// A batch of `count` rows, which may have no columns.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Schema};
    use datafusion::common::ToDFSchema;
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn rows() -> (DFSchema, RecordBatch) {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let rows = batch(&schema, vec![Arc::new(Int64Array::from(vec![Some(6), Some(0), None]))], 3).unwrap();
        (schema.to_dfschema().unwrap(), rows)
    }

    #[test]
    fn evaluates_literals_and_columns() {
        let (schema, rows) = rows();
        let sum = Expression::new(&(col("a") + lit(1_i64)), &schema).unwrap();
        assert_eq!(sum.evaluate(&rows).unwrap().as_ref(), &Int64Array::from(vec![Some(7), Some(1), None]));
        let constant = Expression::new(&lit(5_i64), &schema).unwrap();
        assert_eq!(constant.evaluate(&rows).unwrap().len(), 3);
    }

    #[test]
    fn an_error_names_the_expression_and_its_kind() {
        let (schema, rows) = rows();
        let quotient = Expression::new(&(lit(1_i64) / col("a")), &schema).unwrap();
        let error = quotient.evaluate(&rows).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert_eq!(error.message(), "in 1 / a: division by zero, in the row with a = 0");
    }

    #[test]
    fn an_unknown_column_is_an_error() {
        let (schema, _) = rows();
        assert!(Expression::new(&col("b"), &schema).is_err());
    }

    #[test]
    fn a_null_predicate_holds_for_no_row() {
        let (schema, rows) = rows();
        let nothing = Expression::new(&lit(datafusion::scalar::ScalarValue::Null), &schema).unwrap();
        assert_eq!(nothing.evaluate_predicate(&rows).unwrap().true_count(), 0);
    }
}
