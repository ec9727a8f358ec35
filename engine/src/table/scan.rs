//! Stored rows as record batches, and keys in the conditions of a query.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryBuilder};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;

use super::change::{Bytes, TableView};
use super::key;
use super::row::Decoder;
use super::store::Table;
use crate::error::Result;
use crate::operator::expression::batch;

/// Rows of one batch.
const BATCH_ROWS: usize = 8192;
/// Keys that a condition may name before a scan is the better way.
const MOST_KEYS: usize = 1024;

/// Where rows come from.
type RowSource = Box<dyn Iterator<Item = Result<(Bytes, Bytes)>> + Send>;

/// A table's rows in batches, read as they are asked for.
pub(crate) struct RowBatches {
    rows: RowSource,
    decoder: Decoder,
    schema: SchemaRef,
    /// The keys, and the place of their column.
    keys: Option<(usize, BinaryBuilder)>,
}

impl RowBatches {
    /// All rows, or those of `keys`: the columns `projection`. The number behind the last column's is that of the
    /// stored key, as bytes.
    pub(crate) fn new(
        view: TableView,
        table: &Arc<Table>,
        projection: &[usize],
        keys: Option<Vec<Bytes>>,
    ) -> Result<Self> {
        let width = table.schema().fields().len();
        let place = projection.iter().position(|column| *column == width);
        let plain: Vec<usize> = projection.iter().copied().filter(|column| *column != width).collect();
        let columns = Arc::new(table.schema().project(&plain)?);
        let mut fields = columns.fields().to_vec();
        if let Some(place) = place {
            fields.insert(place, Table::key_field());
        }
        let decoder = Decoder::new(table.stored_columns(&plain), columns)?;
        let rows: RowSource = match keys {
            None => Box::new(view.rows(table)),
            Some(keys) => {
                let table = Arc::clone(table);
                let found = move |key: Bytes| Ok(view.get(&table, &key)?.map(|row| (key, row)));
                Box::new(keys.into_iter().filter_map(move |key| found(key).transpose()))
            }
        };
        Ok(Self {
            rows,
            decoder,
            schema: Arc::new(Schema::new(fields)),
            keys: place.map(|place| (place, BinaryBuilder::new())),
        })
    }

    /// All rows, where any column may be NULL: rows that were stored under other rules.
    pub(crate) fn nullable(view: TableView, table: &Arc<Table>, projection: &[usize]) -> Result<Self> {
        let mut batches = Self::new(view, table, projection, None)?;
        let fields = batches.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        batches.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        batches.decoder = Decoder::new(table.stored_columns(projection), Arc::clone(&batches.schema))?;
        Ok(batches)
    }

    /// The batches' schema.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        while self.decoder.rows() < BATCH_ROWS {
            let Some(entry) = self.rows.next() else { break };
            let (key, row) = entry?;
            self.decoder.push(&row)?;
            if let Some((_, keys)) = &mut self.keys {
                keys.append_value(key);
            }
        }
        if self.decoder.rows() == 0 {
            return Ok(None);
        }
        let rows = self.decoder.finish()?;
        let Some((place, keys)) = &mut self.keys else { return Ok(Some(rows)) };
        let count = rows.num_rows();
        let mut columns = rows.columns().to_vec();
        columns.insert(*place, Arc::new(keys.finish()));
        batch(&self.schema, columns, count).map(Some)
    }
}

impl Iterator for RowBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The key of row `row`, whose columns are the table's, in order.
pub(crate) fn key_of(key_columns: &[usize], rows: &RecordBatch, row: usize) -> Result<Bytes> {
    let mut key = Vec::new();
    key::encode(key_columns.iter().map(|column| rows.column(*column).as_ref()), row, &mut key)?;
    Ok(key)
}

/// The keys that rows must have to satisfy all of `filters`, if those name a value for each column of the key.
pub(crate) fn lookup_keys(table: &Table, filters: &[Expr]) -> Option<Vec<Bytes>> {
    let key_columns = table.definition().key_columns();
    if key_columns.is_empty() {
        return None;
    }
    let mut values: HashMap<&str, Vec<&ScalarValue>> = HashMap::new();
    for condition in filters.iter().flat_map(split_conjunction) {
        if let Some((column, named)) = named_values(condition) {
            values.entry(column).or_insert(named);
        }
    }
    let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new()];
    for column in &key_columns {
        let field = table.schema().field(*column);
        let named = values.get(field.name().as_str())?;
        if columns.len() * named.len() > MOST_KEYS {
            return None;
        }
        let mut longer = Vec::with_capacity(columns.len() * named.len());
        for value in named.iter().filter(|value| !value.is_null()) {
            // Comparisons were made to fit the column's type; another type would be compared otherwise than by key.
            let array = (value.data_type() == *field.data_type()).then(|| value.to_array().ok()).flatten()?;
            longer.extend(columns.iter().map(|before| before.iter().cloned().chain([Arc::clone(&array)]).collect()));
        }
        columns = longer;
    }
    let mut keys = Vec::with_capacity(columns.len());
    for arrays in columns {
        let mut bytes = Vec::new();
        let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
        key::encode(arrays.into_iter(), 0, &mut bytes).ok()?;
        keys.push(bytes);
    }
    keys.sort_unstable();
    keys.dedup();
    Some(keys)
}

/// `column = value`, `column IN (values)`, `column = v1 OR column = v2`.
fn named_values(condition: &Expr) -> Option<(&str, Vec<&ScalarValue>)> {
    match condition {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => match (&*binary.left, &*binary.right) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
                Some((column.name(), vec![value]))
            }
            _ => None,
        },
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let (column, mut values) = named_values(&binary.left)?;
            let (other, more) = named_values(&binary.right)?;
            values.extend(more);
            (column == other).then_some((column, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = &**expr else { return None };
            let values = list.iter().map(|item| match item {
                Expr::Literal(value, _) => Some(value),
                _ => None,
            });
            Some((column.name(), values.collect::<Option<_>>()?))
        }
        _ => None,
    }
}
