//! One input of an as-of join: what is computed of its rows, and the rows as bytes and back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::{SortOptions, and, filter, filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::logical_expr::Expr;

use super::key::Row;
use super::line::{Line, times};
use crate::error::{Error, Result};
use crate::operator::aggregate::Horizon;
use crate::operator::columns::canonical;
use crate::operator::expression::Expression;
use crate::plan::flow::FlowNode;
use crate::state::row_numbers::row_field;

/// See the [module](self).
pub(super) struct Side {
    keys: Vec<Expression>,
    time: Expression,
    pub(super) line: Line,
    pub(super) schema: SchemaRef,
    /// The columns in the order in which their bytes stand.
    order: Vec<usize>,
    converter: RowConverter,
    /// What this input has promised of its times.
    pub(super) horizon: Horizon,
    pub(super) drops_late: bool,
    pub(super) key_types: Vec<DataType>,
}

/// Rows that may meet others, and those that never do.
pub(super) struct Arrivals {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) times: Int64Array,
    pub(super) rows: RecordBatch,
    pub(super) weights: Option<Int64Array>,
    /// Rows without a key or a time.
    pub(super) apart: Option<(RecordBatch, Option<Int64Array>)>,
    pub(super) late: BooleanArray,
}

impl Side {
    pub(super) fn new(
        input: &FlowNode,
        keys: Vec<&Expr>,
        time: &Expr,
        order: Vec<usize>,
        line: impl Fn(&DataType) -> Line,
        (horizon, drops_late): (Horizon, bool),
    ) -> Result<Self> {
        let schema = Arc::clone(input.schema.inner());
        let keys = keys.into_iter().map(|key| Expression::new(key, &input.schema)).collect::<Result<Vec<_>>>()?;
        let key_types = keys.iter().map(|key| key.data_type(&schema)).collect::<Result<Vec<_>>>()?;
        let time = Expression::new(time, &input.schema)?;
        let line = line(&time.data_type(&schema)?);
        // As the canonical form completes an order: ascending, NULLs last.
        let options = SortOptions { descending: false, nulls_first: false };
        let fields = order
            .iter()
            .map(|&column| SortField::new_with_options(schema.field(column).data_type().clone(), options))
            .collect::<Vec<_>>();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::not_supported(
                "an as-of join remembers rows, and some of these columns cannot be compared",
            )
            .with_hint("name the columns that you need in a subquery"));
        }
        let converter = RowConverter::new(fields)?;
        Ok(Self { keys, time, line, schema, order, converter, horizon, drops_late, key_types })
    }

    /// The columns of this side's state behind `_group`: a row's number, how often it is there, and its columns.
    pub(super) fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![row_field(), Arc::new(Field::new("_weight", DataType::Int64, false))];
        fields.extend(self.schema.fields().iter().cloned());
        Arc::new(Schema::new(fields))
    }

    /// The keys of rows.
    pub(super) fn keys(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.keys.iter().map(|key| canonical(&key.evaluate(rows)?)).collect()
    }

    /// Sorts out the rows of a delta; `restored` ones are never late.
    pub(super) fn arrivals(&self, rows: RecordBatch, weights: Option<Int64Array>, restored: bool) -> Result<Arrivals> {
        let keys = self.keys(&rows)?;
        let times = times(&self.time.evaluate(&rows)?)?;
        let count = rows.num_rows();
        let has_all = |row: usize| times.is_valid(row) && keys.iter().all(|key| !is_null(key, row));
        let whole: BooleanArray = (0..count).map(|row| Some(has_all(row))).collect();
        let horizon = self.line.limit(self.horizon.at());
        let is_late = |row: usize| times.is_valid(row) && horizon.has_passed(times.value(row));
        let late = self.drops_late && !restored;
        let late: BooleanArray = (0..count).map(|row| Some(late && is_late(row))).collect();
        let in_time = not(&late)?;
        let chosen = and(&whole, &in_time)?;
        let apart = and(&not(&whole)?, &in_time)?;
        let weigh = |mask: &BooleanArray| weights.as_ref().map(|weights| numbers(weights, mask)).transpose();
        let apart = match apart.true_count() {
            0 => None,
            _ => Some((filter_record_batch(&rows, &apart)?, weigh(&apart)?)),
        };
        if chosen.true_count() == count {
            return Ok(Arrivals { keys, times, rows, weights, apart, late });
        }
        Ok(Arrivals {
            keys: keys.iter().map(|key| Ok(filter(key, &chosen)?)).collect::<Result<_>>()?,
            times: numbers(&times, &chosen)?,
            weights: weigh(&chosen)?,
            rows: filter_record_batch(&rows, &chosen)?,
            apart,
            late,
        })
    }

    /// Rows as bytes.
    pub(super) fn bytes(&self, rows: &RecordBatch) -> Result<Vec<Row>> {
        let columns: Vec<ArrayRef> =
            self.order.iter().map(|&column| canonical(rows.column(column))).collect::<Result<_>>()?;
        let bytes = self.converter.convert_columns(&columns)?;
        Ok(bytes.iter().map(|row| Row::from(row.data())).collect())
    }

    /// Bytes as columns, in the order of the schema.
    pub(super) fn columns<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.map(|row| parser.parse(row)))?;
        let mut sorted: Vec<(usize, ArrayRef)> = self.order.iter().copied().zip(columns).collect();
        sorted.sort_unstable_by_key(|(place, _)| *place);
        Ok(sorted.into_iter().map(|(_, column)| column).collect())
    }

    /// The row all of whose columns are NULL.
    pub(super) fn nulls(&self) -> Result<Row> {
        let columns = self.order.iter().map(|&column| {
            let data_type = self.schema.field(column).data_type();
            arrow::array::new_null_array(data_type, 1)
        });
        let columns: Vec<ArrayRef> = columns.collect();
        Ok(Row::from(self.converter.convert_columns(&columns)?.row(0).data()))
    }
}

fn numbers(numbers: &Int64Array, mask: &BooleanArray) -> Result<Int64Array> {
    Ok(filter(numbers, mask)?.as_primitive::<Int64Type>().clone())
}

fn is_null(column: &ArrayRef, row: usize) -> bool {
    match column.data_type() {
        DataType::Null => true,
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => {
            column.logical_nulls().is_some_and(|nulls| nulls.is_null(row))
        }
        _ => column.is_null(row),
    }
}
