//! Rows as bytes whose order is the order of the rows, and back.
//!
//! A row's key is its ORDER BY values, with NULLS FIRST/LAST and DESC as they are written, and then all its other columns:
//! so no two different rows tie, and equal rows are interchangeable. The bytes are Arrow's row format, which may change
//! between versions: they never leave memory.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, SortExpr};

use super::partition::Entry;
use crate::error::{Error, Result};
use crate::operator::columns::canonical;
use crate::operator::expression::{Expression, batch};

/// Between rows and their keys; see the [module](self).
#[derive(Debug)]
pub(super) struct RowCodec {
    schema: SchemaRef,
    order: Vec<Expression>,
    options: Vec<SortOptions>,
    types: Vec<DataType>,
    ordered: Part,
    rest: Part,
    rest_columns: Vec<usize>,
    places: Vec<Place>,
}

/// Where a column's value stands in a key.
#[derive(Debug, Clone, Copy)]
enum Place {
    Ordered(usize),
    Rest(usize),
}

/// Columns as bytes; no columns are no bytes.
#[derive(Debug)]
pub(super) struct Part(Option<RowConverter>);

impl Part {
    pub(super) fn new(fields: Vec<SortField>) -> Result<Self> {
        Ok(Self(if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) }))
    }

    /// The rows as bytes; `None` without columns.
    pub(super) fn encode(&self, columns: &[ArrayRef]) -> Result<Option<Rows>> {
        Ok(match &self.0 {
            Some(converter) => Some(converter.convert_columns(columns)?),
            None => None,
        })
    }

    /// The columns of rows that this part encoded.
    pub(super) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.0 else { return Ok(Vec::new()) };
        let parser = converter.parser();
        let rows: Vec<&[u8]> = rows.collect();
        Ok(converter.convert_rows(rows.iter().map(|row| parser.parse(row)))?)
    }
}

/// The bytes of a row; empty without columns.
pub(super) fn bytes_of(rows: Option<&Rows>, row: usize) -> &[u8] {
    rows.map_or(&[], |rows| {
        // A row's data lives as long as the rows that hold it.
        rows.row(row).data()
    })
}

/// The keys of some rows.
pub(super) struct Keys {
    ordered: Option<Rows>,
    rest: Option<Rows>,
}

impl Keys {
    /// The key of a row and how many of its bytes are the ORDER BY.
    pub(super) fn key(&self, row: usize) -> (Box<[u8]>, u32) {
        let (ordered, rest) = (bytes_of(self.ordered.as_ref(), row), bytes_of(self.rest.as_ref(), row));
        let mut key = Vec::with_capacity(ordered.len() + rest.len());
        key.extend_from_slice(ordered);
        key.extend_from_slice(rest);
        (key.into_boxed_slice(), ordered.len() as u32)
    }
}

impl RowCodec {
    /// For rows of `schema` in the order of `order`.
    pub(super) fn new(order: &[SortExpr], schema: &DFSchema) -> Result<Self> {
        let (mut expressions, mut options, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let mut places: Vec<Option<Place>> = vec![None; schema.fields().len()];
        for (number, sort) in order.iter().enumerate() {
            let expression = Expression::new(&sort.expr, schema)?;
            types.push(expression.data_type(schema.inner())?);
            options.push(SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first });
            if let Expr::Column(column) = &sort.expr
                && let Some(index) = schema.maybe_index_of_column(column)
            {
                places[index].get_or_insert(Place::Ordered(number));
            }
            expressions.push(expression);
        }
        let fields = types.iter().zip(&options);
        let ordered = fields.map(|(data_type, options)| SortField::new_with_options(data_type.clone(), *options));
        let ordered = Part::new(sortable(ordered.collect())?)?;
        let mut rest_columns = Vec::new();
        for (index, place) in places.iter_mut().enumerate() {
            if place.is_none() {
                *place = Some(Place::Rest(rest_columns.len()));
                rest_columns.push(index);
            }
        }
        let last = SortOptions { descending: false, nulls_first: false };
        let rest = rest_columns.iter().map(|column| {
            let data_type = schema.field(*column).data_type().clone();
            SortField::new_with_options(data_type, last)
        });
        Ok(Self {
            schema: Arc::clone(schema.inner()),
            order: expressions,
            options,
            types,
            ordered,
            rest: Part::new(sortable(rest.collect())?)?,
            rest_columns,
            places: places.into_iter().flatten().collect(),
        })
    }

