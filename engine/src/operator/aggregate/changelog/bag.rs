//! Any DataFusion aggregate over rows that may be taken back: the rows of each group in order, from which the group's
//! accumulator is computed anew when the group is touched. Right for every aggregate; it costs as much as the group has
//! rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt64Array, new_empty_array};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::scalar::ScalarValue;

use super::super::accumulators::{Accumulators, counted, for_each_counted};
use super::listed;
use super::multiset::Multiset;
use crate::error::{Error, Result};
use crate::operator::columns::canonical;
use crate::state::slots::Slot;

/// Which rows of a group its accumulator must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Needs {
    /// All.
    All,
    /// The first alone, or the last.
    First,
    Last,
}

/// How a call is computed from its rows.
#[derive(Clone)]
pub(in super::super) struct Recipe {
    pub(super) aggregate: Arc<AggregateFunctionExpr>,
    /// The types of the arguments and then of what the rows are ordered by.
    pub(super) types: Vec<DataType>,
    /// How many of them are arguments.
    pub(super) arguments: usize,
    /// How the others are ordered.
    pub(super) order: Vec<SortOptions>,
    /// Equal rows count once.
    pub(super) distinct: bool,
    pub(super) needs: Needs,
}

/// See the [module](self).
pub(super) struct Bag {
    recipe: Recipe,
    /// Makes rows of columns: those of the order first, so that the bytes have the order of the rows. Other columns are
    /// ordered by value, NULLs last, as the canonical form of the statement says.
    converter: RowConverter,
    groups: Vec<Group>,
    rows: usize,
    heap: usize,
}

#[derive(Default)]
struct Group {
    rows: Multiset<Box<[u8]>>,
    /// The answer since the last change.
    answer: Option<ScalarValue>,
}

impl Bag {
    pub(super) fn new(recipe: Recipe) -> Result<Self> {
        let (arguments, order) = recipe.types.split_at(recipe.arguments);
        let by_value = SortOptions { descending: false, nulls_first: false };
        let ordered = order.iter().cloned().zip(recipe.order.iter().copied());
        let fields = ordered.chain(arguments.iter().cloned().map(|argument| (argument, by_value)));
        let fields: Vec<SortField> =
            fields.map(|(data_type, options)| SortField::new_with_options(data_type, options)).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::not_supported(format!(
                "{} over rows that can change needs its rows in order, and {} has none",
                recipe.aggregate.name(),
                recipe.types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ))
            .with_hint("cast the argument to text, or take the fields that you need out of it"));
        }
        Ok(Self { recipe, converter: RowConverter::new(fields)?, groups: Vec::new(), rows: 0, heap: 0 })
    }

    /// The columns in the converter's order.
    fn arranged(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let (arguments, order) = columns.split_at(self.recipe.arguments);
        order.iter().chain(arguments).map(canonical).collect()
    }

    /// Rows as columns: arguments, then what they are ordered by.
    fn columns<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let mut columns = self.converter.convert_rows(rows.map(|row| parser.parse(row)))?;
        columns.rotate_left(self.recipe.types.len() - self.recipe.arguments);
        // The row format gives a dictionary back as its values.
        let typed = columns.into_iter().zip(&self.recipe.types).map(|(column, data_type)| {
            if column.data_type() == data_type { Ok(column) } else { cast(&column, data_type) }
        });
        Ok(typed.collect::<Result<Vec<_>, _>>()?)
    }

    fn answer(&self, group: &Group) -> Result<ScalarValue> {
        let mut accumulator = self.recipe.aggregate.create_accumulator()?;
        let mut present = group.rows.iter().filter(|(_, count)| *count > 0);
        let chosen: Vec<(&Box<[u8]>, i64)> = match self.recipe.needs {
            Needs::All => present.collect(),
            Needs::First => present.next().into_iter().collect(),
            Needs::Last => present.next_back().into_iter().collect(),
        };
        if chosen.is_empty() {
            return Ok(accumulator.evaluate()?);
        }
        let mut columns = self.columns(chosen.iter().map(|(row, _)| row.as_ref()))?;
        let once = self.recipe.distinct || self.recipe.needs != Needs::All;
        if !once && chosen.iter().any(|(_, count)| *count > 1) {
            let repeated = chosen.iter().enumerate();
            let repeated = repeated.flat_map(|(at, (_, count))| std::iter::repeat_n(at as u64, *count as usize));
            let repeated = UInt64Array::from_iter_values(repeated);
            columns = columns.iter().map(|column| take(column, &repeated, None)).collect::<Result<_, _>>()?;
        }
        accumulator.update_batch(&columns)?;
        Ok(accumulator.evaluate()?)
    }
}

impl Accumulators for Bag {
    fn grow(&mut self, bound: usize) {
        if self.groups.len() < bound {
            self.groups.resize_with(bound, Group::default);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        self.change(slots, arguments, filter, &Int64Array::from_value(1, slots.len()))
    }

    fn change(
        &mut self,
        slots: &[Slot],
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
        weights: &Int64Array,
    ) -> Result<()> {
        let rows = self.converter.convert_columns(&self.arranged(arguments)?)?;
        for_each_counted(slots, counted(None, filter).as_ref(), |row, slot| {
            let (group, bytes) = (&mut self.groups[slot], rows.row(row).data());
            group.answer = None;
            match group.rows.add(bytes.into(), weights.value(row)) {
                (0, now) if now != 0 => {
                    self.rows += 1;
                    self.heap += bytes.len();
                }
                (before, 0) if before != 0 => {
                    self.rows -= 1;
                    self.heap -= bytes.len();
                }
                _ => {}
            }
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let (owners, values, weights) = listed::flattened(slots, state)?;
        self.change(&owners, &values, None, &weights)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        if slots.is_empty() {
            return Ok(new_empty_array(self.recipe.aggregate.field().data_type()));
        }
        let mut results = Vec::with_capacity(slots.len());
        for slot in slots {
            let group = &self.groups[*slot as usize];
            let answer = match &group.answer {
                Some(answer) => answer.clone(),
                None => self.answer(group)?,
            };
            self.groups[*slot as usize].answer = Some(answer.clone());
            results.push(answer);
        }
        Ok(ScalarValue::iter_to_array(results)?)
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let groups = || slots.iter().map(|slot| &self.groups[*slot as usize].rows);
        let rows = || groups().flat_map(Multiset::iter);
        let columns = if rows().next().is_some() {
            self.columns(rows().map(|(row, _)| row.as_ref()))?
        } else {
            self.recipe.types.iter().map(new_empty_array).collect()
        };
        let weights = rows().map(|(_, weight)| weight).collect();
        Ok(vec![listed::column(&self.recipe.types, groups().map(Multiset::len), columns, weights)?])
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            let group = std::mem::take(&mut self.groups[*slot as usize]);
            self.rows -= group.rows.len();
            self.heap -= group.rows.iter().map(|(row, _)| row.len()).sum::<usize>();
        }
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Group>() + self.rows * size_of::<(Box<[u8]>, i64)>() + self.heap
    }
}
