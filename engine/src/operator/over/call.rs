//! The window functions of an OVER, lowered: what each computes, from which columns, over which frame.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Accumulator, AggregateUDF, Expr, WindowFunctionDefinition};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::scalar::ScalarValue;

use super::frame::Frame;
use crate::error::{Error, Result};
use crate::operator::expression::{Expression, physical};
use crate::plan::Recognize;

/// A call of a window function.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) data_type: DataType,
}

/// What a call computes.
#[derive(Debug)]
pub(super) enum Function {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    Ntile(u64),
    /// `lag` (by more than 0 rows back) and `lead` (by less).
    Shift {
        argument: Expression,
        by: i64,
        default: ScalarValue,
        ignore_nulls: bool,
    },
    /// `first_value`, `last_value`, `nth_value`.
    Nth {
        argument: Expression,
        place: Place,
        frame: Frame,
        ignore_nulls: bool,
    },
    /// Any aggregate.
    Aggregate(Box<FrameAggregate>),
    /// MATCH_RECOGNIZE: what [`super::matching`] has found.
    Match,
}

/// Which row of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From the first on, counted from 1.
    FromFirst(usize),
    /// From the last on, counted from 1.
    FromLast(usize),
    /// No row.
    Nowhere,
}

/// An aggregate over frames.
#[derive(Debug)]
pub(super) struct FrameAggregate {
    aggregate: Arc<AggregateFunctionExpr>,
    arguments: Vec<Expression>,
    filter: Option<Expression>,
    pub(super) frame: Frame,
    pub(super) way: Way,
}

/// How an aggregate goes from the frame of a row to the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// All frames are the whole partition.
    Whole,
    /// Frames begin at the first row: rows are added.
    Growing,
    /// Frames end at the last row, and the order of rows doesn't matter: from the last row back, rows are added.
    Shrinking,
    /// Rows are added and taken out again, exactly.
    Sliding,
    /// Each frame is added up by itself.
    Anew,
}

/// An aggregate's arguments over some rows, and which of them count.
pub(super) struct Arguments {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) counted: Option<BooleanArray>,
}

impl Call {
    /// Lowers an `Expr::WindowFunction` over rows of `schema`.
    pub(super) fn new(expression: &Expr, schema: &DFSchema, data_type: DataType) -> Result<Self> {
        let Expr::WindowFunction(call) = expression else {
            return Err(Error::internal(format!("{expression} is no window function")));
        };
        if Recognize::of(expression).is_some() {
            return Ok(Self { function: Function::Match, data_type });
        }
        let WindowFunction { fun, params } = call.as_ref();
        let function = match fun {
            WindowFunctionDefinition::AggregateUDF(aggregate) => {
                Function::Aggregate(Box::new(FrameAggregate::new(aggregate, params, schema)?))
            }
            WindowFunctionDefinition::WindowUDF(window) => own(window.name(), params, schema, &data_type)?,
        };
        Ok(Self { function, data_type })
    }

    /// The aggregate, if its accumulator's state over a chunk of rows is worth remembering.
    pub(super) fn summarised(&self) -> Option<&FrameAggregate> {
        match &self.function {
            Function::Aggregate(aggregate) if matches!(aggregate.way, Way::Whole | Way::Growing | Way::Shrinking) => {
                Some(aggregate)
            }
            _ => None,
        }
    }
}

/// One of DataFusion's own window functions.
fn own(name: &str, params: &WindowFunctionParams, schema: &DFSchema, data_type: &DataType) -> Result<Function> {
    let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    let argument = || match params.args.first() {
        Some(argument) => Expression::new(argument, schema),
        None => Err(Error::not_supported(format!("{name} needs an argument"))),
    };
    Ok(match name {
        "row_number" => Function::RowNumber,
        "rank" => Function::Rank,
        "dense_rank" => Function::DenseRank,
        "percent_rank" => Function::PercentRank,
        "cume_dist" => Function::CumeDist,
        "ntile" => match number(name, params, 0)? {
            Some(buckets) if buckets > 0 => Function::Ntile(buckets as u64),
            _ => return Err(Error::not_supported("ntile needs a number greater than 0")),
        },
        "lag" | "lead" => {
            let by = number(name, params, 1)?.unwrap_or(1);
            let by = if name == "lag" { Some(by) } else { by.checked_neg() };
            let by = by.ok_or_else(|| Error::not_supported(format!("{name} cannot go so far")))?;
            let default = match params.args.get(2) {
                Some(default) => constant(name, default)?.cast_to(data_type)?,
                None => ScalarValue::try_from(data_type)?,
            };
            Function::Shift { argument: argument()?, by, default, ignore_nulls }
        }
        "first_value" | "last_value" | "nth_value" => {
            let place = match name {
                "first_value" => Place::FromFirst(1),
                "last_value" => Place::FromLast(1),
                _ => match number(name, params, 1)? {
                    Some(n) if n > 0 => Place::FromFirst(usize::try_from(n).unwrap_or(usize::MAX)),
                    Some(n) if n < 0 => Place::FromLast(usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX)),
                    _ => Place::Nowhere,
                },
            };
            Function::Nth { argument: argument()?, place, frame: Frame::new(&params.window_frame)?, ignore_nulls }
        }
        other => {
            return Err(Error::not_supported(format!(
                "the window function {other} is not supported in a continuous query"
            )));
        }
    })
}