    /// The keys of rows.
    pub(super) fn encode(&self, rows: &RecordBatch) -> Result<Keys> {
        let ordered =
            self.order.iter().map(|expression| canonical(&expression.evaluate(rows)?)).collect::<Result<Vec<_>>>()?;
        let rest =
            self.rest_columns.iter().map(|column| canonical(rows.column(*column))).collect::<Result<Vec<_>>>()?;
        Ok(Keys { ordered: self.ordered.encode(&ordered)?, rest: self.rest.encode(&rest)? })
    }

    /// The rows of some keys.
    pub(super) fn decode<'a>(&self, entries: impl Iterator<Item = &'a Entry> + Clone) -> Result<RecordBatch> {
        let ordered = self.ordered.decode(entries.clone().map(Entry::order))?;
        let rest = self.rest.decode(entries.clone().map(Entry::rest))?;
        let columns = self
            .places
            .iter()
            .zip(self.schema.fields())
            .map(|(place, field)| {
                let column = match place {
                    Place::Ordered(number) => ordered.get(*number),
                    Place::Rest(number) => rest.get(*number),
                };
                let column = column.ok_or_else(|| Error::internal("a key has fewer columns than its row"))?;
                let same = column.data_type() == field.data_type();
                Ok(if same { Arc::clone(column) } else { cast(column, field.data_type())? })
            })
            .collect::<Result<Vec<_>>>()?;
        batch(&self.schema, columns, entries.count())
    }

    /// The values of the first ORDER BY expression (of a RANGE frame with a distance: the only one).
    pub(super) fn order_values<'a>(&self, orders: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
        self.ordered
            .decode(orders)?
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal("a RANGE frame with a distance has no ORDER BY"))
    }

    /// The bytes of values of the only ORDER BY expression.
    pub(super) fn encode_order(&self, values: &ArrayRef) -> Result<Option<Rows>> {
        match self.types.as_slice() {
            [only] if only == values.data_type() => self.ordered.encode(&[canonical(values)?]),
            _ => Err(Error::internal(format!("a RANGE frame ends at a value of type {}", values.data_type()))),
        }
    }

    /// The type of the first ORDER BY expression.
    pub(super) fn first_type(&self) -> Result<&DataType> {
        self.types.first().ok_or_else(|| Error::internal("an OVER by event time has no ORDER BY"))
    }

    /// The values of the first ORDER BY expression of rows.
    pub(super) fn first_values(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        match self.order.first() {
            Some(first) => first.evaluate(rows),
            None => Err(Error::internal("an OVER by event time has no ORDER BY")),
        }
    }

    /// The bytes with which the keys of rows begin whose first ORDER BY value is this one.
    pub(super) fn encode_first(&self, value: &ArrayRef) -> Result<Vec<u8>> {
        let options = self.options.first().copied().unwrap_or_default();
        let first = Part::new(vec![SortField::new_with_options(self.first_type()?.clone(), options)])?;
        Ok(bytes_of(first.encode(std::slice::from_ref(value))?.as_ref(), 0).to_vec())
    }

    /// Whether the only ORDER BY expression is descending.
    pub(super) fn is_descending(&self) -> bool {
        self.options.first().is_some_and(|options| options.descending)
    }

    /// The rows' schema.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

fn sortable(fields: Vec<SortField>) -> Result<Vec<SortField>> {
    if RowConverter::supports_fields(&fields) {
        return Ok(fields);
    }
    Err(Error::not_supported("OVER, ORDER BY … LIMIT and DISTINCT ON cannot order rows with a column of this type")
        .with_hint("select only the columns that the query needs, or cast the column to text"))
}
