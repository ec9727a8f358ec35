//! What every row of a table must keep: generated columns, NOT NULL, CHECK, and defaults for what is left out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DFSchema;
use datafusion::logical_expr::ExprSchemable;
use datafusion::scalar::ScalarValue;

use crate::error::{Error, ErrorKind, Result};
use crate::operator::expression::{Expression, batch};
use crate::plan::{Planner, RowValues};
use crate::sql;
use crate::table::TableDefinition;
use crate::table::assign::{assign, type_name};

/// See the [module](self).
pub(in crate::session) struct Rules {
    table: String,
    definition: TableDefinition,
    schema: SchemaRef,
    /// The same columns, each nullable: rows before they are checked.
    draft: SchemaRef,
    generated: Vec<(usize, Expression)>,
    checks: Vec<(String, Expression)>,
}

impl Rules {
    /// The rules of a definition.
    pub(in crate::session) fn new(
        planner: &Planner,
        table: &str,
        definition: &TableDefinition,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let draft: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let draft = Arc::new(Schema::new(draft));
        let columns = DFSchema::try_from_qualified_schema(table, &draft)?;
        let mut generated = Vec::new();
        for (place, column) in definition.columns.iter().enumerate() {
            let Some(text) = &column.generated else { continue };
            let of = |error: Error| error.context(format!("column \"{}\"", column.name));
            let expr =
                planner.row_expression(&columns, &sql::parse_expression(text)?, RowValues::RowOnly).map_err(of)?;
            let other = expr.column_refs().into_iter().find_map(|used| {
                definition.columns.iter().find(|other| other.name == used.name && other.generated.is_some())
            });
            if let Some(other) = other {
                return Err(Error::invalid(format!(
                    "cannot use generated column \"{}\" in column generation expression",
                    other.name
                )));
            }
            generated.push((place, Expression::new(&expr, &columns).map_err(of)?));
        }
        let mut checks = Vec::new();
        for check in &definition.checks {
            let of = |error: Error| error.context(format!("check constraint \"{}\"", check.name));
            let text = sql::parse_expression(&check.expression)?;
            let expr = planner.row_expression(&columns, &text, RowValues::RowOnly).map_err(of)?;
            let data_type = expr.get_type(&columns)?;
            if !matches!(data_type, arrow::datatypes::DataType::Boolean | arrow::datatypes::DataType::Null) {
                return Err(of(Error::new(
                    ErrorKind::DatatypeMismatch,
                    format!("argument of CHECK must be type boolean, not type {}", type_name(&data_type)),
                )));
            }
            checks.push((check.name.clone(), Expression::new(&expr, &columns).map_err(of)?));
        }
        let (table, schema) = (table.to_owned(), Arc::clone(schema));
        Ok(Self { table, definition: definition.clone(), schema, draft, generated, checks })
    }

    /// Checks the defaults' types.
    pub(in crate::session) fn check_defaults(&self, planner: &Planner) -> Result<()> {
        (0..self.definition.columns.len()).try_for_each(|place| self.default(planner, place, 1, 0, &[]).map(|_| ()))
    }

    /// `rows` values of a column that is left out.
    pub(in crate::session) fn default(
        &self,
        planner: &Planner,
        place: usize,
        rows: usize,
        now_micros: i64,
        parameters: &[ScalarValue],
    ) -> Result<ArrayRef> {
        let column = &self.definition.columns[place];
        let data_type = self.schema.field(place).data_type();
        let Some(text) = &column.default else { return Ok(arrow::array::new_null_array(data_type, rows)) };
        let none = DFSchema::empty();
        let values = RowValues::Statement { now_micros, parameters };
        let expr = planner.row_expression(&none, &sql::parse_expression(text)?, values)?;
        let empty = batch(&Arc::new(Schema::empty()), Vec::new(), rows)?;
        let values = Expression::new(&expr, &none)?.evaluate(&empty)?;
        assign(&values, data_type, &column.name)
    }

    /// Rows of these columns, in the table's order: generated columns are computed, and every rule is checked.
    pub(in crate::session) fn complete(&self, columns: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
        let mut rows = batch(&self.draft, columns, count)?;
        if !self.generated.is_empty() {
            let mut columns = rows.columns().to_vec();
            for (place, expression) in &self.generated {
                let values = expression.evaluate(&rows)?;
                let field = self.schema.field(*place);
                columns[*place] = assign(&values, field.data_type(), field.name())?;
            }
            rows = batch(&self.draft, columns, count)?;
        }
        for (column, field) in rows.columns().iter().zip(self.schema.fields()) {
            if !field.is_nullable()
                && let Some(row) = (0..count).find(|row| column.is_null(*row))
            {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    format!(
                        "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                        field.name(),
                        self.table
                    ),
                )
                .with_code("23502")
                .with_detail(format!("Failing row contains {}.", row_text(&rows, row))));
            }
        }
        for (name, condition) in &self.checks {
            let holds = condition.evaluate_predicate(&rows)?;
            // NULL is no violation.
            if let Some(row) = (0..count).find(|row| holds.is_valid(*row) && !holds.value(*row)) {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    format!("new row for relation \"{}\" violates check constraint \"{name}\"", self.table),
                )
                .with_code("23514")
                .with_detail(format!("Failing row contains {}.", row_text(&rows, row))));
            }
        }
        batch(&self.schema, rows.columns().to_vec(), count)
    }
}

/// A value as errors show it.
fn value_text(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "null".to_owned();
    }
    let options = FormatOptions::new();
    ArrayFormatter::try_new(array, &options).map(|values| values.value(row).to_string()).unwrap_or_default()
}

/// `(1, null, abc)`.
fn row_text(rows: &RecordBatch, row: usize) -> String {
    let values: Vec<String> = rows.columns().iter().map(|column| value_text(column.as_ref(), row)).collect();
    format!("({})", values.join(", "))
}

/// The error of a key that is there already.
pub(super) fn duplicate_key(definition: &TableDefinition, rows: &RecordBatch, row: usize) -> Error {
    let columns = definition.key_columns();
    let names: Vec<&str> = columns.iter().map(|place| definition.columns[*place].name.as_str()).collect();
    let values: Vec<String> = columns.iter().map(|place| value_text(rows.column(*place).as_ref(), row)).collect();
    Error::new(
        ErrorKind::Constraint,
        format!("duplicate key value violates unique constraint \"{}\"", definition.primary_key_name),
    )
    .with_code("23505")
    .with_detail(format!("Key ({})=({}) already exists.", names.join(", "), values.join(", ")))
}
