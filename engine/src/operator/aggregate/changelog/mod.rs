//! State of aggregates over a changelog: every row can be taken back, and the answer depends on the rows alone, not on
//! their order.
//!
//! States are *linear*: the state of some rows is the sum of the rows' own, and of a row that is taken back the negative.
//! So halves, slices and windows merge states here as they do over rows that only come, and in the middle of an epoch
//! (when what takes a row back may come before the row) nothing is wrong.
//!
//! * sums in 128 bits (`sums`) or, of floats, without rounding (`floats`, `exact`); counts; counts of bits (`bits`)
//! * `extremes`, `distinct`: the values of each group, with how often each is there (`multiset`)
//! * `bag`: every other function, computed anew from the group's rows

mod bag;
mod bits;
mod distinct;
mod exact;
mod extremes;
mod floats;
mod listed;
mod multiset;
mod sums;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{self as types, DataType, Decimal128Type, Field, FieldRef};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::accumulators::Accumulators;
use super::native::{AvgDecimals, Counts, for_ordered_type, is_ordered};
use crate::error::{Error, Result};
use crate::state::slots::Slot;
use bag::{Bag, Needs, Recipe};
use bits::{BitCounts, Bitwise};
use distinct::DistinctValues;
use extremes::{Extremes, Numbers, Texts, Truths};
use floats::{Statistic, Statistics};
use sums::WholeSums;

/// How a call over a changelog is computed.
#[derive(Clone)]
pub(super) enum Retractable {
    /// From typed state.
    Typed { typed: Typed, argument: DataType, result: DataType, distinct: bool },
    /// From the group's rows.
    Rows(Recipe),
}

/// Functions with typed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    Count,
    /// Of integers and decimals.
    Sum,
    /// Of decimals.
    Avg,
    Statistic(Statistic),
    Min,
    Max,
    Bits(Bitwise),
}

impl Retractable {
    /// How a function is computed. `types` are those of its arguments and then of what its rows are ordered by.
    /// `distinct`: equal values count once (the function itself needn't know).
    pub(super) fn new(
        aggregate: &Arc<AggregateFunctionExpr>,
        types: &[DataType],
        arguments: usize,
        distinct: bool,
    ) -> Self {
        let field = aggregate.field();
        let result = field.data_type();
        let all_floats = types[..arguments].iter().all(|argument| *argument == DataType::Float64);
        let statistic = Statistic::named(aggregate.fun().name()).filter(|_| all_floats);
        let typed = match aggregate.fun().name() {
            "count" => Some((Typed::Count, distinct)),
            // Over a changelog there is no sketch: it is counted.
            "approx_distinct" => Some((Typed::Count, true)),
            "sum" => Some((Typed::Sum, distinct)),
            "avg" => Some((Typed::Avg, distinct)),
            // The same whether a value comes once or often.
            "min" | "any_value" => Some((Typed::Min, false)),
            "max" => Some((Typed::Max, false)),
            "bool_and" | "bit_and" => Some((Typed::Bits(Bitwise::And), false)),
            "bool_or" | "bit_or" => Some((Typed::Bits(Bitwise::Or), false)),
            "bit_xor" => Some((Typed::Bits(Bitwise::Xor), distinct)),
            _ => None,
        };
        let typed = statistic.map(|statistic| (Typed::Statistic(statistic), distinct)).or(typed);
        if let Some((typed, distinct)) =
            typed.filter(|(typed, distinct)| typed.fits(&types[..arguments], result, *distinct))
        {
            let argument = types.first().filter(|_| arguments == 1).cloned().unwrap_or(DataType::Null);
            return Retractable::Typed { typed, argument, result: result.clone(), distinct };
        }
        let needs = match aggregate.fun().name() {
            "first_value" if !aggregate.ignore_nulls() => Needs::First,
            "last_value" if !aggregate.ignore_nulls() => Needs::Last,
            _ => Needs::All,
        };
        Retractable::Rows(Recipe {
            aggregate: Arc::clone(aggregate),
            types: types.to_vec(),
            arguments,
            order: aggregate.order_bys().iter().map(|sort| sort.options).collect(),
            distinct,
            needs,
        })
    }

    /// Whether the group's rows are read again whenever the group is touched.
    pub(super) fn is_recomputed(&self) -> bool {
        matches!(self, Retractable::Rows(_))
    }

    /// Whether a state has a fixed size however many rows it stands for.
    pub(super) fn is_combining(&self) -> bool {
        matches!(self, Retractable::Typed { typed, distinct: false, .. } if !matches!(typed, Typed::Min | Typed::Max))
    }

