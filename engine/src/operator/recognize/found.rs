//! A [`Formula`], bound: what its navigations find in the rows of a match, and the expression over that.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::operator::expression::{Expression, batch};
use crate::plan::{End, Finds, Formula, Navigation, Operand};

use super::path::Path;
use super::rows::Rows;

/// See the [module](self).
pub(super) struct Found {
    expression: Expression,
    schema: SchemaRef,
    looks: Vec<Look>,
}

/// A navigation.
struct Look {
    navigation: Navigation,
    aggregate: Option<Sum>,
}

/// An aggregate, with what was put into it last: rows are added one by one while a match grows.
struct Sum {
    function: Arc<AggregateFunctionExpr>,
    accumulator: Option<Box<dyn Accumulator>>,
    rows: Vec<usize>,
}

impl Found {
    /// Binds a formula. `types`: of the function's arguments.
    pub(super) fn new(formula: &Formula, types: &[DataType]) -> Result<Self> {
        let schema = formula.schema()?;
        let looks = formula.navigations.iter().map(|navigation| {
            let aggregate = match &navigation.finds {
                Finds::Value { .. } => None,
                Finds::Aggregate { function, distinct, arguments, .. } => {
                    let fields = types.iter().enumerate();
                    let fields = fields.map(|(number, data_type)| Field::new(name(number), data_type.clone(), true));
                    let arguments = arguments.iter().map(|operand| -> Arc<dyn PhysicalExpr> {
                        match operand {
                            Operand::Argument(argument) => Arc::new(Column::new(&name(*argument), *argument)),
                            Operand::Constant(value) => Arc::new(Literal::new(value.clone())),
                        }
                    });
                    let mut builder = AggregateExprBuilder::new(Arc::clone(function), arguments.collect())
                        .schema(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
                        .alias(function.name());
                    if *distinct {
                        builder = builder.distinct();
                    }
                    let function = Arc::new(builder.build()?);
                    // Some functions refuse an argument's type only here.
                    function.create_accumulator()?;
                    Some(Sum { function, accumulator: None, rows: Vec::new() })
                }
            };
            Ok(Look { navigation: navigation.clone(), aggregate })
        });
        let looks = looks.collect::<Result<Vec<_>>>()?;
        Ok(Self { expression: Expression::new(&formula.expr, &schema)?, schema: Arc::clone(schema.inner()), looks })
    }

    /// How far it looks ahead of a row, if all that it looks at are a row that `variable` takes and the row's neighbours:
    /// then it can be computed for many rows at once.
    pub(super) fn is_of_neighbours(&self, variable: usize) -> Option<usize> {
        let mut ahead = 0;
        for look in &self.looks {
            match look.navigation.finds {
                Finds::Value { variable: of, from: End::Last, offset: 0, shift, .. }
                    if of.is_none_or(|of| of == variable) =>
                {
                    ahead = ahead.max(usize::try_from(shift).unwrap_or(0));
                }
                _ => return None,
            }
        }
        Some(ahead)
    }

    /// The condition of rows and their neighbours, for each row of a range.
    pub(super) fn of_rows(&self, rows: &mut Rows<'_>, range: Range<usize>) -> Result<BooleanArray> {
        let columns = self.looks.iter().map(|look| match look.navigation.finds {
            Finds::Value { argument, shift, .. } => self.typed(look, rows.moved(argument, range.clone(), shift)?),
            Finds::Aggregate { .. } => Err(Error::internal("an aggregate is over more than a row's neighbours")),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        self.expression.evaluate_predicate(&batch(&self.schema, columns, range.len())?)
    }

    /// The condition of the last row of a path. The second value: behind which row nothing was looked at.
    pub(super) fn holds(&mut self, rows: &mut Rows<'_>, path: &Path) -> Result<(bool, usize)> {
        // Where there is no row yet, one may come.
        let seen = self.sees(path);
        let mut columns = Vec::with_capacity(self.looks.len());
        for look in &mut self.looks {
            let column = match &look.navigation.finds {
                Finds::Value { argument, .. } => {
                    let row = place(&look.navigation.finds, path);
                    rows.one(*argument, row.filter(|row| rows.holds(*row)))?
                }
                Finds::Aggregate { .. } => look.aggregated(rows, path)?.to_array_of_size(1)?,
            };
            columns.push(typed(&look.navigation, column)?);
        }
        let answer = self.expression.evaluate_predicate(&batch(&self.schema, columns, 1)?)?;
        Ok((answer.iter().next().flatten().unwrap_or(false), seen))
    }

    /// Behind which row it looks at nothing.
    pub(super) fn sees(&self, path: &Path) -> usize {
        let rows = self.looks.iter().filter_map(|look| place(&look.navigation.finds, path));
        rows.map(|row| row.saturating_add(1)).max().unwrap_or(0)
    }

    /// Remembers what the navigations find in a match.
    pub(super) fn note(&mut self, rows: &mut Rows<'_>, path: &Path, noted: &mut Noted) -> Result<()> {
        noted.columns.resize_with(self.looks.len(), Vec::new);
        noted.count += 1;
        for (look, column) in self.looks.iter_mut().zip(&mut noted.columns) {
            column.push(match look.navigation.finds {
                Finds::Value { .. } => Note::Row(place(&look.navigation.finds, path).filter(|row| rows.holds(*row))),
                Finds::Aggregate { .. } => Note::Value(look.aggregated(rows, path)?),
            });
        }
        Ok(())
    }

    /// The expression for all matches that were noted.
    pub(super) fn of_noted(&self, rows: &mut Rows<'_>, noted: &Noted) -> Result<ArrayRef> {
        let mut columns = Vec::with_capacity(self.looks.len());
        for (number, look) in self.looks.iter().enumerate() {
            let notes = noted.columns.get(number).map_or(&[][..], Vec::as_slice);
            let column = match &look.navigation.finds {
                Finds::Value { argument, .. } => {
                    let places = notes.iter().map(|note| match note {
                        Note::Row(row) => *row,
                        Note::Value(_) => None,
                    });
                    let places: Vec<Option<usize>> = places.collect();
                    rows.gathered(*argument, &places)?
                }
                Finds::Aggregate { .. } if notes.is_empty() => {
                    arrow::array::new_empty_array(&look.navigation.data_type)
                }
                Finds::Aggregate { .. } => ScalarValue::iter_to_array(notes.iter().filter_map(|note| match note {
                    Note::Row(_) => None,
                    Note::Value(value) => Some(value.clone()),
                }))?,
            };
            columns.push(self.typed(look, column)?);
        }
        self.expression.evaluate(&batch(&self.schema, columns, noted.count)?)
    }

    fn typed(&self, look: &Look, column: ArrayRef) -> Result<ArrayRef> {
        typed(&look.navigation, column)
    }
}

fn typed(navigation: &Navigation, column: ArrayRef) -> Result<ArrayRef> {
    let same = column.data_type() == &navigation.data_type;
    Ok(if same { column } else { arrow::compute::cast(&column, &navigation.data_type)? })
}

fn name(argument: usize) -> String {
    format!("argument{argument}")
}

/// What navigations found in matches, one after the other.
#[derive(Default)]
pub(super) struct Noted {
    columns: Vec<Vec<Note>>,
    count: usize,
}

enum Note {
    Row(Option<usize>),
    Value(ScalarValue),
}

/// The row in which a value is found. It may lie outside of the partition.
fn place(finds: &Finds, path: &Path) -> Option<usize> {
    let Finds::Value { variable, from, offset, shift, .. } = finds else { return None };
    let row = match from {
        End::First => path.nth(*variable, *offset),
        End::Last => path.nth_last(*variable, *offset),
    }?;
    match usize::try_from(*shift) {
        Ok(on) => row.checked_add(on),
        Err(_) => row.checked_sub(usize::try_from(shift.unsigned_abs()).ok()?),
    }
}

impl Look {
    /// The aggregate over the rows of a path.
    fn aggregated(&mut self, rows: &mut Rows<'_>, path: &Path) -> Result<ScalarValue> {
        let (Finds::Aggregate { arguments, variable, .. }, Some(sum)) = (&self.navigation.finds, &mut self.aggregate)
        else {
            return Err(Error::internal("a navigation is no aggregate"));
        };
        let of = path.rows_of(*variable);
        let mut accumulator = match sum.accumulator.take() {
            Some(accumulator) if of.starts_with(&sum.rows) => accumulator,
            _ => {
                sum.rows.clear();
                sum.function.create_accumulator()?
            }
        };
        let new: Vec<Option<usize>> = of[sum.rows.len()..].iter().copied().map(Some).collect();
        if !new.is_empty() {
            let columns = arguments.iter().map(|operand| match operand {
                Operand::Argument(argument) => rows.gathered(*argument, &new),
                Operand::Constant(value) => Ok(value.to_array_of_size(new.len())?),
            });
            accumulator.update_batch(&columns.collect::<Result<Vec<_>>>()?)?;
            sum.rows.extend_from_slice(&of[sum.rows.len()..]);
        }
        let value = accumulator.evaluate()?;
        sum.accumulator = Some(accumulator);
        Ok(value)
    }

    /// Forgets what was put into it: rows have other places now.
    fn forget(&mut self) {
        if let Some(sum) = &mut self.aggregate {
            sum.accumulator = None;
            sum.rows.clear();
        }
    }
}

impl Found {
    /// Other rows are looked at from now on.
    pub(super) fn forget(&mut self) {
        self.looks.iter_mut().for_each(Look::forget);
    }
}