fn constant(name: &str, expression: &Expr) -> Result<ScalarValue> {
    match expression {
        Expr::Literal(value, _) => Ok(value.clone()),
        Expr::Alias(alias) => constant(name, &alias.expr),
        Expr::Cast(cast) => Ok(constant(name, &cast.expr)?.cast_to(cast.field.data_type())?),
        other => Err(Error::not_supported(format!("{name} takes a constant here, not {other}"))),
    }
}

/// The whole number that is an argument, if it is there and not NULL.
fn number(name: &str, params: &WindowFunctionParams, argument: usize) -> Result<Option<i64>> {
    let Some(argument) = params.args.get(argument) else { return Ok(None) };
    match constant(name, argument)?.cast_to(&DataType::Int64)? {
        ScalarValue::Int64(number) => Ok(number),
        other => Err(Error::internal(format!("{other} is no whole number"))),
    }
}

impl FrameAggregate {
    fn new(function: &Arc<AggregateUDF>, params: &WindowFunctionParams, schema: &DFSchema) -> Result<Self> {
        let arguments =
            params.args.iter().map(|argument| Expression::new(argument, schema)).collect::<Result<Vec<_>>>()?;
        let filter = params.filter.as_ref().map(|filter| Expression::new(filter, schema)).transpose()?;
        let physical = params.args.iter().map(|argument| physical(argument, schema)).collect::<Result<Vec<_>>>()?;
        let mut builder = AggregateExprBuilder::new(Arc::clone(function), physical)
            .schema(Arc::clone(schema.inner()))
            .alias(function.name())
            .with_ignore_nulls(params.null_treatment == Some(NullTreatment::IgnoreNulls));
        if params.distinct {
            builder = builder.distinct();
        }
        let aggregate = Arc::new(builder.build()?);
        // Some functions refuse an argument's type only here.
        aggregate.create_accumulator()?;
        let frame = Frame::new(&params.window_frame)?;
        let mut call = Self { aggregate, arguments, filter, frame, way: Way::Anew };
        call.way = call.best_way(schema)?;
        Ok(call)
    }

    fn best_way(&self, schema: &DFSchema) -> Result<Way> {
        let name = self.aggregate.fun().name();
        let order_matters = matches!(name, "array_agg" | "string_agg" | "first_value" | "last_value" | "nth_value");
        let mut types = self.arguments.iter().map(|argument| argument.data_type(schema.inner()));
        let floats = types.any(|data_type| data_type.is_ok_and(|data_type| data_type.is_floating()));
        let exact = !floats || matches!(name, "count" | "min" | "max");
        Ok(match (self.frame.is_from_first(), self.frame.is_to_last()) {
            (true, true) => Way::Whole,
            (true, false) => Way::Growing,
            (false, true) if !order_matters && !self.aggregate.is_distinct() => Way::Shrinking,
            // Floats taken out again leave the error of what was added: 1e16 + 1 − 1e16 is no 1.
            _ if exact && self.slides() => Way::Sliding,
            _ => Way::Anew,
        })
    }

    fn slides(&self) -> bool {
        self.aggregate.create_sliding_accumulator().is_ok_and(|accumulator| accumulator.supports_retract_batch())
    }

    /// An empty accumulator.
    pub(super) fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        Ok(match self.way {
            Way::Sliding => self.aggregate.create_sliding_accumulator()?,
            _ => self.aggregate.create_accumulator()?,
        })
    }

    /// The answer for a frame without rows.
    pub(super) fn nothing(&self, data_type: &DataType) -> Result<ScalarValue> {
        Ok(self.aggregate.default_value(data_type)?)
    }

    /// The arguments over rows.
    pub(super) fn arguments(&self, rows: &RecordBatch) -> Result<Arguments> {
        let columns = self.arguments.iter().map(|argument| argument.evaluate(rows)).collect::<Result<Vec<_>>>()?;
        let counted = match &self.filter {
            Some(filter) => {
                let answer = filter.evaluate_predicate(rows)?;
                Some(match answer.nulls() {
                    Some(nulls) => BooleanArray::new(answer.values() & nulls.inner(), None),
                    None => answer,
                })
            }
            None => None,
        };
        Ok(Arguments { columns, counted })
    }
}

impl Arguments {
    /// The arguments of some rows that count.
    pub(super) fn of(&self, from: usize, to: usize) -> Result<Vec<ArrayRef>> {
        let slices = self.columns.iter().map(|column| column.slice(from, to - from));
        match &self.counted {
            None => Ok(slices.collect()),
            Some(counted) => {
                let counted = counted.slice(from, to - from);
                Ok(slices.map(|column| arrow::compute::filter(&column, &counted)).collect::<Result<Vec<_>, _>>()?)
            }
        }
    }
}

/// Puts the states of accumulators over consecutive rows into one, in their order.
pub(super) fn merge_states<'a>(
    accumulator: &mut dyn Accumulator,
    states: impl Iterator<Item = &'a Vec<ScalarValue>> + Clone,
) -> Result<()> {
    let Some(width) = states.clone().next().map(Vec::len) else { return Ok(()) };
    let columns = (0..width)
        .map(|field| Ok(ScalarValue::iter_to_array(states.clone().filter_map(|state| state.get(field).cloned()))?))
        .collect::<Result<Vec<_>>>()?;
    Ok(accumulator.merge_batch(&columns)?)
}