    /// What [`Accumulators::state`] gives.
    pub(super) fn state_fields(&self) -> Vec<FieldRef> {
        let field = |name: &str, data_type: DataType| FieldRef::new(Field::new(name, data_type, true));
        match self {
            Retractable::Rows(recipe) => vec![listed::field(&recipe.types)],
            Retractable::Typed { argument, distinct: true, .. } => vec![listed::field(std::slice::from_ref(argument))],
            Retractable::Typed { typed, argument, .. } => match typed {
                Typed::Count => vec![field("count", DataType::Int64)],
                Typed::Min | Typed::Max => vec![listed::field(std::slice::from_ref(argument))],
                Typed::Bits(_) => vec![BitCounts::state_field(argument)],
                Typed::Statistic(statistic) => Statistics::state_fields(*statistic),
                Typed::Sum | Typed::Avg => {
                    let sum = match argument {
                        DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
                        _ => DataType::Decimal128(38, 0),
                    };
                    vec![field("sum", sum), field("count", DataType::Int64)]
                }
            },
        }
    }

    /// Empty accumulators.
    pub(super) fn accumulators(&self) -> Result<Box<dyn Accumulators>> {
        let (typed, argument, result) = match self {
            Retractable::Rows(recipe) => return Ok(Box::new(Bag::new(recipe.clone())?)),
            Retractable::Typed { typed, argument, result, .. } => (*typed, argument, result),
        };
        let mut accumulators = typed.accumulators(argument, result)?;
        if matches!(self, Retractable::Typed { distinct: true, .. }) {
            accumulators = Box::new(DistinctValues::new(argument, accumulators)?);
        }
        if accumulators.evaluate(&[])?.data_type() != result {
            accumulators = Box::new(Cast { accumulators, result: result.clone() });
        }
        Ok(accumulators)
    }
}

impl Typed {
    fn fits(self, arguments: &[DataType], result: &DataType, distinct: bool) -> bool {
        use DataType as D;
        let [argument] = arguments else {
            return match self {
                Typed::Count => !distinct,
                Typed::Statistic(statistic) => !distinct && statistic.arguments() == arguments.len(),
                _ => false,
            };
        };
        if distinct && (argument.is_nested() || argument.is_null()) {
            return false;
        }
        match self {
            Typed::Count => true,
            Typed::Sum => match (argument, result) {
                (D::Decimal128(_, scale), D::Decimal128(_, same)) => scale == same,
                (D::Int64 | D::UInt64, result) => argument == result,
                _ => false,
            },
            Typed::Avg => matches!((argument, result), (D::Decimal128(..), D::Decimal128(..))),
            Typed::Statistic(statistic) => statistic.arguments() == 1,
            Typed::Min | Typed::Max => argument == result && is_ordered(argument),
            Typed::Bits(_) => argument == result && bits::width(argument).is_some(),
        }
    }

    fn accumulators(self, argument: &DataType, result: &DataType) -> Result<Box<dyn Accumulators>> {
        use DataType as D;
        Ok(match (self, argument) {
            (Typed::Count, _) => Box::new(Counts::default()),
            (Typed::Sum, D::Int64) => Box::new(WholeSums::<types::Int64Type>::new(result)),
            (Typed::Sum, D::UInt64) => Box::new(WholeSums::<types::UInt64Type>::new(result)),
            (Typed::Sum, _) => Box::new(WholeSums::<Decimal128Type>::new(result)),
            (Typed::Avg, D::Decimal128(_, scale)) => Box::new(AvgDecimals::new(*scale, result)?),
            (Typed::Avg, other) => return Err(Error::internal(format!("an average of {other} is one of floats"))),
            (Typed::Statistic(statistic), _) => Box::new(Statistics::new(statistic)),
            (Typed::Bits(bitwise), _) => Box::new(BitCounts::new(bitwise, argument)?),
            (Typed::Min | Typed::Max, _) => extremes(argument, self == Typed::Max),
        })
    }
}

/// min, or max, of a type that [`is_ordered`].
fn extremes(data_type: &DataType, greatest: bool) -> Box<dyn Accumulators> {
    for_ordered_type!(
        data_type,
        T => Box::new(Extremes::new(Numbers::<T>::new(data_type), data_type, greatest)),
        boolean => Box::new(Extremes::new(Truths, data_type, greatest)),
        bytes => Box::new(Extremes::new(Texts(data_type.clone()), data_type, greatest))
    )
}

/// Accumulators whose results are of another type than they say.
struct Cast {
    accumulators: Box<dyn Accumulators>,
    result: DataType,
}

impl Accumulators for Cast {
    fn grow(&mut self, bound: usize) {
        self.accumulators.grow(bound);
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        self.accumulators.update(slots, arguments, filter)
    }

    fn change(
        &mut self,
        slots: &[Slot],
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
        weights: &Int64Array,
    ) -> Result<()> {
        self.accumulators.change(slots, arguments, filter, weights)
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        self.accumulators.merge(slots, state)
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let results = self.accumulators.evaluate(slots)?;
        Ok(cast(&results as &dyn Array, &self.result)?)
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        self.accumulators.state(slots)
    }

    fn release(&mut self, slots: &[Slot]) {
        self.accumulators.release(slots);
    }

    fn bytes(&self) -> usize {
        self.accumulators.bytes()
    }
}
